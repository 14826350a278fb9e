//! What one file holds: sparse pages of 4 KiB, shared between all copies of a disk until one of them writes.
//!
//! Always true:
//! * a page that is absent reads as zeros;
//! * copying a content costs one pointer per 64 pages, and a write copies one page and one such block.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Bytes in a page: what the cache and the device exchange.
pub(super) const PAGE: usize = 4096;
/// Bytes a device writes whole or not at all.
pub(super) const SECTOR: usize = 512;

const PAGE_U64: u64 = PAGE as u64;

/// Pages that are copied together.
const BLOCK: u64 = 64;

/// The bytes of a page, which never change; a write makes another page.
pub(super) struct Page {
    pub(super) bytes: [u8; PAGE],
    digest: OnceLock<u64>,
}

impl Page {
    pub(super) fn new(bytes: [u8; PAGE]) -> Arc<Page> {
        Arc::new(Page {
            bytes,
            digest: OnceLock::new(),
        })
    }

    /// A number that tells pages apart; 0 for zeros, which an absent page reads as too. Computed once.
    pub(super) fn digest(&self) -> u64 {
        *self.digest.get_or_init(|| {
            let zeros = self.bytes.iter().all(|byte| *byte == 0);
            if zeros {
                0
            } else {
                xxhash_rust::xxh3::xxh3_64(&self.bytes)
            }
        })
    }
}

type Block = [Option<Arc<Page>>; BLOCK as usize];

/// The pages of a file, its length, and the room reserved for it.
#[derive(Clone, Default)]
pub(super) struct Content {
    blocks: BTreeMap<u64, Arc<Block>>,
    len: u64,
    /// Pages reserved from the start of the file on, whether written or not.
    reserved: u64,
    /// Pages that take room on the disk.
    used: u64,
}

/// How many pages `len` bytes touch.
pub(super) fn pages(len: u64) -> u64 {
    len.div_ceil(PAGE_U64)
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn reserved(&self) -> u64 {
        self.reserved
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn page(&self, number: u64) -> Option<&Arc<Page>> {
        self.blocks
            .get(&(number / BLOCK))
            .and_then(|block| block[(number % BLOCK) as usize].as_ref())
    }

    /// A copy of a page.
    pub(super) fn page_bytes(&self, number: u64) -> [u8; PAGE] {
        self.page(number).map_or([0; PAGE], |page| page.bytes)
    }

    /// Whether writing this page needs room that is not reserved yet.
    pub(super) fn needs_room(&self, number: u64) -> bool {
        number >= self.reserved && self.page(number).is_none()
    }

    /// Sets a page, whatever the length says.
    pub(super) fn put(&mut self, number: u64, page: Arc<Page>) {
        self.used += u64::from(self.needs_room(number));
        let block = self
            .blocks
            .entry(number / BLOCK)
            .or_insert_with(|| Arc::new([const { None }; BLOCK as usize]));
        Arc::make_mut(block)[(number % BLOCK) as usize] = Some(page);
    }

    /// Sets the length. What lies behind a shorter one is gone and would read as zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        let shrinks = len < self.len;
        self.len = len;
        if shrinks {
            self.trim();
        }
    }

    /// Reserves room for this many pages, or gives it back.
    pub(super) fn set_reserved(&mut self, reserved: u64) {
        if reserved != self.reserved {
            self.reserve(reserved);
        }
    }

    fn reserve(&mut self, reserved: u64) {
        self.reserved = reserved;
        let beyond = self.numbers().filter(|number| *number >= reserved).count();
        self.used = reserved + beyond as u64;
    }

    /// Drops what lies behind the length.
    pub(super) fn trim(&mut self) {
        let keep = pages(self.len);
        let reserved = self.reserved.min(keep);
        self.blocks.retain(|block, _| block * BLOCK < keep);
        if let Some((last, block)) = self.blocks.iter_mut().next_back() {
            let first = last * BLOCK;
            if first + BLOCK > keep {
                let block = Arc::make_mut(block);
                block[(keep - first) as usize..].fill(None);
            }
        }
        // What lies behind the length inside its last page must not come back when the file grows again.
        let tail = (self.len % PAGE_U64) as usize;
        if tail > 0
            && self
                .page(keep - 1)
                .is_some_and(|page| page.bytes[tail..].iter().any(|byte| *byte != 0))
        {
            let mut page = self.page_bytes(keep - 1);
            page[tail..].fill(0);
            self.put(keep - 1, Page::new(page));
        }
        self.reserve(reserved);
    }

    fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.written().map(|(number, _)| number)
    }

    /// The pages that were ever written, in order.
    pub(super) fn written(&self) -> impl Iterator<Item = (u64, &Arc<Page>)> {
        self.blocks.iter().flat_map(|(block, pages)| {
            let first = block * BLOCK;
            pages
                .iter()
                .zip(first..)
                .filter_map(|(page, number)| page.as_ref().map(|page| (number, page)))
        })
    }

    /// The first byte at or after `at` that was ever written and may be other than zero.
    pub(super) fn next_data(&self, at: u64) -> Option<u64> {
        let first = at / PAGE_U64;
        let blocks = self
            .blocks
            .range(first / BLOCK..)
            .map(|(block, pages)| (block * BLOCK, pages));
        let mut pages = blocks.flat_map(|(start, pages)| pages.iter().zip(start..));
        let (_, number) = pages.find(|(page, number)| *number >= first && page.is_some())?;
        let found = at.max(number * PAGE_U64);
        (found < self.len).then_some(found)
    }

    /// Reads up to the end of the file.
    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> usize {
        let total = self.len.saturating_sub(at).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < total {
            let position = at + done as u64;
            let within = (position % PAGE_U64) as usize;
            let count = (PAGE - within).min(total - done);
            let part = &mut buf[done..done + count];
            match self.page(position / PAGE_U64) {
                Some(page) => part.copy_from_slice(&page.bytes[within..within + count]),
                None => part.fill(0),
            }
            done += count;
        }
        total
    }
}

/// The pages that writing `parts` at `at` touches: number, range within the page, and its new bytes.
pub(super) fn split(parts: &[bytes::Bytes], at: u64) -> Vec<(u64, usize, Vec<u8>)> {
    let mut touched: Vec<(u64, usize, Vec<u8>)> = Vec::new();
    let mut position = at;
    for part in parts {
        let mut rest = &part[..];
        while !rest.is_empty() {
            let (number, within) = (position / PAGE_U64, (position % PAGE_U64) as usize);
            let (now, later) = rest.split_at((PAGE - within).min(rest.len()));
            match touched.last_mut() {
                Some((last, _, bytes)) if *last == number => bytes.extend_from_slice(now),
                _ => touched.push((number, within, now.to_vec())),
            }
            position += now.len() as u64;
            rest = later;
        }
    }
    touched
}
