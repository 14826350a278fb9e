//! An engine on somebody else's database: our overlay and our checkpoints, their sorted map for what lies below.
//!
//! ```text
//!   write ──> overlay ──checkpoint──> run + manifest (durable) ──then──> table (the same rows) ──> overlay lets go
//!   read  ──> overlay, then table; the runs are read only to make a table anew
//! ```
//! Changes and applied mark are one batch in the overlay, and the table moves from one checkpoint to the next: so it
//! needs no snapshots of its own (sled has none), and whatever it loses is in the runs.
//!
//! Always true:
//! * a layer enters the table only after the manifest holds it, and leaves the overlay only when it is in whole;
//! * nobody who reads without a layer sees the table with it: rows go in only when every view and scan from before that
//!   layer has ended. Until then they wait in the overlay;
//! * the same as of `native`: checkpoints are moments, in order, with their mark and digest.
//!
//! Elsewhere: which table is believed at a start (`table`), files of checkpoints (`run_store`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};

use super::budget::{BudgetShare, OverlayBudget};
use super::damage::{Damage, Healed};
use super::digest::row_hash;
use super::export::Export;
use super::heal::ScrubPosition;
use super::incoming::Prepared;
use super::manifest::{Manifest, StoreKind};
use super::merge::Merger;
use super::merged::{Merged, Source};
use super::overlay::{Moment, Overlay};
use super::row::Row;
use super::run_set::RunSet;
use super::run_store::{RunStore, StoreOptions, Written};
use super::run_writer::RowSource;
use super::table::{Database, Table};
use super::{
    Batch, BeforeDurable, CheckpointInfo, Engine, EngineError, RowIter, View, on_env_thread,
};

/// Rows of a table are read in pages, each twice as long as the one before.
const FIRST_PAGE: usize = 16;
const LONGEST_PAGE: usize = 512;

/// Where a database lies, on the real disk.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its directory; nothing else lies there, and all of it may be removed.
    pub dir: PathBuf,
    /// Memory for its cache.
    pub cache_bytes: usize,
}

/// One group's rows, on a database.
pub struct Hosted<D>(Arc<Inner<D>>);

impl<D> Clone for Hosted<D> {
    fn clone(&self) -> Self {
        Hosted(self.0.clone())
    }
}

struct Inner<D> {
    store: Arc<RunStore>,
    host: Host,
    state: RwLock<State<D>>,
    budget: BudgetShare,
    merger: Arc<Merger>,
    /// One batch or freeze at a time.
    writing: Mutex<()>,
    /// One checkpoint or install at a time; holds the newest moment that is durable.
    covered: tokio::sync::Mutex<u64>,
}

struct State<D> {
    overlay: Overlay,
    /// An error: an install could not make it; reads say so until the next start makes it.
    table: Result<Arc<Table<D>>, EngineError>,
    /// Held by whoever reads without the layers that come next.
    era: Arc<()>,
    /// Eras before each moment that somebody may still read in.
    past: Vec<(u64, Weak<()>)>,
}

/// Overlay and table that belong together, as they were.
struct Now<D> {
    overlay: Overlay,
    table: Result<Arc<Table<D>>, EngineError>,
    era: Arc<()>,
}

impl<D: Database> Hosted<D> {
    /// Opens the newest checkpoint. A database that does not fit it is made anew. Blocks: call it on an env thread.
    pub async fn open(
        options: StoreOptions,
        budget: Arc<OverlayBudget>,
        merger: Arc<Merger>,
        host: Host,
    ) -> Result<Hosted<D>, EngineError> {
        let store = RunStore::open(options, StoreKind::Rows).await?;
        let set = store.set();
        let table = directory::open::<D>(&host, &set)?;
        tracing::debug!(engine = D::NAME, dir = %host.dir.display(), rows = table.brought_in(), "database brought up");
        Ok(Hosted(Arc::new(Inner {
            store,
            host,
            state: RwLock::new(State {
                overlay: beginning(&set),
                table: Ok(Arc::new(table)),
                era: Arc::default(),
                past: Vec::new(),
            }),
            budget: BudgetShare::new(budget),
            merger,
            writing: Mutex::new(()),
            covered: tokio::sync::Mutex::new(0),
        })))
    }

    /// The checkpoint's files.
    pub fn store(&self) -> &Arc<RunStore> {
        &self.0.store
    }

    /// Rows and tombstones brought into the database since it was opened.
    pub fn brought_in(&self) -> u64 {
        let state = self.0.state.read();
        state.table.as_ref().map_or(0, |table| table.brought_in())
    }

