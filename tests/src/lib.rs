//! minikv's promises, checked from outside.
//!
//! `model` says what a store is, `oracle` judges what one shows after a history, `content` makes bytes that say what
//! they are.

pub mod client;
pub mod content;
pub mod model;
pub mod observe;
pub mod oracle;
