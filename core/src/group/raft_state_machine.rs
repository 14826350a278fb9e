//! openraft's state machine: hands agreed entries to `Replica`, and makes checkpoints of it.
//!
//! Always true:
//! * entries are applied in order, each once, and only after this node's log has fsynced that very record (the log
//!   adapter's stream waits for it);
//! * an answer is given after the changes are in the engine;
//! * a checkpoint holds the state between two entries: its moment is taken here, on the task that applies.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, RaftSnapshotBuilder, Snapshot, SnapshotMeta};
use parking_lot::Mutex;

use super::install::{self, Arrived};
use super::raft_network::RaftSnapshot;
use super::raft_types::{Answer, Committed, RaftLogId, RaftStoredMembership, Types, from_log_id};
use super::replica::{Agreed, Mark, Replica, Round};
use super::shipping::Leaving;
use crate::engine::{CheckpointInfo, EngineError};

/// Entries that are applied with one engine write, at most: the answers of all wait for it.
const ROUND_ENTRIES: usize = 64;
const ROUND_BYTES: usize = 1 << 20;

type Meta = SnapshotMeta<Committed, u64, openraft::impls::BasicNode>;
type Responder = openraft::storage::ApplyResponder<Types>;

/// A state on its way from one member to another.
pub(crate) enum Shipment {
    /// This member's; another one pulls what it lacks.
    Leaving(Arc<Leaving>),
    /// Another one's, durable here with everything it names.
    Arrived(Box<Arrived>),
}

/// A checkpoint of this member, as openraft sees it.
fn leaving_snapshot(replica: &Replica) -> io::Result<RaftSnapshot> {
    let leaving = replica.leaving();
    let meta = snapshot_meta(leaving.export().info().applied.as_ref())?;
    Ok(Snapshot {
        meta,
        snapshot: Shipment::Leaving(leaving),
    })
}

/// A checkpoint from elsewhere, as openraft sees it.
pub(super) fn arrived_snapshot(arrived: Arrived) -> io::Result<RaftSnapshot> {
    Ok(Snapshot {
        meta: snapshot_meta(arrived.prepared.applied())?,
        snapshot: Shipment::Arrived(Box::new(arrived)),
    })
}

/// One group's state, as openraft drives it.
#[derive(Clone)]
pub(crate) struct StateMachine {
    replica: Arc<Replica>,
    /// Which one it is of those that this copy has had.
    driver: u64,
}

impl StateMachine {
    pub(crate) fn new(replica: Arc<Replica>) -> StateMachine {
        let driver = replica.next_driver();
        StateMachine { replica, driver }
    }
}

/// What a mark says, in openraft's types.
pub(crate) fn meta_of(mark: &Mark) -> io::Result<(Option<RaftLogId>, RaftStoredMembership)> {
    let membership = match mark.membership.is_empty() {
        true => RaftStoredMembership::default(),
        false => super::raft_types::decode_stored_membership(mark.membership.clone())?,
    };
    Ok((mark.at.map(from_log_id), membership))
}

fn snapshot_meta(applied: Option<&Bytes>) -> io::Result<Meta> {
    let mark = Mark::decode(applied)?;
    let (last_log_id, last_membership) = meta_of(&mark)?;
    Ok(SnapshotMeta {
        last_log_id,
        last_membership,
    })
}

/// An entry without openraft's wrapping.
pub(super) fn agreed(entry: super::raft_types::RaftEntry) -> (Agreed, Option<Bytes>) {
    let id = super::raft_types::to_log_id(&entry.log_id);
    let (command, membership) = match entry.payload {
        EntryPayload::Blank => (None, None),
        EntryPayload::Normal(command) => (Some(command.bytes), None),
        EntryPayload::Membership(membership) => {
            let stored = RaftStoredMembership::new(Some(entry.log_id), membership);
            (
                None,
                Some(super::raft_types::encode_stored_membership(&stored)),
            )
        }
    };
    (Agreed { id, command }, membership)
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = Shipment;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, RaftStoredMembership)> {
        meta_of(&self.replica.mark())
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        let replica = self.replica.clone();
        let mut entries = entries.fuse();
        let mut next = entries.next().await;
        while let Some(first) = next.take() {
            let mut answers: Vec<(Option<Responder>, Answer)> = Vec::new();
            let mut item = Some(first);
            let mut failed = None;
            let driving = replica.drive(self.driver);
            let driving = driving.ok_or_else(|| io::Error::other("another one applies here"))?;
            let mut round = Round::begin(&replica);
            while let Some(one) = item.take() {
                let applied = one.and_then(|(entry, responder)| {
                    let (entry, membership) = agreed(entry);
                    let answer = round.apply(entry, membership)?;
                    answers.push((responder, Answer(answer)));
                    Ok(())
                });
                if let Err(error) = applied {
                    failed = Some(error);
                    break;
                }
                if round.entries() >= ROUND_ENTRIES || round.bytes() >= ROUND_BYTES {
                    break;
                }
                // More entries join the round only if they are there already.
                item = entries.next().now_or_never().flatten();
            }
            // What came before an entry that could not be applied is still written and answered.
            round.finish()?;
            drop(driving);
            for (responder, answer) in answers {
                if let Some(responder) = responder {
                    responder.send(answer);
                }
            }
            if let Some(error) = failed {
                replica.stopped(&error);
                return Err(error);
            }
            next = entries.next().await;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // The moment is now, between two entries; the writing comes later, on another task.
        Builder {
            writing: Mutex::new(Some(self.replica.begin_checkpoint())),
            replica: self.replica.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Shipment) -> io::Result<()> {
        let arrived = match snapshot {
            Shipment::Arrived(arrived) => *arrived,
            // Within one process.
            Shipment::Leaving(leaving) => {
                let manifest = leaving.export().manifest();
                let received = install::receive(&self.replica, &*leaving, &manifest).await;
                received.map_err(io::Error::other)?
            }
        };
        self.replica.install(arrived).await?;
        let (at, _) = meta_of(&self.replica.mark())?;
        if at < meta.last_log_id {
            return Err(io::Error::other("an older state was shipped than promised"));
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        let durable = self.replica.engine.durable();
        if durable.applied.is_none() {
            return Ok(None);
        }
        leaving_snapshot(&self.replica).map(Some)
    }
}

/// A checkpoint whose moment has been taken.
pub(crate) struct Builder {
    // In a lock only because openraft wants builders to be `Sync`.
    writing: Mutex<Option<BoxFuture<'static, Result<CheckpointInfo, EngineError>>>>,
    replica: Arc<Replica>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Shipment;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        let writing = self.writing.get_mut().take();
        let written = match writing {
            Some(writing) => writing.await,
            None => Ok(self.replica.engine.durable()),
        };
        // A disk that is full must not end the Raft instance for good: the last checkpoint stays the newest one, and the
        // driver tries again.
        self.replica.checkpoint_ended(written);
        leaving_snapshot(&self.replica)
    }
}
