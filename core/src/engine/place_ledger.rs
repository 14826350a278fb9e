//! What the table of places says of segments: how much of each is live, and up to where the table is complete.
//!
//! Kept with every change, saved in the manifest of the table:
//!
//! ```text
//!   | version 1 (u8) | meta complete (u64 LE) | blob complete (u64 LE) | segments (u32 LE) |
//!   | stream (u8) | segment (u32 LE) | bytes (u64 LE) | items (u64 LE) | ...
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;

use super::block::{u32_at, u64_at};
use crate::log::{Complete, Place, Position, Stream};

const VERSION: u8 = 1;
const HEAD: usize = 21;
const ROW: usize = 21;

/// What is live in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Live {
    /// Bytes of items (not of the records around them).
    pub bytes: u64,
    /// How many items.
    pub items: u64,
}

/// The figures of all segments.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PlaceLedger {
    complete: Complete,
    live: BTreeMap<(Stream, u32), Live>,
}

impl PlaceLedger {
    /// A row names this place now.
    pub fn came(&mut self, place: Place) {
        let live = self
            .live
            .entry((place.stream, place.position.segment()))
            .or_default();
        live.bytes += u64::from(place.len);
        live.items += 1;
    }

    /// No row names this place any more.
    pub fn gone(&mut self, place: Place) {
        let key = (place.stream, place.position.segment());
        let live = self.live.entry(key).or_default();
        assert!(
            live.items > 0 && live.bytes >= u64::from(place.len),
            "{place} goes and never came"
        );
        live.bytes -= u64::from(place.len);
        live.items -= 1;
        if live.items == 0 {
            self.live.remove(&key);
        }
    }

    /// Of one segment.
    pub fn live(&self, stream: Stream, segment: u32) -> Live {
        self.live
            .get(&(stream, segment))
            .copied()
            .unwrap_or_default()
    }

    /// Of all segments where something is live.
    pub fn segments(&self) -> Vec<(Stream, u32, Live)> {
        self.live
            .iter()
            .map(|((stream, segment), live)| (*stream, *segment, *live))
            .collect()
    }

    /// Up to where every item is known.
    pub fn complete(&self) -> Complete {
        self.complete
    }

    /// Never goes back: what is known stays known, as long as the log has it.
    pub fn advance(&mut self, complete: Complete) {
        self.complete.meta = self.complete.meta.max(complete.meta);
        self.complete.blob = self.complete.blob.max(complete.blob);
    }

    /// The streams end here, and will go on with other records than those that were known.
    pub fn fall_back(&mut self, ends: Complete) {
        self.complete.meta = self.complete.meta.min(ends.meta);
        self.complete.blob = self.complete.blob.min(ends.blob);
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(HEAD + self.live.len() * ROW);
        out.push(VERSION);
        out.extend_from_slice(&self.complete.meta.0.to_le_bytes());
        out.extend_from_slice(&self.complete.blob.0.to_le_bytes());
        out.extend_from_slice(&(self.live.len() as u32).to_le_bytes());
        for ((stream, segment), live) in &self.live {
            out.push(*stream as u8);
            out.extend_from_slice(&segment.to_le_bytes());
            out.extend_from_slice(&live.bytes.to_le_bytes());
            out.extend_from_slice(&live.items.to_le_bytes());
        }
        Bytes::from(out)
    }

    /// Reads them; `None` if they do not fit.
    pub fn decode(bytes: &[u8]) -> Option<PlaceLedger> {
        if bytes.len() < HEAD || bytes[0] != VERSION {
            return None;
        }
        let count = u32_at(bytes, 17) as usize;
        if bytes.len() - HEAD != count.checked_mul(ROW)? {
            return None;
        }
        let complete = Complete {
            meta: Position(u64_at(bytes, 1)),
            blob: Position(u64_at(bytes, 9)),
        };
        let mut live = BTreeMap::new();
        for row in bytes[HEAD..].chunks_exact(ROW) {
            let stream = Stream::ALL
                .into_iter()
                .find(|stream| *stream as u8 == row[0])?;
            let figures = Live {
                bytes: u64_at(row, 5),
                items: u64_at(row, 13),
            };
            live.insert((stream, u32_at(row, 1)), figures);
        }
        Some(PlaceLedger { complete, live })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_reads_back_from_its_bytes() {
        let mut ledger = PlaceLedger::default();
        assert_eq!(PlaceLedger::decode(&ledger.encode()), Some(ledger.clone()));
        let place = |stream, segment, len| Place {
            stream,
            position: Position::new(segment, 64),
            len,
        };
        ledger.came(place(Stream::Meta, 3, 100));
        ledger.came(place(Stream::Blob, 7, 1 << 20));
        ledger.came(place(Stream::Blob, 7, 5));
        ledger.came(place(Stream::Blob, 9, 5));
        ledger.gone(place(Stream::Blob, 9, 5));
        ledger.advance(Complete {
            meta: Position(77),
            blob: Position(0),
        });
        let bytes = ledger.encode();
        assert_eq!(PlaceLedger::decode(&bytes), Some(ledger.clone()));
        assert_eq!(
            ledger.live(Stream::Blob, 7),
            Live {
                bytes: (1 << 20) + 5,
                items: 2
            }
        );
        assert_eq!(ledger.segments().len(), 2);
        assert_eq!(PlaceLedger::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(PlaceLedger::decode(&[2; HEAD]), None, "another version");
    }
}
