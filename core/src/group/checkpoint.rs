//! When a group's state is written out, and how much log may then be forgotten.
//!
//! A checkpoint bounds three things: memory (the overlays of all groups together), the replay after a crash (log and
//! entries of the group since its last one), and disk (a group that rests must not pin old segments for ever).
//!
//! Always true:
//! * a checkpoint is made only through openraft's snapshot trigger, so that openraft never believes in an older or newer
//!   one than there is;
//! * the log is purged only up to the newest durable checkpoint;
//! * commands wait when the overlays reach twice their budget: memory stays bounded on a slow disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Group;
use super::raft_handle::RaftHandle;
use super::registry::Registry;
use crate::chunk::store::Store;
use crate::engine::budget::OverlayBudget;
use crate::env::clock;
use crate::kv::KvError;

/// A resting group's checkpoint is renewed when the stream went on so far since: it would pin segments otherwise.
const MAX_PINNED_FACTOR: u64 = 4;

/// Holds commands up while too much waits to be written out.
pub(crate) struct Pressure {
    budget: Arc<OverlayBudget>,
}

impl Pressure {
    pub(crate) fn new(budget: Arc<OverlayBudget>) -> Pressure {
        Pressure { budget }
    }

    pub(crate) async fn wait(&self) {
        while self.budget.used() > 2 * self.budget.limit() {
            clock::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// When a checkpoint is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckpointLimits {
    pub log_bytes: u64,
    pub entries: u64,
    /// Bytes of a group's log that stay behind a checkpoint for members that lag; who lags further gets the checkpoint.
    pub keep_bytes: u64,
}

/// Decides and drives.
pub(crate) struct Checkpoints {
    pub registry: Arc<Registry>,
    pub store: Arc<Store>,
    pub budget: Arc<OverlayBudget>,
    pub limits: CheckpointLimits,
    /// Told by replicas when one of them has grown past the limits.
    pub grown: Arc<Notify>,
}

impl Checkpoints {
    /// Works until dropped.
    pub(crate) async fn run(&self) {
        loop {
            let (grown, over) = (self.grown.notified(), self.budget.wait_over());
            futures::future::select(std::pin::pin!(grown), std::pin::pin!(over)).await;
            self.tend().await;
        }
    }

    async fn tend(&self) {
        let due = self.registry.all().filter(|group| self.is_due(group));
        for group in due {
            self.one(&group).await;
        }
        if !self.budget.is_over() {
            return;
        }
        let largest = self
            .registry
            .all()
            .max_by_key(|group| group.replica.engine.overlay_bytes());
        let places = self.store.overlay_bytes();
        match largest {
            Some(group) if group.replica.engine.overlay_bytes() > places => {
                self.one(&group).await;
            }
            _ => {
                if let Err(error) = self.store.checkpoint_places().await {
                    tracing::warn!(%error, "the places were not written out");
                }
            }
        }
        if self.budget.is_over() {
            // The disk refused, perhaps: do not spin.
            clock::sleep(Duration::from_millis(100)).await;
        }
    }

    fn is_due(&self, group: &Group) -> bool {
        let replica = &group.replica;
        replica.growth.is_past(self.limits)
            || (replica.is_ahead_of_checkpoint()
                && self.store.meta_written() - replica.growth.meta_written_before()
                    > MAX_PINNED_FACTOR * self.limits.log_bytes)
    }

    async fn one(&self, group: &Group) {
        if let Err(error) = make(group).await {
            tracing::warn!(group = %group.id, %error, "no checkpoint");
        }
    }
}

/// Makes a checkpoint of a group and lets its log forget what the checkpoint holds.
pub(crate) async fn make(group: &Group) -> Result<(), KvError> {
    let replica = &group.replica;
    let appended = group.log.appended_bytes(group.id);
    let Some(raft) = group.raft() else {
        // Read-only by damage: its state may be written out, its log stays as evidence.
        let written = replica.begin_checkpoint().await;
        replica.checkpoint_ended(written.clone());
        return written.map(drop).map_err(super::read::unreadable);
    };
    if replica.is_ahead_of_checkpoint() {
        let from = replica.applied();
        let (begun, ended) = replica.checkpoints();
        loop {
            // openraft drops a trigger while it has not heard of the end of the last checkpoint, so one is not enough.
            if replica.checkpoints().0 == begun {
                raft.checkpoint().await.map_err(KvError::Unavailable)?;
            }
            if replica.checkpoint_after(ended).await? {
                break;
            }
        }
        if let Some(why) = replica.checkpoint_error() {
            return Err(KvError::Unavailable(why));
        }
        if replica.checkpoint_index() < from {
            // It was under way before we asked, and lacks what we were asked for: the next one has it.
            return Box::pin(make(group)).await;
        }
        replica.remember_checkpoint(appended);
    }
    let upto = match raft.standing().others {
        0 => Some(replica.checkpoint_index()),
        _ => keep_for_others(group).map(|upto| match group.replica.shipments.holds_behind() {
            Some(held) if group.log.room().above_soft_mark() => upto.min(held),
            _ => upto,
        }),
    };
    match upto {
        Some(upto) if upto > 0 => purge(group, &raft, upto).await,
        _ => Ok(()),
    }
}

/// Has the log forget everything up to `index`, which is damaged there: a checkpoint holds what it did, and who lags gets that.
pub(crate) async fn let_go_of(group: &Group, index: u64) -> Result<(), KvError> {
    let applied = group.replica.mark().at.map(|at| at.index);
    if applied < Some(index) {
        let why = format!("entry {index} is not applied yet, only {applied:?} is");
        return Err(KvError::Unavailable(why));
    }
    make(group).await?;
    match group.raft() {
        Some(raft) if group.replica.checkpoint_index() >= index => purge(group, &raft, index).await,
        _ => Err(KvError::Unavailable("the group does not run".to_owned())),
    }
}

/// The same while the group is stopped on this node.
pub(super) async fn let_go_stopped(group: &Group, index: u64) -> Result<(), KvError> {
    let replica = &group.replica;
    if replica.mark().at.is_none() {
        return Err(KvError::Unavailable("nothing is applied yet".to_owned()));
    }
    let written = replica.begin_checkpoint().await;
    replica.checkpoint_ended(written.clone());
    written.map_err(super::read::unreadable)?;
    let upto = group.log.entry_id(group.id, index);
    let Some(upto) = upto.filter(|_| replica.checkpoint_index() >= index) else {
        let why = format!("the checkpoint does not reach entry {index}");
        return Err(KvError::Unavailable(why));
    };
    // Not waited for: after a crash the entries are there again, and are let go of again.
    let purged = group.log.purge(group.id, upto, Box::new(drop));
    purged.map_err(|error| KvError::Unavailable(error.to_string()))
}

/// Has the log forget what it may. openraft clamps a purge to the newest checkpoint that it has heard of, so a purge may be
/// asked for too early; and who asked for the checkpoint counts on the room.
async fn purge(group: &Group, raft: &RaftHandle, upto: u64) -> Result<(), KvError> {
    for _ in 0..100 {
        let purged = group.log.log_state(group.id).purged;
        if purged.is_some_and(|at| at.index >= upto) {
            return Ok(());
        }
        if raft.standing().snapshot >= upto {
            raft.purge(upto).await.map_err(KvError::Unavailable)?;
        }
        clock::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// The newest checkpoint that has enough log behind it for members that lag.
fn keep_for_others(group: &Group) -> Option<u64> {
    let appended = group.log.appended_bytes(group.id);
    let far = appended.checked_sub(group.replica.limits().keep_bytes)?;
    group.replica.checkpoint_before(far)
}
