//! The judge: whether what a store shows can be explained by what was asked of it and what it answered.
//!
//! A client writes down every operation before it is sent (`begin`) and its outcome when it knows it (`end`). From that
//! the oracle keeps, for each key, the set of all states it may be in. An acknowledged operation moves every state; one
//! without an answer splits each state in two, because it may or may not have happened.
//!
//! ```text
//!   put A: acked    put B: no answer    delete: acked    put C: no answer   |  crash  | what may be seen
//!       {A}             {A, B}              {-}               {-, C}                      "-" or "C", never A or B
//! ```
//! So "a prefix of the history with every acknowledged operation in it" is: what is seen of every key lies in its set.
//!
//! Always true:
//! * operations on one key are written down in an order in which the store took them: a client has one of them in
//!   flight per key at a time (different keys at will);
//! * an answer that no state explains is reported when it arrives, not only after a crash;
//! * once seen, a state is settled: it may not change again without an operation (`settle`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::{KeyState, Name, Op};

/// What became of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Acknowledged.
    Done,
    /// Refused for what the key was (412, NoSuchUpload, …): nothing was changed.
    Refused,
    /// Not done, and it says so (503, 507): nothing was changed.
    NotDone,
    /// No answer, or "outcome unknown".
    Unknown,
}

/// A promise that was not kept.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Broken {
    /// A key shows what no history explains.
    #[error("{name:?} shows {seen:?}; possible were only {possible:?}; its history: {history}")]
    Unexplained {
        /// The key.
        name: Name,
        /// What it shows.
        seen: Box<KeyState>,
        /// What it could have shown.
        possible: Vec<KeyState>,
        /// Its operations.
        history: String,
    },
    /// An answer does not fit any state the key may be in.
    #[error(
        "{name:?}: {op:?} was answered {outcome:?}, with {possible:?} possible; its history: {history}"
    )]
    WrongAnswer {
        /// The key.
        name: Name,
        /// What was asked.
        op: Op,
        /// What was answered.
        outcome: Outcome,
        /// What the key could have been.
        possible: Vec<KeyState>,
        /// Its operations.
        history: String,
    },
    /// A list, a count or a status line contradicts the objects themselves.
    #[error("{0}")]
    Contradiction(String),
}

/// What a store shows, read through the front door.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Seen {
    /// Buckets and their keys; keys without anything are left out.
    pub buckets: BTreeMap<String, BTreeMap<String, KeyState>>,
}

impl Seen {
    /// One key.
    pub fn key(&self, name: &Name) -> KeyState {
        let keys = self.buckets.get(&name.bucket);
        keys.and_then(|keys| keys.get(&name.key))
            .cloned()
            .unwrap_or_default()
    }

    /// Bytes of all versions and parts.
    pub fn bytes(&self) -> u64 {
        self.buckets
            .values()
            .flat_map(|keys| keys.values())
            .map(KeyState::bytes)
            .sum()
    }
}

