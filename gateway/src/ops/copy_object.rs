//! CopyObject: a version of one key becomes the newest version of another, or of itself.
//!
//! Where source and target share a vshard (onto itself always) the core shares the chunks and no byte moves; otherwise
//! the bytes are read, verified, and written again. Of encrypted bytes only those may be shared whose key stays with the
//! same holder; its newest master key wraps their data key then, so a copy onto itself follows a rotation.

use bytes::Bytes;

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::checksum::Algorithm;
use crate::object::conditions::{ReadConditions, Verdict};
use crate::object::copy_plan::{self, Directive};
use crate::object::encryption::keys::CustomerKey;
use crate::object::encryption::{Asked, Guard};
use crate::object::name::ObjectKey;
use crate::object::record::ObjectRecord;
use crate::object::tags::Tags;
use crate::ops::encryption::{self, Guarded};
use crate::ops::error::while_replaced;
use crate::ops::head_object::find_version;
use crate::ops::object_lock::permit_lock;
use crate::ops::put_object::{owner, permit_tags};
use crate::ops::version_name::record_of;
use crate::ops::{OpContext, OpError, VersionName, compression, lifecycle};
use crate::store::{
    Bucket, Coding, Conditions, Content, Hashing, KvError, Lock, NewVersion, Refusal, Taken,
    Version, VersionSelector, Written,
};
use crate::tenancy::bucket::{self, BucketRef};

/// What is copied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CopySource {
    /// From where.
    pub bucket: BucketRef,
    /// Which key.
    pub key: String,
    /// One version of it.
    pub version: Option<String>,
    /// `x-amz-copy-source-if-…`.
    pub conditions: ReadConditions,
    /// The key of a source of SSE-C.
    pub customer_key: Option<CustomerKey>,
}

/// The call.
pub struct CopyObject {
    /// What.
    pub source: CopySource,
    /// To where.
    pub bucket: BucketRef,
    /// Under which key.
    pub key: String,
    /// Whose headers and metadata the copy has.
    pub directive: Directive,
    /// Headers and metadata, when they are replaced.
    pub record: ObjectRecord,
    /// The tags of the copy, when they are replaced; otherwise it has those of its source.
    pub tags: Option<Tags>,
    /// What keeps the copy; what keeps its source does not count.
    pub lock: Lock,
    /// How the copy is encrypted; what its source was does not count.
    pub encryption: Asked,
    /// `x-amz-checksum-algorithm`: compute this one anew.
    pub algorithm: Option<Algorithm>,
    /// On the target, decided when the write is applied.
    pub conditions: Conditions,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyReply {
    /// Without quotes.
    pub etag: String,
    /// Ms since 1970.
    pub modified_ms: u64,
    /// With its checksum.
    pub record: ObjectRecord,
    /// Who holds its key, if it is encrypted.
    pub guard: Option<Guard>,
    /// Of the copy, where its bucket shows names.
    pub version: Option<VersionName>,
    /// Of the source, where its bucket shows names.
    pub source_version: Option<VersionName>,
    /// `x-amz-expiration` of the copy.
    pub expiration: Option<String>,
}

/// Copies it.
pub async fn copy_object(
    ctx: &OpContext,
    who: &Principal,
    request: CopyObject,
) -> Result<CopyReply, OpError> {
    let bucket = bucket::find(ctx, who, Action::PutObject, &request.bucket).await?;
    if let Some(tags) = &request.tags {
        permit_tags(ctx, who, tags, &request.bucket).await?;
    }
    permit_lock(ctx, who, &request.lock, &request.bucket).await?;
    let key = ObjectKey::new(request.key.as_str())?;
    while_replaced(|| attempt(ctx, who, &request, &bucket, &key)).await
}

async fn attempt(
    ctx: &OpContext,
    who: &Principal,
    request: &CopyObject,
    bucket: &Bucket,
    key: &ObjectKey,
) -> Result<CopyReply, OpError> {
    let (source_bucket, source, of_source) = find_source(ctx, who, &request.source).await?;
    let guarded = encryption::guard(ctx, bucket, key, &request.encryption)?;
    let same_object = source_bucket.id == bucket.id
        && source.key == key.as_str().as_bytes()
        && request.source.version.is_none();
    let asked = ObjectRecord {
        owner: owner(who, bucket),
        ..request.record.clone()
    };
    let mut record = copy_plan::record_of_copy(
        of_source.clone(),
        of_source.size(source.new.size),
        request.directive,
        asked,
        same_object,
        request.encryption.is_said(),
    )?;
    let target = Target {
        bucket,
        key,
        tags: match &request.tags {
            Some(tags) => tags.encode(),
            None => source.new.tags.clone(),
        },
        lock: request.lock,
        conditions: request.conditions.clone(),
    };
    let another = request
        .algorithm
        .filter(|a| record.checksum.as_ref().is_none_or(|c| c.algorithm != *a));
    let may_share = match (&of_source.encryption, &guarded) {
        (None, None) => true,
        (Some(sealed), Some(guarded)) => {
            let (old_key, new_key) = (&request.source.customer_key, request.encryption.customer());
            let from = (&source, &**sealed);
            record.encryption =
                encryption::rewrap(ctx, from, old_key.as_ref(), (bucket, key), guarded, new_key)?;
            record.encryption.is_some()
        }
        _ => false,
    };
    let shared = match another {
        None if may_share => share(ctx, &source, &target, &record).await?,
        _ => None,
    };
    let (etag, written) = match shared {
        Some(written) => (source.new.etag.clone(), written),
        None => {
            let (customer_key, algorithm) = (&request.source.customer_key, request.algorithm);
            let content = encryption::fetch(
                ctx,
                &source_bucket.name,
                &source,
                &of_source,
                customer_key.as_ref(),
                0..of_source.size(source.new.size),
            )
            .await?;
            rewrite(ctx, content, target, &mut record, guarded, algorithm).await?
        }
    };
    let tags = match &request.tags {
        Some(tags) => tags.clone(),
        // The copy is made by now: tags that cannot be read only leave the header out.
        None => Tags::decode(&source.new.tags).unwrap_or_default(),
    };
    let expiration = lifecycle::expiration(
        ctx,
        bucket,
        key.as_str().as_bytes(),
        &tags,
        of_source.size(source.new.size),
        written.modified_ms,
    );
    Ok(CopyReply {
        etag,
        expiration,
        modified_ms: written.modified_ms,
        guard: record.guard().cloned(),
        record,
        version: VersionName::written(bucket, &written),
        source_version: VersionName::shown(&source_bucket, source.id, source.is_null),
    })
}

/// The source and its record, permitted, with the right key if it needs one, and with its conditions kept: one that does
/// not hold is 412 in a copy, always.
pub(super) async fn find_source(
    ctx: &OpContext,
    who: &Principal,
    source: &CopySource,
) -> Result<(Bucket, Version, ObjectRecord), OpError> {
    let which = VersionName::select(source.version.as_deref())?;
    let action = if which == VersionSelector::Current {
        Action::GetObject
    } else {
        Action::GetObjectVersion
    };
    let bucket = bucket::find(ctx, who, action, &source.bucket).await?;
    let key = ObjectKey::new(source.key.as_str())?;
    let version = find_version(ctx, &bucket, &key, &which, source.version.as_deref()).await;
    let version = version.map_err(|error| match error {
        OpError::MarkerAsked { .. } => {
            OpError::Request("The source of a copy request may not specifically refer to a delete marker by version id.".to_owned())
        }
        other => other,
    })?;
    let record = record_of(&bucket, &version)?;
    encryption::check(ctx, &version, &record, source.customer_key.as_ref())?;
    match source
        .conditions
        .check(&version.new.etag, version.modified_ms)
    {
        Verdict::Proceed => Ok((bucket, version, record)),
        _ => Err(OpError::Precondition {
            condition: "x-amz-copy-source-If-*",
        }),
    }
}

/// Where the copy goes.
struct Target<'a> {
    bucket: &'a Bucket,
    key: &'a ObjectKey,
    tags: Bytes,
    lock: Lock,
    conditions: Conditions,
}

