//! gateway
pub mod auth;
pub mod object;
