//! A block: the unit that runs are read, checked and cached in.
//!
//! ```text
//!   | magic | crc32c | run number | run nonce | offset | length | kind, codec, 0 | body ...
//! ```
//! Always true:
//! * a block says which run it belongs to and where in it: one that a disk put elsewhere is noticed;
//! * every byte behind the checksum is covered by it.
//!
//! Elsewhere: bodies that hold rows (`rows`), which blocks a run has (`run`, `run_writer`); bytes in `docs/formats/runs.md`.

use std::fmt;

use bytes::Bytes;
use crc_fast::CrcAlgorithm;

/// Bytes before the body.
pub const HEADER: usize = 40;
/// "mkr1", little-endian.
const MAGIC: u32 = u32::from_le_bytes(*b"mkr1");
/// The checksum covers everything behind itself.
const CHECKED_FROM: usize = 8;

/// Names one run for ever: numbers count within a store, the nonce tells two uses of a number apart (a number is used
/// again after a crash before the manifest named it; blocks of the first use may still lie on the disk).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RunId {
    /// Counts up within a store.
    pub number: u64,
    /// Random.
    pub nonce: u64,
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}", self.number, self.nonce)
    }
}

/// What a block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum BlockKind {
    /// Rows.
    Data = 1,
    /// Last keys and places of data blocks.
    Index = 2,
    /// Last keys and places of index and filter blocks.
    Root = 3,
    /// A bloom filter over the rows below one index block.
    Filter = 4,
    /// The last block of a run.
    Footer = 5,
}

/// Why bytes are not the block that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadBlock(pub String);

/// The little-endian number at `at`; 0 where the bytes end before.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

/// The little-endian number at `at`; 0 where the bytes end before.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

/// CRC-32C.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Puts the header before a body.
pub fn seal(kind: BlockKind, run: RunId, offset: u64, body: &[u8]) -> Bytes {
    let mut block = Vec::with_capacity(HEADER + body.len());
    block.extend_from_slice(&MAGIC.to_le_bytes());
    block.extend_from_slice(&[0; 4]);
    block.extend_from_slice(&run.number.to_le_bytes());
    block.extend_from_slice(&run.nonce.to_le_bytes());
    block.extend_from_slice(&offset.to_le_bytes());
    block.extend_from_slice(&(body.len() as u32).to_le_bytes());
    block.extend_from_slice(&[kind as u8, 0, 0, 0]);
    block.extend_from_slice(body);
    let crc = crc32c(&block[CHECKED_FROM..]);
    block[4..8].copy_from_slice(&crc.to_le_bytes());
    Bytes::from(block)
}

/// Checks a whole sealed block and gives its body.
pub fn unseal(kind: BlockKind, run: RunId, offset: u64, block: &Bytes) -> Result<Bytes, BadBlock> {
    let bad = |what: String| Err(BadBlock(format!("block at {offset}: {what}")));
    if block.len() < HEADER {
        return bad(format!("only {} bytes are there", block.len()));
    }
    let found = u32_at(block, 0);
    if found != MAGIC {
        return bad(format!("magic {found:#010x}"));
    }
    if crc32c(&block[CHECKED_FROM..]) != u32_at(block, 4) {
        return bad("checksum differs".into());
    }
    let owner = RunId {
        number: u64_at(block, 8),
        nonce: u64_at(block, 16),
    };
    if owner != run || u64_at(block, 24) != offset {
        return bad(format!(
            "this is the block at {} of run {owner}",
            u64_at(block, 24)
        ));
    }
    if u32_at(block, 32) as usize != block.len() - HEADER
        || block[36] != kind as u8
        || block[37] != 0
    {
        return bad(format!(
            "{} bytes of kind {} codec {}",
            u32_at(block, 32),
            block[36],
            block[37]
        ));
    }
    Ok(block.slice(HEADER..))
}

/// Kind and whole length of the block that begins with this header, unchecked: enough to walk over a file.
pub fn peek(header: &[u8]) -> Option<(BlockKind, usize)> {
    if header.len() < HEADER || u32_at(header, 0) != MAGIC {
        return None;
    }
    let kind = match header[36] {
        1 => BlockKind::Data,
        2 => BlockKind::Index,
        3 => BlockKind::Root,
        4 => BlockKind::Filter,
        5 => BlockKind::Footer,
        _ => return None,
    };
    Some((kind, HEADER + u32_at(header, 32) as usize))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RUN: RunId = RunId {
        number: 7,
        nonce: 0xfeed,
    };

    /// A disk that flips a bit or returns another block is caught, whichever bit and block it is.
    #[test]
    fn flipped_or_misplaced_block_is_noticed() {
        let block = seal(BlockKind::Data, RUN, 4096, b"body");
        assert_eq!(
            unseal(BlockKind::Data, RUN, 4096, &block).unwrap(),
            &b"body"[..]
        );
        for bit in 0..block.len() * 8 {
            let mut bad = block.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(
                unseal(BlockKind::Data, RUN, 4096, &Bytes::from(bad)).is_err(),
                "bit {bit}"
            );
        }
        assert!(unseal(BlockKind::Data, RUN, 0, &block).is_err());
        assert!(unseal(BlockKind::Index, RUN, 4096, &block).is_err());
        assert!(
            unseal(
                BlockKind::Data,
                RunId {
                    number: 7,
                    nonce: 0
                },
                4096,
                &block
            )
            .is_err()
        );
        assert!(unseal(BlockKind::Data, RUN, 4096, &block.slice(..block.len() - 1)).is_err());
    }
}
