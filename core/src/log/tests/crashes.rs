//! Whatever the moment of a crash, and whatever a power cut keeps: the log recovers to a prefix of what was done, with
//! everything that was acknowledged in it. Recovery itself may crash at any of its operations.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::harness::*;
use crate::env::sim::{self, Choice, SimDisk};
use crate::log::*;

/// A disk as it was right before an operation, and what was acknowledged by then.
struct Moment {
    disk: SimDisk,
    acked: Vec<bool>,
}

/// Runs a history once, on `disk`, and keeps every moment of it.
fn moments(disk: &SimDisk, options: &LogOptions, history: &[Vec<Step>]) -> Vec<Moment> {
    let acked = Acked::default();
    let moments: Arc<Mutex<Vec<Moment>>> = Arc::default();
    let keep = |moments: &Arc<Mutex<Vec<Moment>>>, acked: &Acked, disk: &SimDisk| {
        moments.lock().push(Moment {
            disk: disk.after_kill(),
            acked: acked.now(),
        });
    };
    let (to, noted) = (Arc::clone(&moments), acked.clone());
    disk.on_op(move |disk, _| keep(&to, &noted, disk));
    sim::run(2, async {
        let opened = open_with(disk, options.clone(), Complete::default())
            .await
            .unwrap();
        perform(&opened.log, history, &acked).await.unwrap();
        keep(&moments, &acked, disk);
    });
    std::mem::take(&mut *moments.lock())
}

/// Recovers from every crash that `moment` can end in, and from a crash at every operation of some recoveries.
fn survive(
    moment: &Moment,
    history: &[Vec<Step>],
    deep: bool,
    done: &mut HashSet<(u128, Vec<bool>)>,
) -> usize {
    let mut cuts: Vec<Option<Choice>> = vec![None];
    cuts.extend(moment.disk.power_cuts().into_iter().map(Some));
    cuts.extend((0..3).map(|seed| Some(Choice::Random(seed))));
    let mut recovered = 0;
    for cut in cuts {
        let disk = match &cut {
            None => moment.disk.after_kill(),
            Some(cut) => moment.disk.after_power_cut(cut),
        };
        if !done.insert((disk.digest(), moment.acked.clone())) {
            continue;
        }
        recovered += 1;
        let shallow = disk.after_kill();
        let told = reopen(&shallow, async |opened| {
            check(&opened, &Base::default(), history, &moment.acked).await
        });
        // What recovery told may have been answered or applied: it must not go in a power cut a moment later.
        let later = shallow.after_power_cut(&Choice::None);
        reopen(&later, async |opened| check(&opened, &told, &[], &[]).await);
        if !deep {
            continue;
        }
        let again: Vec<Moment> = moments(&disk, &small(), &[]);
        for inner in again {
            let inner = Moment {
                acked: moment.acked.clone(),
                ..inner
            };
            recovered += survive(&inner, history, false, done);
        }
    }
    recovered
}

fn enumerate(history: &[Vec<Step>], deep: bool) -> usize {
    let mut done = HashSet::new();
    let moments = moments(&disk(1), &small(), history);
    moments
        .iter()
        .map(|moment| survive(moment, history, deep, &mut done))
        .sum()
}

fn append(group: crate::ids::GroupId, term: u64, from: u64, count: u64, len: usize) -> Step {
    Step::Append(
        group,
        (from..from + count)
            .map(|i| entry(term, i, 40, len))
            .collect(),
    )
}

/// Each kind of record alone and together with others in one batch.
#[test]
fn a_crash_at_any_moment_keeps_what_was_acknowledged() {
    let history = vec![
        vec![
            Step::Vote(G1, b"one"),
            append(G1, 1, 0, 2, 300),
            append(G2, 1, 0, 1, 0),
        ],
        vec![
            append(G1, 1, 2, 2, 2500),
            Step::Frames(vec![frame(1, 3000), frame(2, 100)]),
        ],
        vec![
            Step::Truncate(G1, Some(2)),
            append(G1, 2, 3, 2, 10),
            Step::Vote(G1, b"two"),
        ],
        vec![Step::Purge(G1, id(1, 1)), append(G2, 1, 1, 3, 700)],
        vec![Step::Remove(G2)],
    ];
    let recovered = enumerate(&history, false);
    assert!(recovered > 70, "only {recovered} states");
}

