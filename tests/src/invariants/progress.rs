//! Ten seconds after everything has healed, every node reads and writes in every group: those that start then, too.

use std::time::Duration;

use bytes::Bytes;
use minikv_core::env::clock;
use minikv_core::kv::{Bucket, Kv, KvError, VersionSelector};

use crate::cluster::clients;
use crate::cluster::nodes::Nodes;

/// How long it may take, in simulated time.
pub const BOUND: Duration = Duration::from_secs(10);

/// Keys that are written: enough to meet every group.
const PROBES: u64 = 8;

/// Writes and reads through one node, again and again until all of it went well. The error: what did not, at the end.
pub async fn check(nodes: &Nodes, bucket: &Bucket, node: u64) -> Result<(), String> {
    let last = parking_lot::Mutex::new("it was not asked yet".to_owned());
    let tried = clock::timeout(BOUND, async {
        loop {
            match nodes.door(node) {
                None => *last.lock() = "it does not run".to_owned(),
                Some((kv, scope)) => match scope.enter(once(&kv, bucket, node)).await {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => *last.lock() = error.to_string(),
                    Err(_) => *last.lock() = "it died".to_owned(),
                },
            }
            clock::sleep(Duration::from_millis(100)).await;
        }
    });
    if tried.await.is_ok() {
        return Ok(());
    }
    let last = last.into_inner();
    Err(format!(
        "node {node} does not serve {BOUND:?} after healing: {last}"
    ))
}

async fn once(kv: &Kv, bucket: &Bucket, node: u64) -> Result<(), KvError> {
    let bytes = clients::content(u64::MAX);
    for probe in 0..PROBES {
        let key = Bytes::from(format!("probe-{node}-{probe}"));
        clients::put_bytes(kv, bucket, key.clone(), bytes.clone(), "probe").await?;
        let current = VersionSelector::Current;
        let read = match kv.head(bucket, &key, &current).await? {
            Some(version) => clients::read_all(kv, &version, false).await?,
            None => None,
        };
        if read.as_ref() != Some(&bytes) {
            return Err(KvError::Damaged(format!("{key:?} reads as {read:?}")));
        }
    }
    kv.bucket(&bucket.name).await.map(drop)
}
