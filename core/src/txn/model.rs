//! A small model checker: transactions that all write the same two keys, in two groups, run by the real state machines
//! on the real `apply`. Every order of deliveries is tried, with a coordinator that dies anywhere, a message that is
//! lost, one that comes twice, somebody who does not wait. After every single step:
//! * both keys show the value of the transaction that was committed last, or what was there before: never a mixture;
//! * who was told "committed" is committed, who was told otherwise is not.
//!
//! And when nothing can happen any more: no intent is left, nobody waits for an answer.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashSet};

use minikv_proto::entry as wire;

use crate::ids::{BucketId, GroupId, TxnId, VShard};
use crate::kv::{VersionSelector, Versioning};
use crate::state::answer::{Answer, Done};
use crate::state::entry::{self, Body, Entry};
use crate::state::intent::{TxnRef, TxnState, txn_name};
use crate::state::read::{self, Decided, Look};
use crate::state::tests::world::{Dice, World, described};
use crate::txn::coordinator::{Coordinator, Event, Outcome, Step};
use crate::txn::participant::Vote;
use crate::txn::recovery::{Known, Next, clear};

const GROUPS: [GroupId; 2] = [GroupId(1), GroupId(2)];
const KEYS: [&str; 2] = ["a", "b"];
const BUCKET: BucketId = BucketId(1);

/// What may go wrong, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Faults {
    crashes: u8,
    losses: u8,
    copies: u8,
    impatience: u8,
    /// Transactions that were aborted try again.
    retries: u8,
    /// Only what the oldest one sends and hears is lost.
    spare_younger: bool,
}

/// A transaction and who runs it.
#[derive(Clone)]
struct Run {
    txn: TxnRef,
    coordinator: Option<Coordinator>,
    outcome: Option<Outcome>,
    /// In each group: its gateway's session, the next sequence, and the open ones.
    sessions: [(u64, u64, BTreeSet<u64>); 2],
}

/// Something under way.
#[derive(Clone)]
enum Mail {
    /// An entry to a group, for a step of a run.
    Entry {
        run: usize,
        group: usize,
        step: Step,
        entry: Box<Entry>,
        payload: usize,
        counts: bool,
    },
    /// What happened, to whoever runs it.
    Event { run: usize, event: Event },
}

#[derive(Clone)]
struct Model {
    groups: [World; 2],
    runs: Vec<Run>,
    mail: Vec<Mail>,
    faults: Faults,
    /// By their decisions, in order.
    committed: Vec<usize>,
    /// Answers arrive at once. What follows from them may still come at any later time, so without crashes and losses
    /// only the order of answers to one coordinator is not tried.
    prompt: bool,
}

impl Model {
    fn new(transactions: usize, faults: Faults) -> Model {
        let only = |key: &str| vec![u32::from(VShard::of(BUCKET, key.as_bytes()).0)];
        let mut groups = [0, 1].map(|n: usize| World::of(GROUPS[n], only(KEYS[n])));
        for (group, key) in groups.iter_mut().zip(KEYS) {
            group.twice = false;
            group.bucket(BUCKET.0, Versioning::Off);
            group.put(BUCKET, key, "before");
        }
        let mut model = Model {
            groups,
            runs: Vec::new(),
            mail: Vec::new(),
            faults,
            committed: Vec::new(),
            prompt: faults != Faults::default(),
        };
        for n in 0..transactions {
            model.begin(n as u64 + 1, n % 2);
        }
        model
    }

    fn begin(&mut self, age_ms: u64, coordinator: usize) {
        let sessions =
            [0, 1].map(|group: usize| (self.groups[group].open_session(), 1, BTreeSet::new()));
        let id = TxnId {
            coordinator: GROUPS[coordinator],
            session: sessions[coordinator].0,
            sequence: 1,
        };
        let txn = TxnRef {
            id,
            age_ms,
            participants: GROUPS.to_vec(),
        };
        let (machine, steps) = Coordinator::begin(txn.clone());
        let run = Run {
            txn,
            coordinator: Some(machine),
            outcome: None,
            sessions,
        };
        self.runs.push(run);
        self.send(self.runs.len() - 1, steps);
    }

