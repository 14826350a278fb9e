//! What the log has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of `StreamMetrics::fsyncs`, in seconds; one more bucket follows for everything above.
pub const FSYNC_BOUNDS: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0,
];

/// Counters of one stream since the log was opened.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StreamMetrics {
    /// Batches written.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Writes with an fsync, by how long they took: not cumulative, one count for each bound and one above.
    pub fsyncs: [u64; FSYNC_BOUNDS.len() + 1],
    /// How long they took together, in seconds.
    pub fsync_seconds: f64,
}

#[derive(Default)]
pub(super) struct Counters {
    batches: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    fsyncs: [AtomicU64; FSYNC_BOUNDS.len() + 1],
    fsync_nanos: AtomicU64,
}

impl Counters {
    pub(super) fn wrote(&self, records: usize, bytes: u32) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.bytes.fetch_add(u64::from(bytes), Ordering::Relaxed);
    }

    pub(super) fn synced(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = FSYNC_BOUNDS.iter().position(|bound| seconds <= *bound);
        self.fsyncs[bucket.unwrap_or(FSYNC_BOUNDS.len())].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.fsync_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> StreamMetrics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StreamMetrics {
            batches: get(&self.batches),
            records: get(&self.records),
            bytes: get(&self.bytes),
            fsyncs: std::array::from_fn(|bucket| get(&self.fsyncs[bucket])),
            fsync_seconds: Duration::from_nanos(get(&self.fsync_nanos)).as_secs_f64(),
        }
    }
}
