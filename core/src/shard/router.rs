//! Finds the group of a key.

use std::sync::Arc;

use bytes::Bytes;
use minikv_proto::entry as wire;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::map::{Home, ShardMap};
use crate::group::Group;
use crate::group::registry::Registry;
use crate::group::roster::Roster;
use crate::ids::{BucketId, GroupId, VShard};
use crate::kv::{Bucket, KvError};
use crate::state::read;

/// Groups and the map over them.
pub(crate) struct Router {
    pub groups: Arc<Registry>,
    /// What is known of the cluster.
    pub roster: Arc<Roster>,
    map: RwLock<Arc<ShardMap>>,
    /// Work that nobody waits for, but that an orderly stop does.
    pub loose_ends: LooseEnds,
}

/// Counts work that goes on after its request was answered.
#[derive(Default)]
pub(crate) struct LooseEnds {
    count: Mutex<usize>,
    tied: Notify,
}

impl LooseEnds {
    pub(crate) fn begin(&self) {
        *self.count.lock() += 1;
    }

    pub(crate) fn end(&self) {
        *self.count.lock() -= 1;
        self.tied.notify_waiters();
    }

    /// Waits until there is none.
    pub(crate) async fn all_tied(&self) {
        loop {
            let tied = self.tied.notified();
            tokio::pin!(tied);
            tied.as_mut().enable();
            if *self.count.lock() == 0 {
                return;
            }
            tied.await;
        }
    }
}

/// Where a key lives.
#[derive(Clone)]
pub(crate) struct Route {
    pub group: Arc<Group>,
    pub vshard: VShard,
    pub epoch: u64,
}

impl Route {
    /// A command's target, planned with these facts of the bucket.
    pub(crate) fn target(&self, bucket: &Bucket, key: &Bytes) -> wire::Target {
        wire::Target {
            bucket: bucket.id.0,
            key: key.clone(),
            epoch: bucket.epoch,
            vshard_epoch: self.epoch,
        }
    }
}

impl Router {
    pub(crate) fn new(groups: Arc<Registry>, roster: Arc<Roster>, data_groups: u16) -> Router {
        Router {
            groups,
            roster,
            map: RwLock::new(Arc::new(ShardMap::dealt(data_groups))),
            loose_ends: LooseEnds::default(),
        }
    }

    pub(crate) fn map(&self) -> Arc<ShardMap> {
        self.map.read().clone()
    }

    pub(crate) fn route(&self, bucket: BucketId, key: &[u8]) -> Result<Route, KvError> {
        let (vshard, home) = self.map().home_of(bucket, key);
        Ok(Route {
            group: self.groups.get(home.group)?,
            vshard,
            epoch: home.epoch,
        })
    }

    pub(crate) fn directory(&self) -> Result<Arc<Group>, KvError> {
        self.groups.get(GroupId::DIRECTORY)
    }

    /// All groups that hold vshards. An error: one of them cannot be asked from here.
    pub(crate) fn data(&self) -> Result<Vec<Arc<Group>>, KvError> {
        let map = self.map();
        map.groups().map(|group| self.groups.get(group)).collect()
    }

    /// The map that the cluster began with, as soon as its size is known. (Vshards do not move yet.)
    pub(crate) fn deal_as_known(&self) -> Option<()> {
        let data_groups = self.roster.with(|known| known.data_groups);
        if data_groups == 0 {
            return None;
        }
        *self.map.write() = Arc::new(ShardMap::dealt(data_groups));
        Some(())
    }

    /// Reads the map from the directory: somebody was told that ours is old.
    pub(crate) async fn reload(&self) -> Result<(), KvError> {
        let homes = self.directory()?.ask(read::vshard_homes).await?;
        let homes = homes.iter().map(|home| {
            let group = u16::try_from(home.group).map(GroupId).ok()?;
            Some(Home {
                group,
                epoch: home.epoch,
            })
        });
        let homes: Option<Vec<Home>> = homes.collect();
        let map = homes.and_then(ShardMap::of_homes);
        let map = map.ok_or_else(|| KvError::Damaged("the map of vshards".to_owned()))?;
        *self.map.write() = Arc::new(map);
        Ok(())
    }
}
