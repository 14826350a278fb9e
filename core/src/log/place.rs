//! Where bytes lie on this node, and what they are.
//!
//! ```text
//!   Position = segment number (32 bits) | offset in its file (32 bits)
//! ```
//! Always true:
//! * within a stream, what was written later has the higher position;
//! * a position is never used for two things that were both acknowledged;
//! * segment numbers start at 1, so position 0 is "nowhere".
//!
//! Elsewhere: which place an item has now (`engine::places`), how a place is read (`reader`).

use std::fmt;

use crate::ids::{ChunkId, GroupId, PayloadId};

/// One of the two append streams of a node's log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Stream {
    /// Raft entries with inline payloads, votes, truncations, purges.
    Meta = 0,
    /// Chunk frames, and what compaction moves.
    Blob = 1,
}

impl Stream {
    /// Both, in the order in which they are recovered.
    pub const ALL: [Stream; 2] = [Stream::Meta, Stream::Blob];

    pub(super) fn of(byte: u8) -> Option<Stream> {
        match byte {
            0 => Some(Stream::Meta),
            1 => Some(Stream::Blob),
            _ => None,
        }
    }

    pub(super) fn at(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stream::Meta => "meta",
            Stream::Blob => "blob",
        })
    }
}

/// A point of a stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// Before everything.
    pub const ZERO: Position = Position(0);

    /// The point `offset` bytes into segment `segment`.
    pub fn new(segment: u32, offset: u32) -> Position {
        Position(u64::from(segment) << 32 | u64::from(offset))
    }

    /// Number of its segment.
    pub fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Offset within the segment's file.
    pub fn offset(self) -> u32 {
        self.0 as u32
    }

    pub(super) fn plus(self, bytes: u32) -> Position {
        Position::new(self.segment(), self.offset() + bytes)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.segment(), self.offset())
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the bytes of an item lie: the record that holds them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The stream.
    pub stream: Stream,
    /// Start of the record.
    pub position: Position,
    /// Length of the item's bytes (not of the record).
    pub len: u32,
}

impl Place {
    /// Length of the encoding.
    pub const ENCODED: usize = 13;

    /// Stream, position, length; big-endian, so that the order of bytes is the order of places.
    pub fn encode(self) -> [u8; Place::ENCODED] {
        let mut out = [0; Place::ENCODED];
        out[0] = self.stream as u8;
        out[1..9].copy_from_slice(&self.position.0.to_be_bytes());
        out[9..].copy_from_slice(&self.len.to_be_bytes());
        out
    }

    /// The opposite of `encode`; `None` if these are not the bytes of a place.
    pub fn decode(bytes: &[u8]) -> Option<Place> {
        let (stream, rest) = bytes.split_first()?;
        let (position, len) = rest.split_first_chunk::<8>()?;
        Some(Place {
            stream: Stream::of(*stream)?,
            position: Position(u64::from_be_bytes(*position)),
            len: u32::from_be_bytes(len.try_into().ok()?),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({} bytes)", self.stream, self.position, self.len)
    }
}

/// Bytes that have a place: what replicated state names, without knowing where they lie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Item {
    /// The inline bytes of an object, carried by an entry.
    Payload(PayloadId),
    /// A part of a chunk, at most 1 MiB.
    Frame {
        /// The chunk.
        chunk: ChunkId,
        /// Number of the frame within the chunk, from 0.
        frame: u32,
    },
}

impl Item {
    /// The group whose rows name it.
    pub fn group(&self) -> GroupId {
        match self {
            Item::Payload(payload) => payload.group,
            Item::Frame { chunk, .. } => chunk.stage.group,
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Payload(id) => {
                write!(f, "payload of {} entry {}/{}", id.group, id.term, id.index)
            }
            Item::Frame { chunk, frame } => write!(
                f,
                "frame {frame} of chunk {} of stage {}/{}/{} (vshard {})",
                chunk.ordinal,
                chunk.stage.group,
                chunk.stage.incarnation,
                chunk.stage.index,
                chunk.vshard.0
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places are kept in tables on disk.
    #[test]
    fn a_place_survives_its_encoding_and_sorts_like_it() {
        let early = Place {
            stream: Stream::Blob,
            position: Position::new(2, 4096),
            len: 7,
        };
        let late = Place {
            position: Position::new(3, 4096),
            ..early
        };
        assert_eq!(Place::decode(&early.encode()), Some(early));
        assert!(early.encode() < late.encode());
        assert_eq!(Place::decode(&early.encode()[1..]), None);
        assert_eq!(Place::decode(&[9; Place::ENCODED]), None);
    }
}