/// Everything that was asked, and what it may have come to.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Oracle {
    /// Whether the bucket keeps versions, and whether it is known to exist.
    buckets: BTreeMap<String, BucketRecord>,
    keys: BTreeMap<Name, KeyRecord>,
    /// A transaction that is in flight or was never answered: all of it happened, or nothing.
    together: Vec<(Name, Op)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct BucketRecord {
    versioned: bool,
    may_exist: bool,
    may_lack: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct KeyRecord {
    possible: BTreeSet<KeyState>,
    /// In flight: as if it never got an answer.
    open: Option<Op>,
    history: Vec<(Op, Option<Outcome>)>,
}

impl Default for KeyRecord {
    fn default() -> Self {
        KeyRecord {
            possible: BTreeSet::from([KeyState::default()]),
            open: None,
            history: Vec::new(),
        }
    }
}

impl Oracle {
    /// An empty store.
    pub fn new() -> Oracle {
        Oracle::default()
    }

    /// A bucket is about to be made.
    pub fn begin_bucket(&mut self, bucket: &str, versioned: bool) {
        let lacking = BucketRecord {
            versioned,
            may_exist: false,
            may_lack: true,
        };
        let record = self.buckets.entry(bucket.to_owned()).or_insert(lacking);
        record.may_exist = true;
    }

    /// The bucket was acknowledged.
    pub fn bucket_made(&mut self, bucket: &str) {
        if let Some(record) = self.buckets.get_mut(bucket) {
            record.may_lack = false;
        }
    }

    /// A bucket is about to be deleted.
    pub fn begin_drop(&mut self, bucket: &str) {
        if let Some(record) = self.buckets.get_mut(bucket) {
            record.may_lack = true;
        }
    }

    /// The deletion was acknowledged, or certainly did not happen.
    pub fn end_drop(&mut self, bucket: &str, done: bool) {
        if let Some(record) = self.buckets.get_mut(bucket) {
            record.may_exist = !done;
            record.may_lack = done;
        }
    }

    /// A transaction is about to be sent. One at a time, of keys that nothing else is in flight for.
    pub fn begin_together(&mut self, ops: &[(Name, Op)]) {
        assert!(self.together.is_empty(), "two transactions at a time");
        for (name, op) in ops {
            let record = self.keys.entry(name.clone()).or_default();
            assert!(
                record.open.is_none(),
                "two operations at a time on {name:?}"
            );
            record.history.push((op.clone(), None));
        }
        self.together = ops.to_vec();
    }

    /// Its outcome is known; without one it stays in doubt until somebody looks.
    pub fn end_together(&mut self, outcome: Outcome) -> Result<(), Broken> {
        if outcome == Outcome::Unknown {
            return Ok(());
        }
        for (name, op) in std::mem::take(&mut self.together) {
            let record = self.keys.entry(name.clone()).or_default();
            record.open = Some(op);
            self.end(&name, outcome)?;
        }
        Ok(())
    }

    /// Whether a transaction in doubt is there as a whole or not at all.
    fn check_together(&self, seen: &Seen) -> Result<(), Broken> {
        let shows = |outcome: Outcome| {
            self.together.iter().all(|(name, op)| {
                let versioned = self.is_versioned(&name.bucket);
                let record = self.keys.get(name).cloned().unwrap_or_default();
                let after = record.after(op, outcome, versioned);
                after.contains(&seen.key(name))
            })
        };
        if shows(Outcome::Done) || shows(Outcome::NotDone) {
            return Ok(());
        }
        let shown: Vec<(&Name, KeyState)> = self
            .together
            .iter()
            .map(|(name, _)| (name, seen.key(name)))
            .collect();
        Err(Broken::Contradiction(format!(
            "a transaction of {:?} is neither there nor not there: {shown:?}",
            self.together
        )))
    }

    fn is_versioned(&self, bucket: &str) -> bool {
        self.buckets
            .get(bucket)
            .is_some_and(|bucket| bucket.versioned)
    }

    /// An operation is about to be sent.
    pub fn begin(&mut self, name: &Name, op: Op) {
        let record = self.keys.entry(name.clone()).or_default();
        assert!(
            record.open.is_none(),
            "two operations at a time on {name:?}"
        );
        record.history.push((op.clone(), None));
        record.open = Some(op);
    }

    /// Its outcome is known. An answer that cannot be right is an error.
    pub fn end(&mut self, name: &Name, outcome: Outcome) -> Result<(), Broken> {
        let versioned = self.is_versioned(&name.bucket);
        let record = self.keys.entry(name.clone()).or_default();
        let Some(op) = record.open.take() else {
            panic!("{name:?}: an outcome without an operation");
        };
        if let Some(last) = record.history.last_mut() {
            last.1 = Some(outcome);
        }
        let after = record.after(&op, outcome, versioned);
        if after.is_empty() {
            return Err(Broken::WrongAnswer {
                name: name.clone(),
                op,
                outcome,
                possible: record.possible.iter().cloned().collect(),
                history: record.tell(),
            });
        }
        record.possible = after;
        Ok(())
    }

    /// Everything still in flight will never be answered: the store went down.
    pub fn crash(&mut self) {
        let open: Vec<Name> = self
            .keys
            .iter()
            .filter(|(_, record)| record.open.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for name in open {
            let unexplained = self.end(&name, Outcome::Unknown);
            assert!(
                unexplained.is_ok(),
                "an unknown outcome leaves every state possible"
            );
        }
    }

    /// Whether what is seen can be; operations in flight count as unknown.
    pub fn check(&self, seen: &Seen) -> Result<(), Broken> {
        for (bucket, record) in &self.buckets {
            if !record.may_lack && !seen.buckets.contains_key(bucket) {
                return Err(Broken::Contradiction(format!(
                    "bucket {bucket} was acknowledged and is gone"
                )));
            }
        }
        for bucket in seen.buckets.keys() {
            if !self
                .buckets
                .get(bucket)
                .is_some_and(|record| record.may_exist)
            {
                return Err(Broken::Contradiction(format!(
                    "bucket {bucket} was never made"
                )));
            }
        }
        self.check_together(seen)?;
        for (name, record) in &self.keys {
            if !self.together.iter().any(|(together, _)| together == name) {
                self.check_key(name, record, seen.key(name))?;
            }
        }
        for (bucket, keys) in &seen.buckets {
            for (key, state) in keys {
                let name = Name::new(bucket.clone(), key.clone());
                if !self.keys.contains_key(&name) && !state.is_nothing() {
                    self.check_key(&name, &KeyRecord::default(), state.clone())?;
                }
            }
        }
        Ok(())
    }

    /// Whether one key may look like this.
    pub fn check_one(&self, name: &Name, seen: KeyState) -> Result<(), Broken> {
        let nothing = KeyRecord::default();
        self.check_key(name, self.keys.get(name).unwrap_or(&nothing), seen)
    }

    fn check_key(&self, name: &Name, record: &KeyRecord, seen: KeyState) -> Result<(), Broken> {
        let versioned = self.is_versioned(&name.bucket);
        let possible = match &record.open {
            Some(op) => record.after(op, Outcome::Unknown, versioned),
            None => record.possible.clone(),
        };
        if possible.contains(&seen) {
            return Ok(());
        }
        Err(Broken::Unexplained {
            name: name.clone(),
            seen: Box::new(seen),
            possible: possible.into_iter().collect(),
            history: record.tell(),
        })
    }

    /// Takes what was seen (and checked) for settled.
    pub fn settle(&mut self, seen: &Seen) {
        for (bucket, record) in &mut self.buckets {
            record.may_exist = seen.buckets.contains_key(bucket);
            record.may_lack = !record.may_exist;
        }
        self.together.clear();
        for (name, record) in &mut self.keys {
            record.settle(seen.key(name));
        }
    }

    /// Takes what was seen of one key (and checked) for settled.
    pub fn settle_one(&mut self, name: &Name, seen: KeyState) {
        self.keys.entry(name.clone()).or_default().settle(seen);
    }

    /// The keys that were ever written to.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.keys.keys()
    }

    /// What a key may be; for tests that choose their next operation by it.
    pub fn possible(&self, name: &Name) -> Vec<KeyState> {
        let record = self.keys.get(name);
        record.map_or_else(
            || vec![KeyState::default()],
            |record| record.possible.iter().cloned().collect(),
        )
    }
}

impl KeyRecord {
    fn after(&self, op: &Op, outcome: Outcome, versioned: bool) -> BTreeSet<KeyState> {
        let mut after = BTreeSet::new();
        for state in &self.possible {
            let applied = op.apply(state, versioned);
            match outcome {
                Outcome::Done => after.extend(applied),
                Outcome::Refused => after.extend(applied.is_none().then(|| state.clone())),
                Outcome::NotDone => after.extend([state.clone()]),
                Outcome::Unknown => {
                    after.extend([Some(state.clone()), applied].into_iter().flatten())
                }
            }
        }
        after
    }

    fn settle(&mut self, seen: KeyState) {
        assert!(self.open.is_none(), "settled with an operation in flight");
        self.possible = BTreeSet::from([seen]);
    }

    /// The last operations, as a line.
    fn tell(&self) -> String {
        let from = self.history.len().saturating_sub(12);
        let mut line = String::new();
        for (op, outcome) in &self.history[from..] {
            use fmt::Write as _;
            let outcome = outcome.map_or("in flight".to_owned(), |outcome| format!("{outcome:?}"));
            let _ = write!(
                line,
                "{}{op:?}: {outcome}",
                if line.is_empty() { "" } else { ", " }
            );
        }
        line
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::content::{Content, Piece};

    fn content(seed: u64) -> Content {
        Piece::new(seed, 20).into()
    }

    fn shows(content: Option<Content>) -> Seen {
        let state = KeyState {
            versions: content.map(Some).into_iter().collect(),
            ..KeyState::default()
        };
        let keys = BTreeMap::from([("k".to_owned(), state)]);
        Seen {
            buckets: BTreeMap::from([("b".to_owned(), keys)]),
        }
    }

    fn oracle(steps: &[(Op, Option<Outcome>)]) -> Oracle {
        let mut oracle = Oracle::new();
        oracle.begin_bucket("b", false);
        oracle.bucket_made("b");
        let name = Name::new("b", "k");
        for (op, outcome) in steps {
            oracle.begin(&name, op.clone());
            if let Some(outcome) = outcome {
                oracle.end(&name, *outcome).unwrap();
            }
        }
        oracle
    }

    /// The failure this whole crate exists for.
    #[test]
    fn an_acknowledged_write_that_is_gone_is_reported() {
        let done = Some(Outcome::Done);
        let oracle = oracle(&[(Op::Put(content(1)), done), (Op::Put(content(2)), done)]);
        assert!(oracle.check(&shows(Some(content(2)))).is_ok());
        assert!(
            oracle.check(&shows(Some(content(1)))).is_err(),
            "an older state came back"
        );
        assert!(oracle.check(&shows(None)).is_err(), "the object is gone");
        assert!(
            oracle.check(&Seen::default()).is_err(),
            "the bucket is gone"
        );
    }

    /// A write without an answer may be there or not, but only as a whole, and only until it was looked at.
    #[test]
    fn a_write_without_an_answer_may_or_may_not_be_there() {
        let mut oracle = oracle(&[
            (Op::Put(content(1)), Some(Outcome::Done)),
            (Op::Put(content(2)), Some(Outcome::Unknown)),
            (Op::Delete, None),
        ]);
        for seen in [Some(content(1)), Some(content(2)), None] {
            assert!(oracle.check(&shows(seen)).is_ok());
        }
        assert!(
            oracle.check(&shows(Some(content(3)))).is_err(),
            "never written"
        );
        oracle.crash();
        oracle.settle(&shows(Some(content(1))));
        assert!(
            oracle.check(&shows(Some(content(2)))).is_err(),
            "it changed after it was seen"
        );
    }

    /// A deleted object that comes back is as bad as a lost one.
    #[test]
    fn a_deleted_object_that_comes_back_is_reported() {
        let done = Some(Outcome::Done);
        let oracle = oracle(&[(Op::Put(content(1)), done), (Op::Delete, done)]);
        assert!(oracle.check(&shows(Some(content(1)))).is_err());
        assert!(oracle.check(&shows(None)).is_ok());
    }

    /// "Precondition failed" for a key that cannot have been there is a wrong answer by itself.
    #[test]
    fn an_answer_that_no_state_explains_is_reported_at_once() {
        let name = Name::new("b", "k");
        let mut oracle = oracle(&[]);
        oracle.begin(&name, Op::PutIfAbsent(content(1)));
        assert!(oracle.end(&name, Outcome::Refused).is_err());
    }

    /// A transaction that was cut short is there with all it wrote, or with nothing of it.
    #[test]
    fn half_a_transaction_is_reported() {
        let mut oracle = oracle(&[(Op::Put(content(1)), Some(Outcome::Done))]);
        let other = Name::new("b", "other");
        let both = [
            (Name::new("b", "k"), Op::Put(content(2))),
            (other.clone(), Op::Put(content(3))),
        ];
        oracle.begin_together(&both);
        oracle.crash();
        let with = |k: u64, other: Option<u64>| {
            let mut seen = shows(Some(content(k)));
            if let Some(seed) = other {
                let state = KeyState {
                    versions: vec![Some(content(seed))],
                    ..KeyState::default()
                };
                let keys = seen.buckets.entry("b".to_owned()).or_default();
                keys.insert("other".to_owned(), state);
            }
            seen
        };
        assert!(oracle.check(&with(1, None)).is_ok());
        assert!(oracle.check(&with(2, Some(3))).is_ok());
        assert!(oracle.check(&with(1, Some(3))).is_err());
        assert!(oracle.check(&with(2, None)).is_err());
        oracle.settle(&with(2, Some(3)));
        assert!(oracle.check(&with(1, None)).is_err(), "it was there");
    }

    /// An upload is invisible until it completes, then it is its listed parts and nothing else.
    #[test]
    fn a_completed_upload_is_exactly_its_listed_parts() {
        let (one, two) = (Piece::new(1, 20), Piece::new(2, 20));
        let up = || "u".to_owned();
        let oracle = oracle(&[
            (Op::CreateUpload(up()), Some(Outcome::Done)),
            (Op::Part(up(), 1, one), Some(Outcome::Done)),
            (Op::Part(up(), 2, two), Some(Outcome::Done)),
            (Op::Complete(up(), vec![2]), Some(Outcome::Done)),
        ]);
        assert!(oracle.check(&shows(Some(two.into()))).is_ok());
        assert!(oracle.check(&shows(Some(Content(vec![one, two])))).is_err());
        assert!(oracle.check(&shows(None)).is_err());
    }
}
