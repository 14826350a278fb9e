//! Applying an agreed entry: a pure function of the state and the entry.
//!
//! Always true:
//! * same state, same entry: same changes, same answer, byte for byte;
//! * an answer to try again comes with no change at all;
//! * at most 1,000 engine operations: bulk work goes on in further entries.

use bytes::Bytes;

use crate::engine::{EngineError, View};
use crate::ids::{GroupId, PayloadId, StageId, VShard};
use crate::state::answer::Answer;
use crate::state::entry::Entry;
use crate::state::record::ChunkRun;

/// Where in which log the entry lies. Its incarnation is a row of the state.
#[derive(Clone, Copy, Debug)]
pub struct GroupContext {
    /// The group.
    pub id: GroupId,
    /// Log index of the entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// What an entry did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// Key and new row, ascending by key; `None` deletes.
    pub changes: Vec<(Bytes, Option<Bytes>)>,
    /// For whoever proposed it.
    pub answer: Answer,
    /// Bytes that no row names any more: this node may let go of them once the changes are in the engine.
    pub dropped: Vec<Dropped>,
    /// Chunks that rows name from now on: this node looks for its copies and fetches what is missing.
    pub claimed: Vec<ChunkRun>,
    /// What to add (mod 2^128) to the state's digest.
    pub digest: u128,
    /// Reads and writes of rows.
    pub operations: u32,
}

/// Bytes that nothing names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// The payload of an entry (often this very entry's, when it was refused).
    Payload(PayloadId),
    /// A released run of chunks.
    Chunks(ChunkRun),
    /// Whatever was written under a stage that ended without a claim.
    Stage(VShard, StageId),
}

/// Why an entry could not be applied: the group stops on this node, it never guesses.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApplyError {
    /// A row could not be read.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The entry is of a kind that this build does not know: it is never skipped.
    #[error("entry {index} is of a kind this build does not know")]
    UnknownEntry {
        /// Its index.
        index: u64,
    },
}

/// Applies one entry.
pub fn apply(view: &dyn View, group: &GroupContext, entry: &Entry) -> Result<Applied, ApplyError> {
    let _ = (view, entry);
    Err(ApplyError::UnknownEntry { index: group.index })
}
