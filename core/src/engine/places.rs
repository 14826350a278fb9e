//! Where bytes lie on this node: item (an inline payload, a frame of a chunk) -> place in the node log.
//!
//! Not replicated: records name items, and each node finds them here. The table lies on the same runs as the engines,
//! under an overlay of its own with rows of fixed size.
//!
//! ```text
//!   append -> durable -> insert(item, place)        apply drops it -> remove(item)       compaction -> replace_if
//!   checkpoint(complete) -> run + manifest { up to where the table is complete, live bytes of each segment }
//!   open -> the manifest; the log is scanned from there on and tells the rest again (`tell_again`)
//! ```
//! Always true:
//! * live bytes and items of a segment are those of the rows that name it, whatever is inserted twice or removed twice;
//! * a checkpoint holds every change made before its call, and says "complete" only as far as a caller did before;
//! * a place changes only from the one that was expected (`replace_if`), so a dropped item stays dropped;
//! * a place dropped before a checkpoint stays dropped when recovery tells it again (`place_ledger`).
//!
//! Elsewhere: when to remove (`group`), what to compact (`log`), the order between checkpoints (`BeforeDurable`).

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};

use super::budget::{BudgetShare, OverlayBudget};
use super::damage::{Damage, Healed, damaged};
use super::heal::ScrubPosition;
use super::manifest::{CURRENT, StoreKind};
use super::merge::Merger;
use super::place_key::PlaceKey;
use super::place_ledger::{Live, PlaceLedger};
use super::run_store::{RunStore, StoreOptions};
use super::run_writer::RowSource;
use super::{EngineError, on_env_thread};
use crate::ids::{StageId, VShard};
use crate::log::{Complete, Item, Liveness, Place, Stream};

/// What a row costs in the overlay: 24 bytes of key, 24 of place, and a B-tree's slack.
const ROW_COST: usize = 72;
/// What a void place costs beside its row: a row of a B-tree without a value.
const VOID_COST: usize = 24;
/// So many removals at a time, so that inserts are not held up by a big stage. (Tests come to the second step, too.)
const STEP: usize = if cfg!(test) { 5 } else { 256 };

/// The rows of one overlay; `None`: dropped.
pub(super) type Rows = BTreeMap<PlaceKey, Option<Place>>;

/// What lies in which segment.
pub type ItemsOfSegments = BTreeMap<(Stream, u32), Vec<(Item, Place)>>;

/// The table.
#[derive(Clone)]
pub struct Places(Arc<Inner>);

pub(super) struct Inner {
    pub(super) store: Arc<RunStore>,
    pub(super) table: RwLock<Table>,
    budget: BudgetShare,
    merger: Arc<Merger>,
    /// One change at a time: it looks at the old row before it makes the new one.
    changing: Mutex<()>,
    /// One checkpoint at a time; holds the number of changes that are durable.
    covered: tokio::sync::Mutex<u64>,
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) newest: Rows,
    /// Newest first.
    pub(super) frozen: Vec<Arc<Rows>>,
    /// What is live now.
    ledger: PlaceLedger,
    /// What the durable checkpoint names.
    durable: PlaceLedger,
    /// Changes so far.
    changes: u64,
}

impl Table {
    fn find(&self, key: &PlaceKey) -> Option<Option<Place>> {
        let frozen = || self.frozen.iter().find_map(|rows| rows.get(key));
        self.newest.get(key).or_else(frozen).copied()
    }

    fn bytes(&self) -> usize {
        let rows = self.newest.len() + self.frozen.iter().map(|rows| rows.len()).sum::<usize>();
        rows * ROW_COST + self.ledger.voids() * VOID_COST
    }
}

impl Places {
    /// Opens the newest checkpoint of the table. Blocks on a real disk: call it on an env thread.
    pub async fn open(
        options: StoreOptions,
        budget: Arc<OverlayBudget>,
        merger: Arc<Merger>,
    ) -> Result<Places, EngineError> {
        let store = RunStore::open(options, StoreKind::Places).await?;
        let set = store.set();
        let ledger = match set.manifest().extra.is_empty() {
            true => PlaceLedger::default(),
            false => PlaceLedger::decode(&set.manifest().extra).ok_or_else(|| {
                damaged(CURRENT, "the ledger of places in its manifest does not fit")
            })?,
        };
        let table = Table {
            durable: ledger.clone(),
            ledger,
            ..Table::default()
        };
        Ok(Places(Arc::new(Inner {
            store,
            table: RwLock::new(table),
            budget: BudgetShare::new(budget),
            merger,
            changing: Mutex::new(()),
            covered: tokio::sync::Mutex::new(0),
        })))
    }

