//! What happened in a simulation, in words and in order.

use std::sync::Arc;

use minikv_core::env::clock;
use parking_lot::Mutex;

/// Lines, shared by all that takes part.
#[derive(Clone, Default)]
pub struct Trace {
    lines: Arc<Mutex<Vec<String>>>,
}

/// Nanoseconds of the world's clock.
pub fn now() -> u64 {
    clock::now().nanos()
}

/// When `clock::now` is at the beginning of a simulation.
const START: u64 = 86_400 * 1_000_000_000;

/// A time of the world as people read it: seconds since the beginning.
pub fn seconds(nanos: u64) -> String {
    let micros = nanos.saturating_sub(START) / 1000;
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

impl Trace {
    /// Adds a line. Called from the world, never from within a node: a node's clock may drift.
    pub fn say(&self, what: impl AsRef<str>) {
        let line = format!("[{:>11}] {}", seconds(now()), what.as_ref());
        self.lines.lock().push(line);
    }

    /// All of it.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }
}
