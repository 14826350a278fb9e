//! Lists of objects and versions.
//!
//! Always true: `IsTruncated`, `Name`, `Prefix` and `MaxKeys` are there even when they say nothing: clients look for them.

use s3s::S3Response;
use s3s::dto::*;

use super::buckets::owner;
use super::call::Call;
use super::error::WireError;
use super::headers;
use super::objects::{Reply, strong, timestamp};
use super::xml::Document;
use crate::object::checksum::Checksum;
use crate::object::dates;
use crate::object::etag;
use crate::object::listing::Naming;
use crate::ops::{self, ObjectLine, OpContext, Start, VersionLine};

/// How the answer writes names.
pub fn naming(encoding: Option<&EncodingType>) -> Result<Naming, WireError> {
    match encoding.map(EncodingType::as_str) {
        None | Some("") => Ok(Naming::Plain),
        Some("url") => Ok(Naming::Url),
        Some(_) => Err(WireError::bad(
            "InvalidArgument",
            "Invalid Encoding Method specified in Request",
        )
        .detail("ArgumentName", "encoding-type")),
    }
}

/// Rolled-up names.
pub fn prefixes(names: Vec<String>, naming: Naming) -> CommonPrefixList {
    names
        .into_iter()
        .map(|name| CommonPrefix {
            prefix: Some(naming.write(&name)),
        })
        .collect()
}

fn algorithms(
    checksum: Option<&Checksum>,
) -> (Option<ChecksumAlgorithmList>, Option<ChecksumType>) {
    match checksum {
        None => (None, None),
        Some(checksum) => (
            Some(vec![ChecksumAlgorithm::from_static(
                checksum.algorithm.name(),
            )]),
            Some(ChecksumType::from_static(checksum.kind.name())),
        ),
    }
}

fn object(line: ObjectLine, naming: Naming, with_owner: bool) -> Object {
    let (checksum_algorithm, checksum_type) = algorithms(line.checksum.as_ref());
    Object {
        checksum_algorithm,
        checksum_type,
        e_tag: Some(strong(line.etag)),
        key: Some(naming.write(&line.key)),
        last_modified: Some(timestamp(line.modified_ms)),
        owner: with_owner.then(|| owner(line.owner)),
        restore_status: None,
        size: i64::try_from(line.size).ok(),
        storage_class: Some(ObjectStorageClass::from_static(
            ObjectStorageClass::STANDARD,
        )),
    }
}

fn max(lines: u32) -> Option<i32> {
    i32::try_from(lines).ok()
}

pub async fn list_objects_v2(
    ctx: &OpContext,
    call: &Call,
    input: ListObjectsV2Input,
) -> Reply<ListObjectsV2Output> {
    let naming = naming(input.encoding_type.as_ref())?;
    let start = match (input.continuation_token.clone(), input.start_after.clone()) {
        (Some(token), _) if token.is_empty() => {
            return Err(WireError::bad(
                "InvalidArgument",
                "The continuation token provided is incorrect",
            )
            .detail("ArgumentName", "continuation-token"));
        }
        (Some(token), _) => Start::Token(token),
        (None, Some(name)) => Start::After(name),
        (None, None) => Start::Beginning,
    };
    let request = ops::ListObjects {
        bucket: headers::bucket(call, input.bucket.clone()),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        start,
        max: input.max_keys,
    };
    let page = ops::list_objects(ctx, &call.principal, request).await?;
    let with_owner = input.fetch_owner.unwrap_or(false);
    let written = |name: Option<String>| name.map(|name| naming.write(&name));
    Ok(S3Response::new(ListObjectsV2Output {
        key_count: i32::try_from(page.objects.len() + page.prefixes.len()).ok(),
        common_prefixes: Some(prefixes(page.prefixes, naming)),
        contents: Some(
            page.objects
                .into_iter()
                .map(|line| object(line, naming, with_owner))
                .collect(),
        ),
        continuation_token: input.continuation_token,
        delimiter: written(input.delimiter),
        encoding_type: input.encoding_type,
        is_truncated: Some(page.truncated),
        max_keys: max(page.max),
        name: Some(input.bucket),
        next_continuation_token: page.next_token,
        prefix: Some(naming.write(&input.prefix.unwrap_or_default())),
        start_after: written(input.start_after),
        ..Default::default()
    }))
}

