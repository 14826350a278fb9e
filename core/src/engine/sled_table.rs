//! sled 0.34 as a table: a log-structured B-tree in pure Rust.
//!
//! Always true: what it logged is found again in order and without gaps, so the mark never survives the rows before it.
//!
//! It does its own I/O on the real disk (the one exception to `env`, with `rocksdb_table`), so it is never simulated.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::Bytes;

use super::table::{Change, Database};

/// An open sled.
pub struct Sled(sled::Db);

fn said(error: sled::Error) -> String {
    error.to_string()
}

impl Database for Sled {
    const NAME: &'static str = "sled";

    fn open(dir: &Path, cache_bytes: usize) -> Result<Sled, String> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(cache_bytes.max(1 << 20) as u64)
            // Synced when a checkpoint is in, not by a clock.
            .flush_every_ms(None);
        // It panics on some damaged files, where others are an error.
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let opened = opened.map_err(|_| "it panicked while it was opened".to_owned())?;
        opened.map(Sled).map_err(said)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, String> {
        let found = self.0.get(key).map_err(said)?;
        Ok(found.map(|row| Bytes::copy_from_slice(&row)))
    }

    fn page(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, String> {
        if from >= to {
            return Ok(Vec::new()); // sled panics on an inverted range
        }
        let own = |bytes: sled::IVec| Bytes::copy_from_slice(&bytes);
        let rows = self.0.range(from..to).take(limit);
        rows.map(|row| row.map(|(key, row)| (own(key), own(row))).map_err(said))
            .collect()
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), String> {
        let mut batch = sled::Batch::default();
        for (key, row) in changes {
            match row {
                Some(row) => batch.insert(key, row),
                None => batch.remove(key),
            }
        }
        self.0.apply_batch(batch).map_err(said)
    }

    fn sync(&self) -> Result<(), String> {
        self.0.flush().map(drop).map_err(said)
    }
}
