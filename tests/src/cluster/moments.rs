//! Moments of transactions and uploads, as they pass on the wire: who drives what, and how far it has come.
//!
//! ```text
//!   gateway ── propose ──> leader ── append ──> member ── stored ──> leader ── answer ──> gateway
//!               Sent                  Sent                Stored                Answered
//! ```
//! Always true:
//! * nothing is asked of a node: who drives a transaction or an upload is told by the entry that opened its session;
//! * who waits for a moment is woken when the message is sent, before the world's time goes on;
//! * a message that is held back is held back with all its repeats, and goes on, or is lost, when whoever holds it says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use minikv_core::env::clock;
use minikv_core::env::sim::{Course, Flight};
use minikv_proto::entry::{self, entry::Body};
use minikv_proto::peer::{self, appended, ask, frame_stored, message::Content, reply};
use minikv_proto::row;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::oneshot;

/// A step on the way of a transaction or an upload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Step {
    Pending,
    Prepare,
    Commit,
    Finish,
    Drop,
    OpenStage,
    Frame,
    Claim,
    Abandon,
    /// A bucket's facts for a group.
    Facts,
}

/// How far a step has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Come {
    /// It is on its way to a leader or to a member.
    Sent,
    /// A member has stored it.
    Stored,
    /// Its answer is on its way to another node.
    Answered,
}

/// What to wait for.
pub type Moment = (Step, Come);

/// A moment that has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sight {
    /// Who drives the transaction or the upload, where that is known.
    pub driver: Option<u64>,
    /// The group that it is about.
    pub group: u32,
    /// Who sent the message, and to whom.
    pub from: u64,
    /// See `from`.
    pub to: u64,
}

/// What is held back from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// The next proposal of this step to a leader elsewhere.
    Next(Step),
    /// The answers to the next proposal of this step to a leader elsewhere.
    AnswersToNext(Step),
    /// Everything that is said to this node in answer to its questions.
    Replies(u64),
    /// Frames for this node, and its own questions for frames.
    Frames(u64),
}

/// Names a hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HoldId(u64);

/// A message that was held back: from, to, what.
pub type Kept = (u64, u64, Bytes);

struct Held {
    hold: Hold,
    /// The command that was met: group, session, sequence.
    command: Option<(u32, u64, u64)>,
    /// Questions whose answers are meant: asker, its run, number.
    asks: BTreeSet<(u64, u64, u64)>,
    kept: Vec<Kept>,
}

struct Armed {
    moment: Moment,
    seen: oneshot::Sender<Sight>,
}

/// A question whose reply tells how far something has come.
enum Asked {
    Steps(u32, Vec<(Step, Option<u64>)>),
    Proposed(u32, Step, Option<u64>),
    Frame(u32),
}

#[derive(Default)]
struct Seen {
    /// Group and index of the entry that opened a session: whose it is.
    sessions: BTreeMap<(u32, u64), u64>,
    /// By asker, its run, number.
    asked: BTreeMap<(u64, u64, u64), Asked>,
    armed: Vec<Armed>,
    held: BTreeMap<u64, Held>,
    holds: u64,
}

/// Questions that nobody answered are forgotten when there are more.
const MOST_ASKED: usize = 20_000;

/// See the file's header.
#[derive(Clone, Default)]
pub struct Moments {
    seen: Arc<Mutex<Seen>>,
}

/// What an entry is about, as far as that matters here.
struct Known {
    step: Step,
    driver: Option<u64>,
    command: Option<(u64, u64)>,
}

impl Moments {
    /// Looks at one message.
    pub fn watch(&self, flight: Flight<'_>) -> Course {
        // What cannot be read is `agreement`'s to report.
        let Ok(message) = peer::Message::decode(flight.message.clone()) else {
            return Course::AsItComes;
        };
        let mut seen = self.seen.lock();
        let asker = (flight.from, message.boot, message.number);
        let keep = match message.content {
            Some(Content::Ask(ask)) => seen.ask(flight, asker, ask),
            Some(Content::Reply(reply)) => {
                let asker = (flight.to, message.asked_in_boot, message.number);
                seen.reply(flight, asker, reply)
            }
            None => None,
        };
        match keep.and_then(|hold| seen.held.get_mut(&hold)) {
            Some(held) => {
                let kept = (flight.from, flight.to, flight.message.clone());
                held.kept.push(kept);
                Course::Kept
            }
            None => Course::AsItComes,
        }
    }

