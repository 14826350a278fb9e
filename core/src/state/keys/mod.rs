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

mod directory;
mod group;
mod object;

use bytes::Bytes;

use crate::ids::{BucketId, StageId, TxnId, VShard};

pub use directory::*;
pub use group::*;
pub use object::*;

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
