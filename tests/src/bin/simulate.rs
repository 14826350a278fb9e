//! Simulates clusters, one seed after the other: `simulate --seeds N [--from N] [--faults all|disks|none|a,b] [--nodes N]
//! [--clients all|a,b] [--storm SECONDS] [--twice | --twice-every N] [--plant BUG] [--jobs N] [--minutes N] [--trace] [--log FILTER]
//! [--first]`; exit code 1 when a seed failed.
//!
//! Each seed runs in a process of its own (this one, started again with `--one`): nothing that a process keeps can make a
//! run depend on the seeds before it. `--twice` runs each twice (`--twice-every N`: every Nth) and compares every step of both.
//! `--minutes N` goes on with further seeds for so long. `--first` ends at the first seed that fails.
//! `--log minikv_core=debug` puts what the nodes log into the trace.

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use minikv_tests::cluster::kinds::Kinds;
use minikv_tests::cluster::logs::Logs;
use minikv_tests::cluster::storm::Faults;
use minikv_tests::cluster::{Plan, simulate};
use parking_lot::Mutex;

#[derive(Clone, Debug)]
struct Arguments {
    from: u64,
    seeds: u64,
    nodes: u64,
    faults: String,
    clients: String,
    storm: u64,
    /// Every so manieth seed runs twice; 0: none.
    twice_every: u64,
    plant: Option<String>,
    jobs: usize,
    /// Print what happened also when all is well.
    trace: bool,
    /// What the nodes log goes into it.
    log: Option<String>,
    /// Run `from` here.
    one: bool,
    /// End at the first seed that fails.
    first: bool,
    /// As many seeds as there is time for.
    minutes: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(what) => {
            eprintln!("{what}");
            return ExitCode::from(2);
        }
    };
    match arguments.one {
        true => one(&arguments),
        false => all(&arguments),
    }
}

fn parse() -> Result<Arguments, String> {
    let mut parsed = Arguments {
        from: 1,
        seeds: 100,
        nodes: 3,
        faults: "all".to_owned(),
        clients: "all".to_owned(),
        storm: 20,
        twice_every: 0,
        plant: None,
        jobs: 1,
        trace: false,
        log: None,
        one: false,
        first: false,
        minutes: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        let number = |text: String| {
            let number = text.parse::<u64>();
            number.map_err(|error| format!("{text}: {error}"))
        };
        match argument.as_str() {
            "--from" => parsed.from = number(value()?)?,
            "--seeds" => parsed.seeds = number(value()?)?,
            "--nodes" => parsed.nodes = number(value()?)?,
            "--faults" => parsed.faults = value()?,
            "--clients" => parsed.clients = value()?,
            "--storm" => parsed.storm = number(value()?)?,
            "--jobs" => parsed.jobs = number(value()?)?.max(1) as usize,
            "--plant" => parsed.plant = Some(value()?),
            "--twice" => parsed.twice_every = 1,
            "--twice-every" => parsed.twice_every = number(value()?)?,
            "--minutes" => parsed.minutes = Some(number(value()?)?),
            "--trace" => parsed.trace = true,
            "--log" => parsed.log = Some(value()?),
            "--one" => parsed.one = true,
            "--first" => parsed.first = true,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    parsed.faults.parse::<Faults>()?;
    parsed.clients.parse::<Kinds>()?;
    if !(1..=7).contains(&parsed.nodes) {
        return Err("1 to 7 nodes".to_owned());
    }
    Ok(parsed)
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
        steps: arguments.twice_every == 1,
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
            let every = arguments.twice_every;
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
            if let Some(Ok(again)) = again
                && again.figures != ran.figures
            {
                println!(
                    "seed {seed}: two runs differ: {:?} and {:?}",
                    ran.figures, again.figures
                );
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
