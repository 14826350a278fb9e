//! What the headers of a request may not be, whoever sent it.
//!
//! ```text
//!   before the signature is looked at     too large, sent twice, two lengths         (check)
//!   after it                              asks for what we do not do                 (check_supported)
//! ```
//! Always true: a header that would change what is stored, or who may see it, is obeyed or refused by name; none is
//! taken and then not honoured.

use http::header::{
    CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, DATE,
    EXPIRES, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName};

use super::encryption;
use super::error::WireError;
use super::lock;
use crate::object::checksum::Algorithm;

/// S3's limit on the headers of a request, names and values.
pub const MAX_HEADER_BYTES: usize = 8 << 10;

/// Headers that have one value, besides every `x-amz-*`. Said twice, two readers of the request could take another one each (T7).
const SINGLE: [HeaderName; 13] = [
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    DATE,
    EXPIRES,
    HOST,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_UNMODIFIED_SINCE,
    RANGE,
];

/// `x-amz-*` headers that are lists.
const LISTS: [&str; 2] = [
    "x-amz-object-attributes",
    "x-amz-optional-object-attributes",
];

/// Looks at form only.
pub fn check(headers: &HeaderMap) -> Result<(), WireError> {
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > MAX_HEADER_BYTES {
        let message = "Your request header and query parameters section exceed the maximum allowed request header section size.";
        return Err(WireError::bad("RequestHeaderSectionTooLarge", message)
            .detail("MaxSizeAllowed", MAX_HEADER_BYTES.to_string()));
    }
    if headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
        return Err(WireError::invalid(
            "Content-Length and Transfer-Encoding must not both be sent.",
        ));
    }
    // Far fewer values than names differ only when some name came twice.
    if headers.len() == headers.keys_len() {
        return Ok(());
    }
    for name in headers.keys() {
        let text = name.as_str();
        let single = SINGLE.contains(name)
            || text == "content-md5"
            || (text.starts_with("x-amz-") && !LISTS.contains(&text));
        if single && headers.get_all(name).iter().nth(1).is_some() {
            return Err(WireError::invalid(format!(
                "The header {text} was sent more than once."
            )));
        }
    }
    Ok(())
}

