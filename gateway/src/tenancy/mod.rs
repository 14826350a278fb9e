//! Whose is it? Buckets belong to tenants; names are unique over all of them.

pub mod bucket;
