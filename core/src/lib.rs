//! A strongly consistent, ordered, transactional KV core whose values may be huge.
//!
//! It knows keys, versions, conditions, content (inline or chunks) and usage. Metadata and XML are opaque to it.
//! Direction of knowledge: `kv -> txn -> shard -> group -> {state, chunk} -> {engine, log} -> env`, never upward.

pub mod chunk;
pub mod engine;
pub mod env;
pub mod group;
pub mod ids;
pub mod kv;
pub mod log;
pub mod node;
pub mod planted;
pub mod shard;
pub mod state;
pub mod txn;