    fn now(&self) -> Now<D> {
        let state = self.0.state.read();
        Now {
            overlay: state.overlay.clone(),
            table: state.table.clone(),
            era: state.era.clone(),
        }
    }
}

/// An overlay on top of a checkpoint, with nothing in it.
fn beginning(set: &RunSet) -> Overlay {
    Overlay {
        applied: set.manifest().applied.clone(),
        digest: set.manifest().digest,
        ..Overlay::default()
    }
}

impl<D: Database> Inner<D> {
    /// How a batch moves the digest; reads the rows that it replaces.
    fn digest_delta(&self, batch: &Batch) -> Result<u128, EngineError> {
        let mut within = std::collections::BTreeMap::new();
        let mut moved = 0u128;
        for (key, new) in &batch.changes {
            let hash = |row: &[u8]| row_hash(key, row);
            let new = new.as_deref().map_or(0, hash);
            let old = match within.insert(key, new) {
                Some(before) => before,
                None => self.get(key)?.as_deref().map_or(0, hash),
            };
            moved = moved.wrapping_add(new).wrapping_sub(old);
        }
        Ok(moved)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let table = {
            let state = self.state.read();
            if let Some(row) = state.overlay.find(key) {
                return Ok(row.map(Bytes::copy_from_slice));
            }
            state.table.clone()?
        };
        table.get(key)
    }

    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        let _alone = self.writing.lock();
        let moved = match batch.digest_delta {
            Some(said) => said,
            None => self.digest_delta(&batch)?,
        };
        let mut scratch = Vec::new();
        let mut state = self.state.write();
        for (key, row) in &batch.changes {
            let row = Row::new(key, row.as_deref(), &mut scratch);
            state.overlay.newest.insert(row);
        }
        state.overlay.digest = state.overlay.digest.wrapping_add(moved);
        if batch.applied.is_some() {
            state.overlay.applied = batch.applied;
        }
        self.budget.set(state.overlay.bytes());
        Ok(())
    }

    fn freeze(&self) -> Moment {
        let _alone = self.writing.lock();
        let mut state = self.state.write();
        let moment = state.overlay.freeze();
        let ended = std::mem::take(&mut state.era);
        state.past.push((moment.number, Arc::downgrade(&ended)));
        moment
    }

    async fn checkpoint(
        &self,
        moment: Moment,
        before: Option<BeforeDurable>,
    ) -> Result<CheckpointInfo, EngineError> {
        let mut covered = self.covered.lock().await;
        if *covered >= moment.number {
            return Ok(self.store.set().info());
        }
        if let Some(before) = before {
            before().await?;
        }
        self.follow_merges(*covered)?;
        let layers = self.state.read().overlay.layers_up_to(moment.number);
        let fresh = layers.iter().filter(|layer| layer.moment > *covered);
        let sources = fresh.map(|layer| Source::Tree(layer.tree.seek(&[])));
        let below = !self.store.set().runs().is_empty();
        let mut rows = Merged::new(sources.collect(), &[], below);
        let run = self.store.write_run(&mut rows, None).await?;
        drop(rows);
        let set = self.store.set();
        let known = set.manifest();
        if run.is_some() || known.applied != moment.applied || known.digest != moment.digest {
            let change = |manifest: &mut Manifest| {
                manifest.runs.splice(0..0, run);
                manifest.applied = moment.applied;
                manifest.digest = moment.digest;
            };
            self.store.switch(change, RunStore::publish).await?;
        }
        *covered = moment.number;
        drop(layers);
        self.settle(moment.number)?;
        self.merger.ask(&self.store);
        Ok(self.store.set().info())
    }

    /// Before a checkpoint adds a run: a table that has everything so far says so in the names of today's runs, so that
    /// after a crash only the new one must be brought in.
    fn follow_merges(&self, covered: u64) -> Result<(), EngineError> {
        let (waiting, table) = {
            let state = self.state.read();
            let waiting = !state.overlay.layers_up_to(covered).is_empty();
            (waiting, state.table.clone()?)
        };
        match waiting {
            true => Ok(()),
            false => table.follow(&self.store.set()),
        }
    }

    /// Brings layers that are durable into the table, unless somebody still reads in a time before them.
    fn settle(&self, covered: u64) -> Result<(), EngineError> {
        let (layers, table) = {
            let mut state = self.state.write();
            state.past.retain(|(_, era)| era.strong_count() > 0);
            if state.past.iter().any(|(moment, _)| *moment <= covered) {
                return Ok(());
            }
            let layers = state.overlay.layers_up_to(covered);
            (layers, state.table.clone()?)
        };
        if layers.is_empty() {
            return Ok(());
        }
        let sources = layers
            .iter()
            .map(|layer| Source::Tree(layer.tree.seek(&[])));
        let mut rows = Merged::new(sources.collect(), &[], true);
        table.bring_in(&mut rows, &self.store.set())?;
        drop((rows, layers));
        let gone = {
            let mut state = self.state.write();
            let gone = state.overlay.let_go(covered);
            self.budget.set(state.overlay.bytes());
            gone
        };
        drop(gone);
        Ok(())
    }

    async fn install(&self, prepared: Prepared) -> Result<CheckpointInfo, EngineError> {
        let mut covered = self.covered.lock().await;
        let mut replaced = None;
        let publish = |slot: &RwLock<Arc<RunSet>>, set: Arc<RunSet>| {
            // Whoever reads the old table goes on; it is removed at the next start.
            let table = directory::make_another(&self.host, &set).map(Arc::new);
            let _alone = self.writing.lock();
            let mut state = self.state.write();
            *covered = state.overlay.moments;
            let overlay = Overlay {
                moments: state.overlay.moments,
                ..beginning(&set)
            };
            let old = State {
                overlay,
                table,
                era: Arc::default(),
                past: Vec::new(),
            };
            replaced = Some(std::mem::replace(&mut *state, old));
            *slot.write() = set;
            self.budget.set(0);
        };
        self.store.take_over(prepared, publish).await?;
        drop(replaced);
        self.state.read().table.as_ref().map_err(Clone::clone)?;
        Ok(self.store.set().info())
    }
}

