//! This node's copy of one group's state: entries go in, rows come out.
//!
//! ```text
//!   entry ──> state::apply ──> changes ──> engine (one write for a round of entries, with the applied mark)
//!                         └──> payload's place recorded before, dropped places forgotten a little after
//! ```
//! Always true:
//! * the applied mark and the changes of its entries become visible together;
//! * a payload's place is recorded before a row that names it is visible, and forgotten after no row names it any more;
//!   later by seconds, so that who has just read the row still finds the bytes, but always before a checkpoint that holds
//!   the drop (else the log scan after a crash would bring the place back, and its segment would never be freed);
//! * an entry that cannot be applied stops this copy; it is never skipped and nothing is guessed.
//!
//! Elsewhere: what an entry does (`state`), in which order entries come (`raft_state_machine`), when a checkpoint is
//! due (`checkpoint`).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use minikv_proto::row;
use parking_lot::{Mutex, MutexGuard};
use prost::Message;
use tokio::sync::Notify;

use super::checkpoint::CheckpointLimits;
use super::install::{self, Arrivals, Arrived};
use super::pending::Pending;
use super::shipping::{Leaving, Shipments};
use crate::chunk::incoming::Incoming;
use crate::chunk::store::Store;
use crate::chunk::wants::Wants;
use crate::engine::{Batch, BeforeDurable, CheckpointInfo, Engine, EngineError, View};
use crate::env::clock::{self, Instant};
use crate::ids::{GroupId, NodeId, PayloadId};
use crate::kv::KvError;
use crate::log::{LogError, LogId};
use crate::state;
use crate::state::answer::Answer;
use crate::state::apply::{Applied, Dropped, GroupContext};
use crate::state::record::ChunkRun;

/// So long after the last row that named it went, a place is still found: a reader takes the row first, then the bytes.
const FORGET_AFTER: Duration = Duration::from_secs(2);

/// Up to where a state has applied its log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Mark {
    pub at: Option<LogId>,
    /// The last membership, as openraft's adapter encodes it; empty: none yet.
    pub membership: Bytes,
}

impl Mark {
    pub(crate) fn decode(row: Option<&Bytes>) -> io::Result<Mark> {
        let Some(row) = row else {
            return Ok(Mark::default());
        };
        let row = row::Applied::decode(row.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Mark {
            at: Some(LogId {
                term: row.term,
                node: row.node,
                index: row.index,
            }),
            membership: row.membership,
        })
    }

    fn encode(&self) -> Option<Bytes> {
        let at = self.at?;
        let row = row::Applied {
            term: at.term,
            node: at.node,
            index: at.index,
            membership: self.membership.clone(),
            // The engine keeps it, as it keeps the rows.
            digest: Bytes::new(),
        };
        Some(row.encode_to_vec().into())
    }
}

/// An entry as it was agreed on; without a command it only moves the mark.
pub(crate) struct Agreed {
    pub id: LogId,
    pub command: Option<Bytes>,
}

/// What happened since the last checkpoint: what a crash would have to replay.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    entries: AtomicU64,
    bytes: AtomicU64,
    /// Bytes that the whole meta stream had taken when the checkpoint was made.
    meta_written_before: AtomicU64,
}

impl Growth {
    fn reset(&self, meta_written: u64) {
        self.entries.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.meta_written_before
            .store(meta_written, Ordering::Relaxed);
    }

