//! Messages between nodes. On one node there is nobody to talk to; the cluster's issue gives this its body.

/// A node's way to its peers.
pub trait Net: Send + Sync + 'static {}
