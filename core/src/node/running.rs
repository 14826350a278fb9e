//! A running node: what it offers, what it says of itself, how it stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;

use super::boot_number::Boot;
use super::departure::Departure;
use super::hosting::Hosts;
use super::identity::Identity;
use super::scrubber::{Scrub, ScrubCounts};
use super::transport::Transport;
use super::{
    Cluster, CopyStatus, GroupSessions, GroupStatus, NodeOptions, NodeStatus, StartError, founding,
    joining, keeping_up, start,
};
use crate::chunk::store::Store;
use crate::engine::damage::Healed;
use crate::engine::merge::Merger;
use crate::engine::run_store::Written;
use crate::env::disk::DirLock;
use crate::env::task::JoinHandle;
use crate::env::{Env, clock, task};
use crate::group::checkpoint::{self, Checkpoints};
use crate::group::lifecycle::Walker;
use crate::group::sweep::{self, SweepLimits};
use crate::group::{Group, Standing, hand_over, touch};
use crate::ids::NodeId;
use crate::kv::{Kv, KvError, Usage};
use crate::log::{Log, LogError, Stream, StreamMetrics};
use crate::shard::router::Router;
use crate::state::read;

/// What a node is made of.
pub(super) struct Parts {
    pub env: Env,
    pub options: NodeOptions,
    pub identity: Identity,
    pub boot: Boot,
    pub lock: Box<dyn DirLock>,
    pub log: Arc<Log>,
    pub store: Arc<Store>,
    pub merger: Arc<Merger>,
    pub router: Arc<Router>,
    pub hosts: Arc<Hosts>,
    pub checkpoints: Arc<Checkpoints>,
    pub kv: Kv,
    pub replayed: u64,
    pub walker: Option<Walker>,
    pub transport: Option<Arc<Transport>>,
}

/// A running node. Stop it with `shutdown`; dropped without, it is as after a process kill.
pub struct Node {
    pub(super) env: Env,
    pub(super) options: NodeOptions,
    identity: Identity,
    boot: Boot,
    pub(super) log: Arc<Log>,
    pub(super) store: Arc<Store>,
    pub(super) merger: Arc<Merger>,
    pub(super) router: Arc<Router>,
    pub(super) hosts: Arc<Hosts>,
    pub(super) checkpoints: Arc<Checkpoints>,
    kv: Kv,
    replayed: u64,
    pub(super) walker: Option<Walker>,
    pub(super) compacting: tokio::sync::Mutex<()>,
    pub(super) compaction_moved: AtomicU64,
    pub(super) scrub: Scrub,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Given up when the node has stopped.
    lock: Mutex<Option<Box<dyn DirLock>>>,
    stopping: AtomicBool,
    /// Takes the peers' messages, to the very end.
    transport: Option<Arc<Transport>>,
    settled: Arc<AtomicBool>,
    departure: Arc<Departure>,
}

/// How long others may take to lead in this node's place before it stops.
const HAND_OVER: Duration = Duration::from_secs(2);

/// Counters of a node since it started.
#[derive(Clone, Debug)]
pub struct NodeMetrics {
    /// The meta stream: batches, bytes, fsync times.
    pub meta: StreamMetrics,
    /// The blob stream.
    pub blob: StreamMetrics,
    /// Bytes of all segments.
    pub log_bytes: u64,
    /// Bytes of items in them that something names.
    pub log_live_bytes: u64,
    /// Entries applied, by group.
    pub applied: Vec<(u16, u64)>,
    /// Checkpoints made, all groups.
    pub checkpoints: u64,
    /// Bytes of rows that no checkpoint holds yet.
    pub overlay_bytes: u64,
    /// Bytes that checkpoints and merges wrote, of all groups.
    pub rows_written: Written,
    /// Bytes that checkpoints and merges of the table of places wrote.
    pub places_written: Written,
    /// Bytes of items that compaction moved.
    pub compaction_moved: u64,
    /// What the scrubber did.
    pub scrub: ScrubCounts,
}

impl Node {
    /// Opens (or makes) the data directory, recovers, and returns when every group answers.
    pub async fn start(env: Env, options: NodeOptions) -> Result<Arc<Node>, StartError> {
        start::start(env, options).await
    }

    pub(super) fn new(parts: Parts) -> Arc<Node> {
        let settled = Arc::new(AtomicBool::new(parts.transport.is_none()));
        Arc::new(Node {
            settled,
            transport: parts.transport,
            env: parts.env,
            options: parts.options,
            identity: parts.identity,
            boot: parts.boot,
            log: parts.log,
            store: parts.store,
            merger: parts.merger,
            router: parts.router,
            hosts: parts.hosts,
            departure: Arc::default(),
            checkpoints: parts.checkpoints,
            kv: parts.kv,
            replayed: parts.replayed,
            walker: parts.walker,
            compacting: tokio::sync::Mutex::new(()),
            compaction_moved: AtomicU64::new(0),
            scrub: Scrub::default(),
            tasks: Mutex::default(),
            lock: Mutex::new(Some(parts.lock)),
            stopping: AtomicBool::new(false),
        })
    }

