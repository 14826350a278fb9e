//! A checkpoint on its way to a member that lags behind the log: the leader's side.
//!
//! ```text
//!   leader ── Install (vote, manifest) ──> member, again and again until it says done
//!          <── Piece, Payloads ── it pulls what it lacks, in its own time and order ── PieceOf, PayloadsOf ──>
//! ```
//! Pulled, because messages get lost, doubled and overtaken: who lacks something asks for it again, and nothing is kept here
//! about how far anybody is.
//!
//! Always true:
//! * every answer is of one and the same checkpoint: its files stay readable through open handles while it is being sent,
//!   whatever is merged or written meanwhile, and not longer;
//! * the log behind it is kept while it is taken, and a little longer, unless room is short;
//! * a member that is not heard of for `SILENCE` is given up; openraft begins again, with the newest checkpoint;
//! * a payload that a later entry dropped need not be sent. The member may install without it: whoever reads there waits for
//!   that later entry first.
//!
//! Elsewhere: the member's side (`install`).

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use minikv_proto::peer::{self, ask, payload, reply};
use parking_lot::Mutex;

use super::peers::{PeerError, Peers};
use crate::chunk::store::{ReadFault, Store};
use crate::engine::EngineError;
use crate::engine::export::Export;
use crate::env::clock::Instant;
use crate::env::{clock, task};
use crate::ids::{GroupId, NodeId, PayloadId};
use crate::log::Item;

/// About so much of a file goes into one message.
const PIECE: usize = 256 << 10;
/// Payloads in one message, at most so many bytes; one may be a little larger alone.
const PAYLOADS: usize = 256 << 10;
/// How long a member may take to say how far it is.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two such questions.
const PAUSE: Duration = Duration::from_millis(100);
/// A member that said nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(10);

/// The log behind a checkpoint is kept for so long after the member that takes it was last heard of.
const HOLD: Duration = Duration::from_secs(10);

/// From which entries on the log is kept for members that take a checkpoint, and until when.
type Held = Arc<Mutex<BTreeMap<u64, Instant>>>;

/// One checkpoint of this member, for as long as somebody holds it.
pub(crate) struct Leaving {
    group: GroupId,
    export: Export,
    store: Arc<Store>,
    /// Its last entry.
    index: u64,
    held: Held,
    /// When it was asked for last.
    asked: Mutex<Instant>,
}

/// Checkpoints that are being sent, by generation: a number that this node never uses twice.
#[derive(Default)]
pub(crate) struct Shipments {
    leaving: Mutex<BTreeMap<u64, Weak<Leaving>>>,
    held: Held,
}

impl Shipments {
    /// Makes a checkpoint known to those who ask for its pieces, until the last handle on it goes.
    pub(super) fn leave(
        &self,
        group: GroupId,
        index: u64,
        export: Export,
        store: Arc<Store>,
    ) -> Arc<Leaving> {
        let mut all = self.leaving.lock();
        all.retain(|_, leaving| leaving.strong_count() > 0);
        let generation = export.info().generation;
        if let Some(leaving) = all.get(&generation).and_then(Weak::upgrade) {
            return leaving;
        }
        let leaving = Arc::new(Leaving {
            group,
            export,
            store,
            index,
            held: self.held.clone(),
            asked: Mutex::new(clock::now()),
        });
        all.insert(generation, Arc::downgrade(&leaving));
        leaving
    }

    /// The log behind this entry is needed by a member that takes a checkpoint, or has just taken it. Else a large state under
    /// steady writes would be out of date whenever it arrived, for ever.
    pub(super) fn holds_behind(&self) -> Option<u64> {
        let now = clock::now();
        let mut held = self.held.lock();
        held.retain(|_, until| *until > now);
        held.keys().next().copied()
    }

    fn find(&self, checkpoint: u64) -> Result<Arc<Leaving>, String> {
        let known = self.leaving.lock().get(&checkpoint).and_then(Weak::upgrade);
        known.ok_or_else(|| format!("checkpoint {checkpoint} is not sent any more"))
    }

    pub(crate) async fn piece(&self, asked: peer::Piece) -> Result<peer::PieceOf, String> {
        let leaving = self.find(asked.checkpoint)?;
        *leaving.asked.lock() = clock::now();
        let bytes = leaving.piece(asked.file as usize, asked.at).await;
        let bytes = bytes.map_err(|error| error.to_string())?;
        Ok(peer::PieceOf { bytes })
    }

