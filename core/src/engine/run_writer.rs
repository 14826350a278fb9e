//! Writes a run: rows that arrive in order become blocks, an index, filters and a footer.
//!
//! ```text
//!   | data | data | ... | filter | index | data | ... | filter | index | root | footer |
//!    '------ one part --------------------'                              ^ length - FOOTER_LEN
//! ```
//! An index block holds, for each data block, a key that is not below its last and below the next one's first, and its
//! place. The root holds the same for index blocks and their filters; it is all that a reader keeps in memory.
//!
//! Always true:
//! * the same rows under the same id give the same bytes;
//! * all copies get the same writes; after `finish` every copy is fsynced (the caller syncs the directory).
//!
//! Elsewhere: reading (`run`); bytes in `docs/formats/runs.md`.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};

use super::block::{BlockKind, RunId, seal};
use super::filter::{self, KeyHash};
use super::row::shared_prefix;
use super::rows::{RowsBuilder, put_varint};
use super::run::{FOOTER_BODY, FORMAT, RunMeta};
use crate::env::disk::File;

/// Data blocks are closed once they are this long: long enough that the index of a million rows is small, short enough
/// that a listing, which takes a few rows from each of 256 places in every run, does not read mostly what it does not want.
pub const BLOCK_TARGET: usize = 4 << 10;
/// Index blocks are closed once they are this long.
const INDEX_TARGET: usize = 8 << 10;
/// Bytes gathered before they are written.
const WRITE_AT_ONCE: usize = 256 << 10;
/// Synced every so often, so that a big run does not stand in front of the log's next fsync all at once.
const SYNC_EVERY: u64 = 8 << 20;

/// Rows in ascending order of keys, one at a time, without copies.
pub trait RowSource: Send {
    /// To the next row (the first one, at first); false at the end.
    fn advance(&mut self) -> Result<bool, super::EngineError>;
    /// Its key.
    fn key(&self) -> &[u8];
    /// Its row; `None` for a tombstone.
    fn row(&self) -> Option<&[u8]>;
}

/// A run being written.
pub struct RunWriter {
    id: RunId,
    copies: Vec<Arc<dyn File>>,
    block_target: usize,
    data: RowsBuilder,
    index: RowsBuilder,
    root: RowsBuilder,
    hashes: Vec<KeyHash>,
    /// Last key and place of a data block that still lacks its index entry: the key between it and the next is not known.
    open_entry: Option<(Vec<u8>, u64, usize)>,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    written: u64,
    synced: u64,
    offset: u64,
    crc: Digest,
    data_blocks: u64,
    key_bytes: u64,
    row_bytes: u64,
    rows: u64,
    tombstones: u64,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
}

/// A key that is not below `last` and is below `next`: the beginning of `next` up to where they differ, if that is shorter.
fn between<'a>(last: &'a [u8], next: &'a [u8]) -> &'a [u8] {
    let end = shared_prefix(last, next) + 1;
    if end < next.len() && end < last.len() {
        &next[..end]
    } else {
        last
    }
}

impl RunWriter {
    /// Writes into these new, empty files.
    pub fn new(id: RunId, copies: Vec<Arc<dyn File>>) -> RunWriter {
        RunWriter {
            id,
            copies,
            block_target: BLOCK_TARGET,
            data: RowsBuilder::default(),
            index: RowsBuilder::default(),
            root: RowsBuilder::default(),
            hashes: Vec::new(),
            open_entry: None,
            pending: Vec::new(),
            pending_bytes: 0,
            written: 0,
            synced: 0,
            offset: 0,
            crc: Digest::new(CrcAlgorithm::Crc64Nvme),
            data_blocks: 0,
            key_bytes: 0,
            row_bytes: 0,
            rows: 0,
            tombstones: 0,
            first_key: Vec::new(),
            last_key: Vec::new(),
        }
    }

    /// Data blocks of another length: as the first version wrote them.
    #[cfg(test)]
    pub(super) fn with_blocks_of(mut self, bytes: usize) -> RunWriter {
        self.block_target = bytes;
        self
    }