/// Overlay and table read as one: where both know a key, the overlay speaks.
struct Layered<D> {
    upper: Merged,
    /// The overlay's next word, if it has one.
    ahead: Option<(Bytes, Option<Bytes>)>,
    lower: Pages<D>,
    below: Option<(Bytes, Bytes)>,
    _era: Arc<()>,
}

struct Pages<D> {
    table: Arc<Table<D>>,
    from: Vec<u8>,
    to: Vec<u8>,
    page: std::vec::IntoIter<(Bytes, Bytes)>,
    limit: usize,
    is_last: bool,
}

impl<D: Database> Pages<D> {
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        if self.page.len() == 0 && !self.is_last {
            let page = self.table.page(&self.from, &self.to, self.limit)?;
            self.is_last = page.len() < self.limit;
            self.limit = (self.limit * 2).min(LONGEST_PAGE);
            if let Some((last, _)) = page.last() {
                self.from = [last, &[0][..]].concat();
            }
            self.page = page.into_iter();
        }
        Ok(self.page.next())
    }
}

impl<D: Database> Layered<D> {
    fn begin(now: Now<D>, from: &[u8], to: &[u8]) -> Result<Layered<D>, EngineError> {
        let mut sources = Vec::new();
        now.overlay.add_sources(from, &mut sources);
        let mut layered = Layered {
            upper: Merged::new(sources, to, true),
            ahead: None,
            lower: Pages {
                table: now.table?,
                from: from.to_vec(),
                to: to.to_vec(),
                page: Vec::new().into_iter(),
                limit: FIRST_PAGE,
                is_last: !to.is_empty() && from >= to,
            },
            below: None,
            _era: now.era,
        };
        layered.step_upper()?;
        layered.below = layered.lower.next()?;
        Ok(layered)
    }

    fn step_upper(&mut self) -> Result<(), EngineError> {
        self.ahead = match self.upper.advance()? {
            true => Some((
                Bytes::copy_from_slice(self.upper.key()),
                self.upper.row().map(Bytes::copy_from_slice),
            )),
            false => None,
        };
        Ok(())
    }

    fn next_row(&mut self) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        loop {
            let order = match (&self.ahead, &self.below) {
                (Some((upper, _)), Some((lower, _))) => upper.cmp(lower),
                (Some(_), None) => std::cmp::Ordering::Less,
                _ => std::cmp::Ordering::Greater,
            };
            if order.is_gt() {
                let row = self.below.take();
                if row.is_some() {
                    self.below = self.lower.next()?;
                }
                return Ok(row);
            }
            if order.is_eq() {
                self.below = self.lower.next()?;
            }
            let said = self.ahead.take();
            self.step_upper()?;
            if let Some((key, Some(row))) = said {
                return Ok(Some((key, row)));
            }
        }
    }
}

impl<D: Database> Iterator for Layered<D> {
    type Item = Result<(Bytes, Bytes), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_row();
        if next.is_err() {
            (self.ahead, self.below, self.lower.is_last) = (None, None, true);
        }
        next.transpose()
    }
}

