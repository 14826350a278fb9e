//! A group that lies on other nodes, as a node without a member of it sees it: commands go to whoever leads it, reads ask
//! for the rows that they need.
//!
//! ```text
//!   look(rows)     which rows does it ask for?  none yet ── fetch them, of one moment ── look again
//!                                                            └── until it asks for nothing that was not fetched
//! ```
//! Always true:
//! * an answer rests on rows of one moment, which a majority confirmed after the question: what is missing is asked for of the
//!   moment that is held there, or everything is fetched again of a new one;
//! * what a look says while rows were missing is thrown away;
//! * a message is of about 1 MiB, however much a look asks for, and what one read holds here is bounded (`MOST`);
//! * nothing of such a group is kept here longer than a read takes.
//!
//! A moment is held once an answer was full. Before that, everything is asked for again with what was missing: that is less
//! than one message, and most reads need no second one.
//!
//! Elsewhere: what was fetched, as a look sees it (`fetched`); what a member answers (`moments`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use minikv_proto::peer::{ask, reply};

use super::Group;
use super::fetched::{Rows, Wishes};
use super::peers::Peers;
use super::read::unreadable;
use crate::engine::damage::{Damage, Healed};
use crate::engine::export::Export;
use crate::engine::heal::ScrubPosition;
use crate::engine::incoming::Prepared;
use crate::engine::{Batch, BeforeDurable, CheckpointInfo, Engine, EngineError, RowIter, View};
use crate::env::clock;
use crate::group::roster::Roster;
use crate::ids::{GroupId, NodeId};
use crate::kv::KvError;

/// How long a read looks for somebody who answers.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long one question may take: its reader there may wait for a leader.
const ASK: Duration = Duration::from_secs(3);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);
/// A look that asks for more and more is given up after so many rounds.
const ROUNDS: usize = 200;
/// Bytes of rows that one read may need: a page of a thousand objects with the longest metadata, out of one group, is about 41
/// MiB; the parts of the largest upload are 12.
const MOST: usize = 64 << 20;

/// The way to a group that lies elsewhere.
pub(crate) struct Elsewhere {
    roster: Arc<Roster>,
    /// Whom to ask as long as nothing is known.
    first: Vec<NodeId>,
    this: NodeId,
    /// Who answered last, or is said to lead; 0: nobody.
    hint: AtomicU64,
    turn: AtomicU64,
}

impl Elsewhere {
    pub(crate) fn new(roster: Arc<Roster>, first: Vec<NodeId>, this: NodeId) -> Elsewhere {
        Elsewhere {
            roster,
            first,
            this,
            hint: AtomicU64::new(0),
            turn: AtomicU64::new(0),
        }
    }

