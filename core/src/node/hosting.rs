//! The groups that this node has members of, while it runs: they come when their leader asks for it, and go when their
//! members say that this node is none of them any more.
//!
//! ```text
//!   Host ── listed, durable ── engine, log, openraft ── answers peers ── repairs, notices its terms, drives changes
//!
//!   the directory names others ── its members: not you ── silent ── its members again: not you ── data removed
//! ```
//! Always true:
//! * a member of a group is made only when a leader asks for it, and begins with the last vote that this node had in it;
//! * it votes, and asks for votes, only when it has applied all that was agreed on when it came: as an earlier member this
//!   node may have acknowledged some of it, and a candidate that was away since may still count on its vote;
//! * data goes only after a leader, confirmed by a majority after this node had fallen silent, did not name this node: what
//!   it acknowledged before counts for nobody any more;
//! * who asks this node to host a group has agreed on at least what this node acknowledged in it before: others come late;
//! * whatever is cut here is ended later, by this run or the next start (`hosted_file`).
//!
//! Elsewhere: who should be a member (`shard::planner`), how members change (`group::membership`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use minikv_proto::peer::{self, ask, reply};
use minikv_proto::row;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::hosted_file::{HostedGroups, Hosting, Reach};
use super::identity::Identity;
use super::start::{Storage, limits, one_up};
use super::transport::Steward;
use super::{NodeOptions, StartError, joining};
use crate::env::clock;
use crate::env::disk::Disk;
use crate::env::task::{self, JoinHandle};
use crate::group::checkpoint::Pressure;
use crate::group::elsewhere::{Elsewhere, NotHere};
use crate::group::install::Arrivals;
use crate::group::peers::Peers;
use crate::group::raft_types::term_after;
use crate::group::registry::Registry;
use crate::group::replica::Replica;
use crate::group::roster::Roster;
use crate::group::{Group, Standing, bring_back, membership_driver, repair, replay};
use crate::ids::{GroupId, NodeId};
use crate::shard::router::Router;
use crate::state::read;

/// How long somebody may take to say who the members of a group are.
const PATIENCE: Duration = Duration::from_secs(2);
/// Who still reads from a member that leaves has so long to end.
const GRACE: Duration = Duration::from_secs(5);
/// Items of the table of places looked at together.
const PAGE: usize = 4096;

/// What it takes to open a group.
pub(super) struct Hosts {
    pub storage: Arc<Storage>,
    pub identity: Identity,
    pub options: NodeOptions,
    pub grown: Arc<Notify>,
    pub pressure: Arc<Pressure>,
    pub peers: Option<Arc<dyn Peers>>,
    pub router: Arc<Router>,
    /// What the disk lists; one change at a time.
    pub listed: tokio::sync::Mutex<HostedGroups>,
    /// What works for each group.
    pub tasks: Mutex<BTreeMap<GroupId, Vec<JoinHandle<()>>>>,
    /// Nothing begins any more.
    pub closed: AtomicBool,
}

impl Hosts {
    fn registry(&self) -> &Registry {
        &self.router.groups
    }

    fn roster(&self) -> &Arc<Roster> {
        &self.router.roster
    }

    fn node(&self) -> NodeId {
        self.identity.node
    }

    /// The way to a group that lies elsewhere; `None`: nobody knows of such a group.
    pub(super) fn way_to(&self, id: GroupId, first: Vec<NodeId>) -> Option<Arc<Group>> {
        let data_groups = self.roster().with(|known| known.data_groups);
        if id.0 > data_groups {
            return None;
        }
        let arrivals = Arrivals {
            disk: self.storage.disk.clone(),
            dir: self.options.data_dir.join("incoming").join(id.to_string()),
        };
        let replica = Replica::new(
            id,
            self.node(),
            Arc::new(NotHere),
            self.storage.store.clone(),
            arrivals,
            limits(&self.options),
            self.grown.clone(),
        );
        let way = Elsewhere::new(self.roster().clone(), first, self.node());
        let log = self.storage.log.clone();
        let peers = self.peers.clone();
        let replica = Arc::new(replica.ok()?);
        let mut group = Group::new(replica, log, self.pressure.clone(), peers);
        group.elsewhere = Some(way);
        Some(Arc::new(group))
    }

    /// Starts what works for a group.
    pub(super) fn tend(&self, group: &Arc<Group>) {
        let mut tasks = Vec::new();
        if group.id != GroupId::DIRECTORY {
            tasks.push(task::spawn(repair::run(group.clone())));
        }
        if group.peers.is_some() {
            tasks.push(task::spawn(note_terms(group.clone())));
            tasks.push(task::spawn(bring_back::run(group.clone())));
            let groups = self.router.groups.clone();
            let driver = membership_driver::run(group.clone(), self.roster().clone(), groups);
            tasks.push(task::spawn(driver));
        }
        self.tasks.lock().insert(group.id, tasks);
    }

