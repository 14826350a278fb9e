//! Who may write, before anything is queued: back-pressure by bytes, and room on the disk.
//!
//! Nothing waits inside the log: a Raft core that waited there would miss its heartbeats. Whoever is about to propose,
//! or to write chunk frames, first takes a permit for so many bytes, and keeps it until they are settled.
//!
//! Room is decided before a write is proposed, because openraft ends a Raft instance for good at the first I/O error.
//! Above the *soft mark* everything is admitted. Below it only what gives room back, or is small and vital, goes on, out of the
//! ballast: one segment of each stream and one overlay budget, all reserved ahead.
//!
//! Always true:
//! * ordinary writes are admitted again only when the ballast is whole;
//! * votes are never refused for room.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::LogError;
use super::options::LogOptions;
use super::place::Stream;

/// Bytes that may be queued; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    _bytes: OwnedSemaphorePermit,
}

/// Semaphores over the bytes that are on their way to the disk.
pub(super) struct Admission {
    streams: [(Arc<Semaphore>, u32); 2],
}

impl Admission {
    pub(super) fn new(options: &LogOptions) -> Admission {
        let of = |bytes: u32| (Arc::new(Semaphore::new(bytes as usize)), bytes);
        Admission {
            streams: [of(options.meta_queue_bytes), of(options.blob_queue_bytes)],
        }
    }

    /// Waits until `bytes` more may be queued. First come, first served.
    pub(super) async fn admit(&self, stream: Stream, bytes: usize) -> Result<Permit, LogError> {
        let (semaphore, all) = &self.streams[stream.at()];
        // Whoever wants more than there is gets all of it, alone.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(*all);
        let taken = Arc::clone(semaphore).acquire_many_owned(bytes).await;
        match taken {
            Ok(permit) => Ok(Permit { _bytes: permit }),
            Err(_) => Err(LogError::Closed),
        }
    }

    pub(super) fn close(&self) {
        self.streams
            .iter()
            .for_each(|(semaphore, _)| semaphore.close());
    }
}

/// What a write is for, as far as room is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteKind {
    /// Takes room: PUT, open stage, part, copy.
    Ordinary,
    /// Gives room back or is needed to do so: deletes, aborts, releases, checkpoints, compaction; AppendEntries on followers.
    Releasing,
    /// Votes and heartbeats.
    Vital,
}

/// Room on the disk as it was seen last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Room {
    /// Size of the file system.
    pub capacity: u64,
    /// What may still be written to it.
    pub free: u64,
    /// Ordinary writes need this much: two segments and two overlay budgets.
    pub soft_mark: u64,
    /// All of the ballast is there.
    pub ballast_whole: bool,
    /// Bytes of meta records that fit into segments already reserved, but for a rest that is kept for votes.
    pub meta_left: u64,
    /// Bytes of frames that fit into segments already reserved.
    pub blob_left: u64,
}

impl Room {
    /// Whether ordinary writes may be proposed.
    pub fn above_soft_mark(&self) -> bool {
        self.ballast_whole && self.free >= self.soft_mark
    }

    /// Whether a write of this kind may be proposed.
    pub fn admits(&self, kind: WriteKind) -> bool {
        match kind {
            WriteKind::Ordinary => self.above_soft_mark(),
            WriteKind::Releasing => self.above_soft_mark() || self.meta_left > 0,
            WriteKind::Vital => true,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures::FutureExt;

    #[test]
    fn bytes_in_flight_are_bounded_and_come_back() {
        let options = LogOptions {
            meta_queue_bytes: 100,
            ..LogOptions::default()
        };
        let admission = Admission::new(&options);
        let admit = |bytes| admission.admit(Stream::Meta, bytes).now_or_never();
        let first = admit(60).unwrap().unwrap();
        assert!(admit(60).is_none());
        drop(first);
        let all = admit(1 << 40).unwrap().unwrap();
        assert!(admit(1).is_none());
        drop(all);
        admission.close();
        assert_eq!(admit(1).unwrap().unwrap_err(), LogError::Closed);
    }

    #[test]
    fn below_the_mark_only_what_gives_room_back_goes_on() {
        let room = Room {
            capacity: 1000,
            free: 100,
            soft_mark: 50,
            ballast_whole: true,
            meta_left: 10,
            blob_left: 10,
        };
        use WriteKind::{Ordinary, Releasing, Vital};
        let admitted = |room: Room| [Ordinary, Releasing, Vital].map(|kind| room.admits(kind));
        assert_eq!(admitted(room), [true, true, true]);
        assert_eq!(admitted(Room { free: 49, ..room }), [false, true, true]);
        let broken = Room {
            ballast_whole: false,
            ..room
        };
        assert_eq!(
            admitted(broken),
            [false, true, true],
            "refill the ballast first"
        );
        let used_up = Room {
            meta_left: 0,
            ..broken
        };
        assert_eq!(admitted(used_up), [false, false, true]);
    }
}
