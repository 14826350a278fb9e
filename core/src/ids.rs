//! The names of things: small typed numbers that cannot be mixed up.
//!
//! Encodings are big-endian, so that the order of bytes is the order of numbers.

use std::fmt;

/// One Raft group. Group 0 is the directory; groups 1 and up hold vshards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(pub u16);

impl GroupId {
    /// The directory: nodes, map, tenants, users, keys, policies, bucket facts. Holds no objects.
    pub const DIRECTORY: GroupId = GroupId(0);
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

/// One node of the cluster; never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u64);

/// A bucket for its whole life; a bucket created again under the same name has another id. Starts at 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BucketId(pub u64);

/// A tenant; `default` is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TenantId(pub u64);

/// One of the 256 virtual shards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VShard(pub u8);

impl VShard {
    /// How many there are, for ever.
    pub const COUNT: usize = 256;

    /// The vshard of a key: `xxh3_64(bucket id (u64 LE) ‖ key) mod 256`, seed 0 (DESIGN 3).
    pub fn of(bucket: BucketId, key: &[u8]) -> VShard {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&bucket.0.to_le_bytes());
        hasher.update(key);
        VShard((hasher.digest() % Self::COUNT as u64) as u8)
    }
}

/// A stage: opened by an agreed entry, whose group, group incarnation and log index name it.
/// Never reused, because an index never is within an incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StageId {
    /// The group that agreed on the opening.
    pub group: GroupId,
    /// Raised by `recover --accept-loss`, so that an index agreed twice names two stages.
    pub incarnation: u32,
    /// Log index of the opening entry.
    pub index: u64,
}

/// One chunk: an immutable run of up to 4 MiB of one object version or part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChunkId {
    /// The vshard of its object.
    pub vshard: VShard,
    /// The stage under which it was written.
    pub stage: StageId,
    /// Its number within the stage, from 0.
    pub ordinal: u32,
}

/// The bytes of an inline object: the entry that carried them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PayloadId {
    /// The group that agreed on the entry.
    pub group: GroupId,
    /// Its log index.
    pub index: u64,
    /// Its term: an index may have held another entry before a truncation.
    pub term: u64,
}

/// A transaction over several groups: the session and sequence of its `pending` command in the coordinator's group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TxnId {
    /// The group that holds its record.
    pub coordinator: GroupId,
    /// Session in that group.
    pub session: u64,
    /// Sequence in that session.
    pub sequence: u64,
}

impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "txn {}/{}/{}",
            self.coordinator, self.session, self.sequence
        )
    }
}

/// An opaque version id, made by apply from the vshard's sequence. 32 lower-case hex digits outside.
///
/// Inside are the sequence, the vshard and 56 check bits, scrambled by a fixed bijection: nobody learns how busy a
/// store is by looking at ids, the sequence comes back without a look-up, and an id nobody gave out is noticed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VersionId(pub u128);

impl VersionId {
    /// The id of the version that was written at `seq` of `vshard`.
    pub fn seal(vshard: VShard, seq: u64) -> VersionId {
        let check = u128::from(check_bits(seq, u64::from(vshard.0)) >> 8);
        VersionId(scramble(
            (u128::from(seq) << 64) | (u128::from(vshard.0) << 56) | check,
        ))
    }

    /// The sequence, if this id was given out for a key of `vshard`.
    pub fn open(self, vshard: VShard) -> Option<u64> {
        let seq = (unscramble(self.0) >> 64) as u64;
        (VersionId::seal(vshard, seq) == self).then_some(seq)
    }

