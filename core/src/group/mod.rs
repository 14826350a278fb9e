//! Groups: a copy of the state on each member, and entries they agree on.
//!
//! ```text
//!   propose ──> raft_handle ──> openraft ──> raft_log (entries durable) ──> raft_state_machine ──> replica ──> engine
//!   read ─────────────────────────────────────────────────────────────────────────────────────────> view
//! ```
//! With several members each of them proposes and reads through the one that leads (`forward`, `read`), and hears the
//! others through `peers`.
//! Only `raft_*.rs` name openraft.

pub(crate) mod bring_back;
pub(crate) mod checkpoint;
pub(crate) mod command;
pub(crate) mod confirm;
pub(crate) mod elsewhere;
mod fetched;
pub(crate) mod forward;
pub(crate) mod hand_over;
pub(crate) mod install;
#[cfg(all(test, feature = "interleave"))]
mod interleaved;
pub(crate) mod leader_memory;
pub(crate) mod lifecycle;
pub(crate) mod membership;
pub(crate) mod membership_driver;
mod moments;
pub(crate) mod peers;
pub(crate) mod pending;
pub(crate) mod propose;
pub(crate) mod raft_handle;
pub(crate) mod raft_log;
pub(crate) mod raft_network;
pub(crate) mod raft_state_machine;
#[cfg(test)]
mod raft_suite;
pub(crate) mod raft_types;
pub(crate) mod raft_wire;
pub(crate) mod read;
pub(crate) mod registry;
pub(crate) mod repair;
pub(crate) mod replay;
pub(crate) mod replica;
pub(crate) mod roster;
pub(crate) mod session;
pub(crate) mod shipping;
pub(crate) mod sweep;
pub(crate) mod touch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use self::checkpoint::Pressure;
use self::elsewhere::Elsewhere;
use self::install::Installer;
use self::leader_memory::LeaderMemory;
use self::moments::Moments;
use self::peers::{NoPeers, Peers};
use self::raft_handle::RaftHandle;
use self::raft_log::RaftLog;
use self::raft_state_machine::StateMachine;
use self::read::Rounds;
use self::replica::Replica;
use self::session::Session;
use crate::chunk::fetch::Silent;
use crate::ids::{GroupId, NodeId};
use crate::log::Log;

/// What a member of a group does right now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Replaying, electing: answers nothing.
    Starting,
    /// Reads and writes.
    Serving {
        /// No other voter: reads need no confirmation.
        single_voter: bool,
    },
    /// Damaged: reads what it has, which is all that it acknowledged; agrees on nothing. Says what to do.
    ReadOnly(String),
    /// Damaged, and its state lacks entries that it acknowledged: any key may be newer than what is here, so it answers
    /// nothing. Says what to do.
    Behind(String),
    /// Its peers refuse this node. Says why, and what to do.
    Refused(String),
}

/// This node's member of a group.
pub(crate) struct Group {
    pub id: GroupId,
    pub replica: Arc<Replica>,
    pub log: Arc<Log>,
    pub pressure: Arc<Pressure>,
    pub memory: LeaderMemory,
    /// Members on other nodes; `None`: this node is the only one, and all of them.
    pub peers: Option<Arc<dyn Peers>>,
    /// It lies on other nodes: nothing of it is here.
    pub elsewhere: Option<Elsewhere>,
    /// Held for nodes that have no member.
    moments: Arc<Moments>,
    /// Whom it asked for bytes in vain.
    pub(crate) silent: Silent,
    /// Before this copy has applied this entry it votes for nobody; 0: it may.
    floor: AtomicU64,
    /// Until then: who votes, as the leader told that asked this node to be a member, and in which term.
    told_voters: Mutex<(u64, BTreeSet<NodeId>)>,
    installer: Arc<Installer>,
    rounds: Arc<Rounds>,
    standing: RwLock<Standing>,
    raft: RwLock<Option<RaftHandle>>,
    session: RwLock<Option<Arc<Session>>>,
    opening_session: tokio::sync::Mutex<()>,
}

