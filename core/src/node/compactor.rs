//! Giving room back: segments that hold little that is live are emptied, those that hold nothing are deleted.
//!
//! Always true:
//! * a segment is deleted only after a durable checkpoint of the places names nothing in it;
//! * one segment at a time is emptied, and room is made before more is moved: a full disk can be compacted, too;
//! * while rows of a group or of the places are lost to damage, nothing is deleted;
//! * a live record never moves for nothing: a segment is emptied only while the sealed part of the log is more than a
//!   quarter larger than what lives in it takes, least live first. With the four segments that are open or spare, the
//!   ballast and the runs, the data directory stays within 1.5 times what lives and 4 segments.

use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::running::Node;
use crate::chunk::store::log_failed;
use crate::engine::EngineError;
use crate::engine::places::{ItemsOfSegments, Places};
use crate::env::clock;
use crate::group::checkpoint;
use crate::group::read::unreadable;
use crate::kv::KvError;
use crate::log::{Item, Liveness, LogError, Place, SegmentInfo, Stream};

/// A segment with more live bytes than this part of it is never emptied: moving it gives too little back.
const MAX_LIVE: f64 = 0.85;
/// So many items of the next victims are listed in one pass through the table of places: with millions of objects the
/// pass costs more than the moving.
const LISTED: u64 = 256 << 10;
/// The sealed segments may be so much larger than what lives in them takes.
const SLACK: f64 = 1.25;

/// The table of places, with the items of the next victims at hand. A list may be old: a sealed segment only ever loses
/// items, and one that was dropped or moved meanwhile is passed over.
struct Listed<'a> {
    places: &'a Places,
    items: Mutex<ItemsOfSegments>,
}

impl Listed<'_> {
    fn new(places: &Places) -> Listed<'_> {
        Listed {
            places,
            items: Mutex::default(),
        }
    }

    fn has(&self, segment: &SegmentInfo) -> bool {
        let items = self.items.lock();
        items.contains_key(&(segment.stream, segment.number))
    }

    /// Lists what is live in as many of these as there may be items, at least in the first one.
    fn list(&self, victims: &[(SegmentInfo, u64)]) -> Result<(), EngineError> {
        let mut all = 0;
        let within = |(victim, _): &&(SegmentInfo, u64)| {
            let first = all == 0;
            all += self.places.live(victim.stream, victim.number).items;
            first || all <= LISTED
        };
        let segments: Vec<(Stream, u32)> = victims
            .iter()
            .take_while(within)
            .map(|(victim, _)| (victim.stream, victim.number))
            .collect();
        *self.items.lock() = self.places.items_in(&segments)?;
        Ok(())
    }
}

impl Liveness for Listed<'_> {
    fn live_in(&self, stream: Stream, segment: u32) -> (u64, u64) {
        self.places.live_in(stream, segment)
    }

    fn live_items(&self, stream: Stream, segment: u32) -> Result<Vec<(Item, Place)>, String> {
        match self.items.lock().remove(&(stream, segment)) {
            Some(items) => Ok(items),
            None => self.places.live_items(stream, segment),
        }
    }

    fn moved(&self, item: &Item, from: Place, to: Place) -> Result<bool, String> {
        self.places.moved(item, from, to)
    }
}

