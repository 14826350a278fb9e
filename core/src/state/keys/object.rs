//! Keys in a vshard's space: everything of an object moves with its vshard.

use bytes::Bytes;

use super::{Key, KeyRange, UploadName, fields, parse_object};
use crate::ids::{BucketId, GroupId, StageId, VShard};

const CURRENT: u8 = 0x01;
const OLDER: u8 = 0x02;
const STAGE: u8 = 0x03;
const OPEN_UPLOAD: u8 = 0x04;
const UPLOAD: u8 = 0x05;
const PART: u8 = 0x06;
const SHARE: u8 = 0x07;

/// The newest version of a key.
pub fn current(vshard: VShard, bucket: BucketId, key: &[u8]) -> Bytes {
    Key::of(vshard, CURRENT, key.len() + 12)
        .u64(bucket.0)
        .key(key)
        .done()
}

/// The newest versions of all keys of a bucket that start with `prefix`.
pub fn currents(vshard: VShard, bucket: BucketId, prefix: &[u8]) -> KeyRange {
    Key::of(vshard, CURRENT, prefix.len() + 12)
        .u64(bucket.0)
        .open_key(prefix)
        .range()
}

/// Bucket and key of a `current` row.
pub fn parse_current(row_key: &[u8]) -> Option<(BucketId, Bytes)> {
    let (bucket, key, rest) = parse_object(row_key, CURRENT)?;
    rest.is_empty().then_some((bucket, key))
}

/// A version that is not the newest. Newer ones come first.
pub fn older(vshard: VShard, bucket: BucketId, key: &[u8], seq: u64) -> Bytes {
    Key::of(vshard, OLDER, key.len() + 20)
        .u64(bucket.0)
        .key(key)
        .u64(!seq)
        .done()
}

/// All versions of one key but the newest, newer ones first.
pub fn olders_of_key(vshard: VShard, bucket: BucketId, key: &[u8]) -> KeyRange {
    Key::of(vshard, OLDER, key.len() + 12)
        .u64(bucket.0)
        .key(key)
        .range()
}

/// The older versions of all keys of a bucket that start with `prefix`.
pub fn olders(vshard: VShard, bucket: BucketId, prefix: &[u8]) -> KeyRange {
    Key::of(vshard, OLDER, prefix.len() + 12)
        .u64(bucket.0)
        .open_key(prefix)
        .range()
}

/// Bucket, key and sequence of an `older` row.
pub fn parse_older(row_key: &[u8]) -> Option<(BucketId, Bytes, u64)> {
    let (bucket, key, rest) = parse_object(row_key, OLDER)?;
    Some((bucket, key, !u64::from_be_bytes(rest.try_into().ok()?)))
}

/// An open stage.
pub fn stage(vshard: VShard, stage: StageId) -> Bytes {
    Key::of(vshard, STAGE, 14).stage(stage).done()
}

/// All open stages of a vshard.
pub fn stages(vshard: VShard) -> KeyRange {
    Key::of(vshard, STAGE, 0).range()
}

/// The stage of a `stage` row.
pub fn parse_stage(row_key: &[u8]) -> Option<StageId> {
    let rest = fields(row_key, STAGE)?;
    if rest.len() != 14 {
        return None;
    }
    Some(StageId {
        group: GroupId(u16::from_be_bytes(rest[..2].try_into().ok()?)),
        incarnation: u32::from_be_bytes(rest[2..6].try_into().ok()?),
        index: u64::from_be_bytes(rest[6..].try_into().ok()?),
    })
}

/// An open upload, as listings see it.
pub fn open_upload(vshard: VShard, bucket: BucketId, key: &[u8], upload: &UploadName) -> Bytes {
    Key::of(vshard, OPEN_UPLOAD, key.len() + 28)
        .u64(bucket.0)
        .key(key)
        .raw(upload)
        .done()
}

/// The open uploads of all keys of a bucket that start with `prefix`.
pub fn open_uploads(vshard: VShard, bucket: BucketId, prefix: &[u8]) -> KeyRange {
    Key::of(vshard, OPEN_UPLOAD, prefix.len() + 12)
        .u64(bucket.0)
        .open_key(prefix)
        .range()
}

/// The open uploads of a vshard.
pub fn all_open_uploads(vshard: VShard) -> KeyRange {
    Key::of(vshard, OPEN_UPLOAD, 0).range()
}

/// All open uploads of one key.
pub fn open_uploads_of_key(vshard: VShard, bucket: BucketId, key: &[u8]) -> KeyRange {
    Key::of(vshard, OPEN_UPLOAD, key.len() + 12)
        .u64(bucket.0)
        .key(key)
        .range()
}

/// Bucket, key and upload of an `open upload` row.
pub fn parse_open_upload(row_key: &[u8]) -> Option<(BucketId, Bytes, UploadName)> {
    let (bucket, key, rest) = parse_object(row_key, OPEN_UPLOAD)?;
    Some((bucket, key, rest.try_into().ok()?))
}

/// The changing half of an upload.
pub fn upload(vshard: VShard, upload: &UploadName) -> Bytes {
    Key::of(vshard, UPLOAD, 16).raw(upload).done()
}

/// A part.
pub fn part(vshard: VShard, upload: &UploadName, number: u16) -> Bytes {
    Key::of(vshard, PART, 18).raw(upload).u16(number).done()
}

/// All parts of an upload, ascending.
pub fn parts(vshard: VShard, upload: &UploadName) -> KeyRange {
    Key::of(vshard, PART, 16).raw(upload).range()
}

/// Upload and number of a `part` row.
pub fn parse_part(row_key: &[u8]) -> Option<(UploadName, u16)> {
    let rest = fields(row_key, PART)?;
    if rest.len() != 18 {
        return None;
    }
    Some((
        rest[..16].try_into().ok()?,
        u16::from_be_bytes(rest[16..].try_into().ok()?),
    ))
}

/// How many contents name the chunks of a stage.
pub fn share_of_chunks(vshard: VShard, stage: StageId) -> Bytes {
    Key::of(vshard, SHARE, 15).u8(1).stage(stage).done()
}

/// How many versions name an upload.
pub fn share_of_upload(vshard: VShard, upload: &UploadName) -> Bytes {
    Key::of(vshard, SHARE, 17).u8(2).raw(upload).done()
}
