//! Carries out what the pure machines say: proposes, asks, waits, and tells them what came of it.
//!
//! Always true:
//! * a transaction runs in a task of its own: a client that goes away leaves no half of it behind;
//! * after the answer the rest (telling participants, dropping the record) goes on by itself; what it cannot finish the
//!   sweeper of the coordinator's group does;
//! * whoever meets an intent without holding any waits up to two seconds for the decision, then has the abort agreed;
//! * anybody can finish a decided transaction, any number of times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use minikv_proto::entry as wire;
use parking_lot::Mutex;

use super::coordinator::{Coordinator, Event, Outcome, Step};
use super::participant::Vote;
use super::recovery::{self, Known, Next};
use crate::env::{clock, random, task};
use crate::group::Group;
use crate::group::propose::Ticket;
use crate::ids::{BucketId, GroupId, TxnId};
use crate::kv::{KvError, Refusal, Written};
use crate::log::WriteKind;
use crate::shard::router::Router;
use crate::state::answer::{Answer, Done, TryAgain};
use crate::state::entry::Body;
use crate::state::intent::{TxnRef, TxnState, txn_name};
use crate::state::read;

/// How long somebody who meets an intent waits for its decision.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often they look.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A transaction that always meets others gives up after so many tries.
const TRIES: u32 = 12;
/// How often a participant is told before that is left to the sweeper.
const TELLS: u32 = 3;

/// One group's part, and the bytes that travel with its entry.
#[derive(Clone, Default)]
pub(crate) struct Part {
    pub part: wire::TxnPart,
    pub payload: Vec<u8>,
}

/// What each group has to do. Planned anew for every try, because facts and epochs may have changed.
pub(crate) type Parts = BTreeMap<GroupId, Part>;

/// What each group's writes became.
pub(crate) type AllWritten = BTreeMap<GroupId, Vec<Option<Written>>>;

/// Why a transaction did not happen.
#[derive(Clone, Debug)]
pub(crate) enum RunError {
    /// This group refused; a check's number is that within the group's part.
    Refused(GroupId, Refusal),
    /// Anything else.
    Kv(KvError),
}

impl From<KvError> for RunError {
    fn from(error: KvError) -> RunError {
        RunError::Kv(error)
    }
}

/// Runs a transaction over several groups. `coordinator` is one of them or not.
pub(crate) async fn run<F, P>(
    router: &Arc<Router>,
    coordinator: GroupId,
    plan: P,
) -> Result<AllWritten, RunError>
where
    P: Fn() -> F,
    F: Future<Output = Result<Parts, KvError>>,
{
    let age_ms = clock::wall_ms();
    for attempt in 0..TRIES {
        let parts = plan().await?;
        let (outcome, written) = attempt_once(router, coordinator, age_ms, parts).await?;
        match outcome {
            Outcome::Committed => return Ok(written),
            Outcome::Refused(group, refusal) => return Err(RunError::Refused(group, refusal)),
            Outcome::Unreachable(group) => {
                return Err(KvError::Unavailable(format!("{group} did not answer")).into());
            }
            Outcome::Unknown => {
                let unknown = "whether the transaction was committed is not known".to_owned();
                return Err(KvError::Unknown(unknown).into());
            }
            Outcome::TryAnew { met, behind } => {
                // Nothing is held any more: now it may wait.
                for (group, txn) in met {
                    meet(router, &*router.groups.get(group)?, &txn).await?;
                }
                for (group, bucket) in behind {
                    router.push_to(bucket, &*router.groups.get(group)?).await?;
                }
                if attempt > 0 {
                    // Two that keep meeting must not do so in step.
                    clock::sleep(Duration::from_millis(random::below(10 << attempt.min(6)))).await;
                    router.reload().await?;
                }
            }
        }
    }
    let busy = "other transactions are always in the way".to_owned();
    Err(KvError::Unavailable(busy).into())
}

/// One transaction under way.
struct Run {
    router: Arc<Router>,
    txn: TxnRef,
    parts: Parts,
    /// The place of `pending` in our session; open until the decision, so that it may be delivered again.
    ticket: Mutex<Option<Arc<Ticket>>>,
    written: Mutex<AllWritten>,
}

type Work = FuturesUnordered<BoxFuture<'static, Option<Event>>>;