    // ---- what the driver does ----

    fn send(&mut self, run: usize, steps: Vec<Step>) {
        for step in steps {
            let home = at(self.runs[run].txn.id.coordinator);
            let (group, counts) = match &step {
                Step::Begin => (home, true),
                Step::Commit => (home, true),
                Step::Abort | Step::Drop => (home, false),
                Step::Prepare(group) => (at(*group), true),
                Step::Finish(group, _) => (at(*group), false),
                Step::Clear(group, _) => (at(*group), false),
            };
            let (body, payload) = self.body(run, group, &step);
            let mut entry = Entry {
                now_ms: 5,
                command: None,
                payload_len: payload as u32,
                body,
            };
            if counts {
                let (session, next, open) = &mut self.runs[run].sessions[group];
                // The record's sequence is the transaction's name: what clears the way does not change it.
                let sequence = if step == Step::Begin {
                    1
                } else {
                    (*next).max(2)
                };
                *next = sequence.max(*next) + 1;
                open.insert(sequence);
                let lowest = *open.first().unwrap();
                entry.command = Some(wire::Command {
                    session: *session,
                    sequence,
                    lowest,
                });
            }
            self.mail.push(Mail::Entry {
                run,
                group,
                step,
                entry: Box::new(entry),
                payload,
                counts,
            });
        }
    }

    fn body(&self, run: usize, group: usize, step: &Step) -> (Option<Body>, usize) {
        let txn = &self.runs[run].txn;
        let name = Some(txn_name(txn.id));
        let data = format!("t{run}");
        let part = || {
            let content = entry::inline(data.as_bytes());
            let put = wire::WritePut {
                version: described(&data),
                content,
            };
            let target = self.groups[group].target(BUCKET, KEYS[group]);
            let write = wire::Write {
                target,
                kind: Some(wire::write::Kind::Put(put)),
            };
            Some(wire::TxnPart {
                writes: vec![write],
                ..wire::TxnPart::default()
            })
        };
        match step {
            Step::Begin => {
                let pending = wire::Pending {
                    txn: Some(txn.to_row()),
                    deadline_ms: 0,
                    own: part(),
                };
                (Some(Body::Pending(pending)), data.len())
            }
            Step::Prepare(_) => (
                Some(Body::Prepare(wire::Prepare {
                    txn: Some(txn.to_row()),
                    part: part(),
                })),
                data.len(),
            ),
            Step::Commit => (Some(Body::Commit(wire::Commit { txn: name })), 0),
            Step::Abort => (
                Some(Body::Aborted(wire::Aborted {
                    txn: Some(txn.to_row()),
                })),
                0,
            ),
            Step::Finish(_, committed) => (
                Some(Body::Finish(wire::Finish {
                    txn: name,
                    committed: *committed,
                })),
                0,
            ),
            Step::Drop => (
                Some(Body::DropTxn(wire::DropTxn {
                    txn: name,
                    confirmed: vec![1, 2],
                })),
                0,
            ),
            Step::Clear(..) => (None, 0),
        }
    }

    fn deliver(&mut self, n: usize, keep: bool) {
        let mail = if keep {
            self.mail[n].clone()
        } else {
            self.mail.remove(n)
        };
        match mail {
            Mail::Event { run, event } => self.event(run, event),
            Mail::Entry {
                run,
                group,
                step: Step::Clear(at_group, other),
                ..
            } => {
                self.recover(group, &other.0, false);
                self.tell(run, Event::Cleared(at_group, true));
            }
            Mail::Entry {
                run,
                group,
                step,
                entry,
                payload,
                ..
            } => {
                assert_eq!(entry.payload_len as usize, payload);
                let answer = self.agree(run, group, &entry);
                let event = match step {
                    Step::Begin | Step::Prepare(_) => {
                        Some(Event::Said(GROUPS[group], Vote::of(answer.clone()).0))
                    }
                    Step::Commit | Step::Abort => Some(Event::Decided(decided(&answer))),
                    Step::Finish(of, _) => Some(Event::Finished(of)),
                    Step::Drop | Step::Clear(..) => None,
                };
                // An answer to try again leaves its sequence open: the same step is delivered again under it.
                if let (Some(command), Answer::Done(_) | Answer::Refused(_)) =
                    (entry.command, &answer)
                {
                    self.runs[run].sessions[group].2.remove(&command.sequence);
                }
                if let Some(event) = event {
                    self.tell(run, event);
                }
            }
        }
    }

