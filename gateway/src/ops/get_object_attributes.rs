//! GetObjectAttributes: what HeadObject says, and the parts of an object that was uploaded in parts.

use bytes::Bytes;

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::attributes::{ObjectPart, PartsPage};
use crate::object::checksum::Checksum;
use crate::object::encryption::keys::CustomerKey;
use crate::object::listing::MAX_PAGE;
use crate::object::name::ObjectKey;
use crate::object::record::PartRecord;
use crate::ops::encryption;
use crate::ops::error::while_replaced;
use crate::ops::head_object::find_version;
use crate::ops::version_name::record_of;
use crate::ops::{OpContext, OpError, VersionName};
use crate::store::{Bucket, Part, Version, VersionSelector};
use crate::tenancy::bucket::{self, BucketRef};

/// The call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GetObjectAttributes {
    /// Where.
    pub bucket: BucketRef,
    /// Which.
    pub key: String,
    /// `?versionId=`.
    pub version: Option<String>,
    /// The parts are asked for: after this one, at most so many.
    pub parts: Option<(u32, u32)>,
    /// The key of an object of SSE-C.
    pub customer_key: Option<CustomerKey>,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectAttributes {
    /// Without quotes.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// Ms since 1970.
    pub modified_ms: u64,
    /// Of the content.
    pub checksum: Option<Checksum>,
    /// Its name, where the bucket shows names.
    pub version: Option<VersionName>,
    /// When they were asked for, and it was uploaded in parts.
    pub parts: Option<PartsPage>,
}

/// Answers it.
pub async fn get_object_attributes(
    ctx: &OpContext,
    who: &Principal,
    request: GetObjectAttributes,
) -> Result<ObjectAttributes, OpError> {
    while_replaced(|| look(ctx, who, &request)).await
}

async fn look(
    ctx: &OpContext,
    who: &Principal,
    request: &GetObjectAttributes,
) -> Result<ObjectAttributes, OpError> {
    let which = VersionName::select(request.version.as_deref())?;
    let action = if which == VersionSelector::Current {
        Action::GetObjectAttributes
    } else {
        Action::GetObjectVersionAttributes
    };
    let bucket = bucket::find(ctx, who, action, &request.bucket).await?;
    let key = ObjectKey::new(request.key.as_str())?;
    let version = find_version(ctx, &bucket, &key, &which, request.version.as_deref()).await?;
    let record = record_of(&bucket, &version)?;
    encryption::check(ctx, &version, &record, request.customer_key.as_ref())?;
    let size = record.size(version.new.size);
    let checksum = record.checksum;
    let parts = match request.parts {
        Some((after, max)) if version.parts > 0 => {
            let parts = parts_of(ctx, &bucket, &version).await?;
            let algorithm = checksum.as_ref().map(|checksum| checksum.algorithm);
            let lines = parts.into_iter().map(|part| {
                let record = part_record(part.number, &part.meta)?;
                Ok(ObjectPart {
                    number: part.number,
                    size: record.size(part.size),
                    checksum: algorithm.and_then(|a| record.checksum(a).cloned()),
                })
            });
            let lines = lines.collect::<Result<_, OpError>>()?;
            Some(PartsPage::of(lines, after, max.min(MAX_PAGE)))
        }
        _ => None,
    };
    Ok(ObjectAttributes {
        etag: version.new.etag.clone(),
        size,
        modified_ms: version.modified_ms,
        checksum,
        version: VersionName::shown(&bucket, version.id, version.is_null),
        parts,
    })
}

/// The parts that a version was uploaded in.
pub(super) async fn parts_of(
    ctx: &OpContext,
    bucket: &Bucket,
    version: &Version,
) -> Result<Vec<Part>, OpError> {
    let parts = ctx.store().kv().version_parts(version).await;
    parts.map_err(|error| OpError::kv(error, &bucket.name, &String::from_utf8_lossy(&version.key)))
}

/// The record of a part. One that cannot be read is damage, and named so: of an encrypted part it holds the size.
pub(super) fn part_record(number: u32, meta: &Bytes) -> Result<PartRecord, OpError> {
    PartRecord::decode(meta).map_err(|error| OpError::Damaged {
        object: format!("part {number}"),
        what: error.to_string(),
    })
}
