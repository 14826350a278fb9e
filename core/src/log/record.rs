//! A record: one thing the log remembers.
//!
//! ```text
//!   | header, 72 bytes | payload | head | zeros to a multiple of 8 |
//! ```
//! The *payload* is user bytes (an inline object, a chunk frame); the *head* is what the log or a group must
//! understand (an entry's command, a vote). Each has a checksum of its own, and so has the header, so that damage can be told
//! apart: a bad payload hurts one object, a bad head one group. The payload comes first, so that it starts at a fixed
//! distance from the record's place and is read with one call.
//!
//! Always true:
//! * header, head and payload verify, the position is the record's own, the stamp is that of its batch, or the record is bad;
//! * checksums over the bytes are made by whoever queues a record; the writer adds position and stamp and checks 68 bytes.
//!
//! Every byte is told in docs/formats/log.md.

use bytes::Bytes;

use super::checksum::{Stamp, crc32c};
use super::place::{Item, Position};
use crate::ids::{ChunkId, GroupId, PayloadId, StageId, VShard};

/// Length of a record header.
pub(super) const HEADER: usize = 72;
/// Version this program writes; it reads this one.
pub(super) const VERSION: u8 = 1;
const MAGIC: u16 = 0x524B; // "KR"

/// Names an entry of a group's log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogId {
    /// Term of the leader that proposed it.
    pub term: u64,
    /// That leader.
    pub node: u64,
    /// Position in the group's log.
    pub index: u64,
}

/// What a record is about. The numbers of the kinds are final.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Subject {
    /// 1: an entry of a group. Head: the command. Payload: its inline bytes.
    Entry { group: GroupId, id: LogId },
    /// 2: a group's vote. Head: the vote.
    Vote { group: GroupId },
    /// 3: entries from `from` on are void; `keep` is the one before.
    Truncate {
        group: GroupId,
        from: u64,
        keep: Option<LogId>,
    },
    /// 4: entries up to this one are not needed any more.
    Purge { group: GroupId, id: LogId },
    /// 5: all that is known of a group at this point, but the entries themselves. Head: `standing`.
    Standing { group: GroupId },
    /// 6: a chunk frame. Payload: its bytes.
    Frame { chunk: ChunkId, frame: u32 },
    /// 7: an entry's payload, moved by compaction.
    MovedPayload { id: PayloadId },
    /// 8: a chunk frame, moved by compaction.
    MovedFrame { chunk: ChunkId, frame: u32 },
    /// 9: this node holds the group no more; everything of it before this point is void.
    Remove { group: GroupId },
}

/// A subject as the flat fields that headers and batch tables carry.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Fields {
    pub kind: u8,
    pub group: u16,
    pub vshard: u8,
    pub flags: u8,
    pub index: u64,
    pub term: u64,
    pub node: u64,
}

const KEEPS: u8 = 1;

impl Subject {
    pub(super) fn fields(&self) -> Fields {
        let frame = |kind, chunk: &ChunkId, frame: u32| Fields {
            kind,
            group: chunk.stage.group.0,
            vshard: chunk.vshard.0,
            flags: 0,
            index: chunk.stage.index,
            term: u64::from(chunk.stage.incarnation) << 32 | u64::from(chunk.ordinal),
            node: u64::from(frame),
        };
        let plain = |kind, group: GroupId| Fields {
            kind,
            group: group.0,
            ..Fields::default()
        };
        match *self {
            Subject::Entry { group, id } => Fields {
                index: id.index,
                term: id.term,
                node: id.node,
                ..plain(1, group)
            },
            Subject::Vote { group } => plain(2, group),
            Subject::Truncate { group, from, keep } => Fields {
                index: from,
                flags: if keep.is_some() { KEEPS } else { 0 },
                term: keep.map_or(0, |id| id.term),
                node: keep.map_or(0, |id| id.node),
                ..plain(3, group)
            },
            Subject::Purge { group, id } => Fields {
                index: id.index,
                term: id.term,
                node: id.node,
                ..plain(4, group)
            },
            Subject::Standing { group } => plain(5, group),
            Subject::Frame {
                chunk,
                frame: number,
            } => frame(6, &chunk, number),
            Subject::MovedPayload { id } => Fields {
                index: id.index,
                term: id.term,
                ..plain(7, id.group)
            },
            Subject::MovedFrame {
                chunk,
                frame: number,
            } => frame(8, &chunk, number),
            Subject::Remove { group } => plain(9, group),
        }
    }

