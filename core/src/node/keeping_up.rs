//! Keeping up with the cluster: who is in it, where groups are to lie, and what follows from that for this node.
//!
//! Always true:
//! * a node with group 0 reads its own copy; every other one, and now and then this one too, asks somebody: a copy that
//!   nobody keeps up to date any more does not know that it is old;
//! * a node that hears of its own removal takes part no more.

use std::sync::Arc;
use std::time::Duration;

use minikv_proto::peer::{self, ask, reply};

use super::departure::Departure;
use super::hosting::Hosts;
use super::transport::Transport;
use crate::env::clock;
use crate::group::roster::Known;
use crate::ids::{GroupId, NodeId};
use crate::shard::planner;

/// How often a node looks.
const EVERY: Duration = Duration::from_millis(500);
/// It asks somebody else every so manieth time.
const ASKS: u64 = 4;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Works until dropped. `first`: whom to ask as long as nobody is known.
pub(super) async fn run(
    hosts: Arc<Hosts>,
    transport: Arc<Transport>,
    departure: Arc<Departure>,
    first: Vec<NodeId>,
) {
    let mut turn = 0;
    loop {
        look(&hosts, &transport, &departure, &first, turn).await;
        turn += 1;
        clock::sleep(EVERY).await;
    }
}

async fn look(
    hosts: &Hosts,
    transport: &Transport,
    departure: &Departure,
    first: &[NodeId],
    turn: u64,
) {
    let (roster, this) = (&hosts.router.roster, hosts.identity.node);
    let directory = hosts.router.groups.find(GroupId::DIRECTORY);
    let mut is_current = false;
    if let Some(directory) = &directory
        && let Ok(known) = Known::read(&*directory.replica.view())
    {
        is_current =
            known.data_groups > 0 && directory.raft().is_some_and(|raft| raft.leader().is_some());
        roster.learn(known);
    }
    // Who founded the cluster, or let this node in, may be gone: those that it heard of in earlier runs know where it is.
    let heard_of = transport.boots().heard_of();
    let others = roster.with(|known| {
        let all = first.iter().copied().chain(known.present()).chain(heard_of);
        let mut others: Vec<NodeId> = all.filter(|node| *node != this).collect();
        others.retain(|node| !known.is_gone(*node));
        others.sort_unstable();
        others.dedup();
        others
    });
    transport.meet(others.iter().copied());
    if (!is_current || turn % ASKS == ASKS - 1)
        && let Some(node) = others.get((turn / ASKS) as usize % others.len().max(1))
    {
        let what = ask::What::Directory(peer::Directory {});
        let asked = transport
            .peers()
            .ask(*node, GroupId::DIRECTORY, what, PATIENCE);
        if let Ok(reply::What::Directory(said)) = asked.await {
            roster.learn(Known::of_wire(said));
        }
    }
    transport.meet(roster.with(|known| known.present().collect::<Vec<_>>()));
    if roster.with(|known| known.is_gone(this)) {
        return departure.is_so(format!(
            "node {} was removed from the cluster; empty its data directory to let it join as a new node",
            this.0
        ));
    }
    if directory.is_some_and(|directory| directory.leads())
        && !roster.with(planner::plan).is_empty()
        && let Err(error) = planner::round(&hosts.router).await
    {
        tracing::debug!(%error, "groups were not planned");
    }
    hosts.let_go().await;
}
