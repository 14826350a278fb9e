//! The default engine: runs searched in place under an overlay. It has no log of its own: what the overlay holds is in
//! the node's log until a checkpoint made it durable.
//!
//! Always true:
//! * readers take the overlay before the runs, and a checkpoint publishes its run before it lets the layer go: a row is
//!   never in neither;
//! * a checkpoint is the rows at the moment of its call, with that moment's mark and digest;
//! * checkpoints become durable in the order of their moments; one that a later one covers is not written.
//!
//! Elsewhere: files (`run_store`), when a checkpoint is due (`group`), who merges (`merge::Merger`).

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};

use super::budget::{BudgetShare, OverlayBudget};
use super::damage::{Damage, Healed};
use super::digest::{delta, row_hash};
use super::export::Export;
use super::heal::ScrubPosition;
use super::incoming::Prepared;
use super::manifest::StoreKind;
use super::merge::Merger;
use super::merged::{Merged, Source};
use super::overlay::{Moment, Overlay};
use super::row::Row;
use super::run_set::{RunSet, failed};
use super::run_store::{RunStore, StoreOptions, Written};
use super::{
    Batch, BeforeDurable, CheckpointInfo, Engine, EngineError, RowIter, View, on_env_thread,
};

/// One group's rows, native.
#[derive(Clone)]
pub struct Native(Arc<Inner>);

struct Inner {
    store: Arc<RunStore>,
    overlay: RwLock<Overlay>,
    budget: BudgetShare,
    merger: Arc<Merger>,
    /// One batch or freeze at a time, so that a batch may read old rows before it locks readers out.
    writing: Mutex<()>,
    /// One checkpoint or install at a time; holds the newest moment that is durable.
    covered: tokio::sync::Mutex<u64>,
}

impl Native {
    /// Opens the newest checkpoint. Blocks on a real disk: call it on an env thread.
    pub async fn open(
        options: StoreOptions,
        budget: Arc<OverlayBudget>,
        merger: Arc<Merger>,
    ) -> Result<Native, EngineError> {
        let store = RunStore::open(options, StoreKind::Rows).await?;
        let set = store.set();
        let overlay = Overlay {
            applied: set.manifest().applied.clone(),
            digest: set.manifest().digest,
            ..Overlay::default()
        };
        Ok(Native(Arc::new(Inner {
            store,
            overlay: RwLock::new(overlay),
            budget: BudgetShare::new(budget),
            merger,
            writing: Mutex::new(()),
            covered: tokio::sync::Mutex::new(0),
        })))
    }

    /// The files below.
    pub fn store(&self) -> &Arc<RunStore> {
        &self.0.store
    }
}

