//! Reading a group's state so that the answer holds everything acknowledged before the question.
//!
//! ```text
//!   reads:    a   b c   d e f
//!   rounds:   |----1----|---2-----|        1 serves a; b to f came while it ran and wait for 2
//! ```
//! Always true:
//! * nothing is read before this member has applied an entry of a new term of its own since the process started: what
//!   was agreed on before is then in the state;
//! * with several voters a read joins a confirmation round that starts after it arrived, and that took its index before it
//!   began (ReadIndex): one round at a time, one set of reads that waits for the next;
//! * a member that does not lead asks the one that does for the index, and answers from its own copy once that is there;
//! * a single voter needs none: an answer is given only after apply, so the engine holds all that was acknowledged;
//! * a group that turned read-only by damage still reads; what is damaged answers an error with its name, never "absent";
//! * one whose state lacks entries that it acknowledged answers nothing: it cannot know which keys they changed.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use minikv_proto::peer::{self, ask, read_at, reply};

use super::peers::Peers;
use super::raft_handle::{ConfirmError, RaftHandle};
use super::{Group, Standing};
use crate::engine::{EngineError, View};
use crate::env::clock::{self, Instant};
use crate::env::sync::Mutex;
use crate::ids::{GroupId, NodeId};
use crate::kv::KvError;

/// How long a read looks for a leader with a majority, and waits for its own copy to be there.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one question to the leader may take: a round of its own, and the way.
const ASK_PATIENCE: Duration = Duration::from_millis(1_500);
/// Between two questions when there was no answer.
const PAUSE: Duration = Duration::from_millis(50);

type Round = Shared<BoxFuture<'static, Result<u64, String>>>;

/// Rounds of confirmation that reads share.
#[derive(Default)]
pub(crate) struct Rounds {
    inner: Mutex<Both>,
}

#[derive(Default)]
struct Both {
    /// Has begun: too late for whoever arrives.
    running: Option<Round>,
    /// Begins when that one ends.
    next: Option<Round>,
}

impl Rounds {
    /// The round that begins next; `confirm` is its work if nobody asked for it yet.
    pub(super) fn join(
        self: &Arc<Self>,
        confirm: impl FnOnce() -> BoxFuture<'static, Result<u64, String>> + Send + 'static,
    ) -> Round {
        let mut both = self.inner.lock();
        if crate::planted!("joined-read-round")
            && let Some(running) = &both.running
            && running.peek().is_none()
        {
            return running.clone();
        }
        if let Some(next) = &both.next {
            return next.clone();
        }
        let running = both.running.clone();
        let rounds = Arc::downgrade(self);
        let round = async move {
            if let Some(running) = running {
                // How it ended is its own readers' affair.
                let _ = running.await;
            }
            if let Some(rounds) = rounds.upgrade() {
                let mut both = rounds.inner.lock();
                both.running = both.next.take();
            }
            confirm().await
        };
        let round = round.boxed().shared();
        both.next = Some(round.clone());
        round
    }
}

impl Group {
    /// Waits until reading the engine is linearizable.
    pub(crate) async fn confirm_read(&self) -> Result<(), KvError> {
        if self.elsewhere.is_some() {
            return Err(KvError::Unavailable(format!(
                "{} lies on other nodes",
                self.id
            )));
        }
        match self.standing() {
            Standing::Starting => {
                return Err(KvError::Unavailable(format!("{} is starting", self.id)));
            }
            Standing::ReadOnly(_) => return Ok(()),
            // The others serve, and bring this one back.
            Standing::Behind(why) if self.peers.is_some() => return Err(KvError::Unavailable(why)),
            Standing::Behind(why) => return Err(KvError::Damaged(why)),
            Standing::Refused(why) => return Err(KvError::Unavailable(why)),
            Standing::Serving { single_voter: true } => return Ok(()),
            Standing::Serving {
                single_voter: false,
            } => {}
        }
        let (Some(raft), Some(peers)) = (self.raft(), &self.peers) else {
            return Err(KvError::Unavailable(format!(
                "{} is not running here",
                self.id
            )));
        };
        if self.log.is_sick() {
            let why = "the disk does not finish its fsyncs";
            return Err(KvError::Unavailable(format!("{}: {why}", self.id)));
        }
        // Boxed: a read that needs no round need not carry the room for one.
        Box::pin(self.confirm_through_leader(raft, peers.clone())).await
    }

    async fn confirm_through_leader(
        &self,
        raft: RaftHandle,
        peers: Arc<dyn Peers>,
    ) -> Result<(), KvError> {
        let deadline = clock::now() + PATIENCE;
        let unavailable = |why: String| KvError::Unavailable(format!("{}: {why}", self.id));
        let index = loop {
            let asker = Asker {
                group: self.id,
                node: self.replica.node,
                raft: raft.clone(),
                peers: peers.clone(),
            };
            let round = self.rounds.join(move || Box::pin(asker.index(deadline)));
            match round.await {
                Ok(index) => break index,
                Err(why) if clock::now() >= deadline => return Err(unavailable(why)),
                Err(why) if crate::planted!("read-gives-up-with-another") => {
                    return Err(unavailable(why));
                }
                // Whoever began the round decides how long it tries: a question of a peer ends at the first failure.
                Err(_) => clock::sleep(PAUSE).await,
            }
        };
        if self.replica.applied() >= index || crate::planted!("read-before-applied") {
            return Ok(());
        }
        raft.applied(index, deadline - clock::now())
            .await
            .map_err(unavailable)
    }

