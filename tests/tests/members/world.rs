//! A cluster of these tests, what lies in it, and what is waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use minikv_core::env::sim::SimNet;
use minikv_core::env::{clock, task};
use minikv_core::kv::{
    Bucket, Conditions, CreateBucket, Kv, KvError, NewContent, NewVersion, VersionSelector,
    Versioning,
};
use minikv_core::node::{ClusterError, MemberRole, Membership, Node};
use minikv_tests::client::TENANT;
use minikv_tests::cluster::clients::{content, put_bytes};
use minikv_tests::cluster::nodes::Nodes;
use minikv_tests::cluster::trace::Trace;

/// Values with large objects are multiples of five; the others are small.
pub const VALUES: std::ops::Range<u64> = 4_000..4_012;
/// How long a change of members may take when nothing else happens.
pub const SOON: Duration = Duration::from_secs(60);

/// Of each group.
pub type Members = BTreeMap<u16, Vec<(u64, MemberRole)>>;

pub struct World {
    pub nodes: Nodes,
    pub bucket: Bucket,
    pub net: SimNet,
}

impl World {
    pub async fn start(seed: u64, founders: u64) -> World {
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

    pub async fn put(&self, node: u64, value: u64) -> Result<(), KvError> {
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
    pub fn slow_upload(&self, value: u64) -> SlowUpload {
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

    pub async fn fill(&self, node: u64) {
        for value in VALUES {
            self.put(node, value).await.unwrap();
        }
    }

    pub async fn get(&self, node: u64, value: u64) -> Result<Bytes, KvError> {
        let (kv, scope) = self.nodes.door(node).unwrap();
        let bucket = self.bucket.clone();
        let got = scope.enter(async move { get(&kv, &bucket, &key_of(value)).await });
        got.await.unwrap()
    }

    /// Every value is there, through each of these nodes, and their own disks are whole.
    pub async fn all_is_there(&self, nodes: &[u64], values: impl IntoIterator<Item = u64> + Clone) {
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

    pub fn node(&self, node: u64) -> Arc<Node> {
        self.nodes.running(node).unwrap()
    }

    /// Waits until nothing is loose on these nodes.
    pub async fn come_to_rest(&self, nodes: &[u64]) {
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
    pub fn all_lie_on(&self, nodes: &[u64]) -> bool {
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

    pub fn all_members(&self) -> Vec<(u64, Members)> {
        (1..=self.nodes.count())
            .filter_map(|node| Some((node, self.nodes.running(node)?.members())))
            .collect()
    }

    pub async fn until_all_lie_on(&self, nodes: &[u64]) {
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

    pub async fn change<T, F>(&self, through: u64, change: impl FnOnce(Arc<Node>) -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let (_, scope) = self.nodes.door(through).unwrap();
        scope.enter(change(self.node(through))).await.unwrap()
    }

    pub async fn drain(&self, through: u64, node: u64) -> Result<(), ClusterError> {
        self.change(
            through,
            move |running| async move { running.drain(node).await },
        )
        .await
    }

    pub async fn remove(&self, through: u64, node: u64, forced: bool) -> Result<(), ClusterError> {
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
    pub async fn until_active(&self, node: u64) {
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
pub struct SlowUpload {
    pub has_begun: Arc<AtomicBool>,
    pub may_end: Arc<AtomicBool>,
    pub written: task::JoinHandle<Result<(), KvError>>,
}

impl SlowUpload {
    pub async fn until_begun(&self) {
        until("a part of the body was taken", || {
            self.has_begun.load(Ordering::Relaxed)
        })
        .await;
    }

    pub async fn end(self) -> Result<(), KvError> {
        self.may_end.store(true, Ordering::Relaxed);
        self.written.await.unwrap()
    }
}

pub fn key_of(value: u64) -> Bytes {
    Bytes::from(format!("key-{value}"))
}

pub async fn get(kv: &Kv, bucket: &Bucket, key: &[u8]) -> Result<Bytes, KvError> {
    let version = kv.head(bucket, key, &VersionSelector::Current).await?;
    let version = version.ok_or(KvError::Damaged("it is not there".to_owned()))?;
    if let Some(bytes) = kv.small_content(&version).await? {
        return Ok(bytes);
    }
    let pieces = kv.content(&version, 0..version.new.size);
    let pieces: Vec<Bytes> = pieces.try_collect().await?;
    Ok(pieces.concat().into())
}

pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = clock::now() + SOON;
    while !is_so() {
        assert!(clock::now() < deadline, "not within {SOON:?}: {what}");
        clock::sleep(Duration::from_millis(50)).await;
    }
}
