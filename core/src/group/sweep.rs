//! What a leader does on its own account: stages that stand still, uploads that nobody completes, bytes that nobody
//! names, sessions of processes that are gone, and transactions and pushes whose driver went away.
//!
//! Always true:
//! * nothing is judged that this member has not led long enough to have seen move: a new leader knows no progress and no
//!   readers, so it waits as long as a thing would have had to rest;
//! * what is read by somebody of this process stays;
//! * while rows of the group are lost to damage, it gives nothing up;
//! * every entry proposed here is idempotent: swept twice is swept once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use minikv_proto::entry as wire;

use super::Group;
use super::read::unreadable;
use crate::env::clock;
use crate::ids::TxnId;
use crate::kv::KvError;
use crate::shard::router::Router;
use crate::state::answer::{Answer, Done};
use crate::state::entry::Body;
use crate::state::intent::TxnState;
use crate::state::read;
use crate::state::record::Content;
use crate::txn::driver;

/// How old things get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SweepLimits {
    pub abandon_after: Duration,
    pub release_after: Duration,
    pub upload_expiry: Duration,
    pub session_idle: Duration,
}

/// Stages, items, uploads in one entry; each costs apply a few engine operations of its thousand.
const BATCH: usize = 32;
/// Items of the free list that are looked at together.
const PAGE: usize = 4096;
/// Rounds of bulk work in one sweep: the next sweep goes on.
const ROUNDS: usize = 10_000;
/// A transaction that this leader has seen undecided for so long has lost its driver.
const TXN_AGE: Duration = Duration::from_secs(10);

/// Looks through every group once and acts on what is due.
pub(crate) async fn round(router: &Arc<Router>, limits: &SweepLimits) -> Result<(), KvError> {
    let mut first_error = None;
    for group in router.groups.all() {
        if let Err(error) = one(router, &group, limits).await {
            first_error.get_or_insert(error);
        }
    }
    let leads_directory = router.directory().is_ok_and(|group| group.leads());
    if leads_directory && let Err(error) = router.finish_pushes().await {
        first_error.get_or_insert(error);
    }
    first_error.map_or(Ok(()), Err)
}

async fn one(router: &Arc<Router>, group: &Group, limits: &SweepLimits) -> Result<(), KvError> {
    let leads = group.leads();
    if !leads {
        return Ok(());
    }
    // Another group that cannot be reached holds up nothing else.
    let finished = finish_transactions(router, group).await;
    if group.lacks_rows() {
        return finished;
    }
    abandon_stages(group, limits).await?;
    expire_uploads(group, limits).await?;
    advance(group, || Body::AdvanceFree(wire::AdvanceFree {})).await?;
    release(group, limits).await?;
    end_sessions(group, limits).await?;
    finished
}

