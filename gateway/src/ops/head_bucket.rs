//! HeadBucket, and every other call that only wants to know that a bucket is there: its location, and the settings that
//! nobody configured.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::ops::{OpContext, OpError};
use crate::store::Bucket;
use crate::tenancy::bucket::{self, BucketRef};

/// Its facts.
pub async fn head_bucket(
    ctx: &OpContext,
    who: &Principal,
    action: Action,
    asked: &BucketRef,
) -> Result<Bucket, OpError> {
    bucket::find(ctx, who, action, asked).await
}
