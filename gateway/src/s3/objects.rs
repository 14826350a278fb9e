//! Calls on objects.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use s3s::S3Response;
use s3s::dto::*;

use super::call::Call;
use super::copy_source::SourceName;
use super::encryption;
use super::error::WireError;
use super::headers;
use super::lock;
use super::reply_body::ReplyBody;
use super::xml::Document;
use crate::object::dates;
use crate::object::etag;
use crate::object::get_plan::AskedRange;
use crate::object::record::ObjectRecord;
use crate::ops::{self, OpContext};
use crate::store::Conditions;
use crate::tenancy::bucket::BucketRef;

/// An answer of a translation.
pub type Reply<T> = Result<S3Response<T>, WireError>;

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
    let mut document = Document::new("DeleteResult");
    for outcome in outcomes {
        delete_outcome(&mut document, outcome, quiet);
    }
    call.answer_with(document);
    Ok(S3Response::new(DeleteObjectsOutput::default()))
}

fn delete_outcome(document: &mut Document, outcome: ops::DeleteOutcome, quiet: bool) {
    let ops::DeleteOutcome {
        key,
        version,
        result,
    } = outcome;
    match result {
        Ok(_) if quiet => {}
        Ok(reply) => document.inside("Deleted", |inner| {
            inner.element("Key", key);
            let made = reply.marker && version.is_none();
            inner.maybe("VersionId", version.filter(|_| !made));
            if reply.marker {
                // Of the marker that was made, or of the one that went.
                inner.flag("DeleteMarker", true);
                inner.maybe("DeleteMarkerVersionId", reply.version);
            }
        }),
        Err(error) => document.inside("Error", |inner| {
            let error = WireError::from(error);
            inner.element("Key", key);
            inner.maybe("VersionId", version);
            inner.element("Code", error.code);
            inner.element("Message", error.message);
        }),
    }
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

/// The source of a copy.
pub fn source(call: &Call) -> Result<ops::CopySource, WireError> {
    let SourceName {
        bucket,
        key,
        version,
    } = SourceName::parse(call.header("x-amz-copy-source").unwrap_or_default())?;
    Ok(ops::CopySource {
        bucket: BucketRef {
            name: bucket,
            expected_owner: call
                .header("x-amz-source-expected-bucket-owner")
                .map(str::to_owned),
        },
        key,
        version,
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
        source: source(call)?,
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
    let mut document = Document::new("CopyObjectResult");
    document.moment("LastModified", reply.modified_ms);
    document.etag(&reply.etag);
    if let Some(checksum) = &reply.record.checksum {
        document.checksum(checksum);
        document.element("ChecksumType", checksum.kind.name());
    }
    call.answer_with(document);
    let mut out = HeaderMap::with_capacity(4);
    for (name, version) in [
        ("x-amz-copy-source-version-id", reply.source_version),
        ("x-amz-version-id", reply.version),
    ] {
        if let Some(version) = version {
            header(&mut out, name, &version.to_string());
        }
    }
    encryption::tell_writer(&mut out, reply.guard.as_ref(), call);
    if let Some(expiration) = &reply.expiration {
        header(&mut out, "x-amz-expiration", expiration);
    }
    Ok(S3Response::with_headers(CopyObjectOutput::default(), out))
}