    /// Waits until it happens. `None`: it does not, for so long.
    pub async fn next(&self, moment: Moment, patience: Duration) -> Option<Sight> {
        let (seen, happens) = oneshot::channel();
        self.seen.lock().armed.push(Armed { moment, seen });
        clock::timeout(patience, happens).await.ok()?.ok()
    }

    /// Holds messages back from now on.
    pub fn hold(&self, hold: Hold) -> HoldId {
        let mut seen = self.seen.lock();
        seen.holds += 1;
        let id = seen.holds;
        let held = Held {
            hold,
            command: None,
            asks: BTreeSet::new(),
            kept: Vec::new(),
        };
        seen.held.insert(id, held);
        HoldId(id)
    }

    /// How many messages a hold has kept.
    pub fn kept(&self, hold: HoldId) -> usize {
        let seen = self.seen.lock();
        seen.held.get(&hold.0).map_or(0, |held| held.kept.len())
    }

    /// Ends a hold: what it kept.
    pub fn release(&self, hold: HoldId) -> Vec<Kept> {
        let held = self.seen.lock().held.remove(&hold.0);
        held.map_or_else(Vec::new, |held| held.kept)
    }

    /// Ends all holds: what they kept is lost.
    pub fn release_all(&self) {
        self.seen.lock().held.clear();
    }
}

impl Seen {
    /// The hold that keeps this question.
    fn ask(&mut self, flight: Flight<'_>, asker: (u64, u64, u64), ask: peer::Ask) -> Option<u64> {
        if self.asked.len() > MOST_ASKED {
            self.asked.clear();
        }
        let group = ask.group;
        match ask.what? {
            ask::What::Append(append) => {
                let mut steps = Vec::new();
                for entry in append.entries {
                    let index = entry.id.map_or(0, |id| id.index);
                    if let Some(known) = self.entry(group, index, &entry.data) {
                        self.happens((known.step, Come::Sent), flight, group, known.driver);
                        steps.push((known.step, known.driver));
                    }
                }
                if !steps.is_empty() {
                    self.asked.insert(asker, Asked::Steps(group, steps));
                }
                None
            }
            ask::What::Propose(propose) => {
                let known = self.entry(group, 0, &propose.entry)?;
                self.happens((known.step, Come::Sent), flight, group, known.driver);
                let asked = Asked::Proposed(group, known.step, known.driver);
                self.asked.insert(asker, asked);
                self.keeps_proposal(asker, group, &known)
            }
            ask::What::StoreFrame(_) => {
                self.happens((Step::Frame, Come::Sent), flight, group, Some(flight.from));
                self.asked.insert(asker, Asked::Frame(group));
                self.keeps(Hold::Frames(flight.to))
            }
            ask::What::FetchFrame(_) => self.keeps(Hold::Frames(flight.from)),
            _ => None,
        }
    }

    /// The hold that keeps this reply.
    fn reply(
        &mut self,
        flight: Flight<'_>,
        asker: (u64, u64, u64),
        reply: peer::Reply,
    ) -> Option<u64> {
        let asked = self.asked.remove(&asker);
        match (asked, reply.what?) {
            (Some(Asked::Steps(group, steps)), reply::What::Appended(said))
                if said.outcome() == appended::Outcome::All =>
            {
                for (step, driver) in steps {
                    self.happens((step, Come::Stored), flight, group, driver);
                }
            }
            (Some(Asked::Proposed(group, step, driver)), reply::What::Proposed(_)) => {
                self.happens((step, Come::Answered), flight, group, driver);
            }
            (Some(Asked::Frame(group)), reply::What::FrameStored(said))
                if said.outcome() == frame_stored::Outcome::Stored =>
            {
                self.happens((Step::Frame, Come::Stored), flight, group, Some(flight.to));
            }
            _ => {}
        }
        let answers =
            |held: &Held| matches!(held.hold, Hold::AnswersToNext(_)) && held.asks.contains(&asker);
        let keeps = self.held.iter().find(|(_, held)| answers(held));
        let keeps = keeps.map(|(id, _)| *id);
        keeps.or_else(|| self.keeps(Hold::Replies(flight.to)))
    }

