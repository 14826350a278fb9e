//! What a leader keeps in memory only: which stages make progress, which bytes somebody is reading, since when
//! transactions wait for their decision, how far the group had come at which moment.
//!
//! Nobody agrees on these. A new leader knows nothing of them and therefore waits: nothing is abandoned or released
//! before it has led for as long as such a thing would have had to be idle. What writers and readers of other processes
//! hold, these tell it again and again (`touch`).
//!
//! Always true:
//! * every stage that a writer or reader of this process holds counts as in use;
//! * how long something has lain there is measured by this process's own clock that nobody sets: wall clocks jump, and
//!   a time that another node wrote down may lie an hour ahead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;

use crate::env::clock::{self, Instant};
use crate::ids::{StageId, TxnId};

/// See the file's header.
pub(crate) struct LeaderMemory {
    inner: Mutex<Inner>,
}

struct Inner {
    /// Since when this member leads.
    leads_since: Instant,
    /// Index applied when it began to.
    leads_from: u64,
    /// The term it leads.
    term: u64,
    progress: BTreeMap<StageId, Instant>,
    pins: BTreeMap<StageId, usize>,
    /// Stages that readers elsewhere hold, and until when that is believed.
    pinned_elsewhere: BTreeMap<StageId, Instant>,
    /// Sessions: the highest sequence seen, and since when it did not rise.
    sessions: BTreeMap<u64, (u64, Instant)>,
    /// Undecided transactions, and when they were first seen.
    undecided: BTreeMap<TxnId, Instant>,
    /// Moments of this term, and the index applied then, oldest first.
    moments: VecDeque<(Instant, u64)>,
    /// Stages that a writer of this process holds, and whether they were given up behind its back.
    writers: BTreeMap<StageId, bool>,
}

impl LeaderMemory {
    pub(crate) fn new() -> LeaderMemory {
        LeaderMemory {
            inner: Mutex::new(Inner {
                leads_since: clock::now(),
                leads_from: 0,
                term: 0,
                progress: BTreeMap::new(),
                pins: BTreeMap::new(),
                pinned_elsewhere: BTreeMap::new(),
                sessions: BTreeMap::new(),
                undecided: BTreeMap::new(),
                moments: VecDeque::new(),
                writers: BTreeMap::new(),
            }),
        }
    }

    /// A term of this member began: what was known is worth nothing.
    pub(crate) fn begin_term(&self, term: u64, applied: u64) {
        let mut inner = self.inner.lock();
        inner.term = term;
        inner.leads_from = applied;
        inner.leads_since = clock::now();
        inner.progress.clear();
        inner.sessions.clear();
        inner.undecided.clear();
        inner.moments.clear();
    }

    /// Whether what is known here is of this term.
    pub(crate) fn is_of_term(&self, term: u64) -> bool {
        self.inner.lock().term == term
    }

    pub(crate) fn has_led_for(&self) -> Duration {
        self.inner.lock().leads_since.elapsed()
    }

    /// A byte of this stage came from its client.
    pub(crate) fn touch(&self, stage: StageId) {
        self.inner.lock().progress.insert(stage, clock::now());
    }

    /// Whether nothing came for this stage for so long. One that was opened or touched in this term gets a minute at
    /// least: before the first byte and between the last one and the claim nothing comes either.
    pub(crate) fn is_idle(&self, stage: StageId, limit: Duration) -> bool {
        let mut inner = self.inner.lock();
        if stage.index > inner.leads_from {
            inner.progress.entry(stage).or_insert_with(clock::now);
        }
        match inner.progress.get(&stage) {
            Some(since) => since.elapsed() >= limit.max(Duration::from_secs(60)),
            // Opened before, and nothing was heard of it since.
            None => inner.leads_since.elapsed() >= limit,
        }
    }

