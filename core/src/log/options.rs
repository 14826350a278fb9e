//! What can be set about the log.

use std::time::Duration;

use super::place::Stream;

/// When written batches are made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FsyncPolicy {
    /// Before they are acknowledged. The only one that keeps the promise "durable on 200".
    #[default]
    Always,
    /// At least this often; a power cut may take what was acknowledged since. Votes still wait for their fsync.
    Interval(Duration),
    /// When the operating system likes. Votes still wait for their fsync.
    Never,
}

/// Settings of a node's log. The default is right for production.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// When batches are made durable.
    pub fsync: FsyncPolicy,
    /// Length of new segments; `None`: min(256 MiB, capacity of the file system / 64), at least 4 MiB.
    pub segment_bytes: Option<u32>,
    /// A meta batch is at most this long, so that a vote never waits behind bulk.
    pub meta_batch_bytes: usize,
    /// A blob batch is at most this long.
    pub blob_batch_bytes: usize,
    /// Entries kept in memory, over all groups, once they are durable.
    pub cache_bytes: usize,
    /// What an engine may hold in memory before it writes a checkpoint; the ballast has room for one.
    pub overlay_budget: u64,
    /// An idle writer appends an empty batch after this long, so that the last acknowledged bytes are covered too.
    pub cover_after: Duration,
    /// A node whose oldest unfinished fsync is older than this is sick.
    pub sick_after: Duration,
    /// Bytes of meta records that may be on their way to the disk before `admit` lets callers wait.
    pub meta_queue_bytes: u32,
    /// Bytes of chunk frames that may be on their way to the disk before `admit` lets callers wait.
    pub blob_queue_bytes: u32,
    /// How often room on the disk is looked at.
    pub room_every: Duration,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            fsync: FsyncPolicy::Always,
            segment_bytes: None,
            meta_batch_bytes: 1 << 20,
            blob_batch_bytes: 8 << 20,
            cache_bytes: 16 << 20,
            overlay_budget: 64 << 20,
            cover_after: Duration::from_millis(100),
            sick_after: Duration::from_secs(2),
            meta_queue_bytes: 32 << 20,
            blob_queue_bytes: 64 << 20,
            room_every: Duration::from_secs(1),
        }
    }
}

/// No record is longer than this: the longest entry is 1 MiB, and so is the longest frame.
pub(super) const MAX_RECORD: usize = (1 << 20) + (64 << 10);

impl LogOptions {
    /// Length of new segments on a file system of this capacity.
    pub(super) fn segment_bytes(&self, capacity: u64) -> u32 {
        let most = 256 << 20;
        let fitting = || {
            u32::try_from(capacity / 64)
                .unwrap_or(most)
                .clamp(4 << 20, most)
        };
        // Offsets of batches are multiples of 8, so the end had better be one too.
        self.segment_bytes.unwrap_or_else(fitting) / 4096 * 4096
    }

    pub(super) fn batch_bytes(&self, stream: Stream) -> usize {
        match stream {
            Stream::Meta => self.meta_batch_bytes,
            Stream::Blob => self.blob_batch_bytes,
        }
    }
}
