//! A world made from a seed: virtual time, one thread, seeded randomness, simulated disks and network, nodes that can be
//! killed and paused.
//!
//! While a simulation runs, a thread-local says so, and clock, tasks and randomness ask it on every call.
//! One simulation per thread; tests in other threads are not touched.
//!
//! Always true:
//! * the same seed and the same code give the same trace, poll for poll, in any process;
//! * a task that panicked fails the run, unless somebody joined it;
//! * virtual time moves only when nothing else can.
//!
//! Elsewhere: who dies together (`scope`), what a crash leaves on disk (`disk`), what happens to messages (`net`).

mod disk;
mod net;
mod scope;
#[cfg(test)]
mod tests;
mod world;

pub use disk::{Choice, Crashed, Fate, Fault, Latency, Op, OpKind, SimDisk, Unsynced};
pub use net::{Course, Flight, SimNet, Weather};
pub use scope::{Entered, Killed, Scope, aside};
pub use world::{Active, Sim, enter, run, run_traced, set_wall_offset_ms, take_panics};

pub(super) use scope::{TaskRef, local_time, spawn, world_time};
pub(super) use world::{active, heard_panic, panicked, random, seed, wall_ms};