impl Group {
    pub(crate) fn new(
        replica: Arc<Replica>,
        log: Arc<Log>,
        pressure: Arc<Pressure>,
        peers: Option<Arc<dyn Peers>>,
    ) -> Group {
        if peers.is_some() {
            replica.wants.collect();
        }
        Group {
            id: replica.id,
            replica,
            log,
            pressure,
            memory: LeaderMemory::new(),
            peers,
            elsewhere: None,
            moments: Arc::default(),
            silent: Silent::default(),
            floor: AtomicU64::new(0),
            told_voters: Mutex::default(),
            installer: Arc::default(),
            rounds: Arc::default(),
            standing: RwLock::new(Standing::Starting),
            raft: RwLock::new(None),
            session: RwLock::new(None),
            opening_session: tokio::sync::Mutex::new(()),
        }
    }

    /// Whether this copy may vote and campaign. One that came back to a node which had removed it has forgotten what it
    /// acknowledged: an old candidate, whose membership still names it, must not win by its vote.
    pub(crate) fn may_vote(&self) -> bool {
        self.floor() == 0 || crate::planted!("rehosted-votes-at-once")
    }

    pub(crate) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    pub(crate) fn set_floor(&self, floor: u64) {
        self.floor.store(floor, Ordering::Release);
    }

    /// A leader of this term asked this node to be a member, and told who votes.
    pub(crate) fn told_voters(&self, term: u64, voters: BTreeSet<NodeId>) {
        let mut told = self.told_voters.lock();
        if term >= told.0 {
            *told = (term, voters);
        }
    }

    /// While this copy comes to the group, and has not what was agreed on when it was asked to: who votes, as it was told
    /// since the start; empty: not yet.
    pub(crate) fn coming(&self) -> Option<BTreeSet<NodeId>> {
        (self.floor() > 0).then(|| self.told_voters.lock().1.clone())
    }

    pub(crate) fn standing(&self) -> Standing {
        let standing = self.standing.read().clone();
        match (standing, self.replica.stop_reason()) {
            // A single voter that stopped applying has acknowledged nothing that its engine lacks.
            (Standing::Serving { single_voter: true }, Some(why)) => Standing::ReadOnly(why),
            (standing, _) => standing,
        }
    }

    /// What this member may still do once something of it is damaged (`what`).
    pub(crate) fn hurt(&self, what: &str) -> Standing {
        if self.peers.is_some() {
            // What this copy holds may be old: the others went on without it.
            return Standing::Behind(format!("does not take part: {what}"));
        }
        let last = self.log.log_state(self.id).last;
        let certain = last.map_or(0, |at| at.index);
        match self.replica.applied() >= certain && !self.log.hurt(self.id).tail_lost {
            true => Standing::ReadOnly(format!("read-only: {what}")),
            false => Standing::Behind(format!("neither reads nor writes: {what}")),
        }
    }

    /// Rows that this copy had cannot be read any more. Until they are back, the group gives nothing up: those rows may
    /// name bytes that look like garbage.
    pub(crate) fn lacks_rows(&self) -> bool {
        let damage = self.replica.engine.damage();
        damage.iter().any(|one| !one.healable)
    }

    pub(crate) fn stand(&self, standing: Standing) {
        *self.standing.write() = standing;
    }

    /// Whether this member leads, and has led for as long as `memory` says.
    pub(crate) fn leads(&self) -> bool {
        self.raft().is_some_and(|raft| {
            let standing = raft.standing();
            standing.leads && self.memory.is_of_term(standing.term)
        })
    }

    /// Starts this member's Raft on what its log and its state hold.
    pub(crate) async fn start_raft(&self) -> Result<RaftHandle, String> {
        let log = RaftLog::new(self.replica.store.clone(), self.id);
        let state = StateMachine::new(self.replica.clone());
        let peers: Arc<dyn Peers> = match &self.peers {
            Some(peers) => peers.clone(),
            None => Arc::new(NoPeers),
        };
        let node = self.replica.node;
        RaftHandle::start(node, self.id, log, state, peers, self.may_vote()).await
    }

    pub(crate) fn raft(&self) -> Option<RaftHandle> {
        self.raft.read().clone()
    }

    pub(crate) fn set_raft(&self, raft: Option<RaftHandle>) {
        *self.raft.write() = raft;
    }
}
