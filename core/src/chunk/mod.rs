//! Large contents: cut into chunks and frames, staged, claimed, read back verified.
//!
//! Chunks travel outside Raft; the group of their object agrees on what becomes of them (stage, claim, release), and this
//! node keeps their frames in the blob stream and their places in the places table.
//!
//! ```text
//!   body ──> Cutter ──> frames ──> blob stream ──> places        (put, under an open stage)
//!   range ──> pieces ──> places ──> blob stream ──> verified     (get)
//! ```

pub(crate) mod frames;
pub(crate) mod get;
pub(crate) mod put;
pub(crate) mod store;
