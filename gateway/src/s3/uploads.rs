//! Multipart uploads.

use http::HeaderMap;
use s3s::S3Response;
use s3s::dto::*;

use super::call::Call;
use super::encryption;
use super::error::WireError;
use super::headers;
use super::listings::{checksum, naming, prefixes};
use super::lock;
use super::objects::{Reply, header, source};
use super::xml::Document;
use crate::object::checksum::Algorithm;
use crate::object::complete_plan::{ListedPart, WholeClaims};
use crate::object::dates;
use crate::object::etag;
use crate::object::listing::Naming;
use crate::ops::{self, Abort, OpContext, PartLine, UploadLine};

/// When a rule aborts an upload that is still open.
fn tell_abort(out: &mut HeaderMap, abort: Option<&Abort>) {
    if let Some(abort) = abort {
        header(
            out,
            "x-amz-abort-date",
            &dates::http_date(abort.at_ms / 1_000),
        );
        header(out, "x-amz-abort-rule-id", &abort.rule);
    }
}

pub async fn create_multipart_upload(
    ctx: &OpContext,
    call: &Call,
    input: CreateMultipartUploadInput,
) -> Reply<CreateMultipartUploadOutput> {
    let request = ops::CreateMultipartUpload {
        bucket: headers::bucket(call, input.bucket.clone()),
        key: input.key.clone(),
        headers: headers::content(call)?,
        metadata: headers::user_metadata(call)?,
        tags: headers::tags(call)?,
        lock: lock::asked(call)?,
        encryption: encryption::asked(call)?,
        algorithm: headers::algorithm(call),
        kind: headers::checksum_kind(call),
    };
    let reply = ops::create_multipart_upload(ctx, &call.principal, request).await?;
    let mut document = Document::new("InitiateMultipartUploadResult");
    document.element("Bucket", input.bucket);
    document.element("Key", input.key);
    document.element("UploadId", reply.upload);
    call.answer_with(document);
    let mut out = HeaderMap::with_capacity(4);
    if let Some((algorithm, kind)) = reply.checksum {
        header(&mut out, "x-amz-checksum-algorithm", algorithm.name());
        header(&mut out, "x-amz-checksum-type", kind.name());
    }
    encryption::tell_writer(&mut out, reply.guard.as_ref(), call);
    tell_abort(&mut out, reply.abort.as_ref());
    let output = CreateMultipartUploadOutput::default();
    Ok(S3Response::with_headers(output, out))
}

pub async fn upload_part(
    ctx: &OpContext,
    call: &Call,
    input: UploadPartInput,
) -> Reply<UploadPartOutput> {
    let request = ops::UploadPart {
        bucket: headers::bucket(call, input.bucket),
        key: input.key,
        upload: input.upload_id,
        number: input.part_number,
        customer_key: encryption::customer_key(call)?,
        payload: call.take_payload(),
    };
    let reply = ops::upload_part(ctx, &call.principal, request).await?;
    let mut out = HeaderMap::with_capacity(4);
    if let Ok(etag) = etag::quoted(&reply.etag).try_into() {
        out.insert(http::header::ETAG, etag);
    }
    headers::of_checksum(&mut out, &reply.checksum);
    encryption::tell(&mut out, reply.guard.as_ref(), call);
    Ok(S3Response::with_headers(UploadPartOutput::default(), out))
}

pub async fn upload_part_copy(
    ctx: &OpContext,
    call: &Call,
    input: UploadPartCopyInput,
) -> Reply<UploadPartCopyOutput> {
    let request = ops::UploadPartCopy {
        source: source(call)?,
        range: call.header("x-amz-copy-source-range").map(str::to_owned),
        bucket: headers::bucket(call, input.bucket),
        key: input.key,
        upload: input.upload_id,
        number: input.part_number,
        customer_key: encryption::customer_key(call)?,
    };
    let reply = ops::upload_part_copy(ctx, &call.principal, request).await?;
    let mut document = Document::new("CopyPartResult");
    document.moment("LastModified", reply.part.modified_ms);
    document.etag(&reply.part.etag);
    document.checksum(&reply.part.checksum);
    call.answer_with(document);
    let mut out = HeaderMap::with_capacity(4);
    if let Some(version) = reply.source_version {
        header(
            &mut out,
            "x-amz-copy-source-version-id",
            &version.to_string(),
        );
    }
    encryption::tell(&mut out, reply.part.guard.as_ref(), call);
    let output = UploadPartCopyOutput::default();
    Ok(S3Response::with_headers(output, out))
}

