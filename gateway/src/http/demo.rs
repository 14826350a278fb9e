//! The demo: `curl -X PUT localhost:8080/s3/mybucket/hello -d "hi"`, with no key and no bucket to be made first.
//!
//! It goes the way of every S3 request from `ops` on, as an own tenant; only the wire in front is simpler.
//!
//! Always true:
//! * whoever asks sees the demo tenant's buckets and nobody else's;
//! * it is only there when every port listens on this machine (`config::check`), and answers only requests that name
//!   this machine: a web page of elsewhere cannot use a visitor's browser to get here (DNS rebinding).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, BodyDataStream};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use minikv_core::ids::TenantId;

use super::access::names_this_machine;
use super::refusal;
use crate::auth::canonical::decode;
use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::checksum::Claims;
use crate::object::dates;
use crate::object::encryption::Asked;
use crate::object::metadata::UserMetadata;
use crate::object::record::ContentHeaders;
use crate::object::tags::Tags;
use crate::ops::{
    self, CreateBucketCall, DeleteObject, GetObject, ListObjects, ObjectHead, OpContext, OpError,
    PutObject,
};
use crate::store::payload::{Payload, PayloadError, Source};
use crate::store::{Conditions, Content, Lock};
use crate::tenancy::bucket::BucketRef;

/// What `curl -d` says when nobody said anything.
const FORM: &str = "application/x-www-form-urlencoded";

const WORDS: &str = "\
the demo of minikv; try
  curl -X PUT HOST/s3/mybucket/hello -d hi
  curl HOST/s3/mybucket/hello
  curl HOST/s3/mybucket/
  curl -X DELETE HOST/s3/mybucket/hello
";

/// What the demo's tenant is called.
pub const DEMO: &str = "demo";

/// The demo tenant and the way to its objects.
#[derive(Clone)]
pub struct Demo {
    ops: OpContext,
    who: Arc<Principal>,
}

impl Demo {
    /// On these operations, as this tenant.
    pub fn new(ops: OpContext, tenant: TenantId) -> Demo {
        let who = Arc::new(Principal::tenant_admin(DEMO, tenant));
        Demo { ops, who }
    }
}

/// Turns away whoever does not name this machine.
pub async fn from_this_machine(request: Request, next: Next) -> Response {
    if names_this_machine(request.headers()) {
        next.run(request).await
    } else {
        refusal(
            StatusCode::FORBIDDEN,
            "AccessDenied",
            "the demo answers requests to localhost only",
        )
    }
}

/// Answers everything below `/s3`.
pub async fn answer(State(demo): State<Demo>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
    let (Ok(bucket), Ok(key)) = (decode(bucket, false), decode(key, false)) else {
        return refusal(
            StatusCode::BAD_REQUEST,
            "InvalidURI",
            "the path is not UTF-8",
        );
    };
    let method = request.method().clone();
    let answered = match (&method, bucket.is_empty(), key.is_empty()) {
        (&Method::GET | &Method::HEAD, true, _) => Ok(WORDS.into_response()),
        (&Method::GET | &Method::HEAD, false, true) => demo.list(bucket).await,
        (&Method::HEAD, false, false) => demo.head(bucket, key).await,
        (&Method::GET, false, false) => demo.get(bucket, key).await,
        (&Method::PUT | &Method::POST, false, false) => demo.put(bucket, key, request).await,
        (&Method::DELETE, false, false) => demo.delete(bucket, key).await,
        _ => return refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", WORDS),
    };
    answered.unwrap_or_else(refused)
}