    pub(super) fn keep(&self, task: JoinHandle<()>) {
        self.tasks.lock().push(task);
    }

    /// Takes part in what its peers agree on, notices when it leads, and when it must not take part any more.
    pub(super) fn begin_cluster(self: &Arc<Self>) {
        let Some(transport) = &self.transport else {
            return;
        };
        let refused = transport.boots().refused();
        self.keep(task::spawn(step_out(self.router.clone(), refused)));
        let (router, departure) = (self.router.clone(), self.departure.clone());
        self.keep(task::spawn(step_out(router, async move {
            departure.wait().await
        })));
        self.keep(task::spawn(hand_over::run(self.router.groups.clone())));
        let limits = &self.options.limits;
        let period = touch::period(limits.abandon_after, limits.release_after);
        self.keep(task::spawn(touch::run(self.router.groups.clone(), period)));
        let first = self.options.cluster.iter();
        let first = first.flat_map(|cluster| cluster.first_known().iter().copied().map(NodeId));
        let (hosts, departure) = (self.hosts.clone(), self.departure.clone());
        let keeping = keeping_up::run(hosts, transport.clone(), departure, first.collect());
        self.keep(task::spawn(keeping));
        let (router, identity) = (self.router.clone(), self.identity.clone());
        let (options, settled) = (self.options.clone(), self.settled.clone());
        let (departure, peers) = (self.departure.clone(), transport.peers());
        self.keep(task::spawn(async move {
            match options.cluster.clone() {
                Some(Cluster::Join(how)) => {
                    joining::settle(router, identity, how, peers, departure.clone()).await;
                }
                _ => founding::settle(router, identity, options).await,
            }
            if departure.why().is_none() {
                settled.store(true, Ordering::Release);
            }
        }));
    }

    /// The front door.
    pub fn kv(&self) -> Kv {
        self.kv.clone()
    }

    // ---- health ----

