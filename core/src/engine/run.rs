//! A run: an immutable file of sorted rows, searched in place.
//!
//! A look-up goes root (in memory) -> filter -> index block -> data block; blocks come through the cache, checked. With
//! a twin, a block that is bad in one file is taken from the other, and the bad file is noted for healing. A run of
//! which nothing usable is left still stands in its store: it answers for its range of keys that it is damaged.
//!
//! Always true:
//! * a row is given out only from a block whose checksum, run and offset were right;
//! * "absent" is answered only when the blocks that would hold the key were read.
//!
//! Elsewhere: writing (`run_writer`), which runs there are (`manifest`), mending (`heal`).

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::RwLock;

use super::EngineError;
use super::block::{BadBlock, BlockKind, HEADER, RunId, peek, u32_at, u64_at, unseal};
use super::block_cache::{BlockCache, Cached, FileId};
use super::damage::{DamageBook, damaged};
use super::filter::{self, KeyHash};
use super::rows::{Rows, take_varint};
use super::run_index::{Part, Root};
use crate::env::disk::{Disk, File, Open};

/// The format this version writes, and the newest it reads.
pub const FORMAT: u32 = 1;
/// Bytes of a footer's body: the last ones are zero, kept for later.
pub const FOOTER_BODY: usize = 88;
/// Bytes of the footer block at the end of every run.
pub const FOOTER_LEN: usize = HEADER + FOOTER_BODY;
/// No block is longer: a header that claims more is not believed.
const LONGEST_BLOCK: usize = 1 << 30;

/// What a manifest says of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunMeta {
    /// Its name for ever.
    pub id: RunId,
    /// Length of the file.
    pub len: u64,
    /// CRC-64/NVME of the whole file.
    pub crc64: u64,
    /// Live rows.
    pub rows: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Smallest key.
    pub min: Bytes,
    /// Largest key.
    pub max: Bytes,
}

impl RunMeta {
    /// The name of its file, or of its second copy.
    pub fn file_name(&self, twin: bool) -> String {
        format!("{}.run{}", self.id, if twin { ".twin" } else { "" })
    }
}

/// An open run.
pub struct Run {
    meta: RunMeta,
    copies: RwLock<Vec<Option<Arc<dyn File>>>>,
    /// `Err`: nothing usable is left; why.
    root: Result<Root, String>,
    cache: Arc<BlockCache>,
    file: FileId,
    book: Arc<DamageBook>,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.cache.forget(self.file);
        if let Ok(root) = &self.root {
            self.cache.unpin(root.parts.iter().map(Part::held).sum());
        }
    }
}

impl Run {
    /// Opens a run (and its twin). Never fails: what is bad or missing is noted, and answered when it is asked for.
    pub fn open(
        disk: &dyn Disk,
        dir: &Path,
        meta: RunMeta,
        twins: bool,
        cache: Arc<BlockCache>,
        book: Arc<DamageBook>,
    ) -> Run {
        let mut faults = Vec::new();
        let copies: Vec<_> = (0..=usize::from(twins))
            .map(|copy| {
                let name = meta.file_name(copy == 1);
                let opened = disk
                    .open(&dir.join(&name), Open::Read)
                    .and_then(|file| Ok((file.len()?, file)));
                match opened {
                    Ok((len, file)) => {
                        if len != meta.len {
                            faults
                                .push((name, format!("{len} bytes long instead of {}", meta.len)));
                        }
                        Some(file)
                    }
                    Err(cause) => {
                        faults.push((name, format!("cannot be opened: {cause}")));
                        None
                    }
                }
            })
            .collect();
        let file = cache.new_file();
        let mut run = Run {
            meta,
            copies: RwLock::new(copies),
            root: Ok(Root::default()),
            cache,
            file,
            book,
        };
        run.root = run.read_root().map_err(|error| error.to_string());
        if let Err(what) = &run.root {
            faults.push((run.meta.file_name(false), what.clone()));
        }
        for (name, what) in faults {
            run.book.note(
                &name,
                &what,
                run.root.is_ok() && run.copies.read().len() > 1,
            );
        }
        run
    }

