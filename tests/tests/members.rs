//! Nodes come to a simulated cluster and leave it, while nothing that was written is lost and everything goes on.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use minikv_core::env::sim::{Sim, SimNet};
use minikv_core::env::{clock, task};
use minikv_core::kv::{
    Bucket, Completed, Conditions, CreateBucket, Kv, KvError, ListItem, ListRequest, Lock,
    NewContent, NewPart, NewVersion, VersionSelector, Versioning,
};
use minikv_core::node::{ClusterError, MemberRole, Membership, Node};
use minikv_tests::client::TENANT;
use minikv_tests::cluster::clients::{content, put_bytes};
use minikv_tests::cluster::nodes::Nodes;
use minikv_tests::cluster::trace::Trace;

/// Values with large objects are multiples of five; the others are small.
const VALUES: std::ops::Range<u64> = 4_000..4_012;
/// How long a change of members may take when nothing else happens.
const SOON: Duration = Duration::from_secs(60);

/// Of each group.
type Members = BTreeMap<u16, Vec<(u64, MemberRole)>>;

struct World {
    nodes: Nodes,
    bucket: Bucket,
    net: SimNet,
}

impl World {
    async fn start(seed: u64, founders: u64) -> World {
        let net = SimNet::new(seed);
        let nodes = Nodes::new(seed, founders, net.clone(), Trace::default());
        (1..=founders).for_each(|node| nodes.start(node));
        let ready = |node| nodes.running(node).is_some_and(|node| node.ready().is_ok());
        until("the cluster is founded", || (1..=founders).all(ready)).await;
        let create = CreateBucket {
            name: "bucket".to_owned(),
            tenant: TENANT,
            owner: "owner".to_owned(),
            versioning: Versioning::Off,
            lock: false,
            settings: Bytes::new(),
        };
        let bucket = nodes.door(1).unwrap().0.create_bucket(create).await;
        let bucket = bucket.unwrap();
        World { nodes, bucket, net }
    }

    async fn put(&self, node: u64, value: u64) -> Result<(), KvError> {
        let Some((kv, scope)) = self.nodes.door(node) else {
            return Err(KvError::Unavailable("it does not run".to_owned()));
        };
        let (bucket, key) = (self.bucket.clone(), key_of(value));
        let put = scope.enter(async move {
            put_bytes(&kv, &bucket, key, content(value), &value.to_string()).await
        });
        put.await
            .unwrap_or(Err(KvError::Unknown("it died".to_owned())))
    }

    /// Begins to write an object through node 1, a chunk now and the rest when it is told to.
    fn slow_upload(&self, value: u64) -> SlowUpload {
        let (kv, scope) = self.nodes.door(1).unwrap();
        let (bucket, key, mut bytes) = (self.bucket.clone(), key_of(value), content(value));
        let (has_begun, may_end) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let (begun, end) = (has_begun.clone(), may_end.clone());
        let put = scope.enter(async move {
            let new = NewVersion {
                etag: value.to_string(),
                size: bytes.len() as u64,
                meta: Bytes::new(),
                tags: Bytes::new(),
                lock: Default::default(),
            };
            let (declared, conditions) = (Some(new.size), Conditions::default());
            let opened = kv.open_stage(&bucket, key.clone(), declared, &conditions);
            let mut stage = opened.await?;
            let first = stage.frame_len().min(bytes.len() / 2);
            stage.write(bytes.split_to(first)).await?;
            begun.store(true, Ordering::Relaxed);
            while !end.load(Ordering::Relaxed) {
                stage.touch();
                clock::sleep(Duration::from_millis(100)).await;
            }
            stage.write(bytes).await?;
            let content = NewContent::Staged(stage.finish().await?);
            kv.put(&bucket, key, new, content, conditions).await?;
            Ok(())
        });
        let written = task::spawn(async move { put.await.unwrap() });
        SlowUpload {
            has_begun,
            may_end,
            written,
        }
    }

    async fn fill(&self, node: u64) {
        for value in VALUES {
            self.put(node, value).await.unwrap();
        }
    }

