//! A node whose disk is ill does not lead: its leaderships go to others.
//!
//! ```text
//!   an fsync is older than two seconds ── asks the voter with most of the log to lead ── still leads: no more heartbeats
//!     ── does not campaign ── fsyncs return: as before
//!   room is short ── asks the same voter once: one that has room, perhaps
//! ```
//! A leader that hangs in an fsync still sends heartbeats, and its followers still agree on what it proposes; but it applies
//! nothing and answers nobody, for as long as the disk likes.
//!
//! Always true: nothing here decides who leads; it only asks, or is silent, and an election does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Group;
use super::registry::Registry;
use crate::env::clock::{self, Instant};
use crate::ids::GroupId;

/// How often the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Who is asked to lead has so long: an election takes less.
const PATIENCE: Duration = Duration::from_millis(600);

/// What is known of a group.
#[derive(Clone, Copy)]
enum Asked {
    /// Since the disk is ill.
    At(Instant),
    /// The room ran short; not again before it was there in between.
    ForRoom,
}

/// Looks after the groups of a node until dropped.
pub(crate) async fn run(groups: Arc<Registry>) {
    let mut asked: BTreeMap<GroupId, Asked> = BTreeMap::new();
    loop {
        clock::sleep(LOOK_EVERY).await;
        for group in groups.all() {
            let now = tend(&group, asked.get(&group.id).copied()).await;
            match now {
                Some(now) => _ = asked.insert(group.id, now),
                None => _ = asked.remove(&group.id),
            }
        }
    }
}

async fn tend(group: &Group, asked: Option<Asked>) -> Option<Asked> {
    let raft = group.raft()?;
    let leads = raft.standing().leads;
    if group.log.is_sick() {
        let at = match asked {
            Some(Asked::At(at)) => at,
            _ => {
                raft.may_lead(false, true);
                if leads && let Some(to) = raft.successor() {
                    tracing::warn!(group = %group.id, to = to.0, "the disk hangs: another one is to lead");
                    // Not waited for: a member that hangs takes no orders before its disk does.
                    let asked = clock::timeout(LOOK_EVERY, raft.ask_to_lead(to)).await;
                    if let Ok(Err(error)) = asked {
                        tracing::debug!(group = %group.id, error, "not handed over");
                    }
                }
                clock::now()
            }
        };
        if leads && clock::now() - at > PATIENCE {
            raft.may_lead(false, false);
        }
        return Some(Asked::At(at));
    }
    if let Some(Asked::At(_)) = asked {
        raft.may_lead(group.may_vote(), true);
    }
    if group.log.room().above_soft_mark() {
        return None;
    }
    if leads
        && !matches!(asked, Some(Asked::ForRoom))
        && let Some(to) = raft.successor()
    {
        tracing::warn!(group = %group.id, to = to.0, "the disk is nearly full: another one is to lead");
        let _ = clock::timeout(LOOK_EVERY, raft.ask_to_lead(to)).await;
    }
    Some(Asked::ForRoom)
}
