//! `/admin/v1/status`: what the node says of itself. A stable JSON, read by `minikv status`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use minikv_core::node::NodeStatus;
use serde::{Deserialize, Serialize};

use super::health::{Check, is_ready};
use super::{HttpState, json, refusal};

/// The answer. Fields are added, never changed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Of the server.
    pub version: String,
    /// Drawn when the data directory was made.
    pub node: String,
    /// Raised at every start.
    pub boot: u64,
    /// Since the process started.
    pub uptime_seconds: u64,
    /// All checks pass.
    pub ready: bool,
    /// Each check.
    pub checks: Vec<Check>,
    /// Whether new objects are admitted.
    pub room: bool,
    /// The file system of the data directory.
    pub disk: Option<Disk>,
    /// Bytes in log segments.
    pub log_bytes: u64,
    /// Bytes of them that something still needs.
    pub log_live_bytes: u64,
    /// Entries that the last start applied from the log; 0 after a graceful stop.
    pub replayed_entries: u64,
    /// What is damaged, a line each.
    pub damage: Vec<String>,
    /// What was damaged and has been written anew from its twin since the start.
    #[serde(default)]
    pub healed: Vec<String>,
    /// What lifecycle rules did since the process started.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// The groups of this node.
    pub groups: Vec<Group>,
}

/// What lifecycle rules did.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Walks through a bucket with rules, in one group each.
    pub walks: u64,
    /// When the last one ended, ms since 1970; 0: none did.
    pub last_walk_ms: u64,
    /// Versions and uploads that were looked at.
    pub seen: u64,
    /// Objects that were deleted, or hidden behind a delete marker.
    pub expired_objects: u64,
    /// Noncurrent versions that were deleted.
    pub expired_noncurrent: u64,
    /// Delete markers that hid nothing and were deleted.
    pub expired_markers: u64,
    /// Uploads that were aborted.
    pub aborted_uploads: u64,
    /// Due when looked at, something else when it was to go.
    pub overtaken: u64,
    /// Due, and protected by object lock.
    pub protected: u64,
    /// Due, and held up until the next round.
    pub waiting: u64,
    /// Buckets whose rules cannot be read: nothing in them ages.
    pub trouble: Vec<String>,
}

/// A file system.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Disk {
    /// All of it.
    pub capacity_bytes: u64,
    /// Free for us.
    pub free_bytes: u64,
}

/// A group on this node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Group {
    /// 0 is the directory.
    pub id: u16,
    /// It answers.
    pub ready: bool,
    /// This node leads it.
    pub leads: bool,
    /// Raft term.
    pub term: u64,
    /// Last applied index.
    pub applied: u64,
    /// Index of the newest durable checkpoint.
    pub checkpoint: u64,
    /// Keys whose newest version is no delete marker.
    pub objects: u64,
    /// Versions that are no delete markers.
    pub versions: u64,
    /// Open multipart uploads.
    pub uploads: u64,
    /// Bytes of all versions and parts.
    pub bytes: u64,
    /// Why it does not answer, or only reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Status {
    fn of(node: NodeStatus, checks: Vec<Check>, uptime_seconds: u64) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            // As text: JavaScript and jq round numbers above 2^53.
            node: format!("{:016x}", node.node_id),
            boot: node.boot,
            uptime_seconds,
            ready: is_ready(&checks),
            checks,
            room: node.room,
            disk: node.disk.map(|disk| Disk {
                capacity_bytes: disk.capacity,
                free_bytes: disk.free,
            }),
            log_bytes: node.log_bytes,
            log_live_bytes: node.log_live_bytes,
            replayed_entries: node.replayed,
            damage: node.damage,
            healed: node.healed,
            lifecycle: Lifecycle {
                walks: node.lifecycle.walks,
                last_walk_ms: node.lifecycle.last_walk_ms,
                seen: node.lifecycle.seen,
                expired_objects: node.lifecycle.objects,
                expired_noncurrent: node.lifecycle.noncurrent,
                expired_markers: node.lifecycle.markers,
                aborted_uploads: node.lifecycle.uploads,
                overtaken: node.lifecycle.overtaken,
                protected: node.lifecycle.protected,
                waiting: node.lifecycle.waiting,
                trouble: node.lifecycle.trouble,
            },
            groups: node
                .groups
                .into_iter()
                .map(|group| Group {
                    id: group.id.0,
                    ready: group.ready,
                    leads: group.leads,
                    term: group.term,
                    applied: group.applied,
                    checkpoint: group.checkpoint,
                    objects: group.usage.objects,
                    versions: group.usage.versions,
                    uploads: group.usage.uploads,
                    bytes: group.usage.bytes,
                    trouble: group.trouble,
                })
                .collect(),
        }
    }
}

/// Answers.
pub async fn status(State(state): State<Arc<HttpState>>) -> Response {
    let checks = state.probes.checks();
    let node = state.probes.node().status().await;
    match serde_json::to_string(&Status::of(node, checks, state.started.elapsed().as_secs())) {
        Ok(text) => json(StatusCode::OK, text),
        Err(cause) => refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            &cause.to_string(),
        ),
    }
}
