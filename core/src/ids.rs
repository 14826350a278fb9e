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

#[cfg(test)]
mod tests {
    use super::*;

    /// The map from key to vshard is part of the format: a store written by one version is read by the next.
    #[test]
    fn vshard_of_a_key_never_changes() {
        let bytes = [&1u64.to_le_bytes()[..], b"hello"].concat();
        assert_eq!(
            VShard::of(BucketId(1), b"hello").0,
            (xxhash_rust::xxh3::xxh3_64(&bytes) % 256) as u8
        );
        assert_eq!(VShard::of(BucketId(1), b"hello"), VShard(HELLO));
    }
    const HELLO: u8 = 0;
}
