//! Which group owns which vshard, and at which epoch.
//!
//! The directory (group 0) holds the map; each group holds its own vshards with their epochs and checks them at apply, so
//! a stale map costs a retry and never an answer from the wrong group.
//!
//! Always true: every vshard has exactly one owner, and it is a data group.

use std::collections::BTreeSet;

use crate::ids::{BucketId, GroupId, VShard};

/// The owner of one vshard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Home {
    pub group: GroupId,
    pub epoch: u64,
}

/// The whole map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ShardMap {
    homes: Vec<Home>,
}

impl ShardMap {
    /// The map that a cluster with `data_groups` begins with: vshards dealt out in turn, all at epoch 1.
    pub(crate) fn dealt(data_groups: u16) -> ShardMap {
        assert!(data_groups > 0, "a cluster has at least one data group");
        let home = |vshard: usize| Home {
            group: GroupId(1 + (vshard % usize::from(data_groups)) as u16),
            epoch: 1,
        };
        ShardMap {
            homes: (0..VShard::COUNT).map(home).collect(),
        }
    }

    /// A map read from the directory, in the order of vshards.
    pub(crate) fn of_homes(homes: Vec<Home>) -> Option<ShardMap> {
        let whole = homes.len() == VShard::COUNT
            && homes.iter().all(|home| home.group != GroupId::DIRECTORY);
        whole.then_some(ShardMap { homes })
    }

    pub(crate) fn home(&self, vshard: VShard) -> Home {
        self.homes[usize::from(vshard.0)]
    }

    pub(crate) fn home_of(&self, bucket: BucketId, key: &[u8]) -> (VShard, Home) {
        let vshard = VShard::of(bucket, key);
        (vshard, self.home(vshard))
    }

    /// The groups that own vshards, ascending.
    pub(crate) fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        let groups: BTreeSet<GroupId> = self.homes.iter().map(|home| home.group).collect();
        groups.into_iter()
    }

    /// The vshards of a group, ascending.
    pub(crate) fn of_group(&self, group: GroupId) -> impl Iterator<Item = VShard> + '_ {
        let owned = self.homes.iter().enumerate();
        owned
            .filter(move |(_, home)| home.group == group)
            .map(|(vshard, _)| VShard(vshard as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A LIST asks every group once; together they must answer for all 256 vshards, each once.
    #[test]
    fn groups_share_out_all_vshards() {
        for groups in [1, 3, 8, 64] {
            let map = ShardMap::dealt(groups);
            let mut owned: Vec<u8> = (1..=groups)
                .flat_map(|group| {
                    map.of_group(GroupId(group))
                        .map(|vshard| vshard.0)
                        .collect::<Vec<_>>()
                })
                .collect();
            owned.sort_unstable();
            assert_eq!(owned, (0..=255).collect::<Vec<u8>>());
        }
    }
}
