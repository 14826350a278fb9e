//! Lifecycle as the core sees it: it walks and acts, somebody else says what is due.
//!
//! ```text
//!   bucket's settings --rules--> Rules          gateway: what the bytes mean
//!   a version as it lies there --due--> Due     gateway: pure
//!   Due --entry--> gone, if it still is so      core
//! ```
//! Always true: the core reads neither rules nor tags nor metadata, it only hands them over.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Bucket;

/// Understands what the gateway keeps with buckets and versions.
pub trait Lifecycle: Send + Sync + Debug {
    /// The rules of a bucket; `None`: nothing in it ever ages. An error says what is wrong with them; nothing goes then.
    fn rules(&self, bucket: &Bucket) -> Result<Option<Arc<dyn Rules>>, String>;

    /// Length of a day. What is due becomes due when a day begins (days are counted from 1970), never within one.
    fn day(&self) -> Duration;
}

/// The rules of one bucket. Pure: the same question, the same answer.
pub trait Rules: Send + Sync {
    /// Keys that start with none of these are in no rule. Ascending, none a prefix of another.
    fn prefixes(&self) -> Vec<Bytes>;

    /// Whether a version is to go.
    fn due(&self, now_ms: u64, version: &Aging<'_>) -> Option<Due>;

    /// Whether an upload that is open is to be aborted.
    fn upload_is_due(&self, now_ms: u64, key: &[u8], created_ms: u64) -> bool;
}

/// A version as it lies there.
#[derive(Clone, Copy, Debug)]
pub struct Aging<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// When it was written.
    pub modified_ms: u64,
    /// Bytes, as stored.
    pub size: u64,
    /// The gateway's own.
    pub meta: &'a Bytes,
    /// The gateway's own.
    pub tags: &'a Bytes,
    /// Where it stands among the versions of its key.
    pub rank: Rank,
}

/// Where a version stands among those of its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rank {
    /// It is the object.
    Newest,
    /// The newest is a delete marker, and it hides nothing.
    LoneMarker,
    /// Something newer replaced it.
    Noncurrent {
        /// When that came.
        since_ms: u64,
        /// Versions with content between it and the newest.
        newer: u32,
        /// It is a delete marker.
        marker: bool,
    },
}

/// It is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// Only while so many versions with content lie between it and the newest.
    pub newer: u32,
}

/// What walks have done since the process started.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LifecycleCounts {
    /// Walks through one bucket in one group.
    pub walks: u64,
    /// When the last one ended, by the wall clock; 0: none did.
    pub last_walk_ms: u64,
    /// Versions and uploads that were looked at.
    pub seen: u64,
    /// Objects that were deleted, or hidden behind a marker.
    pub objects: u64,
    /// Noncurrent versions that were deleted.
    pub noncurrent: u64,
    /// Delete markers that hid nothing and were deleted.
    pub markers: u64,
    /// Uploads that were aborted.
    pub uploads: u64,
    /// Due when looked at, and something else by the time the entry was applied.
    pub overtaken: u64,
    /// Due, and protected by object lock: looked at again a day later.
    pub protected: u64,
    /// Due, and held up (by a transaction, say): looked at again in the next round.
    pub waiting: u64,
    /// What is wrong, by bucket, as of the last round: nothing of these ages.
    pub trouble: Vec<String>,
}
