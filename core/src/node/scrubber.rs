//! The scrubber: reads everything on this node's disk that anybody may need, again and again, and has mended what is bad.
//!
//! ```text
//!   rows of each group, then places:  runs and twins, manifests      bad ── written anew from the twin (`healer`);
//!                                                                           from both: a whole state from a peer (`bring_back`)
//!   entries of each group's log that are not forgotten yet           bad ── a checkpoint, and the log forgets them
//!   every payload and frame that has a place                         bad ── fetched from a peer, written anew (`group::repair`)
//! ```
//! Most of what a store holds is never read again by anybody, and copies that rot one after the other are noticed when the
//! last one is gone. How often: `Limits::scrub_every`.
//!
//! Always true:
//! * it only reads, and tells others what it found; it reads the disk, never what memory has of it;
//! * how far it got is kept (`scrub`, twice), so that a node that restarts every day is read through, too;
//! * at most `STEP` bytes are read at a time, and never faster than `scrub_pace` says.
//!
//! Elsewhere: small files (`identity`, `boot`, `boots`) are read, and mended from their twins, by every start.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;

use super::running::Node;
use super::scrub_pace;
use super::twin_file::{Found, TwinFile};
use crate::chunk::store::ReadFault;
use crate::engine::damage::Damage;
use crate::engine::heal::ScrubPosition;
use crate::engine::place_key::PlaceKey;
use crate::engine::{Engine, EngineError};
use crate::env::clock::{self, Instant};
use crate::env::disk::Disk;
use crate::env::task;
use crate::group::read::unreadable;
use crate::group::{Group, checkpoint};
use crate::ids::GroupId;
use crate::kv::KvError;
use crate::log::Item;

/// Bytes that are read in one step, about.
const STEP: u64 = 1 << 20;
/// Items whose places are looked up together.
const PAGE: usize = 64;
/// Progress is written down this often at most, and this share of a period.
const KEEP_EVERY: Duration = Duration::from_secs(60);
const KEEP_SHARE: u32 = 200;

/// After something that could not be read for now.
const AGAIN: Duration = Duration::from_secs(1);

const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"minikvSB";

/// What the scrubber did since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScrubCounts {
    /// Bytes read; of runs each copy counts.
    pub bytes: u64,
    /// Passes through everything that ended.
    pub passes: u64,
    /// Files, entries and items that were bad.
    pub found: u64,
    /// Payloads and frames that were written anew from another member's, whoever found them bad.
    pub mended: u64,
    /// When the last pass ended, by the wall clock; 0: none did.
    pub last_pass_ms: u64,
}

/// How far a pass is. Also the body of the file `scrub`.
#[derive(Clone, PartialEq, Message)]
struct Progress {
    /// When it began, by the wall clock.
    #[prost(uint64, tag = "1")]
    began_ms: u64,
    /// Bytes read.
    #[prost(uint64, tag = "2")]
    done: u64,
    /// Which part: rows of each group, places, entries of each group, items.
    #[prost(uint32, tag = "3")]
    part: u32,
    /// The next entry.
    #[prost(uint64, tag = "4")]
    entry: u64,
    /// The last item, as the table of places names it.
    #[prost(bytes = "vec", tag = "5")]
    item: Vec<u8>,
    /// When the last pass ended, by the wall clock.
    #[prost(uint64, tag = "6")]
    last_pass_ms: u64,
}

/// A pass under way.
struct Pass {
    progress: Progress,
    /// When this process took it up, and how old it was then.
    taken_up: (Instant, Duration),
    /// Begins anew with the process: a store's runs are few, and change.
    run: ScrubPosition,
    kept: Instant,
    /// About how many bytes there are.
    total: u64,
    steps: u64,
    found: u64,
    /// All has been read; the next one begins when the period is over.
    is_over: bool,
}

/// What belongs to the scrubber of a node.
#[derive(Default)]
pub(super) struct Scrub {
    pass: tokio::sync::Mutex<Option<Pass>>,
    counts: Mutex<ScrubCounts>,
    read: AtomicU64,
}

fn file_in(dir: &Path) -> TwinFile {
    TwinFile::new(dir, "scrub", MAGIC)
}

/// What is known of the pass that was under way; nothing, if that cannot be read: then a new one begins.
fn kept(disk: &dyn Disk, dir: &Path) -> Option<Progress> {
    let Ok(Found::Whole { bodies, .. }) = file_in(dir).read(disk) else {
        return None;
    };
    let read = bodies
        .into_iter()
        .filter_map(|body| Progress::decode(body.bytes).ok());
    read.max_by_key(|progress| (progress.began_ms, progress.done))
}

impl Pass {
    fn begin(kept: Option<Progress>, period: Duration) -> Pass {
        let (now, wall) = (clock::now(), clock::wall_ms());
        let mut progress = kept.unwrap_or_default();
        let age = Duration::from_millis(wall.saturating_sub(progress.began_ms));
        // Also one that a clock ahead of this one began.
        if progress.began_ms == 0 || progress.began_ms > wall || age > 2 * period {
            progress.began_ms = wall;
        }
        let age = Duration::from_millis(wall - progress.began_ms);
        Pass {
            progress,
            taken_up: (now, age),
            run: ScrubPosition::default(),
            kept: now,
            total: 0,
            steps: 0,
            found: 0,
            is_over: false,
        }
    }

