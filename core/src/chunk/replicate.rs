//! The frames of a body on their way to every member of its group.
//!
//! ```text
//!   frame ──┬── this node ──────────> stored ┐
//!           ├── member 2 ── ask ──> stored   ├── a majority has it: the next frame may follow
//!           └── member 3 ── ask ──> ...      ┘   the others go on beside it, at most `LANE` of them for each member
//! ```
//! Always true:
//! * a frame counts for a member only after that member said "stored", which it says after its fsync;
//! * of a body at most `LANE` frames are kept for each member, all copies of a frame share one buffer, and every copy ends
//!   in time: a member that does not answer holds the client up for a moment once, then frames pass it by; one that answers
//!   slowly holds up each frame by at most that moment;
//! * what is told at the end is who holds which chunk, as the members said, and in which of its lives each said so; the state
//!   decides whether that is enough: members that left and came again while the body arrived count as what they are by then.
//!
//! Failure it prevents: a claim counts a copy that was only sent, and the next crash loses the chunk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use minikv_proto::peer::{self, ask, frame_stored::Outcome, reply};

use super::frames::{Cut, FrameAt};
use super::receive::{self, name_of};
use super::store::NotKept;
use super::tally::join;
use super::window::{Place, Window};
use super::{fetch, store};
use crate::env::clock;
use crate::env::task::{self, JoinHandle};
use crate::group::Group;
use crate::ids::{ChunkId, NodeId, StageId, VShard};
use crate::kv::KvError;
use crate::log::{Frame, Permit, Stream};
use crate::state::entry::crc64;
use crate::state::placement::{MAX_COPIES, Membership};
use crate::state::read;
use crate::state::record::{ChunkRun, Copies};

/// Frames of one body that are kept for one member.
const LANE: usize = 3;
/// How long one question may take.
const ASK: Duration = Duration::from_secs(2);
/// How long a copy is tried, question after question.
const COPY: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a body waits for a member whose lane is full, before frames pass it by.
const LANE_PATIENCE: Duration = Duration::from_millis(250);
/// How long the end of a body waits for the slowest members.
const SLOWEST: Duration = Duration::from_millis(100);

/// The members of a group, as this node's copy of the state has them.
async fn membership(group: &Group) -> Result<Membership, KvError> {
    let members = group.glance(read::members).await?;
    Ok(Membership::of(&members))
}

/// See the file's header.
pub(super) struct Replicator {
    group: Arc<Group>,
    vshard: VShard,
    stage: StageId,
    membership: Membership,
    window: Arc<Window>,
}

impl Replicator {
    /// For a stage that is open by now.
    pub(super) async fn new(
        group: Arc<Group>,
        vshard: VShard,
        stage: StageId,
    ) -> Result<Replicator, KvError> {
        // Who the members are is known here as soon as the stage is.
        let patience = receive::APPLY_PATIENCE;
        if group.elsewhere.is_none() {
            group.until_applied(stage.index, patience).await?;
        }
        let membership = membership(&group).await?;
        Ok(Replicator {
            window: Window::new(membership.receivers().keys().copied(), LANE),
            group,
            vshard,
            stage,
            membership,
        })
    }

    /// Sends a frame to the members; waits for room in their lanes. The future resolves when a majority has it.
    pub(super) async fn send(
        &self,
        at: FrameAt,
        bytes: Bytes,
        permit: Permit,
    ) -> BoxFuture<'static, Result<(), KvError>> {
        let enough_of = |nodes: &BTreeSet<u64>| self.membership.would_do(nodes);
        let patience = || clock::sleep(LANE_PATIENCE);
        let places = self.window.places(at, enough_of, patience).await;
        let chunk = ChunkId {
            vshard: self.vshard,
            stage: self.stage,
            ordinal: at.chunk,
        };
        let mut permit = Some(permit);
        let copies: FuturesUnordered<_> = places
            .into_iter()
            .map(|place| {
                let frame = Frame {
                    chunk,
                    frame: at.frame,
                    bytes: bytes.clone(),
                };
                let here = place.node() == self.group.replica.node;
                self.copy(place, frame, permit.take_if(|_| here))
            })
            .collect();
        let (here, membership) = (self.group.replica.node, self.membership.clone());
        Box::pin(enough(here, membership, copies))
    }

    /// One copy of a frame. A task of its own: it ends and is counted even if the client goes away.
    fn copy(
        &self,
        place: Place,
        frame: Frame,
        permit: Option<Permit>,
    ) -> JoinHandle<(NodeId, Result<u64, NotKept>)> {
        let (group, node) = (self.group.clone(), place.node());
        task::spawn(async move {
            let stored = match permit {
                Some(permit) => receive::keep(&group, frame, permit).await,
                None => store_on(&group, node, &frame).await,
            };
            place.answered(stored.as_ref().ok().copied());
            (node, stored)
        })
    }

    /// All frames are on a majority: waits a little for the slowest members, then tells who holds what.
    pub(super) async fn finish(self, run: &ChunkRun) -> Result<Vec<Copies>, KvError> {
        // Who is slower gets what it lacks by the short list.
        let _ = clock::timeout(SLOWEST, self.window.all_answered()).await;
        let list = match crate::planted!("copies-told-before-they-are-stored") {
            true => vec![Copies {
                first: 0,
                count: run.count,
                holders: self.membership.receivers().clone(),
            }],
            false => self.window.list(),
        };
        complete(&self.group, run, list).await
    }
}

