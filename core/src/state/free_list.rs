//! The free list: bytes that nothing names any more, until an agreed release lets the replicas drop them.
//!
//! ```text
//!   free upload  --advance, a few parts per entry-->  free (one run or payload)  --release-->  dropped
//! ```
//! The leader releases what has been here for 15 minutes by its own clock and what no running GET has pinned.
//!
//! Always true:
//! * what lies here is named by no version, part or stage;
//! * a whole upload is one item; its rows and its bucket's usage follow in further entries, never more than an entry
//!   may do.

use minikv_proto::{entry as wire, row};

use crate::ids::{BucketId, VShard};
use crate::state::answer::Done;
use crate::state::apply::Dropped;
use crate::state::applying::{Applying, Stop, unsupported};
use crate::state::content::of_row;
use crate::state::keys::{self, KeyRange};
use crate::state::ledger::{damaged, decode};
use crate::state::record::{self, ChunkRun};
use crate::state::upload::is_listed;
use crate::state::usage::Delta;

/// Most items that one entry releases.
const MAX_RELEASE: usize = 450;
/// Part rows that one entry looks at.
const PARTS_PER_STEP: usize = 150;
/// An entry that has done so much leaves the rest to the next.
const ENOUGH: u32 = 900;

impl Applying<'_> {
    /// Puts an upload, or its unlisted parts, on the free list.
    pub fn free_upload(
        &mut self,
        vshard: VShard,
        name: &[u8],
        unlisted_only: bool,
    ) -> Result<(), Stop> {
        let name = of_row(record::upload_name(name))?;
        let key = keys::upload(vshard, &name);
        let mut upload: row::Upload = self
            .ledger
            .row(&key)?
            .ok_or_else(|| damaged(&key, "an upload that is named is not there"))?;
        if !unlisted_only {
            upload.freed = true;
            if upload.parts == 0 {
                return Ok(self.ledger.delete(key)?);
            }
            self.ledger.put_row(key, &upload)?;
        }
        let item = row::FreeUpload {
            vshard: u32::from(vshard.0),
            upload: name.to_vec().into(),
            unlisted_only,
            next_part: 0,
        };
        let (index, ordinal) = self.next_free();
        Ok(self
            .ledger
            .put_new_row(keys::free_upload(index, ordinal), &item)?)
    }

    /// Moves some parts of the first upload on the list.
    pub fn advance_free(&mut self) -> Result<Done, Stop> {
        let Some((item_key, item)) = self.ledger.scan(&keys::free_uploads(), 1)?.pop() else {
            return Ok(Done::More(false));
        };
        let mut item: row::FreeUpload = decode(&item_key, item)?;
        let vshard = of_row(record::vshard_of(item.vshard))?;
        let name = of_row(record::upload_name(&item.upload))?;
        let upload_key = keys::upload(vshard, &name);
        let Some(mut upload) = self.ledger.row::<row::Upload>(&upload_key)? else {
            // The whole upload was freed and moved while its unlisted parts were waiting.
            self.ledger.delete(item_key)?;
            return Ok(Done::More(true));
        };

        let next = u16::try_from(item.next_part).unwrap_or(u16::MAX);
        let parts = KeyRange {
            from: keys::part(vshard, &name, next),
            to: keys::parts(vshard, &name).to,
        };
        let rows = self.ledger.scan(&parts, PARTS_PER_STEP)?;
        let mut all_seen = rows.len() < PARTS_PER_STEP;
        for (key, part) in rows {
            if self.ledger.operations() > ENOUGH {
                all_seen = false;
                break;
            }
            let (_, number) =
                keys::parse_part(&key).ok_or_else(|| damaged(&key, "key of a part"))?;
            item.next_part = u32::from(number) + 1;
            let listed = is_listed(upload.completed.as_ref(), u32::from(number));
            if listed && item.unlisted_only {
                continue;
            }
            let part: row::Part = decode(&key, part)?;
            if !listed {
                // The bytes of listed parts went with their version.
                self.charge(
                    BucketId(upload.bucket),
                    Delta {
                        bytes: -(part.size as i64),
                        ..Delta::default()
                    },
                )?;
            }
            upload.parts -= 1;
            upload.bytes = upload.bytes.saturating_sub(part.size);
            self.let_go_of_part(part.content)?;
            self.ledger.delete(key)?;
        }
        match (all_seen, item.unlisted_only) {
            (true, true) => self.ledger.put_row(upload_key, &upload)?,
            (true, false) => self.ledger.delete(upload_key)?,
            (false, _) => self.ledger.put_row(upload_key, &upload)?,
        }
        if all_seen {
            self.ledger.delete(item_key)?;
        } else {
            self.ledger.put_row(item_key, &item)?;
        }
        Ok(Done::More(true))
    }

    /// Lets the replicas drop these items. One that is gone already was released before.
    pub fn release(&mut self, release: &wire::Release) -> Result<Done, Stop> {
        if release.items.len() > MAX_RELEASE {
            return Err(unsupported("more than 450 items in one entry"));
        }
        for item in &release.items {
            let key = keys::free(item.index, item.ordinal);
            let Some(free) = self.ledger.row::<row::Free>(&key)? else {
                continue;
            };
            match free.content.and_then(|content| content.kind) {
                Some(row::content::Kind::Chunks(run)) => {
                    self.dropped
                        .push(Dropped::Chunks(of_row(ChunkRun::of_row(&run))?));
                }
                Some(row::content::Kind::Payload(piece)) => {
                    self.dropped
                        .push(Dropped::Payload(of_row(record::payload_of_row(&piece))?));
                }
                Some(row::content::Kind::Upload(_)) | None => {
                    return Err(damaged(&key, "an item without bytes").into());
                }
            }
            self.ledger.delete(key)?;
        }
        Ok(Done::Nothing)
    }
}
