//! Deciding what an S3 call means, as plain code: values in, values out.
//!
//! Nothing here knows a clock, a disk, a socket or the core. What a file is called is what it decides:
//! which bytes a range asks for (`get_plan`), whether a condition holds (`conditions`), what a list of parts
//! comes to (`complete_plan`).

pub mod attributes;
pub mod bucket_settings;
pub mod checksum;
pub mod complete_plan;
pub mod compression;
pub mod conditions;
pub mod copy_plan;
pub mod cors;
pub mod dates;
pub mod encryption;
pub mod etag;
pub mod get_plan;
pub mod lifecycle;
pub mod listing;
pub mod lock;
pub mod metadata;
pub mod name;
pub mod put_plan;
pub mod record;
pub mod tags;
pub mod token;
