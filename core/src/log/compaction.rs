//! Gives room back: moves what is still live out of a mostly dead segment, and deletes segments that nothing names.
//!
//! Only payloads and chunk frames move, as `moved` records, into the blob stream. Votes, truncations, purges and unpurged entries
//! never do: a meta segment that holds one stays.
//!
//! ```text
//!   victim (sealed, little of it live) -> read and verify each live item -> append it as `moved` -> durable
//!     -> compare-and-set its place -> ... a checkpoint of the places, durable, names nothing in it ... -> unlink
//! ```
//! Always true:
//! * an item's old place stays readable until a durable checkpoint of the places names the new one;
//! * a place changes only from the one that was read: what was dropped or moved meanwhile stays so;
//! * damaged bytes are never copied under a fresh checksum; they keep their segment until somebody drops them;
//! * a meta segment goes only if no group needs a record in it and a later one begins with standing records.
//!
//! Elsewhere: what is live (`engine::places`), when to compact and to checkpoint places (the node's housekeeping).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::batch;
use super::error::{LogError, ReadError};
use super::place::{Item, Place, Position, Stream};
use super::queue::{Done, Job};
use super::reader;
use super::record::{self, Draft, Subject};
use super::segment::io_error;
use super::shared::{Shared, Written};

/// What is live on this node: the table of places.
pub trait Liveness: Send + Sync {
    /// Bytes of the live items in a segment, and how many there are.
    fn live_in(&self, stream: Stream, segment: u32) -> (u64, u64);
    /// The live items in a segment.
    fn live_items(&self, stream: Stream, segment: u32) -> Result<Vec<(Item, Place)>, String>;
    /// Changes the place of `item` from `from` to `to`, if it is still `from`.
    fn moved(&self, item: &Item, from: Place, to: Place) -> Result<bool, String>;
}

/// A segment, as compaction sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentInfo {
    /// Its stream.
    pub stream: Stream,
    /// Its number.
    pub number: u32,
    /// Bytes it takes on disk.
    pub length: u32,
    /// The writer is in it, or will be.
    pub open: bool,
    /// A group needs records in it.
    pub needed: bool,
}

/// What the live items of a segment take once they are moved, with the records around them. Small items are mostly that: by
/// their bytes alone, a segment full of them would look like garbage and be moved for ever.
pub(super) fn packed(live: &dyn Liveness, stream: Stream, segment: u32) -> u64 {
    let (bytes, items) = live.live_in(stream, segment);
    bytes + items * (record::padded(0, 0) + batch::ROW + 7) as u64
}

/// What emptying a segment came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    /// Items that have a new place.
    pub items: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Items that could not be read, with the reason. They stay where they are.
    pub damaged: Vec<(Item, String)>,
}

/// Moved items are appended in steps of about so many bytes, so that live writes are not held up.
const STEP: usize = 1 << 20;

/// All segments, ascending.
pub(super) fn segments(shared: &Shared) -> Vec<SegmentInfo> {
    let floor = Position(shared.floor.load(Ordering::Acquire));
    let mut all = Vec::new();
    for stream in Stream::ALL {
        let current = shared.stream(stream).spare.current();
        for number in shared.segments.numbers(stream) {
            if let Some(segment) = shared.segments.get(stream, number) {
                all.push(SegmentInfo {
                    stream,
                    number,
                    length: segment.length,
                    open: number >= current,
                    needed: stream == Stream::Meta && number >= floor.segment(),
                });
            }
        }
    }
    all
}

/// Segments worth emptying: what lives in them would take at most `max_live` of their bytes elsewhere, and leaves room
/// for one more of its records: as much may stay unused at the end of any segment. Those with the least come first.
pub(super) fn victims(
    shared: &Shared,
    live: &dyn Liveness,
    max_live: f64,
) -> Vec<(SegmentInfo, u64)> {
    let worth_it = |segment: &SegmentInfo, packed: u64| {
        let (_, items) = live.live_in(segment.stream, segment.number);
        let one = packed / items.max(1);
        let length = u64::from(segment.length);
        packed as f64 <= (length as f64 * max_live).min(length.saturating_sub(one) as f64)
    };
    let mut victims: Vec<(SegmentInfo, u64)> = segments(shared)
        .into_iter()
        .filter(|segment| !segment.open && !segment.needed)
        .map(|segment| (segment, packed(live, segment.stream, segment.number)))
        .filter(|(segment, packed)| worth_it(segment, *packed))
        .collect();
    victims.sort_by_key(|(segment, live)| (*live, segment.stream, segment.number));
    victims
}

