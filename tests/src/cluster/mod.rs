//! A cluster made from a seed: nodes, network, clients, a storm, healing, and the audit.
//!
//! ```text
//!   nodes start, found ── clients work ─────────────────────── stop │ audit: every key, every copy, every count
//!                         storm: crashes, cuts, weather ── healing ── within 10 s every node serves
//! ```
//! Always true: a seed (with the number of nodes and the kinds of faults) decides everything, so a failure is shown again
//! by `simulate --from SEED --seeds 1`.

pub mod aim;
pub mod ambush;
pub mod buckets;
pub mod clients;
pub mod disks;
pub mod history;
pub mod kinds;
pub mod listings;
pub mod logs;
pub mod moments;
pub mod nodes;
pub mod operator;
pub mod quitters;
pub mod storm;
pub mod three;
pub mod trace;
pub mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use minikv_core::env::sim::{Sim, SimNet, Weather};
use minikv_core::env::{clock, task};
use minikv_core::kv::{Bucket, CreateBucket, CreateBucketError, Kv, KvError, Versioning};
use minikv_core::node::{ClusterNode, Membership, Node};
use parking_lot::Mutex;

use self::aim::Aim;
use self::ambush::Still;
use self::buckets::Buckets;
use self::clients::{BUCKET, Clients};
use self::kinds::{Kind, Kinds};
use self::moments::Moments;
use self::nodes::Nodes;
use self::operator::Operator;
use self::quitters::Quitters;
use self::storm::{Fault, Faults, Storm};
use self::trace::{Trace, now, seconds};
use self::versions::Versions;
use crate::client::TENANT;
use crate::dice::Dice;
use crate::invariants::agreement::Agreement;
use crate::invariants::boots::Boots;
use crate::invariants::copies::{self, Copies};
use crate::invariants::linearizable::{self, Found};
use crate::invariants::memberships::Memberships;
use crate::invariants::{chunks, elections, leftovers, pairs, progress, usage};
use crate::observe;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes. Up to three found the cluster, and all vote in every group. Of more, in every other seed, three found it and
    /// the others join: then each group lies on three of them. In the others all found it.
    pub nodes: u64,
    /// What happens to them.
    pub faults: Faults,
    /// For how long.
    pub storm: Duration,
    /// Who works meanwhile.
    pub clients: Kinds,
    /// Keep every step of the scheduler, for comparing runs.
    pub steps: bool,
}

impl Plan {
    fn founders(&self, seed: u64) -> u64 {
        match seed.is_multiple_of(2) {
            true => self.nodes.min(3),
            false => self.nodes,
        }
    }
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            nodes: 3,
            faults: Faults::all(),
            storm: Duration::from_secs(20),
            clients: Kinds::all(),
            steps: false,
        }
    }
}

/// What came of a seed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What does not hold; empty: all does.
    pub broken: Vec<String>,
    /// What happened.
    pub trace: Vec<String>,
    /// A hash of every step of the scheduler, if the plan asked for it.
    pub steps: u64,
    /// How long it took, in the world.
    pub simulated: Duration,
    /// Calls of clients, and those nobody knows the outcome of.
    pub calls: (usize, usize),
    /// Keys whose history could not be decided in time.
    pub undecided: usize,
    /// Pairs of group and index at which copies were compared.
    pub compared: usize,
    /// Messages between nodes.
    pub messages: u64,
    /// Nodes that lost their disks and were refused.
    pub refused: usize,
    /// Checkpoints of other members that were taken over.
    pub installs: u64,
    /// What scrubbers found bad, and payloads and frames that were written anew, on nodes that live at the end.
    pub scrubbed: (u64, u64),
    /// Nodes that were removed from the cluster.
    pub removed: usize,
}

/// Few clients over many keys, or so many over so few that reads of a group overlap on every node.
const CLIENTS_AND_KEYS: [(u64, u64); 3] = [(4, 8), (4, 8), (12, 4)];
/// How often copies are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What nodes may take to be founded, and to agree at the end.
const SETTLE: Duration = Duration::from_secs(60);

