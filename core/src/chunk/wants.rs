//! Runs of chunks that rows name from now on and that this node looks for.
//!
//! Every applied claim is told here, after a start also those since the last checkpoint; and what a reader or the scrubber
//! found bad. Who works through it: `group::repair`. A node without peers has nobody to ask and keeps no list.
//!
//! Always true: the list is bounded. What does not fit is not forgotten: then everything that the state names is looked for, and
//! what is bad is found again by the next reader, or the scrubber.

use std::collections::{BTreeSet, VecDeque};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::log::Item;
use crate::state::apply::Dropped;
use crate::state::record::ChunkRun;

/// Runs in the list, and bad items.
const MOST: usize = 4096;

/// A run to look for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Want {
    pub run: ChunkRun,
    /// Some of it is known to be bad or missing: what lies here is read, not only looked up.
    pub is_bad: bool,
}

/// See the file's header.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    inner: Mutex<Inner>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    collects: bool,
    runs: VecDeque<Want>,
    bad: BTreeSet<Item>,
    /// Those that somebody works on.
    taken: BTreeSet<Item>,
    everything: bool,
}

impl Wants {
    /// There are peers to ask: runs are kept from now on.
    pub(crate) fn collect(&self) {
        self.inner.lock().collects = true;
    }

    /// Rows name these from now on; this node may lack some of their frames.
    pub(crate) fn add(&self, claimed: Vec<ChunkRun>) {
        if claimed.is_empty() || crate::planted!("claims-not-looked-for") {
            return;
        }
        for run in claimed {
            let is_bad = false;
            self.put_back(Want { run, is_bad });
        }
        self.came.notify_one();
    }

    /// A reader could not read all of this.
    pub(crate) fn add_bad(&self, run: ChunkRun) {
        let is_bad = true;
        self.put_back(Want { run, is_bad });
        self.came.notify_one();
    }

    /// This lies here, and does not verify.
    pub(crate) fn add_bad_item(&self, item: Item) {
        let mut inner = self.inner.lock();
        if !inner.collects {
            return;
        }
        let is_known = inner.taken.contains(&item) || inner.bad.contains(&item);
        match inner.bad.len() < MOST {
            true => _ = inner.bad.insert(item),
            false => inner.everything = true,
        }
        drop(inner);
        // Two members that have the same item bad, and ask each other, would wake each other for ever.
        if !is_known {
            self.came.notify_one();
        }
    }

    /// What is to be written anew; taken from the list.
    pub(crate) fn take_bad_items(&self) -> BTreeSet<Item> {
        let mut inner = self.inner.lock();
        inner.taken = std::mem::take(&mut inner.bad);
        inner.taken.clone()
    }

    /// Nobody could give these now: later again, unless they were dropped meanwhile. Wakes nobody.
    pub(crate) fn put_back_bad(&self, item: Item) {
        let mut inner = self.inner.lock();
        if inner.taken.remove(&item) {
            inner.bad.insert(item);
        }
    }

    /// No row names these any more: nobody looks for them.
    pub(crate) fn forget<'a>(&self, dropped: impl Iterator<Item = &'a Dropped>) {
        let mut inner = self.inner.lock();
        if inner.bad.is_empty() && inner.taken.is_empty() {
            return;
        }
        for one in dropped {
            let keep = |item: &Item| match (item, one) {
                (Item::Payload(id), Dropped::Payload(dropped)) => id != dropped,
                (Item::Frame { chunk, .. }, Dropped::Chunks(run)) => chunk.stage != run.stage,
                (Item::Frame { chunk, .. }, Dropped::Stage(_, stage)) => chunk.stage != *stage,
                _ => true,
            };
            inner.bad.retain(keep);
            inner.taken.retain(keep);
        }
    }

    /// It was looked for in vain: later again.
    pub(crate) fn put_back(&self, want: Want) {
        let mut inner = self.inner.lock();
        // Readers meet the same bad run again and again.
        if !inner.collects || (want.is_bad && inner.runs.contains(&want)) {
            return;
        }
        match inner.runs.len() < MOST {
            true => inner.runs.push_back(want),
            false => inner.everything = true,
        }
    }

    /// The rows came as a whole, or bytes were lost: whatever rows name may be missing.
    pub(crate) fn add_everything(&self) {
        self.inner.lock().everything = true;
        self.came.notify_one();
    }

    /// What is to be looked for now; taken from the list.
    pub(crate) fn take(&self) -> VecDeque<Want> {
        std::mem::take(&mut self.inner.lock().runs)
    }

    /// Whether everything that the state names is to be looked for; not again, unless it is asked for again.
    pub(crate) fn take_everything(&self) -> bool {
        std::mem::take(&mut self.inner.lock().everything)
    }

    /// Waits until something was added since the last wait.
    pub(crate) async fn come(&self) {
        self.came.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::ids::{GroupId, PayloadId, StageId, VShard};

    /// Nobody has the bytes of an object that was overwritten: asking for them again and again would end never.
    #[test]
    fn what_no_row_names_any_more_is_not_looked_for() {
        let payload = |index| PayloadId {
            group: GroupId(1),
            index,
            term: 1,
        };
        let wants = Wants::default();
        wants.collect();
        (1..=3).for_each(|index| wants.add_bad_item(Item::Payload(payload(index))));
        wants.forget([Dropped::Payload(payload(1))].iter());
        assert_eq!(wants.take_bad_items().len(), 2);
        // While it is asked for.
        wants.forget([Dropped::Payload(payload(2))].iter());
        wants.put_back_bad(Item::Payload(payload(2)));
        wants.put_back_bad(Item::Payload(payload(3)));
        let left: Vec<Item> = wants.take_bad_items().into_iter().collect();
        assert_eq!(left, [Item::Payload(payload(3))]);
    }

    /// Two members that have the same item bad ask each other; each question tells the other one what it knows.
    #[test]
    fn what_is_known_to_be_bad_wakes_nobody_again() {
        let item = Item::Payload(PayloadId {
            group: GroupId(1),
            index: 1,
            term: 1,
        });
        let wants = Wants::default();
        wants.collect();
        let is_woken = || wants.come().now_or_never().is_some();
        wants.add_bad_item(item);
        assert!(is_woken());
        wants.take_bad_items();
        wants.add_bad_item(item);
        wants.put_back_bad(item);
        wants.add_bad_item(item);
        assert!(!is_woken());
    }

    /// A node that was away while thousands of objects were written does not keep a list of them all, and forgets none.
    #[test]
    fn what_does_not_fit_is_looked_for_by_a_walk() {
        let run = |index| ChunkRun {
            vshard: VShard(1),
            stage: StageId {
                group: GroupId(1),
                incarnation: 1,
                index,
            },
            count: 1,
            chunk_size: 10,
            len: 10,
        };
        let wants = Wants::default();
        wants.add(vec![run(1)]);
        assert!(wants.take().is_empty(), "alone");
        wants.collect();
        wants.add((0..MOST as u64).map(run).collect());
        assert!(!wants.take_everything());
        wants.add(vec![run(9)]);
        assert_eq!(wants.take().len(), MOST);
        assert!(wants.take_everything());
        assert!(!wants.take_everything());
    }
}
