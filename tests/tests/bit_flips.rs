//! One flipped bit in everything that lies on the disk: what is still served, what is refused, what `status` says.
//! The table is docs/damage.md; every row names its test here.
//!
//! Always true, of every spot: a wrong byte is never served, what is there is never called absent, nothing panics.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use minikv_core::env::sim::SimDisk;
use minikv_tests::client::Ledger;
use minikv_tests::life::{self, Furnished};
use minikv_tests::observe::{self, Careful};
use minikv_tests::on_disk::{Kind, Spot, spots};
use minikv_tests::world::{World, small_options};

/// What came of a damaged disk.
#[derive(Clone, Default, Debug)]
struct Outcome {
    /// Why the node did not start.
    stopped: Option<String>,
    /// What it served and refused.
    found: Careful,
    /// What `status` says.
    status: Vec<String>,
}

/// Starts on this disk and asks for everything. A wrong answer, a panic or a hang is the error.
fn live_with(disk: &SimDisk, ledger: &Ledger) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    life::stage(5, async {
        let world = match World::start(disk, &small_options(), ledger.clone()).await {
            Ok(world) => world,
            Err(error) => {
                outcome.stopped = Some(error.to_string());
                return Ok(());
            }
        };
        let known = ledger.lock().clone();
        let found = observe::carefully(world.client.kv(), &known).await;
        outcome.found = found.map_err(|broken| broken.to_string())?;
        outcome.status = world.node.status().await.damage;
        Ok(())
    })?;
    Ok(outcome)
}

/// First byte, last byte and one between, of a spot.
fn bytes_of(spot: &Spot) -> Vec<u64> {
    let mut bytes = vec![spot.at, spot.at + spot.len / 2, spot.at + spot.len - 1];
    bytes.dedup();
    bytes
}

/// At most so many of them, spread over all.
fn some(spots: Vec<Spot>, most: usize) -> Vec<Spot> {
    let stride = spots.len().div_ceil(most).max(1);
    spots.into_iter().step_by(stride).collect()
}

fn by_kind(disk: &SimDisk) -> BTreeMap<Kind, Vec<Spot>> {
    let mut kinds: BTreeMap<Kind, Vec<Spot>> = BTreeMap::new();
    for spot in spots(disk).into_iter().filter(|spot| spot.len > 0) {
        kinds.entry(spot.kind).or_default().push(spot);
    }
    kinds
}

/// The promise that holds for all spots at once; the others say more about single kinds.
#[test]
fn a_flipped_bit_anywhere_never_gives_a_wrong_answer() {
    let store = Furnished::new().unwrap();
    let most = std::env::var("MINIKV_FLIPS").map_or(4, |most| most.parse().unwrap());
    let mut wrong = Vec::new();
    let kinds = by_kind(&store.copy().0);
    for (kind, spots) in kinds {
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for spot in some(spots, most) {
            for byte in bytes_of(&spot) {
                let (disk, ledger) = store.copy();
                disk.flip_bit(&spot.path, byte, (byte % 8) as u8).unwrap();
                match live_with(&disk, &ledger) {
                    Ok(outcome) => *seen.entry(told(&outcome)).or_default() += 1,
                    Err(what) => wrong.push(format!("{spot:?}, byte {byte}: {what}")),
                }
            }
        }
        println!("{kind:?}");
        seen.iter()
            .for_each(|(told, times)| println!("    {times} x {told}"));
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn told(outcome: &Outcome) -> String {
    match &outcome.stopped {
        Some(why) => format!("does not start: {why}"),
        None => format!(
            "refused {:?}; status {:?}",
            outcome.found.refused, outcome.status
        ),
    }
}