    /// Nothing of it works any more.
    pub(super) fn rest(&self) {
        self.closed.store(true, Ordering::Release);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks.values().flatten() {
            task.abort();
        }
    }

    fn stop_tending(&self, group: GroupId) {
        for task in self.tasks.lock().remove(&group).into_iter().flatten() {
            task.abort();
        }
    }

    /// Has a member of a group here.
    async fn begin(&self, id: GroupId, asked: peer::Host) -> Result<(), String> {
        let voters = asked.voters.iter().copied().map(NodeId).collect();
        if let Some(group) = self.registry().find(id) {
            group.told_voters(asked.term, voters);
            return Ok(());
        }
        let data_groups = self.roster().with(|known| known.data_groups);
        if id.0 > data_groups {
            return Err(format!("{id} is not known here yet"));
        }
        if self.roster().with(|known| known.is_gone(self.node())) {
            return Err(format!(
                "node {} was removed from the cluster",
                self.node().0
            ));
        }
        let mut listed = self.listed.lock().await;
        if self.closed.load(Ordering::Acquire) {
            return Err("this node stops".to_owned());
        }
        if let Some(group) = self.registry().find(id) {
            group.told_voters(asked.term, voters);
            return Ok(());
        }
        let said = |error: StartError| error.to_string();
        let before = match listed.0.get(&id).cloned() {
            Some(Hosting::Leaving { vote, reach }) => {
                // Durable before anything goes, as in `remove`.
                self.write(&listed).await?;
                let forgotten = forget(&self.storage, &self.options.data_dir, id, vote);
                forgotten.await.map_err(said)?;
                reach
            }
            Some(Hosting::Left(reach) | Hosting::Hosted { before: reach, .. }) => reach,
            None => Reach::default(),
        };
        // All that this node acknowledged, and that was agreed on, must lie at or below the floor: so it does if a leader of a
        // later term said it, or this term's said no less. Who asked long ago asks again, if it still leads.
        let floor = asked.floor;
        let asked = Reach {
            term: asked.term,
            index: floor,
        };
        if asked < before {
            return Err(format!("{id}: a leader of long ago asks"));
        }
        let before = before.max(asked);
        listed.0.insert(id, Hosting::Hosted { floor, before });
        self.write(&listed).await?;
        let (options, peers) = (&self.options, self.peers.clone());
        let group = self.storage.group(
            id,
            &self.identity,
            options,
            &self.grown,
            &self.pressure,
            peers,
        );
        let group = group.await.map_err(said)?;
        group.set_floor(floor);
        group.told_voters(asked.term, voters);
        one_up(&group, &[]).await.map_err(said)?;
        tracing::info!(group = %id, "this node has a member of a group now");
        self.tend(&group);
        self.registry().put(group);
        Ok(())
    }

    /// Notes that a member has applied what it must have applied before it votes; durable when it returns.
    async fn caught_up(&self, id: GroupId) -> Result<(), String> {
        let Some(group) = self.registry().find(id) else {
            return Ok(());
        };
        if group.floor() == 0 || group.replica.applied() < group.floor() {
            return Ok(());
        }
        let mut listed = self.listed.lock().await;
        let Some(Hosting::Hosted { floor, .. }) = listed.0.get_mut(&id) else {
            return Ok(());
        };
        let was = std::mem::take(floor);
        if let Err(why) = self.write(&listed).await {
            if let Some(Hosting::Hosted { floor, .. }) = listed.0.get_mut(&id) {
                *floor = was;
            }
            return Err(why);
        }
        group.set_floor(0);
        if let Some(raft) = group.raft().filter(|_| !group.log.is_sick()) {
            raft.may_lead(true, true);
        }
        Ok(())
    }

    async fn write(&self, listed: &HostedGroups) -> Result<(), String> {
        let written = listed.write(&*self.storage.disk, &self.options.data_dir);
        written
            .await
            .map_err(|error| format!("the list of groups was not written: {error}"))
    }

    /// Lets go of the groups that lie elsewhere by now.
    pub(super) async fn let_go(&self) {
        for group in self.registry().all() {
            let wanted = self.roster().with(|known| known.wanted(group.id));
            if wanted.is_none_or(|wanted| wanted.contains(&self.node().0)) {
                continue;
            }
            if let Err(why) = self.leave(&group).await {
                tracing::debug!(group = %group.id, why, "this node keeps its member for now");
            }
        }
        let listed = &mut *self.listed.lock().await;
        let leaving = |(id, hosting): (&GroupId, &Hosting)| {
            let is_leaving = matches!(hosting, Hosting::Leaving { .. });
            is_leaving.then_some(*id)
        };
        let begun: Vec<GroupId> = listed.0.iter().filter_map(leaving).collect();
        for id in begun {
            if let Err(why) = self.remove(id, listed).await {
                tracing::warn!(group = %id, why, "what a member left is not removed yet");
            }
        }
    }

