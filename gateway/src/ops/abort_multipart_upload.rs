//! AbortMultipartUpload: the upload ends, its parts go.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::name::ObjectKey;
use crate::ops::{OpContext, OpError};
use crate::store::UploadId;
use crate::tenancy::bucket::{self, BucketRef};

/// The call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AbortMultipartUpload {
    /// Where.
    pub bucket: BucketRef,
    /// Of the upload.
    pub key: String,
    /// Its id.
    pub upload: String,
}

/// Ends it.
pub async fn abort_multipart_upload(
    ctx: &OpContext,
    who: &Principal,
    request: AbortMultipartUpload,
) -> Result<(), OpError> {
    let bucket = bucket::find(ctx, who, Action::AbortMultipartUpload, &request.bucket).await?;
    let key = ObjectKey::new(request.key)?;
    let id = UploadId::parse(&request.upload).ok_or(OpError::NoSuchUpload {
        upload: request.upload.clone(),
    })?;
    let ended = ctx
        .store()
        .kv()
        .abort_upload(&bucket, key.to_bytes(), id)
        .await;
    ended.map_err(|error| OpError::kv(error, &bucket.name, key.as_str()).of_upload(&request.upload))
}
