//! A disk that fails at every operation in turn: EIO, ENOSPC, failed and hanging syncs. The node may refuse, it may give
//! up; it never panics, and what it acknowledged is there when it starts again.
//!
//! A sample runs by default; `MINIKV_FAULT_STRIDE=1` fails every operation.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use minikv_core::env::clock;
use minikv_core::env::sim::{Choice, Fault, OpKind, SimDisk};
use minikv_tests::client::Ledger;
use minikv_tests::content::{Content, Piece};
use minikv_tests::life::{self, Furnished};
use minikv_tests::model::{Name, Op};
use minikv_tests::observe;
use minikv_tests::steps::{Shape, Step};
use minikv_tests::world::{World, small_options};

/// Longer than anything a node waits for before it says that it cannot.
const PATIENCE: Duration = Duration::from_secs(40);

fn stride(default: usize) -> usize {
    std::env::var("MINIKV_FAULT_STRIDE").map_or(default, |stride| stride.parse().unwrap())
}

/// Does all ten steps, whatever they are answered, until one gets no answer at all.
async fn all_steps(world: &World) {
    for step in Step::OF_ONE_GROUP {
        if clock::timeout(PATIENCE, step.run(world, 0, Shape::ONE_GROUP))
            .await
            .is_err()
        {
            return;
        }
    }
    clock::sleep(Duration::from_secs(2)).await;
}

/// How many operations the steps take, and of which kind.
fn operations(store: &Furnished) -> Vec<OpKind> {
    let (disk, ledger) = store.copy();
    let mut from = 0;
    life::stage(2, async {
        let world = World::start(&disk, &small_options(), ledger).await.unwrap();
        from = disk.op_count() as usize;
        all_steps(&world).await;
        Ok(())
    })
    .unwrap();
    disk.history()[from..].iter().map(|op| op.kind).collect()
}

/// The steps with a fault at one of their operations, then a kill, a recovery, a power cut, a recovery.
fn survives(store: &Furnished, number: usize, kind: OpKind, fault: Fault) -> Result<(), String> {
    let (disk, ledger) = store.copy();
    life::stage(2, async {
        let world = World::start(&disk, &small_options(), ledger.clone()).await;
        let world = world.map_err(|error| error.to_string())?;
        disk.fail_at(disk.op_count() + number as u64, fault);
        let steps = all_steps(&world);
        let release = async {
            clock::sleep(Duration::from_secs(5)).await;
            disk.release_hangs();
        };
        futures::future::join(steps, release).await;
        match world.client.wrong_answers().first() {
            Some(broken) => Err(broken.to_string()),
            None => Ok(()),
        }
    })?;
    ledger.lock().crash();
    recovers(&disk, &ledger)
        .map_err(|what| format!("{fault:?} at operation {number}, a {kind:?}: {what}"))
}

fn recovers(disk: &SimDisk, ledger: &Ledger) -> Result<(), String> {
    let again = |known: &Ledger| Arc::new(parking_lot::Mutex::new(known.lock().clone()));
    let cut = disk.after_power_cut(&Choice::None);
    life::recover(&cut, &again(ledger), Shape::ONE_GROUP)
        .map_err(|what| format!("after a power cut: {what}"))?;
    // What a failed sync lost is still in the cache now; recovery must not believe it to be safe.
    let killed = disk.after_kill();
    life::recover(&killed, ledger, Shape::ONE_GROUP)
        .map_err(|what| format!("after a kill: {what}"))?;
    ledger.lock().crash();
    let cut = killed.after_power_cut(&Choice::None);
    life::recover(&cut, ledger, Shape::ONE_GROUP)
        .map_err(|what| format!("after a kill and a power cut: {what}"))
}

