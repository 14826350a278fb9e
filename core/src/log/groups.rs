//! The log as a group sees it: its own entries, vote and purge point, as if it had the log for itself.
//!
//! Always true:
//! * what a call changed is visible when it returns, and durable when its ack says so;
//! * the calls of one group reach the disk in the order in which they were made;
//! * a call that returns an error changed nothing, and its ack is dropped uncalled.

use std::future::Future;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;

use super::entry::{Hurt, LogEntry, LogState, Want};
use super::error::LogError;
use super::group_log::{GroupLog, Piece};
use super::ledger::Standing;
use super::node_log::Log;
use super::place::{Place, Stream};
use super::queue::{Ack, Done, Job};
use super::reader;
use super::record::{Draft, LogId, Subject};
use super::shared::Cell;
use crate::ids::{GroupId, PayloadId};

impl Log {
    fn push(
        &self,
        cell: &Cell,
        draft: Draft,
        ack: Ack,
        note: impl FnOnce(&mut GroupLog),
    ) -> Result<(), LogError> {
        cell.with(|log| {
            log.last_ticket = self.shared.stream(Stream::Meta).queue.push(|ticket| Job {
                ticket,
                drafts: vec![draft],
                sync: false,
                done: Done::Plain(ack),
            })?;
            note(log);
            Ok(())
        })
    }

    /// The groups that have, or had, something here.
    pub fn groups(&self) -> Vec<GroupId> {
        self.shared.groups.read().keys().copied().collect()
    }

    /// Vote, purge point and newest entry of a group.
    pub fn log_state(&self, group: GroupId) -> LogState {
        self.shared
            .find(group)
            .map(|cell| cell.with(|log| log.state()))
            .unwrap_or_default()
    }

    /// What damage took from a group. It must not vote here until it is mended.
    pub fn hurt(&self, group: GroupId) -> Hurt {
        self.shared
            .find(group)
            .map(|cell| cell.with(|log| log.hurt()))
            .unwrap_or_default()
    }

    /// Queues entries, which are readable when this returns. They must follow those that are there; into an empty log
    /// any first index behind the purge point goes. On `Err` nothing happened and `ack` is dropped uncalled.
    pub fn append(&self, group: GroupId, entries: Vec<LogEntry>, ack: Ack) -> Result<(), LogError> {
        let Some(first) = entries.first().map(|entry| entry.id.index) else {
            ack(Ok(()));
            return Ok(());
        };
        let mut drafts = Vec::with_capacity(entries.len());
        let mut bytes = 0;
        for entry in &entries {
            let subject = Subject::Entry {
                group,
                id: entry.id,
            };
            let draft = Draft::new(subject, entry.head(), entry.payload());
            self.check_len(draft.len())?;
            bytes += draft.len() as u64;
            drafts.push(draft);
        }
        let cell = self.shared.cell(group);
        let done = Done::Entries {
            cell: Arc::clone(&cell),
            first,
            ack,
        };
        cell.with(|log| {
            log.check(&entries)?;
            let ticket = self.shared.stream(Stream::Meta).queue.push(|ticket| Job {
                ticket,
                drafts,
                sync: false,
                done,
            })?;
            entries
                .iter()
                .for_each(|entry| log.push_queued(entry, ticket));
            log.last_ticket = ticket;
            log.appended += bytes;
            Ok(())
        })
    }

    /// Queues a vote, which is fsynced whatever the policy. It overtakes entries of other groups.
    pub fn save_vote(&self, group: GroupId, vote: Bytes, ack: Ack) -> Result<(), LogError> {
        let draft = Draft::new(Subject::Vote { group }, vote.clone(), Bytes::new());
        self.check_len(draft.len())?;
        self.shared.cell(group).with(|log| {
            let queue = &self.shared.stream(Stream::Meta).queue;
            log.last_ticket = queue.push_vote(log.last_ticket, |ticket| Job {
                ticket,
                drafts: vec![draft],
                sync: true,
                done: Done::Plain(ack),
            })?;
            log.vote = Some(vote);
            log.vote_lost = false;
            Ok(())
        })
    }

    /// Drops the entries behind `after` (`None`: all). Returns the payloads that went with them: their places are void.
    pub fn truncate_after(
        &self,
        group: GroupId,
        after: Option<u64>,
        ack: Ack,
    ) -> Result<Vec<PayloadId>, LogError> {
        let from = after.map_or(0, |after| after + 1);
        let cell = self.shared.cell(group);
        let mut dropped = Vec::new();
        if crate::planted!("truncation-not-recorded") {
            let dropped = cell.with(|log| log.truncate(from));
            ack(Ok(()));
            return Ok(dropped);
        }
        let keep = cell.with(|log| after.and_then(|after| log.id(after)));
        let draft = Draft::new(
            Subject::Truncate { group, from, keep },
            Bytes::new(),
            Bytes::new(),
        );
        self.push(&cell, draft, ack, |log| dropped = log.truncate(from))?;
        Ok(dropped)
    }