    /// Where an item lies; `None`: it was never here, or dropped.
    pub fn get(&self, item: &Item) -> Result<Option<Place>, EngineError> {
        self.0.find(&PlaceKey::of(item))
    }

    /// Records where an item lies; gives back where it lay before.
    pub fn insert(&self, item: &Item, place: Place) -> Result<Option<Place>, EngineError> {
        let _alone = self.0.changing.lock();
        self.0.set(PlaceKey::of(item), Some(place))
    }

    /// As `insert`, for what recovery found in the log. A place that was dropped before the table's checkpoint stays dropped.
    /// True: nothing lay under that name.
    pub fn tell_again(&self, item: &Item, place: Place) -> Result<bool, EngineError> {
        if self.0.table.read().ledger.is_void(place) {
            return Ok(false);
        }
        self.insert(item, place).map(|before| before.is_none())
    }

    /// Drops an item; gives back where it lay.
    pub fn remove(&self, item: &Item) -> Result<Option<Place>, EngineError> {
        let _alone = self.0.changing.lock();
        self.0.set(PlaceKey::of(item), None)
    }

    /// Drops an item if it lies there; false: it does not, nothing was changed.
    pub fn remove_if(&self, item: &Item, place: Place) -> Result<bool, EngineError> {
        let _alone = self.0.changing.lock();
        let key = PlaceKey::of(item);
        if self.0.find(&key)? != Some(place) {
            return Ok(false);
        }
        self.0.set(key, None).map(|_| true)
    }

    /// Several inserts (`Some`) and removals (`None`), in order. On an error those before it are made.
    pub fn change(
        &self,
        changes: impl IntoIterator<Item = (Item, Option<Place>)>,
    ) -> Result<(), EngineError> {
        let _alone = self.0.changing.lock();
        for (item, place) in changes {
            self.0.set(PlaceKey::of(&item), place)?;
        }
        Ok(())
    }

    /// Changes a place from `from` to `to`; false: it is no longer `from`, nothing was changed.
    pub fn replace_if(&self, item: &Item, from: Place, to: Place) -> Result<bool, EngineError> {
        self.record_if(item, Some(from), to)
    }

    /// Records a place if the item still lies where it lay (`None`: nowhere); false: it does not, nothing was changed.
    pub fn record_if(
        &self,
        item: &Item,
        before: Option<Place>,
        place: Place,
    ) -> Result<bool, EngineError> {
        let _alone = self.0.changing.lock();
        let key = PlaceKey::of(item);
        if self.0.find(&key)? != before {
            return Ok(false);
        }
        self.0.set(key, Some(place)).map(|_| true)
    }

    /// Bytes were written to a place, and nobody wants them there: recovery must not bring it back.
    pub fn void(&self, place: Place) {
        let _alone = self.0.changing.lock();
        let mut table = self.0.table.write();
        table.ledger.came(place);
        table.ledger.gone(place);
        table.changes += 1;
    }

    /// The frames of a stage's chunks with these ordinals, ascending.
    pub fn stage_frames(
        &self,
        vshard: VShard,
        stage: StageId,
        ordinals: Range<u32>,
    ) -> Result<Vec<(Item, Place)>, EngineError> {
        self.0
            .stage_rows(vshard, stage, ordinals, None, usize::MAX)?
            .into_iter()
            .map(|(key, place)| Ok((key.item()?, place)))
            .collect()
    }

    /// Drops the frames of a stage's chunks with these ordinals; says how many there were.
    pub fn remove_stage(
        &self,
        vshard: VShard,
        stage: StageId,
        ordinals: Range<u32>,
    ) -> Result<u64, EngineError> {
        let (mut removed, mut after) = (0, None);
        loop {
            let rows = self
                .0
                .stage_rows(vshard, stage, ordinals.clone(), after, STEP)?;
            let _alone = self.0.changing.lock();
            for (key, _) in &rows {
                removed += u64::from(self.0.set(*key, None)?.is_some());
            }
            after = rows.last().map(|(key, _)| *key);
            if rows.len() < STEP {
                return Ok(removed);
            }
        }
    }

    /// What is live in a segment.
    pub fn live(&self, stream: Stream, segment: u32) -> Live {
        self.0.table.read().ledger.live(stream, segment)
    }

