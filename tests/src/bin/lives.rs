//! Runs many seeds of `minikv_tests::lives`, or one; `lives --help` has the flags. Exit code 1 on a failure.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use minikv_tests::lives::lives;

/// Lets a store live and die, again and again, under clients
#[derive(Parser)]
#[command(after_help = "Examples:\n  lives --seeds 200\n  lives --seed 17 --deaths 3")]
struct Arguments {
    /// Seeds 0 to N-1
    #[arg(long, value_name = "N", default_value_t = 1000)]
    seeds: u64,
    /// This one alone
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Deaths in a seed, at most
    #[arg(long, value_name = "N", default_value_t = 12)]
    deaths: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => 0..arguments.seeds,
    };
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
            match lives(seed, arguments.deaths) {
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
