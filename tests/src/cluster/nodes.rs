//! The nodes of a simulated cluster: their disks, their lives, and how they end.
//!
//! Always true: a node's tasks live in a scope of their own per life, and its disk outlives them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use minikv_core::env::clock;
use minikv_core::env::sim::{Choice, Fault, Latency, OpKind, Scope, SimDisk, SimNet};
use minikv_core::env::{Env, task};
use minikv_core::kv::Kv;
use minikv_core::node::{
    Cluster, CopyStatus, Founders, Joining, Limits, MemberRole, Node, NodeOptions,
};
use parking_lot::Mutex;

use super::trace::Trace;
use crate::dice::Dice;
use crate::world::small_options;

/// The cluster that simulations found.
const CLUSTER: u128 = 0x6d69_6e69_6b76;
/// Bytes of a disk.
const CAPACITY: u64 = 1 << 30;
/// Data groups: enough that a listing and a bucket meet more than one.
const DATA_GROUPS: u16 = 2;

struct Member {
    disk: SimDisk,
    scope: Scope,
    node: Option<Arc<Node>>,
    /// How often it was started.
    life: u64,
    alive: bool,
    drift: i32,
    /// Its disk as it was before its last start.
    earlier: Option<SimDisk>,
    /// Its disk was put back or emptied: it must take no part any more.
    out: bool,
    /// Its disk fails or is full: a node may die of that, or not start, and is started again.
    ails: bool,
    /// Something of what lies on it was damaged.
    rotten: bool,
    /// It was removed from the cluster: the same.
    removed: bool,
}

struct Shared {
    seed: u64,
    /// So many founded the cluster; the others joined it.
    founders: u64,
    members: Mutex<Vec<Member>>,
    net: SimNet,
    trace: Trace,
    /// Nodes that could not start, or ended by themselves, and why.
    failed: Mutex<Vec<String>>,
    /// Some disk was not well for a while.
    any_ailed: AtomicBool,
    /// Some disk was full for a while.
    any_full: AtomicBool,
}

/// All of them, numbered from 1.
#[derive(Clone)]
pub struct Nodes {
    shared: Arc<Shared>,
}

/// The disk's speed on a good day.
pub fn usual() -> Latency {
    Latency {
        write: (Duration::from_micros(20), Duration::from_micros(200)),
        sync: (Duration::from_micros(300), Duration::from_millis(3)),
    }
}

/// Until a node that could not start is started again.
const AGAIN: Duration = Duration::from_millis(300);

fn new_member(seed: u64, node: u64) -> Member {
    Member {
        disk: empty_disk(seed.wrapping_mul(1000) + node),
        scope: Scope::new(format!("node {node}")),
        node: None,
        life: 0,
        alive: false,
        drift: 0,
        earlier: None,
        out: false,
        ails: false,
        rotten: false,
        removed: false,
    }
}

fn empty_disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.set_capacity(CAPACITY);
    disk.set_latency(usual());
    disk
}

fn options(this: u64, founders: u64) -> NodeOptions {
    let small = small_options();
    NodeOptions {
        data_groups: DATA_GROUPS,
        cluster: Some(match this <= founders {
            true => Cluster::Found(Founders {
                cluster: CLUSTER,
                this,
                nodes: (1..=founders).collect(),
            }),
            false => Cluster::Join(Joining {
                cluster: CLUSTER,
                this,
                seeds: (1..=founders).collect(),
                zone: String::new(),
                weight: 1,
            }),
        }),
        limits: Limits {
            // So that a node comes back from a checkpoint and a tail of its log, not always from all of it.
            checkpoint_entries: 12,
            // So that a node that was away for a while needs another one's checkpoint.
            keep_log_bytes: 4 << 10,
            sweep_every: Duration::from_secs(5),
            // Objects of some hundred KiB have many chunks, and most are written in chunks.
            inline_bytes: 8 << 10,
            chunk_bytes: 16 << 10,
            // Longer than any client waits: what a GET has begun to read is there until it ends.
            release_after: Duration::from_secs(15),
            abandon_after: Duration::from_secs(10),
            // The record of a transaction whose gateway died is kept until its session has ended.
            session_idle: Duration::from_secs(15),
            // What rots is found before the audit asks for it.
            scrub_every: Duration::from_secs(10),
            ..small.limits.clone()
        },
        ..small
    }
}

