//! What the log's tasks and its callers share.
//!
//! Locks are taken in this order: group cell, queue, then the small ones (boundaries, holds). None is held across I/O.
//!
//! Always true:
//! * the first failure is the one everybody hears of, and after it nothing is acknowledged any more;
//! * `durable_end` of a stream moves forward, and only after an fsync.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::admission::{Admission, Room};
use super::error::LogError;
use super::group_log::GroupLog;
use super::metrics::Counters;
use super::options::LogOptions;
use super::place::{Place, Position, Stream};
use super::queue::{Queue, Watermark};
use super::segment::{FIRST_BATCH, Segment, Segments};
use super::spare::Spare;
use crate::env::clock::{self, Instant};
use crate::env::disk::Disk;
use crate::ids::GroupId;

/// One group's log and the count of cached bytes that it shares with the others.
pub(super) struct Cell {
    log: Mutex<GroupLog>,
    cached: Arc<AtomicUsize>,
}

impl Cell {
    pub(super) fn new(log: GroupLog, cached: Arc<AtomicUsize>) -> Cell {
        Cell {
            log: Mutex::new(log),
            cached,
        }
    }

    /// Looks at the log, or changes it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut GroupLog) -> T) -> T {
        let mut log = self.log.lock();
        let before = log.cached_bytes();
        let out = act(&mut log);
        let after = log.cached_bytes();
        if after >= before {
            self.cached.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.cached.fetch_sub(before - after, Ordering::Relaxed);
        }
        out
    }
}

/// Sparse starts of batches: where a later recovery may begin to read.
#[derive(Debug)]
pub(super) struct Boundaries {
    spacing: u32,
    starts: VecDeque<Position>,
}

impl Boundaries {
    pub(super) fn new(segment_bytes: u32) -> Boundaries {
        Boundaries {
            spacing: (64 << 10).min(segment_bytes / 64),
            starts: VecDeque::new(),
        }
    }

    /// Notes that a batch starts here; most are forgotten at once.
    pub(super) fn note(&mut self, start: Position) {
        let far = |last: &Position| {
            last.segment() != start.segment() || start.offset() - last.offset() >= self.spacing
        };
        if self.starts.back().is_none_or(far) {
            self.starts.push_back(start);
        }
    }

    /// The last known batch that starts at or before `position`. A segment's first batch is always known.
    pub(super) fn at_or_before(&self, position: Position) -> Position {
        let first = Position::new(position.segment(), FIRST_BATCH);
        let after = self.starts.partition_point(|start| *start <= position);
        let known = after.checked_sub(1).and_then(|at| self.starts.get(at));
        known.map_or(first, |start| (*start).max(first))
    }

    /// Forgets what lies before segment `number`.
    pub(super) fn forget_before(&mut self, number: u32) {
        while self
            .starts
            .front()
            .is_some_and(|start| start.segment() < number)
        {
            self.starts.pop_front();
        }
    }
}

/// Written items whose places nobody has put into a table yet.
#[derive(Default)]
pub(super) struct Holds {
    last: u64,
    held: BTreeMap<u64, Position>,
}

/// Keeps a stream from being called complete past these items. Drop it when their places are in `engine::places`.
pub struct Hold {
    shared: Arc<Shared>,
    stream: Stream,
    key: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared
            .stream(self.stream)
            .holds
            .lock()
            .held
            .remove(&self.key);
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hold({} {})", self.stream, self.key)
    }
}

/// Items that are written and settled.
#[derive(Debug)]
pub struct Written {
    /// Where each lies, in the order given.
    pub places: Vec<Place>,
    /// To be dropped once the places are recorded. `None`: nothing was written.
    pub hold: Option<Hold>,
}

