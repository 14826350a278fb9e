//! openraft's types, filled in, and how they look in the log. Only `raft_*.rs` name openraft.
//!
//! ```text
//!   an entry's bytes:  0                       blank (a new leader's first entry)
//!                      0 | Membership          openraft's voters and learners (proto below)
//!                      Entry | inline payload  a command, as `state::entry` lays it out: its length comes first, never 0
//! ```
//! Always true:
//! * there is one leader per term (`leader_id_std`), so (group, index, term) names one entry for ever: the payload
//!   identity that records use;
//! * what cannot be read stops the reader: an entry is never skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use bytes::{Buf, Bytes};
use openraft::impls::BasicNode;
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, LogId, Membership, StoredMembership, Vote};
use prost::Message;

use crate::env::runtime::EnvRuntime;
use crate::ids::NodeId;
use crate::log::{self, LogEntry};

openraft::declare_raft_types!(
    /// What openraft is made of here.
    pub(crate) Types:
        D = Command,
        R = Answer,
        NodeId = u64,
        Node = BasicNode,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>,
        AsyncRuntime = EnvRuntime,
);

pub(crate) type Leader = <Types as openraft::RaftTypeConfig>::LeaderId;
pub(crate) type Committed = <Leader as RaftLeaderId>::Committed;
pub(crate) type RaftVote = Vote<Leader>;
pub(crate) type RaftLogId = LogId<Committed>;
pub(crate) type RaftEntry = <Types as openraft::RaftTypeConfig>::Entry;
pub(crate) type RaftMembership = Membership<u64, BasicNode>;
pub(crate) type RaftStoredMembership = StoredMembership<Committed, u64, BasicNode>;

/// What applying an entry answered. Entries that are not ours (blank, membership) answer `None`.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Answer(pub Option<crate::state::answer::Answer>);

/// A command on its way through openraft: already the bytes that the log keeps.
#[derive(Clone)]
pub(crate) struct Command {
    /// As `state::entry` encoded it.
    pub bytes: Bytes,
    /// The inline payload: the last so many of `bytes`.
    pub payload_len: u32,
}

/// First byte of what is no command. An `Entry` is never empty, so its length is never 0.
const NO_COMMAND: u8 = 0;

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.bytes.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An entry as the log keeps it.
pub(crate) fn to_log(entry: RaftEntry) -> LogEntry {
    let (bytes, payload_len) = match entry.payload {
        EntryPayload::Blank => (Bytes::from_static(&[NO_COMMAND]), 0),
        EntryPayload::Normal(command) => (command.bytes, command.payload_len),
        EntryPayload::Membership(membership) => {
            let mut out = vec![NO_COMMAND];
            out.extend_from_slice(&encode_membership(&membership));
            (Bytes::from(out), 0)
        }
    };
    LogEntry {
        id: to_log_id(&entry.log_id),
        bytes,
        payload_len,
        payload_damaged: false,
    }
}

/// An entry as openraft wants it.
pub(crate) fn from_log(entry: LogEntry) -> io::Result<RaftEntry> {
    let payload = match entry.bytes.split_first() {
        Some((&NO_COMMAND, [])) => EntryPayload::Blank,
        Some((&NO_COMMAND, membership)) => EntryPayload::Membership(decode_membership(membership)?),
        Some(_) => EntryPayload::Normal(Command {
            bytes: entry.bytes.clone(),
            payload_len: entry.payload_len,
        }),
        None => {
            let what = format!("log entry {} has no bytes", entry.id.index);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
    };
    Ok(openraft::Entry {
        log_id: log_id(entry.id.term, entry.id.index),
        payload,
    })
}

pub(crate) fn to_log_id(id: &RaftLogId) -> log::LogId {
    log::LogId {
        term: term_of(id),
        // One leader per term: the term names it.
        node: 0,
        index: id.index,
    }
}

pub(crate) fn from_log_id(id: log::LogId) -> RaftLogId {
    log_id(id.term, id.index)
}

pub(crate) fn log_id(term: u64, index: u64) -> RaftLogId {
    LogId::new(Leader::new(term, 0).to_committed(), index)
}

pub(crate) fn term_of(id: &RaftLogId) -> u64 {
    **id.committed_leader_id()
}

// ---- votes ----

#[derive(Clone, PartialEq, Message)]
struct VoteRow {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(bool, tag = "3")]
    committed: bool,
}

pub(crate) fn encode_vote(vote: &RaftVote) -> Bytes {
    VoteRow {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for,
        committed: vote.committed,
    }
    .encode_to_vec()
    .into()
}

/// How far the term jumps when an operator accepts a loss: the lost entries or votes may have used as many.
const TERM_JUMP: u64 = 1 << 20;

/// A vote of a single voter for itself, in a term that nothing lost can have used.
pub(crate) fn term_after(
    vote: Option<Bytes>,
    last: Option<log::LogId>,
    node: NodeId,
) -> io::Result<Bytes> {
    let voted = vote.map(decode_vote).transpose()?;
    let voted = voted.map_or(0, |vote| vote.leader_id.term);
    let term = voted.max(last.map_or(0, |id| id.term)) + TERM_JUMP;
    Ok(encode_vote(&Vote::new(term, node.0)))
}

