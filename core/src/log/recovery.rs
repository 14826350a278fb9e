//! Opens the log as a crash left it.
//!
//! ```text
//!   find segments -> find where to begin -> scan and replay -> write what survives behind D again, fsync
//!     -> append an opening batch (a new incarnation; meta: with standing records), fsync -> tell
//! ```
//! After a process kill the bytes behind D may only be in the page cache, and a power cut a moment later would take them
//! back. So nothing of them is used, answered or applied before they were written again and fsynced.
//!
//! The opening batch says where the cut was: a reader that expects a record and finds a batch of a higher
//! incarnation knows that recovery ended here. Old bytes behind it carry an older stamp and are never believed again.
//!
//! Always true:
//! * recovery may be cut at any operation and run again: it writes the same bytes to the same places, or one batch behind
//!   all that survives;
//! * bytes before D are never written;
//! * a log that holds what a newer program wrote is left as it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::{self, BatchHeader, Chain};
use super::checksum::Stamp;
use super::damage::{Cut, Damage, Recovered, Scope, Seen};
use super::error::LogError;
use super::group_log::GroupLog;
use super::ledger::{Ledger, Standing};
use super::place::{Position, Stream};
use super::record::{self, RecordHeader, Subject};
use super::replay::{Replay, Replayout};
use super::scan::{End, Scan};
use super::segment::{FIRST_BATCH, HeaderPage, Segment, SegmentHeader, io_error};
use super::shared::Boundaries;
use super::window::Window;
use super::writer::standing_set;
use crate::env::disk::{Disk, Open};
use crate::env::random;
use crate::ids::GroupId;

/// What is written again is read in pieces of this length.
const PIECE: usize = 1 << 20;

/// A recovered stream, ready to be appended to.
pub(super) struct Tail {
    pub segment: Arc<Segment>,
    pub offset: u32,
    pub chain: Chain,
    pub boundaries: Boundaries,
    pub spare: Option<Arc<Segment>>,
}

/// A recovered log.
pub(super) struct Opened {
    pub log_id: u64,
    pub segments: Vec<Arc<Segment>>,
    pub tails: [Tail; 2],
    pub groups: BTreeMap<GroupId, GroupLog>,
    pub ledger: Ledger,
    pub recovered: Recovered,
    pub seen: Vec<Seen>,
}

/// Everything recovery needs to know about where it works.
struct Site<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    log_id: u64,
    segment_bytes: u32,
}

type Numbered = BTreeMap<u32, Arc<Segment>>;

/// Recovers the log in `dir`, or makes a new one. Items before `complete` are in the table of places already.
pub(super) async fn recover(
    disk: &dyn Disk,
    dir: &Path,
    segment_bytes: u32,
    complete: [Position; 2],
) -> Result<Opened, LogError> {
    disk.create_dir_all(dir)
        .map_err(|error| io_error("making", dir, &error))?;
    if let Some(parent) = dir.parent() {
        let synced = disk.sync_dir(parent).await;
        synced.map_err(|error| io_error("fsyncing", parent, &error))?;
    }
    let mut recovered = Recovered::default();
    let (log_id, [mut meta, mut blob]) = find_segments(disk, dir, &mut recovered).await?;
    let site = Site {
        disk,
        dir,
        log_id,
        segment_bytes,
    };

    let start = meta_start(&site, &meta, complete[0])?;
    let (meta_end, replayed) = replay(&site, Stream::Meta, &meta, start, complete[0])?;
    let start = first_batch_from(&blob, complete[1]);
    let (blob_end, items) = replay(&site, Stream::Blob, &blob, start, complete[1])?;

    recovered.scanned = meta_end.scanned + blob_end.scanned;
    recovered.damage.extend(replayed.damage);
    recovered.damage.extend(items.damage);
    let groups = replayed.groups.iter();
    recovered.groups = groups.map(|(group, log)| (*group, log.state())).collect();

    let standing = standing_set(&replayed.ledger);
    let mut cuts = Vec::new();
    let meta_tail = go_on(
        &site,
        Stream::Meta,
        &mut meta,
        meta_end,
        replayed.boundaries,
        &standing,
        &mut cuts,
    )
    .await?;
    let blob_tail = go_on(
        &site,
        Stream::Blob,
        &mut blob,
        blob_end,
        items.boundaries,
        &[],
        &mut cuts,
    )
    .await?;
    recovered.cuts = cuts;

    let mut seen = replayed.seen;
    seen.extend(items.seen);
    Ok(Opened {
        log_id,
        segments: meta.into_values().chain(blob.into_values()).collect(),
        tails: [meta_tail, blob_tail],
        groups: replayed.groups,
        ledger: replayed.ledger,
        recovered,
        seen,
    })
}

