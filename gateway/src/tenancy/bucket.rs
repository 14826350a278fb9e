//! Finding the bucket of a call, and what its owner is called.
//!
//! Always true: who gets a bucket from here may do what he named to it. That there is no such bucket is said only after
//! the core looked it up in group 0, never from a cache.

use crate::auth::permit::{Action, permit};
use crate::auth::principal::{self, Principal};
use crate::ops::{OpContext, OpError};
use crate::store::Bucket;

/// What a call says of a bucket.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BucketRef {
    /// Its name.
    pub name: String,
    /// `x-amz-expected-bucket-owner`: refused when it is somebody else's.
    pub expected_owner: Option<String>,
}

impl BucketRef {
    /// By name alone.
    pub fn named(name: impl Into<String>) -> BucketRef {
        BucketRef {
            name: name.into(),
            expected_owner: None,
        }
    }
}

/// The bucket, if `who` may do `action` to it.
pub async fn find(
    ctx: &OpContext,
    who: &Principal,
    action: Action,
    asked: &BucketRef,
) -> Result<Bucket, OpError> {
    let found = ctx
        .store()
        .kv()
        .bucket(&asked.name)
        .await
        .map_err(|error| OpError::kv(error, &asked.name, ""))?;
    let bucket = found.ok_or_else(|| OpError::NoSuchBucket {
        bucket: asked.name.clone(),
    })?;
    permit(who, action, bucket.tenant, &bucket.owner)?;
    let owned = |expected: &String| {
        *expected == bucket.owner || *expected == principal::account_number(bucket.tenant)
    };
    if asked
        .expected_owner
        .as_ref()
        .is_some_and(|expected| !owned(expected))
    {
        return Err(OpError::Denied);
    }
    Ok(bucket)
}
