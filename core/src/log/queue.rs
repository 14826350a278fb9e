//! What callers left for a writer, and how they learn that it is settled.
//!
//! A caller's job is a few finished records and what to do when they are settled. The writer takes all jobs at once.
//! Each job gets a *ticket*; tickets rise in the order in which jobs are written, so one number, the highest settled
//! ticket, answers everybody who waits.
//!
//! Always true:
//! * jobs are written in the order of their tickets;
//! * a vote may overtake the jobs of other groups (it carries no ticket then), never one of its own group;
//! * every job is finished exactly once: with `Ok` after its records are settled, or with an error;
//! * once closed, a queue takes no job.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio::sync::oneshot;

use super::batch;
use super::error::LogError;
use super::record::Draft;
use super::shared::{Cell, Written};
use crate::env::sync::{AtomicU64, AtomicWaker, Mutex};

/// Told once when a job is settled. Called on the writer's thread: it should only pass the news on.
pub type Ack = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// Records that go together.
pub(super) struct Job {
    /// 0: nobody waits by ticket.
    pub ticket: u64,
    pub drafts: Vec<Draft>,
    /// Must be fsynced whatever the policy says.
    pub sync: bool,
    pub done: Done,
}

impl Job {
    /// Bytes its records take in a batch.
    pub(super) fn len(&self) -> usize {
        self.drafts
            .iter()
            .map(|draft| batch::ROW + draft.len())
            .sum()
    }
}

/// Who wants to know.
pub(super) enum Done {
    /// Entries of a group, from this index on: their places go into its log.
    Entries {
        cell: Arc<Cell>,
        first: u64,
        ack: Ack,
    },
    /// Frames or moved items: their writer wants the places.
    Items(oneshot::Sender<Result<Written, LogError>>),
    Plain(Ack),
}

impl Job {
    pub(super) fn fail(self, error: &LogError) {
        match self.done {
            Done::Entries { ack, .. } | Done::Plain(ack) => ack(Err(error.clone())),
            // Nobody listens any more: nobody to tell.
            Done::Items(sender) => drop(sender.send(Err(error.clone()))),
        }
    }
}

#[derive(Default)]
struct Inner {
    urgent: VecDeque<Job>,
    jobs: VecDeque<Job>,
    last_ticket: u64,
    /// Ticket of the last job the writer took.
    taken: u64,
    /// No more jobs; the reason to give.
    closed: Option<LogError>,
}

/// One stream's queue.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    writer: AtomicWaker,
}

/// What a writer finds when it looks.
pub(super) enum Ready {
    Jobs,
    Closed,
}

impl Queue {
    /// Queues a job made with its ticket, which is returned.
    pub(super) fn push(&self, make: impl FnOnce(u64) -> Job) -> Result<u64, LogError> {
        let ticket = {
            let mut inner = self.inner.lock();
            if let Some(error) = &inner.closed {
                return Err(error.clone());
            }
            inner.last_ticket += 1;
            let ticket = inner.last_ticket;
            inner.jobs.push_back(make(ticket));
            ticket
        };
        self.writer.wake();
        Ok(ticket)
    }

    /// Queues a vote; in front, if nothing of its group waits (`after` is the ticket of what was queued last for it).
    /// Returns what is now the ticket of what was queued last for the group.
    pub(super) fn push_vote(
        &self,
        after: u64,
        make: impl FnOnce(u64) -> Job,
    ) -> Result<u64, LogError> {
        let ticket = {
            let mut inner = self.inner.lock();
            if let Some(error) = &inner.closed {
                return Err(error.clone());
            }
            if after <= inner.taken {
                inner.urgent.push_back(make(0));
                after
            } else {
                inner.last_ticket += 1;
                let ticket = inner.last_ticket;
                inner.jobs.push_back(make(ticket));
                ticket
            }
        };
        self.writer.wake();
        Ok(ticket)
    }

    /// Moves jobs that wait to the end of `to`, in the order in which they are to be written: all of them, or enough
    /// for `bytes`. What stays here can still be overtaken by a vote.
    pub(super) fn take(&self, bytes: usize, to: &mut VecDeque<Job>) {
        let mut inner = self.inner.lock();
        let mut taken = 0;
        while let Some(job) = inner.urgent.pop_front() {
            taken += job.len();
            to.push_back(job);
        }
        while taken < bytes
            && let Some(job) = inner.jobs.pop_front()
        {
            taken += job.len();
            inner.taken = inner.taken.max(job.ticket);
            to.push_back(job);
        }
    }

