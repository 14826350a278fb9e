//! Random lives and deaths, by seed. See `minikv_tests::lives`; `lives --seeds N` runs many.

#![allow(clippy::unwrap_used)]

use minikv_tests::lives::lives;

/// Whatever clients do at the same time, and however often the node dies of it, it keeps its promises.
#[test]
fn a_node_that_dies_again_and_again_keeps_what_it_acknowledged() {
    let seeds = std::env::var("MINIKV_LIVES_SEEDS").map_or(12, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let lived = lives(seed, 12).unwrap();
        println!("seed {seed}: {lived:?}");
    }
}
