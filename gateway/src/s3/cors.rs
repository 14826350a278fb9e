//! CORS: a bucket's rules, a browser's question before it sends (OPTIONS), and what an answer tells it.
//!
//! Always true: a request without an `Origin` costs nothing here; a question is answered without a signature, because
//! browsers send none, and tells nothing but what the rules allow.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use s3s::S3Response;
use s3s::dto::{
    CORSRule, DeleteBucketCorsInput, DeleteBucketCorsOutput, GetBucketCorsInput,
    GetBucketCorsOutput, PutBucketCorsInput, PutBucketCorsOutput,
};

use super::call::Call;
use super::error::{WireError, stamp};
use super::headers;
use super::host::Hosts;
use super::objects::Reply;
use super::reply_body::ReplyBody;
use super::request_id::RequestId;
use super::xml::Document;
use crate::auth::canonical;
use crate::object::cors::{self, CorsError, CorsRule};
use crate::ops::{self, OpContext};

impl From<CorsError> for WireError {
    fn from(error: CorsError) -> WireError {
        match error {
            CorsError::Malformed | CorsError::Id => WireError::malformed_xml(),
            other => WireError::invalid(other.to_string()),
        }
    }
}

pub async fn put_bucket_cors(
    ctx: &OpContext,
    call: &Call,
    input: PutBucketCorsInput,
) -> Reply<PutBucketCorsOutput> {
    let rule = |rule: CORSRule| -> Result<CorsRule, WireError> {
        let age = rule.max_age_seconds.map(u32::try_from).transpose();
        Ok(CorsRule {
            id: rule.id,
            origins: rule.allowed_origins,
            methods: rule.allowed_methods,
            headers: rule.allowed_headers.unwrap_or_default(),
            exposed: rule.expose_headers.unwrap_or_default(),
            max_age_seconds: age.map_err(|_| WireError::malformed_xml())?,
        })
    };
    let rules = input.cors_configuration.cors_rules.into_iter().map(rule);
    let rules: Vec<_> = rules.collect::<Result<_, _>>()?;
    cors::check(&rules)?;
    let bucket = headers::bucket(call, input.bucket);
    ops::put_bucket_cors(ctx, &call.principal, &bucket, &rules).await?;
    Ok(S3Response::new(PutBucketCorsOutput::default()))
}

pub async fn get_bucket_cors(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketCorsInput,
) -> Reply<GetBucketCorsOutput> {
    let bucket = headers::bucket(call, input.bucket);
    let rules = ops::get_bucket_cors(ctx, &call.principal, &bucket).await?;
    if rules.is_empty() {
        let message = "The CORS configuration does not exist";
        let error = WireError::new("NoSuchCORSConfiguration", StatusCode::NOT_FOUND, message);
        return Err(error.detail("BucketName", bucket.name));
    }
    let mut document = Document::new("CORSConfiguration");
    for rule in &rules {
        document.inside("CORSRule", |inner| {
            inner.maybe("ID", rule.id.as_deref());
            for (name, list) in [
                ("AllowedOrigin", &rule.origins),
                ("AllowedMethod", &rule.methods),
                ("AllowedHeader", &rule.headers),
            ] {
                list.iter().for_each(|value| inner.element(name, value));
            }
            if let Some(age) = rule.max_age_seconds {
                inner.number("MaxAgeSeconds", age.into());
            }
            for value in &rule.exposed {
                inner.element("ExposeHeader", value);
            }
        });
    }
    call.answer_with(document);
    Ok(S3Response::new(GetBucketCorsOutput::default()))
}

pub async fn delete_bucket_cors(
    ctx: &OpContext,
    call: &Call,
    input: DeleteBucketCorsInput,
) -> Reply<DeleteBucketCorsOutput> {
    let bucket = headers::bucket(call, input.bucket);
    ops::put_bucket_cors(ctx, &call.principal, &bucket, &[]).await?;
    Ok(S3Response::new(DeleteBucketCorsOutput::default()))
}

