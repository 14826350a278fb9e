//! A group whose log is damaged: what it may still do.
//!
//! Always true:
//! * a group whose vote or tail is lost, or an entry that it has not applied, does not vote or campaign: it could vote
//!   twice, or agree on other entries than it acknowledged;
//! * it applies what comes before the damage and reads that.

use std::time::Duration;

use super::Group;
use super::raft_state_machine::agreed;
use super::raft_types::from_log;
use super::replica::Round;
use crate::log::Want;

/// How long a start waits for a group to replay and elect.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// Why this member must not take part in agreeing; `None`: it may.
pub(crate) fn refuses_to_vote(group: &Group) -> Option<String> {
    if crate::planted!("damaged-voter-votes") {
        return None;
    }
    let hurt = group.log.hurt(group.id);
    let what = if hurt.vote_lost {
        "its vote is lost".to_owned()
    } else if hurt.tail_lost {
        "its newest entries are not certain".to_owned()
    } else {
        let applied = group.replica.applied();
        let entry = hurt.entries.iter().find(|index| **index > applied)?;
        format!("entry {entry}, which was not applied, is damaged")
    };
    Some(what)
}

/// Applies what lies before the damage. An error: it stopped before.
pub(crate) async fn as_far_as_possible(group: &Group) -> Result<(), String> {
    let replica = &group.replica;
    loop {
        let from = replica.mark().at.map_or(0, |at| at.index + 1);
        let hurt = group.log.hurt(group.id).entries;
        let first_bad = hurt
            .into_iter()
            .find(|index| *index >= from)
            .unwrap_or(u64::MAX);
        let entries = group
            .log
            .entries(group.id, from..first_bad, 1 << 20, Want::Heads)
            .await;
        let entries = entries.map_err(|error| error.to_string())?;
        let mut round = Round::begin(replica);
        let mut trouble = None;
        for entry in entries {
            let applied = from_log(entry).and_then(|entry| {
                let (entry, membership) = agreed(entry);
                round.apply(entry, membership)
            });
            if let Err(error) = applied {
                trouble = Some(error);
                break;
            }
        }
        let count = round.entries();
        let finished = round.finish();
        if let Some(error) = trouble.or(finished.err()) {
            tracing::error!(group = %group.id, %error, "replay stopped");
            return Err(error.to_string());
        }
        if count == 0 {
            return Ok(());
        }
    }
}
