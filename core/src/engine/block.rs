//! A block: the unit that runs are read, checked and cached in.
//!
//! ```text
//!   sealed block   | magic | crc32c | run number | run nonce | offset | length | kind, codec, 0 | body ...
//!   body of rows   | entry, entry, ... | restart offsets (u32 LE each) | number of restarts (u32 LE) |
//!   entry          | shared (varint) | own key bytes (varint) | row length + 1, 0 = tombstone (varint) | key bytes | row |
//! ```
//! An entry names how many leading bytes its key shares with the one before; at a restart it shares none, so that a
//! search can start there.
//!
//! Always true:
//! * a block says which run it belongs to and where in it: one that a disk put elsewhere is noticed;
//! * every byte behind the checksum is covered by it;
//! * keys of a block of rows ascend strictly.
//!
//! Elsewhere: which blocks a run has and how they are found (`run`, `run_writer`); bytes in `docs/formats/runs.md`.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use crc_fast::CrcAlgorithm;

use super::tree::shared_prefix;

/// Bytes before the body.
pub const HEADER: usize = 40;
/// "mkr1", little-endian.
const MAGIC: u32 = u32::from_le_bytes(*b"mkr1");
/// The checksum covers everything behind itself.
const CHECKED_FROM: usize = 8;
/// Entries from one restart to the next.
const RESTART_EVERY: u32 = 8;

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
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The little-endian number at `at`; 0 where the bytes end before.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
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
    let owner = RunId { number: u64_at(block, 8), nonce: u64_at(block, 16) };
    if owner != run || u64_at(block, 24) != offset {
        return bad(format!("this is the block at {} of run {owner}", u64_at(block, 24)));
    }
    if u32_at(block, 32) as usize != block.len() - HEADER || block[36] != kind as u8 || block[37] != 0 {
        return bad(format!("{} bytes of kind {} codec {}", u32_at(block, 32), block[36], block[37]));
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

/// Appends a LEB128 number.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a LEB128 number at `*at` and moves on; `None` if it is cut or too long.
pub fn take_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Builds the body of a block of rows.
#[derive(Default)]
pub struct RowsBuilder {
    body: Vec<u8>,
    restarts: Vec<u32>,
    last: Vec<u8>,
    count: u32,
}

impl RowsBuilder {
    /// Appends a row, or a tombstone; keys ascend strictly.
    pub fn add(&mut self, key: &[u8], row: Option<&[u8]>) {
        assert!(self.count == 0 || *self.last < *key, "keys of a block must ascend");
        let shared = if self.count.is_multiple_of(RESTART_EVERY) {
            self.restarts.push(self.body.len() as u32);
            0
        } else {
            shared_prefix(&self.last, key)
        };
        put_varint(&mut self.body, shared as u64);
        put_varint(&mut self.body, (key.len() - shared) as u64);
        put_varint(&mut self.body, row.map_or(0, |row| row.len() as u64 + 1));
        self.body.extend_from_slice(&key[shared..]);
        self.body.extend_from_slice(row.unwrap_or_default());
        self.last.truncate(shared);
        self.last.extend_from_slice(&key[shared..]);
        self.count += 1;
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.body.len() + 4 * (self.restarts.len() + 1)
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The key added last.
    pub fn last_key(&self) -> &[u8] {
        &self.last
    }

    /// The body; the builder starts anew.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut body = std::mem::take(&mut self.body);
        for restart in &self.restarts {
            body.extend_from_slice(&restart.to_le_bytes());
        }
        body.extend_from_slice(&(self.restarts.len() as u32).to_le_bytes());
        self.restarts.clear();
        self.last.clear();
        self.count = 0;
        body
    }
}

/// One entry of a block as it lies there.
#[derive(Clone, Debug)]
struct Entry {
    shared: usize,
    own_key: Range<usize>,
    /// `None` for a tombstone.
    row: Option<Range<usize>>,
    next: usize,
}

/// The body of a block of rows, ready to be searched. Clones share the bytes.
#[derive(Clone)]
pub struct Rows {
    body: Bytes,
    entries_end: usize,
    restarts: usize,
}

impl Rows {
    /// Looks at the restarts; the rest is checked as it is read.
    pub fn parse(body: Bytes) -> Result<Rows, BadBlock> {
        let bad = || BadBlock("restarts do not fit the block".into());
        let tail = body.len().checked_sub(4).ok_or_else(bad)?;
        let restarts = u32_at(&body, tail) as usize;
        let entries_end = restarts.checked_mul(4).and_then(|bytes| tail.checked_sub(bytes)).ok_or_else(bad)?;
        if restarts == 0 && entries_end != 0 {
            return Err(bad());
        }
        Ok(Rows { body, entries_end, restarts })
    }

    /// Bytes it holds in memory.
    pub fn bytes(&self) -> usize {
        HEADER + self.body.len()
    }

    /// A row found in this block; shares its memory.
    pub fn slice(&self, row: Range<usize>) -> Bytes {
        self.body.slice(row)
    }

    fn restart(&self, number: usize) -> usize {
        u32_at(&self.body, self.entries_end + 4 * number) as usize
    }

    fn entry(&self, at: usize) -> Result<Entry, BadBlock> {
        let read = || {
            let mut at = at;
            let entries = self.body.get(..self.entries_end)?;
            let shared = take_varint(entries, &mut at)? as usize;
            let own = take_varint(entries, &mut at)? as usize;
            let row = take_varint(entries, &mut at)? as usize;
            let key_end = at.checked_add(own)?;
            let next = key_end.checked_add(row.saturating_sub(1))?;
            (next <= self.entries_end).then_some(Entry {
                shared,
                own_key: at..key_end,
                row: (row > 0).then_some(key_end..next),
                next,
            })
        };
        read().ok_or_else(|| BadBlock(format!("entry at {at} does not fit the block")))
    }

    /// The last restart whose key is not above `key`, or the first.
    fn restart_before(&self, key: &[u8]) -> Result<usize, BadBlock> {
        let (mut low, mut high) = (0, self.restarts);
        while low + 1 < high {
            let middle = (low + high) / 2;
            let entry = self.entry(self.restart(middle))?;
            if self.body[entry.own_key] <= *key {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The first entry not below `key`: whether it is `key` itself, and its row. Builds no keys: it keeps track of how
    /// many bytes of `key` the entry before matched, and how many of those the next one shares.
    fn lower_bound(&self, key: &[u8]) -> Result<Option<(bool, Entry)>, BadBlock> {
        if self.restarts == 0 {
            return Ok(None);
        }
        let mut at = self.restart(self.restart_before(key)?);
        let mut matched = 0;
        while at < self.entries_end {
            let entry = self.entry(at)?;
            at = entry.next;
            match entry.shared.cmp(&matched) {
                // It goes on like the entry before it, which was below.
                std::cmp::Ordering::Greater => continue,
                // It leaves the path on which the one before it matched, upwards.
                std::cmp::Ordering::Less => return Ok(Some((false, entry))),
                std::cmp::Ordering::Equal => {}
            }
            let (own, wanted) = (&self.body[entry.own_key.clone()], &key[matched..]);
            match own.cmp(wanted) {
                std::cmp::Ordering::Less => matched += shared_prefix(own, wanted),
                std::cmp::Ordering::Equal => return Ok(Some((true, entry))),
                std::cmp::Ordering::Greater => return Ok(Some((false, entry))),
            }
        }
        Ok(None)
    }

    /// The row under `key`: `None` if the block does not know it, `Some(None)` for a tombstone.
    pub fn find(&self, key: &[u8]) -> Result<Option<Option<Range<usize>>>, BadBlock> {
        Ok(self.lower_bound(key)?.filter(|(exact, _)| *exact).map(|(_, entry)| entry.row))
    }

    /// The row of the first key not below `key`.
    pub fn at_or_after(&self, key: &[u8]) -> Result<Option<Range<usize>>, BadBlock> {
        Ok(self.lower_bound(key)?.and_then(|(_, entry)| entry.row))
    }

    /// A cursor before the first row.
    pub fn cursor(self) -> RowsCursor {
        RowsCursor { rows: self, key: Vec::new(), row: None, next: 0, on_row: false }
    }
}

/// Walks over a block of rows.
pub struct RowsCursor {
    rows: Rows,
    key: Vec<u8>,
    row: Option<Range<usize>>,
    next: usize,
    on_row: bool,
}

impl RowsCursor {
    /// A cursor over nothing.
    pub fn empty() -> RowsCursor {
        Rows { body: Bytes::new(), entries_end: 0, restarts: 0 }.cursor()
    }

    /// Another block; keeps its buffer.
    pub fn enter(&mut self, rows: Rows) {
        self.rows = rows;
        self.next = 0;
        self.on_row = false;
    }

    /// Stands nowhere until it enters another block.
    pub fn enter_nothing(&mut self) {
        self.enter(Rows { body: Bytes::new(), entries_end: 0, restarts: 0 });
    }

    /// Moves to the first key not below `key`; false: there is none here.
    pub fn seek(&mut self, key: &[u8]) -> Result<bool, BadBlock> {
        self.on_row = false;
        if self.rows.restarts == 0 {
            return Ok(false);
        }
        self.next = self.rows.restart(self.rows.restart_before(key)?);
        while self.advance()? {
            if *self.key >= *key {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One row on; false: that was the last.
    pub fn advance(&mut self) -> Result<bool, BadBlock> {
        self.on_row = false;
        if self.next >= self.rows.entries_end {
            return Ok(false);
        }
        let entry = self.rows.entry(self.next)?;
        if entry.shared > self.key.len() {
            return Err(BadBlock(format!("entry at {} shares more than there is", self.next)));
        }
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(&self.rows.body[entry.own_key]);
        self.row = entry.row;
        self.next = entry.next;
        self.on_row = true;
        Ok(true)
    }

    /// Whether it stands on a row.
    pub fn on_row(&self) -> bool {
        self.on_row
    }

    /// The key it stands on.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The row it stands on, without a copy; `None` for a tombstone.
    pub fn row(&self) -> Option<&[u8]> {
        self.row.clone().map(|row| &self.rows.body[row])
    }

    /// The row it stands on, sharing the block's memory.
    pub fn shared_row(&self) -> Option<Bytes> {
        self.row.clone().map(|row| self.rows.slice(row))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const RUN: RunId = RunId { number: 7, nonce: 0xfeed };

    proptest! {
        #[test]
        fn rows_of_a_block_are_found_again(
            model in proptest::collection::btree_map(
                proptest::collection::vec(0u8..4, 0..10),
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)), 0..200),
            asked in proptest::collection::vec(0u8..4, 0..10),
        ) {
            let model: BTreeMap<Vec<u8>, Option<Vec<u8>>> = model;
            let mut builder = RowsBuilder::default();
            for (key, row) in &model {
                builder.add(key, row.as_deref());
            }
            let len = builder.len();
            let rows = Rows::parse(Bytes::from(builder.finish())).unwrap();
            prop_assert_eq!(rows.body.len(), len);
            for (key, row) in &model {
                prop_assert_eq!(rows.find(key).unwrap().map(|r| r.map(|r| rows.slice(r).to_vec())), Some(row.clone()));
            }
            prop_assert_eq!(rows.find(&asked).unwrap().is_some(), model.contains_key(&asked));
            let mut cursor = rows.clone().cursor();
            let mut on = cursor.seek(&asked).unwrap();
            for (key, row) in model.range(asked.clone()..) {
                prop_assert!(on);
                prop_assert_eq!((cursor.key(), cursor.row()), (&key[..], row.as_deref()));
                on = cursor.advance().unwrap();
            }
            prop_assert!(!on);
            let first = model.range(asked.clone()..).next().and_then(|(_, row)| row.clone());
            prop_assert_eq!(rows.at_or_after(&asked).unwrap().map(|r| rows.slice(r).to_vec()), first);
        }

        /// Checksums pass only what was written, but a reader must not fall over whatever it is given.
        #[test]
        fn arbitrary_bytes_never_panic_a_reader(body in proptest::collection::vec(any::<u8>(), 0..200), key: Vec<u8>) {
            if let Ok(rows) = Rows::parse(Bytes::from(body)) {
                let _ = rows.find(&key);
                let mut cursor = rows.cursor();
                let _ = cursor.seek(&key);
                while let Ok(true) = cursor.advance() {}
            }
        }
    }

    /// A disk that flips a bit or returns another block is caught, whichever bit and block it is.
    #[test]
    fn flipped_or_misplaced_block_is_noticed() {
        let block = seal(BlockKind::Data, RUN, 4096, b"body");
        assert_eq!(unseal(BlockKind::Data, RUN, 4096, &block).unwrap(), &b"body"[..]);
        for bit in 0..block.len() * 8 {
            let mut bad = block.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(BlockKind::Data, RUN, 4096, &Bytes::from(bad)).is_err(), "bit {bit}");
        }
        assert!(unseal(BlockKind::Data, RUN, 0, &block).is_err());
        assert!(unseal(BlockKind::Index, RUN, 4096, &block).is_err());
        assert!(unseal(BlockKind::Data, RunId { number: 7, nonce: 0 }, 4096, &block).is_err());
        assert!(unseal(BlockKind::Data, RUN, 4096, &block.slice(..block.len() - 1)).is_err());
    }
}
