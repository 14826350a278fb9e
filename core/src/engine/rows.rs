//! The body of a block of rows: sorted entries, found without unpacking them.
//!
//! ```text
//!   body    | entry, entry, ... | restart offsets (u32 LE each) | number of restarts (u32 LE) |
//!   entry   | shared (varint) | own key bytes (varint) | row length + 1, 0 = tombstone (varint) | key bytes | row |
//! ```
//! An entry names how many leading bytes its key shares with the one before; at a restart it shares none, so that a
//! search can start there. Data, index and root blocks are made so.
//!
//! Always true:
//! * keys ascend strictly;
//! * bytes that are no such body give an error, never a panic and never another row.

use std::ops::Range;

use bytes::Bytes;

use super::block::{BadBlock, HEADER, u32_at};
use super::row::shared_prefix;

/// Entries from one restart to the next.
const RESTART_EVERY: u32 = 8;

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
        assert!(
            self.count == 0 || *self.last < *key,
            "keys of a block must ascend"
        );
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
        let entries_end = restarts
            .checked_mul(4)
            .and_then(|bytes| tail.checked_sub(bytes))
            .ok_or_else(bad)?;
        if restarts == 0 && entries_end != 0 {
            return Err(bad());
        }
        Ok(Rows {
            body,
            entries_end,
            restarts,
        })
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
            let [shared, own, row] = match entries.get(at..at + 3) {
                // Nearly always each of them is one byte.
                Some(&[shared, own, row]) if (shared | own | row) < 0x80 => {
                    at += 3;
                    [shared, own, row].map(usize::from)
                }
                _ => {
                    let mut number = || Some(take_varint(entries, &mut at)? as usize);
                    [number()?, number()?, number()?]
                }
            };
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
        Ok(self
            .lower_bound(key)?
            .filter(|(exact, _)| *exact)
            .map(|(_, entry)| entry.row))
    }

    /// The row of the first key not below `key`.
    pub fn at_or_after(&self, key: &[u8]) -> Result<Option<Range<usize>>, BadBlock> {
        Ok(self.lower_bound(key)?.and_then(|(_, entry)| entry.row))
    }

    /// A cursor before the first row.
    pub fn cursor(self) -> RowsCursor {
        RowsCursor {
            rows: self,
            key: Vec::new(),
            row: None,
            next: 0,
            on_row: false,
        }
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
        Rows {
            body: Bytes::new(),
            entries_end: 0,
            restarts: 0,
        }
        .cursor()
    }

    /// Another block; keeps its buffer.
    pub fn enter(&mut self, rows: Rows) {
        self.rows = rows;
        self.next = 0;
        self.on_row = false;
    }

    /// Stands nowhere until it enters another block.
    pub fn enter_nothing(&mut self) {
        self.enter(Rows {
            body: Bytes::new(),
            entries_end: 0,
            restarts: 0,
        });
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
            return Err(BadBlock(format!(
                "entry at {} shares more than there is",
                self.next
            )));
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
}
