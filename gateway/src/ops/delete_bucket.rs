//! DeleteBucket: only an empty one goes, and a PUT that races with it either makes it fail or fails itself.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::ops::{OpContext, OpError};
use crate::tenancy::bucket::{self, BucketRef};

/// Deletes it.
pub async fn delete_bucket(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
) -> Result<(), OpError> {
    let bucket = bucket::find(ctx, who, Action::DeleteBucket, asked).await?;
    ctx.store()
        .kv()
        .delete_bucket(&bucket.name)
        .await
        .map_err(|error| OpError::kv(error, &bucket.name, ""))
}
