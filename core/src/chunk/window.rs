//! The bounded window of frames of one body that are on their way to the members of its group.
//!
//! ```text
//!   member 1   [ 7 ][ 8 ][   ]     places: at most so many frames of the body are kept for one member
//!   member 2   [ 5 ][ 6 ][ 7 ]     full: the body waits a moment, then frames pass this member by
//!                 └── answered: counted first, then the place is free, then whoever waits for the last answer is woken
//! ```
//! Always true:
//! * no member has more frames under way than it has places, as the tally counts them;
//! * an answer is counted before its place is given to another frame, and whoever waits for all answers is woken by the last;
//! * frames pass a member by only while the others are enough.
//!
//! Elsewhere: what a copy is and who sends it (`replicate`), what the answers come to (`tally`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::{Either, select};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::frames::FrameAt;
use super::tally::Tally;
use crate::env::sync::{Mutex, Notify};
use crate::ids::NodeId;
use crate::state::record::Copies;

/// Frames under way to one member.
struct Lane {
    node: NodeId,
    room: Arc<Semaphore>,
    /// Its last answer did not come, or its lane was full for too long.
    is_behind: AtomicBool,
}

/// See the file's header.
pub(super) struct Window {
    lanes: Vec<Lane>,
    tally: Mutex<Tally>,
    answered: Notify,
}

/// A frame's place in the lane of one member, until it is answered.
pub(super) struct Place {
    window: Arc<Window>,
    lane: usize,
    at: FrameAt,
    room: OwnedSemaphorePermit,
}

impl Window {
    /// So many places for each of these members.
    pub(super) fn new(members: impl IntoIterator<Item = u64>, places: usize) -> Arc<Window> {
        let lane = |node| Lane {
            node: NodeId(node),
            room: Arc::new(Semaphore::new(places)),
            is_behind: AtomicBool::default(),
        };
        Arc::new(Window {
            lanes: members.into_iter().map(lane).collect(),
            tally: Mutex::default(),
            answered: Notify::default(),
        })
    }

    /// Places for the next frame of the body: with all members, but for those that are behind while the others are
    /// `enough`. `patience` is how long the body waits for one whose lane is full.
    pub(super) async fn places<P: Future<Output = ()>>(
        self: &Arc<Self>,
        at: FrameAt,
        enough: impl Fn(&BTreeSet<u64>) -> bool,
        patience: impl Fn() -> P,
    ) -> Vec<Place> {
        let (mut taken, mut full) = (Vec::new(), Vec::new());
        for (number, lane) in self.lanes.iter().enumerate() {
            let room = match lane.room.clone().try_acquire_owned() {
                Ok(room) => Some(room),
                Err(_) if lane.is_behind.load(Ordering::Relaxed) => None,
                Err(_) => {
                    let acquired = std::pin::pin!(lane.room.clone().acquire_owned());
                    match select(acquired, std::pin::pin!(patience())).await {
                        Either::Left((room, _)) => room.ok(),
                        Either::Right(_) => None,
                    }
                }
            };
            match room {
                Some(room) => taken.push((number, room)),
                None => {
                    lane.is_behind.store(true, Ordering::Relaxed);
                    full.push(number);
                }
            }
        }
        for number in full {
            let nodes = taken.iter().map(|(lane, _)| self.lanes[*lane].node.0);
            if enough(&nodes.collect()) {
                break;
            }
            // Every copy ends in time, so there is room in time.
            if let Ok(room) = self.lanes[number].room.clone().acquire_owned().await {
                taken.push((number, room));
            }
        }
        self.tally.lock().sent(at, taken.len());
        let place = |(lane, room)| Place {
            window: self.clone(),
            lane,
            at,
            room,
        };
        taken.into_iter().map(place).collect()
    }

    /// Waits until no answer is outstanding.
    pub(super) async fn all_answered(&self) {
        loop {
            // Before the look: an answer that comes in between is not missed.
            let answered = self.answered.notified();
            if !self.tally.lock().is_waiting() {
                return;
            }
            answered.await;
        }
    }

    /// Who holds what, as far as is known.
    pub(super) fn list(&self) -> Vec<Copies> {
        self.tally.lock().list()
    }
}

