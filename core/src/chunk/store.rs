//! Where bytes lie on this node: the log that holds them and the table of their places, used together.
//!
//! Always true:
//! * what is read is what was asked for: the record names its item and verifies, and so does an inline content's own
//!   checksum, end to end;
//! * a place that went away under a reader (compaction moved the bytes) is looked up once more, and no more than once;
//! * the places' checkpoint says up to where each stream is recorded in it, and never claims more: that point is taken
//!   before the table's moment, and entries that are not applied yet hold it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::frames::{Cut, FrameAt};
use crate::engine::EngineError;
use crate::engine::places::Places;
use crate::ids::{ChunkId, GroupId, PayloadId, StageId, VShard};
use crate::kv::KvError;
use crate::log::{Item, Log, LogError, Place, Position, ReadError, Stream};
use crate::state::apply::Dropped;
use crate::state::entry::crc64;
use crate::state::record::ChunkRun;

/// Tells up to where a group has applied its log.
pub(crate) trait AppliedUpTo: Send + Sync {
    fn group(&self) -> GroupId;
    fn applied(&self) -> u64;
}

/// See the file's header.
pub(crate) struct Store {
    pub log: Log,
    pub places: Places,
    /// All groups of the node: what they have not applied is not recorded.
    groups: RwLock<Vec<Arc<dyn AppliedUpTo>>>,
    /// Checkpoints of the places that were asked for; and the last of them that a finished one covers.
    asked: AtomicU64,
    covered: tokio::sync::Mutex<u64>,
    damage: Mutex<Vec<String>>,
}

/// Damaged items are listed by name up to so many.
const LISTED: usize = 1000;

impl Store {
    pub(crate) fn new(log: Log, places: Places) -> Store {
        Store {
            log,
            places,
            groups: RwLock::default(),
            asked: AtomicU64::new(0),
            covered: tokio::sync::Mutex::new(0),
            damage: Mutex::default(),
        }
    }

    pub(crate) fn watch(&self, group: Arc<dyn AppliedUpTo>) {
        self.groups.write().push(group);
    }

    // ---- recording and forgetting ----

    /// Records the place of an entry's payload; the entry is durable.
    pub(crate) fn record_payload(&self, payload: PayloadId) -> Result<(), EngineError> {
        match self.log.place(payload) {
            Some(place) => self.places.put(&[(Item::Payload(payload), place)]),
            None => Err(EngineError::GivenUp(format!(
                "{} has no place although it is durable",
                Item::Payload(payload)
            ))),
        }
    }

