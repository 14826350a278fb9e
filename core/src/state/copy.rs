//! Copying a version inside its vshard: both versions name the same bytes, none are moved.
//!
//! rclone sets a file's time by copying an object onto itself. The command names the very version that was read: had
//! another write come between, the copy would be of something whose conditions nobody checked.

use minikv_proto::{entry as wire, row};

use crate::ids::{BucketId, VShard};
use crate::kv::Refusal;
use crate::state::answer::{Done, TryAgain};
use crate::state::applying::{Applying, Place, Stop, unsupported, written};
use crate::state::conditions;
use crate::state::put::checked;
use crate::state::record::Malformed;
use crate::state::version::Which;

impl Applying<'_> {
    pub fn copy(&mut self, copy: &wire::Copy) -> Result<Done, Stop> {
        let place = self.place(copy.target.as_ref())?;
        let source = self.source(&place, copy)?;
        let (source_row, mut from) = self.source_version(&source, copy.source_seq)?;
        if from.delete_marker {
            return Err(Refusal::NoSuchKey.into());
        }
        let current = self.current(&place)?;
        conditions::check(copy.conditions.as_ref(), current.version.as_ref())?;
        let new = checked(copy.version.as_ref())?;
        if new.size != from.size {
            return Err(Malformed("size of a copy").into());
        }

        let mut version = self.next_version(&place, &current)?;
        if let Some(content) = from.content.as_mut() {
            self.share(place.vshard, content)?;
        }
        version.content = from.content.clone();
        self.describe(&place, &mut version, new, new.lock)?;
        // The source says `shared` from now on.
        self.put_back(&source, source_row, from)?;
        let answer = Done::Written(written(&place, &version));
        let current = self.current(&place)?;
        self.install(&place, current, version)?;
        Ok(answer)
    }

    fn source(&mut self, place: &Place, copy: &wire::Copy) -> Result<Place, Stop> {
        let bucket = BucketId(copy.source_bucket);
        if VShard::of(bucket, &copy.source_key) != place.vshard {
            return Err(unsupported("sharing content between vshards"));
        }
        self.facts(bucket, copy.source_epoch)?;
        Ok(Place {
            bucket,
            key: copy.source_key.clone(),
            ..place.clone()
        })
    }

    fn source_version(
        &mut self,
        source: &Place,
        seq: u64,
    ) -> Result<(row::Current, row::Version), Stop> {
        let current = self.current(source)?;
        let found = self.find(source, &current, Which::Seq(seq))?;
        Ok((current, found.ok_or(TryAgain::SourceChanged)?))
    }
}
