//! Giving up what a damaged group of a stopped node has lost, so that it serves again.
//!
//! ```text
//!   lock ─ log and engine opened ─ what lies before the damage applied ─ told: what would go
//!     accepted: doubt ─ places of the lost entries forgotten ─ truncate ─ vote in a far higher term
//!               ─ the group elects ─ incarnation raised by an agreed entry ─ mend ─ closed
//! ```
//! A group whose log is one history cannot keep what lies behind a lost entry: it was decided on a state that nobody
//! has any more. So what goes is the damaged entry and everything behind it, readable or not.
//!
//! Always true:
//! * without `accept` nothing changes but what every start changes, too;
//! * from the first change to the last the group is marked doubtful in the log: a crash anywhere leaves a group that does
//!   not serve, and the same command goes on from there;
//! * a term, an index or a stage id that a lost entry may have used is never used again: the term jumps, and the
//!   incarnation, which is part of every stage and upload id, is raised before anything else is agreed on;
//! * only a single voter is treated so: with others there are peers that have what is lost here.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::start::{Storage, lock};
use super::{NodeOptions, StartError, identity};
use crate::engine::EngineError;
use crate::env::{Env, task};
use crate::group::checkpoint::Pressure;
use crate::group::peers::NoPeers;
use crate::group::raft_handle::RaftHandle;
use crate::group::raft_log::RaftLog;
use crate::group::raft_state_machine::StateMachine;
use crate::group::raft_types::{term_after, voters_of};
use crate::group::{Group, Standing, replay};
use crate::ids::{BucketId, GroupId, PayloadId};
use crate::log::{Ack, Item, LogError, Want};
use crate::state::answer::Answer;
use crate::state::entry::{self, Body};
use crate::state::read;

/// What `recover` found, and did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// The group.
    pub group: GroupId,
    /// Everything up to this index is kept.
    pub kept: u64,
    /// Why the group does not serve; `None`: nothing is wrong with it.
    pub trouble: Option<String>,
    /// What goes: a damaged entry and all behind it, ascending.
    pub lost: Vec<LostEntry>,
    /// The newest entries are not certain: more may have been acknowledged than `lost` tells of.
    pub more_may_be_lost: bool,
    /// Runs of the group's state that no copy has any more. Giving up entries does not bring them back.
    pub damaged_files: Vec<String>,
    /// The loss was accepted and the group made whole.
    pub accepted: bool,
    /// The group's incarnation; 0: it was never formed.
    pub incarnation: u32,
}

/// An entry that goes, and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostEntry {
    /// Its index in the group's log.
    pub index: u64,
    /// Its term, if that is known.
    pub term: Option<u64>,
    /// What it did; `None`: it is what cannot be read.
    pub what: Option<String>,
}

/// Why `recover` did nothing.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// No data directory, or not ours.
    #[error("{dir} is no minikv data directory")]
    NoStore {
        /// The directory.
        dir: String,
    },
    /// There is no such group.
    #[error("there is no group {group}: this directory has groups 0 to {last}")]
    NoGroup {
        /// The one asked for.
        group: GroupId,
        /// The highest there is.
        last: u16,
    },
    /// The group has several voters.
    #[error(
        "{group} has {voters} voters: it heals from its peers, and what they have must not be given up here"
    )]
    HasPeers {
        /// The group.
        group: GroupId,
        /// How many.
        voters: usize,
    },
    /// Nothing is left that the group could go on from.
    #[error(
        "{group} has lost its first entries: nothing of it is left to go on from; restore the directory from a backup"
    )]
    NothingLeft {
        /// The group.
        group: GroupId,
    },
    /// The directory could not be opened.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Opened, and then something failed. What was begun is gone on with by the same command.
    #[error("{group} was not recovered: {what}; the same command goes on from here")]
    Failed {
        /// The group.
        group: GroupId,
        /// What.
        what: String,
    },
}

/// Looks at a group of a stopped node; with `accept` makes it whole as it is now. See the file's header.
pub async fn recover(
    env: Env,
    options: NodeOptions,
    group: GroupId,
    accept: bool,
) -> Result<Recovery, RecoverError> {
    let done = task::spawn_thread("recover", run(env, options, group, accept)).await;
    done.unwrap_or_else(|error| {
        Err(RecoverError::Failed {
            group,
            what: error.to_string(),
        })
    })
}

