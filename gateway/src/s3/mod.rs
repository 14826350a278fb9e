//! S3 on the wire.
//!
//! ```text
//!   request -> front       form, signature, what is asked for, the body's framing
//!           -> s3s         which operation, its query and XML
//!           -> wire        s3s's types <-> ops' types, a file for each kind of call
//!           -> ops         does it
//!           -> front       our errors in S3's words, request ids
//! ```
//! s3s is given only what it needs to find the operation and read its query and XML. Signatures, framing, headers,
//! bodies and errors are ours: see `docs/decisions/own-signatures.md`.

mod access;
mod acl;
mod attributes;
pub mod aws_chunked;
mod buckets;
mod call;
pub mod copy_source;
mod cors;
mod encryption;
pub mod error;
pub mod form_body;
mod front;
pub mod header_rules;
mod headers;
pub mod host;
mod lifecycle;
mod listings;
mod lock;
mod objects;
mod post_object;
pub mod reply_body;
pub mod request_body;
pub mod request_id;
pub mod request_xml;
pub mod route;
pub mod service;
mod tagging;
mod unconfigured;
mod uploads;
mod wire;
mod xml;

/// The operation of an answer, as S3 calls it (`PutObject`), as an extension of the response: for metrics and logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApiName(pub &'static str);
