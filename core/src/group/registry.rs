//! The groups that have a member on this node.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Group;
use crate::ids::GroupId;
use crate::kv::KvError;

/// All of them; fixed after the start.
pub(crate) struct Registry {
    groups: BTreeMap<GroupId, Arc<Group>>,
}

impl Registry {
    pub(crate) fn new(groups: impl IntoIterator<Item = Arc<Group>>) -> Registry {
        let groups = groups.into_iter().map(|group| (group.id, group));
        Registry {
            groups: groups.collect(),
        }
    }

    pub(crate) fn get(&self, id: GroupId) -> Result<&Arc<Group>, KvError> {
        let group = self.groups.get(&id);
        group.ok_or_else(|| KvError::Unavailable(format!("{id} has no member on this node")))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }

    /// Groups that hold vshards.
    pub(crate) fn data(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.all().filter(|group| group.id != GroupId::DIRECTORY)
    }
}