/// Without moving bytes, when the core can.
async fn share(
    ctx: &OpContext,
    source: &Version,
    target: &Target<'_>,
    record: &ObjectRecord,
) -> Result<Option<Written>, OpError> {
    let Target { bucket, key, .. } = *target;
    let conditions = target.conditions.clone();
    let new = NewVersion {
        etag: source.new.etag.clone(),
        size: source.new.size,
        meta: record.encode(),
        tags: target.tags.clone(),
        lock: target.lock,
    };
    match ctx
        .store()
        .kv()
        .copy_within(source, bucket, key.to_bytes(), new, conditions)
        .await
    {
        Ok(written) => Ok(written),
        // The source went away or was replaced between finding and copying it.
        Err(KvError::Refused(Refusal::NoSuchVersion)) => Err(OpError::Replaced),
        Err(error) => Err(OpError::kv(error, &bucket.name, key.as_str())),
    }
}

/// By writing the bytes that were read; they are hashed anew, so that the copy's ETag is that of its bytes.
async fn rewrite(
    ctx: &OpContext,
    content: Content,
    target: Target<'_>,
    record: &mut ObjectRecord,
    guarded: Option<Guarded>,
    algorithm: Option<Algorithm>,
) -> Result<(String, Written), OpError> {
    let Target {
        bucket,
        key,
        tags,
        lock,
        conditions,
    } = target;
    let store = ctx.store();
    let kept = record.checksum.as_ref().map(|checksum| checksum.algorithm);
    let hashing = Hashing {
        fallback: algorithm.or(kept).unwrap_or(Algorithm::Crc64Nvme),
        also: None,
    };
    let open = |declared| {
        store
            .kv()
            .open_stage(bucket, key.to_bytes(), declared, &conditions)
    };
    let coding = Coding {
        sealer: guarded.as_ref().map(Guarded::sealer),
        codec: compression::codec(bucket)?,
    };
    let taken = store
        .take(content.into_payload(), hashing, coding, open)
        .await;
    let Taken {
        content,
        digests,
        packed,
    } = taken.map_err(|error| OpError::intake(error, &bucket.name, key.as_str()))?;
    record.checksum = Some(digests.checksum);
    let guard = guarded.as_ref().map(Guarded::guard);
    let etag = encryption::etag(guard.as_ref(), &digests.md5);
    record.encryption = guarded.map(|guarded| guarded.of(digests.len));
    record.compression = packed.map(|packed| packed.compression);
    let new = NewVersion {
        etag: etag.clone(),
        size: encryption::stored_len(guard.as_ref(), digests.len, packed),
        meta: record.encode(),
        tags,
        lock,
    };
    let written = store
        .kv()
        .put(bucket, key.to_bytes(), new, content, conditions)
        .await;
    Ok((
        etag,
        written.map_err(|error| OpError::kv(error, &bucket.name, key.as_str()))?,
    ))
}
