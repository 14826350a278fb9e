//! gateway
pub mod auth;
pub mod object;
pub mod ops;
pub mod store;
pub mod tenancy;
