//! A group's replicated state and the rules that change it: pure, no clock, no disk.

pub mod record;
