//! What whoever meets an intent does about it. Anybody can finish a transaction; only its coordinator's group decides.
//!
//! Always true:
//! * an intent is carried out only after its record said committed, and taken away only after it said aborted;
//! * "no record" is no answer: the transaction is over, or has not begun. The intent is looked at again; if it is still
//!   there, the abort is agreed first, so that a late `pending` or `commit` is refused.

use crate::state::intent::TxnState;

/// What is known of the transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// The coordinator's group, asked linearizably, has this record.
    Record(TxnState),
    /// It has none.
    NoRecord,
    /// It has none, and the intent, looked at again after that, is still there.
    NoRecordButIntent,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Give it time, then ask again.
    Wait,
    /// Look at the intent again: gone means there is nothing in the way any more.
    LookAgain,
    /// Have `aborted` agreed in the coordinator's group; its answer is the decision.
    HaveAborted,
    /// Have the decision carried out where the intent lies.
    Finish {
        /// The decision.
        committed: bool,
    },
}

/// For a writer or sweeper. `patient`: it holds no intents, and has waited for less than two seconds.
pub fn clear(known: Known, patient: bool) -> Next {
    match known {
        Known::Record(TxnState::Committed) => Next::Finish { committed: true },
        Known::Record(TxnState::Aborted) => Next::Finish { committed: false },
        Known::Record(TxnState::Pending) if patient => Next::Wait,
        Known::Record(TxnState::Pending) | Known::NoRecordButIntent => Next::HaveAborted,
        Known::NoRecord if crate::planted!("no-record-is-aborted") => {
            Next::Finish { committed: false }
        }
        Known::NoRecord => Next::LookAgain,
    }
}

/// What a reader takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// The value the intent brings.
    New,
    /// The value before it.
    Old,
    /// Look at the key again.
    LookAgain,
    /// Have `aborted` agreed, and take the value that the answer says.
    HaveAborted,
}

/// For a reader, who never waits: an undecided transaction has not happened.
pub fn read(known: Known) -> Reading {
    match known {
        Known::Record(TxnState::Committed) => Reading::New,
        Known::Record(TxnState::Pending | TxnState::Aborted) => Reading::Old,
        Known::NoRecord => Reading::LookAgain,
        Known::NoRecordButIntent => Reading::HaveAborted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_decides() {
        assert_eq!(
            clear(Known::Record(TxnState::Committed), true),
            Next::Finish { committed: true }
        );
        assert_eq!(
            clear(Known::Record(TxnState::Aborted), true),
            Next::Finish { committed: false }
        );
        assert_eq!(clear(Known::Record(TxnState::Pending), true), Next::Wait);
        assert_eq!(
            clear(Known::Record(TxnState::Pending), false),
            Next::HaveAborted
        );
        assert_eq!(clear(Known::NoRecord, false), Next::LookAgain);
        assert_eq!(clear(Known::NoRecordButIntent, true), Next::HaveAborted);
    }

    #[test]
    fn a_reader_takes_the_new_value_only_after_the_commit() {
        assert_eq!(read(Known::Record(TxnState::Committed)), Reading::New);
        assert_eq!(read(Known::Record(TxnState::Pending)), Reading::Old);
        assert_eq!(read(Known::Record(TxnState::Aborted)), Reading::Old);
        assert_eq!(read(Known::NoRecord), Reading::LookAgain);
        assert_eq!(read(Known::NoRecordButIntent), Reading::HaveAborted);
    }
}