fn scan<D: Database>(now: Now<D>, from: &[u8], to: &[u8]) -> RowIter<'static> {
    match Layered::begin(now, from, to) {
        Ok(rows) => Box::new(rows),
        Err(error) => super::run_set::failed(error),
    }
}

impl<D: Database> View for Now<D> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match (self.overlay.find(key), &self.table) {
            (Some(row), _) => Ok(row.map(Bytes::copy_from_slice)),
            (None, Ok(table)) => table.get(key),
            (None, Err(error)) => Err(error.clone()),
        }
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> RowIter<'a> {
        let now = Now {
            overlay: self.overlay.clone(),
            table: self.table.clone(),
            era: self.era.clone(),
        };
        scan(now, from, to)
    }
}

impl<D: Database> View for Hosted<D> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.0.get(key)
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> RowIter<'a> {
        scan(self.now(), from, to)
    }
}

impl<D: Database> Engine for Hosted<D> {
    fn view(&self) -> Box<dyn View> {
        Box::new(self.now())
    }

    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        self.0.write(batch)
    }

    fn applied(&self) -> Option<Bytes> {
        self.0.state.read().overlay.applied.clone()
    }

    fn digest(&self) -> u128 {
        self.0.state.read().overlay.digest
    }

    fn overlay_bytes(&self) -> usize {
        self.0.budget.held()
    }

    fn checkpoint(
        &self,
        before: Option<BeforeDurable>,
    ) -> BoxFuture<'static, Result<CheckpointInfo, EngineError>> {
        let (inner, moment) = (self.0.clone(), self.0.freeze());
        on_env_thread("checkpoint", async move {
            inner.checkpoint(moment, before).await
        })
    }

    fn durable(&self) -> CheckpointInfo {
        self.0.store.set().info()
    }

    fn export(&self) -> Export {
        Export(self.0.store.set())
    }

    fn install(
        &self,
        prepared: Prepared,
    ) -> BoxFuture<'static, Result<CheckpointInfo, EngineError>> {
        let inner = self.0.clone();
        on_env_thread("install", async move { inner.install(prepared).await })
    }

    fn written(&self) -> Written {
        self.0.store.written()
    }

    fn damage(&self) -> Vec<Damage> {
        self.0.store.damage()
    }

    fn healed(&self) -> Vec<Healed> {
        self.0.store.healed()
    }

    fn heal(&self) -> BoxFuture<'static, Result<Vec<Healed>, EngineError>> {
        let inner = self.0.clone();
        on_env_thread("heal", async move { inner.store.heal().await })
    }

    fn scrub_next(&self, position: &mut ScrubPosition) -> Option<u64> {
        self.0.store.scrub_next(position)
    }
}

/// The directory of a host: tables in numbered directories, the highest in force.
mod directory {
    #![allow(
        clippy::disallowed_methods,
        reason = "the databases do their own I/O on the real disk; this makes and removes their directories there"
    )]
    use std::io;

    use super::*;

    fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
        std::fs::create_dir_all(dir)?;
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn io_error(host: &Host) -> impl FnOnce(io::Error) -> EngineError + Copy {
        let step = super::super::run_store::io_error;
        let dir: &Path = &host.dir;
        // `Copy`, as several steps of one function fail the same way.
        move |cause| step(format!("use {}", dir.display()))(cause)
    }

    /// The one table that fits the set, brought up to it; or a new one.
    pub(super) fn open<D: Database>(host: &Host, set: &RunSet) -> Result<Table<D>, EngineError> {
        let failed = io_error(host);
        let mut found = numbers(&host.dir).map_err(failed)?;
        let newest = found.pop();
        // Left by an install.
        for old in found {
            std::fs::remove_dir_all(host.dir.join(old.to_string())).map_err(failed)?;
        }
        if let Some(number) = newest {
            let dir = host.dir.join(number.to_string());
            if let Some(table) = Table::open(&dir, host.cache_bytes, set)? {
                return Ok(table);
            }
            std::fs::remove_dir_all(&dir).map_err(failed)?;
        }
        make_another(host, set)
    }

    /// A new table beside those that are there.
    pub(super) fn make_another<D: Database>(
        host: &Host,
        set: &RunSet,
    ) -> Result<Table<D>, EngineError> {
        let found = numbers(&host.dir).map_err(io_error(host))?;
        let number = found.last().map_or(1, |last| last + 1);
        Table::make(&host.dir.join(number.to_string()), host.cache_bytes, set)
    }
}
