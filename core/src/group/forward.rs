//! Bringing a command to the member that leads, wherever that is.
//!
//! ```text
//!   here: no leader ── wait ──┐        leads here ── openraft ── answer
//!         leads elsewhere ── propose (same session, same sequence) ── answer
//!                              └── no answer: nobody knows. Again, to whoever leads then: it counts once
//! ```
//! Always true:
//! * a command that may have been proposed is sent again only under its own session and sequence, so it happens once;
//!   what carries no session is idempotent by state;
//! * the time of an entry is the time of the leader that proposed it, not of the gateway that asked;
//! * room on the disk is the leader's to judge, before it proposes.

use std::time::Duration;

use bytes::Bytes;
use minikv_proto::peer::{self, ask, proposed, reply};

use super::Group;
use super::command::Proposal;
use super::peers::Peers;
use super::propose::{LEADER_WAIT, Sent};
use super::raft_handle::{RaftHandle, WriteError};
use super::session::Sequence;
use crate::env::clock;
use crate::ids::NodeId;
use crate::kv::KvError;
use crate::log::WriteKind;
use crate::state::answer::Answer;

/// How long one delivery may take: agreed on and applied, on the slowest disk of a majority.
const DELIVERY: Duration = Duration::from_secs(3);
/// Between two deliveries.
const PAUSE: Duration = Duration::from_millis(50);

/// What came of one delivery.
enum Delivered {
    Answered(Answer),
    /// It certainly was not proposed.
    NotProposed(String),
    /// It may or may not have been.
    Unknown(String),
    NoRoom(String),
}

impl Group {
    pub(super) async fn send_to_leader(
        &self,
        peers: &dyn Peers,
        proposal: &mut Proposal<'_>,
        sequence: Option<&Sequence>,
        kind: WriteKind,
    ) -> Result<Sent, KvError> {
        let deadline = clock::now() + LEADER_WAIT;
        let mut only_once = true;
        loop {
            let raft = self.raft();
            if raft.is_none() && self.elsewhere.is_none() {
                let why = format!("{} is not running here", self.id);
                return Err(not_done(only_once, why));
            }
            let leader = match (&self.elsewhere, &raft) {
                (Some(way), _) => way.next(self.id),
                (None, raft) => raft.as_ref().and_then(RaftHandle::leader),
            };
            let command = match sequence {
                Some(_) if !only_once && crate::planted!("retry-without-session") => None,
                sequence => sequence.map(Sequence::command),
            };
            let delivered = match (leader, &raft) {
                (None, _) => Delivered::NotProposed("nobody leads".to_owned()),
                (Some(leader), Some(raft)) if leader == self.replica.node => {
                    propose(raft, proposal.stamp(command)).await
                }
                (Some(leader), _) => {
                    let command = proposal.stamp(command);
                    self.deliver(peers, leader, command.bytes, kind).await
                }
            };
            let why = match delivered {
                Delivered::Answered(answer) => return Ok(Sent { answer, only_once }),
                Delivered::NoRoom(why) if only_once => return Err(KvError::NoRoom(why)),
                Delivered::NoRoom(why) | Delivered::NotProposed(why) => why,
                Delivered::Unknown(why) => {
                    only_once = false;
                    why
                }
            };
            if clock::now() >= deadline {
                return Err(not_done(only_once, format!("{}: {why}", self.id)));
            }
            clock::sleep(PAUSE).await;
        }
    }