    /// As clients write it.
    pub fn parse(text: &str) -> Option<VersionId> {
        parse_hex(text).map(VersionId)
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Opaque upload id: 32 lower-case hex digits outside. Inside is the entry that created it, as in a stage id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UploadId(pub u128);

impl UploadId {
    /// The id of the upload that the entry `created` made.
    pub fn seal(created: StageId) -> UploadId {
        UploadId(scramble(u128::from_be_bytes(Self::name(created))))
    }

    /// The name under which state keeps it: (incarnation, index, group, check), so that one key's uploads are in
    /// the order of their creation. `None`: nobody gave this id out.
    pub fn open(self) -> Option<[u8; 16]> {
        let name = unscramble(self.0).to_be_bytes();
        let created = Self::created(name);
        (Self::name(created) == name).then_some(name)
    }

    /// The id of the upload with this name in state.
    pub fn of_name(name: [u8; 16]) -> UploadId {
        UploadId(scramble(u128::from_be_bytes(name)))
    }

    /// As clients write it.
    pub fn parse(text: &str) -> Option<UploadId> {
        parse_hex(text).map(UploadId)
    }

    fn name(created: StageId) -> [u8; 16] {
        let check = check_bits(
            created.index,
            (u64::from(created.incarnation) << 16) | u64::from(created.group.0),
        ) >> 48;
        let mut name = [0; 16];
        name[..4].copy_from_slice(&created.incarnation.to_be_bytes());
        name[4..12].copy_from_slice(&created.index.to_be_bytes());
        name[12..14].copy_from_slice(&created.group.0.to_be_bytes());
        name[14..].copy_from_slice(&(check as u16).to_be_bytes());
        name
    }

    fn created(name: [u8; 16]) -> StageId {
        let number = u128::from_be_bytes(name);
        StageId {
            incarnation: (number >> 96) as u32,
            index: (number >> 32) as u64,
            group: GroupId((number >> 16) as u16),
        }
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Exactly 32 lower-case hex digits.
fn parse_hex(text: &str) -> Option<u128> {
    let digits = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    digits
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

fn check_bits(number: u64, with: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&number.to_be_bytes(), with ^ ROUNDS[0])
}

/// Round constants of the scrambling: digits of pi. Part of the format.
const ROUNDS: [u64; 4] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
];

/// Four Feistel rounds: a bijection whatever the round function is.
fn scramble(plain: u128) -> u128 {
    let (mut left, mut right) = ((plain >> 64) as u64, plain as u64);
    for key in ROUNDS {
        (left, right) = (
            right,
            left ^ xxhash_rust::xxh3::xxh3_64_with_seed(&right.to_be_bytes(), key),
        );
    }
    (u128::from(left) << 64) | u128::from(right)
}

fn unscramble(opaque: u128) -> u128 {
    let (mut left, mut right) = ((opaque >> 64) as u64, opaque as u64);
    for key in ROUNDS.into_iter().rev() {
        (left, right) = (
            right ^ xxhash_rust::xxh3::xxh3_64_with_seed(&left.to_be_bytes(), key),
            left,
        );
    }
    (u128::from(left) << 64) | u128::from(right)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The map from key to vshard is part of the format: a store written by one version is read by the next.
    #[test]
    fn vshard_of_a_key_never_changes() {
        let bytes = [&1u64.to_le_bytes()[..], b"hello"].concat();
        assert_eq!(u64::from(HELLO), xxhash_rust::xxh3::xxh3_64(&bytes) % 256);
        assert_eq!(VShard::of(BucketId(1), b"hello"), VShard(HELLO));
        assert_eq!(VShard::of(BucketId(7), b"photos/2026/cat.jpg"), VShard(CAT));
    }
    const HELLO: u8 = 227;
    const CAT: u8 = 207;

    /// A client keeps version and upload ids for years.
    #[test]
    fn ids_given_out_once_stay_readable() {
        assert_eq!(
            VersionId::seal(VShard(7), 42).to_string(),
            "ae5dba84fd09c071c93a7a4d11c12b8e"
        );
        assert_eq!(
            UploadId::seal(StageId {
                group: GroupId(3),
                incarnation: 1,
                index: 99
            })
            .to_string(),
            "f874a4bf280a4dd96ac2f2664d047e7f"
        );
    }

    #[test]
    fn an_id_nobody_gave_out_is_noticed() {
        for seq in [0, 1, 42, u64::MAX] {
            let id = VersionId::seal(VShard(7), seq);
            assert_eq!(id.open(VShard(7)), Some(seq));
            assert_eq!(id.open(VShard(8)), None, "another vshard's");
            assert_eq!(VersionId(id.0 ^ 1).open(VShard(7)), None);
            assert_eq!(VersionId::parse(&id.to_string()), Some(id));
        }
        let upload = UploadId::seal(StageId {
            group: GroupId(3),
            incarnation: 1,
            index: 99,
        });
        assert_eq!(upload.open().map(UploadId::of_name), Some(upload));
        assert_eq!(UploadId(upload.0 ^ (1 << 77)).open(), None);
        assert_eq!(UploadId::parse("+0000000000000000000000000000001"), None);
        assert_eq!(UploadId::parse(&upload.to_string().to_uppercase()), None);
    }

    /// One key's uploads are listed in the order of their creation.
    #[test]
    fn names_of_uploads_sort_by_age() {
        let name = |index| {
            UploadId::seal(StageId {
                group: GroupId(3),
                incarnation: 1,
                index,
            })
            .open()
            .unwrap()
        };
        assert!(name(9) < name(10) && name(255) < name(256));
    }
}
