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
use std::ops::{Bound, RangeBounds};

use futures::stream::{self, Stream, StreamExt};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use std::sync::Arc;

use super::raft_types::{
    RaftEntry, RaftLogId, RaftVote, Types, decode_vote, encode_vote, from_log, from_log_id,
    to_log, to_log_id,
};
use crate::ids::GroupId;
use crate::log::{Log, LogError};

/// One read gives about so many bytes: an AppendEntries must fit into a heartbeat's time.
const READ_BYTES: usize = 1 << 20;

/// One group's part of the node log.
#[derive(Clone)]
pub(crate) struct RaftLog {
    log: Log,
    group: GroupId,
    /// Kept in memory: what was agreed on is learned again from the log and the others.
    committed: Arc<Mutex<Option<RaftLogId>>>,
}

impl RaftLog {
    pub(crate) fn new(log: Log, group: GroupId) -> RaftLog {
        RaftLog {
            log,
            group,
            committed: Arc::default(),
        }
    }

    async fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<RaftEntry>> {
        let entries = self.log.entries(self.group, from..to, max_bytes).await;
        entries.map_err(failed)?.into_iter().map(from_log).collect()
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
        self.read(from, to, usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        self.log.state(self.group).vote.map(decode_vote).transpose()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<RaftEntry>> {
        self.read(start, end, READ_BYTES).await
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
                let entries = log.log.entries(log.group, next..to, READ_BYTES).await;
                let entries = entries.map_err(failed)?;
                let Some(last) = entries.last().map(|entry| entry.id) else {
                    return Ok(None);
                };
                // In order within the group: when the last one is durable, all are.
                log.log.durable(log.group, last).await.map_err(failed)?;
                let entries = entries.into_iter().map(from_log);
                Ok::<_, io::Error>(Some((stream::iter(entries), last.index + 1)))
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
        let state = self.log.state(self.group);
        Ok(LogState {
            last_purged_log_id: state.purged.map(from_log_id),
            last_log_id: state.last.map(from_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> RaftLog {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        let saved = self.log.save_vote(self.group, encode_vote(vote)).await;
        saved.map_err(failed)
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        *self.committed.lock() = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        Ok(*self.committed.lock())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(to_log).collect();
        let ack = Box::new(move |settled: Result<(), LogError>| {
            callback.io_completed(settled.map_err(failed));
        });
        self.log.append(self.group, entries, ack).map_err(failed)
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index + 1);
        self.log.truncate(self.group, from).await.map_err(failed)
    }

    async fn purge(&mut self, id: RaftLogId) -> io::Result<()> {
        self.log.purge(self.group, to_log_id(&id)).await.map_err(failed)
    }
}
