//! What runs beside the requests: merges, checkpoints, forgetting, healing, sweeping, compaction, scrubbing.
//!
//! Always true:
//! * an idle node writes nothing; every round looks first and acts only on what it found. The scrubber reads;
//! * while the disk is short of room, what may give some back comes round within seconds.

use std::sync::Arc;
use std::time::Duration;

use super::running::Node;
use super::scrubber;
use crate::env::{clock, task};
use crate::group::sweep;

/// Dropped places are forgotten in rounds.
const FORGET_EVERY: Duration = Duration::from_secs(1);
/// Sweeps and compaction come this often while the disk is short of room, and it is looked at this often.
const HURRY: Duration = Duration::from_secs(2);

/// How often damage that a twin can mend is looked for in what reads have found.
const HEAL_EVERY: Duration = Duration::from_secs(5);

/// Starts them all; they end with the node.
pub(super) fn begin(node: &Arc<Node>) {
    node.begin_cluster();
    for group in node.router.groups.all() {
        node.hosts.tend(&group);
    }
    node.keep(task::spawn_thread("merger", node.merger.clone().run()));
    let checkpoints = node.checkpoints.clone();
    node.keep(task::spawn(async move { checkpoints.run().await }));
    node.keep(task::spawn(scrubber::run(Arc::downgrade(node))));
    every(node, FORGET_EVERY, |node| async move { node.forget_due() });
    every(node, HEAL_EVERY, |node| async move { node.heal().await });
    every(node, node.options.limits.sweep_every, |node| async move {
        if let Err(error) = sweep::round(&node.router, &node.sweep_limits()).await {
            tracing::debug!(%error, "a sweep was not finished");
        }
    });
    if let Some(walker) = &node.walker {
        every(node, walker.tick(), |node| async move {
            if let Err(error) = node.age_now().await {
                tracing::debug!(%error, "a walk for lifecycle rules was not finished");
            }
        });
    }
    every(node, node.options.limits.compact_every, |node| async move {
        if let Err(error) = node.compact().await {
            tracing::warn!(%error, "compaction was given up for now");
        }
    });
}

fn every<F, Work>(node: &Arc<Node>, period: Duration, work: F)
where
    F: Fn(Arc<Node>) -> Work + Send + 'static,
    Work: Future<Output = ()> + Send + 'static,
{
    // The node owns its tasks: they must not own it.
    let weak = Arc::downgrade(node);
    node.keep(task::spawn(async move {
        loop {
            let mut left = period;
            while !left.is_zero() {
                let step = left.min(HURRY);
                clock::sleep(step).await;
                left -= step;
                let Some(node) = weak.upgrade() else { return };
                if !node.log.room().above_soft_mark() {
                    break;
                }
            }
            let Some(node) = weak.upgrade() else { return };
            work(node).await;
        }
    }));
}