    async fn get(&self, node: u64, value: u64) -> Result<Bytes, KvError> {
        let (kv, scope) = self.nodes.door(node).unwrap();
        let bucket = self.bucket.clone();
        let got = scope.enter(async move { get(&kv, &bucket, &key_of(value)).await });
        got.await.unwrap()
    }

    /// Every value is there, through each of these nodes, and their own disks are whole.
    async fn all_is_there(&self, nodes: &[u64], values: impl IntoIterator<Item = u64> + Clone) {
        self.come_to_rest(nodes).await;
        for node in nodes {
            for value in values.clone() {
                let got = self.get(*node, value).await;
                let got =
                    got.unwrap_or_else(|error| panic!("value {value} on node {node}: {error}"));
                assert_eq!(got, content(value), "value {value} on node {node}");
            }
            assert_eq!(self.node(*node).bad_chunks().await.unwrap(), [""; 0]);
        }
    }

    fn node(&self, node: u64) -> Arc<Node> {
        self.nodes.running(node).unwrap()
    }

    /// Waits until nothing is loose on these nodes.
    async fn come_to_rest(&self, nodes: &[u64]) {
        let mut loose = Vec::new();
        for _ in 0..180 {
            loose = nodes
                .iter()
                .flat_map(|node| self.node(*node).loose_bytes(&[]).unwrap())
                .collect();
            if loose.is_empty() {
                return;
            }
            clock::sleep(Duration::from_secs(1)).await;
        }
        panic!("not at rest: {loose:?}");
    }

    /// Whether each group's copies on these nodes say that these nodes keep it, and nobody else.
    fn all_lie_on(&self, nodes: &[u64]) -> bool {
        let wanted: Vec<(u64, MemberRole)> = nodes
            .iter()
            .map(|node| (*node, MemberRole::Member))
            .collect();
        nodes.iter().all(|node| {
            let Some(running) = self.nodes.running(*node) else {
                return false;
            };
            let members = running.members();
            members.len() == 3 && members.values().all(|members| *members == wanted)
        })
    }

    fn all_members(&self) -> Vec<(u64, Members)> {
        (1..=self.nodes.count())
            .filter_map(|node| Some((node, self.nodes.running(node)?.members())))
            .collect()
    }

