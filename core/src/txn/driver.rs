//! Drives transactions: begins them, decides them, and finishes those of others that it meets.
//!
//! ```text
//!   pending (coordinator) ─┐
//!   prepare (participants) ┴─ all said yes ──> commit (coordinator) ──> answered ──> finish (participants), drop
//!                             one said no  ──> aborted (coordinator) ──> finish (participants), drop ──> refused
//! ```
//! Always true:
//! * two rounds of agreement before the answer, exactly: pending and prepares go in parallel, then the commit;
//! * only the coordinator's group decides; whoever wants an abort has it agreed there first, and a commit stands;
//! * nobody waits while it holds intents: a transaction that meets another one aborts and tries again with its age kept;
//! * whoever meets an intent without holding any waits up to two seconds for the decision, then has the abort agreed;
//! * anybody can finish a decided transaction, any number of times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use minikv_proto::entry as wire;

use crate::env::{clock, random};
use crate::group::Group;
use crate::group::propose::Ticket;
use crate::group::read::unreadable;
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
const TRIES: usize = 12;

/// One group's part, and the bytes that travel with its entry.
#[derive(Clone, Default)]
pub(crate) struct Part {
    pub part: wire::TxnPart,
    pub payload: Vec<u8>,
}

/// What each group has to do. Planned anew for every try, because facts and epochs may have changed.
pub(crate) type Parts = BTreeMap<GroupId, Part>;

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

/// What a group said to its part.
enum Vote {
    Yes(Vec<Option<Written>>),
    No(Refusal),
    /// Nothing there yet; after this it may be.
    Blocked(TxnRef),
    FactsBehind(BucketId),
    Again,
}

fn vote(answer: Answer) -> Vote {
    match answer {
        Answer::Done(Done::Transacted(written)) => Vote::Yes(written),
        Answer::Done(_) => Vote::Yes(Vec::new()),
        Answer::Refused(refusal) => Vote::No(refusal),
        Answer::TryAgain(TryAgain::Blocked(txn)) => Vote::Blocked(txn),
        Answer::TryAgain(TryAgain::FactsBehind(bucket)) => Vote::FactsBehind(bucket),
        Answer::TryAgain(_) => Vote::Again,
    }
}

