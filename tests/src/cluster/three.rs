//! Three simulated nodes and a bucket, for tests in which one thing happens.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use minikv_core::env::clock;
use minikv_core::env::sim::SimNet;
use minikv_core::kv::{Bucket, CreateBucket, Kv, KvError, VersionSelector, Versioning};
use minikv_core::node::Node;

use crate::client::TENANT;
use crate::cluster::clients::{content, put_bytes};
use crate::cluster::nodes::Nodes;
use crate::cluster::trace::Trace;

/// A value with a large object.
pub const LARGE: u64 = 4_005;
/// One with a small one.
pub const SMALL: u64 = 4_001;

/// Node 1, 2 and 3.
pub struct Three {
    /// They.
    pub nodes: Nodes,
    /// Between them.
    pub net: SimNet,
    /// In them.
    pub bucket: Bucket,
}

impl Three {
    /// Starts them; returns when all are ready.
    pub async fn start(seed: u64) -> Three {
        let net = SimNet::new(seed);
        let nodes = Nodes::new(seed, 3, net.clone(), Trace::default());
        (1..=3).for_each(|node| nodes.start(node));
        let ready = |node| nodes.running(node).is_some_and(|node| node.ready().is_ok());
        for _ in 0..600 {
            clock::sleep(Duration::from_millis(100)).await;
            if (1..=3).all(ready) {
                break;
            }
        }
        let create = CreateBucket {
            name: "bucket".to_owned(),
            tenant: TENANT,
            owner: "owner".to_owned(),
            versioning: Versioning::Off,
            lock: false,
            settings: Bytes::new(),
        };
        let (kv, scope) = match nodes.door(1) {
            Some(door) => door,
            None => panic!("node 1 does not run"),
        };
        let made = scope.enter(async move { kv.create_bucket(create).await });
        let bucket = match made.await {
            Ok(Ok(bucket)) => bucket,
            other => panic!("no bucket: {other:?}"),
        };
        Three { nodes, net, bucket }
    }

    /// A running node.
    pub fn node(&self, node: u64) -> Arc<Node> {
        match self.nodes.running(node) {
            Some(running) => running,
            None => panic!("node {node} does not run"),
        }
    }

    /// Writes the content of a value through a node.
    pub async fn try_put(&self, node: u64, key: &str, value: u64) -> Result<(), KvError> {
        let Some((kv, scope)) = self.nodes.door(node) else {
            return Err(KvError::Unavailable(format!("node {node} does not run")));
        };
        let (bucket, key) = (self.bucket.clone(), Bytes::from(key.to_owned()));
        let put = scope.enter(async move {
            put_bytes(&kv, &bucket, key, content(value), &value.to_string()).await
        });
        let put = put.await;
        put.unwrap_or_else(|_| Err(KvError::Unknown(format!("node {node} died"))))
    }

    /// The same; it must succeed.
    pub async fn put(&self, node: u64, key: &str, value: u64) {
        if let Err(error) = self.try_put(node, key, value).await {
            panic!("{key} is not written through node {node}: {error}");
        }
    }

    /// Reads through a node.
    pub async fn try_get(&self, node: u64, key: &str) -> Result<Bytes, KvError> {
        let Some((kv, scope)) = self.nodes.door(node) else {
            return Err(KvError::Unavailable(format!("node {node} does not run")));
        };
        let (bucket, key) = (self.bucket.clone(), key.to_owned());
        let got = scope.enter(async move {
            let current = VersionSelector::Current;
            let version = kv.head(&bucket, key.as_bytes(), &current).await?;
            match version {
                Some(version) => read(&kv, &version).await,
                None => Err(KvError::Damaged(format!("{key} is not there"))),
            }
        });
        let got = got.await;
        got.unwrap_or_else(|_| Err(KvError::Unknown(format!("node {node} died"))))
    }

    /// The same; it must succeed.
    pub async fn get(&self, node: u64, key: &str) -> Bytes {
        match self.try_get(node, key).await {
            Ok(bytes) => bytes,
            Err(error) => panic!("{key} is not read through node {node}: {error}"),
        }
    }

    /// Waits until this is so.
    pub async fn until(&self, what: &str, within: Duration, is_so: impl Fn() -> bool) {
        let deadline = clock::now() + within;
        while !is_so() {
            assert!(clock::now() < deadline, "after {within:?} not: {what}");
            clock::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until nothing is loose on any node.
    pub async fn come_to_rest(&self, within: Duration) {
        let mut left = within.as_secs();
        loop {
            let loose = |node| match self.node(node).loose_bytes(&[]) {
                Ok(loose) => loose,
                Err(error) => vec![error.to_string()],
            };
            let loose: Vec<String> = (1..=3).flat_map(loose).collect();
            if loose.is_empty() {
                return;
            }
            assert!(left > 0, "after {within:?}: {loose:?}");
            left -= 1;
            clock::sleep(Duration::from_secs(1)).await;
        }
    }

    /// What lies bad on a node's disk.
    pub async fn bad(&self, node: u64) -> Vec<String> {
        match self.node(node).bad_chunks().await {
            Ok(bad) => bad,
            Err(error) => vec![error.to_string()],
        }
    }

    /// Flips bits in these bytes wherever they lie on a node's disk; how often they lay there.
    pub fn rot(&self, node: u64, value: u64) -> usize {
        let disk = self.nodes.disk(node);
        let pattern = Bytes::from(format!("{value}.").repeat(20));
        let mut rotten = 0;
        for (path, _) in disk.files() {
            let bytes = disk.contents(&path).unwrap_or_default();
            let mut at = 0;
            while let Some(found) = bytes[at..]
                .windows(pattern.len())
                .position(|w| w == pattern)
            {
                if disk.flip_bit(&path, (at + found) as u64, 3).is_ok() {
                    rotten += 1;
                }
                // Once in every page is more than enough.
                at = (at + found + 4096).min(bytes.len());
            }
        }
        rotten
    }
}

async fn read(kv: &Kv, version: &minikv_core::kv::Version) -> Result<Bytes, KvError> {
    if let Some(bytes) = kv.small_content(version).await? {
        return Ok(bytes);
    }
    let pieces = kv.content(version, 0..version.new.size);
    let pieces: Vec<Bytes> = pieces.try_collect().await?;
    Ok(pieces.concat().into())
}