impl Nodes {
    /// Nodes with empty disks; none is started.
    pub fn new(seed: u64, count: u64, net: SimNet, trace: Trace) -> Nodes {
        let member = |node| new_member(seed, node);
        Nodes {
            shared: Arc::new(Shared {
                seed,
                founders: count,
                members: Mutex::new((1..=count).map(member).collect()),
                net,
                trace,
                failed: Mutex::default(),
                any_ailed: AtomicBool::new(false),
                any_full: AtomicBool::new(false),
            }),
        }
    }

    /// A node with an empty disk and an id that nobody had joins the cluster; its number.
    pub fn join(&self) -> u64 {
        let node = {
            let mut members = self.shared.members.lock();
            let node = members.len() as u64 + 1;
            members.push(new_member(self.shared.seed, node));
            node
        };
        self.shared.trace.say(format!("node {node} joins"));
        self.start(node);
        node
    }

    /// It was removed from the cluster: nobody expects anything of it any more.
    pub fn removed(&self, node: u64) {
        self.with(node, |member| member.removed = true);
        self.shared.trace.say(format!("node {node} is removed"));
    }

    /// Whether it was.
    pub fn is_removed(&self, node: u64) -> bool {
        self.with(node, |member| member.removed)
    }

    fn with<T>(&self, node: u64, ask: impl FnOnce(&mut Member) -> T) -> T {
        ask(&mut self.shared.members.lock()[node as usize - 1])
    }

    /// On how many nodes each group is to lie.
    pub fn copies_of_a_group(&self) -> usize {
        (self.shared.founders as usize).max(3)
    }

    /// How many groups there are, with group 0.
    pub fn groups(&self) -> usize {
        usize::from(DATA_GROUPS) + 1
    }

    /// Whether every group has its members, all of which run on disks of their own: no change is under way, nobody is lost.
    pub fn is_settled(&self) -> bool {
        let whole = self.whole();
        (0..=DATA_GROUPS).all(|group| {
            let leader = self.leader(group).and_then(|leader| self.running(leader));
            let members = leader.and_then(|leader| leader.members().remove(&group));
            members.is_some_and(|members| {
                members.iter().all(|(node, role)| {
                    let here = whole.contains(node) && self.running(*node).is_some();
                    here && *role == MemberRole::Member
                })
            })
        })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.shared.members.lock().len() as u64
    }

    /// Starts a node on its disk, if it does not run.
    pub fn start(&self, node: u64) {
        let founders = self.shared.founders;
        let begun = self.with(node, |member| {
            if member.alive {
                return None;
            }
            member.alive = true;
            member.life += 1;
            member.earlier = Some(member.disk.after_kill());
            member.scope = Scope::new(format!("node {node}, life {}", member.life));
            member.scope.set_drift(member.drift);
            let env = Env {
                disk: member.disk.env().disk,
                net: self.shared.net.of(node),
            };
            Some((member.scope.clone(), env, member.life))
        });
        let Some((scope, env, life)) = begun else {
            return;
        };
        self.shared
            .trace
            .say(format!("node {node} starts (life {life})"));
        let nodes = self.clone();
        scope.spawn(async move {
            let started = Node::start(env, options(node, founders)).await;
            match started {
                Ok(started) => nodes.with(node, |member| {
                    if member.life == life && member.alive {
                        member.node = Some(started);
                    }
                }),
                Err(error) => {
                    let what = format!("node {node} does not start: {error}");
                    if !nodes.with(node, |member| member.ails) {
                        nodes.shared.failed.lock().push(what);
                        return;
                    }
                    nodes.shared.trace.say(what);
                    clock::sleep(AGAIN).await;
                    nodes.with(node, |member| member.alive &= member.life != life);
                    nodes.start(node);
                }
            }
        });
    }

    /// A node dies: nothing of it runs any more, and its disk keeps what `keeps` says (`None`: a kill, all of it).
    pub fn crash(&self, node: u64, keeps: Option<&Choice>) {
        let dead = self.with(node, |member| {
            member.alive = false;
            member.scope.kill();
            member.disk = match keeps {
                None => member.disk.after_kill(),
                Some(choice) => member.disk.after_power_cut(choice),
            };
            member.disk.set_latency(usual());
            member.node.take()
        });
        drop(dead);
        let how = match keeps {
            None => "is killed".to_owned(),
            Some(choice) => {
                format!("loses power; of what was not synced its disk keeps {choice:?}")
            }
        };
        self.shared.trace.say(format!("node {node} {how}"));
    }