    fn keeps(&self, hold: Hold) -> Option<u64> {
        let mut held = self.held.iter();
        held.find(|(_, held)| held.hold == hold).map(|(id, _)| *id)
    }

    fn keeps_proposal(&mut self, asker: (u64, u64, u64), group: u32, known: &Known) -> Option<u64> {
        let (session, sequence) = known.command?;
        let command = (group, session, sequence);
        for (id, held) in &mut self.held {
            let (Hold::Next(step) | Hold::AnswersToNext(step)) = held.hold else {
                continue;
            };
            let is_it = match held.command {
                Some(met) => met == command,
                None => step == known.step,
            };
            if is_it {
                held.command = Some(command);
                if matches!(held.hold, Hold::Next(_)) {
                    return Some(*id);
                }
                held.asks.insert(asker);
            }
        }
        None
    }

    fn happens(&mut self, moment: Moment, flight: Flight<'_>, group: u32, driver: Option<u64>) {
        let (met, others) = std::mem::take(&mut self.armed)
            .into_iter()
            .partition::<Vec<Armed>, _>(|armed| armed.moment == moment);
        self.armed = others;
        for armed in met {
            // Who waited may have stopped waiting this moment.
            let _ = armed.seen.send(Sight {
                driver,
                group,
                from: flight.from,
                to: flight.to,
            });
        }
        self.armed.retain(|armed| !armed.seen.is_closed());
    }

    /// What an entry is about. `index`: its place in the log, 0 if it has none yet.
    fn entry(&mut self, group: u32, index: u64, data: &Bytes) -> Option<Known> {
        let entry = entry::Entry::decode_length_delimited(data.clone()).ok()?;
        let mut command = entry.command.map(|of| (of.session, of.sequence));
        let gateway = |seen: &Seen| seen.sessions.get(&(group, command?.0)).copied();
        let coordinator = |seen: &Seen, name: Option<row::TxnName>| {
            let name = name?;
            let session = (name.coordinator, name.session);
            seen.sessions.get(&session).copied()
        };
        let of_ref = |txn: Option<row::TxnRef>| txn.and_then(|txn| txn.name);
        let staged = |content: &Option<entry::NewContent>| {
            let kind = content.as_ref().and_then(|content| content.kind.as_ref());
            matches!(kind, Some(entry::new_content::Kind::Staged(_)))
        };
        let (step, driver) = match entry.body? {
            Body::OpenSession(open) => {
                let node = open.gateway.strip_prefix("node-");
                if let Some(node) = node.and_then(|node| node.parse().ok())
                    && index > 0
                {
                    self.sessions.insert((group, index), node);
                }
                return None;
            }
            Body::Pending(pending) => (Step::Pending, coordinator(self, of_ref(pending.txn))),
            Body::Prepare(prepare) => (Step::Prepare, coordinator(self, of_ref(prepare.txn))),
            Body::Commit(commit) => (Step::Commit, coordinator(self, commit.txn)),
            Body::Finish(finish) => (Step::Finish, coordinator(self, finish.txn)),
            Body::DropTxn(drop) => (Step::Drop, coordinator(self, drop.txn)),
            Body::OpenStage(_) => (Step::OpenStage, gateway(self)),
            Body::Put(put) if staged(&put.content) => (Step::Claim, gateway(self)),
            Body::ClaimPart(part) if staged(&part.content) => (Step::Claim, gateway(self)),
            Body::Abandon(_) => (Step::Abandon, gateway(self)),
            Body::SetFacts(set) => {
                // Whoever brings them brings the same.
                command = set.facts.map(|facts| (facts.bucket, facts.epoch));
                (Step::Facts, None)
            }
            _ => return None,
        };
        Some(Known {
            step,
            driver,
            command,
        })
    }
}
