//! How fast the scrubber reads. Pure.
//!
//! A pass is spread evenly over its period, with a rest at the end: a store that grew meanwhile is read faster, and still in
//! time. Never faster than `FASTEST`: whoever comes late takes longer instead of taking the disk.

use std::time::Duration;

/// The part of a period in which all is read.
const SPREAD: f64 = 0.9;
/// Bytes a second, at most.
const FASTEST: f64 = (32 << 20) as f64;
/// Nobody sleeps longer at a time: clocks jump, and stores grow.
const LONGEST: Duration = Duration::from_secs(3600);

/// How long to wait after a step of `step` bytes, when a pass has read `done` of about `total` in `elapsed`.
pub(super) fn wait(
    period: Duration,
    elapsed: Duration,
    done: u64,
    total: u64,
    step: u64,
) -> Duration {
    let share = done as f64 / total.max(done).max(1) as f64;
    let due = period.mul_f64(SPREAD * share);
    let breath = Duration::from_secs_f64(step as f64 / FASTEST);
    due.saturating_sub(elapsed).max(breath).min(LONGEST)
}

/// How long to rest between two passes, and at a time.
pub(super) fn rest(period: Duration, elapsed: Duration) -> Duration {
    period.saturating_sub(elapsed).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// Steps of 1 MiB through `total` bytes: how long it takes.
    fn pass(period: Duration, total: u64) -> Duration {
        let (mut elapsed, mut done) = (Duration::ZERO, 0);
        while done < total {
            done += 1 << 20;
            elapsed += wait(period, elapsed, done, total, 1 << 20);
        }
        elapsed
    }

    #[test]
    fn a_pass_takes_nearly_its_period_however_much_there_is() {
        for gib in [1, 100] {
            let took = pass(14 * DAY, gib << 30);
            assert!(took > 12 * DAY && took <= 13 * DAY, "{took:?}");
        }
    }

    /// 100 TiB do not fit into 14 days at 32 MiB/s: then it takes longer, and the disk stays usable.
    #[test]
    fn nothing_makes_it_read_faster_than_it_may() {
        let breath = wait(DAY, 2 * DAY, 1 << 30, 100 << 40, 32 << 20);
        assert_eq!(breath, Duration::from_secs(1));
    }

    #[test]
    fn a_pass_that_was_cut_catches_up() {
        let late = wait(14 * DAY, 10 * DAY, 1 << 30, 100 << 30, 1 << 20);
        assert!(late < Duration::from_secs(1), "{late:?}");
        assert_eq!(rest(DAY, 2 * DAY), Duration::ZERO);
        assert_eq!(rest(14 * DAY, DAY), LONGEST);
    }
}
