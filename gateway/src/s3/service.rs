//! The S3 port as a service: a request in, an answer out, always.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{ALLOW, CONTENT_TYPE, EXPECT, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
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
use super::route::{self, Place};
use super::wire::Wire;
use crate::auth::canonical;
use crate::object::name::KV_BUCKET;
use crate::ops::OpContext;

/// What s3s says when it finds no operation.
const NO_OPERATION: &str = "Unknown operation";
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
    customer_keys: bool,
    s3s: s3s::service::S3Service,
}

impl S3Service {
    /// On a store.
    pub fn new(ctx: OpContext, options: &S3Options) -> S3Service {
        let hosts = Hosts::new(&options.domains, options.https);
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
        let asked = Asked::of(&parts, id);
        let waits = parts.headers.contains_key(EXPECT);
        let leftover = Leftover::holding(client_body(body));

        let Inner { ctx, hosts, .. } = &*self.inner;
        let now = clock::wall_ms() / 1_000;
        let page = cors::Asked::of(&parts);
        let (mut response, operation) = if parts.method == Method::OPTIONS {
            let answer = cors::preflight(ctx, hosts, &parts, id).await;
            let answer = answer.unwrap_or_else(|error| asked.refuse(hosts, error));
            (answer, "Preflight")
        } else if post_object::is_form_upload(&parts) {
            let answer = self.post_form(parts, &leftover, &asked, now).await;
            (answer, "PostObject")
        } else {
            match front::admit(parts, &leftover, ctx.keys(), hosts, now).await {
                Ok(admitted) => self.dispatch(admitted, &asked).await,
                Err(error) => (asked.refuse(hosts, error), "Unknown"),
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
        asked: &Asked,
        now: u64,
    ) -> Response<ReplyBody> {
        let Inner { ctx, hosts, .. } = &*self.inner;
        match post_object::admit(parts, leftover, ctx.keys(), hosts, now).await {
            Ok((admitted, reply)) => {
                let (response, _) = self.dispatch(admitted, asked).await;
                reply.render(response, hosts.scheme())
            }
            Err(error) => asked.refuse(hosts, error),
        }
    }

    async fn dispatch(
        &self,
        admitted: Admitted,
        asked: &Asked,
    ) -> (Response<ReplyBody>, &'static str) {
        let Admitted { call, request } = admitted;
        let hosts = &self.inner.hosts;
        if !self.inner.customer_keys && encryption::brings_key(&call.headers) {
            return (
                asked.refuse(hosts, encryption::insecure()),
                call.operation(),
            );
        }
        let result = self.inner.s3s.call(request).await;
        let outcome = call.take_outcome();
        let id = asked.id;
        let refused = |error: WireError| {
            if error.status.is_server_error() && error.status != StatusCode::NOT_IMPLEMENTED {
                tracing::error!(%id, operation = call.operation(), code = error.code, error.message, "request failed");
            }
            asked.refuse(hosts, error)
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
                let said = from_s3s(response.status(), &body);
                let found = said.message != NO_OPERATION;
                refused(if found { said } else { asked.nothing(hosts) })
            }
            (None, Ok(response)) => {
                let (mut parts, body) = response.into_parts();
                stamp(&mut parts.headers, id);
                parts.status = outcome.status.unwrap_or(parts.status);
                if outcome.is_xml {
                    let xml = HeaderValue::from_static("application/xml");
                    parts.headers.insert(CONTENT_TYPE, xml);
                }
                Response::from_parts(parts, outcome.body.unwrap_or_else(|| ReplyBody::wire(body)))
            }
        };
        (response, call.operation())
    }
}

/// What was asked, kept for a refusal of it.
struct Asked {
    id: RequestId,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
}

impl Asked {
    fn of(parts: &http::request::Parts, id: RequestId) -> Asked {
        Asked {
            id,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            host: parts.headers.get(HOST).cloned(),
        }
    }

    fn place(&self, hosts: &Hosts) -> Place {
        let path = canonical::decode(self.uri.path(), false).unwrap_or_default();
        front::place(hosts, self.host.as_ref(), &path)
    }

    fn query(&self) -> Vec<(String, String)> {
        canonical::query_pairs(self.uri.query().unwrap_or("")).unwrap_or_default()
    }

    /// There is no operation of this method here.
    fn nothing(&self, hosts: &Hosts) -> WireError {
        route::no_operation(self.method.as_str(), self.place(hosts), &self.query())
    }

    /// The answer to it is this error.
    fn refuse(&self, hosts: &Hosts, error: WireError) -> Response<ReplyBody> {
        let says_methods = error.headers.iter().any(|(name, _)| name == ALLOW);
        let error = if error.status == StatusCode::METHOD_NOT_ALLOWED && !says_methods {
            route::with_methods(
                error,
                self.method.as_str(),
                self.place(hosts),
                &self.query(),
            )
        } else {
            error
        };
        error.render(self.id, self.uri.path(), self.method != Method::HEAD)
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
