//! Every crash of a workload: where it stops, what the disk keeps, and whether the node comes back with what it promised.
//!
//! ```text
//!   a sequence of steps, run once; before each operation of the disk, a copy of the disk is kept
//!      -> each of them: a process kill (cache kept), and power cuts (any part of what is not synced kept)
//!            -> recover, read everything, judge
//!               -> before each operation of *that* recovery: power cuts -> recover, read, judge
//! ```
//! Always true:
//! * a state is judged by what clients had been told at that very operation, no more and no less;
//! * once a recovered node has shown something, a second crash may not change it: the history is settled by what was seen;
//! * a state is named by words (`Label`), and the same name gives the same state in every run.
//!
//! Elsewhere: what the steps are (`steps`), what a power cut keeps (`env::sim::SimDisk`), the judgement (`oracle`).

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use minikv_core::env::sim::{Fault, OpKind, SimDisk};
use parking_lot::Mutex;

use crate::client::Ledger;
use crate::life::{self, Furnished};
use crate::oracle::Oracle;
use crate::steps::{Shape, Step};

/// A moment of a run: the disk as a kill right then would leave it, and what clients had been told.
struct Moment {
    disk: SimDisk,
    known: Oracle,
    /// The operation that did not happen any more, in words.
    at: String,
}

type Moments = Arc<Mutex<Vec<Moment>>>;

/// Keeps the disk and what is known before each operation from now on.
fn record(moments: &Moments, disk: &SimDisk, ledger: &Ledger, lie: Option<&'static str>) {
    let (moments, ledger) = (moments.clone(), ledger.clone());
    disk.on_op(move |disk, op| {
        if lie
            .is_some_and(|part| op.kind == OpKind::Sync && op.path.to_string_lossy().contains(part))
        {
            disk.fail_at(op.number, Fault::Lost);
        }
        let moment = Moment {
            disk: disk.after_kill(),
            known: ledger.lock().clone(),
            at: format!("op {} ({:?} {})", op.number, op.kind, op.path.display()),
        };
        moments.lock().push(moment);
    });
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
        self.crashes
            .iter()
            .try_for_each(|crash| write!(f, " / {crash}"))
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
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selection {
    /// One in so many of the states after one crash; 1 is all.
    pub once: u64,
    /// One in so many of the states after a kill and a power cut of the recovery from it; 0 is none.
    pub twice: u64,
    /// Only this state, and what leads to it.
    pub only: Option<String>,
}

impl Selection {
    /// Whether a state is one of those. By its name, so that it does not depend on how many others there are.
    fn takes(&self, label: &Label) -> bool {
        let stride = if label.crashes.len() > 1 {
            self.twice
        } else {
            self.once
        };
        let name = label.to_string();
        let asked = |only: &String| only.starts_with(&name) || name.starts_with(only.as_str());
        match &self.only {
            Some(only) => asked(only),
            None => stride > 0 && hash(&name).is_multiple_of(stride),
        }
    }
}

/// FNV-1a: the same in every run, on every machine.
fn hash(name: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // Its low bits are weak.
    hash ^ (hash >> 29)
}

/// What came of it.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// States met, looked at or not.
    pub met: u64,
    /// States recovered and judged.
    pub judged: u64,
    /// States that were, byte for byte and in their history, one judged before.
    pub same: u64,
    /// Those that failed.
    pub failures: Vec<Failure>,
}

impl Tally {
    /// Adds another one's.
    pub fn add(&mut self, other: Tally) {
        self.met += other.met;
        self.judged += other.judged;
        self.same += other.same;
        self.failures.extend(other.failures);
    }
}

/// Walks over crashes.
pub struct Walk<'a> {
    selection: &'a Selection,
    /// Disks (and histories) that were judged, by their digests.
    judged: HashSet<(u128, u64)>,
    tally: Tally,
    lie: Option<&'static str>,
    /// Of the store that is walked over.
    shape: Shape,
}

impl<'a> Walk<'a> {
    /// Nothing met yet.
    pub fn new(selection: &'a Selection) -> Walk<'a> {
        Walk {
            selection,
            judged: HashSet::new(),
            tally: Tally::default(),
            lie: None,
            shape: Shape::ONE_GROUP,
        }
    }

    /// On a device that says `Ok` to syncs of paths that contain `part`, and does nothing: all this must see through it.
    pub fn lying_about(self, part: &'static str) -> Walk<'a> {
        Walk {
            lie: Some(part),
            ..self
        }
    }

    /// What came of it.
    pub fn finish(self) -> Tally {
        self.tally
    }

    /// All crashes of these steps, done to that store.
    pub fn sequence(&mut self, store: &Furnished, steps: &[Step]) {
        let names: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        let label = Label {
            steps: names.join(" "),
            crashes: Vec::new(),
        };
        let (disk, ledger) = store.copy();
        let moments = Moments::default();
        // From the first step on: crashes of the start belong to recoveries.
        self.shape = store.shape();
        let worked = life::work(&disk, &ledger, steps, self.shape, || {
            record(&moments, &disk, &ledger, self.lie)
        });
        self.all(label, moments, worked, true);
    }

    /// All crashes of the very first start, and of making the first bucket.
    pub fn first_start(&mut self) {
        let label = Label {
            steps: "FirstStart".to_owned(),
            crashes: Vec::new(),
        };
        let (disk, ledger) = (SimDisk::new(1), Ledger::default());
        let moments = Moments::default();
        record(&moments, &disk, &ledger, self.lie);
        let begun = life::begin(&disk, &ledger);
        self.all(label, moments, begun, true);
    }

    fn all(&mut self, label: Label, moments: Moments, lived: Result<(), String>, again: bool) {
        if let Err(what) = lived {
            self.tally.failures.push(Failure { label, what });
            return;
        }
        let moments = std::mem::take(&mut *moments.lock());
        for moment in &moments {
            if again {
                let label = label.and(format!("kill at {}", moment.at));
                self.judge(
                    label,
                    || moment.disk.after_kill(),
                    &moment.known,
                    self.selection.twice > 0,
                );
            }
            for cut in moment.disk.power_cuts() {
                let label = label.and(format!("power cut at {} keeping {cut:?}", moment.at));
                self.judge(
                    label,
                    || moment.disk.after_power_cut(&cut),
                    &moment.known,
                    false,
                );
            }
        }
    }

    /// Recovers a state and judges it, if it is one to be looked at; `again`: then cuts that recovery.
    fn judge(&mut self, label: Label, disk: impl FnOnce() -> SimDisk, known: &Oracle, again: bool) {
        self.tally.met += 1;
        if !self.selection.takes(&label) {
            return;
        }
        let disk = disk();
        let mut known = known.clone();
        known.crash();
        if !self
            .judged
            .insert((disk.digest(), hash(&format!("{known:?}"))))
        {
            self.tally.same += 1;
            return;
        }
        self.tally.judged += 1;
        let moments = Moments::default();
        let ledger: Ledger = Arc::new(Mutex::new(known));
        if again {
            record(&moments, &disk, &ledger, self.lie);
        }
        let recovered = life::recover(&disk, &ledger, self.shape);
        self.all(label, moments, recovered, false);
    }
}
