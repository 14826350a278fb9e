//! The gateway: speaks S3 and HTTP, and keeps nothing of its own.
//!
//! Direction of knowledge: `serve -> {s3, http} -> ops -> {auth, tenancy, object, store}`; `object` is pure and knows
//! none of them; only `s3` knows S3's wire types; only `store` knows how the core is reached. `cli` is the outermost:
//! it starts `serve`, or is a client of a server somewhere else.

pub mod auth;
pub mod cli;
pub mod config;
pub mod http;
pub mod object;
pub mod serve;
