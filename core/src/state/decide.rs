//! The coordinator's record of a transaction, and the decision.
//!
//! ```text
//!   (none) --pending--> pending --commit--> committed --+
//!      |                   |                            +--drop--> (none), and its sequence is closed
//!      +------aborted------+-------------> aborted -----+
//! ```
//! Always true:
//! * commit applies only to a pending record, and aborted is never taken back: there is one decision;
//! * a record is dropped only after all participants confirmed and its sequence is closed, so a late `pending` or
//!   `commit` finds nothing and changes nothing.

use minikv_proto::{entry as wire, row};

use crate::kv::Refusal;
use crate::state::answer::{Done, TryAgain};
use crate::state::applying::{Applying, Stop, unsupported};
use crate::state::content::of_row;
use crate::state::intent::{TxnRef, TxnState, txn_id};
use crate::state::keys;
use crate::state::record::Malformed;

impl Applying<'_> {
    /// The transaction begins. Its name is this command's session and sequence, so a late copy is known or closed.
    pub fn pending(&mut self, pending: &wire::Pending) -> Result<Done, Stop> {
        let txn = TxnRef::of_row(pending.txn.as_ref().ok_or(Malformed("no transaction"))?)?;
        let named = |command: &wire::Command| {
            txn.id.coordinator == self.group.id
                && txn.id.session == command.session
                && txn.id.sequence == command.sequence
        };
        if !self.command.as_ref().is_some_and(named) {
            return Err(unsupported(
                "a transaction that is not named by its command",
            ));
        }
        let key = keys::txn(txn.id);
        if let Some(known) = self.ledger.row::<row::Txn>(&key)? {
            match of_row(TxnState::of_row(known.state))? {
                TxnState::Aborted if crate::planted!("pending-over-aborted") => {}
                TxnState::Aborted => return Err(Refusal::Aborted.into()),
                state => return Ok(Done::Txn(state)),
            }
        }
        let record = row::Txn {
            txn: Some(txn.to_row()),
            state: row::TxnState::Pending as i32,
            deadline_ms: pending.deadline_ms,
        };
        self.ledger.put_row(key, &record)?;
        match &pending.own {
            Some(part) => Ok(Done::Transacted(self.prepare_part(&txn, part)?)),
            None => Ok(Done::Txn(TxnState::Pending)),
        }
    }

    /// The decision to commit; the coordinator's own part is carried out with it.
    pub fn commit(&mut self, commit: &wire::Commit) -> Result<Done, Stop> {
        let id = txn_id(commit.txn.as_ref())?;
        let key = keys::txn(id);
        let Some(mut record) = self.ledger.row::<row::Txn>(&key)? else {
            return Err(Refusal::Aborted.into());
        };
        match of_row(TxnState::of_row(record.state))? {
            TxnState::Aborted if !crate::planted!("commit-over-aborted") => {
                return Err(Refusal::Aborted.into());
            }
            TxnState::Committed => {}
            TxnState::Pending | TxnState::Aborted => {
                record.state = row::TxnState::Committed as i32;
                self.ledger.put_row(key, &record)?;
                self.finish_part(id, true)?;
            }
        }
        Ok(Done::Txn(TxnState::Committed))
    }

    /// Whoever wants an abort has it agreed here first. A commit stands.
    pub fn aborted(&mut self, aborted: &wire::Aborted) -> Result<Done, Stop> {
        let txn = TxnRef::of_row(aborted.txn.as_ref().ok_or(Malformed("no transaction"))?)?;
        if txn.id.coordinator != self.group.id {
            return Err(Malformed("another group's transaction").into());
        }
        let key = keys::txn(txn.id);
        let known: Option<row::Txn> = self.ledger.row(&key)?;
        match known
            .as_ref()
            .map(|known| of_row(TxnState::of_row(known.state)))
            .transpose()?
        {
            Some(TxnState::Committed) => return Ok(Done::Txn(TxnState::Committed)),
            Some(TxnState::Aborted) => {}
            Some(TxnState::Pending) | None => {
                let deadline_ms = known.map_or(0, |known| known.deadline_ms);
                let state = row::TxnState::Aborted as i32;
                self.ledger.put_row(
                    key,
                    &row::Txn {
                        txn: Some(txn.to_row()),
                        state,
                        deadline_ms,
                    },
                )?;
                self.finish_part(txn.id, false)?;
            }
        }
        Ok(Done::Txn(TxnState::Aborted))
    }

    /// The decision reaches a participant.
    pub fn finish_txn(&mut self, finish: &wire::Finish) -> Result<Done, Stop> {
        self.finish_part(txn_id(finish.txn.as_ref())?, finish.committed)?;
        Ok(Done::Nothing)
    }

    pub fn drop_txn(&mut self, drop: &wire::DropTxn) -> Result<Done, Stop> {
        let id = txn_id(drop.txn.as_ref())?;
        let key = keys::txn(id);
        let Some(record) = self.ledger.row::<row::Txn>(&key)? else {
            return Ok(Done::Nothing);
        };
        let txn = record.txn.unwrap_or_default();
        let all_confirmed = txn
            .participants
            .iter()
            .all(|group| drop.confirmed.contains(group))
            || crate::planted!("record-dropped-unconfirmed");
        let decided = record.state != row::TxnState::Pending as i32;
        if !decided || !all_confirmed || !self.is_closed(id)? {
            return Err(TryAgain::NotYet.into());
        }
        self.ledger.delete(key)?;
        Ok(Done::Nothing)
    }
}
