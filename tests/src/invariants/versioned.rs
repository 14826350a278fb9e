//! A key with versions behaves as if every call happened at one moment: writes come on top of each other in one order,
//! which every reader sees, and a version that is not the newest stays what it is until it is deleted by its id.
//!
//! ```text
//!   versioning     PUT                          DELETE
//!   off            replaces what is there       nothing is left
//!   enabled        on top of what is there      a marker on top
//!   suspended      on top, as the null version  a null marker on top       (the null version before it goes)
//! ```
//! Always true: versioning changes for a key at one moment between the beginning and the end of the call that changes it,
//! and before anything that was planned by somebody who had seen the change.
//!
//! Elsewhere: the search for such an order (`order`), who asks (`cluster::versions`).

use std::collections::{BTreeMap, BTreeSet};

use minikv_core::kv::{VersionId, Versioning};

use super::order::{self, Found, Rule};
use crate::cluster::history::NEVER;
use crate::cluster::versions::{Asked, Call, Line, Mark, Shown, Told};

/// A version: what names it, whether it is a marker, whether it is the null version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct One {
    mark: Mark,
    is_marker: bool,
    null: bool,
}

/// Everything a key is.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Key {
    /// 0 off, 1 enabled, 2 suspended: as `Versioning` cannot be hashed.
    versioning: u8,
    /// Of the facts that were changed last, where anybody saw it.
    epoch: u64,
    /// Changes of the facts that have happened.
    changes: BTreeSet<Mark>,
    /// Newest first.
    versions: Vec<One>,
}

const ENABLED: u8 = 1;

fn number(versioning: Versioning) -> u8 {
    match versioning {
        Versioning::Off => 0,
        Versioning::Enabled => ENABLED,
        Versioning::Suspended => 2,
    }
}

impl Key {
    fn install(&mut self, mark: Mark, is_marker: bool) -> One {
        let null = self.versioning != ENABLED;
        if null {
            self.versions.retain(|one| !one.null);
        }
        let new = One {
            mark,
            is_marker,
            null,
        };
        self.versions.insert(0, new);
        new
    }

    fn has(&self, mark: Mark) -> bool {
        self.versions.iter().any(|one| one.mark == mark)
    }
}

/// What is known from outside the calls of one key.
pub struct Known {
    /// What was written under an id, where anybody was told.
    pub ids: BTreeMap<VersionId, Mark>,
    /// Epochs of the facts that a change made, where anybody saw them.
    pub epochs: BTreeMap<Mark, u64>,
}

impl Known {
    fn is(&self, line: &Line, one: &One) -> bool {
        let is_it = match line.shown {
            Shown::Object(mark) => !one.is_marker && one.mark == mark,
            Shown::Marker(id) => {
                one.is_marker
                    && match self.ids.get(&id) {
                        Some(mark) => *mark == one.mark,
                        // Made by a call that was never answered.
                        None => !self.ids.values().any(|mark| *mark == one.mark),
                    }
            }
        };
        is_it && line.null == one.null
    }
}

impl Rule for Known {
    type State = KeyState;
    type Call = Call;

    fn called(call: &Call) -> u64 {
        call.called
    }

    fn returned(call: &Call) -> u64 {
        call.returned
    }

    fn only_looks(call: &Call) -> bool {
        matches!(
            call.told,
            Told::Newest(_) | Told::There(_) | Told::All(_) | Told::Removed { existed: false }
        )
    }

    fn step(&self, state: &KeyState, call: &Call) -> Option<KeyState> {
        let mut key = state.0.clone();
        let has_seen = call.planned == 0 || key.changes.contains(&call.planned);
        if call.told != Told::Nothing && !has_seen {
            return None;
        }
        let fits = match (call.asked, &call.told) {
            (Asked::Put { from }, told) => {
                let there = from.is_none_or(|from| key.has(from));
                let new = key.install(call.mark, false);
                match told {
                    Told::Put { null } => there && *null == new.null,
                    // Refused, then.
                    _ if !there => return Some(state.clone()),
                    _ => *told == Told::Nothing,
                }
            }
            (Asked::Delete, told) => {
                let marker = match key.versioning {
                    0 => {
                        key.versions.clear();
                        None
                    }
                    _ => Some(key.install(call.mark, true).null),
                };
                match told {
                    Told::Deleted { marker: made } => marker == *made,
                    told => *told == Told::Nothing,
                }
            }
            (Asked::Remove(mark), told) => {
                let existed = key.has(mark);
                key.versions.retain(|one| one.mark != mark);
                match told {
                    Told::Removed { existed: was } => *was == existed,
                    told => *told == Told::Nothing,
                }
            }
            (Asked::Look, Told::Newest(newest)) => match (newest, key.versions.first()) {
                (Some(line), Some(one)) => self.is(line, one),
                (newest, one) => newest.is_none() && one.is_none(),
            },
            (Asked::LookAt(mark), Told::There(there)) => *there == key.has(mark),
            (Asked::List, Told::All(lines)) => {
                let same = |(line, one)| self.is(line, one);
                lines.len() == key.versions.len() && lines.iter().zip(&key.versions).all(same)
            }
            (Asked::Switch(versioning), Told::Changed | Told::Nothing) => {
                let epoch = self.epochs.get(&call.mark).copied();
                let in_order = epoch.is_none_or(|epoch| epoch > key.epoch);
                key.versioning = number(versioning);
                key.epoch = epoch.unwrap_or(key.epoch);
                key.changes.insert(call.mark);
                in_order
            }
            _ => false,
        };
        fits.then_some(KeyState(key))
    }
}