impl Inner {
    /// The digest's move for keys that the newest tree does not know, in the order of the changes; 0 for the others.
    fn old_hashes(&self, batch: &Batch) -> Result<Vec<u128>, EngineError> {
        let mut hashes = vec![0; batch.changes.len()];
        let mut unknown = Vec::new();
        let overlay = self.overlay.read();
        for (at, (key, _)) in batch.changes.iter().enumerate() {
            match (overlay.newest.get(key), overlay.find_frozen(key)) {
                (Some(_), _) => {}
                (None, Some(row)) => hashes[at] = row.map_or(0, |row| row_hash(key, row)),
                (None, None) => unknown.push(at),
            }
        }
        drop(overlay);
        if unknown.is_empty() {
            return Ok(hashes);
        }
        let set = self.store.set();
        for at in unknown {
            let key = &batch.changes[at].0;
            if let Some(Some(row)) = set.find(key)? {
                hashes[at] = row_hash(key, &row);
            }
        }
        Ok(hashes)
    }

    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        let _alone = self.writing.lock();
        // Debug builds check what a caller says of the digest.
        let compute = batch.digest_delta.is_none() || cfg!(debug_assertions);
        let old = if compute {
            self.old_hashes(&batch)?
        } else {
            Vec::new()
        };
        let mut scratch = Vec::new();
        let rows: Vec<Row> = batch
            .changes
            .iter()
            .map(|(key, row)| Row::new(key, row.as_deref(), &mut scratch))
            .collect();
        let mut overlay = self.overlay.write();
        let mut moved = 0u128;
        for (at, row) in rows.into_iter().enumerate() {
            let (key, new) = &batch.changes[at];
            let replaced = overlay.newest.insert(row);
            if !compute {
                continue;
            }
            moved = moved.wrapping_add(match replaced {
                Some(replaced) => delta(key, replaced.value(), new.as_deref()),
                None => delta(key, None, new.as_deref()).wrapping_sub(old[at]),
            });
        }
        if let Some(said) = batch.digest_delta {
            assert!(
                !compute || said == moved,
                "a batch came with the wrong digest"
            );
            moved = said;
        }
        overlay.digest = overlay.digest.wrapping_add(moved);
        if batch.applied.is_some() {
            overlay.applied = batch.applied;
        }
        self.budget.set(overlay.bytes());
        Ok(())
    }

    fn freeze(&self) -> Moment {
        let _alone = self.writing.lock();
        self.overlay.write().freeze()
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
        let layers = self.overlay.read().layers_up_to(moment.number);
        let sources = layers
            .iter()
            .map(|layer| Source::Tree(layer.tree.seek(&[])))
            .collect();
        // Nothing lies below the first run: there its tombstones would hide nothing.
        let below = !self.store.set().runs().is_empty();
        let run = self
            .store
            .write_run(&mut Merged::new(sources, &[], below), None)
            .await?;
        let set = self.store.set();
        let known = set.manifest();
        if run.is_some() || known.applied != moment.applied || known.digest != moment.digest {
            let change = |manifest: &mut super::manifest::Manifest| {
                manifest.runs.splice(0..0, run);
                manifest.applied = moment.applied;
                manifest.digest = moment.digest;
            };
            self.store.switch(change, RunStore::publish).await?;
        }
        *covered = moment.number;
        let gone = self.let_go(moment.number);
        drop(gone);
        self.merger.ask(&self.store);
        Ok(self.store.set().info())
    }

    fn let_go(&self, moment: u64) -> Vec<Arc<super::overlay::Layer>> {
        let mut overlay = self.overlay.write();
        let gone = overlay.let_go(moment);
        self.budget.set(overlay.bytes());
        gone
    }

    async fn install(&self, prepared: Prepared) -> Result<CheckpointInfo, EngineError> {
        let mut covered = self.covered.lock().await;
        let mut replaced = None;
        let publish = |slot: &RwLock<Arc<RunSet>>, set: Arc<RunSet>| {
            let _alone = self.writing.lock();
            let mut overlay = self.overlay.write();
            // Checkpoints of moments before this one must not put their old mark over the new rows.
            *covered = overlay.moments;
            if crate::planted!("install-keeps-old-overlay") {
                overlay.applied = set.manifest().applied.clone();
                overlay.digest = set.manifest().digest;
                *slot.write() = set;
                return;
            }
            let new = Overlay {
                applied: set.manifest().applied.clone(),
                digest: set.manifest().digest,
                moments: overlay.moments,
                ..Overlay::default()
            };
            replaced = Some(std::mem::replace(&mut *overlay, new));
            *slot.write() = set;
            self.budget.set(0);
        };
        self.store.take_over(prepared, publish).await?;
        drop(replaced);
        Ok(self.store.set().info())
    }
}

fn find(overlay: &Overlay, key: &[u8]) -> Option<Option<Bytes>> {
    overlay.find(key).map(|row| row.map(Bytes::copy_from_slice))
}

fn merged(overlay: &Overlay, set: &RunSet, from: &[u8], to: &[u8]) -> Result<Merged, EngineError> {
    let mut sources = Vec::with_capacity(2 + set.runs().len());
    overlay.add_sources(from, &mut sources);
    set.add_sources(from, to, true, &mut sources)?;
    Ok(Merged::new(sources, to, false))
}

