//! openraft's own storage suite, run on our adapters over a simulated disk.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tokio::sync::Notify;

use super::checkpoint::CheckpointLimits;
use super::install::Arrivals;
use super::raft_log::RaftLog;
use super::raft_state_machine::StateMachine;
use super::raft_types::Types;
use super::replica::Replica;
use crate::chunk::store::Store;
use crate::engine::Engine;
use crate::engine::block_cache::BlockCache;
use crate::engine::budget::OverlayBudget;
use crate::engine::merge::Merger;
use crate::engine::native::Native;
use crate::engine::places::Places;
use crate::engine::run_store::{Birth, StoreOptions};
use crate::env::sim::{SimDisk, run};
use crate::ids::{GroupId, NodeId};
use crate::log::{Log, LogOptions};

struct Builder;

/// A group's adapters on a new simulated disk.
async fn adapters() -> (RaftLog, StateMachine) {
    let disk = SimDisk::new(7);
    let env = disk.env();
    let cache = Arc::new(BlockCache::new(1 << 20));
    let budget = OverlayBudget::new(1 << 20);
    let merger = Merger::new(0);
    let options = |dir: &str| StoreOptions {
        disk: env.disk.clone(),
        dir: Path::new("/data").join(dir),
        twins: true,
        birth: Birth::MayCreate,
        cache: cache.clone(),
    };
    let places = Places::open(options("places"), budget.clone(), merger.clone())
        .await
        .unwrap();
    let log_options = LogOptions {
        segment_bytes: Some(256 << 10),
        overlay_budget: 1 << 20,
        ..LogOptions::default()
    };
    let complete = places.complete();
    let mut seen = |_| {};
    let opened = Log::open(
        &env,
        Path::new("/data/log"),
        log_options,
        complete,
        &mut seen,
    );
    let (log, _) = opened.await.unwrap();
    let store = Arc::new(Store::new(log, places));
    let native = Native::open(options("g1"), budget, merger).await.unwrap();
    let engine: Arc<dyn Engine> = Arc::new(native);
    let limits = CheckpointLimits {
        log_bytes: 1 << 20,
        entries: 1000,
        keep_bytes: 1 << 20,
    };
    let grown = Arc::new(Notify::new());
    let arrivals = Arrivals {
        disk: env.disk.clone(),
        dir: "/data/incoming/g1".into(),
    };
    let replica = Replica::new(
        GroupId(1),
        NodeId(1),
        engine,
        store.clone(),
        arrivals,
        limits,
        grown,
    );
    let state = StateMachine::new(Arc::new(replica.unwrap()));
    (RaftLog::new(store, GroupId(1)), state)
}

impl StoreBuilder<Types, RaftLog, StateMachine, ()> for Builder {
    async fn build(&self) -> Result<((), RaftLog, StateMachine), StorageError<Types>> {
        let (log, state) = adapters().await;
        Ok(((), log, state))
    }
}

/// What openraft asks of a log and a state machine, ours keep.
#[test]
fn openrafts_storage_suite_passes() {
    run(1, async {
        Suite::<Types, RaftLog, StateMachine, Builder, ()>::test_store(&Builder)
            .await
            .unwrap();
    });
}
