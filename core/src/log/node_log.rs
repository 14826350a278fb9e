//! The log as its callers see it. The story is told in `mod`.

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;

use super::admission::{Permit, Room};
use super::compaction::{self, Liveness, Moved, SegmentInfo};
use super::damage::{Recovered, Seen};
use super::error::{LogError, ReadError};
use super::group_log::{GroupLog, Hurt, LogEntry, LogState, OnDisk, Piece, Want};
use super::keeper;
use super::metrics::StreamMetrics;
use super::options::{LogOptions, MAX_RECORD};
use super::place::{Item, Place, Position, Stream};
use super::queue::{Ack, Done, Job};
use super::reader;
use super::record::{Draft, LogId, Subject};
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
    shared: Arc<Shared>,
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
            let state = StreamState::new(boundaries, Position::new(number, offset));
            *state.spare.lock() = spare;
            state
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

    fn push(
        &self,
        cell: &Cell,
        draft: Draft,
        ack: Ack,
        note: impl FnOnce(&mut GroupLog),
    ) -> Result<(), LogError> {
        cell.with(|log| {
            log.last_ticket = self.shared.stream(Stream::Meta).queue.push(|ticket| Job {
                ticket,
                drafts: vec![draft],
                sync: false,
                done: Done::Plain(ack),
            })?;
            note(log);
            Ok(())
        })
    }

    fn check_len(&self, len: usize) -> Result<(), LogError> {
        let max = MAX_RECORD.min((self.shared.segment_bytes - FIRST_BATCH) as usize / 2);
        match len <= max {
            true => Ok(()),
            false => Err(LogError::TooLarge { len, max }),
        }
    }

    // ---- groups

    /// The groups that have, or had, something here.
    pub fn groups(&self) -> Vec<GroupId> {
        self.shared.groups.read().keys().copied().collect()
    }

    /// Vote, purge point and newest entry of a group.
    pub fn log_state(&self, group: GroupId) -> LogState {
        self.shared
            .find(group)
            .map(|cell| cell.with(|log| log.state()))
            .unwrap_or_default()
    }

    /// What damage took from a group. It must not vote here until it is mended.
    pub fn hurt(&self, group: GroupId) -> Hurt {
        self.shared
            .find(group)
            .map(|cell| cell.with(|log| log.hurt()))
            .unwrap_or_default()
    }

    /// Queues entries, which are readable when this returns. They must follow those that are there; into an empty log
    /// any first index behind the purge point goes. On `Err` nothing happened and `ack` is dropped uncalled.
    pub fn append(&self, group: GroupId, entries: Vec<LogEntry>, ack: Ack) -> Result<(), LogError> {
        let Some(first) = entries.first().map(|entry| entry.id.index) else {
            ack(Ok(()));
            return Ok(());
        };
        let mut drafts = Vec::with_capacity(entries.len());
        let mut bytes = 0;
        for entry in &entries {
            let subject = Subject::Entry {
                group,
                id: entry.id,
            };
            let draft = Draft::new(subject, entry.head(), entry.payload());
            self.check_len(draft.len())?;
            bytes += draft.len() as u64;
            drafts.push(draft);
        }
        let cell = self.shared.cell(group);
        let done = Done::Entries {
            cell: Arc::clone(&cell),
            first,
            ack,
        };
        cell.with(|log| {
            log.check(&entries)?;
            let ticket = self.shared.stream(Stream::Meta).queue.push(|ticket| Job {
                ticket,
                drafts,
                sync: false,
                done,
            })?;
            entries
                .iter()
                .for_each(|entry| log.push_queued(entry, ticket));
            log.last_ticket = ticket;
            log.appended += bytes;
            Ok(())
        })
    }

    /// Queues a vote, which is fsynced whatever the policy. It overtakes entries of other groups.
    pub fn save_vote(&self, group: GroupId, vote: Bytes, ack: Ack) -> Result<(), LogError> {
        let draft = Draft::new(Subject::Vote { group }, vote.clone(), Bytes::new());
        self.check_len(draft.len())?;
        self.shared.cell(group).with(|log| {
            let queue = &self.shared.stream(Stream::Meta).queue;
            log.last_ticket = queue.push_vote(log.last_ticket, |ticket| Job {
                ticket,
                drafts: vec![draft],
                sync: true,
                done: Done::Plain(ack),
            })?;
            log.vote = Some(vote);
            log.vote_lost = false;
            Ok(())
        })
    }

    /// Drops the entries behind `after` (`None`: all). Returns the payloads that went with them: their places are void.
    pub fn truncate_after(
        &self,
        group: GroupId,
        after: Option<u64>,
        ack: Ack,
    ) -> Result<Vec<PayloadId>, LogError> {
        let from = after.map_or(0, |after| after + 1);
        let cell = self.shared.cell(group);
        let mut dropped = Vec::new();
        let keep = cell.with(|log| after.and_then(|after| log.id(after)));
        let draft = Draft::new(
            Subject::Truncate { group, from, keep },
            Bytes::new(),
            Bytes::new(),
        );
        self.push(&cell, draft, ack, |log| dropped = log.truncate(from))?;
        Ok(dropped)
    }

    /// Drops the entries up to and with `id`. Behind the last one: a checkpoint was installed, the log starts anew there.
    pub fn purge(&self, group: GroupId, id: LogId, ack: Ack) -> Result<(), LogError> {
        let cell = self.shared.cell(group);
        let draft = Draft::new(Subject::Purge { group, id }, Bytes::new(), Bytes::new());
        self.push(&cell, draft, ack, |log| log.purge(id))
    }

    /// Forgets a group that left this node.
    pub fn remove_group(&self, group: GroupId, ack: Ack) -> Result<(), LogError> {
        let cell = self.shared.cell(group);
        let draft = Draft::new(Subject::Remove { group }, Bytes::new(), Bytes::new());
        self.push(&cell, draft, ack, GroupLog::clear)
    }

    /// Declares a group whole as it is now: peers gave back what damage took, or the operator accepted its loss.
    /// Damaged entries are not mended by this; purge or truncate them first.
    pub fn mend(&self, group: GroupId, ack: Ack) -> Result<(), LogError> {
        let cell = self.shared.cell(group);
        // The writer fills it in.
        let draft = Draft::new(Subject::Standing { group }, Bytes::new(), Bytes::new());
        self.push(&cell, draft, ack, |log| {
            log.vote_lost = false;
            log.tail_lost = false;
        })
    }

    /// Remembers, in memory only, what the group agreed on.
    pub fn set_committed(&self, group: GroupId, committed: Option<LogId>) {
        self.shared
            .cell(group)
            .with(|log| log.committed = committed);
    }

    /// What `set_committed` was told last since the log was opened.
    pub fn committed(&self, group: GroupId) -> Option<LogId> {
        self.shared.find(group)?.with(|log| log.committed)
    }

    /// Name of the entry at `index`, or of the purge point if it is there.
    pub fn entry_id(&self, group: GroupId, index: u64) -> Option<LogId> {
        self.shared.find(group)?.with(|log| log.id(index))
    }

    /// Bytes appended for a group since the log was opened, and those found then. Only differences mean something.
    pub fn appended_bytes(&self, group: GroupId) -> u64 {
        self.shared
            .find(group)
            .map_or(0, |cell| cell.with(|log| log.appended))
    }

    /// The entries of `range` that are here, in order: a prefix of about `max_bytes`, but at least one. None are here:
    /// empty. What cannot be read is an error only if it comes first; otherwise the prefix before it is returned.
    pub async fn entries(
        &self,
        group: GroupId,
        range: Range<u64>,
        max_bytes: usize,
        want: Want,
    ) -> Result<Vec<LogEntry>, LogError> {
        let Some(cell) = self.shared.find(group) else {
            return Ok(Vec::new());
        };
        let pieces = cell.with(|log| log.pieces(range, max_bytes));
        let mut entries = Vec::with_capacity(pieces.len());
        let mut on_disk: Vec<OnDisk> = Vec::new();
        for piece in pieces {
            match piece {
                Piece::OnDisk(one) => on_disk.push(one),
                // The cached ones are the newest: they come last.
                Piece::Cached(entry) => {
                    self.read_entries(group, &mut on_disk, want, &mut entries)
                        .await?;
                    entries.push(entry);
                }
            }
        }
        self.read_entries(group, &mut on_disk, want, &mut entries)
            .await?;
        Ok(entries)
    }

    async fn read_entries(
        &self,
        group: GroupId,
        on_disk: &mut Vec<OnDisk>,
        want: Want,
        to: &mut Vec<LogEntry>,
    ) -> Result<(), LogError> {
        let wanted = std::mem::take(on_disk);
        if wanted.is_empty() {
            return Ok(());
        }
        to.extend(reader::entries(&self.shared, group, &wanted, want).await?);
        Ok(())
    }

    /// Resolves when this very entry is durable: by its record, not its index, so one that was truncated and
    /// written again at the same index is waited for again.
    pub fn wait_durable_entry(
        &self,
        group: GroupId,
        index: u64,
    ) -> impl Future<Output = Result<(), LogError>> + Send + 'static {
        let ticket = self
            .shared
            .find(group)
            .and_then(|cell| cell.with(|log| log.ticket(index)));
        let shared = Arc::clone(&self.shared);
        async move {
            match ticket {
                Some(ticket) => shared.stream(Stream::Meta).settled.wait(ticket).await,
                None => Err(LogError::NoEntry { group, index }),
            }
        }
    }

    /// Place of the payload of an unpurged entry, once that is durable.
    pub fn place_of(&self, id: PayloadId) -> Option<Place> {
        self.shared.find(id.group)?.with(|log| log.place(id))
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

    // ---- room and health

    /// Waits until `bytes` more may be on their way to the disk. Keep the permit until they are settled.
    pub async fn admit(&self, stream: Stream, bytes: usize) -> Result<Permit, LogError> {
        self.shared.admission.admit(stream, bytes).await
    }

    /// Room on the disk as it was seen last.
    pub fn room(&self) -> Room {
        *self.shared.room.lock()
    }

    /// An overlay's worth of room out of the ballast, for a checkpoint that must be written to a full disk.
    pub fn lend_overlay(&self) -> Result<OverlayLoan, LogError> {
        self.shared.overlay_borrowed.fetch_add(1, Ordering::AcqRel);
        let loan = OverlayLoan {
            shared: Arc::clone(&self.shared),
        };
        keeper::lend_overlay(&self.shared)
            .map_err(|error| io_error("lending the ballast in", &self.shared.dir, &error))?;
        Ok(loan)
    }

    /// What an overlay may hold: the budget that was set, or less on a small disk.
    pub fn overlay_budget(&self) -> u64 {
        self.shared.options.overlay_budget
    }

    /// An fsync has not returned for two seconds. The node should hand over its leaderships until it has.
    pub fn is_sick(&self) -> bool {
        self.shared.is_sick()
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

    /// Segments of which at most `max_live` (0 to 1) is live, with their live bytes. Those with the least come first.
    pub fn victims(&self, live: &dyn Liveness, max_live: f64) -> Vec<(SegmentInfo, u64)> {
        compaction::victims(&self.shared, live, max_live)
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