    /// Forgets bytes that nothing names.
    pub(crate) fn forget<'a>(
        &self,
        dropped: impl Iterator<Item = &'a Dropped>,
    ) -> Result<(), EngineError> {
        let mut items = Vec::new();
        for one in dropped {
            match one {
                Dropped::Payload(payload) => items.push(Item::Payload(*payload)),
                Dropped::Chunks(run) => items.extend(items_of(run)),
                Dropped::Stage(vshard, stage) => items.extend(self.staged(*vshard, *stage)?),
            }
        }
        self.places.remove(&items)
    }

    /// Everything here that was written under a stage.
    fn staged(&self, vshard: VShard, stage: StageId) -> Result<Vec<Item>, EngineError> {
        self.places.under_stage(vshard, stage)
    }

    // ---- writing ----

    /// Writes frames of a chunk; durable and recorded when this returns.
    pub(crate) async fn write_frames(
        &self,
        frames: Vec<(Item, Bytes)>,
    ) -> Result<(), KvError> {
        let items: Vec<Item> = frames.iter().map(|(item, _)| *item).collect();
        let written = self.log.write_frames(frames).await.map_err(log_failed)?;
        let places: Vec<(Item, Place)> = items.into_iter().zip(written.places.iter().copied()).collect();
        self.places.put(&places).map_err(crate::group::read::unreadable)?;
        // The stream may be called complete up to here only now.
        drop(written.hold);
        Ok(())
    }

    // ---- reading ----

    async fn read(&self, item: Item) -> Result<Bytes, KvError> {
        let mut last = None;
        for _ in 0..2 {
            let place = self.places.get(&item).map_err(crate::group::read::unreadable)?;
            let Some(place) = place else {
                return Err(KvError::Unavailable(format!(
                    "{item} is not here; it was overwritten or deleted while it was read"
                )));
            };
            match self.log.read(place, &item).await {
                Ok(bytes) => return Ok(bytes),
                Err(error @ ReadError::Damaged(_)) => {
                    self.note_damage(error.to_string());
                    return Err(KvError::Damaged(error.to_string()));
                }
                Err(ReadError::Gone) if last.is_none() => last = Some(place),
                Err(ReadError::Gone) => {
                    let what = format!("{item} at {place}: its segment is missing");
                    self.note_damage(what.clone());
                    return Err(KvError::Damaged(what));
                }
                Err(error @ ReadError::Io(_)) => return Err(KvError::Unavailable(error.to_string())),
            }
        }
        Err(KvError::Unavailable(format!("{item} moves too fast")))
    }

    /// An inline content, checked end to end.
    pub(crate) async fn read_inline(
        &self,
        payload: PayloadId,
        offset: u32,
        len: u32,
        checksum: u64,
    ) -> Result<Bytes, KvError> {
        let bytes = self.read(Item::Payload(payload)).await?;
        let end = offset as usize + len as usize;
        let damaged = |what: &str| {
            let what = format!("{}: {what}", Item::Payload(payload));
            self.note_damage(what.clone());
            KvError::Damaged(what)
        };
        if bytes.len() < end {
            return Err(damaged("it is shorter than the object"));
        }
        let content = bytes.slice(offset as usize..end);
        if crc64(&content) != checksum {
            return Err(damaged("the object's checksum does not match"));
        }
        Ok(content)
    }

    /// A frame of a run, whole.
    pub(crate) async fn read_frame(&self, run: &ChunkRun, at: FrameAt, len: u32) -> Result<Bytes, KvError> {
        let item = item_of(run, at);
        let bytes = self.read(item).await?;
        if bytes.len() != len as usize {
            let what = format!("{item} has {} bytes instead of {len}", bytes.len());
            self.note_damage(what.clone());
            return Err(KvError::Damaged(what));
        }
        Ok(bytes)
    }

    /// Frames of a run that have no place here.
    pub(crate) fn missing(&self, run: &ChunkRun) -> Result<Vec<Item>, EngineError> {
        let mut missing = Vec::new();
        for item in items_of(run) {
            if self.places.get(&item)?.is_none() {
                missing.push(item);
            }
        }
        Ok(missing)
    }

    // ---- damage ----

    pub(crate) fn note_damage(&self, what: String) {
        tracing::error!(%what, "damage");
        let mut damage = self.damage.lock();
        if damage.len() < LISTED && !damage.contains(&what) {
            damage.push(what);
        }
    }

    pub(crate) fn damage(&self) -> Vec<String> {
        self.damage.lock().clone()
    }

    // ---- checkpoints of the places ----

    pub(crate) fn overlay_bytes(&self) -> usize {
        self.places.overlay_bytes()
    }

    /// Bytes that the meta stream has taken since the process started.
    pub(crate) fn meta_written(&self) -> u64 {
        self.log.written(Stream::Meta)
    }

    /// Makes the places durable as they are at some moment after this call. Calls that come together share one.
    pub(crate) async fn checkpoint_places(&self) -> Result<(), EngineError> {
        let mine = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut covered = self.covered.lock().await;
        if *covered >= mine {
            return Ok(());
        }
        let covers = self.asked.load(Ordering::Acquire);
        // First up to where the streams are recorded, then the table's moment: never the other way round.
        let complete = [self.meta_complete(), self.log.complete_up_to(Stream::Blob, None)];
        self.places.checkpoint(complete).await?;
        *covered = covers;
        Ok(())
    }

    /// The meta stream is recorded up to the first entry of any group that has not been applied.
    fn meta_complete(&self) -> Position {
        let end = self.log.durable_end(Stream::Meta);
        let unapplied = self
            .groups
            .read()
            .iter()
            .filter_map(|group| self.log.position(group.group(), group.applied() + 1))
            .min();
        let not_after = unapplied.map_or(end, |position| position.min(end));
        self.log.complete_up_to(Stream::Meta, Some(not_after))
    }
}

fn item_of(run: &ChunkRun, at: FrameAt) -> Item {
    Item::Frame {
        chunk: ChunkId {
            vshard: run.vshard,
            stage: run.stage,
            ordinal: at.chunk,
        },
        frame: at.frame,
    }
}

/// All frames of a run.
pub(crate) fn items_of(run: &ChunkRun) -> impl Iterator<Item = Item> + '_ {
    let cut = Cut::of(run.chunk_size);
    let frames = cut.into_iter().flat_map(|cut| cut.frames(run.len));
    frames.map(|at| item_of(run, at))
}

pub(crate) fn log_failed(error: LogError) -> KvError {
    match error {
        LogError::Closed => KvError::Unavailable("the node is stopping".to_owned()),
        error => KvError::Unknown(error.to_string()),
    }
}