    fn add(&self, entries: usize, bytes: usize) {
        self.entries.fetch_add(entries as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn is_past(&self, limits: CheckpointLimits) -> bool {
        self.entries.load(Ordering::Relaxed) >= limits.entries
            || self.bytes.load(Ordering::Relaxed) >= limits.log_bytes
    }

    pub(crate) fn meta_written_before(&self) -> u64 {
        self.meta_written_before.load(Ordering::Relaxed)
    }
}

/// See the file's header.
pub(crate) struct Replica {
    pub id: GroupId,
    pub node: NodeId,
    pub engine: Arc<dyn Engine>,
    pub store: Arc<Store>,
    pub growth: Growth,
    /// Checkpoints on their way to other members.
    pub shipments: Shipments,
    /// Where theirs arrive.
    pub arrivals: Arrivals,
    installs: AtomicU64,
    mark: Mutex<Mark>,
    /// Index of the newest applied entry; what `mark` says, without a lock.
    applied: AtomicU64,
    applied_entries: AtomicU64,
    /// Dropped in order of time; forgotten from the front.
    forgotten: Mutex<VecDeque<(Instant, Dropped)>>,
    /// Stages under which bytes arrive on this node now.
    pub incoming: Arc<Incoming>,
    /// Chunks that rows name and that this node may lack.
    pub wants: Wants,
    /// Why this copy applies nothing any more.
    stop_reason: Mutex<Option<Stop>>,
    is_stopped: AtomicBool,
    /// Who may apply: each state machine on top of this has a number, and only the newest one's counts.
    driver: Mutex<u64>,
    checkpoint: Mutex<CheckpointState>,
    checkpoint_moved: Notify,
    limits: CheckpointLimits,
    /// Told when growth went past the limits.
    grown: Arc<Notify>,
}

/// Why a copy stopped.
#[derive(Clone, Debug)]
struct Stop {
    why: String,
    /// The disk's fault: what could not be read may be readable, or come from a peer. Anything else would only come again.
    is_of_the_disk: bool,
}

#[derive(Debug, Default)]
struct CheckpointState {
    /// Checkpoints that were begun, and that ended, well or not.
    begun: u64,
    ended: u64,
    made: u64,
    last_error: Option<String>,
    /// Index of past checkpoints, and bytes appended to the group's log when each was begun. Ascending.
    past: VecDeque<(u64, u64)>,
}

impl Replica {
    pub(crate) fn new(
        id: GroupId,
        node: NodeId,
        engine: Arc<dyn Engine>,
        store: Arc<Store>,
        arrivals: Arrivals,
        limits: CheckpointLimits,
        grown: Arc<Notify>,
    ) -> io::Result<Replica> {
        let mark = Mark::decode(engine.applied().as_ref())?;
        Ok(Replica {
            id,
            node,
            engine,
            store,
            growth: Growth::default(),
            shipments: Shipments::default(),
            arrivals,
            installs: AtomicU64::new(0),
            applied: AtomicU64::new(mark.at.map_or(0, |at| at.index)),
            applied_entries: AtomicU64::new(0),
            mark: Mutex::new(mark),
            forgotten: Mutex::default(),
            incoming: Arc::default(),
            wants: Wants::default(),
            stop_reason: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            driver: Mutex::default(),
            checkpoint: Mutex::default(),
            checkpoint_moved: Notify::new(),
            limits,
            grown,
        })
    }

    pub(crate) fn mark(&self) -> Mark {
        self.mark.lock().clone()
    }

    /// Index of the newest applied entry.
    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Index of the newest applied entry, and the digest of the rows there.
    pub(crate) fn applied_and_digest(&self) -> (u64, u128) {
        loop {
            let applied = self.engine.applied();
            let digest = self.engine.digest();
            // The mark never comes back: with the same one before and after, both are of one moment.
            if self.engine.applied() == applied {
                let mark = Mark::decode(applied.as_ref()).unwrap_or_default();
                return (mark.at.map_or(0, |at| at.index), digest);
            }
        }
    }

    pub(crate) fn limits(&self) -> CheckpointLimits {
        self.limits
    }

    /// Entries applied since the process started.
    pub(crate) fn applied_entries(&self) -> u64 {
        self.applied_entries.load(Ordering::Relaxed)
    }

    /// Why nothing is applied any more.
    pub(crate) fn stop_reason(&self) -> Option<String> {
        match self.is_stopped.load(Ordering::Acquire) {
            true => self
                .stop_reason
                .lock()
                .as_ref()
                .map(|stop| stop.why.clone()),
            false => None,
        }
    }

    /// Whether this copy stopped for something that is wrong with more than the disk.
    pub(crate) fn is_stopped_for_good(&self) -> bool {
        let stop = self.stop_reason.lock();
        stop.as_ref().is_some_and(|stop| !stop.is_of_the_disk)
    }

    /// This copy stops, until somebody finds it mended (`bring_back`) or the process starts again.
    pub(crate) fn stopped(&self, error: &io::Error) {
        let why = error.to_string();
        tracing::error!(group = %self.id, %why, "a group stopped on this node");
        let inner = error.get_ref();
        let of_engine = inner.and_then(|inner| inner.downcast_ref::<EngineError>());
        let of_log = inner.and_then(|inner| inner.downcast_ref::<LogError>());
        let is_of_the_disk = matches!(
            of_engine,
            Some(EngineError::Damaged { .. } | EngineError::Io { .. })
        ) || matches!(
            of_log,
            Some(LogError::EntryDamaged { .. } | LogError::Io { .. })
        );
        let stop = Stop {
            why,
            is_of_the_disk,
        };
        self.stop_reason.lock().get_or_insert(stop);
        self.is_stopped.store(true, Ordering::Release);
    }

    /// What stopped it is mended.
    pub(crate) fn goes_on(&self) {
        *self.stop_reason.lock() = None;
        self.is_stopped.store(false, Ordering::Release);
    }

    /// From now on only a state machine with this number applies: one of before may still have an entry in its hands.
    pub(crate) fn next_driver(&self) -> u64 {
        let mut driver = self.driver.lock();
        *driver += 1;
        *driver
    }

    /// Held while a round of entries is applied. `None`: somebody else drives.
    pub(crate) fn drive(&self, number: u64) -> Option<MutexGuard<'_, u64>> {
        let driver = self.driver.lock();
        (*driver == number).then_some(driver)
    }

    // ---- dropped bytes ----

    /// Forgets places that no row has named for a while.
    pub(crate) fn forget_due(&self) -> Result<(), EngineError> {
        let due = clock::now() - FORGET_AFTER;
        self.forget_until(Some(due))
    }

    /// Forgets all places that no row names, also those that somebody may just have read the row of.
    pub(crate) fn forget_all(&self) -> Result<(), EngineError> {
        self.forget_until(None)
    }

    fn forget_until(&self, due: Option<Instant>) -> Result<(), EngineError> {
        // Held over the table's change: a checkpoint that finds the queue empty must find the places gone, too.
        let mut queue = self.forgotten.lock();
        let count = match due {
            Some(due) => queue.partition_point(|(at, _)| *at <= due),
            None => queue.len(),
        };
        if count == 0 {
            return Ok(());
        }
        let dropped = || queue.iter().take(count).map(|(_, dropped)| dropped);
        self.store.forget(dropped())?;
        self.wants.forget(dropped());
        queue.drain(..count);
        Ok(())
    }

    // ---- checkpoints ----

    /// Takes the moment of a checkpoint, between two entries; the future writes it.
    pub(crate) fn begin_checkpoint(
        &self,
    ) -> BoxFuture<'static, Result<CheckpointInfo, EngineError>> {
        self.checkpoint.lock().begun += 1;
        self.growth.reset(self.store.meta_written());
        let ready = self.forget_until(None);
        let loan = match ready.and_then(|()| self.store.room_for_checkpoint()) {
            Ok(loan) => loan,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let store = self.store.clone();
        let before: BeforeDurable =
            Box::new(move || Box::pin(async move { store.checkpoint_places().await }));
        let writing = self.engine.checkpoint(Some(before));
        Box::pin(async move {
            let written = writing.await;
            drop(loan);
            written
        })
    }

    /// A checkpoint was written, or not.
    pub(crate) fn checkpoint_ended(&self, outcome: Result<CheckpointInfo, EngineError>) {
        let mut state = self.checkpoint.lock();
        state.ended += 1;
        match outcome {
            Ok(_) => {
                state.made += 1;
                state.last_error = None;
            }
            Err(error) => {
                tracing::warn!(group = %self.id, %error, "a checkpoint was not written");
                state.last_error = Some(error.to_string());
            }
        }
        drop(state);
        self.checkpoint_moved.notify_waiters();
    }

    /// How many checkpoints were begun, and how many ended, well or not.
    pub(crate) fn checkpoints(&self) -> (u64, u64) {
        let state = self.checkpoint.lock();
        (state.begun, state.ended)
    }

    /// Waits a while until more than `ended` checkpoints have ended; whether they have.
    pub(crate) async fn checkpoint_after(&self, ended: u64) -> Result<bool, KvError> {
        let moved = self.checkpoint_moved.notified();
        tokio::pin!(moved);
        moved.as_mut().enable();
        if self.checkpoints().1 > ended {
            return Ok(true);
        }
        // Also ends when nothing moved: the caller asks again.
        let _ = clock::timeout(Duration::from_millis(100), moved).await;
        match self.stop_reason() {
            Some(why) => Err(KvError::Unavailable(why)),
            None => Ok(self.checkpoints().1 > ended),
        }
    }

    /// Checkpoints made since the process started.
    pub(crate) fn checkpoints_made(&self) -> u64 {
        self.checkpoint.lock().made
    }

    /// Why the last checkpoint was not written.
    pub(crate) fn checkpoint_error(&self) -> Option<String> {
        self.checkpoint.lock().last_error.clone()
    }

    /// Notes that the newest checkpoint was begun when so many bytes had been appended.
    pub(crate) fn remember_checkpoint(&self, appended: u64) {
        let index = self.checkpoint_index();
        let past = &mut self.checkpoint.lock().past;
        past.push_back((index, appended));
        // Far more than fit between the newest one and what is kept for others.
        if past.len() > 64 {
            past.pop_front();
        }
    }

    /// The newest checkpoint that was begun when at most so many bytes had been appended.
    pub(crate) fn checkpoint_before(&self, appended: u64) -> Option<u64> {
        let state = self.checkpoint.lock();
        let before = state.past.iter().take_while(|(_, at)| *at <= appended);
        before.last().map(|(index, _)| *index)
    }

    /// Index of the newest durable checkpoint.
    pub(crate) fn checkpoint_index(&self) -> u64 {
        let mark = Mark::decode(self.engine.durable().applied.as_ref());
        mark.ok().and_then(|mark| mark.at).map_or(0, |at| at.index)
    }

    /// Whether entries were applied that the newest checkpoint lacks.
    pub(crate) fn is_ahead_of_checkpoint(&self) -> bool {
        self.applied() > self.checkpoint_index()
    }

    // ---- moving a whole state ----

    /// The newest durable checkpoint, for another member.
    pub(crate) fn leaving(&self) -> Arc<Leaving> {
        let (export, store) = (self.engine.export(), self.store.clone());
        let mark = Mark::decode(export.info().applied.as_ref()).unwrap_or_default();
        let index = mark.at.map_or(0, |at| at.index);
        self.shipments.leave(self.id, index, export, store)
    }

    /// Checkpoints of others that were taken over since the process started.
    pub(crate) fn installs(&self) -> u64 {
        self.installs.load(Ordering::Relaxed)
    }

    /// Replaces the whole state by one that arrived; durable when this returns. An error ends the group on this node, so
    /// nothing is done here that a full disk could refuse.
    pub(crate) async fn install(&self, arrived: Arrived) -> io::Result<()> {
        let mark = install::mark_of(&arrived)?;
        // What openraft truncated before must not be there again beside the new state.
        self.store.log.sync().await.map_err(io::Error::other)?;
        let places = &self.store.places;
        places.change(arrived.payloads).map_err(io::Error::other)?;
        let installed = self.engine.install(arrived.prepared).await;
        installed.map_err(io::Error::other)?;
        let index = mark.at.map_or(0, |at| at.index);
        *self.mark.lock() = mark;
        self.applied.store(index, Ordering::Release);
        self.growth.reset(self.store.meta_written());
        // What the new rows name may be missing here, and what arrives may have ended before them.
        self.incoming.all_dropped();
        self.wants.add_everything();
        self.installs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Entries that are applied together.
pub(crate) struct Round<'a> {
    replica: &'a Replica,
    rows: Pending<'a>,
    mark: Mark,
    digest: u128,
    dropped: Vec<Dropped>,
    claimed: Vec<ChunkRun>,
    entries: usize,
    bytes: usize,
}

impl<'a> Round<'a> {
    pub(crate) fn begin(replica: &'a Replica) -> Round<'a> {
        Round {
            replica,
            rows: Pending::over(&*replica.engine),
            mark: replica.mark(),
            digest: 0,
            dropped: Vec::new(),
            claimed: Vec::new(),
            entries: 0,
            bytes: 0,
        }
    }

    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Applies one entry on top of those before it.
    pub(crate) fn apply(
        &mut self,
        entry: Agreed,
        membership: Option<Bytes>,
    ) -> io::Result<Option<Answer>> {
        let expected = self.mark.at.map_or(entry.id.index, |at| at.index + 1);
        // openraft's suite leaves holes between entries that carry no command.
        let in_order = match entry.command {
            Some(_) => entry.id.index == expected,
            None => entry.id.index >= expected,
        };
        assert!(
            in_order,
            "{}: entry {} where {expected} comes next",
            self.replica.id, entry.id.index
        );
        let answer = match &entry.command {
            Some(command) => Some(self.command(entry.id, command)?),
            None => None,
        };
        self.mark.at = Some(entry.id);
        if let Some(membership) = membership {
            self.mark.membership = membership;
        }
        self.entries += 1;
        self.bytes += entry.command.as_ref().map_or(0, Bytes::len);
        Ok(answer)
    }

    fn command(&mut self, id: LogId, command: &Bytes) -> io::Result<Answer> {
        let frame = state::entry::decode(command).map_err(invalid)?;
        let group = GroupContext {
            id: self.replica.id,
            index: id.index,
            term: id.term,
        };
        let applied =
            state::apply::apply(&self.rows, &group, &frame.entry).map_err(io::Error::other)?;
        let Applied {
            changes,
            answer,
            dropped,
            claimed,
            digest,
            operations: _,
        } = applied;
        let payload = PayloadId {
            group: group.id,
            index: id.index,
            term: id.term,
        };
        let carries = !frame.payload.is_empty();
        // Also when this entry dropped its own payload (it was refused): recovery's scan of the log records the place of
        // every payload it sees, and only a recorded place can be forgotten.
        if carries {
            self.replica
                .store
                .record_payload(payload)
                .map_err(io::Error::other)?;
        }
        self.rows.change(changes);
        self.digest = self.digest.wrapping_add(digest);
        self.dropped.extend(dropped);
        self.claimed.extend(claimed);
        Ok(answer)
    }

    /// Makes the round visible: rows and mark together.
    pub(crate) fn finish(self) -> io::Result<()> {
        if self.entries == 0 {
            return Ok(());
        }
        let replica = self.replica;
        let changes = self.rows.into_changes();
        {
            let mut mark = replica.mark.lock();
            let written = replica.engine.write(Batch {
                changes,
                applied: match crate::planted!("applied-mark-behind") {
                    true => Mark {
                        at: self.mark.at.map(|at| LogId {
                            index: at.index.saturating_sub(1).max(1),
                            ..at
                        }),
                        ..self.mark.clone()
                    }
                    .encode(),
                    false => self.mark.encode(),
                },
                digest_delta: Some(self.digest),
            });
            written.map_err(io::Error::other)?;
            *mark = self.mark;
            let index = mark.at.map_or(0, |at| at.index);
            replica.applied.store(index, Ordering::Release);
        }
        replica.wants.add(self.claimed);
        if !self.dropped.is_empty() {
            // Before they can be forgotten, and after their rows are gone.
            replica.incoming.dropped(&self.dropped);
            let now = clock::now();
            let mut queue = replica.forgotten.lock();
            queue.extend(self.dropped.into_iter().map(|dropped| (now, dropped)));
        }
        replica
            .applied_entries
            .fetch_add(self.entries as u64, Ordering::Relaxed);
        replica.growth.add(self.entries, self.bytes);
        if replica.growth.is_past(replica.limits) {
            replica.grown.notify_one();
        }
        Ok(())
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl crate::chunk::store::AppliedUpTo for Replica {
    fn group(&self) -> GroupId {
        self.id
    }

    fn applied(&self) -> Option<u64> {
        self.mark.lock().at.map(|at| at.index)
    }
}

/// What readers of this state need.
impl Replica {
    /// A consistent view of now.
    pub(crate) fn view(&self) -> Box<dyn View> {
        self.engine.view()
    }
}
