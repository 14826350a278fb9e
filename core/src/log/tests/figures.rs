//! Figures of the log on a real disk. Not promises: run by hand, with optimisation, on the disk in question.
//! `MINIKV_FIGURES_DIR=/some/dir cargo test --profile release -p minikv-core log::tests::figures -- --ignored --nocapture`

#![allow(
    clippy::disallowed_methods,
    reason = "measures the real thing, in a real runtime"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::harness::*;
use crate::env::Env;
use crate::env::disk::RealDisk;
use crate::log::*;

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let rest = stat.rsplit(')').next().unwrap();
    let ticks: Vec<u64> = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse().unwrap())
        .collect();
    Duration::from_millis(10 * (ticks[0] + ticks[1]))
}

fn env() -> Env {
    Env::alone(Arc::new(RealDisk))
}

fn place() -> tempfile::TempDir {
    match std::env::var_os("MINIKV_FIGURES_DIR") {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    }
}

async fn real(dir: &std::path::Path) -> (Arc<Log>, Recovered) {
    let mut seen = |_| {};
    Log::open(
        &env(),
        dir,
        LogOptions::default(),
        Complete::default(),
        &mut seen,
    )
    .await
    .unwrap()
}

#[test]
#[ignore = "takes seconds and writes gigabytes"]
fn writes_and_restart() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let place = place();
        let (log, _) = real(&place.path().join("log")).await;
        for (writers, each, head, payload) in
            [(1, 500, 200, 0), (1, 500, 200, 4096), (64, 1000, 200, 4096), (256, 500, 512, 0)]
        {
            let (before, began, burnt) = (log.metrics(Stream::Meta), Instant::now(), cpu());
            let tasks = (0..writers).map(|n| {
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    let group = crate::ids::GroupId(1 + n as u16 % 8);
                    let mut slowest = Duration::ZERO;
                    for _ in 0..each {
                        let began = Instant::now();
                        let done = {
                            static ONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
                            // Index and append together, as a Raft core would.
                            let _one = ONE.lock();
                            let index = log.log_state(group).last.map_or(0, |id| id.index + 1);
                            let (ack, done) = ack();
                            let entry = LogEntry {
                                bytes: vec![7; head + payload].into(),
                                payload_len: payload as u32,
                                ..entry(1, index, 0, 0)
                            };
                            log.append(group, vec![entry], ack).unwrap();
                            done
                        };
                        done.await.unwrap().unwrap();
                        slowest = slowest.max(began.elapsed());
                    }
                    slowest
                })
            });
            let mut slowest = Duration::ZERO;
            for task in tasks.collect::<Vec<_>>() {
                slowest = slowest.max(task.await.unwrap());
            }
            let (took, burnt) = (began.elapsed(), cpu() - burnt);
            let ops = (writers * each) as f64;
            let after = log.metrics(Stream::Meta);
            println!(
                "{writers} writers, {head}+{payload} bytes: {:.0}/s, {:.1} us CPU each, slowest {slowest:?}, {:.1} records a batch, fsync {:.0} us",
                ops / took.as_secs_f64(),
                burnt.as_secs_f64() * 1e6 / ops,
                (after.records - before.records) as f64 / (after.batches - before.batches) as f64,
                (after.fsync_seconds - before.fsync_seconds) * 1e6
                    / (after.fsyncs.iter().sum::<u64>() - before.fsyncs.iter().sum::<u64>()) as f64,
            );
        }
        let (began, burnt) = (Instant::now(), cpu());
        for ordinal in 0..512 {
            log.append_frames(vec![frame(ordinal, 1 << 20)]).await.unwrap();
        }
        println!(
            "1 writer, frames of 1 MiB: {:.0} MiB/s, {:.0} us CPU each",
            512.0 / began.elapsed().as_secs_f64(),
            (cpu() - burnt).as_secs_f64() * 1e6 / 512.0
        );
        let mut places = Vec::new();
        for ordinal in 0..2000 {
            let written = log.append_frames(vec![frame(ordinal, 4096)]).await.unwrap();
            places.push((ordinal, written.places[0]));
        }
        let (began, burnt) = (Instant::now(), cpu());
        for _ in 0..50 {
            for (ordinal, place) in &places {
                log.read(*place, &frame_item(*ordinal)).await.unwrap();
            }
        }
        println!(
            "reads of 4 KiB: {:.2} us, {:.2} us CPU each",
            began.elapsed().as_secs_f64() * 1e6 / 100_000.0,
            (cpu() - burnt).as_secs_f64() * 1e6 / 100_000.0
        );
        drop(log);
        tokio::time::sleep(Duration::from_millis(100)).await;
        for _ in 0..2 {
            let began = Instant::now();
            let (log, recovered) = real(&place.path().join("log")).await;
            println!(
                "opened in {:?}, {} MiB looked through, {} entries",
                began.elapsed(),
                recovered.scanned >> 20,
                recovered.groups.iter().filter_map(|(_, s)| s.last).map(|id| id.index).sum::<u64>()
            );
            drop(log);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}
