//! Messages between nodes.
//!
//! Always true:
//! * nodes exchange encoded messages only, so that a simulated network can delay, reorder, double, drop and cut them
//!   without knowing what they say;
//! * a message arrives whole or not at all. Nothing else is promised: who needs an answer waits for one, for a while.

use bytes::Bytes;
use futures::future::BoxFuture;

/// A node's way to its peers. Nodes are named by their number in the cluster; which address that is, is the network's.
pub trait Net: Send + Sync + 'static {
    /// Sends a message. An error: it certainly did not leave. Otherwise nobody knows.
    fn send(&self, to: u64, message: Bytes) -> Result<(), NotSent>;

    /// The next message, and who sent it.
    fn receive(&self) -> BoxFuture<'_, (u64, Bytes)>;
}

/// There is no connection to that node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not connected")]
pub struct NotSent;

/// The network of a node that has no peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Net for Alone {
    fn send(&self, _: u64, _: Bytes) -> Result<(), NotSent> {
        Err(NotSent)
    }

    fn receive(&self) -> BoxFuture<'_, (u64, Bytes)> {
        Box::pin(futures::future::pending())
    }
}
