//! CompleteMultipartUpload: the listed parts become the object.
//!
//! The parts are read at one value of the upload's counter, the list is checked against them, and Complete carries the
//! value: if a part came meanwhile, it is all done again. A client that did not hear the answer may send the same list
//! again and hears it then.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::checksum::Checksum;
use crate::object::complete_plan::{self, CompletePlan, ListedPart, StoredPart, WholeClaims};
use crate::object::compression::Compression;
use crate::object::encryption::Guard;
use crate::object::encryption::keys::CustomerKey;
use crate::object::etag;
use crate::object::name::ObjectKey;
use crate::object::record::{ObjectRecord, UploadRecord};
use crate::ops::get_object_attributes::part_record;
use crate::ops::upload_part::find_upload;
use crate::ops::{OpContext, OpError, VersionName, encryption, lifecycle};
use crate::store::{
    Bucket, Completed, Conditions, KvError, Lock, NewVersion, Part, UploadId, VersionSelector,
    Written,
};
use crate::tenancy::bucket::{self, BucketRef};

/// The call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CompleteMultipartUpload {
    /// Where.
    pub bucket: BucketRef,
    /// Of the upload.
    pub key: String,
    /// Of the upload.
    pub upload: String,
    /// The parts, in order.
    pub parts: Vec<ListedPart>,
    /// What must be true of the whole.
    pub claims: WholeClaims,
    /// The key of an upload of SSE-C: need not be sent, and must be right when it is.
    pub customer_key: Option<CustomerKey>,
    /// Decided when it is applied.
    pub conditions: Conditions,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompleteReply {
    /// With `-N`, without quotes.
    pub etag: String,
    /// Of the whole.
    pub checksum: Option<Checksum>,
    /// Who holds its key, if it is encrypted.
    pub guard: Option<Guard>,
    /// Its name, where the bucket shows names.
    pub version: Option<VersionName>,
    /// `x-amz-expiration`.
    pub expiration: Option<String>,
}

/// Completes it.
pub async fn complete_multipart_upload(
    ctx: &OpContext,
    who: &Principal,
    request: CompleteMultipartUpload,
) -> Result<CompleteReply, OpError> {
    let bucket = bucket::find(ctx, who, Action::PutObject, &request.bucket).await?;
    let key = ObjectKey::new(request.key.as_str())?;
    complete_plan::check_order(&request.parts)?;
    let (upload, record, _) = match find_upload(ctx, &bucket, &key, &request.upload).await {
        Err(OpError::NoSuchUpload { .. }) => {
            return completed_before(ctx, &bucket, &key, &request).await;
        }
        found => found?,
    };
    if let Some(customer_key) = &request.customer_key {
        encryption::of_upload(ctx, &bucket, &key, &record.object, Some(customer_key))?;
    }
    for _ in 0..16 {
        match attempt(ctx, &bucket, &key, upload, &record, &request).await? {
            Some(reply) => return Ok(reply),
            None => continue,
        }
    }
    Err(OpError::Unavailable(
        "parts of this upload keep arriving while it is completed".to_owned(),
    ))
}

