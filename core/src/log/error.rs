//! What the log refuses, and what its caller can do about it.

use std::sync::Arc;

use crate::ids::GroupId;

/// Why the log did not do it. Clones freely: one failed fsync fails everybody who waits.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LogError {
    /// A write or an fsync failed. Nothing is known of what was not acknowledged; the process must exit and recover.
    #[error("the log has stopped: {0}")]
    Dead(Arc<str>),
    /// `close` was called, or the last handle is gone.
    #[error("the log is closed")]
    Closed,
    /// A record longer than the log takes.
    #[error("a record of {len} bytes was refused, at most {max} are taken")]
    TooLarge {
        /// Its length.
        len: usize,
        /// What would have been taken.
        max: usize,
    },
    /// An entry that does not follow the last one of its group.
    #[error("entry {index} of {group} was refused: {expected} comes next")]
    OutOfOrder {
        /// The group.
        group: GroupId,
        /// Index of the refused entry.
        index: u64,
        /// The index that would have been taken.
        expected: u64,
    },
    /// No such entry: purged, truncated, or not written yet.
    #[error("{group} has no entry {index} here")]
    NoEntry {
        /// The group.
        group: GroupId,
        /// The index asked for.
        index: u64,
    },
    /// The entry was durable here and does not verify any more. Its peers have it.
    #[error("entry {index} of {group} is damaged: {what}")]
    EntryDamaged {
        /// The group.
        group: GroupId,
        /// Its index.
        index: u64,
        /// What was found.
        what: Arc<str>,
    },
    /// The disk refused while the log was opened or read.
    #[error("log I/O, {step}: {cause}")]
    Io {
        /// What was being done.
        step: Arc<str>,
        /// What the disk said.
        cause: Arc<str>,
    },
    /// Whole and well, but of a kind or version this program does not know: a newer one wrote it. Nothing was changed.
    #[error("{place} holds {what}, which a newer minikv wrote; start that one")]
    Newer {
        /// Where.
        place: Arc<str>,
        /// What.
        what: Arc<str>,
    },
}

impl LogError {
    pub(super) fn io(step: impl Into<Arc<str>>, cause: &std::io::Error) -> LogError {
        LogError::Io {
            step: step.into(),
            cause: cause.to_string().into(),
        }
    }
}

/// Why an item could not be read at a place.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// What lies there does not verify, or is something else. This copy is bad; take a peer's.
    #[error("damaged: {0}")]
    Damaged(Arc<str>),
    /// The segment is gone: compaction moved the item. Look the place up again, once.
    #[error("the segment is gone")]
    Gone,
    /// The disk refused.
    #[error("read failed: {0}")]
    Io(Arc<str>),
}
