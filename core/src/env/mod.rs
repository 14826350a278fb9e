//! The outside world: clock, disk, network, randomness and tasks, each with a real and a simulated version.
//!
//! Nothing else in the core (and nothing in the gateway below `ops`) touches them; clippy's `disallowed_methods`
//! guards it. What runs on this boundary runs the same from the same seed.
//!
//! Two styles meet here. Clock, tasks and randomness are *ambient*: free functions that ask a thread-local
//! whether a simulation runs on this thread (one simulation per thread; openraft's runtime is ambient in the same way).
//! Disk and network are *handles*, because a simulation has one of each per node.

pub mod clock;
pub mod disk;
pub mod net;
pub mod random;
pub mod runtime;
pub mod sim;
pub(crate) mod sync;
pub mod task;

use std::sync::Arc;

/// What one node sees of the world.
#[derive(Clone)]
pub struct Env {
    /// Files of this node.
    pub disk: Arc<dyn disk::Disk>,
    /// Connections to other nodes.
    pub net: Arc<dyn net::Net>,
}

impl Env {
    /// This machine, alone.
    pub fn real() -> Env {
        Env::alone(Arc::new(disk::RealDisk))
    }

    /// A node without peers on `disk`.
    pub fn alone(disk: Arc<dyn disk::Disk>) -> Env {
        Env {
            disk,
            net: Arc::new(net::Alone),
        }
    }
}
