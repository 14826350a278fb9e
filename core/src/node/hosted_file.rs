//! Which groups this node has members of: on the disk, twice.
//!
//! ```text
//!   (not listed) ── hosted ── leaving, with its vote ── left ── hosted
//!                    1 durable before anything of it      2 durable before anything of it goes
//! ```
//! A node that found the cluster hosts all groups, and has no such file until that changes.
//!
//! Always true:
//! * what the log or the engine has of a group is listed here, so that a start either opens it or ends its leaving;
//! * what a group that left had acknowledged is known for good: should it come back, it votes only when it has that much again.

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

/// How far a log reached: what a member may have acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Reach {
    /// Of the newest entry.
    pub term: u64,
    pub index: u64,
}

/// A group on this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Hosting {
    Hosted {
        /// It votes for nobody before it has applied this entry; 0: it may.
        floor: u64,
        /// What it had acknowledged before it left and came again.
        before: Reach,
    },
    /// Its data is being removed. Its vote (as the log keeps it; empty: none) stays: should the group come back, this node
    /// must not vote twice in a term.
    Leaving { vote: Bytes, reach: Reach },
    /// Nothing of it is here but its vote, in the log.
    Left(Reach),
}

impl Hosting {
    /// Begun with by whoever founds.
    const FOUNDED: Hosting = Hosting::Hosted {
        floor: 0,
        before: Reach { term: 0, index: 0 },
    };
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
    #[prost(uint64, tag = "5")]
    term: u64,
    #[prost(uint64, tag = "6")]
    index: u64,
    #[prost(bool, tag = "7")]
    left: bool,
}

impl HostedGroups {
    /// All of a node that founds.
    pub(super) fn founders(data_groups: u16) -> HostedGroups {
        let groups = (0..=data_groups).map(|group| (GroupId(group), Hosting::FOUNDED));
        HostedGroups(groups.collect())
    }

    /// Whether a start finds anything of this group that is to be kept.
    pub(super) fn is_here(&self, group: GroupId) -> bool {
        matches!(self.0.get(&group), Some(Hosting::Hosted { .. }))
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
        let row = |(group, hosting): (&GroupId, &Hosting)| {
            let mut row = GroupRow {
                group: u32::from(group.0),
                ..GroupRow::default()
            };
            let reach = match hosting {
                Hosting::Hosted { floor, before } => {
                    row.floor = *floor;
                    before
                }
                Hosting::Leaving { vote, reach } => {
                    (row.leaving, row.vote) = (true, vote.clone());
                    reach
                }
                Hosting::Left(reach) => {
                    row.left = true;
                    reach
                }
            };
            (row.term, row.index) = (reach.term, reach.index);
            row
        };
        let groups = self.0.iter().map(row).collect();
        Row { groups }.encode_to_vec()
    }
}

fn decode(bytes: &Bytes) -> Option<HostedGroups> {
    let row = Row::decode(bytes.clone()).ok()?;
    let group = |row: GroupRow| {
        let group = GroupId(u16::try_from(row.group).ok()?);
        let reach = Reach {
            term: row.term,
            index: row.index,
        };
        let hosting = match (row.leaving, row.left) {
            (true, _) => Hosting::Leaving {
                vote: row.vote,
                reach,
            },
            (false, true) => Hosting::Left(reach),
            (false, false) => Hosting::Hosted {
                floor: row.floor,
                before: reach,
            },
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

    fn hosted(floor: u64, before: Reach) -> Hosting {
        Hosting::Hosted { floor, before }
    }

    fn leaving(vote: Bytes, reach: Reach) -> Hosting {
        Hosting::Leaving { vote, reach }
    }

    fn groups() -> HostedGroups {
        let vote = Bytes::from_static(b"\x08\x07\x10\x02");
        let groups = [
            (GroupId(1), Hosting::FOUNDED),
            (GroupId(2), hosted(41, Reach::default())),
            (GroupId(300), leaving(vote, Reach::default())),
        ];
        HostedGroups(groups.into())
    }

    #[test]
    fn what_a_group_that_left_had_acknowledged_is_written_and_read_byte_for_byte() {
        let vote = Bytes::from_static(b"\x08\x07\x10\x02");
        let reach = Reach {
            term: 7,
            index: 300,
        };
        let groups = [
            (GroupId(1), Hosting::Left(reach)),
            (GroupId(2), leaving(vote, reach)),
            (GroupId(3), hosted(301, reach)),
        ];
        let groups = HostedGroups(groups.into());
        let hex: String = groups.encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "0a090801280730ac0238010a0f080210011a0408071002280730ac020a0a080320ad02280730ac02"
        );
        assert_eq!(decode(&groups.encode().into()), Some(groups));
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
