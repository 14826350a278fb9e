//! The node log: everything this node promised, in two append-only streams.
//!
//! ```text
//!   callers ---- append, save_vote, truncate, purge ---> meta queue -> meta writer -> meta-0000000001.seg, ...
//!           \--- append_frames, moved items -----------> blob queue -> blob writer -> blob-0000000001.seg, ...
//!   readers <--- read(place, item), entries(group, ..) - page cache
//! ```
//! One format, two streams: **meta** holds the Raft entries of all groups with their inline payloads, votes, truncations
//! and purges; **blob** holds chunk frames and what compaction moves. Each has its own writer and fsync: with 1 MiB chunks in the same
//! stream, metadata writes waited 15 ms instead of 1.6.
//!
//! A writer takes all that is queued, writes it with one vectored write and one fdatasync, and acknowledges all of it.
//! Nothing waits inside `append`; back-pressure is `admit`, in front of whoever proposes.
//!
//! Always true (each kept, with its reason, in the file named):
//! * nothing is acknowledged before it is durable; a failed fsync is never tried again (`writer`);
//! * a torn tail is cut, damage never is; what survives is fsynced again before it is used (`scan`, `recovery`);
//! * damage hurts the one object or the one group that it touches (`replay`, `damage`);
//! * a vote never waits behind bulk (`queue`);
//! * nobody is let in whose bytes the disk has no room for (`admission`, `keeper`);
//! * a segment goes only when nothing needs it, and its readers finish first (`compaction`).
//!
//! Every byte on disk is told in docs/formats/log.md. Elsewhere: what entries mean (`group`), where an item lies now
//! (`engine::places`), chunks (`chunk`).

mod admission;
mod batch;
mod checksum;
mod compaction;
mod damage;
mod discover;
mod entry;
mod error;
#[cfg(test)]
mod golden_tests;
mod group_log;
mod groups;
#[cfg(all(test, feature = "interleave"))]
mod interleaved;
mod keeper;
mod ledger;
mod metrics;
mod node_log;
mod options;
mod place;
mod queue;
mod reader;
mod record;
mod recovery;
mod replay;
mod resume;
mod resync;
mod scan;
mod scrub;
mod segment;
mod shared;
mod spare;
#[cfg(test)]
mod tests;
mod window;
mod writer;

pub use admission::{Permit, Room, WriteKind};
pub use compaction::{Liveness, Moved, SegmentInfo};
pub use damage::{Cut, Damage, Recovered, Scope, Seen};
pub use entry::{Hurt, LogEntry, LogState, Want};
pub use error::{LogError, ReadError};
pub use keeper::give_up_ballast;
pub use metrics::{FSYNC_BOUNDS, StreamMetrics};
pub use node_log::{Complete, Frame, Log, OverlayLoan};
pub use options::{FsyncPolicy, LogOptions};
pub use place::{Item, Place, Position, Stream};
pub use queue::Ack;
pub use record::LogId;
pub use scrub::EntriesSeen;
pub use shared::{Hold, Written};
