//! The keys of rows: where in a group's state something lies.
//!
//! ```text
//!   space (u16)  kind (u8)  fields ...
//!   0x00VV       objects of vshard VV: everything of a key moves with its vshard
//!   0x0100       the group's own rows
//!   0x0200       the directory (group 0 only)
//! ```
//! Numbers are big-endian. An object key is escaped, because others follow it: 0x00 becomes 0x00 0xFF, and
//! 0x00 0x01 ends it.
//!
//! Always true:
//! * the order of row keys is the order of (bucket, object key, newest version first): a listing is one scan;
//! * a key is read back into exactly what it was made of, or not at all.
//!
//! Elsewhere: what a row holds (`row.proto`, docs/formats/keys.md).

use bytes::Bytes;

use crate::ids::{BucketId, GroupId, PayloadId, StageId, TenantId, TxnId, VShard};

/// The group's own rows.
const GROUP: u16 = 0x0100;
/// The directory's rows.
const DIRECTORY: u16 = 0x0200;

/// Kinds of rows in a vshard's space.
mod object {
    pub const CURRENT: u8 = 0x01;
    pub const OLDER: u8 = 0x02;
    pub const STAGE: u8 = 0x03;
    pub const OPEN_UPLOAD: u8 = 0x04;
    pub const UPLOAD: u8 = 0x05;
    pub const PART: u8 = 0x06;
    pub const SHARE: u8 = 0x07;
}

/// Kinds of rows in a group's space.
mod group {
    pub const GROUP: u8 = 0x01;
    pub const VSHARD: u8 = 0x02;
    pub const MEMBERS: u8 = 0x03;
    pub const SHORT: u8 = 0x04;
    pub const SESSION: u8 = 0x05;
    pub const RESULT: u8 = 0x06;
    pub const BUCKET: u8 = 0x07;
    pub const TENANT: u8 = 0x08;
    pub const FREE: u8 = 0x09;
    pub const FREE_UPLOAD: u8 = 0x0A;
    pub const TXN: u8 = 0x0B;
    pub const PREPARED: u8 = 0x0C;
    pub const SHARE: u8 = 0x0D;
}

/// Kinds of rows in the directory's space.
mod directory {
    pub const CLUSTER: u8 = 0x01;
    pub const COUNTERS: u8 = 0x02;
    pub const BUCKET: u8 = 0x03;
    pub const BUCKET_NAME: u8 = 0x04;
    pub const PUSH: u8 = 0x05;
    pub const TENANT: u8 = 0x06;
    pub const TENANT_NAME: u8 = 0x07;
    pub const OPAQUE: u8 = 0x08;
    pub const CREDENTIAL: u8 = 0x09;
    pub const NODE: u8 = 0x0A;
    pub const PLACEMENT: u8 = 0x0B;
    pub const VSHARD_HOME: u8 = 0x0C;
}

/// The name under which state keeps an upload (see `UploadId`).
pub type UploadName = [u8; 16];

/// A range of row keys, `from <= key < to`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// The first.
    pub from: Bytes,
    /// Past the last.
    pub to: Bytes,
}

/// A row key in the making.
struct Key(Vec<u8>);

impl Key {
    fn new(space: u16, kind: u8, room: usize) -> Key {
        let mut bytes = Vec::with_capacity(3 + room);
        bytes.extend_from_slice(&space.to_be_bytes());
        bytes.push(kind);
        Key(bytes)
    }

    fn of(vshard: VShard, kind: u8, room: usize) -> Key {
        Key::new(u16::from(vshard.0), kind, room)
    }

    fn u8(mut self, n: u8) -> Key {
        self.0.push(n);
        self
    }

