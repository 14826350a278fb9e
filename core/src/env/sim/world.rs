//! One simulation: its seed, its random stream, its clock offset, and the run itself.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::time::Duration;

use openraft_rt::AsyncRuntime;
use openraft_rt_sim::SimRuntime;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::scope;

/// The wall clock of a simulation starts on 2026-11-01, midnight UTC.
const WALL_START_MS: i64 = 1_793_491_200_000;

thread_local! {
    // Apart from the rest, so that asking costs one load where no simulation ever ran.
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

struct World {
    seed: u64,
    rng: SmallRng,
    /// Apart from `rng`, so that shuffling does not change what the program draws.
    shuffle: Option<SmallRng>,
    wall_offset_ms: i64,
    panics: Vec<String>,
}

fn with_world<T>(ask: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(|world| match world {
        Some(world) => ask(world),
        None => panic!("no simulation runs on this thread"),
    })
}

/// Whether a simulation runs on this thread.
#[inline]
pub(in crate::env) fn active() -> bool {
    ACTIVE.get()
}

/// The seed of the simulation on this thread.
pub(in crate::env) fn seed() -> Option<u64> {
    active().then(|| with_world(|world| world.seed))
}

/// Draws from the seeded stream.
pub(in crate::env) fn random<T>(draw: impl FnOnce(&mut SmallRng) -> T) -> T {
    with_world(|world| draw(&mut world.rng))
}

/// Whether the scheduler should let others go first this time.
pub(super) fn hold_back() -> bool {
    with_world(|world| {
        world
            .shuffle
            .as_mut()
            .is_some_and(|rng| rand::Rng::next_u32(rng).is_multiple_of(8))
    })
}

/// A task panicked.
pub(in crate::env) fn panicked(message: &str) {
    if active() {
        with_world(|world| world.panics.push(message.to_owned()));
    }
}

/// Somebody joined a task and learned of its panic.
pub(in crate::env) fn heard_panic(message: &str) {
    if active() {
        with_world(|world| {
            if let Some(at) = world.panics.iter().position(|panic| panic == message) {
                world.panics.remove(at);
            }
        });
    }
}

pub(in crate::env) fn wall_ms(virtual_time: Duration) -> u64 {
    let offset = with_world(|world| world.wall_offset_ms).saturating_add(scope::wall_offset_ms());
    let elapsed = i64::try_from(virtual_time.as_millis()).unwrap_or(i64::MAX);
    WALL_START_MS
        .saturating_add(elapsed)
        .saturating_add(offset)
        .max(0)
        .unsigned_abs()
}

/// Moves the wall clock of the whole simulation. A node's own goes by [`super::Scope::set_wall_offset_ms`] on top.
pub fn set_wall_offset_ms(offset: i64) {
    with_world(|world| world.wall_offset_ms = offset);
}

/// Takes the messages of tasks that panicked and that nobody joined so far, so that they do not fail the run.
pub fn take_panics() -> Vec<String> {
    with_world(|world| std::mem::take(&mut world.panics))
}

/// The thread is simulated while this lives.
#[derive(Debug)]
pub struct Active(());

/// Makes this thread a simulated one, without running anything yet: for openraft's suites, which make their runtimes
/// themselves. Everyone else calls [`run`].
///
/// # Panics
/// If it already is.
pub fn enter(seed: u64) -> Active {
    enter_with(seed, false)
}

fn enter_with(seed: u64, shuffled: bool) -> Active {
    assert!(!active(), "a simulation already runs on this thread");
    let shuffle = shuffled.then(|| SmallRng::seed_from_u64(!seed));
    let world = World {
        seed,
        rng: SmallRng::seed_from_u64(seed),
        shuffle,
        wall_offset_ms: 0,
        panics: Vec::new(),
    };
    WORLD.with_borrow_mut(|slot| *slot = Some(world));
    ACTIVE.set(true);
    Active(())
}

impl Drop for Active {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The one thing needed to see the failure again.
            eprintln!("the simulation had seed {}", with_world(|world| world.seed));
        }
        ACTIVE.set(false);
        let world = WORLD.with_borrow_mut(Option::take);
        drop(world);
    }
}

/// How to run a simulation.
#[derive(Clone, Copy, Debug)]
pub struct Sim {
    seed: u64,
    shuffled: bool,
    traced: bool,
}

impl Sim {
    /// One world per seed.
    pub fn new(seed: u64) -> Sim {
        Sim {
            seed,
            shuffled: false,
            traced: false,
        }
    }

    /// Lets runnable tasks overtake each other, by the seed. Otherwise they run first come, first served.
    pub fn shuffled(self) -> Sim {
        Sim {
            shuffled: true,
            ..self
        }
    }

    /// Keeps a line for every spawn, poll, wake and timer.
    pub fn traced(self) -> Sim {
        Sim {
            traced: true,
            ..self
        }
    }

    /// Runs `future` and whatever it spawns until `future` is done; the rest is dropped then. Returns the trace too.
    ///
    /// # Panics
    /// If `future` does, if a task panicked unnoticed, or if everything waits for ever.
    pub fn run<F: Future>(self, future: F) -> (F::Output, Vec<String>) {
        let active = enter_with(self.seed, self.shuffled);
        let mut runtime = SimRuntime::with_seed(self.seed);
        runtime.record_trace(self.traced);
        let output = runtime.block_on(future);
        let trace = runtime.take_trace();
        drop(runtime);
        let panics = take_panics();
        assert!(
            panics.is_empty(),
            "tasks of the simulation panicked: {panics:?}"
        );
        drop(active);
        (output, trace)
    }
}

/// Runs `future` in a simulation made from `seed`.
pub fn run<F: Future>(seed: u64, future: F) -> F::Output {
    Sim::new(seed).run(future).0
}

/// As [`run`], with the trace: two runs of one seed must give the same.
pub fn run_traced<F: Future>(seed: u64, future: F) -> (F::Output, Vec<String>) {
    Sim::new(seed).traced().run(future)
}
