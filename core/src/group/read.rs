//! Reading a group's state so that the answer holds everything acknowledged before the question.
//!
//! Always true:
//! * nothing is read before this member has applied an entry of a new term of its own since the process started: what
//!   was agreed on before is then in the state;
//! * with several voters a read joins a confirmation round that starts after it arrived (ReadIndex);
//! * a single voter needs none: an answer is given only after apply, so the engine holds all that was acknowledged;
//! * a group that turned read-only by damage still reads; what is damaged answers an error with its name, never "absent";
//! * one whose state lacks entries that it acknowledged answers nothing: it cannot know which keys they changed.

use super::raft_handle::ConfirmError;
use super::{Group, Standing};
use crate::engine::{EngineError, View};
use crate::kv::KvError;

impl Group {
    /// Waits until reading the engine is linearizable.
    pub(crate) async fn confirm_read(&self) -> Result<(), KvError> {
        match self.standing() {
            Standing::Starting => {
                return Err(KvError::Unavailable(format!("{} is starting", self.id)));
            }
            Standing::ReadOnly(_) => return Ok(()),
            Standing::Behind(why) => return Err(KvError::Damaged(why)),
            Standing::Serving { single_voter: true } => return Ok(()),
            Standing::Serving {
                single_voter: false,
            } => {}
        }
        let Some(raft) = self.raft() else {
            return Err(KvError::Unavailable(format!(
                "{} is not running here",
                self.id
            )));
        };
        // Boxed: a read that needs no round need not carry the room for one.
        Box::pin(raft.confirm_read())
            .await
            .map_err(|error| match error {
                ConfirmError::NoQuorum(why) | ConfirmError::Stopped(why) => {
                    KvError::Unavailable(format!("{}: {why}", self.id))
                }
            })
    }

    /// A consistent view, at least as new as this call.
    pub(crate) async fn read(&self) -> Result<Box<dyn View>, KvError> {
        self.confirm_read().await?;
        Ok(self.replica.view())
    }
}

/// What a reader is told of an engine that could not answer.
pub(crate) fn unreadable(error: EngineError) -> KvError {
    match error.is_damage() {
        true => KvError::Damaged(error.to_string()),
        false => KvError::Unavailable(error.to_string()),
    }
}
