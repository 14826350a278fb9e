//! DeleteObject: the newest version goes (or is hidden by a marker, where there are versions), or a named one for good.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::name::ObjectKey;
use crate::ops::{OpContext, OpError, VersionName};
use crate::store::{Bucket, Conditions, Deleted, VersionSelector};
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
    delete_one(
        ctx,
        &bucket,
        request.key,
        request.version,
        request.conditions,
    )
    .await
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
    key: String,
    version: Option<String>,
    conditions: Conditions,
) -> Result<DeleteReply, OpError> {
    let which = VersionName::select(version.as_deref())?;
    let key = ObjectKey::new(key)?;
    let named = which != VersionSelector::Current;
    let deleted = ctx
        .store()
        .kv()
        .delete(bucket, key.to_bytes(), which, conditions)
        .await;
    let deleted = deleted.map_err(|error| OpError::kv(error, &bucket.name, key.as_str()))?;
    Ok(reply(&deleted, version.filter(|_| named)))
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
