//! Bringing a member back that damage put out, by those who lead.
//!
//! ```text
//!   what is ill                                 what is done
//!   log: its vote, its newest entries or one    takes no part ── a whole state from the leader ── doubt ── switched ── log
//!     that is not applied are lost                emptied up to it ── a vote in a far higher term ── mended ── takes part
//!   rows: a block that no copy of a run has     hands over, stops ── a whole state ── switched ── takes part; log and vote stay
//!   stopped, or not begun: something could      stops ── what is damaged of the applied log is let go ── takes part; if an entry
//!     not be read                                 that is not applied is damaged: as "log"
//! ```
//! A member that lost something has promised more than it knows. It may have voted in a term that it does not remember, and it
//! has acknowledged entries that its leader counts. So before it votes or acknowledges again
//! * it holds everything up to the newest entry that a leader had after it knew of this run of the member (before that,
//!   acknowledgements of an earlier run might still arrive there), confirmed as leader by a majority afterwards: that
//!   majority was found without this member, so nobody was elected behind that leader's back by a vote that is forgotten here;
//! * it has voted for itself in a term so far ahead that it cannot have voted there. Whoever leads steps down when it hears
//!   of that, and counts the acknowledgements of the next term from nothing.
//!
//! Always true:
//! * from the first change to the last a member whose log is ill is marked doubtful in the log: a crash anywhere leaves one
//!   that takes no part, and all of this is done again;
//! * what it takes over is an answer to its own question in this run, never something that came late;
//! * its state never goes back: a state that is older than its own is not taken;
//! * a member that stopped for something else than what it could not read stays stopped: it would only happen again.
//!
//! Failure it prevents: a damaged voter that stays out for ever, so that the next failure costs the group its majority; and one
//! that votes before it knows what it promised. Elsewhere: alone there is nobody to ask (`node::recover`); taking a state in
//! (`install`).

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use minikv_proto::peer::{self, ask, reply};
use tokio::sync::oneshot;

use super::install::{self, Arrived, Remote};
use super::raft_handle::RaftHandle;
use super::raft_types::{decode_vote, encode_vote, term_after, voters_of};
use super::raft_wire::{vote_in, vote_out};
use super::{Group, Standing, checkpoint, replay};
use crate::env::clock;
use crate::ids::NodeId;
use crate::kv::KvError;
use crate::log::{Ack, Item, LogError};
use crate::state::read;

/// How often it is looked whether something is ill; and between two tries.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A leader makes a checkpoint before it answers. Asked again, it has most of it already.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a leader waits for what it needs before it answers.
const READY: Duration = Duration::from_secs(3);
/// Who was asked to lead instead has so long.
const HAND_OVER: Duration = Duration::from_secs(1);
/// Bytes of the log looked at together.
const LOOK: u64 = 1 << 20;

/// What is ill.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Ill {
    Log,
    Rows,
    Stopped(String),
}

/// Looks after a member that has peers, until dropped.
pub(crate) async fn run(group: Arc<Group>) {
    loop {
        clock::sleep(LOOK_EVERY).await;
        let Some(ill) = ill(&group) else { continue };
        match cure(&group, &ill).await {
            Ok(()) => {
                tracing::warn!(group = %group.id, ?ill, "takes part again");
                let store = &group.replica.store;
                store.note_healed(format!("{}: {}", group.id, words(&ill)));
            }
            Err(why) => tracing::warn!(group = %group.id, ?ill, why, "not brought back yet"),
        }
    }
}

fn words(ill: &Ill) -> String {
    match ill {
        Ill::Log => "its log was damaged; brought back by its leader".to_owned(),
        Ill::Rows => "its rows were damaged; taken over from its leader".to_owned(),
        Ill::Stopped(why) => format!("{why}; begun again"),
    }
}

