//! Carries out what `membership` decides, by the leader of a group.
//!
//! Always true:
//! * only who leads acts, on a state that holds an entry of its own term and with openraft's newest membership;
//! * a step that fails or takes too long is decided anew, from what there is then;
//! * what a learner confirmed is known to this leader and in this term only;
//! * nobody is admitted whom the directory did not want when it was asked after the learner had entered: who removes a node
//!   looks at the members first, so it finds either the learner, or a directory that does not want it any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use minikv_proto::entry as wire;
use minikv_proto::peer::{self, ask, reply};
use minikv_proto::row::{self, MemberRole};

use super::Group;
use super::membership::{Sight, Step, next};
use super::peers::Peers;
use super::raft_handle::{RaftHandle, RaftMembers};
use super::read::unreadable;
use super::registry::Registry;
use super::roster::{Known, Roster};
use crate::env::clock;
use crate::ids::{GroupId, NodeId, StageId};
use crate::state::answer::Answer;
use crate::state::entry::Body;
use crate::state::read;

/// How often a leader looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// While a change is under way.
const HURRY: Duration = Duration::from_millis(100);
/// Steps without a pause.
const STEPS: usize = 32;
/// How long a node may take to make room for a group, or to say whether it has everything.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long openraft may take to change its membership: two entries.
const CHANGE: Duration = Duration::from_secs(10);
/// How long another node may take to lead.
const HAND_OVER: Duration = Duration::from_secs(3);
/// Items of the short list that are looked at together.
const SHORTS: usize = 256;

/// What this leader was told, in its term.
#[derive(Default)]
struct Told {
    term: u64,
    confirmed: BTreeMap<u64, u64>,
    /// Counts those steps that turn to a learner.
    turn: u64,
    /// The last one of each.
    turns: BTreeMap<u64, u64>,
}

/// Works until dropped.
pub(crate) async fn run(group: Arc<Group>, roster: Arc<Roster>, groups: Arc<Registry>) {
    let mut told = Told::default();
    loop {
        let pause = match round(&group, &roster, &groups, &mut told).await {
            Ok(true) => HURRY,
            Ok(false) => LOOK_EVERY,
            Err(why) => {
                tracing::debug!(group = %group.id, why, "a change of members waits");
                HURRY
            }
        };
        clock::sleep(pause).await;
    }
}

