//! What happens to a request before s3s sees it.
//!
//! ```text
//!   form of the headers -> who -> what is asked for -> the body: taken out of its framing, or collected and verified
//! ```
//! s3s is handed a request without signature, framing or body bytes of an object: host, path, query, and XML.
//!
//! Always true:
//! * nothing of a body is read before its sender is proven, so `Expect: 100-continue` spares a refused client the upload;
//! * a body that is collected here was verified against everything that was claimed of it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::call::Call;
use super::error::WireError;
use super::header_rules;
use super::host::Hosts;
use super::request_body::{Leftover, RequestBody};
use super::request_xml;
use super::route::{self, Place};
use crate::auth::access_key::KeyStore;
use crate::auth::authenticate::Payload as Signed;
use crate::auth::authenticate::{Expected, Head, Proof, authenticate};
use crate::auth::canonical;
use crate::object::checksum::{Algorithm, Claims};
use crate::ops::REGION;
use crate::store::payload::Payload;

/// XML in general.
const MAX_XML: usize = 1 << 20;
/// DeleteObjects: 1000 keys of 1024 bytes do not fit in 1 MiB.
const MAX_DELETE_XML: usize = 2 << 20;
/// CompleteMultipartUpload: 10000 parts with ETag and SHA-256 do not fit in 1 MiB.
const MAX_COMPLETE_XML: usize = 4 << 20;

/// A request that was let in.
pub struct Admitted {
    /// What is known of it.
    pub call: Arc<Call>,
    /// What s3s sees of it.
    pub request: s3s::HttpRequest,
}

/// Lets a request in, or says why not. `now`: seconds since 1970.
pub async fn admit(
    parts: Parts,
    leftover: &Leftover,
    keys: &KeyStore,
    hosts: &Hosts,
    now: u64,
) -> Result<Admitted, WireError> {
    check_method(&parts.method)?;
    header_rules::check(&parts.headers)?;
    let bad_uri = |_| WireError::bad("InvalidURI", "Couldn't parse the specified URI.");
    let mut query = canonical::query_pairs(parts.uri.query().unwrap_or("")).map_err(bad_uri)?;
    canonical::decode(parts.uri.path(), false).map_err(bad_uri)?;
    let head = Head {
        method: &parts.method,
        path: parts.uri.path(),
        query: &query,
        headers: &parts.headers,
    };
    let proof = authenticate(
        head,
        keys,
        Expected {
            service: "s3",
            region: REGION,
        },
        now,
    )?;

    let Parts {
        method,
        mut uri,
        mut headers,
        ..
    } = parts;
    if proof.presigned {
        take_out_signature(&mut query, &mut headers)?;
        uri = rebuild(&uri, &query)?;
    }
    header_rules::check_supported(&headers)?;
    // Complete says there what the object to be has, not what this body has.
    let of_whole = method == Method::POST && query.iter().any(|(name, _)| name == "uploadId");
    let body = body_of(&headers, &proof, of_whole)?;
    let mut seen = seen_by_s3s(&headers);
    if query.iter().any(|(name, _)| name == "attributes") {
        // s3s wants one; what was asked for is read from the request's own header.
        seen.insert("x-amz-object-attributes", HeaderValue::from_static("ETag"));
    }
    strip(&mut headers);
    let to_object = method == Method::PUT && {
        let path = canonical::decode(uri.path(), false).map_err(bad_uri)?;
        place(hosts, headers.get(HOST), &path) == Place::Object
    };
    let carries_object =
        to_object && route::carries_object(&query) && !headers.contains_key("x-amz-copy-source");
    let BodyPlan {
        len,
        decoder,
        claims,
    } = body;
    let (payload, xml) = if carries_object {
        let payload = match leftover.take_body() {
            Some(client) => Payload::new(
                RequestBody::new(client, len, decoder, leftover.clone()),
                len,
                claims,
            ),
            None => nothing(len, decoder, claims)?,
        };
        (Some(payload), Bytes::new())
    } else {
        let limit = xml_limit(&method, &query);
        (
            None,
            collect(
                BodyPlan {
                    len,
                    decoder,
                    claims,
                },
                leftover,
                limit,
            )
            .await?,
        )
    };

    let call = Arc::new(Call::new(
        proof.principal,
        headers,
        query,
        hosts.scheme(),
        payload,
    ));
    let mut request = http::Request::new(s3s::Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = seen;
    if !xml.is_empty() {
        request
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(xml.len()));
        *request.body_mut() = s3s::Body::from(xml);
    }
    request.extensions_mut().insert(call.clone());
    Ok(Admitted { call, request })
}

