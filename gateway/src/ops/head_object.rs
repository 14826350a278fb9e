//! HeadObject: what an object is, without its bytes. GetObject begins the same way.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::checksum::Checksum;
use crate::object::conditions::{ReadConditions, Verdict};
use crate::object::get_plan::{Ask, GetPlan};
use crate::object::name::ObjectKey;
use crate::object::record::ObjectRecord;
use crate::ops::encryption;
use crate::ops::error::while_replaced;
use crate::ops::get_object_attributes::{part_record, parts_of};
use crate::ops::lifecycle;
use crate::ops::version_name::{record_of, tags_of};
use crate::ops::{GetObject, Marker, OpContext, OpError, VersionName};
use crate::store::{Bucket, Lock, Version, VersionSelector};
use crate::tenancy::bucket;

/// What an answer says of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectHead {
    /// Without quotes.
    pub etag: String,
    /// Bytes of the whole.
    pub size: u64,
    /// Ms since 1970.
    pub modified_ms: u64,
    /// Headers, metadata, checksum.
    pub record: ObjectRecord,
    /// Its name, where the bucket shows names.
    pub version: Option<VersionName>,
    /// Number of parts, when one of them was asked for.
    pub parts: Option<u32>,
    /// Of the part that was asked for.
    pub part_checksum: Option<Checksum>,
    /// Number of its tags.
    pub tags: usize,
    /// What keeps it.
    pub lock: Lock,
    /// `x-amz-expiration`: the newest version has one where a rule says so.
    pub expiration: Option<String>,
    /// Which bytes are answered.
    pub plan: GetPlan,
}

/// Answers without bytes.
pub async fn head_object(
    ctx: &OpContext,
    who: &Principal,
    request: GetObject,
) -> Result<ObjectHead, OpError> {
    let (_, head) = while_replaced(|| find(ctx, who, &request)).await?;
    Ok(head)
}

/// Who owns a version: for calls that are not about its bytes, and need no key to them.
pub async fn object_owner(
    ctx: &OpContext,
    who: &Principal,
    request: GetObject,
) -> Result<String, OpError> {
    let (bucket, version) = locate(ctx, who, &request).await?;
    let record = record_of(&bucket, &version)?;
    Ok(record.owner.unwrap_or_else(|| bucket.owner.clone()))
}

/// Permits and finds.
async fn locate(
    ctx: &OpContext,
    who: &Principal,
    request: &GetObject,
) -> Result<(Bucket, Version), OpError> {
    let which = VersionName::select(request.version.as_deref())?;
    let action = if which == VersionSelector::Current {
        Action::GetObject
    } else {
        Action::GetObjectVersion
    };
    let bucket = bucket::find(ctx, who, action, &request.bucket).await?;
    let key = ObjectKey::new(request.key.as_str())?;
    let version = find_version(ctx, &bucket, &key, &which, request.version.as_deref()).await?;
    Ok((bucket, version))
}

/// Permits, finds, checks key and conditions, plans.
pub(super) async fn find(
    ctx: &OpContext,
    who: &Principal,
    request: &GetObject,
) -> Result<(Version, ObjectHead), OpError> {
    let (bucket, version) = locate(ctx, who, request).await?;
    let record = record_of(&bucket, &version)?;
    encryption::check(ctx, &version, &record, request.customer_key.as_ref())?;
    check(&request.conditions, &bucket, &version)?;

    let parts = match request.part {
        Some(_) if version.parts > 0 => parts_of(ctx, &bucket, &version).await?,
        _ => Vec::new(),
    };
    let mut sizes = Vec::with_capacity(parts.len());
    let mut asked_part = None;
    for part in &parts {
        let record = part_record(part.number, &part.meta)?;
        sizes.push((part.number, record.size(part.size)));
        if Some(part.number) == request.part {
            asked_part = Some(record);
        }
    }
    let size = record.size(version.new.size);
    let plan = GetPlan::new(
        Ask {
            range: request.range,
            part: request.part,
        },
        size,
        &sizes,
    )?;
    let algorithm = record.checksum.as_ref().map(|checksum| checksum.algorithm);
    let part_checksum = asked_part.and_then(|part| part.checksum(algorithm?).cloned());
    let tags = tags_of(&bucket, &version)?;
    let key = request.key.as_bytes();
    let expiration = match version.is_latest {
        true => lifecycle::expiration(ctx, &bucket, key, &tags, size, version.modified_ms),
        false => None,
    };
    let head = ObjectHead {
        etag: version.new.etag.clone(),
        size,
        modified_ms: version.modified_ms,
        record,
        version: VersionName::shown(&bucket, version.id, version.is_null),
        parts: request
            .part
            .and(Some(version.parts))
            .filter(|parts| *parts > 0),
        part_checksum,
        tags: tags.len(),
        lock: version.new.lock,
        expiration,
        plan,
    };
    Ok((version, head))
}

/// An object, not a delete marker: those are told apart from nothing by a header only.
pub(super) async fn find_version(
    ctx: &OpContext,
    bucket: &Bucket,
    key: &ObjectKey,
    which: &VersionSelector,
    asked: Option<&str>,
) -> Result<Version, OpError> {
    let found = ctx
        .store()
        .kv()
        .head(bucket, key.as_str().as_bytes(), which)
        .await;
    let found = found.map_err(|error| OpError::kv(error, &bucket.name, key.as_str()))?;
    let key = || key.as_str().to_owned();
    match found {
        None if *which == VersionSelector::Current => Err(OpError::NoSuchKey {
            key: key(),
            marker: None,
        }),
        None => Err(OpError::NoSuchVersion {
            key: key(),
            version: asked.unwrap_or_default().to_owned(),
        }),
        Some(version) if version.is_delete_marker => {
            let marker = Marker {
                version: VersionName::shown(bucket, version.id, version.is_null),
                modified_ms: version.modified_ms,
            };
            if *which == VersionSelector::Current {
                Err(OpError::NoSuchKey {
                    key: key(),
                    marker: Some(marker),
                })
            } else {
                Err(OpError::MarkerAsked { marker })
            }
        }
        Some(version) => Ok(version),
    }
}

/// Conditions of a read.
fn check(conditions: &ReadConditions, bucket: &Bucket, version: &Version) -> Result<(), OpError> {
    if conditions.is_empty() {
        return Ok(());
    }
    match conditions.check(&version.new.etag, version.modified_ms) {
        Verdict::Proceed => Ok(()),
        Verdict::NotModified => Err(OpError::NotModified {
            etag: version.new.etag.clone(),
            modified_ms: version.modified_ms,
            version: VersionName::shown(bucket, version.id, version.is_null),
        }),
        Verdict::PreconditionFailed => {
            let condition = if conditions.if_match.is_some() {
                "If-Match"
            } else {
                "If-Unmodified-Since"
            };
            Err(OpError::Precondition { condition })
        }
    }
}