    /// As `crash`, but at one of the next operations of its disk (or after two seconds).
    pub async fn crash_at_an_operation(&self, node: u64, dice: &mut Dice) {
        let disk = self.with(node, |member| member.disk.clone());
        disk.hang_after_crash();
        disk.crash_at(disk.op_count() + dice.below(30));
        // Either way it dies now.
        let _ = clock::timeout(Duration::from_secs(2), disk.wait_crashed()).await;
        let keeps = choice(dice);
        if self.is_alive(node) {
            self.crash(node, keeps.as_ref());
        }
    }

    /// The disk of a node that does not run becomes what it was before the node's last start. False: it never was.
    pub fn put_back(&self, node: u64) -> bool {
        let back = self.with(node, |member| {
            let earlier = member.earlier.take()?;
            member.disk = earlier.after_kill();
            member.disk.set_latency(usual());
            member.out = true;
            Some(())
        });
        if back.is_some() {
            let what = format!("node {node}'s disk is put back to before its last start");
            self.shared.trace.say(what);
        }
        back.is_some()
    }

    /// A node that does not run gets an empty disk.
    pub fn wipe(&self, node: u64) {
        self.with(node, |member| {
            member.disk = empty_disk(node);
            member.out = true;
        });
        self.shared
            .trace
            .say(format!("node {node}'s disk is empty"));
    }

    /// Whether its peers refuse it.
    pub fn is_refused(&self, node: u64) -> bool {
        let running = self.running(node);
        running.is_some_and(|node| node.refused().is_some())
    }

    /// Nodes of the cluster whose disks are still their own.
    pub fn whole(&self) -> Vec<u64> {
        let members = self.shared.members.lock();
        let whole = (1..).zip(members.iter());
        let whole = whole.filter(|(_, member)| !member.out && !member.removed);
        whole.map(|(node, _)| node).collect()
    }

    /// Nodes whose disks are not: they must be refused.
    pub fn out(&self) -> Vec<u64> {
        let members = self.shared.members.lock();
        let out = (1..).zip(members.iter()).filter(|(_, member)| member.out);
        out.map(|(node, _)| node).collect()
    }

    /// Whether it was started and has not died.
    pub fn is_alive(&self, node: u64) -> bool {
        self.with(node, |member| member.alive)
    }

    /// Stops a node where it is, for a while.
    pub fn pause(&self, node: u64, how_long: Duration) {
        let scope = self.with(node, |member| member.scope.clone());
        scope.pause();
        let trace = self.shared.trace.clone();
        trace.say(format!("node {node} is paused for {how_long:?}"));
        task::spawn(async move {
            clock::sleep(how_long).await;
            scope.resume();
            trace.say(format!("node {node} goes on"));
        });
    }

    /// Ends all pauses.
    pub fn resume_all(&self) {
        for member in self.shared.members.lock().iter() {
            member.scope.resume();
        }
    }

    /// A node's disk does something wrong for a while; a crash ends it early.
    pub fn ail(&self, node: u64, faults: &[(OpKind, u32, Fault)], how_long: Duration) {
        let disk = self.with(node, |member| {
            member.ails = true;
            for (kind, per_million, fault) in faults {
                member.disk.fail_rate(*kind, *per_million, *fault);
            }
            member.disk.clone()
        });
        self.shared.any_ailed.store(true, Ordering::Relaxed);
        let trace = self.shared.trace.clone();
        task::spawn(async move {
            clock::sleep(how_long).await;
            disk.clear_faults();
            disk.release_hangs();
            trace.say(format!("node {node}'s disk works again"));
        });
    }

    /// All but so many bytes of a node's disk are taken, for a while.
    pub fn fill(&self, node: u64, left: u64, how_long: Duration) {
        let filled = self.with(node, |member| {
            let space = member.disk.env().disk.space(std::path::Path::new("/"));
            let space = space.ok()?;
            member.ails = true;
            let used = space.capacity - space.free;
            member.disk.set_capacity(used + left);
            Some(())
        });
        if filled.is_none() {
            return;
        }
        self.shared.any_full.store(true, Ordering::Relaxed);
        let nodes = self.clone();
        task::spawn(async move {
            clock::sleep(how_long).await;
            // Also if it is another one by now: a crash leaves a copy.
            nodes.with(node, |member| member.disk.set_capacity(CAPACITY));
            nodes
                .shared
                .trace
                .say(format!("node {node}'s disk has room again"));
        });
    }

    /// Something on a node's disk is damaged from now on.
    pub fn is_rotten_now(&self, node: u64) {
        self.with(node, |member| member.rotten = true);
        self.shared.any_ailed.store(true, Ordering::Relaxed);
    }

