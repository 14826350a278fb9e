//! A map of the bytes of a sound log: what lies where. Read by the same decoders, but without any of recovery's cleverness.

use std::ops::Range;
use std::path::PathBuf;

use super::harness::dir;
use crate::env::sim::SimDisk;
use crate::log::Stream;
use crate::log::batch::{self, BatchHeader};
use crate::log::place::Position;
use crate::log::record::{self, RecordHeader, Subject};
use crate::log::segment::{FIRST_BATCH, HeaderPage, Segment, SegmentHeader};

/// What some bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    SegmentHeader,
    BatchHeader,
    Table,
    RecordHeader(Subject),
    Payload(Subject),
    Head(Subject),
    Padding,
}

/// Some bytes of a segment.
#[derive(Clone, Debug)]
pub struct Spot {
    pub path: PathBuf,
    pub bytes: Range<u64>,
    pub what: What,
    pub position: Position,
    /// It is in the last batch of its stream, which nothing covers.
    pub last: bool,
}

/// The secret of the log on this disk.
pub fn log_id(disk: &SimDisk) -> u64 {
    let page = disk.contents(dir().join(Segment::name(Stream::Meta, 1)));
    let (HeaderPage::Good(header) | HeaderPage::Half(header)) =
        SegmentHeader::of_page(&page.unwrap())
    else {
        panic!("no header")
    };
    header.log_id
}

/// Every spot of a stream, in order.
pub fn layout(disk: &SimDisk, stream: Stream) -> Vec<Spot> {
    let log_id = log_id(disk);
    let mut spots: Vec<Spot> = Vec::new();
    for (path, _) in disk.files() {
        let Some((of, number)) = Segment::parse(&path) else {
            continue;
        };
        if of != stream {
            continue;
        }
        let bytes = disk.contents(&path).unwrap();
        let mut add = |range: Range<u32>, what| {
            spots.push(Spot {
                path: path.clone(),
                bytes: u64::from(range.start)..u64::from(range.end),
                what,
                position: Position::new(number, range.start),
                last: false,
            });
        };
        add(0..FIRST_BATCH, What::SegmentHeader);
        let mut at = Position::new(number, FIRST_BATCH);
        let from = |at: Position| bytes.get(at.offset() as usize..).unwrap_or_default();
        while let Ok(header) = BatchHeader::decode(from(at), stream, at, log_id) {
            let table = at.offset() + batch::HEADER as u32;
            add(at.offset()..table, What::BatchHeader);
            let mut record = header.records();
            if table < record.offset() {
                add(table..record.offset(), What::Table);
            }
            while record < header.end()
                && let Ok(found) = RecordHeader::decode(from(record), record)
            {
                let start = record.offset();
                let payload = start + record::HEADER as u32;
                let head = payload + found.payload_len;
                let end = head + found.head_len;
                add(start..payload, What::RecordHeader(found.subject));
                add(payload..head, What::Payload(found.subject));
                add(head..end, What::Head(found.subject));
                record = record.plus(found.len() as u32);
                add(end..record.offset(), What::Padding);
            }
            at = record;
        }
    }
    spots.retain(|spot| !spot.bytes.is_empty());
    let last = spots
        .iter()
        .rposition(|spot| spot.what == What::BatchHeader)
        .unwrap();
    spots[last..].iter_mut().for_each(|spot| spot.last = true);
    spots
}
