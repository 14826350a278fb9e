//! One simulated node on a simulated disk, with a client at its door.
//!
//! ```text
//!   sim::run(seed, async {
//!       let world = World::start(&disk, &options, ledger).await?;
//!       world.client.run(..).await; ...
//!       world.kill();
//!   })
//! ```
//! Worlds are small, so that thousands of them can be had: one data group, segments and chunks of some KiB. The limits
//! are the node's own; nothing in it knows that it is being tested.
//!
//! Always true: all tasks of the node live in one scope, and `kill` ends them all at once, wherever they wait.

use std::sync::Arc;
use std::time::Duration;

use minikv_core::env::sim::{Scope, SimDisk};
use minikv_core::kv::Credentials;
use minikv_core::node::{Limits, Node, NodeOptions, StartError};

use crate::client::{Client, Ledger};

/// Where the simulated node keeps its data.
pub const DIR: &str = "/data";

/// A running node.
pub struct World {
    /// The node.
    pub node: Arc<Node>,
    /// A client of it.
    pub client: Client,
    /// Its disk.
    pub disk: SimDisk,
    scope: Scope,
}

impl World {
    /// Starts a node on whatever the disk holds. Inside a simulation.
    pub async fn start(
        disk: &SimDisk,
        options: &NodeOptions,
        ledger: Ledger,
    ) -> Result<World, StartError> {
        let scope = Scope::new("node");
        let started = scope.enter(Node::start(disk.env(), options.clone())).await;
        let Ok(node) = started else {
            unreachable!("nobody else knows this scope");
        };
        let node = node?;
        let client = Client::new(node.kv(), ledger);
        let disk = disk.clone();
        Ok(World {
            node,
            client,
            disk,
            scope,
        })
    }

    /// Runs a future as the node's own work: it ends with the node.
    pub async fn within<F: Future>(&self, future: F) -> Option<F::Output> {
        self.scope.enter(future).await.ok()
    }

    /// A SIGKILL.
    pub fn kill(self) -> SimDisk {
        self.scope.kill();
        self.disk.after_kill()
    }
}

/// A node small enough that a whole life of it takes milliseconds.
pub fn small_options() -> NodeOptions {
    NodeOptions {
        data_groups: 1,
        root: Some(Credentials {
            access_key: "root".to_owned(),
            secret_key: "not-so-secret".to_owned(),
        }),
        limits: Limits {
            overlay_bytes: 1 << 20,
            block_cache_bytes: 256 << 10,
            segment_bytes: Some(SEGMENT),
            chunk_bytes: 64 << 10,
            inline_bytes: INLINE as usize,
            release_after: Duration::ZERO,
            ..Limits::default()
        },
        ..NodeOptions::new(DIR)
    }
}

/// The same with so many data groups, so that transactions over several of them run on one node.
pub fn small_options_of(data_groups: u16) -> NodeOptions {
    let small = small_options();
    let session_idle = match data_groups {
        1 => small.limits.session_idle,
        // The record of a transaction whose driver died is kept until its session has ended.
        _ => Duration::from_secs(15),
    };
    NodeOptions {
        data_groups,
        limits: Limits {
            session_idle,
            ..small.limits.clone()
        },
        ..small
    }
}

/// Bytes of a log segment in small worlds: the least there is.
pub const SEGMENT: u32 = 256 << 10;
/// The largest inline object in small worlds.
pub const INLINE: u64 = 32 << 10;
