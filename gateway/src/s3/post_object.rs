//! POST Object: a browser's form becomes the PUT it stands for.
//!
//! ```text
//!   fields -> whose policy is it, and does it allow them? -> the headers of a PUT
//!   file   -> the PUT's body, streamed, held to the policy's length
//!   answer <- 204, 200, 201 with XML, or 303 to where the form says
//! ```
//! Always true: nothing of the file is read before the policy allowed the fields.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::call::Call;
use super::error::WireError;
use super::form_body::{Fields, Form, FormError, boundary};
use super::front::Admitted;
use super::header_rules;
use super::host::Hosts;
use super::reply_body::ReplyBody;
use super::request_body::Leftover;
use super::tagging;
use super::xml::element;
use crate::auth::access_key::KeyStore;
use crate::auth::authenticate::{Expected, authenticate_form};
use crate::auth::canonical;
use crate::auth::post_policy::Policy;
use crate::object::checksum::{Algorithm, Claims};
use crate::object::tags::Tagged;
use crate::ops::REGION;
use crate::store::payload::Payload;

/// Fields that are headers of a PUT under their own name, besides `x-amz-*`.
const AS_HEADERS: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
];

/// Whether this is one.
pub fn is_form_upload(parts: &Parts) -> bool {
    const FORM: &[u8] = b"multipart/form-data";
    let content_type = parts.headers.get(CONTENT_TYPE);
    let content_type = content_type.map_or(b"".as_slice(), HeaderValue::as_bytes);
    parts.method == Method::POST
        && content_type
            .trim_ascii_start()
            .get(..FORM.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(FORM))
}

/// How the form wants to be answered.
pub struct FormReply {
    bucket: String,
    key: String,
    /// `https://host/bucket/key`, as the client reached it.
    location: String,
    status: Option<String>,
    redirect: Option<String>,
}

/// Lets a form in, as a PUT. `now`: seconds since 1970.
pub async fn admit(
    parts: Parts,
    leftover: &Leftover,
    keys: &KeyStore,
    hosts: &Hosts,
    now: u64,
) -> Result<(Admitted, FormReply), WireError> {
    header_rules::check(&parts.headers)?;
    if parts.headers.contains_key(AUTHORIZATION) {
        let message =
            "Only one auth mechanism allowed; a form carries its signature in its fields.";
        return Err(WireError::bad("InvalidArgument", message));
    }
    let bucket = bucket_of(&parts, hosts)?;
    let malformed = || WireError::from(crate::store::payload::PayloadError::Form);
    let content_type = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok());
    let boundary = content_type.and_then(boundary).ok_or_else(malformed)?;
    let body = leftover.take_body().ok_or_else(malformed)?;
    let mut form = Form::new(body, &boundary, leftover.clone());
    let mut said = form.fields().await?;
    said.bind_filename();
    said.check_single()?;

    let expected = Expected {
        service: "s3",
        region: REGION,
    };
    let who = authenticate_form(|name| said.get(name), keys, expected)?;
    let policy = Policy::read(said.get("policy").unwrap_or_default())?;
    let key = match said.get("key") {
        Some(key) if !key.is_empty() => key.to_owned(),
        _ => {
            let message = "Bucket POST must contain a field named 'key'. If it is specified, please check the order of the fields.";
            return Err(WireError::bad("InvalidArgument", message).detail("ArgumentName", "key"));
        }
    };
    // A field of this name is no other bucket than the URL's.
    let mut judged = said.fields.clone();
    judged.retain(|(name, _)| name != "bucket");
    judged.push(("bucket".to_owned(), bucket.clone()));
    if let Some(length) = policy.allow(&judged, now)? {
        form.limit(length);
    }

    let headers = said.headers()?;
    header_rules::check_supported(&headers)?;
    let claims = claims(&said)?;
    let path = format!("/{bucket}/{}", canonical::encode(&key, true));
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let reply = FormReply {
        location: match hosts.bucket(host.unwrap_or_default()) {
            Some(_) => format!(
                "{}/{}",
                host.unwrap_or_default(),
                canonical::encode(&key, true)
            ),
            None => format!("{}{path}", host.unwrap_or_default()),
        },
        bucket,
        key,
        status: said.get("success_action_status").map(str::to_owned),
        redirect: said
            .get("success_action_redirect")
            .or_else(|| said.get("redirect"))
            .filter(|url| url.starts_with("http://") || url.starts_with("https://"))
            .map(str::to_owned),
    };
    let payload = Payload::new(form, None, claims);
    let call = Arc::new(Call::new(
        who,
        headers,
        Vec::new(),
        hosts.scheme(),
        Some(payload),
    ));
    let mut request = http::Request::new(s3s::Body::empty());
    *request.method_mut() = Method::PUT;
    *request.uri_mut() = path
        .parse()
        .map_err(|_| WireError::bad("InvalidURI", "Couldn't parse the specified URI."))?;
    // The bucket stands in the path now, wherever it stood before.
    request
        .headers_mut()
        .insert(HOST, HeaderValue::from_static("localhost"));
    request.extensions_mut().insert(call.clone());
    Ok((Admitted { call, request }, reply))
}

fn bucket_of(parts: &Parts, hosts: &Hosts) -> Result<String, WireError> {
    let path = canonical::decode(parts.uri.path(), false)
        .map_err(|_| WireError::bad("InvalidURI", "Couldn't parse the specified URI."))?;
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let in_host = hosts.bucket(host.unwrap_or_default());
    let in_path = path.trim_start_matches('/').trim_end_matches('/');
    let (bucket, rest) = match &in_host {
        Some(bucket) => (bucket.as_str(), in_path),
        None => in_path.split_once('/').unwrap_or((in_path, "")),
    };
    if bucket.is_empty() || !rest.is_empty() || parts.uri.query().is_some_and(|q| !q.is_empty()) {
        return Err(WireError::new(
            "MethodNotAllowed",
            StatusCode::METHOD_NOT_ALLOWED,
            "The specified method is not allowed against this resource. A form is posted to a bucket.",
        ));
    }
    Ok(bucket.to_owned())
}