    /// Waits until there is something to do.
    pub(super) async fn ready(&self) -> Ready {
        poll_fn(|context| {
            self.writer.register(context.waker());
            let inner = self.inner.lock();
            if !inner.urgent.is_empty() || !inner.jobs.is_empty() {
                Poll::Ready(Ready::Jobs)
            } else if inner.closed.is_some() {
                Poll::Ready(Ready::Closed)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// Takes no more jobs. What waits is still written.
    pub(super) fn close(&self, why: LogError) {
        self.inner.lock().closed.get_or_insert(why);
        self.writer.wake();
    }
}

/// The highest settled ticket of a stream, and who waits for a higher one.
#[derive(Default)]
pub(super) struct Watermark {
    settled: AtomicU64,
    waiters: Mutex<Waiters>,
}

#[derive(Default)]
struct Waiters {
    by_ticket: BTreeMap<u64, Vec<oneshot::Sender<Result<(), LogError>>>>,
    failed: Option<LogError>,
}

impl Watermark {
    /// Resolves when `ticket` is settled.
    pub(super) async fn wait(&self, ticket: u64) -> Result<(), LogError> {
        if self.settled.load(Ordering::Acquire) >= ticket {
            return Ok(());
        }
        let receiver = {
            let mut waiters = self.waiters.lock();
            // Again, under the lock that `advance` takes after it moved the mark.
            if self.settled.load(Ordering::Acquire) >= ticket {
                return Ok(());
            }
            if let Some(error) = &waiters.failed {
                return Err(error.clone());
            }
            let (sender, receiver) = oneshot::channel();
            waiters.by_ticket.entry(ticket).or_default().push(sender);
            receiver
        };
        receiver.await.unwrap_or(Err(LogError::Closed))
    }

    pub(super) fn advance(&self, ticket: u64) {
        let before = self.settled.swap(ticket, Ordering::AcqRel);
        assert!(
            before <= ticket,
            "the settled ticket went back from {before} to {ticket}"
        );
        let reached = {
            let mut waiters = self.waiters.lock();
            if waiters.by_ticket.is_empty() {
                return;
            }
            let later = waiters.by_ticket.split_off(&(ticket + 1));
            std::mem::replace(&mut waiters.by_ticket, later)
        };
        for sender in reached.into_values().flatten() {
            let _ = sender.send(Ok(()));
        }
    }

    pub(super) fn fail(&self, error: &LogError) {
        let waiting = {
            let mut waiters = self.waiters.lock();
            waiters.failed.get_or_insert_with(|| error.clone());
            std::mem::take(&mut waiters.by_ticket)
        };
        for sender in waiting.into_values().flatten() {
            let _ = sender.send(Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures::FutureExt;

    fn job(ticket: u64) -> Job {
        Job {
            ticket,
            drafts: Vec::new(),
            sync: false,
            done: Done::Plain(Box::new(|_| {})),
        }
    }

    fn order(queue: &Queue) -> Vec<u64> {
        let mut jobs = VecDeque::new();
        queue.take(1, &mut jobs);
        jobs.into_iter().map(|job| job.ticket).collect()
    }

    #[test]
    fn a_vote_overtakes_other_groups_but_not_its_own() {
        let queue = Queue::default();
        let first = queue.push(job).unwrap();
        assert_eq!(order(&queue), [first]);
        let second = queue.push(job).unwrap();
        queue.push_vote(first, job).unwrap();
        assert_eq!(order(&queue), [0, second]);
        let third = queue.push(job).unwrap();
        let vote = queue.push_vote(third, job).unwrap();
        // And the next vote of that group stays behind the one before.
        let again = queue.push_vote(vote, job).unwrap();
        assert_eq!(order(&queue), [third, vote, again]);
    }

    #[test]
    fn waiters_hear_of_their_ticket_and_of_failure() {
        let mark = Watermark::default();
        let mut early = Box::pin(mark.wait(1));
        let mut late = Box::pin(mark.wait(3));
        assert!(early.as_mut().now_or_never().is_none());
        assert!(late.as_mut().now_or_never().is_none());
        mark.advance(2);
        assert_eq!(early.now_or_never(), Some(Ok(())));
        assert!(late.as_mut().now_or_never().is_none());
        assert_eq!(mark.wait(2).now_or_never(), Some(Ok(())));
        mark.fail(&LogError::Closed);
        assert_eq!(late.now_or_never(), Some(Err(LogError::Closed)));
        assert_eq!(mark.wait(3).now_or_never(), Some(Err(LogError::Closed)));
    }
}
