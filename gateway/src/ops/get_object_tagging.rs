//! GetObjectTagging: the tags of a version.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::name::ObjectKey;
use crate::object::tags::Tags;
use crate::ops::head_object::find_version;
use crate::ops::version_name::tags_of;
use crate::ops::{OpContext, OpError, VersionName};
use crate::store::VersionSelector;
use crate::tenancy::bucket::{self, BucketRef};

/// Which version the tags of are asked for, or changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TaggedObject {
    /// Where.
    pub bucket: BucketRef,
    /// Which.
    pub key: String,
    /// `?versionId=`.
    pub version: Option<String>,
}

/// Reads them; beside them the version's name, where the bucket shows names.
pub async fn get_object_tagging(
    ctx: &OpContext,
    who: &Principal,
    request: TaggedObject,
) -> Result<(Tags, Option<VersionName>), OpError> {
    let which = VersionName::select(request.version.as_deref())?;
    let action = if which == VersionSelector::Current {
        Action::GetObjectTagging
    } else {
        Action::GetObjectVersionTagging
    };
    let bucket = bucket::find(ctx, who, action, &request.bucket).await?;
    let key = ObjectKey::new(request.key)?;
    let found = find_version(ctx, &bucket, &key, &which, request.version.as_deref()).await;
    let version = found.map_err(marker_is_in_the_way)?;
    let name = VersionName::shown(&bucket, version.id, version.is_null);
    Ok((tags_of(&bucket, &version)?, name))
}

/// A marker that is newest hides an object from a GET (404); tags are asked of the marker itself, and it has none (405).
pub(super) fn marker_is_in_the_way(error: OpError) -> OpError {
    match error {
        OpError::NoSuchKey {
            marker: Some(marker),
            ..
        } => OpError::MarkerAsked { marker },
        other => other,
    }
}