    /// `None`: a kind, or a flag of it, that this version does not know.
    pub(super) fn of(fields: &Fields) -> Option<Subject> {
        let known = if fields.kind == 3 { KEEPS } else { 0 };
        if fields.flags & !known != 0 {
            return None;
        }
        let group = GroupId(fields.group);
        let id = LogId {
            term: fields.term,
            node: fields.node,
            index: fields.index,
        };
        let chunk = ChunkId {
            vshard: VShard(fields.vshard),
            stage: StageId {
                group,
                incarnation: (fields.term >> 32) as u32,
                index: fields.index,
            },
            ordinal: fields.term as u32,
        };
        Some(match fields.kind {
            1 => Subject::Entry { group, id },
            2 => Subject::Vote { group },
            3 => Subject::Truncate {
                group,
                from: fields.index,
                keep: (fields.flags & KEEPS != 0).then_some(LogId {
                    index: fields.index.wrapping_sub(1),
                    ..id
                }),
            },
            4 => Subject::Purge { group, id },
            5 => Subject::Standing { group },
            6 => Subject::Frame {
                chunk,
                frame: fields.node as u32,
            },
            7 => Subject::MovedPayload {
                id: PayloadId {
                    group,
                    index: fields.index,
                    term: fields.term,
                },
            },
            8 => Subject::MovedFrame {
                chunk,
                frame: fields.node as u32,
            },
            9 => Subject::Remove { group },
            _ => return None,
        })
    }

    /// The item whose bytes its payload is.
    pub(super) fn item(&self) -> Option<Item> {
        match *self {
            Subject::Entry { group, id } => Some(Item::Payload(PayloadId {
                group,
                index: id.index,
                term: id.term,
            })),
            Subject::MovedPayload { id } => Some(Item::Payload(id)),
            Subject::Frame { chunk, frame } | Subject::MovedFrame { chunk, frame } => {
                Some(Item::Frame { chunk, frame })
            }
            _ => None,
        }
    }
}

/// A record as it is queued: everything but position and stamp.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub subject: Subject,
    pub payload: Bytes,
    pub head: Bytes,
    payload_crc: u32,
    head_crc: u32,
}

impl Draft {
    /// Checksums the bytes: call it outside the writer.
    pub(super) fn new(subject: Subject, head: Bytes, payload: Bytes) -> Draft {
        Draft {
            payload_crc: crc32c(&payload),
            head_crc: crc32c(&head),
            subject,
            payload,
            head,
        }
    }

    /// Bytes it takes in a segment.
    pub(super) fn len(&self) -> usize {
        padded(self.payload.len(), self.head.len())
    }

    pub(super) fn header(&self, position: Position, stamp: Stamp) -> RecordHeader {
        RecordHeader {
            subject: self.subject,
            position,
            stamp,
            payload_len: self.payload.len() as u32,
            payload_crc: self.payload_crc,
            head_len: self.head.len() as u32,
            head_crc: self.head_crc,
        }
    }
}

/// Length in a segment of a record with these two parts.
pub(super) fn padded(payload: usize, head: usize) -> usize {
    (HEADER + payload + head).next_multiple_of(8)
}

/// The first bytes of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RecordHeader {
    pub subject: Subject,
    pub position: Position,
    pub stamp: Stamp,
    pub payload_len: u32,
    pub payload_crc: u32,
    pub head_len: u32,
    pub head_crc: u32,
}

/// Why bytes are not a record header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotARecord {
    /// They do not verify, or belong to another position or time.
    Bad,
    /// They verify, and are of this kind and version, which a newer program wrote.
    Newer { kind: u8, version: u8 },
}

