//! Messages between nodes. On one node there is nobody to talk to; the cluster's issue gives this its body.
//!
//! Always true: nodes exchange encoded messages only, so that a simulated network can delay, reorder, drop and cut them
//! without knowing what they say.

/// A node's way to its peers.
pub trait Net: Send + Sync + 'static {}

/// The network of a node that has no peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Net for Alone {}
