//! Time: a monotonic clock that decides, and a wall clock that only stamps.
//!
//! `now` measures (leases, timeouts, ages); `wall_ms` is what users see as Last-Modified. Nothing may be decided by the
//! wall clock: it jumps. In a simulation both are virtual: time stands still while anything can run, and then jumps to
//! the next timer.
//!
//! Always true:
//! * `now` never goes back within a process or a simulation;
//! * `wall_ms` in a simulation is a fixed date + virtual time + the offsets set through [`super::sim`];
//! * a sleep never ends early.

use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft_rt::AsyncRuntime;
use openraft_rt_sim::{SimInstant, SimRuntime, SimSleep};
use pin_project_lite::pin_project;

use super::sim;

/// The clocks start one day in, so that code which subtracts a timeout from `now` right after the start stays in range.
const START_NANOS: u64 = 86_400 * 1_000_000_000;

/// Longer sleeps than this are this long: timers below overflow otherwise, and nobody waits for the end of either.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// A point of the monotonic clock, in nanoseconds. Points of different processes or simulations mean nothing to each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Instant(u64);

impl Instant {
    /// How long ago this was; zero if it lies ahead.
    pub fn elapsed(self) -> Duration {
        now() - self
    }

    /// How long `earlier` was before this; zero if it was not.
    pub fn since(self, earlier: Instant) -> Duration {
        self - earlier
    }

    /// Nanoseconds since a fixed, meaningless point before the process started.
    pub fn nanos(self) -> u64 {
        self.0
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

// Saturating everywhere: an instant too far ahead is never reached, one too far back has passed. Both are right answers.
impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, by: Duration) -> Instant {
        Instant(self.0.saturating_add(nanos(by)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, by: Duration) -> Instant {
        Instant(self.0.saturating_sub(nanos(by)))
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, by: Duration) {
        *self = *self - by;
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl openraft_rt::Instant for Instant {
    fn now() -> Instant {
        now()
    }
}

/// The monotonic clock.
pub fn now() -> Instant {
    let since_start = if sim::active() {
        sim::local_time(virtual_time())
    } else {
        real_time()
    };
    Instant(START_NANOS.saturating_add(nanos(since_start)))
}

/// The wall clock, in milliseconds since 1970 (UTC).
pub fn wall_ms() -> u64 {
    if sim::active() {
        sim::wall_ms(virtual_time())
    } else {
        real_wall_ms()
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the real wall clock"
)]
fn real_wall_ms() -> u64 {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// Virtual time since the simulation began; zero before its first and after its last poll.
fn virtual_time() -> Duration {
    SimInstant::try_now()
        .map(SimInstant::elapsed_since_start)
        .unwrap_or_default()
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the real monotonic clock"
)]
fn real_time() -> Duration {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// Waits for `duration`.
pub fn sleep(duration: Duration) -> Sleep {
    let duration = duration.min(FOREVER);
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that makes real timers"
    )]
    let kind = if sim::active() {
        SleepKind::Sim {
            timer: SimRuntime::sleep(sim::world_time(duration)),
        }
    } else {
        SleepKind::Real {
            timer: tokio::time::sleep(duration),
        }
    };
    Sleep { kind }
}

/// Waits until `deadline`.
pub fn sleep_until(deadline: Instant) -> Sleep {
    sleep(deadline - now())
}

/// Gives `future` that long to finish. A future that is ready at the deadline wins.
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    let duration = duration.min(FOREVER);
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that makes real timers"
    )]
    let kind = if sim::active() {
        // Not through SimRuntime::timeout, which wants `Send` futures; this is the same.
        TimeoutKind::Sim {
            future,
            timer: SimRuntime::sleep(sim::world_time(duration)),
        }
    } else {
        TimeoutKind::Real {
            timeout: tokio::time::timeout(duration, future),
        }
    };
    Timeout { kind }
}

/// Gives `future` until `deadline` to finish.
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    timeout(deadline - now(), future)
}

/// The time given by [`timeout`] is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("deadline has elapsed")]
pub struct Elapsed;

pin_project! {
    /// What [`sleep`] returns.
    #[must_use = "a sleep does nothing unless awaited"]
    #[derive(Debug)]
    pub struct Sleep {
        #[pin]
        kind: SleepKind,
    }
}

pin_project! {
    #[project = SleepKindProjection]
    #[derive(Debug)]
    enum SleepKind {
        Real { #[pin] timer: tokio::time::Sleep },
        Sim { #[pin] timer: SimSleep },
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.project().kind.project() {
            SleepKindProjection::Real { timer } => timer.poll(context),
            SleepKindProjection::Sim { timer } => timer.poll(context),
        }
    }
}

pin_project! {
    /// What [`timeout`] returns.
    #[must_use = "a timeout does nothing unless awaited"]
    #[derive(Debug)]
    pub struct Timeout<F> {
        #[pin]
        kind: TimeoutKind<F>,
    }
}

pin_project! {
    #[project = TimeoutKindProjection]
    #[derive(Debug)]
    enum TimeoutKind<F> {
        Real { #[pin] timeout: tokio::time::Timeout<F> },
        Sim { #[pin] future: F, #[pin] timer: SimSleep },
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            TimeoutKindProjection::Real { timeout } => {
                timeout.poll(context).map(|done| done.map_err(|_| Elapsed))
            }
            TimeoutKindProjection::Sim { future, timer } => match future.poll(context) {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending => timer.poll(context).map(|()| Err(Elapsed)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::runtime::EnvRuntime;

    #[test]
    fn real_sleeps_and_timeouts_take_their_time() {
        EnvRuntime::run(async {
            let start = now();
            sleep(Duration::from_millis(3)).await;
            assert!(start.elapsed() >= Duration::from_millis(3));
            let start = now();
            assert_eq!(
                timeout(Duration::from_millis(3), std::future::pending::<()>()).await,
                Err(Elapsed)
            );
            assert!(start.elapsed() >= Duration::from_millis(3));
            assert_eq!(timeout(Duration::MAX, async { 1 }).await, Ok(1));
            sleep_until(start).await;
        });
    }

    /// Code subtracts timeouts from `now` and adds "for ever" to it; neither may crash or wrap around.
    #[test]
    fn instants_saturate_instead_of_wrapping() {
        let start = now();
        assert!(start - Duration::from_secs(3600) < start);
        assert!(start - Duration::MAX < start);
        assert!(start + Duration::MAX > start);
        assert_eq!(start.since(start + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(
            (start + Duration::from_secs(1)).since(start),
            Duration::from_secs(1)
        );
    }

    /// The wall clock stamps in milliseconds of our time, not of another unit or epoch.
    #[test]
    fn the_wall_clock_shows_this_century() {
        let year_2024 = 1_704_067_200_000;
        assert!((year_2024..year_2024 * 3).contains(&wall_ms()));
    }
}
