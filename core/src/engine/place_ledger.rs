//! What the table of places says of segments: how much of each is live, up to where the table is complete, and which
//! places behind that point are void.
//!
//! Kept with every change, saved in the manifest of the table:
//!
//! ```text
//!   | version 1 or 2 (u8) | meta complete (u64 LE) | blob complete (u64 LE) | segments (u32 LE) |
//!   | stream (u8) | segment (u32 LE) | bytes (u64 LE) | items (u64 LE) | ...
//!   version 2 only, when something is void: | void places (u32 LE) | stream (u8) | position (u64 LE) | ...
//! ```
//! Recovery reads the log from the complete point on and tells every item there, also those that were dropped before
//! the checkpoint: no replayed entry drops them again, so their places would pin their segments for ever. Hence:
//!
//! Always true:
//! * a place behind the complete point that a row named once, and none names now, is void;
//! * a place that comes again (replay applies its entry anew) is void no longer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::block::{u32_at, u64_at};
use crate::log::{Complete, Place, Position, Stream};

/// Without void places, and with them.
const PLAIN: u8 = 1;
const WITH_VOID: u8 = 2;
const HEAD: usize = 21;
const ROW: usize = 21;
const VOID_ROW: usize = 9;

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
    void: BTreeSet<(Stream, Position)>,
}

/// Whether a place lies at or behind the point that is named of its stream.
fn is_behind((stream, position): &(Stream, Position), point: Complete) -> bool {
    match stream {
        Stream::Meta => *position >= point.meta,
        Stream::Blob => *position >= point.blob,
    }
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
        self.void.remove(&(place.stream, place.position));
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
        if place.position >= self.complete_in(place.stream) {
            self.void.insert((place.stream, place.position));
        }
    }

    /// A row named this place once, none does now, and recovery will be told of it all the same.
    pub fn is_void(&self, place: Place) -> bool {
        self.void.contains(&(place.stream, place.position))
    }

    /// How many places are void.
    pub fn voids(&self) -> usize {
        self.void.len()
    }

    fn complete_in(&self, stream: Stream) -> Position {
        match stream {
            Stream::Meta => self.complete.meta,
            Stream::Blob => self.complete.blob,
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
        let complete = self.complete;
        self.void.retain(|place| is_behind(place, complete));
    }

    /// Whether something is known of what lies behind these ends.
    pub fn knows_behind(&self, ends: Complete) -> bool {
        self.complete.meta > ends.meta
            || self.complete.blob > ends.blob
            || self.void.iter().any(|place| is_behind(place, ends))
    }

    /// The streams end here, and will go on with other records than those that were known. What was void there is so no
    /// more: another record may come to lie at the very same position.
    pub fn fall_back(&mut self, ends: Complete) {
        self.complete.meta = self.complete.meta.min(ends.meta);
        self.complete.blob = self.complete.blob.min(ends.blob);
        self.void.retain(|place| !is_behind(place, ends));
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out =
            Vec::with_capacity(HEAD + self.live.len() * ROW + 4 + self.void.len() * VOID_ROW);
        out.push(match self.void.is_empty() {
            true => PLAIN,
            false => WITH_VOID,
        });
        out.extend_from_slice(&self.complete.meta.0.to_le_bytes());
        out.extend_from_slice(&self.complete.blob.0.to_le_bytes());
        out.extend_from_slice(&(self.live.len() as u32).to_le_bytes());
        for ((stream, segment), live) in &self.live {
            out.push(*stream as u8);
            out.extend_from_slice(&segment.to_le_bytes());
            out.extend_from_slice(&live.bytes.to_le_bytes());
            out.extend_from_slice(&live.items.to_le_bytes());
        }
        if !self.void.is_empty() {
            out.extend_from_slice(&(self.void.len() as u32).to_le_bytes());
            for (stream, position) in &self.void {
                out.push(*stream as u8);
                out.extend_from_slice(&position.0.to_le_bytes());
            }
        }
        Bytes::from(out)
    }

    /// Reads them; `None` if they do not fit.
    pub fn decode(bytes: &[u8]) -> Option<PlaceLedger> {
        let with_void = match *bytes.first()? {
            PLAIN => false,
            WITH_VOID => true,
            _ => return None,
        };
        if bytes.len() < HEAD {
            return None;
        }
        let count = u32_at(bytes, 17) as usize;
        let end = HEAD.checked_add(count.checked_mul(ROW)?)?;
        let (rows, rest) = bytes.get(HEAD..)?.split_at_checked(end - HEAD)?;
        let void_rows = match with_void {
            true => {
                let void_rows = rest.get(4..)?;
                let count = u32_at(rest, 0) as usize;
                (void_rows.len() == count.checked_mul(VOID_ROW)?).then_some(void_rows)?
            }
            false => rest.is_empty().then_some(rest)?,
        };
        let stream_of = |byte: u8| Stream::ALL.into_iter().find(|stream| *stream as u8 == byte);
        let complete = Complete {
            meta: Position(u64_at(bytes, 1)),
            blob: Position(u64_at(bytes, 9)),
        };
        let mut live = BTreeMap::new();
        for row in rows.chunks_exact(ROW) {
            let figures = Live {
                bytes: u64_at(row, 5),
                items: u64_at(row, 13),
            };
            live.insert((stream_of(row[0])?, u32_at(row, 1)), figures);
        }
        let void = void_rows
            .chunks_exact(VOID_ROW)
            .map(|row| Some((stream_of(row[0])?, Position(u64_at(row, 1)))));
        Some(PlaceLedger {
            complete,
            live,
            void: void.collect::<Option<_>>()?,
        })
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
        assert_eq!(PlaceLedger::decode(&[3; HEAD]), None, "another version");
    }

    /// Written by the first version that knew void places: every later one reads these bytes.
    #[test]
    fn ledger_with_void_places_keeps_its_bytes() {
        let mut ledger = PlaceLedger::default();
        ledger.advance(Complete {
            meta: Position(100),
            blob: Position(200),
        });
        let at = |stream, position| Place {
            stream,
            position: Position(position),
            len: 5,
        };
        for place in [
            at(Stream::Meta, 99),
            at(Stream::Meta, 100),
            at(Stream::Blob, 150),
            at(Stream::Blob, 300),
            at(Stream::Blob, 400),
        ] {
            ledger.came(place);
            ledger.gone(place);
        }
        ledger.came(at(Stream::Blob, 400));
        assert!(ledger.is_void(at(Stream::Meta, 100)) && ledger.is_void(at(Stream::Blob, 300)));
        assert_eq!(
            ledger.voids(),
            2,
            "before the complete point, and back again"
        );
        let golden = [
            &[2][..],
            &[
                100, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
            ],
            &[
                1, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
            ],
            &[2, 0, 0, 0],
            &[0, 100, 0, 0, 0, 0, 0, 0, 0],
            &[1, 44, 1, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(ledger.encode(), golden);
        assert_eq!(PlaceLedger::decode(&golden), Some(ledger.clone()));
        assert_eq!(PlaceLedger::decode(&golden[..golden.len() - 1]), None);
        ledger.advance(Complete {
            meta: Position(101),
            blob: Position(301),
        });
        assert_eq!(ledger.voids(), 0, "recovery is not told of them any more");
    }
}