fn check_method(method: &Method) -> Result<(), WireError> {
    match *method {
        Method::GET | Method::HEAD | Method::PUT | Method::POST | Method::DELETE => Ok(()),
        _ => Err(WireError::method_not_allowed()),
    }
}

/// Takes what belongs to the signature out of the query of a presigned URL, and turns the other `x-amz-*` parameters,
/// which are signed as headers are, into headers.
///
/// A checksum among them is left out: SDKs put that of the empty body there when they sign a URL for an upload to come
/// (aws-sdk-js-v3 #6994), and S3 ignores it.
fn take_out_signature(
    query: &mut Vec<(String, String)>,
    headers: &mut HeaderMap,
) -> Result<(), WireError> {
    const SIGNATURE: [&str; 7] = [
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-signedheaders",
        "x-amz-signature",
        "x-amz-content-sha256",
    ];
    let mut kept = Vec::with_capacity(query.len());
    for (name, value) in query.drain(..) {
        let lower = name.to_ascii_lowercase();
        if !lower.starts_with("x-amz-") {
            kept.push((name, value));
            continue;
        }
        if SIGNATURE.contains(&lower.as_str())
            || lower.starts_with("x-amz-checksum-")
            || lower == "x-amz-sdk-checksum-algorithm"
        {
            continue;
        }
        let invalid =
            || WireError::invalid(format!("The query parameter {name} cannot be a header."));
        let header = HeaderName::try_from(lower).map_err(|_| invalid())?;
        let value = HeaderValue::try_from(value).map_err(|_| invalid())?;
        if headers.get(&header).is_some_and(|there| *there != value) {
            return Err(WireError::invalid(format!(
                "{header} was sent as a header and as a query parameter, and they differ."
            )));
        }
        headers.insert(header, value);
    }
    *query = kept;
    Ok(())
}

/// The URI without what was taken out of its query.
fn rebuild(uri: &Uri, query: &[(String, String)]) -> Result<Uri, WireError> {
    let query = canonical::query(query, "");
    let text = if query.is_empty() {
        uri.path().to_owned()
    } else {
        format!("{}?{query}", uri.path())
    };
    text.parse()
        .map_err(|_| WireError::bad("InvalidURI", "Couldn't parse the specified URI."))
}

/// The headers by which s3s finds the operation.
fn seen_by_s3s(headers: &HeaderMap) -> HeaderMap {
    let mut seen = HeaderMap::with_capacity(3);
    if let Some(host) = headers.get(HOST) {
        seen.insert(HOST, host.clone());
    }
    if headers.contains_key("x-amz-copy-source") {
        // That there is one tells it the operation; what it says is read from the request's own header.
        seen.insert(
            "x-amz-copy-source",
            HeaderValue::from_static("source/of-the-copy"),
        );
    }
    seen
}

/// What said how the request travelled is not kept: it would be taken for a property of the object.
fn strip(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    let Some(encoding) = headers
        .get(CONTENT_ENCODING)
        .and_then(|value| value.to_str().ok())
    else {
        return;
    };
    if !encoding.to_ascii_lowercase().contains("aws-chunked") {
        return;
    }
    let kept: Vec<&str> = encoding
        .split(',')
        .map(str::trim)
        .filter(|part| !part.eq_ignore_ascii_case("aws-chunked") && !part.is_empty())
        .collect();
    match HeaderValue::try_from(kept.join(", ")) {
        Ok(kept) if !kept.is_empty() => headers.insert(CONTENT_ENCODING, kept),
        _ => headers.remove(CONTENT_ENCODING),
    };
}