/// Opens every segment there is. A log without any gets a new secret.
async fn find_segments(
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
    let none = found.iter().all(BTreeMap::is_empty);
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
fn first_batch_from(segments: &Numbered, at: Position) -> Position {
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
fn meta_start(site: &Site<'_>, meta: &Numbered, complete: Position) -> Result<Position, LogError> {
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
        let head = head.filter(|head| super::checksum::crc32c(head) == record.head_crc);
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

/// Scans and replays a stream. If nothing is where it should begin, it begins earlier.
fn replay(
    site: &Site<'_>,
    stream: Stream,
    segments: &Numbered,
    start: Position,
    complete: Position,
) -> Result<(End, Replayout), LogError> {
    let first = segments
        .keys()
        .next()
        .map_or(start, |first| Position::new(*first, FIRST_BATCH));
    let mut tries = vec![start, Position::new(start.segment(), FIRST_BATCH), first];
    tries.dedup();
    let mut outcome = None;
    for start in tries {
        let boundaries = Boundaries::new(site.segment_bytes);
        let mut replay = Replay::new(stream, start, complete, boundaries);
        let mut tell = |found| replay.take(found);
        let end = Scan::new(segments, stream, site.log_id, &mut tell).run(start)?;
        let sound = end.any;
        outcome = Some((end, replay.finish()));
        if sound {
            break;
        }
    }
    let (end, mut out) = outcome.ok_or(LogError::Closed)?;
    // The table of places saw a durable batch begin at `complete`.
    if complete > Position::ZERO && end.position <= complete {
        out.damage.push(Damage {
            stream,
            position: end.position,
            scope: match stream {
                Stream::Meta => Scope::AllGroups,
                Stream::Blob => Scope::SomeItems,
            },
            what: format!("the stream ends before {complete}, which was durable"),
        });
        for (group, log) in &mut out.groups {
            log.tail_lost = true;
            log.vote_lost = true;
            if let Some(standing) = out.ledger.groups.get_mut(group) {
                standing.tail_lost = true;
                standing.vote_lost = true;
            }
        }
    }
    Ok((end, out))
}

/// Makes what survives durable, and opens the stream for appending behind it.
async fn go_on(
    site: &Site<'_>,
    stream: Stream,
    segments: &mut Numbered,
    end: End,
    mut boundaries: Boundaries,
    standing: &[record::Draft],
    cuts: &mut Vec<Cut>,
) -> Result<Tail, LogError> {
    let rewritten = rewrite(segments, &end).await?;
    cuts.push(Cut {
        stream,
        position: end.position,
        rewritten,
        torn: end.torn,
    });

    let incarnation = end.incarnation + 1;
    let mut chain = Chain {
        stream,
        stamp: Stamp::of(site.log_id, incarnation),
        incarnation,
        number: end.number + 1,
    };
    let flags = batch::OPENING
        | if stream == Stream::Meta {
            batch::STANDING
        } else {
            0
        };
    let mut at = end.position;
    let mut durable_end = end.position;
    let length = |at| batch::lay_out(&chain, flags, at, at, standing.iter()).length as usize;
    let room = |at: Position, segments: &Numbered| {
        segments
            .get(&at.segment())
            .map_or(0, |s| s.length.saturating_sub(at.offset()) as usize)
    };
    if !end.any && room(at, segments) == 0 {
        // A new stream: its first segment comes first.
        at = Position::new(at.segment(), FIRST_BATCH);
        next_segment(site, stream, segments, at.segment()).await?;
    } else if end.sealed || room(at, segments) < length(at) + batch::EMPTY {
        if !end.sealed && room(at, segments) >= batch::EMPTY {
            let seal = batch::lay_out(&chain, batch::OPENING | batch::SEALED, at, at, [].iter());
            write(segments, at, &seal).await?;
            chain.number += 1;
            durable_end = at.plus(seal.length);
        }
        at = Position::new(at.segment() + 1, FIRST_BATCH);
        next_segment(site, stream, segments, at.segment()).await?;
    }
    let opening = batch::lay_out(&chain, flags, at, durable_end, standing.iter());
    write(segments, at, &opening).await?;
    boundaries.note(at);
    chain.number += 1;

    let spare = take_spare(site, segments, at.segment())?;
    let segment = segments.get(&at.segment()).cloned();
    Ok(Tail {
        segment: segment.ok_or(LogError::Closed)?,
        offset: at.offset() + opening.length,
        chain,
        boundaries,
        spare,
    })
}

/// Writes the bytes from D to the cut again, the same to the same place, and fsyncs them.
async fn rewrite(segments: &Numbered, end: &End) -> Result<u64, LogError> {
    let mut rewritten = 0;
    for stop in &end.ends {
        let Some(segment) = segments.get(&stop.segment()) else {
            continue;
        };
        let mut from = match stop.segment().cmp(&end.durable_end.segment()) {
            std::cmp::Ordering::Less => continue,
            std::cmp::Ordering::Equal => end.durable_end.offset(),
            std::cmp::Ordering::Greater => FIRST_BATCH,
        };
        if from >= stop.offset() {
            continue;
        }
        let io = |error: std::io::Error| io_error("writing again", &segment.path, &error);
        while from < stop.offset() {
            let mut piece = vec![0; PIECE.min((stop.offset() - from) as usize)];
            let read = segment
                .file
                .read_at(&mut piece, u64::from(from))
                .map_err(io)?;
            if read < piece.len() {
                return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
            }
            rewritten += piece.len() as u64;
            let at = u64::from(from);
            from += piece.len() as u32;
            segment
                .file
                .write_at(&[piece.into()], at)
                .await
                .map_err(io)?;
        }
        segment.file.sync_data().await.map_err(io)?;
    }
    Ok(rewritten)
}

async fn write(segments: &Numbered, at: Position, batch: &batch::Batch) -> Result<(), LogError> {
    let Some(segment) = segments.get(&at.segment()) else {
        return Err(LogError::Closed);
    };
    let io = |error: std::io::Error| io_error("opening", &segment.path, &error);
    segment
        .file
        .write_at(&batch.parts, u64::from(at.offset()))
        .await
        .map_err(io)?;
    segment.file.sync_data().await.map_err(io)
}

/// Makes sure that segment `number` is there.
async fn next_segment(
    site: &Site<'_>,
    stream: Stream,
    segments: &mut Numbered,
    number: u32,
) -> Result<(), LogError> {
    if segments.contains_key(&number) {
        return Ok(());
    }
    let header = SegmentHeader {
        stream,
        number,
        length: site.segment_bytes,
        log_id: site.log_id,
    };
    let made = Segment::create(site.disk, site.dir, header).await;
    let segment = made.map_err(|error| io_error("making a segment in", site.dir, error.cause()))?;
    segments.insert(number, Arc::new(segment));
    Ok(())
}

/// The segment behind the current one is the spare. Others behind it are leftovers.
fn take_spare(
    site: &Site<'_>,
    segments: &mut Numbered,
    current: u32,
) -> Result<Option<Arc<Segment>>, LogError> {
    let mut spare = None;
    for (number, segment) in segments.split_off(&(current + 1)) {
        if number == current + 1 {
            spare = Some(segment);
        } else {
            let path = &segment.path;
            site.disk
                .remove(path)
                .map_err(|error| io_error("removing", path, &error))?;
        }
    }
    Ok(spare)
}
