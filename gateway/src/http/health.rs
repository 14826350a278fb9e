//! Probes: is the process alive, and can it do its work?
//!
//! Always true:
//! * alive never depends on the disk or on others: a restart must be what helps;
//! * ready means that requests would be answered: every group answers, the disk takes writes in time, and nobody told
//!   us to stop;
//! * a full disk is told, but does not make a node unready: deletes are what helps it, and they must get here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use minikv_core::node::Node;
use serde::{Deserialize, Serialize};

use super::HttpState;

/// What probes look at.
#[derive(Clone)]
pub struct Probes {
    node: Arc<Node>,
    stopping: Arc<AtomicBool>,
}

/// One check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Passed.
    pub ok: bool,
    /// Without it the node is not ready; the others are warnings.
    pub vital: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Whether all vital checks pass.
pub fn is_ready(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.ok || !check.vital)
}

impl Probes {
    /// For a node.
    pub fn new(node: Arc<Node>) -> Probes {
        Probes {
            node,
            stopping: Arc::default(),
        }
    }

    /// The node itself.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// From now on not ready.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// All checks of readiness.
    pub fn checks(&self) -> Vec<Check> {
        let serving = match self.stopping.load(Ordering::Acquire) {
            true => Err("told to stop".to_owned()),
            false => Ok(()),
        };
        let checks = [("serving", serving)].into_iter().chain(self.node.checks());
        checks.map(|(name, result)| check(name, result)).collect()
    }

    /// The answer of a readiness probe. `verbose` in the query lists the checks in Kubernetes' form.
    pub fn ready(&self, uri: &Uri) -> (StatusCode, String) {
        let checks = self.checks();
        let status = if is_ready(&checks) {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let verbose = uri.query().is_some_and(|query| {
            query
                .split('&')
                .any(|p| p.split('=').next() == Some("verbose"))
        });
        (status, text(&checks, verbose))
    }
}

fn check(name: &str, result: Result<(), String>) -> Check {
    Check {
        name: name.to_owned(),
        ok: result.is_ok(),
        vital: name != "room",
        why: result.err(),
    }
}

fn text(checks: &[Check], verbose: bool) -> String {
    let mut text = String::new();
    for check in checks.iter().filter(|check| verbose || !check.ok) {
        let (name, sign) = (&check.name, if check.vital { '-' } else { '!' });
        match &check.why {
            None => text.push_str(&format!("[+]{name} ok\n")),
            Some(why) => text.push_str(&format!("[{sign}]{name} failed: {why}\n")),
        }
    }
    text.push_str(if is_ready(checks) {
        "ok\n"
    } else {
        "not ready\n"
    });
    text
}

/// `/livez`.
pub async fn live() -> &'static str {
    "ok\n"
}

/// `/readyz`.
pub async fn ready(State(state): State<Arc<HttpState>>, uri: Uri) -> Response {
    state.probes.ready(&uri).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failing check is told even without `verbose`: whoever reads a probe's log wants the reason.
    #[test]
    fn failing_check_is_named_with_its_reason() {
        let checks = [check("groups", Ok(())), check("disk", Err("hangs".into()))];
        assert_eq!(text(&checks, false), "[-]disk failed: hangs\nnot ready\n");
        assert_eq!(
            text(&checks, true),
            "[+]groups ok\n[-]disk failed: hangs\nnot ready\n"
        );
        assert_eq!(text(&checks[..1], false), "ok\n");
    }

    /// A full node must stay in the load balancer: deletes are what helps it.
    #[test]
    fn full_disk_is_told_but_stays_ready() {
        let checks = [check("room", Err("full".into()))];
        assert_eq!(text(&checks, false), "[!]room failed: full\nok\n");
        assert!(is_ready(&checks));
    }
}
