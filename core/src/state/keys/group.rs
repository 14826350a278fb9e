//! Keys of the group's own rows.

use bytes::Bytes;

use super::{Key, KeyRange, group_fields, parse_item};
use crate::ids::{BucketId, GroupId, PayloadId, StageId, TenantId, TxnId, VShard};

/// The group's own rows.
const SPACE: u16 = 0x0100;

const GROUP: u8 = 0x01;
const VSHARD: u8 = 0x02;
const MEMBERS: u8 = 0x03;
const SHORT: u8 = 0x04;
const SESSION: u8 = 0x05;
const RESULT: u8 = 0x06;
const BUCKET: u8 = 0x07;
const TENANT: u8 = 0x08;
const FREE: u8 = 0x09;
const FREE_UPLOAD: u8 = 0x0A;
const TXN: u8 = 0x0B;
const PREPARED: u8 = 0x0C;
const SHARE: u8 = 0x0D;
const SHORT_OF: u8 = 0x0E;

/// The group itself.
pub fn the_group() -> Bytes {
    Key::new(SPACE, GROUP, 0).done()
}

/// A vshard that the group owns.
pub fn vshard(vshard: VShard) -> Bytes {
    Key::new(SPACE, VSHARD, 1).u8(vshard.0).done()
}

/// All vshards that the group owns.
pub fn vshards() -> KeyRange {
    Key::new(SPACE, VSHARD, 0).range()
}

/// The vshard of a `vshard` row.
pub fn parse_vshard(row_key: &[u8]) -> Option<VShard> {
    match group_fields(row_key, VSHARD)? {
        [vshard] => Some(VShard(*vshard)),
        _ => None,
    }
}

/// The members of the group.
pub fn members() -> Bytes {
    Key::new(SPACE, MEMBERS, 0).done()
}

/// Chunks from `first` on of which a member lacks its copy.
pub fn short(stage: StageId, first: u32) -> Bytes {
    Key::new(SPACE, SHORT, 18).stage(stage).u32(first).done()
}

/// The short list's items of one stage.
pub fn shorts_of(stage: StageId) -> KeyRange {
    Key::new(SPACE, SHORT, 14).stage(stage).range()
}

/// The whole short list.
pub fn shorts() -> KeyRange {
    Key::new(SPACE, SHORT, 0).range()
}

/// How many items of the short list name a node.
pub fn short_of(node: u64) -> Bytes {
    Key::new(SPACE, SHORT_OF, 8).u64(node).done()
}

/// The counts of all nodes that the short list names.
pub fn shorts_of_nodes() -> KeyRange {
    Key::new(SPACE, SHORT_OF, 0).range()
}

/// The node of a `short of` row.
pub fn parse_short_of(row_key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(
        group_fields(row_key, SHORT_OF)?.try_into().ok()?,
    ))
}

/// Stage and first chunk of a `short` row.
pub fn parse_short(row_key: &[u8]) -> Option<(StageId, u32)> {
    let rest = group_fields(row_key, SHORT)?;
    if rest.len() != 18 {
        return None;
    }
    let stage = StageId {
        group: GroupId(u16::from_be_bytes(rest[..2].try_into().ok()?)),
        incarnation: u32::from_be_bytes(rest[2..6].try_into().ok()?),
        index: u64::from_be_bytes(rest[6..14].try_into().ok()?),
    };
    Some((stage, u32::from_be_bytes(rest[14..].try_into().ok()?)))
}

/// A session.
pub fn session(session: u64) -> Bytes {
    Key::new(SPACE, SESSION, 8).u64(session).done()
}

/// All sessions.
pub fn sessions() -> KeyRange {
    Key::new(SPACE, SESSION, 0).range()
}

/// The id of a `session` row.
pub fn parse_session(row_key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(
        group_fields(row_key, SESSION)?.try_into().ok()?,
    ))
}

/// The final result of a command.
pub fn result(session: u64, sequence: u64) -> Bytes {
    Key::new(SPACE, RESULT, 16)
        .u64(session)
        .u64(sequence)
        .done()
}

/// All results of a session.
pub fn results(session: u64) -> KeyRange {
    Key::new(SPACE, RESULT, 8).u64(session).range()
}

/// What the group knows of a bucket.
pub fn bucket(bucket: BucketId) -> Bytes {
    Key::new(SPACE, BUCKET, 8).u64(bucket.0).done()
}

/// All buckets the group knows of.
pub fn buckets() -> KeyRange {
    Key::new(SPACE, BUCKET, 0).range()
}

/// The id of a `bucket` row.
pub fn parse_bucket(row_key: &[u8]) -> Option<BucketId> {
    Some(BucketId(u64::from_be_bytes(
        group_fields(row_key, BUCKET)?.try_into().ok()?,
    )))
}

/// What the group knows of a tenant.
pub fn tenant(tenant: TenantId) -> Bytes {
    Key::new(SPACE, TENANT, 8).u64(tenant.0).done()
}

/// All tenants the group knows of.
pub fn tenants() -> KeyRange {
    Key::new(SPACE, TENANT, 0).range()
}

/// The id of a `tenant` row.
pub fn parse_tenant(row_key: &[u8]) -> Option<TenantId> {
    Some(TenantId(u64::from_be_bytes(
        group_fields(row_key, TENANT)?.try_into().ok()?,
    )))
}

/// An item of the free list: the n-th that the entry at `index` freed.
pub fn free(index: u64, ordinal: u32) -> Bytes {
    Key::new(SPACE, FREE, 12).u64(index).u32(ordinal).done()
}

/// The free list in the order of freeing, from the entry at `index` on.
pub fn frees_from(index: u64) -> KeyRange {
    let all = Key::new(SPACE, FREE, 0).range();
    KeyRange {
        from: free(index, 0),
        to: all.to,
    }
}

/// Index and ordinal of a `free` row.
pub fn parse_free(row_key: &[u8]) -> Option<(u64, u32)> {
    parse_item(group_fields(row_key, FREE)?)
}

/// An upload on the free list.
pub fn free_upload(index: u64, ordinal: u32) -> Bytes {
    Key::new(SPACE, FREE_UPLOAD, 12)
        .u64(index)
        .u32(ordinal)
        .done()
}

/// The uploads on the free list, in the order of freeing.
pub fn free_uploads() -> KeyRange {
    Key::new(SPACE, FREE_UPLOAD, 0).range()
}

/// The coordinator's record of a transaction.
pub fn txn(txn: TxnId) -> Bytes {
    Key::new(SPACE, TXN, 18).txn(txn).done()
}

/// All records of transactions.
pub fn txns() -> KeyRange {
    Key::new(SPACE, TXN, 0).range()
}

/// A participant's part of a transaction.
pub fn prepared(txn: TxnId) -> Bytes {
    Key::new(SPACE, PREPARED, 18).txn(txn).done()
}

/// All prepared parts.
pub fn prepareds() -> KeyRange {
    Key::new(SPACE, PREPARED, 0).range()
}

/// How many contents name pieces of a payload. One transaction's pieces lie in several vshards: the group counts them.
pub fn share_of_payload(payload: PayloadId) -> Bytes {
    Key::new(SPACE, SHARE, 18)
        .u16(payload.group.0)
        .u64(payload.index)
        .u64(payload.term)
        .done()
}