impl Node {
    /// One full round: every segment worth it is emptied and deleted.
    pub(super) async fn compact(&self) -> Result<(), KvError> {
        let _alone = self.compacting.lock().await;
        if self.lacks_rows() {
            return Ok(());
        }
        self.delete_dead().await?;
        if self.is_bloated() {
            self.let_go_of_the_log().await?;
            self.delete_dead().await?;
        }
        // Segments that could not be emptied in this round: what is damaged in one stays until somebody drops it.
        let mut stuck: Vec<(Stream, u32)> = Vec::new();
        let listed = Listed::new(&self.store.places);
        // Those that come to be in this round are for the next one: it ends, whatever they look like.
        let before = self.log.segments();
        while self.is_bloated() {
            let mut victims = self.log.victims(&self.store.places, MAX_LIVE);
            victims.retain(|(victim, live)| {
                *live > 0
                    && !stuck.contains(&(victim.stream, victim.number))
                    && before
                        .iter()
                        .any(|known| (known.stream, known.number) == (victim.stream, victim.number))
            });
            let Some((victim, live)) = victims.first().copied() else {
                return Ok(());
            };
            if !listed.has(&victim) {
                listed.list(&victims).map_err(unreadable)?;
            }
            tracing::debug!(stream = %victim.stream, segment = victim.number, live, "emptying a segment");
            let emptied = self
                .log
                .empty_segment(victim.stream, victim.number, &listed);
            match emptied.await {
                Ok(emptied) => {
                    self.compaction_moved
                        .fetch_add(emptied.bytes, Ordering::Relaxed);
                    for (item, what) in &emptied.damaged {
                        self.store.note_bad(*item, what.clone());
                        if let Ok(group) = self.router.groups.get(item.group()) {
                            group.replica.wants.add_bad_item(*item);
                        }
                    }
                    if !emptied.damaged.is_empty() {
                        stuck.push((victim.stream, victim.number));
                    }
                }
                Err(error @ LogError::Io { .. }) => {
                    self.store.note_bad_spot(error.to_string());
                    stuck.push((victim.stream, victim.number));
                }
                Err(error) => return Err(log_failed(error)),
            }
            self.delete_dead().await?;
        }
        Ok(())
    }

    /// Whether the sealed segments are much larger than what lies in them.
    fn is_bloated(&self) -> bool {
        let sealed = self
            .log
            .segments()
            .into_iter()
            .filter(|segment| !segment.open);
        let (mut bytes, mut live) = (0u64, 0u64);
        for segment in sealed {
            bytes += u64::from(segment.length);
            live += self.log.packed(&self.store.places, &segment);
        }
        bytes as f64 > live as f64 * SLACK
    }

    pub(super) fn live_in(&self, segment: &SegmentInfo) -> u64 {
        self.store.places.live(segment.stream, segment.number).bytes
    }

    /// Sealed meta segments that only unpurged entries need: a checkpoint of their groups lets go of them.
    async fn let_go_of_the_log(&self) -> Result<(), KvError> {
        let held = self
            .log
            .segments()
            .into_iter()
            .any(|segment| segment.stream == Stream::Meta && segment.needed && !segment.open);
        if !held {
            return Ok(());
        }
        for group in self.router.groups.all() {
            // A group that has stopped must not keep the others' segments.
            if let Err(error) = checkpoint::make(&group).await {
                tracing::debug!(group = %group.id, %error, "no checkpoint for compaction");
            }
        }
        // Purging is a record in the log: the writer notes it within a batch or two.
        clock::sleep(Duration::from_millis(50)).await;
        Ok(())
    }

    /// Deletes sealed segments that hold nothing.
    async fn delete_dead(&self) -> Result<(), KvError> {
        let dead: Vec<SegmentInfo> = self
            .log
            .segments()
            .into_iter()
            .filter(|segment| !segment.open && !segment.needed && self.live_in(segment) == 0)
            .collect();
        if dead.is_empty() {
            return Ok(());
        }
        let places = &self.store.places;
        if crate::planted!("segment-unlinked-too-early") {
            for segment in dead {
                let unlinked = self.log.unlink(segment.stream, segment.number).await;
                unlinked.map_err(log_failed)?;
            }
            return Ok(());
        }
        if dead.iter().any(|segment| !self.is_recorded(segment)) {
            self.store.checkpoint_places().await.map_err(unreadable)?;
        }
        for segment in dead {
            if !places.names(segment.stream, segment.number) && self.is_recorded(&segment) {
                let unlinked = self.log.unlink(segment.stream, segment.number).await;
                unlinked.map_err(log_failed)?;
            }
        }
        Ok(())
    }

    /// The durable checkpoint of the places covers the whole segment and names nothing in it.
    fn is_recorded(&self, segment: &SegmentInfo) -> bool {
        let complete = self.store.places.complete();
        let upto = match segment.stream {
            Stream::Meta => complete.meta,
            Stream::Blob => complete.blob,
        };
        upto.segment() > segment.number && !self.store.places.names(segment.stream, segment.number)
    }
}