async fn attempt_once(
    router: &Arc<Router>,
    coordinator: GroupId,
    age_ms: u64,
    parts: Parts,
) -> Result<(Outcome, AllWritten), KvError> {
    let ticket = router.groups.get(coordinator)?.ticket().await?;
    let txn = TxnRef {
        id: TxnId {
            coordinator,
            session: ticket.session(),
            sequence: ticket.number(),
        },
        age_ms,
        participants: parts.keys().copied().collect(),
    };
    let run = Arc::new(Run {
        router: router.clone(),
        txn,
        parts,
        ticket: Mutex::new(Some(Arc::new(ticket))),
        written: Mutex::default(),
    });
    let (answer, answered) = tokio::sync::oneshot::channel();
    router.loose_ends.begin();
    task::spawn(async move {
        run.to_the_end(answer).await;
        run.router.loose_ends.end();
    });
    answered
        .await
        .map_err(|_| KvError::Unknown("the transaction was cut short".to_owned()))
}

impl Run {
    /// Answers as soon as there is an answer, and goes on until nothing is left to do.
    async fn to_the_end(
        self: &Arc<Self>,
        answer: tokio::sync::oneshot::Sender<(Outcome, AllWritten)>,
    ) {
        let mut answer = Some(answer);
        let (mut machine, first) = Coordinator::begin(self.txn.clone());
        let mut work: Work = first.into_iter().map(|step| self.step(step)).collect();
        while let Some(event) = work.next().await {
            let Some(event) = event else { continue };
            let reaction = machine.on(event);
            if let Some(outcome) = reaction.outcome {
                // Nobody will deliver `pending` again.
                self.ticket.lock().take();
                let written = std::mem::take(&mut *self.written.lock());
                if let Some(answer) = answer.take() {
                    // Who asked may be gone.
                    let _ = answer.send((outcome, written));
                }
            }
            work.extend(reaction.steps.into_iter().map(|step| self.step(step)));
        }
    }

    fn step(self: &Arc<Self>, step: Step) -> BoxFuture<'static, Option<Event>> {
        let run = self.clone();
        Box::pin(async move {
            match step {
                Step::Begin => Some(run.begin().await),
                Step::Prepare(group) => Some(run.prepare(group).await),
                Step::Clear(group, other) => {
                    let cleared = match run.router.groups.get(group) {
                        Ok(member) => clear(&run.router, &member, &other.0, Duration::ZERO).await,
                        Err(error) => Err(error),
                    };
                    Some(Event::Cleared(group, cleared.is_ok()))
                }
                Step::Commit => Some(Event::Decided(run.commit().await)),
                Step::Abort => {
                    let state = abort(&run.router, &run.txn).await.ok();
                    Some(Event::Decided(state))
                }
                Step::Finish(group, committed) => run.tell(group, committed).await,
                Step::Drop => {
                    if let Err(error) = drop_record(&run.router, &run.txn).await {
                        tracing::debug!(txn = %run.txn.id, %error, "a record is left to the sweeper");
                    }
                    None
                }
            }
        })
    }

    fn said(&self, group: GroupId, answer: Result<Answer, KvError>) -> Event {
        let vote = match answer {
            Ok(answer) => {
                let (vote, written) = Vote::of(answer);
                if vote == Vote::Yes && !written.is_empty() {
                    self.written.lock().insert(group, written);
                }
                vote
            }
            Err(error) => {
                tracing::debug!(txn = %self.txn.id, %group, %error, "no vote");
                Vote::Unknown
            }
        };
        Event::Said(group, vote)
    }

    async fn begin(&self) -> Event {
        let group = self.txn.id.coordinator;
        let own = self.parts.get(&group).cloned();
        let payload = own
            .as_ref()
            .map(|part| part.payload.clone())
            .unwrap_or_default();
        let body = Body::Pending(wire::Pending {
            txn: Some(self.txn.to_row()),
            deadline_ms: clock::wall_ms() + PATIENCE.as_millis() as u64,
            own: own.map(|own| own.part),
        });
        let ticket = self.ticket.lock().clone();
        let answer = match (self.router.groups.get(group), ticket) {
            (Ok(member), Some(ticket)) => {
                member
                    .command_under(&ticket, body, &payload, WriteKind::Releasing)
                    .await
            }
            (Err(error), _) => Err(error),
            (_, None) => Err(KvError::Unknown("begun after its end".to_owned())),
        };
        self.said(group, answer)
    }

    async fn prepare(&self, group: GroupId) -> Event {
        let part = self.parts.get(&group).cloned().unwrap_or_default();
        let body = Body::Prepare(wire::Prepare {
            txn: Some(self.txn.to_row()),
            part: Some(part.part),
        });
        let answer = match self.router.groups.get(group) {
            Ok(member) => {
                member
                    .command(body, &part.payload, WriteKind::Releasing)
                    .await
            }
            Err(error) => Err(error),
        };
        self.said(group, answer)
    }

    /// `None`: it may have been agreed on. Whoever meets the intents finds out.
    async fn commit(&self) -> Option<TxnState> {
        let body = Body::Commit(wire::Commit {
            txn: Some(txn_name(self.txn.id)),
        });
        let decides = self.router.groups.get(self.txn.id.coordinator).ok()?;
        match decides.command(body, &[], WriteKind::Releasing).await {
            Ok(Answer::Done(Done::Txn(state))) => Some(state),
            Ok(Answer::Refused(Refusal::Aborted)) => Some(TxnState::Aborted),
            other => {
                tracing::warn!(txn = %self.txn.id, ?other, "no word on a commit");
                None
            }
        }
    }

    async fn tell(&self, group: GroupId, committed: bool) -> Option<Event> {
        // Said to be told, and told to nobody: the record goes, and with it the decision.
        if crate::planted!("participant-not-told") {
            return Some(Event::Finished(group));
        }
        for _ in 0..TELLS {
            match tell(&self.router, group, &self.txn, committed).await {
                Ok(()) => return Some(Event::Finished(group)),
                Err(error) => {
                    tracing::debug!(txn = %self.txn.id, %group, %error, "a participant was not told");
                    clock::sleep(LOOK_EVERY).await;
                }
            }
        }
        crate::planted!("record-dropped-unconfirmed").then_some(Event::Finished(group))
    }
}

