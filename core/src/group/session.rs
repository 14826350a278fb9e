//! Sessions: what makes a command that was sent twice count once.
//!
//! A gateway opens a session in each group by an entry; the session's name is that entry's index. Every command carries
//! (session, sequence, lowest open sequence); the group keeps the final results of open sequences, so a command sent
//! again finds its own result. This file hands out sequences; the group's state does the rest.
//!
//! ```text
//!   closed | lowest .......... open or closed, any mix .......... next
//!          |<------------------ at most 4,096 ----------------->|
//! ```
//! Always true:
//! * a sequence is handed out once;
//! * `lowest` never passes an open sequence, so the group never forgets a result that may still be asked for;
//! * nobody runs more than 4,096 ahead of the lowest open one: whoever would, waits.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How far above the lowest open sequence commands may run (CORE 3).
const WINDOW: u64 = 4096;

/// The sequences of one session.
#[derive(Debug)]
struct Window {
    next: u64,
    open: BTreeSet<u64>,
}

impl Window {
    fn take(&mut self) -> Option<u64> {
        if self.next >= self.lowest() + WINDOW {
            return None;
        }
        let sequence = self.next;
        self.next += 1;
        self.open.insert(sequence);
        Some(sequence)
    }

    fn lowest(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.next)
    }

    /// Whether the lowest one moved, so that somebody who waits may go on.
    fn close(&mut self, sequence: u64) -> bool {
        let before = self.lowest();
        let was_open = self.open.remove(&sequence);
        assert!(was_open, "sequence {sequence} was closed twice");
        self.lowest() != before
    }
}

/// One session in one group.
#[derive(Debug)]
pub(crate) struct Session {
    /// Index of the entry that opened it.
    pub id: u64,
    window: Mutex<Window>,
    moved: Notify,
}

/// A sequence that is open. Closed when dropped: nobody will ask for its result again.
#[derive(Debug)]
pub(crate) struct Sequence {
    session: Arc<Session>,
    number: u64,
}

impl Session {
    pub(crate) fn new(id: u64) -> Session {
        let window = Window {
            next: 1,
            open: BTreeSet::new(),
        };
        Session {
            id,
            window: Mutex::new(window),
            moved: Notify::new(),
        }
    }

    /// The next sequence; waits while the window is full.
    pub(crate) async fn take(self: &Arc<Self>) -> Sequence {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // From here on a notification is not missed.
            moved.as_mut().enable();
            let taken = self.window.lock().take();
            if let Some(number) = taken {
                return Sequence {
                    session: self.clone(),
                    number,
                };
            }
            moved.await;
        }
    }
}

impl Sequence {
    /// What a command carries: session, sequence, lowest open sequence as of now.
    pub(crate) fn command(&self) -> minikv_proto::entry::Command {
        minikv_proto::entry::Command {
            session: self.session.id,
            sequence: self.number,
            lowest: self.session.window.lock().lowest(),
        }
    }

    /// Its number within the session.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The session it belongs to.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        let moved = self.session.window.lock().close(self.number);
        if moved {
            self.session.moved.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slow command must not let the group forget its result, however many others pass it.
    #[test]
    fn lowest_stays_at_the_slowest_command() {
        let mut window = Window {
            next: 1,
            open: BTreeSet::new(),
        };
        assert_eq!(window.take(), Some(1));
        for _ in 1..WINDOW {
            let taken = window.take();
            assert!(taken.is_some());
            window.close(taken.unwrap_or_default());
        }
        assert_eq!(window.lowest(), 1);
        assert_eq!(
            window.take(),
            None,
            "4,096 above the lowest: the gateway waits"
        );
        assert!(window.close(1));
        assert_eq!(window.lowest(), WINDOW + 1);
        assert!(window.take().is_some());
    }
}
