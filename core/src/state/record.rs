//! Where the bytes of a version are: names that every replica shares, never places on one node.
//!
//! Always true: two contents name the same bytes only if both say `shared` in their rows.

use std::collections::BTreeMap;

use minikv_proto::row;

use crate::ids::{GroupId, PayloadId, StageId, UploadId, VShard};

/// A message that came from outside this module lacks something, or says what cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

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
        /// Where the bytes begin in the entry's payload: a transaction carries several contents.
        offset: u32,
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
        upload: UploadId,
        /// Part numbers in order, as inclusive ranges.
        parts: Vec<(u32, u32)>,
    },
}

impl Content {
    /// As a row says it. No content at all is an empty one.
    pub fn of_row(row: Option<&row::Content>) -> Result<Content, Malformed> {
        use row::content::Kind;
        Ok(match row.and_then(|content| content.kind.as_ref()) {
            None => Content::Empty,
            Some(Kind::Payload(piece)) => Content::Inline {
                payload: payload_of_row(piece)?,
                offset: piece.offset,
                len: piece.len,
                crc64: piece.crc64,
            },
            Some(Kind::Chunks(run)) => Content::Chunks(ChunkRun::of_row(run)?),
            Some(Kind::Upload(upload)) => Content::Upload {
                upload: UploadId::of_name(upload_name(&upload.upload)?),
                parts: upload
                    .parts
                    .iter()
                    .map(|range| (range.first, range.last))
                    .collect(),
            },
        })
    }

    /// Number of parts, 0 when it was no multipart upload.
    pub fn part_count(&self) -> u32 {
        match self {
            Content::Upload { parts, .. } => {
                parts.iter().map(|(first, last)| last - first + 1).sum()
            }
            _ => 0,
        }
    }
}

impl ChunkRun {
    /// As a row says it.
    pub fn of_row(run: &row::ChunkRun) -> Result<ChunkRun, Malformed> {
        Ok(ChunkRun {
            vshard: vshard_of(run.vshard)?,
            stage: StageId::of_row(run.stage.as_ref())?,
            count: run.count,
            chunk_size: run.chunk_size,
            len: run.len,
        })
    }

    /// For a row.
    pub fn to_row(&self) -> row::ChunkRun {
        row::ChunkRun {
            vshard: u32::from(self.vshard.0),
            stage: Some(self.stage.to_row()),
            count: self.count,
            chunk_size: self.chunk_size,
            len: self.len,
        }
    }
}

/// Nodes that hold something, and the life in which each said so: `Member.since_index` as its own state had it. What a node said
/// in another life is of bytes that it may have removed since.
pub type Holders = BTreeMap<u64, u64>;

/// Who holds chunks `first..first + count` of a run, durably.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copies {
    /// The first chunk.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// By whom.
    pub holders: Holders,
}

impl StageId {
    /// As a row says it.
    pub fn of_row(stage: Option<&row::StageName>) -> Result<StageId, Malformed> {
        let stage = stage.ok_or(Malformed("no stage"))?;
        Ok(StageId {
            group: group_of(stage.group)?,
            incarnation: stage.incarnation,
            index: stage.index,
        })
    }

    /// For a row.
    pub fn to_row(self) -> row::StageName {
        row::StageName {
            group: u32::from(self.group.0),
            incarnation: self.incarnation,
            index: self.index,
        }
    }
}

/// The entry that carried a piece of payload.
pub fn payload_of_row(piece: &row::Payload) -> Result<PayloadId, Malformed> {
    Ok(PayloadId {
        group: group_of(piece.group)?,
        index: piece.index,
        term: piece.term,
    })
}

/// A group's number as messages carry it.
pub fn group_of(group: u32) -> Result<GroupId, Malformed> {
    u16::try_from(group)
        .map(GroupId)
        .map_err(|_| Malformed("group number"))
}

/// A vshard's number as messages carry it.
pub fn vshard_of(vshard: u32) -> Result<VShard, Malformed> {
    u8::try_from(vshard)
        .map(VShard)
        .map_err(|_| Malformed("vshard number"))
}

/// The name of an upload as messages carry it.
pub fn upload_name(name: &[u8]) -> Result<[u8; 16], Malformed> {
    name.try_into().map_err(|_| Malformed("upload name"))
}