/// Runs a transaction over several groups. `coordinator` is one of them or not. Answers what each group's writes became.
pub(crate) async fn run<F, P>(
    router: &Arc<Router>,
    coordinator: GroupId,
    plan: P,
) -> Result<BTreeMap<GroupId, Vec<Option<Written>>>, RunError>
where
    P: Fn() -> F,
    F: Future<Output = Result<Parts, KvError>>,
{
    let age_ms = clock::wall_ms();
    for attempt in 0..TRIES {
        let parts = plan().await?;
        match attempt_once(router, coordinator, age_ms, parts).await? {
            Attempt::Committed(written) => return Ok(written),
            Attempt::Refused(group, refusal) => return Err(RunError::Refused(group, refusal)),
            Attempt::Again { met, behind } => {
                // Nothing is held any more: now it may wait.
                for (group, txn) in met {
                    meet(router, router.groups.get(group)?, &txn).await?;
                }
                for (group, bucket) in behind {
                    router.push_to(bucket, router.groups.get(group)?).await?;
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

enum Attempt {
    Committed(BTreeMap<GroupId, Vec<Option<Written>>>),
    Refused(GroupId, Refusal),
    Again {
        met: Vec<(GroupId, TxnRef)>,
        behind: Vec<(GroupId, BucketId)>,
    },
}

async fn attempt_once(
    router: &Arc<Router>,
    coordinator: GroupId,
    age_ms: u64,
    mut parts: Parts,
) -> Result<Attempt, KvError> {
    let decides = router.groups.get(coordinator)?.clone();
    let ticket = decides.ticket().await?;
    let txn = TxnRef {
        id: TxnId {
            coordinator,
            session: ticket.session(),
            sequence: ticket.number(),
        },
        age_ms,
        participants: parts.keys().copied().collect(),
    };
    let own = parts.remove(&coordinator);
    let begun = begin(&decides, ticket, &txn, own);
    let prepares = parts.into_iter().map(|(group, part)| prepare(router, group, &txn, part));
    let (begun, prepared) = futures::join!(begun, join_all(prepares));
    let votes = std::iter::once(begun.map(|vote| (coordinator, vote))).chain(prepared);

    let mut written = BTreeMap::new();
    let (mut met, mut behind) = (Vec::new(), Vec::new());
    let (mut refused, mut failed, mut again) = (None, None, false);
    for vote in votes {
        match vote {
            Ok((group, Vote::Yes(writes))) => drop(written.insert(group, writes)),
            Ok((group, Vote::No(refusal))) => refused = refused.or(Some((group, refusal))),
            Ok((group, Vote::Blocked(other))) => met.push((group, other)),
            Ok((group, Vote::FactsBehind(bucket))) => behind.push((group, bucket)),
            Ok((_, Vote::Again)) => again = true,
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let all_said_yes =
        refused.is_none() && failed.is_none() && met.is_empty() && behind.is_empty() && !again;
    let state = match all_said_yes {
        true => commit(&decides, &txn).await?,
        false => abort(router, &txn).await?,
    };
    tell(router, &txn, state);
    match state {
        TxnState::Committed => Ok(Attempt::Committed(written)),
        _ if let Some((group, refusal)) = refused => Ok(Attempt::Refused(group, refusal)),
        _ if let Some(error) = failed => Err(error),
        // Aborted by somebody who met it and would not wait: try again.
        _ => Ok(Attempt::Again { met, behind }),
    }
}

async fn begin(
    decides: &Group,
    ticket: Ticket,
    txn: &TxnRef,
    own: Option<Part>,
) -> Result<Vote, KvError> {
    let own = own.unwrap_or_default();
    let has_part = own.part != wire::TxnPart::default();
    let body = Body::Pending(wire::Pending {
        txn: Some(txn.to_row()),
        deadline_ms: clock::wall_ms() + PATIENCE.as_millis() as u64,
        own: has_part.then_some(own.part),
    });
    let answer = decides.command_under(ticket, body, &own.payload, WriteKind::Releasing).await?;
    Ok(vote(answer))
}

async fn prepare(
    router: &Router,
    group: GroupId,
    txn: &TxnRef,
    part: Part,
) -> Result<(GroupId, Vote), KvError> {
    let body = Body::Prepare(wire::Prepare {
        txn: Some(txn.to_row()),
        part: Some(part.part),
    });
    let member = router.groups.get(group)?;
    let answer = member.command(body, &part.payload, WriteKind::Releasing).await?;
    Ok((group, vote(answer)))
}

async fn commit(decides: &Group, txn: &TxnRef) -> Result<TxnState, KvError> {
    let body = Body::Commit(wire::Commit {
        txn: Some(txn_name(txn.id)),
    });
    match decides.command(body, &[], WriteKind::Releasing).await {
        Ok(Answer::Done(Done::Txn(state))) => Ok(state),
        Ok(Answer::Refused(Refusal::Aborted)) => Ok(TxnState::Aborted),
        Ok(other) => Err(KvError::Unknown(format!("{}: {other:?}", txn.id))),
        // It may have been agreed on: whoever meets the intents finds out.
        Err(error) => Err(KvError::Unknown(error.to_string())),
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

/// Brings a decision to all participants, and drops the record when they have it. Nobody waits for it.
fn tell(router: &Arc<Router>, txn: &TxnRef, state: TxnState) {
    let (router, txn) = (router.clone(), txn.clone());
    crate::env::task::spawn(async move {
        if let Err(error) = finish_everywhere(&router, &txn, state).await {
            // The sweeper of the coordinator's group goes on with it.
            tracing::debug!(txn = %txn.id, %error, "a decided transaction is left to the sweeper");
        }
    });
}

/// As `tell`, for who waits.
pub(crate) async fn finish_everywhere(
    router: &Router,
    txn: &TxnRef,
    state: TxnState,
) -> Result<(), KvError> {
    let told = txn.participants.iter().map(|group| async {
        let body = finish(txn, state);
        let member = router.groups.get(*group)?;
        // As a command, not on our own account: it tells the group which sequences are closed, and the record may be
        // dropped only when its own is.
        member.command(body, &[], WriteKind::Releasing).await
    });
    let told: Result<Vec<Answer>, KvError> = join_all(told).await.into_iter().collect();
    told?;
    let decides = router.groups.get(txn.id.coordinator)?;
    if !txn.participants.contains(&txn.id.coordinator) {
        decides.command(finish(txn, state), &[], WriteKind::Releasing).await?;
    }
    let body = Body::DropTxn(wire::DropTxn {
        txn: Some(txn_name(txn.id)),
        confirmed: txn.participants.iter().map(|group| u32::from(group.0)).collect(),
    });
    decides.own(body).await.map(drop)
}

fn finish(txn: &TxnRef, state: TxnState) -> Body {
    Body::Finish(wire::Finish {
        txn: Some(txn_name(txn.id)),
        committed: state == TxnState::Committed,
    })
}

/// Somebody who holds nothing met an intent of `txn` in `here`: waits for the decision, or makes one, and carries it out
/// there. Afterwards they try again.
pub(crate) async fn meet(router: &Router, here: &Group, txn: &TxnRef) -> Result<(), KvError> {
    let deadline = clock::now() + PATIENCE;
    loop {
        let state = match record(router, txn).await? {
            Some(state @ (TxnState::Committed | TxnState::Aborted)) => state,
            Some(TxnState::Pending) if clock::now() < deadline => {
                clock::sleep(LOOK_EVERY).await;
                continue;
            }
            Some(TxnState::Pending) => abort(router, txn).await?,
            None => {
                // No record: it has not begun, or is over. Is the intent still here?
                let view = here.read().await?;
                if read::prepared(&*view, txn.id).map_err(unreadable)?.is_none() {
                    return Ok(());
                }
                drop(view);
                abort(router, txn).await?
            }
        };
        here.own(finish(txn, state)).await?;
        return Ok(());
    }
}

async fn record(router: &Router, txn: &TxnRef) -> Result<Option<TxnState>, KvError> {
    let decides = router.groups.get(txn.id.coordinator)?;
    let view = decides.read().await?;
    let record = read::txn(&*view, txn.id).map_err(unreadable)?;
    Ok(record.map(|record| record.state))
}

/// A reader of `here` met these: what is decided about them. What stays out of the answer has no intent any more, or has
/// had its abort agreed: the reader looks again.
pub(crate) async fn ask(
    router: &Router,
    here: &Group,
    txns: &[TxnRef],
    decided: &mut read::Decided,
) -> Result<(), KvError> {
    for txn in txns {
        match record(router, txn).await? {
            Some(state) => drop(decided.insert(txn.id, state)),
            None => meet(router, here, txn).await?,
        }
    }
    Ok(())
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
        let groups = router.groups.all().map(|group| (group.id, close(bucket.id)));
        Ok(groups.collect())
    });
    match deleted.await {
        Ok(_) => Ok(()),
        Err(RunError::Refused(_, refusal)) => Err(refusal.into()),
        Err(RunError::Kv(error)) => Err(error),
    }
}