    async fn leave(&self, group: &Arc<Group>) -> Result<(), String> {
        let id = group.id;
        let at_once = crate::planted!("data-removed-without-asking");
        if !at_once && self.members_of(id).await?.contains(&self.node().0) {
            return Err("it is a member".to_owned());
        }
        let mut listed = self.listed.lock().await;
        if self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        // From here on nothing of it acknowledges anything. Has it been asked back meanwhile, its members say so.
        self.registry().take(id);
        match self.members_of(id).await {
            Ok(members) if !members.contains(&self.node().0) => {}
            _ if at_once => {}
            other => {
                self.registry().put(group.clone());
                return Err(format!("{other:?}"));
            }
        }
        self.stop_tending(id);
        group.stand(Standing::Refused(format!("{id} lies on other nodes now")));
        let raft = group.raft();
        group.set_raft(None);
        if let Some(raft) = raft {
            raft.stop().await;
        }
        // Nothing of it comes any more: neither a whole state, nor a frame of an upload.
        let _arrivals = group.no_more_arrivals().await;
        group.replica.incoming.close();
        let log = self.storage.log.log_state(id);
        let vote = match replay::refuses_to_vote(group) {
            // It may have voted in a term that it does not remember.
            Some(_) => term_after(log.vote, log.last, self.node()),
            None => Ok(log.vote.unwrap_or_default()),
        };
        let vote = vote.map_err(|error| error.to_string())?;
        let reach = log.last.map_or(Reach::default(), |at| Reach {
            term: at.term,
            index: at.index,
        });
        let reach = match listed.0.get(&id) {
            Some(Hosting::Hosted { before, .. }) => reach.max(*before),
            _ => reach,
        };
        listed.0.insert(id, Hosting::Leaving { vote, reach });
        // Who reads from it, or writes to it, still holds it.
        let until = clock::now() + GRACE;
        let is_held = || Arc::strong_count(group) > 1 || Arc::strong_count(&group.replica) > 1;
        while is_held() && clock::now() < until {
            clock::sleep(Duration::from_millis(50)).await;
        }
        self.remove(id, &mut listed).await
    }

    /// Ends what `leave` began, in this run or before. If it fails, it is done again.
    async fn remove(&self, id: GroupId, listed: &mut HostedGroups) -> Result<(), String> {
        let Some(Hosting::Leaving { vote, reach }) = listed.0.get(&id).cloned() else {
            return Ok(());
        };
        // Durable before anything goes.
        self.write(listed).await?;
        let forgotten = forget(&self.storage, &self.options.data_dir, id, vote).await;
        forgotten.map_err(|error| error.to_string())?;
        listed.0.insert(id, Hosting::Left(reach));
        self.write(listed).await?;
        tracing::info!(group = %id, "this node has no member of a group any more");
        Ok(())
    }

    /// Who a group's members are, by a leader here or elsewhere that a majority confirmed after this question.
    pub(super) async fn members_anywhere(&self, id: GroupId) -> Result<Vec<u64>, String> {
        match self.members_here(id).await {
            Ok(members) => Ok(members),
            Err(_) => self.members_of(id).await,
        }
    }

