//! Runs many seeds of `minikv_tests::lives`, or one: `lives [--seeds N] [--seed N] [--deaths N]`; exit code 1 on a failure.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use minikv_tests::lives::lives;

fn main() -> ExitCode {
    let mut seeds = 0..1000;
    let mut deaths = 12;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for pair in arguments.chunks(2) {
        let value = pair.get(1).and_then(|value| value.parse::<u64>().ok());
        match (pair[0].as_str(), value) {
            ("--seeds", Some(count)) => seeds = 0..count,
            ("--seed", Some(seed)) => seeds = seed..seed + 1,
            ("--deaths", Some(count)) => deaths = count,
            _ => {
                eprintln!("lives [--seeds N] [--seed N] [--deaths N]");
                return ExitCode::from(2);
            }
        }
    }
    let (next, failed, judged) = (
        AtomicU64::new(seeds.start),
        AtomicU64::new(0),
        AtomicU64::new(0),
    );
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            match lives(seed, deaths) {
                Ok(lived) => _ = judged.fetch_add(lived.judged, Ordering::Relaxed),
                Err(what) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    println!("FAILED {what}");
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(worker)));
    println!(
        "{} seeds, {} lives judged, {} seeds failed",
        seeds.end - seeds.start,
        judged.into_inner(),
        failed.load(Ordering::Relaxed)
    );
    if failed.into_inner() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
