//! Plain bytes become blocks, as they come.

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, checksum};

use super::{BLOCK, Codec, HEAD, RAW};

/// Level of zstd: its default.
const LEVEL: i32 = 3;
/// After so many blocks in a row that did not shrink, only every so-many-th is tried.
const PATIENCE: u32 = 4;
/// See there.
const TRY_EVERY: u32 = 8;

/// What a block may take at most, compressed.
fn at_most(plain: usize) -> usize {
    plain - plain / 16
}

/// One compressor, with its memory.
enum Compressor {
    Lz4,
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Compressor {
    /// `None`: zstd could not have its memory; then blocks are kept as they are.
    fn new(codec: Codec) -> Option<Compressor> {
        match codec {
            Codec::Lz4 => Some(Compressor::Lz4),
            Codec::Zstd => {
                let zstd = zstd::bulk::Compressor::new(LEVEL).ok()?;
                Some(Compressor::Zstd(Box::new(zstd)))
            }
        }
    }

    /// Into the beginning of `room`, if it shrinks enough.
    fn compress(&mut self, plain: &[u8], room: &mut Vec<u8>) -> Option<usize> {
        let enough = at_most(plain.len());
        let len = match self {
            Compressor::Lz4 => {
                let most = lz4_flex::block::get_maximum_output_size(plain.len());
                room.resize(most.max(room.len()), 0);
                lz4_flex::block::compress_into(plain, room).ok()?
            }
            Compressor::Zstd(zstd) => {
                room.resize(enough.max(room.len()), 0);
                zstd.compress_to_buffer(plain, &mut room[..enough]).ok()?
            }
        };
        (len <= enough).then_some(len)
    }
}

/// Whether compressing pays: looked at in a block at the beginning and, if that does not shrink, one in the middle.
pub fn is_worth_it(codec: Codec, sample: &[u8]) -> bool {
    let Some(mut compressor) = Compressor::new(codec) else {
        return false;
    };
    let mut shrinks = |from: usize| {
        let block = &sample[from..sample.len().min(from + BLOCK)];
        compressor.compress(block, &mut Vec::new()).is_some()
    };
    let middle = sample.len() / 2;
    shrinks(0) || (sample.len() > 2 * BLOCK && shrinks(middle))
}

/// Packs a content, as it comes.
pub struct Packer {
    codec: Codec,
    compressor: Option<Compressor>,
    /// Of the block that is being filled.
    open: BytesMut,
    /// Packed, and not taken yet.
    packed: BytesMut,
    room: Vec<u8>,
    /// Lengths of blocks, with their heads.
    table: Vec<u32>,
    plain: u64,
    taken: u64,
    /// Blocks in a row that did not shrink.
    kept: u32,
}

impl Packer {
    /// Nothing came yet.
    pub fn new(codec: Codec) -> Packer {
        Packer {
            codec,
            compressor: Compressor::new(codec),
            open: BytesMut::new(),
            packed: BytesMut::new(),
            room: Vec::new(),
            table: Vec::new(),
            plain: 0,
            taken: 0,
            kept: 0,
        }
    }

    /// With what.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Plain bytes that came.
    pub fn plain(&self) -> u64 {
        self.plain
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.plain += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.open.is_empty() && bytes.len() >= BLOCK {
                let (block, later) = bytes.split_at(BLOCK);
                self.pack(block);
                bytes = later;
                continue;
            }
            let room = BLOCK - self.open.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.extend_from_slice(now);
            bytes = later;
            if self.open.len() == BLOCK {
                let block = std::mem::take(&mut self.open);
                self.pack(&block);
                self.open = block;
                self.open.clear();
            }
        }
    }

    fn pack(&mut self, plain: &[u8]) {
        let tries = self.kept < PATIENCE || self.kept.is_multiple_of(TRY_EVERY);
        let compressed = match &mut self.compressor {
            Some(compressor) if tries => compressor.compress(plain, &mut self.room),
            _ => None,
        };
        let (length, block) = match compressed {
            Some(len) => (len as u32, &self.room[..len]),
            None => (plain.len() as u32 | RAW, plain),
        };
        self.kept = match compressed {
            Some(_) => 0,
            None => self.kept.saturating_add(1),
        };
        self.packed.reserve(HEAD + block.len());
        self.packed.put_u32_le(length);
        let crc = checksum(CrcAlgorithm::Crc32Iscsi, plain) as u32;
        self.packed.put_u32_le(crc);
        self.packed.extend_from_slice(block);
        self.table.push((HEAD + block.len()) as u32);
    }

    /// What is packed and was not taken yet.
    pub fn take(&mut self) -> Bytes {
        self.taken += self.packed.len() as u64;
        self.packed.split().freeze()
    }

    /// That was all: the rest of it, and the length of everything.
    pub fn finish(mut self) -> (Bytes, u64) {
        if !self.open.is_empty() {
            let block = std::mem::take(&mut self.open);
            self.pack(&block);
        }
        for length in std::mem::take(&mut self.table) {
            self.packed.put_u32_le(length);
        }
        let rest = self.take();
        (rest, self.taken)
    }
}
