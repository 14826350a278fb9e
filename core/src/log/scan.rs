//! Reads a stream from one batch to its end, and tells what is sound, what is damaged, and where the end is.
//!
//! The hard question is what bad bytes mean. D is the highest `durable_end` in any valid batch header. Bad bytes before D
//! had been fsynced: *damage*, told with its scope, stepped over. Bad bytes at or after D are a batch that
//! nobody was told about: the *torn tail*, and the stream ends at the first of them. D is known only when everything was seen, so
//! what lies behind the D so far is held back until D passes it, or until the end.
//!
//! Always true:
//! * what is told lies before the cut, in the order of positions;
//! * a record told at or after D was verified whole, payload included;
//! * nothing here writes.
//!
//! Elsewhere: finding the next sound thing behind a bad header (`resync`), what a record means (`replay`), what survives being written again (`recovery`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::batch::{self, BatchHeader, NotABatch, Row};
use super::checksum::{Stamp, crc32c};
use super::error::LogError;
use super::place::{Position, Stream};
use super::record::{self, NotARecord, RecordHeader, Subject};
use super::segment::{FIRST_BATCH, Segment, io_error};
use super::window::Window;

/// What a scan tells.
#[derive(Debug)]
pub(super) enum Found {
    /// A batch begins.
    Batch(BatchHeader),
    /// A record whose header is good.
    Record {
        header: RecordHeader,
        /// Kept for votes and standing records only.
        head: Bytes,
        head_good: bool,
        /// Not looked at (`true`) before D in the blob stream.
        payload_good: bool,
    },
    /// A record whose header is bad, and what the batch's table says of it.
    BadRecord { position: Position, row: Row },
    /// Bytes of which nothing is known: they may have held any records.
    Unknown { from: Position, to: Position },
    /// Bytes that do not verify, and held nothing that is not known from elsewhere.
    Harmless { at: Position, what: &'static str },
}

impl Found {
    fn position(&self) -> Position {
        match self {
            Found::Batch(header) => header.position,
            Found::Record { header, .. } => header.position,
            Found::BadRecord { position, .. } => *position,
            Found::Unknown { from, .. } => *from,
            Found::Harmless { at, .. } => *at,
        }
    }

    fn is_bad(&self) -> bool {
        match self {
            Found::Batch(_) => false,
            Found::Record {
                head_good,
                payload_good,
                ..
            } => !head_good || !payload_good,
            Found::BadRecord { .. } | Found::Unknown { .. } | Found::Harmless { .. } => true,
        }
    }
}

/// How a stream ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct End {
    /// Where the next batch goes.
    pub position: Position,
    /// Everything before this was fsynced by whoever wrote it.
    pub durable_end: Position,
    /// The last segment with batches is sealed.
    pub sealed: bool,
    /// Highest number and incarnation met.
    pub number: u64,
    pub incarnation: u32,
    /// Something was there behind the end.
    pub torn: bool,
    /// Bytes looked through.
    pub scanned: u64,
    /// At least one valid batch was met.
    pub any: bool,
    /// Where the batches of each segment end, the last one at `position`.
    pub ends: Vec<Position>,
}

/// A scan of one stream.
pub(super) struct Scan<'a> {
    segments: &'a BTreeMap<u32, Arc<Segment>>,
    pub(super) stream: Stream,
    pub(super) log_id: u64,
    /// What lies at or behind `durable_end` so far.
    held: VecDeque<Found>,
    durable_end: Position,
    number: u64,
    pub(super) incarnation: u32,
    any: bool,
    scanned: u64,
    unreadable: Vec<Position>,
    /// Where the batches of each segment end.
    ends: Vec<Position>,
    tell: &'a mut dyn FnMut(Found) -> Result<(), LogError>,
}

