//! The log as its callers see it. The story is told in `mod`.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::admission::{Permit, Room};
use super::compaction::{self, Liveness, Moved, SegmentInfo};
use super::damage::{Recovered, Seen};
use super::error::{LogError, ReadError};
use super::keeper;
use super::metrics::StreamMetrics;
use super::options::{LogOptions, MAX_RECORD};
use super::place::{Item, Place, Position, Stream};
use super::queue::{Ack, Done, Job};
use super::reader;
use super::record::{Draft, Subject};
use super::recovery;
use super::segment::{FIRST_BATCH, Segments, io_error};
use super::shared::{Cell, Shared, StreamState, Written};
use super::writer::Writer;
use crate::env::Env;
use crate::env::task::{self, JoinHandle};
use crate::ids::{ChunkId, GroupId, PayloadId};

/// Up to where, in each stream, a table of places knows every item. Kept in that table's manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Complete {
    /// Start of a durable meta batch.
    pub meta: Position,
    /// Start of a durable blob batch.
    pub blob: Position,
}

/// A part of a chunk, to be written.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The chunk.
    pub chunk: ChunkId,
    /// Number of the frame within it, from 0.
    pub frame: u32,
    /// At most 1 MiB.
    pub bytes: Bytes,
}

/// A node's log. Dropping it ends its tasks as a process kill would, what is queued is not written; `close` ends it in order.
pub struct Log {
    pub(super) shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// The overlay's part of the ballast, given back to the file system; reserved again after this is dropped.
pub struct OverlayLoan {
    shared: Arc<Shared>,
}

impl Drop for OverlayLoan {
    fn drop(&mut self) {
        self.shared.overlay_borrowed.fetch_sub(1, Ordering::AcqRel);
        self.shared.poke_keeper.notify_one();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

impl Log {
    /// Recovers the log in `dir`, or makes a new one, and starts its tasks. `seen` is told every payload, frame and moved item
    /// at or behind `complete`, those of truncated entries excepted; of an item told twice the later place counts.
    pub async fn open(
        env: &Env,
        dir: &Path,
        options: LogOptions,
        complete: Complete,
        seen: &mut (dyn FnMut(Seen) + Send),
    ) -> Result<(Arc<Log>, Recovered), LogError> {
        let disk = Arc::clone(&env.disk);
        disk.create_dir_all(dir)
            .map_err(|error| io_error("making", dir, &error))?;
        let space = disk
            .space(dir)
            .map_err(|error| io_error("looking at", dir, &error))?;
        let segment_bytes = options.segment_bytes(space.capacity);
        let options = LogOptions {
            // On a small disk two budgets must not be most of it.
            overlay_budget: options.overlay_budget.min(space.capacity / 64),
            ..options
        };
        let complete = [complete.meta, complete.blob];
        let opened = recovery::recover(&*disk, dir, segment_bytes, complete).await?;

        let segments = Segments::default();
        opened
            .segments
            .into_iter()
            .for_each(|segment| segments.insert(segment));
        let [meta, blob] = opened.tails;
        let state = |boundaries, number, offset, spare| {
            StreamState::new(boundaries, Position::new(number, offset), spare)
        };
        let streams = [
            state(
                meta.boundaries,
                meta.segment.number,
                meta.offset,
                meta.spare,
            ),
            state(
                blob.boundaries,
                blob.segment.number,
                blob.offset,
                blob.spare,
            ),
        ];
        let dir = dir.to_path_buf();
        let shared = Shared::new(
            disk,
            dir,
            options,
            segment_bytes,
            opened.log_id,
            segments,
            streams,
        );
        let shared = Arc::new(shared);
        let cells = opened.groups.into_iter().map(|(group, mut log)| {
            log.appended = log.bytes();
            (group, Arc::new(Cell::new(log, Arc::clone(&shared.cached))))
        });
        *shared.groups.write() = cells.collect();
        let here = Position::new(meta.segment.number, FIRST_BATCH);
        let floor = opened.ledger.floor().unwrap_or(here).min(here);
        shared.floor.store(floor.0, Ordering::Release);

        opened.seen.into_iter().for_each(seen);
        let writers = [
            (
                "log-meta",
                meta.segment,
                meta.offset,
                meta.chain,
                opened.ledger,
            ),
            (
                "log-blob",
                blob.segment,
                blob.offset,
                blob.chain,
                Default::default(),
            ),
        ]
        .map(|(name, segment, offset, chain, ledger)| {
            let writer = Writer::new(Arc::clone(&shared), segment, offset, chain, ledger);
            task::spawn_thread(name, writer.run())
        });
        // Before anybody writes, so that nobody is refused for a ballast that was only not made yet.
        let tended = keeper::tend(&shared).await;
        let keeper = task::spawn_thread("log-keeper", keeper::run(Arc::clone(&shared)));
        let log = Log {
            tasks: Mutex::new(writers.into_iter().chain([keeper]).collect()),
            shared,
        };
        tended?;
        Ok((Arc::new(log), opened.recovered))
    }

    /// Writes what is queued, fsyncs, and ends the tasks. Calls after this are refused.
    pub async fn close(&self) -> Result<(), LogError> {
        self.shared.stop();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if task.await.is_err() {
                return Err(LogError::Closed);
            }
        }
        self.shared.failure().map_or(Ok(()), Err)
    }

    pub(super) fn check_len(&self, len: usize) -> Result<(), LogError> {
        let max = MAX_RECORD.min((self.shared.segment_bytes - FIRST_BATCH) as usize / 2);
        match len <= max {
            true => Ok(()),
            false => Err(LogError::TooLarge { len, max }),
        }
    }

    // ---- items

    /// Queues frames. The future answers with their places when they are durable; put these into the table of places,
    /// then drop the hold that comes with them.
    pub fn append_frames(
        &self,
        frames: Vec<Frame>,
    ) -> impl Future<Output = Result<Written, LogError>> + Send + 'static {
        let queued = self.queue_frames(frames);
        async move { queued?.await.unwrap_or(Err(LogError::Closed)) }
    }