impl Demo {
    async fn put(
        &self,
        bucket: String,
        key: String,
        request: Request,
    ) -> Result<Response, OpError> {
        self.make_bucket(&bucket).await?;
        let headers = request.headers();
        let given = |name: header::HeaderName| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let content_type = given(header::CONTENT_TYPE).filter(|kind| kind != FORM);
        let len = given(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let body = Incoming(request.into_body().into_data_stream());
        let stored = PutObject {
            bucket: BucketRef::named(&bucket),
            key: key.clone(),
            headers: ContentHeaders {
                content_type,
                ..ContentHeaders::default()
            },
            metadata: UserMetadata::default(),
            tags: Tags::default(),
            lock: Lock::default(),
            encryption: Asked::Nothing,
            conditions: Conditions::default(),
            payload: Payload::new(body, len, Claims::default()),
        };
        let stored = ops::put_object(&self.ops, &self.who, stored).await?;
        let words = format!("stored {bucket}/{key}, {} bytes\n", stored.size);
        Ok(([(header::ETAG, format!("\"{}\"", stored.etag))], words).into_response())
    }

    /// On first use; a bucket of somebody else stays his.
    async fn make_bucket(&self, bucket: &str) -> Result<(), OpError> {
        match ops::head_bucket(
            &self.ops,
            &self.who,
            Action::PutObject,
            &BucketRef::named(bucket),
        )
        .await
        {
            Err(OpError::NoSuchBucket { .. }) => {}
            found => return found.map(|_| ()),
        }
        let create = CreateBucketCall {
            name: bucket.to_owned(),
            ..CreateBucketCall::default()
        };
        match ops::create_bucket(&self.ops, &self.who, create).await {
            // Another request was first.
            Ok(_) | Err(OpError::BucketOwned { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn get(&self, bucket: String, key: String) -> Result<Response, OpError> {
        let get = GetObject {
            bucket: BucketRef::named(bucket),
            key,
            ..GetObject::default()
        };
        let reply = ops::get_object(&self.ops, &self.who, get).await?;
        let body = match reply.content {
            Content::Bytes(bytes) => Body::from(bytes),
            Content::Stream { first, rest, .. } => {
                let first = stream::once(async { Ok(first) });
                // An error here resets the connection: a short body must not look like a whole one.
                Body::from_stream(
                    first.chain(rest.map_err(|error| Box::new(error) as axum::BoxError)),
                )
            }
        };
        Ok((headers_of(&reply.head), body).into_response())
    }

    async fn head(&self, bucket: String, key: String) -> Result<Response, OpError> {
        let head = GetObject {
            bucket: BucketRef::named(bucket),
            key,
            ..GetObject::default()
        };
        let head = ops::head_object(&self.ops, &self.who, head).await?;
        Ok((headers_of(&head), Body::empty()).into_response())
    }

    async fn delete(&self, bucket: String, key: String) -> Result<Response, OpError> {
        let delete = DeleteObject {
            bucket: BucketRef::named(bucket),
            key,
            ..DeleteObject::default()
        };
        ops::delete_object(&self.ops, &self.who, delete).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// The first thousand keys, a line each.
    async fn list(&self, bucket: String) -> Result<Response, OpError> {
        let list = ListObjects {
            bucket: BucketRef::named(bucket),
            ..ListObjects::default()
        };
        let page = ops::list_objects(&self.ops, &self.who, list).await?;
        let mut text: String = page
            .objects
            .iter()
            .map(|line| {
                let key = String::from_utf8_lossy(&line.key);
                format!("{:>12}  {key}\n", line.size)
            })
            .collect();
        if page.truncated {
            text.push_str("… and more\n");
        }
        Ok(text.into_response())
    }
}

fn headers_of(head: &ObjectHead) -> HeaderMap {
    let kind = head
        .record
        .headers
        .content_type
        .as_deref()
        .unwrap_or("application/octet-stream");
    let fields = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_LENGTH, head.plan.len().to_string()),
        (header::ETAG, format!("\"{}\"", head.etag)),
        (
            header::LAST_MODIFIED,
            dates::http_date(head.modified_ms / 1000),
        ),
        // Whatever was stored must not run as a page of this origin, which has an admin API.
        (header::CONTENT_SECURITY_POLICY, "sandbox".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)))
        .collect()
}

fn refused(error: OpError) -> Response {
    let (status, code) = match &error {
        OpError::NoSuchBucket { .. } => (StatusCode::NOT_FOUND, "NoSuchBucket"),
        OpError::NoSuchKey { .. } => (StatusCode::NOT_FOUND, "NoSuchKey"),
        OpError::Denied | OpError::BucketTaken { .. } => (StatusCode::FORBIDDEN, "AccessDenied"),
        OpError::Payload(PayloadError::TimedOut) => (StatusCode::BAD_REQUEST, "RequestTimeout"),
        OpError::NoRoom(_) => (StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage"),
        OpError::Unavailable(_) | OpError::Unknown(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")
        }
        OpError::Damaged { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        _ => (StatusCode::BAD_REQUEST, "InvalidRequest"),
    };
    refusal(status, code, &error.to_string())
}

/// A body as `ops` take it. hyper holds a body to its Content-Length.
struct Incoming(BodyDataStream);

impl Source for Incoming {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut self.0).poll_next(cx)) {
                None => None,
                Some(Ok(bytes)) if bytes.is_empty() => continue,
                Some(Ok(bytes)) => Some(Ok(bytes)),
                Some(Err(cause)) if is_timeout(&cause) => Some(Err(PayloadError::TimedOut)),
                Some(Err(cause)) => Some(Err(PayloadError::Broken(cause.into()))),
            });
        }
    }
}

fn is_timeout(error: &axum::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut) {
            return true;
        }
        next = error.source();
    }
    false
}
