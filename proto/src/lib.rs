//! Rows, entries and messages, generated from the .proto files beside this crate. Depends on nothing of ours.

/// Rows of replicated state.
#[allow(missing_docs, clippy::all)]
pub mod row {
    include!(concat!(env!("OUT_DIR"), "/minikv.row.rs"));
}

/// Entries that a group agrees on, and their answers.
#[allow(missing_docs, clippy::all)]
pub mod entry {
    include!(concat!(env!("OUT_DIR"), "/minikv.entry.rs"));
}

/// Messages between nodes.
#[allow(missing_docs, clippy::all)]
pub mod peer {
    include!(concat!(env!("OUT_DIR"), "/minikv.peer.rs"));
}
