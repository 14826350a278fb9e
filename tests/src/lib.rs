//! minikv's promises, checked from outside.
//!
//! `model` says what a store is, `oracle` judges what one shows after a history, `content` makes bytes that say what
//! they are. In a simulation: `client` asks and writes down, `observe` reads everything back, `counts` recounts, `world`
//! is one node, `steps` what it does, `life` its stages, `crash` all its deaths, `lives` many in a row.
//! `cluster` is several nodes with a network between them, in a storm; `invariants` is what must hold there.
//! With real processes: `server` starts and kills them, `s3` talks to them, `load` keeps the history.

#![allow(
    clippy::result_large_err,
    reason = "a broken promise is reported once, with all that is known of it"
)]
pub mod client;
pub mod cluster;
pub mod content;
pub mod counts;
pub mod crash;
pub mod damaged;
pub mod dice;
pub mod invariants;
pub mod life;
pub mod lives;
pub mod load;
pub mod model;
pub mod observe;
pub mod on_disk;
pub mod oracle;
pub mod s3;
pub mod server;
pub mod steps;
pub mod world;

/// Switches a planted bug on for the rest of the process, in a build that has some.
#[cfg(feature = "planted")]
pub fn plant(bug: &str) -> Result<(), String> {
    match minikv_core::planted::plant(bug) {
        true => Ok(()),
        false => Err("another bug is planted already".to_owned()),
    }
}

/// There are none in this build.
#[cfg(not(feature = "planted"))]
pub fn plant(_: &str) -> Result<(), String> {
    Err("there are no bugs in this build; build it with --features planted".to_owned())
}
