//! Which groups this node has members of: on the disk, twice.
//!
//! ```text
//!   (not listed) ── hosted ── leaving, with its vote ── (not listed)
//!                    1 durable before anything of it      2 durable before anything of it goes
//! ```
//! A node that found the cluster hosts all groups, and has no such file until that changes.
//!
//! Always true: what the log or the engine has of a group is listed here, so that a start either opens it or ends its leaving.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use bytes::Bytes;
use prost::Message;

use super::StartError;
use super::twin_file::{Found, TwinFile};
use crate::env::disk::Disk;
use crate::ids::GroupId;

const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"minikvHO";

/// A group on this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Hosting {
    /// It votes for nobody before it has applied this entry; 0: it may.
    Hosted(u64),
    /// Its data is being removed. Its vote (as the log keeps it; empty: none) stays: should the group come back, this node
    /// must not vote twice in a term.
    Leaving(Bytes),
}

/// See the file's header.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct HostedGroups(pub BTreeMap<GroupId, Hosting>);

#[derive(Clone, PartialEq, Message)]
struct Row {
    #[prost(message, repeated, tag = "1")]
    groups: Vec<GroupRow>,
}

#[derive(Clone, PartialEq, Message)]
struct GroupRow {
    #[prost(uint32, tag = "1")]
    group: u32,
    #[prost(bool, tag = "2")]
    leaving: bool,
    #[prost(bytes = "bytes", tag = "3")]
    vote: Bytes,
    #[prost(uint64, tag = "4")]
    floor: u64,
}

impl HostedGroups {
    /// All of a node that founds.
    pub(super) fn founders(data_groups: u16) -> HostedGroups {
        let groups = (0..=data_groups).map(|group| (GroupId(group), Hosting::Hosted(0)));
        HostedGroups(groups.collect())
    }

    /// What the disk says; `None`: it has no such file.
    pub(super) async fn read(
        disk: &dyn Disk,
        dir: &Path,
    ) -> Result<Option<HostedGroups>, StartError> {
        let file = TwinFile::new(dir, "hosted", MAGIC);
        let found = file.read(disk);
        match found.map_err(StartError::io("read hosted groups", dir))? {
            Found::Absent => Ok(None),
            Found::Damaged(what) => Err(StartError::damaged(dir, "hosted", what)),
            Found::Whole {
                bodies,
                damage,
                lacks_one,
            } => {
                // The first copy is written first: of two that differ it is the newer one.
                let read = bodies.first().and_then(|body| decode(&body.bytes));
                let read = read
                    .ok_or_else(|| StartError::damaged(dir, "hosted", "unreadable".to_owned()))?;
                if damage.is_some() || lacks_one || bodies.len() > 1 {
                    let written = read.write(disk, dir).await;
                    written.map_err(StartError::io("rewrite hosted groups", dir))?;
                }
                Ok(Some(read))
            }
        }
    }

    /// Durable when it returns.
    pub(super) async fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let file = TwinFile::new(dir, "hosted", MAGIC);
        file.write(disk, FORMAT, &self.encode()).await
    }

    fn encode(&self) -> Vec<u8> {
        let row = |(group, hosting): (&GroupId, &Hosting)| GroupRow {
            group: u32::from(group.0),
            leaving: matches!(hosting, Hosting::Leaving(_)),
            vote: match hosting {
                Hosting::Hosted(_) => Bytes::new(),
                Hosting::Leaving(vote) => vote.clone(),
            },
            floor: match hosting {
                Hosting::Hosted(floor) => *floor,
                Hosting::Leaving(_) => 0,
            },
        };
        let groups = self.0.iter().map(row).collect();
        Row { groups }.encode_to_vec()
    }
}

fn decode(bytes: &Bytes) -> Option<HostedGroups> {
    let row = Row::decode(bytes.clone()).ok()?;
    let group = |row: GroupRow| {
        let group = GroupId(u16::try_from(row.group).ok()?);
        let hosting = match row.leaving {
            true => Hosting::Leaving(row.vote),
            false => Hosting::Hosted(row.floor),
        };
        Some((group, hosting))
    };
    let groups: Option<BTreeMap<_, _>> = row.groups.into_iter().map(group).collect();
    groups.map(HostedGroups)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::env::sim::{SimDisk, run};

    /// The bytes of docs/formats/data-dir.md. A format that changes gets another one beside it; this stays readable.
    const GOLDEN: &str =
        "6d696e696b76484f00000001000000170a0208010a04080220290a0b08ac0210011a040807100248e348f0";

    fn groups() -> HostedGroups {
        let vote = Bytes::from_static(b"\x08\x07\x10\x02");
        let groups = [
            (GroupId(1), Hosting::Hosted(0)),
            (GroupId(2), Hosting::Hosted(41)),
            (GroupId(300), Hosting::Leaving(vote)),
        ];
        HostedGroups(groups.into())
    }

    #[test]
    fn hosted_groups_of_the_first_version_are_written_and_read_byte_for_byte() {
        let file = TwinFile::new(Path::new("/data"), "hosted", MAGIC);
        let bytes = file.encode(FORMAT, &groups().encode());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        let body = file.decode(&bytes).unwrap();
        assert_eq!(decode(&body.bytes), Some(groups()));
    }

    #[test]
    fn a_power_cut_leaves_the_list_before_or_after_a_change() {
        run(1, async {
            let disk = SimDisk::new(1);
            disk.plant_dir("/data").unwrap();
            let dir = Path::new("/data");
            let before = HostedGroups::founders(2);
            before.write(&*disk.env().disk, dir).await.unwrap();
            let changed = groups();
            changed.write(&*disk.env().disk, dir).await.unwrap();
            for choice in disk.power_cuts() {
                let after = disk.after_power_cut(&choice).env().disk;
                let read = HostedGroups::read(&*after, dir).await.unwrap();
                assert_eq!(read, Some(changed.clone()));
            }
        });
    }
}