    /// Waits until this member has applied an entry that is known to be agreed on.
    pub(crate) async fn until_applied(
        &self,
        index: u64,
        patience: Duration,
    ) -> Result<(), KvError> {
        if self.replica.applied() >= index {
            return Ok(());
        }
        let unavailable = |why: String| KvError::Unavailable(format!("{}: {why}", self.id));
        let raft = self.raft();
        let raft = raft.ok_or_else(|| unavailable("not running here".to_owned()))?;
        raft.applied(index, patience).await.map_err(unavailable)
    }

    /// A consistent view, at least as new as this call.
    pub(crate) async fn read(&self) -> Result<Box<dyn View>, KvError> {
        self.confirm_read().await?;
        Ok(self.replica.view())
    }

    /// What a member that does not lead is told when it asks from where on it may read.
    pub(crate) async fn read_index_for_peer(&self) -> peer::ReadAt {
        let outcome = match self.raft() {
            None => read_at::Outcome::Refused("not running".to_owned()),
            Some(raft) => {
                let round = self.rounds.join(move || Box::pin(own_index(raft)));
                match round.await {
                    Ok(index) => read_at::Outcome::Index(index),
                    Err(why) => read_at::Outcome::Refused(why),
                }
            }
        };
        peer::ReadAt {
            outcome: Some(outcome),
        }
    }
}

/// This member's own index, if it leads.
async fn own_index(raft: RaftHandle) -> Result<u64, String> {
    // A member whose disk hangs while it hears of a new leader says nothing until the disk does.
    let index = clock::timeout(ASK_PATIENCE, raft.read_index()).await;
    let index = index.map_err(|_| "no answer from the leader's own member in time".to_owned())?;
    index.map_err(|error| match error {
        ConfirmError::NoQuorum(why) | ConfirmError::Stopped(why) => why,
    })
}

/// Finds out from where on this member may read, from whoever leads.
struct Asker {
    group: GroupId,
    node: NodeId,
    raft: RaftHandle,
    peers: Arc<dyn Peers>,
}

impl Asker {
    async fn index(self, deadline: Instant) -> Result<u64, String> {
        loop {
            let asked = match self.raft.leader() {
                Some(leader) if leader == self.node => own_index(self.raft.clone()).await,
                Some(leader) => self.ask(leader).await,
                None => Err("nobody leads".to_owned()),
            };
            match asked {
                Ok(index) => return Ok(index),
                Err(why) if clock::now() >= deadline => return Err(why),
                Err(_) => clock::sleep(PAUSE).await,
            }
        }
    }

    async fn ask(&self, leader: NodeId) -> Result<u64, String> {
        let what = ask::What::ReadIndex(peer::ReadIndex {});
        let said = self.peers.ask(leader, self.group, what, ASK_PATIENCE).await;
        match said.map_err(|error| error.to_string())? {
            reply::What::ReadAt(peer::ReadAt {
                outcome: Some(read_at::Outcome::Index(index)),
            }) => Ok(index),
            reply::What::ReadAt(peer::ReadAt {
                outcome: Some(read_at::Outcome::Refused(why)),
            }) => Err(why),
            _ => Err("the leader gave no index".to_owned()),
        }
    }
}

/// What a reader is told of an engine that could not answer.
pub(crate) fn unreadable(error: EngineError) -> KvError {
    match error.is_damage() {
        true => KvError::Damaged(error.to_string()),
        false => KvError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::env::sim::run;
    use crate::env::task;

    /// A round that had begun when a read arrived may have taken its index before the write that the read must see.
    #[test]
    fn a_read_waits_for_a_round_that_begins_after_it() {
        run(1, async {
            let rounds = Arc::new(Rounds::default());
            let begun = Arc::new(AtomicU64::new(0));
            let read = |name: &'static str| {
                let (rounds, begun) = (rounds.clone(), begun.clone());
                task::spawn(async move {
                    let number = rounds.join(move || {
                        Box::pin(async move {
                            let number = begun.fetch_add(1, Ordering::Relaxed) + 1;
                            clock::sleep(Duration::from_millis(10)).await;
                            Ok(number)
                        })
                    });
                    (name, number.await.unwrap())
                })
            };
            let first = read("a");
            clock::sleep(Duration::from_millis(5)).await;
            let late = [read("b"), read("c")];
            clock::sleep(Duration::from_millis(10)).await;
            // The second round is under way by now.
            let later = read("d");
            assert_eq!(first.await.unwrap(), ("a", 1));
            for read in late {
                assert_eq!(read.await.unwrap().1, 2);
            }
            assert_eq!(later.await.unwrap(), ("d", 3));
        });
    }

    /// Who gives up does not hold up the others.
    #[test]
    fn a_read_that_goes_away_leaves_the_rounds_going() {
        run(2, async {
            let rounds = Arc::new(Rounds::default());
            let slow = || -> BoxFuture<'static, Result<u64, String>> {
                Box::pin(async {
                    clock::sleep(Duration::from_secs(1)).await;
                    Ok(1)
                })
            };
            let gone = rounds.join(slow);
            let waited = clock::timeout(Duration::from_millis(1), gone).await;
            assert!(waited.is_err());
            let next = rounds.join(|| Box::pin(std::future::ready(Ok(2))));
            assert_eq!(next.await, Ok(2));
        });
    }
}
