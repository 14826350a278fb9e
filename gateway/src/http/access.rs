//! Who may see more of the HTTP port than its health.
//!
//! Always true:
//! * "this machine" means the peer's address, and no proxy in between that says otherwise: a proxy on this machine
//!   would make the whole world local;
//! * a signed request is judged with its whole body, which is small here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use sha2::{Digest, Sha256};

use super::{HttpState, refusal};
use crate::auth::access_key::KeyStore;
use crate::auth::authenticate::{AuthError, Expected, Head, Payload, authenticate};
use crate::auth::canonical;
use crate::auth::principal::Role;

/// Largest body of an administrative request.
const LARGEST_BODY: usize = 1 << 20;

/// Address of the client; put into each request by the listener's handler.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Judges signed requests by the keys the gateway knows.
#[derive(Clone)]
pub struct Gate(Arc<KeyStore>);

impl Gate {
    /// A gate for these keys.
    pub fn new(keys: Arc<KeyStore>) -> Gate {
        Gate(keys)
    }

    /// Lets the root key pass; anybody else is told the S3 code of why not.
    fn judge(&self, parts: &Parts, body: &[u8], now: u64) -> Result<(), (&'static str, String)> {
        let denied = |words: &str| ("AccessDenied", words.to_owned());
        let query = canonical::query_pairs(parts.uri.query().unwrap_or_default())
            .map_err(|cause| ("InvalidURI", cause.to_string()))?;
        let head = Head {
            method: &parts.method,
            path: parts.uri.path(),
            query: &query,
            headers: &parts.headers,
        };
        let expected = Expected {
            service: "minikv",
            region: "us-east-1",
        };
        let proof = authenticate(head, &self.0, expected, now).map_err(|cause| {
            let code = match &cause {
                AuthError::UnknownKey(_) => "InvalidAccessKeyId",
                AuthError::Signature => "SignatureDoesNotMatch",
                AuthError::TimeSkewed { .. } => "RequestTimeTooSkewed",
                _ => "AccessDenied",
            };
            (code, cause.to_string())
        })?;
        match proof.payload {
            Payload::Sha256(expected) if Sha256::digest(body)[..] == expected[..] => {}
            Payload::Unsigned if body.is_empty() => {}
            _ => {
                return Err(denied(
                    "x-amz-content-sha256 must be the SHA-256 of the body",
                ));
            }
        }
        match proof.principal.role {
            Role::Root => Ok(()),
            Role::TenantAdmin | Role::User => Err(denied("only the root key may do this")),
        }
    }
}

/// Lets signed requests through.
pub async fn signed(State(state): State<Arc<HttpState>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        return refusal(
            StatusCode::BAD_REQUEST,
            "EntityTooLarge",
            "the body is larger than 1 MiB, or was cut off",
        );
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    match state.gate.judge(&parts, &body, now) {
        Ok(()) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err((code, words)) => refusal(StatusCode::FORBIDDEN, code, &words),
    }
}

/// Lets requests from this machine through, and signed ones from anywhere.
pub async fn local_or_signed(
    state: State<Arc<HttpState>>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    if peer.is_some_and(|peer| is_local(peer, request.headers())) {
        next.run(request).await
    } else {
        signed(state, request, next).await
    }
}

fn is_local(peer: SocketAddr, headers: &HeaderMap) -> bool {
    let proxied = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    peer.ip().to_canonical().is_loopback()
        && !proxied.iter().any(|name| headers.contains_key(*name))
}

/// Whether the request names this machine as its target. A web page of elsewhere can make a browser connect to
/// 127.0.0.1 under its own host name (DNS rebinding); that name is what gives it away.
pub fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
    else {
        return false;
    };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::auth::principal::Principal;
    use crate::auth::signature_v4::{EMPTY_SHA256, Signer};

    const NOW: u64 = 1_800_000_000;

    fn signed(secret: &str, service: &str, payload: &str) -> Parts {
        let (mut parts, ()) = axum::http::Request::get("/admin/v1/status")
            .header("host", "h")
            .body(())
            .unwrap()
            .into_parts();
        let signer = Signer {
            access_key: "ROOT",
            secret_key: secret,
            region: "us-east-1",
            service,
        };
        signer
            .sign(&parts.method, &parts.uri, &mut parts.headers, payload, NOW)
            .unwrap();
        parts
    }

    /// The admin port opens for the root key alone, signed for this very port.
    #[test]
    fn only_the_root_key_opens_the_admin_port() {
        let keys = KeyStore::new();
        keys.put("ROOT", "right", Principal::root("ROOT"));
        let gate = Gate::new(Arc::new(keys));
        let code =
            |parts: &Parts, body: &[u8]| gate.judge(parts, body, NOW).map_err(|(code, _)| code);
        assert_eq!(code(&signed("right", "minikv", EMPTY_SHA256), b""), Ok(()));
        assert_eq!(
            code(&signed("wrong", "minikv", EMPTY_SHA256), b""),
            Err("SignatureDoesNotMatch")
        );
        assert_eq!(
            code(&signed("right", "minikv", EMPTY_SHA256), b"another body"),
            Err("AccessDenied")
        );
        // A request that was signed for S3 must not be good here.
        assert!(code(&signed("right", "s3", EMPTY_SHA256), b"").is_err());
        let (anonymous, ()) = axum::http::Request::get("/").body(()).unwrap().into_parts();
        assert_eq!(code(&anonymous, b""), Err("AccessDenied"));
        gate.0.put(
            "ROOT",
            "right",
            Principal::tenant_admin("ROOT", minikv_core::ids::TenantId(2)),
        );
        assert_eq!(
            code(&signed("right", "minikv", EMPTY_SHA256), b""),
            Err("AccessDenied")
        );
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    /// A reverse proxy on this machine must not open the metrics to the world.
    #[test]
    fn proxied_request_is_not_local() {
        let here: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        assert!(is_local(here, &headers(&[])));
        assert!(is_local(
            "[::ffff:127.0.0.1]:1".parse().unwrap(),
            &headers(&[])
        ));
        assert!(!is_local(here, &headers(&[("x-forwarded-for", "1.2.3.4")])));
        assert!(!is_local("10.0.0.1:5000".parse().unwrap(), &headers(&[])));
    }

    /// DNS rebinding: the page's own name stands in Host.
    #[test]
    fn foreign_host_name_is_not_this_machine() {
        for host in [
            "localhost:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "localhost",
        ] {
            assert!(names_this_machine(&headers(&[("host", host)])), "{host}");
        }
        for host in [
            "evil.example:8080",
            "localhost.evil.example",
            "10.0.0.1",
            "",
        ] {
            assert!(!names_this_machine(&headers(&[("host", host)])), "{host}");
        }
        assert!(!names_this_machine(&headers(&[])));
    }
}
