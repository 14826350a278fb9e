//! The writer of one stream: takes what is queued, writes it as one batch, makes it durable, tells everybody.
//!
//! ```text
//!   queue -> lay out one batch -> one vectored write -> one fdatasync -> places, watermark, acks -> queue ...
//! ```
//! It runs on a thread of its own and is the only one that writes to its stream. Checksums of the records were made by
//! who queued them. While an fsync runs, the next batch gathers in the queue.
//!
//! Always true:
//! * nothing is acknowledged before the fsync that covers it returned `Ok` (unless the fsync policy says otherwise);
//! * a failed write or fsync is never tried again: the log is dead, and what was not acknowledged never will be;
//! * a segment is fsynced and sealed before the next one is written to, and a meta segment begins with standing records;
//! * an idle stream ends in an empty batch, so that the end of what was acknowledged is on disk, too.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;

use super::batch::{self, Chain};
use super::error::LogError;
use super::ledger::{Ledger, Standing};
use super::options::FsyncPolicy;
use super::place::{Position, Stream};
use super::queue::{Done, Job, Ready};
use super::record::{Draft, Subject};
use super::segment::{FIRST_BATCH, Segment, io_error};
use super::shared::{Cell, Hold, Shared, Written};
use crate::env::clock::{self, Instant};

/// A job of which some records may be written.
struct Pending {
    job: Job,
    positions: Vec<Position>,
    /// Of a job whose caller wants places.
    hold: Option<Hold>,
}

/// See the file's header.
pub(super) struct Writer {
    shared: Arc<Shared>,
    stream: Stream,
    segment: Arc<Segment>,
    /// Where the next batch goes.
    offset: u32,
    chain: Chain,
    ledger: Ledger,
    backlog: VecDeque<Pending>,
    /// Something was written since the last fsync.
    unsynced: bool,
    synced_at: Instant,
    /// Something durable is not covered by a later batch yet, since then.
    uncovered_since: Option<Instant>,
}

enum Next {
    Jobs,
    Sync,
    Cover,
    Close,
}

impl Writer {
    /// Goes on where recovery ended: everything before `offset` of `segment` is durable.
    pub(super) fn new(
        shared: Arc<Shared>,
        segment: Arc<Segment>,
        offset: u32,
        chain: Chain,
        ledger: Ledger,
    ) -> Writer {
        let writer = Writer {
            stream: chain.stream,
            shared,
            segment,
            offset,
            chain,
            ledger,
            backlog: VecDeque::new(),
            unsynced: false,
            synced_at: clock::now(),
            uncovered_since: None,
        };
        writer.expect_appends();
        writer.publish_room();
        writer
    }

    /// Bulk goes past the page cache. What the meta stream takes is small, and read again by who lags: it stays there.
    fn expect_appends(&self) {
        if self.stream == Stream::Blob {
            self.segment.file.expect_appends();
        }
    }

    /// Works until the queue is closed and empty, or something fails.
    pub(super) async fn run(mut self) {
        let worked = AssertUnwindSafe(self.work()).catch_unwind().await;
        match &worked {
            Ok(Err(error)) if !self.shared.abandoned() => self.shared.fail(error.clone()),
            Ok(_) => {}
            // A thread that only ended would leave everybody waiting, on a node that calls itself well.
            Err(_) => {
                let what = format!("the {} writer panicked", self.stream);
                self.shared.fail(LogError::Dead(what.into()));
            }
        }
        // Closed or failed: whatever is still here was not written.
        let error = self.shared.failure().unwrap_or(LogError::Closed);
        let queue = &self.shared.stream(self.stream).queue;
        queue.close(error.clone());
        let mut rest: VecDeque<Job> = self.backlog.drain(..).map(|pending| pending.job).collect();
        queue.take(usize::MAX, &mut rest);
        rest.into_iter().for_each(|job| job.fail(&error));
        self.shared.stream(self.stream).settled.fail(&error);
        if let Err(panic) = worked {
            std::panic::resume_unwind(panic);
        }
    }

    async fn work(&mut self) -> Result<(), LogError> {
        loop {
            let next = self.next().await;
            if self.shared.abandoned() {
                return Ok(());
            }
            match next {
                Next::Jobs => self.commit().await?,
                Next::Sync => self.sync().await?,
                Next::Cover => self.cover().await?,
                Next::Close => {
                    self.sync().await?;
                    return self.cover().await;
                }
            }
            if let Some(error) = self.shared.failure() {
                return Err(error);
            }
        }
    }

