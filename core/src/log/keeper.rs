//! Makes segments ahead of their use, keeps the ballast whole, and looks at the room on the disk.
//!
//! The ballast is what a full disk still has to give: the two spare segments, which the writers take anyway, and a file
//! that reserves one overlay budget. Making a segment blocks (room is reserved, its header is fsynced), which is why it happens
//! here and not in a writer.
//!
//! Always true:
//! * "no room" is never an error: it is remembered, ordinary writes stop being admitted, and it is tried again;
//! * any other failure of the disk here ends the log, as it does in a writer.

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;

use super::admission::Room;
use super::error::LogError;
use super::place::Stream;
use super::segment::{CreateError, Segment, SegmentHeader, io_error, is_full};
use super::shared::Shared;
use crate::env::clock;
use crate::env::disk::{Disk, Open};

/// Name of the file that reserves an overlay budget.
pub(super) const BALLAST: &str = "ballast";

/// Works until the log stops or fails.
pub(super) async fn run(shared: Arc<Shared>) {
    let worked = AssertUnwindSafe(work(&shared)).catch_unwind().await;
    if let Err(panic) = worked {
        // Without a keeper the writers would wait for segments for ever, and nobody would know why.
        shared.fail(LogError::Dead("the keeper panicked".into()));
        std::panic::resume_unwind(panic);
    }
}

async fn work(shared: &Shared) {
    while !shared.stopping() {
        if let Err(error) = tend(shared).await {
            shared.fail(error);
            return;
        }
        // A poke that came meanwhile is kept for us.
        let _ = clock::timeout(shared.options.room_every, shared.poke_keeper.notified()).await;
    }
}

/// One round: refill what is missing, then look how much is left.
pub(super) async fn tend(shared: &Shared) -> Result<(), LogError> {
    let mut short = false;
    for stream in Stream::ALL {
        let state = shared.stream(stream);
        let Some(number) = state.spare.missing() else {
            continue;
        };
        let header = SegmentHeader {
            stream,
            number,
            length: shared.segment_bytes,
            log_id: shared.log_id,
        };
        match Segment::create(&*shared.disk, &shared.dir, header).await {
            Ok(segment) => {
                state.spare.put(segment);
            }
            Err(CreateError::Full(_)) => short = true,
            Err(CreateError::Failed(error)) => {
                let path = shared.dir.join(Segment::name(stream, header.number));
                return Err(LogError::Dead(
                    io_error("making", &path, &error).to_string().into(),
                ));
            }
        }
    }
    short |= !reserve_overlay(shared).await?;
    shared.ballast_short.store(short, Ordering::Release);
    look(shared)
}

fn ballast(shared: &Shared) -> PathBuf {
    shared.dir.join(BALLAST)
}

/// Reserves room for one overlay, unless someone borrowed it. `false`: the disk is too full.
async fn reserve_overlay(shared: &Shared) -> Result<bool, LogError> {
    let budget = shared.options.overlay_budget;
    let path = ballast(shared);
    let dead =
        |error: io::Error| LogError::Dead(io_error("reserving", &path, &error).to_string().into());
    if budget == 0 || shared.overlay_reserved.load(Ordering::Acquire) {
        return Ok(true);
    }
    if shared.overlay_borrowed.load(Ordering::Acquire) > 0 {
        return Ok(false);
    }
    let reserved = || {
        shared.overlay_reserved.store(true, Ordering::Release);
        Ok(true)
    };
    let file = match shared.disk.open(&path, Open::ReadWrite) {
        Ok(file) if file.len().map_err(dead)? == budget => return reserved(),
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match shared.disk.open(&path, Open::CreateNew) {
                Ok(file) => file,
                Err(error) if is_full(&error) => return Ok(false),
                Err(error) => return Err(dead(error)),
            }
        }
        Err(error) => return Err(dead(error)),
    };
    file.set_len(0).map_err(dead)?;
    match file.allocate(budget) {
        Ok(()) => reserved(),
        Err(error) if is_full(&error) => {
            // Half a ballast helps nobody; and its length is what says that it is whole.
            drop(file);
            shared.disk.remove(&path).map_err(dead)?;
            Ok(false)
        }
        Err(error) => Err(dead(error)),
    }
}

/// Before the log is open: gives the ballast of the log in `dir` back, for a start that met a full disk. The keeper reserves
/// it again. Whether there was one.
pub fn give_up_ballast(disk: &dyn Disk, dir: &Path) -> bool {
    disk.remove(&dir.join(BALLAST)).is_ok()
}

/// Gives the overlay's part of the ballast back to the file system, for a checkpoint that has no other room.
pub(super) fn lend_overlay(shared: &Shared) -> io::Result<()> {
    shared.overlay_reserved.store(false, Ordering::Release);
    match shared.disk.remove(&ballast(shared)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Looks how much room there is.
pub(super) fn look(shared: &Shared) -> Result<(), LogError> {
    let space = shared
        .disk
        .space(&shared.dir)
        .map_err(|error| io_error("looking for room in", &shared.dir, &error))?;
    let segment = u64::from(shared.segment_bytes);
    let left = |stream: Stream| {
        let state = shared.stream(stream);
        let spare = state
            .spare
            .look(|spare| spare.map_or(0, |spare| u64::from(spare.length)));
        u64::from(state.left.load(Ordering::Acquire)) + spare
    };
    let room = Room {
        capacity: space.capacity,
        free: space.free,
        soft_mark: 2 * segment + 2 * shared.options.overlay_budget,
        ballast_whole: !shared.ballast_short.load(Ordering::Acquire),
        // Votes must find room when nothing else does.
        meta_left: left(Stream::Meta).saturating_sub(segment / 16),
        blob_left: left(Stream::Blob),
    };
    let before = std::mem::replace(&mut *shared.room.lock(), room);
    if before.above_soft_mark() != room.above_soft_mark() && before != Room::default() {
        tracing::warn!(
            free = room.free,
            mark = room.soft_mark,
            ballast_whole = room.ballast_whole,
            admits_writes = room.above_soft_mark(),
            "room on the disk"
        );
    }
    Ok(())
}
