//! DeleteObject: the newest version goes (or is hidden by a marker, where there are versions), or a named one for good.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::name::ObjectKey;
use crate::ops::object_lock::permit_bypass;
use crate::ops::version_name::record_of;
use crate::ops::{DeleteTarget, OpContext, OpError, VersionName};
use crate::store::{Bucket, Conditions, Deleted, Version, VersionSelector};
use crate::tenancy::bucket::{self, BucketRef};

/// The call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeleteObject {
    /// Where.
    pub bucket: BucketRef,
    /// Which.
    pub key: String,
    /// `?versionId=`.
    pub version: Option<String>,
    /// Decided when the delete is applied.
    pub conditions: Conditions,
    /// A retention of mode GOVERNANCE does not keep it.
    pub bypass_governance: bool,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeleteReply {
    /// A marker was made, or was what went.
    pub marker: bool,
    /// Of the marker that was made, or of what went.
    pub version: Option<String>,
}

/// Deletes it. That nothing was there is no error.
pub async fn delete_object(
    ctx: &OpContext,
    who: &Principal,
    request: DeleteObject,
) -> Result<DeleteReply, OpError> {
    let bucket = bucket::find(
        ctx,
        who,
        action(request.version.as_deref()),
        &request.bucket,
    )
    .await?;
    let bypass = request.bypass_governance;
    if bypass {
        Box::pin(permit_bypass(ctx, who, &request.bucket)).await?;
    }
    let target = DeleteTarget {
        key: request.key,
        version: request.version,
        conditions: request.conditions,
    };
    delete_one(ctx, &bucket, target, bypass).await
}

/// The action that deleting a version, or the newest one, is.
pub(super) fn action(version: Option<&str>) -> Action {
    if version.is_some() {
        Action::DeleteObjectVersion
    } else {
        Action::DeleteObject
    }
}

/// Deletes one key of a bucket that was permitted.
pub(super) async fn delete_one(
    ctx: &OpContext,
    bucket: &Bucket,
    target: DeleteTarget,
    bypass_governance: bool,
) -> Result<DeleteReply, OpError> {
    let DeleteTarget {
        key,
        version,
        conditions,
    } = target;
    let which = VersionName::select(version.as_deref())?;
    let key = ObjectKey::new(key)?;
    let named = which != VersionSelector::Current;
    let delete = Delete {
        bucket,
        key: &key,
        which,
        bypass_governance,
    };
    let deleted = match conditions.if_match_size {
        None => delete_as_stored(ctx, &delete, conditions).await?,
        Some(size) => delete_of_size(ctx, &delete, conditions, size).await?,
    };
    Ok(reply(&deleted, version.filter(|_| named)))
}

/// What is deleted.
struct Delete<'a> {
    bucket: &'a Bucket,
    key: &'a ObjectKey,
    which: VersionSelector,
    bypass_governance: bool,
}

async fn delete_as_stored(
    ctx: &OpContext,
    delete: &Delete<'_>,
    conditions: Conditions,
) -> Result<Deleted, OpError> {
    let Delete { bucket, key, .. } = *delete;
    let kv = ctx.store().kv();
    let deleted = kv
        .delete_even(
            bucket,
            key.to_bytes(),
            delete.which.clone(),
            conditions,
            delete.bypass_governance,
        )
        .await;
    deleted.map_err(|error| OpError::kv(error, &bucket.name, key.as_str()))
}

/// The core compares stored sizes, and an encrypted object is stored larger than clients see it. So the size is compared
/// here, and the core holds the delete to the very object that was compared; when that one was replaced meanwhile, the new
/// one is looked at.
async fn delete_of_size(
    ctx: &OpContext,
    delete: &Delete<'_>,
    conditions: Conditions,
    size: u64,
) -> Result<Deleted, OpError> {
    let Delete { bucket, key, .. } = *delete;
    let kv = ctx.store().kv();
    let mut seen: Option<Version> = None;
    loop {
        let found = kv
            .head(bucket, key.as_str().as_bytes(), &delete.which)
            .await;
        let found = found.map_err(|error| OpError::kv(error, &bucket.name, key.as_str()))?;
        let mut narrowed = conditions.clone();
        if let Some(version) = found.as_ref().filter(|version| !version.is_delete_marker) {
            let plain = record_of(bucket, version)?.size(version.new.size);
            if plain != size || seen.as_ref().is_some_and(|seen| seen.id == version.id) {
                return Err(OpError::Precondition {
                    condition: "If-Match or If-None-Match",
                });
            }
            narrowed.if_match_size = Some(version.new.size);
            let etag = || vec![version.new.etag.clone()];
            let holds = |list: &Vec<String>| {
                list.iter()
                    .any(|etag| *etag == version.new.etag || etag == "*")
            };
            if conditions.if_match.as_ref().is_none_or(holds) {
                narrowed.if_match = Some(etag());
            }
        }
        let deleted = delete_as_stored(ctx, delete, narrowed).await;
        match (deleted, found) {
            (Err(OpError::Precondition { .. }), Some(version)) => seen = Some(version),
            (deleted, _) => return deleted,
        }
    }
}

fn reply(deleted: &Deleted, named: Option<String>) -> DeleteReply {
    match (named, deleted.marker) {
        (Some(version), _) => DeleteReply {
            marker: deleted.removed_marker,
            version: Some(version),
        },
        (None, Some(id)) => {
            let version = VersionName::of(id, deleted.marker_is_null).to_string();
            DeleteReply {
                marker: true,
                version: Some(version),
            }
        }
        (None, None) => DeleteReply::default(),
    }
}