    fn u16(mut self, n: u16) -> Key {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    fn u32(mut self, n: u32) -> Key {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    fn u64(mut self, n: u64) -> Key {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Key {
        self.0.extend_from_slice(bytes);
        self
    }

    /// An object key without its end: what every key that starts with it has in common.
    fn open_key(mut self, key: &[u8]) -> Key {
        for &byte in key {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xFF);
            }
        }
        self
    }

    fn key(self, key: &[u8]) -> Key {
        self.open_key(key).raw(&[0x00, 0x01])
    }

    fn stage(self, stage: StageId) -> Key {
        self.u16(stage.group.0)
            .u32(stage.incarnation)
            .u64(stage.index)
    }

    fn txn(self, txn: TxnId) -> Key {
        self.u16(txn.coordinator.0)
            .u64(txn.session)
            .u64(txn.sequence)
    }

    fn done(self) -> Bytes {
        Bytes::from(self.0)
    }

    /// All keys that start with this one.
    fn range(self) -> KeyRange {
        let to = successor(&self.0);
        KeyRange {
            from: Bytes::from(self.0),
            to,
        }
    }
}

/// The smallest key above everything that starts with `prefix`.
pub fn successor(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|&byte| byte != 0xFF);
    let kept = kept.map_or(0, |at| at + 1);
    assert!(
        kept > 0,
        "a row key begins with its space, which is never 0xFFFF"
    );
    let mut next = prefix[..kept].to_vec();
    next[kept - 1] += 1;
    Bytes::from(next)
}

/// The smallest key above `key`.
pub fn just_after(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    Bytes::from(next)
}

/// Every row of a group's state.
pub fn everything() -> KeyRange {
    KeyRange {
        from: Bytes::new(),
        to: Bytes::from_static(&[0xFF, 0xFF]),
    }
}

/// Every row of a vshard.
pub fn all_of_vshard(vshard: VShard) -> KeyRange {
    let space = u16::from(vshard.0);
    KeyRange {
        from: Bytes::copy_from_slice(&space.to_be_bytes()),
        to: Bytes::copy_from_slice(&(space + 1).to_be_bytes()),
    }
}

// ---- vshard space ----

/// The newest version of a key.
pub fn current(vshard: VShard, bucket: BucketId, key: &[u8]) -> Bytes {
    Key::of(vshard, object::CURRENT, key.len() + 12)
        .u64(bucket.0)
        .key(key)
        .done()
}

/// The newest versions of all keys of a bucket that start with `prefix`.
pub fn currents(vshard: VShard, bucket: BucketId, prefix: &[u8]) -> KeyRange {
    Key::of(vshard, object::CURRENT, prefix.len() + 12)
        .u64(bucket.0)
        .open_key(prefix)
        .range()
}

/// Bucket and key of a `current` row.
pub fn parse_current(row_key: &[u8]) -> Option<(BucketId, Bytes)> {
    let (bucket, key, rest) = parse_object(row_key, object::CURRENT)?;
    rest.is_empty().then_some((bucket, key))
}

/// A version that is not the newest. Newer ones come first.
pub fn older(vshard: VShard, bucket: BucketId, key: &[u8], seq: u64) -> Bytes {
    Key::of(vshard, object::OLDER, key.len() + 20)
        .u64(bucket.0)
        .key(key)
        .u64(!seq)
        .done()
}

/// All versions of one key but the newest, newer ones first.
pub fn olders_of_key(vshard: VShard, bucket: BucketId, key: &[u8]) -> KeyRange {
    Key::of(vshard, object::OLDER, key.len() + 12)
        .u64(bucket.0)
        .key(key)
        .range()
}

/// The older versions of all keys of a bucket that start with `prefix`.
pub fn olders(vshard: VShard, bucket: BucketId, prefix: &[u8]) -> KeyRange {
    Key::of(vshard, object::OLDER, prefix.len() + 12)
        .u64(bucket.0)
        .open_key(prefix)
        .range()
}

/// Bucket, key and sequence of an `older` row.
pub fn parse_older(row_key: &[u8]) -> Option<(BucketId, Bytes, u64)> {
    let (bucket, key, rest) = parse_object(row_key, object::OLDER)?;
    Some((bucket, key, !u64::from_be_bytes(rest.try_into().ok()?)))
}

/// An open stage.
pub fn stage(vshard: VShard, stage: StageId) -> Bytes {
    Key::of(vshard, object::STAGE, 14).stage(stage).done()
}

/// All open stages of a vshard.
pub fn stages(vshard: VShard) -> KeyRange {
    Key::of(vshard, object::STAGE, 0).range()
}