fn every_operation(pick: impl Fn(OpKind) -> bool, fault: Fault, default_stride: usize) {
    let store = Furnished::new().unwrap();
    let operations = operations(&store);
    let stride = stride(default_stride);
    let mut failed = Vec::new();
    let mut tried = 0;
    for (number, kind) in operations
        .into_iter()
        .enumerate()
        .filter(|(_, kind)| pick(*kind))
    {
        if number % stride == 0 {
            tried += 1;
            failed.extend(survives(&store, number, kind, fault).err());
        }
    }
    println!("{tried} operations failed with {fault:?}");
    assert!(
        failed.is_empty(),
        "{} of {tried}:\n{}",
        failed.len(),
        failed.join("\n")
    );
    assert!(tried > 0);
}

/// An I/O error at any operation costs at most an answer, never an acknowledged write.
#[test]
fn an_io_error_anywhere_loses_nothing_acknowledged() {
    every_operation(|kind| !is_sync(kind), Fault::Eio, 7);
}

/// A disk that is full for one operation costs at most an answer.
#[test]
fn no_space_anywhere_loses_nothing_acknowledged() {
    every_operation(|kind| !is_sync(kind), Fault::Enospc, 7);
}

/// A failed fsync is not believed, and not tried again: what it should have saved is not acknowledged.
#[test]
fn a_failed_fsync_anywhere_is_never_acknowledged() {
    every_operation(is_sync, Fault::Eio, 3);
}

/// A sync that takes five seconds holds answers up, and the node goes on afterwards.
#[test]
fn a_hanging_fsync_anywhere_only_delays() {
    every_operation(is_sync, Fault::Hang, 3);
}

fn is_sync(kind: OpKind) -> bool {
    matches!(kind, OpKind::Sync | OpKind::SyncDir)
}

/// While the log's fsync is held back, the writer gets no answer and no reader sees the write; once it is let go, both do.
#[test]
fn neither_the_answer_nor_the_state_is_ahead_of_the_log() {
    let store = Furnished::new().unwrap();
    let new = Content::from(Piece::new(4242, 500));
    let writes = [
        ("k", Op::Put(new.clone())),
        ("k", Op::Delete),
        ("fresh", Op::PutIfAbsent(new.clone())),
        ("fresh", Op::Put(Piece::new(4243, 90_000).into())),
        ("k", Op::Complete("upload-0".to_owned(), vec![1, 2])),
    ];
    for (key, op) in writes {
        let (disk, ledger) = store.copy();
        held_back(&disk, &ledger, key, op.clone()).unwrap_or_else(|what| panic!("{op:?}: {what}"));
    }
}

fn held_back(disk: &SimDisk, ledger: &Ledger, key: &str, op: Op) -> Result<(), String> {
    life::stage(2, async {
        let world = World::start(disk, &small_options(), ledger.clone()).await;
        let world = world.map_err(|error| error.to_string())?;
        let bucket = world.client.kv().bucket("b").await.unwrap().unwrap();
        let before = observe::key(world.client.kv(), &bucket, key).await.unwrap();

        disk.fail_rate(OpKind::Sync, 1_000_000, Fault::Hang);
        let answered = Arc::new(AtomicBool::new(false));
        let write = {
            let (client, answered) = (world.client.clone(), answered.clone());
            let name = Name::new("b", key);
            async move {
                let answer = client.run(&name, op).await;
                answered.store(true, Ordering::Relaxed);
                answer
            }
        };
        let watch = async {
            for _ in 0..15 {
                clock::sleep(Duration::from_millis(100)).await;
                if answered.load(Ordering::Relaxed) {
                    return Err("it was answered before the log was synced".to_owned());
                }
                // A reader may have to wait or be refused; it must not see what is not durable.
                let read = observe::key(world.client.kv(), &bucket, key);
                if let Ok(Ok(seen)) = clock::timeout(Duration::from_millis(50), read).await
                    && seen != before
                {
                    return Err(format!("{seen:?} was seen before the log was synced"));
                }
            }
            disk.clear_faults();
            disk.release_hangs();
            Ok(())
        };
        let (answer, watched) = futures::future::join(write, watch).await;
        watched?;
        answer.map_err(|error| format!("after the log was synced: {error}"))?;
        life::judge(&world).await
    })
}
