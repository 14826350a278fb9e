//! A checkpoint for others: its rows as a view, its files block by block, while the engine goes on.
//!
//! Always true: what it gives out is one checkpoint, every block checked; a merge or the next checkpoint does not disturb
//! it (the files stay readable through open handles, and their room is given back when the last handle goes).

use std::sync::Arc;

use bytes::Bytes;

use super::run_set::RunSet;
use super::{CheckpointInfo, EngineError, RowIter, View};

/// One file of a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportedFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub len: u64,
    /// CRC-64/NVME of all of it.
    pub crc64: u64,
}

/// An immutable handle to a durable checkpoint.
#[derive(Clone)]
pub struct Export(pub(super) Arc<RunSet>);

impl Export {
    /// Which checkpoint.
    pub fn info(&self) -> CheckpointInfo {
        self.0.info()
    }

    /// The manifest's bytes: what `Incoming::begin` takes at the other end.
    pub fn manifest(&self) -> Bytes {
        self.0.manifest().encode()
    }

    /// The files to ship, in the manifest's order.
    pub fn files(&self) -> Vec<ExportedFile> {
        let file = |run: &super::run::RunMeta| ExportedFile {
            name: run.file_name(false),
            len: run.len,
            crc64: run.crc64,
        };
        self.0.manifest().runs.iter().map(file).collect()
    }

    /// Whole blocks of a file from `at` on (a place where a block begins; 0 at first), at least one and about `len`
    /// bytes. Empty at the end.
    pub fn read(&self, file: usize, at: u64, len: usize) -> Result<Bytes, EngineError> {
        let Some(run) = self.0.runs().get(file) else {
            return Ok(Bytes::new());
        };
        let mut gathered = Vec::new();
        while gathered.len() < len.max(1) && at + (gathered.len() as u64) < run.meta().len {
            gathered.extend_from_slice(&run.raw_block(at + gathered.len() as u64)?);
        }
        Ok(Bytes::from(gathered))
    }
}

impl View for Export {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.0.get(key)
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> RowIter<'a> {
        self.0.scan(from, to)
    }
}
