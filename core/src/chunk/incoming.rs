//! Bytes on their way into this node, and whether anybody still wants them when they are there.
//!
//! Between the look at the state that lets bytes in and the moment when they are durable, entries are applied: the stage
//! may be given up, the run released. Its places are forgotten then, once; what is recorded later nobody would ever forget.
//!
//! ```text
//!   watch ── look at the state: named ── write, fsync ── record, unless dropped meanwhile
//!                    apply: rows change ── dropped is noted here ── places are forgotten
//! ```
//! Always true: a place is recorded before its stage is noted as dropped (then forgetting meets it), or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::ids::StageId;
use crate::state::apply::Dropped;

/// See the file's header.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    stages: Mutex<BTreeMap<StageId, Watch>>,
    is_closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Watch {
    watchers: usize,
    dropped: bool,
}

impl Incoming {
    /// All rows were replaced: what ended meanwhile was told to nobody.
    pub(crate) fn all_dropped(&self) {
        let mut stages = self.stages.lock();
        stages.values_mut().for_each(|watch| watch.dropped = true);
    }

    /// This node keeps nothing of the group any more: whatever comes, and is under way, is dropped.
    pub(crate) fn close(&self) {
        let _stages = self.stages.lock();
        self.is_closed.store(true, Ordering::Release);
    }

    /// Whether this node keeps nothing of the group any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Bytes under this stage begin to come. Look at the state after this.
    pub(crate) fn watch(self: &Arc<Self>, stage: StageId) -> Watched {
        self.stages.lock().entry(stage).or_default().watchers += 1;
        Watched {
            incoming: self.clone(),
            stage,
        }
    }

    /// The rows that named these are gone. To be called before their places are forgotten.
    pub(crate) fn dropped(&self, dropped: &[Dropped]) {
        let mut stages = self.stages.lock();
        if stages.is_empty() {
            return;
        }
        for one in dropped {
            let stage = match one {
                Dropped::Stage(_, stage) => stage,
                Dropped::Chunks(run) => &run.stage,
                Dropped::Payload(_) => continue,
            };
            if let Some(watch) = stages.get_mut(stage) {
                watch.dropped = true;
            }
        }
    }
}

/// A stage that is watched, until this is dropped.
pub(crate) struct Watched {
    incoming: Arc<Incoming>,
    stage: StageId,
}

impl Watched {
    /// Does it, unless what the stage's bytes were for was dropped since the watch began.
    pub(crate) fn unless_dropped<T>(&self, record: impl FnOnce() -> T) -> Option<T> {
        let stages = self.incoming.stages.lock();
        let dropped = stages.get(&self.stage).is_some_and(|watch| watch.dropped)
            || self.incoming.is_closed.load(Ordering::Acquire);
        if dropped && !crate::planted!("no-second-look-at-the-stage") {
            return None;
        }
        // Under the lock: a drop that is noted after this is forgotten after this.
        Some(record())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut stages = self.incoming.stages.lock();
        if let Some(watch) = stages.get_mut(&self.stage) {
            watch.watchers -= 1;
            if watch.watchers == 0 {
                stages.remove(&self.stage);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GroupId, VShard};

    /// A stage given up while its bytes were being written: they are not recorded, and the next one is not mistaken for it.
    #[test]
    fn bytes_of_a_stage_that_ended_meanwhile_are_not_recorded() {
        let incoming = Arc::new(Incoming::default());
        let stage = |index| StageId {
            group: GroupId(1),
            incarnation: 1,
            index,
        };
        let first = incoming.watch(stage(7));
        let second = incoming.watch(stage(7));
        let other = incoming.watch(stage(8));
        assert_eq!(first.unless_dropped(|| 1), Some(1));
        incoming.dropped(&[Dropped::Stage(VShard(3), stage(7))]);
        assert_eq!(first.unless_dropped(|| 1), None);
        assert_eq!(second.unless_dropped(|| 1), None);
        assert_eq!(other.unless_dropped(|| 1), Some(1));
        drop((first, second, other));
        assert!(incoming.stages.lock().is_empty());
    }
}