    /// Of sessions with these highest sequences: which did not move for so long, as this leader saw them.
    pub(crate) fn idle_sessions(&self, seen: &[(u64, u64)], idle: Duration) -> Vec<u64> {
        let mut inner = self.inner.lock();
        let now = clock::now();
        let since = inner.leads_since;
        let mut known = std::mem::take(&mut inner.sessions);
        let mut due = Vec::new();
        for (id, highest) in seen {
            let moved = match known.remove(id) {
                Some((before, moved)) if before == *highest => moved,
                Some(_) => now,
                // Never seen: as old as this leader's term.
                None => since,
            };
            if now.since(moved) >= idle {
                due.push(*id);
            }
            inner.sessions.insert(*id, (*highest, moved));
        }
        due
    }

    /// Of all transactions that are undecided now: whether each has been so for this long, as this leader saw it.
    pub(crate) fn undecided_for(&self, now_undecided: &[TxnId], age: Duration) -> Vec<bool> {
        let mut inner = self.inner.lock();
        let now = clock::now();
        let known = std::mem::take(&mut inner.undecided);
        let seen = now_undecided
            .iter()
            .map(|id| (*id, known.get(id).copied().unwrap_or(now)));
        inner.undecided = seen.collect();
        let since = |id| inner.undecided.get(id).copied().unwrap_or(now);
        now_undecided
            .iter()
            .map(|id| now.since(since(id)) >= age)
            .collect()
    }

    /// Up to which index everything was applied at least so long ago, as far as this leader saw it; `applied` is now.
    /// To be asked regularly: what it says is as old as the moments at which it was asked.
    pub(crate) fn applied_before(&self, applied: u64, rest: Duration) -> Option<u64> {
        let mut inner = self.inner.lock();
        let now = clock::now();
        let is_due = |(then, _): &(Instant, u64)| now.since(*then) >= rest;
        // So few are enough: what is due waits a sixteenth longer.
        let last = inner.moments.back();
        if last.is_none_or(|(then, _)| now.since(*then) >= rest / 16) {
            inner.moments.push_back((now, applied));
        }
        while inner.moments.get(1).is_some_and(is_due) {
            inner.moments.pop_front();
        }
        let first = inner.moments.front().filter(|moment| is_due(moment));
        first.map(|(_, applied)| *applied)
    }

    /// Only these stages are open: what was known of others is forgotten. (Somebody elsewhere claimed them.)
    pub(crate) fn only_open(&self, open: &BTreeSet<StageId>) {
        let mut inner = self.inner.lock();
        let Inner {
            progress, writers, ..
        } = &mut *inner;
        progress.retain(|stage, _| open.contains(stage) || writers.contains_key(stage));
    }

    /// The stage ended.
    pub(crate) fn forget(&self, stage: StageId) {
        let mut inner = self.inner.lock();
        inner.progress.remove(&stage);
        if let Some(given_up) = inner.writers.get_mut(&stage) {
            *given_up = true;
        }
    }

    /// A writer of this process begins.
    pub(crate) fn begin_writing(&self, stage: StageId) {
        let mut inner = self.inner.lock();
        inner.progress.insert(stage, clock::now());
        inner.writers.insert(stage, false);
    }

    /// Whether the stage was given up while its writer slept.
    pub(crate) fn is_given_up(&self, stage: StageId) -> bool {
        self.inner
            .lock()
            .writers
            .get(&stage)
            .is_some_and(|given_up| *given_up)
    }

    /// The writer ended.
    pub(crate) fn end_writing(&self, stage: StageId) {
        self.inner.lock().writers.remove(&stage);
    }

    /// Somebody reads chunks of this stage.
    pub(crate) fn pin(&self, stage: StageId) {
        *self.inner.lock().pins.entry(stage).or_insert(0) += 1;
    }

    pub(crate) fn unpin(&self, stage: StageId) {
        let mut inner = self.inner.lock();
        if let Some(count) = inner.pins.get_mut(&stage) {
            *count -= 1;
            if *count == 0 {
                inner.pins.remove(&stage);
            }
        }
    }

    /// Somebody elsewhere reads chunks of this stage, and will say so again within this time.
    pub(crate) fn pin_for(&self, stage: StageId, time: Duration) {
        let mut inner = self.inner.lock();
        let now = clock::now();
        inner.pinned_elsewhere.retain(|_, until| *until > now);
        inner.pinned_elsewhere.insert(stage, now + time);
    }