fn ill(group: &Group) -> Option<Ill> {
    match group.standing() {
        // Its rows stop it whenever it begins again; a log that is ill is brought back with all rows.
        Standing::Behind(_) if group.lacks_rows() && replay::refuses_to_vote(group).is_none() => {
            return Some(Ill::Rows);
        }
        Standing::Behind(_) => return Some(Ill::Log),
        Standing::Refused(_) | Standing::Starting | Standing::ReadOnly(_) => return None,
        Standing::Serving { .. } => {}
    }
    if group.lacks_rows() {
        return Some(Ill::Rows);
    }
    let why = group.raft()?.ended()?;
    // A log that has failed ends the process; what is wrong with more than the disk stays wrong.
    let stays = group.log.has_failed() || group.replica.is_stopped_for_good();
    (!stays).then_some(Ill::Stopped(why))
}

async fn cure(group: &Arc<Group>, ill: &Ill) -> Result<(), String> {
    match ill {
        Ill::Log if replay::refuses_to_vote(group).is_some() => bring_back(group).await,
        Ill::Rows => {
            step_aside(group).await;
            // Until the switch nobody else may use the directory that it arrives in.
            let alone = group.installer.arriving().await;
            let (arrived, _) = whole_state(group).await?;
            stop(group).await;
            let taken = take_over(group, arrived, false).await;
            drop(alone);
            // Either way it takes part, if its rows let it: its log and its vote are whole.
            let started = start(group).await;
            taken.and(started)
        }
        // A disk that could not be read for a while took nothing away, and two such members would wait for each other.
        Ill::Log | Ill::Stopped(_) => {
            stop(group).await;
            let damaged = damaged_entries(group).await;
            if is_any_unapplied(&damaged, group.replica.mark().at.map(|at| at.index)) {
                let what = "an entry that was not applied is damaged";
                group.stand(group.hurt(what));
                return bring_back(group).await;
            }
            if let Some(worst) = damaged.last()
                && let Err(error) = checkpoint::let_go_stopped(group, *worst).await
            {
                tracing::warn!(group = %group.id, %error, "damaged entries stay for now");
            }
            start(group).await
        }
    }
}

/// Whether one of these entries is not in the state. `applied`: up to where it goes; `None`: it has not even the first entry,
/// whose index is 0.
fn is_any_unapplied(damaged: &[u64], applied: Option<u64>) -> bool {
    damaged.iter().any(|index| Some(*index) > applied)
}

/// See the file's header.
async fn bring_back(group: &Arc<Group>) -> Result<(), String> {
    let alone = group.installer.arriving().await;
    let (arrived, vote) = whole_state(group).await?;
    let said = |error: LogError| error.to_string();
    let (id, log) = (group.id, &group.log);
    settled(|ack| log.doubt(id, ack)).await.map_err(said)?;
    take_over(group, arrived, true).await?;
    drop(alone);
    let told = vote_in(Some(vote)).map_err(|error| error.to_string())?;
    let known = log.log_state(id).vote.map(decode_vote).transpose();
    let known = known.map_err(|error| error.to_string())?;
    let highest = match known {
        Some(known) if known.leader_id.term > told.leader_id.term => known,
        _ => told,
    };
    let last = log.log_state(id).last;
    let vote = match crate::planted!("brought-back-with-the-old-vote") {
        true => Ok(encode_vote(&told)),
        false => term_after(Some(encode_vote(&highest)), last, group.replica.node),
    };
    let vote = vote.map_err(|error| error.to_string())?;
    settled(|ack| log.save_vote(id, vote, ack))
        .await
        .map_err(said)?;
    settled(|ack| log.mend(id, ack)).await.map_err(said)?;
    log.sync().await.map_err(said)?;
    start(group).await
}

/// Who leads while rows are missing had better not: its successor is asked for them.
async fn step_aside(group: &Group) {
    let Some(raft) = group.raft() else { return };
    if !raft.standing().leads {
        return;
    }
    if let Some(to) = raft.successor() {
        let asked = clock::timeout(HAND_OVER, raft.ask_to_lead(to)).await;
        tracing::debug!(group = %group.id, to = to.0, ?asked, "steps aside");
    }
    let deadline = clock::now() + HAND_OVER;
    while raft.standing().leads && clock::now() < deadline {
        clock::sleep(HAND_OVER / 20).await;
    }
}

