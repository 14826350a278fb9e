//! The groups that have a member on this node.
//!
//! Always true: what is in here answers peers and requests. A member that comes or leaves is put in or taken out whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::Group;
use crate::ids::GroupId;
use crate::kv::KvError;

/// All of them.
pub(crate) struct Registry {
    groups: RwLock<BTreeMap<GroupId, Arc<Group>>>,
}

impl Registry {
    pub(crate) fn new(groups: impl IntoIterator<Item = Arc<Group>>) -> Registry {
        let groups = groups.into_iter().map(|group| (group.id, group));
        Registry {
            groups: RwLock::new(groups.collect()),
        }
    }

    /// The member here, if there is one.
    pub(crate) fn find(&self, id: GroupId) -> Option<Arc<Group>> {
        self.groups.read().get(&id).cloned()
    }

    pub(crate) fn get(&self, id: GroupId) -> Result<Arc<Group>, KvError> {
        let group = self.find(id);
        group.ok_or_else(|| KvError::Unavailable(format!("{id} has no member on this node")))
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
