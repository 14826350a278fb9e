//! What clients asked and what they were told, by key.
//!
//! Always true: a call is here before the store hears of it; what was never answered stays open.

use std::sync::Arc;

use parking_lot::Mutex;

use super::trace::{now, seconds};

/// Names what was written: every write writes another value.
pub type Value = u64;

/// A condition of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Only {
    /// Whatever is there.
    Always,
    /// If nothing is there (`If-None-Match: *`).
    IfAbsent,
    /// If this is there (`If-Match`).
    IfMatches(Value),
}

/// What was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A PUT.
    Put(Value, Only),
    /// A DELETE of whatever is there.
    Delete,
    /// A GET, or the key's line in a LIST.
    Read,
}

/// What was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// Nothing, or that nobody knows: it may happen at any time, or never.
    Nothing,
    /// It happened.
    Done,
    /// Its condition did not hold.
    Refused,
    /// This was there.
    Found(Option<Value>),
}

/// One call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// Which client.
    pub client: u64,
    /// Which key.
    pub key: u64,
    /// What it asked.
    pub what: What,
    /// When.
    pub called: u64,
    /// When it was answered; never, for what nobody knows the outcome of.
    pub returned: u64,
    /// What it was told.
    pub told: Told,
}

/// The end of a call that has none.
pub const NEVER: u64 = u64::MAX;

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let until = match self.returned {
            NEVER => "?".to_owned(),
            at => seconds(at),
        };
        let (client, key, from) = (self.client, self.key, seconds(self.called));
        write!(
            f,
            "{from:>11} to {until:>11}  client {client}, key {key}: {:?} -> {:?}",
            self.what, self.told
        )
    }
}

/// All calls of a simulation.
#[derive(Clone, Default)]
pub struct History {
    calls: Arc<Mutex<Vec<Option<Call>>>>,
}

/// An open call.
#[derive(Clone, Copy)]
pub struct Open(usize);

impl History {
    /// A call begins.
    pub fn begin(&self, client: u64, key: u64, what: What) -> Open {
        let mut calls = self.calls.lock();
        calls.push(Some(Call {
            client,
            key,
            what,
            called: now(),
            returned: NEVER,
            told: Told::Nothing,
        }));
        Open(calls.len() - 1)
    }

    /// A call that began then was answered now.
    pub fn told(&self, client: u64, key: u64, what: What, called: u64, told: Told) {
        self.calls.lock().push(Some(Call {
            client,
            key,
            what,
            called,
            returned: now(),
            told,
        }));
    }

    /// It was answered.
    pub fn end(&self, open: Open, told: Told) {
        if let Some(call) = &mut self.calls.lock()[open.0] {
            call.told = told;
            if told != Told::Nothing {
                call.returned = now();
            }
        }
    }

    /// It certainly did not happen: it is no call.
    pub fn never_happened(&self, open: Open) {
        self.calls.lock()[open.0] = None;
    }

    /// All of one key, by time. Reads without an answer say nothing and are left out.
    pub fn of_key(&self, key: u64) -> Vec<Call> {
        let calls = self.calls.lock();
        let mut of_key: Vec<Call> = calls
            .iter()
            .flatten()
            .filter(|call| call.key == key)
            .filter(|call| (call.what, call.told) != (What::Read, Told::Nothing))
            .copied()
            .collect();
        of_key.sort_by_key(|call| call.called);
        of_key
    }

    /// How many calls, and how many of them nobody knows the outcome of.
    pub fn count(&self) -> (usize, usize) {
        let calls = self.calls.lock();
        let all = calls.iter().flatten();
        let open = all.clone().filter(|call| call.told == Told::Nothing);
        (all.clone().count(), open.count())
    }
}
