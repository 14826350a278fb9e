//! Crashes at every operation of the disk, in every sequence of one and two steps. See `minikv_tests::crash`.
//!
//! All states take too long for every change, so each run looks at a fixed sample; `crash-states --full` looks at all.
//! `MINIKV_CRASH_STRIDE=1` does so here; `MINIKV_CRASH_ONLY="<name of a state>"` looks at one.

#![allow(clippy::unwrap_used)]

use minikv_tests::crash::{Selection, Tally, Walk};
use minikv_tests::life::Furnished;
use minikv_tests::steps::{Shape, Step};

fn selection(once: u64, twice: u64) -> Selection {
    let factor = std::env::var("MINIKV_CRASH_STRIDE")
        .ok()
        .map(|stride| stride.parse().unwrap());
    Selection {
        once: factor.unwrap_or(once),
        twice: factor.unwrap_or(twice),
        only: std::env::var("MINIKV_CRASH_ONLY").ok(),
    }
}

fn assert_clean(tally: &Tally) {
    println!(
        "{} states met, {} judged, {} the same as others",
        tally.met, tally.judged, tally.same
    );
    let told: Vec<String> = tally
        .failures
        .iter()
        .take(20)
        .map(|f| format!("{}\n    {}", f.label, f.what))
        .collect();
    assert!(
        told.is_empty(),
        "{} states failed:\n{}",
        tally.failures.len(),
        told.join("\n")
    );
    assert!(tally.judged > 0, "the sample is empty");
}

/// The judge of all this is itself judged: on a device whose fsync of one kind of file does nothing, it must find losses.
#[test]
fn a_device_that_lies_about_any_kind_of_file_is_found_out() {
    let store = Furnished::new().unwrap();
    let selection = selection(2, 0);
    let lies: [(&str, &[Step]); 5] = [
        ("meta-", &[Step::PutInline]),
        ("blob-", &[Step::PutChunked]),
        ("/groups/", &[Step::Overwrite, Step::Checkpoint]),
        ("/places/", &[Step::Delete, Step::Checkpoint]),
        ("CURRENT", &[Step::Overwrite, Step::Checkpoint]),
    ];
    for (lie, steps) in lies {
        let mut walk = Walk::new(&selection).lying_about(lie);
        walk.sequence(&store, steps);
        let tally = walk.finish();
        println!(
            "{lie}: {} of {} states failed",
            tally.failures.len(),
            tally.judged
        );
        assert!(
            !tally.failures.is_empty(),
            "nobody noticed that {lie} is not fsynced"
        );
    }
}

/// A power cut at any moment of a node's first start leaves a directory that it starts on.
#[test]
fn a_first_start_cut_anywhere_starts_again() {
    let selection = selection(7, 400);
    let mut walk = Walk::new(&selection);
    walk.first_start();
    assert_clean(&walk.finish());
}

/// A crash at any moment of any one or two steps, and again at any moment of the recovery, loses nothing acknowledged and
/// brings nothing back.
#[test]
fn a_crash_anywhere_loses_nothing_acknowledged() {
    let store = Furnished::new().unwrap();
    let selection = selection(97, 997);
    let mut tally = Tally::default();
    for steps in Step::sequences() {
        let mut walk = Walk::new(&selection);
        walk.sequence(&store, &steps);
        tally.add(walk.finish());
    }
    assert_clean(&tally);
}

/// The same of transactions between groups of one node: a crash at any moment of prepare, commit, abort, finish and drop
/// leaves all of a transaction or nothing, and what was cut short ends.
#[test]
fn a_crash_anywhere_leaves_no_half_of_a_transaction() {
    let store = Furnished::shaped(Shape::TWO_GROUPS).unwrap();
    let selection = selection(397, 4001);
    let mut tally = Tally::default();
    for steps in Step::sequences_of_two_groups() {
        let mut walk = Walk::new(&selection);
        walk.sequence(&store, &steps);
        tally.add(walk.finish());
    }
    assert_clean(&tally);
}