/// Looks at what is asked for. Nothing is said here of headers that nobody knows: they are ignored.
pub fn check_supported(headers: &HeaderMap) -> Result<(), WireError> {
    for (name, value) in headers {
        let Some(rest) = name.as_str().strip_prefix("x-amz-") else {
            continue;
        };
        // Its path is no bucket's name, so that nothing else would name it.
        if rest == "request-route" {
            return Err(WireError::not_implemented("WriteGetObjectResponse"));
        }
        let value = value.as_bytes();
        let allowed = match rest {
            "acl" => matches!(value, b"private" | b"bucket-owner-full-control" | b""),
            "storage-class" => matches!(value, b"STANDARD" | b""),
            "bucket-object-lock-enabled" => {
                value.eq_ignore_ascii_case(b"true") || value.eq_ignore_ascii_case(b"false")
            }
            "object-ownership" => value == b"BucketOwnerEnforced",
            "request-payer" => true,
            "website-redirect-location" | "write-offset-bytes" | "mfa" => value.is_empty(),
            "checksum-algorithm" => {
                std::str::from_utf8(value).is_ok_and(|v| Algorithm::by_name(v).is_some())
            }
            "checksum-type" => matches!(value, b"FULL_OBJECT" | b"COMPOSITE"),
            "checksum-mode" => true,
            _ if rest.starts_with("server-side-encryption")
                || rest.starts_with("copy-source-server-side-encryption") =>
            {
                encryption::is_known(name.as_str())
            }
            _ if rest.starts_with("checksum-") => Algorithm::by_header(name.as_str()).is_some(),
            _ if rest.starts_with("object-lock-") => lock::is_known(name.as_str()),
            _ => !["grant-", "rename-source"]
                .iter()
                .any(|refused| rest.starts_with(refused)),
        };
        if !allowed {
            let shown = if rest.contains("encryption") {
                String::new()
            } else {
                format!(": {}", String::from_utf8_lossy(value))
            };
            return Err(WireError::not_implemented(&format!(
                "the header {name}{shown}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::try_from(*value).unwrap());
        }
        headers
    }

    /// T27: the limit itself is taken, one byte more is not.
    #[test]
    fn headers_have_at_most_8_kib() {
        let value = |len: usize| "v".repeat(len - "x-pad".len());
        assert_eq!(
            check(&headers(&[("x-pad", &value(MAX_HEADER_BYTES))])),
            Ok(())
        );
        let error = check(&headers(&[("x-pad", &value(MAX_HEADER_BYTES + 1))])).unwrap_err();
        assert_eq!(error.code, "RequestHeaderSectionTooLarge");
    }

    /// T7.
    #[test]
    fn a_header_with_one_value_is_not_sent_twice() {
        for name in [
            "host",
            "content-length",
            "content-type",
            "content-md5",
            "range",
            "if-match",
            "x-amz-date",
            "x-amz-copy-source",
            "x-amz-meta-a",
            "x-amz-content-sha256",
            "date",
            "content-encoding",
        ] {
            let twice = headers(&[(name, "a"), (name, "a")]);
            assert_eq!(check(&twice).unwrap_err().code, "InvalidRequest", "{name}");
        }
        let lists = headers(&[
            ("accept", "a"),
            ("accept", "b"),
            ("x-amz-optional-object-attributes", "a"),
            ("x-amz-optional-object-attributes", "b"),
            ("via", "a"),
            ("via", "b"),
        ]);
        assert_eq!(check(&lists), Ok(()));
    }

    #[test]
    fn two_lengths_are_refused() {
        assert!(
            check(&headers(&[
                ("content-length", "1"),
                ("transfer-encoding", "chunked")
            ]))
            .is_err()
        );
    }

    #[test]
    fn what_we_do_not_do_is_refused_with_its_name() {
        for (name, value) in [
            ("x-amz-acl", "public-read"),
            ("x-amz-grant-read", "id=1"),
            ("x-amz-storage-class", "GLACIER"),
            ("x-amz-website-redirect-location", "/x"),
            ("x-amz-object-lock-event", "x"),
            ("x-amz-bucket-object-lock-enabled", "maybe"),
            ("x-amz-server-side-encryption-customer-kez", "secret"),
            ("x-amz-checksum-sha512", "x"),
            ("x-amz-checksum-xxhash64", "x"),
            ("x-amz-checksum-algorithm", "MD5"),
            ("x-amz-write-offset-bytes", "1"),
            ("x-amz-object-ownership", "ObjectWriter"),
        ] {
            let error = check_supported(&headers(&[(name, value)])).unwrap_err();
            assert_eq!(error.code, "NotImplemented", "{name}");
            assert!(
                error.message.contains(name) && !error.message.contains("secret"),
                "{}",
                error.message
            );
        }
    }

    #[test]
    fn what_says_nothing_new_is_taken() {
        let harmless = headers(&[
            ("x-amz-acl", "private"),
            ("x-amz-tagging", ""),
            ("x-amz-storage-class", "STANDARD"),
            ("x-amz-checksum-crc32", "AAAAAA=="),
            ("x-amz-checksum-algorithm", "crc32"),
            ("x-amz-checksum-mode", "ENABLED"),
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-server-side-encryption-customer-key", "secret"),
            (
                "x-amz-copy-source-server-side-encryption-customer-algorithm",
                "AES256",
            ),
            ("x-amz-meta-server-side-encryption", "x"),
            ("x-amz-sdk-checksum-algorithm", "SHA512"),
            ("x-amz-request-payer", "requester"),
            ("x-amz-meta-acl", "public-read"),
            ("x-amz-some-new-hint", "1"),
            ("x-amz-bucket-object-lock-enabled", "false"),
            ("x-amz-object-lock-mode", "COMPLIANCE"),
            ("x-amz-object-lock-legal-hold", "ON"),
        ]);
        assert_eq!(check_supported(&harmless), Ok(()));
        assert_eq!(
            check_supported(&headers(&[("x-amz-acl", "bucket-owner-full-control")])),
            Ok(())
        );
    }
}
