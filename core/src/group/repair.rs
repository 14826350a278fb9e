//! A member gets what it lacks: chunks that rows name and that are not on this disk.
//!
//! ```text
//!   a claim is applied ── are its chunks here? ── no: fetch, write, record
//!   the short list names this node ── fetch what is missing ── agreed: this node has its copy (`ShortDone`)
//!   frames that recovery found and that nobody names ── forgotten
//! ```
//! Each member looks after itself. The list is agreed, so nothing is lost with a leader's memory: a member that comes back
//! finds its name on it, whoever leads.
//!
//! Always true:
//! * "I have my copy" is said after the fsync of the last frame of it;
//! * only what rows name is fetched, and it is not recorded if they stopped naming it meanwhile;
//! * a node judges bytes by its own state alone, and only once that state has come past the entry that opened their stage.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::{TryStreamExt, stream};
use minikv_proto::entry as wire;

use super::Group;
use super::read::unreadable;
use crate::chunk::fetch;
use crate::chunk::frames::{Cut, Piece};
use crate::chunk::incoming::Watched;
use crate::chunk::store::{NotKept, log_failed};
use crate::engine::{EngineError, View};
use crate::env::{clock, task};
use crate::ids::{ChunkId, StageId, VShard};
use crate::kv::KvError;
use crate::log::{Frame, Stream, WriteKind};
use crate::state::apply::Dropped;
use crate::state::entry::Body;
use crate::state::read::{self, Named};
use crate::state::record::ChunkRun;

/// The short list is looked at this often, also when nothing happened.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Items of it that one look takes.
const ITEMS: usize = 256;
/// Frames fetched side by side.
const SIDE_BY_SIDE: usize = 3;

/// Works until dropped.
pub(crate) async fn run(group: Arc<Group>) {
    loop {
        if let Err(error) = round(&group).await {
            tracing::debug!(group = %group.id, %error, "not all that is missing could be fetched");
        }
        let _ = clock::timeout(LOOK_EVERY, group.replica.wants.come()).await;
    }
}

async fn round(group: &Group) -> Result<(), KvError> {
    judge_recovered(group).await.map_err(unreadable)?;
    if group.peers.is_none() || group.lacks_rows() {
        return Ok(());
    }
    if group.replica.wants.take_everything() {
        look_for_everything(group).await.map_err(unreadable)?;
    }
    for want in group.replica.wants.take() {
        match get(group, &want.run, 0..want.run.count, want.is_bad).await {
            Ok(true) => {}
            Ok(false) => group.replica.wants.put_back(want),
            Err(error) => {
                tracing::warn!(group = %group.id, %error, "chunks could not be looked for");
                group.replica.wants.put_back(want);
            }
        }
    }
    work_off_short_list(group).await
}

// ---- what is missing ----

/// Fetches what is missing of these chunks of a run (`read_all`: or bad), if rows still name it. False: it is still wanted.
async fn get(
    group: &Group,
    run: &ChunkRun,
    chunks: Range<u32>,
    read_all: bool,
) -> Result<bool, KvError> {
    let replica = &group.replica;
    let Some(cut) = Cut::of(run.chunk_size) else {
        let what = format!("chunks of {} bytes", run.chunk_size);
        return Err(KvError::Damaged(what));
    };
    let mut missing = Vec::new();
    for piece in cut.pieces_of_chunks(run.len, chunks) {
        if !replica.store.has_frame(run, &piece, read_all).await? {
            missing.push(piece);
        }
    }
    if missing.is_empty() {
        return Ok(true);
    }
    let watched = replica.incoming.watch(run.stage);
    if !is_named(&*replica.view(), run).map_err(unreadable)? {
        return Ok(true);
    }
    let got = stream::iter(missing.iter().map(Ok))
        .try_for_each_concurrent(SIDE_BY_SIDE, |piece| get_frame(group, run, piece, &watched));
    match got.await {
        Ok(()) | Err(NotKept::Closed) => Ok(true),
        Err(NotKept::OtherBytes(what)) => Err(KvError::Damaged(what)),
        Err(NotKept::Failed(error)) => {
            tracing::debug!(group = %group.id, %error, "a frame is still missing");
            Ok(false)
        }
    }
}