impl Place {
    /// Whose it is.
    pub(super) fn node(&self) -> NodeId {
        self.window.lanes[self.lane].node
    }

    /// The member said that the frame is durable there, and in which life it said so; or nothing of the kind.
    pub(super) fn answered(self, stored: Option<u64>) {
        let lane = &self.window.lanes[self.lane];
        self.window
            .tally
            .lock()
            .answered(self.at, lane.node.0, stored);
        lane.is_behind.store(stored.is_none(), Ordering::Relaxed);
        self.window.answered.notify_waiters();
        drop(self.room);
    }
}

#[cfg(all(test, feature = "interleave"))]
mod interleaved {
    //! A body and its copies in every order that shuttle can think of, as `log::interleaved`.

    #![allow(clippy::unwrap_used)]

    use shuttle::future::block_on;
    use shuttle::thread;

    use super::*;

    /// Schedules tried at random, and as many that change their mind at few places.
    const SCHEDULES: usize = 3_000;
    /// Places of a member.
    const PLACES: usize = 2;
    /// Frames of the body, each a chunk of its own.
    const FRAMES: u32 = 4;
    /// In which the members answer.
    const LIFE: u64 = 7;

    fn in_every_order(body: fn()) {
        shuttle::check_random(body, SCHEDULES);
        shuttle::check_pct(body, SCHEDULES, 3);
    }

    fn at(chunk: u32) -> FrameAt {
        FrameAt { chunk, frame: 0 }
    }

    /// Sends a body; each copy is a thread. `is_stored`: what a member says of a chunk.
    fn send(
        window: &Arc<Window>,
        patience: fn() -> futures::future::Either<
            futures::future::Pending<()>,
            futures::future::Ready<()>,
        >,
        is_stored: fn(u64, u32) -> bool,
    ) -> Vec<(u32, u64)> {
        let mut sent = Vec::new();
        let mut copies = Vec::new();
        for chunk in 0..FRAMES {
            let enough = |nodes: &BTreeSet<u64>| nodes.len() >= 2;
            let places = block_on(window.places(at(chunk), enough, patience));
            assert!(places.len() >= 2, "a frame went to too few");
            let under_way = window.tally.lock().outstanding();
            assert!(
                under_way <= PLACES * window.lanes.len(),
                "{under_way} frames are under way"
            );
            for place in places {
                sent.push((chunk, place.node().0));
                copies.push(thread::spawn(move || {
                    let is_stored = is_stored(place.node().0, chunk);
                    place.answered(is_stored.then_some(LIFE));
                }));
            }
        }
        // Whoever waits is woken by the last answer; else shuttle says that nobody can go on.
        block_on(window.all_answered());
        copies.into_iter().for_each(|copy| copy.join().unwrap());
        sent
    }

    fn named(window: &Window) -> BTreeSet<(u32, u64)> {
        let lines = window.list();
        let chunks = lines.iter().flat_map(|copies| {
            let chunks = copies.first..copies.first + copies.count;
            chunks.flat_map(|chunk| copies.holders.keys().map(move |node| (chunk, *node)))
        });
        chunks.collect()
    }

    /// The window is never exceeded, its end is noticed, and a claim names exactly those that said "stored".
    #[test]
    fn a_claim_names_exactly_those_that_said_stored() {
        in_every_order(|| {
            let window = Window::new([1, 2, 3], PLACES);
            // Member 2 fails one frame; nobody is so slow that frames pass it by.
            let is_stored = |node, chunk| (node, chunk) != (2, 1);
            let patient = || Either::Left(futures::future::pending());
            let sent = send(&window, patient, is_stored);
            let stored = sent
                .into_iter()
                .filter(|(chunk, node)| is_stored(*node, *chunk));
            assert_eq!(named(&window), stored.collect());
        });
    }

    /// A body that waits for nobody passes members by, and names them for nothing that it did not send them.
    #[test]
    fn who_was_passed_by_is_not_named() {
        in_every_order(|| {
            let window = Window::new([1, 2, 3], PLACES);
            let impatient = || Either::Right(futures::future::ready(()));
            let sent = send(&window, impatient, |_, _| true);
            assert_eq!(named(&window), sent.into_iter().collect());
        });
    }
}