fn finish(txn: &TxnRef, committed: bool) -> Body {
    Body::Finish(wire::Finish {
        txn: Some(txn_name(txn.id)),
        committed,
    })
}

async fn tell(
    router: &Router,
    group: GroupId,
    txn: &TxnRef,
    committed: bool,
) -> Result<(), KvError> {
    let member = router.groups.get(group)?;
    match member
        .command(finish(txn, committed), &[], WriteKind::Releasing)
        .await?
    {
        Answer::Done(_) => Ok(()),
        other => Err(KvError::Unavailable(format!("{group}: {other:?}"))),
    }
}

/// Has the abort agreed; answers what was decided, which may be the commit.
pub(crate) async fn abort(router: &Router, txn: &TxnRef) -> Result<TxnState, KvError> {
    let decides = router.groups.get(txn.id.coordinator)?;
    let body = Body::Aborted(wire::Aborted {
        txn: Some(txn.to_row()),
    });
    match decides.own(body).await? {
        Answer::Done(Done::Txn(state)) => Ok(state),
        other => Err(KvError::Unavailable(format!("{}: {other:?}", txn.id))),
    }
}

/// All participants have the decision: the record goes.
async fn drop_record(router: &Router, txn: &TxnRef) -> Result<(), KvError> {
    // A command of ours, which tells the group that the transaction's own sequence is closed: the record may go only then.
    tell(router, txn.id.coordinator, txn, false).await?;
    let decides = router.groups.get(txn.id.coordinator)?;
    let confirmed = txn.participants.iter().map(|group| u32::from(group.0));
    let body = Body::DropTxn(wire::DropTxn {
        txn: Some(txn_name(txn.id)),
        confirmed: confirmed.collect(),
    });
    decides.own(body).await.map(drop)
}

/// Brings a decision to all participants and drops the record: for a sweeper that found it.
pub(crate) async fn finish_everywhere(
    router: &Router,
    txn: &TxnRef,
    state: TxnState,
) -> Result<(), KvError> {
    let committed = state == TxnState::Committed;
    let others = txn
        .participants
        .iter()
        .filter(|group| **group != txn.id.coordinator);
    let told = others.map(|group| tell(router, *group, txn, committed));
    let told: Result<Vec<()>, KvError> = join_all(told).await.into_iter().collect();
    if !crate::planted!("record-dropped-unconfirmed") {
        told?;
    }
    drop_record(router, txn).await
}