    /// Drops the entries up to and with `id`. Behind the last one: a checkpoint was installed, the log starts anew there.
    pub fn purge(&self, group: GroupId, id: LogId, ack: Ack) -> Result<(), LogError> {
        let cell = self.shared.cell(group);
        let draft = Draft::new(Subject::Purge { group, id }, Bytes::new(), Bytes::new());
        self.push(&cell, draft, ack, |log| log.purge(id))
    }

    /// Forgets a group that left this node.
    pub fn remove_group(&self, group: GroupId, ack: Ack) -> Result<(), LogError> {
        let cell = self.shared.cell(group);
        let draft = Draft::new(Subject::Remove { group }, Bytes::new(), Bytes::new());
        self.push(&cell, draft, ack, GroupLog::clear)
    }

    /// Declares a group whole as it is now: peers gave back what damage took, or the operator accepted its loss.
    /// Damaged entries are not mended by this; purge or truncate them first.
    pub fn mend(&self, group: GroupId, ack: Ack) -> Result<(), LogError> {
        self.declare(group, false, ack)
    }

    /// The opposite: until `mend` the newest entries of this group count as not certain, whatever is changed meanwhile.
    /// Whoever gives up entries says this first, so that a crash in between does not look like a whole group.
    pub fn doubt(&self, group: GroupId, ack: Ack) -> Result<(), LogError> {
        self.declare(group, true, ack)
    }

    fn declare(&self, group: GroupId, tail_lost: bool, ack: Ack) -> Result<(), LogError> {
        let cell = self.shared.cell(group);
        // The writer fills in the rest.
        let wish = Standing {
            tail_lost,
            ..Standing::default()
        };
        let draft = Draft::new(Subject::Standing { group }, wish.encode(), Bytes::new());
        self.push(&cell, draft, ack, |log| {
            log.vote_lost &= tail_lost;
            log.tail_lost = tail_lost;
        })
    }

    /// Remembers, in memory only, what the group agreed on.
    pub fn set_committed(&self, group: GroupId, committed: Option<LogId>) {
        self.shared
            .cell(group)
            .with(|log| log.committed = committed);
    }

    /// What `set_committed` was told last since the log was opened.
    pub fn committed(&self, group: GroupId) -> Option<LogId> {
        self.shared.find(group)?.with(|log| log.committed)
    }

    /// Name of the entry at `index`, or of the purge point if it is there.
    pub fn entry_id(&self, group: GroupId, index: u64) -> Option<LogId> {
        self.shared.find(group)?.with(|log| log.id(index))
    }

    /// Of the entries of `range` that are here (or of the purge point), the last of each leader, ascending.
    pub fn last_of_leaders(&self, group: GroupId, range: RangeInclusive<u64>) -> Vec<LogId> {
        let cell = self.shared.find(group);
        cell.map_or_else(Vec::new, |cell| cell.with(|log| log.last_of_leaders(range)))
    }

    /// Bytes appended for a group since the log was opened, and those found then. Only differences mean something.
    pub fn appended_bytes(&self, group: GroupId) -> u64 {
        self.shared
            .find(group)
            .map_or(0, |cell| cell.with(|log| log.appended))
    }

    /// The entries of `range` that are here, in order: a prefix of about `max_bytes`, but at least one. None are here:
    /// empty. What cannot be read is an error only if it comes first; otherwise the prefix before it is returned.
    pub async fn entries(
        &self,
        group: GroupId,
        range: Range<u64>,
        max_bytes: usize,
        want: Want,
    ) -> Result<Vec<LogEntry>, LogError> {
        let Some(cell) = self.shared.find(group) else {
            return Ok(Vec::new());
        };
        let pieces = cell.with(|log| log.pieces(range, max_bytes));
        let (mut on_disk, mut cached) = (Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::OnDisk(one) => on_disk.push(one),
                Piece::Cached(entry) => cached.push(entry),
            }
        }
        // The cached ones are the newest: they come last, and only if nothing is missing before them.
        let mut entries = reader::entries(&self.shared, group, &on_disk, want).await?;
        if entries.len() == on_disk.len() {
            entries.append(&mut cached);
        }
        Ok(entries)
    }

    /// Resolves when this very entry is durable: by its record, not its index, so one that was truncated and
    /// written again at the same index is waited for again.
    pub fn wait_durable_entry(
        &self,
        group: GroupId,
        index: u64,
    ) -> impl Future<Output = Result<(), LogError>> + Send + 'static {
        let ticket = self
            .shared
            .find(group)
            .and_then(|cell| cell.with(|log| log.ticket(index)));
        let shared = Arc::clone(&self.shared);
        async move {
            match ticket {
                Some(ticket) => shared.stream(Stream::Meta).settled.wait(ticket).await,
                None => Err(LogError::NoEntry { group, index }),
            }
        }
    }

    /// Place of the payload of an unpurged entry, once that is durable.
    pub fn place_of(&self, id: PayloadId) -> Option<Place> {
        self.shared.find(id.group)?.with(|log| log.place(id))
    }
}