/// The stage of a `stage` row.
pub fn parse_stage(row_key: &[u8]) -> Option<StageId> {
    let rest = fields(row_key, object::STAGE)?;
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
    Key::of(vshard, object::OPEN_UPLOAD, key.len() + 28)
        .u64(bucket.0)
        .key(key)
        .raw(upload)
        .done()
}

/// The open uploads of all keys of a bucket that start with `prefix`.
pub fn open_uploads(vshard: VShard, bucket: BucketId, prefix: &[u8]) -> KeyRange {
    Key::of(vshard, object::OPEN_UPLOAD, prefix.len() + 12)
        .u64(bucket.0)
        .open_key(prefix)
        .range()
}

/// The open uploads of a vshard.
pub fn all_open_uploads(vshard: VShard) -> KeyRange {
    Key::of(vshard, object::OPEN_UPLOAD, 0).range()
}

/// All open uploads of one key.
pub fn open_uploads_of_key(vshard: VShard, bucket: BucketId, key: &[u8]) -> KeyRange {
    Key::of(vshard, object::OPEN_UPLOAD, key.len() + 12)
        .u64(bucket.0)
        .key(key)
        .range()
}

/// Bucket, key and upload of an `open upload` row.
pub fn parse_open_upload(row_key: &[u8]) -> Option<(BucketId, Bytes, UploadName)> {
    let (bucket, key, rest) = parse_object(row_key, object::OPEN_UPLOAD)?;
    Some((bucket, key, rest.try_into().ok()?))
}

/// The changing half of an upload.
pub fn upload(vshard: VShard, upload: &UploadName) -> Bytes {
    Key::of(vshard, object::UPLOAD, 16).raw(upload).done()
}

/// A part.
pub fn part(vshard: VShard, upload: &UploadName, number: u16) -> Bytes {
    Key::of(vshard, object::PART, 18)
        .raw(upload)
        .u16(number)
        .done()
}

/// All parts of an upload, ascending.
pub fn parts(vshard: VShard, upload: &UploadName) -> KeyRange {
    Key::of(vshard, object::PART, 16).raw(upload).range()
}

/// Upload and number of a `part` row.
pub fn parse_part(row_key: &[u8]) -> Option<(UploadName, u16)> {
    let rest = fields(row_key, object::PART)?;
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
    Key::of(vshard, object::SHARE, 15).u8(1).stage(stage).done()
}

/// How many versions name an upload.
pub fn share_of_upload(vshard: VShard, upload: &UploadName) -> Bytes {
    Key::of(vshard, object::SHARE, 17).u8(2).raw(upload).done()
}

// ---- group space ----

/// The group itself.
pub fn the_group() -> Bytes {
    Key::new(GROUP, group::GROUP, 0).done()
}

/// A vshard that the group owns.
pub fn vshard(vshard: VShard) -> Bytes {
    Key::new(GROUP, group::VSHARD, 1).u8(vshard.0).done()
}

/// All vshards that the group owns.
pub fn vshards() -> KeyRange {
    Key::new(GROUP, group::VSHARD, 0).range()
}

/// The vshard of a `vshard` row.
pub fn parse_vshard(row_key: &[u8]) -> Option<VShard> {
    match group_fields(row_key, group::VSHARD)? {
        [vshard] => Some(VShard(*vshard)),
        _ => None,
    }
}

/// The members of the group.
pub fn members() -> Bytes {
    Key::new(GROUP, group::MEMBERS, 0).done()
}

/// Chunks from `first` on of which a member lacks its copy.
pub fn short(stage: StageId, first: u32) -> Bytes {
    Key::new(GROUP, group::SHORT, 18)
        .stage(stage)
        .u32(first)
        .done()
}

/// The short list's items of one stage.
pub fn shorts_of(stage: StageId) -> KeyRange {
    Key::new(GROUP, group::SHORT, 14).stage(stage).range()
}

/// The whole short list.
pub fn shorts() -> KeyRange {
    Key::new(GROUP, group::SHORT, 0).range()
}

/// Stage and first chunk of a `short` row.
pub fn parse_short(row_key: &[u8]) -> Option<(StageId, u32)> {
    let rest = group_fields(row_key, group::SHORT)?;
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
    Key::new(GROUP, group::SESSION, 8).u64(session).done()
}

