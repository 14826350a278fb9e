//! The nodes of the cluster, in group 0: who joined, who gives its groups away, who is gone.
//!
//! ```text
//!   (none) --join--> joining --> active <--> draining --> gone
//!                       |          +---- by force --------^
//!                       +---------------------------------^
//! ```
//! Always true:
//! * an id belongs to the disk that joined under it, for ever: another one is refused, also after the first is gone;
//! * every change of a row raises its revision, and is made only over the revision that its author saw;
//! * a node is called gone while groups are to lie on it only by force.
//!
//! Failure it prevents: a node with an empty disk takes its old name, and counts as a holder of what it lost.

use minikv_proto::row::NodeState;
use minikv_proto::{entry as wire, row};

use crate::state::answer::{Done, TryAgain};
use crate::state::applying::{Applying, Stop, unsupported};
use crate::state::keys;
use crate::state::record::Malformed;

/// Longest name of a disk, zone or address.
const MAX_NAME: usize = 255;
/// Most groups of a cluster, group 0 too.
const MAX_GROUPS: usize = 257;

impl Applying<'_> {
    /// A disk becomes a node.
    pub fn join_node(&mut self, join: &wire::JoinNode) -> Result<Done, Stop> {
        let asked = join.node.as_ref().ok_or(Malformed("no node"))?;
        let names = [asked.join.len(), asked.zone.len(), asked.address.len()];
        if asked.join.is_empty() || names.iter().any(|len| *len > MAX_NAME) {
            return Err(Malformed("node that joins").into());
        }
        let mut counters = self.counters()?;
        let id = match asked.id {
            0 => counters.node,
            id => id,
        };
        let key = keys::node(id);
        if let Some(known) = self.ledger.row::<row::Node>(&key)? {
            return match known.join == asked.join {
                true => Ok(Done::Number(id)),
                false => Err(unsupported(&format!(
                    "node {id} was another disk; empty this one and let it join under an id that nobody had"
                ))),
            };
        }
        counters.node = counters
            .node
            .max(id.checked_add(1).ok_or(Malformed("id of a node"))?);
        self.ledger.put_row(keys::counters(), &counters)?;
        let node = row::Node {
            id,
            address: asked.address.clone(),
            zone: asked.zone.clone(),
            weight: asked.weight.max(1),
            incarnation: 1,
            joined_ms: self.now_ms,
            removed: false,
            state: NodeState::Joining as i32,
            join: asked.join.clone(),
            revision: 1,
        };
        self.ledger.put_row(key, &node)?;
        Ok(Done::Number(id))
    }

    /// A node's state changes.
    pub fn set_node_state(&mut self, set: &wire::SetNodeState) -> Result<Done, Stop> {
        let key = keys::node(set.node);
        let mut node: row::Node = self
            .ledger
            .row(&key)?
            .ok_or_else(|| unsupported("no such node"))?;
        if node.revision != set.revision {
            return Err(TryAgain::StaleEpoch(node.revision).into());
        }
        let to = NodeState::try_from(set.state).map_err(|_| Malformed("state of a node"))?;
        let from = NodeState::try_from(node.state).map_err(|_| Malformed("state of a node"))?;
        use NodeState::{Active, Draining, Gone, Joining};
        match (from, to) {
            (from, to) if from == to => return Ok(Done::Number(node.revision)),
            (Joining | Draining, Active) | (Active, Draining) | (Joining | Draining, Gone) => {}
            (Active, Gone) if set.forced => {}
            (Active, Gone) => return Err(unsupported("removing a node that was not drained")),
            _ => {
                return Err(unsupported(&format!(
                    "a node that is {from:?} becomes {to:?}"
                )));
            }
        }
        if to == Gone && !set.forced {
            for (key, placed) in self.ledger.scan(&keys::placements(), MAX_GROUPS)? {
                let placed: row::Placement = crate::state::ledger::decode(&key, placed)?;
                if placed.nodes.contains(&set.node) {
                    return Err(unsupported("removing a node on which groups are to lie"));
                }
            }
        }
        node.state = to as i32;
        node.removed = to == Gone;
        node.revision += 1;
        self.ledger.put_row(key, &node)?;
        Ok(Done::Number(node.revision))
    }
}
