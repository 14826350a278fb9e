//! Each key behaves as if every call happened at one moment between its beginning and its end.
//!
//! Acknowledged writes survive because the audit reads every key at the end: a lost one leaves a read that nothing explains.
//!
//! Elsewhere: the search for such an order (`order`).

pub use super::order::Found;
use super::order::{self, Rule};
use crate::cluster::history::{Call, Only, Told, Value, What};

type State = Option<Value>;

struct OneKey;

impl Rule for OneKey {
    type State = State;
    type Call = Call;

    fn called(call: &Call) -> u64 {
        call.called
    }

    fn returned(call: &Call) -> u64 {
        call.returned
    }

    fn only_looks(call: &Call) -> bool {
        call.what == What::Read || call.told == Told::Refused
    }

    fn step(&self, state: &State, call: &Call) -> Option<State> {
        let state = *state;
        let unknown = call.told == Told::Nothing;
        match (call.what, call.told) {
            (What::Read, Told::Found(found)) => (found == state).then_some(state),
            (What::Delete, Told::Done | Told::Nothing) => Some(None),
            (What::Put(value, only), told) => {
                let holds = match only {
                    Only::Always => true,
                    Only::IfAbsent => state.is_none(),
                    Only::IfMatches(expected) => state == Some(expected),
                };
                match (told, holds) {
                    (Told::Done | Told::Nothing, true) => Some(Some(value)),
                    (Told::Refused, false) => Some(state),
                    (_, false) if unknown => Some(state),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Whether some order explains the calls of one key, which began with nothing there. Sorted by their beginning.
pub fn check(calls: &[Call]) -> Found {
    order::search(&OneKey, None, calls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::history::NEVER;

    fn call(what: What, told: Told, called: u64, returned: u64) -> Call {
        Call {
            client: 1,
            key: 1,
            what,
            called,
            returned,
            told,
        }
    }

    fn put(value: Value, told: Told, called: u64, returned: u64) -> Call {
        call(What::Put(value, Only::Always), told, called, returned)
    }

    fn read(found: State, called: u64, returned: u64) -> Call {
        call(What::Read, Told::Found(found), called, returned)
    }

    /// What was acknowledged before a read began is what the read finds, or something newer.
    #[test]
    fn a_lost_write_and_a_stale_read_are_noticed() {
        let done = put(1, Told::Done, 10, 20);
        assert_eq!(check(&[done, read(Some(1), 30, 40)]), Found::Order);
        assert_eq!(check(&[done, read(None, 30, 40)]), Found::NoOrder);
        assert_eq!(check(&[done, read(None, 15, 40)]), Found::Order);
        let newer = put(2, Told::Done, 30, 40);
        assert_eq!(check(&[done, newer, read(Some(1), 50, 60)]), Found::NoOrder);
    }

    /// A write without an answer may come late, but once seen it stays.
    #[test]
    fn a_write_of_unknown_outcome_happens_once_or_never() {
        let unknown = put(1, Told::Nothing, 10, NEVER);
        assert_eq!(check(&[unknown, read(None, 30, 40)]), Found::Order);
        assert_eq!(
            check(&[unknown, read(None, 30, 40), read(Some(1), 50, 60)]),
            Found::Order
        );
        assert_eq!(
            check(&[unknown, read(Some(1), 30, 40), read(None, 50, 60)]),
            Found::NoOrder
        );
        let gone = call(What::Delete, Told::Done, 70, 80);
        assert_eq!(
            check(&[unknown, read(Some(1), 30, 40), gone, read(Some(1), 90, 95)]),
            Found::NoOrder,
            "delivered twice"
        );
    }

    /// Two writers race for an absent key: one wins.
    #[test]
    fn conditions_hold_at_one_moment() {
        let first = |value, told| call(What::Put(value, Only::IfAbsent), told, 10, 20);
        let both = [first(1, Told::Done), first(2, Told::Done)];
        assert_eq!(check(&both), Found::NoOrder);
        let one = [first(1, Told::Done), first(2, Told::Refused)];
        assert_eq!(check(&one), Found::Order);
        let alone = [first(1, Told::Refused)];
        assert_eq!(
            check(&alone),
            Found::NoOrder,
            "refused, and nothing was there"
        );
        let matched = call(What::Put(3, Only::IfMatches(1)), Told::Done, 30, 40);
        assert_eq!(check(&[one[0], one[1], matched]), Found::Order);
        let mismatched = call(What::Put(3, Only::IfMatches(2)), Told::Done, 30, 40);
        assert_eq!(check(&[one[0], one[1], mismatched]), Found::NoOrder);
    }

    /// Many writers of unknown outcome do not make the search endless.
    #[test]
    fn a_long_history_with_open_ends_is_decided() {
        let mut calls = Vec::new();
        for at in 0..200u64 {
            let from = 100 * at;
            calls.push(put(2 * at, Told::Done, from, from + 150));
            if at % 10 == 0 {
                calls.push(put(2 * at + 1, Told::Nothing, from + 20, NEVER));
            }
            calls.push(read(Some(2 * at), from + 160, from + 170));
        }
        calls.retain(|call| call.called % 200 != 60 || call.what != What::Read);
        calls.sort_by_key(|call| call.called);
        assert_ne!(check(&calls), Found::Undecided);
    }
}
