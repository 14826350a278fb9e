//! Probes: is the process alive, and can it do its work?
//!
//! Always true:
//! * alive never depends on the disk or on others: a restart must be what helps;
//! * ready means that a write would be answered: every group answers, the disk takes writes in time, there is room,
//!   and nobody told us to stop.

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
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Check {
    fn of(name: &str, result: Result<(), String>) -> Check {
        Check {
            name: name.to_owned(),
            ok: result.is_ok(),
            why: result.err(),
        }
    }
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
    pub async fn checks(&self) -> Vec<Check> {
        let stopping = match self.stopping.load(Ordering::Acquire) {
            true => Err("told to stop".to_owned()),
            false => Ok(()),
        };
        let status = self.node.status().await;
        let sick = match status.sick {
            true => Err("an fsync takes longer than 2 s".to_owned()),
            false => Ok(()),
        };
        let room = match status.room {
            true => Ok(()),
            false => Err("no room for new objects; reads and deletes go on".to_owned()),
        };
        vec![
            Check::of("serving", stopping),
            Check::of("groups", self.node.ready()),
            Check::of("disk", sick),
            Check::of("room", room),
        ]
    }

    /// The answer of a readiness probe. `verbose` in the query lists the checks in Kubernetes' form.
    pub async fn ready(&self, uri: &Uri) -> (StatusCode, String) {
        let checks = self.checks().await;
        let ready = checks.iter().all(|check| check.ok);
        let status = if ready {
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

fn text(checks: &[Check], verbose: bool) -> String {
    let mut text = String::new();
    for check in checks.iter().filter(|check| verbose || !check.ok) {
        match &check.why {
            None => text.push_str(&format!("[+]{} ok\n", check.name)),
            Some(why) => text.push_str(&format!("[-]{} failed: {why}\n", check.name)),
        }
    }
    text.push_str(if checks.iter().all(|check| check.ok) {
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
    state.probes.ready(&uri).await.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failing check is told even without `verbose`: whoever reads a probe's log wants the reason.
    #[test]
    fn failing_check_is_named_with_its_reason() {
        let checks = [
            Check::of("groups", Ok(())),
            Check::of("room", Err("full".into())),
        ];
        assert_eq!(text(&checks, false), "[-]room failed: full\nnot ready\n");
        assert_eq!(
            text(&checks, true),
            "[+]groups ok\n[-]room failed: full\nnot ready\n"
        );
        assert_eq!(text(&checks[..1], false), "ok\n");
    }
}
