//! Lists of objects and versions.
//!
//! A page of a thousand lines is written straight from the store's rows into one buffer.
//!
//! Always true: `IsTruncated`, `Name`, `Prefix` and `MaxKeys` are there even when they say nothing: clients look for them.

use std::borrow::Cow;

use bytes::Bytes;
use s3s::S3Response;
use s3s::dto::*;

use super::call::Call;
use super::error::WireError;
use super::headers;
use super::objects::Reply;
use super::xml::Document;
use crate::object::checksum::{Algorithm, Kind};
use crate::object::listing::Naming;
use crate::ops::{self, ObjectLine, ObjectsReply, OpContext, Start, VersionLine};

/// About how long a line of a page is, without its key.
const LINE_BYTES: usize = 320;

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

/// Names in the store are UTF-8, because keys are checked when they come in.
fn name(bytes: &Bytes) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Rolled-up names.
pub fn prefixes<'a>(
    document: &mut Document,
    names: impl Iterator<Item = Cow<'a, str>>,
    naming: Naming,
) {
    for name in names {
        document.inside("CommonPrefixes", |inner| {
            inner.element("Prefix", naming.write(&name));
        });
    }
}

/// Algorithm and kind of a checksum, where there is one.
pub fn checksum(document: &mut Document, checksum: Option<(Algorithm, Kind)>) {
    if let Some((algorithm, kind)) = checksum {
        document.element("ChecksumAlgorithm", algorithm.name());
        document.element("ChecksumType", kind.name());
    }
}

/// The owners of a page's lines. Mostly it is one, and is written out once.
struct Owners<'a> {
    ctx: &'a OpContext,
    /// Of the bucket, and so of the lines that name none.
    bucket: &'a str,
    last: Option<(Option<Bytes>, String)>,
}

impl<'a> Owners<'a> {
    fn new(ctx: &'a OpContext, bucket: &'a str) -> Owners<'a> {
        let last = None;
        Owners { ctx, bucket, last }
    }

    fn write(&mut self, document: &mut Document, owner: Option<&Bytes>) {
        if self.last.as_ref().map(|(last, _)| last.as_ref()) != Some(owner) {
            let id = owner.map_or(Cow::Borrowed(self.bucket), name);
            let written = Document::part(|part| part.somebody(self.ctx, "Owner", &id));
            self.last = Some((owner.cloned(), written));
        }
        if let Some((_, written)) = &self.last {
            document.again(written);
        }
    }
}

/// The lines of a page and what is rolled up in it.
fn contents(
    document: &mut Document,
    page: &ObjectsReply,
    naming: Naming,
    mut owners: Option<Owners<'_>>,
) {
    for line in &page.objects {
        document.inside("Contents", |inner| object(inner, line, naming, &mut owners));
    }
    prefixes(document, page.prefixes.iter().map(name), naming);
}

fn object(
    document: &mut Document,
    line: &ObjectLine,
    naming: Naming,
    owners: &mut Option<Owners<'_>>,
) {
    document.element("Key", naming.write(&name(&line.key)));
    document.moment("LastModified", line.modified_ms);
    document.etag(&line.etag);
    checksum(document, line.checksum);
    document.number("Size", line.size);
    if let Some(owners) = owners {
        owners.write(document, line.owner.as_ref());
    }
    document.element("StorageClass", "STANDARD");
}

fn page_document(page: &ObjectsReply, with_owner: bool) -> Document {
    let keys: usize = page.objects.iter().map(|line| line.key.len()).sum();
    let line = LINE_BYTES + if with_owner { 160 } else { 0 };
    Document::with_capacity(
        "ListBucketResult",
        1024 + keys + page.objects.len() * line + page.prefixes.len() * 128,
    )
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
    let prefix = input.prefix.unwrap_or_default();
    let request = ops::ListObjects {
        bucket: headers::bucket(call, input.bucket.clone()),
        prefix: prefix.clone(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        start,
        max: input.max_keys,
    };
    let page = ops::list_objects(ctx, &call.principal, request).await?;
    let with_owner = input.fetch_owner.unwrap_or(false);

    let mut document = page_document(&page, with_owner);
    document.element("Name", &input.bucket);
    document.element("Prefix", naming.write(&prefix));
    let written = |name: &'static str, value: &Option<String>, document: &mut Document| {
        document.maybe(name, value.as_deref().map(|value| naming.write(value)));
    };
    written("StartAfter", &input.start_after, &mut document);
    document.maybe("ContinuationToken", input.continuation_token);
    document.maybe("NextContinuationToken", page.next_token.as_ref());
    document.number(
        "KeyCount",
        (page.objects.len() + page.prefixes.len()) as u64,
    );
    document.number("MaxKeys", page.max.into());
    written("Delimiter", &input.delimiter, &mut document);
    let encoding = input.encoding_type.as_ref();
    document.maybe("EncodingType", encoding.map(EncodingType::as_str));
    document.flag("IsTruncated", page.truncated);
    let owners = with_owner.then(|| Owners::new(ctx, &page.owner));
    contents(&mut document, &page, naming, owners);
    call.answer_with(document);
    Ok(S3Response::new(ListObjectsV2Output::default()))
}

