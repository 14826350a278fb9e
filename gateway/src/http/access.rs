//! Who may see more of the HTTP port than its health.
//!
//! Always true:
//! * "this machine" means the peer's address, and no proxy in between that says otherwise: a proxy on this machine
//!   would make the whole world local;
//! * a signed request is judged with its whole body, which is small here.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::{HttpState, refusal};

/// Largest body of an administrative request.
const LARGEST_BODY: usize = 1 << 20;

/// Address of the client; put into each request by the listener's handler.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Why a request was not let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denied {
    /// S3's error code.
    pub code: String,
    /// In words.
    pub message: String,
}

/// Judges a signed request with its body.
#[derive(Clone)]
pub struct Gate(Arc<dyn Fn(&Parts, &Bytes) -> Result<(), Denied> + Send + Sync>);

impl Gate {
    /// A gate that asks `judge`.
    pub fn new(judge: impl Fn(&Parts, &Bytes) -> Result<(), Denied> + Send + Sync + 'static) -> Gate {
        Gate(Arc::new(judge))
    }
}

/// Lets signed requests through.
pub async fn signed(State(state): State<Arc<HttpState>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        return refusal(StatusCode::BAD_REQUEST, "EntityTooLarge", "the body is larger than 1 MiB, or was cut off");
    };
    match (state.gate.0)(&parts, &body) {
        Ok(()) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(denied) => refusal(StatusCode::FORBIDDEN, &denied.code, &denied.message),
    }
}

/// Lets requests from this machine through, and signed ones from anywhere.
pub async fn local_or_signed(state: State<Arc<HttpState>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    if peer.is_some_and(|peer| is_local(peer, request.headers())) {
        next.run(request).await
    } else {
        signed(state, request, next).await
    }
}

fn is_local(peer: SocketAddr, headers: &HeaderMap) -> bool {
    let proxied = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    peer.ip().to_canonical().is_loopback() && !proxied.iter().any(|name| headers.contains_key(*name))
}

/// Whether the request names this machine as its target. A web page of elsewhere can make a browser connect to
/// 127.0.0.1 under its own host name (DNS rebinding); that name is what gives it away.
pub fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// A reverse proxy on this machine must not open the metrics to the world.
    #[test]
    fn proxied_request_is_not_local() {
        let here: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        assert!(is_local(here, &headers(&[])));
        assert!(is_local("[::ffff:127.0.0.1]:1".parse().unwrap(), &headers(&[])));
        assert!(!is_local(here, &headers(&[("x-forwarded-for", "1.2.3.4")])));
        assert!(!is_local("10.0.0.1:5000".parse().unwrap(), &headers(&[])));
    }

    /// DNS rebinding: the page's own name stands in Host.
    #[test]
    fn foreign_host_name_is_not_this_machine() {
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "localhost"] {
            assert!(names_this_machine(&headers(&[("host", host)])), "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "10.0.0.1", ""] {
            assert!(!names_this_machine(&headers(&[("host", host)])), "{host}");
        }
        assert!(!names_this_machine(&headers(&[])));
    }
}
