//! What memory knows of one group's log: where its entries lie, and the newest of them themselves.
//!
//! ```text
//!   purged | slots: first ............................ last
//!          | on disk only ......... | cached: newest entries, some not durable yet
//! ```
//! It runs ahead of the disk: an entry is here, readable, as soon as it is queued. Who must not run ahead asks for the
//! entry's *ticket* and waits until the writer has settled it. A ticket belongs to one queued record, so an entry
//! that was truncated and written again at the same index is waited for again.
//!
//! Always true:
//! * slots are contiguous by index, and start behind the purge point;
//! * positions rise with the index, as far as they are known;
//! * an entry leaves the cache only after its place is known.

use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};

use bytes::Bytes;

use super::entry::{Hurt, LogEntry, LogState};
use super::error::LogError;
use super::place::{Place, Position, Stream};
use super::record::{LogId, padded};
use crate::ids::{GroupId, PayloadId};

/// Where an entry lies and how long its parts are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub position: Position,
    pub head: u32,
    pub payload: u32,
}

impl Slot {
    /// Not written yet.
    const QUEUED: Position = Position(u64::MAX);
    /// Lost: it was durable, and nobody knows where.
    pub(super) const LOST: Slot = Slot {
        position: Position::ZERO,
        head: 0,
        payload: 0,
    };

    fn is_placed(&self) -> bool {
        self.position != Self::QUEUED && self.position != Position::ZERO
    }
}

/// Where to find an entry that is not cached.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnDisk {
    pub id: LogId,
    pub slot: Slot,
}

/// An answer to "give me these entries", as far as memory has one.
pub(super) enum Piece {
    Cached(LogEntry),
    OnDisk(OnDisk),
}

/// Entries from `from` up to the next run were proposed by this leader.
#[derive(Clone, Copy, Debug)]
struct Reign {
    from: u64,
    term: u64,
    node: u64,
}

struct Cached {
    bytes: Bytes,
    ticket: u64,
}

/// See the file's header.
pub(super) struct GroupLog {
    pub group: GroupId,
    pub vote: Option<Bytes>,
    pub committed: Option<LogId>,
    pub vote_lost: bool,
    pub tail_lost: bool,
    /// Ticket of what was queued last for this group.
    pub last_ticket: u64,
    /// Bytes appended since the log was opened, and those recovery found: what a replay would have to read.
    pub appended: u64,
    purged: Option<LogId>,
    first: u64,
    slots: VecDeque<Slot>,
    reigns: VecDeque<Reign>,
    /// The newest entries: those of the last `cached.len()` slots.
    cached: VecDeque<Cached>,
    cached_bytes: usize,
    /// Unpurged entries known to be damaged, and those of which only the payload is.
    damaged: Vec<u64>,
    damaged_payloads: Vec<u64>,
}

impl GroupLog {
    pub(super) fn new(group: GroupId) -> GroupLog {
        GroupLog {
            group,
            vote: None,
            committed: None,
            vote_lost: false,
            tail_lost: false,
            last_ticket: 0,
            appended: 0,
            purged: None,
            first: 0,
            slots: VecDeque::new(),
            reigns: VecDeque::new(),
            cached: VecDeque::new(),
            cached_bytes: 0,
            damaged: Vec::new(),
            damaged_payloads: Vec::new(),
        }
    }

    pub(super) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    pub(super) fn last(&self) -> Option<LogId> {
        match self.slots.len() {
            0 => self.purged,
            n => self.id(self.first + n as u64 - 1),
        }
    }

    pub(super) fn state(&self) -> LogState {
        LogState {
            vote: self.vote.clone(),
            purged: self.purged,
            last: self.last(),
        }
    }

    pub(super) fn hurt(&self) -> Hurt {
        Hurt {
            vote_lost: self.vote_lost,
            tail_lost: self.tail_lost,
            entries: self.damaged.clone(),
            payloads: self.damaged_payloads.clone(),
        }
    }

    /// Indexes of the entries that are here.
    pub(super) fn range(&self) -> Range<u64> {
        self.first..self.first + self.slots.len() as u64
    }

    /// As `Log::last_of_leaders`.
    pub(super) fn last_of_leaders(&self, range: RangeInclusive<u64>) -> Vec<LogId> {
        // Each but the last ends where the next one begins.
        let ends = self
            .reigns
            .iter()
            .filter_map(|reign| reign.from.checked_sub(1));
        let inside = ends.filter(|end| range.contains(end) && end < range.end());
        let mut found: Vec<LogId> = Vec::new();
        for id in inside
            .chain([*range.end()])
            .filter_map(|index| self.id(index))
        {
            // The entry that was purged last may be of the same leader as the next one.
            found.pop_if(|before| (before.term, before.node) == (id.term, id.node));
            found.push(id);
        }
        found
    }

