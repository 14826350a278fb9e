//! The engine that keeps all rows in memory: the overlay alone. Checkpoints have the native format, as one full run, so
//! either engine opens what the other left.
//!
//! Always true: the same as of `native`, but a checkpoint writes everything and opening reads everything.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::RwLock;

use super::damage::{Damage, Healed};
use super::digest::delta;
use super::export::Export;
use super::heal::ScrubPosition;
use super::incoming::Prepared;
use super::manifest::{Manifest, StoreKind};
use super::merge::merged;
use super::merged::{Merged, Source};
use super::row::Row;
use super::run_set::RunSet;
use super::run_store::{RunStore, StoreOptions};
use super::run_writer::RowSource;
use super::tree::Tree;
use super::{
    Batch, BeforeDurable, CheckpointInfo, Engine, EngineError, RowIter, View, on_env_thread,
};

/// One group's rows, in memory.
#[derive(Clone)]
pub struct Memory(Arc<Inner>);

struct Inner {
    store: Arc<RunStore>,
    state: RwLock<State>,
    /// One checkpoint or install at a time; holds the newest moment that is durable.
    covered: tokio::sync::Mutex<u64>,
}

#[derive(Clone, Default)]
struct State {
    rows: Tree,
    applied: Option<Bytes>,
    digest: u128,
    moments: u64,
    /// Bytes changed since the last checkpoint was begun.
    changed: usize,
}

/// Everything a set holds. Unlike `native`, this engine cannot serve around a damaged run.
fn load(set: &RunSet) -> Result<State, EngineError> {
    let manifest = set.manifest();
    let mut state = State {
        applied: manifest.applied.clone(),
        digest: manifest.digest,
        ..State::default()
    };
    let (mut source, mut scratch) = (merged(set.runs(), false)?, Vec::new());
    while source.advance()? {
        state
            .rows
            .insert(Row::new(source.key(), source.row(), &mut scratch));
    }
    Ok(state)
}

impl Memory {
    /// Loads the newest checkpoint. Blocks on a real disk: call it on an env thread.
    pub async fn open(options: StoreOptions) -> Result<Memory, EngineError> {
        let store = RunStore::open(options, StoreKind::Rows).await?;
        let state = RwLock::new(load(&store.set())?);
        Ok(Memory(Arc::new(Inner {
            store,
            state,
            covered: tokio::sync::Mutex::new(0),
        })))
    }
}

impl Memory {
    /// The files below.
    pub fn store(&self) -> &Arc<RunStore> {
        &self.0.store
    }
}

impl Inner {
    async fn checkpoint(
        &self,
        at: State,
        before: Option<BeforeDurable>,
    ) -> Result<CheckpointInfo, EngineError> {
        let mut covered = self.covered.lock().await;
        if *covered >= at.moments {
            return Ok(self.store.set().info());
        }
        if let Some(before) = before {
            before().await?;
        }
        let set = self.store.set();
        if set.manifest().applied != at.applied || set.manifest().digest != at.digest {
            let _alone = self.store.rewriting.lock().await;
            let run = self
                .store
                .write_run(
                    &mut Merged::new(vec![Source::Tree(at.rows.seek(&[]))], &[], false),
                    None,
                )
                .await?;
            let change = |manifest: &mut Manifest| {
                manifest.runs = run.into_iter().collect();
                manifest.applied = at.applied;
                manifest.digest = at.digest;
            };
            self.store.switch(change, RunStore::publish).await?;
        }
        *covered = at.moments;
        Ok(self.store.set().info())
    }

    async fn install(&self, prepared: Prepared) -> Result<CheckpointInfo, EngineError> {
        let mut covered = self.covered.lock().await;
        self.store.take_over(prepared, RunStore::publish).await?;
        let loaded = load(&self.store.set())?;
        let mut state = self.state.write();
        *covered = state.moments;
        *state = State {
            moments: state.moments,
            ..loaded
        };
        drop(state);
        Ok(self.store.set().info())
    }
}

struct MemoryView(Tree);

impl View for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self
            .0
            .get(key)
            .and_then(Row::value)
            .map(Bytes::copy_from_slice))
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> RowIter<'a> {
        Box::new(Merged::new(
            vec![Source::Tree(self.0.seek(from))],
            to,
            false,
        ))
    }

    fn merged(&self, from: &[u8], to: &[u8]) -> Option<Result<Merged, EngineError>> {
        let rows = vec![Source::Tree(self.0.seek(from))];
        Some(Ok(Merged::new(rows, to, false)))
    }
}

impl View for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self
            .0
            .state
            .read()
            .rows
            .get(key)
            .and_then(Row::value)
            .map(Bytes::copy_from_slice))
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> RowIter<'a> {
        let rows = self.0.state.read().rows.clone();
        Box::new(Merged::new(vec![Source::Tree(rows.seek(from))], to, false))
    }
}

impl Engine for Memory {
    fn view(&self) -> Box<dyn View> {
        Box::new(MemoryView(self.0.state.read().rows.clone()))
    }

    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        let (mut state, mut scratch) = (self.0.state.write(), Vec::new());
        let mut moved = 0u128;
        for (key, new) in &batch.changes {
            let old = match new {
                Some(new) => state.rows.insert(Row::new(key, Some(new), &mut scratch)),
                None => state.rows.remove(key),
            };
            moved = moved.wrapping_add(delta(
                key,
                old.as_ref().and_then(Row::value),
                new.as_deref(),
            ));
            state.changed += key.len() + new.as_ref().map_or(0, Bytes::len);
        }
        state.digest = state
            .digest
            .wrapping_add(batch.digest_delta.unwrap_or(moved));
        if batch.applied.is_some() {
            state.applied = batch.applied;
        }
        Ok(())
    }

    fn applied(&self) -> Option<Bytes> {
        self.0.state.read().applied.clone()
    }

    fn digest(&self) -> u128 {
        self.0.state.read().digest
    }

    /// A checkpoint lets nothing go here; what changed since the last one says as well when the next is due.
    fn overlay_bytes(&self) -> usize {
        self.0.state.read().changed
    }

    fn checkpoint(
        &self,
        before: Option<BeforeDurable>,
    ) -> BoxFuture<'static, Result<CheckpointInfo, EngineError>> {
        let mut state = self.0.state.write();
        state.moments += 1;
        state.changed = 0;
        let (inner, at) = (self.0.clone(), state.clone());
        drop(state);
        on_env_thread(
            "checkpoint",
            async move { inner.checkpoint(at, before).await },
        )
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
