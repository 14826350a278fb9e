//! One group's consensus as the rest of the core sees it: write, confirm a read, checkpoint, purge, stop.
//!
//! openraft's settings live here (CORE 4, with their reasons), its errors end here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::impls::BasicNode;
use openraft::metrics::WaitError;
use openraft::{ChangeMembers, Config, ReadPolicy, ServerState, SnapshotPolicy};

use super::peers::Peers;
use super::raft_log::RaftLog;
use super::raft_network::RaftNetwork;
use super::raft_state_machine::StateMachine;
use super::raft_types::{Answer, Command, Types, term_of};
use crate::env::clock;
use crate::ids::{GroupId, NodeId};

/// How long one node may take to lead in this one's place, before the next is asked.
const HAND_OVER: Duration = Duration::from_millis(500);

/// Why a command was not agreed on, as far as this node can tell.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// This node does not lead the group; it proposed nothing.
    #[error("no leader here")]
    NotLeading,
    /// The group stopped on this node while the command was under way: it may or may not have been agreed on.
    #[error("{0}")]
    Stopped(String),
}

/// Why a read could not be confirmed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ConfirmError {
    /// This node does not lead, or could not reach a majority.
    #[error("no leader with a majority: {0}")]
    NoQuorum(String),
    /// The group stopped on this node.
    #[error("{0}")]
    Stopped(String),
}

/// What openraft says of a group.
#[derive(Clone, Debug)]
pub(crate) struct RaftStanding {
    pub leads: bool,
    pub term: u64,
    /// Index of the newest checkpoint that openraft has heard of.
    pub snapshot: u64,
    pub voters: usize,
    /// Whom else its log goes to, learners too.
    pub others: usize,
}

/// openraft's membership of a group, as its newest entry has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RaftMembers {
    /// Two sets while they change.
    pub voters: Vec<BTreeSet<u64>>,
    pub learners: BTreeSet<u64>,
    /// Whether that entry is agreed on.
    pub is_agreed: bool,
}

impl RaftMembers {
    /// All of them.
    pub(crate) fn nodes(&self) -> BTreeSet<u64> {
        let voters = self.voters.iter().flatten();
        voters.chain(&self.learners).copied().collect()
    }
}

/// A running member of a group.
#[derive(Clone)]
pub(crate) struct RaftHandle {
    raft: openraft::Raft<Types, StateMachine>,
}

/// In our words: openraft prints all its metrics, with times of the real clock, which no two runs share.
fn waited(error: WaitError, what: &str) -> String {
    match error {
        WaitError::Timeout(..) => what.to_owned(),
        WaitError::ShuttingDown => error.to_string(),
    }
}

fn config(group: GroupId, may_campaign: bool) -> Config {
    Config {
        cluster_name: group.to_string(),
        heartbeat_interval: 150,
        election_timeout_min: 400,
        election_timeout_max: 600,
        // An old leader that still reaches some of us must not keep a connected majority from electing (#2080).
        // At least leader lease (600) + election timeout (600).
        quorum_loss_probe_interval: Some(1_500),
        // A node that was cut off comes back without forcing an election.
        enable_pre_vote: Some(true),
        // After a start nothing is answered before an entry of a new term has been applied.
        enable_leader_restore: Some(crate::planted!("leader-restored-at-start")),
        // Checkpoints are ours to time (checkpoint.rs): by bytes of log and overlay, not by count.
        snapshot_policy: SnapshotPolicy::Never,
        // Purging too: up to the durable checkpoint, minus bytes for members that lag.
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: 600_000,
        // The log of a member that came back begins with memberships of long ago, in which it may be the only voter.
        enable_elect: may_campaign,
        ..Config::default()
    }
}

impl RaftHandle {
    /// Recovers this member's Raft state and starts it. `may_campaign`: as in `may_lead`.
    pub(crate) async fn start(
        node: NodeId,
        group: GroupId,
        log: RaftLog,
        state: StateMachine,
        peers: Arc<dyn Peers>,
        may_campaign: bool,
    ) -> Result<RaftHandle, String> {
        let config = config(group, may_campaign)
            .validate()
            .map_err(|error| error.to_string())?;
        let network = RaftNetwork { group, peers };
        let raft = openraft::Raft::new(node.0, Arc::new(config), network, log, state)
            .await
            .map_err(|error| error.to_string())?;
        Ok(RaftHandle { raft })
    }

    /// Makes these nodes the voters of a group that has never had any. No error when it has members already.
    pub(crate) async fn form(&self, voters: &[NodeId]) -> Result<(), String> {
        let initialized = self.raft.is_initialized().await;
        if initialized.map_err(|error| error.to_string())? {
            return Ok(());
        }
        // Which address a node has is the network's affair: it changes without an entry.
        let members = voters.iter().map(|node| (node.0, BasicNode::new("")));
        let members: BTreeMap<u64, BasicNode> = members.collect();
        let formed = self.raft.initialize(members).await;
        formed.map_err(|error| error.to_string())
    }