/// A line of the client's list. One checksum at most: the upload has one algorithm.
fn listed(part: CompletedPart) -> Result<ListedPart, WireError> {
    let number = part.part_number.ok_or_else(WireError::malformed_xml)?;
    let checksum = [
        (Algorithm::Crc32, part.checksum_crc32),
        (Algorithm::Crc32c, part.checksum_crc32c),
        (Algorithm::Crc64Nvme, part.checksum_crc64nvme),
        (Algorithm::Sha1, part.checksum_sha1),
        (Algorithm::Sha256, part.checksum_sha256),
    ];
    let mut sent = checksum
        .into_iter()
        .filter_map(|(algorithm, value)| Some((algorithm, value?)));
    let checksum = sent.next();
    if sent.next().is_some() {
        return Err(WireError::invalid(
            "Expecting a single checksum for each part.",
        ));
    }
    Ok(ListedPart {
        // Numbers below 0 are as little parts as 0 is.
        number: u32::try_from(number).unwrap_or(0),
        etag: part
            .e_tag
            .ok_or_else(WireError::malformed_xml)?
            .into_value(),
        checksum,
    })
}

/// What the headers claim about the object to be.
fn claims(call: &Call) -> Result<WholeClaims, WireError> {
    let mut checksum = None;
    for algorithm in Algorithm::ALL {
        if let Some(text) = call.header(algorithm.header())
            && checksum.replace((algorithm, text.to_owned())).is_some()
        {
            return Err(crate::object::checksum::ChecksumError::Several.into());
        }
    }
    let size = match call.header("x-amz-mp-object-size") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            WireError::bad(
                "InvalidArgument",
                "x-amz-mp-object-size is not a number of bytes",
            )
            .detail("ArgumentName", "x-amz-mp-object-size")
        })?),
    };
    Ok(WholeClaims {
        checksum,
        kind: headers::checksum_kind(call),
        size,
    })
}

pub async fn complete_multipart_upload(
    ctx: &OpContext,
    call: &Call,
    input: CompleteMultipartUploadInput,
) -> Reply<CompleteMultipartUploadOutput> {
    let parts = input
        .multipart_upload
        .and_then(|upload| upload.parts)
        .unwrap_or_default();
    let request = ops::CompleteMultipartUpload {
        bucket: headers::bucket(call, input.bucket.clone()),
        key: input.key.clone(),
        upload: input.upload_id,
        parts: parts.into_iter().map(listed).collect::<Result<_, _>>()?,
        claims: claims(call)?,
        customer_key: encryption::customer_key(call)?,
        conditions: headers::write_conditions(call)?,
    };
    let reply = ops::complete_multipart_upload(ctx, &call.principal, request).await?;
    let host = call.header("host").unwrap_or("localhost");
    let location = format!(
        "{}://{host}/{}/{}",
        call.scheme,
        input.bucket,
        crate::auth::canonical::encode(&input.key, true)
    );
    let mut document = Document::new("CompleteMultipartUploadResult");
    document.element("Location", location);
    document.element("Bucket", input.bucket);
    document.element("Key", input.key);
    document.etag(&reply.etag);
    if let Some(checksum) = &reply.checksum {
        document.checksum(checksum);
        document.element("ChecksumType", checksum.kind.name());
    }
    call.answer_with(document);
    let mut out = HeaderMap::with_capacity(4);
    if let Some(version) = reply.version {
        header(&mut out, "x-amz-version-id", &version.to_string());
    }
    if let Some(expiration) = &reply.expiration {
        header(&mut out, "x-amz-expiration", expiration);
    }
    encryption::tell(&mut out, reply.guard.as_ref(), call);
    let output = CompleteMultipartUploadOutput::default();
    Ok(S3Response::with_headers(output, out))
}