    /// Every segment in which something is live, ascending.
    pub fn segments(&self) -> Vec<(Stream, u32, Live)> {
        self.0.table.read().ledger.segments()
    }

    /// Whether the table, as it is now or in its durable checkpoint, names anything in a segment. If not (and the
    /// segment lies before `complete`), it may be unlinked.
    pub fn names(&self, stream: Stream, segment: u32) -> bool {
        let table = self.0.table.read();
        table.ledger.live(stream, segment).items > 0
            || table.durable.live(stream, segment).items > 0
    }

    /// The items in these segments: reads the whole table once, however many they are.
    pub fn items_in(&self, segments: &[(Stream, u32)]) -> Result<ItemsOfSegments, EngineError> {
        let segment_of = |place: &Place| (place.stream, place.position.segment());
        let inside = |place: &Place| segments.contains(&segment_of(place));
        let mut found: ItemsOfSegments = segments.iter().map(|of| (*of, Vec::new())).collect();
        for (key, place) in self.0.collect(Bound::Unbounded, &[], inside, usize::MAX)? {
            let items = found.entry(segment_of(&place)).or_default();
            items.push((key.item()?, place));
        }
        Ok(found)
    }

    /// Items of the table behind `after`, at most so many, in an order of its own: to walk through all of it.
    pub fn items(&self, after: Option<&Item>, most: usize) -> Result<Vec<Item>, EngineError> {
        let from = after.map_or(Bound::Unbounded, |after| {
            Bound::Excluded(PlaceKey::of(after))
        });
        let rows = self.0.collect(from, &[], |_| true, most)?;
        rows.into_iter().map(|(key, _)| key.item()).collect()
    }

    /// Up to where the durable checkpoint knows every item: recovery scans the log from there on.
    pub fn complete(&self) -> Complete {
        self.0.table.read().durable.complete()
    }

    /// The log ends before the point up to which this table knew it: damage took what lay behind, and other records will
    /// be written there. A table that went on to call itself complete behind them would have every later recovery skip
    /// them. Durable when it returns, so call it before anything is appended.
    pub fn fall_back(&self, ends: Complete) -> BoxFuture<'static, Result<(), EngineError>> {
        let mut table = self.0.table.write();
        if !table.ledger.knows_behind(ends) && !table.durable.knows_behind(ends) {
            return Box::pin(std::future::ready(Ok(())));
        }
        table.ledger.fall_back(ends);
        table.durable.fall_back(ends);
        // A change like any other: the next checkpoint writes it.
        table.changes += 1;
        drop(table);
        self.checkpoint(Complete::default())
    }

    /// Makes every change before this call durable, and that the table is complete up to `complete` (of which the
    /// caller made sure before). Callers that come together share one.
    pub fn checkpoint(&self, complete: Complete) -> BoxFuture<'static, Result<(), EngineError>> {
        let inner = self.0.clone();
        let mut table = inner.table.write();
        table.ledger.advance(complete);
        let (wanted, at_least) = (table.changes, table.ledger.complete());
        drop(table);
        on_env_thread(
            "places",
            async move { inner.checkpoint(wanted, at_least).await },
        )
    }

    /// Bytes that a checkpoint would let go.
    pub fn overlay_bytes(&self) -> usize {
        self.0.budget.held()
    }

    /// The files below.
    pub fn store(&self) -> &Arc<RunStore> {
        &self.0.store
    }

    /// Files known to be bad.
    pub fn damage(&self) -> Vec<Damage> {
        self.0.store.damage()
    }

    /// Files that were bad and were written anew since the table was opened.
    pub fn healed(&self) -> Vec<Healed> {
        self.0.store.healed()
    }

    /// Writes bad files anew from their twins.
    pub fn heal(&self) -> BoxFuture<'static, Result<Vec<Healed>, EngineError>> {
        let inner = self.0.clone();
        on_env_thread("heal", async move { inner.store.heal().await })
    }

    /// Checks the next block of the runs; bytes read, `None` at the end.
    pub fn scrub_next(&self, position: &mut ScrubPosition) -> Option<u64> {
        self.0.store.scrub_next(position)
    }
}

impl Inner {
    fn find(&self, key: &PlaceKey) -> Result<Option<Place>, EngineError> {
        let known = self.table.read().find(key);
        match known {
            Some(place) => Ok(place),
            None => match self.store.set().find(key.bytes())?.flatten() {
                Some(row) => decode(&row).map(Some),
                None => Ok(None),
            },
        }
    }

