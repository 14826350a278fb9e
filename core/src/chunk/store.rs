//! Where bytes lie on this node: the log that holds them and the table of their places, used together.
//!
//! Always true:
//! * what is read is what was asked for: the record names its item and verifies, and so does an inline content's own
//!   checksum, end to end;
//! * a place that went away under a reader (compaction moved the bytes) is looked up once more, and no more than once;
//! * bytes that do not verify are read once more before they count as damaged: a device may also misread;
//! * what is damaged is written anew only from bytes that verify, elsewhere, and its place changes only from the bad one;
//! * the places' checkpoint says up to where each stream is recorded in it, and never claims more: that point is taken
//!   before the table's moment, and entries that are not applied yet hold it back.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::frames::{Cut, FrameAt, Piece};
use super::incoming::Watched;
use crate::engine::EngineError;
use crate::engine::places::Places;
use crate::group::read::unreadable;
use crate::ids::{ChunkId, GroupId, PayloadId, StageId, VShard};
use crate::kv::KvError;
use crate::log::{Frame, Item, Log, LogError, OverlayLoan, Place, ReadError, Stream};
use crate::state::apply::Dropped;
use crate::state::entry::crc64;
use crate::state::record::ChunkRun;

/// Tells up to where a group has applied its log.
pub(crate) trait AppliedUpTo: Send + Sync {
    fn group(&self) -> GroupId;
    fn applied(&self) -> Option<u64>;
}

/// See the file's header.
pub(crate) struct Store {
    pub log: Arc<Log>,
    pub places: Places,
    /// All groups of the node: what they have not applied is not recorded.
    /// They hold this store: held the other way round, too, nothing of a stopped node would ever be freed.
    groups: RwLock<Vec<Weak<dyn AppliedUpTo>>>,
    damage: Mutex<Vec<Bad>>,
    healed: Mutex<Vec<String>>,
    /// Items that were bad and were written anew.
    mended: AtomicU64,
    /// What recovery found in the log, and no state was asked about yet.
    recovered: Mutex<Unjudged>,
    /// Bodies of large objects that arrive now.
    pub(super) arriving: AtomicUsize,
}

/// What recovery found in the log and nobody may name: a crash may have come between its writing and its forgetting.
#[derive(Default)]
pub(crate) struct Unjudged {
    /// Stages with frames.
    pub stages: BTreeSet<(VShard, StageId)>,
    /// Payloads that were written anew, or moved, and that the table of places did not know.
    pub payloads: BTreeSet<PayloadId>,
}

/// Something that is damaged.
struct Bad {
    of: BadOf,
    what: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BadOf {
    /// What lies here of an item.
    Item(Item),
    /// What should lie here.
    Missing(Item),
    /// A spot that somebody met: whether anybody still needs it, the scrubber finds out.
    Spot,
}

impl BadOf {
    fn item(self) -> Option<Item> {
        match self {
            BadOf::Item(item) | BadOf::Missing(item) => Some(item),
            BadOf::Spot => None,
        }
    }
}

/// Why bytes could not be read.
#[derive(Clone, Debug)]
pub(crate) enum ReadFault {
    /// There is no place for them here: they were dropped meanwhile, or lost.
    Absent(Item),
    /// Anything else.
    Other(KvError),
}

impl From<KvError> for ReadFault {
    fn from(error: KvError) -> ReadFault {
        ReadFault::Other(error)
    }
}

/// Whether a frame lies here.
enum Already {
    Here,
    /// No, or it is damaged; and its place.
    Not(Option<Place>),
}

/// Why a frame was not kept.
#[derive(Clone, Debug)]
pub(crate) enum NotKept {
    /// What it was for ended, or ended meanwhile.
    Closed,
    /// Other bytes lie here under its name. Says which name.
    OtherBytes(String),
    /// Anything else.
    Failed(KvError),
}

impl From<KvError> for NotKept {
    fn from(error: KvError) -> NotKept {
        NotKept::Failed(error)
    }
}

/// Damaged items are listed by name up to so many.
const LISTED: usize = 1000;

impl Store {
    pub(crate) fn new(log: Arc<Log>, places: Places) -> Store {
        Store {
            log,
            places,
            groups: RwLock::default(),
            damage: Mutex::default(),
            healed: Mutex::default(),
            mended: AtomicU64::new(0),
            recovered: Mutex::default(),
            arriving: AtomicUsize::new(0),
        }
    }