    /// Name of the entry at `index`, or of the purge point.
    pub(super) fn id(&self, index: u64) -> Option<LogId> {
        if let Some(purged) = self.purged
            && purged.index == index
        {
            return Some(purged);
        }
        if !self.range().contains(&index) {
            return None;
        }
        let after = self.reigns.partition_point(|reign| reign.from <= index);
        let reign = self.reigns.get(after.checked_sub(1)?)?;
        Some(LogId {
            term: reign.term,
            node: reign.node,
            index,
        })
    }

    fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots
            .get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// Record position of an entry that was written.
    pub(super) fn position(&self, index: u64) -> Option<Position> {
        let slot = self.slot(index)?;
        slot.is_placed().then_some(slot.position)
    }

    /// Bytes of the entries here, as they lie on disk.
    pub(super) fn bytes(&self) -> u64 {
        let lens = self
            .slots
            .iter()
            .map(|slot| padded(slot.payload as usize, slot.head as usize));
        lens.map(|len| len as u64).sum()
    }

    /// Place of an entry's payload, if it was written.
    pub(super) fn place(&self, id: PayloadId) -> Option<Place> {
        let slot = self.slot(id.index)?;
        let named = self.id(id.index).is_some_and(|found| found.term == id.term);
        (named && slot.is_placed()).then_some(Place {
            stream: Stream::Meta,
            position: slot.position,
            len: slot.payload,
        })
    }

    /// The index that `append` takes next; `None`: any behind the purge point.
    pub(super) fn next(&self) -> Option<u64> {
        (!self.slots.is_empty()).then(|| self.range().end)
    }

    fn check_next(&self, index: u64) -> Result<(), LogError> {
        let expected = match (self.next(), self.purged) {
            (Some(next), _) if next == index => return Ok(()),
            (Some(next), _) => next,
            (None, Some(purged)) if index <= purged.index => purged.index + 1,
            (None, _) => return Ok(()),
        };
        Err(LogError::OutOfOrder {
            group: self.group,
            index,
            expected,
        })
    }

    fn push_slot(&mut self, id: LogId, slot: Slot) {
        if self.slots.is_empty() {
            self.first = id.index;
            self.reigns.clear();
        }
        let known = self.reigns.back();
        if known.is_none_or(|reign| (reign.term, reign.node) != (id.term, id.node)) {
            self.reigns.push_back(Reign {
                from: id.index,
                term: id.term,
                node: id.node,
            });
        }
        self.slots.push_back(slot);
    }