async fn run(
    env: Env,
    options: NodeOptions,
    id: GroupId,
    accept: bool,
) -> Result<Recovery, RecoverError> {
    let (disk, dir): (_, &Path) = (&*env.disk, &options.data_dir);
    if !identity::is_there(disk, dir) {
        return Err(RecoverError::NoStore {
            dir: dir.display().to_string(),
        });
    }
    let _lock = lock(disk, dir)?;
    let identity = identity::open(disk, dir, options.data_groups, None)
        .await?
        .identity;
    if id.0 > identity.data_groups {
        return Err(RecoverError::NoGroup {
            group: id,
            last: identity.data_groups,
        });
    }
    let storage = Storage::open(&env, &options).await?;
    let pressure = Arc::new(Pressure::new(storage.budget.clone()));
    let grown = Arc::new(Notify::new());
    let open = |id| storage.group(id, &identity, &options, &grown, &pressure, None);
    let group = open(id).await?;
    // Its names of buckets are for people; without it there are numbers.
    let directory = match id {
        GroupId::DIRECTORY => None,
        _ => open(GroupId::DIRECTORY).await.ok(),
    };
    if let Some(directory) = &directory {
        // As far as it comes: for names.
        let _ = replay::as_far_as_possible(directory).await;
    }

    let mut found = look(&group, directory.as_deref()).await?;
    if accept && found.trouble.is_some() && found.damaged_files.is_empty() {
        found.incarnation = make_whole(&group, &storage, &found).await?;
        found.accepted = true;
    }
    let closed = storage.log.close().await;
    closed.map_err(|error| failed(id, error))?;
    Ok(found)
}

fn failed(group: GroupId, error: impl std::fmt::Display) -> RecoverError {
    RecoverError::Failed {
        group,
        what: error.to_string(),
    }
}

/// Applies what can be applied and tells the rest.
async fn look(group: &Group, directory: Option<&Group>) -> Result<Recovery, RecoverError> {
    let trouble = replay::refuses_to_vote(group);
    let replayed = replay::as_far_as_possible(group).await;
    let damage = group.replica.engine.damage().into_iter();
    let damaged_files: Vec<_> = damage.filter(|one| !one.healable).collect();
    if damaged_files.is_empty() {
        // Not what damage took: what could not be applied now must not be given up for it.
        replayed.map_err(|error| failed(group.id, error))?;
    }
    let incarnation = read::incarnation(&*group.replica.view());
    let incarnation = incarnation.map_err(|error| failed(group.id, error))?;
    let mut found = Recovery {
        group: group.id,
        kept: group.replica.applied(),
        trouble,
        lost: Vec::new(),
        more_may_be_lost: group.log.hurt(group.id).tail_lost,
        damaged_files: damaged_files.into_iter().map(|one| one.file).collect(),
        accepted: false,
        // Of the checkpoint and what could be applied behind it.
        incarnation: incarnation.unwrap_or(0),
    };
    if found.trouble.is_none() {
        return Ok(found);
    }
    let mark = group.replica.mark();
    let voters = voters_of(&mark).map_err(|error| failed(group.id, error))?;
    let voters = voters.iter().flatten().collect::<BTreeSet<_>>().len();
    alone(group.id, voters)?;
    let last = group.log.log_state(group.id).last.map_or(0, |at| at.index);
    for index in found.kept + 1..=last {
        let read = group
            .log
            .entries(group.id, index..index + 1, 1 << 20, Want::Heads)
            .await;
        let what = match read {
            Ok(entries) => entries.first().map(|one| words(&one.bytes, directory)),
            Err(LogError::EntryDamaged { .. }) => None,
            Err(error) => return Err(failed(group.id, error)),
        };
        found.lost.push(LostEntry {
            index,
            term: group.log.entry_id(group.id, index).map(|id| id.term),
            what,
        });
    }
    Ok(found)
}

/// Whether a group with so many voters may give up anything here.
fn alone(group: GroupId, voters: usize) -> Result<(), RecoverError> {
    match voters {
        0 => Err(RecoverError::NothingLeft { group }),
        1 => Ok(()),
        voters => Err(RecoverError::HasPeers { group, voters }),
    }
}