    fn tell(&mut self, run: usize, event: Event) {
        if self.prompt && self.faults.crashes == 0 && self.faults.losses == 0 {
            self.event(run, event);
        } else {
            self.mail.push(Mail::Event { run, event });
        }
    }

    fn event(&mut self, run: usize, event: Event) {
        let Some(machine) = &mut self.runs[run].coordinator else {
            return;
        };
        let reaction = machine.on(event);
        if let Some(outcome) = reaction.outcome {
            assert!(self.runs[run].outcome.is_none(), "answered twice");
            let again = matches!(outcome, Outcome::TryAnew { .. }) && self.faults.retries > 0;
            self.runs[run].outcome = Some(outcome);
            if again {
                self.faults.retries -= 1;
                let (age_ms, home) = (
                    self.runs[run].txn.age_ms,
                    at(self.runs[run].txn.id.coordinator),
                );
                self.begin(age_ms, home);
            }
        }
        self.send(run, reaction.steps);
    }

    fn agree(&mut self, run: usize, group: usize, entry: &Entry) -> Answer {
        let name = self.runs[run].txn.id;
        let committed_before = self.record(name) == Some(TxnState::Committed);
        let answer = self.groups[group].apply(entry).answer;
        if !committed_before && self.record(name) == Some(TxnState::Committed) {
            assert!(!self.committed.contains(&run), "committed twice");
            self.committed.push(run);
        }
        answer
    }

    fn record(&self, id: TxnId) -> Option<TxnState> {
        let found = read::txn(&self.groups[at(id.coordinator)].rows, id).unwrap();
        found.map(|record| record.state)
    }

    /// Somebody in `group` met this transaction.
    fn recover(&mut self, group: usize, txn: &TxnRef, patient: bool) {
        let there = read::prepared(&self.groups[group].rows, txn.id)
            .unwrap()
            .is_some();
        let known = match self.record(txn.id) {
            Some(state) => Known::Record(state),
            None if there => Known::NoRecordButIntent,
            None => return,
        };
        let committed = match clear(known, patient) {
            Next::Wait | Next::LookAgain => return,
            Next::Finish { committed } => committed,
            Next::HaveAborted => {
                let body = Body::Aborted(wire::Aborted {
                    txn: Some(txn.to_row()),
                });
                let answer = self.groups[at(txn.id.coordinator)].answer(body);
                decided(&answer) == Some(TxnState::Committed)
            }
        };
        let finish = wire::Finish {
            txn: Some(txn_name(txn.id)),
            committed,
        };
        self.groups[group].done(Body::Finish(finish));
    }

    // ---- everything that may happen next ----