/// Segments are sealed, the next ones begin with standing records.
#[test]
fn a_crash_while_a_segment_rolls_loses_nothing() {
    let history: Vec<Vec<Step>> = (0..6)
        .map(|n| {
            vec![
                append(G1, 1, 3 * n, 3, 2600),
                Step::Frames(vec![frame(n as u32, 7000)]),
            ]
        })
        .collect();
    let recovered = enumerate(&history, false);
    assert!(recovered > 200, "only {recovered} states");
}

/// Without an fsync for each batch the unsynced tail is long, and a roll lies in it. Whatever of it a power cut keeps on
/// either side of the roll, also while it is being recovered, what comes back is a prefix.
#[test]
fn a_torn_tail_that_reaches_over_a_roll_leaves_a_prefix() {
    let options = LogOptions {
        fsync: FsyncPolicy::Never,
        ..small()
    };
    let history: Vec<Vec<Step>> = (0..5)
        .map(|n| {
            vec![
                append(G1, 1, 3 * n, 3, 2600),
                Step::Frames(vec![frame(n as u32, 7000)]),
            ]
        })
        .collect();
    let disk = disk(1);
    let (mut done, mut recovered) = (HashSet::new(), 0);
    for (number, moment) in moments(&disk, &options, &history).into_iter().enumerate() {
        let moment = Moment {
            // Nothing of this was promised to be durable.
            acked: vec![false; moment.acked.len()],
            ..moment
        };
        recovered += survive(&moment, &history, number % 8 == 0, &mut done);
    }
    let files = disk.files().into_iter();
    let rolled = files.filter(|(path, _)| path.to_string_lossy().contains("meta-"));
    assert!(rolled.count() >= 3, "no segment was rolled");
    assert!(recovered > 200, "only {recovered} states");
}

/// What survives a kill is used only after it was made durable, however often that is tried.
#[test]
fn a_power_cut_at_any_moment_of_recovery_loses_nothing() {
    let history = vec![
        vec![
            append(G1, 1, 0, 3, 900),
            Step::Vote(G2, b"v"),
            Step::Frames(vec![frame(1, 5000)]),
        ],
        vec![Step::Truncate(G1, Some(1)), append(G1, 2, 2, 2, 100)],
    ];
    let recovered = enumerate(&history, true);
    assert!(recovered > 100, "only {recovered} states");
}

/// Crash after crash on the same disk: what an earlier crash left behind its cut must never be taken for new.
/// With `interval` and `never`, what was acknowledged may go, but only from the end; votes stay.
#[test]
fn crash_after_crash_leaves_a_prefix_each_time() {
    let policies = [
        FsyncPolicy::Always,
        FsyncPolicy::Interval(Duration::from_millis(5)),
        FsyncPolicy::Never,
    ];
    for seed in 0..90 {
        let policy = policies[seed as usize % 3];
        let options = LogOptions {
            fsync: policy,
            ..small()
        };
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut disk = disk(seed);
        let mut base = Base::default();
        let mut ordinal = 0;
        for generation in 0..8 {
            let lists = 1 + rng.next_u32() as usize % 6;
            let history = random_steps(&mut rng, &base, &mut ordinal, lists);
            let mut moments = moments(&disk, &options, &history);
            // Later moments are more interesting: half of the time the very end.
            let at = match rng.next_u32() % 2 {
                0 => moments.len() - 1,
                _ => rng.next_u32() as usize % moments.len(),
            };
            let mut moment = moments.swap_remove(at);
            if policy != FsyncPolicy::Always {
                let steps = history.iter().flatten().zip(&mut moment.acked);
                steps.for_each(|(step, acked)| *acked &= matches!(step, Step::Vote(..)));
            }
            let after = match rng.next_u32() % 4 {
                0 => moment.disk.after_kill(),
                1 => moment.disk.after_power_cut(&Choice::None),
                _ => moment
                    .disk
                    .after_power_cut(&Choice::Random(u64::from(rng.next_u32()))),
            };
            println!(
                "seed {seed} generation {generation}: {} moments",
                moments.len()
            );
            base = reopen(&after, async |opened| {
                check(&opened, &base, &history, &moment.acked).await
            });
            // What was recovered is durable now.
            disk = after.after_kill();
        }
    }
}
