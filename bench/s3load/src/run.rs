//! A run: objects laid down, workers started, the server's CPU, memory and disk accounted from the end of the warm-up to the last answer.

use crate::args::Op;
use crate::client::{Call, Client, Failure, Keep};
use crate::payload::Payloads;
use crate::procfs;
use crate::stats::{Json, Stats, quantile_ms};
use crate::worker::{Shared, Worker};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

async fn preload(shared: &Arc<Shared>) -> Result<f64, String> {
    let start = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let of = shared.args.preload_concurrency;
    let tasks: Vec<_> = (0..of)
        .map(|id| {
            let mut w = Worker::new(shared, id, of);
            let next = next.clone();
            tokio::spawn(async move {
                loop {
                    let i = next.fetch_add(1, Relaxed);
                    if i >= w.shared.args.objects {
                        return Ok::<(), String>(());
                    }
                    w.put(i).await.map_err(|f| format!("preload: {f}"))?;
                }
            })
        })
        .collect();
    for t in tasks {
        t.await.map_err(|e| e.to_string())??;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Returns the number of errors.
pub async fn run(args: crate::args::Args) -> Result<u64, String> {
    let ticks = procfs::ticks_per_second();
    let me = ["self".to_string()];
    procfs::usage(&args.pids, ticks)?;
    let now = Instant::now();
    let mut shared = Shared {
        payloads: Payloads::new(args.seed, args.size, args.text),
        // put and multipart lay down objects 0, 1, ..; mixed adds to the preloaded ones.
        next_index: AtomicU64::new(if args.op == Op::Mixed {
            args.objects
        } else {
            0
        }),
        next_op: AtomicU64::new(0),
        begin: now,
        measure_from: now,
        deadline: None,
        exhausted: AtomicBool::new(false),
        args,
    };
    if shared.args.create_bucket {
        let mut c = Client::new(&shared.args, 0);
        match c
            .call(Call {
                keep: Keep::Text,
                ..Call::new("PUT", &format!("/{}", shared.args.bucket))
            })
            .await
        {
            Ok(_) | Err(Failure::Status(409, _)) => {}
            Err(f) => return Err(format!("create bucket: {f}")),
        }
    }
    let reads_objects = !matches!(shared.args.op, Op::Put | Op::Multipart | Op::Idle);
    let mut preload_s = 0.0;
    if reads_objects && shared.args.preload {
        let s = Arc::new(shared);
        preload_s = preload(&s).await?;
        shared = Arc::try_unwrap(s).map_err(|_| "a preload task is still running")?;
    }

    let load_before = procfs::load1();
    shared.begin = Instant::now();
    shared.measure_from = shared.begin;
    if shared.args.count.is_none() {
        shared.measure_from += Duration::from_secs_f64(shared.args.warmup);
        shared.deadline = Some(shared.measure_from + Duration::from_secs_f64(shared.args.duration));
    }
    let shared = Arc::new(shared);
    let args = &shared.args;
    let workers = args.concurrency;
    let tasks: Vec<_> = (0..workers)
        .map(|id| tokio::spawn(Worker::new(&shared, id, workers).run(workers)))
        .collect();
    tokio::time::sleep_until(shared.measure_from.into()).await;
    let (server0, me0, host0) = (
        procfs::usage(&args.pids, ticks)?,
        procfs::usage(&me, ticks)?,
        procfs::host(),
    );

    let peak = Arc::new(AtomicU64::new(procfs::rss(&args.pids)));
    let sampler = {
        let (peak, pids) = (peak.clone(), args.pids.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                peak.fetch_max(procfs::rss(&pids), Relaxed);
            }
        })
    };
    let mut stats = Stats::default();
    for t in tasks {
        stats.absorb(t.await.map_err(|e| e.to_string())?);
    }
    let elapsed = shared.measure_from.elapsed().as_secs_f64();
    sampler.abort();
    peak.fetch_max(procfs::rss(&args.pids), Relaxed);
    let (server1, me1, host1) = (
        procfs::usage(&args.pids, ticks)?,
        procfs::usage(&me, ticks)?,
        procfs::host(),
    );

    stats.latency.sort_unstable();
    stats.first_byte.sort_unstable();
    let ops = stats.latency.len() as f64;
    let gb = stats.bytes as f64 / 1e9;
    let mean = stats.latency.iter().map(|&x| f64::from(x)).sum::<f64>() / ops / 1000.0;
    let cpu = server1.user_s + server1.sys_s - server0.user_s - server0.sys_s;
    let my_cpu = me1.user_s + me1.sys_s - me0.user_s - me0.sys_s;
    let host_total = (host1.2 - host0.2).max(1) as f64;

    let mut j = Json::new();
    j.text("label", &args.label);
    j.text("op", &format!("{:?}", args.op).to_lowercase());
    j.int("size", args.size as u64);
    j.int("concurrency", workers as u64);
    j.bool("signed_payload", args.signed_payload);
    j.bool("verify", args.verify);
    j.num("seconds", elapsed, 3);
    j.int("ops", ops as u64);
    j.num("ops_per_s", ops / elapsed, 1);
    j.num("mb_per_s", stats.bytes as f64 / 1e6 / elapsed, 2);
    j.num("mean_ms", mean, 3);
    for (name, q) in [
        ("p50_ms", 0.5),
        ("p90_ms", 0.9),
        ("p99_ms", 0.99),
        ("p999_ms", 0.999),
        ("max_ms", 1.0),
    ] {
        j.num(name, quantile_ms(&stats.latency, q), 3);
    }
    if !stats.first_byte.is_empty() {
        j.num("ttfb_p50_ms", quantile_ms(&stats.first_byte, 0.5), 3);
        j.num("ttfb_p99_ms", quantile_ms(&stats.first_byte, 0.99), 3);
    }
    if args.op == Op::List {
        j.int("keys_listed", stats.keys_listed);
        j.num("keys_per_s", stats.keys_listed as f64 / elapsed, 0);
        j.int("full_walks", stats.walks);
    }
    j.int("errors", stats.errors());
    j.int("errors_transport", stats.transport);
    j.int("errors_status", stats.status);
    j.int("errors_throttled", stats.throttled);
    j.int("errors_content", stats.content);
    if let Some(e) = &stats.first_error {
        j.text("first_error", e);
    }
    if !args.pids.is_empty() {
        j.num("server_cpu_s", cpu, 2);
        j.num("server_user_s", server1.user_s - server0.user_s, 2);
        j.num("server_sys_s", server1.sys_s - server0.sys_s, 2);
        j.num("server_cpu_s_per_1000_ops", cpu / ops * 1000.0, 4);
        j.num(
            "server_cpu_s_per_gb",
            if gb > 0.0 { cpu / gb } else { f64::NAN },
            3,
        );
        j.num("server_cores", cpu / elapsed, 2);
        j.num("server_max_rss_mb", peak.load(Relaxed) as f64 / 1e6, 1);
        j.num(
            "server_disk_write_mb",
            (server1.write_bytes - server0.write_bytes) as f64 / 1e6,
            2,
        );
        j.num(
            "server_disk_read_mb",
            (server1.read_bytes - server0.read_bytes) as f64 / 1e6,
            2,
        );
        j.num(
            "server_write_calls_per_op",
            (server1.write_calls - server0.write_calls) as f64 / ops,
            1,
        );
    }
    j.num("client_cpu_s", my_cpu, 2);
    j.num(
        "host_busy_pct",
        (host1.0 - host0.0) as f64 / host_total * 100.0,
        1,
    );
    j.num(
        "host_steal_pct",
        (host1.1 - host0.1) as f64 / host_total * 100.0,
        1,
    );
    j.num("load1_before", load_before, 2);
    if preload_s > 0.0 {
        j.num("preload_s", preload_s, 2);
        j.num("preload_ops_per_s", args.objects as f64 / preload_s, 1);
    }
    if shared.exhausted.load(Relaxed) {
        j.bool("ran_out_of_objects", true);
    }
    j.text("prefix", &args.prefix);
    j.int("seed", args.seed);
    println!("{}", j.finish());
    Ok(stats.errors())
}
