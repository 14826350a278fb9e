//! CreateMultipartUpload: says what the object to come will be; its parts follow.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::checksum::{Algorithm, Kind};
use crate::object::encryption::{Asked, Guard};
use crate::object::metadata::UserMetadata;
use crate::object::name::ObjectKey;
use crate::object::record::{ContentHeaders, ObjectRecord, UploadRecord};
use crate::object::tags::Tags;
use crate::ops::encryption::{self, Guarded};
use crate::ops::object_lock::permit_lock;
use crate::ops::put_object::{owner, permit_tags};
use crate::ops::{Abort, OpContext, OpError, lifecycle};
use crate::store::Lock;
use crate::tenancy::bucket::{self, BucketRef};

/// The call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CreateMultipartUpload {
    /// Where.
    pub bucket: BucketRef,
    /// Under which key.
    pub key: String,
    /// Of the object to come.
    pub headers: ContentHeaders,
    /// Of the object to come.
    pub metadata: UserMetadata,
    /// Of the object to come.
    pub tags: Tags,
    /// What keeps the object to come.
    pub lock: Lock,
    /// How the object to come is encrypted.
    pub encryption: Asked,
    /// `x-amz-checksum-algorithm`.
    pub algorithm: Option<Algorithm>,
    /// `x-amz-checksum-type`.
    pub kind: Option<Kind>,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateUploadReply {
    /// Names the upload from now on.
    pub upload: String,
    /// When the client named one.
    pub checksum: Option<(Algorithm, Kind)>,
    /// Who holds its key, if it is encrypted.
    pub guard: Option<Guard>,
    /// When a rule aborts it.
    pub abort: Option<Abort>,
}

/// Opens it.
pub async fn create_multipart_upload(
    ctx: &OpContext,
    who: &Principal,
    request: CreateMultipartUpload,
) -> Result<CreateUploadReply, OpError> {
    let bucket = bucket::find(ctx, who, Action::PutObject, &request.bucket).await?;
    permit_tags(ctx, who, &request.tags, &request.bucket).await?;
    permit_lock(ctx, who, &request.lock, &request.bucket).await?;
    let key = ObjectKey::new(request.key)?;
    if request.algorithm.is_none() && request.kind == Some(Kind::Composite) {
        return Err(OpError::Request(
            "The COMPOSITE checksum type needs an x-amz-checksum-algorithm.".to_owned(),
        ));
    }
    let algorithm = request.algorithm.unwrap_or(Algorithm::Crc64Nvme);
    let kind = request.kind.unwrap_or(algorithm.default_kind());
    if !algorithm.allows(kind) {
        return Err(OpError::Request(format!(
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            kind.name(),
            algorithm.name()
        )));
    }
    let guarded = encryption::guard(ctx, &bucket, &key, &request.encryption)?;
    let guard = guarded.as_ref().map(Guarded::guard);
    let record = UploadRecord {
        object: ObjectRecord {
            headers: request.headers,
            metadata: request.metadata,
            checksum: None,
            owner: owner(who, &bucket),
            encryption: guarded.map(|guarded| guarded.of(0)),
            // Each part is as the bucket is set when it comes.
            compression: None,
        },
        tags: request.tags,
        algorithm,
        kind,
        named: request.algorithm.is_some(),
    };
    let opened = ctx
        .store()
        .kv()
        .create_upload(&bucket, key.to_bytes(), record.encode(), request.lock)
        .await;
    let opened = opened.map_err(|error| OpError::kv(error, &bucket.name, key.as_str()))?;
    Ok(CreateUploadReply {
        upload: opened.id.to_string(),
        checksum: request.algorithm.map(|a| (a, kind)),
        guard,
        abort: lifecycle::abort(ctx, &bucket, key.as_str().as_bytes(), opened.created_ms),
    })
}
