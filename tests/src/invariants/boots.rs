//! Who votes, campaigns or acknowledges has been confirmed in its run by half of the other voters, rounded down.
//!
//! Always true: judged by what nodes send, as in `agreement`. A confirmation counts from when it is sent: its reader cannot
//! have it earlier.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::memberships::Memberships;
use bytes::Bytes;
use minikv_core::env::sim::Flight;
use minikv_proto::peer::{self, appended::Outcome, ask, message::Content, reply};
use parking_lot::Mutex;
use prost::Message;

/// One run of a node, as it tells its peers.
#[derive(Default)]
struct Run {
    nonce: Bytes,
    confirmed_by: BTreeSet<u64>,
}

/// Watches messages.
#[derive(Clone)]
pub struct Boots {
    seen: Arc<Mutex<Seen>>,
    memberships: Memberships,
}

#[derive(Default)]
struct Seen {
    /// By node and number.
    runs: BTreeMap<(u64, u64), Run>,
    broken: Vec<String>,
}

impl Boots {
    /// Among those who vote by these.
    pub fn new(memberships: Memberships) -> Boots {
        Boots {
            seen: Arc::default(),
            memberships,
        }
    }

    /// Looks at one message.
    pub fn watch(&self, flight: Flight<'_>) {
        // What cannot be read is `agreement`'s to report.
        let Ok(message) = peer::Message::decode(flight.message.clone()) else {
            return;
        };
        let mut seen = self.seen.lock();
        let memberships = &self.memberships;
        let this = (flight.from, message.boot);
        match message.content {
            Some(Content::Ask(peer::Ask { what, .. })) => match what {
                Some(ask::What::Boot(boot)) => seen.runs(this, boot.nonce),
                Some(ask::What::Vote(_)) => seen.counts(this, "campaigns", memberships),
                _ => {}
            },
            Some(Content::Reply(peer::Reply { what })) => match what {
                Some(reply::What::Booted(booted)) if booted.instead.is_none() => {
                    let asker = (flight.to, message.asked_in_boot);
                    let run = seen.runs.entry(asker).or_default();
                    run.confirmed_by.insert(flight.from);
                }
                Some(reply::What::Voted(voted)) if voted.granted => {
                    seen.counts(this, "votes", memberships)
                }
                Some(reply::What::Appended(said))
                    if matches!(said.outcome(), Outcome::All | Outcome::Some) =>
                {
                    seen.counts(this, "acknowledges", memberships);
                }
                _ => {}
            },
            None => {}
        }
    }

    /// What was wrong.
    pub fn broken(&self) -> Vec<String> {
        self.seen.lock().broken.clone()
    }
}

impl Seen {
    /// A disk that was put back comes with a number that was used before: that is another run.
    fn runs(&mut self, this: (u64, u64), nonce: Bytes) {
        let run = self.runs.entry(this).or_default();
        if run.nonce != nonce {
            *run = Run {
                nonce,
                confirmed_by: BTreeSet::new(),
            };
        }
    }

    /// Enough are half of the others, of both sets while joint: of some membership that there was, because a node may not
    /// have heard of the newest.
    fn counts(&mut self, this: (u64, u64), what: &str, memberships: &Memberships) {
        let nobody = BTreeSet::new();
        let confirmed = self
            .runs
            .get(&this)
            .map_or(&nobody, |run| &run.confirmed_by);
        let is_enough = memberships.any(|voters| {
            voters.iter().all(|set| {
                let others = set.intersection(confirmed).filter(|node| **node != this.0);
                others.count() >= set.len() / 2
            })
        });
        if !is_enough && self.broken.len() < 10 {
            self.broken.push(format!(
                "node {} {what} in boot {} that only {confirmed:?} have confirmed",
                this.0, this.1
            ));
        }
    }
}
