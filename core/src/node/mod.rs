//! One node: a data directory, its log, its groups, and what runs in the background.

mod audit;
mod boot_exchange;
mod boot_number;
mod boots;
mod compactor;
mod departure;
mod founding;
mod healer;
mod hosted_file;
mod hosting;
mod housekeeping;
mod identity;
mod joining;
mod keeping_up;
#[cfg(test)]
mod lifecycle_tests;
mod membership;
mod recover;
mod running;
mod scrub_pace;
mod scrubber;
#[cfg(test)]
mod sim_tests;
mod start;
#[cfg(test)]
mod tests;
mod transport;
mod twin_file;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::env::disk::Space;
use crate::ids::{GroupId, NodeId};
use crate::kv::lifecycle::{Lifecycle, LifecycleCounts};
use crate::kv::{Credentials, Usage};
pub use crate::log::FsyncPolicy;
pub use membership::{ClusterError, ClusterNode, Membership};
pub use minikv_proto::row::MemberRole;
pub use recover::{LostEntry, RecoverError, Recovery, recover};
pub use running::{Node, NodeMetrics};
pub use scrubber::ScrubCounts;

/// How a node is started. `NodeOptions::new(dir)` is what a user gets.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The data directory; made when absent.
    pub data_dir: PathBuf,
    /// Where rows live.
    pub engine: EngineKind,
    /// When acknowledged means fsynced. Votes always are.
    pub fsync: FsyncPolicy,
    /// Data groups; only used when the data directory is new.
    pub data_groups: u16,
    /// Root credentials: seeded when the directory is new, replaced when they differ. `None`: random ones when new, else kept.
    pub root: Option<Credentials>,
    /// Sizes and times, for tests and small machines.
    pub limits: Limits,
    /// Who says what in a bucket has come of age; `None`: nobody, and nothing does.
    pub lifecycle: Option<Arc<dyn Lifecycle>>,
    /// The cluster that this node is part of; `None`: it is alone.
    pub cluster: Option<Cluster>,
}

/// How a node came to its cluster. The same at every start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cluster {
    /// It founded it, alone or with others.
    Found(Founders),
    /// It joined one that was there.
    Join(Joining),
}

impl Cluster {
    /// The cluster, and which node of it this is.
    fn this(&self) -> (u128, u64) {
        match self {
            Cluster::Found(founders) => (founders.cluster, founders.this),
            Cluster::Join(joining) => (joining.cluster, joining.this),
        }
    }

    /// Nodes that are known before anybody was heard.
    fn first_known(&self) -> &[u64] {
        match self {
            Cluster::Found(founders) => &founders.nodes,
            Cluster::Join(joining) => &joining.seeds,
        }
    }
}

/// A cluster that an empty disk joins, and under which name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joining {
    /// The cluster's.
    pub cluster: u128,
    /// Which node it is to be: an id that no disk ever had there. It is refused otherwise.
    pub this: u64,
    /// Nodes of the cluster to ask.
    pub seeds: Vec<u64>,
    /// Nodes that fail together; groups are spread over zones.
    pub zone: String,
    /// Its share of groups among the others'; 0 counts as 1.
    pub weight: u32,
}

/// A cluster that several nodes found together: each is a voter of every group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Founders {
    /// The same on all of them, and on no node of another cluster.
    pub cluster: u128,
    /// Which one this is.
    pub this: u64,
    /// All of them, ascending. The first one writes the first entries.
    pub nodes: Vec<u64>,
}

/// Which engine holds the rows; the log is the truth, so it may be exchanged between starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EngineKind {
    /// Runs on disk under an overlay.
    #[default]
    Native,
    /// All rows in memory, rebuilt at start.
    Memory,
    /// sled under an overlay. It does its own I/O: only on the real disk.
    Sled,
    /// RocksDB under an overlay. It does its own I/O: only on the real disk, and only when built with feature `rocksdb`.
    Rocksdb,
}

