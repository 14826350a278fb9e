//! PutObjectLockConfiguration and GetObjectLockConfiguration, and what a write must bring that is to be kept.
//!
//! Object lock is turned on for ever, on a bucket whose versioning is enabled; its default retention comes and goes and
//! counts for versions written from then on.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::checksum::Claims;
use crate::object::lock::LockError;
use crate::ops::bucket_settings::change;
use crate::ops::{OpContext, OpError};
use crate::store::{Bucket, BucketLock, DefaultRetention, Lock};
use crate::tenancy::bucket::{self, BucketRef};

/// What a bucket with object lock has.
pub async fn get_object_lock_configuration(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
) -> Result<BucketLock, OpError> {
    let action = Action::GetBucketObjectLockConfiguration;
    let bucket = bucket::find(ctx, who, action, asked).await?;
    Ok(bucket.lock.ok_or(LockError::NotConfigured)?)
}

/// Turns object lock on, if it is not yet, and replaces the default.
pub async fn put_object_lock_configuration(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
    default: Option<DefaultRetention>,
) -> Result<(), OpError> {
    let action = Action::PutBucketObjectLockConfiguration;
    let bucket = bucket::find(ctx, who, action, asked).await?;
    let lock = Some(BucketLock { default });
    let changed = change(ctx, &bucket, |facts| facts.lock = lock).await;
    changed.map_err(|error| match error {
        OpError::Lock(LockError::VersionsLocked) => LockError::VersionsNeeded.into(),
        other => other,
    })
}

/// Who brings a lock with an object must be allowed to lock it, and the bucket must have object lock.
pub(super) async fn permit_lock(
    ctx: &OpContext,
    who: &Principal,
    lock: &Lock,
    asked: &BucketRef,
) -> Result<(), OpError> {
    if *lock == Lock::default() {
        return Ok(());
    }
    // On the heap, so that writes that ask for nothing do not carry the room for it.
    Box::pin(permit_asked(ctx, who, lock, asked)).await
}

async fn permit_asked(
    ctx: &OpContext,
    who: &Principal,
    lock: &Lock,
    asked: &BucketRef,
) -> Result<(), OpError> {
    if lock.retention.is_some() {
        needs_lock(&bucket::find(ctx, who, Action::PutObjectRetention, asked).await?)?;
    }
    if lock.hold.is_some() {
        needs_lock(&bucket::find(ctx, who, Action::PutObjectLegalHold, asked).await?)?;
    }
    Ok(())
}

pub(super) fn needs_lock(bucket: &Bucket) -> Result<(), LockError> {
    bucket.lock.map(drop).ok_or(LockError::NoLock)
}

/// An object that will be kept is checked against what its client says of it. S3 wants that, and SDKs do it by themselves.
pub(super) fn needs_checksum(
    bucket: &Bucket,
    lock: &Lock,
    claims: &Claims,
) -> Result<(), LockError> {
    let by_default = bucket.lock.is_some_and(|lock| lock.default.is_some());
    let kept = by_default || *lock != Lock::default();
    if kept && claims.md5.is_none() && claims.algorithm().is_none() {
        return Err(LockError::NoChecksum);
    }
    Ok(())
}

/// Whoever bypasses governance must be allowed to, and there must be something to bypass.
pub(super) async fn permit_bypass(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
) -> Result<(), OpError> {
    let bucket = bucket::find(ctx, who, Action::BypassGovernanceRetention, asked).await?;
    Ok(needs_lock(&bucket).map_err(|_| LockError::NothingToBypass)?)
}
