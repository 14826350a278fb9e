//! ListParts: what came of an upload so far.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::checksum::{Algorithm, Checksum, Kind};
use crate::object::name::ObjectKey;
use crate::ops::get_object_attributes::part_record;
use crate::ops::list_objects::page_size;
use crate::ops::upload_part::find_upload;
use crate::ops::{Abort, OpContext, OpError, lifecycle};
use crate::tenancy::bucket::{self, BucketRef};

/// The call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListParts {
    /// Where.
    pub bucket: BucketRef,
    /// Of the upload.
    pub key: String,
    /// Its id.
    pub upload: String,
    /// `part-number-marker`: only parts after this one.
    pub after: Option<i32>,
    /// `max-parts`.
    pub max: Option<i32>,
}

/// A part in the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartLine {
    /// Its number.
    pub number: u32,
    /// Without quotes.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// Ms since 1970.
    pub modified_ms: u64,
    /// Of the upload's algorithm.
    pub checksum: Option<Checksum>,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartsReply {
    /// As it was asked for, at most 1000.
    pub max: u32,
    /// As it was asked for.
    pub after: u32,
    /// In order.
    pub parts: Vec<PartLine>,
    /// There is more.
    pub truncated: bool,
    /// Canonical id of who opened it.
    pub owner: String,
    /// When the client named one.
    pub checksum: Option<(Algorithm, Kind)>,
    /// When a rule aborts the upload.
    pub abort: Option<Abort>,
}

/// Lists them.
pub async fn list_parts(
    ctx: &OpContext,
    who: &Principal,
    request: ListParts,
) -> Result<PartsReply, OpError> {
    let bucket = bucket::find(ctx, who, Action::ListMultipartUploadParts, &request.bucket).await?;
    let key = ObjectKey::new(request.key)?;
    let page = page_size("max-parts", request.max)?;
    let after = u32::try_from(request.after.unwrap_or(0)).map_err(|_| {
        OpError::argument(
            "part-number-marker",
            "part-number-marker must not be negative",
        )
    })?;
    let (upload, record, created_ms) = find_upload(ctx, &bucket, &key, &request.upload).await?;
    let mut reply = PartsReply {
        max: page.asked,
        after,
        parts: Vec::new(),
        truncated: false,
        owner: record.object.owner.unwrap_or_else(|| bucket.owner.clone()),
        checksum: record.named.then_some((record.algorithm, record.kind)),
        abort: lifecycle::abort(ctx, &bucket, key.as_str().as_bytes(), created_ms),
    };
    if page.lines == 0 {
        return Ok(reply);
    }
    let parts = ctx
        .store()
        .kv()
        .parts(&bucket, key.as_str().as_bytes(), upload, after, page.lines)
        .await;
    let parts = parts.map_err(|error| {
        OpError::kv(error, &bucket.name, key.as_str()).of_upload(&request.upload)
    })?;
    reply.truncated = parts.truncated;
    for part in parts.parts {
        let stored = part_record(part.number, &part.meta)?;
        let checksum = stored.checksum(record.algorithm).cloned();
        reply.parts.push(PartLine {
            number: part.number,
            etag: part.etag,
            size: stored.size(part.size),
            modified_ms: part.modified_ms,
            checksum: checksum.filter(|_| record.named),
        });
    }
    Ok(reply)
}
