//! A disk that is really full: nothing that was acknowledged is lost, deletes go on, and room comes back without a restart.
//!
//! It wants a small file system of its own. As root it mounts a tmpfs in a mount namespace of its own and runs itself on it;
//! otherwise it prints `skipped: ...`. `tests/disk_full.sh [SIZE]` does the same at full size, five rounds (root only):
//! `MINIKV_FULL_DIR` names the file system, `MINIKV_FULL_ROUNDS` how often it is filled.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes, real files, real time"
)]
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use http::StatusCode;
use minikv_tests::load::{BUCKET, Known};
use minikv_tests::s3::{Answer, S3};
use minikv_tests::server::{self, Server, Setup};

/// Requests in flight.
const CLIENTS: usize = 8;
/// From the deletes to the first PUT that is taken.
const AGAIN: Duration = Duration::from_secs(60);

/// Filled with small objects: their bytes and rows travel in entries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_full_of_small_objects_loses_none_and_recovers() {
    let test = "a_disk_full_of_small_objects_loses_none_and_recovers";
    match std::env::var_os("MINIKV_FULL_DIR") {
        Some(dir) => fill_and_empty(dir.into(), "small", 4096).await,
        None => on_a_disk_of_its_own(test, "64M"),
    }
}

/// Filled with large objects: their bytes lie in chunks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_full_of_large_objects_loses_none_and_recovers() {
    let test = "a_disk_full_of_large_objects_loses_none_and_recovers";
    match std::env::var_os("MINIKV_FULL_DIR") {
        Some(dir) => fill_and_empty(dir.into(), "large", 8 << 20).await,
        None => on_a_disk_of_its_own(test, "256M"),
    }
}

/// Runs the test of this name again, on a tmpfs of this size that nobody else sees and that goes with it.
fn on_a_disk_of_its_own(test: &str, size: &str) {
    const NO_DISK: i32 = 77;
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size={size},mode=700 minikv-disk-full \"$1\" || exit {NO_DISK}; shift; exec \"$@\""
    );
    let ran = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("MINIKV_FULL_DIR", dir.path())
        .env("MINIKV_FULL_ROUNDS", "2")
        .output();
    let (code, told) = match &ran {
        Ok(ran) => (
            ran.status.code(),
            [&ran.stdout[..], &ran.stderr[..]].concat(),
        ),
        Err(error) => (None, error.to_string().into_bytes()),
    };
    let told = String::from_utf8_lossy(&told);
    match code {
        Some(0) => println!("{told}"),
        // `unshare` answers 1 without a word of ours when it may not.
        None | Some(NO_DISK | 126 | 127) => skipped(&told),
        Some(1) if told.starts_with("unshare") => skipped(&told),
        code => panic!("on a tmpfs of {size}, it ended with {code:?}: {told}"),
    }
}

/// Past the test runner, which keeps to itself what a passing test prints.
fn skipped(why: &str) {
    let why = why.lines().next().unwrap_or("no reason given");
    let _ = writeln!(
        std::io::stderr(),
        "skipped: no small file system can be mounted here ({why}); as root, tests/disk_full.sh does it"
    );
}

async fn fill_and_empty(dir: PathBuf, what: &str, size: u64) {
    let data_dir = dir.join(what);
    let setup = Setup {
        binary: server::binary(env!("CARGO_BIN_EXE_minikv")),
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
    let rounds = std::env::var("MINIKV_FULL_ROUNDS");
    let rounds: u32 = rounds.map_or(5, |rounds| rounds.parse().unwrap());
    for round in 1..=rounds {
        let s3 = server.s3();
        let written = fill(&known, &s3, &next, size).await;
        let brim = match round {
            _ if round == rounds.div_ceil(2) => {
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