/// Moves the live items of a segment into the blob stream.
pub(super) async fn empty(
    shared: &Arc<Shared>,
    stream: Stream,
    number: u32,
    live: &dyn Liveness,
) -> Result<Moved, LogError> {
    let told = |cause: String| LogError::Io {
        step: format!("looking for what is live in {stream} segment {number}").into(),
        cause: cause.into(),
    };
    let mut items = live.live_items(stream, number).map_err(told)?;
    items.sort_by_key(|(_, place)| *place);
    let mut moved = Moved::default();
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        let mut step = Vec::new();
        let mut bytes = 0;
        while bytes < STEP
            && let Some((item, place)) = items.next()
        {
            match reader::read(shared, place, &item).await {
                Ok(payload) => {
                    bytes += payload.len();
                    step.push((item, place, payload));
                }
                // Moved or dropped since we asked.
                Err(ReadError::Gone) => {}
                // One bad sector must not keep the rest of the segment from moving.
                Err(ReadError::Damaged(what) | ReadError::Io(what)) => {
                    moved.damaged.push((item, what.to_string()));
                }
            }
        }
        let _permit = shared.admission.admit(Stream::Blob, bytes).await?;
        let drafts = step.iter().map(|(item, _, payload)| {
            let subject = match *item {
                Item::Payload(id) => Subject::MovedPayload { id },
                Item::Frame { chunk, frame } => Subject::MovedFrame { chunk, frame },
            };
            Draft::new(subject, Default::default(), payload.clone())
        });
        let written = append_items(shared, drafts.collect())?.await;
        let written = written.unwrap_or(Err(LogError::Closed))?;
        for ((item, from, payload), to) in step.iter().zip(&written.places) {
            if live.moved(item, *from, *to).map_err(told)? {
                moved.items += 1;
                moved.bytes += payload.len() as u64;
            }
        }
        // The new places are in the table: only now may it be called complete past them.
        drop(written.hold);
    }
    Ok(moved)
}

/// Queues frames or moved items. The answer comes when they are settled.
pub(super) fn append_items(
    shared: &Arc<Shared>,
    drafts: Vec<Draft>,
) -> Result<oneshot::Receiver<Result<Written, LogError>>, LogError> {
    let (sender, receiver) = oneshot::channel();
    if drafts.is_empty() {
        // Nobody can have dropped the receiver.
        let _ = sender.send(Ok(Written {
            places: Vec::new(),
            hold: None,
        }));
        return Ok(receiver);
    }
    shared.stream(Stream::Blob).queue.push(|ticket| Job {
        ticket,
        drafts,
        sync: false,
        done: Done::Items(sender),
    })?;
    Ok(receiver)
}

/// Deletes a segment. The caller promises that a durable checkpoint of the places names nothing in it.
/// `false`: the log itself still needs it, or it is gone.
pub(super) async fn unlink(shared: &Shared, stream: Stream, number: u32) -> Result<bool, LogError> {
    let wanted = |info: &SegmentInfo| (info.stream, info.number) == (stream, number);
    let free = segments(shared)
        .iter()
        .any(|info| wanted(info) && !info.open && !info.needed);
    let Some(segment) = free
        .then(|| shared.segments.remove(stream, number))
        .flatten()
    else {
        return Ok(false);
    };
    // Who reads from it now keeps it open, and its bytes with it.
    let io = |error: std::io::Error| io_error("deleting", &segment.path, &error);
    shared.disk.remove(&segment.path).map_err(io)?;
    shared.disk.sync_dir(&shared.dir).await.map_err(io)?;
    if let Some(oldest) = shared.segments.numbers(stream).first() {
        shared
            .stream(stream)
            .boundaries
            .lock()
            .forget_before(*oldest);
    }
    shared.poke_keeper.notify_one();
    Ok(true)
}
