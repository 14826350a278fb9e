//! Who this data directory is: drawn once, never changed, kept twice.
//!
//! The identity is the first thing written into a new directory, so a directory with files but without identity is
//! somebody else's (or an identity was lost), and is refused rather than filled.
//!
//! Always true:
//! * a node id is never drawn twice for one cluster: the first node is 1 (or those who found it together say who is who),
//!   later ones are numbered by group 0;
//! * a directory written by a newer format is refused, by name of both formats.

use std::path::Path;

use prost::Message;

use super::twin_file::{Found, TwinFile};
use super::{Cluster, StartError};
use crate::env::disk::Disk;
use crate::env::{clock, random};
use crate::ids::NodeId;

/// Newest format of a data directory that we read and the one we write.
pub(super) const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"minikvID";

/// Names that may lie in a directory we call empty: our lock, drafts of a first start that was cut, and what mkfs leaves.
const IGNORED: [&str; 4] = ["lock", "identity.new", "identity.twin.new", "lost+found"];

/// Who this directory is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    /// Drawn when the cluster was made; the same on all its nodes.
    pub cluster: u128,
    /// This node within the cluster.
    pub node: NodeId,
    /// Data groups that the cluster began with, beside group 0.
    pub data_groups: u16,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Names this disk among all that ever were a node: drawn by one that joins; empty of those that founded.
    pub disk: Vec<u8>,
}

/// Body of the file `identity`.
#[derive(Clone, PartialEq, Message)]
struct IdentityRow {
    #[prost(bytes = "vec", tag = "1")]
    cluster: Vec<u8>,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(uint32, tag = "3")]
    data_groups: u32,
    #[prost(uint64, tag = "4")]
    created_ms: u64,
    #[prost(bytes = "vec", tag = "5")]
    disk: Vec<u8>,
}

/// An identity and how it came.
pub(super) struct Opened {
    pub identity: Identity,
    /// The directory was empty before.
    pub is_new: bool,
    /// One copy was bad and has been written again.
    pub healed: Option<String>,
}

/// Reads the identity of a directory (which must be locked), or makes one if the directory is empty.
pub(super) async fn open(
    disk: &dyn Disk,
    dir: &Path,
    data_groups: u16,
    cluster: Option<&Cluster>,
) -> Result<Opened, StartError> {
    let file = TwinFile::new(dir, "identity", MAGIC);
    match file
        .read(disk)
        .map_err(StartError::io("read identity", dir))?
    {
        Found::Absent => {
            refuse_foreign(disk, dir)?;
            let identity = draw(data_groups, cluster);
            file.write(disk, FORMAT, &encode(&identity))
                .await
                .map_err(StartError::io("write identity", dir))?;
            Ok(Opened {
                identity,
                is_new: true,
                healed: None,
            })
        }
        Found::Damaged(what) => Err(StartError::damaged(dir, "identity", what)),
        Found::Whole {
            bodies,
            damage,
            lacks_one,
        } => {
            if let Some(newer) = bodies.iter().find(|body| body.format > FORMAT) {
                return Err(StartError::NewerFormat {
                    dir: dir.display().to_string(),
                    found: newer.format,
                    known: FORMAT,
                });
            }
            let [body] = &bodies[..] else {
                // The identity never changes, so two whole ones are of two nodes: files were mixed up.
                return Err(StartError::damaged(
                    dir,
                    "identity",
                    "the two copies name different nodes".to_owned(),
                ));
            };
            let identity = decode(&body.bytes)
                .ok_or_else(|| StartError::damaged(dir, "identity", "unreadable".to_owned()))?;
            if let Some(cluster) = cluster
                && (identity.cluster, identity.node.0) != cluster.this()
            {
                return Err(StartError::OtherNode {
                    dir: dir.display().to_string(),
                    found: identity.node.0,
                    wanted: cluster.this().1,
                });
            }
            if damage.is_some() || lacks_one {
                file.write(disk, FORMAT, &body.bytes)
                    .await
                    .map_err(StartError::io("rewrite identity", dir))?;
            }
            Ok(Opened {
                identity,
                is_new: false,
                healed: damage,
            })
        }
    }
}

/// Whether there is a data directory of ours here, whole or not.
pub(super) fn is_there(disk: &dyn Disk, dir: &Path) -> bool {
    let found = TwinFile::new(dir, "identity", MAGIC).read(disk);
    found.is_ok_and(|found| !matches!(found, Found::Absent))
}

fn refuse_foreign(disk: &dyn Disk, dir: &Path) -> Result<(), StartError> {
    let entries = disk.list(dir).map_err(StartError::io("list", dir))?;
    let is_ours = |path: &Path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| IGNORED.contains(&name))
    };
    match entries.iter().any(|entry| !is_ours(&entry.path)) {
        true => Err(StartError::Foreign {
            dir: dir.display().to_string(),
        }),
        false => Ok(()),
    }
}

fn draw(data_groups: u16, cluster: Option<&Cluster>) -> Identity {
    let disk = match cluster {
        Some(Cluster::Join(_)) => {
            let mut disk = vec![0; 16];
            random::fill(&mut disk);
            disk
        }
        _ => Vec::new(),
    };
    let (cluster, node) = match cluster {
        Some(cluster) => cluster.this(),
        None => {
            let mut cluster = [0; 16];
            random::fill(&mut cluster);
            (u128::from_be_bytes(cluster), 1)
        }
    };
    Identity {
        cluster,
        node: NodeId(node),
        data_groups,
        created_ms: clock::wall_ms(),
        disk,
    }
}

fn encode(identity: &Identity) -> Vec<u8> {
    IdentityRow {
        cluster: identity.cluster.to_be_bytes().to_vec(),
        node: identity.node.0,
        data_groups: u32::from(identity.data_groups),
        created_ms: identity.created_ms,
        disk: identity.disk.clone(),
    }
    .encode_to_vec()
}

fn decode(bytes: &[u8]) -> Option<Identity> {
    let row = IdentityRow::decode(bytes).ok()?;
    Some(Identity {
        cluster: u128::from_be_bytes(row.cluster.try_into().ok()?),
        node: NodeId(row.node),
        data_groups: u16::try_from(row.data_groups).ok().filter(|n| *n > 0)?,
        created_ms: row.created_ms,
        disk: row.disk,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The bytes of docs/formats/data-dir.md. A format that changes gets another one beside it; this stays readable.
    const GOLDEN: &str = "6d696e696b764944000000010000001d0a10101112131415161718191a1b1c1d1e1f1001180820fbd095ffbc310ce7bcd8";

    #[test]
    fn an_identity_of_the_first_version_is_written_and_read_byte_for_byte() {
        let identity = Identity {
            cluster: 0x1011_1213_1415_1617_1819_1a1b_1c1d_1e1f,
            node: NodeId(1),
            data_groups: 8,
            created_ms: 1_700_000_000_123,
            disk: Vec::new(),
        };
        let file = TwinFile::new(Path::new("/data"), "identity", MAGIC);
        let bytes = file.encode(FORMAT, &encode(&identity));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        let body = file.decode(&bytes).unwrap();
        assert_eq!((body.format, decode(&body.bytes)), (1, Some(identity)));
    }
}
