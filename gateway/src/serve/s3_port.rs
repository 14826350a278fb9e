//! Port 9000 on the listener: S3, and the few paths that are not S3.
//!
//! ```text
//!   /minio/health/…  /_minikv/…     probes (both first segments are no bucket names that can exist)
//!   everything else                 a place in the admission, or SlowDown; then S3
//! ```
//! Always true: probes are answered when S3 requests are turned away; a request is counted when its answer has ended.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use minikv_core::kv::{Credentials, Kv};

use super::admission::{Admission, Place};
use super::body::{ClientBody, Held};
use super::listener::Handler;
use super::measure::{Measure, Measured};
use crate::auth::principal::Principal;
use crate::config::Config;
use crate::http::health::Probes;
use crate::http::metrics::Metrics;
use crate::object::encryption::ring::KeyRing;
use crate::ops::{self, CreateBucketCall, OpContext, OpError};
use crate::s3::ApiName;
use crate::s3::error::refusal;
use crate::s3::reply_body::ReplyBody;
use crate::s3::service::{S3Options, S3Service};
use crate::store::Store;

/// S3 and what guards it.
#[derive(Clone)]
pub struct S3Port {
    ops: OpContext,
    service: S3Service,
    admission: Admission,
    metrics: Arc<Metrics>,
    probes: Probes,
}

impl S3Port {
    /// On a store whose root key is this.
    pub fn new(
        config: &Config,
        kv: Kv,
        root: &Credentials,
        ring: KeyRing,
        admission: Admission,
        metrics: Arc<Metrics>,
        probes: Probes,
    ) -> S3Port {
        let ops = OpContext::new(Store::local(kv), root, ring);
        let options = S3Options {
            domains: config.domains.clone(),
            https: config.speaks_tls(),
            customer_keys: config.speaks_tls() || config.sse_c_over_http,
        };
        let service = S3Service::new(ops.clone(), &options);
        S3Port {
            ops,
            service,
            admission,
            metrics,
            probes,
        }
    }

    /// The calls behind it, for whoever speaks to them in another way.
    pub fn operations(&self) -> &OpContext {
        &self.ops
    }

    /// So that the first `aws s3 cp` has somewhere to go. A store that cannot do it now is no reason not to start.
    pub async fn make_first_bucket(&self, root: &Credentials) {
        let create = CreateBucketCall {
            name: "demo".to_owned(),
            ..CreateBucketCall::default()
        };
        match ops::create_bucket(&self.ops, &Principal::root(&root.access_key), create).await {
            Ok(_) | Err(OpError::BucketOwned { .. }) => {}
            Err(error) => tracing::warn!(%error, "bucket demo was not made"),
        }
    }

    fn probe(&self, request: &Request<ClientBody>) -> Response<Full<Bytes>> {
        let answer = |status: StatusCode, text: String| {
            let mut response = Response::new(Full::new(Bytes::from(text)));
            *response.status_mut() = status;
            response
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return answer(StatusCode::METHOD_NOT_ALLOWED, String::new());
        }
        match request.uri().path() {
            "/minio/health/live" | "/_minikv/livez" => answer(StatusCode::OK, String::new()),
            "/minio/health/ready"
            | "/minio/health/cluster"
            | "/minio/health/cluster/read"
            | "/_minikv/readyz" => {
                let (status, text) = self.probes.ready(request.uri());
                answer(status, text)
            }
            _ => answer(StatusCode::NOT_FOUND, String::new()),
        }
    }
}

impl Handler for S3Port {
    type Body = Held<Either<Measured<ReplyBody>, Full<Bytes>>, Option<Place>>;

    async fn answer(
        &self,
        mut request: Request<ClientBody>,
        _peer: SocketAddr,
    ) -> Response<Self::Body> {
        let path = request.uri().path();
        if path.starts_with("/_minikv/") || path.starts_with("/minio/health/") {
            return self
                .probe(&request)
                .map(|body| Held::new(Either::Right(body), None));
        }
        let measure = Measure::begin(self.metrics.clone(), request.body().received());
        let place = self.admission.enter().await;
        let response = if let Some(place) = &place {
            request.body_mut().occupies(place.clone());
            self.service.handle(request).await
        } else {
            self.metrics.rejected("slow_down");
            refusal(
                "SlowDown",
                StatusCode::SERVICE_UNAVAILABLE,
                "Please reduce your request rate.",
            )
        };
        let api = response
            .extensions()
            .get::<ApiName>()
            .map_or("Unknown", |name| name.0);
        let measure = measure.answered(api, response.status().as_u16());
        response.map(|body| Held::new(Either::Left(Measured::new(body, measure)), place))
    }
}