    /// Rows and tombstones so far.
    pub fn len(&self) -> u64 {
        self.rows + self.tombstones
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the file so far.
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// Whether enough is gathered for a write.
    pub fn wants_drain(&self) -> bool {
        self.pending_bytes >= WRITE_AT_ONCE
    }

    /// Adds a row or a tombstone; keys ascend strictly.
    pub fn add(&mut self, key: &[u8], row: Option<&[u8]>) {
        if self.is_empty() {
            self.first_key = key.to_vec();
        }
        if let Some((last, at, len)) = self.open_entry.take() {
            self.index_block(between(&last, key), at, len);
            if self.index.len() >= INDEX_TARGET {
                self.close_part();
            }
        }
        self.data.add(key, row);
        self.hashes.push(KeyHash::of(key));
        self.key_bytes += key.len() as u64;
        match row {
            Some(row) => {
                self.rows += 1;
                self.row_bytes += row.len() as u64;
            }
            None => self.tombstones += 1,
        }
        if self.data.len() >= self.block_target {
            self.close_data();
        }
    }

    fn close_data(&mut self) {
        let last = self.data.last_key().to_vec();
        let body = self.data.finish();
        let (at, len) = self.push(BlockKind::Data, &body);
        self.data_blocks += 1;
        self.last_key.clone_from(&last);
        self.open_entry = Some((last, at, len));
    }

    fn index_block(&mut self, key: &[u8], at: u64, len: usize) {
        let mut place = Vec::with_capacity(12);
        put_varint(&mut place, at);
        put_varint(&mut place, len as u64);
        self.index.add(key, Some(&place));
    }

    fn close_part(&mut self) {
        let last = self.index.last_key().to_vec();
        let body = filter::build(&self.hashes);
        self.hashes.clear();
        let (filter_at, filter_len) = self.push(BlockKind::Filter, &body);
        let body = self.index.finish();
        let (at, len) = self.push(BlockKind::Index, &body);
        let mut places = Vec::with_capacity(24);
        for number in [at, len as u64, filter_at, filter_len as u64] {
            put_varint(&mut places, number);
        }
        self.root.add(&last, Some(&places));
    }

    fn push(&mut self, kind: BlockKind, body: &[u8]) -> (u64, usize) {
        let block = seal(kind, self.id, self.offset, body);
        let (at, len) = (self.offset, block.len());
        self.crc.update(&block);
        self.offset += len as u64;
        self.pending_bytes += len;
        self.pending.push(block);
        (at, len)
    }

    /// Writes what is gathered.
    pub async fn drain(&mut self) -> io::Result<()> {
        let parts = std::mem::take(&mut self.pending);
        let bytes = std::mem::take(&mut self.pending_bytes) as u64;
        let sync = self.written + bytes - self.synced >= SYNC_EVERY;
        for copy in &self.copies {
            let written = copy.write_at(&parts, self.written).await;
            if !crate::planted!("enospc-is-success") {
                written?;
            }
            if sync {
                copy.sync_data().await?;
            }
        }
        self.written += bytes;
        if sync {
            self.synced = self.written;
        }
        Ok(())
    }

    /// Closes the run and makes every copy durable. At least one row must have been added.
    pub async fn finish(mut self) -> io::Result<RunMeta> {
        assert!(!self.is_empty(), "a run without rows is never written");
        if !self.data.is_empty() {
            self.close_data();
        }
        if let Some((last, at, len)) = self.open_entry.take() {
            self.index_block(&last, at, len);
        }
        if !self.index.is_empty() {
            self.close_part();
        }
        let body = self.root.finish();
        let (root_at, root_len) = self.push(BlockKind::Root, &body);
        let footer = self.footer(root_at, root_len);
        self.push(BlockKind::Footer, &footer);
        self.drain().await?;
        for copy in &self.copies {
            copy.sync_data().await?;
        }
        Ok(RunMeta {
            id: self.id,
            len: self.offset,
            crc64: self.crc.finalize(),
            rows: self.rows,
            tombstones: self.tombstones,
            min: Bytes::from(self.first_key),
            max: Bytes::from(self.last_key),
        })
    }

    fn footer(&self, root_at: u64, root_len: usize) -> Vec<u8> {
        let mut body = Vec::with_capacity(FOOTER_BODY);
        body.extend_from_slice(&FORMAT.to_le_bytes());
        body.extend_from_slice(&(root_len as u32).to_le_bytes());
        let numbers = [
            root_at,
            self.rows,
            self.tombstones,
            self.data_blocks,
            self.key_bytes,
            self.row_bytes,
        ];
        numbers
            .iter()
            .for_each(|number| body.extend_from_slice(&number.to_le_bytes()));
        body.resize(FOOTER_BODY, 0);
        body
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn separator_lies_between_two_blocks(mut keys in proptest::collection::vec(
            proptest::collection::vec(0u8..3, 0..6), 2)
        ) {
            keys.sort();
            if keys[0] < keys[1] {
                let key = between(&keys[0], &keys[1]);
                prop_assert!(*key >= *keys[0] && *key < *keys[1]);
            }
        }
    }
}
