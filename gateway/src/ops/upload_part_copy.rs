//! UploadPartCopy: bytes of an object become a part.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::copy_plan;
use crate::object::encryption::keys::CustomerKey;
use crate::ops::copy_object::find_source;
use crate::ops::encryption;
use crate::ops::error::while_replaced;
use crate::ops::upload_part::{PartName, Target};
use crate::ops::{CopySource, OpContext, OpError, PartReply, VersionName};
use crate::tenancy::bucket::{self, BucketRef};

/// The call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UploadPartCopy {
    /// What.
    pub source: CopySource,
    /// `x-amz-copy-source-range`.
    pub range: Option<String>,
    /// Where.
    pub bucket: BucketRef,
    /// Of the upload.
    pub key: String,
    /// Of the upload.
    pub upload: String,
    /// 1 to 10000.
    pub number: i32,
    /// The key of an upload of SSE-C.
    pub customer_key: Option<CustomerKey>,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartCopyReply {
    /// As for UploadPart.
    pub part: PartReply,
    /// Of the source, where its bucket shows names.
    pub source_version: Option<VersionName>,
}

/// Copies it.
pub async fn upload_part_copy(
    ctx: &OpContext,
    who: &Principal,
    request: UploadPartCopy,
) -> Result<PartCopyReply, OpError> {
    let bucket = bucket::find(ctx, who, Action::PutObject, &request.bucket).await?;
    let name = PartName {
        bucket: &bucket,
        key: &request.key,
        upload: &request.upload,
        number: request.number,
    };
    let target = Target::find(ctx, name, request.customer_key.as_ref()).await?;
    let read = || async {
        let (bucket, source, record) = find_source(ctx, who, &request.source).await?;
        let size = record.size(source.new.size);
        let range = copy_plan::source_range(request.range.as_deref(), size)?;
        let key = request.source.customer_key.as_ref();
        let content = encryption::fetch(ctx, &bucket.name, &source, &record, key, range).await?;
        Ok((bucket, source, content))
    };
    let (source_bucket, source, content) = while_replaced(read).await?;
    let part = target.write(ctx, content.into_payload()).await?;
    Ok(PartCopyReply {
        part,
        source_version: VersionName::shown(&source_bucket, source.id, source.is_null),
    })
}