fn scan(overlay: &Overlay, set: &RunSet, from: &[u8], to: &[u8]) -> RowIter<'static> {
    match merged(overlay, set, from, to) {
        Ok(merged) => Box::new(merged),
        Err(error) => failed(error),
    }
}

impl View for Native {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if let Some(known) = find(&self.0.overlay.read(), key) {
            return Ok(known);
        }
        Ok(self.0.store.set().find(key)?.flatten())
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> RowIter<'a> {
        let (overlay, set) = self.moment();
        scan(&overlay, &set, from, to)
    }

    fn merged(&self, from: &[u8], to: &[u8]) -> Option<Result<Merged, EngineError>> {
        let (overlay, set) = self.moment();
        Some(merged(&overlay, &set, from, to))
    }
}

impl Native {
    /// Overlay and runs that belong together: an install changes both under the overlay's lock.
    fn moment(&self) -> (Overlay, Arc<RunSet>) {
        let overlay = self.0.overlay.read();
        (overlay.clone(), self.0.store.set())
    }
}

struct NativeView(Overlay, Arc<RunSet>);

impl View for NativeView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match find(&self.0, key) {
            Some(known) => Ok(known),
            None => Ok(self.1.find(key)?.flatten()),
        }
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> RowIter<'a> {
        scan(&self.0, &self.1, from, to)
    }

    fn merged(&self, from: &[u8], to: &[u8]) -> Option<Result<Merged, EngineError>> {
        Some(merged(&self.0, &self.1, from, to))
    }
}

impl Engine for Native {
    fn view(&self) -> Box<dyn View> {
        let (overlay, set) = self.moment();
        Box::new(NativeView(overlay, set))
    }

    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        self.0.write(batch)
    }

    fn applied(&self) -> Option<Bytes> {
        self.0.overlay.read().applied.clone()
    }

    fn digest(&self) -> u128 {
        self.0.overlay.read().digest
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::block_cache::BlockCache;
    use super::super::run_store::Birth;
    use super::*;
    use crate::env::sim::{self, SimDisk};
    use crate::env::{clock, task};

    /// As a node runs it: checkpoints when the budget is used up, merges on their own, reads in between.
    #[test]
    fn overlay_stays_within_its_budget_and_runs_stay_few() {
        sim::run(1, async {
            let disk = SimDisk::new(1);
            disk.plant_dir("/data").unwrap();
            let (budget, merger) = (OverlayBudget::new(200 << 10), Merger::new(50 << 20));
            let merging = task::spawn_thread("merge", merger.clone().run());
            let options = StoreOptions {
                disk: disk.env().disk,
                dir: "/data/g1".into(),
                twins: false,
                birth: Birth::MayCreate,
                cache: Arc::new(BlockCache::new(64 << 10)),
            };
            let engine = Native::open(options, budget.clone(), merger.clone())
                .await
                .unwrap();
            let key = |n: u32| Bytes::from(n.wrapping_mul(2_654_435_761).to_be_bytes().to_vec());
            for n in 0..20_000u32 {
                let changes = vec![(key(n), Some(Bytes::from(vec![n as u8; 100])))];
                engine
                    .write(Batch {
                        changes,
                        ..Batch::default()
                    })
                    .unwrap();
                if budget.is_over() {
                    engine.checkpoint(None).await.unwrap();
                    assert_eq!(budget.used(), 0);
                    assert_eq!(engine.get(&key(n / 2)).unwrap().unwrap()[0], (n / 2) as u8);
                }
            }
            clock::sleep(std::time::Duration::from_secs(60)).await;
            let runs = engine.durable().runs;
            assert!(engine.durable().generation > 10 && runs < 8, "{runs} runs");
            assert!((0..20_000).all(|n| engine.get(&key(n)).unwrap().unwrap()[0] == n as u8));
            assert_eq!(
                super::super::digest::recompute(&engine).unwrap(),
                engine.digest()
            );
            drop(engine);
            assert_eq!(budget.used(), 0, "its share is given back");
            merger.close();
            merging.await.unwrap();
        });
    }
}
