//! A disk that is really full: nothing that was acknowledged is lost, deletes go on, and room comes back without a restart.
//!
//! It wants a small file system of its own: `tests/disk_full.sh [SIZE]` mounts a tmpfs (root only) and runs this on it.
//! Without `MINIKV_FULL_DIR` it says so and does nothing.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes, real files, real time"
)]
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use http::StatusCode;
use minikv_tests::load::{BUCKET, Known};
use minikv_tests::s3::{Answer, S3};
use minikv_tests::server::{Server, Setup};

/// Requests in flight.
const CLIENTS: usize = 8;
/// From the deletes to the first PUT that is taken.
const AGAIN: Duration = Duration::from_secs(60);

/// Filled with small objects: their bytes and rows travel in entries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_full_of_small_objects_loses_none_and_recovers() {
    fill_and_empty("small", 4096).await;
}

/// Filled with large objects: their bytes lie in chunks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_full_of_large_objects_loses_none_and_recovers() {
    fill_and_empty("large", 8 << 20).await;
}

async fn fill_and_empty(what: &str, size: u64) {
    let Some(dir) = std::env::var_os("MINIKV_FULL_DIR") else {
        println!("skipped: MINIKV_FULL_DIR is not set; tests/disk_full.sh does it");
        return;
    };
    let data_dir = PathBuf::from(dir).join(what);
    let setup = Setup {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_minikv")),
        data_dir: data_dir.clone(),
        settings: vec![(
            "MINIKV_STORE_RELEASE_AFTER_SECONDS".to_owned(),
            "0".to_owned(),
        )],
    };
    let known = Known::default();
    let mut server = setup.start().await.unwrap();
    known.create_bucket(&server.s3()).await.unwrap();
    let next = AtomicU64::new(0);
    for round in 1..=5 {
        let s3 = server.s3();
        let written = fill(&known, &s3, &next, size).await;
        let brim = match round {
            3 => {
                server.kill();
                server = setup.start().await.unwrap();
                ", killed at the brim"
            }
            _ => "",
        };
        let s3 = server.s3();
        let read = known
            .verify(&s3)
            .await
            .unwrap_or_else(|what| panic!("round {round}: {what}"));
        let deleted = delete_half(&known, &s3).await;
        let again = accepted_again(&known, &s3, size).await;
        println!(
            "{what}, round {round}{brim}: {written} written until 507, {read} keys read back, {deleted} deleted, \
             a PUT accepted {again:.1?} later"
        );
        still_up(&server).await;
    }
    drop(server);
    std::fs::remove_dir_all(data_dir).unwrap();
}

/// Writes new objects until the disk is full.
async fn fill(known: &Known, s3: &S3, next: &AtomicU64, size: u64) -> u64 {
    let written = AtomicU64::new(0);
    let writer = || async {
        loop {
            let key = format!("o{:08}", next.fetch_add(1, Ordering::Relaxed));
            let answer = known.put(s3, &key, size).await.unwrap();
            match answer.status() {
                Some(StatusCode::OK) => written.fetch_add(1, Ordering::Relaxed),
                Some(StatusCode::INSUFFICIENT_STORAGE) => return,
                _ => panic!("PUT {key} while the disk fills: {}", answer.tell()),
            };
        }
    };
    futures::future::join_all((0..CLIENTS).map(|_| writer())).await;
    written.into_inner()
}

/// Deletes every second object that is there. A full disk takes deletes.
async fn delete_half(known: &Known, s3: &S3) -> u64 {
    let keys = s3.list(BUCKET).await.unwrap();
    let deletes = keys.iter().step_by(2).map(|key| async move {
        let answer = known.delete(s3, key).await.unwrap();
        assert!(
            answer.ok().is_some(),
            "DELETE {key} on a full disk: {}",
            answer.tell()
        );
    });
    futures::stream::iter(deletes)
        .buffer_unordered(CLIENTS)
        .count()
        .await as u64
}

async fn accepted_again(known: &Known, s3: &S3, size: u64) -> Duration {
    let began = Instant::now();
    loop {
        let answer: Answer = known.put(s3, "again", size).await.unwrap();
        if answer.ok().is_some() {
            return began.elapsed();
        }
        assert_eq!(
            answer.status(),
            Some(StatusCode::INSUFFICIENT_STORAGE),
            "{}",
            answer.tell()
        );
        assert!(
            began.elapsed() < AGAIN,
            "still full {AGAIN:?} after half was deleted"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn still_up(server: &Server) {
    let ready = server.http_get("/readyz").await;
    assert_eq!(ready.map(|(status, _)| status), Some(200));
}