/// Waits until enough members have a frame, in whichever life, or all have answered.
async fn enough(
    here: NodeId,
    membership: Membership,
    mut copies: FuturesUnordered<JoinHandle<(NodeId, Result<u64, NotKept>)>>,
) -> Result<(), KvError> {
    let mut stored = BTreeSet::new();
    let mut why = None;
    while let Some(copied) = copies.next().await {
        let (node, kept) = copied.map_err(|error| KvError::Unavailable(error.to_string()))?;
        match kept {
            Ok(_) => _ = stored.insert(node.0),
            Err(NotKept::Closed) => why = Some(given_up()),
            Err(NotKept::OtherBytes(what)) => {
                why.get_or_insert(KvError::Damaged(format!("{what} was written twice")));
            }
            // What this node says of itself tells most.
            Err(NotKept::Failed(error)) if node == here => why = Some(error),
            Err(NotKept::Failed(error)) => _ = why.get_or_insert(error),
        }
        if membership.would_do(&stored) {
            return Ok(());
        }
    }
    Err(why.unwrap_or_else(|| KvError::Unavailable("no majority took a frame in time".to_owned())))
}

fn given_up() -> KvError {
    KvError::Unavailable("no bytes came for too long; the upload was given up".to_owned())
}

/// Has another member keep a frame, however often that takes, for a while; in which life it did.
async fn store_on(group: &Group, node: NodeId, frame: &Frame) -> Result<u64, NotKept> {
    let unreachable = |why: String| NotKept::Failed(KvError::Unavailable(why));
    let Some(peers) = &group.peers else {
        return Err(unreachable("this node has no peers".to_owned()));
    };
    let what = ask::What::StoreFrame(peer::StoreFrame {
        name: Some(name_of(&frame.chunk, frame.frame)),
        crc64: crc64(&frame.bytes),
        bytes: frame.bytes.clone(),
    });
    let deadline = clock::now() + COPY;
    loop {
        let said = peers.ask(node, group.id, what.clone(), ASK).await;
        let (outcome, life) = match &said {
            Ok(reply::What::FrameStored(said)) => (said.outcome(), said.life),
            _ => (Outcome::Unknown, 0),
        };
        match outcome {
            Outcome::Stored => return Ok(life),
            Outcome::Closed => return Err(NotKept::Closed),
            Outcome::OtherBytes => {
                return Err(NotKept::OtherBytes(format!("a frame on node {}", node.0)));
            }
            Outcome::NoRoom => {
                let why = format!("the disk of node {} is nearly full", node.0);
                return Err(KvError::NoRoom(why).into());
            }
            Outcome::Unknown if clock::now() >= deadline => {
                return Err(unreachable(format!(
                    "node {} does not take a frame",
                    node.0
                )));
            }
            Outcome::Unknown => clock::sleep(PAUSE).await,
        }
    }
}

/// Sends copies after the fact until every chunk of a run lies on enough of the members as they are now, and the list is
/// short enough for a claim. Usually there is nothing to do.
pub(crate) async fn complete(
    group: &Arc<Group>,
    run: &ChunkRun,
    mut list: Vec<Copies>,
) -> Result<Vec<Copies>, KvError> {
    let membership = membership(group).await?;
    let is_enough = |list: &[Copies]| {
        let few = list.len() <= MAX_COPIES;
        few && list.iter().all(|copies| membership.enough(&copies.holders))
    };
    for (node, life) in membership.receivers() {
        if is_enough(&list) {
            break;
        }
        for copies in &mut list {
            if copies.holders.get(node) == Some(life) {
                continue;
            }
            if let Some(life) = send_chunks(group, run, copies, NodeId(*node)).await {
                copies.holders.insert(*node, life);
            }
        }
        list = join(list);
    }
    match is_enough(&list) {
        true => Ok(list),
        false => Err(KvError::Unavailable(format!(
            "{}: too few members took the content",
            group.id
        ))),
    }
}

/// Sends some chunks of a run to one member. Tells its life, if it holds all of them now, by what it said in that one life.
async fn send_chunks(
    group: &Arc<Group>,
    run: &ChunkRun,
    chunks: &Copies,
    to: NodeId,
) -> Option<u64> {
    let cut = Cut::of(run.chunk_size)?;
    let mut in_life = None;
    for piece in cut.pieces_of_chunks(run.len, chunks.first..chunks.first + chunks.count) {
        let chunk = ChunkId {
            vshard: run.vshard,
            stage: run.stage,
            ordinal: piece.at.chunk,
        };
        let store = &group.replica.store;
        let bytes = match store.read_frame(run, piece.at, piece.frame_len).await {
            Ok(bytes) => Some(bytes),
            Err(_) => fetch::frame(group, &chunk, piece.at.frame, piece.frame_len as usize)
                .await
                .ok(),
        };
        let bytes = bytes?;
        let frame = Frame {
            chunk,
            frame: piece.at.frame,
            bytes,
        };
        let stored = match to == group.replica.node {
            true => keep_here(group, frame).await,
            false => store_on(group, to, &frame).await,
        };
        match stored {
            Ok(life) if *in_life.get_or_insert(life) == life => {}
            other => {
                tracing::debug!(group = %group.id, node = to.0, ?other, "a copy could not be added");
                return None;
            }
        }
    }
    in_life
}

async fn keep_here(group: &Group, frame: Frame) -> Result<u64, NotKept> {
    let log = &group.replica.store.log;
    let permit = log.admit(Stream::Blob, frame.bytes.len()).await;
    receive::keep(group, frame, permit.map_err(store::log_failed)?).await
}
