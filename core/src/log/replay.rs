//! What the records of a stream mean, one after the other: from found records to groups and items.
//!
//! Always true:
//! * without damage, replaying a stream from a batch on gives what its writer's ledger said at its end;
//! * what damage hid is either made good by something later (a vote by a vote, anything by a standing record), or the
//!   group it may have belonged to is marked;
//! * of an entry that a later truncation dropped, nothing is reported but that its payload is nobody's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::batch::{self, BatchHeader, Row};
use super::damage::{Damage, Scope, Seen};
use super::error::LogError;
use super::group_log::{GroupLog, Slot};
use super::ledger::{Ledger, Standing};
use super::place::{Item, Place, Position, Stream};
use super::record::{LogId, RecordHeader, Subject};
use super::scan::Found;
use super::shared::Boundaries;
use crate::ids::{GroupId, PayloadId};

/// A group as far as it was replayed.
struct Replayed {
    log: GroupLog,
    /// Payload-bearing entries met, by index.
    payloads: VecDeque<(u64, u64, Place)>,
    /// Those that were dropped.
    truncated: Vec<(u64, u64, Place)>,
}

impl Replayed {
    fn truncate(&mut self, from: u64) {
        self.log.truncate(from);
        let keep = self.payloads.partition_point(|(index, _, _)| *index < from);
        self.truncated.extend(self.payloads.drain(keep..));
    }
}

/// The standing records at the start of a segment, of which one is there for every group.
struct StandingSet {
    expected: u32,
    met: u32,
    groups: BTreeSet<GroupId>,
}

/// See the file's header.
pub(super) struct Replay {
    stream: Stream,
    start: Position,
    /// Items before this are in the table of places already.
    complete: Position,
    groups: BTreeMap<GroupId, Replayed>,
    items: Vec<Seen>,
    damage: Vec<Damage>,
    boundaries: Boundaries,
    standing_set: Option<StandingSet>,
    /// Up to here, records of any group may be lost.
    unknown_to: Position,
}

/// What a replay came to.
pub(super) struct Replayout {
    pub groups: BTreeMap<GroupId, GroupLog>,
    pub ledger: Ledger,
    pub seen: Vec<Seen>,
    pub truncated: Vec<Seen>,
    pub damage: Vec<Damage>,
    pub boundaries: Boundaries,
}

impl Replay {
    pub(super) fn new(
        stream: Stream,
        start: Position,
        complete: Position,
        boundaries: Boundaries,
    ) -> Replay {
        Replay {
            stream,
            start,
            complete,
            groups: BTreeMap::new(),
            items: Vec::new(),
            damage: Vec::new(),
            boundaries,
            standing_set: None,
            unknown_to: Position::ZERO,
        }
    }

    /// Takes the next thing found.
    pub(super) fn take(&mut self, found: Found) -> Result<(), LogError> {
        match found {
            Found::Batch(header) => self.batch(&header),
            Found::Record {
                header,
                head,
                head_good,
                payload_good,
            } => {
                self.record(&header, head, head_good, payload_good)?;
            }
            Found::BadRecord { position, row } => self.bad_record(position, &row),
            Found::Unknown { from, to } => self.unknown(from, to),
            Found::Harmless { at, what } => self.hurt(at, Scope::Nobody, what),
        }
        Ok(())
    }

    fn hurt(&mut self, position: Position, scope: Scope, what: impl Into<String>) {
        self.damage.push(Damage {
            stream: self.stream,
            position,
            scope,
            what: what.into(),
        });
    }

    fn group(&mut self, group: GroupId) -> &mut Replayed {
        // First met behind bytes of which nothing is known: those may have held its vote and anything else.
        let doubtful = self.unknown_to > Position::ZERO;
        self.groups.entry(group).or_insert_with(|| {
            let mut log = GroupLog::new(group);
            log.vote_lost = doubtful;
            log.tail_lost = doubtful;
            Replayed {
                log,
                payloads: VecDeque::new(),
                truncated: Vec::new(),
            }
        })
    }

    fn batch(&mut self, header: &BatchHeader) {
        self.boundaries.note(header.position);
        // One that is incomplete by now was cut.
        self.standing_set = None;
        if header.flags & batch::STANDING != 0 {
            self.standing_set = Some(StandingSet {
                expected: header.count,
                met: 0,
                groups: BTreeSet::new(),
            });
            self.end_standing_set();
        }
    }

    /// Once the set is complete: a group that is not in it has left this node.
    fn end_standing_set(&mut self) {
        if let Some(set) = &self.standing_set
            && set.met == set.expected
        {
            self.groups.retain(|group, _| set.groups.contains(group));
            self.standing_set = None;
        }
    }