/// The voters of a state's membership, in two sets while they change; none: it has no membership yet.
pub(crate) fn voters_of(mark: &super::replica::Mark) -> io::Result<Vec<BTreeSet<NodeId>>> {
    if mark.membership.is_empty() {
        return Ok(Vec::new());
    }
    let stored = decode_stored_membership(mark.membership.clone())?;
    let sets = stored.membership().get_joint_config().iter();
    let sets = sets.map(|set| set.iter().copied().map(NodeId).collect());
    Ok(sets.collect())
}

pub(crate) fn decode_vote(bytes: Bytes) -> io::Result<RaftVote> {
    let row = VoteRow::decode(bytes).map_err(invalid)?;
    Ok(raft_vote(row.term, row.node, row.committed))
}

pub(crate) fn raft_vote(term: u64, node: u64, committed: bool) -> RaftVote {
    match committed {
        true => Vote::new_committed(term, node),
        false => Vote::new(term, node),
    }
}

// ---- membership ----

#[derive(Clone, PartialEq, Message)]
struct MembershipRow {
    // One set of voters; two while joint.
    #[prost(message, repeated, tag = "1")]
    voters: Vec<VoterSet>,
    // Voters and learners, ascending by id.
    #[prost(message, repeated, tag = "2")]
    nodes: Vec<NodeRow>,
}

#[derive(Clone, PartialEq, Message)]
struct VoterSet {
    #[prost(uint64, repeated, tag = "1")]
    nodes: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeRow {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    address: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredMembershipRow {
    #[prost(message, optional, tag = "1")]
    membership: Option<MembershipRow>,
    // Log id of its entry; absent: none yet.
    #[prost(uint64, optional, tag = "2")]
    term: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    index: Option<u64>,
}

fn membership_row(membership: &RaftMembership) -> MembershipRow {
    MembershipRow {
        voters: membership
            .get_joint_config()
            .iter()
            .map(|set| VoterSet {
                nodes: set.iter().copied().collect(),
            })
            .collect(),
        nodes: membership
            .nodes()
            .map(|(id, node)| NodeRow {
                id: *id,
                address: node.addr.clone(),
            })
            .collect(),
    }
}

fn membership_of(row: MembershipRow) -> io::Result<RaftMembership> {
    let voters: Vec<BTreeSet<u64>> = row
        .voters
        .into_iter()
        .map(|set| set.nodes.into_iter().collect())
        .collect();
    let nodes: BTreeMap<u64, BasicNode> = row
        .nodes
        .into_iter()
        .map(|node| (node.id, BasicNode::new(node.address)))
        .collect();
    Membership::new(voters, nodes).map_err(invalid)
}

fn encode_membership(membership: &RaftMembership) -> Vec<u8> {
    membership_row(membership).encode_to_vec()
}

fn decode_membership(bytes: impl Buf) -> io::Result<RaftMembership> {
    membership_of(MembershipRow::decode(bytes).map_err(invalid)?)
}

/// The last applied membership, as the applied mark keeps it.
pub(crate) fn encode_stored_membership(stored: &RaftStoredMembership) -> Bytes {
    StoredMembershipRow {
        membership: Some(membership_row(stored.membership())),
        term: stored.log_id().as_ref().map(term_of),
        index: stored.log_id().as_ref().map(|id| id.index),
    }
    .encode_to_vec()
    .into()
}

pub(crate) fn decode_stored_membership(bytes: Bytes) -> io::Result<RaftStoredMembership> {
    let row = StoredMembershipRow::decode(bytes).map_err(invalid)?;
    let at = row
        .term
        .zip(row.index)
        .map(|(term, index)| log_id(term, index));
    let membership = match row.membership {
        Some(membership) => membership_of(membership)?,
        None => Membership::default(),
    };
    Ok(StoredMembership::new(at, membership))
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use openraft::entry::RaftPayload;

    use super::*;

    /// A group whose membership is between two sets (joint) must come back exactly so after a restart.
    #[test]
    fn joint_membership_survives_the_log() {
        let voters = vec![BTreeSet::from([1]), BTreeSet::from([1, 2, 3])];
        let nodes: BTreeMap<u64, BasicNode> = (1..=4)
            .map(|id| (id, BasicNode::new(format!("10.0.0.{id}:9002"))))
            .collect();
        let entry = openraft::Entry {
            log_id: log_id(7, 41),
            payload: EntryPayload::Membership(Membership::new(voters, nodes).unwrap()),
        };
        let back = from_log(to_log(entry.clone())).unwrap();
        assert_eq!(format!("{back:?}"), format!("{entry:?}"));
        let stored =
            StoredMembership::new(Some(log_id(7, 41)), entry.payload.get_membership().unwrap());
        assert_eq!(
            decode_stored_membership(encode_stored_membership(&stored)).unwrap(),
            stored
        );
    }
}
