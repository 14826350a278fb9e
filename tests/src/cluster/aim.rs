//! What a storm waits for on the wire, so that a node dies in the very moment in which a rule is at stake: between an answer
//! and the fsync that it rests on. Crashes at any other time hardly ever meet these.
//!
//! Always true: it only looks. Who waits is woken in the moment of the message, before the world's time goes on.

use std::sync::Arc;
use std::time::Duration;

use minikv_core::env::clock;
use minikv_core::env::sim::Flight;
use minikv_proto::peer::{self, appended, message::Content, reply};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::oneshot;

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A node gives its vote away.
    Vote,
    /// A node says that it has stored entries.
    Append,
    /// A node that did not agree with its leader's entries has taken over the leader's.
    Truncation,
}

/// Who did it, and to whom it was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    /// Who answered.
    pub by: u64,
    /// Whom.
    pub to: u64,
}

struct Armed {
    target: Target,
    /// Nodes that did not agree: their next answer is the one.
    disagreed: Vec<u64>,
    hit: oneshot::Sender<Hit>,
}

/// See the file's header.
#[derive(Clone, Default)]
pub struct Aim {
    armed: Arc<Mutex<Option<Armed>>>,
}

impl Aim {
    /// Looks at one message.
    pub fn watch(&self, flight: Flight<'_>) {
        let mut armed = self.armed.lock();
        let Some(mut waits) = armed.take() else {
            return;
        };
        match waits.is_hit_by(flight) {
            // Who waited may have stopped waiting this moment.
            true => {
                _ = waits.hit.send(Hit {
                    by: flight.from,
                    to: flight.to,
                })
            }
            false => *armed = Some(waits),
        }
    }

    /// Waits until it happens. `None`: it does not, for so long.
    pub async fn next(&self, target: Target, patience: Duration) -> Option<Hit> {
        let (hit, happens) = oneshot::channel();
        *self.armed.lock() = Some(Armed {
            target,
            disagreed: Vec::new(),
            hit,
        });
        let happened = clock::timeout(patience, happens).await;
        *self.armed.lock() = None;
        happened.ok()?.ok()
    }
}

impl Armed {
    fn is_hit_by(&mut self, flight: Flight<'_>) -> bool {
        let Ok(message) = peer::Message::decode(flight.message.clone()) else {
            return false;
        };
        let Some(Content::Reply(peer::Reply { what: Some(what) })) = message.content else {
            return false;
        };
        match (self.target, what) {
            (Target::Vote, reply::What::Voted(voted)) => {
                // A pre-vote is answered with the vote that the node has: it has not moved.
                voted.granted && voted.vote.is_some_and(|vote| vote.node == flight.to)
            }
            (Target::Append, reply::What::Appended(said)) => {
                said.outcome() == appended::Outcome::All
            }
            (Target::Truncation, reply::What::Appended(said)) => match said.outcome() {
                appended::Outcome::Conflict => {
                    self.disagreed.push(flight.from);
                    false
                }
                _ => self.disagreed.contains(&flight.from),
            },
            _ => false,
        }
    }
}
