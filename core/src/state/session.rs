//! Sessions and results: a command that is delivered twice, late or out of order happens once.
//!
//! A gateway opens a session in each group; every command says (session, sequence, lowest open sequence).
//!
//! ```text
//!   closed, results deleted | open: result kept or still to come        | never used
//!   ------------------------+-------------------------------------------+-----------
//!                        lowest                                      highest
//! ```
//! Always true:
//! * a sequence has at most one final result, and whoever delivers it again gets that one;
//! * what comes for a closed sequence, or for an unknown session, changes nothing: its outcome stays unknown;
//! * an answer to try again leaves no result: the same sequence may be delivered again and then be decided.

use minikv_proto::entry as wire;
use minikv_proto::row;

use crate::ids::TxnId;
use crate::state::answer::{Answer, Done, TryAgain};
use crate::state::applying::{Applying, Stop, unsupported};
use crate::state::keys;
use crate::state::ledger::{damaged, decode};

/// Results that a session keeps at most; its gateway waits then.
pub const WINDOW: u64 = 4096;
/// Results that one command deletes at most; each leaves one.
const SWEEP: u64 = 32;
/// Sessions that one entry ends, and results that it deletes.
const MAX_END: usize = 20;
const MAX_RESULTS: usize = 300;

/// What a session says of a command.
pub(super) enum Admission {
    /// It happened before: this was the answer.
    Known(Answer),
    /// It must not happen now.
    Not(TryAgain),
    /// It may happen; its answer will be kept.
    New(row::Session),
}

impl Applying<'_> {
    pub fn admit_command(&mut self, command: &wire::Command) -> Result<Admission, Stop> {
        let session: Option<row::Session> = self.ledger.row(&keys::session(command.session))?;
        let Some(session) = session.filter(|session| !session.ended) else {
            return Ok(Admission::Not(TryAgain::SessionGone));
        };
        if command.sequence < session.lowest || command.sequence < command.lowest {
            return Ok(Admission::Not(TryAgain::SessionGone));
        }
        if command.sequence <= session.highest && !crate::planted!("session-result-not-looked-up") {
            let key = keys::result(command.session, command.sequence);
            if let Some(result) = self.ledger.get(&key)? {
                let answer =
                    Answer::of_wire(decode(&key, result)?).map_err(|m| damaged(&key, m.0))?;
                return Ok(Admission::Known(answer));
            }
        }
        if command.sequence >= session.lowest.max(command.lowest).saturating_add(WINDOW) {
            return Ok(Admission::Not(TryAgain::NotYet));
        }
        Ok(Admission::New(session))
    }

    /// Keeps a final answer, and lets go of those that nobody will ask for.
    pub fn keep_result(
        &mut self,
        command: &wire::Command,
        mut session: row::Session,
        answer: &Answer,
    ) -> Result<(), Stop> {
        let result = keys::result(command.session, command.sequence);
        if command.sequence > session.highest {
            self.ledger.put_new_row(result, &answer.to_wire())?;
            session.highest = command.sequence;
        } else {
            self.ledger.put_row(result, &answer.to_wire())?;
        }
        session.lowest = session.lowest.max(command.lowest);
        let sweep_to = session.lowest.min(session.swept.saturating_add(SWEEP));
        for sequence in session.swept..sweep_to {
            self.ledger
                .delete(keys::result(command.session, sequence))?;
        }
        session.swept = session.swept.max(sweep_to);
        Ok(self
            .ledger
            .put_row(keys::session(command.session), &session)?)
    }

    /// The index of this entry is the session's id.
    pub fn open_session(&mut self, open: &wire::OpenSession) -> Result<Done, Stop> {
        let session = row::Session {
            opened_ms: self.now_ms,
            lowest: 1,
            swept: 1,
            gateway: open.gateway.clone(),
            ..row::Session::default()
        };
        self.ledger
            .put_new_row(keys::session(self.group.index), &session)?;
        Ok(Done::Session(self.group.index))
    }

    /// Ends sessions at once; their results go in as many entries as it takes.
    pub fn end_sessions(&mut self, end: &wire::EndSessions) -> Result<Done, Stop> {
        if end.sessions.len() > MAX_END {
            return Err(unsupported("more than 20 sessions in one entry"));
        }
        let mut room = MAX_RESULTS;
        let mut more = false;
        for &id in &end.sessions {
            let key = keys::session(id);
            let Some(mut session) = self.ledger.row::<row::Session>(&key)? else {
                continue;
            };
            let results = self.ledger.scan(&keys::results(id), room + 1)?;
            let left = results.len() > room;
            for (result, _) in results.into_iter().take(room) {
                self.ledger.delete(result)?;
                room -= 1;
            }
            if left {
                session.ended = true;
                more = true;
                self.ledger.put_row(key, &session)?;
            } else {
                self.ledger.delete(key)?;
            }
        }
        Ok(Done::More(more))
    }

    /// Nobody can deliver the `pending` of this transaction any more.
    pub fn is_closed(&mut self, txn: TxnId) -> Result<bool, Stop> {
        let session: Option<row::Session> = self.ledger.row(&keys::session(txn.session))?;
        Ok(session.is_none_or(|session| session.ended || session.lowest > txn.sequence))
    }
}