/// What the path, decoded, names.
pub fn place(hosts: &Hosts, host: Option<&HeaderValue>, path: &str) -> Place {
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or("");
    let path = path.strip_prefix('/').unwrap_or(path);
    let key = match hosts.bucket(host) {
        Some(_) => path,
        None if path.is_empty() => return Place::Service,
        None => path.split_once('/').map_or("", |(_, key)| key),
    };
    if key.is_empty() {
        Place::Bucket
    } else {
        Place::Object
    }
}

fn xml_limit(method: &Method, query: &[(String, String)]) -> usize {
    let has = |wanted: &str| query.iter().any(|(name, _)| name == wanted);
    match *method {
        Method::POST if has("delete") => MAX_DELETE_XML,
        Method::POST if has("uploadId") => MAX_COMPLETE_XML,
        _ => MAX_XML,
    }
}

/// How the body travels and what was claimed of it.
struct BodyPlan {
    /// Bytes without framing, when declared.
    len: Option<u64>,
    decoder: Option<super::aws_chunked::Decoder>,
    claims: Claims,
}

fn body_of(headers: &HeaderMap, proof: &Proof, of_whole: bool) -> Result<BodyPlan, WireError> {
    let text = |name: &str| -> Result<Option<&str>, WireError> {
        match headers.get(name) {
            None => Ok(None),
            Some(value) => {
                let invalid =
                    |_| WireError::invalid(format!("The header {name} is not printable ASCII."));
                value
                    .to_str()
                    .map(|value| Some(value.trim()))
                    .map_err(invalid)
            }
        }
    };
    let length = |name: &str| -> Result<Option<u64>, WireError> {
        match text(name)? {
            None => Ok(None),
            Some(digits) => {
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                let number = if plain {
                    digits.parse::<u64>().ok()
                } else {
                    None
                };
                number.map(Some).ok_or_else(|| {
                    WireError::bad(
                        "InvalidArgument",
                        format!("The header {name} is not a number of bytes."),
                    )
                })
            }
        }
    };
    let trailer = text("x-amz-trailer")?;
    let mut sums = Vec::new();
    for algorithm in Algorithm::ALL {
        if let Some(value) = text(algorithm.header())?.filter(|_| !of_whole) {
            sums.push((algorithm, value));
        }
    }
    let mut claims = Claims::parse(text("content-md5")?, sums.into_iter(), trailer)?;

    let chunked = |signer, trailer_follows: bool| {
        if trailer_follows != trailer.is_some() {
            return Err(WireError::invalid(
                "x-amz-trailer and a payload with a trailer go together.",
            ));
        }
        let missing = || {
            let message = "You must provide the x-amz-decoded-content-length HTTP header.";
            WireError::new("MissingContentLength", StatusCode::LENGTH_REQUIRED, message)
        };
        let len = length("x-amz-decoded-content-length")?.ok_or_else(missing)?;
        Ok((
            Some(len),
            Some(super::aws_chunked::Decoder::new(
                signer,
                trailer_follows,
                len,
            )),
        ))
    };
    let (len, decoder) = match &proof.payload {
        Signed::SignedChunks { signer, trailer } => chunked(Some(signer.clone()), *trailer)?,
        Signed::UnsignedChunks => chunked(None, true)?,
        Signed::Unsigned | Signed::Sha256(_) => {
            let encoding = text("content-encoding")?.unwrap_or("").to_ascii_lowercase();
            if encoding.split(',').any(|part| part.trim() == "aws-chunked") || trailer.is_some() {
                let message = "A body in aws-chunked encoding, or with a trailer, needs an x-amz-content-sha256 that begins with STREAMING-.";
                return Err(WireError::invalid(message));
            }
            (length("content-length")?, None)
        }
    };
    if let Signed::Sha256(hash) = &proof.payload {
        claims.payload = Some(*hash);
    }
    Ok(BodyPlan {
        len,
        decoder,
        claims,
    })
}

