//! Where a group's rows live: an ordered map of bytes with atomic batches and consistent views.
//!
//! The log is the truth; an engine may be rebuilt from checkpoint + log at any time. `native` is the default:
//! immutable sorted runs under an in-memory overlay. `memory` is the overlay alone.
//! `places` uses the same runs for a node-wide table that is not replicated: where bytes lie on this node.

use bytes::Bytes;

/// Why the engine could not answer. It never guesses "absent".
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// A block or file fails its checksum or is missing; the range it covers cannot be read.
    #[error("run {run} is damaged: {what}")]
    Damaged {
        /// File name of the run.
        run: String,
        /// What was found.
        what: String,
    },
    /// The disk refused.
    #[error("engine I/O: {0}")]
    Io(String),
}

/// A sorted sequence of live rows.
pub type RowIter<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), EngineError>> + Send + 'a>;

/// A readable state of rows. Consistent for its whole life.
pub trait View: Send + Sync {
    /// The row under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;
    /// Rows with `from <= key < to`, ascending. Callers may drop the iterator early; it reads lazily.
    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> RowIter<'a>;
}

/// Changes that become visible together, and the applied mark that goes with them.
#[derive(Clone, Default, Debug)]
pub struct Batch {
    /// Key and new row; `None` deletes. Applied in order; a later change of the same key wins.
    pub changes: Vec<(Bytes, Option<Bytes>)>,
    /// The applied mark (opaque to the engine) after this batch; `None` leaves it.
    pub applied: Option<Bytes>,
}

/// One group's rows. Reads through the engine itself see the newest batch; `view` freezes a moment.
pub trait Engine: View {
    /// A consistent view of now; cheap, and does not hold writers up.
    fn view(&self) -> Box<dyn View>;
    /// Applies a batch atomically. Not durable by itself: the log is.
    fn write(&self, batch: Batch) -> Result<(), EngineError>;
    /// The mark of the newest batch that carried one.
    fn applied(&self) -> Option<Bytes>;
    /// Bytes held in memory that a checkpoint would let go.
    fn overlay_bytes(&self) -> usize;
}
