//! Calls on objects.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use s3s::S3Response;
use s3s::dto::*;

use super::call::Call;
use super::encryption;
use super::error::WireError;
use super::headers;
use super::lock;
use super::reply_body::ReplyBody;
use crate::object::dates;
use crate::object::etag;
use crate::object::get_plan::AskedRange;
use crate::object::record::ObjectRecord;
use crate::ops::{self, OpContext};
use crate::store::Conditions;
use crate::tenancy::bucket::BucketRef;

/// An answer of a translation.
pub type Reply<T> = Result<S3Response<T>, WireError>;

/// An ETag as s3s writes it.
pub fn strong(etag: String) -> ETag {
    ETag::Strong(etag)
}

/// A moment as s3s writes it.
pub fn timestamp(ms: u64) -> Timestamp {
    Timestamp::from(std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms))
}

/// Puts a checksum into the field of its algorithm.
macro_rules! set_checksum {
    ($target:expr, $checksum:expr) => {
        if let Some(checksum) = $checksum {
            let text = Some(checksum.text());
            match checksum.algorithm {
                $crate::object::checksum::Algorithm::Crc32 => $target.checksum_crc32 = text,
                $crate::object::checksum::Algorithm::Crc32c => $target.checksum_crc32c = text,
                $crate::object::checksum::Algorithm::Crc64Nvme => $target.checksum_crc64nvme = text,
                $crate::object::checksum::Algorithm::Sha1 => $target.checksum_sha1 = text,
                $crate::object::checksum::Algorithm::Sha256 => $target.checksum_sha256 = text,
            }
        }
    };
}
pub(super) use set_checksum;

pub(super) fn header(out: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        out.insert(HeaderName::from_static(name), value);
    }
}

pub async fn put_object(
    ctx: &OpContext,
    call: &Call,
    input: PutObjectInput,
) -> Reply<PutObjectOutput> {
    let request = ops::PutObject {
        bucket: headers::bucket(call, input.bucket),
        key: input.key,
        headers: headers::content(call)?,
        metadata: headers::user_metadata(call)?,
        tags: headers::tags(call)?,
        lock: lock::asked(call)?,
        encryption: encryption::asked(call)?,
        conditions: headers::write_conditions(call)?,
        payload: call.take_payload(),
    };
    let reply = ops::put_object(ctx, &call.principal, request).await?;
    let mut out = HeaderMap::with_capacity(8);
    header(&mut out, "etag", &etag::quoted(&reply.etag));
    headers::of_checksum(&mut out, &reply.checksum);
    header(&mut out, "x-amz-checksum-type", reply.checksum.kind.name());
    if let Some(version) = reply.version {
        header(&mut out, "x-amz-version-id", &version.to_string());
    }
    if let Some(expiration) = &reply.expiration {
        header(&mut out, "x-amz-expiration", expiration);
    }
    encryption::tell_writer(&mut out, reply.guard.as_ref(), call);
    Ok(S3Response::with_headers(PutObjectOutput::default(), out))
}

fn get(
    call: &Call,
    bucket: String,
    key: String,
    version: Option<String>,
    part: Option<i32>,
) -> Result<ops::GetObject, WireError> {
    Ok(ops::GetObject {
        bucket: headers::bucket(call, bucket),
        key,
        version,
        conditions: headers::read_conditions(call)?,
        range: call.header("range").and_then(AskedRange::parse),
        // A negative number is as little a part as 0 is.
        part: part.map(|part| u32::try_from(part).unwrap_or(0)),
        customer_key: encryption::customer_key(call)?,
    })
}

fn status(head: &ops::ObjectHead) -> StatusCode {
    if head.plan.partial {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    }
}

pub async fn get_object(
    ctx: &OpContext,
    call: &Call,
    input: GetObjectInput,
) -> Reply<GetObjectOutput> {
    let request = get(
        call,
        input.bucket,
        input.key,
        input.version_id,
        input.part_number,
    )?;
    let reply = ops::get_object(ctx, &call.principal, request).await?;
    call.answer(status(&reply.head), ReplyBody::from(reply.content));
    Ok(S3Response::with_headers(
        GetObjectOutput::default(),
        headers::of_object(call, &reply.head)?,
    ))
}

pub async fn head_object(
    ctx: &OpContext,
    call: &Call,
    input: HeadObjectInput,
) -> Reply<HeadObjectOutput> {
    let request = get(
        call,
        input.bucket,
        input.key,
        input.version_id,
        input.part_number,
    )?;
    let head = ops::head_object(ctx, &call.principal, request).await?;
    call.answer(status(&head), ReplyBody::empty());
    Ok(S3Response::with_headers(
        HeadObjectOutput::default(),
        headers::of_object(call, &head)?,
    ))
}

pub async fn delete_object(
    ctx: &OpContext,
    call: &Call,
    input: DeleteObjectInput,
) -> Reply<DeleteObjectOutput> {
    let request = ops::DeleteObject {
        bucket: headers::bucket(call, input.bucket),
        key: input.key,
        version: input.version_id,
        conditions: headers::delete_conditions(call)?,
        bypass_governance: lock::bypass(call)?,
    };
    let reply = ops::delete_object(ctx, &call.principal, request).await?;
    Ok(S3Response::new(DeleteObjectOutput {
        delete_marker: reply.marker.then_some(true),
        version_id: reply.version,
        ..Default::default()
    }))
}

