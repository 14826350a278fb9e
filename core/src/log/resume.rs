//! Makes what survived durable, and opens a stream for appending behind it.
//!
//! Always true:
//! * the bytes from D to the cut are written again, the same to the same place, and fsynced, before anything follows them;
//! * the opening batch is the first to carry its incarnation, and is durable before anything else that carries it.

use std::sync::Arc;

use super::batch::{self, Chain};
use super::checksum::Stamp;
use super::damage::Cut;
use super::error::LogError;
use super::keeper::BALLAST;
use super::place::{Position, Stream};
use super::record::Draft;
use super::recovery::{Numbered, Site};
use super::scan::End;
use super::segment::{CreateError, FIRST_BATCH, Segment, SegmentHeader, io_error};
use super::shared::Boundaries;

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

/// Makes what survives durable, and opens the stream for appending behind it.
pub(super) async fn go_on(
    site: &Site<'_>,
    stream: Stream,
    segments: &mut Numbered,
    end: End,
    mut boundaries: Boundaries,
    standing: &[Draft],
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
    if crate::planted!("recovered-tail-not-fsynced") {
        return Ok(0);
    }
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
    // With it the bytes before it would be fsynced, too, where they lie in the same segment.
    if crate::planted!("recovered-tail-not-fsynced") {
        return Ok(());
    }
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
    let mut made = Segment::create(site.disk, site.dir, header).await;
    if let Err(CreateError::Full(_)) = made {
        // What the ballast is for; the keeper reserves it again. If it is not there, the second try says so.
        let _ = site.disk.remove(&site.dir.join(BALLAST));
        made = Segment::create(site.disk, site.dir, header).await;
    }
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
