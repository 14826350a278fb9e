//! A real process that starts with another engine each time, killed or stopped before: what it acknowledged is there.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes, real files, real time"
)]
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use minikv_tests::load::Known;
use minikv_tests::server::{self, Server, Setup};

fn setup(dir: &tempfile::TempDir, engine: &str) -> Setup {
    Setup {
        binary: server::binary(env!("CARGO_BIN_EXE_minikv")),
        data_dir: dir.path().join("data"),
        settings: vec![("MINIKV_ENGINE".to_owned(), engine.to_owned())],
    }
}

/// Works for a while and is killed in the middle of it.
async fn killed_under_load(server: Server, known: &Known) {
    let (s3, stop) = (server.s3(), AtomicBool::new(false));
    let until = || stop.load(Ordering::Relaxed);
    let killer = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.kill();
        stop.store(true, Ordering::Relaxed);
    };
    let (worked, ()) = tokio::join!(known.work(&s3, 8, 12, &until), killer);
    worked.unwrap();
    known.ledger.lock().crash();
}

async fn stopped(server: Server) {
    server.terminate().unwrap();
    assert!(
        server
            .ended(Duration::from_secs(20))
            .await
            .unwrap()
            .success()
    );
}

async fn take_turns(engines: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let known = Known::default();
    let first = setup(&dir, "native").start().await.unwrap();
    known.create_bucket(&first.s3()).await.unwrap();
    stopped(first).await;
    for (round, engine) in engines.iter().enumerate() {
        let (engine, lost) = match engine.strip_prefix("lost ") {
            Some(engine) => (engine, true),
            None => (*engine, false),
        };
        let own = dir.path().join("data").join(engine);
        if lost {
            std::fs::remove_dir_all(&own).unwrap();
        }
        let setup = setup(&dir, engine);
        let server = setup.start().await.unwrap();
        assert_eq!(own.is_dir(), engine != "native" && engine != "memory");
        let story = |what| panic!("round {round}, {engine}: {what}");
        let read = known.verify(&server.s3()).await.unwrap_or_else(story);
        assert!(round == 0 || read > 0);
        killed_under_load(server, &known).await;
        // With the same engine again, and then stopped: what the next one finds is a checkpoint, or one and a log.
        let server = setup.start().await.unwrap();
        known.verify(&server.s3()).await.unwrap_or_else(story);
        match round % 2 {
            0 => stopped(server).await,
            _ => server.kill(),
        }
    }
}

/// One setting changes the engine, with data: after kills and stops alike, back and forth, and with a database that was
/// left behind or removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_may_change_at_every_start() {
    take_turns(&[
        "sled",
        "native",
        "memory",
        "sled",
        "lost sled",
        "native",
        "sled",
        "memory",
    ])
    .await;
}

#[cfg(feature = "rocksdb")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_may_be_rocksdb_at_any_start() {
    take_turns(&[
        "rocksdb",
        "native",
        "rocksdb",
        "lost rocksdb",
        "sled",
        "rocksdb",
        "memory",
    ])
    .await;
}

/// A binary that lacks the engine says how to get it, and touches nothing.
#[cfg(not(feature = "rocksdb"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_was_not_built_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let known = Known::default();
    let server = setup(&dir, "native").start().await.unwrap();
    known.create_bucket(&server.s3()).await.unwrap();
    stopped(server).await;
    let refused = setup(&dir, "rocksdb").start().await.err().unwrap();
    assert!(
        refused.contains("built without the rocksdb engine")
            && refused.contains("--features rocksdb"),
        "{refused}"
    );
    let server = setup(&dir, "native").start().await.unwrap();
    known.verify(&server.s3()).await.unwrap();
}
