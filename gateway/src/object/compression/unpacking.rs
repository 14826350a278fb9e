//! Blocks become plain bytes again, for a range of an object that lies in one stretch or in several.
//!
//! ```text
//!   Tables   which parts of the tables must be read first, to know where the range's first and last block lie
//!   Unpacker which packed bytes are needed then, in one go; fed with them, it gives the plain ones
//! ```

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, checksum};

use super::{BLOCK, Codec, ENTRY, HEAD, RAW, block_len, blocks};

/// A stretch of content: an object, or a part of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// With what it is packed; none: it is not.
    pub codec: Option<Codec>,
    /// Plain bytes.
    pub plain: u64,
    /// Bytes as they are packed (and before they are encrypted).
    pub packed: u64,
}

impl Stretch {
    fn table_len(&self) -> u64 {
        match self.codec {
            Some(_) => blocks(self.plain) * ENTRY,
            None => 0,
        }
    }

    /// The blocks that hold the plain bytes `range`.
    fn blocks_of(&self, range: &Range<u64>) -> Range<u64> {
        range.start / BLOCK as u64..range.end.div_ceil(BLOCK as u64)
    }
}

/// What is wrong with packed content.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("compressed block {number} cannot be unpacked: {what}")]
pub struct BadBlock {
    /// Which one, from 0, in the object or part.
    pub number: u64,
    /// Why.
    pub what: &'static str,
}

/// A stretch that a range touches.
#[derive(Clone, Debug)]
struct Touched {
    stretch: Stretch,
    /// Where it begins in the packed content.
    at: u64,
    /// Plain bytes within it.
    range: Range<u64>,
    /// Where the wanted blocks begin and end within its packed bytes, once known.
    packed: Range<u64>,
}

/// What must be looked up before a range can be read.
pub struct Tables {
    touched: VecDeque<Touched>,
}

impl Tables {
    /// For the plain bytes `range`, not empty and within an object of these stretches. `None`: they cannot be, the
    /// lengths contradict each other.
    pub fn new(stretches: impl IntoIterator<Item = Stretch>, range: &Range<u64>) -> Option<Tables> {
        let mut touched = VecDeque::new();
        let (mut plain_at, mut packed_at) = (0_u64, 0_u64);
        for stretch in stretches {
            let end = plain_at.checked_add(stretch.plain)?;
            if plain_at < range.end && end > range.start {
                let within = range.start.max(plain_at) - plain_at..range.end.min(end) - plain_at;
                let packed = match stretch.codec {
                    None if stretch.packed != stretch.plain => return None,
                    None => within.clone(),
                    Some(_) => 0..stretch.packed.checked_sub(stretch.table_len())?,
                };
                touched.push_back(Touched {
                    stretch,
                    at: packed_at,
                    range: within,
                    packed,
                });
            }
            (plain_at, packed_at) = (end, packed_at.checked_add(stretch.packed)?);
        }
        (plain_at >= range.end).then_some(Tables { touched })
    }

    /// Packed bytes to read first, for [`Tables::learn`]: the entries of tables up to the range's first and last block.
    /// Nothing for a range that begins and ends where stretches do.
    pub fn needed(&self) -> Vec<(usize, Range<u64>)> {
        let needs = |(number, touched): (usize, &Touched)| {
            let Touched { stretch, at, .. } = touched;
            stretch.codec?;
            let wanted = stretch.blocks_of(&touched.range);
            let all = blocks(stretch.plain);
            let entries = match wanted.end < all {
                true => wanted.end,
                false => wanted.start,
            };
            let table = at + stretch.packed - stretch.table_len();
            (entries > 0).then(|| (number, table..table + entries * ENTRY))
        };
        self.touched.iter().enumerate().filter_map(needs).collect()
    }

    /// What was read of the table of the stretch with that number.
    pub fn learn(&mut self, number: usize, entries: &[u8]) -> Result<(), BadBlock> {
        let Some(touched) = self.touched.get_mut(number) else {
            return Ok(());
        };
        let wanted = touched.stretch.blocks_of(&touched.range);
        let data = touched.packed.end;
        let mut at = 0_u64;
        for (number, entry) in (0_u64..).zip(entries.chunks_exact(ENTRY as usize)) {
            if number == wanted.start {
                touched.packed.start = at;
            }
            let length = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
            at += u64::from(length);
            if length <= HEAD as u32 || length as usize > HEAD + BLOCK || at > data {
                let what = "its length in the table is impossible";
                return Err(BadBlock { number, what });
            }
        }
        let known = entries.len() as u64 / ENTRY;
        if known == wanted.start {
            touched.packed.start = at;
        }
        if known == wanted.end && wanted.end < blocks(touched.stretch.plain) {
            touched.packed.end = at;
        }
        Ok(())
    }