/// Where a segment's batches stop.
struct Stop {
    offset: u32,
    sealed: bool,
    /// Bytes behind it that are not zero.
    rest: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        segments: &'a BTreeMap<u32, Arc<Segment>>,
        stream: Stream,
        log_id: u64,
        tell: &'a mut dyn FnMut(Found) -> Result<(), LogError>,
    ) -> Scan<'a> {
        Scan {
            segments,
            stream,
            log_id,
            held: VecDeque::new(),
            durable_end: Position::ZERO,
            number: 0,
            incarnation: 0,
            any: false,
            scanned: 0,
            unreadable: Vec::new(),
            ends: Vec::new(),
            tell,
        }
    }

    /// Scans from `start`, where a durable batch begins.
    pub(super) fn run(mut self, start: Position) -> Result<End, LogError> {
        self.durable_end = start;
        let mut end = start;
        let mut sealed = false;
        let mut rest = false;
        // What lies behind the last batch of a segment matters only if a later segment was written to.
        let mut gap: Option<(Position, Position)> = None;
        for (number, segment) in self.segments.range(start.segment()..) {
            let first = match *number == start.segment() {
                true => start.offset().max(FIRST_BATCH),
                false => FIRST_BATCH,
            };
            let mut window = Window::new(segment, self.stream);
            let stop = self.segment(segment, &mut window, first, &mut gap)?;
            self.unreadable.append(&mut window.unreadable);
            self.scanned += window.read;
            match stop {
                Some(stop) => {
                    end = Position::new(*number, stop.offset);
                    self.ends.push(end);
                    (sealed, rest) = (stop.sealed, stop.rest);
                    if !sealed {
                        gap = Some((end, Position::new(*number, segment.length)));
                    }
                }
                // The segment behind a sealed one is where the stream goes on; others are spares.
                None if sealed && *number == end.segment() + 1 => {
                    end = Position::new(*number, first);
                    sealed = false;
                    let data = window.has_data(first);
                    rest = data.map_err(|error| io_error("reading", &segment.path, &error))?;
                }
                None => {}
            }
        }
        self.finish(end, sealed, rest)
    }

    /// Scans one segment. `None`: there is no valid batch in it.
    fn segment(
        &mut self,
        segment: &Segment,
        window: &mut Window<'_>,
        first: u32,
        gap: &mut Option<(Position, Position)>,
    ) -> Result<Option<Stop>, LogError> {
        let io = |error: std::io::Error| io_error("reading", &segment.path, &error);
        let mut at = first;
        let mut any = false;
        loop {
            let here = Position::new(segment.number, at);
            let found = match self.batch_at(window, segment, at)? {
                Some(header) => Some(header),
                None => self.find_batch(window, segment, at).map_err(io)?,
            };
            let Some(header) = found else {
                let rest = window.has_data(at).map_err(io)?;
                return Ok(any.then_some(Stop {
                    offset: at,
                    sealed: false,
                    rest,
                }));
            };
            if let Some((from, to)) = gap.take() {
                // A later segment is in use, so the one before had been finished.
                self.hold(Found::Unknown { from, to })?;
            }
            if header.position != here {
                self.resync(window, here, header)?;
            }
            any = true;
            self.any = true;
            self.number = header.number;
            self.incarnation = header.incarnation;
            self.advance(header.durable_end)?;
            at = self.records(window, segment, header)?;
            if header.flags & batch::SEALED != 0 {
                return Ok(Some(Stop {
                    offset: at,
                    sealed: true,
                    rest: false,
                }));
            }
        }
    }

    /// The batch at `at`, if a valid one begins there that continues what was seen.
    pub(super) fn batch_at(
        &self,
        window: &mut Window<'_>,
        segment: &Segment,
        at: u32,
    ) -> Result<Option<BatchHeader>, LogError> {
        let io = |error: std::io::Error| io_error("reading", &segment.path, &error);
        let Some(bytes) = window.get(at, batch::HEADER).map_err(io)? else {
            return Ok(None);
        };
        let position = Position::new(segment.number, at);
        match BatchHeader::decode(bytes, self.stream, position, self.log_id) {
            Ok(header) if self.continues(&header, segment) => Ok(Some(header)),
            Ok(_) | Err(NotABatch::Bad) => Ok(None),
            Err(NotABatch::Newer { version }) => Err(LogError::Newer {
                place: format!("{} offset {at}", segment.path.display()).into(),
                what: format!("a batch of version {version}").into(),
            }),
        }
    }

    /// Bytes of an earlier opening stay readable behind a cut; they do not continue anything.
    pub(super) fn continues(&self, header: &BatchHeader, segment: &Segment) -> bool {
        header.incarnation >= self.incarnation
            && header.number > self.number
            && u64::from(header.position.offset()) + u64::from(header.length)
                <= u64::from(segment.length)
    }

    pub(super) fn record_at(
        &self,
        window: &mut Window<'_>,
        at: Position,
        end: Position,
        stamps: &[Stamp],
    ) -> Result<Option<RecordHeader>, LogError> {
        let io =
            |error: std::io::Error| LogError::io(format!("reading {}", window_name(at)), &error);
        let Some(bytes) = window.get(at.offset(), record::HEADER).map_err(io)? else {
            return Ok(None);
        };
        let fits = |header: &RecordHeader| {
            stamps.contains(&header.stamp)
                && u64::from(at.offset()) + header.len() as u64 <= u64::from(end.offset())
        };
        match RecordHeader::decode(bytes, at) {
            Ok(header) => Ok(Some(header).filter(fits)),
            Err(NotARecord::Bad) => Ok(None),
            Err(NotARecord::Newer { kind, version }) => Err(newer(at, kind, version)),
        }
    }

    /// Scans the records of a batch. Returns where the next batch is expected.
    fn records(
        &mut self,
        window: &mut Window<'_>,
        segment: &Segment,
        header: BatchHeader,
    ) -> Result<u32, LogError> {
        let io = |error: std::io::Error| io_error("reading", &segment.path, &error);
        let rows = header.position.offset() + batch::HEADER as u32;
        let bytes = window
            .get(rows, batch::ROW * header.count as usize)
            .map_err(io)?;
        let table = bytes.and_then(|bytes| header.table(bytes));
        if table.is_none() {
            // Told before its batch: in a torn tail the whole batch goes.
            self.hold(Found::Harmless {
                at: header.position,
                what: "the table of a batch",
            })?;
        }
        self.hold(Found::Batch(header))?;
        let stamps = [header.stamp];
        let end = header.end();
        let mut at = header.records();
        let mut count = 0;
        while at < end {
            // Recovery cut this batch here and went on with a batch of a new incarnation.
            if let Some(newer) = self.batch_at(window, segment, at.offset())?
                && newer.incarnation > header.incarnation
            {
                return Ok(at.offset());
            }
            let row = table.as_ref().and_then(|table| table.get(count)).copied();
            count += 1;
            let record = self.record_at(window, at, end, &stamps)?;
            if let Some(record) = record.filter(|record| row.is_none_or(|row| row.agrees(record))) {
                let deep = self.stream == Stream::Meta;
                let (head, head_good, payload_good) = self.parts(window, &record, deep)?;
                at = at.plus(record.len() as u32);
                self.hold(Found::Record {
                    header: record,
                    head,
                    head_good,
                    payload_good,
                })?;
                continue;
            }
            if let Some(newer) = self.find_batch(window, segment, at.offset()).map_err(io)?
                && newer.incarnation > header.incarnation
                && newer.position != end
            {
                // It was cut here, too, and the batch that says so is what is bad.
                self.resync(window, at, newer)?;
                return Ok(newer.position.offset());
            }
            if let Some(row) = row {
                self.hold(Found::BadRecord { position: at, row })?;
                at = at.plus(row.length);
            } else {
                let next = self.find_record(window, at.plus(8), end, &stamps)?;
                let to = next.map_or(end, |next| next.position);
                self.hold(Found::Unknown { from: at, to })?;
                at = to;
            }
        }
        Ok(end.offset())
    }

    /// The head of a record, if anybody needs it, and whether head and payload verify. Looks at the payload only if `deep`.
    pub(super) fn parts(
        &self,
        window: &mut Window<'_>,
        record: &RecordHeader,
        deep: bool,
    ) -> Result<(Bytes, bool, bool), LogError> {
        let io = |error: std::io::Error| {
            LogError::io(format!("reading {}", window_name(record.position)), &error)
        };
        let payload = record.position.offset() + record::HEADER as u32;
        let head = payload + record.payload_len;
        let mut good = |at, len: u32, crc| -> Result<(bool, Bytes), LogError> {
            let keeps = matches!(
                record.subject,
                Subject::Vote { .. } | Subject::Standing { .. }
            );
            Ok(match window.get(at, len as usize).map_err(io)? {
                Some(bytes) if crc32c(bytes) == crc => (
                    true,
                    if keeps {
                        Bytes::copy_from_slice(bytes)
                    } else {
                        Bytes::new()
                    },
                ),
                _ => (false, Bytes::new()),
            })
        };
        let payload_good = match deep && record.payload_len > 0 {
            true => good(payload, record.payload_len, record.payload_crc)?.0,
            false => true,
        };
        let (head_good, head) = match record.head_len {
            0 => (true, Bytes::new()),
            len => good(head, len, record.head_crc)?,
        };
        Ok((head, head_good, payload_good))
    }

    fn advance(&mut self, durable_end: Position) -> Result<(), LogError> {
        self.durable_end = self.durable_end.max(durable_end);
        while let Some(found) = self.held.front()
            && found.position() < self.durable_end
            && let Some(found) = self.held.pop_front()
        {
            (self.tell)(found)?;
        }
        Ok(())
    }

    pub(super) fn hold(&mut self, found: Found) -> Result<(), LogError> {
        if self.held.is_empty() && found.position() < self.durable_end {
            return (self.tell)(found);
        }
        self.held.push_back(found);
        Ok(())
    }

    /// Tells what is left up to the cut.
    fn finish(mut self, end: Position, sealed: bool, rest: bool) -> Result<End, LogError> {
        let mut cut = None;
        for found in std::mem::take(&mut self.held) {
            let at = found.position();
            if found.is_bad() || !self.verifies(&found)? {
                if crate::planted!("records-behind-a-torn-one-believed") {
                    continue;
                }
                cut = Some(at);
                break;
            }
            (self.tell)(found)?;
        }
        let position = cut.unwrap_or(end);
        let mut ends = std::mem::take(&mut self.ends);
        ends.retain(|end| end.segment() < position.segment());
        ends.push(position);
        // An unreadable page is not a torn one: it may be readable again, and then it holds what was acknowledged.
        if let Some(page) = self
            .unreadable
            .iter()
            .find(|page| **page >= self.durable_end)
        {
            return Err(LogError::Io {
                step: format!("reading the end of the {} stream at {page}", self.stream).into(),
                cause: "the disk returned an error".into(),
            });
        }
        Ok(End {
            position,
            durable_end: self.durable_end,
            sealed: sealed && cut.is_none(),
            number: self.number,
            incarnation: self.incarnation,
            torn: rest || cut.is_some(),
            scanned: self.scanned,
            any: self.any,
            ends,
        })
    }

    /// Looks at a payload that nobody looked at yet.
    fn verifies(&mut self, found: &Found) -> Result<bool, LogError> {
        let Found::Record { header, .. } = found else {
            return Ok(true);
        };
        if self.stream == Stream::Meta || header.payload_len == 0 {
            return Ok(true);
        }
        let Some(segment) = self.segments.get(&header.position.segment()) else {
            return Ok(false);
        };
        let mut window = Window::new(segment, self.stream);
        let good = self.parts(&mut window, header, true)?.2;
        self.unreadable.append(&mut window.unreadable);
        Ok(good)
    }
}

pub(super) fn window_name(at: Position) -> String {
    format!("the log at {at}")
}

fn newer(at: Position, kind: u8, version: u8) -> LogError {
    LogError::Newer {
        place: window_name(at).into(),
        what: format!("a record of kind {kind} and version {version}").into(),
    }
}
