//! Looking for damage, and mending what a twin still has.
//!
//! Always true:
//! * a bad file is replaced only by a whole one, checked block by block and as a whole, fsynced, by rename;
//! * what no copy has is left as it is: reads of it go on saying so.

use super::EngineError;
use super::block::RunId;
use super::damage::{Healed, damaged};
use super::manifest::{Current, Manifest};
use super::run::Run;
use super::run_store::{RunStore, current_name, io_error};
use super::store_open::read_file;
use crate::env::disk::Open;

use crc_fast::{CrcAlgorithm, Digest};

/// How far a scrubber got. Runs come and go meanwhile: each is named by its id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScrubPosition {
    run: Option<RunId>,
    at: u64,
}

impl RunStore {
    /// Checks the next block, in every copy; what is bad is in `damage` afterwards. Gives the bytes read, `None` at the
    /// end. Plain reads: the caller decides how often.
    pub fn scrub_next(&self, position: &mut ScrubPosition) -> Option<u64> {
        if *position == ScrubPosition::default() {
            self.scrub_manifest();
        }
        let set = self.set();
        let wanted = |run: &&std::sync::Arc<Run>| match position.run {
            Some(id) => run.meta().id > id || (run.meta().id == id && position.at < run.meta().len),
            None => true,
        };
        let run = set
            .runs()
            .iter()
            .filter(wanted)
            .min_by_key(|run| run.meta().id)?;
        let at = if position.run == Some(run.meta().id) {
            position.at
        } else {
            0
        };
        // Behind a block that no copy has, the next one cannot be found; the run is lost already.
        let next = run.scrub_block(at).unwrap_or(run.meta().len);
        *position = ScrubPosition {
            run: Some(run.meta().id),
            at: next,
        };
        Some(next - at)
    }

    /// Checks every copy of the manifest in force and of the file that names it.
    fn scrub_manifest(&self) {
        // Under way to another one: that writes all of them.
        let Ok(_alone) = self.switch.try_lock() else {
            return;
        };
        let set = self.set();
        let manifest = set.manifest.encode();
        let generation = set.manifest.generation;
        let current = Current::of(generation, &manifest).encode();
        for twin in [false, true].into_iter().take(1 + usize::from(self.twins)) {
            let files = [
                (Manifest::file_name(generation, twin), &manifest),
                (current_name(twin), &current),
            ];
            for (name, wanted) in files {
                let read = || read_file(&*self.disk, &self.dir.join(&name));
                let is_whole = || read().is_ok_and(|bytes| bytes == **wanted);
                if generation > 0 && !is_whole() && !is_whole() {
                    self.book.note(&name, "is not what was written", true);
                }
            }
        }
    }

    /// Writes bad files anew from their twins, as far as possible. What could not be healed stays in `damage`.
    pub async fn heal(&self) -> Result<Vec<Healed>, EngineError> {
        let _alone = self.rewriting.lock().await;
        let before = self.healed().len();
        let set = self.set();
        let mut manifests = false;
        for damage in self.damage().into_iter().filter(|damage| damage.healable) {
            let run = set.runs().iter().find_map(|run| {
                let copy = (0..=1).find(|copy| run.meta().file_name(*copy == 1) == damage.file)?;
                Some((run, copy))
            });
            match run {
                Some((run, copy)) => match self.rewrite(run, copy).await {
                    Err(error) if error.is_damage() => {
                        self.book.note(&damage.file, &error.to_string(), false);
                        let _ = self
                            .disk
                            .remove(&self.dir.join(format!("{}.new", damage.file)));
                    }
                    outcome => outcome?,
                },
                None => manifests = true,
            }
        }
        if manifests {
            self.switch(|_| {}, RunStore::publish).await?;
        }
        Ok(self.healed().split_off(before))
    }

    /// Writes one copy of a run anew, taking each block from whichever copy has it.
    async fn rewrite(&self, run: &Run, copy: usize) -> Result<(), EngineError> {
        let name = run.meta().file_name(copy == 1);
        let new = format!("{name}.new");
        let file = self.create(&new)?;
        let (mut at, mut crc) = (0, Digest::new(CrcAlgorithm::Crc64Nvme));
        while at < run.meta().len {
            let block = run.raw_block(at)?;
            crc.update(&block);
            let (begin, parts) = (at, [block]);
            at += parts[0].len() as u64;
            file.write_at(&parts, begin)
                .await
                .map_err(io_error(format!("write {new}")))?;
        }
        if crc.finalize() != run.meta().crc64 {
            return Err(damaged(
                name,
                "its blocks are good but not those of the manifest",
            ));
        }
        file.sync_data()
            .await
            .map_err(io_error(format!("sync {new}")))?;
        let (from, to) = (self.dir.join(&new), self.dir.join(&name));
        self.disk
            .rename(&from, &to)
            .map_err(io_error(format!("rename to {name}")))?;
        self.sync_dir().await?;
        let file = self
            .disk
            .open(&to, Open::Read)
            .map_err(io_error(format!("open {name}")))?;
        run.replace_copy(copy, file);
        self.book.mended(&name);
        Ok(())
    }
}
