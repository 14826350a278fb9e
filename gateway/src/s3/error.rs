//! Our errors in S3's words: code, status, message, XML.
//!
//! ```xml
//!   <Error><Code>NoSuchKey</Code><Message>…</Message><Key>a</Key>
//!          <Resource>/bucket/a</Resource><RequestId>…</RequestId><HostId>…</HostId></Error>
//! ```
//! Always true:
//! * every answer that is no success is made here, so every one has a request id, and none has our internals in it but
//!   for what the operator must hear (damage, a full disk);
//! * a 304 and the answer to a HEAD have no body.
//!
//! Codes that S3 does not have: `InsufficientStorage` (507) for a full disk, and `QuotaExceeded` (403) for a full quota.
//! The first is not retried by SDKs, as 503 would be: writing again at once cannot help.

use http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, RETRY_AFTER,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::reply_body::ReplyBody;
use super::request_id::RequestId;
use super::xml::element;
use crate::auth::authenticate::{AuthError, MAX_SKEW};
use crate::auth::claim::ClaimError;
use crate::auth::post_policy::PolicyError;
use crate::object::checksum::ChecksumError;
use crate::object::complete_plan::{CompleteError, MIN_PART};
use crate::object::copy_plan::CopyError;
use crate::object::dates;
use crate::object::etag::quoted;
use crate::object::get_plan::GetError;
use crate::object::metadata::{self, MetadataError};
use crate::object::name::{MAX_KEY_BYTES, NameError};
use crate::object::put_plan::MAX_BODY;
use crate::object::tags::TagError;
use crate::ops::{Marker, Missing, OpError, REGION};
use crate::store::payload::PayloadError;

/// An answer that is no success.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WireError {
    /// `<Code>`.
    pub code: &'static str,
    /// HTTP status.
    pub status: StatusCode,
    /// `<Message>`.
    pub message: String,
    /// More elements.
    pub details: Vec<(&'static str, String)>,
    /// More headers.
    pub headers: Vec<(HeaderName, String)>,
}

