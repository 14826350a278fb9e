//! DeleteObjects: up to 1000 keys, each for itself. It is not a transaction: some may go and others not.

use futures::StreamExt;

use crate::auth::principal::Principal;
use crate::ops::delete_object::{action, delete_one};
use crate::ops::object_lock::permit_bypass;
use crate::ops::{DeleteReply, OpContext, OpError};
use crate::store::Conditions;
use crate::tenancy::bucket::{self, BucketRef};

/// Most keys in one call.
pub const MAX_KEYS: usize = 1_000;
/// Deletes under way at once: enough to share fsyncs, few enough that a call cannot crowd out others.
const AT_ONCE: usize = 64;

/// The call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeleteObjects {
    /// Where.
    pub bucket: BucketRef,
    /// Which.
    pub targets: Vec<DeleteTarget>,
    /// Retentions of mode GOVERNANCE keep none of them.
    pub bypass_governance: bool,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeleteTarget {
    /// Its key.
    pub key: String,
    /// One version of it.
    pub version: Option<String>,
    /// Decided when the delete is applied.
    pub conditions: Conditions,
}

/// What became of one of them.
pub struct DeleteOutcome {
    /// Its key.
    pub key: String,
    /// As it was named in the call.
    pub version: Option<String>,
    /// Done, or why not.
    pub result: Result<DeleteReply, OpError>,
}

/// Deletes them; outcomes in the order of the call.
pub async fn delete_objects(
    ctx: &OpContext,
    who: &Principal,
    request: DeleteObjects,
) -> Result<Vec<DeleteOutcome>, OpError> {
    if request.targets.is_empty() || request.targets.len() > MAX_KEYS {
        return Err(OpError::Request(format!(
            "A delete names 1 to {MAX_KEYS} keys, this one {}",
            request.targets.len()
        )));
    }
    // Any version named makes the call one that deletes versions, so both actions are asked for.
    let named = request
        .targets
        .iter()
        .find_map(|target| target.version.as_deref());
    let bucket = bucket::find(ctx, who, action(named), &request.bucket).await?;
    bucket::find(ctx, who, action(None), &request.bucket).await?;
    let bypass = request.bypass_governance;
    if bypass {
        Box::pin(permit_bypass(ctx, who, &request.bucket)).await?;
    }

    let deletes = request.targets.into_iter().map(|target| {
        let bucket = &bucket;
        async move {
            DeleteOutcome {
                key: target.key.clone(),
                version: target.version.clone(),
                result: delete_one(ctx, bucket, target, bypass).await,
            }
        }
    });
    Ok(futures::stream::iter(deletes)
        .buffered(AT_ONCE)
        .collect()
        .await)
}
