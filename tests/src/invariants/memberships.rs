//! Who votes in each group, as it was watched on the wire: `agreement` and `boots` judge by it.
//!
//! Always true: a membership is known before anybody can act on it elsewhere, because it travels as an entry. What never
//! travels (a group of one node, alone) is the membership that the cluster was founded with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use minikv_core::env::sim::Flight;
use minikv_proto::peer::{self, ask, message::Content};
use parking_lot::Mutex;
use prost::Message;

/// One set of voters; two while they change.
pub type Voters = Vec<BTreeSet<u64>>;

/// As entries of the log carry it, behind one byte 0.
#[derive(Clone, PartialEq, Message)]
struct MembershipRow {
    #[prost(message, repeated, tag = "1")]
    voters: Vec<VoterSet>,
}

#[derive(Clone, PartialEq, Message)]
struct VoterSet {
    #[prost(uint64, repeated, tag = "1")]
    nodes: Vec<u64>,
}

#[derive(Default)]
struct Seen {
    founders: BTreeSet<u64>,
    /// By group, index, term.
    memberships: BTreeMap<(u32, u64, u64), Voters>,
    /// The term of the entry before each: by group, index, term.
    before: BTreeMap<(u32, u64, u64), u64>,
}

/// See the file's header.
#[derive(Clone)]
pub struct Memberships {
    seen: Arc<Mutex<Seen>>,
}

impl Memberships {
    /// Of a cluster that these nodes found.
    pub fn new(founders: impl IntoIterator<Item = u64>) -> Memberships {
        let seen = Seen {
            founders: founders.into_iter().collect(),
            ..Seen::default()
        };
        Memberships {
            seen: Arc::new(Mutex::new(seen)),
        }
    }

    /// Looks at one message. Before those who judge by it.
    pub fn watch(&self, flight: Flight<'_>) {
        let Ok(message) = peer::Message::decode(flight.message.clone()) else {
            return;
        };
        let Some(Content::Ask(peer::Ask {
            group,
            what: Some(ask::What::Append(append)),
        })) = message.content
        else {
            return;
        };
        let mut seen = self.seen.lock();
        let mut previous = append.previous;
        for entry in append.entries {
            let Some(id) = entry.id else { continue };
            let at = (group, id.index, id.term);
            if let Some(previous) = previous {
                seen.before.insert(at, previous.term);
            }
            previous = Some(id);
            if let Some(voters) = voters_of(&entry.data) {
                seen.memberships.insert(at, voters);
            }
        }
    }

    /// The membership that whoever has this as its last entry goes by.
    pub fn of_log(&self, group: u32, last: peer::LogId) -> Voters {
        let seen = self.seen.lock();
        let (mut index, mut term) = (last.index, last.term);
        loop {
            if let Some(voters) = seen.memberships.get(&(group, index, term)) {
                return voters.clone();
            }
            match seen.before.get(&(group, index, term)) {
                Some(before) if index > 0 => {
                    index -= 1;
                    term = *before;
                }
                _ => break,
            }
        }
        // What comes before was never watched: the newest that was, or the first.
        let mut earlier = seen.memberships.range((group, 0, 0)..(group, index, 0));
        let earlier = earlier.next_back().map(|(_, voters)| voters.clone());
        earlier.unwrap_or_else(|| vec![seen.founders.clone()])
    }

    /// All that there ever were.
    pub fn any(&self, is_so: impl Fn(&Voters) -> bool) -> bool {
        let seen = self.seen.lock();
        is_so(&vec![seen.founders.clone()]) || seen.memberships.values().any(is_so)
    }
}

fn voters_of(data: &Bytes) -> Option<Voters> {
    let (&0, row) = data.split_first()? else {
        return None;
    };
    let row = MembershipRow::decode(row).ok()?;
    let sets = row.voters.into_iter();
    let sets: Voters = sets.map(|set| set.nodes.into_iter().collect()).collect();
    (!sets.is_empty()).then_some(sets)
}
