//! A member gets what it lacks: chunks that rows name and that are not on this disk.
//!
//! ```text
//!   a claim is applied ── are its chunks here? ── no: fetch, write, record
//!   the short list names this node ── fetch what is missing ── agreed: this node has its copy (`ShortDone`)
//!   a reader or the scrubber found something bad ── fetch, verify, write anew, change the place (`mend`)
//!   frames, and copies of payloads, that recovery found and that nobody names ── forgotten
//! ```
//! Each member looks after itself. The list is agreed, so nothing is lost with a leader's memory: a member that comes back
//! finds its name on it, whoever leads.
//!
//! Always true:
//! * "I have my copy" is said after the fsync of the last frame of it;
//! * only what rows name is fetched, and it is not recorded if they stopped naming it meanwhile;
//! * a node judges bytes by its own state alone, and only once that state has come past the entry that opened their stage, or
//!   brought them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use minikv_proto::entry as wire;

use super::Group;
use super::read::unreadable;
use crate::chunk::fetch;
use crate::chunk::frames::{Cut, Piece};
use crate::chunk::incoming::Watched;
use crate::chunk::store::{NotKept, ReadFault, Unjudged, log_failed};
use crate::engine::{EngineError, View};
use crate::env::{clock, task};
use crate::ids::{ChunkId, PayloadId, StageId, VShard};
use crate::kv::KvError;
use crate::log::{Frame, Item, Place, Stream, WriteKind};
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
    if group.replica.wants.take_everything()
        && let Err(error) = look_for_everything(group).await
    {
        group.replica.wants.add_everything();
        return Err(unreadable(error));
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
    let worked_off = work_off_short_list(group).await;
    for item in group.replica.wants.take_bad_items() {
        match mend(group, item).await {
            Ok(()) | Err(NotKept::Closed) => {}
            Err(error) => {
                tracing::debug!(group = %group.id, %item, ?error, "not mended for now");
                group.replica.wants.put_back_bad(item);
            }
        }
    }
    worked_off
}

// ---- what is bad ----

/// Writes anew what lies here and does not verify, or a payload that lies nowhere, from bytes that another member has.
async fn mend(group: &Group, item: Item) -> Result<(), NotKept> {
    let store = &group.replica.store;
    let place = store.places.get(&item).map_err(unreadable)?;
    match store.read_item(item).await {
        Ok(_) => {
            store.found_whole(item);
            return Ok(());
        }
        // Frames that are missing are looked for by their runs.
        Err(ReadFault::Absent(Item::Frame { .. })) => return Ok(()),
        Err(ReadFault::Absent(_) | ReadFault::Other(KvError::Damaged(_))) => {}
        Err(ReadFault::Other(error)) => return Err(error.into()),
    }
    if !store.log.room().admits(WriteKind::Ordinary) {
        return Err(KvError::NoRoom("the disk is nearly full".to_owned()).into());
    }
    match item {
        Item::Frame { chunk, frame } => {
            let watched = group.replica.incoming.watch(chunk.stage);
            if !is_named(&*group.replica.view(), chunk.vshard, chunk.stage).map_err(unreadable)? {
                // It waits for its release only: nobody reads it.
                return Ok(());
            }
            let bytes = fetched(group, item, place).await?;
            let permit = store.log.admit(Stream::Blob, bytes.len()).await;
            let _permit = permit.map_err(log_failed)?;
            let frame = Frame {
                chunk,
                frame,
                bytes,
            };
            store.write_frame(frame, &watched).await?;
        }
        Item::Payload(payload) => {
            let bytes = match fetched(group, item, place).await {
                Ok(bytes) => bytes,
                // A state that was taken over whole may have come without the entry that dropped it.
                Err(_) if !is_payload_named(group, payload).map_err(unreadable)? => return Ok(()),
                Err(error) => return Err(error),
            };
            store.rewrite_payload(payload, place, bytes).await?;
            // Dropped while it was fetched, nobody forgets it again.
            if place.is_none() && !is_payload_named(group, payload).map_err(unreadable)? {
                store.places.remove(&item).map_err(unreadable)?;
            }
        }
    }
    // The proof of a repair is what can be read afterwards.
    match store.read_item(item).await {
        Ok(_) => store.mended(item),
        Err(ReadFault::Absent(_)) => {}
        Err(ReadFault::Other(error)) => return Err(error.into()),
    }
    Ok(())
}

fn is_payload_named(group: &Group, payload: PayloadId) -> Result<bool, EngineError> {
    let view = group.replica.view();
    let mut is_named = false;
    let mut tell = |named| {
        is_named |= matches!(named, Named::Payload(id) | Named::FreePayload(id) if id == payload)
    };
    for owned in read::vshards(&*view)? {
        read::named_by_vshard(&*view, owned.vshard, &mut tell)?;
    }
    read::named_by_free_list(&*view, &mut tell)?;
    Ok(is_named)
}