    fn read_root(&self) -> Result<Root, EngineError> {
        let at = self.meta.len.checked_sub(FOOTER_LEN as u64);
        let at = at.ok_or_else(|| self.damage("too short for a footer"))?;
        let footer = self.read_block(BlockKind::Footer, at, FOOTER_LEN)?;
        if u32_at(&footer, 0) != FORMAT {
            return Err(self.damage(&format!(
                "format {}, this version reads {FORMAT}",
                u32_at(&footer, 0)
            )));
        }
        if (u64_at(&footer, 16), u64_at(&footer, 24)) != (self.meta.rows, self.meta.tombstones) {
            return Err(self.damage("footer and manifest disagree"));
        }
        let root = self.read_block(
            BlockKind::Root,
            u64_at(&footer, 8),
            u32_at(&footer, 4) as usize,
        )?;
        Root::parse(root).map_err(|bad| self.damage(&bad.0))
    }

    fn damage(&self, what: &str) -> EngineError {
        damaged(self.meta.file_name(false), what)
    }

    pub(super) fn bad(&self, bad: BadBlock) -> EngineError {
        self.damage(&bad.0)
    }

    pub(super) fn root(&self) -> Result<&Root, EngineError> {
        self.root.as_ref().map_err(|what| self.damage(what))
    }

    /// What the manifest says of it.
    pub fn meta(&self) -> &RunMeta {
        &self.meta
    }

    /// Why nothing of it can be used.
    pub fn broken(&self) -> Option<&str> {
        self.root.as_ref().err().map(String::as_str)
    }

    /// A file that was written anew takes the place of a bad copy.
    pub(super) fn replace_copy(&self, copy: usize, file: Arc<dyn File>) {
        if let Some(slot) = self.copies.write().get_mut(copy) {
            *slot = Some(file);
        }
    }

    fn read_copy(&self, copy: usize, at: u64, len: usize) -> Result<Bytes, String> {
        let file = self.copies.read().get(copy).cloned().flatten();
        let file = file.ok_or("file is missing")?;
        let mut block = vec![0; len];
        match file.read_at(&mut block, at) {
            Ok(read) if read == len => Ok(Bytes::from(block)),
            Ok(read) => Err(format!("ends at {} of {}", at + read as u64, self.meta.len)),
            Err(cause) => Err(format!("block at {at} cannot be read: {cause}")),
        }
    }

    /// A checked body from the first copy that has it.
    fn read_block(&self, kind: BlockKind, at: u64, len: usize) -> Result<Bytes, EngineError> {
        self.first_good(|copy| {
            let block = self.read_copy(copy, at, len)?;
            unseal(kind, self.meta.id, at, &block).map_err(|bad| bad.0)
        })
    }

    fn first_good<T>(
        &self,
        mut read: impl FnMut(usize) -> Result<T, String>,
    ) -> Result<T, EngineError> {
        let copies = self.copies.read().len();
        let mut faults: Vec<(usize, String)> = Vec::new();
        for copy in 0..copies {
            // Once more: a bad read is not yet a bad disk.
            match read(copy).or_else(|_| read(copy)) {
                Ok(found) => {
                    for (bad, what) in faults {
                        self.book.note(&self.meta.file_name(bad == 1), &what, true);
                    }
                    return Ok(found);
                }
                Err(what) => faults.push((copy, what)),
            }
        }
        let first = faults
            .first()
            .map_or_else(String::new, |(_, what)| what.clone());
        for (bad, what) in faults {
            self.book.note(&self.meta.file_name(bad == 1), &what, false);
        }
        Err(self.damage(&first))
    }

    fn read_whole_block(&self, copy: usize, at: u64) -> Result<Bytes, String> {
        let header = self.read_copy(copy, at, HEADER)?;
        let (kind, len) = peek(&header).ok_or_else(|| format!("block at {at}: no header"))?;
        if len > LONGEST_BLOCK || at + len as u64 > self.meta.len {
            return Err(format!("block at {at}: {len} bytes reach over the end"));
        }
        let block = self.read_copy(copy, at, len)?;
        unseal(kind, self.meta.id, at, &block).map_err(|bad| bad.0)?;
        Ok(block)
    }

    /// The whole checked block that begins at `at`, header included: for copying and shipping a run.
    pub fn raw_block(&self, at: u64) -> Result<Bytes, EngineError> {
        self.first_good(|copy| self.read_whole_block(copy, at))
    }