fn claims(said: &Fields) -> Result<Claims, WireError> {
    let sums = Algorithm::ALL.into_iter();
    let sums = sums.filter_map(|algorithm| Some((algorithm, said.get(algorithm.header())?.trim())));
    let sums: Vec<_> = sums.collect();
    let md5 = said.get("content-md5").map(str::trim);
    Ok(Claims::parse(md5, sums.into_iter(), None)?)
}

impl Fields {
    fn get(&self, wanted: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    }

    /// `${filename}` is what the browser calls the file, without its directories; before the policy is looked at.
    fn bind_filename(&mut self) {
        let name = self.filename.rsplit(['/', '\\']).next().unwrap_or_default();
        for (field, value) in &mut self.fields {
            if field != "policy" && value.contains("${filename}") {
                *value = value.replace("${filename}", name);
            }
        }
    }

    /// Said twice, two readers of the form could take another value each.
    fn check_single(&self) -> Result<(), WireError> {
        let mut names: Vec<&str> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(WireError::bad(
                "InvalidArgument",
                format!("The form's field {} was sent more than once.", pair[0]),
            )
            .detail("ArgumentName", pair[0])),
            None => Ok(()),
        }
    }

    /// The headers that a PUT of the same would have.
    fn headers(&self) -> Result<HeaderMap, WireError> {
        const OF_SIGNATURE: [&str; 4] = [
            "x-amz-algorithm",
            "x-amz-credential",
            "x-amz-date",
            "x-amz-signature",
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in &self.fields {
            let name = match name.as_str() {
                "acl" => "x-amz-acl",
                "tagging" => {
                    if let Some(tags) = tags_header(value)? {
                        headers.insert("x-amz-tagging", tags);
                    }
                    continue;
                }
                name if OF_SIGNATURE.contains(&name) => continue,
                name if name.starts_with("x-amz-") || AS_HEADERS.contains(&name) => name,
                _ => continue,
            };
            let odd = || {
                WireError::bad(
                    "InvalidArgument",
                    format!("The form's field {name} cannot be a header."),
                )
                .detail("ArgumentName", name)
            };
            let header = HeaderName::try_from(name).map_err(|_| odd())?;
            let value = HeaderValue::try_from(value.as_str()).map_err(|_| odd())?;
            headers.insert(header, value);
        }
        Ok(headers)
    }
}

/// The header that says what the form's field `tagging` says in XML.
fn tags_header(xml: &str) -> Result<Option<HeaderValue>, WireError> {
    if xml.trim().is_empty() {
        return Ok(None);
    }
    let tags = tagging::of_xml(Tagged::Object, xml.trim())?;
    let pairs: Vec<(String, String)> = tags
        .iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let header = HeaderValue::try_from(canonical::query(&pairs, ""));
    header.map(Some).map_err(|_| WireError::malformed_xml())
}

impl From<FormError> for WireError {
    fn from(error: FormError) -> WireError {
        let message = error.to_string();
        match error {
            FormError::Payload(error) => error.into(),
            FormError::FieldsTooLarge => {
                WireError::bad("MaxPostPreDataLengthExceededError", message)
            }
            FormError::NotText => WireError::bad("InvalidArgument", message),
            FormError::NoFile => {
                WireError::bad("InvalidArgument", message).detail("ArgumentName", "file")
            }
        }
    }
}

impl FormReply {
    /// The answer to the PUT, as the form wants it. `scheme`: how the client came.
    pub fn render(&self, response: Response<ReplyBody>, scheme: &str) -> Response<ReplyBody> {
        if !response.status().is_success() {
            return response;
        }
        let (mut parts, _) = response.into_parts();
        let etag = parts
            .headers
            .get("etag")
            .and_then(|etag| etag.to_str().ok());
        let etag = etag.unwrap_or_default().to_owned();
        let location = format!("{scheme}://{}", self.location);
        let to = match &self.redirect {
            Some(url) => {
                parts.status = StatusCode::SEE_OTHER;
                let pairs = [
                    ("bucket", &self.bucket),
                    ("key", &self.key),
                    ("etag", &etag),
                ];
                let pairs: Vec<String> = pairs
                    .iter()
                    .map(|(name, value)| format!("{name}={}", canonical::encode(value, false)))
                    .collect();
                let sign = if url.contains('?') { '&' } else { '?' };
                format!("{url}{sign}{}", pairs.join("&"))
            }
            None => location.clone(),
        };
        if let Ok(to) = HeaderValue::try_from(to) {
            parts.headers.insert(LOCATION, to);
        }
        let mut body = Bytes::new();
        if self.redirect.is_none() {
            parts.status = match self.status.as_deref() {
                Some("200") => StatusCode::OK,
                Some("201") => StatusCode::CREATED,
                _ => StatusCode::NO_CONTENT,
            };
            if parts.status == StatusCode::CREATED {
                let mut xml =
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse>".to_owned();
                element(&mut xml, "Location", &location);
                element(&mut xml, "Bucket", &self.bucket);
                element(&mut xml, "Key", &self.key);
                element(&mut xml, "ETag", &etag);
                xml.push_str("</PostResponse>");
                parts
                    .headers
                    .insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
                body = Bytes::from(xml);
            }
        }
        parts.headers.remove(CONTENT_LENGTH);
        if parts.status != StatusCode::NO_CONTENT {
            parts
                .headers
                .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        Response::from_parts(parts, ReplyBody::from(body))
    }
}