impl RecordHeader {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let fields = self.subject.fields();
        let mut out = [0; HEADER];
        out[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        out[2] = VERSION;
        out[3] = fields.kind;
        out[4..6].copy_from_slice(&fields.group.to_le_bytes());
        out[6] = fields.vshard;
        out[7] = fields.flags;
        out[8..16].copy_from_slice(&self.position.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.stamp.0.to_le_bytes());
        out[24..32].copy_from_slice(&fields.index.to_le_bytes());
        out[32..40].copy_from_slice(&fields.term.to_le_bytes());
        out[40..48].copy_from_slice(&fields.node.to_le_bytes());
        out[48..52].copy_from_slice(&self.payload_len.to_le_bytes());
        out[52..56].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[56..60].copy_from_slice(&self.head_len.to_le_bytes());
        out[60..64].copy_from_slice(&self.head_crc.to_le_bytes());
        // 64..68 stay zero.
        let crc = crc32c(&out[..68]);
        out[68..72].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header of the record that is said to lie at `position`.
    pub(super) fn decode(bytes: &[u8], position: Position) -> Result<RecordHeader, NotARecord> {
        let Some(bytes) = bytes.first_chunk::<HEADER>() else {
            return Err(NotARecord::Bad);
        };
        if !could_be_a_record(bytes)
            || u64_at(bytes, 8) != position.0
            || u32_at(bytes, 68) != crc32c(&bytes[..68])
        {
            return Err(NotARecord::Bad);
        }
        let fields = Fields {
            kind: bytes[3],
            group: u16::from_le_bytes([bytes[4], bytes[5]]),
            vshard: bytes[6],
            flags: bytes[7],
            index: u64_at(bytes, 24),
            term: u64_at(bytes, 32),
            node: u64_at(bytes, 40),
        };
        let newer = NotARecord::Newer {
            kind: fields.kind,
            version: bytes[2],
        };
        if bytes[2] != VERSION {
            return Err(newer);
        }
        Ok(RecordHeader {
            subject: Subject::of(&fields).ok_or(newer)?,
            position,
            stamp: Stamp(u64_at(bytes, 16)),
            payload_len: u32_at(bytes, 48),
            payload_crc: u32_at(bytes, 52),
            head_len: u32_at(bytes, 56),
            head_crc: u32_at(bytes, 60),
        })
    }

    /// Bytes the record takes in a segment.
    pub(super) fn len(&self) -> usize {
        padded(self.payload_len as usize, self.head_len as usize)
    }
}

/// Where a record says that it lies, if it is one.
#[cfg(feature = "planted")]
pub(super) fn claimed_position(bytes: &[u8]) -> Option<Position> {
    (bytes.len() >= HEADER).then(|| Position(u64_at(bytes, 8)))
}

/// A quick look, before the checksum is worth computing.
pub(super) fn could_be_a_record(bytes: &[u8]) -> bool {
    bytes.len() >= 2 && bytes[..2] == MAGIC.to_le_bytes()
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn subjects() -> Vec<Subject> {
        let group = GroupId(3);
        let id = LogId {
            term: 5,
            node: 9,
            index: 77,
        };
        let chunk = ChunkId {
            vshard: VShard(200),
            stage: StageId {
                group,
                incarnation: 2,
                index: 1 << 40,
            },
            ordinal: 6,
        };
        vec![
            Subject::Entry { group, id },
            Subject::Vote { group },
            Subject::Truncate {
                group,
                from: 78,
                keep: Some(id),
            },
            Subject::Truncate {
                group,
                from: 0,
                keep: None,
            },
            Subject::Purge { group, id },
            Subject::Standing { group },
            Subject::Frame { chunk, frame: 3 },
            Subject::MovedPayload {
                id: PayloadId {
                    group,
                    index: 77,
                    term: 5,
                },
            },
            Subject::MovedFrame { chunk, frame: 3 },
            Subject::Remove { group },
        ]
    }

    #[test]
    fn every_kind_survives_its_encoding() {
        let position = Position::new(4, 8192);
        for subject in subjects() {
            let draft = Draft::new(
                subject,
                Bytes::from_static(b"head"),
                Bytes::from_static(b"pay"),
            );
            let header = draft.header(position, Stamp(42));
            assert_eq!(RecordHeader::decode(&header.encode(), position), Ok(header));
            assert_eq!(header.len(), 80);
            assert_eq!(
                RecordHeader::decode(&header.encode(), position.plus(8)),
                Err(NotARecord::Bad),
                "a record read at another position than its own is not believed"
            );
        }
    }

    #[test]
    fn any_flipped_bit_of_a_header_is_noticed() {
        let position = Position::new(4, 8192);
        for subject in subjects() {
            let good = Draft::new(subject, Bytes::new(), Bytes::new())
                .header(position, Stamp(42))
                .encode();
            for bit in 0..HEADER * 8 {
                let mut bad = good;
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(RecordHeader::decode(&bad, position), Err(NotARecord::Bad));
            }
        }
    }

    /// A kind from the future is whole, so it is not damage, and must not be cut as a torn tail either.
    #[test]
    fn an_unknown_kind_or_version_is_told_from_damage() {
        let position = Position::new(4, 8192);
        let mut bytes = Draft::new(
            Subject::Vote { group: GroupId(0) },
            Bytes::new(),
            Bytes::new(),
        )
        .header(position, Stamp(42))
        .encode();
        bytes[3] = 77;
        let crc = crc32c(&bytes[..68]).to_le_bytes();
        bytes[68..].copy_from_slice(&crc);
        assert_eq!(
            RecordHeader::decode(&bytes, position),
            Err(NotARecord::Newer {
                kind: 77,
                version: 1
            })
        );
    }
}