/// All sessions.
pub fn sessions() -> KeyRange {
    Key::new(GROUP, group::SESSION, 0).range()
}

/// The id of a `session` row.
pub fn parse_session(row_key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(
        group_fields(row_key, group::SESSION)?.try_into().ok()?,
    ))
}

/// The final result of a command.
pub fn result(session: u64, sequence: u64) -> Bytes {
    Key::new(GROUP, group::RESULT, 16)
        .u64(session)
        .u64(sequence)
        .done()
}

/// All results of a session.
pub fn results(session: u64) -> KeyRange {
    Key::new(GROUP, group::RESULT, 8).u64(session).range()
}

/// What the group knows of a bucket.
pub fn bucket(bucket: BucketId) -> Bytes {
    Key::new(GROUP, group::BUCKET, 8).u64(bucket.0).done()
}

/// All buckets the group knows of.
pub fn buckets() -> KeyRange {
    Key::new(GROUP, group::BUCKET, 0).range()
}

/// The id of a `bucket` row.
pub fn parse_bucket(row_key: &[u8]) -> Option<BucketId> {
    Some(BucketId(u64::from_be_bytes(
        group_fields(row_key, group::BUCKET)?.try_into().ok()?,
    )))
}

/// What the group knows of a tenant.
pub fn tenant(tenant: TenantId) -> Bytes {
    Key::new(GROUP, group::TENANT, 8).u64(tenant.0).done()
}

/// All tenants the group knows of.
pub fn tenants() -> KeyRange {
    Key::new(GROUP, group::TENANT, 0).range()
}

/// The id of a `tenant` row.
pub fn parse_tenant(row_key: &[u8]) -> Option<TenantId> {
    Some(TenantId(u64::from_be_bytes(
        group_fields(row_key, group::TENANT)?.try_into().ok()?,
    )))
}

/// An item of the free list: the n-th that the entry at `index` freed.
pub fn free(index: u64, ordinal: u32) -> Bytes {
    Key::new(GROUP, group::FREE, 12)
        .u64(index)
        .u32(ordinal)
        .done()
}

/// The free list in the order of freeing, from the entry at `index` on.
pub fn frees_from(index: u64) -> KeyRange {
    let all = Key::new(GROUP, group::FREE, 0).range();
    KeyRange {
        from: free(index, 0),
        to: all.to,
    }
}

/// Index and ordinal of a `free` row.
pub fn parse_free(row_key: &[u8]) -> Option<(u64, u32)> {
    parse_item(group_fields(row_key, group::FREE)?)
}

/// An upload on the free list.
pub fn free_upload(index: u64, ordinal: u32) -> Bytes {
    Key::new(GROUP, group::FREE_UPLOAD, 12)
        .u64(index)
        .u32(ordinal)
        .done()
}

/// The uploads on the free list, in the order of freeing.
pub fn free_uploads() -> KeyRange {
    Key::new(GROUP, group::FREE_UPLOAD, 0).range()
}

/// The coordinator's record of a transaction.
pub fn txn(txn: TxnId) -> Bytes {
    Key::new(GROUP, group::TXN, 18).txn(txn).done()
}

/// All records of transactions.
pub fn txns() -> KeyRange {
    Key::new(GROUP, group::TXN, 0).range()
}

/// A participant's part of a transaction.
pub fn prepared(txn: TxnId) -> Bytes {
    Key::new(GROUP, group::PREPARED, 18).txn(txn).done()
}

/// All prepared parts.
pub fn prepareds() -> KeyRange {
    Key::new(GROUP, group::PREPARED, 0).range()
}

/// How many contents name pieces of a payload. One transaction's pieces lie in several vshards: the group counts them.
pub fn share_of_payload(payload: PayloadId) -> Bytes {
    Key::new(GROUP, group::SHARE, 18)
        .u16(payload.group.0)
        .u64(payload.index)
        .u64(payload.term)
        .done()
}

// ---- directory space ----

/// The cluster.
pub fn cluster() -> Bytes {
    Key::new(DIRECTORY, directory::CLUSTER, 0).done()
}