    pub(crate) async fn payloads(&self, asked: peer::Payloads) -> Result<peer::PayloadsOf, String> {
        let leaving = self.find(asked.checkpoint)?;
        *leaving.asked.lock() = clock::now();
        let payloads = leaving.payloads(&asked.names).await?;
        Ok(peer::PayloadsOf { payloads })
    }
}

impl Leaving {
    pub(super) fn export(&self) -> &Export {
        &self.export
    }

    /// Whole blocks of a file.
    pub(super) async fn piece(&self, file: usize, at: u64) -> Result<Bytes, EngineError> {
        let export = self.export.clone();
        task::blocking(move || export.read(file, at, PIECE)).await
    }

    /// What is here of the first of these payloads.
    pub(super) async fn payloads(
        &self,
        names: &[peer::PayloadName],
    ) -> Result<Vec<peer::Payload>, String> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for name in names {
            let id = PayloadId {
                group: self.group,
                index: name.index,
                term: name.term,
            };
            let what = match self.store.read_item(Item::Payload(id)).await {
                Ok(content) => {
                    bytes += content.len();
                    Some(payload::What::Bytes(content))
                }
                Err(ReadFault::Absent(_)) => None,
                Err(ReadFault::Other(crate::kv::KvError::Damaged(what))) => {
                    Some(payload::What::Damaged(what))
                }
                Err(ReadFault::Other(error)) => return Err(error.to_string()),
            };
            found.push(peer::Payload { what });
            if bytes >= PAYLOADS {
                break;
            }
        }
        Ok(found)
    }

    /// Stays until nobody has asked for it any more for a while.
    pub(super) async fn stay(self: Arc<Self>) {
        *self.asked.lock() = clock::now();
        loop {
            let asked = *self.asked.lock();
            if clock::now() - asked > SILENCE {
                return;
            }
            self.held.lock().insert(self.index, asked + HOLD);
            clock::sleep(SILENCE / 10).await;
        }
    }

    /// As its taker is told of it.
    pub(super) fn offer(&self, vote: peer::RaftVote) -> peer::Install {
        peer::Install {
            vote: Some(vote),
            checkpoint: self.export.info().generation,
            manifest: self.export.manifest(),
        }
    }

    /// Has `to` take it over; the vote that it then has. Ends when it did, or when it is not heard of any more.
    pub(super) async fn send(
        &self,
        peers: &dyn Peers,
        to: NodeId,
        vote: peer::RaftVote,
    ) -> Result<peer::RaftVote, PeerError> {
        let what = self.offer(vote);
        let mut heard = clock::now();
        loop {
            self.held.lock().insert(self.index, heard + HOLD);
            let asked = ask::What::Install(what.clone());
            match peers.ask(to, self.group, asked, PATIENCE).await {
                Ok(reply::What::Installed(said)) => match said.vote {
                    Some(vote) => {
                        self.held.lock().insert(self.index, clock::now() + HOLD);
                        return Ok(vote);
                    }
                    None if said.failed.is_empty() => heard = clock::now(),
                    None => {
                        let why = said.failed;
                        return Err(PeerError { node: to, why });
                    }
                },
                Err(error) if clock::now() - heard > SILENCE => return Err(error),
                _ => {}
            }
            clock::sleep(PAUSE).await;
        }
    }
}

/// Where the pieces of a checkpoint come from.
pub(super) trait Source: Send + Sync {
    fn piece(&self, file: usize, at: u64) -> BoxFuture<'_, Result<Bytes, String>>;
    fn payloads(
        &self,
        names: Vec<peer::PayloadName>,
    ) -> BoxFuture<'_, Result<Vec<peer::Payload>, String>>;
}

impl Source for Leaving {
    fn piece(&self, file: usize, at: u64) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move {
            let piece = self.piece(file, at).await;
            piece.map_err(|error| error.to_string())
        })
    }

    fn payloads(
        &self,
        names: Vec<peer::PayloadName>,
    ) -> BoxFuture<'_, Result<Vec<peer::Payload>, String>> {
        Box::pin(async move { self.payloads(&names).await })
    }
}