    fn choices(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (n, mail) in self.mail.iter().enumerate() {
            choices.push(Choice::Deliver(n));
            let (run, copied, lost) = match mail {
                Mail::Entry {
                    run, counts, step, ..
                } => (*run, !matches!(step, Step::Clear(..)), *counts),
                Mail::Event { run, event } => (
                    *run,
                    false,
                    matches!(event, Event::Said(..) | Event::Decided(_)),
                ),
            };
            if self.faults.copies > 0 && copied {
                choices.push(Choice::DeliverAndKeep(n));
            }
            if self.faults.losses > 0 && lost && (run == 0 || !self.faults.spare_younger) {
                choices.push(Choice::Lose(n));
            }
        }
        for (run, who) in self.runs.iter().enumerate() {
            if self.faults.crashes > 0 && who.coordinator.is_some() {
                choices.push(Choice::Crash(run));
            }
        }
        for (group, world) in self.groups.iter().enumerate() {
            for part in read::prepareds(&world.rows).unwrap() {
                let run = self
                    .runs
                    .iter()
                    .position(|run| run.txn.id == part.txn.id)
                    .unwrap();
                let decided = matches!(
                    self.record(part.txn.id),
                    Some(TxnState::Committed | TxnState::Aborted)
                );
                // Somebody who met it and is patient acts only when nobody else can.
                let alone = self.mail.is_empty();
                if decided || alone || self.faults.impatience > 0 {
                    choices.push(Choice::Recover(group, run));
                }
            }
        }
        choices
    }

    fn take(&mut self, choice: Choice) {
        match choice {
            Choice::Deliver(n) => self.deliver(n, false),
            Choice::DeliverAndKeep(n) => {
                self.faults.copies -= 1;
                self.deliver(n, true);
            }
            Choice::Lose(n) => {
                self.faults.losses -= 1;
                let (run, event) = match self.mail.remove(n) {
                    Mail::Entry {
                        run, group, step, ..
                    } => match step {
                        Step::Commit => (run, Event::Decided(None)),
                        _ => (run, Event::Said(GROUPS[group], Vote::Unknown)),
                    },
                    Mail::Event {
                        run,
                        event: Event::Said(group, _),
                    } => (run, Event::Said(group, Vote::Unknown)),
                    Mail::Event { run, .. } => (run, Event::Decided(None)),
                };
                self.event(run, event);
            }
            Choice::Crash(run) => {
                self.faults.crashes -= 1;
                self.runs[run].coordinator = None;
                // What it sent may still arrive; what would be told to it is heard by nobody.
                self.mail
                    .retain(|mail| !matches!(mail, Mail::Event { run: to, .. } if *to == run));
            }
            Choice::Recover(group, run) => {
                let undecided = !matches!(
                    self.record(self.runs[run].txn.id),
                    Some(TxnState::Committed | TxnState::Aborted)
                );
                if undecided && !self.mail.is_empty() {
                    self.faults.impatience -= 1;
                }
                let txn = self.runs[run].txn.clone();
                self.recover(group, &txn, false);
            }
        }
    }

    // ---- what must hold ----

    fn shown(&self, group: usize) -> String {
        let mut known = Decided::new();
        let key = KEYS[group].into();
        loop {
            match read::version(
                &self.groups[group].rows,
                BUCKET,
                &key,
                &VersionSelector::Current,
                &known,
            )
            .unwrap()
            {
                Look::At(version) => return version.unwrap().new.etag,
                Look::Ask(txns) => {
                    for txn in txns {
                        // Without a record a reader would have the abort agreed: the old value.
                        known.insert(txn.id, self.record(txn.id).unwrap_or(TxnState::Aborted));
                    }
                }
            }
        }
    }

