//! Who runs a transaction: a state machine that is told what groups said and says what to propose next.
//!
//! Always true:
//! * two rounds of agreement before the answer, exactly: pending and prepares go out together, then the decision;
//! * commit is proposed only after every participant said yes, and once: under its session's sequence it may be
//!   delivered again, but a commit whose outcome is unknown is never proposed anew (its record may have been carried out
//!   and dropped by others: "no record" would then look like an abort);
//! * nothing waits while intents lie: of two transactions that meet, the older one has the younger one aborted and goes
//!   on, the younger one aborts itself and tries again with its age kept. So the oldest always gets through;
//! * "committed" is answered only after the commit was agreed, "refused" only after the abort was.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{BucketId, GroupId};
use crate::kv::Refusal;
use crate::state::intent::{TxnRef, TxnState};
use crate::txn::participant::Vote;

/// How often an older transaction clears one group's way before it gives up and tries anew.
const CLEARINGS: u32 = 8;

/// Something to be done, in parallel with all others under way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Step {
    /// Have `pending` agreed in the coordinator's group, with that group's own part if it has one.
    Begin,
    /// Have this group's part prepared.
    Prepare(GroupId),
    /// Finish a younger transaction that is in the way in this group: without patience, see `recovery`. Then `Cleared`.
    Clear(GroupId, Box<ClearOther>),
    /// Have `commit` agreed in the coordinator's group.
    Commit,
    /// Have `aborted` agreed in the coordinator's group.
    Abort,
    /// Tell a participant the decision, until it has it.
    Finish(GroupId, bool),
    /// All have it: drop the record. (Refused until its sequence is closed; the sweeper tries again then.)
    Drop,
}

/// The transaction that is in the way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClearOther(pub TxnRef);

impl PartialOrd for ClearOther {
    fn partial_cmp(&self, other: &ClearOther) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ClearOther {
    fn cmp(&self, other: &ClearOther) -> std::cmp::Ordering {
        (self.0.age_ms, self.0.id).cmp(&(other.0.age_ms, other.0.id))
    }
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A group's word on `Begin` (the coordinator's group) or `Prepare`.
    Said(GroupId, Vote),
    /// The way in this group was cleared, or could not be.
    Cleared(GroupId, bool),
    /// What the coordinator's group said to `Commit` or `Abort`; `None`: nobody knows.
    Decided(Option<TxnState>),
    /// A participant has the decision.
    Finished(GroupId),
}

/// How a transaction ended for whoever asked for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Everything is there.
    Committed,
    /// Nothing is: this group refused.
    Refused(GroupId, Refusal),
    /// Nothing is. Nothing is held any more: now wait for these, bring these facts, and try again with the age kept.
    TryAnew {
        /// Older transactions that were met, and where.
        met: Vec<(GroupId, TxnRef)>,
        /// Facts that groups lacked.
        behind: Vec<(GroupId, BucketId)>,
    },
    /// Nothing is, because this group could not be asked.
    Unreachable(GroupId),
    /// Nobody knows. Whoever meets its intents will find out; it is never run again.
    Unknown,
}

/// What an event led to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reaction {
    /// Steps to be begun.
    pub steps: Vec<Step>,
    /// The answer, once: later steps only tidy up.
    pub outcome: Option<Outcome>,
}

/// A transaction while it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coordinator {
    txn: TxnRef,
    phase: Phase,
    /// Groups that said yes: the participants, and the coordinator's group to `Begin`.
    yes: BTreeSet<GroupId>,
    /// How often each group's way was cleared.
    cleared: BTreeMap<GroupId, u32>,
    finished: BTreeSet<GroupId>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Phase {
    /// Votes come in.
    Voting,
    /// Everybody said yes.
    Committing,
    /// Somebody did not; this will be the answer.
    Aborting(Outcome),
    /// Decided and answered; participants are told.
    Telling(bool),
    /// Answered "unknown", or told everybody.
    Over,
}

impl Coordinator {
    /// Begins. The coordinator's group is asked even if it takes no part: it keeps the record.
    pub fn begin(txn: TxnRef) -> (Coordinator, Vec<Step>) {
        let others = txn
            .participants
            .iter()
            .filter(|group| **group != txn.id.coordinator);
        let steps = std::iter::once(Step::Begin)
            .chain(others.map(|group| Step::Prepare(*group)))
            .collect();
        let coordinator = Coordinator {
            txn,
            phase: Phase::Voting,
            yes: BTreeSet::new(),
            cleared: BTreeMap::new(),
            finished: BTreeSet::new(),
        };
        (coordinator, steps)
    }

