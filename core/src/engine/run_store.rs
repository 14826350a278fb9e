//! A directory of runs under a manifest, and the one way in which it changes.
//!
//! Engines and the table of places put their overlays on top of this.
//!
//! Always true:
//! * the set in memory is the manifest in force, or the one before it while a switch is under way;
//! * a file is removed only after a manifest that does not name it is durable;
//! * nothing of a failed switch is removed or written over: it may have reached the disk and be in force.
//!
//! With `twins` every run, manifest and CURRENT is written twice (a single voter has no peer to ask). Either copy is good
//! for reading; a bad one is written anew by `heal`.
//!
//! Everything here that is `async` blocks on a real disk: call it on an env thread.
//! Elsewhere: opening (`store_open`), bytes (`manifest`, `run_writer`), when to merge (`merge`), mending (`heal`), taking in (`incoming`).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::Mutex;

use super::EngineError;
use super::block::RunId;
use super::block_cache::BlockCache;
use super::damage::{Damage, DamageBook, Healed, damaged};
use super::manifest::{CURRENT, Current, Manifest};
use super::merge::Pace;
use super::run::{Run, RunMeta};
use super::run_set::RunSet;
use super::run_writer::{RowSource, RunWriter};
use crate::env::disk::{Disk, File, Open};

/// Whether an empty directory may be taken for a new store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Birth {
    /// The store may be new: an absent or empty directory becomes an empty store.
    MayCreate,
    /// The store was there before: an absent one is damage.
    MustExist,
}

/// Where a store lies.
#[derive(Clone)]
pub struct StoreOptions {
    /// On which disk.
    pub disk: Arc<dyn Disk>,
    /// In which directory; nothing else lies there.
    pub dir: PathBuf,
    /// Whether everything is written twice.
    pub twins: bool,
    /// Whether it may be new.
    pub birth: Birth,
    /// Shared by the node.
    pub cache: Arc<BlockCache>,
}

/// Bytes that a store wrote since it was opened, twins counted: what keeping rows costs beside the log.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Written {
    /// Runs of checkpoints, and manifests.
    pub checkpoints: u64,
    /// Runs that merges wrote.
    pub merges: u64,
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, other: Written) {
        self.checkpoints += other.checkpoints;
        self.merges += other.merges;
    }
}

/// What a switch holds on to.
#[derive(Default)]
pub(super) struct Switch {
    /// Highest generation that was ever begun.
    pub(super) attempted: u64,
    /// Files of failed switches, removed after the next good one.
    leftovers: Vec<String>,
}

/// The directory.
pub struct RunStore {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) twins: bool,
    pub(super) cache: Arc<BlockCache>,
    pub(super) book: Arc<DamageBook>,
    pub(super) set: RwLock<Arc<RunSet>>,
    pub(super) switch: Mutex<Switch>,
    pub(super) next_run: AtomicU64,
    /// Held by whoever rewrites runs that are in force (a merge, an install): one at a time.
    pub(super) rewriting: Mutex<()>,
    pub(super) by_checkpoints: AtomicU64,
    pub(super) by_merges: AtomicU64,
}

/// Makes an error that says what was being done.
pub(super) fn io_error<T: AsRef<str>>(step: T) -> impl FnOnce(io::Error) -> EngineError {
    move |cause| EngineError::Io {
        step: step.as_ref().to_owned(),
        cause: Arc::new(cause),
    }
}

impl RunStore {
    pub(super) fn open_run(&self, meta: RunMeta) -> Arc<Run> {
        let (cache, book) = (self.cache.clone(), self.book.clone());
        Arc::new(Run::open(
            &*self.disk,
            &self.dir,
            meta,
            self.twins,
            cache,
            book,
        ))
    }

