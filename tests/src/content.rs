//! Bytes that say themselves what they are, so that a reader needs no record of what was written to judge them.
//!
//! ```text
//!   seed u64 BE | size u64 BE | a block of pseudo-random bytes of that seed | block | ...   (one piece; at least 16 bytes)
//! ```
//! Blocks of a piece differ in their first 8 bytes only: gigabytes are made and judged at the speed of a copy, without
//! optimisation, too.
//!
//! A content is any number of pieces after each other: one for a PUT, one per part for a completed upload, none for
//! an empty object.
//!
//! Always true: `read(&content.bytes()) == Ok(content)`, and one changed, missing or extra byte makes `read` fail.

use std::fmt;

use bytes::Bytes;

/// The smallest piece: its own description.
pub const HEAD: u64 = 16;
/// Length of a block.
const BLOCK: usize = 4096;

/// One run of bytes made from a seed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Piece {
    /// Decides the bytes; unique per write in a test, so that two writes never look alike.
    pub seed: u64,
    /// How many, `HEAD` or more.
    pub size: u64,
}

impl Piece {
    /// A piece of `size` bytes.
    pub fn new(seed: u64, size: u64) -> Piece {
        assert!(size >= HEAD, "a piece holds its own description");
        Piece { seed, size }
    }

    /// Its bytes.
    pub fn bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.size as usize + 8);
        out.extend_from_slice(&self.seed.to_be_bytes());
        out.extend_from_slice(&self.size.to_be_bytes());
        let mut state = self.seed ^ self.size.rotate_left(32);
        let first = self.size.min(HEAD + BLOCK as u64);
        while (out.len() as u64) < first {
            out.extend_from_slice(&next(&mut state).to_be_bytes());
        }
        while (out.len() as u64) < self.size {
            out.extend_from_slice(&next(&mut state).to_be_bytes());
            out.extend_from_within(HEAD as usize + 8..HEAD as usize + BLOCK);
        }
        out.truncate(self.size as usize);
        out.into()
    }

    /// An ETag for callers that are free to choose one.
    pub fn etag(&self) -> String {
        format!("{:016x}{:016x}", self.seed, self.size)
    }

    /// The piece whose ETag this is: a part's bytes cannot be read before its upload completes.
    pub fn of_etag(etag: &str) -> Option<Piece> {
        let number = |hex: Option<&str>| u64::from_str_radix(hex?, 16).ok();
        let (seed, size) = (number(etag.get(..16))?, number(etag.get(16..))?);
        (size >= HEAD).then_some(Piece { seed, size })
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}({} B)", self.seed, self.size)
    }
}

/// splitmix64: no two seeds share a stretch of it that a test would notice.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What an object or a part holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Content(pub Vec<Piece>);

impl Content {
    /// Bytes in all.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|piece| piece.size).sum()
    }

    /// No bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its bytes.
    pub fn bytes(&self) -> Bytes {
        match &self.0[..] {
            [one] => one.bytes(),
            many => many.iter().flat_map(Piece::bytes).collect(),
        }
    }

    /// An ETag for callers that are free to choose one.
    pub fn etag(&self) -> String {
        match &self.0[..] {
            [] => "empty".to_owned(),
            many => {
                let mut mixed = 0;
                for piece in many {
                    mixed ^= piece.seed ^ piece.size.rotate_left(32);
                    mixed = next(&mut mixed);
                }
                format!("{mixed:016x}-{}", many.len())
            }
        }
    }
}

impl From<Piece> for Content {
    fn from(piece: Piece) -> Content {
        Content(vec![piece])
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [] => f.write_str("empty"),
            [one] => one.fmt(f),
            many => write!(
                f,
                "{} pieces {:?}..{:?}",
                many.len(),
                many[0],
                many[many.len() - 1]
            ),
        }
    }
}

/// Why bytes are no content: the first byte that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("wrong bytes at offset {at} of {len}: {what}")]
pub struct WrongBytes {
    /// Offset of the piece or byte.
    pub at: u64,
    /// Bytes in all.
    pub len: u64,
    /// What is wrong there.
    pub what: String,
}

/// Recognises bytes, checking every one.
pub fn read(bytes: &[u8]) -> Result<Content, WrongBytes> {
    let len = bytes.len() as u64;
    let wrong = |at: usize, what: String| WrongBytes {
        at: at as u64,
        len,
        what,
    };
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let word = |from: usize| {
            let word = bytes.get(from..from + 8)?;
            word.try_into().ok().map(u64::from_be_bytes)
        };
        let (Some(seed), Some(size)) = (word(at), word(at + 8)) else {
            return Err(wrong(
                at,
                "ends within the description of a piece".to_owned(),
            ));
        };
        if size < HEAD || size > len - at as u64 {
            return Err(wrong(at, format!("piece {seed} says it has {size} bytes")));
        }
        let piece = Piece { seed, size };
        let expected = piece.bytes();
        let found = &bytes[at..at + size as usize];
        if *found != expected
            && let Some(off) = (0..found.len()).find(|&i| found[i] != expected[i])
        {
            return Err(wrong(at + off, format!("not those of {piece:?}")));
        }
        pieces.push(piece);
        at += size as usize;
    }
    Ok(Content(pieces))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The judge of everything else must itself see every wrong byte.
    #[test]
    fn a_single_changed_or_missing_byte_is_seen() {
        let content = Content(vec![Piece::new(7, 16), Piece::new(8, 61)]);
        let bytes = content.bytes();
        assert_eq!(read(&bytes).unwrap(), content);
        for at in 0..bytes.len() {
            let mut other = bytes.to_vec();
            other[at] ^= 1;
            assert_ne!(read(&other).ok(), Some(content.clone()), "byte {at}");
            assert_ne!(
                read(&bytes[..at]).ok(),
                Some(content.clone()),
                "cut at {at}"
            );
        }
        assert_eq!(read(b"").unwrap(), Content::default());
        let long = Piece::new(9, 3 * BLOCK as u64 + 100).bytes();
        for at in (0..long.len()).step_by(7) {
            let mut other = long.to_vec();
            other[at] ^= 1;
            assert!(read(&other).is_err(), "byte {at}");
        }
        let mut swapped = long.to_vec();
        let block = HEAD as usize + BLOCK;
        swapped[block..block + 2 * BLOCK].rotate_left(BLOCK);
        assert!(read(&swapped).is_err(), "two blocks changed places");
    }
}