/// What the writer, the keeper and callers share of one stream.
pub(super) struct StreamState {
    pub queue: Queue,
    pub settled: Watermark,
    durable_end: AtomicU64,
    /// Start of the oldest unfinished write or fsync, in nanoseconds of the monotonic clock; 0: none.
    busy_since: AtomicU64,
    pub boundaries: Mutex<Boundaries>,
    holds: Mutex<Holds>,
    pub counters: Counters,
    /// Bytes left in it.
    pub left: AtomicU32,
    /// The next segment, made ahead.
    pub spare: Spare<Segment>,
}

impl StreamState {
    pub(super) fn new(
        boundaries: Boundaries,
        durable_end: Position,
        spare: Option<Arc<Segment>>,
    ) -> StreamState {
        StreamState {
            queue: Queue::default(),
            settled: Watermark::default(),
            durable_end: AtomicU64::new(durable_end.0),
            busy_since: AtomicU64::new(0),
            boundaries: Mutex::new(boundaries),
            holds: Mutex::new(Holds::default()),
            counters: Counters::default(),
            left: AtomicU32::new(0),
            spare: Spare::new(durable_end.segment(), spare),
        }
    }

    pub(super) fn durable_end(&self) -> Position {
        Position(self.durable_end.load(Ordering::Acquire))
    }

    pub(super) fn set_durable_end(&self, end: Position) {
        let before = self.durable_end.swap(end.0, Ordering::AcqRel);
        assert!(
            before <= end.0,
            "durable end went back from {} to {end}",
            Position(before)
        );
    }

    pub(super) fn begin_io(&self, now: Instant) {
        self.busy_since.store(now.nanos(), Ordering::Release);
    }

    pub(super) fn end_io(&self) {
        self.busy_since.store(0, Ordering::Release);
    }

    fn busy_for(&self, now: Instant) -> u64 {
        match self.busy_since.load(Ordering::Acquire) {
            0 => 0,
            since => now.nanos().saturating_sub(since),
        }
    }

    /// Everything before this is durable and no held item lies behind it. It is the start of a batch.
    pub(super) fn complete_up_to(&self) -> Position {
        // The start of a durable batch, not the end: recovery must find one there.
        let last_byte = Position(self.durable_end().0.saturating_sub(1));
        // After the durable end was read: a hold is there before its batch is durable, so whatever lies before that end
        // is either held now or recorded.
        let held = self.holds.lock().held.values().min().copied();
        let at = held.map_or(last_byte, |held| held.min(last_byte));
        self.boundaries.lock().at_or_before(at)
    }
}

/// See the file's header.
pub(super) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub options: LogOptions,
    /// Length of new segments.
    pub segment_bytes: u32,
    pub log_id: u64,
    pub segments: Segments,
    streams: [StreamState; 2],
    pub groups: RwLock<BTreeMap<GroupId, Arc<Cell>>>,
    /// Bytes of entries in memory, over all groups.
    pub cached: Arc<AtomicUsize>,
    /// No meta segment before this position's is needed for votes, truncations or unpurged entries.
    pub floor: AtomicU64,
    pub admission: Admission,
    pub room: Mutex<Room>,
    /// Some of the ballast could not be reserved.
    pub ballast_short: AtomicBool,
    /// The overlay's part of it is there.
    pub overlay_reserved: AtomicBool,
    /// Borrowers of the overlay's part of the ballast.
    pub overlay_borrowed: AtomicU32,
    /// Something for the keeper to do.
    pub poke_keeper: Notify,
    stopping: AtomicBool,
    abandoned: AtomicBool,
    failure: OnceLock<LogError>,
    failed: Notify,
}