    /// Campaigns now instead of after an election timeout: right for a single voter, which has nobody to disturb.
    pub(crate) async fn campaign(&self) -> Result<(), String> {
        let asked = self.raft.trigger().elect(false).await;
        asked.map_err(|error| error.to_string())
    }

    /// Waits until this node leads and has applied an entry of its own term.
    pub(crate) async fn leading(&self, timeout: Duration) -> Result<(), String> {
        let wait = self.raft.wait(Some(timeout));
        let led = wait.metrics(
            |metrics| {
                metrics.running_state.is_err()
                    || (metrics.state == ServerState::Leader
                        && metrics
                            .last_applied
                            .as_ref()
                            .is_some_and(|at| term_of(at) == metrics.current_term))
            },
            "leads and applied an entry of its term",
        );
        let metrics = led
            .await
            .map_err(|error| waited(error, "this node did not lead in time"))?;
        metrics.running_state.map_err(|error| error.to_string())
    }

    /// Has the group agree on a command and apply it here.
    pub(crate) async fn write(&self, command: Command) -> Result<Answer, WriteError> {
        match self.raft.client_write(command).await {
            Ok(done) => Ok(done.data),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Err(WriteError::NotLeading)
            }
            Err(RaftError::APIError(error)) => Err(WriteError::Stopped(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(WriteError::Stopped(error.to_string())),
        }
    }

    /// ReadIndex: an index that holds everything agreed before this call. Taken first; then this node was confirmed as
    /// leader by a round that began after it.
    pub(crate) async fn read_index(&self) -> Result<u64, ConfirmError> {
        if crate::planted!("read-without-round") {
            let watched = self.raft.metrics();
            let applied = watched.borrow_watched().last_applied;
            return Ok(applied.map_or(0, |at| at.index));
        }
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(read) => Ok(read.read_log_id().index()),
            Err(RaftError::APIError(
                error @ (LinearizableReadError::ForwardToLeader(_)
                | LinearizableReadError::QuorumNotEnough(_)),
            )) => Err(ConfirmError::NoQuorum(error.to_string())),
            Err(error) => Err(ConfirmError::Stopped(error.to_string())),
        }
    }

    /// Waits until everything up to `index` has been applied here.
    pub(crate) async fn applied(&self, index: u64, patience: Duration) -> Result<(), String> {
        let wait = self.raft.wait(Some(patience));
        let applied = wait.metrics(
            |metrics| {
                metrics.running_state.is_err()
                    || metrics
                        .last_applied
                        .as_ref()
                        .is_some_and(|at| at.index >= index)
            },
            "has applied what was agreed",
        );
        let metrics = applied
            .await
            .map_err(|error| waited(error, "what was agreed on is not applied here yet"))?;
        metrics.running_state.map_err(|error| error.to_string())
    }

    /// Waits until this node leads a term other than `known`; that term. An error: the group stopped here.
    pub(crate) async fn leads_anew(&self, known: u64) -> Result<u64, String> {
        let wait = self.raft.wait(None);
        let led = wait.metrics(
            |metrics| {
                metrics.running_state.is_err()
                    || (metrics.state == ServerState::Leader && metrics.current_term != known)
            },
            "leads",
        );
        let metrics = led.await.map_err(|error| error.to_string())?;
        metrics.running_state.map_err(|error| error.to_string())?;
        Ok(metrics.current_term)
    }

    /// Why openraft ended here, if it did.
    pub(crate) fn ended(&self) -> Option<String> {
        let watched = self.raft.metrics();
        let metrics = watched.borrow_watched();
        metrics
            .running_state
            .as_ref()
            .err()
            .map(ToString::to_string)
    }

    /// The voter that has most of this leader's log. `None`: this node does not lead, or is alone.
    pub(crate) fn successor(&self) -> Option<NodeId> {
        let watched = self.raft.metrics();
        let metrics = watched.borrow_watched();
        let others = metrics.replication.as_ref()?.iter();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let others = others.filter(|(node, _)| **node != metrics.id && voters.contains(node));
        let best = others.max_by_key(|(_, matched)| matched.as_ref().map(|at| at.index));
        best.map(|(node, _)| NodeId(*node))
    }

    /// Asks another voter to lead, and waits for nothing.
    pub(crate) async fn ask_to_lead(&self, to: NodeId) -> Result<(), String> {
        let asked = self.raft.trigger().transfer_leader(to.0).await;
        asked.map_err(|error| error.to_string())
    }

    /// Whether it campaigns when nobody leads, and keeps others from it while it leads itself.
    pub(crate) fn may_lead(&self, may_campaign: bool, may_go_on: bool) {
        let settings = self.raft.runtime_config();
        settings.elect(may_campaign);
        settings.heartbeat(may_go_on);
    }

