//! Many lives of one node: concurrent clients, a disk of varying speed, a scheduler that shuffles, and a death at any
//! operation, in work or in recovery, by kill or by power cut. After each, everything is read back and judged.
//!
//! The enumeration (`crash`) is complete for short sequences; this finds what takes long ones, overlapping requests and
//! several deaths in a row.
//!
//! Always true: a seed decides everything, so `lives --seed N` shows a failure again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use minikv_core::env::clock;
use minikv_core::env::sim::{Choice, Latency, Sim, SimDisk};

use crate::client::{Client, Ledger};
use crate::content::Piece;
use crate::dice::Dice;
use crate::life;
use crate::model::{Name, Op};
use crate::world::{INLINE, World, small_options};

/// Clients at a time; each has keys of its own.
const CLIENTS: u64 = 6;
const KEYS: u64 = 3;

/// What one seed came to.
#[derive(Clone, Copy, Default, Debug)]
pub struct Lived {
    /// Times it came back and was judged.
    pub judged: u64,
    /// Times it died before it was up.
    pub died_young: u64,
    /// Operations answered.
    pub answered: u64,
}

/// Lives through so many deaths. The error says what was wrong, and in which life.
pub fn lives(seed: u64, deaths: u64) -> Result<Lived, String> {
    let mut dice = Dice::new(seed);
    let mut disk = SimDisk::new(seed);
    disk.set_capacity(1 << 30);
    let ledger = Ledger::default();
    let mut lived = Lived::default();
    for death in 0..=deaths {
        if dice.percent(50) {
            let slowest = Duration::from_micros(1 + dice.below(20_000));
            let both = (Duration::ZERO, slowest);
            disk.set_latency(Latency {
                write: both,
                sync: both,
            });
        }
        let last = death == deaths;
        match (last, dice.below(100)) {
            (true, _) => {}
            // In recovery, most likely.
            (false, 0..30) => disk.crash_at(dice.below(40)),
            (false, 30..50) => disk.crash_within(dice.below(400), 1 + dice.below(3) as usize),
            (false, _) => disk.crash_at(dice.below(400)),
        }
        disk.hang_after_crash();
        let one = life(&disk, &ledger, dice.fork(), dice.percent(50), last);
        let (up, answered) = one.map_err(|what| format!("seed {seed}, life {death}: {what}"))?;
        lived.answered += answered;
        match up {
            true => lived.judged += 1,
            false => lived.died_young += 1,
        }
        ledger.lock().crash();
        disk = match dice.below(3) {
            0 => disk.after_kill(),
            1 => disk.after_power_cut(&Choice::None),
            _ => disk.after_power_cut(&Choice::Random(dice.roll())),
        };
    }
    Ok(lived)
}

/// One life, up to its death; the last one ends in peace. Says whether it came up, and how much it answered.
fn life(
    disk: &SimDisk,
    ledger: &Ledger,
    mut dice: Dice,
    shuffled: bool,
    last: bool,
) -> Result<(bool, u64), String> {
    let sim = Sim::new(dice.roll());
    let sim = if shuffled { sim.shuffled() } else { sim };
    let mut came_up = false;
    let answered = AtomicU64::new(0);
    life::stage_in(sim, async {
        let options = small_options();
        let started = disk.until_crash(World::start(disk, &options, ledger.clone()));
        let world = match started.await {
            Err(_) => return Ok(()),
            Ok(Err(_)) if disk.crashed() => return Ok(()),
            Ok(Err(error)) => return Err(format!("it does not start: {error}")),
            Ok(Ok(world)) => world,
        };
        match disk.until_crash(life::judge(&world)).await {
            // Half a reading judges nothing.
            Err(_) => return Ok(()),
            Ok(judged) => judged?,
        }
        came_up = true;
        let rounds = if last { 5 } else { 200 };
        let clients =
            (0..CLIENTS).map(|number| client(&world, number, dice.fork(), rounds, &answered));
        let clients = futures::future::join_all(clients);
        let house = housekeeping(&world, dice.fork(), rounds / 4);
        let _ = disk
            .until_crash(futures::future::join(clients, house))
            .await;
        if let Some(broken) = world.client.wrong_answers().first() {
            return Err(broken.to_string());
        }
        world.kill();
        Ok(())
    })?;
    Ok((came_up, answered.into_inner()))
}

/// One client's requests, one after the other.
async fn client(world: &World, number: u64, mut dice: Dice, rounds: u64, answered: &AtomicU64) {
    let client: Client = world.client.clone();
    let bucket = if number.is_multiple_of(2) {
        "plain"
    } else {
        "versioned"
    };
    if client.create_bucket(bucket, number % 2 == 1).await.is_err() {
        return;
    }
    for _ in 0..rounds {
        let name = Name::new(bucket, format!("c{number}/k{}", dice.below(KEYS)));
        let op = choose(&client, &name, &mut dice);
        if client.run(&name, op).await.is_ok() {
            answered.fetch_add(1, Ordering::Relaxed);
        }
        if dice.percent(10) {
            clock::sleep(Duration::from_millis(dice.below(200))).await;
        }
    }
}

/// Something that makes sense in a state that the key may be in.
fn choose(client: &Client, name: &Name, dice: &mut Dice) -> Op {
    let states = client.ledger().lock().possible(name);
    let uploads = states
        .first()
        .map(|state| state.uploads.clone())
        .unwrap_or_default();
    if !uploads.is_empty() && dice.percent(60) {
        let which = dice.below(uploads.len() as u64) as usize;
        if let Some((label, parts)) = uploads.into_iter().nth(which) {
            let numbers: Vec<u32> = parts.keys().copied().collect();
            return match dice.below(10) {
                0 => Op::Abort(label),
                1..4 if !numbers.is_empty() => {
                    let skip = dice.below(numbers.len() as u64) as usize;
                    Op::Complete(label, numbers[skip..].to_vec())
                }
                _ => Op::Part(label, 1 + dice.below(5) as u32, piece(dice)),
            };
        }
    }
    match dice.below(100) {
        0..40 => Op::Put(piece(dice).into()),
        40..50 => Op::PutIfAbsent(piece(dice).into()),
        50..55 => Op::Put(crate::content::Content::default()),
        55..70 => Op::CreateUpload(format!("u{:016x}", dice.roll())),
        _ => Op::Delete,
    }
}

fn piece(dice: &mut Dice) -> Piece {
    let size = match dice.below(10) {
        0..6 => 16 + dice.below(2000),
        6..8 => INLINE - 100 + dice.below(200),
        _ => 16 + dice.below(200_000),
    };
    Piece::new(dice.roll(), size)
}

async fn housekeeping(world: &World, mut dice: Dice, rounds: u64) {
    for _ in 0..rounds {
        clock::sleep(Duration::from_millis(dice.below(2000))).await;
        // What goes wrong here shows in what is read afterwards.
        let _ = match dice.below(3) {
            0 => world.node.checkpoint_now().await,
            1 => world.node.compact_now().await,
            _ => world.node.sweep_now().await,
        };
    }
}
