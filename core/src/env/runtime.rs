//! openraft's view of env: its runtime trait on our clock, tasks and randomness.
//!
//! openraft reaches its runtime through static functions, so this type has no state worth naming: each call goes to tokio
//! or to the simulation, whichever runs on this thread. openraft's own tasks are ordinary env tasks, so they die with the
//! [`super::sim::Scope`] of their node.
//!
//! Always true: the watch channel is the simulator's in both worlds (tokio's wakes its waiters in a random order), so
//! what a simulation shows is what production runs.

use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_sim::{SimRuntime, SimWatch};
use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime};

use super::{clock, random, sim, task};

/// The runtime openraft runs on.
pub struct EnvRuntime(Kind);

enum Kind {
    Real(TokioRuntime),
    Sim(SimRuntime),
}

impl fmt::Debug for EnvRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvRuntime")
            .field("simulated", &matches!(self.0, Kind::Sim(_)))
            .finish()
    }
}

impl AsyncRuntime for EnvRuntime {
    type JoinError = task::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = task::JoinHandle<T>;
    type Sleep = clock::Sleep;
    type Instant = clock::Instant;
    type TimeoutError = clock::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = clock::Timeout<T>;
    type ThreadLocalRng = random::Generator;

    #[track_caller]
    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        task::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        clock::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        clock::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        clock::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        clock::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        matches!(join_error, task::JoinError::Panic(_))
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        random::generator()
    }

    type Mpsc = TokioMpsc;
    type Watch = SimWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    /// For openraft's own test suites: simulated on a thread inside [`sim::enter`], else tokio.
    fn new(threads: usize) -> Self {
        match sim::seed() {
            Some(seed) => EnvRuntime(Kind::Sim(SimRuntime::with_seed(seed))),
            None => EnvRuntime(Kind::Real(TokioRuntime::new(threads))),
        }
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        match &mut self.0 {
            Kind::Real(runtime) => runtime.block_on(future),
            Kind::Sim(runtime) => runtime.block_on(future),
        }
    }

    async fn spawn_blocking<F, T>(work: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Ok(task::blocking(work).await)
    }
}
