//! Who votes, campaigns or acknowledges has been confirmed in its run by half of the other voters, rounded down.
//!
//! Always true: judged by what nodes send, as in `agreement`. A confirmation counts from when it is sent: its reader cannot
//! have it earlier.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
}

struct Seen {
    needed: usize,
    /// By node and number.
    runs: BTreeMap<(u64, u64), Run>,
    broken: Vec<String>,
}

impl Boots {
    /// Among so many nodes, all of which vote.
    pub fn new(nodes: u64) -> Boots {
        Boots {
            seen: Arc::new(Mutex::new(Seen {
                needed: nodes as usize / 2,
                runs: BTreeMap::new(),
                broken: Vec::new(),
            })),
        }
    }

    /// Looks at one message.
    pub fn watch(&self, flight: Flight<'_>) {
        // What cannot be read is `agreement`'s to report.
        let Ok(message) = peer::Message::decode(flight.message.clone()) else {
            return;
        };
        let mut seen = self.seen.lock();
        let this = (flight.from, message.boot);
        match message.content {
            Some(Content::Ask(peer::Ask { what, .. })) => match what {
                Some(ask::What::Boot(boot)) => seen.runs(this, boot.nonce),
                Some(ask::What::Vote(_)) => seen.counts(this, "campaigns"),
                _ => {}
            },
            Some(Content::Reply(peer::Reply { what })) => match what {
                Some(reply::What::Booted(booted)) if booted.instead.is_none() => {
                    let asker = (flight.to, message.asked_in_boot);
                    let run = seen.runs.entry(asker).or_default();
                    run.confirmed_by.insert(flight.from);
                }
                Some(reply::What::Voted(voted)) if voted.granted => seen.counts(this, "votes"),
                Some(reply::What::Appended(said))
                    if matches!(said.outcome(), Outcome::All | Outcome::Some) =>
                {
                    seen.counts(this, "acknowledges");
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

    fn counts(&mut self, this: (u64, u64), what: &str) {
        let confirmed = self.runs.get(&this).map_or(0, |run| run.confirmed_by.len());
        if confirmed < self.needed && self.broken.len() < 10 {
            self.broken.push(format!(
                "node {} {what} in boot {} that {confirmed} have confirmed",
                this.0, this.1
            ));
        }
    }
}
