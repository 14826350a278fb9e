//! Transactions as the state names them: enough in every intent for anybody to finish its transaction.

use minikv_proto::row;

use crate::ids::{GroupId, TxnId};
use crate::state::record::{Malformed, group_of};

/// A transaction and what those who meet it must know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TxnRef {
    /// Its name.
    pub id: TxnId,
    /// When its first attempt began; retries keep it.
    pub age_ms: u64,
    /// All groups that hold a part of it.
    pub participants: Vec<GroupId>,
}

impl TxnRef {
    /// Of two transactions that meet, the older one goes on.
    pub fn is_older_than(&self, other: &TxnRef) -> bool {
        (self.age_ms, self.id) < (other.age_ms, other.id)
    }

    /// As a row says it.
    pub fn of_row(txn: &row::TxnRef) -> Result<TxnRef, Malformed> {
        Ok(TxnRef {
            id: txn_id(txn.name.as_ref())?,
            age_ms: txn.age_ms,
            participants: txn
                .participants
                .iter()
                .map(|&group| group_of(group))
                .collect::<Result<_, _>>()?,
        })
    }

    /// For a row.
    pub fn to_row(&self) -> row::TxnRef {
        row::TxnRef {
            name: Some(txn_name(self.id)),
            age_ms: self.age_ms,
            participants: self
                .participants
                .iter()
                .map(|group| u32::from(group.0))
                .collect(),
        }
    }
}

/// A transaction's name as a row says it.
pub fn txn_id(name: Option<&row::TxnName>) -> Result<TxnId, Malformed> {
    let name = name.ok_or(Malformed("no transaction"))?;
    Ok(TxnId {
        coordinator: group_of(name.coordinator)?,
        session: name.session,
        sequence: name.sequence,
    })
}

/// A transaction's name for a row.
pub fn txn_name(id: TxnId) -> row::TxnName {
    row::TxnName {
        coordinator: u32::from(id.coordinator.0),
        session: id.session,
        sequence: id.sequence,
    }
}

/// What the coordinator's group says of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TxnState {
    /// Undecided: readers take the old value.
    Pending,
    /// Readers take the new value.
    Committed,
    /// Readers take the old value.
    Aborted,
}

impl TxnState {
    /// As a row says it.
    pub fn of_row(state: i32) -> Result<TxnState, Malformed> {
        match row::TxnState::try_from(state) {
            Ok(row::TxnState::Pending) => Ok(TxnState::Pending),
            Ok(row::TxnState::Committed) => Ok(TxnState::Committed),
            Ok(row::TxnState::Aborted) => Ok(TxnState::Aborted),
            Err(_) => Err(Malformed("state of a transaction")),
        }
    }

    /// For a row.
    pub fn to_row(self) -> row::TxnState {
        match self {
            TxnState::Pending => row::TxnState::Pending,
            TxnState::Committed => row::TxnState::Committed,
            TxnState::Aborted => row::TxnState::Aborted,
        }
    }
}