    /// The transaction.
    pub fn txn(&self) -> &TxnRef {
        &self.txn
    }

    /// Takes an event in. Late ones change nothing that was decided.
    pub fn on(&mut self, event: Event) -> Reaction {
        match event {
            Event::Said(group, vote) => self.on_vote(group, vote),
            Event::Cleared(group, cleared) => self.on_cleared(group, cleared),
            Event::Decided(state) => self.on_decided(state),
            Event::Finished(group) => self.on_finished(group),
        }
    }

    fn on_vote(&mut self, group: GroupId, vote: Vote) -> Reaction {
        if self.phase != Phase::Voting {
            // Its intents came after the others' abort: nobody else would tell it before somebody meets them.
            let late =
                vote == Vote::Yes && self.phase == Phase::Telling(false) && self.is_told(group);
            return steps(if late {
                vec![Step::Finish(group, false)]
            } else {
                Vec::new()
            });
        }
        match vote {
            Vote::Yes => {
                self.yes.insert(group);
                let all = self
                    .txn
                    .participants
                    .iter()
                    .chain([&self.txn.id.coordinator]);
                let commits_early = crate::planted!("commit-before-every-yes")
                    && self.yes.contains(&self.txn.id.coordinator);
                if !commits_early && !all.clone().all(|group| self.yes.contains(group)) {
                    return Reaction::default();
                }
                self.phase = Phase::Committing;
                Reaction {
                    steps: vec![Step::Commit],
                    outcome: crate::planted!("answer-before-the-commit")
                        .then_some(Outcome::Committed),
                }
            }
            // Somebody met an intent before the record was there.
            Vote::No(Refusal::Aborted) => self.abort(Outcome::TryAnew {
                met: Vec::new(),
                behind: Vec::new(),
            }),
            Vote::No(refusal) => self.abort(Outcome::Refused(group, refusal)),
            Vote::Blocked(other) => {
                let times = self.cleared.entry(group).or_default();
                if self.txn.is_older_than(&other) && *times < CLEARINGS {
                    *times += 1;
                    return steps(vec![Step::Clear(group, Box::new(ClearOther(other)))]);
                }
                self.abort(Outcome::TryAnew {
                    met: vec![(group, other)],
                    behind: Vec::new(),
                })
            }
            Vote::FactsBehind(bucket) => self.abort(Outcome::TryAnew {
                met: Vec::new(),
                behind: vec![(group, bucket)],
            }),
            Vote::PlanAnew => self.abort(Outcome::TryAnew {
                met: Vec::new(),
                behind: Vec::new(),
            }),
            Vote::Unknown => self.abort(Outcome::Unreachable(group)),
        }
    }

    fn on_cleared(&mut self, group: GroupId, cleared: bool) -> Reaction {
        match (&self.phase, cleared) {
            (Phase::Voting, true) if group == self.txn.id.coordinator => steps(vec![Step::Begin]),
            (Phase::Voting, true) => steps(vec![Step::Prepare(group)]),
            (Phase::Voting, false) => self.abort(Outcome::Unreachable(group)),
            _ => Reaction::default(),
        }
    }

    fn abort(&mut self, answer: Outcome) -> Reaction {
        self.phase = Phase::Aborting(answer);
        steps(vec![Step::Abort])
    }

    fn on_decided(&mut self, mut state: Option<TxnState>) -> Reaction {
        if state.is_none() && crate::planted!("silence-is-an-abort") {
            state = Some(TxnState::Aborted);
        }
        let committed = state == Some(TxnState::Committed);
        let outcome = match (&self.phase, state) {
            (Phase::Committing, Some(TxnState::Committed)) => Outcome::Committed,
            // Somebody met it and did not wait.
            (Phase::Committing, Some(TxnState::Aborted)) => Outcome::TryAnew {
                met: Vec::new(),
                behind: Vec::new(),
            },
            (Phase::Aborting(answer), Some(TxnState::Aborted)) => answer.clone(),
            (Phase::Committing | Phase::Aborting(_), _) => {
                self.phase = Phase::Over;
                return Reaction {
                    steps: Vec::new(),
                    outcome: Some(Outcome::Unknown),
                };
            }
            _ => return Reaction::default(),
        };
        self.phase = Phase::Telling(committed);
        let told = self
            .txn
            .participants
            .iter()
            .copied()
            .filter(|group| self.is_told(*group));
        let steps: Vec<Step> = told.map(|group| Step::Finish(group, committed)).collect();
        let outcome = Some(outcome);
        if steps.is_empty() {
            self.phase = Phase::Over;
            return Reaction {
                steps: vec![Step::Drop],
                outcome,
            };
        }
        Reaction { steps, outcome }
    }

