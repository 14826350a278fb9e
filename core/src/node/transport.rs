//! Questions between nodes and their answers, over env's network: one way to each peer, for all groups.
//!
//! ```text
//!   group ── ask ──> number, wait ── message ──> │net│ ──> transport ──> the group's member ── reply ──┐
//!     <── what it said, or an error in time <── number found <── │net│ <──────────────────────────────┘
//! ```
//! Always true:
//! * every question ends: with what was said, or with an error when its time is over. Silence is never an answer;
//! * a reply reaches the run that asked, and only once: numbers are of one run, and the run is named;
//! * what comes from another cluster, or cannot be read, is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use minikv_proto::peer::{self, ask, message::Content, reply};
use parking_lot::{Mutex, RwLock};
use prost::Message;
use tokio::sync::oneshot;

use crate::chunk::{fetch, receive};
use crate::env::net::Net;
use crate::env::{clock, task};
use crate::group::Group;
use crate::group::peers::{PeerError, Peers};
use crate::group::registry::Registry;
use crate::group::touch;
use crate::ids::{GroupId, NodeId};

/// This node's end of the network.
pub(super) struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    net: Arc<dyn Net>,
    /// As messages carry it.
    cluster: Bytes,
    node: NodeId,
    boot: u64,
    next: AtomicU64,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<reply::What>>>,
    /// Who answers; empty until the groups are open.
    groups: RwLock<Option<Arc<Registry>>>,
}

impl Transport {
    pub(super) fn new(net: Arc<dyn Net>, cluster: u128, node: NodeId, boot: u64) -> Transport {
        Transport {
            inner: Arc::new(Inner {
                net,
                cluster: Bytes::copy_from_slice(&cluster.to_be_bytes()),
                node,
                boot,
                next: AtomicU64::new(1),
                waiting: Mutex::default(),
                groups: RwLock::new(None),
            }),
        }
    }

    /// As groups see it.
    pub(super) fn peers(&self) -> Arc<dyn Peers> {
        Arc::new(Asking(self.inner.clone()))
    }

    /// From now on these answer.
    pub(super) fn serve(&self, groups: Arc<Registry>) {
        *self.inner.groups.write() = Some(groups);
    }

    /// Takes messages until dropped.
    pub(super) fn run(&self) -> impl Future<Output = ()> + Send + 'static {
        let inner = self.inner.clone();
        async move {
            loop {
                let (from, message) = inner.net.receive().await;
                inner.take(NodeId(from), message);
            }
        }
    }

    /// The node stops: nobody is answered any more.
    pub(super) fn close(&self) {
        *self.inner.groups.write() = None;
    }
}

impl Inner {
    fn take(self: &Arc<Self>, from: NodeId, message: Bytes) {
        let Ok(message) = peer::Message::decode(message) else {
            tracing::warn!(from = from.0, "a message that cannot be read was dropped");
            return;
        };
        if message.cluster != self.cluster || message.from != from.0 {
            tracing::warn!(from = from.0, "a message of another cluster was dropped");
            return;
        }
        match message.content {
            Some(Content::Ask(peer::Ask {
                group,
                what: Some(what),
            })) => {
                let group = u16::try_from(group).map(GroupId);
                let groups = self.groups.read();
                let member = groups
                    .as_ref()
                    .and_then(|groups| groups.get(group.ok()?).ok())
                    .cloned();
                drop(groups);
                let inner = self.clone();
                let (number, asked_in_boot) = (message.number, message.boot);
                task::spawn(async move {
                    let what = said_by(member, what).await;
                    let reply = Content::Reply(peer::Reply { what: Some(what) });
                    // Who waits for it gives up in time.
                    let _ = inner.send(from, number, asked_in_boot, reply);
                });
            }
            Some(Content::Reply(peer::Reply { what: Some(what) })) => {
                let is_ours = message.asked_in_boot == self.boot;
                if (is_ours || crate::planted!("reply-to-another-run"))
                    && let Some(waiting) = self.waiting.lock().remove(&message.number)
                {
                    // It may have stopped waiting this moment.
                    let _ = waiting.send(what);
                }
            }
            _ => tracing::warn!(from = from.0, "a message without content was dropped"),
        }
    }

    fn send(
        &self,
        to: NodeId,
        number: u64,
        asked_in_boot: u64,
        content: Content,
    ) -> Result<(), crate::env::net::NotSent> {
        let message = peer::Message {
            cluster: self.cluster.clone(),
            from: self.node.0,
            boot: self.boot,
            number,
            asked_in_boot,
            content: Some(content),
        };
        self.net.send(to.0, message.encode_to_vec().into())
    }
}

/// What a member says. Without one, that there is none: not an answer to the question.
async fn said_by(member: Option<Arc<Group>>, what: ask::What) -> reply::What {
    let failed = |why: String| reply::What::Failed(peer::Failed { why });
    let Some(member) = member else {
        return failed("the group has no member here that runs".to_owned());
    };
    match what {
        ask::What::Propose(propose) => {
            reply::What::Proposed(member.propose_for_peer(propose).await)
        }
        ask::What::ReadIndex(_) => reply::What::ReadAt(member.read_index_for_peer().await),
        ask::What::StoreFrame(asked) => {
            reply::What::FrameStored(receive::keep_for_peer(&member, asked).await)
        }
        ask::What::FetchFrame(asked) => {
            reply::What::Fetched(fetch::frame_for_peer(&member, asked).await)
        }
        ask::What::FetchPayload(asked) => {
            reply::What::Fetched(fetch::payload_for_peer(&member, asked).await)
        }
        ask::What::Touch(asked) => reply::What::Touched(touch::for_peer(&member, asked)),
        of_raft => {
            let Some(raft) = member.raft() else {
                return failed("the group does not run here".to_owned());
            };
            match raft.answer(of_raft).await {
                Some(Ok(what)) => what,
                Some(Err(why)) => failed(why),
                None => failed("nobody answers such a question".to_owned()),
            }
        }
    }
}

struct Asking(Arc<Inner>);

/// A place among those who wait; given up when dropped.
struct Place {
    inner: Arc<Inner>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.waiting.lock().remove(&self.number);
    }
}

impl Peers for Asking {
    fn ask(
        &self,
        to: NodeId,
        group: GroupId,
        what: ask::What,
        patience: Duration,
    ) -> BoxFuture<'static, Result<reply::What, PeerError>> {
        let inner = self.0.clone();
        Box::pin(async move {
            let failed = |why: String| PeerError { node: to, why };
            let number = inner.next.fetch_add(1, Ordering::Relaxed);
            let (told, said) = oneshot::channel();
            inner.waiting.lock().insert(number, told);
            let place = Place {
                inner: inner.clone(),
                number,
            };
            let ask = Content::Ask(peer::Ask {
                group: u32::from(group.0),
                what: Some(what),
            });
            let sent = inner.send(to, number, 0, ask);
            sent.map_err(|error| failed(error.to_string()))?;
            let said = clock::timeout(patience, said).await;
            drop(place);
            match said {
                Ok(Ok(reply::What::Failed(peer::Failed { why }))) => Err(failed(why)),
                Ok(Ok(what)) => Ok(what),
                Ok(Err(_)) => Err(failed("this node stops".to_owned())),
                Err(_) => Err(failed("no answer in time".to_owned())),
            }
        })
    }
}
