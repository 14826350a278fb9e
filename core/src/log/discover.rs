//! Finds the segments of a log, and where in them recovery has to begin.
//!
//! Always true:
//! * a segment of another log, or under another's name, stops the start: nothing is guessed;
//! * recovery begins at or before the first record that anybody still needs. If the standing records that say where
//!   that is do not verify, it begins with the oldest segment.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::{self, BatchHeader};
use super::checksum::crc32c;
use super::damage::{Damage, Recovered, Scope};
use super::error::LogError;
use super::ledger::Standing;
use super::place::{Position, Stream};
use super::record::{self, RecordHeader, Subject};
use super::recovery::{Numbered, Site};
use super::segment::{FIRST_BATCH, HeaderPage, Segment, SegmentHeader, io_error};
use super::window::Window;
use crate::env::disk::{Disk, Open};
use crate::env::random;

/// Opens every segment there is. A log without any gets a new secret.
pub(super) async fn find_segments(
    disk: &dyn Disk,
    dir: &Path,
    recovered: &mut Recovered,
) -> Result<(u64, [Numbered; 2]), LogError> {
    let mut found = [Numbered::new(), Numbered::new()];
    let mut log_id = None;
    let mut bad = Vec::new();
    for entry in disk
        .list(dir)
        .map_err(|error| io_error("listing", dir, &error))?
    {
        let path = &entry.path;
        if path.extension().is_some_and(|extension| extension == "new") {
            disk.remove(path)
                .map_err(|error| io_error("removing", path, &error))?;
            continue;
        }
        let Some((stream, number)) = Segment::parse(path) else {
            continue;
        };
        let io = |error: std::io::Error| io_error("opening", path, &error);
        let file = disk.open(path, Open::ReadWrite).map_err(io)?;
        // Reading ahead would put zeros that were never written into the page cache, and then they count as data.
        file.expect_random_reads();
        let mut page = vec![0; FIRST_BATCH as usize];
        file.read_at(&mut page, 0).map_err(io)?;
        let foreign = |what: String| LogError::Io {
            step: format!("opening {}", path.display()).into(),
            cause: what.into(),
        };
        let mut length = u32::try_from(entry.len).unwrap_or(u32::MAX) / 4096 * 4096;
        match SegmentHeader::of_page(&page) {
            HeaderPage::Newer { version } => {
                return Err(LogError::Newer {
                    place: path.display().to_string().into(),
                    what: format!("a segment of version {version}").into(),
                });
            }
            HeaderPage::Bad => bad.push((stream, number)),
            HeaderPage::Good(header) | HeaderPage::Half(header) => {
                if (header.stream, header.number) != (stream, number) {
                    let other = Segment::name(header.stream, header.number);
                    return Err(foreign(format!("its header says that it is {other}")));
                }
                if *log_id.get_or_insert(header.log_id) != header.log_id {
                    return Err(foreign("it belongs to another log".to_owned()));
                }
                if matches!(SegmentHeader::of_page(&page), HeaderPage::Half(_)) {
                    bad.push((stream, number));
                }
                length = header.length;
            }
        }
        let segment = Segment {
            stream,
            number,
            length,
            path: path.clone(),
            file,
        };
        found[stream.at()].insert(number, Arc::new(segment));
    }
    let none = found.iter().all(Numbered::is_empty);
    let log_id = match log_id {
        Some(log_id) => log_id,
        None if none => random::u64(),
        None => {
            return Err(LogError::Io {
                step: format!("opening the log in {}", dir.display()).into(),
                cause: "no segment has a readable header".into(),
            });
        }
    };
    for (stream, number) in bad {
        let Some(segment) = found[stream.at()].get(&number) else {
            continue;
        };
        mend_header(segment, log_id).await?;
        recovered.damage.push(Damage {
            stream,
            position: Position::new(number, 0),
            scope: Scope::Nobody,
            what: "the header page of a segment".to_owned(),
        });
    }
    Ok((log_id, found))
}

