//! Headers of a request in the types of `ops`, and of an object in the headers of an answer.

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::call::Call;
use super::encryption;
use super::error::WireError;
use super::lock;
use crate::auth::canonical;
use crate::object::checksum::{Algorithm, Checksum, Kind};
use crate::object::conditions::{EtagList, ReadConditions};
use crate::object::copy_plan::Directive;
use crate::object::dates;
use crate::object::etag::quoted;
use crate::object::metadata::{self, UserMetadata};
use crate::object::record::ContentHeaders;
use crate::object::tags::{TagError, Tags};
use crate::ops::ObjectHead;
use crate::store::Conditions;
use crate::tenancy::bucket::BucketRef;

/// What S3 says of an object that was put without a type.
const DEFAULT_TYPE: &str = "binary/octet-stream";

fn invalid(name: &str) -> WireError {
    WireError::bad(
        "InvalidArgument",
        format!("The value of the header {name} is not valid."),
    )
    .detail("ArgumentName", name)
}

/// The bucket of a request.
pub fn bucket(call: &Call, name: String) -> BucketRef {
    BucketRef {
        name,
        expected_owner: call
            .header("x-amz-expected-bucket-owner")
            .map(str::to_owned),
    }
}

/// Content headers, as they came. Text that is not UTF-8 cannot be given back in XML or JSON and is refused.
pub fn content(call: &Call) -> Result<ContentHeaders, WireError> {
    let text = |name: HeaderName| -> Result<Option<String>, WireError> {
        match call.headers.get(&name) {
            None => Ok(None),
            Some(value) => {
                let text =
                    std::str::from_utf8(value.as_bytes()).map_err(|_| invalid(name.as_str()))?;
                Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
            }
        }
    };
    Ok(ContentHeaders {
        content_type: text(CONTENT_TYPE)?,
        cache_control: text(CACHE_CONTROL)?,
        content_disposition: text(CONTENT_DISPOSITION)?,
        content_encoding: text(CONTENT_ENCODING)?,
        content_language: text(CONTENT_LANGUAGE)?,
        expires: text(EXPIRES)?,
    })
}

/// `x-amz-meta-*`.
pub fn user_metadata(call: &Call) -> Result<UserMetadata, WireError> {
    let mut entries = Vec::new();
    for (name, value) in &call.headers {
        let Some(short) = name
            .as_str()
            .strip_prefix("x-amz-meta-")
            .filter(|short| !short.is_empty())
        else {
            continue;
        };
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| invalid(name.as_str()))?;
        entries.push((short.to_owned(), metadata::decode(text.trim())));
    }
    Ok(UserMetadata::new(entries)?)
}

/// `x-amz-tagging`: a query string of keys and values. Empty, as some clients send it, is no tags.
pub fn tags(call: &Call) -> Result<Tags, WireError> {
    match call.headers.get("x-amz-tagging") {
        None => Ok(Tags::default()),
        Some(value) => {
            let text = std::str::from_utf8(value.as_bytes()).map_err(|_| TagError::Header)?;
            let pairs = canonical::query_pairs(text.trim()).map_err(|_| TagError::Header)?;
            Ok(Tags::of_header(pairs)?)
        }
    }
}

/// The tags of a copy, unless it has those of its source (`x-amz-tagging-directive`).
pub fn tags_of_copy(call: &Call) -> Result<Option<Tags>, WireError> {
    match directive(call, "x-amz-tagging-directive")? {
        Directive::Copy => Ok(None),
        Directive::Replace => tags(call).map(Some),
    }
}

fn etags(call: &Call, name: &str) -> Result<Option<EtagList>, WireError> {
    let Some(text) = call.header(name) else {
        return Ok(None);
    };
    EtagList::parse(text).map(Some).ok_or_else(|| invalid(name))
}

/// Dates that cannot be read count as absent, as HTTP wants it.
fn date(call: &Call, name: &str) -> Option<u64> {
    call.header(name).and_then(dates::parse_http_date)
}

/// `If-*` of a read.
pub fn read_conditions(call: &Call) -> Result<ReadConditions, WireError> {
    Ok(ReadConditions {
        if_match: etags(call, "if-match")?,
        if_none_match: etags(call, "if-none-match")?,
        if_modified_since: date(call, "if-modified-since"),
        if_unmodified_since: date(call, "if-unmodified-since"),
    })
}

/// `x-amz-copy-source-if-*`.
pub fn source_conditions(call: &Call) -> Result<ReadConditions, WireError> {
    Ok(ReadConditions {
        if_match: etags(call, "x-amz-copy-source-if-match")?,
        if_none_match: etags(call, "x-amz-copy-source-if-none-match")?,
        if_modified_since: date(call, "x-amz-copy-source-if-modified-since"),
        if_unmodified_since: date(call, "x-amz-copy-source-if-unmodified-since"),
    })
}

/// `If-*` of a write. Only ETags: the core decides it when the write is applied, and S3 has no dates here.
pub fn write_conditions(call: &Call) -> Result<Conditions, WireError> {
    Ok(Conditions {
        if_match: etags(call, "if-match")?.map(EtagList::strong_values),
        if_none_match: etags(call, "if-none-match")?.map(EtagList::values),
        ..Conditions::default()
    })
}

