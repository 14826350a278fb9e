//! Looks at crash states, all of them with `--full`, and says how many there were and how long it took; `crash-states --help` has
//! the flags. Exit code 1 when a state failed.
//!
//! Sequences of one and two steps are done all of them, those of one group first (`--groups` does one kind alone). Of three
//! there are too many for a day: `--steps 3` takes them in an order that is spread evenly over all of them, by the seed, for so
//! many minutes, and says which share that was; `--from N` goes on where a run of the same seed ended.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use minikv_tests::crash::{Selection, Tally, Walk};
use minikv_tests::life::Furnished;
use minikv_tests::steps::{Shape, Step};
use parking_lot::Mutex;

const EXAMPLES: &str = "Examples:
  crash-states
  crash-states --full --threads 1
  crash-states --steps 3 --once 11 --twice 101 --minutes 45";

/// Recovers the states that crashes leave, reads them back whole and uses them
#[derive(clap::Parser)]
#[command(after_help = EXAMPLES)]
struct Arguments {
    /// Judge every state, of one crash and of two
    #[arg(long, conflicts_with_all = ["once", "twice"])]
    full: bool,
    /// Judge every Nth state of one crash
    #[arg(long, value_name = "N", default_value_t = 97)]
    once: u64,
    /// Judge every Nth state of two crashes
    #[arg(long, value_name = "N", default_value_t = 997)]
    twice: u64,
    /// Only this state, by the name that a failure gave it, and what leads to it
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Sequences at a time; else one per processor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Only sequences of so many data groups
    #[arg(long, value_name = "1|2", value_parser = clap::value_parser!(u16).range(1..=2))]
    groups: Option<u16>,
    /// Sequences of three steps, in an order that is spread evenly over all of them; else those of one and two
    #[arg(long, value_name = "3", value_parser = clap::value_parser!(u8).range(3..=3))]
    steps: Option<u8>,
    /// End after so many minutes
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// Decides the order of sequences of three steps
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Go on where a run of the same seed ended
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: usize,
    /// Put a bug in, by its name in core/src/planted.rs (takes a build with --features planted)
    #[arg(long, value_name = "BUG")]
    plant: Option<String>,
}

impl Arguments {
    fn selection(&self) -> Selection {
        let every = |n: u64| match self.full {
            true => 1,
            false => n,
        };
        Selection {
            once: every(self.once),
            twice: every(self.twice),
            only: self.only.clone(),
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

/// Something to walk over.
enum Work {
    FirstStart,
    Steps(Shape, Vec<Step>),
}

impl Work {
    fn shape(&self) -> Shape {
        match self {
            Work::FirstStart => Shape::ONE_GROUP,
            Work::Steps(shape, _) => *shape,
        }
    }
}

fn work(arguments: &Arguments) -> Vec<Work> {
    if arguments.steps.is_some() {
        let three = Step::sequences_of_three();
        let order = spread(three.len(), arguments.seed);
        return order
            .map(|at| Work::Steps(Shape::THREE_STEPS, three[at].clone()))
            .collect();
    }
    let of_one = Step::sequences().into_iter();
    let of_one = of_one.map(|steps| Work::Steps(Shape::ONE_GROUP, steps));
    let of_two = Step::sequences_of_two_groups().into_iter();
    let of_two = of_two.map(|steps| Work::Steps(Shape::TWO_GROUPS, steps));
    let all = std::iter::once(Work::FirstStart)
        .chain(of_one)
        .chain(of_two);
    let is_asked = |work: &Work| {
        arguments
            .groups
            .is_none_or(|groups| work.shape().groups == groups)
    };
    all.filter(is_asked).collect()
}

/// All numbers below `count` once, each far from the ones before it, so that any part of them is spread over all.
fn spread(count: usize, seed: u64) -> impl Iterator<Item = usize> {
    let gcd = |mut one: usize, mut other: usize| {
        while other > 0 {
            (one, other) = (other, one % other);
        }
        one
    };
    // By the golden section, or the next number that meets every place.
    let mut stride = (count as f64 * 0.618_034) as usize;
    while gcd(stride.max(1), count) != 1 {
        stride += 1;
    }
    let first = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 17) as usize % count.max(1);
    (0..count).map(move |turn| (first + turn * stride) % count)
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    if let Some(bug) = &arguments.plant {
        minikv_tests::plant(bug)?;
    }
    let began = Instant::now();
    let (work, selection) = (work(arguments), arguments.selection());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.map_or(processors, usize::from);
    let next = AtomicUsize::new(arguments.from);
    let deadline = arguments
        .minutes
        .map(|minutes| began + Duration::from_secs(60 * minutes));
    let done = Mutex::new((0, Tally::default()));
    std::thread::scope(|scope| {
        let worker = || -> Result<(), String> {
            // A simulated disk belongs to one thread at a time, so each has a store of its own.
            let mut store: Option<Furnished> = None;
            loop {
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Ok(());
                }
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let Some(one) = work.get(turn) else {
                    return Ok(());
                };
                let mut walk = Walk::new(&selection);
                match one {
                    Work::FirstStart => walk.first_start(),
                    Work::Steps(shape, steps) => {
                        let furnished = match store.take().filter(|store| store.shape() == *shape) {
                            Some(furnished) => furnished,
                            None => Furnished::shaped(*shape)?,
                        };
                        walk.sequence(&furnished, steps);
                        store = Some(furnished);
                    }
                }
                let one = walk.finish();
                for failure in &one.failures {
                    println!("FAILED {}\n    {}", failure.label, failure.what);
                }
                let mut done = done.lock();
                done.0 += 1;
                eprintln!(
                    "{turn:>4} of {}: {} met, {} judged, {} same, {} failed, {:.0} s",
                    work.len(),
                    one.met,
                    one.judged,
                    one.same,
                    one.failures.len(),
                    began.elapsed().as_secs_f64()
                );
                done.1.add(one);
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            worker
                .join()
                .map_err(|_| "a worker panicked".to_owned())??;
        }
        Ok::<(), String>(())
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let (sequences, total) = done.into_inner();
    let cpu = cpu().map_or(String::new(), |cpu| format!(", {cpu:.0} s of CPU"));
    println!(
        "{sequences} of {} sequences ({:.1} %): {} states met, {} judged, {} the same as one judged, {} failed; {seconds:.0} s{cpu}, {:.0} states/s",
        work.len(),
        100.0 * sequences as f64 / work.len().max(1) as f64,
        total.met,
        total.judged,
        total.same,
        total.failures.len(),
        total.judged as f64 / seconds
    );
    let end = arguments.from + sequences;
    if end < work.len() {
        println!("goes on with --seed {} --from {end}", arguments.seed);
    }
    Ok(total.failures.is_empty() && sequences > 0)
}

/// Seconds of CPU that this process took, where Linux says so.
fn cpu() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in brackets, may hold anything. Behind it: the fields from the third on; 14 and 15 are this process's.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is left out and nothing done twice, and a tenth of the order is a tenth of every region.
    #[test]
    fn the_order_meets_everything_once_and_evenly() {
        let count = Step::sequences_of_three().len();
        let order: Vec<usize> = spread(count, 7).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..count).collect::<Vec<_>>());
        for tenth in 0..10 {
            let region = tenth * count / 10..(tenth + 1) * count / 10;
            let met = order[..count / 10]
                .iter()
                .filter(|at| region.contains(at))
                .count();
            assert!(met.abs_diff(count / 100) <= 2, "{met} of region {tenth}");
        }
    }
}
