//! What a reader of the stream would know of each group at the writer's point: the source of standing records.
//!
//! Memory (`group_log`) runs ahead of the writer; a standing record must not, or it would promise entries that a crash can
//! still take away. So the writer keeps its own account, of what it laid out so far, in the order of the stream.
//!
//! Always true:
//! * a standing record says exactly what replaying the stream up to it says;
//! * `start` is the start of a batch at or before the first unpurged entry's record;
//! * what damage took from a group stays in its standing records until someone mends it.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::place::Position;
use super::record::{LogId, Subject, u32_at, u64_at};
use crate::ids::GroupId;

const HAS_VOTE: u8 = 1;
const HAS_PURGED: u8 = 2;
const HAS_LAST: u8 = 4;
const VOTE_LOST: u8 = 8;
const TAIL_LOST: u8 = 16;
/// Fixed part of a standing record's head.
const FIXED: usize = 80;

/// All that is known of one group, but its entries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Standing {
    pub vote: Option<Bytes>,
    pub purged: Option<LogId>,
    /// The newest entry, if one is unpurged.
    pub last: Option<LogId>,
    /// Index of the oldest unpurged entry; means nothing without `last`.
    pub first: u64,
    /// A batch at or before the record of that entry; means nothing without `last`.
    pub start: Position,
    pub vote_lost: bool,
    pub tail_lost: bool,
}

impl Standing {
    /// The head of a standing record.
    pub(super) fn encode(&self) -> Bytes {
        let vote = self.vote.clone().unwrap_or_default();
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut out = BytesMut::with_capacity(FIXED + vote.len());
        out.put_u8(
            flag(self.vote.is_some(), HAS_VOTE)
                | flag(self.purged.is_some(), HAS_PURGED)
                | flag(self.last.is_some(), HAS_LAST)
                | flag(self.vote_lost, VOTE_LOST)
                | flag(self.tail_lost, TAIL_LOST),
        );
        out.put_bytes(0, 7);
        for id in [self.purged, self.last] {
            out.put_u64_le(id.map_or(0, |id| id.term));
            out.put_u64_le(id.map_or(0, |id| id.node));
            out.put_u64_le(id.map_or(0, |id| id.index));
        }
        out.put_u64_le(self.first);
        out.put_u64_le(self.start.0);
        out.put_u64_le(vote.len() as u64);
        out.extend_from_slice(&vote);
        out.freeze()
    }

    /// The opposite of `encode`. The bytes were checksummed; `None` means that they are not of this version.
    pub(super) fn decode(head: &Bytes) -> Option<Standing> {
        let fixed = head.get(..FIXED)?;
        let flags = fixed[0];
        let has = |bit: u8| flags & bit != 0;
        let id = |at| LogId {
            term: u64_at(fixed, at),
            node: u64_at(fixed, at + 8),
            index: u64_at(fixed, at + 16),
        };
        let vote_len = u32_at(fixed, 72) as usize;
        if flags >= TAIL_LOST << 1 || head.len() != FIXED + vote_len {
            return None;
        }
        Some(Standing {
            vote: has(HAS_VOTE).then(|| head.slice(FIXED..)),
            purged: has(HAS_PURGED).then(|| id(8)),
            last: has(HAS_LAST).then(|| id(32)),
            first: u64_at(fixed, 56),
            start: Position(u64_at(fixed, 64)),
            vote_lost: has(VOTE_LOST),
            tail_lost: has(TAIL_LOST),
        })
    }
}

/// The account over all groups. See the file's header.
#[derive(Clone, Default)]
pub(super) struct Ledger {
    pub groups: BTreeMap<GroupId, Standing>,
}

