//! Port 9001 on the listener: axum's routes, told who asks.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use tower::ServiceExt;

use super::body::ClientBody;
use super::listener::Handler;
use crate::http::access::Peer;

/// The routes.
#[derive(Clone)]
pub struct HttpPort(pub Router);

impl Handler for HttpPort {
    type Body = Body;

    async fn answer(&self, request: Request<ClientBody>, peer: SocketAddr) -> Response<Body> {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        self.0
            .clone()
            .oneshot(request)
            .await
            .unwrap_or_else(|never| match never {})
    }
}
