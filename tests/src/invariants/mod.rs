//! What must hold in a cluster whatever happens: one file each.
//!
//! `agreement`, `boots` and `copies` look on while it happens (`memberships` tells them who votes); `linearizable`,
//! `versioned` and `bucket_life` judge what clients were told, by one search (`order`); `leftovers`, `pairs`,
//! `chunks`, `usage` and `progress` look at what is there after everything has healed; `elections` at a cluster that nothing happened to.

pub mod agreement;
pub mod boots;
pub mod bucket_life;
pub mod chunks;
pub mod copies;
pub mod elections;
pub mod leftovers;
pub mod linearizable;
pub mod memberships;
pub mod order;
pub mod pairs;
pub mod progress;
pub mod usage;
pub mod versioned;