async fn get_frame(
    group: &Group,
    run: &ChunkRun,
    piece: &Piece,
    watched: &Watched,
) -> Result<(), NotKept> {
    let chunk = ChunkId {
        vshard: run.vshard,
        stage: run.stage,
        ordinal: piece.at.chunk,
    };
    let store = &group.replica.store;
    if !store.log.room().admits(WriteKind::Ordinary) {
        return Err(KvError::NoRoom("the disk is nearly full".to_owned()).into());
    }
    let fetched = fetch::frame(group, &chunk, piece.at.frame, piece.frame_len as usize).await;
    let bytes = fetched.map_err(|why| {
        let what = format!(
            "frame {} of {chunk:?} was not fetched: {why:?}",
            piece.at.frame
        );
        KvError::Unavailable(what)
    })?;
    let permit = store.log.admit(Stream::Blob, bytes.len()).await;
    let _permit = permit.map_err(log_failed)?;
    let frame = Frame {
        chunk,
        frame: piece.at.frame,
        bytes,
    };
    store.write_frame(frame, watched).await
}

/// Whether a version, part or intent names this run. What only waits for its release is not fetched any more.
fn is_named(view: &dyn View, run: &ChunkRun) -> Result<bool, EngineError> {
    if read::is_short(view, run.stage)? {
        return Ok(true);
    }
    let mut is_named = false;
    read::named_by_vshard(view, run.vshard, &mut |named| {
        is_named |= matches!(named, Named::Chunks(other) if other.stage == run.stage);
    })?;
    Ok(is_named)
}

/// Everything that rows name and that has no place here becomes a want.
async fn look_for_everything(group: &Group) -> Result<(), EngineError> {
    let owned = read::vshards(&*group.replica.view())?;
    for owned in owned {
        let mut runs = Vec::new();
        read::named_by_vshard(&*group.replica.view(), owned.vshard, &mut |named| {
            if let Named::Chunks(run) = named {
                runs.push(run);
            }
        })?;
        for run in runs {
            if !group.replica.store.missing(&run)?.is_empty() {
                group.replica.wants.add(vec![run]);
            }
        }
        task::yield_now().await;
    }
    Ok(())
}

// ---- the short list ----

async fn work_off_short_list(group: &Group) -> Result<(), KvError> {
    let this = group.replica.node.0;
    let view = group.replica.view();
    let mut mine = Vec::new();
    for item in read::short_list(&*view) {
        let (stage, first, short) = item.map_err(unreadable)?;
        if short.missing.contains(&this) {
            mine.push((stage, first, short));
        }
        if mine.len() == ITEMS {
            break;
        }
    }
    drop(view);
    for (stage, first, short) in mine {
        // An item without its run was added by hand: a reader will find what is missing.
        let Some(run) = short
            .run
            .as_ref()
            .and_then(|run| ChunkRun::of_row(run).ok())
        else {
            continue;
        };
        let chunks = first..first.saturating_add(short.count);
        if get(group, &run, chunks, true).await? || crate::planted!("copy-confirmed-unfetched") {
            let done = wire::ShortDone {
                stage: Some(stage.to_row()),
                first,
                node: this,
                gone: false,
            };
            group.own(Body::ShortDone(done)).await?;
        }
    }
    Ok(())
}

// ---- what nobody names ----

/// Frames that recovery found in the log: a crash may have come between their writing and their forgetting, and then no
/// entry forgets them any more.
async fn judge_recovered(group: &Group) -> Result<(), EngineError> {
    let replica = &group.replica;
    if group.lacks_rows() || crate::planted!("recovered-frames-not-judged") {
        return Ok(());
    }
    let mut by_vshard: BTreeMap<VShard, BTreeSet<StageId>> = BTreeMap::new();
    for (vshard, stage) in replica.store.recovered_stages(group.id, replica.applied()) {
        by_vshard.entry(vshard).or_default().insert(stage);
    }
    if by_vshard.is_empty() {
        return Ok(());
    }
    for (vshard, stages) in &mut by_vshard {
        read::named_by_vshard(&*replica.view(), *vshard, &mut |named| match named {
            Named::Stage(_, stage) => _ = stages.remove(&stage),
            Named::Chunks(run) => _ = stages.remove(&run.stage),
            Named::Payload(_) | Named::Free(_) | Named::FreePayload(_) => {}
        })?;
        task::yield_now().await;
    }
    // After the others: what was freed meanwhile is here, and what is here no more was released.
    read::named_by_free_list(&*replica.view(), &mut |named| {
        if let Named::Free(run) = named
            && let Some(stages) = by_vshard.get_mut(&run.vshard)
        {
            stages.remove(&run.stage);
        }
    })?;
    let dropped = by_vshard.into_iter().flat_map(|(vshard, stages)| {
        let stages = stages.into_iter();
        stages.map(move |stage| Dropped::Stage(vshard, stage))
    });
    let dropped: Vec<Dropped> = dropped.collect();
    replica.store.forget(dropped.iter())
}