    /// The caller holds `changing`.
    fn set(&self, key: PlaceKey, place: Option<Place>) -> Result<Option<Place>, EngineError> {
        let old = self.find(&key)?;
        if old == place {
            return Ok(old);
        }
        let mut table = self.table.write();
        if let Some(old) = old {
            table.ledger.gone(old);
        }
        if let Some(new) = place {
            table.ledger.came(new);
        }
        table.newest.insert(key, place);
        table.changes += 1;
        self.budget.set(table.bytes());
        Ok(old)
    }

    async fn checkpoint(&self, wanted: u64, at_least: Complete) -> Result<(), EngineError> {
        let mut covered = self.covered.lock().await;
        let durable = self.table.read().durable.complete();
        if *covered >= wanted && durable.meta >= at_least.meta && durable.blob >= at_least.blob {
            return Ok(());
        }
        // Frozen only now: all callers that waited for the one before are in this one.
        let (layers, ledger, changes) = {
            let _alone = self.changing.lock();
            let mut table = self.table.write();
            if !table.newest.is_empty() {
                let rows = std::mem::take(&mut table.newest);
                table.frozen.insert(0, Arc::new(rows));
            }
            (table.frozen.clone(), table.ledger.clone(), table.changes)
        };
        let merged: Arc<Rows> = match &layers[..] {
            [] => Arc::default(),
            [only] => only.clone(),
            // A checkpoint before this one failed.
            several => Arc::new(
                several
                    .iter()
                    .rev()
                    .flat_map(|rows| rows.iter().map(|(key, place)| (*key, *place)))
                    .collect(),
            ),
        };
        let below = !self.store.set().runs().is_empty();
        let run = self
            .store
            .write_run(&mut RowsOf::new(&merged, below), None)
            .await?;
        let extra = ledger.encode();
        let change = |manifest: &mut super::manifest::Manifest| {
            manifest.runs.splice(0..0, run);
            manifest.extra = extra;
        };
        self.store.switch(change, RunStore::publish).await?;
        *covered = changes;
        let mut table = self.table.write();
        let left = table.frozen.len() - layers.len();
        let gone = table.frozen.split_off(left);
        table.durable = ledger;
        self.budget.set(table.bytes());
        drop(table);
        drop((gone, layers, merged));
        self.merger.ask(&self.store);
        Ok(())
    }
}

pub(super) fn decode(row: impl AsRef<[u8]>) -> Result<Place, EngineError> {
    Place::decode(row.as_ref()).ok_or_else(|| damaged("a run of the places", "a row is no place"))
}

/// The rows of an overlay as a run's writer wants them.
struct RowsOf<'a> {
    rows: std::collections::btree_map::Iter<'a, PlaceKey, Option<Place>>,
    tombstones: bool,
    key: PlaceKey,
    place: Option<[u8; Place::ENCODED]>,
}

impl<'a> RowsOf<'a> {
    fn new(rows: &'a Rows, tombstones: bool) -> RowsOf<'a> {
        RowsOf {
            rows: rows.iter(),
            tombstones,
            key: PlaceKey::FIRST,
            place: None,
        }
    }
}

impl RowSource for RowsOf<'_> {
    fn advance(&mut self) -> Result<bool, EngineError> {
        for (key, place) in self.rows.by_ref() {
            if place.is_some() || self.tombstones {
                self.key = *key;
                self.place = place.map(Place::encode);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn key(&self) -> &[u8] {
        self.key.bytes()
    }

    fn row(&self) -> Option<&[u8]> {
        self.place.as_ref().map(|place| &place[..])
    }
}

impl Liveness for Places {
    fn live_in(&self, stream: Stream, segment: u32) -> (u64, u64) {
        let live = self.live(stream, segment);
        (live.bytes, live.items)
    }

    fn live_items(&self, stream: Stream, segment: u32) -> Result<Vec<(Item, Place)>, String> {
        let found = self.items_in(&[(stream, segment)]);
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.into_values().flatten().collect())
    }

    fn moved(&self, item: &Item, from: Place, to: Place) -> Result<bool, String> {
        let moved = self.replace_if(item, from, to);
        let moved = moved.map_err(|error| error.to_string())?;
        if !moved {
            // Dropped meanwhile. A recovery that finds the copy must not tell of it.
            self.void(to);
        }
        Ok(moved)
    }
}