/// Simulates one seed.
pub fn simulate(seed: u64, plan: &Plan) -> Outcome {
    let mut sim = Sim::new(seed);
    // Every other seed: tasks that could run overtake each other.
    if seed.is_multiple_of(2) {
        sim = sim.shuffled();
    }
    if plan.steps {
        sim = sim.traced();
    }
    let (mut outcome, steps) = sim.run(world(seed, plan.clone()));
    outcome.steps = steps.iter().fold(0xcbf2_9ce4_8422_2325, |hash, line| {
        line.bytes().fold(hash, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    });
    outcome
}

async fn world(seed: u64, plan: Plan) -> Outcome {
    let began = now();
    let trace = Trace::default();
    let net = SimNet::new(seed);
    let memberships = Memberships::new(1..=plan.founders(seed));
    let agreement = Agreement::new(memberships.clone());
    let (aim, boots) = (Aim::default(), Boots::new(memberships.clone()));
    let moments = Moments::default();
    let watchers = (
        agreement.clone(),
        boots.clone(),
        aim.clone(),
        moments.clone(),
    );
    net.tap(move |flight| {
        memberships.watch(flight);
        watchers.0.watch(flight);
        watchers.1.watch(flight);
        watchers.2.watch(flight);
        watchers.3.watch(flight)
    });
    let nodes = Nodes::new(seed, plan.founders(seed), net.clone(), trace.clone());
    let copies = Arc::new(Mutex::new(Copies::default()));
    let (count, keys) = CLIENTS_AND_KEYS[(seed % 3) as usize];
    let clients = Clients::new(nodes.clone(), trace.clone(), keys);
    let versions = Versions::new(clients.clone());
    let buckets = Buckets::new(clients.clone());
    let has_healed = Arc::new(AtomicBool::new(false));
    let mut world = World {
        seed,
        plan,
        trace: trace.clone(),
        net: net.clone(),
        nodes: nodes.clone(),
        agreement: agreement.clone(),
        clients: clients.clone(),
        versions: versions.clone(),
        buckets: buckets.clone(),
        count,
        aim,
        moments,
        outcome: Outcome::default(),
        has_healed: has_healed.clone(),
    };
    let installs = Arc::new(Mutex::new(BTreeMap::new()));
    task::spawn(look(nodes.clone(), copies.clone(), installs.clone()));
    task::spawn(bury(nodes.clone(), has_healed.clone()));
    let gaps = Arc::new(Mutex::new(Vec::new()));
    task::spawn(look_for_gaps(nodes.clone(), gaps.clone()));
    if let Err(what) = world.live().await {
        world.outcome.broken.push(what);
    }
    let mut outcome = world.outcome;
    outcome.broken.extend(agreement.broken());
    outcome.broken.extend(boots.broken());
    outcome.broken.extend(copies.lock().broken().to_vec());
    outcome.broken.extend(gaps.lock().clone());
    outcome.broken.extend(clients.wrong.lock().clone());
    outcome.broken.extend(nodes.failed());
    for key in clients.all_keys() {
        let calls = clients.history.of_key(key);
        match linearizable::check(&calls) {
            Found::Order => {}
            Found::Undecided => outcome.undecided += 1,
            Found::NoOrder => {
                let lines: Vec<String> = calls.iter().map(|call| format!("    {call}")).collect();
                outcome.broken.push(format!(
                    "key {key}: no order of its calls explains what was told\n{}",
                    lines.join("\n")
                ));
            }
        }
    }
    for (broken, undecided) in [versions.broken(), buckets.broken()] {
        outcome.broken.extend(broken);
        outcome.undecided += undecided;
    }
    trace.say(format!("the end, {} messages", net.sent()));
    outcome.trace = trace.lines();
    outcome.simulated = Duration::from_nanos(now() - began);
    let counts = [clients.history.count(), versions.count(), buckets.count()];
    if outcome.undecided > 0 {
        let what = format!(
            "the order of calls was not found out of {} keys",
            outcome.undecided
        );
        outcome.broken.push(what);
    }
    outcome.calls = counts
        .iter()
        .fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    outcome.compared = copies.lock().looked();
    outcome.messages = net.sent();
    outcome.installs = installs.lock().values().sum();
    outcome
}

/// Compares copies as they go.
async fn look(
    nodes: Nodes,
    copies: Arc<Mutex<Copies>>,
    installs: Arc<Mutex<BTreeMap<(u64, u64), u64>>>,
) {
    loop {
        clock::sleep(LOOK_EVERY).await;
        installs.lock().extend(nodes.installs());
        for (node, of_node) in nodes.copies() {
            copies.lock().look(node, &of_node);
        }
    }
}

/// A node whose log has failed ends, as its process would. Whoever ends because of what its disk did before everything healed
/// is started again.
async fn bury(nodes: Nodes, has_healed: Arc<AtomicBool>) {
    loop {
        clock::sleep(LOOK_EVERY / 2).await;
        for node in nodes.end_failed() {
            if has_healed.load(Ordering::Relaxed) {
                nodes.start(node);
            }
        }
    }
}

/// Looks whether a node lacks a chunk and nobody knows.
async fn look_for_gaps(nodes: Nodes, gaps: Arc<Mutex<Vec<String>>>) {
    while gaps.lock().is_empty() {
        clock::sleep(LOOK_EVERY).await;
        // Of a disk that was put back or emptied nobody expects anything; and of a record whose header rots before the table of
        // places has it, nobody can say what it was: then everything that rows name is looked for, and the audit sees the rest.
        for node in nodes.whole() {
            if let Some(running) = nodes.running(node).filter(|_| !nodes.is_rotten(node)) {
                gaps.lock().extend(chunks::gaps(node, &running));
            }
        }
    }
}

struct World {
    seed: u64,
    plan: Plan,
    trace: Trace,
    net: SimNet,
    nodes: Nodes,
    agreement: Agreement,
    clients: Clients,
    versions: Versions,
    buckets: Buckets,
    /// How many of the first kind.
    count: u64,
    aim: Aim,
    moments: Moments,
    outcome: Outcome,
    has_healed: Arc<AtomicBool>,
}

impl World {
    /// Everything that happens. An error ends it early: there is no use in going on.
    async fn live(&mut self) -> Result<(), String> {
        for node in 1..=self.nodes.count() {
            self.nodes.start(node);
        }
        self.until("the cluster is founded", || self.all_ready())
            .await?;
        let bucket = self.make_bucket(BUCKET).await?;
        self.make_bucket(versions::BUCKET).await?;
        self.trace.say("the cluster is founded");
        if self.nodes.count() < self.plan.nodes {
            while self.nodes.count() < self.plan.nodes {
                self.nodes.join();
            }
            self.until("the others have joined", || {
                self.all_ready() && self.nodes.is_settled()
            })
            .await?;
        }
        let terms = self.agreement.terms();

        let stop = Arc::new(AtomicBool::new(false));
        let working = self.put_to_work(&stop);
        let mut storm = Storm {
            nodes: self.nodes.clone(),
            net: self.net.clone(),
            trace: self.trace.clone(),
            faults: self.plan.faults.clone(),
            seed: self.seed,
            dice: Dice::of(self.seed, "storm"),
            aim: self.aim.clone(),
            rotten: None,
            weather: Weather::default(),
            moments: self.moments.clone(),
            still: Still::default(),
        };
        let operator = Operator {
            nodes: self.nodes.clone(),
            trace: self.trace.clone(),
            target: self.plan.nodes.max(3) as usize,
        };
        let mut changes = Dice::of(self.seed, "operator");
        let operated = self.plan.faults.has(Fault::Membership) && changes.percent(50);
        let working_operator = operated.then(|| {
            let work = operator.clone().work(changes.fork());
            task::spawn(work)
        });
        storm.rage(self.plan.storm).await;
        if let Some(working) = working_operator {
            working.abort();
        }
        self.has_healed.store(true, Ordering::Relaxed);
        storm.heal();
        self.everybody_serves(&bucket).await?;
        self.until("every node has started", || self.all_running())
            .await?;
        if operated {
            operator.finish(&mut changes).await?;
            self.until("every node has started", || self.all_running())
                .await?;
        }
        self.until("who lost its disk is refused", || {
            let mut out = self.nodes.out().into_iter();
            out.all(|node| self.nodes.is_refused(node))
        })
        .await?;
        let removed = (1..=self.nodes.count()).filter(|node| self.nodes.is_removed(*node));
        self.outcome.removed = removed.count();
        self.outcome.refused = self.nodes.out().len();
        if operated {
            self.everybody_serves(&bucket).await?;
        }
        stop.store(true, Ordering::Relaxed);
        for client in working {
            client.await.map_err(|error| error.to_string())?;
        }
        self.nothing_is_left_behind().await?;
        self.audit(&bucket).await?;
        for node in self.running() {
            let counts = node.scrub_counts();
            self.outcome.scrubbed.0 += counts.found;
            self.outcome.scrubbed.1 += counts.mended;
        }
        if self.plan.faults.is_empty() {
            let broken = elections::check(&terms, &self.agreement.terms());
            self.outcome.broken.extend(broken);
        }
        Ok(())
    }

    /// All clients begin.
    fn put_to_work(&self, stop: &Arc<AtomicBool>) -> Vec<task::JoinHandle<()>> {
        let dice = |what: &str, number: u64| Dice::of(self.seed, &format!("{what} {number}"));
        let stop = || stop.clone();
        let mut working = Vec::new();
        if self.plan.clients.has(Kind::Objects) {
            for number in 1..=self.count {
                let client = self.clients.clone();
                let dice = dice("client", number);
                working.push(task::spawn(client.client(number, dice, stop())));
            }
        }
        if self.plan.clients.has(Kind::Versions) {
            for number in 1..=versions::COUNT {
                let client = self.versions.clone();
                let dice = dice("client of versions", number);
                working.push(task::spawn(client.client(20 + number, dice, stop())));
            }
        }
        if self.plan.clients.has(Kind::Buckets) {
            for number in 1..=buckets::COUNT {
                let client = self.buckets.clone();
                let dice = dice("client of buckets", number);
                working.push(task::spawn(client.client(30 + number, dice, stop())));
            }
        }
        if self.plan.clients.has(Kind::Quitters) {
            let client = Quitters::new(self.clients.clone());
            let dice = dice("quitter", 1);
            working.push(task::spawn(client.client(41, dice, stop())));
        }
        working
    }

    /// Looks at everything that is there, through every node.
    async fn audit(&mut self, bucket: &Bucket) -> Result<(), String> {
        self.trace.say("audit");
        self.damage_is_mended().await?;
        for node in self.nodes.whole() {
            let mut found = BTreeMap::new();
            for key in self.clients.all_keys() {
                match self.clients.read(100 + node, node, key).await {
                    Some(value) => _ = found.insert(key, value),
                    None => {
                        return Err(format!("node {node} does not read key {key} in the audit"));
                    }
                }
            }
            self.outcome.broken.extend(pairs::check(node, &found));
            self.versions.audit(node).await?;
            self.buckets.audit(node).await?;
        }
        self.abort_uploads(bucket).await?;
        self.chunks_come_to_rest().await?;
        self.nothing_is_left_behind().await?;
        self.until("all copies are at the same entry", || self.same_index())
            .await?;
        for node in self.nodes.whole() {
            let door = self.nodes.door(node).zip(self.nodes.running(node));
            let Some(((kv, scope), running)) = door else {
                return Err(format!("node {node} does not run in the audit"));
            };
            // By the node's own clock.
            let looked = scope.enter(async {
                let mut broken = Vec::new();
                let damage = running.status().await.damage.into_iter();
                broken.extend(damage.map(|damage| format!("node {node}: {damage}")));
                broken.extend(chunks::read(node, &running).await);
                broken.extend(copies::recounted(node, &running));
                broken.extend(self.count(&kv).await?);
                Ok::<_, KvError>(broken)
            });
            let looked = looked.await.map_err(|_| "a node died by itself")?;
            let broken = looked.map_err(|error| format!("node {node} does not count: {error}"))?;
            self.outcome.broken.extend(broken);
        }
        Ok(())
    }

    /// From now on it takes ten seconds at most until every node reads and writes in every group.
    async fn everybody_serves(&self, bucket: &Bucket) -> Result<(), String> {
        let healed = now();
        let whole = self.nodes.whole();
        let nodes = whole.iter();
        let served = nodes.map(|node| progress::check(&self.nodes, bucket, *node));
        for (node, served) in whole.iter().zip(join_all(served).await) {
            // Whoever was about to join, or to leave, owes nothing.
            if served.is_err() && self.is_active(*node).await == Some(false) {
                continue;
            }
            served?;
        }
        let took = (now() - healed) / 1_000_000;
        self.trace
            .say(format!("every node serves, after {took} ms"));
        Ok(())
    }

    /// Whether the directory says that a node is one of the cluster, and stays. `None`: nobody says.
    async fn is_active(&self, node: u64) -> Option<bool> {
        for through in self
            .nodes
            .whole()
            .into_iter()
            .filter(|other| *other != node)
        {
            let door = self.nodes.door(through).zip(self.nodes.running(through));
            let Some(((_, scope), running)) = door else {
                continue;
            };
            let asked = clock::timeout(SETTLE, scope.enter(async move { running.cluster().await }));
            if let Ok(Ok(Ok(all))) = asked.await {
                let is_active =
                    |of: &ClusterNode| of.id == node && of.membership == Membership::Active;
                return Some(all.iter().any(is_active));
            }
        }
        None
    }

    /// No transaction, intent, push of facts or session of a run that is over.
    async fn nothing_is_left_behind(&self) -> Result<(), String> {
        let left = || leftovers::check(&self.running());
        let waited = self.until("nothing is left behind", || left().is_empty());
        waited.await.map_err(|why| format!("{why}: {:?}", left()))
    }

    /// What went bad on a disk is found by the scrubber, whoever reads or does not read it, and mended from the others.
    async fn damage_is_mended(&self) -> Result<(), String> {
        if !self.nodes.any_ailed() {
            return Ok(());
        }
        let passes = |running: &Node| running.scrub_counts().passes;
        let before: Vec<u64> = self.running().iter().map(|node| passes(node)).collect();
        let deadline = now() + chunks::BOUND.as_nanos() as u64;
        loop {
            let mut left = Vec::new();
            for (running, before) in self.running().iter().zip(&before) {
                // One that began before the end of the storm may have passed by what went bad last.
                if passes(running) < before + 2 {
                    left.push("not scrubbed yet".to_owned());
                }
                left.extend(running.status().await.damage);
            }
            if left.is_empty() {
                return Ok(());
            }
            if now() > deadline {
                let left = left.join("\n    ");
                return Err(format!("damage is not mended:\n    {left}"));
            }
            clock::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Every bucket is charged for what lies in it.
    async fn count(&self, kv: &Kv) -> Result<Vec<String>, KvError> {
        let mut broken = Vec::new();
        let fixed = [BUCKET, versions::BUCKET].map(str::to_owned);
        for name in fixed.into_iter().chain(self.buckets.names()) {
            if let Some(bucket) = kv.bucket(&name).await? {
                broken.extend(usage::check(kv, &bucket).await?);
            }
        }
        Ok(broken)
    }

    /// Uploads that clients left behind.
    async fn abort_uploads(&self, bucket: &Bucket) -> Result<(), String> {
        let whole = self.nodes.whole().into_iter().next();
        let Some((kv, scope)) = whole.and_then(|node| self.nodes.door(node)) else {
            return Err("no node runs in the audit".to_owned());
        };
        let bucket = bucket.clone();
        let aborted = scope.enter(async move {
            for upload in observe::uploads(&kv, &bucket).await? {
                kv.abort_upload(&bucket, upload.key, upload.id).await?;
            }
            Ok::<_, KvError>(())
        });
        let aborted = aborted.await.map_err(|_| "a node died by itself")?;
        aborted.map_err(|error| format!("an upload is not aborted in the audit: {error}"))
    }

    /// Stages end, what was freed is released, members get what they lack.
    async fn chunks_come_to_rest(&self) -> Result<(), String> {
        let deadline = now() + chunks::BOUND.as_nanos() as u64;
        loop {
            let count = self.nodes.count();
            let mut gone = self.nodes.out();
            gone.extend((1..=count).filter(|node| self.nodes.is_removed(*node)));
            let nodes = self.nodes.whole().into_iter().zip(self.running());
            let loose: Vec<String> = nodes
                .flat_map(|(node, running)| chunks::check(node, &running, &gone))
                .collect();
            if loose.is_empty() {
                return Ok(());
            }
            if now() > deadline {
                return Err(format!(
                    "chunks do not come to rest:\n    {}",
                    loose.join("\n    ")
                ));
            }
            clock::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn make_bucket(&self, name: &'static str) -> Result<Bucket, String> {
        let Some((kv, scope)) = self.nodes.door(1) else {
            return Err("node 1 does not run".to_owned());
        };
        let made = scope.enter(async move {
            let create = CreateBucket {
                name: name.to_owned(),
                tenant: TENANT,
                owner: "owner".to_owned(),
                versioning: Versioning::Off,
                lock: false,
                settings: Bytes::new(),
            };
            match kv.create_bucket(create).await {
                Ok(bucket) => Ok(bucket),
                Err(CreateBucketError::Exists(bucket)) => Ok(*bucket),
                Err(CreateBucketError::Kv(error)) => Err(format!("no bucket: {error}")),
            }
        });
        made.await.map_err(|_| "node 1 died by itself".to_owned())?
    }

    fn running(&self) -> Vec<Arc<Node>> {
        let whole = self.nodes.whole().into_iter();
        whole.filter_map(|node| self.nodes.running(node)).collect()
    }

    fn all_running(&self) -> bool {
        (1..=self.nodes.count()).all(|node| {
            // One whose disk failed right before healing is started again first.
            let running = self.nodes.running(node);
            running.is_some_and(|running| running.failed().now_or_never().is_none())
        })
    }

    fn all_ready(&self) -> bool {
        (1..=self.nodes.count()).all(|node| {
            let running = self.nodes.running(node);
            running.is_some_and(|running| running.ready().is_ok())
        })
    }

    /// Nobody works any more, so copies that get there stay there.
    fn same_index(&self) -> bool {
        let whole = self.nodes.whole();
        let mut copies = self.nodes.copies();
        copies.retain(|(node, _)| whole.contains(node));
        let mut applied: BTreeMap<u16, BTreeSet<u64>> = BTreeMap::new();
        for copy in copies.iter().flat_map(|(_, copies)| copies) {
            applied
                .entry(copy.group.0)
                .or_default()
                .insert(copy.applied);
        }
        copies.len() == whole.len()
            && applied.len() == self.nodes.groups()
            && applied.values().all(|indexes| indexes.len() == 1)
    }

    async fn until(&self, what: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
        let deadline = now() + SETTLE.as_nanos() as u64;
        while !is_so() {
            let failed = self.nodes.failed();
            if let Some(why) = failed.first() {
                return Err(why.clone());
            }
            if now() > deadline {
                return Err(format!("by {} not yet: {what}", seconds(now())));
            }
            clock::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}
