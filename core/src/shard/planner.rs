//! Where groups are to lie: decided by the leader of group 0, from the nodes that there are, and written into the directory.
//!
//! ```text
//!   nodes (active ones) ──rendezvous──> wanted nodes of each group ── another set than the row has? ── PutPlacement, epoch + 1
//! ```
//! Carrying it out is the affair of each group's leader (`group::membership`), one step after the other.
//!
//! Always true:
//! * a group has one copy, or as many as it is made for (3; more if it was founded with more): it never rests at two;
//! * a group never gets fewer copies than it has: the place of a node that is gone stays empty until another one takes it;
//! * what was planned with rows that are out of date changes nothing: an epoch is written once.

use minikv_proto::entry as wire;
use minikv_proto::row::{self, NodeState};

use super::rendezvous::{Candidate, choose};
use super::router::Router;
use crate::group::read::unreadable;
use crate::group::roster::{Known, state_of};
use crate::ids::GroupId;
use crate::kv::KvError;
use crate::state::answer::Answer;
use crate::state::entry::Body;

/// Copies of a group in a cluster that has as many nodes.
pub(crate) const COPIES: usize = 3;

/// The placements that should change, as they should be.
pub(crate) fn plan(known: &Known) -> Vec<(GroupId, row::Placement)> {
    let candidates: Vec<Candidate> = known
        .nodes
        .values()
        .filter(|node| state_of(node) == NodeState::Active)
        .map(|node| Candidate {
            node: node.id,
            zone: node.zone.clone(),
            weight: node.weight,
        })
        .collect();
    let mut changes = Vec::new();
    for (group, placed) in &known.placements {
        let copies = placed.nodes.len().max(COPIES);
        // A group that was founded by one node may move to another one, but then there is nobody to take it.
        if candidates.len() < copies {
            continue;
        }
        let nodes = choose(*group, &candidates, copies);
        if nodes != placed.nodes {
            let epoch = placed.epoch + 1;
            changes.push((*group, row::Placement { nodes, epoch }));
        }
    }
    changes
}

/// Looks once, and has group 0 agree on what should change. By the leader of group 0.
pub(crate) async fn round(router: &Router) -> Result<(), KvError> {
    let directory = router.directory()?;
    let view = directory.read().await?;
    let known = Known::read(&*view).map_err(unreadable)?;
    drop(view);
    for (group, placement) in plan(&known) {
        tracing::info!(%group, nodes = ?placement.nodes, "a group is to lie on other nodes");
        let body = Body::PutPlacement(wire::PutPlacement {
            group: u32::from(group.0),
            placement: Some(placement),
        });
        match directory.own(body).await? {
            Answer::Done(_) => {}
            other => return Err(KvError::Unavailable(format!("group 0: {other:?}"))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(nodes: &[(u64, NodeState)], placed: &[u64]) -> Known {
        let node = |(id, state): &(u64, NodeState)| {
            let node = row::Node {
                id: *id,
                weight: 1,
                state: *state as i32,
                ..row::Node::default()
            };
            (*id, node)
        };
        let placement = row::Placement {
            nodes: placed.to_vec(),
            epoch: 7,
        };
        Known {
            nodes: nodes.iter().map(node).collect(),
            placements: [(GroupId(1), placement)].into(),
            data_groups: 1,
        }
    }

    fn planned(nodes: &[(u64, NodeState)], placed: &[u64]) -> Option<Vec<u64>> {
        let mut changes = plan(&known(nodes, placed));
        let (_, placement) = changes.pop()?;
        assert_eq!(placement.epoch, 8);
        Some(placement.nodes)
    }

    use NodeState::{Active, Draining, Gone, Joining};

    /// Two copies agree on nothing once one of them fails, and cost what three cost.
    #[test]
    fn one_node_grows_to_three_and_never_to_two() {
        assert_eq!(planned(&[(1, Active)], &[1]), None);
        assert_eq!(planned(&[(1, Active), (2, Active)], &[1]), None);
        let joining = [(1, Active), (2, Active), (3, Joining)];
        assert_eq!(planned(&joining, &[1]), None);
        let three = [(1, Active), (2, Active), (3, Active)];
        assert_eq!(planned(&three, &[1]), Some(vec![1, 2, 3]));
        assert_eq!(planned(&three, &[1, 2, 3]), None);
    }

    #[test]
    fn a_node_that_drains_or_is_gone_is_replaced_when_another_one_is_there() {
        for leaving in [Draining, Gone] {
            let three = [(1, Active), (2, leaving), (3, Active)];
            assert_eq!(planned(&three, &[1, 2, 3]), None);
            let four = [(1, Active), (2, leaving), (3, Active), (4, Active)];
            assert_eq!(planned(&four, &[1, 2, 3]), Some(vec![1, 3, 4]));
        }
    }

    #[test]
    fn five_founders_keep_five_copies() {
        let five = [1, 2, 3, 4, 5].map(|node| (node, Active));
        assert_eq!(planned(&five, &[1, 2, 3, 4, 5]), None);
        let six = [1, 2, 3, 4, 5, 6].map(|node| (node, if node == 2 { Gone } else { Active }));
        assert_eq!(planned(&six, &[1, 2, 3, 4, 5]), Some(vec![1, 3, 4, 5, 6]));
    }
}