/// Sizes and times that a node keeps to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Overlays of all groups together, before a checkpoint is made.
    pub overlay_bytes: usize,
    /// Block cache shared by all groups.
    pub block_cache_bytes: usize,
    /// Log of a group since its last checkpoint, before one is made.
    pub checkpoint_log_bytes: u64,
    /// Entries of a group since its last checkpoint, before one is made.
    pub checkpoint_entries: u64,
    /// Log of a group that stays behind its checkpoints for members that lag; who lags further gets the whole state.
    pub keep_log_bytes: u64,
    /// A segment's size; `None`: min(256 MiB, capacity / 64). At least 256 KiB; entries and frames are at most half of it.
    pub segment_bytes: Option<u32>,
    /// Chunks of large objects: 4 MiB; smaller in tests.
    pub chunk_bytes: u32,
    /// Content of up to this many bytes travels inline.
    pub inline_bytes: usize,
    /// Bytes of entries under way to the log, before callers wait.
    pub propose_window_bytes: u32,
    /// Bytes of frames under way to the log, before callers wait.
    pub frame_window_bytes: u32,
    /// A stage without progress for so long is abandoned.
    pub abandon_after: Duration,
    /// Chunks are released so long after their last reference went.
    pub release_after: Duration,
    /// An upload is aborted so long after it was opened.
    pub upload_expiry: Duration,
    /// A session without commands for so long is ended.
    pub session_idle: Duration,
    /// How often stages, free lists, uploads and sessions are looked through.
    pub sweep_every: Duration,
    /// How often segments are looked at that might be emptied.
    pub compact_every: Duration,
    /// Everything on the disk is read once in so long, and what is bad is mended.
    pub scrub_every: Duration,
    /// An idle log writer covers its last batch after this long.
    pub cover_after: Duration,
    /// An fsync that takes longer makes the node sick.
    pub sick_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            overlay_bytes: 64 << 20,
            block_cache_bytes: 64 << 20,
            checkpoint_log_bytes: 64 << 20,
            checkpoint_entries: 5_000,
            keep_log_bytes: 256 << 20,
            segment_bytes: None,
            chunk_bytes: 4 << 20,
            inline_bytes: 64 << 10,
            propose_window_bytes: 32 << 20,
            frame_window_bytes: 32 << 20,
            abandon_after: Duration::from_secs(600),
            release_after: Duration::from_secs(900),
            upload_expiry: Duration::from_secs(7 * 24 * 3600),
            session_idle: Duration::from_secs(600),
            sweep_every: Duration::from_secs(30),
            compact_every: Duration::from_secs(10),
            scrub_every: Duration::from_secs(14 * 24 * 3600),
            cover_after: Duration::from_millis(100),
            sick_after: Duration::from_secs(2),
        }
    }
}

impl NodeOptions {
    /// The voters that every group begins with, ascending; alone, this node. Who joins begins no group.
    fn voters(&self, this: NodeId) -> Vec<NodeId> {
        match &self.cluster {
            Some(Cluster::Found(founders)) => founders.nodes.iter().copied().map(NodeId).collect(),
            Some(Cluster::Join(_)) => Vec::new(),
            None => vec![this],
        }
    }

    /// The defaults, on a directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> NodeOptions {
        NodeOptions {
            data_dir: data_dir.into(),
            engine: EngineKind::default(),
            fsync: FsyncPolicy::default(),
            data_groups: 8,
            root: None,
            limits: Limits::default(),
            lifecycle: None,
            cluster: None,
        }
    }
}

