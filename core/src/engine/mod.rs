//! Where a group's rows live: an ordered map of bytes with atomic batches and consistent views.
//!
//! The log is the truth; an engine may be rebuilt from checkpoint + log at any time. `native` is the default:
//! immutable sorted runs under an in-memory overlay. `memory` is the overlay alone. `hosted` puts sled or RocksDB where
//! the runs are searched.
//! `places` uses the same runs for a node-wide table that is not replicated: where bytes lie on this node.
//!
//! ```text
//!   write ──> overlay (newest) ──freeze──> frozen overlays ──checkpoint──> runs, newest first, under one manifest
//!   read  ──> overlay, frozen overlays, runs; the first that knows the key answers (a tombstone answers "absent")
//! ```
//! Always true:
//! * a batch is seen whole or not at all; a view never changes;
//! * what cannot be read is an error that names its file, never "absent";
//! * the newest durable checkpoint is exactly the rows at one applied mark, whatever was cut where.
//!
//! Reads are plain calls that may touch the device (`docs/decisions/engine-reads-block.md`).
//! Elsewhere: what the rows mean (`state`), when a checkpoint is due (`group`).

pub mod block;
pub mod block_cache;
pub mod budget;
#[cfg(test)]
mod conformance;
pub mod damage;
pub mod digest;
pub mod export;
pub mod filter;
#[cfg(test)]
mod golden_tests;
pub mod heal;
pub mod hosted;
pub mod incoming;
pub mod manifest;
pub mod memory;
pub mod merge;
pub mod merged;
pub mod native;
pub mod overlay;
pub mod place_key;
pub mod place_ledger;
pub mod places;
mod places_scan;
#[cfg(test)]
mod places_tests;
#[cfg(feature = "rocksdb")]
pub mod rocksdb_table;
pub mod row;
pub mod rows;
pub mod run;
pub mod run_cursor;
mod run_index;
pub mod run_set;
pub mod run_store;
pub mod run_writer;
pub mod sled_table;
mod store_open;
pub mod table;
pub mod tree;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use damage::{Damage, Healed};
use export::Export;
use heal::ScrubPosition;
use incoming::Prepared;

/// Why the engine could not answer. It never guesses "absent".
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// A block or file fails its checksum or is missing; the range it covers cannot be read.
    #[error("{file} is damaged: {what}")]
    Damaged {
        /// Name of the run or manifest file.
        file: String,
        /// What was found.
        what: String,
    },
    /// Written by a version of minikv that this one does not know. Nothing was touched.
    #[error("{file} was written in format {found}, this version reads up to {known}")]
    Newer {
        /// Name of the run or manifest file.
        file: String,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The disk refused.
    #[error("engine could not {step}: {cause}")]
    Io {
        /// What was being done, with the file's name.
        step: String,
        /// The disk's answer.
        #[source]
        cause: Arc<io::Error>,
    },
    /// Not done: what had to come first did not succeed, or the task was stopped.
    #[error("given up: {0}")]
    GivenUp(String),
}

impl EngineError {
    /// Whether bytes on the disk are bad or gone (as opposed to a disk that refuses for now).
    pub fn is_damage(&self) -> bool {
        matches!(self, EngineError::Damaged { .. })
    }
}

/// A sorted sequence of live rows.
pub type RowIter<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), EngineError>> + Send + 'a>;

/// A readable state of rows. Consistent for its whole life.
pub trait View: Send + Sync {
    /// The row under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;
    /// Rows with `from <= key < to`, ascending; an empty `to` means "to the end". Callers may drop the iterator early;
    /// it reads lazily, and sees one moment even when asked of an engine that goes on. After an error it ends.
    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> RowIter<'a>;
}

/// Changes that become visible together, and the applied mark that goes with them.
#[derive(Clone, Default, Debug)]
pub struct Batch {
    /// Key and new row; `None` deletes. Applied in order; a later change of the same key wins.
    pub changes: Vec<(Bytes, Option<Bytes>)>,
    /// The applied mark (opaque to the engine) after this batch; `None` leaves it.
    pub applied: Option<Bytes>,
    /// How the digest moves (`digest::delta`), if the caller knows the old rows anyway. `None`: the engine reads them.
    pub digest_delta: Option<u128>,
}

/// A checkpoint: the whole state at one applied mark.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckpointInfo {
    /// Number of its manifest; rises with every switch.
    pub generation: u64,
    /// The applied mark.
    pub applied: Option<Bytes>,
    /// How many runs hold it.
    pub runs: usize,
    /// Their bytes (twins not counted).
    pub bytes: u64,
    /// Sum of the hashes of all live rows (see `digest`).
    pub digest: u128,
}

/// What must succeed after the moment of a checkpoint and before it may become durable.
///
/// A group passes the checkpoint of the places here: if state at applied A became durable before the places that
/// applies up to A dropped, recovery's scan of the log would bring such a place back, its drop would never be replayed,
/// and it would pin its segment for ever. (Drop them before the moment of the next checkpoint of the state.)
pub type BeforeDurable = Box<dyn FnOnce() -> BoxFuture<'static, Result<(), EngineError>> + Send>;

/// One group's rows. Reads through the engine itself see the newest batch; `view` freezes a moment.
pub trait Engine: View + 'static {
    /// A consistent view of now; cheap, and does not hold writers up.
    fn view(&self) -> Box<dyn View>;
    /// Applies a batch atomically. Not durable by itself: the log is. One caller at a time.
    fn write(&self, batch: Batch) -> Result<(), EngineError>;
    /// The mark of the newest batch that carried one.
    fn applied(&self) -> Option<Bytes>;
    /// The digest of all live rows after the newest batch.
    fn digest(&self) -> u128;
    /// Bytes held in memory that a checkpoint would let go.
    fn overlay_bytes(&self) -> usize;
    /// Makes the state durable as it is at this call (not at the first poll). Writes go on meanwhile.
    /// `before` runs once, after the moment is taken and before anything becomes durable.
    fn checkpoint(
        &self,
        before: Option<BeforeDurable>,
    ) -> BoxFuture<'static, Result<CheckpointInfo, EngineError>>;
    /// The newest durable checkpoint.
    fn durable(&self) -> CheckpointInfo;
    /// A handle on the newest durable checkpoint, to read or ship it while the engine goes on.
    fn export(&self) -> Export;
    /// Replaces everything by a checkpoint from elsewhere; durable when it returns. The caller sees to it that nothing is
    /// written meanwhile, and that what the checkpoint names (payloads, chunks) is here before.
    fn install(
        &self,
        prepared: Prepared,
    ) -> BoxFuture<'static, Result<CheckpointInfo, EngineError>>;
    /// Files known to be bad, found by reads and by scrubbing.
    fn damage(&self) -> Vec<Damage>;
    /// Files that were bad and were written anew since the engine was opened.
    fn healed(&self) -> Vec<Healed>;
    /// Writes bad files anew from their twins; says which.
    fn heal(&self) -> BoxFuture<'static, Result<Vec<Healed>, EngineError>>;
    /// Checks the next block of the runs in every copy; bytes read, `None` at the end.
    fn scrub_next(&self, position: &mut ScrubPosition) -> Option<u64>;
}

/// Runs work that blocks on a real disk where that holds nobody up.
fn on_env_thread<T: Send + 'static>(
    name: &'static str,
    work: impl Future<Output = Result<T, EngineError>> + Send + 'static,
) -> BoxFuture<'static, Result<T, EngineError>> {
    async move {
        let done = crate::env::task::spawn_thread(name, work).await;
        done.unwrap_or_else(|error| Err(EngineError::GivenUp(error.to_string())))
    }
    .boxed()
}
