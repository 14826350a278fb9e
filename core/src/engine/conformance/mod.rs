//! What every engine promises, as tests that run on each of them, on the simulated disk.
//!
//! `behaviour`: what callers see. `faults`: what is left after crashes and damage. `hosts`: what a database adds that is
//! found again, late, of another story, or damaged (elsewhere each open finds no database and makes one from the runs).

#![allow(clippy::unwrap_used)]

mod behaviour;
mod faults;
mod hosts;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::block_cache::BlockCache;
use super::budget::OverlayBudget;
use super::hosted::{Host, Hosted};
use super::memory::Memory;
use super::merge::Merger;
use super::native::Native;
use super::run_store::{Birth, RunStore, StoreOptions};
use super::table::Database;
use super::{Batch, Engine, EngineError, View};
use crate::env::sim::SimDisk;

/// An engine under test.
pub trait Subject: Engine + Clone + Sized {
    /// Opens it.
    fn open(options: StoreOptions) -> BoxFuture<'static, Result<Self, EngineError>>;
    /// Its files.
    fn store(&self) -> &Arc<RunStore>;
}

impl Subject for Native {
    fn open(options: StoreOptions) -> BoxFuture<'static, Result<Native, EngineError>> {
        // Merges run when a test asks for them.
        Native::open(options, OverlayBudget::new(64 << 20), Merger::new(0)).boxed()
    }
    fn store(&self) -> &Arc<RunStore> {
        Native::store(self)
    }
}

impl Subject for Memory {
    fn open(options: StoreOptions) -> BoxFuture<'static, Result<Memory, EngineError>> {
        Memory::open(options).boxed()
    }
    fn store(&self) -> &Arc<RunStore> {
        Memory::store(self)
    }
}

thread_local! {
    /// Directories of this test's databases.
    static HOSTS: std::cell::RefCell<Vec<tempfile::TempDir>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// A directory on the real disk without a database.
fn new_host() -> PathBuf {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    HOSTS.with_borrow_mut(|hosts| hosts.push(dir));
    path
}

pub fn open_in<D: Database>(
    options: StoreOptions,
    dir: PathBuf,
) -> BoxFuture<'static, Result<Hosted<D>, EngineError>> {
    let host = Host {
        dir,
        cache_bytes: 1 << 20,
    };
    Hosted::open(options, OverlayBudget::new(64 << 20), Merger::new(0), host).boxed()
}

impl<D: Database> Subject for Hosted<D> {
    fn open(options: StoreOptions) -> BoxFuture<'static, Result<Hosted<D>, EngineError>> {
        open_in(options, new_host())
    }
    fn store(&self) -> &Arc<RunStore> {
        Hosted::store(self)
    }
}

pub type Model = BTreeMap<Vec<u8>, Vec<u8>>;
pub const DIR: &str = "/data/g1";
/// Where checkpoints from elsewhere arrive.
pub const ARRIVALS: &str = "/data/in";

pub fn options(disk: &SimDisk, twins: bool) -> StoreOptions {
    StoreOptions {
        disk: disk.env().disk,
        dir: PathBuf::from(DIR),
        twins,
        birth: Birth::MayCreate,
        cache: Arc::new(BlockCache::new(1 << 20)),
    }
}

pub fn new_disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.plant_dir("/data").unwrap();
    disk
}

pub async fn open<S: Subject>(disk: &SimDisk, twins: bool) -> S {
    S::open(options(disk, twins)).await.unwrap()
}

pub fn batch(changes: &[(&[u8], Option<&[u8]>)], applied: &str) -> Batch {
    let own = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    Batch {
        changes: changes
            .iter()
            .map(|(key, row)| (own(key), row.map(own)))
            .collect(),
        applied: Some(own(applied.as_bytes())),
        digest_delta: None,
    }
}

pub fn put(engine: &dyn Engine, key: &str, row: &str) {
    engine
        .write(batch(&[(key.as_bytes(), Some(row.as_bytes()))], ""))
        .unwrap();
}

pub fn all(view: &dyn View) -> Model {
    range(view, b"", b"")
}

pub fn range(view: &dyn View, from: &[u8], to: &[u8]) -> Model {
    let rows: Vec<_> = view.scan(from, to).map(|row| row.unwrap()).collect();
    assert!(
        rows.windows(2).all(|two| two[0].0 < two[1].0),
        "a scan gives each key once, in order"
    );
    rows.into_iter()
        .map(|(key, row)| (key.to_vec(), row.to_vec()))
        .collect()
}

pub fn same(view: &dyn View, model: &Model) {
    assert_eq!(&all(view), model);
    for (key, row) in model {
        assert_eq!(view.get(key).unwrap().as_deref(), Some(&row[..]));
    }
}

/// Many rows of every size around a block's, so that runs have several blocks.
pub fn fill(engine: &dyn Engine, model: &mut Model, from: u32, count: u32) {
    for n in from..from + count {
        let key = format!("key/{:06}", n.wrapping_mul(7919) % 1_000_000).into_bytes();
        let row = vec![n as u8; (n as usize * 37) % 600];
        engine
            .write(batch(&[(&key, Some(&row))], &format!("fill {n}")))
            .unwrap();
        model.insert(key, row);
    }
}

/// Waits for the merges that are due.
pub async fn merge<S: Subject>(engine: &S) {
    while engine.store().merge_once(0).await.unwrap() {}
}

/// Makes a test on each engine of each function named.
macro_rules! on_every_engine {
    ($($test:ident),* $(,)?) => {
        mod on_native {
            $(#[test]
            fn $test() {
                super::$test::<crate::engine::native::Native>();
            })*
        }
        mod on_memory {
            $(#[test]
            fn $test() {
                super::$test::<crate::engine::memory::Memory>();
            })*
        }
        mod on_sled {
            $(#[test]
            fn $test() {
                super::$test::<crate::engine::hosted::Hosted<crate::engine::sled_table::Sled>>();
            })*
        }
        #[cfg(feature = "rocksdb")]
        mod on_rocksdb {
            $(#[test]
            fn $test() {
                super::$test::<crate::engine::hosted::Hosted<crate::engine::rocksdb_table::RocksDb>>();
            })*
        }
    };
}
use on_every_engine;
