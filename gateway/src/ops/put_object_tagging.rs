//! PutObjectTagging and DeleteObjectTagging: a version gets other tags, or none, and stays the version it is.
//!
//! Decided when it is applied: it is the version that is newest then, or the one that is named. Nothing is read before.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::name::ObjectKey;
use crate::object::tags::Tags;
use crate::ops::get_object_tagging::{TaggedObject, marker_is_in_the_way};
use crate::ops::head_object::find_version;
use crate::ops::{OpContext, OpError, VersionName};
use crate::store::{KvError, Refusal, VersionSelector};
use crate::tenancy::bucket;

/// Replaces the tags; answers the version's name, where the bucket shows names.
pub async fn put_object_tagging(
    ctx: &OpContext,
    who: &Principal,
    request: TaggedObject,
    tags: &Tags,
) -> Result<Option<VersionName>, OpError> {
    let which = VersionName::select(request.version.as_deref())?;
    let action = match (&which, tags.is_empty()) {
        (VersionSelector::Current, false) => Action::PutObjectTagging,
        (VersionSelector::Current, true) => Action::DeleteObjectTagging,
        (_, false) => Action::PutObjectVersionTagging,
        (_, true) => Action::DeleteObjectVersionTagging,
    };
    let bucket = bucket::find(ctx, who, action, &request.bucket).await?;
    let key = ObjectKey::new(request.key)?;
    let kv = ctx.store().kv();
    match kv
        .set_tags(&bucket, key.to_bytes(), which.clone(), tags.encode())
        .await
    {
        Ok(written) => Ok(VersionName::written(&bucket, &written)),
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