    /// The decision carries the coordinator's own part out; the other participants are told.
    fn is_told(&self, group: GroupId) -> bool {
        group != self.txn.id.coordinator
    }

    fn on_finished(&mut self, group: GroupId) -> Reaction {
        self.finished.insert(group);
        let all = self
            .txn
            .participants
            .iter()
            .filter(|group| self.is_told(**group));
        if !matches!(self.phase, Phase::Telling(_))
            || !all.clone().all(|group| self.finished.contains(group))
        {
            return Reaction::default();
        }
        self.phase = Phase::Over;
        steps(vec![Step::Drop])
    }
}

fn steps(steps: Vec<Step>) -> Reaction {
    Reaction {
        steps,
        outcome: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TxnId;

    const A: GroupId = GroupId(1);
    const B: GroupId = GroupId(2);

    fn txn(age_ms: u64) -> TxnRef {
        TxnRef {
            id: TxnId {
                coordinator: A,
                session: age_ms,
                sequence: 1,
            },
            age_ms,
            participants: vec![A, B],
        }
    }

    #[test]
    fn two_rounds_and_then_the_answer() {
        let (mut c, first) = Coordinator::begin(txn(1));
        assert_eq!(first, [Step::Begin, Step::Prepare(B)]);
        assert_eq!(c.on(Event::Said(B, Vote::Yes)), Reaction::default());
        assert_eq!(c.on(Event::Said(A, Vote::Yes)).steps, [Step::Commit]);
        let answered = c.on(Event::Decided(Some(TxnState::Committed)));
        assert_eq!(
            (answered.outcome, answered.steps),
            (Some(Outcome::Committed), vec![Step::Finish(B, true)])
        );
        assert_eq!(c.on(Event::Finished(B)).steps, [Step::Drop]);
    }

    #[test]
    fn one_no_is_enough_and_late_words_change_nothing() {
        let (mut c, _) = Coordinator::begin(txn(1));
        assert_eq!(
            c.on(Event::Said(B, Vote::No(Refusal::CheckFailed(3))))
                .steps,
            [Step::Abort]
        );
        assert_eq!(c.on(Event::Said(A, Vote::Yes)), Reaction::default());
        let answered = c.on(Event::Decided(Some(TxnState::Aborted)));
        assert_eq!(
            answered.outcome,
            Some(Outcome::Refused(B, Refusal::CheckFailed(3)))
        );
        assert_eq!(answered.steps, [Step::Finish(B, false)]);
        assert_eq!(
            c.on(Event::Decided(Some(TxnState::Aborted))),
            Reaction::default()
        );
        // A copy of the prepare that came after the abort is told once more.
        assert_eq!(
            c.on(Event::Said(B, Vote::Yes)).steps,
            [Step::Finish(B, false)]
        );
    }

    #[test]
    fn the_older_one_clears_its_way_and_the_younger_one_tries_anew() {
        let (mut older, _) = Coordinator::begin(txn(1));
        let reaction = older.on(Event::Said(B, Vote::Blocked(txn(2))));
        assert_eq!(
            reaction.steps,
            [Step::Clear(B, Box::new(ClearOther(txn(2))))]
        );
        assert_eq!(older.on(Event::Cleared(B, true)).steps, [Step::Prepare(B)]);
        let (mut younger, _) = Coordinator::begin(txn(2));
        assert_eq!(
            younger.on(Event::Said(B, Vote::Blocked(txn(1)))).steps,
            [Step::Abort]
        );
        let outcome = younger.on(Event::Decided(Some(TxnState::Aborted))).outcome;
        assert_eq!(
            outcome,
            Some(Outcome::TryAnew {
                met: vec![(B, txn(1))],
                behind: vec![]
            })
        );
    }

    #[test]
    fn a_decision_that_nobody_knows_is_not_asked_for_again() {
        let (mut c, _) = Coordinator::begin(txn(1));
        c.on(Event::Said(A, Vote::Yes));
        c.on(Event::Said(B, Vote::Yes));
        let answered = c.on(Event::Decided(None));
        assert_eq!(
            (answered.outcome, answered.steps),
            (Some(Outcome::Unknown), vec![])
        );
        assert_eq!(
            c.on(Event::Decided(Some(TxnState::Committed))),
            Reaction::default()
        );
    }
}
