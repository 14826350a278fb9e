//! openraft's messages as they travel, and what this member says to those that arrive.
//!
//! Always true: what cannot be understood is an error on both sides, never an empty answer. An answer that could be taken
//! for a grant comes from openraft only.

use std::io;

use minikv_proto::peer::{self, ask, reply};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use super::install::Arrived;
use super::raft_handle::RaftHandle;
use super::raft_state_machine::arrived_snapshot;
use super::raft_types::{
    RaftEntry, RaftLogId, RaftVote, Types, from_log, log_id, raft_vote, term_of, to_log,
};
use crate::log::{LogEntry, LogId};

fn lacks(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a message without {what}"),
    )
}

// ---- parts ----

fn id_out(id: &RaftLogId) -> peer::LogId {
    peer::LogId {
        term: term_of(id),
        index: id.index,
    }
}

fn id_in(id: Option<peer::LogId>) -> Option<RaftLogId> {
    id.map(|id| log_id(id.term, id.index))
}

pub(super) fn vote_out(vote: &RaftVote) -> peer::RaftVote {
    peer::RaftVote {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(super) fn vote_in(vote: Option<peer::RaftVote>) -> io::Result<RaftVote> {
    let vote = vote.ok_or_else(|| lacks("vote"))?;
    Ok(raft_vote(vote.term, vote.node, vote.committed))
}

fn entry_out(entry: RaftEntry) -> peer::LogEntry {
    let entry = to_log(entry);
    peer::LogEntry {
        id: Some(peer::LogId {
            term: entry.id.term,
            index: entry.id.index,
        }),
        data: entry.bytes,
        payload_len: entry.payload_len,
    }
}

fn entry_in(entry: peer::LogEntry) -> io::Result<RaftEntry> {
    let id = entry.id.ok_or_else(|| lacks("the id of an entry"))?;
    if entry.payload_len as usize > entry.data.len() {
        return Err(lacks("the whole payload of an entry"));
    }
    from_log(LogEntry {
        id: LogId {
            term: id.term,
            node: 0,
            index: id.index,
        },
        bytes: entry.data,
        payload_len: entry.payload_len,
        payload_damaged: false,
    })
}

// ---- append ----

pub(super) fn append_out(request: AppendEntriesRequest<Types>) -> ask::What {
    ask::What::Append(peer::Append {
        vote: Some(vote_out(&request.vote)),
        previous: request.prev_log_id.as_ref().map(id_out),
        entries: request.entries.into_iter().map(entry_out).collect(),
        committed: request.leader_commit.as_ref().map(id_out),
    })
}

fn append_in(append: peer::Append) -> io::Result<AppendEntriesRequest<Types>> {
    let entries: io::Result<Vec<RaftEntry>> = append.entries.into_iter().map(entry_in).collect();
    Ok(AppendEntriesRequest {
        vote: vote_in(append.vote)?,
        prev_log_id: id_in(append.previous),
        entries: entries?,
        leader_commit: id_in(append.committed),
    })
}

fn appended_out(response: AppendEntriesResponse<Types>) -> reply::What {
    use peer::appended::Outcome;
    let mut appended = peer::Appended::default();
    let outcome = match response {
        AppendEntriesResponse::Success => Outcome::All,
        AppendEntriesResponse::PartialSuccess(upto) => {
            appended.upto = upto.as_ref().map(id_out);
            Outcome::Some
        }
        AppendEntriesResponse::Conflict => Outcome::Conflict,
        AppendEntriesResponse::HigherVote(vote) => {
            appended.vote = Some(vote_out(&vote));
            Outcome::Higher
        }
    };
    appended.set_outcome(outcome);
    reply::What::Appended(appended)
}

pub(super) fn appended_in(what: reply::What) -> io::Result<AppendEntriesResponse<Types>> {
    use peer::appended::Outcome;
    let reply::What::Appended(appended) = what else {
        return Err(lacks("the answer to an append"));
    };
    Ok(match appended.outcome() {
        Outcome::All => AppendEntriesResponse::Success,
        Outcome::Some => AppendEntriesResponse::PartialSuccess(id_in(appended.upto)),
        Outcome::Conflict => AppendEntriesResponse::Conflict,
        Outcome::Higher => AppendEntriesResponse::HigherVote(vote_in(appended.vote)?),
        Outcome::Unknown => return Err(lacks("an outcome")),
    })
}

// ---- votes ----

pub(super) fn vote_request_out(request: VoteRequest<Types>, pre: bool) -> ask::What {
    let vote = peer::Vote {
        vote: Some(vote_out(&request.vote)),
        last: request.last_log_id.as_ref().map(id_out),
        transfer: request.leadership_transfer,
    };
    match pre {
        true => ask::What::PreVote(vote),
        false => ask::What::Vote(vote),
    }
}

fn vote_request_in(vote: peer::Vote) -> io::Result<VoteRequest<Types>> {
    let mut last = id_in(vote.last);
    if crate::planted!("vote-for-a-shorter-log") {
        // As long as any: the voter's own check is passed.
        last = vote.vote.map(|asks| log_id(asks.term, u64::MAX / 2));
    }
    let mut request = VoteRequest::new(vote_in(vote.vote)?, last);
    request.leadership_transfer = vote.transfer;
    Ok(request)
}

fn voted_out(response: VoteResponse<Types>) -> reply::What {
    reply::What::Voted(peer::Voted {
        vote: Some(vote_out(&response.vote)),
        last: response.last_log_id.as_ref().map(id_out),
        granted: response.vote_granted,
    })
}

pub(super) fn voted_in(what: reply::What) -> io::Result<VoteResponse<Types>> {
    let reply::What::Voted(voted) = what else {
        return Err(lacks("the answer to a vote"));
    };
    Ok(VoteResponse::new(
        vote_in(voted.vote)?,
        id_in(voted.last),
        voted.granted,
    ))
}

// ---- hand-over ----

pub(super) fn transfer_out(request: &TransferLeaderRequest<Types>) -> ask::What {
    ask::What::Transfer(peer::Transfer {
        from: Some(vote_out(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(id_out),
    })
}

fn transfer_in(transfer: peer::Transfer) -> io::Result<TransferLeaderRequest<Types>> {
    Ok(TransferLeaderRequest::new(
        vote_in(transfer.from)?,
        transfer.to,
        id_in(transfer.last),
    ))
}

impl RaftHandle {
    /// What this member says to a message of another one's openraft; `None`: it was none.
    pub(crate) async fn answer(&self, what: ask::What) -> Option<Result<reply::What, String>> {
        let raft = self.raft();
        let said = match what {
            ask::What::Append(append) => match append_in(append) {
                Ok(request) => raft
                    .append_entries(request)
                    .await
                    .map(appended_out)
                    .map_err(said),
                Err(error) => Err(said(error)),
            },
            ask::What::Vote(vote) => match vote_request_in(vote) {
                Ok(request) => raft.vote(request).await.map(voted_out).map_err(said),
                Err(error) => Err(said(error)),
            },
            ask::What::PreVote(vote) => match vote_request_in(vote) {
                Ok(request) => raft.pre_vote(request).await.map(voted_out).map_err(said),
                Err(error) => Err(said(error)),
            },
            ask::What::Transfer(transfer) => match transfer_in(transfer) {
                Ok(request) => match raft.handle_transfer_leader(request).await {
                    Ok(Ok(())) => Ok(reply::What::Transferred(peer::Transferred {})),
                    Ok(Err(error)) => Err(said(error)),
                    Err(error) => Err(said(error)),
                },
                Err(error) => Err(said(error)),
            },
            // No message of openraft: somebody else answers those.
            _ => return None,
        };
        Some(said)
    }
}

impl RaftHandle {
    /// Has openraft switch to a checkpoint of the leader with this vote; the vote that this member then has. An error if it
    /// has a newer one: then nothing was switched, and a leader that has that newer vote by now would take the answer for a
    /// success, and count on what is not here.
    pub(super) async fn install(
        &self,
        vote: peer::RaftVote,
        arrived: Arrived,
    ) -> Result<peer::RaftVote, String> {
        let vote = vote_in(Some(vote)).map_err(said)?;
        let snapshot = arrived_snapshot(arrived).map_err(said)?;
        let installed = self.raft().install_full_snapshot(vote, snapshot).await;
        let now = installed.map_err(said)?.vote;
        if now != vote && !crate::planted!("refused-state-is-installed") {
            return Err(format!("not taken from {vote}: it is {now} by now"));
        }
        Ok(vote_out(&now))
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use openraft::EntryPayload;

    use super::*;
    use crate::group::raft_types::Command;

    /// What one node sends another reads; nothing is lost on the way.
    #[test]
    fn messages_arrive_as_they_were_sent() {
        let command = Command {
            bytes: Bytes::from_static(b"\x03entry and payload"),
            payload_len: 7,
        };
        let request = AppendEntriesRequest {
            vote: raft_vote(7, 2, true),
            prev_log_id: Some(log_id(6, 40)),
            entries: vec![
                openraft::Entry {
                    log_id: log_id(7, 41),
                    payload: EntryPayload::Blank,
                },
                openraft::Entry {
                    log_id: log_id(7, 42),
                    payload: EntryPayload::Normal(command),
                },
            ],
            leader_commit: None,
        };
        let ask::What::Append(sent) = append_out(request.clone()) else {
            panic!("an append");
        };
        assert_eq!(
            format!("{:?}", append_in(sent).unwrap()),
            format!("{request:?}")
        );
        for response in [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(Some(log_id(1, 2))),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(raft_vote(9, 3, false)),
        ] {
            assert_eq!(
                appended_in(appended_out(response.clone())).unwrap(),
                response
            );
        }
        let vote = VoteResponse::new(raft_vote(9, 3, false), Some(log_id(8, 1)), true);
        assert_eq!(voted_in(voted_out(vote.clone())).unwrap(), vote);
    }

    /// A reply that says nothing is a failure, not a grant and not a success.
    #[test]
    fn an_empty_reply_grants_nothing() {
        let empty = reply::What::Appended(peer::Appended::default());
        assert!(appended_in(empty).is_err());
        let empty = reply::What::Voted(peer::Voted::default());
        assert!(voted_in(empty).is_err());
        let other = reply::What::Transferred(peer::Transferred {});
        assert!(voted_in(other).is_err());
    }
}
