//! Ten seconds after everything has healed, every node reads and writes in every group.

use std::time::Duration;

use bytes::Bytes;
use minikv_core::env::clock;
use minikv_core::kv::{Bucket, Kv, KvError};

use crate::cluster::clients;

/// How long it may take, in simulated time.
pub const BOUND: Duration = Duration::from_secs(10);

/// Keys that are written: enough to meet every group.
const PROBES: u64 = 8;

/// Writes and reads through one node, again and again until all of it went well. The error: what did not, at the end.
pub async fn check(kv: &Kv, bucket: &Bucket, node: u64) -> Result<(), String> {
    let tried = clock::timeout(BOUND, async {
        let mut last = String::new();
        loop {
            match once(kv, bucket, node).await {
                Ok(()) => return last,
                Err(error) => last = error.to_string(),
            }
            clock::sleep(Duration::from_millis(100)).await;
        }
    });
    match tried.await {
        Ok(_) => Ok(()),
        Err(_) => {
            let last = match clock::timeout(BOUND, once(kv, bucket, node)).await {
                Ok(Ok(())) => "it works now".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            Err(format!(
                "node {node} does not serve {BOUND:?} after healing: {last}"
            ))
        }
    }
}

async fn once(kv: &Kv, bucket: &Bucket, node: u64) -> Result<(), KvError> {
    for probe in 0..PROBES {
        let key = Bytes::from(format!("probe-{node}-{probe}"));
        clients::put_bytes(kv, bucket, key, clients::content(u64::MAX), "probe").await?;
    }
    kv.bucket(&bucket.name).await.map(drop)
}
