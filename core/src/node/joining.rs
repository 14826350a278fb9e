//! How a disk becomes a node of a cluster that is there already.
//!
//! ```text
//!   new node ── Join (its id, zone, weight, the name of its disk) ──> any node ── group 0: joining ── active ──> Joined
//!     it knows the cluster ── leaders ask it to have members of groups (`hosting`)
//! ```
//! Always true:
//! * the name of the disk is on the disk before it is told to anybody, and is drawn once: asked again, the same disk is let
//!   in, and another one under the same id never is;
//! * a node that was let in once asks again at every start: that changes nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use minikv_proto::entry as wire;
use minikv_proto::peer::{self, ask, reply};
use minikv_proto::row::{self, NodeState};

use super::Joining;
use super::departure::Departure;
use super::identity::Identity;
use crate::env::clock;
use crate::group::peers::Peers;
use crate::group::roster::{Known, state_of};
use crate::ids::{GroupId, NodeId};
use crate::kv::Refusal;
use crate::shard::router::Router;
use crate::state::answer::{Answer, Done, TryAgain};
use crate::state::entry::Body;
use crate::state::read;

/// How long a node may take to let another one in: three entries.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions.
const AGAIN: Duration = Duration::from_millis(200);
/// The row changes under our hands so often.
const TRIES: usize = 8;

/// Asks until this node is let in; then it serves what it knows of.
pub(super) async fn settle(
    router: Arc<Router>,
    identity: Identity,
    joining: Joining,
    peers: Arc<dyn Peers>,
    departure: Arc<Departure>,
) {
    let asked = row::Node {
        id: identity.node.0,
        zone: joining.zone.clone(),
        weight: joining.weight,
        join: Bytes::from(identity.disk.clone()),
        ..row::Node::default()
    };
    let mut turn = 0;
    loop {
        let present: Vec<NodeId> = router.roster.with(|known| known.present().collect());
        let seeds = joining.seeds.iter().copied().map(NodeId);
        let mut nodes: Vec<NodeId> = seeds.chain(present).collect();
        nodes.retain(|node| *node != identity.node);
        nodes.sort_unstable();
        nodes.dedup();
        if let Some(node) = nodes.get(turn % nodes.len().max(1)) {
            let join = ask::What::Join(peer::Join {
                node: Some(asked.clone()),
            });
            match peers.ask(*node, GroupId::DIRECTORY, join, PATIENCE).await {
                Ok(reply::What::Joined(said)) if !said.refused.is_empty() => {
                    return departure.is_so(said.refused);
                }
                Ok(reply::What::Joined(peer::Joined {
                    node: Some(node), ..
                })) => {
                    router.roster.learn(Known {
                        nodes: [(node.id, node)].into(),
                        ..Known::default()
                    });
                    break;
                }
                Ok(_) => tracing::debug!("no answer to a question to join"),
                Err(error) => tracing::debug!(%error, "not let in yet"),
            }
        }
        turn += 1;
        clock::sleep(AGAIN).await;
    }
    while router.deal_as_known().is_none() {
        clock::sleep(AGAIN).await;
    }
}

/// Lets a node in and calls it active, by group 0.
pub(super) async fn let_in(router: &Router, asked: row::Node) -> Result<peer::Joined, String> {
    let directory = router.directory().map_err(|error| error.to_string())?;
    let id = asked.id;
    let agree = async |body| {
        let answer = directory.own(body).await;
        answer.map_err(|error| error.to_string())
    };
    match agree(Body::JoinNode(wire::JoinNode { node: Some(asked) })).await? {
        Answer::Done(Done::Number(number)) if number == id => {}
        Answer::Refused(Refusal::Unsupported(why)) => {
            return Ok(peer::Joined {
                node: None,
                refused: why,
            });
        }
        other => return Err(format!("{other:?}")),
    }
    for _ in 0..TRIES {
        let nodes = directory.ask(read::nodes).await;
        let nodes = nodes.map_err(|error| error.to_string())?;
        let node = nodes.into_iter().find(|node| node.id == id);
        let node = node.ok_or("the node is not there")?;
        if state_of(&node) != NodeState::Joining {
            return Ok(peer::Joined {
                node: Some(node),
                refused: String::new(),
            });
        }
        let active = Body::SetNodeState(wire::SetNodeState {
            node: id,
            revision: node.revision,
            state: NodeState::Active as i32,
            forced: false,
        });
        match agree(active).await? {
            Answer::Done(_) | Answer::TryAgain(TryAgain::StaleEpoch(_)) => {}
            other => return Err(format!("{other:?}")),
        }
    }
    Err("the node changes too fast".to_owned())
}
