//! A group's replicated state and the rules that change it: pure, no clock, no disk.
//!
//! ```text
//!   entry --> apply(view, entry) --> changes of rows + answer + bytes that may be dropped
//! ```
//! `apply` is the table of contents; each kind of entry has its rules in a file of its own. `read` and `list` look at
//! a view; `keys` says where rows lie; `record` what content is. Nothing here knows an engine, only its `View`.

pub mod answer;
pub mod apply;
pub mod entry;
pub mod intent;
pub mod keys;
pub mod record;