    fn check(&self) {
        let expected = self
            .committed
            .last()
            .map_or("before".to_owned(), |run| format!("t{run}"));
        #[allow(
            clippy::needless_range_loop,
            reason = "the number names the group, too"
        )]
        for group in 0..2 {
            assert_eq!(
                self.shown(group),
                expected,
                "key {} of {:?}",
                KEYS[group],
                self.committed
            );
        }
        for (n, run) in self.runs.iter().enumerate() {
            match &run.outcome {
                Some(Outcome::Committed) => assert!(self.committed.contains(&n)),
                Some(Outcome::Unknown) | None => {}
                Some(_) => assert!(
                    !self.committed.contains(&n),
                    "told otherwise, but committed"
                ),
            }
        }
    }

    fn check_end(&self) {
        for world in &self.groups {
            assert!(
                read::prepareds(&world.rows).unwrap().is_empty(),
                "an intent is left"
            );
            world.check();
        }
        for (n, run) in self.runs.iter().enumerate() {
            assert!(
                run.coordinator.is_none() || run.outcome.is_some(),
                "transaction {n} waits for ever"
            );
        }
    }

    /// States that differ only in log indexes are one state.
    fn fingerprint(&self) -> u128 {
        let mut text = format!("{:?}{:?}", self.faults, self.committed);
        for (group, world) in self.groups.iter().enumerate() {
            let prepared = read::prepareds(&world.rows).unwrap();
            let held: Vec<TxnId> = prepared.iter().map(|part| part.txn.id).collect();
            let records: Vec<(TxnId, TxnState)> = read::txns(&world.rows)
                .unwrap()
                .iter()
                .map(|record| (record.txn.id, record.state))
                .collect();
            let value = match read::version(
                &world.rows,
                BUCKET,
                &KEYS[group].into(),
                &VersionSelector::Current,
                &held.iter().map(|id| (*id, TxnState::Pending)).collect(),
            ) {
                Ok(Look::At(version)) => version.map(|version| version.new.etag),
                other => panic!("{other:?}"),
            };
            text.push_str(&format!("|{held:?}{records:?}{value:?}"));
            for (id, session) in read::sessions(&world.rows).unwrap() {
                let range = crate::state::keys::results(id);
                let results: Vec<u8> = world
                    .rows
                    .0
                    .range(range.from..range.to)
                    .map(|(key, _)| *key.last().unwrap())
                    .collect();
                text.push_str(&format!("{id}:{}{results:?}", session.lowest));
            }
        }
        for run in &self.runs {
            text.push_str(&format!(
                "|{:?}{:?}{:?}",
                run.coordinator, run.outcome, run.sessions
            ));
        }
        let mut mail: Vec<String> = self
            .mail
            .iter()
            .map(|mail| match mail {
                Mail::Entry {
                    run,
                    group,
                    step,
                    entry,
                    ..
                } => format!("{run}{group}{step:?}{:?}", entry.command),
                Mail::Event { run, event } => format!("{run}{event:?}"),
            })
            .collect();
        mail.sort();
        text.push_str(&format!("{mail:?}"));
        xxhash_rust::xxh3::xxh3_128(text.as_bytes())
    }
}

#[derive(Clone, Copy, Debug)]
enum Choice {
    Deliver(usize),
    DeliverAndKeep(usize),
    Lose(usize),
    Crash(usize),
    Recover(usize, usize),
}

impl Choice {
    fn is_fault(&self) -> bool {
        matches!(
            self,
            Choice::DeliverAndKeep(_) | Choice::Lose(_) | Choice::Crash(_)
        )
    }
}

fn at(group: GroupId) -> usize {
    usize::from(group.0) - 1
}

fn decided(answer: &Answer) -> Option<TxnState> {
    match answer {
        Answer::Done(Done::Txn(state)) => Some(*state),
        Answer::Refused(crate::kv::Refusal::Aborted) => Some(TxnState::Aborted),
        _ => None,
    }
}

/// Tries every order. Answers the number of different states and how the runs ended.
fn explore(transactions: usize, faults: Faults) -> (usize, BTreeMap<String, usize>) {
    let mut seen = HashSet::new();
    let mut ends = BTreeMap::new();
    let mut stack = vec![Model::new(transactions, faults)];
    while let Some(model) = stack.pop() {
        if !seen.insert(model.fingerprint()) {
            continue;
        }
        model.check();
        let choices = model.choices();
        if choices.is_empty() {
            model.check_end();
            let end: Vec<&str> = model
                .runs
                .iter()
                .map(|run| short(run.outcome.as_ref()))
                .collect();
            *ends.entry(end.join(" ")).or_default() += 1;
        }
        for choice in choices {
            let mut next = model.clone();
            next.take(choice);
            if !seen.contains(&next.fingerprint()) {
                stack.push(next);
            }
        }
    }
    (seen.len(), ends)
}

