//! Transactions over several groups: two-phase commit between groups that each agree by themselves.
//!
//! ```text
//!   pending (coordinator's group) ─┐
//!   prepare (participants)         ┴─ all said yes ──> commit (coordinator's group) ──> answered ──> finish, drop
//!                                     somebody said no ──> aborted (coordinator's group) ──> finish, drop ──> refused
//! ```
//! `coordinator` decides what is proposed next, `participant` what an answer of a group means, `recovery` what whoever
//! meets an intent does about it: all three are values in, values out. Carrying the steps out is the driver's.
//!
//! Elsewhere: what pending, prepare, commit and finish do to a group's state (`state::{decide, prepare}`).

pub mod coordinator;
pub(crate) mod driver;
pub mod participant;
pub mod recovery;

#[cfg(test)]
mod model;