    /// Everything that `/readyz` looks at, by name, with the reason of what is not well.
    pub fn checks(&self) -> Vec<(&'static str, Result<(), String>)> {
        let groups = self.router.groups.all().map(|group| {
            let trouble = trouble(&group);
            trouble.map_or(Ok(()), |why| Err(format!("{}: {why}", group.id)))
        });
        let room = match self.log.room().above_soft_mark() {
            true => Ok(()),
            false => Err("the disk is nearly full: only deletes are taken".to_owned()),
        };
        let disk = match self.log.is_sick() {
            false => Ok(()),
            true => Err("the disk does not finish its fsyncs".to_owned()),
        };
        let running = match self.stopping.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err("the node is stopping".to_owned()),
        };
        let mut checks = vec![
            ("running", running),
            ("groups", groups.collect()),
            ("disk", disk),
            ("room", room),
        ];
        if self.transport.is_some() {
            let cluster = match self.settled.load(Ordering::Acquire) {
                true => Ok(()),
                false => Err("the cluster is not founded, or has no majority".to_owned()),
            };
            let cluster = self.refused().map_or(cluster, Err);
            checks.push(("cluster", cluster));
        }
        checks
    }

    /// Whether every group answers and the disk takes writes in time (`/readyz`); the reason when not.
    /// A disk without room for new bytes still reads and deletes: that alone does not make a node unready.
    pub fn ready(&self) -> Result<(), String> {
        let checks = self.checks().into_iter();
        checks
            .filter(|(name, _)| *name != "room")
            .try_for_each(|(_, check)| check)
    }

    /// Resolves when the log has failed for good: the process must exit, and recovers at its next start.
    pub fn failed(&self) -> impl Future<Output = LogError> + Send + 'static {
        self.log.failed()
    }

    /// Why this node takes no part: its disk is an old copy, or another one under its name, or it was removed from the
    /// cluster. It answers nothing.
    pub fn refused(&self) -> Option<String> {
        let refused = self.transport.as_ref()?.boots().refusal();
        refused.or_else(|| self.departure.why())
    }

    /// What the node says of itself.
    pub async fn status(&self) -> NodeStatus {
        let mut groups = Vec::new();
        let mut damage = self.store.damage();
        for group in self.router.groups.all() {
            if let Standing::ReadOnly(why) | Standing::Behind(why) = group.standing() {
                damage.push(format!("{}: {why}", group.id));
            }
            groups.push(self.group_status(&group));
            for found in group.replica.engine.damage() {
                damage.push(format!("{}: {}: {}", group.id, found.file, found.what));
            }
        }
        for found in self.store.places.damage() {
            damage.push(format!("places: {}: {}", found.file, found.what));
        }
        let mut healed = self.store.healed();
        for group in self.router.groups.all() {
            let mended = group.replica.engine.healed();
            healed.extend(mended.into_iter().map(|one| line(&group.id, &one)));
        }
        let mended = self.store.places.healed();
        healed.extend(mended.into_iter().map(|one| line(&"places", &one)));
        let metrics = self.metrics();
        NodeStatus {
            node_id: self.identity.node.0,
            boot: self.boot.number(),
            groups,
            damage,
            healed,
            replayed: self.replayed,
            disk: self.env.disk.space(&self.options.data_dir).ok(),
            room: self.log.room().above_soft_mark(),
            sick: self.log.is_sick(),
            log_bytes: metrics.log_bytes,
            log_live_bytes: metrics.log_live_bytes,
            lifecycle: self.walker.as_ref().map(Walker::counts).unwrap_or_default(),
        }
    }

    /// This node's copies of the groups, as they are now. Cheap.
    pub fn copies(&self) -> Vec<CopyStatus> {
        let copies = self.router.groups.all().map(|group| {
            let raft = group.raft().map(|raft| raft.standing());
            let (applied, digest) = group.replica.applied_and_digest();
            CopyStatus {
                group: group.id,
                leads: raft.as_ref().is_some_and(|raft| raft.leads),
                term: raft.as_ref().map_or(0, |raft| raft.term),
                applied,
                digest,
                installs: group.replica.installs(),
            }
        });
        copies.collect()
    }

    /// Sessions of each group that has a copy here, and this node's own one. For tests.
    pub fn sessions(&self) -> Result<Vec<GroupSessions>, KvError> {
        let of_groups = self.router.groups.all().map(|group| {
            let sessions = read::sessions(&*group.replica.view());
            let sessions = sessions.map_err(crate::group::read::unreadable)?;
            Ok(GroupSessions {
                group: group.id,
                all: sessions.into_iter().map(|(id, _)| id).collect(),
                own: group.own_session(),
            })
        });
        of_groups.collect()
    }

    /// What a group holds besides objects that should not last: transactions, intents, facts still to be pushed. For tests.
    pub fn loose_ends(&self) -> Result<Vec<String>, KvError> {
        let mut found = Vec::new();
        for group in self.router.groups.all() {
            let view = group.replica.view();
            let txns = read::txns(&*view).map_err(crate::group::read::unreadable)?;
            let prepared = read::prepareds(&*view).map_err(crate::group::read::unreadable)?;
            let pushes = match group.id {
                crate::ids::GroupId::DIRECTORY => {
                    read::pushes(&*view).map_err(crate::group::read::unreadable)?
                }
                _ => Vec::new(),
            };
            for (what, count) in [
                ("transactions", txns.len()),
                ("pushes of facts", pushes.len()),
            ] {
                if count > 0 {
                    found.push(format!("{}: {count} {what}", group.id));
                }
            }
            let prepared = prepared.iter();
            found.extend(prepared.map(|one| format!("{}: intents of {}", group.id, one.txn.id)));
        }
        Ok(found)
    }

    fn group_status(&self, group: &Group) -> GroupStatus {
        let raft = group.raft().map(|raft| raft.standing());
        let mut usage = Usage::default();
        for (_, row) in read::usages(&*group.replica.view()).unwrap_or_default() {
            usage.add(&Usage::of_row(&row));
        }
        GroupStatus {
            id: group.id,
            ready: trouble(group).is_none(),
            leads: raft.as_ref().is_some_and(|raft| raft.leads),
            term: raft.as_ref().map_or(0, |raft| raft.term),
            applied: group.replica.applied(),
            checkpoint: group.replica.checkpoint_index(),
            usage,
            trouble: trouble(group),
        }
    }

    /// Counters; cheap.
    pub fn metrics(&self) -> NodeMetrics {
        let segments = self.log.segments();
        let groups = || self.router.groups.all();
        NodeMetrics {
            meta: self.log.metrics(Stream::Meta),
            blob: self.log.metrics(Stream::Blob),
            log_bytes: segments
                .iter()
                .map(|segment| u64::from(segment.length))
                .sum(),
            log_live_bytes: segments.iter().map(|segment| self.live_in(segment)).sum(),
            applied: groups()
                .map(|group| (group.id.0, group.replica.applied_entries()))
                .collect(),
            checkpoints: groups().map(|group| group.replica.checkpoints_made()).sum(),
            overlay_bytes: self.checkpoints.budget.used() as u64,
            rows_written: groups().fold(Written::default(), |mut all, group| {
                all += group.replica.engine.written();
                all
            }),
            places_written: self.store.places.store().written(),
            compaction_moved: self.compaction_moved.load(Ordering::Relaxed),
            scrub: self.scrub_counts(),
        }
    }

    // ---- upkeep on demand ----

    /// Writes a checkpoint of every group; durable when it returns.
    pub async fn checkpoint_now(&self) -> Result<(), KvError> {
        let made = self
            .router
            .groups
            .all()
            .map(|group| async move { checkpoint::make(&group).await });
        join_all(made).await.into_iter().collect()
    }

    /// One full round of compaction: every segment worth it is emptied and deleted.
    pub async fn compact_now(&self) -> Result<(), KvError> {
        for group in self.router.groups.all() {
            group
                .replica
                .forget_all()
                .map_err(crate::group::read::unreadable)?;
        }
        self.compact().await
    }

    /// Abandons, expires and releases everything that is due by now.
    pub async fn sweep_now(&self) -> Result<(), KvError> {
        sweep::round(&self.router, &self.sweep_limits()).await
    }

    /// One round of lifecycle: what has come of age goes.
    pub async fn age_now(&self) -> Result<(), KvError> {
        match &self.walker {
            Some(walker) => walker.round(&self.router).await,
            None => Ok(()),
        }
    }

    pub(super) fn sweep_limits(&self) -> SweepLimits {
        let limits = &self.options.limits;
        SweepLimits {
            abandon_after: limits.abandon_after,
            // Below the soft mark room counts for more than a slow reader, whose connection is then reset.
            release_after: match self.log.room().above_soft_mark() {
                true => limits.release_after,
                false => Duration::ZERO,
            },
            upload_expiry: limits.upload_expiry,
            session_idle: limits.session_idle,
        }
    }

    pub(super) fn forget_due(&self) {
        for group in self.router.groups.all() {
            if let Err(error) = group.replica.forget_due() {
                tracing::warn!(group = %group.id, %error, "dropped places are not forgotten");
            }
        }
    }

    // ---- the end ----

    /// Writes checkpoints (as far as the deadline allows) and closes. The next start replays nothing.
    /// Requests must have ended before: what is proposed from now on is refused.
    pub async fn shutdown(&self, deadline: Duration) {
        if self.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        self.hand_over(deadline.min(HAND_OVER)).await;
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        self.hosts.rest();
        let written = clock::timeout(deadline, async {
            self.router.loose_ends.all_tied().await;
            self.checkpoint_now().await
        });
        let written = written.await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "a checkpoint is missing; the next start replays")
            }
            Err(_) => tracing::warn!("checkpoints took too long; the next start replays"),
        }
        self.merger.close();
        let stopped = self.router.groups.all().map(|group| async move {
            let raft = group.raft();
            group.set_raft(None);
            group.stand(Standing::Starting);
            if let Some(raft) = raft {
                raft.stop().await;
            }
        });
        join_all(stopped).await;
        self.end_cluster();
        if let Err(error) = self.log.close().await {
            tracing::warn!(%error, "the log was not closed in order");
        }
        *self.lock.lock() = None;
    }
}