/// Proposes the same step until nothing is left of it.
async fn advance(group: &Group, step: impl Fn() -> Body) -> Result<(), KvError> {
    let view = group.read().await?;
    if !read::has_free_uploads(&*view).map_err(unreadable)? {
        return Ok(());
    }
    drop(view);
    for _ in 0..ROUNDS {
        match group.own(step()).await? {
            Answer::Done(Done::More(true)) => {}
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// Gives up stages for which no byte came for too long.
async fn abandon_stages(group: &Group, limits: &SweepLimits) -> Result<(), KvError> {
    if group.memory.has_led_for() < limits.abandon_after {
        return Ok(());
    }
    let view = group.read().await?;
    let (mut due, mut open) = (Vec::new(), BTreeSet::new());
    for owned in read::vshards(&*view).map_err(unreadable)? {
        for stage in read::stages(&*view, owned.vshard) {
            let stage = stage.map_err(unreadable)?;
            open.insert(stage.id);
            if !stage.held && group.memory.is_idle(stage.id, limits.abandon_after) {
                due.push((stage.vshard, stage.id));
            }
        }
    }
    drop(view);
    group.memory.only_open(&open);
    for some in due.chunks(BATCH) {
        let stages = some.iter().map(|(vshard, stage)| wire::StageAt {
            vshard: u32::from(vshard.0),
            stage: Some(stage.to_row()),
        });
        let body = Body::Abandon(wire::Abandon {
            stages: stages.collect(),
        });
        // Before the entry: a writer that wakes up meanwhile must not write under a stage that is about to end.
        for (_, stage) in some {
            group.memory.forget(*stage);
        }
        group.own(body).await?;
    }
    Ok(())
}

/// Aborts uploads that were opened too long ago.
async fn expire_uploads(group: &Group, limits: &SweepLimits) -> Result<(), KvError> {
    let before = clock::wall_ms().saturating_sub(limits.upload_expiry.as_millis() as u64);
    let view = group.read().await?;
    let mut due = Vec::new();
    for owned in read::vshards(&*view).map_err(unreadable)? {
        let uploads = read::open_uploads(&*view, owned.vshard).map_err(unreadable)?;
        let old = uploads
            .into_iter()
            .filter(|(_, created_ms)| *created_ms < before);
        due.extend(old.map(|(name, _)| (owned.vshard, name)));
    }
    drop(view);
    for some in due.chunks(BATCH) {
        let uploads = some.iter().map(|(vshard, name)| wire::UploadAt {
            vshard: u32::from(vshard.0),
            upload: bytes::Bytes::copy_from_slice(name),
        });
        let body = Body::ExpireUploads(wire::ExpireUploads {
            uploads: uploads.collect(),
            created_before_ms: before,
        });
        group.own(body).await?;
    }
    Ok(())
}

/// Releases what was freed long enough ago and nobody reads.
async fn release(group: &Group, limits: &SweepLimits) -> Result<(), KvError> {
    let applied = group.replica.applied();
    let before = group.memory.applied_before(applied, limits.release_after);
    if before.is_none() && !crate::planted!("released-at-once") {
        return Ok(());
    }
    loop {
        let view = group.read().await?;
        let mut due = Vec::new();
        let mut more = false;
        for item in read::free_list(&*view, 0) {
            let item = item.map_err(unreadable)?;
            // The list is in the order of freeing: nothing behind is due.
            let has_rested = match crate::planted!("released-by-the-wall-clock") {
                true => {
                    let limit = limits.release_after.as_millis() as u64;
                    item.freed_ms + limit <= clock::wall_ms()
                }
                false => Some(item.index) <= before,
            };
            if !has_rested && !crate::planted!("released-at-once") {
                break;
            }
            if !is_read(group, &item.content) {
                due.push(wire::FreeItem {
                    index: item.index,
                    ordinal: item.ordinal,
                });
            }
            if due.len() == PAGE {
                more = true;
                break;
            }
        }
        drop(view);
        for some in due.chunks(BATCH) {
            let body = Body::Release(wire::Release {
                items: some.to_vec(),
            });
            group.own(body).await?;
        }
        if !more {
            return Ok(());
        }
    }
}

fn is_read(group: &Group, content: &Content) -> bool {
    match content {
        Content::Chunks(run) => group.memory.is_pinned(run.stage),
        Content::Empty | Content::Inline { .. } | Content::Upload { .. } => false,
    }
}

/// Ends sessions of processes that are gone.
async fn end_sessions(group: &Group, limits: &SweepLimits) -> Result<(), KvError> {
    let view = group.read().await?;
    let sessions = read::sessions(&*view).map_err(unreadable)?;
    drop(view);
    let own = group.own_session();
    let seen: Vec<(u64, u64)> = sessions
        .iter()
        .map(|(id, row)| (*id, row.highest))
        .collect();
    let idle = group.memory.idle_sessions(&seen, limits.session_idle);
    let due: Vec<u64> = sessions
        .iter()
        .filter(|(id, row)| Some(*id) != own && (row.ended || idle.contains(id)))
        .map(|(id, _)| *id)
        .collect();
    for some in due.chunks(BATCH / 2) {
        for _ in 0..ROUNDS {
            let body = Body::EndSessions(wire::EndSessions {
                sessions: some.to_vec(),
            });
            match group.own(body).await? {
                Answer::Done(Done::More(true)) => {}
                _ => break,
            }
        }
    }
    Ok(())
}

/// Goes on with transactions whose driver went away: those that this group decides; and parts of others that came when their
/// transaction was over, and that nobody may ever meet (a bucket's deletion).
async fn finish_transactions(router: &Arc<Router>, group: &Group) -> Result<(), KvError> {
    let view = group.read().await?;
    let records = read::txns(&*view).map_err(unreadable)?;
    let mut parts = read::prepareds(&*view).map_err(unreadable)?;
    drop(view);
    parts.retain(|part| records.iter().all(|record| record.txn.id != part.txn.id));
    let (undecided, decided): (Vec<_>, Vec<_>) = records
        .into_iter()
        .partition(|record| record.state == TxnState::Pending);
    // One whose participant cannot be reached holds up no other.
    let mut ended = Ok(());
    for record in decided {
        let finished = driver::finish_everywhere(router, &record.txn, record.state).await;
        ended = ended.and(finished);
    }
    let ids = undecided.iter().map(|record| record.txn.id);
    let ids: Vec<TxnId> = ids.chain(parts.iter().map(|part| part.txn.id)).collect();
    let is_old = group.memory.undecided_for(&ids, TXN_AGE);
    let (old_records, old_parts) = is_old.split_at(undecided.len());
    for (record, is_old) in undecided.iter().zip(old_records) {
        if *is_old {
            let aborted = driver::abort(router, &record.txn).await;
            let finished = match aborted {
                Ok(state) => driver::finish_everywhere(router, &record.txn, state).await,
                Err(error) => Err(error),
            };
            ended = ended.and(finished);
        }
    }
    for (part, is_old) in parts.iter().zip(old_parts) {
        if *is_old {
            ended = ended.and(driver::settle(router, group, &part.txn).await);
        }
    }
    ended
}