    fn elapsed(&self) -> Duration {
        let (at, age) = self.taken_up;
        age + (clock::now() - at)
    }
}

impl Node {
    /// What the scrubber did since the start.
    pub fn scrub_counts(&self) -> ScrubCounts {
        ScrubCounts {
            bytes: self.scrub.read.load(Ordering::Relaxed),
            mended: self.store.items_mended(),
            ..*self.scrub.counts.lock()
        }
    }

    /// Reads through everything once, as fast as it can. What was found bad is on its way to being mended when this returns.
    pub async fn scrub_now(&self) -> Result<(), KvError> {
        let mut pass = Pass::begin(None, self.options.limits.scrub_every);
        while self.scrub_step(&mut pass).await?.is_some() {
            task::yield_now().await;
        }
        self.end_pass(&pass);
        self.heal().await;
        Ok(())
    }

    /// One step of the pass under way; how long to wait before the next.
    pub(super) async fn scrub_turn(&self) -> Duration {
        let period = self.options.limits.scrub_every;
        let mut slot = self.scrub.pass.lock().await;
        let pass = slot.get_or_insert_with(|| {
            let kept = kept(&*self.env.disk, &self.options.data_dir);
            if let Some(kept) = &kept {
                self.scrub.counts.lock().last_pass_ms = kept.last_pass_ms;
            }
            Pass::begin(kept, period)
        });
        if pass.is_over {
            let rest = scrub_pace::rest(period, pass.elapsed());
            if !rest.is_zero() {
                return rest;
            }
            *pass = Pass::begin(None, period);
        }
        if pass.steps.is_multiple_of(256) {
            pass.total = self.scrub_total();
        }
        pass.steps += 1;
        match self.scrub_step(pass).await {
            Ok(Some(step)) => {
                pass.progress.done += step;
                pass.progress.last_pass_ms = self.scrub.counts.lock().last_pass_ms;
                if clock::now() - pass.kept >= KEEP_EVERY.max(period / KEEP_SHARE) {
                    self.keep_progress(pass).await;
                }
                let done = pass.progress.done;
                scrub_pace::wait(period, pass.elapsed(), done, pass.total, step)
            }
            Ok(None) => {
                self.end_pass(pass);
                pass.is_over = true;
                pass.progress = Progress {
                    last_pass_ms: self.scrub.counts.lock().last_pass_ms,
                    ..Progress::default()
                };
                self.keep_progress(pass).await;
                Duration::ZERO
            }
            Err(error) => {
                tracing::debug!(%error, "the scrubber could not go on");
                AGAIN
            }
        }
    }

    async fn keep_progress(&self, pass: &mut Pass) {
        pass.kept = clock::now();
        let (disk, file) = (self.env.disk.clone(), file_in(&self.options.data_dir));
        let body = pass.progress.encode_to_vec();
        let write = async move { file.write(&*disk, FORMAT, &body).await };
        let written = task::spawn_thread("scrub", write).await;
        if let Err(error) = written.map_err(io::Error::other).flatten() {
            tracing::debug!(%error, "how far the scrubber got was not written down");
        }
    }

    /// Bytes that a pass reads, about.
    fn scrub_total(&self) -> u64 {
        let metrics = self.metrics();
        let runs = self.router.groups.all();
        let runs = runs.map(|group| group.replica.engine.durable().bytes);
        let runs = runs.sum::<u64>() + self.store.places.store().set().bytes();
        metrics.log_live_bytes + 2 * runs
    }

    fn end_pass(&self, pass: &Pass) {
        let lost = self.lacks_rows();
        let whole = |group: Arc<Group>| self.log.hurt(group.id).is_whole();
        if pass.found == 0 && !lost && self.router.groups.all().all(whole) {
            self.store.all_found_whole();
        }
        // What rows name and what never got a place here was met by none of the reads above.
        let groups = self.router.groups.data();
        groups.for_each(|group| group.replica.wants.add_everything());
        let mut counts = self.scrub.counts.lock();
        counts.passes += 1;
        counts.last_pass_ms = clock::wall_ms();
        tracing::info!(found = pass.found, "everything was scrubbed");
    }

    fn found(&self, pass: &mut Pass, count: u64) {
        pass.found += count;
        self.scrub.counts.lock().found += count;
    }

    /// Reads a little. `None`: that was all. Answers the bytes.
    async fn scrub_step(&self, pass: &mut Pass) -> Result<Option<u64>, KvError> {
        let groups: Vec<GroupId> = self.router.groups.all().map(|group| group.id).collect();
        let (part, count) = (pass.progress.part as usize, groups.len());
        let step = if part < count {
            self.scrub_rows(pass, Some(groups[part])).await
        } else if part == count {
            self.scrub_rows(pass, None).await
        } else if part <= 2 * count {
            self.scrub_entries(pass, groups[part - count - 1]).await?
        } else if part == 2 * count + 1 {
            self.scrub_items(pass).await?
        } else {
            return Ok(None);
        };
        let read = step.unwrap_or_else(|| {
            pass.progress.part += 1;
            pass.progress.entry = 0;
            pass.progress.item.clear();
            pass.run = ScrubPosition::default();
            0
        });
        self.scrub.read.fetch_add(read, Ordering::Relaxed);
        Ok(Some(read))
    }

