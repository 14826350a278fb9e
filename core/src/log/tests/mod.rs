//! Promises of the log as a whole, on the simulated disk.
//!
//! `harness` has small options, ways to open and write, and a model: what each group's log should be. The other files
//! hold one kind of promise each.

#![allow(clippy::unwrap_used)]

mod compacting;
mod crashes;
mod damaging;
mod figures;
mod harness;
mod layout;
mod room;
mod writing;
