//! Promises of the state, checked through `apply` alone: a world of one group, random histories, golden files.
#![allow(clippy::unwrap_used)]

pub(crate) mod world;

mod aging;
mod allowances;
mod golden;
mod golden_cluster;
mod golden_lock;
mod history;
mod hostile;
mod listing;
mod locks;
mod locks_model;
mod members;
mod model;
mod objects;
mod sessions;
mod tags;
mod transactions;
mod uploads;