    /// The packed bytes that the range needs, and who unpacks them.
    pub fn unpacker(self) -> (Range<u64>, Unpacker) {
        let from = self.touched.front().map_or(0, |t| t.at + t.packed.start);
        let to = self.touched.back().map_or(0, |t| t.at + t.packed.end);
        let last = self.touched.len().saturating_sub(1);
        let mut steps = VecDeque::with_capacity(self.touched.len());
        for (number, Touched { stretch, range, .. }) in self.touched.into_iter().enumerate() {
            match stretch.codec {
                None => steps.push_back(Step::Plain(range.end - range.start)),
                Some(codec) => {
                    let wanted = stretch.blocks_of(&range);
                    steps.push_back(Step::Blocks {
                        codec,
                        plain: stretch.plain,
                        range,
                        wanted,
                    });
                    if number < last {
                        steps.push_back(Step::Skip(stretch.table_len()));
                    }
                }
            }
        }
        let unpacker = Unpacker {
            steps,
            buffer: BytesMut::new(),
            zstd: None,
        };
        (from..to, unpacker)
    }
}

/// What to do with the bytes that come next.
enum Step {
    /// So many are as they are.
    Plain(u64),
    /// So many are a table.
    Skip(u64),
    /// Blocks of a stretch.
    Blocks {
        codec: Codec,
        /// Bytes of the stretch.
        plain: u64,
        /// Of it.
        range: Range<u64>,
        /// Numbers of the blocks still to come.
        wanted: Range<u64>,
    },
}

/// Unpacks a range.
pub struct Unpacker {
    steps: VecDeque<Step>,
    buffer: BytesMut,
    zstd: Option<Box<zstd::bulk::Decompressor<'static>>>,
}

impl Unpacker {
    /// The next packed bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next plain bytes of the range; `None`: more packed ones are needed, or it was all.
    pub fn unpack_next(&mut self) -> Result<Option<Bytes>, BadBlock> {
        loop {
            let here = self.buffer.len() as u64;
            match self.steps.front_mut() {
                None => return Ok(None),
                Some(Step::Plain(0) | Step::Skip(0)) => drop(self.steps.pop_front()),
                Some(Step::Blocks { wanted, .. }) if wanted.is_empty() => {
                    self.steps.pop_front();
                }
                Some(Step::Plain(_) | Step::Skip(_)) if here == 0 => return Ok(None),
                Some(Step::Skip(left)) => {
                    let now = here.min(*left);
                    *left -= now;
                    self.buffer.advance(now as usize);
                }
                Some(Step::Plain(left)) => {
                    let now = here.min(*left);
                    *left -= now;
                    return Ok(Some(self.buffer.split_to(now as usize).freeze()));
                }
                Some(Step::Blocks { .. }) => return self.block(),
            }
        }
    }

    /// Every byte of the range was given out.
    pub fn is_done(&self) -> bool {
        self.steps.iter().all(|step| match step {
            Step::Plain(left) => *left == 0,
            Step::Skip(_) => true,
            Step::Blocks { wanted, .. } => wanted.is_empty(),
        })
    }

    fn block(&mut self) -> Result<Option<Bytes>, BadBlock> {
        let Some(Step::Blocks {
            codec,
            plain,
            range,
            wanted,
        }) = self.steps.front_mut()
        else {
            return Ok(None);
        };
        let (codec, number) = (*codec, wanted.start);
        let bad = |what| BadBlock { number, what };
        if self.buffer.len() < HEAD {
            return Ok(None);
        }
        let mut head = &self.buffer[..HEAD];
        let (length, crc) = (head.get_u32_le(), head.get_u32_le());
        let (is_raw, length) = (length & RAW != 0, (length & !RAW) as usize);
        let whole = block_len(*plain, number);
        let possible = match is_raw {
            true => length == whole,
            false => length > 0 && length < whole,
        };
        if !possible {
            return Err(bad("its length is impossible"));
        }
        if self.buffer.len() < HEAD + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        let packed = self.buffer.split_to(length);
        let mut block = match is_raw {
            true => packed.freeze(),
            false => unpack(codec, &mut self.zstd, &packed, whole).ok_or(bad("it is malformed"))?,
        };
        if checksum(CrcAlgorithm::Crc32Iscsi, &block) as u32 != crc {
            return Err(bad("its checksum is wrong"));
        }
        let begin = number * BLOCK as u64;
        let from = range.start.saturating_sub(begin) as usize;
        block.truncate((range.end - begin).min(whole as u64) as usize);
        block.advance(from);
        wanted.start += 1;
        Ok(Some(block))
    }
}

/// Exactly `whole` bytes, or nothing: room for more is never given.
fn unpack(
    codec: Codec,
    zstd: &mut Option<Box<zstd::bulk::Decompressor<'static>>>,
    packed: &[u8],
    whole: usize,
) -> Option<Bytes> {
    let mut plain = vec![0; whole];
    let len = match codec {
        Codec::Lz4 => lz4_flex::block::decompress_into(packed, &mut plain).ok()?,
        Codec::Zstd => {
            if zstd.is_none() {
                *zstd = Some(Box::new(zstd::bulk::Decompressor::new().ok()?));
            }
            let decompressor = zstd.as_mut()?;
            decompressor
                .decompress_to_buffer(packed, &mut plain[..])
                .ok()?
        }
    };
    (len == whole).then(|| Bytes::from(plain))
}
