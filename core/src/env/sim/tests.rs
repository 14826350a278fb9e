//! The promises of simulations and scopes, and openraft's suite on both runtimes.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use openraft_rt::AsyncRuntime;
use openraft_rt::testing::Suite;
use parking_lot::Mutex;

use super::*;
use crate::env::disk::Open;
use crate::env::runtime::EnvRuntime;
use crate::env::task::JoinError;
use crate::env::{clock, random, task};

const MS: Duration = Duration::from_millis(1);

/// Counts how often it was dropped.
struct Tally(Arc<AtomicU64>);

impl Drop for Tally {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Some of everything: tasks, a thread, timers, random ids, blocking work, a disk with delays.
async fn busy_world() -> Vec<u64> {
    let disk = SimDisk::new(random::u64());
    disk.set_latency(Latency {
        write: (MS / 100, MS),
        sync: (MS, MS * 20),
    });
    disk.plant_dir("/data").unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..8)
        .map(|n: u64| {
            let (seen, env) = (seen.clone(), disk.env());
            let work = async move {
                let file = env
                    .disk
                    .open(format!("/data/{n}").as_ref(), Open::CreateNew)
                    .unwrap();
                for _ in 0..10 {
                    clock::sleep(Duration::from_micros(random::below(3000))).await;
                    let id = random::u64();
                    let parts = [bytes::Bytes::from(vec![
                        n as u8;
                        task::blocking(move || id % 9999).await
                            as usize
                    ])];
                    file.write_at(&parts, id % 50_000).await.unwrap();
                    file.sync_data().await.unwrap();
                    seen.lock()
                        .push(clock::now().nanos() ^ id ^ clock::wall_ms());
                }
            };
            if n < 4 {
                task::spawn(work)
            } else {
                task::spawn_thread("worker", work)
            }
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut seen = std::mem::take(&mut *seen.lock());
    seen.push(disk.digest() as u64);
    seen
}

/// A failure found by a seed must be there again the next time, or it can never be fixed.
#[test]
fn the_same_seed_gives_the_same_world_poll_for_poll() {
    for seed in 0..4 {
        let (first, first_trace) = run_traced(seed, busy_world());
        let (second, second_trace) = run_traced(seed, busy_world());
        assert!(first_trace.len() > 500);
        let differs = first_trace
            .iter()
            .zip(&second_trace)
            .position(|(a, b)| a != b);
        assert_eq!(differs, None, "the traces part");
        assert_eq!((first, first_trace.len()), (second, second_trace.len()));
    }
    assert_ne!(
        run(1, busy_world()),
        run(2, busy_world()),
        "another seed is another world"
    );
}

/// Set in the process that [`another_process_sees_the_same_world_without_starting_threads`] starts.
const CHILD: &str = "MINIKV_TEST_SIM_CHILD";

/// Addresses, hash seeds and threads differ between processes; a world must not notice.
#[test]
fn another_process_sees_the_same_world_without_starting_threads() {
    let world = || {
        let (seen, trace) = Sim::new(5).shuffled().traced().run(busy_world());
        xxhash_rust::xxh3::xxh3_64(format!("{seen:?}{trace:?}").as_bytes())
    };
    #[allow(
        clippy::disallowed_methods,
        reason = "counts the threads of this process"
    )]
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if std::env::var_os(CHILD).is_some() {
        let before = threads();
        let world = world();
        assert_eq!(
            threads(),
            before,
            "spawn_thread and blocking work stay on the one thread"
        );
        println!("\nworld {world}");
        return;
    }
    let name = "env::sim::tests::another_process_sees_the_same_world_without_starting_threads";
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{output}");
    assert!(output.contains(&format!("world {}", world())), "{output}");
}

#[test]
fn shuffled_worlds_run_in_another_order_and_repeat_it() {
    let order = |sim: Sim| {
        let (order, _) = sim.run(async {
            let order = Arc::new(Mutex::new(Vec::new()));
            let spawn = |n: u32| {
                let order = order.clone();
                task::spawn(async move { order.lock().push(n) })
            };
            let tasks: Vec<_> = (0..64).map(spawn).collect();
            futures::future::join_all(tasks).await;
            order.lock().clone()
        });
        order
    };
    assert!(order(Sim::new(3)).is_sorted());
    assert!(!order(Sim::new(3).shuffled()).is_sorted());
    assert_eq!(order(Sim::new(3).shuffled()), order(Sim::new(3).shuffled()));
}

