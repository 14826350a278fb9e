//! A checkpoint from elsewhere: received into a directory of its own, checked, then taken over in one switch.
//!
//! Always true:
//! * until the switch is durable the engine is what it was; a cut leaves files that the next open removes;
//! * nothing is taken over that was not read back whole: every block, and every file against the manifest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};

use super::EngineError;
use super::block_cache::BlockCache;
use super::damage::{DamageBook, damaged};
use super::export::Export;
use super::manifest::{Manifest, StoreKind};
use super::run::Run;
use super::run_set::RunSet;
use super::run_store::{RunStore, io_error};
use crate::env::disk::{Disk, File, Open};

/// A checkpoint being received.
pub struct Incoming {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    manifest: Manifest,
    files: Vec<Arc<dyn File>>,
}

/// A checkpoint that arrived whole and is durable in its directory.
pub struct Prepared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    manifest: Manifest,
    /// Every file is there twice.
    twins: bool,
}

impl Incoming {
    /// Begins in a directory that is used for nothing else; what lies there is removed. It must be on the engine's disk.
    pub async fn begin(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        manifest: &Bytes,
    ) -> Result<Incoming, EngineError> {
        let manifest = Manifest::decode("received manifest", manifest)?;
        if manifest.kind != StoreKind::Rows {
            return Err(damaged("received manifest", "does not hold a group's rows"));
        }
        disk.create_dir_all(&dir)
            .map_err(io_error("create a directory for a checkpoint"))?;
        for left in disk
            .list(&dir)
            .map_err(io_error("list the directory of a checkpoint"))?
        {
            disk.remove(&left.path)
                .map_err(io_error("empty the directory of a checkpoint"))?;
        }
        let create = |run: &super::run::RunMeta| {
            let name = run.file_name(false);
            disk.open(&dir.join(&name), Open::CreateNew)
                .map_err(io_error(format!("create {name}")))
        };
        let files = manifest.runs.iter().map(create).collect::<Result<_, _>>()?;
        Ok(Incoming {
            disk,
            dir,
            manifest,
            files,
        })
    }

    /// Bytes of a file (numbered as in the manifest), as they come.
    pub async fn write(&self, file: usize, at: u64, bytes: Bytes) -> Result<(), EngineError> {
        let target = self
            .files
            .get(file)
            .ok_or_else(|| damaged("received file", "the manifest has no such file"))?;
        let parts = [bytes];
        target
            .write_at(&parts, at)
            .await
            .map_err(io_error("write a received checkpoint"))
    }

    /// Files and their lengths, as the manifest has them.
    pub fn files(&self) -> impl Iterator<Item = u64> + '_ {
        self.manifest.runs.iter().map(|run| run.len)
    }

    /// Everything was sent: makes it durable and reads all of it back. `twins`: each file is written a second time, for a
    /// store that keeps everything twice; taking over then needs no more room.
    pub async fn finish(self, twins: bool) -> Result<Prepared, EngineError> {
        let Incoming {
            disk,
            dir,
            manifest,
            files,
        } = self;
        for file in &files {
            file.sync_data()
                .await
                .map_err(io_error("sync a received checkpoint"))?;
        }
        drop(files);
        for meta in &manifest.runs {
            check(&disk, &dir, meta.clone())?;
            if twins {
                copy(&*disk, &dir, &meta.file_name(false), &meta.file_name(true)).await?;
            }
        }
        disk.sync_dir(&dir)
            .await
            .map_err(io_error("sync the directory of a checkpoint"))?;
        Ok(Prepared {
            disk,
            dir,
            manifest,
            twins,
        })
    }
}

fn check(disk: &Arc<dyn Disk>, dir: &Path, meta: super::run::RunMeta) -> Result<(), EngineError> {
    let name = meta.file_name(false);
    let run = Run::open(
        &**disk,
        dir,
        meta,
        false,
        Arc::new(BlockCache::new(0)),
        Arc::new(DamageBook::default()),
    );
    if let Some(what) = run.broken() {
        return Err(damaged(name, what));
    }
    let (mut at, mut crc) = (0, Digest::new(CrcAlgorithm::Crc64Nvme));
    while at < run.meta().len {
        let block = run.raw_block(at)?;
        crc.update(&block);
        at += block.len() as u64;
    }
    if crc.finalize() != run.meta().crc64 {
        return Err(damaged(
            name,
            "its blocks are good but not those of the manifest",
        ));
    }
    Ok(())
}

impl Prepared {
    /// The applied mark it will bring.
    pub fn applied(&self) -> Option<&Bytes> {
        self.manifest.applied.as_ref()
    }

    /// Its rows, before it is taken over.
    pub fn rows(&self) -> Export {
        let open = |meta: &super::run::RunMeta| {
            Arc::new(Run::open(
                &*self.disk,
                &self.dir,
                meta.clone(),
                false,
                Arc::new(BlockCache::new(0)),
                Arc::new(DamageBook::default()),
            ))
        };
        Export(Arc::new(RunSet {
            manifest: self.manifest.clone(),
            runs: self.manifest.runs.iter().map(open).collect(),
        }))
    }
}

/// Writes a file a second time, durably but for its name.
async fn copy(disk: &dyn Disk, dir: &Path, from: &str, to: &str) -> Result<(), EngineError> {
    let step = || io_error(format!("copy {from}"));
    let source = disk.open(&dir.join(from), Open::Read).map_err(step())?;
    let target = disk.open(&dir.join(to), Open::CreateNew).map_err(step())?;
    let mut at = 0;
    loop {
        let mut piece = vec![0; 256 << 10];
        let read = source.read_at(&mut piece, at).map_err(step())?;
        if read == 0 {
            break;
        }
        piece.truncate(read);
        let parts = [Bytes::from(piece)];
        target.write_at(&parts, at).await.map_err(step())?;
        at += read as u64;
    }
    target.sync_data().await.map_err(step())
}

impl RunStore {
    /// Moves the files in and switches to them. `publish` as in [`RunStore::switch`].
    pub(super) async fn take_over(
        &self,
        prepared: Prepared,
        publish: impl FnOnce(&parking_lot::RwLock<Arc<RunSet>>, Arc<RunSet>),
    ) -> Result<(), EngineError> {
        let _alone = self.rewriting.lock().await;
        let Prepared {
            disk,
            dir,
            manifest,
            twins,
        } = prepared;
        if self.twins && !twins {
            let what = "a checkpoint came without the twins that this store keeps";
            return Err(EngineError::GivenUp(what.to_owned()));
        }
        let copies: &[bool] = if self.twins { &[false, true] } else { &[false] };
        for run in &manifest.runs {
            for name in copies.iter().map(|twin| run.file_name(*twin)) {
                disk.rename(&dir.join(&name), &self.dir.join(&name))
                    .map_err(io_error(format!("move {name} in")))?;
            }
        }
        self.sync_dir().await?;
        let change = |own: &mut Manifest| {
            let newest = manifest
                .runs
                .iter()
                .map(|run| run.id.number + 1)
                .max()
                .unwrap_or(0);
            own.next_run = own.next_run.max(newest);
            own.applied = manifest.applied;
            own.digest = manifest.digest;
            own.extra = manifest.extra;
            own.runs = manifest.runs;
        };
        let set = self.switch(change, publish).await?;
        // Had it been here before with a bad file, that file is gone now.
        for run in set.runs() {
            self.book.mended(&run.meta().file_name(false));
            self.book.mended(&run.meta().file_name(true));
        }
        Ok(())
    }
}