impl Shared {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: LogOptions,
        segment_bytes: u32,
        log_id: u64,
        segments: Segments,
        streams: [StreamState; 2],
    ) -> Shared {
        Shared {
            admission: Admission::new(&options),
            disk,
            dir,
            options,
            segment_bytes,
            log_id,
            segments,
            streams,
            groups: RwLock::default(),
            cached: Arc::default(),
            floor: AtomicU64::new(0),
            room: Mutex::default(),
            ballast_short: AtomicBool::new(false),
            overlay_reserved: AtomicBool::new(false),
            overlay_borrowed: AtomicU32::new(0),
            poke_keeper: Notify::new(),
            stopping: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            failure: OnceLock::new(),
            failed: Notify::new(),
        }
    }

    pub(super) fn stream(&self, stream: Stream) -> &StreamState {
        &self.streams[stream.at()]
    }

    /// The cell of a group that has one.
    pub(super) fn find(&self, group: GroupId) -> Option<Arc<Cell>> {
        self.groups.read().get(&group).cloned()
    }

    /// The cell of a group, made if there is none.
    pub(super) fn cell(&self, group: GroupId) -> Arc<Cell> {
        if let Some(cell) = self.find(group) {
            return cell;
        }
        let mut groups = self.groups.write();
        let new = || Arc::new(Cell::new(GroupLog::new(group), Arc::clone(&self.cached)));
        Arc::clone(groups.entry(group).or_insert_with(new))
    }

    /// Keeps `stream` from being called complete from the batch at `batch` on.
    pub(super) fn hold(self: &Arc<Shared>, stream: Stream, batch: Position) -> Hold {
        let mut holds = self.stream(stream).holds.lock();
        holds.last += 1;
        let key = holds.last;
        holds.held.insert(key, batch);
        drop(holds);
        Hold {
            shared: Arc::clone(self),
            stream,
            key,
        }
    }

    /// Ends the log: everybody who waits or comes later gets this error, or that of an earlier failure.
    pub(super) fn fail(&self, error: LogError) {
        if self.failure.set(error.clone()).is_ok() {
            tracing::error!(%error, "the log stopped");
        }
        let error = self.failure().unwrap_or(error);
        for stream in &self.streams {
            stream.queue.close(error.clone());
            stream.settled.fail(&error);
            stream.spare.wake();
        }
        self.admission.close();
        self.failed.notify_waiters();
        self.poke_keeper.notify_one();
    }

    pub(super) fn failure(&self) -> Option<LogError> {
        self.failure.get().cloned()
    }

    /// Resolves when the log has failed.
    pub(super) async fn failed(&self) -> LogError {
        loop {
            let notified = self.failed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(error) = self.failure() {
                return error;
            }
            notified.await;
        }
    }

    /// Takes no more work; what is queued is still written, and then the tasks end.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for stream in &self.streams {
            stream.queue.close(LogError::Closed);
        }
        self.admission.close();
        self.poke_keeper.notify_one();
    }

    /// Ends at once: nothing more is written, what is queued is refused. The last handle is gone.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.stop();
        for stream in &self.streams {
            stream.spare.wake();
        }
    }

    pub(super) fn abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire) || self.failure.get().is_some()
    }

    pub(super) fn is_sick(&self) -> bool {
        let now = clock::now();
        let limit = u64::try_from(self.options.sick_after.as_nanos()).unwrap_or(u64::MAX);
        self.streams
            .iter()
            .any(|stream| stream.busy_for(now) > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_never_past_what_was_asked_for() {
        let mut boundaries = Boundaries::new(1 << 20);
        let at = |segment, offset| Position::new(segment, offset);
        for offset in (4096..200_000).step_by(1000) {
            boundaries.note(at(1, offset));
        }
        boundaries.note(at(2, 4096));
        assert_eq!(boundaries.at_or_before(at(1, 5000)), at(1, 4096));
        let found = boundaries.at_or_before(at(1, 150_000));
        assert!(found <= at(1, 150_000) && found > at(1, 100_000), "{found}");
        assert_eq!(boundaries.at_or_before(at(2, 9999)), at(2, 4096));
        assert_eq!(
            boundaries.at_or_before(at(9, 9999)),
            at(9, 4096),
            "nothing known of it"
        );
        boundaries.forget_before(2);
        assert_eq!(boundaries.at_or_before(at(1, 150_000)), at(1, 4096));
    }
}
