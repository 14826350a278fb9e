//! Looks at crash states, all of them with `--full`, and says how many there were and how long it took.
//!
//! `crash-states [--full] [--once N] [--twice N] [--only NAME] [--threads N]`; exit code 1 when a state failed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use minikv_tests::crash::{Selection, Tally, Walk};
use minikv_tests::life::Furnished;
use minikv_tests::steps::Step;

fn main() -> std::process::ExitCode {
    match run() {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(usage) => {
            eprintln!("{usage}");
            std::process::ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, String> {
    let mut selection = Selection {
        once: 97,
        twice: 997,
        only: None,
    };
    let mut threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        let number = |text: String| {
            text.parse::<u64>()
                .map_err(|error| format!("{text}: {error}"))
        };
        match argument.as_str() {
            "--full" => (selection.once, selection.twice) = (1, 1),
            "--once" => selection.once = number(value()?)?,
            "--twice" => selection.twice = number(value()?)?,
            "--only" => selection.only = Some(value()?),
            "--threads" => threads = number(value()?)? as usize,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    let began = Instant::now();
    let sequences = Step::sequences();
    let next = AtomicUsize::new(0);
    let total = std::thread::scope(|scope| {
        let worker = || -> Result<Tally, String> {
            // A simulated disk belongs to one thread at a time, so each has a store of its own.
            let store = Furnished::new()?;
            let mut tally = Tally::default();
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let mut walk = Walk::new(&selection);
                match turn.checked_sub(1) {
                    None => walk.first_start(),
                    Some(turn) => match sequences.get(turn) {
                        Some(steps) => walk.sequence(&store, steps),
                        None => return Ok(tally),
                    },
                }
                let one = walk.finish();
                eprintln!(
                    "{:>4} of {}: {} met, {} judged, {} same, {} failed, {:.0} s",
                    turn,
                    sequences.len(),
                    one.met,
                    one.judged,
                    one.same,
                    one.failures.len(),
                    began.elapsed().as_secs_f64()
                );
                for failure in &one.failures {
                    println!("FAILED {}\n    {}", failure.label, failure.what);
                }
                tally.add(one);
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut total = Tally::default();
        for worker in workers {
            let tally = worker.join().map_err(|_| "a worker panicked".to_owned())?;
            total.add(tally?);
        }
        Ok::<Tally, String>(total)
    })?;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{} sequences: {} states met, {} judged, {} the same as one judged, {} failed; {seconds:.0} s, {:.0} states/s",
        sequences.len(),
        total.met,
        total.judged,
        total.same,
        total.failures.len(),
        total.judged as f64 / seconds
    );
    Ok(total.failures.is_empty())
}
