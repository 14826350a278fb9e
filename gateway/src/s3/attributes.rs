//! GetObjectAttributes.

use http::HeaderMap;
use http::header::LAST_MODIFIED;
use s3s::S3Response;
use s3s::dto::{GetObjectAttributesInput, GetObjectAttributesOutput};

use super::call::Call;
use super::encryption;
use super::error::WireError;
use super::headers;
use super::objects::{Reply, header};
use super::xml::Document;
use crate::object::attributes::{self, Attribute, AttributesError, PartsPage};
use crate::object::dates;
use crate::object::listing::MAX_PAGE;
use crate::ops::{self, OpContext};

impl From<AttributesError> for WireError {
    fn from(error: AttributesError) -> WireError {
        let message = error.to_string();
        match error {
            AttributesError::None => WireError::invalid(message),
            AttributesError::Unknown => WireError::bad("InvalidArgument", message)
                .detail("ArgumentName", "x-amz-object-attributes"),
        }
    }
}

/// A header that is a number.
fn number(call: &Call, name: &'static str, otherwise: u32) -> Result<u32, WireError> {
    match call.header(name) {
        None | Some("") => Ok(otherwise),
        Some(text) => text.parse().map_err(|_| {
            WireError::bad(
                "InvalidArgument",
                format!("Provided {name} not an integer or within integer range"),
            )
            .detail("ArgumentName", name)
        }),
    }
}

pub async fn get_object_attributes(
    ctx: &OpContext,
    call: &Call,
    input: GetObjectAttributesInput,
) -> Reply<GetObjectAttributesOutput> {
    let values = call.headers.get_all("x-amz-object-attributes").iter();
    let asked = attributes::parse(values.map(|value| value.to_str().unwrap_or("?")))?;
    let wants = |attribute| asked.contains(&attribute);
    let page = (
        number(call, "x-amz-part-number-marker", 0)?,
        number(call, "x-amz-max-parts", MAX_PAGE)?,
    );
    let request = ops::GetObjectAttributes {
        bucket: headers::bucket(call, input.bucket),
        key: input.key,
        version: input.version_id,
        parts: wants(Attribute::ObjectParts).then_some(page),
        customer_key: encryption::customer_key(call)?,
    };
    let found = ops::get_object_attributes(ctx, &call.principal, request).await?;

    let mut document = Document::new("GetObjectAttributesResponse");
    if wants(Attribute::ETag) {
        document.element("ETag", &found.etag);
    }
    if let Some(checksum) = found.checksum.filter(|_| wants(Attribute::Checksum)) {
        document.inside("Checksum", |inner| {
            inner.checksum(&checksum);
            inner.element("ChecksumType", checksum.kind.name());
        });
    }
    if let Some(page) = &found.parts {
        document.inside("ObjectParts", |inner| write_parts(inner, page));
    }
    if wants(Attribute::StorageClass) {
        document.element("StorageClass", "STANDARD");
    }
    if wants(Attribute::ObjectSize) {
        document.number("ObjectSize", found.size);
    }
    call.answer_with(document);
    let mut out = HeaderMap::with_capacity(4);
    if let Ok(date) = dates::http_date(found.modified_ms / 1_000).try_into() {
        out.insert(LAST_MODIFIED, date);
    }
    if let Some(version) = found.version {
        header(&mut out, "x-amz-version-id", &version.to_string());
    }
    Ok(S3Response::with_headers(
        GetObjectAttributesOutput::default(),
        out,
    ))
}

fn write_parts(document: &mut Document, page: &PartsPage) {
    document.number("PartsCount", page.total.into());
    document.number("PartNumberMarker", page.after.into());
    if let Some(last) = page.parts.last().filter(|_| page.truncated) {
        document.number("NextPartNumberMarker", last.number.into());
    }
    document.number("MaxParts", page.max.into());
    document.flag("IsTruncated", page.truncated);
    for part in &page.parts {
        document.inside("Part", |line| {
            if let Some(checksum) = &part.checksum {
                line.checksum(checksum);
            }
            line.number("PartNumber", part.number.into());
            line.number("Size", part.size);
        });
    }
}
