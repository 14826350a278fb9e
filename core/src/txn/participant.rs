//! What a group said to its part of a transaction.

use crate::ids::BucketId;
use crate::kv::{Refusal, Written};
use crate::state::answer::{Answer, Done, TryAgain};
use crate::state::intent::TxnRef;

/// A group's word on `pending` or `prepare`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Vote {
    /// Its intents lie there, until the decision.
    Yes,
    /// It refused for good; nothing of the transaction lies there.
    No(Refusal),
    /// Another transaction holds what it needs; nothing lies there.
    Blocked(TxnRef),
    /// It must learn facts of this bucket first; nothing lies there.
    FactsBehind(BucketId),
    /// To be planned anew (an epoch, a map, a placement was old); nothing lies there.
    PlanAnew,
    /// Nobody knows what it said: something may lie there.
    Unknown,
}

impl Vote {
    /// The vote in an answer, and what the part's writes will be.
    pub fn of(answer: Answer) -> (Vote, Vec<Option<Written>>) {
        match answer {
            Answer::Done(Done::Transacted(written)) => (Vote::Yes, written),
            Answer::Done(_) => (Vote::Yes, Vec::new()),
            Answer::Refused(refusal) => (Vote::No(refusal), Vec::new()),
            Answer::TryAgain(TryAgain::Blocked(txn)) => (Vote::Blocked(txn), Vec::new()),
            Answer::TryAgain(TryAgain::FactsBehind(bucket)) => {
                (Vote::FactsBehind(bucket), Vec::new())
            }
            // An earlier delivery may have been applied.
            Answer::TryAgain(TryAgain::SessionGone) => (Vote::Unknown, Vec::new()),
            Answer::TryAgain(_) => (Vote::PlanAnew, Vec::new()),
        }
    }
}
