//! The S3 port from outside: requests as clients sign and frame them, against a real node in a temporary directory.
//!
//! One file per kind of call; `world` starts the node and is the client.
#![allow(clippy::unwrap_used, missing_docs)]

mod attributes;
mod bad_input;
mod buckets;
mod checksums;
mod compression;
mod copies;
mod cors;
mod documents;
mod encryption;
mod forms;
mod lifecycle;
mod listings;
mod locks;
mod multipart;
mod objects;
mod operations;
mod settings;
mod tagging;
mod users;
mod versions;
mod world;
