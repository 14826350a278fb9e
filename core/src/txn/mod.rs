//! Transactions over several groups: two-phase commit between groups that each agree by themselves.
//!
//! Elsewhere: what prepare, commit and abort do to a group's state (`state::{prepare, decide}`).

pub(crate) mod driver;
