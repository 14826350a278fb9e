//! Simulates clusters, one seed after the other; `simulate --help` has the flags. Exit code 1 when a seed failed.
//!
//! Each seed runs in a process of its own (this one, started again with `--one`): nothing that a process keeps can make a
//! run depend on the seeds before it.

use std::process::{Command, ExitCode, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use minikv_tests::cluster::kinds::Kinds;
use minikv_tests::cluster::logs::Logs;
use minikv_tests::cluster::storm::Faults;
use minikv_tests::cluster::{Plan, simulate};
use parking_lot::Mutex;

const EXAMPLES: &str = "Examples:
  simulate --seeds 100 --jobs 2 --twice-every 50
  simulate --from 1001 --minutes 90 --jobs 2
  simulate --from 252 --seeds 1 --trace --log minikv_core=debug
  simulate --faults membership,kill,power --clients objects --nodes 5";

/// Simulates clusters in storms, one seed after the other, each in a process of its own.
#[derive(Clone, Debug, clap::Parser)]
#[command(after_help = EXAMPLES)]
struct Arguments {
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    from: u64,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 100)]
    seeds: u64,
    /// As many seeds as there is time for
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    minutes: Option<u64>,
    /// Nodes that found the cluster
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=7))]
    nodes: u64,
    /// What happens to them: all, disks, none, or names with commas between them (a wrong one lists all there are)
    #[arg(long, value_name = "NAMES", default_value = "all", value_parser = known::<Faults>)]
    faults: String,
    /// Who uses them: all, or names with commas between them
    #[arg(long, value_name = "NAMES", default_value = "all", value_parser = known::<Kinds>)]
    clients: String,
    /// Simulated seconds in which faults come
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    storm: u64,
    /// Run each seed twice and compare every step of both
    #[arg(long, conflicts_with = "twice_every")]
    twice: bool,
    /// Run every Nth seed twice; 0: none
    #[arg(long, value_name = "N", default_value_t = 0)]
    twice_every: u64,
    /// Put a bug in, by its name in core/src/planted.rs (takes a build with --features planted)
    #[arg(long, value_name = "BUG")]
    plant: Option<String>,
    /// Seeds at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Print what happened also when all is well
    #[arg(long)]
    trace: bool,
    /// What the nodes log goes into the trace, as in RUST_LOG
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// End at the first seed that fails
    #[arg(long)]
    first: bool,
    /// Run the first seed in this process
    #[arg(long, hide = true)]
    one: bool,
}

impl Arguments {
    /// Every so manieth seed runs twice; 0: none.
    fn twice_every(&self) -> u64 {
        match self.twice {
            true => 1,
            false => self.twice_every,
        }
    }
}

