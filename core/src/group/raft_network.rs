//! openraft's way to the other members of a group: its messages, put into words (`raft_wire`) and carried by `peers`.
//!
//! Always true:
//! * a transport failure is an error and never a grant: a node that is cut off must not collect pre-votes from silence;
//! * replies come in the order of requests (openraft's sequential stream): each waits for the one before.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use minikv_proto::peer::{ask, reply};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;

use super::peers::{PeerError, Peers};
use super::raft_state_machine::Shipment;
use super::raft_types::{Committed, RaftVote, Types};
use super::raft_wire::{
    append_out, appended_in, transfer_out, vote_in, vote_out, vote_request_out, voted_in,
};
use crate::ids::{GroupId, NodeId};

pub(crate) type RaftSnapshot = Snapshot<Committed, u64, BasicNode, Shipment>;

/// An append with entries may wait for a slow disk at the other end: longer than a heartbeat may take.
const APPEND_PATIENCE: Duration = Duration::from_millis(1_000);

/// Makes a connection per member.
pub(crate) struct RaftNetwork {
    pub group: GroupId,
    pub peers: Arc<dyn Peers>,
}

/// The way to one member.
pub(crate) struct Connection {
    to: NodeId,
    group: GroupId,
    peers: Arc<dyn Peers>,
}

impl RaftNetworkFactory<Types> for RaftNetwork {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Connection {
        Connection {
            to: NodeId(target),
            group: self.group,
            peers: self.peers.clone(),
        }
    }
}

fn unreachable(error: PeerError) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&error))
}

impl Connection {
    async fn ask<T>(
        &self,
        what: ask::What,
        patience: Duration,
        understand: impl FnOnce(reply::What) -> io::Result<T>,
    ) -> Result<T, RPCError<Types>> {
        let asked = self.peers.ask(self.to, self.group, what, patience);
        let said = asked.await.map_err(unreachable)?;
        understand(said).map_err(|error| {
            unreachable(PeerError {
                node: self.to,
                why: error.to_string(),
            })
        })
    }
}

impl RaftNetworkV2<Types> for Connection {
    type SnapshotData = Shipment;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let patience = match request.entries.is_empty() {
            true => option.hard_ttl(),
            false => APPEND_PATIENCE,
        };
        let said = self.ask(append_out(request), patience, appended_in).await;
        match said {
            Err(_) if crate::planted!("append-failure-is-success") => {
                Ok(AppendEntriesResponse::Success)
            }
            said => said,
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = vote_request_out(request, false);
        self.ask(request, option.hard_ttl(), voted_in).await
    }

    // openraft's own default grants; ours asks.
    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let vote = request.vote;
        let request = vote_request_out(request, true);
        let said = self.ask(request, option.hard_ttl(), voted_in).await;
        match said {
            Err(_) if crate::planted!("pre-vote-granted-on-failure") => {
                Ok(VoteResponse::new(vote, None, true))
            }
            said => said,
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let unreachable = |error: PeerError| StreamingError::Unreachable(Unreachable::new(&error));
        let Shipment::Leaving(leaving) = snapshot.snapshot else {
            return Err(unreachable(PeerError {
                node: self.to,
                why: "what arrived here is not sent on".to_owned(),
            }));
        };
        let sent = leaving.send(&*self.peers, self.to, vote_out(&vote));
        match select(pin!(cancel), pin!(sent)).await {
            Either::Left((closed, _)) => Err(StreamingError::Closed(closed)),
            Either::Right((Ok(vote), _)) => {
                let vote = vote_in(Some(vote)).map_err(|error| {
                    unreachable(PeerError {
                        node: self.to,
                        why: error.to_string(),
                    })
                })?;
                Ok(SnapshotResponse::new(vote))
            }
            Either::Right((Err(error), _)) => Err(unreachable(error)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let understand = |what| match what {
            reply::What::Transferred(_) => Ok(Ok(())),
            _ => Err(io::Error::other("no answer to a hand-over")),
        };
        self.ask(transfer_out(&request), option.hard_ttl(), understand)
            .await
    }
}