/// The bucket that a request is about.
fn bucket_of(hosts: &Hosts, headers: &HeaderMap, path: &str) -> Option<String> {
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("");
    hosts.bucket(host).or_else(|| {
        let path = canonical::decode(path, false).ok()?;
        let first = path.strip_prefix('/')?.split('/').next()?;
        Some(first.to_owned()).filter(|name| !name.is_empty())
    })
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Answers a browser's question.
pub async fn preflight(
    ctx: &OpContext,
    hosts: &Hosts,
    parts: &Parts,
    id: RequestId,
) -> Result<Response<ReplyBody>, WireError> {
    let bad = |message: &str| WireError::bad("BadRequest", message);
    let headers = &parts.headers;
    let origin = text(headers, ORIGIN)
        .ok_or_else(|| bad("Insufficient information. Origin request header needed."))?;
    let method = text(headers, ACCESS_CONTROL_REQUEST_METHOD)
        .filter(|method| ["GET", "PUT", "POST", "DELETE", "HEAD"].contains(method))
        .ok_or_else(|| bad("Invalid Access-Control-Request-Method"))?;
    let asked = text(headers, ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or("");
    let asked = cors::asked_headers(asked);
    let forbidden =
        |message: &str| WireError::new("AccessForbidden", StatusCode::FORBIDDEN, message);
    let name = bucket_of(hosts, headers, parts.uri.path())
        .ok_or_else(|| forbidden("CORSResponse: CORS is not enabled for this bucket."))?;
    let rules = ops::cors_rules(ctx, &name).await?;
    if rules.is_empty() {
        return Err(forbidden(
            "CORSResponse: CORS is not enabled for this bucket.",
        ));
    }
    let rule = cors::preflight(&rules, origin, method, &asked).ok_or_else(|| {
        forbidden(
            "CORSResponse: This CORS request is not allowed. This is usually because the evaluation of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.",
        )
    })?;
    let mut response = Response::new(ReplyBody::empty());
    let out = response.headers_mut();
    stamp(out, id);
    tell(out, rule, origin);
    put(out, ACCESS_CONTROL_ALLOW_METHODS, &rule.methods.join(", "));
    if !asked.is_empty() {
        put(out, ACCESS_CONTROL_ALLOW_HEADERS, &asked.join(", "));
    }
    if let Some(age) = rule.max_age_seconds {
        put(out, ACCESS_CONTROL_MAX_AGE, &age.to_string());
    }
    Ok(response)
}

/// What an answer to a page tells its browser; nothing, when no rule allows the page.
pub async fn tell_page(ctx: &OpContext, hosts: &Hosts, asked: &Asked, out: &mut HeaderMap) {
    let Some(name) = bucket_of(hosts, &asked.headers, &asked.path) else {
        return;
    };
    // That the rules cannot be read now is no reason to fail a request that was done.
    let Ok(rules) = ops::cors_rules(ctx, &name).await else {
        return;
    };
    let Some(origin) = text(&asked.headers, ORIGIN) else {
        return;
    };
    if let Some(rule) = cors::actual(&rules, origin, asked.method.as_str()) {
        tell(out, rule, origin);
    }
}

/// What is kept of a request of a page until its answer is there.
pub struct Asked {
    method: http::Method,
    path: String,
    headers: HeaderMap,
}

impl Asked {
    /// Of a request that comes from a page.
    pub fn of(parts: &Parts) -> Option<Asked> {
        let origin = parts.headers.get(ORIGIN)?;
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(ORIGIN, origin.clone());
        if let Some(host) = parts.headers.get(HOST) {
            headers.insert(HOST, host.clone());
        }
        Some(Asked {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            headers,
        })
    }
}

fn tell(out: &mut HeaderMap, rule: &CorsRule, origin: &str) {
    if rule.is_for_everybody() {
        put(out, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    } else {
        put(out, ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        put(out, ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    }
    if !rule.exposed.is_empty() {
        put(out, ACCESS_CONTROL_EXPOSE_HEADERS, &rule.exposed.join(", "));
    }
    put(
        out,
        VARY,
        "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
    );
}

fn put(out: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        out.insert(name, value);
    }
}