    pub(crate) fn is_pinned(&self, stage: StageId) -> bool {
        let inner = self.inner.lock();
        let elsewhere = inner.pinned_elsewhere.get(&stage);
        inner.pins.contains_key(&stage) || elsewhere.is_some_and(|until| *until > clock::now())
    }

    /// Stages of writers of this process for which bytes came since then, and those that its readers hold.
    pub(crate) fn in_use(&self, since: Instant) -> (Vec<StageId>, Vec<StageId>) {
        let inner = self.inner.lock();
        let moved = |stage: &&StageId| {
            let touched = inner.progress.get(stage);
            touched.is_some_and(|touched| *touched >= since)
        };
        let writers = inner.writers.keys().filter(moved).copied().collect();
        (writers, inner.pins.keys().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim::{run, set_wall_offset_ms};
    use crate::ids::GroupId;

    const SECOND: Duration = Duration::from_secs(1);

    fn txn(sequence: u64) -> TxnId {
        TxnId {
            coordinator: GroupId(1),
            session: 7,
            sequence,
        }
    }

    /// However far ahead the clock of the node was that began it.
    #[test]
    fn a_transaction_is_as_old_as_this_leader_has_seen_it() {
        run(1, async {
            let memory = LeaderMemory::new();
            let old = |all: &[TxnId]| memory.undecided_for(all, 10 * SECOND);
            assert_eq!(old(&[txn(1)]), [false]);
            clock::sleep(6 * SECOND).await;
            set_wall_offset_ms(3_600_000);
            assert_eq!(old(&[txn(1), txn(2)]), [false, false]);
            clock::sleep(6 * SECOND).await;
            assert_eq!(old(&[txn(1), txn(2)]), [true, false]);
            memory.begin_term(2, 0);
            assert_eq!(
                old(&[txn(1)]),
                [false],
                "another leader's time counts for nothing"
            );
        });
    }

    /// An upload goes on while its group gets another leader: as long as bytes come it is not given up.
    #[test]
    fn an_upload_from_before_this_term_is_idle_only_when_nothing_comes() {
        run(1, async {
            let memory = LeaderMemory::new();
            memory.begin_term(2, 100);
            let stage = |index| StageId {
                group: GroupId(1),
                incarnation: 1,
                index,
            };
            let (moving, silent) = (stage(7), stage(8));
            let limit = 600 * SECOND;
            for _ in 0..10 {
                memory.touch(moving);
                assert!(!memory.is_idle(silent, limit));
                clock::sleep(60 * SECOND).await;
            }
            assert!(memory.is_idle(silent, limit));
            assert!(!memory.is_idle(moving, limit));
            clock::sleep(600 * SECOND).await;
            assert!(memory.is_idle(moving, limit));
        });
    }

    #[test]
    fn nothing_is_released_early_because_a_clock_jumped() {
        run(1, async {
            let memory = LeaderMemory::new();
            let rest = 900 * SECOND;
            assert_eq!(memory.applied_before(10, rest), None);
            set_wall_offset_ms(3_600_000);
            for minute in 1..15 {
                clock::sleep(60 * SECOND).await;
                assert_eq!(memory.applied_before(10 + minute, rest), None);
            }
            clock::sleep(60 * SECOND).await;
            assert_eq!(memory.applied_before(25, rest), Some(10));
            // A short disk does not wait.
            assert_eq!(memory.applied_before(26, Duration::ZERO), Some(26));
        });
    }

    /// The moments kept are few, and what is due waits a sixteenth longer at most.
    #[test]
    fn what_has_rested_is_released_soon_after() {
        run(1, async {
            let memory = LeaderMemory::new();
            let rest = 900 * SECOND;
            for second in 0..4000_u64 {
                let due = memory.applied_before(second, rest);
                let least = second.checked_sub(900 + 57 + 1);
                assert!(due >= least, "second {second}: {due:?}");
                assert!(due <= second.checked_sub(900), "second {second}: {due:?}");
                clock::sleep(SECOND).await;
            }
            assert!(memory.inner.lock().moments.len() <= 18);
        });
    }
}
