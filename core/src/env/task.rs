//! Tasks: futures that run on their own.
//!
//! `spawn` is for futures that only ever wait. What may block in `poll` (the real disk does) belongs on a thread of its own
//! (`spawn_thread`) or, as a closure, into `blocking`. In a simulation all three are ordinary work of its single thread,
//! and a task belongs to the [`super::sim::Scope`] in which it was spawned.
//!
//! Always true:
//! * dropping a handle leaves its task running;
//! * a task that panics ends alone, and whoever joins it learns of it; a simulation fails for it unless someone took it.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{AbortHandle, Abortable};
use tokio::sync::oneshot;

use super::sim;

/// Why a task gave no value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JoinError {
    /// It panicked, with this message.
    #[error("task panicked: {0}")]
    Panic(String),
    /// It was dropped before it finished: aborted, killed with its scope, or its runtime ended.
    #[error("task was dropped before it finished")]
    Cancelled,
}

/// Resolves to the output of a task.
#[derive(Debug)]
pub struct JoinHandle<T>(Kind<T>);

#[derive(Debug)]
enum Kind<T> {
    Tokio(tokio::task::JoinHandle<T>),
    Thread(oneshot::Receiver<Result<T, JoinError>>, AbortHandle),
    Sim(oneshot::Receiver<Result<T, JoinError>>, sim::TaskRef),
}

impl<T> JoinHandle<T> {
    /// Asks for the task to be dropped at the point where it waits next. A simulated one is dropped at once.
    pub fn abort(&self) {
        match &self.0 {
            Kind::Tokio(handle) => handle.abort(),
            Kind::Thread(_, handle) => handle.abort(),
            Kind::Sim(_, task) => task.drop_future(),
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            Kind::Tokio(handle) => {
                handle
                    .poll_unpin(context)
                    .map_err(|error| match error.try_into_panic() {
                        Ok(payload) => JoinError::Panic(panic_message(payload.as_ref())),
                        Err(_) => JoinError::Cancelled,
                    })
            }
            Kind::Thread(receiver, _) => receiver
                .poll_unpin(context)
                .map(|sent| sent.unwrap_or(Err(JoinError::Cancelled))),
            Kind::Sim(receiver, _) => {
                let joined = receiver
                    .poll_unpin(context)
                    .map(|sent| sent.unwrap_or(Err(JoinError::Cancelled)));
                if let Poll::Ready(Err(JoinError::Panic(message))) = &joined {
                    sim::heard_panic(message);
                }
                joined
            }
        }
    }
}

/// Runs `future` beside the caller.
///
/// # Panics
/// Outside a simulation and outside a tokio runtime.
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    if sim::active() {
        return spawn_simulated(future);
    }
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that spawns real tasks"
    )]
    JoinHandle(Kind::Tokio(tokio::spawn(future)))
}

/// Runs `future` on an operating system thread of its own, where it may block. `name` is at most 15 bytes on Linux.
///
/// Sleeps and timeouts work there if the caller runs inside a tokio runtime.
#[track_caller]
pub fn spawn_thread<F>(name: &str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    if sim::active() {
        return spawn_simulated(future);
    }
    let (sender, receiver) = oneshot::channel();
    let (future, abort) = futures::future::abortable(report(future, sender));
    let runtime = tokio::runtime::Handle::try_current().ok();
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that starts real threads"
    )]
    let started = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || run_on_thread(runtime, future));
    if let Err(error) = started {
        // The future went down with the closure, so that whoever joins hears of it.
        tracing::error!(thread = name, %error, "could not start a thread");
    }
    JoinHandle(Kind::Thread(receiver, abort))
}

fn run_on_thread<F: Future<Output = ()>>(
    runtime: Option<tokio::runtime::Handle>,
    future: Abortable<F>,
) {
    let _context = runtime.as_ref().map(tokio::runtime::Handle::enter);
    // Aborted: the sender was dropped, the joiner sees `Cancelled`.
    let _ = futures::executor::block_on(future);
}

fn spawn_simulated<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let task = sim::spawn(report(future, sender).boxed());
    JoinHandle(Kind::Sim(receiver, task))
}