    /// Who leads, as far as this node knows.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let watched = self.raft.metrics();
        watched.borrow_watched().current_leader.map(NodeId)
    }

    pub(super) fn raft(&self) -> &openraft::Raft<Types, StateMachine> {
        &self.raft
    }

    /// Asks for a checkpoint; the state machine's builder makes it.
    pub(crate) async fn checkpoint(&self) -> Result<(), String> {
        let asked = self.raft.trigger().snapshot().await;
        asked.map_err(|error| error.to_string())
    }

    /// Lets the log forget everything up to `index` that a durable checkpoint holds.
    pub(crate) async fn purge(&self, index: u64) -> Result<(), String> {
        let asked = self.raft.trigger().purge_log(index).await;
        asked.map_err(|error| error.to_string())
    }

    pub(crate) fn standing(&self) -> RaftStanding {
        let watched = self.raft.metrics();
        let metrics = watched.borrow_watched();
        RaftStanding {
            leads: metrics.state == ServerState::Leader,
            term: metrics.current_term,
            snapshot: metrics.snapshot.as_ref().map_or(0, |at| at.index),
            voters: metrics.membership_config.voter_ids().count(),
            others: metrics.membership_config.nodes().count().saturating_sub(1),
        }
    }

    /// The membership behind everything that was asked of this member before.
    pub(crate) async fn members(&self) -> Result<RaftMembers, String> {
        let members = self.raft.with_raft_state(|state| {
            let newest = state.membership_state.effective();
            let agreed = state.membership_state.committed();
            RaftMembers {
                voters: newest.get_joint_config().clone(),
                learners: newest.membership().learner_ids().collect(),
                is_agreed: newest.log_id() == agreed.log_id(),
            }
        });
        members.await.map_err(|error| error.to_string())
    }

    /// The membership, as it was not long ago.
    pub(crate) fn members_lately(&self) -> RaftMembers {
        let watched = self.raft.metrics();
        let metrics = watched.borrow_watched();
        let newest = &metrics.membership_config;
        RaftMembers {
            voters: newest.get_joint_config().clone(),
            learners: newest.membership().learner_ids().collect(),
            is_agreed: newest.log_id() == metrics.committed_membership_config.log_id(),
        }
    }

    /// Sends a node the log from now on. Agreed on when this returns.
    pub(crate) async fn add_learner(&self, node: u64) -> Result<(), String> {
        let added = self.raft.add_learner(node, BasicNode::new(""), false);
        added.await.map(drop).map_err(|error| error.to_string())
    }

    /// Sends it to a learner no more.
    pub(crate) async fn remove_learner(&self, node: u64) -> Result<(), String> {
        let change = ChangeMembers::RemoveNodes([node].into());
        let changed = self.raft.change_membership(change, false);
        changed.await.map(drop).map_err(|error| error.to_string())
    }

    /// Makes these the voters, by way of a joint membership; who is none of them is nothing any more. Also ends a change that
    /// another leader began.
    pub(crate) async fn change_voters(&self, voters: &BTreeSet<u64>) -> Result<(), String> {
        let change = ChangeMembers::ReplaceAllVoters(voters.clone());
        let changed = self.raft.change_membership(change, false);
        changed.await.map(drop).map_err(|error| error.to_string())
    }

    /// Asks one of these to lead, those that have most of the log first, until one does. False: this node still leads.
    pub(crate) async fn hand_over(&self, to: &BTreeSet<u64>, patience: Duration) -> bool {
        let deadline = clock::now() + patience;
        let mut known: Vec<(u64, u64)> = {
            let watched = self.raft.metrics();
            let metrics = watched.borrow_watched();
            let index_of = |node: &u64| {
                let matched = metrics.replication.as_ref()?.get(node)?.as_ref()?;
                Some(matched.index)
            };
            to.iter()
                .map(|node| (index_of(node).unwrap_or(0), *node))
                .collect()
        };
        known.sort_unstable();
        while let Some((_, node)) = known.pop() {
            if let Err(error) = self.ask_to_lead(NodeId(node)).await {
                tracing::debug!(%error, node, "leadership was not handed over");
                return false;
            }
            // An election round there, and the news of it.
            let until = deadline.min(clock::now() + HAND_OVER);
            while clock::now() < until {
                if !self.standing().leads {
                    return true;
                }
                clock::sleep(Duration::from_millis(10)).await;
            }
            if clock::now() >= deadline {
                break;
            }
        }
        !self.standing().leads
    }

    /// The voters as this member knows them; two sets while they change. Empty: it knows of none yet.
    pub(crate) fn voters(&self) -> Vec<BTreeSet<NodeId>> {
        let watched = self.raft.metrics();
        let metrics = watched.borrow_watched();
        let sets = metrics.membership_config.membership().get_joint_config();
        let nodes = |set: &BTreeSet<u64>| set.iter().copied().map(NodeId).collect();
        sets.iter().map(nodes).collect()
    }

    /// Stops; entries under way may or may not have been agreed on.
    pub(crate) async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "a group did not stop cleanly");
        }
    }
}
