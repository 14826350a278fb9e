//! What the engines and the table of places cost on this machine, for docs/performance.md:
//! `cargo run --release -p minikv-core --example engine_figures -- DIRECTORY [ROWS]`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use minikv_core::engine::block_cache::BlockCache;
use minikv_core::engine::budget::OverlayBudget;
use minikv_core::engine::memory::Memory;
use minikv_core::engine::merge::Merger;
use minikv_core::engine::native::Native;
use minikv_core::engine::places::Places;
use minikv_core::engine::run_store::{Birth, StoreOptions};
use minikv_core::engine::{Batch, Engine, View, digest};
use minikv_core::env::Env;
use minikv_core::ids::{GroupId, PayloadId};
use minikv_core::log::{Complete, Item, Place, Position, Stream};

/// User and system time of the process, threads that ended included; in steps of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn rss_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

fn measured<T>(what: &str, count: u64, work: impl FnOnce() -> T) -> T {
    let (cpu_before, wall) = (cpu(), Instant::now());
    let result = work();
    let (cpu, wall) = (cpu() - cpu_before, wall.elapsed());
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    println!(
        "{what:<58} {:>9.3} us CPU {:>9.3} us wall   RSS {} MiB",
        each(cpu),
        each(wall),
        rss_mib()
    );
    result
}

/// Spreads numbers over the key space.
fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 31)).wrapping_mul(0x7fb5_d329_728e_a185);
    let n = (n ^ (n >> 27)).wrapping_mul(0x81da_def4_bc2d_d44d);
    n ^ (n >> 33)
}

/// As a `current` row: space, kind, bucket, key; about 150 bytes with its row.
fn key(n: u64) -> Bytes {
    let hash = mix(n);
    let mut key = vec![0, (hash % 32) as u8, 1, 0, 0, 0, 0, 0, 0, 0, 1];
    key.extend_from_slice(format!("photos/{:03}/{:012x}.jpg", hash % 500, hash >> 16).as_bytes());
    Bytes::from(key)
}

fn row(n: u64) -> Bytes {
    let mut row = vec![0; 112];
    row.iter_mut()
        .enumerate()
        .for_each(|(at, byte)| *byte = (mix(n + at as u64) >> 5) as u8);
    Bytes::from(row)
}

fn insert(engine: &dyn Engine, from: u64, to: u64, between: &mut dyn FnMut()) {
    for n in from..to {
        let mark = Bytes::copy_from_slice(&n.to_be_bytes());
        engine
            .write(Batch {
                changes: vec![(key(n), Some(row(n)))],
                applied: Some(mark),
                digest_delta: None,
            })
            .unwrap();
        if n % 1024 == 0 {
            between();
        }
    }
}

fn reads(name: &str, engine: &dyn View, rows: u64) {
    let few = 200_000;
    let present: Vec<Bytes> = (0..few).map(|n| key(mix(n) % rows)).collect();
    let absent: Vec<Bytes> = (0..few).map(|n| key(rows + n)).collect();
    // The first round warms the cache.
    for round in ["first", "again"] {
        measured(
            &format!("{name}: get, random present key ({round})"),
            few,
            || {
                assert!(present.iter().all(|key| engine.get(key).unwrap().is_some()));
            },
        );
        measured(&format!("{name}: get, absent key ({round})"), few, || {
            assert!(absent.iter().all(|key| engine.get(key).unwrap().is_none()));
        });
    }
    let hot = &present[..1000];
    measured(&format!("{name}: get, 1000 hot keys"), few, || {
        assert!((0..few).all(|n| engine.get(&hot[n as usize % 1000]).unwrap().is_some()));
    });
    measured(&format!("{name}: seek and one row"), few, || {
        assert!(
            present
                .iter()
                .all(|key| engine.scan(key, &[]).next().unwrap().unwrap().0 == *key)
        );
    });
    measured(
        &format!("{name}: seek and one row, 1000 hot places"),
        few,
        || {
            assert!((0..few).all(|n| engine.scan(&hot[n as usize % 1000], &[]).next().is_some()));
        },
    );
    measured(
        &format!("{name}: scan of 1000 rows, per row"),
        1000 * 500,
        || {
            assert!(
                present[..500]
                    .iter()
                    .all(|key| engine.scan(key, &[]).take(1000).all(|row| row.is_ok()))
            );
        },
    );
}