/// The bytes of an item from another member, unless what the bad record here still says of them speaks against it.
async fn fetched(group: &Group, item: Item, place: Option<Place>) -> Result<Bytes, NotKept> {
    let store = &group.replica.store;
    #[cfg(feature = "planted")]
    if let Some(place) = place
        && crate::planted!("repair-writes-back-the-bad-copy")
    {
        let bytes = store.log.read_unverified(place).await;
        return bytes.map_err(|error| KvError::Unavailable(error.to_string()).into());
    }
    let len = place.map(|place| place.len as usize);
    let bytes = match item {
        Item::Frame { chunk, frame } => {
            fetch::frame(group, &chunk, frame, len.unwrap_or_default()).await
        }
        Item::Payload(payload) => fetch::payload(group, payload, len).await,
    };
    let bytes = bytes.map_err(|why| KvError::Unavailable(format!("{item}: {why:?}")))?;
    let Some(place) = place else { return Ok(bytes) };
    match store.log.vouches(place, &item, &bytes).await {
        Some(false) if !crate::planted!("repaired-bytes-not-verified") => {
            let what = format!("{item}: another member has other bytes than were written here");
            tracing::error!(what);
            Err(KvError::Damaged(what).into())
        }
        _ => Ok(bytes),
    }
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
    if !is_named(&*replica.view(), run.vshard, run.stage).map_err(unreadable)? {
        return Ok(true);
    }
    let got = stream::iter(missing.iter().map(Ok))
        .try_for_each_concurrent(SIDE_BY_SIDE, |piece| get_frame(group, run, piece, &watched));
    match got.await {
        Ok(()) => Ok(true),
        // Dropped; or all rows were replaced, and the new ones name it still.
        Err(NotKept::Closed) => {
            Ok(!is_named(&*replica.view(), run.vshard, run.stage).map_err(unreadable)?)
        }
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
fn is_named(view: &dyn View, vshard: VShard, stage: StageId) -> Result<bool, EngineError> {
    if read::is_short(view, stage)? {
        return Ok(true);
    }
    let mut is_named = false;
    read::named_by_vshard(view, vshard, &mut |named| {
        is_named |= matches!(named, Named::Chunks(other) if other.stage == stage);
    })?;
    Ok(is_named)
}

/// Everything that rows name and that has no place here becomes a want.
async fn look_for_everything(group: &Group) -> Result<(), EngineError> {
    let owned = read::vshards(&*group.replica.view())?;
    for owned in owned {
        let (mut runs, mut payloads) = (Vec::new(), Vec::new());
        read::named_by_vshard(
            &*group.replica.view(),
            owned.vshard,
            &mut |named| match named {
                Named::Chunks(run) => runs.push(run),
                Named::Payload(payload) => payloads.push(Item::Payload(payload)),
                _ => {}
            },
        )?;
        for item in payloads {
            if group.replica.store.places.get(&item)?.is_none() {
                group.replica.wants.add_bad_item(item);
            }
        }
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
    let members = read::members(&*view).map_err(unreadable)?;
    let Some(member) = members.iter().find(|member| member.node == this) else {
        return Ok(());
    };
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
        let run = short.run.as_ref().map(ChunkRun::of_row);
        let Some(Ok(run)) = run else {
            let what = format!("{stage:?} on the short list does not say what it is of");
            return Err(KvError::Damaged(what));
        };
        let chunks = first..first.saturating_add(short.count);
        if get(group, &run, chunks, true).await? || crate::planted!("copy-confirmed-unfetched") {
            let done = wire::ShortDone {
                stage: Some(stage.to_row()),
                first,
                node: this,
                gone: false,
                since_index: member.since_index,
            };
            group.own(Body::ShortDone(done)).await?;
        }
    }
    Ok(())
}

// ---- what nobody names ----

/// Frames and copies of payloads that recovery found in the log: a crash may have come between their writing and their
/// forgetting, and then no entry forgets them any more.
async fn judge_recovered(group: &Group) -> Result<(), EngineError> {
    let replica = &group.replica;
    if group.lacks_rows() || crate::planted!("recovered-frames-not-judged") {
        return Ok(());
    }
    let recovered = replica.store.recovered(group.id, replica.applied());
    if recovered.stages.is_empty() && recovered.payloads.is_empty() {
        return Ok(());
    }
    let judged = forget_unnamed(group, &recovered).await;
    if judged.is_err() {
        replica.store.note_recovered(recovered);
    }
    judged
}

async fn forget_unnamed(group: &Group, recovered: &Unjudged) -> Result<(), EngineError> {
    let replica = &group.replica;
    // One moment for all: what nobody names now, nobody will; but while one looks a payload may come from one key to another.
    let view = replica.view();
    let mut payloads = recovered.payloads.clone();
    let mut by_vshard: BTreeMap<VShard, BTreeSet<StageId>> = BTreeMap::new();
    for (vshard, stage) in &recovered.stages {
        by_vshard.entry(*vshard).or_default().insert(*stage);
    }
    if !payloads.is_empty() {
        // A payload does not say which keys name it.
        for owned in read::vshards(&*view)? {
            by_vshard.entry(owned.vshard).or_default();
        }
    }
    for (vshard, stages) in &mut by_vshard {
        read::named_by_vshard(&*view, *vshard, &mut |named| match named {
            Named::Stage(_, stage) => _ = stages.remove(&stage),
            Named::Chunks(run) => _ = stages.remove(&run.stage),
            Named::Payload(payload) => _ = payloads.remove(&payload),
            Named::Free(_) | Named::FreePayload(_) => {}
        })?;
        task::yield_now().await;
    }
    read::named_by_free_list(&*view, &mut |named| match named {
        Named::Free(run) => {
            if let Some(stages) = by_vshard.get_mut(&run.vshard) {
                stages.remove(&run.stage);
            }
        }
        Named::FreePayload(payload) => _ = payloads.remove(&payload),
        Named::Payload(_) | Named::Chunks(_) | Named::Stage(..) => {}
    })?;
    let payloads = payloads.into_iter().map(Dropped::Payload);
    let dropped = by_vshard.into_iter().flat_map(|(vshard, stages)| {
        let stages = stages.into_iter();
        stages.map(move |stage| Dropped::Stage(vshard, stage))
    });
    let dropped: Vec<Dropped> = dropped.chain(payloads).collect();
    replica.store.forget(dropped.iter())
}