    /// Whether something on a node's disk was damaged.
    pub fn is_rotten(&self, node: u64) -> bool {
        self.with(node, |member| member.rotten)
    }

    /// Whether any disk was damaged, or not well for a while.
    pub fn any_ailed(&self) -> bool {
        self.shared.any_ailed.load(Ordering::Relaxed)
    }

    /// Whether a disk was full: then freed bytes are given back at once, whoever still reads them.
    pub fn any_full(&self) -> bool {
        self.shared.any_full.load(Ordering::Relaxed)
    }

    /// All disks work, and have room; what is damaged stays so.
    pub fn heal_disks(&self) {
        for member in self.shared.members.lock().iter_mut() {
            member.disk.clear_faults();
            member.disk.release_hangs();
            member.disk.set_capacity(CAPACITY);
            member.disk.set_latency(usual());
        }
    }

    /// Nodes whose log has failed for good end, as their processes would. Which.
    pub fn end_failed(&self) -> Vec<u64> {
        let mut ended = Vec::new();
        for node in 1..=self.count() {
            let failure = self
                .running(node)
                .and_then(|running| running.failed().now_or_never());
            let Some(error) = failure else { continue };
            let what = format!("node {node} ends: {error}");
            match self.with(node, |member| member.ails) {
                true => self.shared.trace.say(what),
                false => self.shared.failed.lock().push(what),
            }
            self.crash(node, None);
            ended.push(node);
        }
        ended
    }

    /// What a node has on its disk.
    pub fn disk(&self, node: u64) -> SimDisk {
        self.with(node, |member| member.disk.clone())
    }

    /// Changes how fast a node's disk is.
    pub fn set_latency(&self, node: u64, latency: Latency) {
        self.with(node, |member| member.disk.set_latency(latency));
    }

    /// Moves a node's wall clock.
    pub fn set_wall_offset_ms(&self, node: u64, offset: i64) {
        self.with(node, |member| member.scope.set_wall_offset_ms(offset));
    }

    /// From its next start on a node's clocks run too fast by so many millionths.
    pub fn set_drift(&self, node: u64, millionths: i32) {
        self.with(node, |member| member.drift = millionths);
    }

    /// A node's front door, and the scope that requests run in. `None`: it does not run.
    pub fn door(&self, node: u64) -> Option<(Kv, Scope)> {
        self.with(node, |member| {
            let running = member.node.as_ref().filter(|_| member.alive)?;
            Some((running.kv(), member.scope.clone()))
        })
    }

    /// A node that runs.
    pub fn running(&self, node: u64) -> Option<Arc<Node>> {
        self.with(node, |member| member.node.clone().filter(|_| member.alive))
    }

    /// What each node that runs has of each group.
    pub fn copies(&self) -> Vec<(u64, Vec<CopyStatus>)> {
        let members = self.shared.members.lock();
        let running = (1..).zip(members.iter());
        running
            .filter_map(|(node, member)| {
                let running = member.node.as_ref().filter(|_| member.alive)?;
                // Who is refused knows nothing that counts.
                running
                    .refused()
                    .is_none()
                    .then(|| (node, running.copies()))
            })
            .collect()
    }

    /// Checkpoints of others that nodes took over in the lives they live now: by node and life.
    pub fn installs(&self) -> Vec<((u64, u64), u64)> {
        let members = self.shared.members.lock();
        let running = (1..).zip(members.iter());
        let count = |(node, member): (u64, &Member)| {
            let running = member.node.as_ref().filter(|_| member.alive)?;
            let installs = running.copies().iter().map(|copy| copy.installs).sum();
            Some(((node, member.life), installs))
        };
        running.filter_map(count).collect()
    }

    /// Who leads a group, as far as it knows itself.
    pub fn leader(&self, group: u16) -> Option<u64> {
        let copies = self.copies();
        let led = copies.iter().filter_map(|(node, copies)| {
            let copy = copies
                .iter()
                .find(|copy| copy.group.0 == group && copy.leads)?;
            Some((copy.term, *node))
        });
        led.max().map(|(_, node)| node)
    }

    /// Nodes that could not start.
    pub fn failed(&self) -> Vec<String> {
        self.shared.failed.lock().clone()
    }
}

/// What a crash leaves.
pub fn choice(dice: &mut Dice) -> Option<Choice> {
    match dice.below(3) {
        0 => None,
        1 => Some(Choice::None),
        _ => Some(Choice::Random(dice.roll())),
    }
}