    async fn deliver(
        &self,
        peers: &dyn Peers,
        leader: NodeId,
        entry: Bytes,
        kind: WriteKind,
    ) -> Delivered {
        use proposed::Outcome;
        let propose = ask::What::Propose(peer::Propose {
            entry,
            releasing: kind != WriteKind::Ordinary,
        });
        let asked = peers.ask(leader, self.id, propose, DELIVERY).await;
        if let Some(way) = &self.elsewhere {
            match &asked {
                Ok(reply::What::Proposed(said)) if is_refused(said) => {
                    way.turn_from(leader);
                    if said.leader != 0 {
                        way.turn_to(said.leader);
                    }
                }
                Ok(reply::What::Proposed(_)) => way.turn_to(leader.0),
                _ => way.turn_from(leader),
            }
        }
        let said = match asked {
            Ok(reply::What::Proposed(said)) => said.outcome,
            Ok(_) => None,
            Err(error) if crate::planted!("unknown-is-not-done") => {
                return Delivered::NotProposed(error.to_string());
            }
            Err(error) => return Delivered::Unknown(error.to_string()),
        };
        match said {
            Some(Outcome::Answer(answer)) => match Answer::of_wire(answer) {
                Ok(answer) => Delivered::Answered(answer),
                Err(error) => Delivered::Unknown(error.to_string()),
            },
            Some(Outcome::Refused(why)) => Delivered::NotProposed(why),
            Some(Outcome::Unknown(why)) => Delivered::Unknown(why),
            Some(Outcome::NoRoom(why)) => Delivered::NoRoom(why),
            None => Delivered::Unknown("the leader's answer was not understood".to_owned()),
        }
    }

    /// Proposes what another member brought.
    pub(crate) async fn propose_for_peer(&self, asked: peer::Propose) -> peer::Proposed {
        use proposed::Outcome;
        let outcome = match self.proposed(asked).await {
            Delivered::Answered(answer) => Outcome::Answer(answer.to_wire()),
            Delivered::NotProposed(why) => Outcome::Refused(why),
            Delivered::Unknown(why) => Outcome::Unknown(why),
            Delivered::NoRoom(why) => Outcome::NoRoom(why),
        };
        let leader = self.raft().and_then(|raft| raft.leader());
        peer::Proposed {
            outcome: Some(outcome),
            leader: leader.map_or(0, |leader| leader.0),
        }
    }

    async fn proposed(&self, asked: peer::Propose) -> Delivered {
        let raft = match self.raft() {
            Some(raft) if raft.leader() == Some(self.replica.node) => raft,
            _ => return Delivered::NotProposed("does not lead".to_owned()),
        };
        let kind = match asked.releasing {
            true => WriteKind::Releasing,
            false => WriteKind::Ordinary,
        };
        let _permit = match self.admit(kind, asked.entry.len()).await {
            Ok(permit) => permit,
            Err(KvError::NoRoom(why)) => return Delivered::NoRoom(why),
            Err(error) => return Delivered::NotProposed(error.to_string()),
        };
        let mut frame = match crate::state::entry::decode(&asked.entry) {
            Ok(frame) => frame,
            Err(error) => return Delivered::NotProposed(error.to_string()),
        };
        let payload = asked
            .entry
            .slice(frame.payload.start as usize..frame.payload.end as usize);
        let command = frame.entry.command.take();
        match Proposal::of_entry(frame.entry, &payload) {
            Ok(mut proposal) => propose(&raft, proposal.stamp(command)).await,
            Err(error) => Delivered::NotProposed(error.to_string()),
        }
    }
}

fn is_refused(said: &peer::Proposed) -> bool {
    matches!(said.outcome, Some(proposed::Outcome::Refused(_)))
}

/// Has openraft agree on it here.
async fn propose(raft: &RaftHandle, command: super::raft_types::Command) -> Delivered {
    match clock::timeout(DELIVERY, raft.write(command)).await {
        Ok(Ok(answer)) => match answer.0 {
            Some(answer) => Delivered::Answered(answer),
            None => Delivered::Unknown("no answer".to_owned()),
        },
        // A leader that stepped down says the same of commands that it had taken.
        Ok(Err(WriteError::NotLeading)) => Delivered::Unknown("led no more".to_owned()),
        Ok(Err(WriteError::Stopped(why))) => Delivered::Unknown(why),
        Err(_) => Delivered::Unknown("no majority in time".to_owned()),
    }
}

fn not_done(only_once: bool, why: String) -> KvError {
    match only_once {
        true => KvError::Unavailable(why),
        false => KvError::Unknown(why),
    }
}