fn options(dir: &Path, name: &str, cache: &Arc<BlockCache>) -> StoreOptions {
    StoreOptions {
        disk: Env::real().disk,
        dir: dir.join(name),
        twins: false,
        birth: Birth::MayCreate,
        cache: cache.clone(),
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = std::path::PathBuf::from(args.next().expect("DIRECTORY"));
    let rows: u64 = args.next().map_or(1_000_000, |rows| rows.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let block_on = |future| runtime.block_on(future);
    let cache = || Arc::new(BlockCache::new(32 << 20));
    println!(
        "{rows} rows of {} bytes, start at {} MiB",
        key(0).len() + row(0).len(),
        rss_mib()
    );

    // Overlay only, to see what the tree costs by itself.
    let small = 100_000.min(rows);
    let (budget, merger) = (OverlayBudget::new(64 << 20), Merger::new(0));
    let engine = runtime
        .block_on(Native::open(
            options(&dir, "overlay", &cache()),
            budget.clone(),
            merger.clone(),
        ))
        .unwrap();
    measured("overlay of 100k: insert", small, || {
        insert(&engine, 0, small, &mut || {})
    });
    println!(
        "  overlay {} bytes per row",
        engine.overlay_bytes() as u64 / small
    );
    reads("overlay of 100k", &engine, small);
    let bytes = Bytes::from_static(b"another row");
    let held = engine.view();
    measured("overlay of 100k: overwrite under a view", small, || {
        for n in 0..small {
            engine
                .write(Batch {
                    changes: vec![(key(n), Some(bytes.clone()))],
                    ..Batch::default()
                })
                .unwrap();
        }
    });
    drop((held, engine));

    // The real thing: checkpoints whenever the budget is used up, merges in the background.
    let shared = cache();
    let engine = runtime
        .block_on(Native::open(
            options(&dir, "native", &shared),
            budget.clone(),
            merger.clone(),
        ))
        .unwrap();
    let merging = runtime.spawn({
        let merger = merger.clone();
        async move { minikv_core::env::task::spawn_thread("merge", merger.run()).await }
    });
    let mut checkpoints = 0;
    measured("native: insert (with checkpoints and merges)", rows, || {
        insert(&engine, 0, rows, &mut || {
            if budget.is_over() {
                block_on(engine.checkpoint(None)).unwrap();
                checkpoints += 1;
            }
        });
    });
    measured("native: last checkpoint, whole", 1, || {
        block_on(engine.checkpoint(None)).unwrap()
    });
    println!(
        "  {checkpoints} checkpoints before; now {:?}",
        engine.durable()
    );
    reads("native, several runs", &engine, rows);
    println!("  cache {:?}", shared.stats());
    measured("native: recompute the digest, per row", rows, || {
        assert_eq!(digest::recompute(&engine).unwrap(), engine.digest());
    });
    measured("native: full merge, per row", rows, || {
        let (store, merge) = (engine.store().clone(), "merge");
        runtime
            .block_on(async move {
                minikv_core::env::task::spawn_thread(merge, async move { store.merge_all(0).await })
                    .await
            })
            .unwrap()
            .unwrap();
    });
    reads("native, one run", &engine, rows);
    println!("  cache {:?}", shared.stats());
    drop(engine);
    let fresh = cache();
    let engine = measured("native: open", 1, || {
        runtime
            .block_on(Native::open(
                options(&dir, "native", &fresh),
                budget.clone(),
                merger.clone(),
            ))
            .unwrap()
    });
    drop(engine);
    let engine = measured("memory: open (loads all), per row", rows, || {
        runtime
            .block_on(Memory::open(options(&dir, "native", &fresh)))
            .unwrap()
    });
    reads("memory", &engine, rows);
    drop(engine);

    let places = runtime
        .block_on(Places::open(
            options(&dir, "places", &cache()),
            budget.clone(),
            merger.clone(),
        ))
        .unwrap();
    let item = |n: u64| {
        Item::Payload(PayloadId {
            group: GroupId(1 + (n % 8) as u16),
            index: n / 8,
            term: 3,
        })
    };
    let place = |n: u64| Place {
        stream: Stream::Meta,
        position: Position::new(1 + (n >> 15) as u32, (n as u32 & 0x7fff) << 13),
        len: 4096,
    };
    measured("places: insert (with checkpoints)", rows, || {
        for n in 0..rows {
            places.insert(&item(n), place(n)).unwrap();
            if n % 250_000 == 249_999 {
                block_on_unit(&runtime, places.checkpoint(Complete::default()));
            }
        }
    });
    println!("  {:?}", places.store().set().info());
    measured("places: get, random", rows, || {
        assert!((0..rows).all(|n| places.get(&item(mix(n) % rows)).unwrap().is_some()));
    });
    measured("places: items of one segment", 1, || {
        assert!(!places.items_in(&[(Stream::Meta, 1)]).unwrap().is_empty())
    });
    measured("places: remove", rows / 2, || {
        assert!((0..rows / 2).all(|n| places.remove(&item(n)).unwrap().is_some()));
    });
    block_on_unit(&runtime, places.checkpoint(Complete::default()));
    drop(places);
    measured("places: open", 1, || {
        runtime
            .block_on(Places::open(
                options(&dir, "places", &cache()),
                budget.clone(),
                merger.clone(),
            ))
            .unwrap();
    });
    merger.close();
    runtime.block_on(merging).unwrap().unwrap();
}

fn block_on_unit(
    runtime: &tokio::runtime::Runtime,
    future: impl Future<Output = Result<(), minikv_core::engine::EngineError>>,
) {
    runtime.block_on(future).unwrap();
}
