//! The groups that have a member on this node, and the way to the others.
//!
//! Always true: what is in here answers peers and requests. A member that comes or leaves is put in or taken out whole.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use super::Group;
use crate::ids::GroupId;
use crate::kv::KvError;

/// Makes the way to a group that lies elsewhere; `None`: there is no such group.
pub(crate) type WayTo = Box<dyn Fn(GroupId) -> Option<Arc<Group>> + Send + Sync>;

/// All of them.
pub(crate) struct Registry {
    groups: RwLock<BTreeMap<GroupId, Arc<Group>>>,
    elsewhere: RwLock<BTreeMap<GroupId, Arc<Group>>>,
    /// A single node has none.
    way_to: OnceLock<WayTo>,
}

impl Registry {
    pub(crate) fn new(groups: impl IntoIterator<Item = Arc<Group>>) -> Registry {
        let groups = groups.into_iter().map(|group| (group.id, group));
        Registry {
            groups: RwLock::new(groups.collect()),
            elsewhere: RwLock::default(),
            way_to: OnceLock::new(),
        }
    }

    /// From now on groups without a member here are asked where they lie.
    pub(crate) fn reach(&self, way_to: WayTo) {
        _ = self.way_to.set(way_to);
    }

    /// The member here, if there is one.
    pub(crate) fn find(&self, id: GroupId) -> Option<Arc<Group>> {
        self.groups.read().get(&id).cloned()
    }

    /// The group, wherever it lies: a member that came and has not caught up yet would keep its readers waiting.
    pub(crate) fn get(&self, id: GroupId) -> Result<Arc<Group>, KvError> {
        let group = match self.find(id) {
            Some(here) if here.floor() > 0 => self.elsewhere(id).or(Some(here)),
            Some(here) => Some(here),
            None => self.elsewhere(id),
        };
        group.ok_or_else(|| KvError::Unavailable(format!("{id} has no member on this node")))
    }

    fn elsewhere(&self, id: GroupId) -> Option<Arc<Group>> {
        let known = self.elsewhere.read().get(&id).cloned();
        known.or_else(|| {
            let group = self.way_to.get()?(id)?;
            let mut all = self.elsewhere.write();
            Some(all.entry(id).or_insert(group).clone())
        })
    }

    /// The ways that somebody went.
    pub(crate) fn ways(&self) -> Vec<Arc<Group>> {
        self.elsewhere.read().values().cloned().collect()
    }

    /// All that are here now, ascending.
    pub(crate) fn all(&self) -> impl Iterator<Item = Arc<Group>> + use<> {
        let groups: Vec<Arc<Group>> = self.groups.read().values().cloned().collect();
        groups.into_iter()
    }

    /// Groups that hold vshards.
    pub(crate) fn data(&self) -> impl Iterator<Item = Arc<Group>> + use<> {
        self.all().filter(|group| group.id != GroupId::DIRECTORY)
    }

    /// A member came.
    pub(crate) fn put(&self, group: Arc<Group>) {
        self.groups.write().insert(group.id, group);
    }

    /// A member left.
    pub(crate) fn take(&self, id: GroupId) -> Option<Arc<Group>> {
        self.groups.write().remove(&id)
    }
}