/// Everything a key is, as the search keeps it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct KeyState(Key);

/// Whether some order explains the calls of one key of a bucket that began without versioning. Sorted by their beginning.
pub fn check(known: &Known, calls: &[Call]) -> Found {
    // Looks without an answer say nothing.
    let says_something = |call: &&Call| {
        let looks = matches!(call.asked, Asked::Look | Asked::LookAt(_) | Asked::List);
        !(looks && call.returned == NEVER)
    };
    let calls: Vec<Call> = calls.iter().filter(says_something).cloned().collect();
    order::search(known, KeyState::default(), &calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(asked: Asked, mark: Mark, told: Told, called: u64) -> Call {
        let returned = match told {
            Told::Nothing => NEVER,
            _ => called + 5,
        };
        Call {
            client: 1,
            key: 1,
            asked,
            mark,
            planned: 0,
            called,
            returned,
            told,
        }
    }

    fn put(mark: Mark, null: bool, called: u64) -> Call {
        call(Asked::Put { from: None }, mark, Told::Put { null }, called)
    }

    fn all(marks: &[(Mark, bool)], called: u64) -> Call {
        let line = |(mark, null): &(Mark, bool)| Line {
            shown: Shown::Object(*mark),
            null: *null,
        };
        call(
            Asked::List,
            0,
            Told::All(marks.iter().map(line).collect()),
            called,
        )
    }

    fn found(calls: &[Call]) -> Found {
        let known = Known {
            ids: BTreeMap::new(),
            epochs: BTreeMap::from([(90, 2), (91, 3)]),
        };
        check(&known, calls)
    }

    fn enabled(mark: Mark, called: u64) -> Call {
        let asked = Asked::Switch(Versioning::Enabled);
        call(asked, mark, Told::Changed, called)
    }

    /// What was written once versioning was on stays; what was there before is the null version.
    #[test]
    fn a_version_that_went_without_being_deleted_is_noticed() {
        let calls = [put(1, true, 10), enabled(90, 20), put(2, false, 30)];
        let with = |last: Call| [&calls[..], &[last]].concat();
        let both = all(&[(2, false), (1, true)], 40);
        assert_eq!(found(&with(both)), Found::Order);
        assert_eq!(found(&with(all(&[(2, false)], 40))), Found::NoOrder);
        let swapped = all(&[(1, true), (2, false)], 40);
        assert_eq!(found(&with(swapped)), Found::NoOrder);
    }

    /// Whoever has seen that versioning is on has their write kept as a version.
    #[test]
    fn a_write_by_older_facts_than_its_writer_had_seen_is_noticed() {
        let asked = Asked::Switch(Versioning::Enabled);
        let unknown = call(asked, 90, Told::Nothing, 10);
        let seen = |null| Call {
            planned: 90,
            ..put(1, null, 20)
        };
        assert_eq!(found(&[unknown.clone(), seen(false)]), Found::Order);
        assert_eq!(found(&[unknown, seen(true)]), Found::NoOrder);
    }

    /// Suspended: the null version is replaced, the others stay.
    #[test]
    fn writes_while_versioning_is_suspended_replace_the_null_version_only() {
        let asked = Asked::Switch(Versioning::Suspended);
        let calls = [
            enabled(90, 10),
            put(1, false, 20),
            call(asked, 91, Told::Changed, 30),
            put(2, true, 40),
            put(3, true, 50),
        ];
        let with = |last: Call| [&calls[..], &[last]].concat();
        let right = all(&[(3, true), (1, false)], 60);
        assert_eq!(found(&with(right)), Found::Order);
        let kept = all(&[(3, true), (2, true), (1, false)], 60);
        assert_eq!(found(&with(kept)), Found::NoOrder);
        assert_eq!(found(&with(all(&[(3, true)], 60))), Found::NoOrder);
    }
}
