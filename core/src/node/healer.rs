//! Mending what a twin still has: a run, manifest or table of places of which one copy is bad is written anew.
//!
//! A single voter has no peer to ask, so it keeps every run and manifest twice. A read that meets a bad copy is answered
//! from the other and notes the bad one; this comes by a little later and rewrites it, so that the next flipped bit finds
//! two copies again.
//!
//! Always true:
//! * an undamaged node does nothing here;
//! * what no copy has stays on the list of damage, and while it is there its group gives nothing up (`Group::lacks_rows`):
//!   rows that cannot be read may name bytes that look like garbage.

use super::running::Node;
use crate::engine::damage::Damage;

impl Node {
    /// One round over all stores.
    pub(super) async fn heal(&self) {
        for group in self.router.groups.all() {
            if !is_healable(&group.replica.engine.damage()) {
                continue;
            }
            if let Err(error) = group.replica.engine.heal().await {
                tracing::warn!(group = %group.id, %error, "not healed for now");
            }
        }
        if is_healable(&self.store.places.damage())
            && let Err(error) = self.store.places.heal().await
        {
            tracing::warn!(%error, "the places are not healed for now");
        }
    }

    /// Whether any rows of this node are lost: then no segment is emptied or deleted.
    pub(super) fn lacks_rows(&self) -> bool {
        let places = self.store.places.damage();
        self.router.groups.all().any(|group| group.lacks_rows())
            || places.iter().any(|one| !one.healable)
    }
}

fn is_healable(damage: &[Damage]) -> bool {
    damage.iter().any(|one| one.healable)
}
