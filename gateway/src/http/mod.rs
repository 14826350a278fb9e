//! The HTTP port (9001): health, metrics, administration, and the demo when it is on.
//!
//! ```text
//!   /livez /readyz /health/live /health/ready      open to everybody
//!   /metrics                                       open on this machine, else signed
//!   /s3/…                                          the demo, when it is on (then everything listens on loopback)
//!   everything else                                SigV4 with the root key, service `minikv`
//! ```
//! Always true: what is not in this list is answered only to a signed request, a 404 included, so that nobody learns
//! from outside what there is.

pub mod access;
pub mod admin;
pub mod buckets;
pub mod demo;
pub mod health;
pub mod metrics;
pub mod node_metrics;
pub mod process;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use access::Gate;
use demo::Demo;
use health::Probes;
use metrics::Metrics;

use crate::ops::OpContext;
use crate::serve::admission::Admission;

/// What the routes need.
pub struct HttpState {
    /// Whether we live and are ready.
    pub probes: Probes,
    /// Numbers.
    pub metrics: Arc<Metrics>,
    /// Places for S3 requests.
    pub admission: Admission,
    /// Calls on the store.
    pub operations: OpContext,
    /// Who may see the rest.
    pub gate: Gate,
    /// When the process started.
    pub started: Instant,
}

/// All routes.
pub fn router(state: Arc<HttpState>, demo: Option<Demo>) -> Router {
    let open = Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready));
    let local = Router::new()
        .route("/metrics", get(metrics::scrape))
        .layer(from_fn_with_state(state.clone(), access::local_or_signed));
    let signed = Router::new()
        .route("/admin/v1/status", get(admin::status))
        .route(
            "/admin/v1/buckets/{bucket}/compression",
            get(buckets::compression).put(buckets::set_compression),
        )
        .fallback(async || refusal(StatusCode::NOT_FOUND, "NotFound", "there is nothing here"))
        .layer(from_fn_with_state(state.clone(), access::signed));
    let mut router = open.merge(local).merge(signed).with_state(state);
    if let Some(demo) = demo {
        let demo = Router::new()
            .fallback(demo::answer)
            .with_state(demo)
            .layer(from_fn(demo::from_this_machine));
        router = router.nest("/s3", demo);
    }
    router.layer(DefaultBodyLimit::disable())
}

/// A JSON answer.
fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// An error of this port.
pub fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let body = serde_json::json!({ "error": { "code": code, "message": message } });
    json(status, body.to_string())
}
