//! What a node knows of the directory without asking group 0: who is in the cluster, and where groups are to lie.
//!
//! It is a copy that lags, and may be heard from anybody: every node passes on what it knows. Nothing is decided by it alone:
//! who changes a group's members asks the group's own state (`group::membership`), who drops a copy asks the members.
//!
//! Always true: what is known of a node or a group only moves forward, by revision and by epoch.

use std::collections::{BTreeMap, BTreeSet};

use minikv_proto::peer;
use minikv_proto::row::{self, NodeState};
use parking_lot::RwLock;

use crate::engine::{EngineError, View};
use crate::ids::{GroupId, NodeId};
use crate::state::read;

/// What is known.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Known {
    pub nodes: BTreeMap<u64, row::Node>,
    pub placements: BTreeMap<GroupId, row::Placement>,
    /// 0: nothing was heard yet.
    pub data_groups: u16,
}

/// See the file's header.
#[derive(Default)]
pub(crate) struct Roster {
    known: RwLock<Known>,
}

/// The state of a node's row.
pub(crate) fn state_of(node: &row::Node) -> NodeState {
    // What this version does not know is nothing to build on.
    NodeState::try_from(node.state).unwrap_or(NodeState::Gone)
}

impl Known {
    /// As group 0's rows have it.
    pub(crate) fn read(view: &dyn View) -> Result<Known, EngineError> {
        let cluster = read::cluster(view)?;
        let nodes = read::nodes(view)?;
        let placements = read::placements(view)?;
        Ok(Known {
            nodes: nodes.into_iter().map(|node| (node.id, node)).collect(),
            placements: placements.into_iter().collect(),
            data_groups: cluster.map_or(0, |cluster| cluster.data_groups as u16),
        })
    }

    /// For a message.
    pub(crate) fn to_wire(&self) -> peer::DirectoryIs {
        let placements = self.placements.iter();
        peer::DirectoryIs {
            nodes: self.nodes.values().cloned().collect(),
            placements: placements
                .map(|(group, placement)| peer::GroupPlacement {
                    group: u32::from(group.0),
                    placement: Some(placement.clone()),
                })
                .collect(),
            data_groups: u32::from(self.data_groups),
        }
    }

    /// Of a message.
    pub(crate) fn of_wire(said: peer::DirectoryIs) -> Known {
        let placements = said.placements.into_iter().filter_map(|placed| {
            let group = u16::try_from(placed.group).ok()?;
            Some((GroupId(group), placed.placement?))
        });
        Known {
            nodes: said.nodes.into_iter().map(|node| (node.id, node)).collect(),
            placements: placements.collect(),
            data_groups: u16::try_from(said.data_groups).unwrap_or(0),
        }
    }

    /// Nodes that are part of the cluster.
    pub(crate) fn present(&self) -> impl Iterator<Item = NodeId> + '_ {
        let nodes = self.nodes.values();
        let present = nodes.filter(|node| state_of(node) != NodeState::Gone);
        present.map(|node| NodeId(node.id))
    }

    /// Whether a node was removed.
    pub(crate) fn is_gone(&self, node: NodeId) -> bool {
        let node = self.nodes.get(&node.0);
        node.is_some_and(|node| state_of(node) == NodeState::Gone)
    }

    /// The nodes that a group is to lie on; `None`: nobody said.
    pub(crate) fn wanted(&self, group: GroupId) -> Option<BTreeSet<u64>> {
        let placement = self.placements.get(&group)?;
        Some(placement.nodes.iter().copied().collect())
    }

    fn learn(&mut self, heard: Known) -> bool {
        let mut news = false;
        for (id, node) in heard.nodes {
            let is_news = match self.nodes.get(&id) {
                Some(known) => known.revision < node.revision,
                None => true,
            };
            if is_news {
                self.nodes.insert(id, node);
                news = true;
            }
        }
        for (group, placement) in heard.placements {
            let is_news = match self.placements.get(&group) {
                Some(known) => known.epoch < placement.epoch,
                None => true,
            };
            if is_news {
                self.placements.insert(group, placement);
                news = true;
            }
        }
        if self.data_groups == 0 && heard.data_groups != 0 {
            self.data_groups = heard.data_groups;
            news = true;
        }
        news
    }
}

impl Roster {
    /// Takes what is newer; whether anything was.
    pub(crate) fn learn(&self, heard: Known) -> bool {
        {
            let known = self.known.read();
            if known.nodes == heard.nodes
                && known.placements == heard.placements
                && known.data_groups == heard.data_groups
            {
                return false;
            }
        }
        self.known.write().learn(heard)
    }

    /// All that is known.
    pub(crate) fn known(&self) -> Known {
        self.known.read().clone()
    }

    /// Looks at it.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(revision: u64, state: NodeState, epoch: u64, nodes: &[u64]) -> Known {
        let node = row::Node {
            id: 4,
            revision,
            state: state as i32,
            ..row::Node::default()
        };
        let placement = row::Placement {
            nodes: nodes.to_vec(),
            epoch,
        };
        Known {
            nodes: [(4, node)].into(),
            placements: [(GroupId(1), placement)].into(),
            data_groups: 2,
        }
    }

    /// Rumours arrive late and in any order.
    #[test]
    fn what_is_known_of_the_cluster_only_moves_forward() {
        let roster = Roster::default();
        assert!(roster.learn(heard(2, NodeState::Active, 5, &[1, 2, 4])));
        assert!(!roster.learn(heard(1, NodeState::Joining, 4, &[1, 2, 3])));
        assert_eq!(
            roster.with(|known| known.wanted(GroupId(1))),
            Some([1, 2, 4].into())
        );
        assert!(roster.learn(heard(3, NodeState::Gone, 5, &[1, 2, 4])));
        assert!(roster.with(|known| known.is_gone(NodeId(4))));
        assert!(!roster.learn(heard(2, NodeState::Active, 5, &[1, 2, 4])));
        assert!(roster.with(|known| known.is_gone(NodeId(4))));
        let back = Known::of_wire(roster.known().to_wire());
        assert_eq!(back, roster.known());
    }
}