/// Writes a damaged header page again: its file name and its neighbours say all that it said.
async fn mend_header(segment: &Segment, log_id: u64) -> Result<(), LogError> {
    let header = SegmentHeader {
        stream: segment.stream,
        number: segment.number,
        length: segment.length,
        log_id,
    };
    let io = |error: std::io::Error| io_error("mending the header of", &segment.path, &error);
    segment
        .file
        .write_at(&[header.page()], 0)
        .await
        .map_err(io)?;
    segment.file.sync_data().await.map_err(io)
}

/// Start of the first batch that exists at or after `at`, if `at` is one.
pub(super) fn first_batch_from(segments: &Numbered, at: Position) -> Position {
    let wanted = at.max(Position::new(1, FIRST_BATCH));
    match segments.range(wanted.segment()..).next() {
        Some((number, _)) if *number == wanted.segment() => {
            wanted.max(Position::new(*number, FIRST_BATCH))
        }
        Some((number, _)) => Position::new(*number, FIRST_BATCH),
        // Behind everything: take what there is.
        None => segments
            .keys()
            .next()
            .map_or(wanted, |first| Position::new(*first, FIRST_BATCH)),
    }
}

/// Where to begin with the meta stream: at the first record that anybody still needs.
pub(super) fn meta_start(
    site: &Site<'_>,
    meta: &Numbered,
    complete: Position,
) -> Result<Position, LogError> {
    for (number, segment) in meta.iter().rev() {
        let here = Position::new(*number, FIRST_BATCH);
        match standing_at_start(site, segment)? {
            // A spare, or its first batch is damaged. An earlier set reaches less far, but it reaches.
            None => continue,
            Some(Err(())) => break,
            Some(Ok(set)) => {
                let unpurged = set.iter().filter(|standing| standing.last.is_some());
                let floor = unpurged.map(|standing| standing.start).min();
                let start = floor.unwrap_or(here).min(here).min(complete);
                return Ok(first_batch_from(meta, start));
            }
        }
    }
    Ok(first_batch_from(meta, Position::ZERO))
}

/// The standing records at the start of a segment. `None`: no batch there. `Err`: not all of them verify.
#[allow(clippy::type_complexity)]
fn standing_at_start(
    site: &Site<'_>,
    segment: &Segment,
) -> Result<Option<Result<Vec<Standing>, ()>>, LogError> {
    let io = |error: std::io::Error| io_error("reading", &segment.path, &error);
    let mut window = Window::new(segment, Stream::Meta);
    let at = Position::new(segment.number, FIRST_BATCH);
    let Some(bytes) = window.get(FIRST_BATCH, batch::HEADER).map_err(io)? else {
        return Ok(None);
    };
    let Ok(header) = BatchHeader::decode(bytes, Stream::Meta, at, site.log_id) else {
        return Ok(None);
    };
    if header.flags & batch::STANDING == 0 || header.end().offset() > segment.length {
        return Ok(Some(Err(())));
    }
    let mut set = Vec::new();
    let mut at = header.records();
    while at < header.end() {
        let record = window.get(at.offset(), record::HEADER).map_err(io)?;
        let record = record.map(|bytes| RecordHeader::decode(bytes, at));
        let Some(Ok(record)) = record.filter(|record| {
            record.is_ok_and(|record| {
                record.stamp == header.stamp && matches!(record.subject, Subject::Standing { .. })
            })
        }) else {
            return Ok(Some(Err(())));
        };
        let from = at.offset() + record::HEADER as u32 + record.payload_len;
        let head = window.get(from, record.head_len as usize).map_err(io)?;
        let head = head.filter(|head| crc32c(head) == record.head_crc);
        match head.and_then(|head| Standing::decode(&Bytes::copy_from_slice(head))) {
            Some(standing) => set.push(standing),
            None => return Ok(Some(Err(()))),
        }
        at = at.plus(record.len() as u32);
    }
    Ok(Some(if set.len() == header.count as usize {
        Ok(set)
    } else {
        Err(())
    }))
}
