//! openraft's log storage over the node log.
//!
//! Always true:
//! * `append` only queues; entries are readable when it returns, and acknowledged after their fsync, in order;
//! * a vote is on the disk before `save_vote` returns;
//! * `entries_stream`, from which entries are applied, hands an entry out only after this node has fsynced that very
//!   record (openraft may ask earlier: a majority elsewhere suffices for agreement). The wait is here and not inside
//!   `apply`, which openraft's own suite calls with entries that no log ever held;
//! * reads are bounded in bytes, and give at least one entry.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds, RangeInclusive};

use futures::stream::{self, Stream, StreamExt};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use std::sync::Arc;
use tokio::sync::oneshot;

use super::raft_types::{
    RaftEntry, RaftLogId, RaftVote, Types, decode_vote, encode_vote, from_log, from_log_id, to_log,
    to_log_id,
};
use crate::chunk::store::Store;
use crate::ids::GroupId;
use crate::log::{Item, Log, LogError, Want};

/// One read gives about so many bytes: an AppendEntries must fit into a heartbeat's time.
const READ_BYTES: usize = 1 << 20;

/// One group's part of the node log.
#[derive(Clone)]
pub(crate) struct RaftLog {
    store: Arc<Store>,
    group: GroupId,
}

impl RaftLog {
    pub(crate) fn new(store: Arc<Store>, group: GroupId) -> RaftLog {
        RaftLog { store, group }
    }

    fn log(&self) -> &Log {
        &self.store.log
    }

    /// Entries from `from` on, all before `to` or a prefix of about `max_bytes`.
    async fn read(
        &self,
        from: u64,
        to: u64,
        max_bytes: usize,
        want: Want,
    ) -> io::Result<Vec<RaftEntry>> {
        let entries = self
            .log()
            .entries(self.group, from..to, max_bytes, want)
            .await;
        entries.map_err(failed)?.into_iter().map(from_log).collect()
    }

    /// Entries that may be applied: this node has fsynced them.
    async fn read_durable(&self, from: u64, to: u64) -> io::Result<Vec<RaftEntry>> {
        let entries = self
            .log()
            .entries(self.group, from..to, READ_BYTES, Want::Heads)
            .await;
        let entries = entries.map_err(failed)?;
        if let Some(last) = entries.last()
            && !crate::planted!("apply-before-local-fsync")
        {
            // In order within the group: when the last one is durable, all are.
            let durable = self.log().wait_durable_entry(self.group, last.id.index);
            durable.await.map_err(failed)?;
        }
        entries.into_iter().map(from_log).collect()
    }
}

fn failed(error: LogError) -> io::Error {
    io::Error::other(error)
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<Types> for RaftLog {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<RaftEntry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        // Who is not sending it anywhere needs no payload.
        self.read(from, to, usize::MAX, Want::Heads).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        self.log()
            .log_state(self.group)
            .vote
            .map(decode_vote)
            .transpose()
    }

    /// The last entry of each leader, from what the log knows without reading: a start must not depend on entries that it
    /// does not need, one of which may be damaged.
    async fn get_key_log_ids(
        &mut self,
        range: RangeInclusive<RaftLogId>,
    ) -> io::Result<Vec<RaftLogId>> {
        let range = range.start().index..=range.end().index;
        let last_of_leaders = self.log().last_of_leaders(self.group, range);
        Ok(last_of_leaders.into_iter().map(from_log_id).collect())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> io::Result<Vec<RaftEntry>> {
        self.read(start, end, READ_BYTES, Want::Whole).await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let log = self.clone();
        let pieces = stream::try_unfold(from, move |next| {
            let log = log.clone();
            async move {
                if next >= to {
                    return Ok(None);
                }
                let entries = log.read_durable(next, to).await?;
                let Some(last) = entries.last().map(|entry| entry.log_id.index) else {
                    return Ok(None);
                };
                let entries = entries.into_iter().map(Ok);
                Ok::<_, io::Error>(Some((stream::iter(entries), last + 1)))
            }
        });
        let entries = pieces.flat_map(|piece| match piece {
            Ok(entries) => entries.left_stream(),
            Err(error) => stream::iter([Err(error)]).right_stream(),
        });
        Box::pin(entries)
    }
}

impl RaftLogStorage<Types> for RaftLog {
    type LogReader = RaftLog;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.log().log_state(self.group);
        Ok(LogState {
            last_purged_log_id: state.purged.map(from_log_id),
            last_log_id: state.last.map(from_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> RaftLog {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        let (told, saved) = oneshot::channel();
        let ack = Box::new(move |settled| drop(told.send(settled)));
        let queued = self.log().save_vote(self.group, encode_vote(vote), ack);
        queued.map_err(failed)?;
        if crate::planted!("vote-not-fsynced") {
            return Ok(());
        }
        saved.await.unwrap_or(Err(LogError::Closed)).map_err(failed)
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        self.log()
            .set_committed(self.group, committed.as_ref().map(to_log_id));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        Ok(self.log().committed(self.group).map(from_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(to_log).collect();
        if crate::planted!("append-not-fsynced") {
            let queued = self.log().append(self.group, entries, Box::new(drop));
            callback.io_completed(Ok(()));
            return queued.map_err(failed);
        }
        let ack = Box::new(move |settled: Result<(), LogError>| {
            callback.io_completed(settled.map_err(failed));
        });
        self.log().append(self.group, entries, ack).map_err(failed)
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        // Not waited for: what is appended next is behind it in the same stream, and so is its acknowledgement.
        let after = last.map(|last| last.index);
        let dropped = self.log().truncate_after(self.group, after, Box::new(drop));
        let dropped = dropped.map_err(failed)?;
        // Only recovery records places of entries that were never applied.
        for payload in dropped {
            let removed = self.store.places.remove(&Item::Payload(payload));
            removed.map_err(io::Error::other)?;
        }
        Ok(())
    }

    async fn purge(&mut self, id: RaftLogId) -> io::Result<()> {
        // Not waited for: after a crash the entries are there again, which is no harm.
        let purged = self.log().purge(self.group, to_log_id(&id), Box::new(drop));
        purged.map_err(failed)
    }
}