    /// Every file that belongs to a manifest.
    pub(super) fn files_of(&self, manifest: &Manifest) -> Vec<String> {
        let copies: &[bool] = if self.twins { &[false, true] } else { &[false] };
        let mut files = Vec::new();
        for twin in copies {
            files.push(current_name(*twin));
            files.push(Manifest::file_name(manifest.generation, *twin));
            files.extend(manifest.runs.iter().map(|run| run.file_name(*twin)));
        }
        files
    }

    pub(super) fn remove(&self, name: &str) {
        self.book.strike(name);
        match self.disk.remove(&self.dir.join(name)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = name, %cause, "could not remove a file; the next open will");
            }
            _ => {}
        }
    }

    /// The runs in force.
    pub fn set(&self) -> Arc<RunSet> {
        self.set.read().clone()
    }

    /// Files known to be bad.
    pub fn damage(&self) -> Vec<Damage> {
        self.book.all()
    }

    /// Files that were bad and were written anew since the store was opened.
    pub fn healed(&self) -> Vec<Healed> {
        self.book.healed()
    }

    /// Bytes written since it was opened.
    pub fn written(&self) -> Written {
        Written {
            checkpoints: self.by_checkpoints.load(Ordering::Relaxed),
            merges: self.by_merges.load(Ordering::Relaxed),
        }
    }

    pub(super) fn create(&self, name: &str) -> Result<Arc<dyn File>, EngineError> {
        let path = self.dir.join(name);
        let _ = self.disk.remove(&path); // Left by a failed attempt: never in force under this name.
        self.disk
            .open(&path, Open::CreateNew)
            .map_err(io_error(format!("create {name}")))
    }

    /// Writes rows as a new run (and its twin), fsynced, but in no manifest yet. `None`: there were no rows.
    pub async fn write_run(
        &self,
        rows: &mut dyn RowSource,
        mut pace: Option<&mut Pace>,
    ) -> Result<Option<RunMeta>, EngineError> {
        if !rows.advance()? {
            return Ok(None);
        }
        let id = RunId {
            number: self.next_run.fetch_add(1, Ordering::Relaxed),
            nonce: crate::env::random::u64(),
        };
        let names: Vec<String> = (0..=usize::from(self.twins))
            .map(|copy| run_name(id, copy == 1))
            .collect();
        let written = async {
            let copies = names
                .iter()
                .map(|name| self.create(name))
                .collect::<Result<_, _>>()?;
            let mut writer = RunWriter::new(id, copies);
            loop {
                writer.add(rows.key(), rows.row());
                if writer.wants_drain() {
                    writer
                        .drain()
                        .await
                        .map_err(io_error(format!("write {}", names[0])))?;
                    if let Some(pace) = &mut pace {
                        pace.reached(writer.bytes()).await;
                    }
                }
                if !rows.advance()? {
                    break;
                }
            }
            writer
                .finish()
                .await
                .map_err(io_error(format!("write {}", names[0])))
        };
        let written: Result<RunMeta, EngineError> = written.await;
        if written.is_err() {
            names.iter().for_each(|name| self.remove(name));
        }
        if let Ok(run) = &written {
            let counter = match pace {
                Some(_) => &self.by_merges,
                None => &self.by_checkpoints,
            };
            counter.fetch_add(run.len * names.len() as u64, Ordering::Relaxed);
        }
        written.map(Some)
    }

    /// The usual way to put a set in force.
    pub fn publish(slot: &RwLock<Arc<RunSet>>, set: Arc<RunSet>) {
        *slot.write() = set;
    }

    /// Makes a changed manifest durable, then calls `publish` with the place of the set in force and the new set.
    /// Runs that the manifest names anew must have been written and fsynced.
    pub async fn switch(
        &self,
        change: impl FnOnce(&mut Manifest),
        publish: impl FnOnce(&RwLock<Arc<RunSet>>, Arc<RunSet>),
    ) -> Result<Arc<RunSet>, EngineError> {
        let mut switch = self.switch.lock().await;
        let old = self.set();
        let mut manifest = old.manifest.clone();
        change(&mut manifest);
        switch.attempted += 1;
        manifest.generation = switch.attempted;
        manifest.next_run = manifest.next_run.max(self.next_run.load(Ordering::Relaxed));
        // One that was bad is opened again: an install may have brought the same run in a whole file.
        let usable = |run: &&Arc<Run>| {
            run.broken().is_none() && !self.book.knows(&run.meta().file_name(false))
        };
        let opened = |meta: &RunMeta| {
            old.runs
                .iter()
                .filter(usable)
                .find(|run| run.meta() == meta)
                .cloned()
        };
        let runs: Vec<_> = manifest
            .runs
            .iter()
            .map(|meta| opened(meta).unwrap_or_else(|| self.open_run(meta.clone())))
            .collect();
        let new = Arc::new(RunSet { manifest, runs });
        let (new_files, old_files) = (self.files_of(&new.manifest), self.files_of(&old.manifest));
        if let Err(error) = self.write_manifest(&old, &new).await {
            // CURRENT may name this generation by now: its files must stay until another one is surely in force.
            switch.leftovers.extend(
                new_files
                    .into_iter()
                    .filter(|name| !old_files.contains(name)),
            );
            return Err(error);
        }
        let leftovers = std::mem::take(&mut switch.leftovers);
        self.next_run
            .fetch_max(new.manifest.next_run, Ordering::Relaxed);
        publish(&self.set, new.clone());
        // Manifest and CURRENT were written anew, in every copy: bad ones of before are healed.
        for name in old_files.iter().filter(|name| !name.contains(".run")) {
            self.book.mended(name);
        }
        for name in old_files
            .iter()
            .chain(&leftovers)
            .filter(|name| !new_files.contains(name))
        {
            self.remove(name);
        }
        Ok(new)
    }

    async fn write_manifest(&self, old: &RunSet, set: &RunSet) -> Result<(), EngineError> {
        for run in set
            .runs
            .iter()
            .filter(|run| !old.manifest.runs.contains(run.meta()))
        {
            if let Some(what) = run.broken() {
                return Err(damaged(
                    run.meta().file_name(false),
                    format!("cannot be put in force: {what}"),
                ));
            }
        }
        let copies: &[bool] = if self.twins { &[false, true] } else { &[false] };
        let (generation, bytes) = (set.manifest.generation, set.manifest.encode());
        for twin in copies {
            self.write_file(&Manifest::file_name(generation, *twin), &bytes)
                .await?;
        }
        self.sync_dir().await?;
        let current = Current::of(generation, &bytes).encode();
        for twin in copies {
            let name = current_name(*twin);
            self.write_file(CURRENT_NEW, &current).await?;
            let renamed = self
                .disk
                .rename(&self.dir.join(CURRENT_NEW), &self.dir.join(&name));
            renamed.map_err(io_error(format!("rename to {name}")))?;
            self.sync_dir().await?;
        }
        Ok(())
    }

    pub(super) async fn sync_dir(&self) -> Result<(), EngineError> {
        self.disk
            .sync_dir(&self.dir)
            .await
            .map_err(io_error("sync the store's directory"))
    }

    async fn write_file(&self, name: &str, content: &Bytes) -> Result<(), EngineError> {
        let file = self.create(name)?;
        self.by_checkpoints
            .fetch_add(content.len() as u64, Ordering::Relaxed);
        let parts = [content.clone()];
        file.write_at(&parts, 0)
            .await
            .map_err(io_error(format!("write {name}")))?;
        file.sync_data()
            .await
            .map_err(io_error(format!("sync {name}")))
    }
}

/// CURRENT before it is renamed.
pub(super) const CURRENT_NEW: &str = "CURRENT.new";

pub(super) fn current_name(twin: bool) -> String {
    format!("{CURRENT}{}", if twin { ".twin" } else { "" })
}

fn run_name(id: RunId, twin: bool) -> String {
    format!("{id}.run{}", if twin { ".twin" } else { "" })
}