impl WireError {
    /// Without details.
    pub fn new(code: &'static str, status: StatusCode, message: impl Into<String>) -> WireError {
        WireError {
            code,
            status,
            message: message.into(),
            details: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// 400.
    pub fn bad(code: &'static str, message: impl Into<String>) -> WireError {
        WireError::new(code, StatusCode::BAD_REQUEST, message)
    }

    /// 400 InvalidRequest.
    pub fn invalid(message: impl Into<String>) -> WireError {
        WireError::bad("InvalidRequest", message)
    }

    /// 501, naming what is not done.
    pub fn not_implemented(what: &str) -> WireError {
        let message = format!(
            "A header, parameter or operation you provided implies functionality that is not implemented: {what}"
        );
        WireError::new("NotImplemented", StatusCode::NOT_IMPLEMENTED, message)
    }

    /// A document that is not what S3 expects.
    pub fn malformed_xml() -> WireError {
        WireError::bad("MalformedXML", default_message("MalformedXML"))
    }

    /// S3 has no such method on what is named.
    pub fn method_not_allowed() -> WireError {
        let message = default_message("MethodNotAllowed");
        WireError::new("MethodNotAllowed", StatusCode::METHOD_NOT_ALLOWED, message)
    }

    /// With another element.
    pub fn detail(mut self, name: &'static str, value: impl Into<String>) -> WireError {
        self.details.push((name, value.into()));
        self
    }

    /// With another header.
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> WireError {
        self.headers.push((name, value.into()));
        self
    }

    /// The answer.
    pub fn render(self, id: RequestId, resource: &str, with_body: bool) -> Response<ReplyBody> {
        let mut response = Response::new(ReplyBody::empty());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in &self.headers {
            // A value that no header can carry is left out: nothing here may add lines to an answer (T24).
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        stamp(headers, id);
        // Clients that guessed the region wrong look for it in errors.
        headers.insert("x-amz-bucket-region", HeaderValue::from_static(REGION));
        if self.status == StatusCode::NOT_MODIFIED {
            return response;
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        if with_body {
            let mut xml = String::with_capacity(384);
            xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
            element(&mut xml, "Code", self.code);
            element(&mut xml, "Message", &self.message);
            for (name, value) in &self.details {
                element(&mut xml, name, value);
            }
            element(&mut xml, "Resource", resource);
            element(&mut xml, "RequestId", &id.to_string());
            element(&mut xml, "HostId", &id.host_id());
            xml.push_str("</Error>");
            headers.insert(CONTENT_LENGTH, HeaderValue::from(xml.len()));
            *response.body_mut() = ReplyBody::from(bytes::Bytes::from(xml));
        }
        response
    }
}

/// The ids that every answer has.
pub(super) fn stamp(headers: &mut http::HeaderMap, id: RequestId) {
    for (name, value) in [
        ("x-amz-request-id", id.to_string()),
        ("x-amz-id-2", id.host_id()),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    headers.insert(http::header::SERVER, HeaderValue::from_static("minikv"));
}

/// An answer of the listener itself, before a request reached us (too many at once, shutting down).
pub fn refusal(code: &'static str, status: StatusCode, message: &str) -> Response<ReplyBody> {
    let error = WireError::new(code, status, message);
    let error = if status == StatusCode::SERVICE_UNAVAILABLE {
        error.header(RETRY_AFTER, "1")
    } else {
        error
    };
    error.render(RequestId::next(), "/", true)
}

/// What s3s said, in our form: it has its own list of codes, which are S3's.
pub(super) fn from_s3s(status: StatusCode, xml: &[u8]) -> WireError {
    let text = String::from_utf8_lossy(xml);
    let find = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (value, _) = rest.split_once(&format!("</{name}>"))?;
        Some(
            quick_xml::escape::unescape(value)
                .map_or_else(|_| value.to_owned(), std::borrow::Cow::into_owned),
        )
    };
    let code: &'static str = match find("Code").as_deref() {
        Some("InvalidArgument") => "InvalidArgument",
        Some("InvalidBucketName") => "InvalidBucketName",
        Some("InvalidRequest") => "InvalidRequest",
        Some("InvalidURI") => "InvalidURI",
        Some("KeyTooLongError") => "KeyTooLongError",
        Some("MalformedXML") => "MalformedXML",
        Some("MaxMessageLengthExceeded") => "MaxMessageLengthExceeded",
        Some("MethodNotAllowed") => "MethodNotAllowed",
        Some("MissingContentLength") => "MissingContentLength",
        Some("MissingRequestBodyError") => "MissingRequestBodyError",
        Some("NotImplemented") => "NotImplemented",
        _ if status.is_client_error() => "InvalidRequest",
        _ => "InternalError",
    };
    let message = find("Message").unwrap_or_else(|| default_message(code).to_owned());
    WireError::new(code, status, message)
}

fn default_message(code: &str) -> &'static str {
    match code {
        "InvalidBucketName" => "The specified bucket is not valid.",
        "InvalidURI" => "Couldn't parse the specified URI.",
        "KeyTooLongError" => "Your key is too long",
        "MalformedXML" => {
            "The XML you provided was not well-formed or did not validate against our published schema"
        }
        "MaxMessageLengthExceeded" => "Your request was too large.",
        "MethodNotAllowed" => "The specified method is not allowed against this resource.",
        "MissingRequestBodyError" => "Request Body is empty",
        _ => "We encountered an error. Please try again.",
    }
}

impl From<AuthError> for WireError {
    fn from(error: AuthError) -> WireError {
        let message = error.to_string();
        let forbidden = |code| WireError::new(code, StatusCode::FORBIDDEN, message.clone());
        match error {
            AuthError::Anonymous | AuthError::NotYetValid => forbidden("AccessDenied"),
            AuthError::Claim(claim) => claim.into(),
            AuthError::WrongRegion {
                expected,
                presigned,
                ..
            } => scope_error(presigned, &message).detail("Region", expected),
            AuthError::WrongService { presigned, .. } => scope_error(presigned, &message),
            AuthError::TimeSkewed { signed, now } => forbidden("RequestTimeTooSkewed")
                .detail("RequestTime", signed)
                .detail("ServerTime", dates::rfc3339(now * 1_000))
                .detail("MaxAllowedSkewMilliseconds", (MAX_SKEW * 1_000).to_string()),
            AuthError::Expired { at, now } => forbidden("AccessDenied")
                .detail("Expires", dates::rfc3339(at * 1_000))
                .detail("ServerTime", dates::rfc3339(now * 1_000)),
            AuthError::UnknownKey(key) => {
                forbidden("InvalidAccessKeyId").detail("AWSAccessKeyId", key)
            }
            AuthError::Token => WireError::bad("InvalidToken", message),
            AuthError::Signature => forbidden("SignatureDoesNotMatch"),
            AuthError::NotSigned(names) => {
                forbidden("AccessDenied").detail("HeadersNotSigned", names.join(", "))
            }
            AuthError::NoPayloadHash => WireError::invalid(message),
            AuthError::PayloadHash => WireError::bad("InvalidArgument", message)
                .detail("ArgumentName", "x-amz-content-sha256"),
            AuthError::FormField(name) => {
                WireError::bad("InvalidArgument", message).detail("ArgumentName", name)
            }
            AuthError::PayloadUnsupported(_) => {
                WireError::new("NotImplemented", StatusCode::NOT_IMPLEMENTED, message)
            }
        }
    }
}

fn scope_error(presigned: bool, message: &str) -> WireError {
    if presigned {
        let message = format!("Error parsing the X-Amz-Credential parameter; {message}");
        WireError::bad("AuthorizationQueryParametersError", message)
    } else {
        WireError::bad(
            "AuthorizationHeaderMalformed",
            format!("The authorization header is malformed; {message}"),
        )
    }
}

impl From<ClaimError> for WireError {
    fn from(error: ClaimError) -> WireError {
        let message = error.to_string();
        match error {
            ClaimError::SignatureV2 => WireError::invalid(message),
            ClaimError::Both => {
                WireError::bad("InvalidArgument", message).detail("ArgumentName", "Authorization")
            }
            ClaimError::Header(_) => WireError::bad("AuthorizationHeaderMalformed", message),
            ClaimError::Query(_) => WireError::bad("AuthorizationQueryParametersError", message),
            ClaimError::NoDate => WireError::new("AccessDenied", StatusCode::FORBIDDEN, message),
        }
    }
}

impl From<ChecksumError> for WireError {
    fn from(error: ChecksumError) -> WireError {
        let message = error.to_string();
        match error {
            ChecksumError::BadMd5Text => WireError::bad("InvalidDigest", message),
            ChecksumError::BadText(_) | ChecksumError::Several | ChecksumError::UnknownTrailer => {
                WireError::invalid(message)
            }
            ChecksumError::BadTrailer | ChecksumError::TrailerMissing(_) => {
                WireError::bad("MalformedTrailerError", message)
            }
            ChecksumError::Md5Differs | ChecksumError::Differs(_) => {
                WireError::bad("BadDigest", message)
            }
            ChecksumError::PayloadDiffers => WireError::bad("XAmzContentSHA256Mismatch", message),
        }
    }
}

impl From<PolicyError> for WireError {
    fn from(error: PolicyError) -> WireError {
        let message = error.to_string();
        match error {
            PolicyError::Malformed(_) => WireError::bad("InvalidPolicyDocument", message),
            PolicyError::Expired | PolicyError::Failed(_) | PolicyError::Extra(_) => {
                WireError::new("AccessDenied", StatusCode::FORBIDDEN, message)
            }
        }
    }
}

impl From<PayloadError> for WireError {
    fn from(error: PayloadError) -> WireError {
        let message = error.to_string();
        match error {
            PayloadError::Incomplete | PayloadError::Broken(_) => {
                WireError::bad("IncompleteBody", message)
            }
            PayloadError::Framing(_) => WireError::invalid(message),
            PayloadError::ChunkSignature => {
                WireError::new("SignatureDoesNotMatch", StatusCode::FORBIDDEN, message)
            }
            PayloadError::Trailer => WireError::bad("MalformedTrailerError", message),
            PayloadError::TimedOut => WireError::bad("RequestTimeout", message),
            PayloadError::Form => WireError::bad("MalformedPOSTRequest", message),
            PayloadError::TooLarge { most } => {
                WireError::bad("EntityTooLarge", message).detail("MaxSizeAllowed", most.to_string())
            }
            PayloadError::TooSmall { least, proposed } => WireError::bad("EntityTooSmall", message)
                .detail("ProposedSize", proposed.to_string())
                .detail("MinSizeAllowed", least.to_string()),
            PayloadError::Source(_) => {
                WireError::new("InternalError", StatusCode::INTERNAL_SERVER_ERROR, message)
            }
        }
    }
}

impl From<MetadataError> for WireError {
    fn from(error: MetadataError) -> WireError {
        let message = error.to_string();
        match error {
            MetadataError::TooLarge => WireError::bad("MetadataTooLarge", message)
                .detail("MaxSizeAllowed", metadata::MAX_BYTES.to_string()),
            MetadataError::Twice(_) => WireError::invalid(message),
        }
    }
}

impl From<TagError> for WireError {
    fn from(error: TagError) -> WireError {
        let message = error.to_string();
        match error {
            TagError::TooMany(_) => WireError::bad("BadRequest", message),
            TagError::Header => {
                WireError::bad("InvalidArgument", message).detail("ArgumentName", "x-amz-tagging")
            }
            TagError::Key | TagError::Value | TagError::Twice | TagError::System => {
                WireError::bad("InvalidTag", message)
            }
        }
    }
}

impl From<OpError> for WireError {
    #[allow(clippy::too_many_lines, reason = "a table")]
    fn from(error: OpError) -> WireError {
        let message = error.to_string();
        let not_found = |code| WireError::new(code, StatusCode::NOT_FOUND, message.clone());
        let conflict = |code| WireError::new(code, StatusCode::CONFLICT, message.clone());
        let forbidden = |code| WireError::new(code, StatusCode::FORBIDDEN, message.clone());
        let unavailable = || {
            WireError::new(
                "ServiceUnavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                message.clone(),
            )
            .header(RETRY_AFTER, "1")
        };
        match error {
            OpError::Denied => forbidden("AccessDenied"),
            OpError::NoSuchBucket { bucket } => {
                not_found("NoSuchBucket").detail("BucketName", bucket)
            }
            OpError::NoSuchKey { key, marker } => {
                marked(not_found("NoSuchKey").detail("Key", key), marker)
            }
            OpError::NoSuchVersion { key, version } => not_found("NoSuchVersion")
                .detail("Key", key)
                .detail("VersionId", version),
            OpError::MarkerAsked { marker } => {
                let error =
                    WireError::new("MethodNotAllowed", StatusCode::METHOD_NOT_ALLOWED, message)
                        .detail("ResourceType", "DeleteMarker")
                        .header(ALLOW, "DELETE")
                        .header(LAST_MODIFIED, dates::http_date(marker.modified_ms / 1_000));
                marked(error, Some(marker))
            }
            OpError::NoSuchUpload { upload } => {
                not_found("NoSuchUpload").detail("UploadId", upload)
            }
            OpError::BucketOwned { bucket } => {
                conflict("BucketAlreadyOwnedByYou").detail("BucketName", bucket)
            }
            OpError::BucketTaken { bucket } => {
                conflict("BucketAlreadyExists").detail("BucketName", bucket)
            }
            OpError::BucketNotEmpty { bucket } => {
                conflict("BucketNotEmpty").detail("BucketName", bucket)
            }
            OpError::Location { asked } => WireError::bad("InvalidLocationConstraint", message)
                .detail("LocationConstraint", asked),
            OpError::Name(NameError::Bucket(_)) => WireError::bad("InvalidBucketName", message),
            OpError::Name(NameError::EmptyKey) => WireError::invalid(message),
            OpError::Name(NameError::KeyTooLong) => {
                WireError::bad("KeyTooLongError", "Your key is too long")
                    .detail("MaxSizeAllowed", MAX_KEY_BYTES.to_string())
            }
            OpError::Precondition { condition } => WireError::new(
                "PreconditionFailed",
                StatusCode::PRECONDITION_FAILED,
                message,
            )
            .detail("Condition", condition),
            OpError::NotModified {
                etag,
                modified_ms,
                version,
            } => {
                let error = WireError::new("NotModified", StatusCode::NOT_MODIFIED, message)
                    .header(ETAG, quoted(&etag))
                    .header(LAST_MODIFIED, dates::http_date(modified_ms / 1_000));
                match version {
                    Some(version) => error.header(
                        HeaderName::from_static("x-amz-version-id"),
                        version.to_string(),
                    ),
                    None => error,
                }
            }
            OpError::Get(get) => match get {
                GetError::RangeOutside { size } => {
                    WireError::new("InvalidRange", StatusCode::RANGE_NOT_SATISFIABLE, message)
                        .detail("ActualObjectSize", size.to_string())
                        .header(CONTENT_RANGE, format!("bytes */{size}"))
                }
                GetError::NoSuchPart => WireError::new(
                    "InvalidPartNumber",
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    message,
                ),
                GetError::PartNumber => {
                    WireError::bad("InvalidArgument", message).detail("ArgumentName", "partNumber")
                }
                GetError::RangeAndPart => WireError::invalid(message),
            },
            OpError::Checksum(checksum) => checksum.into(),
            OpError::Payload(payload) => payload.into(),
            OpError::TooLarge(_) => WireError::bad("EntityTooLarge", message)
                .detail("MaxSizeAllowed", MAX_BODY.to_string()),
            OpError::Metadata(metadata) => metadata.into(),
            OpError::Tag(tag) => tag.into(),
            OpError::Copy(copy) => match copy {
                CopyError::OntoItself | CopyError::TooLarge => WireError::invalid(message),
                CopyError::RangeText | CopyError::RangeOutside(_) => {
                    WireError::bad("InvalidArgument", message)
                        .detail("ArgumentName", "x-amz-copy-source-range")
                }
            },
            OpError::Encryption(encryption) => encryption.into(),
            OpError::Lock(lock) => lock.into(),
            OpError::NotConfigured(Missing::PublicAccessBlock) => {
                not_found("NoSuchPublicAccessBlockConfiguration")
            }
            OpError::NotConfigured(Missing::OwnershipControls) => {
                not_found("OwnershipControlsNotFoundError")
            }
            OpError::Complete(complete) => complete_error(complete, message),
            OpError::Argument { name, .. } => {
                WireError::bad("InvalidArgument", message).detail("ArgumentName", name)
            }
            OpError::Request(_) => WireError::invalid(message),
            OpError::Token => WireError::bad("InvalidArgument", message)
                .detail("ArgumentName", "continuation-token"),
            OpError::QuotaExceeded => forbidden("QuotaExceeded"),
            OpError::Locked => forbidden("AccessDenied"),
            OpError::StageGone => WireError::bad("RequestTimeout", message),
            OpError::NoRoom(_) => WireError::new(
                "InsufficientStorage",
                StatusCode::INSUFFICIENT_STORAGE,
                message,
            ),
            OpError::Unavailable(_) | OpError::Unknown(_) | OpError::Replaced => unavailable(),
            OpError::Damaged { object, .. } => {
                WireError::new("InternalError", StatusCode::INTERNAL_SERVER_ERROR, message)
                    .detail("Damaged", object)
            }
        }
    }
}

fn marked(error: WireError, marker: Option<Marker>) -> WireError {
    let Some(marker) = marker else { return error };
    let error = error.header(HeaderName::from_static("x-amz-delete-marker"), "true");
    match marker.version {
        Some(version) => error.header(
            HeaderName::from_static("x-amz-version-id"),
            version.to_string(),
        ),
        None => error,
    }
}

fn complete_error(error: CompleteError, message: String) -> WireError {
    match error {
        CompleteError::NoParts => WireError::malformed_xml(),
        CompleteError::PartNumber => {
            WireError::bad("InvalidArgument", message).detail("ArgumentName", "PartNumber")
        }
        CompleteError::Order => WireError::bad("InvalidPartOrder", message),
        CompleteError::InvalidPart { number } => {
            WireError::bad("InvalidPart", message).detail("PartNumber", number.to_string())
        }
        CompleteError::TooSmall { number, size, etag } => WireError::bad("EntityTooSmall", message)
            .detail("ProposedSize", size.to_string())
            .detail("MinSizeAllowed", MIN_PART.to_string())
            .detail("PartNumber", number.to_string())
            .detail("ETag", etag),
        CompleteError::KindDiffers(_) | CompleteError::SizeDiffers(_) => {
            WireError::invalid(message)
        }
        CompleteError::Differs(_) => WireError::bad("BadDigest", message),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::BodyExt;

    fn text(response: Response<ReplyBody>) -> String {
        let bytes = futures::executor::block_on(response.into_body().collect())
            .unwrap()
            .to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn an_error_names_the_request_in_header_and_body() {
        let id = RequestId::next();
        let error = WireError::from(OpError::NoSuchKey {
            key: "a<&>\u{1}\"".into(),
            marker: None,
        });
        let response = error.render(id, "/bucket/a", true);
        assert_eq!(response.status(), 404);
        assert_eq!(
            response.headers()["x-amz-request-id"].to_str().unwrap(),
            id.to_string()
        );
        assert_eq!(
            response.headers()["x-amz-id-2"].to_str().unwrap(),
            id.host_id()
        );
        let xml = text(response);
        assert!(
            xml.contains(
                "<Code>NoSuchKey</Code><Message>The specified key does not exist.</Message>"
            ),
            "{xml}"
        );
        assert!(
            xml.contains("<Key>a&lt;&amp;&gt;\u{fffd}&quot;</Key>"),
            "{xml}"
        );
        assert!(xml.contains(&format!(
            "<RequestId>{id}</RequestId><HostId>{}</HostId>",
            id.host_id()
        )));
    }

    #[test]
    fn answers_to_head_and_304_have_no_body() {
        let id = RequestId::next();
        let error = || {
            WireError::from(OpError::NoSuchKey {
                key: "a".into(),
                marker: None,
            })
        };
        assert_eq!(text(error().render(id, "/", false)), "");
        let error = OpError::NotModified {
            etag: "e".into(),
            modified_ms: 0,
            version: None,
        };
        let response = WireError::from(error).render(id, "/", true);
        assert_eq!(
            (
                response.status().as_u16(),
                response.headers()["etag"].to_str().unwrap()
            ),
            (304, "\"e\"")
        );
        assert_eq!(text(response), "");
    }

    #[test]
    fn what_s3s_says_is_said_in_our_form() {
        let xml = b"<?xml version=\"1.0\"?><Error><Code>InvalidArgument</Code><Message>a &lt; b</Message></Error>";
        let error = from_s3s(StatusCode::BAD_REQUEST, xml);
        assert_eq!(
            (error.code, error.message.as_str()),
            ("InvalidArgument", "a < b")
        );
        assert_eq!(
            from_s3s(StatusCode::INTERNAL_SERVER_ERROR, b"x").code,
            "InternalError"
        );
        assert_eq!(
            from_s3s(StatusCode::BAD_REQUEST, b"<Code>Weird</Code>").code,
            "InvalidRequest"
        );
    }

    /// Statuses that SDKs act on: 503 is tried again, 507 and 403 are not.
    #[test]
    fn the_core_says_what_its_caller_can_do() {
        for (error, code, status) in [
            (OpError::NoRoom("x".into()), "InsufficientStorage", 507),
            (OpError::Unavailable("x".into()), "ServiceUnavailable", 503),
            (OpError::Unknown("x".into()), "ServiceUnavailable", 503),
            (OpError::QuotaExceeded, "QuotaExceeded", 403),
            (
                OpError::Damaged {
                    object: "b/k".into(),
                    what: "x".into(),
                },
                "InternalError",
                500,
            ),
        ] {
            let error = WireError::from(error);
            assert_eq!((error.code, error.status.as_u16()), (code, status));
        }
        let damaged = WireError::from(OpError::Damaged {
            object: "b/k".into(),
            what: "x".into(),
        });
        assert!(text(damaged.render(RequestId::next(), "/b/k", true)).contains("b/k is damaged"));
    }
}
