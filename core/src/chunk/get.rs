//! Reading a content back: frames in order, verified, a few ahead.
//!
//! Always true:
//! * what comes out is the very bytes that were asked for, or an error that ends the stream: never a short success;
//! * what is missing or damaged here comes from another member, and this node looks for its own copy afterwards; only if
//!   nobody has it, the reader is told of the fault here;
//! * at most `AHEAD` frames of a stream are in memory, beside the one that is being sent;
//! * chunks that a stream still has to read stay pinned, so that they are not released under it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::fetch::{self, NotFetched};
use super::frames::{Cut, Piece};
use super::store::ReadFault;
use crate::group::Group;
use crate::ids::{ChunkId, PayloadId, StageId};
use crate::kv::KvError;
use crate::log::Item;
use crate::state::record::ChunkRun;

/// Frames read ahead of the one that is being sent.
const AHEAD: usize = 2;

/// A stretch of content.
#[derive(Clone, Debug)]
pub(crate) enum Stretch {
    Inline {
        payload: PayloadId,
        offset: u32,
        len: u32,
        crc64: u64,
        wanted: Range<u64>,
    },
    Chunks {
        run: ChunkRun,
        wanted: Range<u64>,
    },
}

/// Keeps chunks from being released.
struct Pins {
    group: Arc<Group>,
    stages: Vec<StageId>,
}

impl Pins {
    fn on(group: Arc<Group>, stretches: &[Stretch]) -> Pins {
        let stages: Vec<StageId> = stretches
            .iter()
            .filter_map(|stretch| match stretch {
                Stretch::Chunks { run, .. } => Some(run.stage),
                Stretch::Inline { .. } => None,
            })
            .collect();
        for stage in &stages {
            group.memory.pin(*stage);
        }
        Pins { group, stages }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for stage in &self.stages {
            self.group.memory.unpin(*stage);
        }
    }
}

/// One read.
enum Step {
    Inline(Stretch),
    Frame(Arc<ChunkRun>, Piece),
}

fn steps(stretches: Vec<Stretch>) -> impl Iterator<Item = Result<Step, KvError>> + Send {
    stretches.into_iter().flat_map(|stretch| {
        let steps: Box<dyn Iterator<Item = Result<Step, KvError>> + Send> = match stretch {
            Stretch::Inline { .. } => Box::new(std::iter::once(Ok(Step::Inline(stretch)))),
            Stretch::Chunks { run, wanted } => match Cut::of(run.chunk_size) {
                Some(cut) => {
                    let run = Arc::new(run);
                    let pieces = cut.pieces(run.len, wanted);
                    Box::new(pieces.map(move |piece| Ok(Step::Frame(run.clone(), piece))))
                }
                None => Box::new(std::iter::once(Err(KvError::Damaged(format!(
                    "a run with chunks of {} bytes",
                    run.chunk_size
                ))))),
            },
        };
        steps
    })
}

async fn read(group: &Group, step: Step) -> Result<Bytes, ReadFault> {
    match step {
        Step::Inline(Stretch::Inline {
            payload,
            offset,
            len,
            crc64,
            wanted,
        }) => {
            let content = inline(group, payload, offset, len, crc64).await?;
            Ok(content.slice(wanted.start as usize..wanted.end as usize))
        }
        Step::Inline(Stretch::Chunks { .. }) => Ok(Bytes::new()),
        Step::Frame(run, piece) => {
            let frame = frame(group, &run, &piece).await?;
            Ok(frame.slice(piece.wanted.start as usize..piece.wanted.end as usize))
        }
    }
}

/// A frame, from this disk or another member's.
async fn frame(group: &Group, run: &ChunkRun, piece: &Piece) -> Result<Bytes, ReadFault> {
    let store = &group.replica.store;
    let read = store.read_frame(run, piece.at, piece.frame_len).await;
    let fault = match read {
        Err(fault) if group.peers.is_some() && !crate::planted!("reads-ask-nobody") => fault,
        read => return read,
    };
    let chunk = ChunkId {
        vshard: run.vshard,
        stage: run.stage,
        ordinal: piece.at.chunk,
    };
    // Also if nobody can be asked right now.
    group.replica.wants.add_bad(run.clone());
    let fetched = fetch::frame(group, &chunk, piece.at.frame, piece.frame_len as usize).await;
    fetched.map_err(|why| not_here(group, fault, why))
}

/// Nobody gave what is not here, or not whole. What may lie elsewhere is not lost.
fn not_here(group: &Group, fault: ReadFault, why: NotFetched) -> ReadFault {
    match why {
        NotFetched::NobodyHasThem => fault,
        NotFetched::NotAnswered => ReadFault::Other(KvError::Unavailable(format!(
            "{}: bytes that are not here, and a member that may have them does not answer",
            group.id
        ))),
    }
}

/// An inline content, from this disk or another member's.
pub(crate) async fn inline(
    group: &Group,
    payload: PayloadId,
    offset: u32,
    len: u32,
    checksum: u64,
) -> Result<Bytes, ReadFault> {
    let store = &group.replica.store;
    let read = store.read_inline(payload, offset, len, checksum).await;
    match read {
        // Absent, it was overwritten since it was looked up: every member drops it by the same entry.
        Err(fault @ ReadFault::Other(_)) if group.peers.is_some() => {
            if matches!(fault, ReadFault::Other(KvError::Damaged(_))) {
                group.replica.wants.add_bad_item(Item::Payload(payload));
            }
            let fetched = fetch::inline(group, payload, offset, len, checksum);
            Box::pin(fetched)
                .await
                .map_err(|why| not_here(group, fault, why))
        }
        // Nothing of the group is here, or not any more.
        Err(fault @ ReadFault::Absent(_))
            if group.elsewhere.is_some() || group.replica.incoming.is_closed() =>
        {
            let fetched = fetch::inline(group, payload, offset, len, checksum);
            Box::pin(fetched)
                .await
                .map_err(|why| not_here(group, fault, why))
        }
        read => read,
    }
}

/// An inline content that is not on this disk although a row names it, from another member.
pub(crate) async fn inline_elsewhere(
    group: &Group,
    payload: PayloadId,
    offset: u32,
    len: u32,
    checksum: u64,
) -> Result<Bytes, ReadFault> {
    let item = Item::Payload(payload);
    group.replica.wants.add_bad_item(item);
    let fetched = fetch::inline(group, payload, offset, len, checksum).await;
    fetched.map_err(|why| not_here(group, ReadFault::Absent(item), why))
}

/// What to say of a payload that is not on this disk although a row names it, in the middle of a content.
pub(crate) async fn payload_elsewhere(group: &Group, payload: PayloadId) -> ReadFault {
    let item = Item::Payload(payload);
    group.replica.wants.add_bad_item(item);
    match fetch::payload(group, payload, None).await {
        Ok(_) => ReadFault::Other(KvError::Unavailable(format!(
            "{}: {item} is on another member only, and comes from there now",
            group.id
        ))),
        Err(why) => not_here(group, ReadFault::Absent(item), why),
    }
}

/// The bytes of these stretches, in order.
pub(crate) fn content(
    group: Arc<Group>,
    stretches: Vec<Stretch>,
) -> impl Stream<Item = Result<Bytes, ReadFault>> + Send {
    let pins = Pins::on(group.clone(), &stretches);
    let reads = stream::iter(steps(stretches)).map(move |step| {
        let group = group.clone();
        let _held = &pins;
        async move { read(&group, step?).await }
    });
    // After an error nothing more is read: what came before it must not look whole.
    reads
        .buffered(AHEAD)
        .try_filter(|bytes| std::future::ready(!bytes.is_empty()))
}
