//! Compressed content: blocks that stand alone, so that a range unpacks only the blocks it touches.
//!
//! ```text
//!   plain    | 128 KiB       | 128 KiB       | rest |
//!   packed   | head | block  | head | block  | head | block | table |
//!              8 bytes: length of the block and whether it is stored as it was (u32), CRC-32C of its plain bytes (u32)
//!              table: 4 bytes for each block, its length with the head (u32); all little-endian
//! ```
//! Always true:
//! * plain bytes come out only of blocks whose checksum is right; a block never becomes longer than its plain length;
//! * a block that would not shrink by a sixteenth is kept as it was, and a content whose first blocks do not shrink is not
//!   packed at all: what cannot be compressed costs no room, and little time;
//! * one block is held while packing, one while unpacking, besides what came in.
//!
//! Packing comes before encryption, unpacking after it. Elsewhere: which bucket asks for it (`bucket_settings`), what a
//! record says (`record`), bytes in and out (`store/intake`, `ops/reading`).

mod packing;
mod unpacking;

use std::fmt;
use std::str::FromStr;

pub use packing::{Packer, is_worth_it};
pub use unpacking::{BadBlock, Stretch, Tables, Unpacker};

use super::record::RecordError;

/// Plain bytes of a block. Smaller ones cost a small range less, and compress worse.
pub const BLOCK: usize = 128 << 10;
/// Bytes before each block.
const HEAD: usize = 8;
/// Set in the length of a block that is kept as it was.
const RAW: u32 = 1 << 31;
/// Bytes in the table for each block.
const ENTRY: u64 = 4;

/// Blocks of a content of `plain` bytes.
fn blocks(plain: u64) -> u64 {
    plain.div_ceil(BLOCK as u64)
}

/// Plain bytes of one of its blocks.
fn block_len(plain: u64, number: u64) -> usize {
    let begin = number.saturating_mul(BLOCK as u64);
    plain.saturating_sub(begin).min(BLOCK as u64) as usize
}

/// What blocks are compressed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// LZ4: fast, half as good.
    Lz4,
    /// zstd at level 3.
    Zstd,
}

impl FromStr for Codec {
    type Err = String;

    fn from_str(text: &str) -> Result<Codec, String> {
        match text {
            "lz4" => Ok(Codec::Lz4),
            "zstd" => Ok(Codec::Zstd),
            other => Err(format!("`{other}` is not one of lz4, zstd, off")),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        })
    }
}

impl Codec {
    /// Its number in rows.
    pub(super) fn number(self) -> u32 {
        match self {
            Codec::Lz4 => 1,
            Codec::Zstd => 2,
        }
    }

    pub(super) fn of_number(number: u32) -> Result<Codec, RecordError> {
        match number {
            1 => Ok(Codec::Lz4),
            2 => Ok(Codec::Zstd),
            other => Err(RecordError::new(format!(
                "its compression is of the unknown kind {other}"
            ))),
        }
    }
}

/// What the record of a compressed version or part says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compression {
    /// With what; none: its parts say.
    pub codec: Option<Codec>,
    /// Bytes as clients see them.
    pub plain: u64,
}

pub(super) mod wire {
    //! The bytes. Numbers are final.

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Compression {
        /// 1 LZ4, 2 zstd; 0: the parts say.
        #[prost(uint32, tag = "1")]
        pub codec: u32,
        #[prost(uint64, tag = "2")]
        pub plain: u64,
    }
}

impl Compression {
    pub(super) fn to_wire(self) -> wire::Compression {
        wire::Compression {
            codec: self.codec.map_or(0, Codec::number),
            plain: self.plain,
        }
    }

    pub(super) fn of_wire(stored: wire::Compression) -> Result<Compression, RecordError> {
        let codec = match stored.codec {
            0 => None,
            number => Some(Codec::of_number(number)?),
        };
        Ok(Compression {
            codec,
            plain: stored.plain,
        })
    }
}

#[cfg(test)]
mod tests;
