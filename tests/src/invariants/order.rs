//! Looks for one order of calls that respects time and explains every answer.
//!
//! The search of Wing and Gong, with Lowe's memory of what was tried.
//!
//! Always true:
//! * a write without an answer may happen at any moment after its beginning, or never;
//! * a call that only looks, and that what is there explains, is taken at once: it changes nothing, so no order is lost.

use std::collections::HashSet;
use std::hash::Hash;

use crate::cluster::history::NEVER;

/// Steps of a search before it gives up.
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

/// How a thing behaves when one call follows the other.
pub trait Rule {
    /// What the thing is.
    type State: Clone + Eq + Hash;
    /// What was asked of it and what was told.
    type Call;

    /// When the call began.
    fn called(call: &Self::Call) -> u64;
    /// When it was answered; `NEVER` for what nobody knows the outcome of.
    fn returned(call: &Self::Call) -> u64;
    /// It leaves everything as it was, whatever was told.
    fn only_looks(call: &Self::Call) -> bool;
    /// The thing after the call, if what was told fits what was there.
    fn step(&self, state: &Self::State, call: &Self::Call) -> Option<Self::State>;
}

struct Search<'a, R: Rule> {
    rule: &'a R,
    calls: &'a [R::Call],
    /// What was tried in vain: which calls had happened, and what was there.
    tried: HashSet<(Vec<u64>, R::State)>,
    left: u64,
}

/// Whether some order explains the calls of a thing that began as `first`. Sorted by their beginning.
pub fn search<R: Rule>(rule: &R, first: R::State, calls: &[R::Call]) -> Found {
    let mut search = Search {
        rule,
        calls,
        tried: HashSet::new(),
        left: BUDGET,
    };
    search.run(first)
}

impl<R: Rule> Search<'_, R> {
    fn has(done: &[u64], call: usize) -> bool {
        done[call / 64] & (1 << (call % 64)) != 0
    }

    fn put(done: &mut [u64], call: usize) {
        done[call / 64] |= 1 << (call % 64);
    }

    fn returned(&self, call: usize) -> u64 {
        R::returned(&self.calls[call])
    }

    /// Calls that may come next, those with an answer first; empty when all with an answer have happened.
    fn next(&self, done: &[u64], from: usize) -> Vec<usize> {
        let open = || (from..self.calls.len()).filter(|&call| !Self::has(done, call));
        let mut first_end = NEVER;
        let mut last = from;
        for call in open() {
            // Sorted by beginning: nothing behind can come first.
            if R::called(&self.calls[call]) > first_end {
                break;
            }
            first_end = first_end.min(self.returned(call));
            last = call;
        }
        if first_end == NEVER && open().all(|call| self.returned(call) == NEVER) {
            return Vec::new();
        }
        let mut next: Vec<usize> = open()
            .take_while(|&call| call <= last)
            .filter(|&call| R::called(&self.calls[call]) <= first_end)
            .collect();
        next.sort_by_key(|&call| (self.returned(call) == NEVER, self.returned(call)));
        next
    }

    fn run(&mut self, first: R::State) -> Found {
        let nothing = vec![0; self.calls.len().div_ceil(64).max(1)];
        let mut stack: Vec<(Vec<u64>, R::State, usize)> = vec![(nothing, first, 0)];
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
                    let call = &self.calls[call];
                    R::only_looks(call) && self.rule.step(&state, call).is_some()
                });
                match free {
                    Some(call) => Self::put(&mut done, call),
                    None => break next,
                }
            };
            if next.is_empty() {
                return Found::Order;
            }
            if !self.tried.insert((done.clone(), state.clone())) {
                continue;
            }
            // Last in, first tried.
            for call in next.into_iter().rev() {
                if R::only_looks(&self.calls[call]) {
                    continue;
                }
                if let Some(after) = self.rule.step(&state, &self.calls[call]) {
                    let mut done = done.clone();
                    Self::put(&mut done, call);
                    stack.push((done, after, from));
                }
            }
        }
        Found::NoOrder
    }
}
