//! The key of an item in the table of places: a tag, then its fields in big-endian, so that all frames of a stage lie
//! together, in order.
//!
//! ```text
//!   payload  1 | group u16 | index u64 | term u64                                                       19 bytes
//!   frame    2 | vshard u8 | group u16 | incarnation u32 | index u64 | ordinal u32 | frame u32          24 bytes
//! ```

use super::EngineError;
use super::damage::damaged;
use crate::ids::{ChunkId, GroupId, PayloadId, StageId, VShard};
use crate::log::Item;

const PAYLOAD: u8 = 1;
const FRAME: u8 = 2;
const PAYLOAD_LEN: usize = 19;
const FRAME_LEN: usize = 24;

/// A key without an allocation; unused bytes are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PlaceKey([u8; FRAME_LEN]);

impl PlaceKey {
    /// Of an item.
    pub fn of(item: &Item) -> PlaceKey {
        match item {
            Item::Payload(id) => {
                let mut key = [0; FRAME_LEN];
                key[0] = PAYLOAD;
                key[1..3].copy_from_slice(&id.group.0.to_be_bytes());
                key[3..11].copy_from_slice(&id.index.to_be_bytes());
                key[11..19].copy_from_slice(&id.term.to_be_bytes());
                PlaceKey(key)
            }
            Item::Frame { chunk, frame } => {
                PlaceKey::frame(chunk.vshard, chunk.stage, chunk.ordinal, *frame)
            }
        }
    }

    /// Of a frame.
    pub fn frame(vshard: VShard, stage: StageId, ordinal: u32, frame: u32) -> PlaceKey {
        let mut key = [0; FRAME_LEN];
        key[0] = FRAME;
        key[1] = vshard.0;
        key[2..4].copy_from_slice(&stage.group.0.to_be_bytes());
        key[4..8].copy_from_slice(&stage.incarnation.to_be_bytes());
        key[8..16].copy_from_slice(&stage.index.to_be_bytes());
        key[16..20].copy_from_slice(&ordinal.to_be_bytes());
        key[20..24].copy_from_slice(&frame.to_be_bytes());
        PlaceKey(key)
    }

    /// As it stands in a run.
    pub fn bytes(&self) -> &[u8] {
        let len = if self.0[0] == PAYLOAD {
            PAYLOAD_LEN
        } else {
            FRAME_LEN
        };
        &self.0[..len]
    }

    /// Not above any key.
    pub const FIRST: PlaceKey = PlaceKey([0; FRAME_LEN]);

    /// The bytes right behind it: no key lies between a key and itself with a zero behind.
    pub fn behind(&self) -> Vec<u8> {
        [self.bytes(), &[0]].concat()
    }

    /// From a run.
    pub fn read(bytes: &[u8]) -> Result<PlaceKey, EngineError> {
        match (bytes.first(), bytes.len()) {
            (Some(&PAYLOAD), PAYLOAD_LEN) | (Some(&FRAME), FRAME_LEN) => {
                let mut key = [0; FRAME_LEN];
                key[..bytes.len()].copy_from_slice(bytes);
                Ok(PlaceKey(key))
            }
            _ => Err(damaged(
                "a run of the places",
                format!("a key of {} bytes", bytes.len()),
            )),
        }
    }

    /// The item.
    pub fn item(&self) -> Result<Item, EngineError> {
        let number = |from: usize, to: usize| {
            self.0[from..to]
                .iter()
                .fold(0u64, |n, byte| n << 8 | u64::from(*byte))
        };
        match self.0[0] {
            PAYLOAD => Ok(Item::Payload(PayloadId {
                group: GroupId(number(1, 3) as u16),
                index: number(3, 11),
                term: number(11, 19),
            })),
            FRAME => Ok(Item::Frame {
                chunk: ChunkId {
                    vshard: VShard(self.0[1]),
                    stage: StageId {
                        group: GroupId(number(2, 4) as u16),
                        incarnation: number(4, 8) as u32,
                        index: number(8, 16),
                    },
                    ordinal: number(16, 20) as u32,
                },
                frame: number(20, 24) as u32,
            }),
            tag => Err(damaged(
                "a run of the places",
                format!("a key with tag {tag}"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn item_reads_back_from_its_key() {
        let stage = StageId {
            group: GroupId(3),
            incarnation: 4,
            index: 1 << 40,
        };
        let chunk = ChunkId {
            vshard: VShard(200),
            stage,
            ordinal: 70_000,
        };
        for item in [
            Item::Payload(PayloadId {
                group: GroupId(8),
                index: u64::MAX - 1,
                term: 12,
            }),
            Item::Frame { chunk, frame: 3 },
        ] {
            let key = PlaceKey::of(&item);
            assert_eq!(key.item().unwrap(), item);
            assert_eq!(PlaceKey::read(key.bytes()).unwrap(), key);
        }
        assert!(PlaceKey::read(b"\x01short").is_err());
        assert!(PlaceKey::read(&[3; 24]).is_err());
    }
}
