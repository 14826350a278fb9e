//! Opening a store: which manifest is in force, which files are left-overs, and which are missed.
//!
//! Always true:
//! * a store that was there and is not any more is an error, never an empty store;
//! * nothing is removed or written before the manifest in force was read and its name is durable, and nothing is removed
//!   that it names.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::Mutex;

use super::EngineError;
use super::damage::{DamageBook, damaged};
use super::manifest::{CURRENT, Current, Manifest, StoreKind};
use super::run_set::RunSet;
use super::run_store::{Birth, CURRENT_NEW, RunStore, StoreOptions, current_name, io_error};
use crate::env::disk::{Disk, Open};

/// The whole content of a small file.
pub(super) fn read_file(disk: &dyn Disk, path: &Path) -> io::Result<Bytes> {
    let file = disk.open(path, Open::Read)?;
    let mut content = vec![0; file.len()? as usize];
    let read = file.read_at(&mut content, 0)?;
    content.truncate(read);
    Ok(Bytes::from(content))
}

impl RunStore {
    /// Opens the store and removes what no manifest names. Bad runs do not hinder it (see `damage`); without a
    /// readable manifest there is no store, and that is an error.
    pub async fn open(
        options: StoreOptions,
        kind: StoreKind,
    ) -> Result<Arc<RunStore>, EngineError> {
        let StoreOptions {
            disk,
            dir,
            twins,
            birth,
            cache,
        } = options;
        let book = Arc::new(DamageBook::default());
        disk.create_dir_all(&dir)
            .map_err(io_error("create the store's directory"))?;
        let empty = RunSet {
            manifest: Manifest::empty(kind),
            runs: Vec::new(),
        };
        let mut store = RunStore {
            disk,
            dir,
            twins,
            cache,
            book,
            set: RwLock::new(Arc::new(empty)),
            switch: Mutex::default(),
            next_run: AtomicU64::new(1),
            rewriting: Mutex::new(()),
            by_checkpoints: AtomicU64::new(0),
            by_merges: AtomicU64::new(0),
        };
        let names = store.names()?;
        match store.find_manifest(&names, birth)? {
            None => {
                if let Some(parent) = store.dir.parent() {
                    store
                        .disk
                        .sync_dir(parent)
                        .await
                        .map_err(io_error("sync the directory above a new store"))?;
                }
                store.remove_orphans(&names);
                store.switch(|_| {}, RunStore::publish).await?;
            }
            Some((manifest, whole)) => {
                if manifest.kind != kind {
                    return Err(damaged(
                        CURRENT,
                        format!("a store of {:?} where {kind:?} was expected", manifest.kind),
                    ));
                }
                // After a process kill, the renames that put this manifest in force may only be in the page cache; a power
                // cut would take them back, and must then find the files of the one before, and no others.
                store.sync_dir().await?;
                store.next_run = AtomicU64::new(manifest.next_run);
                store.switch.get_mut().attempted = manifest.generation;
                let runs = manifest
                    .runs
                    .iter()
                    .map(|meta| store.open_run(meta.clone()))
                    .collect();
                store.set = RwLock::new(Arc::new(RunSet { manifest, runs }));
                store.remove_orphans(&names);
                if !whole {
                    // A copy of CURRENT or of the manifest is old, bad or missing: a switch writes them all anew. What
                    // can be read is good enough to serve, so a disk that refuses now is no reason to stay down.
                    if let Err(error) = store.switch(|_| {}, RunStore::publish).await {
                        tracing::warn!(%error, dir = %store.dir.display(), "manifest stays with one copy for now");
                    }
                }
            }
        }
        Ok(Arc::new(store))
    }

    fn names(&self) -> Result<Vec<String>, EngineError> {
        let entries = self
            .disk
            .list(&self.dir)
            .map_err(io_error("list the store's directory"))?;
        let files = entries.into_iter().filter(|entry| !entry.is_dir);
        Ok(files
            .filter_map(|entry| entry.path.file_name()?.to_str().map(str::to_owned))
            .collect())
    }

    /// The manifest in force, and whether every copy of it and of CURRENT is as it should be. `None`: a new store.
    fn find_manifest(
        &self,
        names: &[String],
        birth: Birth,
    ) -> Result<Option<(Manifest, bool)>, EngineError> {
        let copies: &[bool] = if self.twins { &[false, true] } else { &[false] };
        if !copies
            .iter()
            .any(|twin| names.contains(&current_name(*twin)))
        {
            // A cut while the store was made leaves its first, empty manifest and nothing else that counts.
            let first = Manifest::file_name(1, false);
            let more =
                |name: &String| is_ours(name) && !name.starts_with(&first) && name != CURRENT_NEW;
            if birth == Birth::MustExist || names.iter().any(more) {
                return Err(damaged(CURRENT, "is missing: the store is lost"));
            }
            return Ok(None);
        }
        let (mut whole, mut best, mut fault) = (true, None::<Current>, None);
        for name in copies.iter().map(|twin| current_name(*twin)) {
            let read = read_file(&*self.disk, &self.dir.join(&name))
                .map_err(|cause| damaged(&name, cause.to_string()));
            match read.and_then(|bytes| Current::decode(&name, &bytes)) {
                Ok(current) => {
                    // One switch may have been cut between the two renames; the later one counts, and is complete.
                    whole &= best.is_none_or(|best| best.generation == current.generation);
                    best = best
                        .filter(|best| best.generation >= current.generation)
                        .or(Some(current));
                }
                Err(error @ EngineError::Newer { .. }) => return Err(error),
                Err(error) => {
                    whole = false;
                    if names.contains(&name) {
                        self.book.note(&name, &error.to_string(), true);
                    }
                    fault = fault.or(Some(error));
                }
            }
        }
        let Some(current) = best else {
            return Err(fault.unwrap_or_else(|| damaged(CURRENT, "cannot be read")));
        };
        let mut found = None;
        for name in copies
            .iter()
            .map(|twin| Manifest::file_name(current.generation, *twin))
        {
            let read = read_file(&*self.disk, &self.dir.join(&name))
                .map_err(|cause| damaged(&name, cause.to_string()));
            let checked =
                read.and_then(
                    |bytes| match Current::of(current.generation, &bytes) == current {
                        true => Manifest::decode(&name, &bytes),
                        false => Err(damaged(&name, "is not the one that CURRENT names")),
                    },
                );
            match checked {
                Ok(manifest) => found = found.or(Some(manifest)),
                Err(error @ EngineError::Newer { .. }) => return Err(error),
                Err(error) => {
                    whole = false;
                    self.book.note(&name, &error.to_string(), true);
                    fault = Some(error);
                }
            }
        }
        match found {
            Some(manifest) => Ok(Some((manifest, whole))),
            None => Err(fault.unwrap_or_else(|| damaged(CURRENT, "names no manifest"))),
        }
    }

    fn remove_orphans(&self, names: &[String]) {
        let set = self.set();
        let named = self.files_of(&set.manifest);
        for name in names
            .iter()
            .filter(|name| is_ours(name) && !named.contains(name))
        {
            tracing::info!(file = name, dir = %self.dir.display(), "removing a file that no manifest names");
            self.remove(name);
        }
    }
}

/// Whether a file was made by a store (and may be removed by one).
fn is_ours(name: &str) -> bool {
    name.ends_with(".run")
        || name.ends_with(".run.twin")
        || name.ends_with(".new")
        || name.starts_with("manifest-")
        || name == "CURRENT.twin"
}