/// openraft judges our runtime by its own suite.
#[test]
fn openraft_accepts_the_simulated_runtime() {
    let _simulated = enter(7);
    Suite::<EnvRuntime>::test_all();
}

#[test]
fn openraft_accepts_the_real_runtime() {
    Suite::<EnvRuntime>::test_all();
}

/// SIGKILL: nothing of the node runs on, wherever it waits, and whatever spawned it.
#[test]
fn killing_a_scope_drops_all_its_tasks_and_their_timers() {
    let (ticks, trace) = run_traced(1, async {
        let node = Scope::new("node");
        let dropped = Arc::new(AtomicU64::new(0));
        let ticks = Arc::new(AtomicU64::new(0));
        let (tally, count) = (dropped.clone(), ticks.clone());
        let root = node.spawn(async move {
            let _tally = Tally(tally.clone());
            let (inner, inner_count) = (tally.clone(), count.clone());
            // As openraft does, without knowing of scopes.
            let _detached = EnvRuntime::spawn(async move {
                let _tally = Tally(inner);
                loop {
                    EnvRuntime::sleep(MS).await;
                    inner_count.fetch_add(1, Ordering::Relaxed);
                }
            });
            let _thread = task::spawn_thread("writer", async move {
                let _tally = Tally(tally);
                clock::sleep(Duration::from_secs(3600)).await;
            });
            futures::future::pending::<()>().await;
        });
        clock::sleep(MS * 10 + MS / 2).await;
        assert_eq!((node.tasks(), dropped.load(Ordering::Relaxed)), (3, 0));
        node.kill();
        assert_eq!(
            (node.tasks(), dropped.load(Ordering::Relaxed)),
            (0, 3),
            "at once"
        );
        assert_eq!(root.await, Err(JoinError::Cancelled));

        let late = node.spawn(async { unreachable!("a dead node runs nothing") });
        let late: Result<(), JoinError> = late.await;
        assert_eq!(late, Err(JoinError::Cancelled));
        clock::sleep(MS * 100).await;
        ticks.load(Ordering::Relaxed)
    });
    assert_eq!(ticks, 10);
    assert!(
        !trace
            .iter()
            .any(|event| event.starts_with("advance") && event.ends_with("3600000000000")),
        "the timer of the dead thread never fires"
    );
}

/// What two nodes share (a network) must not die with one of them, and their tasks must not be mixed up.
#[test]
fn a_kill_leaves_other_scopes_alone() {
    run(2, async {
        let (a, b) = (Scope::new("a"), Scope::new("b"));
        let (to_b, mut from_a) = tokio::sync::mpsc::channel::<u32>(1);
        let echo = b.spawn(async move {
            let first = from_a.recv().await;
            // Woken by the sender dying: still in the scope of b.
            let closed = from_a.recv().await;
            let own = task::spawn(async { 1 });
            (first, closed, own.await)
        });
        let _talker = a.spawn(async move {
            to_b.send(5).await.unwrap();
            futures::future::pending::<()>().await;
        });
        clock::sleep(MS).await;
        a.kill();
        assert_eq!(echo.await.unwrap(), (Some(5), None, Ok(1)));
        assert!(!b.killed());
    });
}

#[test]
fn a_node_may_kill_itself_and_what_it_holds_is_dropped_then() {
    run(3, async {
        let node = Scope::new("node");
        let dropped = Arc::new(AtomicU64::new(0));
        let (own, tally) = (node.clone(), Tally(dropped.clone()));
        let after = Arc::new(AtomicBool::new(false));
        let reached = after.clone();
        let handle = node.spawn(async move {
            let _tally = tally;
            own.kill();
            task::yield_now().await;
            reached.store(true, Ordering::Relaxed);
        });
        assert_eq!(handle.await, Err(JoinError::Cancelled));
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        assert!(!after.load(Ordering::Relaxed));
    });
}

/// A test calls into a node; when the node dies, the call ends.
#[test]
fn a_call_entered_into_a_scope_ends_with_it() {
    run(4, async {
        let node = Scope::new("node");
        assert_eq!(
            node.enter(async { task::spawn(async { 4 }).await }).await,
            Ok(Ok(4))
        );
        let dropped = Arc::new(AtomicU64::new(0));
        let tally = Tally(dropped.clone());
        let call = task::spawn(node.enter(async move {
            let _tally = tally;
            futures::future::pending::<()>().await;
        }));
        clock::sleep(MS).await;
        node.kill();
        assert_eq!(call.await, Ok(Err(Killed)));
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        assert_eq!(node.enter(async {}).await, Err(Killed));
    });
}