/// Once: `None` when parts came meanwhile.
async fn attempt(
    ctx: &OpContext,
    bucket: &Bucket,
    key: &ObjectKey,
    upload: UploadId,
    record: &UploadRecord,
    request: &CompleteMultipartUpload,
) -> Result<Option<CompleteReply>, OpError> {
    let failed = |error| OpError::kv(error, &bucket.name, key.as_str()).of_upload(&request.upload);
    let parts = ctx
        .store()
        .all_parts(bucket, key.as_str().as_bytes(), upload)
        .await
        .map_err(failed)?;
    let stored: Vec<StoredPart> = parts
        .parts
        .into_iter()
        .map(stored_part)
        .collect::<Result<_, _>>()?;
    let plan = complete_plan::complete(
        &request.parts,
        &stored,
        (record.algorithm, record.kind),
        &request.claims,
    )?;

    let CompletePlan {
        etag,
        size,
        stored,
        checksum,
        numbers,
        packed,
    } = plan;
    let packed = packed.then_some(Compression {
        codec: None,
        plain: size,
    });
    let mut object = ObjectRecord {
        checksum: checksum.clone(),
        ..record.object.clone()
    };
    if let Some(encryption) = &mut object.encryption {
        encryption.plain = size;
    }
    object.compression = packed;
    let guard = object.guard().cloned();
    let new = NewVersion {
        etag: etag.clone(),
        size: stored,
        meta: object.encode(),
        tags: record.tags.encode(),
        // The core kept it with the upload.
        lock: Lock::default(),
    };
    let conditions = request.conditions.clone();
    let kv = ctx.store().kv();
    let done = kv
        .complete_upload(
            bucket,
            key.to_bytes(),
            upload,
            parts.counter,
            &numbers,
            new,
            conditions,
        )
        .await;
    Ok(match done.map_err(failed)? {
        Completed::Done { written, etag, .. } => Some(CompleteReply {
            etag,
            checksum,
            guard,
            version: VersionName::written(bucket, &written),
            expiration: lifecycle::expiration(
                ctx,
                bucket,
                key.as_str().as_bytes(),
                &record.tags,
                size,
                written.modified_ms,
            ),
        }),
        Completed::PartsChanged => None,
    })
}

fn stored_part(part: Part) -> Result<StoredPart, OpError> {
    let Part {
        number,
        etag,
        size,
        meta,
        ..
    } = part;
    Ok(StoredPart {
        number,
        etag,
        stored: size,
        record: part_record(number, &meta)?,
    })
}

/// The upload is not open: if this very list completed it before, the answer is what it was then.
async fn completed_before(
    ctx: &OpContext,
    bucket: &Bucket,
    key: &ObjectKey,
    request: &CompleteMultipartUpload,
) -> Result<CompleteReply, OpError> {
    let none = || OpError::NoSuchUpload {
        upload: request.upload.clone(),
    };
    let upload = UploadId::parse(&request.upload).ok_or_else(none)?;
    let etags = request.parts.iter().map(|part| etag::unquoted(&part.etag));
    let etag = etag::multipart_etag(etags).ok_or_else(none)?;
    let numbers: Vec<u32> = request.parts.iter().map(|part| part.number).collect();
    let new = NewVersion {
        etag: etag.clone(),
        ..NewVersion::default()
    };
    let kv = ctx.store().kv();
    let done = kv
        .complete_upload(
            bucket,
            key.to_bytes(),
            upload,
            0,
            &numbers,
            new,
            Conditions::default(),
        )
        .await;
    let written = match done {
        Ok(Completed::Done {
            written,
            etag: then,
            ..
        }) if then == etag => written,
        // Another list, or none: this upload is over.
        Ok(Completed::Done { .. } | Completed::PartsChanged) => return Err(none()),
        Err(error @ KvError::Refused(_)) => {
            return Err(OpError::kv(error, &bucket.name, key.as_str()).of_upload(&request.upload));
        }
        Err(error) => return Err(OpError::kv(error, &bucket.name, key.as_str())),
    };
    let record = record_then(ctx, bucket, key, &written, &etag).await;
    Ok(CompleteReply {
        etag,
        guard: record.as_ref().and_then(ObjectRecord::guard).cloned(),
        checksum: record.and_then(|record| record.checksum),
        version: VersionName::written(bucket, &written),
        expiration: None,
    })
}

/// The record of a version made before, if it is still there.
async fn record_then(
    ctx: &OpContext,
    bucket: &Bucket,
    key: &ObjectKey,
    written: &Written,
    etag: &str,
) -> Option<ObjectRecord> {
    let which = VersionSelector::Id(written.id);
    let version = ctx
        .store()
        .kv()
        .head(bucket, key.as_str().as_bytes(), &which)
        .await
        .ok()??;
    let record = ObjectRecord::decode(&version.new.meta).ok()?;
    Some(record).filter(|_| version.new.etag == etag)
}
