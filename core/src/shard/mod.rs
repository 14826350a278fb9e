//! From a key to the group that owns it.
//!
//! ```text
//!   (bucket, key) --xxh3--> vshard (256) --map--> group (1..) --registry--> this node's member of it
//! ```
//! Elsewhere: what a group does with a command (`group`).

pub(crate) mod directory;
mod map;
pub(crate) mod planner;
mod rendezvous;
pub(crate) mod router;
