//! The versions of a key: which is newest, which is "null", what a write replaces and a delete brings back.
//!
//! ```text
//!   current row   newest version, null_seq, intent
//!   older rows    the others, newest first
//! ```
//! Always true:
//! * sequences fall along the older rows, and the newest version's is above them all;
//! * a key has at most one null version, and its place is known: newest, or `null_seq` among the older ones;
//! * a key's Last-Modified never goes back from one version to the next.

use minikv_proto::row;

use crate::kv::Refusal;
use crate::state::applying::{Applying, Place, Stop};
use crate::state::keys;
use crate::state::ledger::{damaged, decode};
use crate::state::usage::Delta;

/// Which version of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Which {
    Null,
    Seq(u64),
}

impl Which {
    fn is(self, version: &row::Version) -> bool {
        match self {
            Which::Null => version.null,
            Which::Seq(seq) => version.seq == seq,
        }
    }
}

impl Applying<'_> {
    /// A version that will follow `current`, still without content.
    pub fn next_version(
        &mut self,
        place: &Place,
        current: &row::Current,
    ) -> Result<row::Version, Stop> {
        let previous_ms = current
            .version
            .as_ref()
            .map_or(0, |version| version.modified_ms);
        Ok(row::Version {
            seq: self.next_seq(place.vshard)?,
            null: place.versioning != row::Versioning::Enabled,
            modified_ms: self.now_ms.max(previous_ms),
            ..row::Version::default()
        })
    }

    pub fn delete_marker(
        &mut self,
        place: &Place,
        current: &row::Current,
    ) -> Result<row::Version, Stop> {
        Ok(row::Version {
            delete_marker: true,
            ..self.next_version(place, current)?
        })
    }

    /// Makes `new` the newest version. A null version replaces the null version; everything else stays.
    pub fn install(
        &mut self,
        place: &Place,
        mut current: row::Current,
        new: row::Version,
    ) -> Result<(), Stop> {
        self.charge(
            place.bucket,
            Delta::version(&new, 1) + Delta::newest(current.version.as_ref(), Some(&new)),
        )?;
        #[cfg(feature = "planted")]
        let new = self.planted_order(&mut current, new);
        if new.null && current.null_seq != 0 {
            let replaced = self.take_older(place, current.null_seq)?;
            self.drop_version(place, replaced)?;
            current.null_seq = 0;
        }
        match current.version.take() {
            Some(replaced) if new.null && replaced.null => self.drop_version(place, replaced)?,
            Some(former) => {
                assert!(
                    former.seq < new.seq,
                    "versions of a key come in the order of their sequences"
                );
                if former.null {
                    current.null_seq = former.seq;
                }
                self.ledger.put_row(
                    keys::older(place.vshard, place.bucket, &place.key, former.seq),
                    &former,
                )?;
            }
            None => {}
        }
        current.version = Some(new);
        self.put_current(place, &current)
    }

    /// The planted bug: the later clock makes the newer version.
    #[cfg(feature = "planted")]
    fn planted_order(&self, current: &mut row::Current, mut new: row::Version) -> row::Version {
        if let Some(former) = &mut current.version
            && crate::planted!("version-order-by-clock")
            && self.now_ms < former.modified_ms
        {
            std::mem::swap(&mut former.seq, &mut new.seq);
            std::mem::swap(former, &mut new);
        }
        new
    }

    /// The version that is named, if it is there.
    pub fn find(
        &mut self,
        place: &Place,
        current: &row::Current,
        which: Which,
    ) -> Result<Option<row::Version>, Stop> {
        if let Some(version) = current.version.as_ref().filter(|version| which.is(version)) {
            return Ok(Some(version.clone()));
        }
        let seq = match which {
            Which::Null if current.null_seq == 0 => return Ok(None),
            Which::Null => current.null_seq,
            Which::Seq(seq) => seq,
        };
        Ok(self
            .ledger
            .row(&keys::older(place.vshard, place.bucket, &place.key, seq))?)
    }

    /// The object that a command means, the newest or a named one. A marker is none; the gateway looks again to tell its
    /// client what stood in the way.
    pub fn object(
        &mut self,
        place: &Place,
        current: &row::Current,
        which: Option<Which>,
    ) -> Result<row::Version, Stop> {
        let found = match which {
            None => current.version.clone().ok_or(Refusal::NoSuchKey)?,
            Some(which) => self
                .find(place, current, which)?
                .ok_or(Refusal::NoSuchVersion)?,
        };
        if found.delete_marker {
            return Err(Refusal::NoSuchVersion.into());
        }
        Ok(found)
    }

    /// Removes a version that `find` found. The next older one becomes the newest if it was that.
    pub fn remove(
        &mut self,
        place: &Place,
        mut current: row::Current,
        gone: row::Version,
    ) -> Result<(), Stop> {
        let was_newest = current
            .version
            .as_ref()
            .is_some_and(|version| version.seq == gone.seq);
        if was_newest {
            current.version = self.newest_older(place)?;
            if let Some(risen) = &current.version {
                self.ledger.delete(keys::older(
                    place.vshard,
                    place.bucket,
                    &place.key,
                    risen.seq,
                ))?;
                if risen.null {
                    current.null_seq = 0;
                }
            }
            self.charge(
                place.bucket,
                Delta::newest(Some(&gone), current.version.as_ref()),
            )?;
            self.put_current(place, &current)?;
        } else {
            self.ledger.delete(keys::older(
                place.vshard,
                place.bucket,
                &place.key,
                gone.seq,
            ))?;
            if gone.null {
                current.null_seq = 0;
                self.put_current(place, &current)?;
            }
        }
        self.drop_version(place, gone)
    }

    fn newest_older(&mut self, place: &Place) -> Result<Option<row::Version>, Stop> {
        let range = keys::olders_of_key(place.vshard, place.bucket, &place.key);
        match self.ledger.scan(&range, 1)?.pop() {
            Some((key, row)) => Ok(Some(decode(&key, row)?)),
            None => Ok(None),
        }
    }

    fn take_older(&mut self, place: &Place, seq: u64) -> Result<row::Version, Stop> {
        let key = keys::older(place.vshard, place.bucket, &place.key, seq);
        let version = self
            .ledger
            .row(&key)?
            .ok_or_else(|| damaged(&key, "the null version is not there"))?;
        self.ledger.delete(key)?;
        Ok(version)
    }

    /// A version that no row holds any more gives its content and its room back. There is no other way for one to go,
    /// so this is where a lock keeps it.
    fn drop_version(&mut self, place: &Place, gone: row::Version) -> Result<(), Stop> {
        self.may_go(&gone)?;
        self.charge(place.bucket, Delta::version(&gone, -1))?;
        self.let_go(place.vshard, gone.content)
    }
}