/// `If-Match` and `x-amz-if-match-*` of a delete.
pub fn delete_conditions(call: &Call) -> Result<Conditions, WireError> {
    let size = match call.header("x-amz-if-match-size") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| invalid("x-amz-if-match-size"))?),
    };
    let modified = match call.header("x-amz-if-match-last-modified-time") {
        None => None,
        Some(text) => {
            let seconds = dates::parse_http_date(text);
            Some(seconds.ok_or_else(|| invalid("x-amz-if-match-last-modified-time"))? * 1_000)
        }
    };
    Ok(Conditions {
        if_match_size: size,
        if_match_modified_ms: modified,
        ..write_conditions(call)?
    })
}

/// `x-amz-checksum-algorithm`; that it is a known one was checked before.
pub fn algorithm(call: &Call) -> Option<Algorithm> {
    call.header("x-amz-checksum-algorithm")
        .and_then(Algorithm::by_name)
}

/// `x-amz-checksum-type`; that it is a known one was checked before.
pub fn checksum_kind(call: &Call) -> Option<Kind> {
    call.header("x-amz-checksum-type").and_then(Kind::by_name)
}

/// `x-amz-metadata-directive`, `x-amz-tagging-directive`.
pub fn directive(call: &Call, name: &'static str) -> Result<Directive, WireError> {
    match call.header(name) {
        None | Some("") => Ok(Directive::Copy),
        Some(text) => Directive::parse(text).ok_or_else(|| invalid(name)),
    }
}

/// Headers of an answer that is an object.
pub fn of_object(call: &Call, head: &ObjectHead) -> Result<HeaderMap, WireError> {
    let mut out = HeaderMap::with_capacity(16);
    let mut put = |name: HeaderName, value: &str| {
        // Stored values were header values once; one that no longer is would be a header of somebody's making.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            out.insert(name, value);
        }
    };
    let stored = &head.record.headers;
    put(ETAG, &quoted(&head.etag));
    put(LAST_MODIFIED, &dates::http_date(head.modified_ms / 1_000));
    put(ACCEPT_RANGES, "bytes");
    if let Some(range) = head.plan.content_range(head.size) {
        put(CONTENT_RANGE, &range);
    }
    for (name, value, parameter) in [
        (
            CONTENT_TYPE,
            stored.content_type.as_deref().or(Some(DEFAULT_TYPE)),
            "response-content-type",
        ),
        (
            CACHE_CONTROL,
            stored.cache_control.as_deref(),
            "response-cache-control",
        ),
        (
            CONTENT_DISPOSITION,
            stored.content_disposition.as_deref(),
            "response-content-disposition",
        ),
        (
            CONTENT_ENCODING,
            stored.content_encoding.as_deref(),
            "response-content-encoding",
        ),
        (
            CONTENT_LANGUAGE,
            stored.content_language.as_deref(),
            "response-content-language",
        ),
        (EXPIRES, stored.expires.as_deref(), "response-expires"),
    ] {
        // Whoever signed the request may say how its answer is to be taken; no request comes here unsigned.
        if let Some(value) = call.parameter(parameter).or(value) {
            put(name, value);
        }
    }
    for (name, value) in head.record.metadata.iter() {
        if let Ok(name) = HeaderName::try_from(format!("x-amz-meta-{name}")) {
            put(name, &metadata::encode(value));
        }
    }
    if let Some(version) = head.version {
        put(
            HeaderName::from_static("x-amz-version-id"),
            &version.to_string(),
        );
    }
    if let Some(parts) = head.parts {
        put(
            HeaderName::from_static("x-amz-mp-parts-count"),
            &parts.to_string(),
        );
    }
    if let Some(expiration) = &head.expiration {
        put(HeaderName::from_static("x-amz-expiration"), expiration);
    }
    if head.tags > 0 {
        put(
            HeaderName::from_static("x-amz-tagging-count"),
            &head.tags.to_string(),
        );
    }
    let of_whole = head.record.checksum.as_ref().filter(|_| head.plan.whole);
    let checksum = head.part_checksum.as_ref().or(of_whole);
    if let Some(checksum) = checksum.filter(|_| wants_checksum(call)) {
        // A part has a checksum of its bytes; the type is that of the object.
        let kind = head
            .record
            .checksum
            .as_ref()
            .map_or(checksum.kind, |c| c.kind);
        put(
            HeaderName::from_static(checksum.algorithm.header()),
            &checksum.text(),
        );
        put(HeaderName::from_static("x-amz-checksum-type"), kind.name());
    }
    encryption::tell(&mut out, head.record.guard(), call);
    lock::tell(&mut out, &head.lock);
    out.insert(CONTENT_LENGTH, HeaderValue::from(head.plan.len()));
    Ok(out)
}

fn wants_checksum(call: &Call) -> bool {
    call.header("x-amz-checksum-mode")
        .is_some_and(|mode| mode.eq_ignore_ascii_case("ENABLED"))
}

/// A checksum in the headers of an answer to a write.
pub fn of_checksum(out: &mut HeaderMap, checksum: &Checksum) {
    if let Ok(value) = HeaderValue::try_from(checksum.text()) {
        out.insert(HeaderName::from_static(checksum.algorithm.header()), value);
    }
}
