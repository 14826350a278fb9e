//! PutObject: a body becomes the newest version of a key.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::checksum::Checksum;
use crate::object::encryption::{Asked, Guard};
use crate::object::metadata::UserMetadata;
use crate::object::name::ObjectKey;
use crate::object::record::{ContentHeaders, ObjectRecord};
use crate::object::tags::Tags;
use crate::ops::compression;
use crate::ops::encryption::{self, Guarded};
use crate::ops::lifecycle;
use crate::ops::object_lock::{needs_checksum, permit_lock};
use crate::ops::{OpContext, OpError, VersionName};
use crate::store::payload::Payload;
use crate::store::{Bucket, Coding, Conditions, Hashing, Lock, NewVersion, Taken};
use crate::tenancy::bucket::{self, BucketRef};

/// The call.
pub struct PutObject {
    /// Where.
    pub bucket: BucketRef,
    /// Under which key.
    pub key: String,
    /// Stored as they are.
    pub headers: ContentHeaders,
    /// Stored as they are.
    pub metadata: UserMetadata,
    /// Of the new version.
    pub tags: Tags,
    /// What keeps it.
    pub lock: Lock,
    /// How it is encrypted.
    pub encryption: Asked,
    /// Decided when the write is applied.
    pub conditions: Conditions,
    /// The bytes.
    pub payload: Payload,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PutReply {
    /// Without quotes.
    pub etag: String,
    /// Of the content.
    pub checksum: Checksum,
    /// Bytes.
    pub size: u64,
    /// Who holds its key, if it is encrypted.
    pub guard: Option<Guard>,
    /// Its name, where the bucket shows names.
    pub version: Option<VersionName>,
    /// `x-amz-expiration`.
    pub expiration: Option<String>,
}

/// Writes it.
pub async fn put_object(
    ctx: &OpContext,
    who: &Principal,
    request: PutObject,
) -> Result<PutReply, OpError> {
    let bucket = bucket::find(ctx, who, Action::PutObject, &request.bucket).await?;
    permit_tags(ctx, who, &request.tags, &request.bucket).await?;
    permit_lock(ctx, who, &request.lock, &request.bucket).await?;
    needs_checksum(&bucket, &request.lock, &request.payload.claims)?;
    let key = ObjectKey::new(request.key)?;
    let guarded = encryption::guard(ctx, &bucket, &key, &request.encryption)?;
    let (store, name) = (ctx.store(), key.to_bytes());

    let open = |declared| {
        store
            .kv()
            .open_stage(&bucket, name.clone(), declared, &request.conditions)
    };
    let coding = Coding {
        sealer: guarded.as_ref().map(Guarded::sealer),
        codec: compression::codec(&bucket)?,
    };
    let taken = store
        .take(request.payload, Hashing::default(), coding, open)
        .await;
    let Taken {
        content,
        digests,
        packed,
    } = taken.map_err(|error| OpError::intake(error, &bucket.name, key.as_str()))?;

    let (checksum, size) = (digests.checksum, digests.len);
    let guard = guarded.as_ref().map(Guarded::guard);
    let etag = encryption::etag(guard.as_ref(), &digests.md5);
    let stored = encryption::stored_len(guard.as_ref(), size, packed);
    let record = ObjectRecord {
        headers: request.headers,
        metadata: request.metadata,
        checksum: Some(checksum.clone()),
        owner: owner(who, &bucket),
        encryption: guarded.map(|guarded| guarded.of(size)),
        compression: packed.map(|packed| packed.compression),
    };
    let new = NewVersion {
        etag: etag.clone(),
        size: stored,
        meta: record.encode(),
        tags: request.tags.encode(),
        lock: request.lock,
    };
    let written = store
        .kv()
        .put(&bucket, name, new, content, request.conditions)
        .await;
    let written = written.map_err(|error| OpError::kv(error, &bucket.name, key.as_str()))?;
    Ok(PutReply {
        etag,
        checksum,
        size,
        guard,
        version: VersionName::written(&bucket, &written),
        expiration: lifecycle::expiration(
            ctx,
            &bucket,
            key.as_str().as_bytes(),
            &request.tags,
            size,
            written.modified_ms,
        ),
    })
}

/// Who brings tags with an object must be allowed to tag it.
pub(super) async fn permit_tags(
    ctx: &OpContext,
    who: &Principal,
    tags: &Tags,
    bucket: &BucketRef,
) -> Result<(), OpError> {
    if !tags.is_empty() {
        bucket::find(ctx, who, Action::PutObjectTagging, bucket).await?;
    }
    Ok(())
}

/// Who owns what is written; left out when it is the bucket's owner, as nearly always.
pub(super) fn owner(who: &Principal, bucket: &Bucket) -> Option<String> {
    (!who.is_owner(&bucket.owner)).then(|| who.owner_id())
}
