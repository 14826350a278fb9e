//! The other members of a group, as its member here sees them: somebody who may answer a question, in time or not.
//!
//! Who carries the questions (the node's transport) implements `Peers`; a single node has nobody to ask.

use std::time::Duration;

use futures::future::BoxFuture;
use minikv_proto::peer::{ask, reply};

use crate::ids::{GroupId, NodeId};

/// Nobody answered: too late, not connected, refused. Whether the question arrived is not known.
#[derive(Clone, Debug, thiserror::Error)]
#[error("node {} cannot be reached: {why}", node.0)]
pub(crate) struct PeerError {
    pub node: NodeId,
    pub why: String,
}

/// Asks members on other nodes.
pub(crate) trait Peers: Send + Sync + 'static {
    /// The nodes that are known without any group: those that this one was founded with or met first, and the cluster's.
    fn nodes(&self) -> Vec<NodeId>;

    /// Asks `group`'s member on `to`, and waits so long for what it says.
    fn ask(
        &self,
        to: NodeId,
        group: GroupId,
        what: ask::What,
        patience: Duration,
    ) -> BoxFuture<'static, Result<reply::What, PeerError>>;
}

/// A single node has none.
pub(crate) struct NoPeers;

impl Peers for NoPeers {
    fn nodes(&self) -> Vec<NodeId> {
        Vec::new()
    }

    fn ask(
        &self,
        node: NodeId,
        _: GroupId,
        _: ask::What,
        _: Duration,
    ) -> BoxFuture<'static, Result<reply::What, PeerError>> {
        let why = "this node has no peers".to_owned();
        Box::pin(std::future::ready(Err(PeerError { node, why })))
    }
}
