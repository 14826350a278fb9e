//! What clients call a version.

use std::fmt;

use crate::object::record::{ListedRecord, ObjectRecord, RecordError};
use crate::object::tags::Tags;
use crate::ops::OpError;
use crate::store::{Bucket, Version, VersionId, VersionSelector, Versioning, Written};

/// The name of a version on the wire: `null`, or 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VersionName {
    /// Written while versioning was off or suspended.
    Null,
    /// Any other.
    Id(VersionId),
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionName::Null => f.write_str("null"),
            VersionName::Id(id) => id.fmt(f),
        }
    }
}

impl VersionName {
    /// Of a version.
    pub fn of(id: VersionId, is_null: bool) -> VersionName {
        if is_null {
            VersionName::Null
        } else {
            VersionName::Id(id)
        }
    }

    /// As answers carry it: not at all while the bucket never had versioning. That a version has an id of its own is the
    /// later news, when `bucket` was looked up before versioning was turned on.
    pub fn shown(bucket: &Bucket, id: VersionId, is_null: bool) -> Option<VersionName> {
        let shows = bucket.versioning != Versioning::Off || !is_null;
        shows.then(|| VersionName::of(id, is_null))
    }

    /// Of what was written.
    pub fn written(bucket: &Bucket, written: &Written) -> Option<VersionName> {
        VersionName::shown(bucket, written.id, written.is_null)
    }

    /// Which version `?versionId=` means.
    pub fn select(text: Option<&str>) -> Result<VersionSelector, OpError> {
        match text {
            None => Ok(VersionSelector::Current),
            Some("null") => Ok(VersionSelector::Null),
            Some(text) => match VersionId::parse(text) {
                Some(id) => Ok(VersionSelector::Id(id)),
                None => Err(OpError::argument(
                    "versionId",
                    "Invalid version id specified",
                )),
            },
        }
    }
}

/// The tags of a version. Bytes that cannot be read are damage, and named so.
pub fn tags_of(bucket: &Bucket, version: &Version) -> Result<Tags, OpError> {
    Tags::decode(&version.new.tags).map_err(|error| damaged(bucket, version, &error))
}

/// The record of a version. One that cannot be read is damage, and named so.
pub fn record_of(bucket: &Bucket, version: &Version) -> Result<ObjectRecord, OpError> {
    ObjectRecord::decode(&version.new.meta).map_err(|error| damaged(bucket, version, &error))
}

/// What a listing shows of a version's record. One that cannot be read is damage, and named so.
pub fn listed_record_of(bucket: &Bucket, version: &Version) -> Result<ListedRecord, OpError> {
    ListedRecord::decode(version.new.meta.clone()).map_err(|error| damaged(bucket, version, &error))
}

fn damaged(bucket: &Bucket, version: &Version, error: &RecordError) -> OpError {
    OpError::Damaged {
        object: format!("{}/{}", bucket.name, String::from_utf8_lossy(&version.key)),
        what: error.to_string(),
    }
}
