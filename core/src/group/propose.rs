//! Having a group agree on a command, once.
//!
//! ```text
//!   room on the disk? ── bytes under way? ── session, sequence ── openraft ── applied ── answer
//!                                                              (several members: to whoever leads, `forward`)
//! ```
//! Always true:
//! * nothing waits behind this point: back-pressure is the permit taken here, never inside openraft or the log;
//! * a command is proposed under one session only, unless it is certain that it was never agreed on under the first;
//! * an answer that cannot be learned is `Unknown`, and nobody here proposes the command again.

use std::sync::Arc;
use std::time::Duration;

use super::command::Proposal;
use super::raft_handle::WriteError;
use super::session::{Sequence, Session};
use super::{Group, Standing};
use crate::env::clock;
use crate::kv::KvError;
use crate::log::{Permit, Stream, WriteKind};
use crate::state::answer::{Answer, Done, TryAgain};
use crate::state::entry::Body;

/// How long a command may look for a leader.
pub(super) const LEADER_WAIT: Duration = Duration::from_secs(5);
/// How often somebody who waits for an answer asks whether the disk still answers.
const HEALTH_CHECK: Duration = Duration::from_millis(500);

/// A place in this process's session of a group, for a command whose content names it.
pub(crate) struct Ticket {
    sequence: Sequence,
}

impl Ticket {
    pub(crate) fn session(&self) -> u64 {
        self.sequence.session().id
    }

    pub(crate) fn number(&self) -> u64 {
        self.sequence.number()
    }
}

impl Group {
    /// Proposes a command of this gateway and waits for its answer.
    pub(crate) async fn command(
        &self,
        body: Body,
        payload: &[u8],
        kind: WriteKind,
    ) -> Result<Answer, KvError> {
        let mut proposal = Proposal::new(body, payload)?;
        let _permit = self.admit(kind, proposal.len()).await?;
        for _ in 0..2 {
            let session = self.session().await?;
            let sequence = session.take().await;
            let sent = self.send(&mut proposal, Some(&sequence), kind).await?;
            match self.settled(sent, &session)? {
                Some(answer) => return Ok(answer),
                // It came once, and came too late: it was not done and cannot be any more. A new session is safe.
                None => drop(sequence),
            }
        }
        Err(KvError::Unavailable(format!(
            "{}: sessions end too fast",
            self.id
        )))
    }

    /// Takes the place of a command before the command is made.
    pub(crate) async fn ticket(&self) -> Result<Ticket, KvError> {
        let session = self.session().await?;
        Ok(Ticket {
            sequence: session.take().await,
        })
    }

    /// As `command`, at a place that was taken before. After an answer to try again it may be delivered there once more.
    pub(crate) async fn command_under(
        &self,
        ticket: &Ticket,
        body: Body,
        payload: &[u8],
        kind: WriteKind,
    ) -> Result<Answer, KvError> {
        let mut proposal = Proposal::new(body, payload)?;
        let _permit = self.admit(kind, proposal.len()).await?;
        let sent = self
            .send(&mut proposal, Some(&ticket.sequence), kind)
            .await?;
        let answer = self.settled(sent, ticket.sequence.session())?;
        answer.ok_or_else(|| KvError::Unavailable(format!("{}: the session ended", self.id)))
    }

    /// The answer; `None`: the session is gone and the command certainly was not done.
    fn settled(&self, sent: Sent, session: &Arc<Session>) -> Result<Option<Answer>, KvError> {
        if sent.answer != Answer::TryAgain(TryAgain::SessionGone) {
            return Ok(Some(sent.answer));
        }
        self.forget_session(session);
        match sent.only_once {
            true => Ok(None),
            false => Err(KvError::Unknown(format!(
                "{}: the session ended while the command was under way",
                self.id
            ))),
        }
    }

    /// Proposes something on the leader's own account: no session, idempotent by state.
    pub(crate) async fn own(&self, body: Body) -> Result<Answer, KvError> {
        let mut proposal = Proposal::new(body, &[])?;
        let kind = WriteKind::Releasing;
        let _permit = self.admit(kind, proposal.len()).await?;
        let sent = self.send(&mut proposal, None, kind).await?;
        Ok(sent.answer)
    }