    fn met_standing(&mut self, group: GroupId) {
        if let Some(set) = &mut self.standing_set {
            set.met += 1;
            set.groups.insert(group);
            self.end_standing_set();
        }
    }

    fn record(
        &mut self,
        header: &RecordHeader,
        head: Bytes,
        head_good: bool,
        payload_good: bool,
    ) -> Result<(), LogError> {
        let at = header.position;
        let behind_unknown = at >= self.unknown_to;
        match header.subject {
            Subject::Entry { group, id } => {
                let slot = Slot {
                    position: at,
                    head: header.head_len,
                    payload: header.payload_len,
                };
                self.entry(group, id, slot);
                if !head_good {
                    self.bad_entry(group, id, at, "the command of an entry");
                } else if !payload_good {
                    self.group(group).log.mark_damaged(id.index, true);
                    let item = payload_of(group, id);
                    self.hurt(at, Scope::Item(item), "the payload of an entry");
                }
            }
            Subject::Vote { group } if head_good => {
                let log = &mut self.group(group).log;
                log.vote = Some(head);
                log.vote_lost &= !behind_unknown;
            }
            Subject::Vote { group } => self.bad_vote(group, at),
            Subject::Truncate { group, from, .. } => self.group(group).truncate(from),
            Subject::Purge { group, id } => self.group(group).log.purge(id),
            Subject::Standing { group } if head_good => {
                let standing = Standing::decode(&head).ok_or_else(|| LogError::Newer {
                    place: format!("the log at {at}").into(),
                    what: "a standing record of another version".into(),
                })?;
                self.standing(group, standing, at, behind_unknown);
                self.met_standing(group);
            }
            Subject::Standing { group } => self.bad_standing(group, at),
            Subject::Remove { group } => drop(self.groups.remove(&group)),
            Subject::Frame { .. } | Subject::MovedPayload { .. } | Subject::MovedFrame { .. } => {
                let Some(item) = header.subject.item() else {
                    return Ok(());
                };
                self.item(item, at, header.payload_len);
                if !payload_good {
                    self.hurt(at, Scope::Item(item), "the bytes of an item");
                }
            }
        }
        Ok(())
    }

    fn item(&mut self, item: Item, position: Position, len: u32) {
        if position >= self.complete {
            let place = Place {
                stream: self.stream,
                position,
                len,
            };
            self.items.push(Seen { item, place });
        }
    }

    fn entry(&mut self, group: GroupId, id: LogId, slot: Slot) {
        let complete = self.complete;
        let replayed = self.group(group);
        if replayed
            .log
            .purged()
            .is_some_and(|purged| purged.index >= id.index)
        {
            return;
        }
        if let Some(next) = replayed.log.next() {
            if id.index < next {
                // The truncation that belongs here is lost.
                replayed.truncate(id.index);
            }
            for index in next..id.index {
                replayed.log.push_found(LogId { index, ..id }, Slot::LOST);
            }
        }
        replayed.log.push_found(id, slot);
        if slot.payload > 0 && slot.position >= complete {
            let place = Place {
                stream: Stream::Meta,
                position: slot.position,
                len: slot.payload,
            };
            replayed.payloads.push_back((id.index, id.term, place));
        }
    }

    fn bad_entry(&mut self, group: GroupId, id: LogId, at: Position, what: &str) {
        self.group(group).log.mark_damaged(id.index, false);
        let scope = Scope::Entry {
            group,
            index: id.index,
            term: Some(id.term),
        };
        self.hurt(at, scope, what);
    }

    fn bad_vote(&mut self, group: GroupId, at: Position) {
        self.group(group).log.vote_lost = true;
        self.hurt(at, Scope::Vote(group), "a vote");
    }

    fn bad_standing(&mut self, group: GroupId, at: Position) {
        let scope = match self.groups.contains_key(&group) {
            // All that it says was replayed.
            true => Scope::Nobody,
            false => {
                let log = &mut self.group(group).log;
                log.vote_lost = true;
                log.tail_lost = true;
                Scope::Tail(group)
            }
        };
        self.hurt(at, scope, "a standing record");
        self.met_standing(group);
    }

