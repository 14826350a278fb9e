//! Deleting a key (which may only hide it behind a delete marker) or one of its versions (which is for good).

use minikv_proto::{entry as wire, row};

use crate::ids::VersionId;
use crate::kv::Deleted;
use crate::state::answer::Done;
use crate::state::applying::{Applying, Place, Stop};
use crate::state::conditions;
use crate::state::record::Malformed;
use crate::state::version::Which;

impl Applying<'_> {
    pub fn delete(&mut self, delete: &wire::Delete) -> Result<Done, Stop> {
        let place = self.place(delete.target.as_ref())?;
        let current = self.current(&place)?;
        conditions::check_delete(delete.conditions.as_ref(), current.version.as_ref())?;
        let existed = current
            .version
            .as_ref()
            .is_some_and(|version| !version.delete_marker);
        let marker = self.delete_key(&place, current)?;
        Ok(Done::Deleted(Deleted {
            marker: marker
                .as_ref()
                .map(|marker| VersionId::seal(place.vshard, marker.seq)),
            marker_is_null: marker.is_some_and(|marker| marker.null),
            removed_marker: false,
            existed,
        }))
    }

    /// Without versioning the key goes. Otherwise a marker comes, even where nothing was.
    pub fn delete_key(
        &mut self,
        place: &Place,
        current: row::Current,
    ) -> Result<Option<row::Version>, Stop> {
        if place.versioning == row::Versioning::Off {
            if let Some(gone) = current.version.clone() {
                self.remove(place, current, gone)?;
            }
            return Ok(None);
        }
        let marker = self.delete_marker(place, &current)?;
        self.install(place, current, marker.clone())?;
        Ok(Some(marker))
    }

    pub fn delete_version(&mut self, delete: &wire::DeleteVersion) -> Result<Done, Stop> {
        let place = self.place(delete.target.as_ref())?;
        let current = self.current(&place)?;
        let which = match delete.version.ok_or(Malformed("no version"))? {
            wire::delete_version::Version::Null(_) => Which::Null,
            wire::delete_version::Version::Seq(seq) => Which::Seq(seq),
        };
        let found = self.find(&place, &current, which)?;
        conditions::check(delete.conditions.as_ref(), found.as_ref())?;
        let Some(gone) = found else {
            return Ok(Done::Deleted(Deleted::default()));
        };
        let deleted = Deleted {
            removed_marker: gone.delete_marker,
            existed: true,
            ..Deleted::default()
        };
        self.bypass_governance = delete.bypass_governance;
        self.remove(&place, current, gone)?;
        Ok(Done::Deleted(deleted))
    }
}