    async fn next(&mut self) -> Next {
        if !self.backlog.is_empty() {
            return Next::Jobs;
        }
        let queue = &self.shared.stream(self.stream).queue;
        let (deadline, then) = match (self.shared.options.fsync, self.uncovered_since) {
            (FsyncPolicy::Interval(every), _) if self.unsynced => {
                (self.synced_at + every, Next::Sync)
            }
            (_, Some(since)) if !self.unsynced => {
                (since + self.shared.options.cover_after, Next::Cover)
            }
            _ => {
                return match queue.ready().await {
                    Ready::Jobs => Next::Jobs,
                    Ready::Closed => Next::Close,
                };
            }
        };
        match clock::timeout_at(deadline, queue.ready()).await {
            Ok(Ready::Jobs) => Next::Jobs,
            Ok(Ready::Closed) => Next::Close,
            Err(_) => then,
        }
    }

    /// One batch of what is queued.
    async fn commit(&mut self) -> Result<(), LogError> {
        let most = self.shared.options.batch_bytes(self.stream);
        let mut taken = VecDeque::new();
        self.shared.stream(self.stream).queue.take(most, &mut taken);
        self.backlog.extend(taken.into_iter().map(|job| Pending {
            positions: Vec::with_capacity(job.drafts.len()),
            hold: None,
            job,
        }));
        if !self.first_fits() {
            self.roll().await?;
        }

        let (counts, sync) = self.choose(most);
        if counts.iter().all(|count| *count == 0) {
            // Only jobs without records, if any: somebody asked for an fsync.
            if sync {
                self.sync().await?;
            }
            self.finish_written();
            return Ok(());
        }
        let chosen = self
            .backlog
            .iter()
            .zip(&counts)
            .flat_map(|(pending, count)| {
                let from = pending.positions.len();
                &pending.job.drafts[from..from + count]
            });
        let drafts: Vec<&Draft> = chosen.collect();
        let position = self.position();
        let durable_end = self.shared.stream(self.stream).durable_end();
        let batch = batch::lay_out(&self.chain, 0, position, durable_end, drafts.into_iter());
        self.shared
            .stream(self.stream)
            .boundaries
            .lock()
            .note(position);

        let mut positions = batch.positions.iter();
        for (pending, count) in self.backlog.iter_mut().zip(counts) {
            pending.positions.extend(positions.by_ref().take(count));
            if count > 0 && pending.hold.is_none() && matches!(pending.job.done, Done::Items(_)) {
                // Before the fsync: it must never look as if places up to here were complete.
                pending.hold = Some(Shared::hold(&self.shared, self.stream, position));
            }
        }
        let sync = sync || self.due();
        self.write(batch, sync).await?;
        if sync {
            self.uncovered_since = Some(clock::now());
        }
        self.finish_written();
        Ok(())
    }

    fn due(&self) -> bool {
        match self.shared.options.fsync {
            FsyncPolicy::Always => true,
            FsyncPolicy::Interval(every) => self.synced_at.elapsed() >= every,
            FsyncPolicy::Never => false,
        }
    }

    fn position(&self) -> Position {
        Position::new(self.segment.number, self.offset)
    }

    /// Bytes a batch may still take here: the sealing batch must fit behind it.
    fn room(&self) -> usize {
        ((self.segment.length - self.offset) as usize).saturating_sub(batch::EMPTY)
    }

    fn first_fits(&self) -> bool {
        let first = self
            .backlog
            .iter()
            .find_map(|pending| pending.job.drafts.get(pending.positions.len()));
        first.is_none_or(|draft| batch::HEADER + batch::ROW + draft.len() <= self.room())
    }