    /// Whether these follow what is here without a hole.
    pub(super) fn check(&self, entries: &[LogEntry]) -> Result<(), LogError> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        self.check_next(first.id.index)?;
        for (entry, expected) in entries.iter().zip(first.id.index..) {
            if entry.id.index != expected {
                return Err(LogError::OutOfOrder {
                    group: self.group,
                    index: entry.id.index,
                    expected,
                });
            }
        }
        Ok(())
    }

    /// Takes a checked entry that is being queued.
    pub(super) fn push_queued(&mut self, entry: &LogEntry, ticket: u64) {
        self.push_slot(
            entry.id,
            Slot {
                position: Slot::QUEUED,
                head: entry.bytes.len() as u32 - entry.payload_len,
                payload: entry.payload_len,
            },
        );
        self.cached_bytes += entry.bytes.len();
        self.cached.push_back(Cached {
            bytes: entry.bytes.clone(),
            ticket,
        });
    }

    /// Takes an entry that recovery found.
    pub(super) fn push_found(&mut self, id: LogId, slot: Slot) {
        assert!(self.cached.is_empty(), "recovery caches nothing");
        self.push_slot(id, slot);
    }

    /// Entries from `first` to the oldest one here were durable, and nobody knows where.
    pub(super) fn prepend_lost(&mut self, first: u64) {
        while self.first > first && !self.slots.is_empty() {
            self.slots.push_front(Slot::LOST);
            self.first -= 1;
        }
        if let Some(reign) = self.reigns.front_mut() {
            reign.from = reign.from.min(self.first);
        }
    }

    /// Marks the lost entries as damaged and returns the runs of them.
    pub(super) fn mark_lost(&mut self) -> Vec<Range<u64>> {
        let lost = |slot: &Slot| slot.position == Slot::LOST.position;
        let indexes = self.range().zip(&self.slots).filter(|(_, slot)| lost(slot));
        let indexes: Vec<u64> = indexes.map(|(index, _)| index).collect();
        let mut runs: Vec<Range<u64>> = Vec::new();
        for index in &indexes {
            match runs.last_mut() {
                Some(run) if run.end == *index => run.end += 1,
                _ => runs.push(*index..*index + 1),
            }
        }
        self.damaged.extend(indexes);
        self.damaged.sort_unstable();
        self.damaged.dedup();
        runs
    }

    /// Marks an entry here as damaged: only its payload, or more.
    pub(super) fn mark_damaged(&mut self, index: u64, only_payload: bool) {
        let marked = match only_payload {
            true => &mut self.damaged_payloads,
            false => &mut self.damaged,
        };
        if let Err(at) = marked.binary_search(&index) {
            marked.insert(at, index);
        }
    }

    /// The writer wrote the entries from `first` on, which were queued under `ticket`, at these positions.
    pub(super) fn placed(&mut self, first: u64, ticket: u64, positions: &[Position]) {
        for (index, position) in (first..).zip(positions) {
            let Some(at) = self.cached_at(index) else {
                // Truncated or purged since it was queued.
                continue;
            };
            if self.cached[at].ticket == ticket {
                self.slots[(index - self.first) as usize].position = *position;
            }
        }
    }

    fn cached_at(&self, index: u64) -> Option<usize> {
        let from_end = self.range().end.checked_sub(index).filter(|n| *n > 0)?;
        self.cached
            .len()
            .checked_sub(usize::try_from(from_end).ok()?)
    }

    /// The ticket to wait for before this entry may be relied on; 0 if it is settled.
    pub(super) fn ticket(&self, index: u64) -> Option<u64> {
        self.slot(index)?;
        Some(self.cached_at(index).map_or(0, |at| self.cached[at].ticket))
    }

    pub(super) fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }

    /// Drops the oldest cached entry, if its place is known.
    pub(super) fn evict_one(&mut self) -> Option<usize> {
        let slot = self.slots.len() - self.cached.len();
        if !self.slots.get(slot)?.is_placed() {
            return None;
        }
        let bytes = self.cached.pop_front()?.bytes.len();
        self.cached_bytes -= bytes;
        Some(bytes)
    }

    /// Entries from `from` on as far as they are here, up to `to` and about `max_bytes`, but at least one.
    pub(super) fn pieces(&self, range: Range<u64>, max_bytes: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut bytes = 0;
        for index in range.start.max(self.first)..range.end.min(self.range().end) {
            let (Some(id), Some(slot)) = (self.id(index), self.slot(index)) else {
                break;
            };
            bytes += slot.head as usize + slot.payload as usize;
            if bytes > max_bytes && !pieces.is_empty() {
                break;
            }
            pieces.push(match self.cached_at(index) {
                Some(at) => Piece::Cached(LogEntry {
                    id,
                    bytes: self.cached[at].bytes.clone(),
                    payload_len: slot.payload,
                    payload_damaged: false,
                }),
                None => Piece::OnDisk(OnDisk { id, slot: *slot }),
            });
        }
        pieces
    }

    /// Entries from `from` on that have been written, about `max_bytes` of them, but at least one.
    pub(super) fn written(&self, from: u64, max_bytes: u64) -> Vec<OnDisk> {
        let (mut written, mut bytes) = (Vec::new(), 0);
        for index in from.max(self.first)..self.range().end {
            let (Some(id), Some(slot)) = (self.id(index), self.slot(index)) else {
                break;
            };
            if bytes >= max_bytes || slot.position == Slot::QUEUED {
                break;
            }
            bytes += u64::from(slot.head) + u64::from(slot.payload);
            written.push(OnDisk { id, slot: *slot });
        }
        written
    }

    /// Drops entries from `from` on; returns the payloads that go with them.
    pub(super) fn truncate(&mut self, from: u64) -> Vec<PayloadId> {
        let mut dropped = Vec::new();
        let range = self.range();
        for index in from.max(range.start)..range.end {
            if let (Some(slot), Some(id)) = (self.slot(index), self.id(index))
                && slot.payload > 0
            {
                dropped.push(PayloadId {
                    group: self.group,
                    index,
                    term: id.term,
                });
            }
        }
        while self.range().end > from && self.slots.pop_back().is_some() {
            if let Some(cached) = self.cached.pop_back() {
                self.cached_bytes -= cached.bytes.len();
            }
        }
        while self.reigns.back().is_some_and(|reign| reign.from >= from) {
            self.reigns.pop_back();
        }
        self.damaged.retain(|index| *index < from);
        self.damaged_payloads.retain(|index| *index < from);
        dropped
    }

    /// Drops entries up to and with `id`.
    pub(super) fn purge(&mut self, id: LogId) {
        if self.purged.is_some_and(|purged| purged.index >= id.index) {
            return;
        }
        while !self.slots.is_empty() && self.first <= id.index {
            if self.cached.len() == self.slots.len()
                && let Some(cached) = self.cached.pop_front()
            {
                self.cached_bytes -= cached.bytes.len();
            }
            self.slots.pop_front();
            self.first += 1;
        }
        self.first = self.first.max(id.index + 1);
        self.purged = Some(id);
        while self
            .reigns
            .get(1)
            .is_some_and(|next| next.from <= self.first)
        {
            self.reigns.pop_front();
        }
        if self.slots.is_empty() {
            self.reigns.clear();
        }
        self.damaged.retain(|index| *index > id.index);
        self.damaged_payloads.retain(|index| *index > id.index);
    }

    /// Forgets everything: the group left this node.
    pub(super) fn clear(&mut self) {
        *self = GroupLog {
            last_ticket: self.last_ticket,
            appended: self.appended,
            ..GroupLog::new(self.group)
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId {
            term,
            node: 1,
            index,
        }
    }

    fn entry(term: u64, index: u64, len: usize) -> LogEntry {
        LogEntry {
            id: id(term, index),
            bytes: vec![index as u8; len].into(),
            payload_len: len as u32 / 2,
            payload_damaged: false,
        }
    }

    fn filled() -> GroupLog {
        let mut log = GroupLog::new(GroupId(1));
        for index in 5..10 {
            let entry = entry(1 + index / 8, index, 10);
            log.check(std::slice::from_ref(&entry)).unwrap();
            log.push_queued(&entry, 100 + index);
        }
        log
    }

    fn positions(n: u32) -> Vec<Position> {
        (0..n).map(|i| Position::new(1, 4096 + 8 * i)).collect()
    }

    #[test]
    fn entries_are_readable_before_they_are_written() {
        let log = filled();
        assert_eq!(log.last(), Some(id(2, 9)));
        assert_eq!(log.id(7), Some(id(1, 7)));
        assert_eq!(log.pieces(0..100, 1 << 20).len(), 5);
        assert_eq!(log.pieces(6..8, 1 << 20).len(), 2);
        assert_eq!(
            log.pieces(6..9, 0).len(),
            1,
            "at least one, however small the limit"
        );
        assert!(log.position(7).is_none());
    }

    #[test]
    fn a_hole_is_refused() {
        let log = filled();
        assert!(log.check(&[entry(2, 10, 1), entry(2, 11, 1)]).is_ok());
        assert!(log.check(&[entry(2, 11, 1)]).is_err());
        assert!(log.check(&[entry(2, 9, 1)]).is_err());
        assert!(log.check(&[entry(2, 10, 1), entry(2, 12, 1)]).is_err());
    }

    /// The old record's fsync says nothing about the new one.
    #[test]
    fn an_entry_written_again_at_the_same_index_has_a_ticket_of_its_own() {
        let mut log = filled();
        assert_eq!(log.ticket(9), Some(109));
        assert_eq!(log.truncate(8).len(), 2);
        log.push_queued(&entry(3, 8, 10), 200);
        assert_eq!(log.ticket(8), Some(200));
        log.placed(8, 108, &positions(1));
        assert_eq!(
            log.position(8),
            None,
            "that was the place of the truncated one"
        );
        log.placed(8, 200, &positions(1));
        assert_eq!(log.position(8), Some(Position::new(1, 4096)));
        assert_eq!(log.last(), Some(id(3, 8)));
        assert_eq!(log.id(9), None);
    }

    #[test]
    fn only_what_has_a_place_leaves_the_cache() {
        let mut log = filled();
        assert_eq!(log.evict_one(), None);
        log.placed(5, 105, &positions(1));
        assert_eq!(log.evict_one(), Some(10));
        assert_eq!(log.evict_one(), None);
        assert_eq!(log.ticket(5), Some(0));
        assert_eq!(log.cached_bytes(), 40);
        assert!(matches!(
            log.pieces(5..7, 1000)[..],
            [Piece::OnDisk(_), Piece::Cached(_)]
        ));
    }

    #[test]
    fn purging_goes_past_the_end_when_a_checkpoint_was_installed() {
        let mut log = filled();
        log.purge(id(1, 6));
        assert_eq!(
            (log.range(), log.id(6), log.id(5)),
            (7..10, Some(id(1, 6)), None)
        );
        assert_eq!(log.id(7), Some(id(1, 7)));
        log.purge(id(4, 50));
        assert_eq!(log.last(), Some(id(4, 50)));
        assert_eq!(log.cached_bytes(), 0);
        assert!(log.check(&[entry(4, 50, 1)]).is_err());
        log.check(&[entry(4, 51, 1)]).unwrap();
        log.push_queued(&entry(4, 51, 1), 1);
        assert_eq!(log.last(), Some(id(4, 51)));
        log.purge(id(4, 20));
        assert_eq!(
            log.purged(),
            Some(id(4, 50)),
            "the purge point never goes back"
        );
    }
}