/// A body of which the connection says that nothing comes: right only when nothing was declared.
fn nothing(
    len: Option<u64>,
    decoder: Option<super::aws_chunked::Decoder>,
    claims: Claims,
) -> Result<Payload, WireError> {
    if decoder.is_some() || len.is_some_and(|len| len > 0) {
        return Err(crate::store::payload::PayloadError::Incomplete.into());
    }
    let mut payload = Payload::from_pieces([]);
    payload.claims = claims;
    Ok(payload)
}

/// All of a body that is no object, verified.
async fn collect(plan: BodyPlan, leftover: &Leftover, limit: usize) -> Result<Bytes, WireError> {
    let too_large = || {
        WireError::bad("MaxMessageLengthExceeded", "Your request was too large.")
            .detail("MaxMessageLengthBytes", limit.to_string())
    };
    let BodyPlan {
        len,
        decoder,
        claims,
    } = plan;
    if len.is_some_and(|len| len > limit as u64) {
        return Err(too_large());
    }
    let (bytes, trailer) = match leftover.take_body() {
        Some(client) => {
            let body = RequestBody::new(client, len, decoder, leftover.clone());
            body.collect(limit).await?.ok_or_else(too_large)?
        }
        None => {
            nothing(len, decoder, Claims::default())?;
            (Bytes::new(), Vec::new())
        }
    };
    claims.verify(&bytes, &trailer)?;
    request_xml::plain(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pairs(query: &str) -> Vec<(String, String)> {
        canonical::query_pairs(query).unwrap()
    }

    #[test]
    fn a_presigned_query_becomes_headers_but_for_the_signature() {
        let mut query = pairs(
            "X-Amz-Algorithm=a&X-Amz-Signature=s&X-Amz-Expires=1&x-id=PutObject&x-amz-meta-a=b&X-Amz-Acl=public-read&x-amz-checksum-crc32=AAAAAA%3D%3D&versionId=1",
        );
        let mut headers = HeaderMap::new();
        take_out_signature(&mut query, &mut headers).unwrap();
        assert_eq!(query, pairs("x-id=PutObject&versionId=1"));
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["x-amz-meta-a"], "b");
        assert_eq!(
            header_rules::check_supported(&headers).unwrap_err().code,
            "NotImplemented",
            "public-read is not let pass"
        );
    }

    #[test]
    fn a_header_and_a_parameter_of_one_name_must_agree() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-meta-a", HeaderValue::from_static("b"));
        assert!(take_out_signature(&mut pairs("x-amz-meta-a=b"), &mut headers).is_ok());
        assert!(take_out_signature(&mut pairs("x-amz-meta-a=c"), &mut headers).is_err());
        assert!(
            take_out_signature(&mut pairs("x-amz-meta-a=%0d%0ax"), &mut HeaderMap::new()).is_err()
        );
    }

    #[test]
    fn aws_chunked_is_not_kept_as_a_property_of_the_object() {
        for (sent, kept) in [
            ("aws-chunked", None),
            ("AWS-Chunked", None),
            ("aws-chunked,gzip", Some("gzip")),
            ("gzip, aws-chunked", Some("gzip")),
            ("aws-chunked,", None),
            ("gzip", Some("gzip")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(sent));
            strip(&mut headers);
            assert_eq!(
                headers
                    .get(CONTENT_ENCODING)
                    .map(|value| value.to_str().unwrap()),
                kept,
                "{sent}"
            );
        }
    }

    #[test]
    fn the_path_decides_whether_a_put_carries_an_object() {
        let hosts = Hosts::new(&[], false);
        let names = |host: &'static str, path: &str| {
            place(&hosts, Some(&HeaderValue::from_static(host)), path)
        };
        for (host, path, object) in [
            ("127.0.0.1", "/", Place::Service),
            ("127.0.0.1", "/b", Place::Bucket),
            ("127.0.0.1", "/b/", Place::Bucket),
            ("127.0.0.1", "/b/k", Place::Object),
            ("127.0.0.1", "/b//", Place::Object),
            ("b.localhost", "/", Place::Bucket),
            ("b.localhost", "/k", Place::Object),
        ] {
            assert_eq!(names(host, path), object, "{host}{path}");
        }
    }
}
