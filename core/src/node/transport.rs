//! Questions between nodes and their answers, over env's network: one way to each peer, for all groups.
//!
//! ```text
//!   group ── ask ──> number, wait ── message ──> │net│ ──> transport ──> the group's member ── reply ──┐
//!     <── what it said, or an error in time <── number found <── │net│ <──────────────────────────────┘
//! ```
//! Always true:
//! * every question ends: with what was said, or with an error when its time is over. Silence is never an answer;
//! * a reply reaches the run that asked, and only once: numbers are of one run, and the run is named;
//! * what comes from another cluster, from an older run of its sender than the known one, or cannot be read, is dropped;
//! * a member that came back to a node votes only when it has caught up with what it may once have acknowledged;
//! * a node that was removed is told so, and is heard on nothing else;
//! * a group that has no member here is not made by being asked for: only its leader's `Host` makes one (`hosting`);
//! * this node's member of a group hears and says nothing that counts (votes, appends) before enough of the group's voters
//!   have confirmed this run (`boot_exchange`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use minikv_proto::peer::{self, ask, message::Content, reply};
use parking_lot::{Mutex, RwLock};
use prost::Message;
use tokio::sync::oneshot;

use super::boot_exchange::BootExchange;
use super::boots::still_there;
use crate::chunk::{fetch, receive};
use crate::env::net::Net;
use crate::env::task::JoinHandle;
use crate::env::{clock, task};
use crate::group::Group;
use crate::group::peers::{PeerError, Peers};
use crate::group::raft_types::voters_of;
use crate::group::registry::Registry;
use crate::group::roster::Roster;
use crate::group::{confirm, touch};
use crate::ids::{GroupId, NodeId};

/// This node's end of the network.
pub(super) struct Transport {
    inner: Arc<Inner>,
    /// Hears the peers and tells them of this run, from the first moment to the last.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Peers that are told of this run.
    told: Mutex<BTreeSet<NodeId>>,
}

/// Questions that are of the node and its groups, not of one group's member.
pub(super) trait Steward: Send + Sync {
    /// Has a member of this group on this node.
    fn host(&self, group: GroupId, asked: peer::Host) -> BoxFuture<'_, Result<(), String>>;
    /// Notes durably that the member of a group has caught up since it came, if it has.
    fn caught_up(&self, group: GroupId) -> BoxFuture<'_, Result<(), String>>;
    /// Who the members of a group are, if this node's member leads it.
    fn members(&self, group: GroupId) -> BoxFuture<'_, peer::MembersAre>;
    /// Lets a node into the cluster.
    fn join(&self, node: minikv_proto::row::Node) -> BoxFuture<'_, Result<peer::Joined, String>>;
}

struct Inner {
    net: Arc<dyn Net>,
    /// As messages carry it.
    cluster: Bytes,
    node: NodeId,
    boots: Arc<BootExchange>,
    next: AtomicU64,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<reply::What>>>,
    /// Who answers; empty until the groups are open.
    groups: RwLock<Option<Arc<Registry>>>,
    steward: RwLock<Option<Arc<dyn Steward>>>,
    roster: Arc<Roster>,
}

impl Transport {
    /// Hears its peers and tells them of this run from now on.
    pub(super) fn begin(
        net: Arc<dyn Net>,
        cluster: u128,
        node: NodeId,
        boots: BootExchange,
        roster: Arc<Roster>,
        peers: impl IntoIterator<Item = NodeId>,
    ) -> Transport {
        let inner = Arc::new(Inner {
            net,
            cluster: Bytes::copy_from_slice(&cluster.to_be_bytes()),
            node,
            boots: Arc::new(boots),
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            groups: RwLock::new(None),
            steward: RwLock::new(None),
            roster,
        });
        let tasks = vec![task::spawn(inner.clone().listen())];
        let transport = Transport {
            inner,
            tasks: Mutex::new(tasks),
            told: Mutex::default(),
        };
        transport.meet(peers);
        transport
    }

    /// Tells these of this run from now on, too.
    pub(super) fn meet(&self, peers: impl IntoIterator<Item = NodeId>) {
        let mut told = self.told.lock();
        for peer in peers {
            if peer != self.inner.node && told.insert(peer) {
                let asking = Arc::new(Asking(self.inner.clone()));
                let tell = self.inner.boots.clone().tell(peer, asking);
                self.tasks.lock().push(task::spawn(tell));
            }
        }
    }

    /// As groups see it.
    pub(super) fn peers(&self) -> Arc<dyn Peers> {
        Arc::new(Asking(self.inner.clone()))
    }

