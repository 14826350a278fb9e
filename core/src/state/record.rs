//! Where the bytes of a version are: names that every replica shares, never places on one node.

use crate::ids::{PayloadId, StageId, VShard};

/// Chunks of one stage, in order: all are `chunk_size` long but the last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkRun {
    /// Vshard of the object.
    pub vshard: VShard,
    /// The stage they were written under.
    pub stage: StageId,
    /// Number of chunks; ordinals 0..count.
    pub count: u32,
    /// Bytes per chunk, but the last; at most 4 MiB.
    pub chunk_size: u32,
    /// Bytes in all.
    pub len: u64,
}

/// The content of a version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// No bytes: an empty object or a delete marker.
    Empty,
    /// Carried by an entry.
    Inline {
        /// The entry.
        payload: PayloadId,
        /// Bytes.
        len: u32,
        /// CRC64NVME of the content, checked at every read.
        crc64: u64,
    },
    /// One stage's chunks.
    Chunks(ChunkRun),
    /// The listed parts of a completed upload.
    Upload {
        /// Its id.
        upload: u128,
        /// Part numbers in order, as inclusive ranges.
        parts: Vec<(u32, u32)>,
    },
}
