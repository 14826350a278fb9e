//! What nodes say to each other, watched on the wire: one leader per term, one vote per term, logs that match, agreed
//! entries that never change, nobody who campaigns without a majority that would vote for it.
//!
//! Always true: nothing is asked of a node; it is judged by what it sends, the moment it sends it, also when the message
//! is lost afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::memberships::Memberships;
use minikv_core::env::sim::Flight;
use minikv_proto::peer::{self, appended, ask, message::Content, reply};
use parking_lot::Mutex;
use prost::Message;

/// Group, index, term.
type EntryName = (u32, u64, u64);

/// What was seen so far.
#[derive(Default)]
struct Seen {
    /// Who leads a group in a term.
    leaders: BTreeMap<(u32, u64), u64>,
    /// What an entry says, and the term of the one before it.
    entries: BTreeMap<EntryName, (u64, Option<u64>)>,
    /// The term of an entry that was called agreed.
    agreed: BTreeMap<(u32, u64), u64>,
    /// Whom a node voted for in a term of a group.
    votes: BTreeMap<(u32, u64, u64), u64>,
    /// Questions for votes, by asker, its run, their number: the group, and the term if it is only a pre-vote.
    asked: BTreeMap<(u64, u64, u64), (u32, Option<u64>)>,
    /// Who would vote for a node in a term of a group.
    promises: BTreeMap<(u32, u64, u64), BTreeSet<u64>>,
    broken: Vec<String>,
    highest_term: BTreeMap<u32, u64>,
}

/// Watches messages.
#[derive(Clone)]
pub struct Agreement {
    seen: Arc<Mutex<Seen>>,
    memberships: Memberships,
}

impl Agreement {
    /// Among those who vote by these.
    pub fn new(memberships: Memberships) -> Agreement {
        Agreement {
            seen: Arc::default(),
            memberships,
        }
    }

    /// Looks at one message.
    pub fn watch(&self, flight: Flight<'_>) {
        let Ok(message) = peer::Message::decode(flight.message.clone()) else {
            self.seen
                .lock()
                .broken
                .push("a message that cannot be read".to_owned());
            return;
        };
        let mut seen = self.seen.lock();
        let (number, boot) = (message.number, message.boot);
        match message.content {
            Some(Content::Ask(peer::Ask {
                group,
                what: Some(what),
            })) => match what {
                ask::What::Append(append) => seen.append(flight.from, group, append),
                ask::What::Vote(vote) => {
                    seen.asked
                        .insert((flight.from, boot, number), (group, None));
                    seen.campaign(flight.from, group, vote, &self.memberships);
                }
                ask::What::PreVote(vote) => {
                    let term = vote.vote.map_or(0, |vote| vote.term);
                    seen.asked
                        .insert((flight.from, boot, number), (group, Some(term)));
                }
                _ => {}
            },
            Some(Content::Reply(peer::Reply {
                what: Some(reply::What::Voted(voted)),
            })) => {
                let asked = (flight.to, message.asked_in_boot, number);
                match seen.asked.get(&asked).copied() {
                    Some((group, None)) => seen.voted(flight.from, group, voted),
                    // What is answered names the voter's own vote, so the term is that of the question.
                    Some((group, Some(term))) if voted.granted => {
                        let promises = seen.promises.entry((group, flight.to, term)).or_default();
                        promises.insert(flight.from);
                    }
                    _ => {}
                }
            }
            Some(Content::Reply(peer::Reply {
                what: Some(reply::What::Appended(said)),
            })) if said.outcome() == appended::Outcome::Unknown => {
                seen.broken
                    .push("an append was answered without an outcome".to_owned());
            }
            _ => {}
        }
    }

    /// What was wrong.
    pub fn broken(&self) -> Vec<String> {
        self.seen.lock().broken.clone()
    }

    /// The highest term in which each group had a leader.
    pub fn terms(&self) -> BTreeMap<u32, u64> {
        self.seen.lock().highest_term.clone()
    }
}

impl Seen {
    fn append(&mut self, from: u64, group: u32, append: peer::Append) {
        let Some(vote) = append.vote else { return };
        let leader = *self.leaders.entry((group, vote.term)).or_insert(from);
        let highest = self.highest_term.entry(group).or_default();
        *highest = (*highest).max(vote.term);
        if leader != from || vote.node != from {
            self.broken.push(format!(
                "group {group}: node {from} leads term {} as node {}, and node {leader} led it",
                vote.term, vote.node
            ));
        }
        let mut before = append.previous;
        for entry in append.entries {
            let Some(id) = entry.id else { continue };
            let says = (hash(&entry.data), before.map(|id| id.term));
            let known = *self
                .entries
                .entry((group, id.index, id.term))
                .or_insert(says);
            // The first of a message may follow a purged one, whose term the sender still knows; of index 0 nothing is.
            let same =
                known.0 == says.0 && (known.1 == says.1 || known.1.is_none() || says.1.is_none());
            if !same {
                self.broken.push(format!(
                    "group {group}: entry {} of term {} is not what it was",
                    id.index, id.term
                ));
            }
            before = Some(id);
        }
        if let Some(agreed) = append.committed {
            let known = *self
                .agreed
                .entry((group, agreed.index))
                .or_insert(agreed.term);
            if known != agreed.term {
                self.broken.push(format!(
                    "group {group}: entry {} was agreed in term {known} and in term {}",
                    agreed.index, agreed.term
                ));
            }
        }
    }

    /// Who campaigns has a majority that would vote for it; else a node that was cut off disturbs the others.
    fn campaign(&mut self, from: u64, group: u32, vote: peer::Vote, memberships: &Memberships) {
        let Some(term) = vote.vote.map(|vote| vote.term) else {
            return;
        };
        // The first election of a group, and one that a leader asked for, need none.
        if term <= 1 || vote.transfer {
            return;
        }
        let mut for_it = self
            .promises
            .get(&(group, from, term))
            .cloned()
            .unwrap_or_default();
        for_it.insert(from);
        let voters = memberships.of_log(group, vote.last.unwrap_or_default());
        let is_enough = |set: &BTreeSet<u64>| set.intersection(&for_it).count() * 2 > set.len();
        if !voters.iter().all(is_enough) {
            self.broken.push(format!(
                "group {group}: node {from} campaigns for term {term}; of {voters:?} {for_it:?} promised their votes"
            ));
        }
    }

    fn voted(&mut self, from: u64, group: u32, voted: peer::Voted) {
        let Some(vote) = voted.vote.filter(|_| voted.granted) else {
            return;
        };
        let chosen = *self
            .votes
            .entry((group, from, vote.term))
            .or_insert(vote.node);
        if chosen != vote.node {
            self.broken.push(format!(
                "group {group}: node {from} voted for {chosen} and for {} in term {}",
                vote.node, vote.term
            ));
        }
    }
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
