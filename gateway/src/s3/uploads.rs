//! Multipart uploads.

use http::HeaderMap;
use s3s::S3Response;
use s3s::dto::*;

use super::buckets::named_owner;
use super::call::Call;
use super::encryption;
use super::error::WireError;
use super::headers;
use super::listings::{naming, prefixes};
use super::lock;
use super::objects::{Reply, set_checksum, source, strong, timestamp};
use crate::object::checksum::{Algorithm, Kind};
use crate::object::complete_plan::{ListedPart, WholeClaims};
use crate::object::etag;
use crate::ops::{self, Abort, OpContext, PartLine, UploadLine};

fn initiator(ctx: &OpContext, id: String) -> Initiator {
    Initiator {
        display_name: ctx.keys().name_of(&id),
        id: Some(id),
    }
}

fn checksum_names(
    checksum: Option<(Algorithm, Kind)>,
) -> (Option<ChecksumAlgorithm>, Option<ChecksumType>) {
    let Some((algorithm, kind)) = checksum else {
        return (None, None);
    };
    (
        Some(ChecksumAlgorithm::from_static(algorithm.name())),
        Some(ChecksumType::from_static(kind.name())),
    )
}

fn abort(abort: Option<Abort>) -> (Option<Timestamp>, Option<String>) {
    abort
        .map(|abort| (timestamp(abort.at_ms), abort.rule))
        .unzip()
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
    let (checksum_algorithm, checksum_type) = checksum_names(reply.checksum);
    let mut out = HeaderMap::with_capacity(4);
    encryption::tell_writer(&mut out, reply.guard.as_ref(), call);
    let (abort_date, abort_rule_id) = abort(reply.abort);
    let output = CreateMultipartUploadOutput {
        abort_date,
        abort_rule_id,
        bucket: Some(input.bucket),
        checksum_algorithm,
        checksum_type,
        key: Some(input.key),
        upload_id: Some(reply.upload),
        ..Default::default()
    };
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
        source: source(call, input.copy_source)?,
        range: call.header("x-amz-copy-source-range").map(str::to_owned),
        bucket: headers::bucket(call, input.bucket),
        key: input.key,
        upload: input.upload_id,
        number: input.part_number,
        customer_key: encryption::customer_key(call)?,
    };
    let reply = ops::upload_part_copy(ctx, &call.principal, request).await?;
    let mut result = CopyPartResult {
        e_tag: Some(strong(reply.part.etag)),
        last_modified: Some(timestamp(reply.part.modified_ms)),
        ..Default::default()
    };
    set_checksum!(result, Some(&reply.part.checksum));
    let mut out = HeaderMap::with_capacity(4);
    encryption::tell(&mut out, reply.part.guard.as_ref(), call);
    let output = UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id: reply.source_version.map(|version| version.to_string()),
        ..Default::default()
    };
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
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!(
            "http://{host}/{}/{}",
            input.bucket,
            crate::auth::canonical::encode(&input.key, true)
        )),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(strong(reply.etag)),
        expiration: reply.expiration,
        version_id: reply.version.map(|version| version.to_string()),
        ..Default::default()
    };
    set_checksum!(output, &reply.checksum);
    output.checksum_type = reply
        .checksum
        .map(|checksum| ChecksumType::from_static(checksum.kind.name()));
    let mut out = HeaderMap::with_capacity(4);
    encryption::tell(&mut out, reply.guard.as_ref(), call);
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
    let (checksum_algorithm, checksum_type) = checksum_names(reply.checksum);
    let next = reply
        .parts
        .last()
        .filter(|_| reply.truncated)
        .map(|part| part.number);
    let (abort_date, abort_rule_id) = abort(reply.abort);
    Ok(S3Response::new(ListPartsOutput {
        abort_date,
        abort_rule_id,
        bucket: Some(input.bucket),
        checksum_algorithm,
        checksum_type,
        initiator: Some(initiator(ctx, reply.owner.clone())),
        is_truncated: Some(reply.truncated),
        key: Some(input.key),
        max_parts: i32::try_from(reply.max).ok(),
        next_part_number_marker: next.and_then(|number| i32::try_from(number).ok()),
        owner: Some(named_owner(ctx, reply.owner)),
        part_number_marker: i32::try_from(reply.after).ok(),
        parts: Some(reply.parts.into_iter().map(part).collect()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        upload_id: Some(input.upload_id),
        ..Default::default()
    }))
}

fn part(line: PartLine) -> Part {
    let mut part = Part {
        e_tag: Some(strong(line.etag)),
        last_modified: Some(timestamp(line.modified_ms)),
        part_number: i32::try_from(line.number).ok(),
        size: i64::try_from(line.size).ok(),
        ..Default::default()
    };
    set_checksum!(part, &line.checksum);
    part
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
    let upload = |line: UploadLine| {
        let (checksum_algorithm, checksum_type) = checksum_names(line.checksum);
        MultipartUpload {
            checksum_algorithm,
            checksum_type,
            initiated: Some(timestamp(line.created_ms)),
            initiator: Some(initiator(ctx, line.owner.clone())),
            key: Some(naming.write(&line.key)),
            owner: Some(named_owner(ctx, line.owner)),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            upload_id: Some(line.upload),
        }
    };
    let truncated = reply.next.is_some();
    let (next_key, next_upload) = reply.next.map_or((None, None), |(key, id)| {
        (Some(naming.write(&key)), Some(id))
    });
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        common_prefixes: Some(prefixes(reply.prefixes, naming)),
        delimiter: input.delimiter.map(|name| naming.write(&name)),
        encoding_type: input.encoding_type,
        is_truncated: Some(truncated),
        key_marker: Some(naming.write(&input.key_marker.unwrap_or_default())),
        max_uploads: i32::try_from(reply.max).ok(),
        next_key_marker: next_key,
        next_upload_id_marker: next_upload,
        prefix: Some(naming.write(&input.prefix.unwrap_or_default())),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        uploads: Some(reply.uploads.into_iter().map(upload).collect()),
        ..Default::default()
    }))
}