    /// Of a group, or of the places. `None`: no more of it.
    async fn scrub_rows(&self, pass: &mut Pass, group: Option<GroupId>) -> Option<u64> {
        let engine = group
            .and_then(|group| self.router.groups.get(group).ok())
            .map(|group| group.replica.engine.clone());
        let places = self.store.places.clone();
        let damage = move |engine: &Option<Arc<dyn Engine>>| match engine {
            Some(engine) => engine.damage(),
            None => places.damage(),
        };
        let (before, places) = (damage(&engine), self.store.places.clone());
        let (mut run, looked_at) = (pass.run, engine.clone());
        let (read, run) = task::blocking(move || {
            let mut read = None;
            while read.unwrap_or(0) < STEP {
                let block = match &looked_at {
                    Some(engine) => engine.scrub_next(&mut run),
                    None => places.scrub_next(&mut run),
                };
                match block {
                    Some(bytes) => read = Some(read.unwrap_or(0) + 2 * bytes),
                    None => break,
                }
            }
            (read, run)
        })
        .await;
        pass.run = run;
        let is_new = |bad: &&Damage| !before.iter().any(|known| known.file == bad.file);
        let new = damage(&engine).iter().filter(is_new).count();
        self.found(pass, new as u64);
        read
    }

    async fn scrub_entries(&self, pass: &mut Pass, group: GroupId) -> Result<Option<u64>, KvError> {
        let from = pass.progress.entry;
        let seen = self.log.look_at_entries(group, from, STEP / 4).await;
        let Some(next) = seen.next else {
            return Ok(None);
        };
        pass.progress.entry = next;
        if let Some(worst) = seen.damaged.last() {
            let damaged = &seen.damaged;
            tracing::error!(%group, ?damaged, "entries of the log are damaged");
            self.found(pass, damaged.len() as u64);
            let group = self.router.groups.get(group)?;
            if let Err(error) = checkpoint::let_go_of(&group, *worst).await {
                tracing::warn!(group = %group.id, %error, "the log keeps them for now");
            }
        }
        Ok(Some(seen.bytes))
    }

    async fn scrub_items(&self, pass: &mut Pass) -> Result<Option<u64>, KvError> {
        let after = match pass.progress.item.is_empty() {
            true => None,
            false => PlaceKey::read(&pass.progress.item)
                .and_then(|key| key.item())
                .ok(),
        };
        let items = match self.store.places.items(after.as_ref(), PAGE) {
            // What cannot be listed cannot be read either; its run is in the list of damage.
            Err(EngineError::Damaged { .. }) => return Ok(None),
            items => items.map_err(unreadable)?,
        };
        if items.is_empty() {
            return Ok(None);
        }
        let mut read = 0;
        for item in items {
            if crate::planted!("scrubber-believes-without-looking") {
                read += 1;
            } else {
                read += self.scrub_item(pass, item).await;
            }
            pass.progress.item = PlaceKey::of(&item).bytes().to_vec();
            if read >= STEP {
                break;
            }
        }
        Ok(Some(read))
    }

    async fn scrub_item(&self, pass: &mut Pass, item: Item) -> u64 {
        match self.store.read_item(item).await {
            Ok(bytes) => {
                self.store.found_whole(item);
                bytes.len() as u64
            }
            Err(ReadFault::Other(KvError::Damaged(_))) => {
                self.found(pass, 1);
                if let Ok(group) = self.router.groups.get(item.group()) {
                    group.replica.wants.add_bad_item(item);
                }
                0
            }
            // Dropped or moved meanwhile, or the node stops.
            Err(_) => 0,
        }
    }
}

/// Scrubs for as long as the node lives.
pub(super) async fn run(node: std::sync::Weak<Node>) {
    loop {
        let Some(node) = node.upgrade() else { return };
        let wait = node.scrub_turn().await;
        drop(node);
        clock::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The bytes of docs/formats/data-dir.md: an older version's progress is gone on with.
    #[test]
    fn progress_of_the_first_version_is_written_and_read_byte_for_byte() {
        let progress = Progress {
            began_ms: 1_793_491_200_000,
            done: 5 << 30,
            part: 19,
            entry: 0,
            item: vec![1, 0, 2],
            last_pass_ms: 1_792_281_600_000,
        };
        let bytes = file_in(Path::new("/data")).encode(FORMAT, &progress.encode_to_vec());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        let body = file_in(Path::new("/data")).decode(&bytes).unwrap();
        assert_eq!(Progress::decode(body.bytes).unwrap(), progress);
    }

    const GOLDEN: &str = "6d696e696b765342000000010000001b0880d09fa3993410808080801418132a030100023080c0bbe2943449d520b1";
}