    fn queue_frames(
        &self,
        frames: Vec<Frame>,
    ) -> Result<tokio::sync::oneshot::Receiver<Result<Written, LogError>>, LogError> {
        let mut drafts = Vec::with_capacity(frames.len());
        for Frame {
            chunk,
            frame,
            bytes,
        } in frames
        {
            let draft = Draft::new(Subject::Frame { chunk, frame }, Bytes::new(), bytes);
            self.check_len(draft.len())?;
            drafts.push(draft);
        }
        compaction::append_items(&self.shared, drafts)
    }

    /// Writes payloads of entries that this node applied nowhere: they came with a checkpoint. Answers with their places, in
    /// order, when they are durable; hold and table as in `append_frames`.
    pub async fn append_payloads(
        &self,
        payloads: Vec<(PayloadId, Bytes)>,
    ) -> Result<Written, LogError> {
        let bytes = payloads.iter().map(|(_, bytes)| bytes.len()).sum();
        let _permit = self.admit(Stream::Blob, bytes).await?;
        let mut drafts = Vec::with_capacity(payloads.len());
        for (id, bytes) in payloads {
            let draft = Draft::new(Subject::MovedPayload { id }, Bytes::new(), bytes);
            self.check_len(draft.len())?;
            drafts.push(draft);
        }
        let queued = compaction::append_items(&self.shared, drafts)?;
        queued.await.unwrap_or(Err(LogError::Closed))
    }

    /// Reads an item, verified. Does not hold up the calling thread.
    pub async fn read(&self, place: Place, item: &Item) -> Result<Bytes, ReadError> {
        reader::read(&self.shared, place, item).await
    }

    /// As `read`, for callers that may block.
    pub fn read_blocking(&self, place: Place, item: &Item) -> Result<Bytes, ReadError> {
        reader::read_blocking(&self.shared, place, item)
    }

    /// Everything before this is durable.
    pub fn durable_end(&self, stream: Stream) -> Position {
        self.shared.stream(stream).durable_end()
    }

    /// Up to where a table of places is complete that holds the payloads of what each group has applied, and all
    /// written items whose holds are dropped. Ask before the table's checkpoint begins.
    pub fn complete_up_to(&self, applied: &[(GroupId, Option<u64>)]) -> Complete {
        let mut meta = self.shared.stream(Stream::Meta).complete_up_to();
        let cells: Vec<_> = self
            .shared
            .groups
            .read()
            .iter()
            .map(|(g, c)| (*g, c.clone()))
            .collect();
        for (group, cell) in cells {
            let applied = applied
                .iter()
                .find(|(of, _)| *of == group)
                .and_then(|(_, index)| *index);
            let unapplied = cell.with(|log| {
                let first = log.range().start;
                log.position(applied.map_or(first, |applied| first.max(applied + 1)))
            });
            if let Some(position) = unapplied {
                let boundaries = self.shared.stream(Stream::Meta).boundaries.lock();
                meta = meta.min(boundaries.at_or_before(position));
            }
        }
        Complete {
            meta,
            blob: self.shared.stream(Stream::Blob).complete_up_to(),
        }
    }