    pub(super) async fn admit(&self, kind: WriteKind, bytes: usize) -> Result<Permit, KvError> {
        match self.standing() {
            // The others serve, and bring this one back.
            Standing::Behind(why) if self.peers.is_some() => return Err(KvError::Unavailable(why)),
            Standing::ReadOnly(why) | Standing::Behind(why) => return Err(KvError::Damaged(why)),
            _ => {}
        }
        if let Standing::Refused(why) = self.standing() {
            return Err(KvError::Unavailable(why));
        }
        if self.log.is_sick() {
            return Err(KvError::Unavailable(
                "the disk does not finish its fsyncs".to_owned(),
            ));
        }
        // Room is the leader's to judge: a member that is full asks one that is not.
        let is_judge = match (&self.peers, self.raft()) {
            (Some(_), Some(raft)) => raft.leader() == Some(self.replica.node),
            _ => true,
        };
        if is_judge && !self.log.room().admits(kind) {
            return Err(KvError::NoRoom(
                "the disk is nearly full; delete something or make it larger".to_owned(),
            ));
        }
        self.pressure.wait().await;
        let permit = self.log.admit(Stream::Meta, bytes).await;
        permit.map_err(|error| KvError::Unavailable(error.to_string()))
    }

    async fn send(
        &self,
        proposal: &mut Proposal<'_>,
        sequence: Option<&Sequence>,
        kind: WriteKind,
    ) -> Result<Sent, KvError> {
        if let Some(peers) = &self.peers {
            // Boxed: a single node need not carry the room for it.
            return Box::pin(self.send_to_leader(&**peers, proposal, sequence, kind)).await;
        }
        let deadline = clock::now() + LEADER_WAIT;
        let mut sent_before = false;
        loop {
            let Some(raft) = self.raft() else {
                return Err(KvError::Unavailable(format!(
                    "{} is not running here",
                    self.id
                )));
            };
            let command = proposal.stamp(sequence.map(Sequence::command));
            let mut write = std::pin::pin!(raft.write(command));
            let written = loop {
                match clock::timeout(HEALTH_CHECK, &mut write).await {
                    Ok(written) => break written,
                    Err(_) if self.log.is_sick() => {
                        return Err(KvError::Unknown(
                            "the disk does not finish its fsyncs".to_owned(),
                        ));
                    }
                    Err(_) => {}
                }
            };
            match written {
                Ok(answer) => {
                    let Some(answer) = answer.0 else {
                        return Err(KvError::Unknown(format!("{}: no answer", self.id)));
                    };
                    return Ok(Sent {
                        answer,
                        only_once: !sent_before,
                    });
                }
                Err(WriteError::Stopped(why)) => {
                    let why = self.replica.stop_reason().unwrap_or(why);
                    return Err(KvError::Unknown(format!("{}: {why}", self.id)));
                }
                Err(WriteError::NotLeading) => {
                    // A leader that stepped down says the same of commands it had taken; the sequence tells them apart.
                    sent_before = true;
                    if clock::now() >= deadline {
                        return Err(KvError::Unknown(format!("{} has no leader here", self.id)));
                    }
                    clock::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// This process's session in the group, opened if there is none.
    async fn session(&self) -> Result<Arc<Session>, KvError> {
        if let Some(session) = self.session.read().clone() {
            return Ok(session);
        }
        // Boxed: nearly every command finds one and need not carry the room for opening it.
        Box::pin(self.open_session()).await
    }

    async fn open_session(&self) -> Result<Arc<Session>, KvError> {
        let _opening = self.opening_session.lock().await;
        if let Some(session) = self.session.read().clone() {
            return Ok(session);
        }
        let body = Body::OpenSession(minikv_proto::entry::OpenSession {
            gateway: format!("node-{}", self.replica.node.0),
        });
        let mut proposal = Proposal::new(body, &[])?;
        let opened = self
            .send(&mut proposal, None, WriteKind::Releasing)
            .await
            .map_err(|error| match error {
                // Not knowing whether a session was opened is no harm: nobody uses it.
                KvError::Unknown(why) => KvError::Unavailable(why),
                other => other,
            })?;
        match opened.answer {
            Answer::Done(Done::Session(id)) => {
                let session = Arc::new(Session::new(id));
                *self.session.write() = Some(session.clone());
                Ok(session)
            }
            other => Err(KvError::Unavailable(format!(
                "{}: no session: {other:?}",
                self.id
            ))),
        }
    }

    /// Name of this process's session.
    pub(crate) fn own_session(&self) -> Option<u64> {
        self.session.read().as_ref().map(|session| session.id)
    }

    fn forget_session(&self, gone: &Arc<Session>) {
        let mut session = self.session.write();
        if session
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, gone))
        {
            *session = None;
        }
    }
}

pub(super) struct Sent {
    pub answer: Answer,
    /// Nothing of it was sent before the delivery that was answered.
    pub only_once: bool,
}