    /// Takes the word of a standing record over what was replayed, and notes what of it was not met.
    fn standing(&mut self, group: GroupId, told: Standing, at: Position, behind_unknown: bool) {
        let replayed = self.group(group);
        replayed.log.vote = told.vote;
        if behind_unknown {
            replayed.log.vote_lost = told.vote_lost;
            replayed.log.tail_lost = told.tail_lost;
        } else {
            replayed.log.vote_lost |= told.vote_lost;
            replayed.log.tail_lost |= told.tail_lost;
        }
        if let Some(purged) = told.purged {
            replayed.log.purge(purged);
        }
        let Some(last) = told.last else {
            let from = told.purged.map_or(0, |purged| purged.index + 1);
            replayed.truncate(from);
            return;
        };
        replayed.truncate(last.index + 1);
        let next = replayed.log.next().unwrap_or(told.first);
        for index in next..=last.index {
            replayed.log.push_found(LogId { index, ..last }, Slot::LOST);
        }
        replayed.log.prepend_lost(told.first);
        if replayed.log.id(last.index) != Some(last) {
            replayed.log.tail_lost = true;
            self.hurt(
                at,
                Scope::Tail(group),
                "the entries before a standing record",
            );
        }
    }

    fn bad_record(&mut self, at: Position, row: &Row) {
        let id = LogId {
            term: row.term,
            node: row.node,
            index: row.index,
        };
        let Some(subject) = row.subject() else {
            // A kind that nobody could have written.
            return self.unknown(at, at.plus(row.length));
        };
        match subject {
            Subject::Entry { group, id } => {
                let slot = Slot {
                    position: at,
                    head: 0,
                    payload: 0,
                };
                self.entry(group, id, slot);
                self.bad_entry(group, id, at, "the header of an entry");
            }
            Subject::Vote { group } => self.bad_vote(group, at),
            Subject::Standing { group } => self.bad_standing(group, at),
            // The batch's table says all that these say.
            Subject::Truncate { group, from, .. } => {
                self.group(group).truncate(from);
                self.hurt(at, Scope::Nobody, "a truncation");
            }
            Subject::Purge { group, .. } => {
                self.group(group).log.purge(id);
                self.hurt(at, Scope::Nobody, "a purge");
            }
            Subject::Remove { group } => {
                self.groups.remove(&group);
                self.hurt(at, Scope::Nobody, "the removal of a group");
            }
            Subject::Frame { .. } | Subject::MovedPayload { .. } | Subject::MovedFrame { .. } => {
                let scope = subject.item().map_or(Scope::SomeItems, Scope::Item);
                self.hurt(at, scope, "the header of an item");
            }
        }
    }

    fn unknown(&mut self, from: Position, to: Position) {
        self.unknown_to = self.unknown_to.max(to);
        if self.stream == Stream::Blob {
            return self.hurt(from, Scope::SomeItems, "records that nothing else tells of");
        }
        for replayed in self.groups.values_mut() {
            replayed.log.vote_lost = true;
            replayed.log.tail_lost = true;
        }
        self.hurt(from, Scope::AllGroups, "records that nothing else tells of");
    }

    /// Closes the account.
    pub(super) fn finish(mut self) -> Replayout {
        let mut ledger = Ledger::default();
        let mut groups = BTreeMap::new();
        let (mut seen, mut truncated) = (Vec::new(), Vec::new());
        for (group, mut replayed) in std::mem::take(&mut self.groups) {
            for run in replayed.log.mark_lost() {
                let scope = Scope::Entry {
                    group,
                    index: run.start,
                    term: None,
                };
                let what = format!(
                    "entries {} to {} of {group} are nowhere",
                    run.start,
                    run.end - 1
                );
                self.hurt(self.start, scope, what);
            }
            let log = replayed.log;
            let range = log.range();
            let start = match log.position(range.start) {
                Some(position) => self.boundaries.at_or_before(position).max(self.start),
                None => self.start,
            };
            let standing = Standing {
                vote: log.vote.clone(),
                purged: log.purged(),
                last: log.last().filter(|_| !range.is_empty()),
                first: range.start,
                start,
                vote_lost: log.vote_lost,
                tail_lost: log.tail_lost,
            };
            ledger.groups.insert(group, standing);
            let payload = |(index, term, place)| Seen {
                item: Item::Payload(PayloadId { group, index, term }),
                place,
            };
            seen.extend(replayed.payloads.into_iter().map(payload));
            truncated.extend(replayed.truncated.into_iter().map(payload));
            groups.insert(group, log);
        }
        seen.append(&mut self.items);
        Replayout {
            groups,
            ledger,
            seen,
            truncated,
            damage: self.damage,
            boundaries: self.boundaries,
        }
    }
}

fn payload_of(group: GroupId, id: LogId) -> Item {
    Item::Payload(PayloadId {
        group,
        index: id.index,
        term: id.term,
    })
}