    /// How many bodies of large objects arrive now.
    pub(crate) fn arriving(&self) -> usize {
        self.arriving.load(Ordering::Relaxed)
    }

    pub(crate) fn watch(&self, group: &Arc<impl AppliedUpTo + 'static>) {
        let group: Weak<dyn AppliedUpTo> = Arc::downgrade(group) as _;
        self.groups.write().push(group);
    }

    // ---- recording and forgetting ----

    /// Records the place of an entry's payload; the entry is durable.
    pub(crate) fn record_payload(&self, payload: PayloadId) -> Result<(), EngineError> {
        match self.log.place_of(payload) {
            Some(place) => self.places.insert(&Item::Payload(payload), place).map(drop),
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
        for one in dropped {
            match one {
                Dropped::Payload(payload) => {
                    self.places.remove(&Item::Payload(*payload))?;
                }
                Dropped::Chunks(run) => {
                    self.places
                        .remove_stage(run.vshard, run.stage, 0..run.count)?;
                }
                Dropped::Stage(vshard, stage) => {
                    self.places.remove_stage(*vshard, *stage, 0..u32::MAX)?;
                }
            }
            self.strike(one);
        }
        Ok(())
    }

    /// Nobody misses what was dropped.
    fn strike(&self, dropped: &Dropped) {
        let mut damage = self.damage.lock();
        if damage.is_empty() {
            return;
        }
        damage.retain(|bad| match (bad.of.item(), dropped) {
            (Some(Item::Payload(bad)), Dropped::Payload(id)) => bad != *id,
            (Some(Item::Frame { chunk, .. }), Dropped::Chunks(run)) => chunk.stage != run.stage,
            (Some(Item::Frame { chunk, .. }), Dropped::Stage(_, stage)) => chunk.stage != *stage,
            _ => true,
        });
    }

    // ---- writing ----

    /// Writes a frame, if it is not here yet; durable and recorded when this returns. `watched`: its stage, from before
    /// the state was asked whether it may be written.
    pub(crate) async fn write_frame(&self, frame: Frame, watched: &Watched) -> Result<(), NotKept> {
        let item = Item::Frame {
            chunk: frame.chunk,
            frame: frame.frame,
        };
        let mut before = match self.already(&item, &frame.bytes).await? {
            Already::Here => return Ok(()),
            Already::Not(before) => before,
        };
        let bytes = frame.bytes.clone();
        let written = self.log.append_frames(vec![frame]).await;
        let written = written.map_err(log_failed)?;
        // Held until all is recorded: the stream may be called complete up to here only then.
        let _hold = written.hold;
        let Some(place) = written.places.first().copied() else {
            return Err(KvError::Unknown(format!("{item} was written nowhere")).into());
        };
        loop {
            let recorded = watched.unless_dropped(|| self.places.record_if(&item, before, place));
            match recorded.transpose().map_err(unreadable)? {
                Some(true) => return Ok(()),
                // Nobody names it any more.
                None => {
                    self.places.void(place);
                    return Err(NotKept::Closed);
                }
                // The same frame came twice at the same time, or compaction moved the one that was here.
                Some(false) => match self.already(&item, &bytes).await {
                    Ok(Already::Not(now)) => before = now,
                    here => {
                        self.places.void(place);
                        return here.map(drop);
                    }
                },
            }
        }
    }

    /// Writes a payload that is bad where it lies (`before`), or lies nowhere; durable and recorded when this returns, unless
    /// somebody dropped or moved it meanwhile.
    pub(crate) async fn rewrite_payload(
        &self,
        payload: PayloadId,
        before: Option<Place>,
        bytes: Bytes,
    ) -> Result<(), NotKept> {
        let item = Item::Payload(payload);
        let written = self.log.append_payloads(vec![(payload, bytes)]).await;
        let written = written.map_err(log_failed)?;
        // Held until it is recorded: the stream may be called complete up to here only then.
        let _hold = written.hold;
        let Some(place) = written.places.first().copied() else {
            return Err(KvError::Unknown(format!("{item} was written nowhere")).into());
        };
        let recorded = self.places.record_if(&item, before, place);
        if !recorded.map_err(unreadable)? {
            self.places.void(place);
        }
        Ok(())
    }

    /// Whether these very bytes lie here under this name.
    async fn already(&self, item: &Item, bytes: &Bytes) -> Result<Already, NotKept> {
        let place = self.places.get(item).map_err(unreadable)?;
        if place.is_none() {
            return Ok(Already::Not(None));
        }
        match self.read_item(*item).await {
            Ok(there) if there == *bytes => Ok(Already::Here),
            Ok(_) => Err(NotKept::OtherBytes(item.to_string())),
            Err(ReadFault::Absent(_)) => Ok(Already::Not(None)),
            // What lies here is bad: it is written anew.
            Err(ReadFault::Other(KvError::Damaged(_))) => Ok(Already::Not(place)),
            Err(ReadFault::Other(error)) => Err(error.into()),
        }
    }

    // ---- reading ----

    pub(crate) async fn read_item(&self, item: Item) -> Result<Bytes, ReadFault> {
        let (mut looked_at, mut again) = (None, true);
        loop {
            let place = self.places.get(&item).map_err(unreadable)?;
            let Some(place) = place else {
                return Err(ReadFault::Absent(item));
            };
            match self.log.read(place, &item).await {
                Ok(bytes) => return Ok(bytes),
                // Compaction moved it after we looked: the table knows better now, once.
                Err(ReadError::Gone) if looked_at.replace(place).is_none() => {}
                Err(ReadError::Gone) => {
                    return Err(
                        self.bad(item, format!("{item} at {place}: its segment is missing"))
                    );
                }
                // Once more: a bad read is not yet a bad disk.
                Err(ReadError::Damaged(_) | ReadError::Io(_)) if std::mem::take(&mut again) => {}
                // What the device does not give back is as good as damaged.
                Err(ReadError::Damaged(what) | ReadError::Io(what)) => {
                    return Err(self.bad(item, what.to_string()));
                }
            }
        }
    }

    fn bad(&self, item: Item, what: String) -> ReadFault {
        self.note_bad(item, what.clone());
        ReadFault::Other(KvError::Damaged(what))
    }

    /// An inline content, checked end to end.
    pub(crate) async fn read_inline(
        &self,
        payload: PayloadId,
        offset: u32,
        len: u32,
        checksum: u64,
    ) -> Result<Bytes, ReadFault> {
        let item = Item::Payload(payload);
        let bytes = self.read_item(item).await?;
        let end = offset as usize + len as usize;
        if bytes.len() < end {
            return Err(self.bad(item, format!("{item} is shorter than its object")));
        }
        let content = bytes.slice(offset as usize..end);
        if crc64(&content) != checksum {
            let what = format!("{item}: the object's checksum does not match");
            return Err(self.bad(item, what));
        }
        Ok(content)
    }

    /// A frame of a run, whole.
    pub(crate) async fn read_frame(
        &self,
        run: &ChunkRun,
        at: FrameAt,
        len: u32,
    ) -> Result<Bytes, ReadFault> {
        let item = item_of(run, at);
        let bytes = self.read_item(item).await?;
        if bytes.len() != len as usize {
            let found = bytes.len();
            let what = format!("{item} has {found} bytes instead of {len}");
            return Err(self.bad(item, what));
        }
        Ok(bytes)
    }

    /// Whether a frame of a run is here: has a place, and with `read` also: verifies.
    pub(crate) async fn has_frame(
        &self,
        run: &ChunkRun,
        piece: &Piece,
        read: bool,
    ) -> Result<bool, KvError> {
        if !read {
            let place = self.places.get(&item_of(run, piece.at));
            return Ok(place.map_err(unreadable)?.is_some());
        }
        match self.read_frame(run, piece.at, piece.frame_len).await {
            Ok(_) => Ok(true),
            Err(ReadFault::Absent(_) | ReadFault::Other(KvError::Damaged(_))) => Ok(false),
            Err(ReadFault::Other(error)) => Err(error),
        }
    }

    /// Recovery found these in the log.
    pub(crate) fn note_recovered(&self, mut found: Unjudged) {
        let mut recovered = self.recovered.lock();
        recovered.stages.append(&mut found.stages);
        recovered.payloads.append(&mut found.payloads);
    }

    /// What recovery found of a group, as far as its state (applied so far) can know it; told once.
    pub(crate) fn recovered(&self, group: GroupId, applied: u64) -> Unjudged {
        let mut recovered = self.recovered.lock();
        let stages = recovered.stages.extract_if(.., |(_, stage)| {
            stage.group == group && stage.index <= applied
        });
        let stages = stages.collect();
        let payloads = recovered
            .payloads
            .extract_if(.., |id| id.group == group && id.index <= applied);
        let payloads = payloads.collect();
        Unjudged { stages, payloads }
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

    /// An item is damaged here: the note goes when it is mended or dropped.
    pub(crate) fn note_bad(&self, item: Item, what: String) {
        self.note(BadOf::Item(item), what);
    }

    /// An item should lie here and does not.
    pub(crate) fn note_missing(&self, item: Item, what: String) {
        self.note(BadOf::Missing(item), what);
    }

    /// A spot is damaged: the note goes when all that somebody needs was found whole.
    pub(crate) fn note_bad_spot(&self, what: String) {
        self.note(BadOf::Spot, what);
    }

    fn note(&self, of: BadOf, what: String) {
        let mut damage = self.damage.lock();
        if damage.iter().any(|known| known.what == what) {
            return;
        }
        tracing::error!(%what, "damage");
        if damage.len() < LISTED {
            damage.push(Bad { of, what });
        }
    }

    /// What is damaged, a line each.
    pub(crate) fn damage(&self) -> Vec<String> {
        let damage = self.damage.lock();
        damage.iter().map(|bad| bad.what.clone()).collect()
    }

    /// An item was bad here and was written anew.
    pub(crate) fn mended(&self, item: Item) {
        self.mended.fetch_add(1, Ordering::Relaxed);
        let what = self.found_whole(item).unwrap_or_else(|| item.to_string());
        self.note_healed(format!("{what}; written again from another member"));
    }

    /// An item is whole where it lies. What was noted of it: of a copy that nobody needs any more, perhaps.
    pub(crate) fn found_whole(&self, item: Item) -> Option<String> {
        let mut damage = self.damage.lock();
        let is_of_it = |bad: &mut Bad| bad.of.item() == Some(item);
        let gone: Vec<Bad> = damage.extract_if(.., is_of_it).collect();
        gone.into_iter().next().map(|bad| bad.what)
    }

    /// Everything that anybody needs was read, and found whole: what is still noted lies beside it.
    pub(crate) fn all_found_whole(&self) {
        let gone = |item: &Item| self.places.get(item).is_ok_and(|place| place.is_none());
        self.damage.lock().retain(|bad| match &bad.of {
            BadOf::Missing(_) => true,
            BadOf::Item(item) => !gone(item),
            BadOf::Spot => false,
        });
    }

    /// Items that were bad and were written anew since the start.
    pub(crate) fn items_mended(&self) -> u64 {
        self.mended.load(Ordering::Relaxed)
    }

    /// Notes what was bad and is whole again.
    pub(crate) fn note_healed(&self, what: String) {
        tracing::warn!(%what, "healed");
        let mut healed = self.healed.lock();
        if healed.len() < LISTED {
            healed.push(what);
        }
    }

    pub(crate) fn healed(&self) -> Vec<String> {
        self.healed.lock().clone()
    }

    // ---- checkpoints of the places ----

    pub(crate) fn overlay_bytes(&self) -> usize {
        self.places.overlay_bytes()
    }

    /// Bytes that the meta stream has taken since the process started.
    pub(crate) fn meta_written(&self) -> u64 {
        self.log.metrics(Stream::Meta).bytes
    }

    /// Makes the places durable, with every change made before this call.
    pub(crate) async fn checkpoint_places(&self) -> Result<(), EngineError> {
        // First up to where the streams are recorded, then the table's moment: never the other way round.
        let applied: Vec<(GroupId, Option<u64>)> = {
            let groups = self.groups.read();
            groups
                .iter()
                .filter_map(Weak::upgrade)
                .map(|group| (group.group(), group.applied()))
                .collect()
        };
        // With a relaxed fsync policy the table would become durable before the records that it names; and a segment is
        // unlinked because this table says that its bytes lie elsewhere.
        let synced = self.log.sync().await;
        synced.map_err(|error| EngineError::GivenUp(error.to_string()))?;
        let complete = self.log.complete_up_to(&applied);
        let _loan = self.room_for_checkpoint()?;
        self.places.checkpoint(complete).await
    }

    /// Room for a checkpoint, out of the ballast when the disk has none; to be kept until it is written.
    pub(crate) fn room_for_checkpoint(&self) -> Result<Option<OverlayLoan>, EngineError> {
        let room = self.log.room_for_checkpoint();
        room.map_err(|error| EngineError::GivenUp(error.to_string()))
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