    /// From now on these answer.
    pub(super) fn serve(&self, groups: Arc<Registry>, steward: Arc<dyn Steward>) {
        *self.inner.groups.write() = Some(groups);
        *self.inner.steward.write() = Some(steward);
    }

    /// What is known of who runs.
    pub(super) fn boots(&self) -> &BootExchange {
        &self.inner.boots
    }

    /// The node stops: nobody is answered any more.
    pub(super) fn close(&self) {
        *self.inner.groups.write() = None;
        *self.inner.steward.write() = None;
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    async fn listen(self: Arc<Self>) {
        loop {
            let (from, message) = self.net.receive().await;
            self.take(NodeId(from), message);
        }
    }

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
            // An older run is told that it is one.
            Some(content)
                if self.boots.is_outdated(from, message.boot) && !is_about_boots(&content) =>
            {
                tracing::debug!(from = from.0, "a message of an older run was dropped");
            }
            Some(Content::Ask(peer::Ask {
                group,
                what: Some(what),
            })) => {
                let inner = self.clone();
                let (number, asked_in_boot) = (message.number, message.boot);
                task::spawn(async move {
                    let what = inner.said(from, asked_in_boot, group, what).await;
                    let reply = Content::Reply(peer::Reply { what: Some(what) });
                    // Who waits for it gives up in time.
                    let _ = inner.send(from, number, asked_in_boot, reply);
                });
            }
            Some(Content::Reply(_)) if self.roster.with(|known| known.is_gone(from)) => {
                tracing::debug!(from = from.0, "a removed node's answer was dropped");
            }
            Some(Content::Reply(peer::Reply { what: Some(what) })) => {
                let is_ours = message.asked_in_boot == self.boots.own().number;
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
            boot: self.boots.own().number,
            number,
            asked_in_boot,
            content: Some(content),
        };
        self.net.send(to.0, message.encode_to_vec().into())
    }
}

/// Whether somebody who was removed is answered: so that it learns of it.
fn is_about_the_cluster(what: &ask::What) -> bool {
    matches!(what, ask::What::Boot(_) | ask::What::Directory(_))
}

/// Whether it asks for a vote, or to campaign.
fn is_about_votes(what: &ask::What) -> bool {
    use ask::What::{PreVote, Transfer, Vote};
    matches!(what, Vote(_) | PreVote(_) | Transfer(_))
}

/// Whether it asks who runs.
fn is_about_boots(content: &Content) -> bool {
    matches!(
        content,
        Content::Ask(peer::Ask {
            what: Some(ask::What::Boot(_)),
            ..
        })
    )
}

fn failed(why: impl Into<String>) -> reply::What {
    reply::What::Failed(peer::Failed { why: why.into() })
}

/// What this node says to questions.
impl Inner {
    fn member(&self, group: GroupId) -> Option<Arc<Group>> {
        let groups = self.groups.read();
        groups.as_ref()?.find(group)
    }

    /// Whether the member may vote, campaign and acknowledge.
    fn takes_part(&self, member: &Group) -> bool {
        let voters = || -> Vec<BTreeSet<NodeId>> {
            let voters = match member.raft() {
                Some(raft) => raft.voters(),
                // Damaged, it does not run; who its members are it knows all the same.
                None => voters_of(&member.replica.mark()).unwrap_or_default(),
            };
            self.roster.with(|known| {
                let wanted = known.wanted(member.id).unwrap_or_default();
                let named = wanted.into_iter().map(NodeId).collect();
                still_there(voters, self.node, |node| known.is_gone(node), &named)
            })
        };
        self.boots.lets(member.id, member.coming(), voters)
    }

