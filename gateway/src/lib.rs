//! gateway
pub mod auth;
pub mod object;
pub mod ops;
pub mod s3;
pub mod store;
pub mod tenancy;
