//! A real process, killed in the middle of its work: what it acknowledged is there when it comes back.
//!
//! `MINIKV_KILL_ROUNDS=100` kills it that often instead of 10 times.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes, real files, real time"
)]
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use minikv_tests::load::Known;
use minikv_tests::server::{self, Setup};

fn setup(dir: &tempfile::TempDir) -> Setup {
    Setup {
        binary: server::binary(env!("CARGO_BIN_EXE_minikv")),
        data_dir: dir.path().join("data"),
        settings: Vec::new(),
    }
}

fn rounds(default: u32) -> u32 {
    std::env::var("MINIKV_KILL_ROUNDS").map_or(default, |rounds| rounds.parse().unwrap())
}

/// kill -9 under overwrites, deletes and uploads: the first reads after it see every acknowledged write, nothing deleted
/// is back, and uploads go on with the parts they had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_has_everything_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(&dir);
    let known = Known::default();
    let server = setup.start().await.unwrap();
    known.create_bucket(&server.s3()).await.unwrap();
    let mut running = Some(server);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds(10) {
        let server = running.take().unwrap();
        let s3 = server.s3();
        let stop = AtomicBool::new(false);
        let until = || stop.load(Ordering::Relaxed);
        let killer = async {
            // Not always after the same work.
            tokio::time::sleep(Duration::from_millis(400 + u64::from(round) * 137 % 900)).await;
            server.kill();
            stop.store(true, Ordering::Relaxed);
        };
        let (worked, ()) = tokio::join!(known.work(&s3, 8, 12, &until), killer);
        worked.unwrap();
        known.ledger.lock().crash();

        let server = setup.start().await.unwrap();
        slowest = slowest.max(server.ready_after);
        let s3 = server.s3();
        let read = known
            .verify(&s3)
            .await
            .unwrap_or_else(|what| panic!("round {round}: {what}"));
        known
            .finish_uploads(&s3)
            .await
            .unwrap_or_else(|what| panic!("round {round}: {what}"));
        assert!(round == 0 || read > 0);
        running = Some(server);
    }
    println!(
        "{} rounds, {} writes acknowledged, slowest restart {slowest:?}",
        rounds(10),
        known.acknowledged.load(Ordering::Relaxed)
    );
}

/// A graceful stop answers what it has begun, within 10 s, and leaves nothing to replay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_finishes_what_it_began_and_replays_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(&dir);
    let known = Known::default();
    let server = setup.start().await.unwrap();
    let s3 = server.s3();
    known.create_bucket(&s3).await.unwrap();
    let stop = AtomicBool::new(false);
    let until = || stop.load(Ordering::Relaxed);
    // A request that takes longer than anything else: it is under way when the signal comes.
    let large = async {
        let answer = known.put(&s3, "large", 64 << 20).await.unwrap();
        assert!(answer.ok().is_some(), "a PUT was cut: {}", answer.tell());
        Instant::now()
    };
    let stopper = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.terminate().unwrap();
        let at = Instant::now();
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.store(true, Ordering::Relaxed);
        at
    };
    let (worked, answered, told) = tokio::join!(known.work(&s3, 8, 12, &until), large, stopper);
    worked.unwrap();
    assert!(answered > told, "the large PUT was over before the signal");
    drop(s3);
    let status = server.ended(Duration::from_secs(12)).await.unwrap();
    assert!(status.success(), "{status}");
    let took = told.elapsed();
    assert!(took < Duration::from_secs(10), "it took {took:?} to stop");
    println!("stopped {took:?} after the signal");
    known.ledger.lock().crash();

    let server = setup.start().await.unwrap();
    known.verify(&server.s3()).await.unwrap();
    let status = server.status().unwrap();
    assert_eq!(
        status["replayed_entries"], 0,
        "entries were replayed after a graceful stop: {status}"
    );
}