    async fn until_all_lie_on(&self, nodes: &[u64]) {
        let deadline = clock::now() + SOON;
        while !self.all_lie_on(nodes) {
            if clock::now() > deadline {
                panic!(
                    "groups do not come to lie on {nodes:?}: {:?}",
                    self.all_members()
                );
            }
            clock::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn change<T, F>(&self, through: u64, change: impl FnOnce(Arc<Node>) -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let (_, scope) = self.nodes.door(through).unwrap();
        scope.enter(change(self.node(through))).await.unwrap()
    }

    async fn drain(&self, through: u64, node: u64) -> Result<(), ClusterError> {
        self.change(
            through,
            move |running| async move { running.drain(node).await },
        )
        .await
    }

    async fn remove(&self, through: u64, node: u64, forced: bool) -> Result<(), ClusterError> {
        let removed = self
            .change(through, move |running| async move {
                running.remove(node, forced).await
            })
            .await;
        if removed.is_ok() {
            self.nodes.removed(node);
        }
        removed
    }

    /// Waits until the node is part of the cluster.
    async fn until_active(&self, node: u64) {
        let deadline = clock::now() + SOON;
        loop {
            let active = self
                .change(1, move |running| async move {
                    let nodes = running.cluster().await.unwrap_or_default();
                    let active = |one: &&minikv_core::node::ClusterNode| {
                        one.id == node && one.membership == Membership::Active
                    };
                    nodes.iter().any(|one| active(&one))
                })
                .await;
            if active {
                return;
            }
            assert!(clock::now() < deadline, "node {node} did not join");
            clock::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A body of which a part was sent.
struct SlowUpload {
    has_begun: Arc<AtomicBool>,
    may_end: Arc<AtomicBool>,
    written: task::JoinHandle<Result<(), KvError>>,
}

impl SlowUpload {
    async fn until_begun(&self) {
        until("a part of the body was taken", || {
            self.has_begun.load(Ordering::Relaxed)
        })
        .await;
    }

    async fn end(self) -> Result<(), KvError> {
        self.may_end.store(true, Ordering::Relaxed);
        self.written.await.unwrap()
    }
}

fn key_of(value: u64) -> Bytes {
    Bytes::from(format!("key-{value}"))
}

async fn get(kv: &Kv, bucket: &Bucket, key: &[u8]) -> Result<Bytes, KvError> {
    let version = kv.head(bucket, key, &VersionSelector::Current).await?;
    let version = version.ok_or(KvError::Damaged("it is not there".to_owned()))?;
    if let Some(bytes) = kv.small_content(&version).await? {
        return Ok(bytes);
    }
    let pieces = kv.content(&version, 0..version.new.size);
    let pieces: Vec<Bytes> = pieces.try_collect().await?;
    Ok(pieces.concat().into())
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = clock::now() + SOON;
    while !is_so() {
        assert!(clock::now() < deadline, "not within {SOON:?}: {what}");
        clock::sleep(Duration::from_millis(50)).await;
    }
}

/// A single node gets two others, and every object is on all three: chunks that were written before, payloads from the log
/// and from a checkpoint.
#[test]
fn one_node_grows_to_three_and_nothing_is_lost() {
    Sim::new(1).run(async {
        let world = World::start(1, 1).await;
        world.fill(1).await;
        world.nodes.join();
        world.until_active(2).await;
        clock::sleep(Duration::from_secs(5)).await;
        assert!(world.all_lie_on(&[1]), "it does not rest at two");
        world.nodes.join();
        world.until_all_lie_on(&[1, 2, 3]).await;
        world.all_is_there(&[1, 2, 3], VALUES).await;
        // Any one of them may be lost now.
        world.nodes.crash(1, None);
        until("two of them agree without the first", || {
            (0..3).all(|group| world.nodes.leader(group).is_some_and(|leader| leader != 1))
        })
        .await;
        for value in VALUES {
            assert_eq!(world.get(2, value).await.unwrap(), content(value));
        }
        world.put(3, 4_100).await.unwrap();
    });
}

/// A body arrives while its group grows: the new members get what came before them, and it is an object in the end. Also if a
/// member leaves and comes back meanwhile, and so has removed what it took, and another one is down.
#[test]
fn an_upload_goes_on_while_members_change() {
    Sim::new(10).run(async {
        let world = Arc::new(World::start(10, 1).await);
        let (grown, back) = (world.slow_upload(4_000), world.slow_upload(4_005));
        grown.until_begun().await;
        back.until_begun().await;
        for node in [2, 3] {
            world.nodes.join();
            world.until_active(node).await;
        }
        world.until_all_lie_on(&[1, 2, 3]).await;
        grown.end().await.unwrap();
        let left = world.slow_upload(4_010);
        left.until_begun().await;
        world.nodes.join();
        world.until_active(4).await;
        world.drain(1, 3).await.unwrap();
        world.until_all_lie_on(&[1, 2, 4]).await;
        until("its copies are gone", || world.node(3).members().is_empty()).await;
        let swap = |running: Arc<Node>| async move {
            running.undrain(3).await?;
            running.drain(4).await
        };
        world.change(1, swap).await.unwrap();
        world.until_all_lie_on(&[1, 2, 3]).await;
        world.nodes.crash(2, None);
        until("the others agree without it", || {
            (0..3).all(|group| world.nodes.leader(group).is_some_and(|leader| leader != 2))
        })
        .await;
        back.end().await.unwrap();
        left.end().await.unwrap();
        world.nodes.start(2);
        world.until_all_lie_on(&[1, 2, 3]).await;
        world.all_is_there(&[1, 2, 3], [4_000, 4_005, 4_010]).await;
    });
}

/// Node 4 takes the place of node 3 while clients write; what was acknowledged is on the new three.
#[test]
fn a_member_is_replaced_while_clients_write() {
    for seed in [2, 3] {
        Sim::new(seed).run(async move {
            let world = Arc::new(World::start(seed, 3).await);
            world.fill(1).await;
            world.nodes.join();
            world.until_active(4).await;
            let (stop, next) = (
                Arc::new(AtomicBool::new(false)),
                Arc::new(AtomicU64::new(5_000)),
            );
            let writers: Vec<_> = (1..=2)
                .map(|node| {
                    let (world, stop, next) = (world.clone(), stop.clone(), next.clone());
                    task::spawn(async move {
                        let mut written = Vec::new();
                        while !stop.load(Ordering::Relaxed) {
                            let value = next.fetch_add(1, Ordering::Relaxed);
                            if world.put(node, value).await.is_ok() {
                                written.push(value);
                            }
                            clock::sleep(Duration::from_millis(30)).await;
                        }
                        written
                    })
                })
                .collect();
            world.drain(1, 3).await.unwrap();
            world.until_all_lie_on(&[1, 2, 4]).await;
            stop.store(true, Ordering::Relaxed);
            let mut written: BTreeSet<u64> = VALUES.collect();
            for writer in writers {
                let some = writer.await.unwrap();
                assert!(
                    some.len() > 20,
                    "clients were held up: {} writes",
                    some.len()
                );
                written.extend(some);
            }
            world.all_is_there(&[1, 2, 4], written).await;
        });
    }
}

/// What was drained holds nothing: it can be removed, and its data is gone. Before that it cannot.
#[test]
fn a_drained_node_can_be_removed() {
    Sim::new(4).run(async {
        let world = World::start(4, 3).await;
        world.fill(1).await;
        let too_few = world.drain(1, 3).await.unwrap_err();
        assert!(
            matches!(too_few, ClusterError::TooFew { left: 2, needed: 3 }),
            "{too_few}"
        );
        world.nodes.join();
        world.until_active(4).await;
        let holds = world.remove(1, 2, false).await.unwrap_err();
        assert!(
            matches!(holds, ClusterError::StillHolds { node: 2, .. }),
            "{holds}"
        );
        world.drain(1, 2).await.unwrap();
        world.until_all_lie_on(&[1, 3, 4]).await;
        until("its copies are gone", || world.node(2).members().is_empty()).await;
        // Who still reads there has a moment to end.
        until("nothing is left behind", || {
            world.node(2).loose_bytes(&[]).unwrap().is_empty()
        })
        .await;
        world.remove(1, 2, false).await.unwrap();
        until("it heard of it", || world.nodes.is_refused(2)).await;
        world.all_is_there(&[1, 3, 4], VALUES).await;
        let again = world.drain(1, 2).await.unwrap_err();
        assert!(
            matches!(again, ClusterError::Gone(2) | ClusterError::TooFew { .. }),
            "{again}"
        );
    });
}

/// A node that was lost and removed by force comes back with all it had: nobody hears it, it learns why, and takes no part.
/// Nor does an empty disk under its name.
#[test]
fn a_removed_node_that_comes_back_takes_no_part() {
    Sim::new(5).run(async {
        let world = World::start(5, 3).await;
        world.fill(1).await;
        world.nodes.crash(3, None);
        world.nodes.join();
        world.until_active(4).await;
        world.remove(1, 3, true).await.unwrap();
        world.until_all_lie_on(&[1, 2, 4]).await;
        world.nodes.start(3);
        until("it hears of its removal", || world.nodes.is_refused(3)).await;
        let why = world.node(3).refused().unwrap();
        assert!(why.contains("was removed"), "{why}");
        let (kv, scope) = world.nodes.door(3).unwrap();
        let bucket = world.bucket.clone();
        let put = scope
            .enter(async move { put_bytes(&kv, &bucket, key_of(1), content(4_001), "1").await });
        assert!(put.await.unwrap().is_err());
        world.all_is_there(&[1, 2, 4], VALUES).await;
        world.nodes.crash(3, None);
        world.nodes.wipe(3);
        world.nodes.start(3);
        clock::sleep(Duration::from_secs(20)).await;
        assert!(world.all_lie_on(&[1, 2, 4]));
        world.all_is_there(&[1, 2, 4], VALUES).await;
    });
}

/// The node that was to come dies before it has everything. It is removed, the group is as before, and another one comes.
#[test]
fn a_learner_that_dies_in_the_middle_is_cancelled() {
    Sim::new(6).run(async {
        let world = World::start(6, 3).await;
        world.fill(1).await;
        world.nodes.join();
        world.until_active(4).await;
        // It hears, and cannot be heard: it never says that it has everything.
        world.drain(1, 3).await.unwrap();
        let is_learner = |node: u64, role: MemberRole| {
            let members = world.node(1).members();
            members
                .values()
                .any(|members| members.contains(&(node, role)))
        };
        until("it is a learner", || is_learner(4, MemberRole::Learner)).await;
        world.nodes.crash(4, None);
        clock::sleep(Duration::from_secs(10)).await;
        world.put(1, 4_200).await.unwrap();
        world.remove(1, 4, true).await.unwrap();
        let names_4 = || {
            let members = world.node(1).members();
            members.values().flatten().any(|(node, _)| *node == 4)
        };
        // Groups that it had joined for good keep it until another one takes its place.
        world.nodes.join();
        world.until_active(5).await;
        world.until_all_lie_on(&[1, 2, 5]).await;
        assert!(!names_4());
        world.all_is_there(&[1, 2, 5], VALUES.chain([4_200])).await;
    });
}

/// Whichever step a change of members has come to: its leader dies, another one ends it.
#[test]
fn a_change_of_members_survives_its_leader_at_every_step() {
    for seed in 10..18 {
        Sim::new(seed).run(async move {
            let world = World::start(seed, 3).await;
            world.fill(1).await;
            world.nodes.join();
            world.until_active(4).await;
            world.drain(1, 3).await.unwrap();
            // Each seed at other moments.
            let mut seen = BTreeMap::new();
            let deadline = clock::now() + SOON;
            let mut killed = 0;
            while !world.all_lie_on(&[1, 2, 4]) && clock::now() < deadline {
                clock::sleep(Duration::from_millis(3 + seed % 5)).await;
                let group = 1 + (seed % 2) as u16;
                let Some(leader) = world.nodes.leader(group) else {
                    continue;
                };
                let Some(running) = world.nodes.running(leader) else {
                    continue;
                };
                let members = running.members().remove(&group).unwrap_or_default();
                let step = format!("{members:?}");
                let times = seen.entry(step).or_insert(0);
                *times += 1;
                if *times == 1 + (seed - 10) / 2 * 7 && killed < 4 {
                    killed += 1;
                    world.nodes.crash(leader, None);
                    clock::sleep(Duration::from_millis(1_500)).await;
                    world.nodes.start(leader);
                }
            }
            world.until_all_lie_on(&[1, 2, 4]).await;
            assert!(killed > 0, "no leader died");
            world.all_is_there(&[1, 2, 4], VALUES).await;
        });
    }
}

/// A planned stop costs no election timeout: another node leads before this one is gone.
#[test]
fn a_leader_that_is_stopped_hands_over_first() {
    Sim::new(7).run(async {
        let world = World::start(7, 3).await;
        world.fill(1).await;
        let leader = world.nodes.leader(1).unwrap();
        let began = clock::now();
        world
            .change(leader, |running| async move {
                running.shutdown(Duration::from_secs(5)).await;
            })
            .await;
        let took = clock::now() - began;
        let next = world.nodes.leader(1);
        assert!(
            next.is_some_and(|next| next != leader),
            "{next:?} after {took:?}"
        );
        world.nodes.crash(leader, None);
        let other = (1..=3).find(|node| *node != leader).unwrap();
        let asked = clock::now();
        // A small one: chunks wait a moment for the one that is gone.
        world.put(other, 4_301).await.unwrap();
        let waited = clock::now() - asked;
        assert!(waited < Duration::from_millis(300), "waited {waited:?}");
        drop(world.net.clone());
    });
}

/// Node `old` was cut off since before node `back` was replaced, and still counts on its vote. Node `back` comes back to the
/// group with nothing in its log: the two of them must not lead, because what the others had agreed on is on neither.
#[test]
fn a_member_that_comes_back_empty_does_not_elect_an_old_candidate() {
    Sim::new(8).run(async {
        let world = World::start(8, 3).await;
        world.fill(1).await;
        world.nodes.join();
        world.until_active(4).await;
        // One of four nodes keeps no member of each group now.
        clock::sleep(Duration::from_secs(10)).await;
        until("no change is under way", || world.nodes.is_settled()).await;
        let leader = world.nodes.leader(1).unwrap();
        let members = world.node(leader).members().remove(&1).unwrap();
        let members: Vec<u64> = members.into_iter().map(|(node, _)| node).collect();
        let [back, stays, old] = members[..] else {
            panic!("three members: {members:?}")
        };
        let spare = 10 - back - stays - old;
        let cut = |nodes: [u64; 2], others: [u64; 2]| {
            for (one, other) in nodes
                .into_iter()
                .flat_map(|one| others.map(|other| (one, other)))
            {
                world.net.cut(one, other);
                world.net.cut(other, one);
            }
        };
        cut([old, old], [back, stays]);
        cut([old, old], [spare, spare]);
        clock::sleep(Duration::from_secs(3)).await;
        world.drain(stays, back).await.unwrap();
        let has = || world.node(back).members().contains_key(&1);
        let deadline = clock::now() + 2 * SOON;
        while has() {
            let all = world.all_members();
            assert!(
                clock::now() < deadline,
                "node {back} keeps the group: {all:?}"
            );
            clock::sleep(Duration::from_millis(50)).await;
        }
        world
            .change(stays, move |running| async move {
                running.undrain(back).await.unwrap();
                running.drain(spare).await
            })
            .await
            .unwrap();
        until_soon("it is asked back", has).await;
        // It hears of nothing but the old candidate.
        world.net.mend();
        cut([back, old], [stays, spare]);
        clock::sleep(Duration::from_secs(10)).await;
        for node in [back, old] {
            let copies = world.node(node).copies().into_iter();
            let leads = copies.filter(|copy| copy.leads && copy.group.0 == 1);
            assert_eq!(leads.count(), 0, "node {node} leads");
        }
        world.net.mend();
        world.until_all_lie_on(&members).await;
        world.all_is_there(&members, VALUES).await;
    });
}

/// Its log begins with the membership in which it was alone: with a part of that log it would be a majority of its own.
#[test]
fn a_founder_that_comes_back_empty_does_not_lead_alone() {
    Sim::new(9).run(async {
        let world = World::start(9, 1).await;
        world.fill(1).await;
        for value in 1_000..2_200 {
            world.put(1, value).await.unwrap();
        }
        for node in 2..=4 {
            world.nodes.join();
            world.until_active(node).await;
        }
        clock::sleep(Duration::from_secs(10)).await;
        until("no change is under way", || world.nodes.is_settled()).await;
        world.drain(2, 1).await.unwrap();
        let has = || world.node(1).members().contains_key(&1);
        until("node 1 has no member of group 1", || !has()).await;
        world
            .change(2, |running| async move {
                running.undrain(1).await.unwrap();
                running.drain(4).await
            })
            .await
            .unwrap();
        until_soon("it is asked back", has).await;
        let copy = |node: u64| {
            let mut copies = world.node(node).copies().into_iter();
            copies.find(|copy| copy.group.0 == 1).unwrap()
        };
        until_soon("it has some of the log", || copy(1).applied > 0).await;
        assert!(copy(1).applied < copy(2).applied, "it has all of it");
        for other in 2..=4 {
            world.net.cut(1, other);
            world.net.cut(other, 1);
        }
        clock::sleep(Duration::from_secs(5)).await;
        assert!(!copy(1).leads);
        world.net.mend();
        world.until_all_lie_on(&[1, 2, 3]).await;
        world.all_is_there(&[1, 2, 3], VALUES).await;
        world.all_is_there(&[1, 2, 3], 1_000..2_200).await;
    });
}

/// As `until`, and looks at every moment.
async fn until_soon(what: &str, is_so: impl Fn() -> bool) {
    let deadline = clock::now() + SOON;
    while !is_so() {
        assert!(clock::now() < deadline, "not within {SOON:?}: {what}");
        clock::sleep(Duration::from_micros(200)).await;
    }
}

/// With more nodes than copies nobody has everything: what a node does not have it asks for, small and large, read, written and
/// listed.
#[test]
fn a_node_serves_what_lies_elsewhere() {
    Sim::new(9).run(async {
        let world = World::start(9, 3).await;
        world.fill(1).await;
        for node in [4, 5] {
            world.nodes.join();
            world.until_active(node).await;
        }
        clock::sleep(Duration::from_secs(30)).await;
        until("no change is under way", || world.nodes.is_settled()).await;
        let hosted: Vec<usize> = (1..=5)
            .map(|node| world.node(node).members().len())
            .collect();
        assert_eq!(
            hosted.iter().sum::<usize>(),
            9,
            "three copies of each group: {hosted:?}"
        );
        let mut expected: BTreeSet<u64> = VALUES.collect();
        for node in 1..=5 {
            for value in [6_000 + node, 7_000 + 5 * node] {
                let put = world.put(node, value).await;
                put.unwrap_or_else(|error| panic!("node {node}: {error}"));
                expected.insert(value);
            }
        }
        for node in 1..=5 {
            for value in &expected {
                let got = world.get(node, *value).await;
                let got = got.unwrap_or_else(|error| panic!("node {node}, {value}: {error}"));
                assert_eq!(got, content(*value), "value {value} on node {node}");
            }
            let (kv, scope) = world.nodes.door(node).unwrap();
            let bucket = world.bucket.clone();
            let listed = scope.enter(async move {
                let listed = minikv_tests::cluster::clients::list(&kv, &bucket).await?;
                let used = kv.usage(&bucket).await?;
                let deleted = kv.delete_bucket("bucket").await;
                assert!(deleted.is_err(), "it is not empty");
                Ok::<_, KvError>((listed.len(), used.objects))
            });
            let listed = listed.await.unwrap().unwrap();
            assert_eq!(
                listed,
                (expected.len(), expected.len() as u64),
                "node {node}"
            );
        }
        world.come_to_rest(&[1, 2, 3, 4, 5]).await;
    });
}

/// Five nodes and three copies: each has members of some groups only.
async fn spread_out(seed: u64) -> World {
    let world = World::start(seed, 3).await;
    for node in [4, 5] {
        world.nodes.join();
        world.until_active(node).await;
    }
    clock::sleep(Duration::from_secs(30)).await;
    until("no change is under way", || world.nodes.is_settled()).await;
    world
}

/// A page of a listing needs more rows than a message between nodes takes, because they are long: every node tells it.
#[test]
fn a_long_listing_is_told_by_nodes_without_the_rows() {
    const OBJECTS: usize = 1_500;
    Sim::new(21).run(async {
        let world = spread_out(21).await;
        let (kv, scope) = world.nodes.door(1).unwrap();
        let bucket = world.bucket.clone();
        let filled = scope.enter(async move {
            let objects = futures::stream::iter(0..OBJECTS).map(Ok);
            let put = |number: usize| {
                let new = NewVersion {
                    meta: vec![b'm'; 2_000].into(),
                    ..NewVersion::default()
                };
                let key = Bytes::from(format!("long/{number:05}"));
                let content = NewContent::Inline(Bytes::new());
                let put = kv.put(&bucket, key, new, content, Conditions::default());
                async move { put.await.map(drop) }
            };
            objects.try_for_each_concurrent(32, put).await
        });
        filled.await.unwrap().unwrap();
        for node in 1..=5 {
            let (kv, scope) = world.nodes.door(node).unwrap();
            let bucket = world.bucket.clone();
            let listed = scope.enter(async move { list(&kv, &bucket, "long/").await });
            let listed = listed.await.unwrap();
            let listed = listed.unwrap_or_else(|error| panic!("node {node}: {error}"));
            let expected = (0..OBJECTS).map(|number| format!("long/{number:05}"));
            assert!(listed.into_iter().eq(expected), "node {node}");
        }
    });
}

/// The parts of an upload are more rows than a message between nodes takes: through every node they are read as they are at one
/// moment, the upload ends, and the object can be read.
#[test]
fn an_upload_of_thousands_of_parts_ends_through_nodes_without_its_rows() {
    const PARTS: u32 = 1_200;
    /// More, while somebody reads.
    const MEANWHILE: u32 = 100;
    Sim::new(22).run(async {
        let world = spread_out(22).await;
        for node in 1..=5 {
            let (kv, scope) = world.nodes.door(node).unwrap();
            let bucket = world.bucket.clone();
            let key = Bytes::from(format!("upload-{node}"));
            let done = scope.enter(async move {
                let upload = kv.create_upload(&bucket, key.clone(), Bytes::new(), Lock::default());
                let id = upload.await?.id;
                let put = |number: u32| {
                    let new = NewPart {
                        etag: number.to_string(),
                        size: 1,
                        meta: vec![b'm'; 1_000].into(),
                    };
                    let content = NewContent::Inline(Bytes::from_static(b"p"));
                    let put = kv.put_part(&bucket, key.clone(), id, number, new, content);
                    async move { put.await.map(drop) }
                };
                let parts = futures::stream::iter(1..=PARTS).map(Ok);
                parts.try_for_each_concurrent(32, put).await?;
                let more = futures::stream::iter(1..=MEANWHILE).map(|more| Ok(PARTS + more));
                let more = more.try_for_each_concurrent(4, put);
                let reads = futures::stream::iter(0..20)
                    .map(Ok)
                    .try_for_each(|_| async {
                        let found = kv.parts(&bucket, &key, id, 0, 10_000).await?;
                        // Each of them has raised it by one.
                        assert_eq!(found.parts.len() as u64, found.counter, "one moment");
                        Ok(())
                    });
                futures::try_join!(more, reads)?;
                let found = kv.parts(&bucket, &key, id, 0, 10_000).await?;
                let numbers: Vec<u32> = found.parts.iter().map(|part| part.number).collect();
                // Every other one is left out: as many ranges as parts.
                let odd: Vec<u32> = numbers.iter().copied().step_by(2).collect();
                let new = NewVersion {
                    size: odd.len() as u64,
                    ..NewVersion::default()
                };
                let (counter, when) = (found.counter, Conditions::default());
                let end = kv.complete_upload(&bucket, key.clone(), id, counter, &odd, new, when);
                let end = end.await?;
                let got = get(&kv, &bucket, &key).await?;
                Ok::<_, KvError>((numbers, end, got.len()))
            });
            let done = done.await.unwrap();
            let (numbers, end, got) = done.unwrap_or_else(|error| panic!("node {node}: {error}"));
            assert!(numbers.into_iter().eq(1..=PARTS + MEANWHILE), "node {node}");
            assert!(
                matches!(end, Completed::Done { .. }),
                "node {node}: {end:?}"
            );
            assert_eq!(got, (PARTS + MEANWHILE) as usize / 2, "node {node}");
        }
    });
}

/// All keys that begin so, in pages.
async fn list(kv: &Kv, bucket: &Bucket, prefix: &'static str) -> Result<Vec<String>, KvError> {
    let mut request = ListRequest {
        prefix: Bytes::from_static(prefix.as_bytes()),
        max: 1_000,
        ..ListRequest::default()
    };
    let mut keys = Vec::new();
    loop {
        let page = kv.list(bucket, request.clone()).await?;
        for item in page.items {
            if let ListItem::Version(version) = item {
                keys.push(String::from_utf8_lossy(&version.key).into_owned());
            }
        }
        let Some(point) = page.resume else {
            return Ok(keys);
        };
        request.after = point.after;
        request.after_version = point.after_version;
    }
}