    /// Nodes that may have members, likely ones first.
    pub(crate) fn nodes(&self, group: GroupId) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.roster.with(|known| {
            let wanted = known.wanted(group).unwrap_or_default();
            let others = known.present().filter(|node| !wanted.contains(&node.0));
            wanted.iter().copied().map(NodeId).chain(others).collect()
        });
        if nodes.is_empty() {
            nodes = self.first.clone();
        }
        nodes.retain(|node| *node != self.this);
        nodes
    }

    /// Whom to ask next.
    pub(super) fn next(&self, group: GroupId) -> Option<NodeId> {
        match self.hint.load(Ordering::Relaxed) {
            0 => {
                let nodes = self.nodes(group);
                let turn = self.turn.load(Ordering::Relaxed);
                let at = turn % nodes.len().max(1) as u64;
                nodes.get(at as usize).copied()
            }
            node => Some(NodeId(node)),
        }
    }

    /// It did not work there.
    pub(super) fn turn_from(&self, node: NodeId) {
        let was = node.0;
        _ = self
            .hint
            .compare_exchange(was, 0, Ordering::Relaxed, Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// It works there, or should.
    pub(super) fn turn_to(&self, node: u64) {
        if node != self.this.0 {
            self.hint.store(node, Ordering::Relaxed);
        }
    }
}

impl Group {
    /// Looks at the group's rows as they are at some moment after this call, here or elsewhere. `look` may be called several
    /// times.
    pub(crate) async fn ask<T>(
        &self,
        look: impl Fn(&dyn View) -> Result<T, EngineError>,
    ) -> Result<T, KvError> {
        let Some(way) = &self.elsewhere else {
            let view = self.read().await?;
            return look(&*view).map_err(unreadable);
        };
        // Boxed, as what is rare is: every read would carry its state about.
        Box::pin(self.ask_elsewhere(way, look)).await
    }

    async fn ask_elsewhere<T>(
        &self,
        way: &Elsewhere,
        look: impl Fn(&dyn View) -> Result<T, EngineError>,
    ) -> Result<T, KvError> {
        let peers = self.peers.as_ref();
        let peers = peers.ok_or_else(|| self.unavailable("this node has no peers"))?;
        let mut rows = Fetching::default();
        for _ in 0..ROUNDS {
            let (seen, more) = rows.here.seen_by(&look);
            if more.is_empty() {
                return seen.map_err(unreadable);
            }
            if rows.here.bytes() > MOST {
                break;
            }
            self.fetch(way, &**peers, &mut rows, more).await?;
        }
        Err(self.unavailable("too much is asked for from elsewhere"))
    }

    fn unavailable(&self, why: &str) -> KvError {
        KvError::Unavailable(format!("{}: {why}", self.id))
    }

    /// As `ask`, but of rows as this node has them now, if it has them.
    pub(crate) async fn glance<T>(
        &self,
        look: impl Fn(&dyn View) -> Result<T, EngineError>,
    ) -> Result<T, KvError> {
        match self.elsewhere {
            None => look(&*self.replica.view()).map_err(unreadable),
            Some(_) => Box::pin(self.ask(look)).await,
        }
    }

    /// Fetches `more` of the same moment, or that and all of `rows` of a new one.
    async fn fetch(
        &self,
        way: &Elsewhere,
        peers: &dyn Peers,
        rows: &mut Fetching,
        more: Wishes,
    ) -> Result<(), KvError> {
        if let Some((node, moment)) = rows.held {
            let what = ask::What::Rows(more.to_wire(moment));
            let said = peers.ask(node, self.id, what, ASK).await;
            if let Ok(reply::What::Rows(said)) = said
                && said.moment == moment
                && rows.here.take(&more, said)
            {
                return Ok(());
            }
            // A message was lost, or the moment is not held any more.
        }
        let all = rows.here.and(more);
        let deadline = clock::now() + PATIENCE;
        let mut why = "no node is known that has it".to_owned();
        loop {
            if let Some(node) = way.next(self.id) {
                let what = ask::What::Rows(all.to_wire(0));
                match peers.ask(node, self.id, what, ASK).await {
                    Ok(reply::What::Rows(said)) if said.refused.is_empty() => {
                        let mut new = Fetching {
                            held: (said.moment != 0).then_some((node, said.moment)),
                            here: Rows::default(),
                        };
                        if new.here.take(&all, said) {
                            way.turn_to(node.0);
                            *rows = new;
                            return Ok(());
                        }
                        why = "rows were asked for and others came".to_owned();
                    }
                    Ok(reply::What::Rows(said)) => why = said.refused,
                    Ok(_) => why = "no answer to the question".to_owned(),
                    Err(error) => why = error.to_string(),
                }
                way.turn_from(node);
            }
            if clock::now() >= deadline {
                return Err(self.unavailable(&why));
            }
            clock::sleep(PAUSE).await;
        }
    }
}

/// What a read has so far.
#[derive(Default)]
struct Fetching {
    here: Rows,
    /// The moment that it is of, and who holds it for more questions.
    held: Option<(NodeId, u64)>,
}

/// The rows of a group that lies elsewhere: there are none, and nobody is told that there are none.
pub(crate) struct NotHere;

fn not_here() -> EngineError {
    EngineError::GivenUp("the group lies on other nodes".to_owned())
}

impl View for NotHere {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Err(not_here())
    }

    fn scan<'a>(&'a self, _: &[u8], _: &[u8]) -> RowIter<'a> {
        Box::new(std::iter::once(Err(not_here())))
    }
}

impl Engine for NotHere {
    fn view(&self) -> Box<dyn View> {
        Box::new(NotHere)
    }

    fn write(&self, _: Batch) -> Result<(), EngineError> {
        Err(not_here())
    }

    fn applied(&self) -> Option<Bytes> {
        None
    }

    fn digest(&self) -> u128 {
        0
    }

    fn overlay_bytes(&self) -> usize {
        0
    }

    fn checkpoint(
        &self,
        _: Option<BeforeDurable>,
    ) -> BoxFuture<'static, Result<CheckpointInfo, EngineError>> {
        Box::pin(std::future::ready(Err(not_here())))
    }

    fn durable(&self) -> CheckpointInfo {
        CheckpointInfo::default()
    }

    fn export(&self) -> Export {
        unreachable!("only openraft ships a state, and it does not run here");
    }

    fn install(&self, _: Prepared) -> BoxFuture<'static, Result<CheckpointInfo, EngineError>> {
        Box::pin(std::future::ready(Err(not_here())))
    }

    fn damage(&self) -> Vec<Damage> {
        Vec::new()
    }

    fn healed(&self) -> Vec<Healed> {
        Vec::new()
    }

    fn heal(&self) -> BoxFuture<'static, Result<Vec<Healed>, EngineError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn scrub_next(&self, _: &mut ScrubPosition) -> Option<u64> {
        None
    }
}