/// A checkpoint of the leader that holds all it has agreed on, here and durable; and the leader's vote.
async fn whole_state(group: &Arc<Group>) -> Result<(Arrived, peer::RaftVote), String> {
    let peers = group.peers.clone().ok_or("there are no peers")?;
    let mut why = "nobody else is a member".to_owned();
    // All at once: who does not lead says so, and who cannot be reached keeps nobody waiting.
    let asked = others(group).into_iter().map(|node| {
        let what = ask::What::BringBack(peer::BringBack {});
        let said = peers.ask(node, group.id, what, PATIENCE);
        async move { (node, said.await) }
    });
    let mut asked: FuturesUnordered<_> = asked.collect();
    while let Some((node, said)) = asked.next().await {
        let brought = match said {
            Ok(reply::What::Brought(brought)) => brought,
            Ok(_) => {
                why = format!("node {}: no answer to the question", node.0);
                continue;
            }
            Err(error) => {
                why = error.to_string();
                continue;
            }
        };
        let vote = brought.vote.ok_or("a state without a vote")?;
        let source = Remote {
            peers: peers.clone(),
            from: node,
            group: group.id,
            checkpoint: brought.checkpoint,
        };
        let arrived = install::receive(&group.replica, &source, &brought.manifest).await?;
        return Ok((arrived, vote));
    }
    Err(why)
}

/// Whoever may lead: the members as this copy knows them, first; they may be others by now, and its rows may be what is damaged.
fn others(group: &Group) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = Vec::new();
    let members = read::members(&*group.replica.view()).unwrap_or_default();
    let voters = voters_of(&group.replica.mark()).unwrap_or_default();
    let known = group.peers.iter().flat_map(|peers| peers.nodes());
    let all = members.into_iter().map(|member| NodeId(member.node));
    for node in all.chain(voters.into_iter().flatten()).chain(known) {
        if node != group.replica.node && !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    nodes
}

async fn stop(group: &Group) {
    group.stand(Standing::Starting);
    let raft = group.raft();
    group.set_raft(None);
    if let Some(raft) = raft {
        raft.stop().await;
    }
    // Whatever it still has in its hands.
    group.replica.next_driver();
}

/// Replaces the state, and has the log begin behind it. Nothing drives this copy. `is_doubtful`: nothing in the log is certain.
async fn take_over(group: &Arc<Group>, arrived: Arrived, is_doubtful: bool) -> Result<(), String> {
    let replica = &group.replica;
    let mark = install::mark_of(&arrived).map_err(|error| error.to_string())?;
    let at = mark.at.ok_or("a state without an index")?;
    if at.index < replica.applied() {
        // Rows were written by entries that this one lacks; the next one has them.
        return Err(format!(
            "a state at {} came, and {} is applied",
            at.index,
            replica.applied()
        ));
    }
    let (id, log) = (group.id, &group.log);
    let said = |error: LogError| error.to_string();
    // Then what lies behind may have been acknowledged, and stays.
    let follows = !is_doubtful && log.entry_id(id, at.index) == Some(at);
    if !follows {
        // It was never agreed on, or is not certain: whoever leads sends it again. Before the switch: openraft does not
        // start on a log that has other entries than the state.
        // The state's own last entry stays: its payload may be one that the rows name.
        let before = match log.entry_id(id, at.index) == Some(at) {
            true => Some(at.index),
            false => at.index.checked_sub(1),
        };
        let mut removed = Ok(());
        let truncated = settled(|ack| {
            // At once: a table of places that is written meanwhile would be called complete behind them.
            let mut dropped = log
                .truncate_after(id, before, ack)?
                .into_iter()
                .map(Item::Payload);
            removed = dropped.try_for_each(|item| replica.store.places.remove(&item).map(drop));
            Ok(())
        });
        truncated.await.map_err(said)?;
        removed.map_err(|error| error.to_string())?;
    }
    let installed = replica.install(arrived).await;
    installed.map_err(|error| error.to_string())?;
    settled(|ack| log.purge(id, at, ack)).await.map_err(said)?;
    log.sync().await.map_err(said)?;
    install::sweep(replica, group.installer.clone());
    Ok(())
}