/// Runs a future and sends what came of it. Nobody may be listening any more: a dropped handle detaches.
async fn report<F: Future>(future: F, to: oneshot::Sender<Result<F::Output, JoinError>>) {
    let result = AssertUnwindSafe(future).catch_unwind().await;
    let result = result.map_err(|payload| {
        let message = panic_message(payload.as_ref());
        sim::panicked(&message);
        JoinError::Panic(message)
    });
    let _ = to.send(result);
}

/// Runs `work`, which may block, without holding up other tasks. In a simulation, and outside any runtime, it runs in place.
///
/// A panic of `work` goes on in whoever awaits. Dropping the future does not stop work that has begun.
pub async fn blocking<T, W>(work: W) -> T
where
    W: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if sim::active() {
        return work();
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return work();
    };
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that hands out blocking work"
    )]
    let handle = runtime.spawn_blocking(work);
    match handle.await {
        Ok(output) => output,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => std::panic::resume_unwind(payload),
            // The runtime is shutting down and took the work unrun; this task is about to be dropped as well.
            Err(_) => futures::future::pending().await,
        },
    }
}

/// Lets the others run once.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    match payload.downcast_ref::<&str>() {
        Some(message) => (*message).to_owned(),
        None => payload
            .downcast_ref::<String>()
            .cloned()
            .unwrap_or_else(|| "a payload that is not text".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use openraft_rt::AsyncRuntime;

    use super::*;
    use crate::env::clock;
    use crate::env::runtime::EnvRuntime;

    /// The log's writer: blocks on the disk, sleeps, and is joined by those who stop the node.
    #[test]
    fn a_thread_has_its_name_its_timers_and_can_be_joined() {
        EnvRuntime::run(async {
            let handle = spawn_thread("log-writer", async {
                let before = clock::now();
                clock::sleep(Duration::from_millis(5)).await;
                let waited =
                    clock::timeout(Duration::from_millis(5), futures::future::pending::<()>())
                        .await;
                let name = std::thread::current().name().map(str::to_owned);
                (before.elapsed() >= Duration::from_millis(10), waited, name)
            });
            let (slept, waited, name) = handle.await.unwrap();
            assert!(slept);
            assert_eq!(waited, Err(clock::Elapsed));
            assert_eq!(name.as_deref(), Some("log-writer"));
        });
    }

    #[test]
    fn a_thread_that_panics_tells_who_joins() {
        EnvRuntime::run(async {
            let handle = spawn_thread("falls", async { panic!("as planned") });
            let joined: Result<(), JoinError> = handle.await;
            assert_eq!(joined, Err(JoinError::Panic("as planned".to_owned())));
        });
    }

    #[test]
    fn tasks_and_threads_can_be_aborted() {
        EnvRuntime::run(async {
            for handle in [
                spawn(std::future::pending::<()>()),
                spawn_thread("waits", std::future::pending::<()>()),
            ] {
                handle.abort();
                assert_eq!(handle.await, Err(JoinError::Cancelled));
            }
        });
    }

    #[test]
    fn blocking_work_gives_its_value_or_its_panic() {
        EnvRuntime::run(async {
            assert_eq!(blocking(|| 7).await, 7);
            let panicked = AssertUnwindSafe(blocking(|| panic!("as planned")))
                .catch_unwind()
                .await;
            let panicked: Result<(), _> = panicked;
            assert!(panicked.is_err());
        });
        assert_eq!(
            futures::executor::block_on(blocking(|| 8)),
            8,
            "in place where there is no runtime"
        );
    }

    /// A thread's future still sees its end when the tokio runtime it came from is gone.
    #[test]
    fn a_thread_outlives_the_runtime_it_was_started_from() {
        let (go, gone) = oneshot::channel::<()>();
        let (handle,) = EnvRuntime::run(async move {
            (spawn_thread("outlives", async move { gone.await.is_ok() }),)
        });
        go.send(()).unwrap();
        assert_eq!(futures::executor::block_on(handle), Ok(true));
    }
}
