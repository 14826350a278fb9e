//! Promises of the log as a whole.
