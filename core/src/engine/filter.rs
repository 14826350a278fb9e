//! A bloom filter: says "not here" for most keys that a part of a run does not hold, so that looking for a new key
//! costs no block of rows.
//!
//! ```text
//!   | kind 1 (u8) | probes (u8) | 0 (u16) | lines (u32 LE) | lines of 64 bytes ... |
//! ```
//! All probes of a key fall into one line of 512 bits, which is one cache line. There is one filter per index block
//! (about 10,000 rows), read through the block cache: filters cost memory only where they are used.
//!
//! Always true: a key that was added is never denied.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

const KIND: u8 = 1;
const PROBES: u8 = 7;
const LINE: usize = 64;
const HEAD: usize = 8;
/// 10 bits for each key let about 1.3 % of absent keys through.
const BITS_PER_KEY: usize = 10;

/// A key, hashed once for the filters of all runs.
#[derive(Clone, Copy, Debug)]
pub struct KeyHash(u128);

impl KeyHash {
    /// xxh3-128 with seed 0.
    pub fn of(key: &[u8]) -> KeyHash {
        KeyHash(xxh3_128(key))
    }

    /// The upper half chooses the line.
    fn line(self, lines: u32) -> usize {
        (((self.0 >> 96) as u64 * u64::from(lines)) >> 32) as usize
    }

    /// The lower half gives nine bits for each probe.
    fn probe(self, number: u8) -> usize {
        ((self.0 as u64) >> (9 * number)) as usize & 511
    }
}

/// Builds the body of a filter block.
pub fn build(keys: &[KeyHash]) -> Vec<u8> {
    let lines = (keys.len() * BITS_PER_KEY).div_ceil(LINE * 8).max(1);
    let mut body = vec![0; HEAD + lines * LINE];
    body[0] = KIND;
    body[1] = PROBES;
    body[4..8].copy_from_slice(&(lines as u32).to_le_bytes());
    for key in keys {
        let line = HEAD + key.line(lines as u32) * LINE;
        for number in 0..PROBES {
            let bit = key.probe(number);
            body[line + bit / 8] |= 1 << (bit % 8);
        }
    }
    body
}

/// Whether the key may have been added. A filter that this version cannot read lets everything through.
pub fn may_hold(body: &Bytes, key: KeyHash) -> bool {
    let Some(&[kind, probes, 0, 0, a, b, c, d]) = body.first_chunk::<HEAD>() else {
        return true;
    };
    let lines = u32::from_le_bytes([a, b, c, d]);
    if kind != KIND || probes != PROBES || lines == 0 || body.len() != HEAD + lines as usize * LINE
    {
        return true;
    }
    let line = &body[HEAD + key.line(lines) * LINE..][..LINE];
    (0..PROBES).all(|number| {
        let bit = key.probe(number);
        line[bit / 8] & (1 << (bit % 8)) != 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_keys_are_never_denied_and_most_others_are() {
        let hash = |n: u32| KeyHash::of(&n.to_be_bytes());
        let keys: Vec<KeyHash> = (0..10_000).map(hash).collect();
        let body = Bytes::from(build(&keys));
        assert!(keys.iter().all(|key| may_hold(&body, *key)));
        let passed = (10_000..110_000)
            .filter(|n| may_hold(&body, hash(*n)))
            .count();
        assert!(passed < 2_000, "{passed} of 100000 absent keys passed");
        assert!(
            may_hold(&Bytes::from_static(b"\x09later!!"), hash(1)),
            "an unknown filter must not hide rows"
        );
    }
}
