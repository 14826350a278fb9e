//! Behind a bad header nobody says where the next thing starts: finds it by looking at every eighth byte.
//!
//! What is looked through may be bytes that users chose. A batch or a record found here is believed only with the stamp
//! of one of this log's openings, which nobody outside can know.
//!
//! Always true:
//! * the whole rest of a segment is looked through before its end is believed: however long the damage is, what lies
//!   behind it was acknowledged;
//! * if a batch header alone is bad, its records are found and nothing is lost.

use super::batch::{self, BatchHeader};
use super::checksum::Stamp;
use super::error::LogError;
use super::place::Position;
use super::record::{self, RecordHeader};
use super::scan::{Found, Scan, window_name};
use super::segment::Segment;
use super::window::Window;

impl Scan<'_> {
    /// The next valid batch behind `at`. Looks through the whole rest of the segment: whatever is damaged, what lies
    /// behind it was acknowledged.
    pub(super) fn find_batch(
        &self,
        window: &mut Window<'_>,
        segment: &Segment,
        at: u32,
    ) -> std::io::Result<Option<BatchHeader>> {
        let mut from = at + 8;
        while let Some(candidate) = window.find(from, batch::could_be_a_batch)? {
            if let Some(bytes) = window.get(candidate, batch::HEADER)? {
                let position = Position::new(segment.number, candidate);
                // A version from the future is not looked for here: without a place to expect it, it could be anything.
                if let Ok(header) = BatchHeader::decode(bytes, self.stream, position, self.log_id)
                    && self.continues(&header, segment)
                {
                    return Ok(Some(header));
                }
            }
            from = candidate + 8;
        }
        Ok(None)
    }

    /// Between `from` and the batch `next`, batch headers are bad. Finds the records that are not.
    pub(super) fn resync(
        &mut self,
        window: &mut Window<'_>,
        from: Position,
        next: BatchHeader,
    ) -> Result<(), LogError> {
        let stamps: Vec<Stamp> = (self.incarnation..=next.incarnation)
            .map(|incarnation| Stamp::of(self.log_id, incarnation))
            .collect();
        let end = next.position;
        let mut records = Vec::new();
        let mut found = self.find_record(window, from, end, &stamps)?;
        let lead = found.map_or(0, |first| first.position.offset() - from.offset());
        let mut at = from.plus(lead);
        let mut whole = true;
        while let Some(header) = found {
            whole &= header.position == at;
            at = header.position.plus(header.len() as u32);
            let (head, head_good, payload_good) = self.parts(window, &header, true)?;
            records.push(Found::Record {
                header,
                head,
                head_good,
                payload_good,
            });
            found = match self.record_at(window, at, end, &stamps)? {
                Some(next) => Some(next),
                None => self.find_record(window, at, end, &stamps)?,
            };
        }
        // One batch, of exactly these records: then only its header and table are bad, and nothing is lost.
        let one = match records.len() {
            0 => (end.offset() - from.offset()) as usize == batch::EMPTY,
            n => whole && at == end && lead as usize == batch::HEADER + batch::ROW * n,
        };
        self.hold(match one {
            true => Found::Harmless {
                at: from,
                what: "a batch header",
            },
            false => Found::Unknown { from, to: end },
        })?;
        records.into_iter().try_for_each(|record| self.hold(record))
    }

    pub(super) fn find_record(
        &self,
        window: &mut Window<'_>,
        from: Position,
        end: Position,
        stamps: &[Stamp],
    ) -> Result<Option<RecordHeader>, LogError> {
        let mut at = from;
        while at < end {
            let io = |error: std::io::Error| {
                LogError::io(format!("reading {}", window_name(at)), &error)
            };
            let Some(candidate) = window
                .find(at.offset(), record::could_be_a_record)
                .map_err(io)?
            else {
                return Ok(None);
            };
            let candidate = Position::new(at.segment(), candidate);
            if candidate >= end {
                return Ok(None);
            }
            if let Some(header) = self.record_at(window, candidate, end, stamps)? {
                return Ok(Some(header));
            }
            at = candidate.plus(8);
        }
        Ok(None)
    }
}