/// One look, and the steps that follow. Whether anything is under way.
async fn round(
    group: &Group,
    roster: &Roster,
    groups: &Registry,
    told: &mut Told,
) -> Result<bool, String> {
    let (Some(raft), Some(peers)) = (group.raft(), group.peers.clone()) else {
        return Ok(false);
    };
    if !group.leads() || is_settled(group, &raft, roster)? {
        return Ok(false);
    }
    let term = raft.standing().term;
    if told.term != term {
        *told = Told {
            term,
            ..Told::default()
        };
    }
    // The state holds everything that was agreed on before this leader's term, too.
    group
        .confirm_read()
        .await
        .map_err(|error| error.to_string())?;
    for _ in 0..STEPS {
        // What this leader proposed and gave up waiting for may still be agreed on, and change what is to be done.
        raft.members().await?;
        let last = group.log.log_state(group.id).last;
        let applied = group.until_applied(last.map_or(0, |at| at.index), PATIENCE);
        applied.await.map_err(|error| error.to_string())?;
        let standing = raft.standing();
        if !standing.leads || standing.term != term {
            return Ok(true);
        }
        let sight = sight(group, &raft, roster, told).await?;
        let step = next(&sight);
        tracing::debug!(group = %group.id, ?step, "a step of a change of members");
        let driver = Driver {
            group,
            raft: &raft,
            peers: &*peers,
            roster,
            groups,
            term,
        };
        if let Step::AddLearner(node) | Step::Confirm(node) | Step::Admit { node, .. } = &step {
            told.turn += 1;
            told.turns.insert(*node, told.turn);
        }
        match driver.take(&sight, step, told).await? {
            Went::On => {}
            Went::Waiting => return Ok(true),
            Went::Nowhere => {
                driver.forget_who_left(&sight).await?;
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Nothing to do, as far as a glance tells.
fn is_settled(group: &Group, raft: &RaftHandle, roster: &Roster) -> Result<bool, String> {
    let view = group.replica.view();
    let members = read::members(&*view).map_err(|error| unreadable(error).to_string())?;
    let are_members = members
        .iter()
        .all(|member| member.role == MemberRole::Member as i32);
    let nodes: BTreeSet<u64> = members.iter().map(|member| member.node).collect();
    let wanted = roster.with(|known| known.wanted(group.id));
    let lately = raft.members_lately();
    let as_they_are = lately
        == RaftMembers {
            voters: vec![nodes.clone()],
            learners: BTreeSet::new(),
            is_agreed: true,
        };
    if members.is_empty() {
        return Ok(true);
    }
    if !are_members || !as_they_are || wanted.is_some_and(|wanted| wanted != nodes) {
        return Ok(false);
    }
    Ok(strangers(&*view, &nodes)?.is_empty())
}

/// Items of the short list that name nodes other than these.
fn strangers(
    view: &dyn crate::engine::View,
    nodes: &BTreeSet<u64>,
) -> Result<Vec<(StageId, u32, u64)>, String> {
    let mut found = Vec::new();
    for item in read::short_list(view).take(SHORTS) {
        let (stage, first, short) = item.map_err(|error| unreadable(error).to_string())?;
        let strange = short.missing.iter().filter(|node| !nodes.contains(node));
        found.extend(strange.map(|node| (stage, first, *node)));
    }
    Ok(found)
}

async fn sight(
    group: &Group,
    raft: &RaftHandle,
    roster: &Roster,
    told: &Told,
) -> Result<Sight, String> {
    // openraft's first: what the state has beyond it can only be what this leader itself proposed.
    let of_raft = raft.members().await?;
    let members = read::members(&*group.replica.view());
    let members: Vec<row::Member> = members.map_err(|error| unreadable(error).to_string())?;
    let since = |node: &u64| {
        let member = members.iter().find(|member| member.node == *node);
        member.map_or(u64::MAX, |member| member.since_index)
    };
    let confirmed = told.confirmed.iter();
    let confirmed = confirmed.filter(|(node, index)| **index >= since(node));
    Ok(Sight {
        this: group.replica.node.0,
        confirmed: confirmed.map(|(node, index)| (*node, *index)).collect(),
        members,
        turns: told.turns.clone(),
        voters: of_raft.voters,
        learners: of_raft.learners,
        is_agreed: of_raft.is_agreed,
        wanted: roster.with(|known| known.wanted(group.id)),
    })
}

/// What came of a step.
enum Went {
    On,
    Waiting,
    Nowhere,
}

struct Driver<'a> {
    group: &'a Group,
    raft: &'a RaftHandle,
    peers: &'a dyn Peers,
    roster: &'a Roster,
    groups: &'a Registry,
    term: u64,
}

impl Driver<'_> {
    async fn take(&self, sight: &Sight, step: Step, told: &mut Told) -> Result<Went, String> {
        let term = self.term;
        match step {
            Step::Rest if sight.is_agreed => return Ok(Went::Nowhere),
            Step::Rest => return Ok(Went::Waiting),
            Step::Learner(node) => self.agree(Body::Learner(wire::Learner { node })).await?,
            Step::AddLearner(node) => {
                self.host(node, sight).await?;
                within(self.raft.add_learner(node)).await?;
            }
            Step::Confirm(node) => {
                let said = match self.ask(node, ask::What::Confirm(peer::Confirm {})).await {
                    Ok(said) => said,
                    Err(why) => {
                        // It may have died before it wrote down that it hosts the group; or be in another run, which does not
                        // know who votes.
                        self.host(node, sight).await?;
                        return Err(why);
                    }
                };
                let index = match said {
                    reply::What::Confirmed(said) => said.index,
                    _ => 0,
                };
                told.confirmed.insert(node, index);
                let member = sight.members.iter().find(|member| member.node == node);
                if member.is_none_or(|member| index < member.since_index) {
                    return Ok(Went::Waiting);
                }
            }
            Step::Admit {
                node,
                retire,
                confirmed,
            } => {
                self.is_still_wanted(node).await?;
                let admit = wire::Admit {
                    node,
                    retire,
                    confirmed_index: confirmed,
                };
                // Refused, it may lack something since.
                told.confirmed.remove(&node);
                self.agree(Body::Admit(admit)).await?;
            }
            Step::HandOver(to) => {
                if self.raft.hand_over(&to, HAND_OVER).await {
                    return Ok(Went::Waiting);
                }
                // Nobody takes it: openraft's leader leads until the others have agreed without it.
                within(self.raft.change_voters(&after(sight))).await?;
            }
            Step::ChangeVoters(to) => within(self.raft.change_voters(&to)).await?,
            Step::Retired(node) => {
                self.agree(Body::Retired(wire::Retired { node, term }))
                    .await?;
            }
            Step::Cancel(node) => {
                told.confirmed.remove(&node);
                self.agree(Body::CancelAdmit(wire::CancelAdmit { node, term }))
                    .await?;
            }
            Step::RemoveLearner(node) => within(self.raft.remove_learner(node)).await?,
        }
        Ok(Went::On)
    }

    /// What is known of the directory may be old: it is asked itself.
    async fn is_still_wanted(&self, node: u64) -> Result<(), String> {
        let directory = self.groups.get(GroupId::DIRECTORY);
        let directory = directory.map_err(|error| error.to_string())?;
        let known = directory.ask(Known::read).await;
        let known = known.map_err(|error| error.to_string())?;
        let wanted = known.wanted(self.group.id).unwrap_or_default();
        let is_wanted = wanted.contains(&node) && !known.is_gone(NodeId(node));
        self.roster.learn(known);
        match is_wanted {
            true => Ok(()),
            false => Err(format!("node {node} is not wanted any more")),
        }
    }

    async fn agree(&self, body: Body) -> Result<(), String> {
        match self.group.own(body).await {
            Ok(Answer::Done(_)) => Ok(()),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Has a node make room for the group; one that has it already changes nothing.
    async fn host(&self, node: u64, sight: &Sight) -> Result<(), String> {
        let host = peer::Host {
            // After this term's confirmation: all that the node may ever have acknowledged is below.
            floor: self.group.replica.applied(),
            term: self.term,
            voters: sight.voters.iter().flatten().copied().collect(),
        };
        self.ask(node, ask::What::Host(host)).await.map(drop)
    }

    async fn ask(&self, node: u64, what: ask::What) -> Result<reply::What, String> {
        let asked = self.peers.ask(NodeId(node), self.group.id, what, PATIENCE);
        asked.await.map_err(|error| error.to_string())
    }

    /// Nobody waits for copies on nodes that are no members any more.
    async fn forget_who_left(&self, sight: &Sight) -> Result<(), String> {
        let nodes = sight.members.iter().map(|member| member.node).collect();
        let strangers = strangers(&*self.group.replica.view(), &nodes)?;
        for (stage, first, node) in strangers {
            let done = wire::ShortDone {
                stage: Some(stage.to_row()),
                first,
                node,
                gone: true,
                since_index: 0,
            };
            self.agree(Body::ShortDone(done)).await?;
        }
        Ok(())
    }
}

/// The members when the change is over.
fn after(sight: &Sight) -> BTreeSet<u64> {
    let stays = |member: &&row::Member| {
        [MemberRole::Member as i32, MemberRole::Admitted as i32].contains(&member.role)
    };
    let members = sight.members.iter().filter(stays);
    members.map(|member| member.node).collect()
}

async fn within(change: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let changed = clock::timeout(CHANGE, change).await;
    changed.unwrap_or_else(|_| Err("openraft takes too long".to_owned()))
}