/// What an entry did, for people.
fn words(bytes: &bytes::Bytes, directory: Option<&Group>) -> String {
    let Ok(frame) = entry::decode(bytes) else {
        return "an entry of the group itself".to_owned();
    };
    let Some(body) = frame.entry.body else {
        return "an entry of a newer version".to_owned();
    };
    let (verb, target) = match &body {
        Body::Put(it) => ("put", &it.target),
        Body::OpenStage(it) => ("begin of an upload of", &it.target),
        Body::Delete(it) => ("delete", &it.target),
        Body::DeleteVersion(it) => ("delete of a version of", &it.target),
        Body::Copy(it) => ("copy to", &it.target),
        Body::CreateUpload(it) => ("begin of a multipart upload of", &it.target),
        Body::ClaimPart(it) => ("part of", &it.target),
        Body::CompleteUpload(it) => ("end of a multipart upload of", &it.target),
        Body::AbortUpload(it) => ("abort of a multipart upload of", &it.target),
        other => {
            // The name of the kind, without what is in it: there may be secrets.
            let text = format!("{other:?}");
            return text.split(['(', ' ']).next().unwrap_or_default().to_owned();
        }
    };
    let Some(target) = target else {
        return verb.to_owned();
    };
    let bucket = directory
        .and_then(|group| {
            let found = read::bucket_by_id(&*group.replica.view(), BucketId(target.bucket));
            found.ok().flatten()
        })
        .map_or_else(|| format!("bucket {}", target.bucket), |bucket| bucket.name);
    format!("{verb} {bucket}/{}", String::from_utf8_lossy(&target.key))
}

/// See the file's header. Answers the new incarnation.
async fn make_whole(
    group: &Arc<Group>,
    storage: &Storage,
    found: &Recovery,
) -> Result<u32, RecoverError> {
    let (id, log) = (group.id, &storage.log);
    let fail = |error: LogError| failed(id, error);
    settled(|ack| log.doubt(id, ack)).await.map_err(fail)?;
    // Also for the places' checkpoint below, whatever the fsync policy.
    log.sync().await.map_err(fail)?;

    let unplaced = |error: EngineError| failed(id, error);
    for lost in &found.lost {
        if let Some(term) = lost.term {
            let payload = PayloadId {
                group: id,
                index: lost.index,
                term,
            };
            let removed = storage.store.places.remove(&Item::Payload(payload));
            removed.map_err(unplaced)?;
        }
    }
    let recorded = storage.store.checkpoint_places().await;
    recorded.map_err(unplaced)?;

    let state = log.log_state(id);
    let vote = term_after(state.vote, state.last, group.replica.node).map_err(|e| failed(id, e))?;
    settled(|ack| log.truncate_after(id, Some(found.kept), ack).map(drop))
        .await
        .map_err(fail)?;
    settled(|ack| log.save_vote(id, vote, ack))
        .await
        .map_err(fail)?;

    let raft_log = RaftLog::new(storage.store.clone(), id);
    let machine = StateMachine::new(group.replica.clone());
    let raft = RaftHandle::start(
        group.replica.node,
        id,
        raft_log,
        machine,
        Arc::new(NoPeers),
        true,
    );
    let raft = raft.await.map_err(|error| failed(id, error))?;
    group.set_raft(Some(raft.clone()));
    let raised = raise(group, &raft).await;
    raft.stop().await;
    let raised = raised?;
    settled(|ack| log.mend(id, ack)).await.map_err(fail)?;
    log.sync().await.map_err(fail)?;
    Ok(raised)
}

async fn raise(group: &Group, raft: &RaftHandle) -> Result<u32, RecoverError> {
    let id = group.id;
    raft.campaign().await.map_err(|error| failed(id, error))?;
    let led = raft.leading(replay::PATIENCE).await;
    led.map_err(|error| failed(id, group.replica.stop_reason().unwrap_or(error)))?;
    group.stand(Standing::Serving { single_voter: true });
    let view = group.replica.view();
    let before = read::incarnation(&*view).map_err(|error| failed(id, error))?;
    drop(view);
    let incarnation = before.ok_or(RecoverError::NothingLeft { group: id })? + 1;
    let body = Body::RaiseIncarnation(minikv_proto::entry::RaiseIncarnation { incarnation });
    match group.own(body).await {
        Ok(Answer::Done(_)) => Ok(incarnation),
        Ok(other) => Err(failed(id, format!("{other:?}"))),
        Err(error) => Err(failed(id, error)),
    }
}

/// Queues something and waits until it is written.
async fn settled(queue: impl FnOnce(Ack) -> Result<(), LogError>) -> Result<(), LogError> {
    let (told, done) = oneshot::channel();
    queue(Box::new(move |settled| drop(told.send(settled))))?;
    done.await.unwrap_or(Err(LogError::Closed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What the peers of a group have must not be given up by one of them.
    #[test]
    fn a_group_with_peers_gives_up_nothing_here() {
        assert!(alone(GroupId(3), 1).is_ok());
        let refused = alone(GroupId(3), 3).unwrap_err().to_string();
        assert!(refused.contains("heals from its peers"), "{refused}");
        assert!(matches!(
            alone(GroupId(3), 0),
            Err(RecoverError::NothingLeft { .. })
        ));
    }
}