/// Somebody who holds nothing met an intent of `txn` in `here`: waits for the decision, or makes one, and carries it out
/// there. Afterwards they try again.
pub(crate) async fn meet(router: &Router, here: &Group, txn: &TxnRef) -> Result<(), KvError> {
    clear(router, here, txn, PATIENCE).await
}

/// The same without waiting: the part has lain in `here` long enough.
pub(crate) async fn settle(router: &Router, here: &Group, txn: &TxnRef) -> Result<(), KvError> {
    clear(router, here, txn, Duration::ZERO).await
}

async fn clear(
    router: &Router,
    here: &Group,
    txn: &TxnRef,
    patience: Duration,
) -> Result<(), KvError> {
    let deadline = clock::now() + patience;
    let mut known = ask_record(router, txn).await?;
    loop {
        match recovery::clear(known, clock::now() < deadline) {
            Next::Wait => {
                clock::sleep(LOOK_EVERY).await;
                known = ask_record(router, txn).await?;
            }
            Next::LookAgain => {
                let left = here.ask(|view| read::prepared(view, txn.id)).await?;
                if left.is_none() {
                    return Ok(());
                }
                known = Known::NoRecordButIntent;
            }
            Next::HaveAborted => known = Known::Record(abort(router, txn).await?),
            Next::Finish { committed } => {
                return match here.own(finish(txn, committed)).await? {
                    Answer::Done(_) => Ok(()),
                    other => Err(KvError::Unavailable(format!("{}: {other:?}", here.id))),
                };
            }
        }
    }
}

async fn ask_record(router: &Router, txn: &TxnRef) -> Result<Known, KvError> {
    let decides = router.groups.get(txn.id.coordinator)?;
    let record = decides.ask(|view| read::txn(view, txn.id)).await?;
    Ok(record.map_or(Known::NoRecord, |record| Known::Record(record.state)))
}

/// A reader of `here` met these: what is decided about them. What stays out of the answer has no intent any more, or has
/// been cleared away: the reader looks again.
pub(crate) async fn ask(
    router: &Router,
    here: &Group,
    txns: &[TxnRef],
    decided: &mut read::Decided,
) -> Result<(), KvError> {
    for txn in txns {
        match ask_record(router, txn).await? {
            Known::Record(_) if crate::planted!("reader-takes-the-old-value") => {
                decided.insert(txn.id, TxnState::Pending);
            }
            Known::Record(state) => drop(decided.insert(txn.id, state)),
            Known::NoRecord | Known::NoRecordButIntent => {
                clear(router, here, txn, Duration::ZERO).await?;
            }
        }
    }
    Ok(())
}

/// Takes away what kept a command of this group from being decided. Fails when only time or somebody else can.
pub(crate) async fn clear_the_way(
    router: &Router,
    group: &Group,
    again: TryAgain,
) -> Result<(), KvError> {
    match again {
        TryAgain::Blocked(txn) => meet(router, group, &txn).await,
        TryAgain::FactsBehind(bucket) => router.push_to(bucket, group).await,
        // Whoever plans anew reads the facts anew.
        TryAgain::StaleEpoch(_) => Ok(()),
        TryAgain::Moved(_) => router.reload().await,
        TryAgain::NotYet => {
            clock::sleep(LOOK_EVERY).await;
            Ok(())
        }
        again => Err(KvError::Unavailable(format!("{}: {again:?}", group.id))),
    }
}

/// Deletes an empty bucket: its name in group 0 and its facts in every data group, or nothing.
pub(crate) async fn delete_bucket(router: &Arc<Router>, name: &str) -> Result<(), KvError> {
    let close = |id: BucketId| Part {
        part: wire::TxnPart {
            close_bucket: id.0,
            ..wire::TxnPart::default()
        },
        payload: Vec::new(),
    };
    let deleted = run(router, GroupId::DIRECTORY, || async {
        let bucket = router.bucket(name).await?;
        let bucket = bucket.ok_or(Refusal::NoSuchBucket)?;
        // All of them, also those that have no member here.
        let groups = router.map().groups().chain([GroupId::DIRECTORY]);
        Ok(groups.map(|group| (group, close(bucket.id))).collect())
    });
    match deleted.await {
        Ok(_) => Ok(()),
        Err(RunError::Refused(_, refusal)) => Err(refusal.into()),
        Err(RunError::Kv(error)) => Err(error),
    }
}