    /// How many records of each pending job go into the next batch, and whether one of them insists on an fsync.
    /// They are noted in the ledger.
    fn choose(&mut self, most: usize) -> (Vec<usize>, bool) {
        let (room, position) = (self.room(), self.position());
        let mut length = batch::HEADER;
        let mut counts = Vec::with_capacity(self.backlog.len());
        let mut sync = false;
        for pending in &mut self.backlog {
            let from = pending.positions.len();
            let mut count = 0;
            for draft in &mut pending.job.drafts[from..] {
                if let Subject::Standing { group } = draft.subject {
                    // Asked for by `mend` or `doubt`; what else it says is known only now.
                    let doubtful = Standing::decode(&draft.head).is_some_and(|it| it.tail_lost);
                    *draft = standing(&self.ledger, group, Some(doubtful));
                }
                let after = length + batch::ROW + draft.len();
                if after > room || (after > most && length > batch::HEADER) {
                    break;
                }
                length = after;
                count += 1;
                let shared = &self.shared;
                self.ledger
                    .note(&draft.subject, &draft.head, position, |group, index| {
                        let position = shared.find(group)?.with(|log| log.position(index))?;
                        let boundaries = shared.stream(Stream::Meta).boundaries.lock();
                        Some(boundaries.at_or_before(position))
                    });
            }
            counts.push(count);
            sync |= pending.job.sync && (count > 0 || pending.job.drafts.is_empty());
            if from + count < pending.job.drafts.len() {
                break;
            }
        }
        (counts, sync)
    }

    /// Writes a batch behind the last one, and fsyncs it if `sync`.
    async fn write(&mut self, batch: batch::Batch, sync: bool) -> Result<(), LogError> {
        let state = self.shared.stream(self.stream);
        let file = &self.segment.file;
        let began = clock::now();
        state.begin_io(began);
        let mut result = file.write_at(&batch.parts, u64::from(self.offset)).await;
        if result.is_ok() && sync {
            result = file.sync_data().await;
            if result.is_err() && crate::planted!("failed-fsync-is-tried-again") {
                result = file.sync_data().await;
            }
        }
        state.end_io();
        result.map_err(|cause| dead("writing", &self.segment, &cause))?;
        if let Some(error) = self.shared.failure() {
            return Err(error);
        }
        state.counters.wrote(batch.positions.len(), batch.length);
        if sync {
            state.counters.synced(began.elapsed());
        }
        self.offset += batch.length;
        self.chain.number += 1;
        self.unsynced = true;
        if sync {
            self.synced();
        }
        self.publish_room();
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), LogError> {
        if !self.unsynced {
            return Ok(());
        }
        let state = self.shared.stream(self.stream);
        let began = clock::now();
        state.begin_io(began);
        let result = self.segment.file.sync_data().await;
        state.end_io();
        state.counters.synced(began.elapsed());
        result.map_err(|cause| dead("fsyncing", &self.segment, &cause))?;
        self.synced();
        self.uncovered_since = Some(clock::now());
        Ok(())
    }

    /// Everything written so far is durable.
    fn synced(&mut self) {
        self.unsynced = false;
        self.synced_at = clock::now();
        let end = self.position();
        if self.stream == Stream::Meta {
            let here = Position::new(self.segment.number, FIRST_BATCH);
            let floor = self.ledger.floor().unwrap_or(here).min(here);
            self.shared.floor.store(floor.0, Ordering::Release);
        }
        self.shared.stream(self.stream).set_durable_end(end);
    }

    /// Tells the disk how far the last fsync came, by an empty batch.
    async fn cover(&mut self) -> Result<(), LogError> {
        if self.uncovered_since.take().is_none() || self.room() < batch::EMPTY {
            return Ok(());
        }
        let batch = self.empty(0);
        self.write(batch, true).await
    }

    fn empty(&self, flags: u16) -> batch::Batch {
        let durable_end = self.shared.stream(self.stream).durable_end();
        batch::lay_out(&self.chain, flags, self.position(), durable_end, [].iter())
    }

    /// Seals this segment and goes on in the next. The seal's fsync covers whatever was written before it.
    async fn roll(&mut self) -> Result<(), LogError> {
        let seal = self.empty(batch::SEALED);
        self.write(seal, true).await?;
        let next = self.next_segment().await?;
        self.shared.segments.insert(Arc::clone(&next));
        self.segment = next;
        self.expect_appends();
        self.offset = FIRST_BATCH;
        let state = self.shared.stream(self.stream);
        let position = self.position();
        state.boundaries.lock().note(position);
        if self.stream == Stream::Meta {
            let drafts = standing_set(&self.ledger);
            let durable_end = state.durable_end();
            let batch = batch::lay_out(
                &self.chain,
                batch::STANDING,
                position,
                durable_end,
                drafts.iter(),
            );
            self.write(batch, true).await?;
        }
        self.publish_room();
        self.shared.poke_keeper.notify_one();
        Ok(())
    }

