//! One number for a whole state: the sum mod 2^128 of a 128-bit hash of every live row.
//!
//! Two replicas whose digests agree at one applied mark hold the same rows. A sum does not care about order, so each
//! write moves it by "hash of the new row minus hash of the old one", and a scan can always recompute it.
//!
//! The engine reads the old row itself unless the batch carries `digest_delta`. Keys that the mutable overlay knows
//! cost nothing (inserting gives the old row back); only keys that are new to it are looked up below, and bloom filters
//! keep that cheap. So the safe way is the default one, and a caller that knows all old rows anyway may say so.

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::{EngineError, View};

/// Most rows are hashed from the stack in one go.
const ON_STACK: usize = 1024;

/// The hash of one live row: xxh3-128 (seed 0) of the key's length (u32 LE), key and row. The length keeps a row apart
/// from that of a longer key.
pub fn row_hash(key: &[u8], row: &[u8]) -> u128 {
    let key_len = (key.len() as u32).to_le_bytes();
    let parts: [&[u8]; 3] = [&key_len, key, row];
    let total = key_len.len() + key.len() + row.len();
    if total <= ON_STACK {
        let mut buffer = [0u8; ON_STACK];
        let mut at = 0;
        for part in parts {
            buffer[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        return xxh3_128(&buffer[..total]);
    }
    let mut hasher = Xxh3::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.digest128()
}

/// How a digest moves when `old` under `key` becomes `new`.
pub fn delta(key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) -> u128 {
    let plus = new.map_or(0, |row| row_hash(key, row));
    let minus = old.map_or(0, |row| row_hash(key, row));
    plus.wrapping_sub(minus)
}

/// The digest of everything a view holds, by reading it.
pub fn recompute(view: &dyn View) -> Result<u128, EngineError> {
    let mut sum = 0u128;
    for row in view.scan(&[], &[]) {
        let (key, row) = row?;
        sum = sum.wrapping_add(row_hash(&key, &row));
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replicas of different versions compare digests: the hash is part of the format.
    #[test]
    fn row_hash_never_changes() {
        assert_eq!(row_hash(b"key", b"row"), xxh3_128(b"\x03\0\0\0keyrow"));
        assert_eq!(row_hash(b"", b""), xxh3_128(&[0; 4]));
        assert_ne!(row_hash(b"ab", b"c"), row_hash(b"a", b"bc"));
    }

    /// Both ways of hashing agree, whatever the row's length.
    #[test]
    fn long_rows_hash_like_short_ones() {
        for len in [0, 1, 1000, 1016, 1017, 1018, 5000] {
            let (key, row) = (b"key", vec![9u8; len]);
            let whole = [&3u32.to_le_bytes()[..], key, &row].concat();
            assert_eq!(row_hash(key, &row), xxh3_128(&whole));
        }
    }
}