pub async fn list_objects(
    ctx: &OpContext,
    call: &Call,
    input: ListObjectsInput,
) -> Reply<ListObjectsOutput> {
    let naming = naming(input.encoding_type.as_ref())?;
    let request = ops::ListObjects {
        bucket: headers::bucket(call, input.bucket.clone()),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        start: input
            .marker
            .clone()
            .filter(|marker| !marker.is_empty())
            .map_or(Start::Beginning, Start::After),
        max: input.max_keys,
    };
    let page = ops::list_objects(ctx, &call.principal, request).await?;
    // S3 names the next marker only where a page may end with a rolled-up prefix; else it is the last key.
    let next = page.next_marker.filter(|_| {
        input
            .delimiter
            .as_deref()
            .is_some_and(|delimiter| !delimiter.is_empty())
    });
    Ok(S3Response::new(ListObjectsOutput {
        common_prefixes: Some(prefixes(page.prefixes, naming)),
        contents: Some(
            page.objects
                .into_iter()
                .map(|line| object(line, naming, true))
                .collect(),
        ),
        delimiter: input.delimiter.map(|name| naming.write(&name)),
        encoding_type: input.encoding_type,
        is_truncated: Some(page.truncated),
        marker: Some(naming.write(&input.marker.unwrap_or_default())),
        max_keys: max(page.max),
        name: Some(input.bucket),
        next_marker: next.map(|name| naming.write(&name)),
        prefix: Some(naming.write(&input.prefix.unwrap_or_default())),
        ..Default::default()
    }))
}

pub async fn list_object_versions(
    ctx: &OpContext,
    call: &Call,
    input: ListObjectVersionsInput,
) -> Reply<ListObjectVersionsOutput> {
    let naming = naming(input.encoding_type.as_ref())?;
    let request = ops::ListVersions {
        bucket: headers::bucket(call, input.bucket.clone()),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        key_marker: input.key_marker.clone(),
        version_marker: input.version_id_marker.clone(),
        max: input.max_keys,
    };
    let page = ops::list_object_versions(ctx, &call.principal, request).await?;
    let (next_key, next_version) = page
        .next
        .map_or((None, None), |(key, version)| (Some(key), version));
    // Versions and markers come as they follow each other, in one row: mc and minio-go take their order for the truth.
    let mut document = Document::new("ListVersionsResult");
    document.element("Name", &input.bucket);
    document.element("Prefix", naming.write(&input.prefix.unwrap_or_default()));
    document.element(
        "KeyMarker",
        naming.write(&input.key_marker.unwrap_or_default()),
    );
    document.element(
        "VersionIdMarker",
        input.version_id_marker.unwrap_or_default(),
    );
    document.maybe("NextKeyMarker", next_key.as_ref().map(|n| naming.write(n)));
    document.maybe(
        "NextVersionIdMarker",
        next_version.map(|version| version.to_string()),
    );
    document.element("MaxKeys", page.max.to_string());
    document.maybe("Delimiter", input.delimiter.map(|name| naming.write(&name)));
    document.maybe(
        "EncodingType",
        input.encoding_type.as_ref().map(EncodingType::as_str),
    );
    document.element(
        "IsTruncated",
        if next_key.is_some() { "true" } else { "false" },
    );
    for line in page.versions {
        let name = if line.is_marker {
            "DeleteMarker"
        } else {
            "Version"
        };
        document.inside(name, |inner| write_version(inner, &line, naming));
    }
    for prefix in page.prefixes {
        document.inside("CommonPrefixes", |inner| {
            inner.element("Prefix", naming.write(&prefix));
        });
    }
    call.answer_with(document);
    Ok(S3Response::new(ListObjectVersionsOutput::default()))
}

fn write_version(document: &mut Document, line: &VersionLine, naming: Naming) {
    document.element("Key", naming.write(&line.key));
    document.element("VersionId", line.version.to_string());
    document.element("IsLatest", if line.is_latest { "true" } else { "false" });
    document.element("LastModified", dates::rfc3339(line.modified_ms));
    if !line.is_marker {
        document.element("ETag", etag::quoted(&line.etag));
        if let Some(checksum) = &line.checksum {
            document.element("ChecksumAlgorithm", checksum.algorithm.name());
            document.element("ChecksumType", checksum.kind.name());
        }
        document.element("Size", line.size.to_string());
    }
    document.inside("Owner", |owner| owner.element("ID", &line.owner));
    if !line.is_marker {
        document.element("StorageClass", "STANDARD");
    }
}