pub async fn delete_objects(
    ctx: &OpContext,
    call: &Call,
    input: DeleteObjectsInput,
) -> Reply<DeleteObjectsOutput> {
    let quiet = input.delete.quiet.unwrap_or(false);
    let request = ops::DeleteObjects {
        bucket: headers::bucket(call, input.bucket),
        targets: input
            .delete
            .objects
            .into_iter()
            .map(target)
            .collect::<Result<_, _>>()?,
        bypass_governance: lock::bypass(call)?,
    };
    let outcomes = ops::delete_objects(ctx, &call.principal, request).await?;
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for ops::DeleteOutcome {
        key,
        version,
        result,
    } in outcomes
    {
        match result {
            Ok(_) if quiet => {}
            Ok(reply) => {
                let made = reply.marker && version.is_none();
                deleted.push(DeletedObject {
                    delete_marker: reply.marker.then_some(true),
                    // Of a marker that was made, or of the marker that went.
                    delete_marker_version_id: if reply.marker {
                        reply.version.clone()
                    } else {
                        None
                    },
                    key: Some(key),
                    version_id: if made { None } else { version },
                });
            }
            Err(error) => {
                let error = WireError::from(error);
                errors.push(Error {
                    code: Some(error.code.to_owned()),
                    key: Some(key),
                    message: Some(error.message),
                    version_id: version,
                });
            }
        }
    }
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(deleted),
        errors: Some(errors).filter(|errors| !errors.is_empty()),
        ..Default::default()
    }))
}

fn target(object: ObjectIdentifier) -> Result<ops::DeleteTarget, WireError> {
    let modified = match object.last_modified_time {
        None => None,
        Some(time) => Some(milliseconds(&time)?),
    };
    let size = match object.size {
        None => None,
        Some(size) => Some(
            u64::try_from(size)
                .map_err(|_| WireError::bad("InvalidArgument", "Size must not be negative"))?,
        ),
    };
    let conditions = Conditions {
        if_match: object.e_tag.map(|etag| vec![etag.into_value()]),
        if_match_size: size,
        if_match_modified_ms: modified,
        ..Conditions::default()
    };
    Ok(ops::DeleteTarget {
        key: object.key,
        version: object.version_id,
        conditions,
    })
}

/// A moment that s3s read, to the second: as exact as its form on the wire.
fn milliseconds(time: &Timestamp) -> Result<u64, WireError> {
    let mut text = Vec::new();
    let written = time.format(TimestampFormat::HttpDate, &mut text).is_ok();
    let text = String::from_utf8(text).unwrap_or_default();
    let seconds = dates::parse_http_date(&text).filter(|_| written);
    seconds
        .map(|seconds| seconds * 1_000)
        .ok_or_else(|| WireError::bad("InvalidArgument", "LastModifiedTime is out of range"))
}

/// The source of a copy. Access points are S3's own and nobody has them here.
pub fn source(call: &Call, source: CopySource) -> Result<ops::CopySource, WireError> {
    let CopySource::Bucket {
        bucket,
        key,
        version_id,
    } = source
    else {
        return Err(WireError::not_implemented(
            "access points in x-amz-copy-source",
        ));
    };
    Ok(ops::CopySource {
        bucket: BucketRef {
            name: bucket.into_string(),
            expected_owner: call
                .header("x-amz-source-expected-bucket-owner")
                .map(str::to_owned),
        },
        key: key.into_string(),
        version: version_id.map(str::into_string),
        conditions: headers::source_conditions(call)?,
        customer_key: encryption::source_key(call)?,
    })
}

pub async fn copy_object(
    ctx: &OpContext,
    call: &Call,
    input: CopyObjectInput,
) -> Reply<CopyObjectOutput> {
    let request = ops::CopyObject {
        source: source(call, input.copy_source)?,
        bucket: headers::bucket(call, input.bucket),
        key: input.key,
        directive: headers::directive(call, "x-amz-metadata-directive")?,
        record: ObjectRecord {
            headers: headers::content(call)?,
            metadata: headers::user_metadata(call)?,
            ..ObjectRecord::default()
        },
        tags: headers::tags_of_copy(call)?,
        lock: lock::asked(call)?,
        encryption: encryption::asked(call)?,
        algorithm: headers::algorithm(call),
        conditions: headers::write_conditions(call)?,
    };
    let reply = ops::copy_object(ctx, &call.principal, request).await?;
    let mut result = CopyObjectResult {
        e_tag: Some(strong(reply.etag)),
        last_modified: Some(timestamp(reply.modified_ms)),
        ..Default::default()
    };
    set_checksum!(result, &reply.record.checksum);
    result.checksum_type = reply
        .record
        .checksum
        .as_ref()
        .map(|checksum| ChecksumType::from_static(checksum.kind.name()));
    let mut out = HeaderMap::with_capacity(4);
    encryption::tell_writer(&mut out, reply.guard.as_ref(), call);
    let output = CopyObjectOutput {
        expiration: reply.expiration,
        copy_object_result: Some(result),
        copy_source_version_id: reply.source_version.map(|version| version.to_string()),
        version_id: reply.version.map(|version| version.to_string()),
        ..Default::default()
    };
    Ok(S3Response::with_headers(output, out))
}