async fn start(group: &Group) -> Result<(), String> {
    if let Standing::Refused(why) = group.standing() {
        return Err(why);
    }
    // What openraft finds in its log it takes for durable, and acknowledges: nothing of it may still wait for its fsync.
    let durable = group.log.sync().await.map_err(|error| error.to_string());
    group.replica.goes_on();
    if let Err(why) = durable {
        group.stand(group.hurt(&why));
        return Err(why);
    }
    match group.start_raft().await {
        Ok(raft) => {
            group.set_raft(Some(raft));
            group.stand(Standing::Serving {
                single_voter: false,
            });
            Ok(())
        }
        Err(why) => {
            // Looked at again: whatever it is, this member does not take part.
            group.stand(group.hurt(&why));
            Err(why)
        }
    }
}

/// Entries that are not whole on the disk, ascending.
async fn damaged_entries(group: &Group) -> Vec<u64> {
    let (mut damaged, mut from) = (Vec::new(), 0);
    loop {
        let mut seen = group.log.look_at_entries(group.id, from, LOOK).await;
        damaged.append(&mut seen.damaged);
        match seen.next {
            Some(next) => from = next,
            None => return damaged,
        }
    }
}

/// Queues something and waits until it is written.
async fn settled(queue: impl FnOnce(Ack) -> Result<(), LogError>) -> Result<(), LogError> {
    let (told, done) = oneshot::channel();
    queue(Box::new(move |settled| drop(told.send(settled))))?;
    done.await.unwrap_or(Err(LogError::Closed))
}

/// The leader's side.
impl Group {
    /// Makes a checkpoint that holds everything up to this leader's newest entry, and keeps it for whoever asked. The caller
    /// sees to it that messages of an earlier run of that member are not heard any more.
    pub(crate) async fn bring_back_for_peer(self: &Arc<Self>) -> Result<peer::Install, String> {
        let raft = self.raft().ok_or("the group does not run here")?;
        if !raft.standing().leads {
            return Err("does not lead".to_owned());
        }
        let last = self.log.log_state(self.id).last.map_or(0, |at| at.index);
        if crate::planted!("brought-back-to-any-checkpoint") {
            let vote = self.log.log_state(self.id).vote.ok_or("no vote")?;
            let vote = decode_vote(vote).map_err(|error| error.to_string())?;
            let leaving = self.replica.leaving();
            let offer = leaving.offer(vote_out(&vote));
            crate::env::task::spawn(leaving.stay());
            return Ok(offer);
        }
        self.confirmed(&raft, last).await?;
        let made = checkpoint::make(self).await;
        made.map_err(|error: KvError| error.to_string())?;
        let has = self.replica.checkpoint_index();
        if has < last {
            return Err(format!("the checkpoint ends at {has}, before {last}"));
        }
        let vote = self.log.log_state(self.id).vote.ok_or("no vote")?;
        let vote = decode_vote(vote).map_err(|error| error.to_string())?;
        let leaving = self.replica.leaving();
        let offer = leaving.offer(vote_out(&vote));
        crate::env::task::spawn(leaving.stay());
        Ok(offer)
    }

    /// Waits until this member was confirmed as leader after now, and has applied everything up to `last`.
    async fn confirmed(&self, raft: &RaftHandle, last: u64) -> Result<(), String> {
        let index = clock::timeout(READY, raft.read_index()).await;
        let index = index.map_err(|_| "no majority in time")?;
        let index = index.map_err(|error| error.to_string())?;
        raft.applied(index.max(last), READY).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first entry of a log has index 0, and a member that has applied nothing has not applied that one either.
    #[test]
    fn a_damaged_first_entry_is_not_taken_for_applied() {
        assert!(is_any_unapplied(&[0], None));
        assert!(!is_any_unapplied(&[0], Some(0)));
        assert!(is_any_unapplied(&[0, 3], Some(2)));
        assert!(!is_any_unapplied(&[], None));
    }
}
