//! Large contents: cut into chunks and frames, staged, claimed, read back verified.
//!
//! Chunks travel outside Raft; the group of their object agrees on what becomes of them (stage, claim, release), and every
//! member keeps their frames in its blob stream and their places in its table of places.
//!
//! ```text
//!   body ──> Cutter ──> frames ──> every member (replicate) ──> receive ──> blob stream ──> places     (put, open stage)
//!   range ──> pieces ──> places ──> blob stream ──> verified; not here: another member (fetch)         (get)
//!   claims applied here, the short list ──> wants ──> fetch ──> blob stream ──> places                 (group::repair)
//! ```

pub(crate) mod fetch;
pub(crate) mod frames;
pub(crate) mod get;
pub(crate) mod incoming;
pub(crate) mod put;
pub(crate) mod receive;
pub(crate) mod replicate;
pub(crate) mod store;
pub(crate) mod tally;
pub(crate) mod wants;
mod window;