    /// Bytes of entries held in memory.
    pub fn cached_bytes(&self) -> usize {
        self.shared.cached.load(Ordering::Relaxed)
    }

    /// Makes everything queued so far durable, whatever the policy. Places that are about to become durable
    /// must not name records that are not.
    pub async fn sync(&self) -> Result<(), LogError> {
        let mut waiting = Vec::new();
        for stream in Stream::ALL {
            let (sender, receiver) = oneshot::channel();
            let ack: Ack = Box::new(move |result| drop(sender.send(result)));
            self.shared.stream(stream).queue.push(|ticket| Job {
                ticket,
                drafts: Vec::new(),
                sync: true,
                done: Done::Plain(ack),
            })?;
            waiting.push(receiver);
        }
        for receiver in waiting {
            receiver.await.unwrap_or(Err(LogError::Closed))?;
        }
        Ok(())
    }

    // ---- room and health

    /// Waits until `bytes` more may be on their way to the disk. Keep the permit until they are settled.
    pub async fn admit(&self, stream: Stream, bytes: usize) -> Result<Permit, LogError> {
        self.shared.admission.admit(stream, bytes).await
    }

    /// Room on the disk as it was seen last.
    pub fn room(&self) -> Room {
        *self.shared.room.lock()
    }

    /// For whoever is about to write a checkpoint: on a disk that has no room for it, the part of the ballast that is
    /// kept for this very purpose. Keep it until the checkpoint is written. `None`: there is room enough.
    pub fn room_for_checkpoint(&self) -> Result<Option<OverlayLoan>, LogError> {
        let shared = &self.shared;
        let space = shared
            .disk
            .space(&shared.dir)
            .map_err(|error| io_error("looking for room in", &shared.dir, &error))?;
        // Runs and their twins.
        if space.free >= 2 * shared.options.overlay_budget {
            return Ok(None);
        }
        shared.overlay_borrowed.fetch_add(1, Ordering::AcqRel);
        let loan = OverlayLoan {
            shared: Arc::clone(shared),
        };
        keeper::lend_overlay(shared)
            .map_err(|error| io_error("lending the ballast in", &shared.dir, &error))?;
        Ok(Some(loan))
    }

    /// What an overlay may hold: the budget that was set, or less on a small disk.
    pub fn overlay_budget(&self) -> u64 {
        self.shared.options.overlay_budget
    }

    /// An fsync has not returned for two seconds. The node should hand over its leaderships until it has.
    pub fn is_sick(&self) -> bool {
        self.shared.is_sick()
    }

    /// Whether the log has failed for good.
    pub fn has_failed(&self) -> bool {
        self.shared.failure().is_some()
    }

    /// Resolves when the log has failed for good: the process must exit and recover.
    pub fn failed(&self) -> impl Future<Output = LogError> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        async move { shared.failed().await }
    }

    /// Counters of a stream.
    pub fn metrics(&self, stream: Stream) -> StreamMetrics {
        self.shared.stream(stream).counters.read()
    }

    // ---- compaction

    /// All segments, ascending.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        compaction::segments(&self.shared)
    }

    /// Segments worth emptying: what lives in them takes at most `max_live` (0 to 1) of them. With how much that is;
    /// those with the least come first.
    pub fn victims(&self, live: &dyn Liveness, max_live: f64) -> Vec<(SegmentInfo, u64)> {
        compaction::victims(&self.shared, live, max_live)
    }

    /// What the live items of a segment take on the disk once they are moved.
    pub fn packed(&self, live: &dyn Liveness, segment: &SegmentInfo) -> u64 {
        compaction::packed(live, segment.stream, segment.number)
    }

    /// Moves the live items of a segment into the blob stream and tells `live` their new places.
    pub async fn empty_segment(
        &self,
        stream: Stream,
        number: u32,
        live: &dyn Liveness,
    ) -> Result<Moved, LogError> {
        compaction::empty(&self.shared, stream, number, live).await
    }

    /// Deletes a segment, when its last reader is done. Only after a durable checkpoint of the places names nothing
    /// in it. `false`: the log still needs it, or it is gone.
    pub async fn unlink(&self, stream: Stream, number: u32) -> Result<bool, LogError> {
        compaction::unlink(&self.shared, stream, number).await
    }
}

#[cfg(test)]
impl Log {
    /// A segment as a reader holds it.
    pub(super) fn shared_segment(
        &self,
        stream: Stream,
        number: u32,
    ) -> Arc<super::segment::Segment> {
        let segment = self.shared.segments.get(stream, number);
        segment.expect("a test names a segment that is there")
    }
}