/// The next unused numbers.
pub fn counters() -> Bytes {
    Key::new(DIRECTORY, directory::COUNTERS, 0).done()
}

/// A bucket under its name.
pub fn directory_bucket(name: &str) -> Bytes {
    Key::new(DIRECTORY, directory::BUCKET, name.len())
        .raw(name.as_bytes())
        .done()
}

/// All buckets, by name.
pub fn directory_buckets() -> KeyRange {
    Key::new(DIRECTORY, directory::BUCKET, 0).range()
}

/// The name of a bucket.
pub fn bucket_name(bucket: BucketId) -> Bytes {
    Key::new(DIRECTORY, directory::BUCKET_NAME, 8)
        .u64(bucket.0)
        .done()
}

/// A change of facts that some groups have not confirmed.
pub fn push(bucket: BucketId) -> Bytes {
    Key::new(DIRECTORY, directory::PUSH, 8).u64(bucket.0).done()
}

/// All unfinished changes of facts.
pub fn pushes() -> KeyRange {
    Key::new(DIRECTORY, directory::PUSH, 0).range()
}

/// The bucket of a `push` row.
pub fn parse_push(row_key: &[u8]) -> Option<BucketId> {
    let kind = Key::new(DIRECTORY, directory::PUSH, 0).0;
    Some(BucketId(u64::from_be_bytes(
        row_key.strip_prefix(kind.as_slice())?.try_into().ok()?,
    )))
}

/// A tenant's record.
pub fn directory_tenant(tenant: TenantId) -> Bytes {
    Key::new(DIRECTORY, directory::TENANT, 8)
        .u64(tenant.0)
        .done()
}

/// All tenants' records.
pub fn directory_tenants() -> KeyRange {
    Key::new(DIRECTORY, directory::TENANT, 0).range()
}

/// The id (8 bytes, big-endian) of the tenant with this name.
pub fn tenant_name(name: &str) -> Bytes {
    Key::new(DIRECTORY, directory::TENANT_NAME, name.len())
        .raw(name.as_bytes())
        .done()
}

/// A row of one of the gateway's tables.
pub fn opaque(table: u8, key: &[u8]) -> Bytes {
    Key::new(DIRECTORY, directory::OPAQUE, 1 + key.len())
        .u8(table)
        .raw(key)
        .done()
}

/// One of the gateway's tables.
pub fn opaques(table: u8) -> KeyRange {
    Key::new(DIRECTORY, directory::OPAQUE, 1).u8(table).range()
}

/// A credential, under its access key.
pub fn credential(access_key: &str) -> Bytes {
    Key::new(DIRECTORY, directory::CREDENTIAL, access_key.len())
        .raw(access_key.as_bytes())
        .done()
}

/// All credentials.
pub fn credentials() -> KeyRange {
    Key::new(DIRECTORY, directory::CREDENTIAL, 0).range()
}

/// The access key of a `credential` row.
pub fn parse_credential(row_key: &[u8]) -> Option<&str> {
    let kind = Key::new(DIRECTORY, directory::CREDENTIAL, 0).0;
    std::str::from_utf8(row_key.strip_prefix(kind.as_slice())?).ok()
}

/// A node.
pub fn node(node: u64) -> Bytes {
    Key::new(DIRECTORY, directory::NODE, 8).u64(node).done()
}

/// All nodes.
pub fn nodes() -> KeyRange {
    Key::new(DIRECTORY, directory::NODE, 0).range()
}

/// The nodes of a group.
pub fn placement(group: GroupId) -> Bytes {
    Key::new(DIRECTORY, directory::PLACEMENT, 2)
        .u16(group.0)
        .done()
}

/// The nodes of all groups.
pub fn placements() -> KeyRange {
    Key::new(DIRECTORY, directory::PLACEMENT, 0).range()
}

/// The group of a vshard.
pub fn vshard_home(vshard: VShard) -> Bytes {
    Key::new(DIRECTORY, directory::VSHARD_HOME, 1)
        .u8(vshard.0)
        .done()
}

/// The groups of all vshards.
pub fn vshard_homes() -> KeyRange {
    Key::new(DIRECTORY, directory::VSHARD_HOME, 0).range()
}

