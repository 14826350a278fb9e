//! What a bucket is charged for is what lies in it.

use minikv_core::kv::{Bucket, Kv, KvError};

use crate::cluster::clients;

/// Compares the count with a walk through the bucket.
pub async fn check(kv: &Kv, bucket: &Bucket) -> Result<Vec<String>, KvError> {
    let listed = clients::list(kv, bucket).await?;
    let bytes: u64 = listed.iter().map(|(_, _, size)| size).sum();
    let usage = kv.usage(bucket).await?;
    let counted = (usage.objects, usage.bytes);
    let there = (listed.len() as u64, bytes);
    Ok(match counted == there {
        true => Vec::new(),
        false => vec![format!(
            "usage says {counted:?} objects and bytes, there are {there:?}"
        )],
    })
}