/// Drops run while a node dies; what they spawn must not live on as nobody's task.
#[test]
fn what_a_drop_spawns_during_a_kill_never_runs() {
    struct SpawnsWhenDropped(Arc<AtomicBool>);
    impl Drop for SpawnsWhenDropped {
        fn drop(&mut self) {
            let ran = self.0.clone();
            drop(task::spawn(
                async move { ran.store(true, Ordering::Relaxed) },
            ));
        }
    }
    run(5, async {
        let node = Scope::new("node");
        let ran = Arc::new(AtomicBool::new(false));
        let late = SpawnsWhenDropped(ran.clone());
        let _task = node.spawn(async move {
            let _late = late;
            futures::future::pending::<()>().await;
        });
        clock::sleep(MS).await;
        node.kill();
        clock::sleep(MS).await;
        assert!(!ran.load(Ordering::Relaxed));
    });
}

#[test]
fn an_aborted_task_is_dropped_at_once() {
    run(6, async {
        let dropped = Arc::new(AtomicU64::new(0));
        let tally = Tally(dropped.clone());
        let handle = task::spawn(async move {
            let _tally = tally;
            clock::sleep(MS * 1000).await;
        });
        clock::sleep(MS).await;
        handle.abort();
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        assert_eq!(handle.await, Err(JoinError::Cancelled));
    });
}

#[test]
fn virtual_time_costs_no_real_time_and_timeouts_keep_it() {
    run(7, async {
        let start = clock::now();
        let wall = clock::wall_ms();
        clock::sleep(Duration::from_secs(86_400)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(86_400));
        assert_eq!(clock::wall_ms(), wall + 86_400_000);
        assert_eq!(
            clock::timeout(MS, futures::future::pending::<()>()).await,
            Err(clock::Elapsed)
        );
        assert_eq!(
            clock::timeout(MS, clock::sleep(MS)).await,
            Ok(()),
            "ready at the deadline wins"
        );
        let deadline = clock::now() + MS * 5;
        clock::sleep_until(deadline).await;
        assert_eq!(clock::now(), deadline);
        clock::sleep_until(start).await;
        assert_eq!(clock::now(), deadline, "what has passed is not waited for");
        assert!(clock::sleep(Duration::MAX).now_or_never().is_none());
    });
}

/// Clocks of nodes disagree; only stamps may show it.
#[test]
fn wall_clocks_of_nodes_can_differ() {
    run(8, async {
        let node = Scope::new("node");
        let before = clock::wall_ms();
        node.set_wall_offset_ms(-5_000);
        set_wall_offset_ms(1_000);
        assert_eq!(clock::wall_ms(), before + 1_000);
        assert_eq!(
            node.spawn(async { clock::wall_ms() }).await,
            Ok(before - 4_000)
        );
    });
}

#[test]
fn a_panic_goes_to_whoever_joins() {
    run(9, async {
        let handle = task::spawn(async { panic!("as planned") });
        assert_eq!(handle.await, Err(JoinError::Panic("as planned".to_owned())));
    });
}

/// A broken invariant inside a background task would otherwise pass for a quiet node.
#[test]
#[should_panic(expected = "nobody listens")]
fn a_panic_nobody_joins_fails_the_run() {
    run(10, async {
        let _kept = task::spawn(async { panic!("nobody listens") });
        clock::sleep(MS).await;
    });
}

#[test]
fn the_thread_is_real_again_after_a_run_even_one_that_failed() {
    let failed = std::panic::catch_unwind(|| run(11, async { panic!("as planned") }));
    assert!(failed.is_err());
    assert!(!active());
    assert_ne!(random::u64(), random::u64());
    run(11, async { assert!(active()) });
    assert!(!active());
}

#[test]
fn random_bytes_come_from_the_seed() {
    let draw = || {
        let mut bytes = [0; 32];
        random::fill(&mut bytes);
        (
            bytes,
            random::u64(),
            random::below(10),
            rand::Rng::next_u64(&mut random::generator()),
        )
    };
    let in_sim = |seed| run(seed, async move { draw() });
    assert_eq!(in_sim(1), in_sim(1));
    assert_ne!(in_sim(1), in_sim(2));
    assert_ne!(draw().0, draw().0);
}
