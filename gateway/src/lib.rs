//! The gateway: speaks S3 and HTTP, and keeps nothing of its own.
//!
//! Direction of knowledge: `serve -> {s3, http} -> ops -> {auth, tenancy, object, store}`; `object` is pure and knows
//! none of them; only `s3` knows S3's wire types; only `store` knows how the core is reached. `cli` is the outermost:
//! it starts `serve`, or is a client of a server somewhere else.

pub mod auth;
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a client lives in real time, outside of any simulation"
)]
pub mod cli;
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "settings are read before anything runs"
)]
pub mod config;
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "sockets, probes and uptime are real; simulations begin at ops"
)]
pub mod http;
pub mod object;
pub mod ops;
pub mod s3;
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "sockets, signals and timeouts are real; simulations begin at ops"
)]
pub mod serve;
pub mod store;
pub mod tenancy;
