//! Nodes come to a simulated cluster and leave it, while nothing that was written is lost and everything goes on.
#![allow(clippy::unwrap_used)]

mod changes;
mod coming_back;
mod elsewhere;
mod world;