/// Names that all mean something, as they are.
fn known<T: FromStr<Err = String>>(names: &str) -> Result<String, String> {
    names.parse::<T>().map(|_| names.to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.one {
        true => one(&arguments),
        false => all(&arguments),
    }
}

/// One seed, here. Prints a line of figures, and what happened if it failed.
fn one(arguments: &Arguments) -> ExitCode {
    if let Some(bug) = &arguments.plant
        && let Err(what) = minikv_tests::plant(bug)
    {
        eprintln!("{what}");
        return ExitCode::from(2);
    }
    let plan = Plan {
        nodes: arguments.nodes,
        // Parsed before.
        faults: arguments.faults.parse().unwrap_or(Faults::none()),
        storm: Duration::from_secs(arguments.storm),
        clients: arguments.clients.parse().unwrap_or(Kinds::all()),
        steps: arguments.twice,
    };
    let logs = match arguments.log.as_deref().map(Logs::collect).transpose() {
        Ok(logs) => logs.unwrap_or_default(),
        Err(what) => {
            eprintln!("--log: {what}");
            return ExitCode::from(2);
        }
    };
    let outcome = simulate(arguments.from, &plan);
    let failed = !outcome.broken.is_empty();
    if failed || arguments.trace {
        let lines = logs.merged(&outcome.trace);
        lines.iter().for_each(|line| println!("{line}"));
    }
    outcome
        .broken
        .iter()
        .for_each(|what| println!("BROKEN {what}"));
    println!(
        "FIGURES {} {} {} {} {} {} {} {} {} {} {} {:016x}",
        outcome.simulated.as_millis(),
        outcome.calls.0,
        outcome.calls.1,
        outcome.undecided,
        outcome.compared,
        outcome.messages,
        outcome.refused,
        outcome.installs,
        outcome.scrubbed.0,
        outcome.scrubbed.1,
        outcome.removed,
        hash(&outcome.trace) ^ outcome.steps,
    );
    match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn hash(lines: &[String]) -> u64 {
    let bytes = lines.iter().flat_map(|line| line.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// What a child said.
struct Ran {
    figures: Vec<String>,
    /// Empty when all is well.
    failure: String,
}

fn run(arguments: &Arguments, seed: u64, compared: bool) -> Result<Ran, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command
        .args(["--one", "--from", &seed.to_string()])
        .args(["--nodes", &arguments.nodes.to_string()])
        .args(["--faults", &arguments.faults])
        .args(["--clients", &arguments.clients])
        .args(["--storm", &arguments.storm.to_string()])
        .stdin(Stdio::null());
    if compared {
        command.arg("--twice");
    }
    if arguments.trace {
        command.arg("--trace");
    }
    if let Some(filter) = &arguments.log {
        command.args(["--log", filter]);
    }
    if let Some(bug) = &arguments.plant {
        command.args(["--plant", bug]);
    }
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let figures = said.lines().find_map(|line| line.strip_prefix("FIGURES "));
    let figures = figures
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned)
        .collect();
    let failure = match output.status.success() {
        true => String::new(),
        false => format!("{said}{}", String::from_utf8_lossy(&output.stderr)),
    };
    if output.status.success() && arguments.trace {
        print!("{said}");
    }
    Ok(Ran { figures, failure })
}

#[derive(Default)]
struct Total {
    seeds: u64,
    failed: Vec<u64>,
    simulated_ms: u64,
    calls: u64,
    unknown: u64,
    undecided: u64,
    compared: u64,
    messages: u64,
    compared_twice: u64,
    refused: u64,
    installs: u64,
    with_installs: u64,
    found_bad: u64,
    written_anew: u64,
    removed: u64,
    different: Vec<u64>,
}

fn all(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from + arguments.seeds;
    let deadline = arguments
        .minutes
        .map(|minutes| began + Duration::from_secs(60 * minutes));
    let total = Mutex::new(Total::default());
    let stop = AtomicBool::new(false);
    let worker = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let is_over = match deadline {
                Some(deadline) => Instant::now() >= deadline,
                None => seed >= end,
            };
            if is_over {
                return;
            }
            let every = arguments.twice_every();
            let compared = every > 0 && seed.is_multiple_of(every);
            let ran = match run(arguments, seed, compared) {
                Ok(ran) => ran,
                Err(what) => {
                    eprintln!("seed {seed}: {what}");
                    stop.store(true, Ordering::Relaxed);
                    return;
                }
            };
            let again = compared.then(|| run(arguments, seed, true));
            let mut total = total.lock();
            total.seeds += 1;
            let figure = |at: usize| {
                ran.figures
                    .get(at)
                    .and_then(|text| text.parse::<u64>().ok())
            };
            let figures: Vec<u64> = (0..11).map(|at| figure(at).unwrap_or(0)).collect();
            total.simulated_ms += figures[0];
            total.calls += figures[1];
            total.unknown += figures[2];
            total.undecided += figures[3];
            total.compared += figures[4];
            total.messages += figures[5];
            total.compared_twice += u64::from(compared);
            total.refused += figures[6];
            total.installs += figures[7];
            total.with_installs += u64::from(figures[7] > 0);
            total.found_bad += figures[8];
            total.written_anew += figures[9];
            total.removed += figures[10];
            let again = again.map(|again| again.map(|again| again.figures));
            if let Some(again) = again
                && again.as_ref() != Ok(&ran.figures)
            {
                let ran = &ran.figures;
                println!("seed {seed}: two runs differ: {ran:?} and {again:?}");
                total.different.push(seed);
            }
            if !ran.failure.is_empty() {
                total.failed.push(seed);
                println!("{}", ran.failure);
                println!("FAILED seed {seed}; again by: {}", replay(arguments, seed));
                if arguments.first {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            if total.seeds.is_multiple_of(50) {
                println!("{}", line(&total, began.elapsed()));
            }
        }
    };
    std::thread::scope(|scope| (0..arguments.jobs).for_each(|_| _ = scope.spawn(worker)));
    let total = total.into_inner();
    println!("{}", line(&total, began.elapsed()));
    if !total.failed.is_empty() {
        println!("failed: {:?}", total.failed);
    }
    match total.failed.is_empty() && total.different.is_empty() && total.seeds > 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn replay(arguments: &Arguments, seed: u64) -> String {
    let plant = arguments
        .plant
        .as_ref()
        .map(|bug| format!(" --plant {bug}"));
    format!(
        "cargo run --release -p minikv-tests --bin simulate -- --seeds 1 --from {seed} --nodes {} --faults {} --clients {} --storm {}{}",
        arguments.nodes,
        arguments.faults,
        arguments.clients,
        arguments.storm,
        plant.unwrap_or_default()
    )
}

fn line(total: &Total, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    let simulated = total.simulated_ms as f64 / 1000.0;
    let per_cpu = cpu_of_children().map_or(String::new(), |cpu| {
        format!(", {:.0} per CPU second", simulated / cpu)
    });
    format!(
        "{} seeds in {seconds:.0} s ({:.2} seeds/s), {:.2} simulated hours ({:.0} simulated s per s{per_cpu}), {} calls ({} of unknown outcome), {} keys undecided, {} copies compared, {} messages, {} lost disks refused, {} whole states installed in {} seeds, {} things found bad by scrubbers and {} contents written anew, {} nodes removed, {} failed, {} run twice, {} differ",
        total.seeds,
        total.seeds as f64 / seconds,
        total.simulated_ms as f64 / 3_600_000.0,
        total.simulated_ms as f64 / 1000.0 / seconds,
        total.calls,
        total.unknown,
        total.undecided,
        total.compared,
        total.messages,
        total.refused,
        total.installs,
        total.with_installs,
        total.found_bad,
        total.written_anew,
        total.removed,
        total.failed.len(),
        total.compared_twice,
        total.different.len()
    )
}

/// Seconds of CPU that all seeds took so far, where Linux says so.
fn cpu_of_children() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in brackets, may hold anything. Behind it: the fields from the third on; 16 and 17 are of waited-for children.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some((ticks(16)? + ticks(17)?) / 100.0).filter(|cpu| *cpu > 0.0)
}
