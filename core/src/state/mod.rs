//! A group's replicated state and the rules that change it: pure, no clock, no disk.
//!
//! ```text
//!   entry --> apply(view, entry) --> changes of rows + answer + bytes that may be dropped
//! ```
//! `apply` is the table of contents; each kind of entry has its rules in a file of its own. `read` and `list` look at
//! a view; `keys` says where rows lie; `record` what content is. Nothing here knows an engine, only its `View`.

mod allowance;
pub mod answer;
pub mod apply;
mod applying;
mod conditions;
mod content;
mod copy;
mod decide;
mod delete;
mod directory;
pub mod entry;
mod expire;
mod facts;
mod forming;
mod free_list;
pub mod intent;
pub mod keys;
mod ledger;
mod list;
pub mod list_merge;
pub mod list_uploads;
pub mod list_versions;
pub(crate) mod lock;
mod nodes;
pub(crate) mod placement;
mod prepare;
mod put;
pub mod read;
pub mod record;
pub mod session;
mod stage;
mod tags;
pub mod transact;
mod upload;
mod usage;
mod version;

#[cfg(test)]
pub(crate) mod tests;
