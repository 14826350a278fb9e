//! Each key behaves as if every call happened at one moment between its beginning and its end.
//!
//! The search of Wing and Gong, with Lowe's memory of what was tried: it looks for one order of the calls of a key that
//! respects time and explains every answer. Acknowledged writes survive because the audit reads every key at the end:
//! a lost one leaves a read that nothing explains.
//!
//! Always true:
//! * a write without an answer may happen at any moment after its beginning, or never;
//! * a read (or a refusal) that what is there explains is taken at once: it changes nothing, so no order is lost.

use std::collections::HashSet;

use crate::cluster::history::{Call, NEVER, Only, Told, Value, What};

/// Steps of the search before it gives up.
const BUDGET: u64 = 5_000_000;

/// How a search ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// There is such an order.
    Order,
    /// There is none.
    NoOrder,
    /// It was not found out in time.
    Undecided,
}

type State = Option<Value>;

/// The key after the call, if what it was told fits what was there.
fn step(state: State, call: &Call) -> Option<State> {
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

fn changes_nothing(call: &Call) -> bool {
    call.what == What::Read || call.told == Told::Refused
}

struct Search<'a> {
    calls: &'a [Call],
    /// What was tried in vain: which calls had happened, and what was there.
    tried: HashSet<(Vec<u64>, State)>,
    left: u64,
}

impl Search<'_> {
    fn has(done: &[u64], call: usize) -> bool {
        done[call / 64] & (1 << (call % 64)) != 0
    }

    fn put(done: &mut [u64], call: usize) {
        done[call / 64] |= 1 << (call % 64);
    }

    /// Calls that may come next, those with an answer first; empty when all with an answer have happened.
    fn next(&self, done: &[u64], from: usize) -> Vec<usize> {
        let open = || (from..self.calls.len()).filter(|&call| !Self::has(done, call));
        let mut first_end = NEVER;
        let mut last = from;
        for call in open() {
            // Sorted by beginning: nothing behind can come first.
            if self.calls[call].called > first_end {
                break;
            }
            first_end = first_end.min(self.calls[call].returned);
            last = call;
        }
        if first_end == NEVER && open().all(|call| self.calls[call].returned == NEVER) {
            return Vec::new();
        }
        let mut next: Vec<usize> = open()
            .take_while(|&call| call <= last)
            .filter(|&call| self.calls[call].called <= first_end)
            .collect();
        next.sort_by_key(|&call| {
            (
                self.calls[call].returned == NEVER,
                self.calls[call].returned,
            )
        });
        next
    }

    fn run(&mut self) -> Found {
        let mut stack: Vec<(Vec<u64>, State, usize)> =
            vec![(vec![0; self.calls.len().div_ceil(64).max(1)], None, 0)];
        while let Some((mut done, state, mut from)) = stack.pop() {
            if self.left == 0 {
                return Found::Undecided;
            }
            self.left -= 1;
            let next = loop {
                while from < self.calls.len() && Self::has(&done, from) {
                    from += 1;
                }
                let next = self.next(&done, from);
                let free = next.iter().copied().find(|&call| {
                    changes_nothing(&self.calls[call]) && step(state, &self.calls[call]).is_some()
                });
                match free {
                    Some(call) => Self::put(&mut done, call),
                    None => break next,
                }
            };
            if next.is_empty() {
                return Found::Order;
            }
            if !self.tried.insert((done.clone(), state)) {
                continue;
            }
            // Last in, first tried.
            for call in next.into_iter().rev() {
                if changes_nothing(&self.calls[call]) {
                    continue;
                }
                if let Some(after) = step(state, &self.calls[call]) {
                    let mut done = done.clone();
                    Self::put(&mut done, call);
                    stack.push((done, after, from));
                }
            }
        }
        Found::NoOrder
    }
}

/// Whether some order explains the calls of one key, which began with nothing there. Sorted by their beginning.
pub fn check(calls: &[Call]) -> Found {
    let mut search = Search {
        calls,
        tried: HashSet::new(),
        left: BUDGET,
    };
    search.run()
}

#[cfg(test)]
mod tests {
    use super::*;

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