fn short(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        None => "dead",
        Some(Outcome::Committed) => "committed",
        Some(Outcome::Refused(..)) => "refused",
        Some(Outcome::TryAnew { .. }) => "anew",
        Some(Outcome::Unreachable(_)) => "unreachable",
        Some(Outcome::Unknown) => "unknown",
    }
}

#[test]
fn one_transaction_survives_every_single_fault() {
    let faults = Faults {
        crashes: 1,
        losses: 1,
        copies: 1,
        impatience: 1,
        retries: 0,
        spare_younger: false,
    };
    let (states, ends) = explore(1, faults);
    println!("{states} states, ends: {ends:?}");
    assert!(
        ends.contains_key("committed") && ends.contains_key("dead") && ends.contains_key("unknown")
    );
}

#[test]
fn of_two_transactions_that_meet_each_is_whole_in_every_order() {
    let (states, ends) = explore(2, Faults::default());
    println!("{states} states, ends: {ends:?}");
    assert!(ends.contains_key("committed committed"));
    assert!(
        ends.keys().all(|end| end.starts_with("committed")),
        "the older one always gets through: {ends:?}"
    );
}

#[test]
fn two_transactions_survive_the_death_of_either_coordinator() {
    let (states, ends) = explore(
        2,
        Faults {
            crashes: 1,
            ..Faults::default()
        },
    );
    println!("{states} states, ends: {ends:?}");
    assert!(ends.contains_key("dead committed") && ends.contains_key("committed dead"));
}

#[test]
fn two_transactions_survive_a_lost_and_a_repeated_message() {
    for faults in [
        Faults {
            losses: 1,
            spare_younger: true,
            ..Faults::default()
        },
        Faults {
            copies: 1,
            ..Faults::default()
        },
        Faults {
            impatience: 1,
            ..Faults::default()
        },
    ] {
        let (states, ends) = explore(2, faults);
        println!("{faults:?}: {states} states, ends: {ends:?}");
        assert!(ends.contains_key("committed committed"));
    }
}

/// The same with two faults at once. Minutes: run by hand after changes here.
#[test]
#[ignore = "takes minutes"]
fn two_transactions_survive_two_faults_at_once() {
    for faults in [
        Faults {
            losses: 1,
            ..Faults::default()
        },
        Faults {
            copies: 2,
            ..Faults::default()
        },
        Faults {
            copies: 1,
            impatience: 1,
            ..Faults::default()
        },
        Faults {
            crashes: 1,
            impatience: 1,
            ..Faults::default()
        },
        Faults {
            crashes: 1,
            copies: 1,
            ..Faults::default()
        },
    ] {
        let (states, ends) = explore(2, faults);
        println!("{faults:?}: {states} states, ends: {ends:?}");
    }
}

/// Longer and dirtier than every order could be tried: three transactions that try again, everything goes wrong often.
#[test]
fn random_walks_with_many_faults_end_whole() {
    let mut committed = 0;
    for seed in 0..400 {
        let mut dice = Dice::new(seed);
        let faults = Faults {
            crashes: 1,
            losses: 2,
            copies: 6,
            impatience: 2,
            retries: 6,
            spare_younger: false,
        };
        let mut model = Model::new(3, faults);
        let mut steps = 0;
        loop {
            model.check();
            let choices = model.choices();
            let Some(mut choice) = (!choices.is_empty()).then(|| *dice.pick(&choices)) else {
                break;
            };
            // Most of the time things go well, or no transaction would ever come to its end.
            while choice.is_fault() && dice.below(10) != 0 {
                choice = *dice.pick(&choices);
                if choices.iter().all(Choice::is_fault) {
                    break;
                }
            }
            model.take(choice);
            steps += 1;
            assert!(steps < 5_000, "no end");
        }
        model.check_end();
        committed += model.committed.len();
    }
    println!("{committed} committed");
    assert!(committed > 300, "{committed} of about 1200 committed");
}
