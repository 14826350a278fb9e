//! openraft's way to the other members of a group.
//!
//! The messages themselves travel over whatever implements `Peers`: nobody on a single node, openraft handles of the
//! same process in tests, env's network in a cluster.
//!
//! Always true:
//! * a transport failure is an error and never a grant: a node that is cut off must not collect pre-votes from silence;
//! * replies come in the order of requests (openraft's sequential stream).

use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;

use super::raft_state_machine::Shipment;
use super::raft_types::{Committed, RaftVote, Types};
use crate::ids::GroupId;

pub(crate) type RaftSnapshot = Snapshot<Committed, u64, BasicNode, Shipment>;

/// Nobody answered: too late, not connected, refused.
#[derive(Clone, Debug, thiserror::Error)]
#[error("node {node} cannot be reached: {why}")]
pub(crate) struct PeerError {
    pub node: u64,
    pub why: String,
}

/// Sends Raft messages to members on other nodes and brings their replies.
pub(crate) trait Peers: Send + Sync + 'static {
    fn append(
        &self,
        to: u64,
        group: GroupId,
        request: AppendEntriesRequest<Types>,
    ) -> BoxFuture<'static, Result<AppendEntriesResponse<Types>, PeerError>>;
    fn vote(
        &self,
        to: u64,
        group: GroupId,
        request: VoteRequest<Types>,
        pre: bool,
    ) -> BoxFuture<'static, Result<VoteResponse<Types>, PeerError>>;
    fn snapshot(
        &self,
        to: u64,
        group: GroupId,
        vote: RaftVote,
        snapshot: RaftSnapshot,
    ) -> BoxFuture<'static, Result<SnapshotResponse<Types>, PeerError>>;
    fn transfer(
        &self,
        to: u64,
        group: GroupId,
        request: TransferLeaderRequest<Types>,
    ) -> BoxFuture<'static, Result<TransferLeaderResponse<Types>, PeerError>>;
}

/// A single node has none.
pub(crate) struct NoPeers;

impl NoPeers {
    fn nobody<T: Send + 'static>(node: u64) -> BoxFuture<'static, Result<T, PeerError>> {
        let why = "this node has no peers".to_owned();
        Box::pin(std::future::ready(Err(PeerError { node, why })))
    }
}

impl Peers for NoPeers {
    fn append(
        &self,
        to: u64,
        _: GroupId,
        _: AppendEntriesRequest<Types>,
    ) -> BoxFuture<'static, Result<AppendEntriesResponse<Types>, PeerError>> {
        Self::nobody(to)
    }

    fn vote(
        &self,
        to: u64,
        _: GroupId,
        _: VoteRequest<Types>,
        _: bool,
    ) -> BoxFuture<'static, Result<VoteResponse<Types>, PeerError>> {
        Self::nobody(to)
    }

    fn snapshot(
        &self,
        to: u64,
        _: GroupId,
        _: RaftVote,
        _: RaftSnapshot,
    ) -> BoxFuture<'static, Result<SnapshotResponse<Types>, PeerError>> {
        Self::nobody(to)
    }

    fn transfer(
        &self,
        to: u64,
        _: GroupId,
        _: TransferLeaderRequest<Types>,
    ) -> BoxFuture<'static, Result<TransferLeaderResponse<Types>, PeerError>> {
        Self::nobody(to)
    }
}

/// Makes a connection per member.
pub(crate) struct RaftNetwork {
    pub group: GroupId,
    pub peers: Arc<dyn Peers>,
}

/// The way to one member.
pub(crate) struct Connection {
    to: u64,
    group: GroupId,
    peers: Arc<dyn Peers>,
}

impl RaftNetworkFactory<Types> for RaftNetwork {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Connection {
        Connection {
            to: target,
            group: self.group,
            peers: self.peers.clone(),
        }
    }
}

fn unreachable(error: PeerError) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&error))
}

impl RaftNetworkV2<Types> for Connection {
    type SnapshotData = Shipment;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let reply = self.peers.append(self.to, self.group, request);
        reply.await.map_err(unreachable)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let reply = self.peers.vote(self.to, self.group, request, false);
        reply.await.map_err(unreachable)
    }

    // openraft's own default grants; ours asks.
    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let reply = self.peers.vote(self.to, self.group, request, true);
        reply.await.map_err(unreachable)
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let reply = self.peers.snapshot(self.to, self.group, vote, snapshot);
        let cancel = Box::pin(cancel);
        match futures::future::select(cancel, reply).await {
            futures::future::Either::Left((closed, _)) => Err(closed.into()),
            futures::future::Either::Right((reply, _)) => {
                reply.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let reply = self.peers.transfer(self.to, self.group, request);
        reply.await.map_err(unreachable)
    }
}