    /// By a leader elsewhere.
    async fn members_of(&self, id: GroupId) -> Result<Vec<u64>, String> {
        let peers = self.peers.as_ref().ok_or("this node has no peers")?;
        let mut nodes: Vec<NodeId> = self.roster().with(|known| {
            let wanted = known.wanted(id).unwrap_or_default();
            let others = known.present().filter(|node| !wanted.contains(&node.0));
            wanted.iter().copied().map(NodeId).chain(others).collect()
        });
        nodes.retain(|node| *node != self.node());
        let mut why = "nobody else has it".to_owned();
        for node in nodes {
            let what = ask::What::Members(peer::Members {});
            match peers.ask(node, id, what, PATIENCE).await {
                Ok(reply::What::Members(said)) if said.refused.is_empty() => return Ok(said.nodes),
                Ok(reply::What::Members(said)) => why = said.refused,
                Ok(_) => why = "no answer to the question".to_owned(),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }

    /// As its leader, who the members of a group are.
    async fn members_here(&self, id: GroupId) -> Result<Vec<u64>, String> {
        let group = self.registry().get(id).map_err(|error| error.to_string())?;
        let raft = group.raft().ok_or("not running")?;
        if !group.leads() {
            return Err("it does not lead".to_owned());
        }
        let view = group.read().await.map_err(|error| error.to_string())?;
        let members = read::members(&*view).map_err(|error| error.to_string())?;
        let of_raft = raft.members().await?;
        if !raft.standing().leads {
            return Err("it led no more".to_owned());
        }
        let mut nodes = of_raft.nodes();
        nodes.extend(members.iter().map(|member| member.node));
        Ok(nodes.into_iter().collect())
    }
}

impl Steward for Weak<Hosts> {
    fn host(&self, group: GroupId, asked: peer::Host) -> BoxFuture<'_, Result<(), String>> {
        let hosts = self.upgrade();
        Box::pin(async move {
            let hosts = hosts.ok_or("this node stops")?;
            // On a thread: files are opened.
            let begun = task::spawn_thread("host", async move { hosts.begin(group, asked).await });
            begun.await.unwrap_or_else(|error| Err(error.to_string()))
        })
    }

    fn caught_up(&self, group: GroupId) -> BoxFuture<'_, Result<(), String>> {
        let hosts = self.upgrade();
        Box::pin(async move {
            let hosts = hosts.ok_or("this node stops")?;
            hosts.caught_up(group).await
        })
    }

    fn members(&self, group: GroupId) -> BoxFuture<'_, peer::MembersAre> {
        let hosts = self.upgrade();
        Box::pin(async move {
            let Some(hosts) = hosts else {
                return refused("this node stops".to_owned());
            };
            match hosts.members_here(group).await {
                Ok(nodes) => peer::MembersAre {
                    nodes,
                    refused: String::new(),
                },
                Err(why) => refused(why),
            }
        })
    }

    fn join(&self, node: row::Node) -> BoxFuture<'_, Result<peer::Joined, String>> {
        let hosts = self.upgrade();
        Box::pin(async move {
            let hosts = hosts.ok_or("this node stops")?;
            joining::let_in(&hosts.router, node).await
        })
    }
}

fn refused(why: String) -> peer::MembersAre {
    peer::MembersAre {
        nodes: Vec::new(),
        refused: why,
    }
}

/// What a leader remembers is of its term only: each new one begins with nothing.
async fn note_terms(group: Arc<Group>) {
    let mut known = 0;
    loop {
        if let Some(raft) = group.raft() {
            while let Ok(term) = raft.leads_anew(known).await {
                group.memory.begin_term(term, group.replica.applied());
                known = term;
            }
        }
        // It stopped; brought back, it leads in another term.
        clock::sleep(Duration::from_millis(100)).await;
    }
}

/// Removes what this node has of a group, but for its vote. May be cut anywhere and done again.
pub(super) async fn forget(
    storage: &Storage,
    data_dir: &Path,
    id: GroupId,
    vote: Bytes,
) -> Result<(), StartError> {
    let engine = |error: crate::engine::EngineError| StartError::Engine(error.to_string());
    let places = &storage.store.places;
    let mut after = None;
    loop {
        let page = places.items(after.as_ref(), PAGE).map_err(engine)?;
        for item in &page {
            if item.group() == id {
                places.remove(item).map_err(engine)?;
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(*last),
            _ => break,
        }
        task::yield_now().await;
    }
    // Before the log forgets which entries there were: a place that came back would never go again.
    storage.store.checkpoint_places().await.map_err(engine)?;
    let failed = |error: crate::log::LogError| StartError::Log(error.to_string());
    let (told, removed) = oneshot::channel();
    let ack = Box::new(move |done| _ = told.send(done));
    storage.log.remove_group(id, ack).map_err(failed)?;
    if let Ok(removed) = removed.await {
        removed.map_err(failed)?;
    }
    if !vote.is_empty() {
        let (told, saved) = oneshot::channel();
        let ack = Box::new(move |done| _ = told.send(done));
        storage.log.save_vote(id, vote, ack).map_err(failed)?;
        if let Ok(saved) = saved.await {
            saved.map_err(failed)?;
        }
    }
    let name = id.to_string();
    for above in ["groups", "incoming", "sled", "rocksdb"] {
        let dir = data_dir.join(above).join(&name);
        remove_all(&*storage.disk, &dir)
            .map_err(StartError::io("remove what a group left", data_dir))?;
    }
    let synced = storage.disk.sync_dir(&data_dir.join("groups")).await;
    synced.map_err(StartError::io("remove what a group left", data_dir))
}

fn remove_all(disk: &dyn Disk, dir: &Path) -> std::io::Result<()> {
    let entries = match disk.list(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        match entry.is_dir {
            true => remove_all(disk, &entry.path)?,
            false => disk.remove(&entry.path)?,
        }
    }
    disk.remove(dir)
}