    async fn said(&self, from: NodeId, boot: u64, group: u32, what: ask::What) -> reply::What {
        if let ask::What::Boot(asked) = what {
            let said = self.boots.answer(from, asked).await;
            return said.map_or_else(failed, reply::What::Booted);
        }
        if self.roster.with(|known| known.is_gone(from)) && !is_about_the_cluster(&what) {
            return failed(format!("node {} was removed from the cluster", from.0));
        }
        let Ok(group) = u16::try_from(group).map(GroupId) else {
            return failed("there is no such group");
        };
        let steward = self.steward.read().clone();
        let what = match (what, steward) {
            (ask::What::Directory(_), _) => {
                let known = self.roster.known();
                return reply::What::Directory(known.to_wire());
            }
            (ask::What::Join(peer::Join { node: Some(node) }), Some(steward)) => {
                let joined = steward.join(node).await;
                return joined.map_or_else(failed, reply::What::Joined);
            }
            (ask::What::Host(asked), Some(steward)) => {
                let hosted = steward.host(group, asked).await;
                return hosted.map_or_else(failed, |()| reply::What::Hosted(peer::Hosted {}));
            }
            (confirm @ ask::What::Confirm(_), Some(steward)) => {
                // Before it says so: who confirmed may be admitted, and must be able to vote after any crash.
                if let Err(why) = steward.caught_up(group).await {
                    return failed(why);
                }
                confirm
            }
            (ask::What::Members(_), Some(steward)) => {
                return reply::What::Members(steward.members(group).await);
            }
            (of_member, _) => of_member,
        };
        // Without one: that is not an answer to the question.
        let Some(member) = self.member(group) else {
            return failed(format!(
                "{group} has no member on node {} that runs",
                self.node.0
            ));
        };
        match what {
            ask::What::Propose(propose) => {
                reply::What::Proposed(member.propose_for_peer(propose).await)
            }
            ask::What::ReadIndex(_) => reply::What::ReadAt(member.read_index_for_peer().await),
            ask::What::StoreFrame(asked) => {
                // A copy on a disk that turns out to be an old one would be counted.
                if !self.takes_part(&member) {
                    return failed("this boot is not confirmed yet");
                }
                reply::What::FrameStored(receive::keep_for_peer(&member, asked).await)
            }
            ask::What::FetchFrame(asked) => {
                let fetched = fetch::frame_for_peer(&member, asked).await;
                fetched.map_or_else(failed, reply::What::Fetched)
            }
            ask::What::FetchPayload(asked) => {
                let fetched = fetch::payload_for_peer(&member, asked).await;
                fetched.map_or_else(failed, reply::What::Fetched)
            }
            ask::What::Confirm(_) => {
                if !self.takes_part(&member) {
                    return failed("this boot is not confirmed yet");
                }
                let confirmed = confirm::for_leader(&member).await;
                confirmed.map_or_else(failed, reply::What::Confirmed)
            }
            ask::What::Rows(asked) => reply::What::Rows(member.rows_for_peer(asked).await),
            ask::What::Touch(asked) => reply::What::Touched(touch::for_peer(&member, asked)),
            ask::What::Piece(asked) => {
                let piece = member.replica.shipments.piece(asked).await;
                piece.map_or_else(failed, reply::What::Piece)
            }
            ask::What::Payloads(asked) => {
                let payloads = member.replica.shipments.payloads(asked).await;
                payloads.map_or_else(failed, reply::What::Payloads)
            }
            ask::What::Install(asked) => {
                if !self.takes_part(&member) {
                    return failed("this boot is not confirmed yet");
                }
                let installed = member.install_for_peer(from, asked);
                installed.map_or_else(failed, reply::What::Installed)
            }
            ask::What::BringBack(_) => {
                if !self.takes_part(&member) || !self.boots.is_newest(from, boot) {
                    return failed("a boot is not confirmed yet");
                }
                let brought = member.bring_back_for_peer().await;
                brought.map_or_else(failed, reply::What::Brought)
            }
            of_raft => {
                let Some(raft) = member.raft() else {
                    return failed("the group does not run here");
                };
                if !self.takes_part(&member) {
                    return failed("this boot is not confirmed yet");
                }
                if !member.may_vote() && is_about_votes(&of_raft) {
                    return failed("this member has not caught up since it came");
                }
                match raft.answer(of_raft).await {
                    Some(Ok(what)) => what,
                    Some(Err(why)) => failed(why),
                    None => failed("nobody answers such a question"),
                }
            }
        }
    }

    /// Whether this question may leave: who is not confirmed does not campaign, and is not brought back.
    fn may_ask(&self, group: GroupId, what: &ask::What) -> bool {
        match what {
            ask::What::Vote(_) | ask::What::PreVote(_) | ask::What::BringBack(_) => {
                let is_to_lead = !matches!(what, ask::What::BringBack(_));
                self.member(group).is_some_and(|member| {
                    self.takes_part(&member) && (member.may_vote() || !is_to_lead)
                })
            }
            _ => true,
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
    fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: BTreeSet<NodeId> = self.0.boots.founders().collect();
        nodes.extend(
            self.0
                .roster
                .with(|known| known.present().collect::<Vec<_>>()),
        );
        nodes.into_iter().collect()
    }

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
            if !inner.may_ask(group, &what) {
                return Err(failed("this boot is not confirmed yet".to_owned()));
            }
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
