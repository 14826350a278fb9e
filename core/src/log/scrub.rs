//! Reading entries back for no other reason than to see whether they are whole.
//!
//! Whoever needs an entry that is in memory never looks at the disk, until a restart does. Items (payloads, frames) are read
//! by their places, as everybody reads them; entries that the log has not forgotten yet are looked at here.
//!
//! Always true: what was truncated, purged or written elsewhere meanwhile is not called damaged.

use super::node_log::Log;
use super::place::{Item, Place};
use super::reader;
use crate::ids::GroupId;

use bytes::Bytes;

/// What a look at some entries came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EntriesSeen {
    /// Where the next look begins; `None`: these were the last.
    pub next: Option<u64>,
    /// Bytes read.
    pub bytes: u64,
    /// Entries that are not whole, ascending.
    pub damaged: Vec<u64>,
}

impl Log {
    /// Looks at entries of a group from `from` on, about `max_bytes` of them.
    pub async fn look_at_entries(&self, group: GroupId, from: u64, max_bytes: u64) -> EntriesSeen {
        let Some(cell) = self.shared.find(group) else {
            return EntriesSeen::default();
        };
        let written = cell.with(|log| log.written(from, max_bytes));
        let mut seen = EntriesSeen::default();
        for one in &written {
            let index = one.id.index;
            seen.bytes += u64::from(one.slot.head) + u64::from(one.slot.payload);
            seen.next = Some(index + 1);
            // Once more: a bad read is not yet a bad disk. What the device does not give back is as good as damaged.
            let mut is_whole = false;
            for _ in 0..2 {
                is_whole = is_whole
                    || reader::is_whole(&self.shared, group, one)
                        .await
                        .unwrap_or(false);
            }
            if is_whole {
                continue;
            }
            let still = cell.with(|log| {
                log.id(index) == Some(one.id)
                    && log.range().contains(&index)
                    && log.position(index).unwrap_or_default() == one.slot.position
            });
            if still {
                seen.damaged.push(index);
            }
        }
        seen
    }

    /// Whether `bytes` are those that were written for `item` at `place`, as far as the record's header still tells. `None`:
    /// it does not.
    pub async fn vouches(&self, place: Place, item: &Item, bytes: &Bytes) -> Option<bool> {
        reader::vouches(&self.shared, place, item, bytes).await
    }

    /// What lies at a place, whatever it is.
    #[cfg(feature = "planted")]
    pub async fn read_unverified(&self, place: Place) -> Result<Bytes, super::ReadError> {
        reader::read_unverified(&self.shared, place).await
    }
}
