//! The root of a run: for each part of it, the last key and where its index and filter blocks lie. All that a reader
//! needs of a run in memory: about 50 bytes for 10,000 rows. The blocks it names are held here, too, once they were read,
//! while there is room for them (`BlockCache::pin`).

use std::sync::OnceLock;

use bytes::Bytes;

use super::block::BadBlock;
use super::rows::{Rows, take_varint};

/// One index block and its filter.
#[derive(Default)]
pub(super) struct Part {
    /// Offset and length of the index block.
    pub(super) index: (u64, usize),
    /// Of the filter block; length 0: there is none.
    pub(super) filter: (u64, usize),
    /// The index block, held.
    pub(super) held_index: OnceLock<Rows>,
    /// The filter block, held.
    pub(super) held_filter: OnceLock<Bytes>,
}

impl Part {
    /// Bytes of the blocks that are held.
    pub(super) fn held(&self) -> usize {
        let index = self.held_index.get().map_or(0, Rows::bytes);
        index + self.held_filter.get().map_or(0, Bytes::len)
    }
}

/// The upper end of the index.
#[derive(Default)]
pub(super) struct Root {
    keys: Vec<u8>,
    ends: Vec<u32>,
    pub(super) parts: Vec<Part>,
}

impl Root {
    /// From the body of a root block.
    pub(super) fn parse(body: Bytes) -> Result<Root, BadBlock> {
        let mut root = Root::default();
        let mut cursor = Rows::parse(body)?.cursor();
        while cursor.advance()? {
            let mut at = 0;
            let mut number = || take_varint(cursor.row().unwrap_or_default(), &mut at);
            let numbers = [number(), number(), number(), number()];
            let [
                Some(index_at),
                Some(index_len),
                Some(filter_at),
                Some(filter_len),
            ] = numbers
            else {
                return Err(BadBlock("a place in the root is cut".into()));
            };
            root.keys.extend_from_slice(cursor.key());
            root.ends.push(root.keys.len() as u32);
            root.parts.push(Part {
                index: (index_at, index_len as usize),
                filter: (filter_at, filter_len as usize),
                ..Part::default()
            });
        }
        Ok(root)
    }

    fn key(&self, number: usize) -> &[u8] {
        let from = if number == 0 {
            0
        } else {
            self.ends[number - 1]
        };
        &self.keys[from as usize..self.ends[number] as usize]
    }

    /// The first part that may hold `key` or keys above it.
    pub(super) fn find(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.parts.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.key(middle) < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}
