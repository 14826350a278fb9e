//! Three nodes in one seed, a few seeds with every change; `simulate --seeds N` runs many.

use std::process::Command;

fn simulate(arguments: &[&str]) -> String {
    let ran = Command::new(env!("CARGO_BIN_EXE_simulate"))
        .args(arguments)
        .output();
    let ran = match ran {
        Ok(ran) => ran,
        Err(error) => panic!("simulate does not start: {error}"),
    };
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{said}");
    said
}

/// Crashes, cuts, slow disks, lost and late messages, drifting clocks: nothing acknowledged is lost, every read is one that
/// some order of the calls explains, copies are equal, and within ten seconds of healing every node serves.
#[test]
fn a_cluster_keeps_its_promises_through_storms() {
    let said = simulate(&["--seeds", "2", "--storm", "12", "--jobs", "2"]);
    assert!(said.contains(" 0 failed"), "{said}");
}

/// A node that was away for longer than the others keep log for it takes over a whole state, and holds the same afterwards.
#[test]
fn who_was_away_for_long_takes_over_a_whole_state() {
    let said = simulate(&[
        "--seeds",
        "2",
        "--from",
        "20",
        "--storm",
        "12",
        "--faults",
        "kill,power,isolate",
        "--jobs",
        "2",
    ]);
    assert!(said.contains(" 0 failed"), "{said}");
    assert!(!said.contains(" 0 whole states"), "{said}");
}

/// A disk that was put back to an earlier copy of itself, or came back empty, takes part in nothing any more.
#[test]
fn who_lost_its_disk_is_refused() {
    let said = simulate(&[
        "--seeds",
        "2",
        "--from",
        "30",
        "--storm",
        "12",
        "--faults",
        "rollback,wipe,kill",
        "--jobs",
        "2",
    ]);
    assert!(said.contains(" 0 failed"), "{said}");
    assert!(!said.contains(" 0 lost disks"), "{said}");
}

/// Nodes join, drain, are removed and replaced while others die and are cut off.
#[test]
fn nodes_come_and_go_in_a_storm() {
    let said = simulate(&[
        "--seeds",
        "4",
        "--from",
        "42",
        "--storm",
        "12",
        "--faults",
        "membership,kill,power,isolate,wipe",
        "--jobs",
        "2",
    ]);
    assert!(said.contains(" 0 failed"), "{said}");
    assert!(!said.contains(" 0 nodes removed"), "{said}");
}

/// A cluster of one node grows to three under way.
#[test]
fn one_node_grows_to_three_in_a_storm() {
    let said = simulate(&[
        "--seeds",
        "2",
        "--from",
        "50",
        "--nodes",
        "1",
        "--storm",
        "12",
        "--faults",
        "membership,kill,slow-disk,delay",
        "--jobs",
        "2",
    ]);
    assert!(said.contains(" 0 failed"), "{said}");
}

/// Where nothing happens nobody is elected anew, and everybody is answered.
#[test]
fn a_quiet_cluster_elects_nobody() {
    let said = simulate(&["--seeds", "1", "--storm", "15", "--faults", "none"]);
    assert!(said.contains("(0 of unknown outcome)"), "{said}");
}

/// The same seed gives the same world, step by step, in two processes.
#[test]
fn a_storm_can_be_replayed() {
    let said = simulate(&["--seeds", "1", "--from", "7", "--storm", "6", "--twice"]);
    assert!(said.contains(" 0 differ"), "{said}");
}

/// A minority of five may be gone.
#[test]
fn five_nodes_keep_the_same_promises() {
    let said = simulate(&[
        "--seeds", "1", "--from", "5", "--nodes", "5", "--storm", "8",
    ]);
    assert!(said.contains(" 0 failed"), "{said}");
}

/// Whoever drives a transaction or an upload dies or stops between two of its steps, is answered late or never, and asks a
/// leader that changes meanwhile: nothing happens by half, and nothing is left behind.
#[test]
fn whoever_drives_a_transaction_may_die_at_any_step() {
    let aimed = "driver-death,driver-delay,gateway-death,gateway-delay,leader-moves,kill-then-power,frames-lost,late-replies";
    let said = simulate(&[
        "--seeds", "2", "--from", "40", "--storm", "12", "--faults", aimed, "--jobs", "2",
    ]);
    assert!(said.contains(" 0 failed"), "{said}");
}

/// Versions and buckets behave as if every call on them happened at one moment, also while versioning is switched and
/// buckets come and go.
#[test]
fn versions_and_buckets_come_and_go_in_one_order() {
    let said = simulate(&[
        "--seeds",
        "2",
        "--from",
        "50",
        "--storm",
        "12",
        "--faults",
        "kill,power,partition,wall-jump",
        "--clients",
        "versions,buckets",
        "--jobs",
        "2",
    ]);
    assert!(said.contains(" 0 failed"), "{said}");
    assert!(said.contains(" 0 keys undecided"), "{said}");
}