/// Why a node did not start. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process holds the directory.
    #[error("{dir} is in use by another minikv process; stop it, or choose another --data-dir")]
    InUse {
        /// The data directory.
        dir: String,
    },
    /// There are files, but no identity of ours.
    #[error(
        "{dir} holds files but is no minikv data directory (no `identity` in it); choose an empty directory"
    )]
    Foreign {
        /// The data directory.
        dir: String,
    },
    /// The directory is another node's.
    #[error(
        "{dir} belongs to node {found} of another cluster or name; this is to be node {wanted}"
    )]
    OtherNode {
        /// The data directory.
        dir: String,
        /// Whose it is.
        found: u64,
        /// Whose it should be.
        wanted: u64,
    },
    /// Both copies of a small file are damaged.
    #[error(
        "{dir}: both copies of `{file}` are damaged ({what}); restore `{file}` from a backup of this directory"
    )]
    Damaged {
        /// The data directory.
        dir: String,
        /// `identity`, `boot` or `boots`.
        file: &'static str,
        /// What was found.
        what: String,
    },
    /// Written by a newer version.
    #[error(
        "{dir} has format {found}, this minikv knows up to {known}; run the newer minikv that wrote it"
    )]
    NewerFormat {
        /// The data directory.
        dir: String,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The disk refused.
    #[error("{what}")]
    Io {
        /// Step and path.
        what: String,
        /// The cause.
        #[source]
        cause: std::io::Error,
    },
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(String),
    /// The engine was left out when this program was built.
    #[error(
        "this minikv was built without the rocksdb engine; build it with `--features rocksdb`, or choose another --engine (the data stays as it is)"
    )]
    NotBuilt,
    /// An engine cannot be opened.
    #[error("the state cannot be read: {0}")]
    Engine(String),
    /// A group did not come up.
    #[error("group {group} did not come up: {what}")]
    Group {
        /// The group.
        group: GroupId,
        /// Why.
        what: String,
    },
}

impl StartError {
    fn io<'a>(what: &'a str, dir: &'a Path) -> impl Fn(io::Error) -> StartError + Copy + 'a {
        move |cause| StartError::Io {
            what: format!("{what} in {}", dir.display()),
            cause,
        }
    }

    fn damaged(dir: &Path, file: &'static str, what: String) -> StartError {
        StartError::Damaged {
            dir: dir.display().to_string(),
            file,
            what,
        }
    }
}

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Drawn when the data directory was made.
    pub node_id: u64,
    /// Raised at every start.
    pub boot: u64,
    /// Each group's state.
    pub groups: Vec<GroupStatus>,
    /// What is damaged on this disk: a line each, with what is refused because of it.
    pub damage: Vec<String>,
    /// What was damaged and has been written anew from its twin since the start.
    pub healed: Vec<String>,
    /// Entries that the start applied from the log; 0 after a graceful stop.
    pub replayed: u64,
    /// Size and room of the file system.
    pub disk: Option<Space>,
    /// Whether new bytes are admitted; false: 507 until room is there again.
    pub room: bool,
    /// The oldest unfinished fsync is older than 2 s.
    pub sick: bool,
    /// Bytes in log segments.
    pub log_bytes: u64,
    /// Bytes in log segments that something still needs.
    pub log_live_bytes: u64,
    /// What lifecycle rules have done since the start.
    pub lifecycle: LifecycleCounts,
}

/// This node's copy of one group at one moment: copies at the same index must have the same digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyStatus {
    /// The group.
    pub group: GroupId,
    /// This node leads it, as far as it knows.
    pub leads: bool,
    /// Raft term.
    pub term: u64,
    /// Last applied index.
    pub applied: u64,
    /// Of all rows at that index.
    pub digest: u128,
    /// Checkpoints of other members that it took over since the process started.
    pub installs: u64,
}

/// The sessions of one group, as a node's copy has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupSessions {
    /// The group.
    pub group: GroupId,
    /// Names of all of them.
    pub all: Vec<u64>,
    /// This node's own one, if it has used the group.
    pub own: Option<u64>,
}

/// One group, as `status` tells it.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// The group.
    pub id: GroupId,
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
    /// What all its buckets use.
    pub usage: Usage,
    /// Why it does not answer, or only reads.
    pub trouble: Option<String>,
}