    /// The spare; waits for it if the keeper has none (the disk is full, or slower than we are).
    async fn next_segment(&mut self) -> Result<Arc<Segment>, LogError> {
        let state = self.shared.stream(self.stream);
        loop {
            if let Some(spare) = state.spare.take() {
                assert_eq!(
                    spare.number,
                    self.segment.number + 1,
                    "segments follow each other"
                );
                return Ok(spare);
            }
            if let Some(error) = self.shared.failure() {
                return Err(error);
            }
            if self.shared.abandoned() {
                return Err(LogError::Closed);
            }
            self.shared.poke_keeper.notify_one();
            state.spare.changed().await;
        }
    }

    fn publish_room(&self) {
        let state = self.shared.stream(self.stream);
        state.left.store(self.room() as u32, Ordering::Release);
    }

    /// Finishes the jobs whose records are all written.
    fn finish_written(&mut self) {
        let mut acks = Vec::new();
        let mut settled = 0;
        while self
            .backlog
            .front()
            .is_some_and(|p| p.positions.len() == p.job.drafts.len())
            && let Some(Pending {
                job,
                positions,
                hold,
            }) = self.backlog.pop_front()
        {
            settled = settled.max(job.ticket);
            match job.done {
                Done::Entries { cell, first, ack } => {
                    cell.with(|log| log.placed(first, job.ticket, &positions));
                    acks.push(ack);
                }
                Done::Plain(ack) => acks.push(ack),
                Done::Items(sender) => {
                    let places = places(self.stream, &job.drafts, &positions);
                    // If nobody listens any more, the hold is dropped with the answer.
                    let _ = sender.send(Ok(Written { places, hold }));
                }
            }
        }
        if settled > 0 {
            self.shared.stream(self.stream).settled.advance(settled);
        }
        for ack in acks {
            ack(Ok(()));
        }
        self.evict();
    }

    /// Lets go of the oldest entries in memory when there are too many bytes of them.
    fn evict(&self) {
        let limit = self.shared.options.cache_bytes;
        let cached = || self.shared.cached.load(Ordering::Relaxed);
        if self.stream != Stream::Meta || cached() <= limit {
            return;
        }
        let cells: Vec<Arc<Cell>> = self.shared.groups.read().values().cloned().collect();
        // Each gives up its part, so that one group's bulk does not push out the others' newest entries.
        for cell in cells {
            cell.with(|log| {
                let keep = log.cached_bytes() / 8 * 7;
                while log.cached_bytes() > keep && log.evict_one().is_some() {}
            });
        }
    }
}

/// A standing record of one group as the ledger has it, but for what somebody declared: `Some(false)`: whatever damage
/// took is given up; `Some(true)`: its newest entries are not certain.
fn standing(ledger: &Ledger, group: crate::ids::GroupId, doubtful: Option<bool>) -> Draft {
    let mut standing = ledger.groups.get(&group).cloned().unwrap_or_default();
    if let Some(doubtful) = doubtful {
        standing.vote_lost &= doubtful;
        standing.tail_lost = doubtful;
    }
    Draft::new(
        Subject::Standing { group },
        standing.encode(),
        Default::default(),
    )
}

/// Standing records of all groups.
pub(super) fn standing_set(ledger: &Ledger) -> Vec<Draft> {
    ledger
        .groups
        .keys()
        .map(|group| standing(ledger, *group, None))
        .collect()
}

fn places(stream: Stream, drafts: &[Draft], positions: &[Position]) -> Vec<super::Place> {
    let drafts = drafts.iter().zip(positions);
    drafts
        .map(|(draft, position)| super::Place {
            stream,
            position: *position,
            len: draft.payload.len() as u32,
        })
        .collect()
}

/// The error after which nothing is known of the stream's tail.
fn dead(step: &str, segment: &Segment, cause: &std::io::Error) -> LogError {
    LogError::Dead(io_error(step, &segment.path, cause).to_string().into())
}