impl Ledger {
    /// Notes a record that the writer lays out in the batch at `batch`. `batch_of` tells, for an entry written
    /// before, a batch at or before its record.
    pub(super) fn note(
        &mut self,
        subject: &Subject,
        head: &Bytes,
        batch: Position,
        batch_of: impl FnOnce(GroupId, u64) -> Option<Position>,
    ) {
        match *subject {
            Subject::Entry { group, id } => {
                let standing = self.groups.entry(group).or_default();
                if standing.last.is_none() {
                    standing.first = id.index;
                    standing.start = batch;
                }
                standing.last = Some(id);
            }
            Subject::Vote { group } => {
                let standing = self.groups.entry(group).or_default();
                standing.vote = Some(head.clone());
                standing.vote_lost = false;
            }
            Subject::Truncate { group, from, keep } => {
                let standing = self.groups.entry(group).or_default();
                if standing.last.is_some_and(|last| last.index >= from) {
                    standing.last = keep.filter(|_| from > standing.first);
                }
            }
            Subject::Purge { group, id } => {
                let standing = self.groups.entry(group).or_default();
                if standing
                    .purged
                    .is_some_and(|purged| purged.index >= id.index)
                {
                    return;
                }
                standing.purged = Some(id);
                match standing.last {
                    Some(last) if last.index > id.index => {
                        standing.first = standing.first.max(id.index + 1);
                        // Not found: truncated since, and the record that says so is still queued. The old start serves.
                        if let Some(start) = batch_of(group, standing.first) {
                            standing.start = standing.start.max(start);
                        }
                    }
                    _ => standing.last = None,
                }
            }
            Subject::Remove { group } => {
                self.groups.remove(&group);
            }
            Subject::Standing { group } => {
                // What a newer version wrote was refused before it came here; nothing it may mean is forgotten.
                if let Some(told) = Standing::decode(head) {
                    let standing = self.groups.entry(group).or_default();
                    standing.vote_lost = told.vote_lost;
                    standing.tail_lost = told.tail_lost;
                }
            }
            Subject::Frame { .. } | Subject::MovedPayload { .. } | Subject::MovedFrame { .. } => {}
        }
    }

    /// Before this, no record is needed for what it says of a group; `None`: nothing is unpurged.
    pub(super) fn floor(&self) -> Option<Position> {
        let unpurged = self
            .groups
            .values()
            .filter(|standing| standing.last.is_some());
        unpurged.map(|standing| standing.start).min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GROUP: GroupId = GroupId(4);

    fn id(index: u64) -> LogId {
        LogId {
            term: 2,
            node: 1,
            index,
        }
    }

    fn at(offset: u32) -> Position {
        Position::new(1, offset)
    }

    #[test]
    fn a_standing_record_survives_its_encoding() {
        let standing = Standing {
            vote: Some(Bytes::from_static(b"vote")),
            purged: Some(id(3)),
            last: Some(id(9)),
            first: 4,
            start: at(4096),
            vote_lost: true,
            tail_lost: false,
        };
        assert_eq!(Standing::decode(&standing.encode()), Some(standing));
        let empty = Standing::default();
        assert_eq!(Standing::decode(&empty.encode()), Some(empty.clone()));
        assert_eq!(Standing::decode(&empty.encode().slice(1..)), None);
    }

    #[test]
    fn the_account_follows_the_stream() {
        let mut ledger = Ledger::default();
        let none = |_, _| None;
        for (index, offset) in [(1, 100), (2, 100), (3, 200), (4, 300)] {
            let subject = Subject::Entry {
                group: GROUP,
                id: id(index),
            };
            ledger.note(&subject, &Bytes::new(), at(offset), none);
        }
        assert_eq!(ledger.floor(), Some(at(100)));
        let purge = |index| Subject::Purge {
            group: GROUP,
            id: id(index),
        };
        ledger.note(&purge(2), &Bytes::new(), at(400), |_, index| {
            assert_eq!(index, 3);
            Some(at(200))
        });
        assert_eq!(ledger.floor(), Some(at(200)));
        let truncate = Subject::Truncate {
            group: GROUP,
            from: 4,
            keep: Some(id(3)),
        };
        ledger.note(&truncate, &Bytes::new(), at(400), none);
        assert_eq!(ledger.groups[&GROUP].last, Some(id(3)));
        ledger.note(&purge(3), &Bytes::new(), at(400), none);
        assert_eq!(ledger.floor(), None);
        ledger.note(
            &Subject::Remove { group: GROUP },
            &Bytes::new(),
            at(400),
            none,
        );
        assert!(ledger.groups.is_empty());
    }
}
