//! RocksDB as a table: the well-known LSM tree in C++. Only with the feature `rocksdb`.
//!
//! Always true: it keeps no log (ours is the log), and its memtables reach the disk in the order in which they were
//! filled, so the mark never survives the rows before it.
//!
//! It does its own I/O on the real disk (the one exception to `env`, with `sled_table`), so it is never simulated.

use std::path::Path;

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Direction, IteratorMode, Options, ReadOptions,
    WriteBatch, WriteOptions,
};

use super::table::{Change, Database};

/// Filled before it is written out; a checkpoint that is smaller is written out at its end.
const MEMTABLE_BYTES: usize = 8 << 20;

/// An open RocksDB.
pub struct RocksDb(DB);

fn said(error: rocksdb::Error) -> String {
    error.to_string()
}

impl Database for RocksDb {
    const NAME: &'static str = "rocksdb";

    fn open(dir: &Path, cache_bytes: usize) -> Result<RocksDb, String> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(cache_bytes.max(1 << 20)));
        blocks.set_block_size(8 << 10);
        blocks.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&blocks);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(MEMTABLE_BYTES);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(1);
        options.set_stats_dump_period_sec(0);
        DB::open(&options, dir).map(RocksDb).map_err(said)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, String> {
        let found = self.0.get_pinned(key).map_err(said)?;
        Ok(found.map(|row| Bytes::copy_from_slice(&row)))
    }

    fn page(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, String> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        let start = IteratorMode::From(from, Direction::Forward);
        let rows = self.0.iterator_opt(start, options).take(limit);
        rows.map(|row| {
            row.map(|(key, row)| (Bytes::from(key), Bytes::from(row)))
                .map_err(said)
        })
        .collect()
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), String> {
        let mut batch = WriteBatch::default();
        for (key, row) in changes {
            match row {
                Some(row) => batch.put(key, row),
                None => batch.delete(key),
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.0.write_opt(batch, &options).map_err(said)
    }

    fn sync(&self) -> Result<(), String> {
        self.0.flush().map_err(said)
    }
}
