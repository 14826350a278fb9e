//! What an operator asks of the cluster through a node: who is in it, give this node's groups away, take it out.
//!
//! Always true:
//! * a node is removed only when no group has a member there, unless that is forced: then it is lost, and what it alone held
//!   is lost with it;
//! * every refusal says what to do instead.

use std::collections::{BTreeMap, BTreeSet};

use minikv_proto::entry as wire;
use minikv_proto::row::{self, MemberRole, NodeState};

use super::running::Node;
use crate::group::roster::{Known, state_of};
use crate::ids::GroupId;
use crate::kv::{KvError, Refusal};
use crate::shard::planner::COPIES;
use crate::state::answer::{Answer, TryAgain};
use crate::state::entry::Body;
use crate::state::read;

/// The row changes under our hands so often.
const TRIES: usize = 16;

/// How a node stands in its cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Membership {
    /// It is about to keep groups.
    Joining,
    /// It keeps groups.
    Active,
    /// It gives its groups away.
    Draining,
    /// It was removed.
    Gone,
}

/// A node as the directory has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterNode {
    /// Its id.
    pub id: u64,
    /// How it stands.
    pub membership: Membership,
    /// Its zone; may be empty.
    pub zone: String,
    /// Its share of groups.
    pub weight: u32,
    /// The groups that are to lie on it.
    pub groups: Vec<u16>,
}

/// Why the cluster does not change so. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nobody has this id.
    #[error("there is no node {0} in this cluster; look at its status for those there are")]
    NoSuchNode(u64),
    /// It was removed before.
    #[error("node {0} was removed before; an empty disk joins under a new id")]
    Gone(u64),
    /// Groups still have members there.
    #[error(
        "node {node} still has members of groups {groups:?}; drain it and wait until it has none, or, if it is lost for \
         good, remove it by force"
    )]
    StillHolds {
        /// The node.
        node: u64,
        /// Their numbers.
        groups: Vec<u16>,
    },
    /// Groups would have nowhere to go.
    #[error(
        "{left} active nodes would stay and groups need {needed}; let another node join first, or, if this one is lost for \
         good, remove it by force"
    )]
    TooFew {
        /// Active nodes without it.
        left: usize,
        /// Copies that a group has.
        needed: usize,
    },
    /// The directory does not want it.
    #[error("{0}")]
    Refused(String),
    /// The directory could not be asked.
    #[error(transparent)]
    Kv(#[from] KvError),
}

fn membership_of(node: &row::Node) -> Membership {
    match state_of(node) {
        NodeState::Joining => Membership::Joining,
        NodeState::Active => Membership::Active,
        NodeState::Draining => Membership::Draining,
        NodeState::Gone => Membership::Gone,
    }
}

/// Whether the groups have somewhere to go without this node.
fn enough_without(known: &Known, node: u64) -> Result<(), ClusterError> {
    let active = known.nodes.values();
    let active = active.filter(|other| state_of(other) == NodeState::Active && other.id != node);
    let left = active.count();
    let copies = known.placements.values().map(|placed| placed.nodes.len());
    let needed = copies.max().unwrap_or(0).max(COPIES);
    match left >= needed {
        true => Ok(()),
        false => Err(ClusterError::TooFew { left, needed }),
    }
}

impl Node {
    /// The nodes of the cluster.
    pub async fn cluster(&self) -> Result<Vec<ClusterNode>, KvError> {
        let known = self.directory_now().await?;
        let groups_of = |node: u64| {
            let placed = known.placements.iter();
            let here = placed.filter(|(_, placed)| placed.nodes.contains(&node));
            here.map(|(group, _)| group.0).collect()
        };
        let nodes = known.nodes.values().map(|node| ClusterNode {
            id: node.id,
            membership: membership_of(node),
            zone: node.zone.clone(),
            weight: node.weight,
            groups: groups_of(node.id),
        });
        Ok(nodes.collect())
    }

    /// Has all groups of a node go to others; it serves meanwhile. Answered when that was decided, not when it is done.
    pub async fn drain(&self, node: u64) -> Result<(), ClusterError> {
        enough_without(&self.directory_now().await?, node)?;
        self.change(node, NodeState::Draining, false).await
    }

    /// Takes a drain back.
    pub async fn undrain(&self, node: u64) -> Result<(), ClusterError> {
        self.change(node, NodeState::Active, false).await
    }

    /// Takes a node out of the cluster for ever. By force: also one that groups have members on, because it is lost.
    pub async fn remove(&self, node: u64, forced: bool) -> Result<(), ClusterError> {
        if !forced {
            let known = self.directory_now().await?;
            enough_without(&known, node)?;
            // First where they are to lie, then where they do: a leader that takes a node in asks in the other order.
            let placed = known.placements.iter();
            let placed = placed.filter(|(_, placed)| placed.nodes.contains(&node));
            let mut groups: Vec<u16> = placed.map(|(group, _)| group.0).collect();
            if !groups.is_empty() {
                return Err(ClusterError::StillHolds { node, groups });
            }
            for group in (0..=known.data_groups).map(GroupId) {
                if self.members_of(group).await?.contains(&node) {
                    groups.push(group.0);
                }
            }
            if !groups.is_empty() {
                return Err(ClusterError::StillHolds { node, groups });
            }
        }
        self.change(node, NodeState::Gone, forced).await
    }

    /// Who keeps each group, and how: as this node's copies have it.
    pub fn members(&self) -> BTreeMap<u16, Vec<(u64, MemberRole)>> {
        let mut all = BTreeMap::new();
        for group in self.router.groups.all() {
            let members = read::members(&*group.replica.view()).unwrap_or_default();
            let role = |member: &row::Member| {
                let role = MemberRole::try_from(member.role).unwrap_or(MemberRole::Learner);
                (member.node, role)
            };
            all.insert(group.id.0, members.iter().map(role).collect());
        }
        all
    }

    async fn members_of(&self, group: GroupId) -> Result<BTreeSet<u64>, KvError> {
        let members = self.hosts.members_anywhere(group).await;
        let members = members.map_err(|why| KvError::Unavailable(format!("{group}: {why}")))?;
        Ok(members.into_iter().collect())
    }

    async fn directory_now(&self) -> Result<Known, KvError> {
        self.router.directory()?.ask(Known::read).await
    }

    async fn change(&self, node: u64, to: NodeState, forced: bool) -> Result<(), ClusterError> {
        for _ in 0..TRIES {
            let known = self.directory_now().await?;
            let row = known.nodes.get(&node);
            let row = row.ok_or(ClusterError::NoSuchNode(node))?;
            match state_of(row) {
                state if state == to => return Ok(()),
                NodeState::Gone => return Err(ClusterError::Gone(node)),
                _ => {}
            }
            let body = Body::SetNodeState(wire::SetNodeState {
                node,
                revision: row.revision,
                state: to as i32,
                forced,
            });
            match self.router.directory()?.own(body).await? {
                Answer::Done(_) => return Ok(()),
                Answer::TryAgain(TryAgain::StaleEpoch(_)) => {}
                Answer::Refused(Refusal::Unsupported(why)) => {
                    return Err(ClusterError::Refused(why));
                }
                other => {
                    return Err(KvError::Unavailable(format!("group 0: {other:?}")).into());
                }
            }
        }
        Err(KvError::Unavailable("the node changes too fast".to_owned()).into())
    }
}