impl Node {
    /// Others lead from now on, so that nobody waits for this node's silence first.
    async fn hand_over(&self, patience: Duration) {
        let led = self.router.groups.all().filter(|group| group.leads());
        let handed = led.map(|group| async move {
            let Some(raft) = group.raft() else { return };
            let members = raft.members_lately();
            let mut others = members.voters.last().cloned().unwrap_or_default();
            others.remove(&group.replica.node.0);
            if !others.is_empty() && !raft.hand_over(&others, patience).await {
                tracing::debug!(group = %group.id, "nobody took over");
            }
        });
        join_all(handed).await;
    }

    fn end_cluster(&self) {
        if let Some(transport) = &self.transport {
            transport.close();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end_cluster();
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        self.hosts.rest();
        self.merger.close();
    }
}

/// Once its peers refuse this node, none of its groups takes part or answers any more.
async fn step_out(router: Arc<Router>, refused: impl Future<Output = String>) {
    let why = refused.await;
    for group in router.groups.all() {
        group.stand(Standing::Refused(why.clone()));
        let raft = group.raft();
        group.set_raft(None);
        if let Some(raft) = raft {
            raft.stop().await;
        }
    }
}

/// A healed file, as `status` tells it.
fn line(of: &dyn std::fmt::Display, healed: &Healed) -> String {
    format!(
        "{of}: {}: {}; written again from its twin",
        healed.file, healed.what
    )
}

/// Why a group does not read and write.
fn trouble(group: &Group) -> Option<String> {
    match group.standing() {
        Standing::Serving { .. } => None,
        Standing::Starting => Some("starting".to_owned()),
        Standing::ReadOnly(why) | Standing::Behind(why) | Standing::Refused(why) => Some(why),
    }
}
