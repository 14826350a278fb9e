//! Telling a leader elsewhere what writers and readers of this process hold.
//!
//! Progress and pins are the leader's memory (`leader_memory`): without this it would give up an upload that comes through
//! another node, and release chunks under a download there.
//!
//! Always true: what is held is told more often than the leader forgets it.

use std::time::Duration;

use minikv_proto::peer::{self, ask};
use minikv_proto::row;

use super::Group;
use super::registry::Registry;
use crate::env::clock;
use crate::ids::StageId;

/// A pin that was told is believed for so many periods.
const BELIEVED: u32 = 3;
/// Stages in one message.
const BATCH: usize = 1000;
/// How long the leader may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is told: a third of the time after which things are given up, at most a minute.
pub(crate) fn period(abandon_after: Duration, release_after: Duration) -> Duration {
    let shortest = abandon_after.min(release_after) / (BELIEVED + 1);
    shortest.clamp(Duration::from_secs(1), Duration::from_secs(60))
}

/// Tells every leader elsewhere once; goes on until dropped.
pub(crate) async fn run(groups: std::sync::Arc<Registry>, period: Duration) {
    loop {
        let since = clock::now();
        clock::sleep(period).await;
        let groups: Vec<_> = groups.data().chain(groups.ways()).collect();
        let told = groups.iter().map(|group| tell(group, since, period));
        futures::future::join_all(told).await;
    }
}

async fn tell(group: &Group, since: clock::Instant, period: Duration) {
    let Some(peers) = &group.peers else { return };
    let leader = match &group.elsewhere {
        Some(way) => way.next(group.id),
        None => group.raft().and_then(|raft| raft.leader()),
    };
    let Some(leader) = leader.filter(|node| *node != group.replica.node) else {
        return;
    };
    let (mut stages, mut pins) = group.memory.in_use(since);
    while !stages.is_empty() || !pins.is_empty() {
        let touch = ask::What::Touch(peer::Touch {
            stages: names(&mut stages),
            pins: names(&mut pins),
            believe_ms: (period * BELIEVED).as_millis() as u64,
        });
        if let Err(error) = peers.ask(leader, group.id, touch, PATIENCE).await {
            tracing::debug!(group = %group.id, %error, "a leader was not told what is in use");
            return;
        }
    }
}

fn names(stages: &mut Vec<StageId>) -> Vec<row::StageName> {
    let some = stages.len().saturating_sub(BATCH)..;
    stages.drain(some).map(StageId::to_row).collect()
}

/// What a member hears that leads.
pub(crate) fn for_peer(group: &Group, told: peer::Touch) -> peer::Touched {
    let stages = |names: &[row::StageName]| -> Vec<StageId> {
        let stages = names.iter().map(|name| StageId::of_row(Some(name)));
        stages.filter_map(Result::ok).collect()
    };
    for stage in stages(&told.stages) {
        group.memory.touch(stage);
    }
    for stage in stages(&told.pins) {
        let time = Duration::from_millis(told.believe_ms.min(600_000));
        group.memory.pin_for(stage, time);
    }
    peer::Touched {}
}
