//! Keys of the directory's rows (group 0 only).

use bytes::Bytes;

use super::{Key, KeyRange};
use crate::ids::{BucketId, GroupId, TenantId, VShard};

/// The directory's rows.
const SPACE: u16 = 0x0200;

const CLUSTER: u8 = 0x01;
const COUNTERS: u8 = 0x02;
const BUCKET: u8 = 0x03;
const BUCKET_NAME: u8 = 0x04;
const PUSH: u8 = 0x05;
const TENANT: u8 = 0x06;
const TENANT_NAME: u8 = 0x07;
const OPAQUE: u8 = 0x08;
const CREDENTIAL: u8 = 0x09;
const NODE: u8 = 0x0A;
const PLACEMENT: u8 = 0x0B;
const VSHARD_HOME: u8 = 0x0C;

/// The cluster.
pub fn cluster() -> Bytes {
    Key::new(SPACE, CLUSTER, 0).done()
}

/// The next unused numbers.
pub fn counters() -> Bytes {
    Key::new(SPACE, COUNTERS, 0).done()
}

/// A bucket under its name.
pub fn directory_bucket(name: &str) -> Bytes {
    Key::new(SPACE, BUCKET, name.len())
        .raw(name.as_bytes())
        .done()
}

/// All buckets, by name.
pub fn directory_buckets() -> KeyRange {
    Key::new(SPACE, BUCKET, 0).range()
}

/// The name of a bucket.
pub fn bucket_name(bucket: BucketId) -> Bytes {
    Key::new(SPACE, BUCKET_NAME, 8).u64(bucket.0).done()
}

/// A change of facts that some groups have not confirmed.
pub fn push(bucket: BucketId) -> Bytes {
    Key::new(SPACE, PUSH, 8).u64(bucket.0).done()
}

/// All unfinished changes of facts.
pub fn pushes() -> KeyRange {
    Key::new(SPACE, PUSH, 0).range()
}

/// The bucket of a `push` row.
pub fn parse_push(row_key: &[u8]) -> Option<BucketId> {
    let kind = Key::new(SPACE, PUSH, 0).0;
    Some(BucketId(u64::from_be_bytes(
        row_key.strip_prefix(kind.as_slice())?.try_into().ok()?,
    )))
}

/// A tenant's record.
pub fn directory_tenant(tenant: TenantId) -> Bytes {
    Key::new(SPACE, TENANT, 8).u64(tenant.0).done()
}

/// All tenants' records.
pub fn directory_tenants() -> KeyRange {
    Key::new(SPACE, TENANT, 0).range()
}

/// The id (8 bytes, big-endian) of the tenant with this name.
pub fn tenant_name(name: &str) -> Bytes {
    Key::new(SPACE, TENANT_NAME, name.len())
        .raw(name.as_bytes())
        .done()
}

/// A row of one of the gateway's tables.
pub fn opaque(table: u8, key: &[u8]) -> Bytes {
    Key::new(SPACE, OPAQUE, 1 + key.len())
        .u8(table)
        .raw(key)
        .done()
}

/// One of the gateway's tables.
pub fn opaques(table: u8) -> KeyRange {
    Key::new(SPACE, OPAQUE, 1).u8(table).range()
}

/// A credential, under its access key.
pub fn credential(access_key: &str) -> Bytes {
    Key::new(SPACE, CREDENTIAL, access_key.len())
        .raw(access_key.as_bytes())
        .done()
}

/// All credentials.
pub fn credentials() -> KeyRange {
    Key::new(SPACE, CREDENTIAL, 0).range()
}

/// The access key of a `credential` row.
pub fn parse_credential(row_key: &[u8]) -> Option<&str> {
    let kind = Key::new(SPACE, CREDENTIAL, 0).0;
    std::str::from_utf8(row_key.strip_prefix(kind.as_slice())?).ok()
}

/// A node.
pub fn node(node: u64) -> Bytes {
    Key::new(SPACE, NODE, 8).u64(node).done()
}

/// All nodes.
pub fn nodes() -> KeyRange {
    Key::new(SPACE, NODE, 0).range()
}

/// The nodes of a group.
pub fn placement(group: GroupId) -> Bytes {
    Key::new(SPACE, PLACEMENT, 2).u16(group.0).done()
}

/// The nodes of all groups.
pub fn placements() -> KeyRange {
    Key::new(SPACE, PLACEMENT, 0).range()
}

/// The group of a `placement` row.
pub fn parse_placement(row_key: &[u8]) -> Option<GroupId> {
    let kind = Key::new(SPACE, PLACEMENT, 0).0;
    let group = row_key.strip_prefix(kind.as_slice())?.try_into().ok()?;
    Some(GroupId(u16::from_be_bytes(group)))
}

/// The group of a vshard.
pub fn vshard_home(vshard: VShard) -> Bytes {
    Key::new(SPACE, VSHARD_HOME, 1).u8(vshard.0).done()
}

/// The groups of all vshards.
pub fn vshard_homes() -> KeyRange {
    Key::new(SPACE, VSHARD_HOME, 0).range()
}
