//! Every crash of a workload: where it stops, what the disk keeps, and whether the node comes back with what it promised.
//!
//! ```text
//!   a sequence of steps, run once, recording the disk before each operation
//!      -> before every operation: a process kill (cache kept) and power cuts (any part of what is not synced kept)
//!            -> recover, read everything, judge
//!               -> and before every operation of *that* recovery: a power cut -> recover, read, judge
//! ```
//! Always true:
//! * the history a crash is judged by is what clients had been told at that very operation, no more and no less;
//! * once a recovered node has shown something, a second crash may not change it: the history is settled by what was seen;
//! * a state is named by words (`Label`), and the same name gives the same state in every run.
//!
//! Elsewhere: what the steps are (`steps`), what a power cut keeps (`env::sim::SimDisk`), the judgement (`oracle`).

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use minikv_core::env::sim::{self, Choice, SimDisk};
use parking_lot::Mutex;

use crate::client::{Client, Ledger};
use crate::content::Piece;
use crate::model::{Name, Op};
use crate::observe;
use crate::oracle::Oracle;
use crate::steps::Step;
use crate::world::{World, small_options};

/// A moment of a run: the disk as a kill right then would leave it, and what clients had been told.
struct Moment {
    disk: SimDisk,
    known: Oracle,
    op: u64,
    doing: String,
}

/// Which state this is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Label {
    /// The steps.
    pub steps: String,
    /// What happened to them, in order.
    pub crashes: Vec<String>,
}

impl Label {
    fn and(&self, crash: String) -> Label {
        let mut label = self.clone();
        label.crashes.push(crash);
        label
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.steps)?;
        self.crashes.iter().try_for_each(|crash| write!(f, " / {crash}"))
    }
}

/// A state that the node did not come back from as promised.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which one.
    pub label: Label,
    /// What was wrong.
    pub what: String,
}

/// Which states are looked at.
#[derive(Clone, Debug)]
pub struct Selection {
    /// One in so many; 1 is all.
    pub stride: u64,
    /// Only states whose name contains this.
    pub only: Option<String>,
    /// Whether recoveries are cut, too.
    pub twice: bool,
}

/// What came of it.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// States there are.
    pub states: u64,
    /// States recovered and judged.
    pub judged: u64,
    /// States that were the same as one judged before, byte for byte and in history.
    pub same: u64,
    /// Those that failed.
    pub failures: Vec<Failure>,
}

impl Tally {
    /// Adds another one's.
    pub fn add(&mut self, other: Tally) {
        self.states += other.states;
        self.judged += other.judged;
        self.same += other.same;
        self.failures.extend(other.failures);
    }
}

/// Walks over the crashes of one sequence.
pub struct Walk<'a> {
    selection: &'a Selection,
    known_states: HashSet<(u128, String)>,
    tally: Tally,
}

impl<'a> Walk<'a> {
    /// Nothing seen yet.
    pub fn new(selection: &'a Selection) -> Walk<'a> {
        Walk {
            selection,
            known_states: HashSet::new(),
            tally: Tally::default(),
        }
    }

    /// What came of it.
    pub fn finish(self) -> Tally {
        self.tally
    }

    /// All crashes of these steps, done to that store.
    pub fn sequence(&mut self, store: &(SimDisk, Oracle), steps: &[Step]) {
        let names: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        let label = Label {
            steps: names.join(" "),
            crashes: Vec::new(),
        };
        match work(store, steps) {
            Ok(moments) => moments.iter().for_each(|moment| self.crashes(&label, moment, true)),
            Err(what) => self.tally.failures.push(Failure { label, what }),
        }
    }

    /// All crashes of the very first start.
    pub fn first_start(&mut self) {
        let label = Label {
            steps: "FirstStart".to_owned(),
            crashes: Vec::new(),
        };
        let empty = SimDisk::new(1);
        match recover(&empty, &Oracle::new(), true) {
            Ok(moments) => moments.iter().for_each(|moment| self.crashes(&label, moment, true)),
            Err(what) => self.tally.failures.push(Failure { label, what }),
        }
    }

    fn crashes(&mut self, label: &Label, moment: &Moment, first: bool) {
        let at = format!("op {} ({})", moment.op, moment.doing);
        if first {
            let killed = moment.disk.after_kill();
            self.judge(label.and(format!("kill at {at}")), killed, &moment.known, first);
        }
        for cut in moment.disk.power_cuts() {
            let label = label.and(format!("power cut at {at} keeping {cut:?}"));
            if !self.wanted(&label) {
                continue;
            }
            let after = moment.disk.after_power_cut(&cut);
            self.judge_now(label, after, &moment.known, first);
        }
    }

    fn judge(&mut self, label: Label, disk: SimDisk, known: &Oracle, go_on: bool) {
        if self.wanted(&label) {
            self.judge_now(label, disk, known, go_on);
        } else if go_on && self.selection.twice {
            // This one is not looked at itself, some of what may follow from it is.
            if let Ok(moments) = recover(&disk, known, false) {
                moments.iter().for_each(|moment| self.crashes(&label, moment, false));
            }
        }
    }

    /// Counts it, and says whether it is one of those to be looked at.
    fn wanted(&mut self, label: &Label) -> bool {
        self.tally.states += 1;
        let name = label.to_string();
        let chosen = self.selection.stride <= 1 || hash(&name) % self.selection.stride == 0;
        let asked = self.selection.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
        chosen && asked
    }

    fn judge_now(&mut self, label: Label, disk: SimDisk, known: &Oracle, go_on: bool) {
        let mut known = known.clone();
        known.crash();
        if !self.known_states.insert((disk.fingerprint(), format!("{known:?}"))) {
            self.tally.same += 1;
            return;
        }
        self.tally.judged += 1;
        let killed = label.crashes.last().is_some_and(|crash| crash.starts_with("kill"));
        let again = go_on && killed && self.selection.twice;
        match recover(&disk, &known, again) {
            Ok(moments) => moments.iter().for_each(|moment| self.crashes(&label, moment, false)),
            Err(what) => self.tally.failures.push(Failure { label, what }),
        }
    }
}

/// A name's place among all: the same in every run, on every machine.
fn hash(name: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // The low bits of FNV are weak.
    hash ^ (hash >> 29)
}

/// What clients knew from which operation of the disk on.
#[derive(Default)]
struct Journal(Vec<(u64, Oracle)>);

impl Journal {
    fn note(&mut self, disk: &SimDisk, ledger: &Ledger) {
        self.0.push((disk.op_count(), ledger.lock().clone()));
    }

    /// What was known when this operation began.
    fn at(&self, op: u64) -> Oracle {
        let known = self.0.iter().rev().find(|(from, _)| *from <= op);
        known.map(|(_, oracle)| oracle.clone()).unwrap_or_default()
    }
}