pub async fn abort_multipart_upload(
    ctx: &OpContext,
    call: &Call,
    input: AbortMultipartUploadInput,
) -> Reply<AbortMultipartUploadOutput> {
    let request = ops::AbortMultipartUpload {
        bucket: headers::bucket(call, input.bucket),
        key: input.key,
        upload: input.upload_id,
    };
    ops::abort_multipart_upload(ctx, &call.principal, request).await?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub async fn list_parts(
    ctx: &OpContext,
    call: &Call,
    input: ListPartsInput,
) -> Reply<ListPartsOutput> {
    let request = ops::ListParts {
        bucket: headers::bucket(call, input.bucket.clone()),
        key: input.key.clone(),
        upload: input.upload_id.clone(),
        after: input.part_number_marker,
        max: input.max_parts,
    };
    let reply = ops::list_parts(ctx, &call.principal, request).await?;
    // S3 names the last part of the page even when there is no other page.
    let last = reply.parts.last().map_or(0, |part| part.number);
    let bytes = 1024 + reply.parts.len() * 256;
    let mut document = Document::with_capacity("ListPartsResult", bytes);
    document.element("Bucket", input.bucket);
    document.element("Key", input.key);
    document.element("UploadId", input.upload_id);
    document.somebody(ctx, "Initiator", &reply.owner);
    document.somebody(ctx, "Owner", &reply.owner);
    document.element("StorageClass", "STANDARD");
    document.number("PartNumberMarker", reply.after.into());
    document.number("NextPartNumberMarker", last.into());
    document.number("MaxParts", reply.max.into());
    document.flag("IsTruncated", reply.truncated);
    checksum(&mut document, reply.checksum);
    for line in &reply.parts {
        document.inside("Part", |inner| part(inner, line));
    }
    call.answer_with(document);
    let mut out = HeaderMap::with_capacity(2);
    tell_abort(&mut out, reply.abort.as_ref());
    Ok(S3Response::with_headers(ListPartsOutput::default(), out))
}

fn part(document: &mut Document, line: &PartLine) {
    document.number("PartNumber", line.number.into());
    document.moment("LastModified", line.modified_ms);
    document.etag(&line.etag);
    document.number("Size", line.size);
    if let Some(checksum) = &line.checksum {
        document.checksum(checksum);
    }
}

pub async fn list_multipart_uploads(
    ctx: &OpContext,
    call: &Call,
    input: ListMultipartUploadsInput,
) -> Reply<ListMultipartUploadsOutput> {
    let naming = naming(input.encoding_type.as_ref())?;
    let request = ops::ListUploads {
        bucket: headers::bucket(call, input.bucket.clone()),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        key_marker: input.key_marker.clone(),
        upload_marker: input.upload_id_marker.clone(),
        max: input.max_uploads,
    };
    let reply = ops::list_multipart_uploads(ctx, &call.principal, request).await?;
    let (next_key, next_upload) = reply
        .next
        .map_or((None, None), |(key, id)| (Some(key), Some(id)));
    let bytes = 1024 + reply.uploads.len() * 768;
    let mut document = Document::with_capacity("ListMultipartUploadsResult", bytes);
    document.element("Bucket", input.bucket);
    let key_marker = input.key_marker.unwrap_or_default();
    document.element("KeyMarker", naming.write(&key_marker));
    document.element("UploadIdMarker", input.upload_id_marker.unwrap_or_default());
    document.maybe("NextKeyMarker", next_key.as_ref().map(|n| naming.write(n)));
    document.maybe("NextUploadIdMarker", next_upload);
    let delimiter = input.delimiter.as_deref();
    document.maybe("Delimiter", delimiter.map(|name| naming.write(name)));
    document.element("Prefix", naming.write(&input.prefix.unwrap_or_default()));
    document.number("MaxUploads", reply.max.into());
    let encoding = input.encoding_type.as_ref();
    document.maybe("EncodingType", encoding.map(EncodingType::as_str));
    document.flag("IsTruncated", next_key.is_some());
    for line in &reply.uploads {
        document.inside("Upload", |inner| upload(ctx, inner, line, naming));
    }
    let names = reply.prefixes.iter().map(|name| name.as_str().into());
    prefixes(&mut document, names, naming);
    call.answer_with(document);
    Ok(S3Response::new(ListMultipartUploadsOutput::default()))
}

fn upload(ctx: &OpContext, document: &mut Document, line: &UploadLine, naming: Naming) {
    document.element("Key", naming.write(&line.key));
    document.element("UploadId", &line.upload);
    document.somebody(ctx, "Initiator", &line.owner);
    document.somebody(ctx, "Owner", &line.owner);
    document.element("StorageClass", "STANDARD");
    document.moment("Initiated", line.created_ms);
    checksum(document, line.checksum);
}
