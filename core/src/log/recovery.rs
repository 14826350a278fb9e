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
//! Elsewhere: which segments there are (`discover`), the scan (`scan`, `replay`), appending again (`resume`).
//!
//! Always true:
//! * recovery may be cut at any operation and run again: it writes the same bytes to the same places, or one batch behind
//!   all that survives;
//! * bytes before D are never written;
//! * a log that holds what a newer program wrote is left as it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::damage::{Damage, Recovered, Scope, Seen};
use super::discover::{find_segments, first_batch_from, meta_start};
use super::error::LogError;
use super::group_log::GroupLog;
use super::ledger::Ledger;
use super::place::{Position, Stream};
use super::replay::{Replay, Replayout};
use super::resume::{Tail, go_on};
use super::scan::{End, Scan};
use super::segment::{FIRST_BATCH, Segment, io_error};
use super::shared::Boundaries;
use super::writer::standing_set;
use crate::env::disk::Disk;
use crate::ids::GroupId;

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
pub(super) struct Site<'a> {
    pub disk: &'a dyn Disk,
    pub dir: &'a Path,
    pub log_id: u64,
    pub segment_bytes: u32,
}

/// The segments of a stream.
pub(super) type Numbered = BTreeMap<u32, Arc<Segment>>;

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
    recovered.truncated = replayed.truncated;
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
