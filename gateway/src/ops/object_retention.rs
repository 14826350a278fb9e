//! Get and Put of an object's retention and of its legal hold: what keeps one version from going.
//!
//! A put is decided when it is applied, against the lock that the version has then, at that entry's time.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::lock::LockError;
use crate::object::name::ObjectKey;
use crate::ops::get_object_tagging::{TaggedObject, marker_is_in_the_way};
use crate::ops::head_object::find_version;
use crate::ops::object_lock::{needs_lock, permit_bypass};
use crate::ops::{OpContext, OpError, VersionName};
use crate::store::{KvError, Lock, LockChange, Refusal, Retention};
use crate::tenancy::bucket;

/// The retention of a version.
pub async fn get_object_retention(
    ctx: &OpContext,
    who: &Principal,
    request: TaggedObject,
) -> Result<Retention, OpError> {
    let lock = lock_of(ctx, who, Action::GetObjectRetention, request).await?;
    Ok(lock.retention.ok_or(LockError::NoneOfObject)?)
}

/// Whether a legal hold is on.
pub async fn get_object_legal_hold(
    ctx: &OpContext,
    who: &Principal,
    request: TaggedObject,
) -> Result<bool, OpError> {
    let lock = lock_of(ctx, who, Action::GetObjectLegalHold, request).await?;
    Ok(lock.hold.ok_or(LockError::NoneOfObject)?)
}

/// Gives a version another retention; none takes it away.
pub async fn put_object_retention(
    ctx: &OpContext,
    who: &Principal,
    request: TaggedObject,
    retention: Option<Retention>,
    bypass_governance: bool,
) -> Result<(), OpError> {
    if bypass_governance {
        permit_bypass(ctx, who, &request.bucket).await?;
    }
    let change = LockChange::Retention(retention);
    let action = Action::PutObjectRetention;
    set_lock(ctx, who, action, request, change, bypass_governance).await
}

/// Turns the legal hold of a version on or off.
pub async fn put_object_legal_hold(
    ctx: &OpContext,
    who: &Principal,
    request: TaggedObject,
    on: bool,
) -> Result<(), OpError> {
    let change = LockChange::Hold(on);
    set_lock(ctx, who, Action::PutObjectLegalHold, request, change, false).await
}

async fn lock_of(
    ctx: &OpContext,
    who: &Principal,
    action: Action,
    request: TaggedObject,
) -> Result<Lock, OpError> {
    let which = VersionName::select(request.version.as_deref())?;
    let bucket = bucket::find(ctx, who, action, &request.bucket).await?;
    needs_lock(&bucket)?;
    let key = ObjectKey::new(request.key)?;
    let found = find_version(ctx, &bucket, &key, &which, request.version.as_deref()).await;
    Ok(found.map_err(marker_is_in_the_way)?.new.lock)
}

async fn set_lock(
    ctx: &OpContext,
    who: &Principal,
    action: Action,
    request: TaggedObject,
    change: LockChange,
    bypass_governance: bool,
) -> Result<(), OpError> {
    let which = VersionName::select(request.version.as_deref())?;
    let bucket = bucket::find(ctx, who, action, &request.bucket).await?;
    let key = ObjectKey::new(request.key)?;
    let kv = ctx.store().kv();
    match kv
        .set_lock(
            &bucket,
            key.to_bytes(),
            which.clone(),
            change,
            bypass_governance,
        )
        .await
    {
        Ok(_) => Ok(()),
        // Nothing there, or a marker: its client is told which.
        Err(KvError::Refused(Refusal::NoSuchKey | Refusal::NoSuchVersion)) => {
            let asked = request.version.as_deref();
            match find_version(ctx, &bucket, &key, &which, asked).await {
                Err(error) => Err(marker_is_in_the_way(error)),
                Ok(_) => Err(OpError::Unavailable(
                    "the object was written meanwhile".to_owned(),
                )),
            }
        }
        Err(error) => Err(OpError::kv(error, &bucket.name, key.as_str())),
    }
}
