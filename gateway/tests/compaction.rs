//! Space comes back: after everything was overwritten several times, the data directory is little larger than what lives.
//!
//! The bound counts every block below the data directory, and is the same at every scale: 1.5 times what lives, and 4 segments
//! (in each stream the one being written to, and the next one, made ahead). The overlay's part of the ballast, the runs with
//! their twins and whatever compaction leaves lying have to fit into the half on top: nothing is subtracted.
//!
//! Small by default, with 4 kills (`MINIKV_KILL_POINTS=20`: so many); `MINIKV_COMPACTION=full` overwrites 100,000 objects of 4 KiB and 200 of 8 MiB five times, in segments of
//! the default size. The small scale has segments of 8 MiB, and an overlay budget (hence a ballast) of the same size: with
//! the default of 64 MiB that reserve alone would be as large as what lives here. At the default sizes it is a quarter of
//! a segment.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes, real files, real time"
)]
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use minikv_tests::load::{self, Known};
use minikv_tests::s3::S3;
use minikv_tests::server::{self, Server, Setup, disk_usage};

const CLIENTS: usize = 16;

struct Scale {
    small: u64,
    large: u64,
    rounds: u64,
    kills: u64,
    /// In MiB; `None` is the default of 256.
    segment: Option<u64>,
    patience: Duration,
}

fn scale() -> Scale {
    let mut scale = sizes();
    if let Ok(kills) = std::env::var("MINIKV_KILL_POINTS") {
        scale.kills = kills.parse().unwrap();
    }
    scale
}

fn sizes() -> Scale {
    match std::env::var("MINIKV_COMPACTION").as_deref() {
        Ok("full") => Scale {
            small: 100_000,
            large: 200,
            rounds: 5,
            kills: 20,
            segment: None,
            patience: Duration::from_secs(300),
        },
        _ => Scale {
            small: 600,
            large: 8,
            rounds: 5,
            kills: 4,
            segment: Some(8),
            patience: Duration::from_secs(60),
        },
    }
}

fn setup(scale: &Scale, dir: &tempfile::TempDir) -> Setup {
    let mut settings = vec![(
        "MINIKV_STORE_RELEASE_AFTER_SECONDS".to_owned(),
        "0".to_owned(),
    )];
    if let Some(mib) = scale.segment {
        settings.push(("MINIKV_STORE_SEGMENT_MIB".to_owned(), mib.to_string()));
        settings.push(("MINIKV_STORE_OVERLAY_MIB".to_owned(), mib.to_string()));
    }
    Setup {
        binary: server::binary(env!("CARGO_BIN_EXE_minikv")),
        data_dir: dir.path().join("data"),
        settings,
    }
}

async fn overwrite_all(known: &Known, s3: &S3, scale: &Scale) {
    let small = (0..scale.small).map(|n| (format!("s/{n:06}"), 4096));
    let large = (0..scale.large).map(|n| (format!("l/{n:06}"), 8 << 20));
    let writes = large.chain(small).map(|(key, size)| async move {
        let answer = known.put(s3, &key, size).await.unwrap();
        assert!(answer.ok().is_some(), "PUT {key}: {}", answer.tell());
    });
    futures::stream::iter(writes)
        .buffer_unordered(CLIENTS)
        .count()
        .await;
}

/// Overwriting everything again and again does not make the directory grow, and reads go on while space is won back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overwritten_bytes_are_given_back_while_reads_go_on() {
    let scale = scale();
    let dir =
        tempfile::tempdir_in(std::env::var("MINIKV_COMPACTION_DIR").unwrap_or("/tmp".to_owned()))
            .unwrap();
    let setup = setup(&scale, &dir);
    let known = Known::default();
    let server = setup.start().await.unwrap();
    let s3 = server.s3();
    known.create_bucket(&s3).await.unwrap();
    overwrite_all(&known, &s3, &scale).await;
    let done = AtomicBool::new(false);
    let reader = async {
        let mut reads = 0_u64;
        while !done.load(Ordering::Relaxed) {
            let key = format!("s/{:06}", reads * 7919 % scale.small);
            assert!(
                load::read(&s3, &key).await.unwrap().is_some(),
                "{key} was gone for a moment"
            );
            let key = format!("l/{:06}", reads % scale.large);
            assert!(
                load::read(&s3, &key).await.unwrap().is_some(),
                "{key} was gone for a moment"
            );
            reads += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        reads
    };
    let writer = async {
        for _ in 1..scale.rounds {
            overwrite_all(&known, &s3, &scale).await;
        }
        let quiet = wait_until_small(&known, &setup, &scale).await;
        done.store(true, Ordering::Relaxed);
        quiet
    };
    let (reads, quiet) = tokio::join!(reader, writer);
    println!("{reads} reads went on meanwhile; {quiet}");
    known.verify(&s3).await.unwrap();
}

/// At most 1.5 times what lives, and 4 segments.
async fn wait_until_small(known: &Known, setup: &Setup, scale: &Scale) -> String {
    let live = known.live_bytes();
    let allowed = live * 3 / 2 + 4 * (scale.segment.unwrap_or(256) << 20);
    let began = Instant::now();
    loop {
        let used = disk_usage(&setup.data_dir).unwrap();
        let told = format!(
            "{} MiB on disk for {} MiB that live ({} allowed), {:.1?} after the last write",
            used >> 20,
            live >> 20,
            allowed >> 20,
            began.elapsed()
        );
        if used <= allowed {
            return told;
        }
        assert!(began.elapsed() < scale.patience, "{told}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Killed again and again while it wins space back, it loses nothing, and wins the space back in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_compaction_loses_nothing() {
    let scale = scale();
    let dir =
        tempfile::tempdir_in(std::env::var("MINIKV_COMPACTION_DIR").unwrap_or("/tmp".to_owned()))
            .unwrap();
    let setup = setup(&scale, &dir);
    let known = Known::default();
    let mut server: Server = setup.start().await.unwrap();
    known.create_bucket(&server.s3()).await.unwrap();
    overwrite_all(&known, &server.s3(), &scale).await;
    for kill in 0..scale.kills {
        // Garbage to work on, then a kill somewhere in that work.
        let part = Scale {
            small: scale.small / 4,
            large: scale.large / 4 + 1,
            ..scale
        };
        overwrite_all(&known, &server.s3(), &part).await;
        tokio::time::sleep(Duration::from_millis(kill * 211 % 1500)).await;
        server.kill();
        server = setup.start().await.unwrap();
        known
            .verify(&server.s3())
            .await
            .unwrap_or_else(|what| panic!("kill {kill}: {what}"));
    }
    println!("{}", wait_until_small(&known, &setup, &scale).await);
    known.verify(&server.s3()).await.unwrap();
}
