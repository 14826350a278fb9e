//! The S3 port as a service: a request in, an answer out, always.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::EXPECT;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use minikv_core::env::clock;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::S3ServiceBuilder;
use s3s::validation::{AwsNameValidation, NameValidation};

use super::ApiName;
use super::access::{NoKeys, Routes};
use super::cors;
use super::encryption;
use super::error::{WireError, from_s3s, stamp};
use super::front::{self, Admitted};
use super::host::Hosts;
use super::post_object;
use super::reply_body::ReplyBody;
use super::request_body::{Leftover, StdError, client_body};
use super::request_id::RequestId;
use super::wire::Wire;
use crate::object::name::KV_BUCKET;
use crate::ops::OpContext;

/// How much of a refused body is read away, so that its sender hears the refusal instead of a reset.
const DRAIN_BYTES: u64 = 8 << 20;
/// And for how long.
const DRAIN_TIME: Duration = Duration::from_secs(3);

/// What may be set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct S3Options {
    /// Domains whose sub-domains are buckets, besides `localhost`.
    pub domains: Vec<String>,
    /// Whether clients come over TLS: answers that name a URL say https then.
    pub https: bool,
    /// Whether clients may send keys of their own (SSE-C): over TLS, or where a test says so.
    pub customer_keys: bool,
}

/// Which paths name a bucket: AWS's rule, and the one short name of ours.
struct Names;

impl NameValidation for Names {
    fn validate_bucket_name(&self, name: &str) -> bool {
        name == KV_BUCKET || AwsNameValidation::new().validate_bucket_name(name)
    }
}

/// The S3 port. Cheap to clone.
#[derive(Clone)]
pub struct S3Service {
    inner: Arc<Inner>,
}

struct Inner {
    ctx: OpContext,
    hosts: Hosts,
    https: bool,
    customer_keys: bool,
    s3s: s3s::service::S3Service,
}

impl S3Service {
    /// On a store.
    pub fn new(ctx: OpContext, options: &S3Options) -> S3Service {
        let hosts = Hosts::new(&options.domains);
        let mut builder = S3ServiceBuilder::new(Wire::new(ctx.clone()));
        builder.set_host(hosts.clone());
        builder.set_auth(NoKeys);
        builder.set_access(Routes);
        builder.set_validation(Names);
        let mut config = S3Config::default();
        // Bodies were collected, within narrower limits, before s3s sees them.
        config.xml_max_body_size = 4 << 20;
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        S3Service {
            inner: Arc::new(Inner {
                ctx,
                hosts,
                https: options.https,
                customer_keys: options.customer_keys,
                s3s: builder.build(),
            }),
        }
    }

    /// Answers a request.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<ReplyBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        let id = RequestId::next();
        let (parts, body) = request.into_parts();
        let with_body = parts.method != Method::HEAD;
        let uri = parts.uri.clone();
        let waits = parts
            .headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let leftover = Leftover::holding(client_body(body));

        let Inner { ctx, hosts, .. } = &*self.inner;
        let now = clock::wall_ms() / 1_000;
        let page = cors::Asked::of(&parts);
        let (mut response, operation) = if parts.method == Method::OPTIONS {
            let answer = cors::preflight(ctx, hosts, &parts, id).await;
            let answer = answer.unwrap_or_else(|error| error.render(id, uri.path(), with_body));
            (answer, "Preflight")
        } else if post_object::is_form_upload(&parts) {
            self.post_form(parts, &leftover, id, now).await
        } else {
            match front::admit(parts, &leftover, ctx.keys(), hosts, now).await {
                Ok(admitted) => self.dispatch(admitted, id, with_body).await,
                Err(error) => (error.render(id, uri.path(), with_body), "Unknown"),
            }
        };
        if let Some(page) = page.filter(|_| operation != "Preflight") {
            cors::tell_page(ctx, hosts, &page, response.headers_mut()).await;
        }
        if response.status().as_u16() >= 400 {
            drain(&leftover, waits).await;
        }
        response.extensions_mut().insert(ApiName(operation));
        response
    }

    /// A browser's form.
    async fn post_form(
        &self,
        parts: http::request::Parts,
        leftover: &Leftover,
        id: RequestId,
        now: u64,
    ) -> (Response<ReplyBody>, &'static str) {
        let Inner {
            ctx, hosts, https, ..
        } = &*self.inner;
        let path = parts.uri.path().to_owned();
        let response = match post_object::admit(parts, leftover, ctx.keys(), hosts, now).await {
            Ok((admitted, reply)) => {
                let (response, _) = self.dispatch(admitted, id, true).await;
                reply.render(response, *https)
            }
            Err(error) => error.render(id, &path, true),
        };
        (response, "PostObject")
    }

    async fn dispatch(
        &self,
        admitted: Admitted,
        id: RequestId,
        with_body: bool,
    ) -> (Response<ReplyBody>, &'static str) {
        let Admitted { call, request } = admitted;
        if !self.inner.customer_keys && encryption::brings_key(&call.headers) {
            let error = encryption::insecure().render(id, &call.resource, with_body);
            return (error, call.operation());
        }
        let result = self.inner.s3s.call(request).await;
        let outcome = call.take_outcome();
        let refused = |error: WireError| {
            if error.status.is_server_error() && error.status != StatusCode::NOT_IMPLEMENTED {
                tracing::error!(%id, operation = call.operation(), code = error.code, error.message, "request failed");
            }
            error.render(id, &call.resource, with_body)
        };
        let response = match (outcome.error, result) {
            (Some(error), _) => refused(error),
            (None, Err(error)) => {
                let message = "We encountered an internal error. Please try again.";
                tracing::error!(%id, ?error, "an answer could not be written");
                refused(WireError::new(
                    "InternalError",
                    StatusCode::INTERNAL_SERVER_ERROR,
                    message,
                ))
            }
            (None, Ok(response)) if response.status().as_u16() >= 400 => {
                let body = response.body().bytes().unwrap_or_default();
                refused(from_s3s(response.status(), &body))
            }
            (None, Ok(response)) => {
                let (mut parts, body) = response.into_parts();
                stamp(&mut parts.headers, id);
                parts.status = outcome.status.unwrap_or(parts.status);
                Response::from_parts(parts, outcome.body.unwrap_or_else(|| ReplyBody::wire(body)))
            }
        };
        (response, call.operation())
    }
}

/// Reads some of what a refused client is still sending. One that waits for `100 Continue` sends nothing yet.
async fn drain(leftover: &Leftover, waits: bool) {
    let Some((mut body, started)) = leftover.take() else {
        return;
    };
    if waits && !started {
        return;
    }
    let reading = async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let read = frame.data_ref().map_or(0, |data| data.len() as u64);
            left = left.saturating_sub(read);
            if left == 0 {
                break;
            }
        }
    };
    // Too slow or too much: the connection is reset, and that is the sender's answer.
    let _ = clock::timeout(DRAIN_TIME, reading).await;
}

impl<B> tower::Service<Request<B>> for S3Service
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<ReplyBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.handle(request).await) })
    }
}

impl<B> hyper::service::Service<Request<B>> for S3Service
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<ReplyBody>, Infallible>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.handle(request).await) })
    }
}