    /// Checks the block at `at` in every copy, notes what is bad, and says where the next one begins.
    pub fn scrub_block(&self, at: u64) -> Result<u64, EngineError> {
        let copies = self.copies.read().len();
        let read: Vec<_> = (0..copies)
            .map(|copy| {
                let read = self.read_whole_block(copy, at);
                read.or_else(|_| self.read_whole_block(copy, at))
            })
            .collect();
        let good = read.iter().find_map(|block| block.as_ref().ok());
        for (copy, block) in read.iter().enumerate() {
            if let Err(what) = block {
                self.book
                    .note(&self.meta.file_name(copy == 1), what, good.is_some());
            }
        }
        good.map(|block| at + block.len() as u64)
            .ok_or_else(|| self.damage(&format!("block at {at} is bad")))
    }

    fn cached(
        &self,
        kind: BlockKind,
        at: u64,
        len: usize,
        keep: bool,
    ) -> Result<Cached, EngineError> {
        if let Some(found) = self.cache.get(self.file, at) {
            return Ok(found);
        }
        if len > LONGEST_BLOCK {
            return Err(self.damage(&format!("a block of {len} bytes")));
        }
        let body = self.read_block(kind, at, len)?;
        let block = match kind {
            BlockKind::Filter => Cached::Filter(body),
            _ => Cached::Rows(Rows::parse(body).map_err(|bad| self.bad(bad))?),
        };
        if keep {
            self.cache.put(self.file, at, block.clone());
        }
        Ok(block)
    }

    pub(super) fn rows(
        &self,
        kind: BlockKind,
        at: u64,
        len: usize,
        keep: bool,
    ) -> Result<Rows, EngineError> {
        match self.cached(kind, at, len, keep)? {
            Cached::Rows(rows) => Ok(rows),
            Cached::Filter(_) => Err(self.damage(&format!("a filter lies at {at}"))),
        }
    }

    fn may_hold(&self, part: &Part, hash: KeyHash) -> Result<bool, EngineError> {
        if let Some(held) = part.held_filter.get() {
            return Ok(filter::may_hold(held, hash));
        }
        let block = self.cached(BlockKind::Filter, part.filter.0, part.filter.1, false)?;
        let Cached::Filter(body) = &block else {
            return Ok(true);
        };
        if !self.hold(&part.held_filter, body, body.len()) {
            self.cache.put(self.file, part.filter.0, block.clone());
        }
        Ok(filter::may_hold(body, hash))
    }

    /// An index block. `keep`: it is held, or stays in the cache.
    pub(super) fn index(&self, part: &Part, keep: bool) -> Result<Rows, EngineError> {
        if let Some(held) = part.held_index.get() {
            return Ok(held.clone());
        }
        let rows = self.rows(BlockKind::Index, part.index.0, part.index.1, false)?;
        if keep && !self.hold(&part.held_index, &rows, rows.bytes()) {
            let block = Cached::Rows(rows.clone());
            self.cache.put(self.file, part.index.0, block);
        }
        Ok(rows)
    }

    /// Holds a block, if there is room; whether it is held now.
    fn hold<T: Clone>(&self, slot: &OnceLock<T>, block: &T, bytes: usize) -> bool {
        if !self.cache.pin(bytes) {
            return false;
        }
        // Somebody else was faster: one of them is held, and accounted for once.
        if slot.set(block.clone()).is_err() {
            self.cache.unpin(bytes);
        }
        true
    }

    pub(super) fn place(&self, place: &[u8]) -> Result<(u64, usize), EngineError> {
        let mut at = 0;
        match (take_varint(place, &mut at), take_varint(place, &mut at)) {
            (Some(offset), Some(len)) => Ok((offset, len as usize)),
            _ => Err(self.damage("a place in the index is cut")),
        }
    }

    /// What this run knows of `key`: nothing, a tombstone (`Some(None)`), or a row.
    pub fn get(&self, key: &[u8], hash: KeyHash) -> Result<Option<Option<Bytes>>, EngineError> {
        if *key < *self.meta.min || *key > *self.meta.max {
            return Ok(None);
        }
        let root = self.root()?;
        let Some(part) = root.parts.get(root.find(key)) else {
            return Ok(None);
        };
        if part.filter.1 > 0 && !self.may_hold(part, hash)? {
            return Ok(None);
        }
        let index = self.index(part, true)?;
        let Some(place) = index.at_or_after(key).map_err(|bad| self.bad(bad))? else {
            return Ok(None);
        };
        let (at, len) = self.place(&index.slice(place))?;
        let data = self.rows(BlockKind::Data, at, len, true)?;
        let found = data.find(key).map_err(|bad| self.bad(bad))?;
        Ok(found.map(|row| row.map(|row| data.slice(row))))
    }
}
