//! One flipped bit in everything that lies on the disk: what is still served, what is refused, what `status` says.
//! The table is docs/damage.md; the rows one by one are in `damage.rs`, this is what holds for all of them.
//!
//! Always true, of every spot: a wrong byte is never served, what is there is never called absent, nothing panics.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use minikv_tests::damaged::{Outcome, by_kind, bytes_of, live_with, some};
use minikv_tests::life::Furnished;

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
            outcome.found.refused, outcome.damage
        ),
    }
}