pub async fn list_objects(
    ctx: &OpContext,
    call: &Call,
    input: ListObjectsInput,
) -> Reply<ListObjectsOutput> {
    // 2 is another call; there is no third.
    if let Some(other) = call.parameter("list-type") {
        let message = "Invalid List Type specified in Request";
        return Err(WireError::bad("InvalidArgument", message)
            .detail("ArgumentName", "list-type")
            .detail("ArgumentValue", other));
    }
    let naming = naming(input.encoding_type.as_ref())?;
    let prefix = input.prefix.unwrap_or_default();
    let marker = input.marker.unwrap_or_default();
    let request = ops::ListObjects {
        bucket: headers::bucket(call, input.bucket.clone()),
        prefix: prefix.clone(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        start: if marker.is_empty() {
            Start::Beginning
        } else {
            Start::After(marker.clone())
        },
        max: input.max_keys,
    };
    let page = ops::list_objects(ctx, &call.principal, request).await?;
    // S3 names the next marker only where a page may end with a rolled-up prefix; else it is the last key.
    let delimiter = input.delimiter.as_deref();
    let rolls_up = delimiter.is_some_and(|delimiter| !delimiter.is_empty());
    let next = page.next_marker.as_deref().filter(|_| rolls_up);

    let mut document = page_document(&page, true);
    document.element("Name", &input.bucket);
    document.element("Prefix", naming.write(&prefix));
    document.element("Marker", naming.write(&marker));
    document.maybe("NextMarker", next.map(|name| naming.write(name)));
    document.number("MaxKeys", page.max.into());
    document.maybe("Delimiter", delimiter.map(|name| naming.write(name)));
    let encoding = input.encoding_type.as_ref();
    document.maybe("EncodingType", encoding.map(EncodingType::as_str));
    document.flag("IsTruncated", page.truncated);
    let owners = Owners::new(ctx, &page.owner);
    contents(&mut document, &page, naming, Some(owners));
    call.answer_with(document);
    Ok(S3Response::new(ListObjectsOutput::default()))
}

pub async fn list_object_versions(
    ctx: &OpContext,
    call: &Call,
    input: ListObjectVersionsInput,
) -> Reply<ListObjectVersionsOutput> {
    let naming = naming(input.encoding_type.as_ref())?;
    let prefix = input.prefix.unwrap_or_default();
    let request = ops::ListVersions {
        bucket: headers::bucket(call, input.bucket.clone()),
        prefix: prefix.clone(),
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
    let bytes = 1024 + page.versions.len() * 2 * LINE_BYTES;
    let mut document = Document::with_capacity("ListVersionsResult", bytes);
    document.element("Name", &input.bucket);
    document.element("Prefix", naming.write(&prefix));
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
    document.number("MaxKeys", page.max.into());
    let delimiter = input.delimiter.as_deref();
    document.maybe("Delimiter", delimiter.map(|name| naming.write(name)));
    let encoding = input.encoding_type.as_ref();
    document.maybe("EncodingType", encoding.map(EncodingType::as_str));
    document.flag("IsTruncated", next_key.is_some());
    let mut owners = Owners::new(ctx, &page.owner);
    for line in &page.versions {
        let name = if line.is_marker {
            "DeleteMarker"
        } else {
            "Version"
        };
        document.inside(name, |inner| version(inner, line, naming, &mut owners));
    }
    prefixes(&mut document, page.prefixes.iter().map(name), naming);
    call.answer_with(document);
    Ok(S3Response::new(ListObjectVersionsOutput::default()))
}

fn version(document: &mut Document, line: &VersionLine, naming: Naming, owners: &mut Owners<'_>) {
    document.element("Key", naming.write(&name(&line.key)));
    document.element("VersionId", line.version.to_string());
    document.flag("IsLatest", line.is_latest);
    document.moment("LastModified", line.modified_ms);
    if !line.is_marker {
        document.etag(&line.etag);
        checksum(document, line.checksum);
        document.number("Size", line.size);
    }
    owners.write(document, line.owner.as_ref());
    if !line.is_marker {
        document.element("StorageClass", "STANDARD");
    }
}
