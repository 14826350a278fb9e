//! The end: told to stop, the server first says so, then lets everybody finish, then closes the store.
//!
//! ```text
//!   SIGTERM, Ctrl-C ─> draining: /readyz 503, no new connections, keep-alive ends
//!                   ─> every request answered, or the drain time over: what is left is cut
//!                   ─> store closed (checkpoint), port 9001 last
//! ```
//! A second signal ends the process at once; the log makes that safe.

use std::io;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// How far the end has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Not yet.
    Serving,
    /// Finish what runs, begin nothing.
    Draining,
    /// Time is over.
    Cut,
}

/// Held by whoever decides the end of a port.
pub struct Stopper {
    phase: watch::Sender<Phase>,
    /// Closed when the last `Stop` clone is gone.
    gone: mpsc::Receiver<()>,
}

/// Held by everything that has to end; the end is complete when all clones are dropped.
#[derive(Clone)]
pub struct Stop {
    phase: watch::Receiver<Phase>,
    _alive: mpsc::Sender<()>,
}

/// A pair.
pub fn stopper() -> (Stopper, Stop) {
    let (phase, seen) = watch::channel(Phase::Serving);
    let (alive, gone) = mpsc::channel(1);
    (
        Stopper { phase, gone },
        Stop {
            phase: seen,
            _alive: alive,
        },
    )
}

impl Stopper {
    /// Ends everything: within `limit` politely, then not. Gives whether all finished in time.
    pub async fn stop(mut self, limit: Duration) -> bool {
        self.phase.send_replace(Phase::Draining);
        // Nobody ever sends; `None` says that the last holder is gone.
        if tokio::time::timeout(limit, self.gone.recv()).await.is_ok() {
            return true;
        }
        self.phase.send_replace(Phase::Cut);
        self.gone.recv().await;
        false
    }
}

impl Stop {
    /// Resolves when the end has come at least so far.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the stopper is gone without a word: the process ends.
        let _ = self.phase.wait_for(|now| *now >= phase).await;
    }
}

/// The signals that ask us to stop.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they do not end the process by themselves.
    pub fn catch() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Resolves with the name of the first one. From then on another one ends the process at once.
    pub async fn first(mut self) -> &'static str {
        let first = self.next().await;
        tokio::spawn(async move {
            self.next().await;
            tracing::warn!(
                "told to stop twice: ending at once; the next start recovers from the log"
            );
            std::process::exit(1);
        });
        first
    }

    async fn next(&mut self) -> &'static str {
        match select(pin!(self.terminate.recv()), pin!(self.interrupt.recv())).await {
            Either::Left(_) => "SIGTERM",
            Either::Right(_) => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who finishes in time is waited for; who does not is cut.
    #[tokio::test]
    async fn end_waits_for_the_last_request_but_not_for_ever() {
        let (stopping, mut stop) = stopper();
        let finished = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mark = finished.clone();
        tokio::spawn(async move {
            stop.reached(Phase::Draining).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            mark.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert!(stopping.stop(Duration::from_secs(60)).await);
        assert!(finished.load(std::sync::atomic::Ordering::Relaxed));

        let (stopping, mut stop) = stopper();
        tokio::spawn(async move { stop.reached(Phase::Cut).await });
        assert!(!stopping.stop(Duration::from_millis(20)).await);
    }
}
