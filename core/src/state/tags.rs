//! Tags of a version: what may change while the version stays what it is.
//!
//! Always true: bytes, ETag, time and id of a version are the same before and after; what is tagged is the version that
//! is newest (or named) at this very entry, so an overwrite on its way cannot have its predecessor's tags.

use minikv_proto::{entry as wire, row};

use crate::state::answer::Done;
use crate::state::applying::{Applying, Place, Stop, written};
use crate::state::keys;
use crate::state::put::MAX_TAGS;
use crate::state::record::Malformed;
use crate::state::version::Which;

impl Applying<'_> {
    pub fn set_tags(&mut self, set: &wire::SetTags) -> Result<Done, Stop> {
        if set.tags.len() > MAX_TAGS {
            return Err(Malformed("tags too large").into());
        }
        let place = self.place(set.target.as_ref())?;
        let current = self.current(&place)?;
        let which = set.version.map(|version| match version {
            wire::set_tags::Version::Null(_) => Which::Null,
            wire::set_tags::Version::Seq(seq) => Which::Seq(seq),
        });
        let tagged = row::Version {
            tags: set.tags.clone(),
            ..self.object(&place, &current, which)?
        };
        let answer = Done::Written(written(&place, &tagged));
        self.put_back(&place, current, tagged)?;
        Ok(answer)
    }

    /// Writes a version that was found back where it was.
    pub fn put_back(
        &mut self,
        place: &Place,
        mut current: row::Current,
        version: row::Version,
    ) -> Result<(), Stop> {
        match current
            .version
            .as_mut()
            .filter(|newest| newest.seq == version.seq)
        {
            Some(newest) => {
                *newest = version;
                self.put_current(place, &current)
            }
            None => Ok(self.ledger.put_row(
                keys::older(place.vshard, place.bucket, &place.key, version.seq),
                &version,
            )?),
        }
    }
}