// ---- reading keys back ----

/// What follows space and kind, in a vshard's space.
fn fields(row_key: &[u8], kind: u8) -> Option<&[u8]> {
    match row_key {
        [0, _, k, rest @ ..] if *k == kind => Some(rest),
        _ => None,
    }
}

/// What follows space and kind, in the group's space.
fn group_fields(row_key: &[u8], kind: u8) -> Option<&[u8]> {
    match row_key {
        [1, 0, k, rest @ ..] if *k == kind => Some(rest),
        _ => None,
    }
}

fn parse_item(rest: &[u8]) -> Option<(u64, u32)> {
    if rest.len() != 12 {
        return None;
    }
    Some((
        u64::from_be_bytes(rest[..8].try_into().ok()?),
        u32::from_be_bytes(rest[8..].try_into().ok()?),
    ))
}

/// Bucket, object key, and what follows them.
fn parse_object(row_key: &[u8], kind: u8) -> Option<(BucketId, Bytes, &[u8])> {
    let rest = fields(row_key, kind)?;
    let bucket = BucketId(u64::from_be_bytes(rest.get(..8)?.try_into().ok()?));
    let (key, rest) = unescape(&rest[8..])?;
    Some((bucket, key, rest))
}

/// An escaped key up to its end, and what follows it.
fn unescape(escaped: &[u8]) -> Option<(Bytes, &[u8])> {
    let mut key = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    loop {
        let zero = rest.iter().position(|&byte| byte == 0)?;
        key.extend_from_slice(&rest[..zero]);
        match rest.get(zero + 1)? {
            0x01 => return Some((Bytes::from(key), &rest[zero + 2..])),
            0xFF => key.push(0),
            _ => return None,
        }
        rest = &rest[zero + 2..];
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const V: VShard = VShard(9);
    const B: BucketId = BucketId(5);

    proptest! {
        /// A listing is one scan: rows lie in the order of their keys, whatever bytes these have.
        #[test]
        fn row_keys_sort_as_object_keys_do(
            a in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xFF), any::<u8>()], 0..6),
            b in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xFF), any::<u8>()], 0..6),
            s in any::<u64>(), t in any::<u64>(),
        ) {
            prop_assert_eq!(current(V, B, &a).cmp(&current(V, B, &b)), a.cmp(&b));
            let newest_first = (&a, std::cmp::Reverse(s)).cmp(&(&b, std::cmp::Reverse(t)));
            prop_assert_eq!(older(V, B, &a, s).cmp(&older(V, B, &b, t)), newest_first);
            let within = currents(V, B, &a);
            let row = current(V, B, &b);
            prop_assert_eq!(b.starts_with(&a), within.from <= row && row < within.to);
        }

        #[test]
        fn a_row_key_is_read_back_into_what_it_was_made_of(
            key in proptest::collection::vec(any::<u8>(), 0..40), seq in any::<u64>(), upload in any::<[u8; 16]>(),
        ) {
            let bytes = Bytes::from(key.clone());
            prop_assert_eq!(parse_current(&current(V, B, &key)), Some((B, bytes.clone())));
            prop_assert_eq!(parse_older(&older(V, B, &key, seq)), Some((B, bytes.clone(), seq)));
            prop_assert_eq!(parse_open_upload(&open_upload(V, B, &key, &upload)), Some((B, bytes, upload)));
            prop_assert_eq!(parse_current(&older(V, B, &key, seq)), None);
        }

        /// Foreign bytes are no key; nothing panics on them.
        #[test]
        fn foreign_bytes_are_no_key(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (parse_current(&bytes), parse_older(&bytes), parse_open_upload(&bytes), parse_part(&bytes));
            let _ = (parse_stage(&bytes), parse_short(&bytes), parse_session(&bytes), parse_free(&bytes));
        }
    }

    #[test]
    fn successor_is_the_first_key_past_a_prefix() {
        assert_eq!(successor(&[1, 2]), Bytes::from_static(&[1, 3]));
        assert_eq!(successor(&[1, 0xFF, 0xFF]), Bytes::from_static(&[2]));
    }
}
