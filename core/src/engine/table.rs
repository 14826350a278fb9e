//! Somebody else's database, as `hosted` uses it: a sorted map on the real disk that can always be made anew.
//!
//! ```text
//!   row of key K   under "r" K
//!   the mark       under "m": which runs of the checkpoint are in it, and which are being brought in
//! ```
//! Always true:
//! * a table is believed only if its mark names runs that the manifest in force still has, oldest first: then what is
//!   newer is brought in again, and bringing a run in twice gives the same rows. Anything else is erased;
//! * "being brought in" is written before the first row of it: rows of a checkpoint that was lost with a restored
//!   directory are never taken for ours.
//!
//! Elsewhere: when rows are brought in and who may read meanwhile (`hosted`); the databases (`sled_table`, `rocksdb_table`).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::EngineError;
use super::block::{RunId, u32_at, u64_at};
use super::merge::merged;
use super::run_set::RunSet;
use super::run_writer::RowSource;

/// A key and its row; `None` removes it.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// A sorted map on the real disk. What it holds may be lost at any time; what it answers must be right.
pub trait Database: Send + Sync + Sized + 'static {
    /// What messages call it.
    const NAME: &'static str;
    /// Opens or makes the one in a directory.
    fn open(dir: &Path, cache_bytes: usize) -> Result<Self, String>;
    /// What lies under a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, String>;
    /// The first rows with `from <= key < to`.
    fn page(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, String>;
    /// Changes that become visible and durable together, after those of earlier calls.
    fn write(&self, changes: Vec<Change>) -> Result<(), String>;
    /// What was written is durable.
    fn sync(&self) -> Result<(), String>;
}

/// Rows that are written at once: short enough that readers of a database with one lock do not wait for long.
const ROWS_AT_ONCE: usize = 64;
/// The same in bytes.
const BYTES_AT_ONCE: usize = 256 << 10;
const ROW: u8 = b'r';
/// The first key behind all rows.
const AFTER_ROWS: &[u8] = b"s";
const MARK: &[u8] = b"m";
const MARK_FORMAT: u8 = 1;

/// Which runs a table holds, newest first, and which it will hold when what is under way is done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Mark {
    holds: Vec<RunId>,
    toward: Vec<RunId>,
}

impl Mark {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![MARK_FORMAT];
        for list in [&self.holds, &self.toward] {
            bytes.extend_from_slice(&(list.len() as u32).to_le_bytes());
            for run in list {
                bytes.extend_from_slice(&run.number.to_le_bytes());
                bytes.extend_from_slice(&run.nonce.to_le_bytes());
            }
        }
        bytes
    }

    /// `None`: not ours to understand; the table is made anew.
    fn decode(bytes: &[u8]) -> Option<Mark> {
        let mut at = 1;
        let mut list = || {
            let count = u32_at(bytes, at) as usize;
            let from = at.checked_add(4)?;
            let end = from.checked_add(count.checked_mul(16)?)?;
            at = end;
            let runs = bytes.get(from..end)?.chunks_exact(16);
            Some(runs.map(|run| RunId {
                number: u64_at(run, 0),
                nonce: u64_at(run, 8),
            }))
        };
        let holds = list()?.collect();
        let toward = list()?.collect();
        (*bytes.first()? == MARK_FORMAT && bytes.len() == at).then_some(Mark { holds, toward })
    }

    /// How many of the newest runs must be brought in; `None`: this table belongs to another story.
    fn missing(&self, runs: &[RunId]) -> Option<usize> {
        let known = !self.holds.is_empty() || runs.is_empty();
        (known && runs.ends_with(&self.toward) && self.toward.ends_with(&self.holds))
            .then(|| runs.len() - self.holds.len())
    }
}

/// The names of a set's runs, newest first.
fn names(set: &RunSet) -> Vec<RunId> {
    set.runs().iter().map(|run| run.meta().id).collect()
}

fn row_key(key: &[u8]) -> Vec<u8> {
    let mut named = Vec::with_capacity(1 + key.len());
    named.push(ROW);
    named.extend_from_slice(key);
    named
}

/// A database that holds the rows of one checkpoint.
pub struct Table<D> {
    database: D,
    dir: PathBuf,
    holds: parking_lot::Mutex<Vec<RunId>>,
    /// Changes brought in since it was opened.
    brought_in: AtomicU64,
}

impl<D: Database> Table<D> {
    fn failed(&self, step: &str) -> impl FnOnce(String) -> EngineError {
        failed::<D>(step, &self.dir)
    }

    /// The table in `dir` brought up to the set, if it is of the same story. `None`: it is not, or cannot be read.
    pub fn open(
        dir: &Path,
        cache_bytes: usize,
        set: &RunSet,
    ) -> Result<Option<Table<D>>, EngineError> {
        let opened = D::open(dir, cache_bytes).and_then(|database| {
            let mark = database.get(MARK)?;
            Ok((database, mark))
        });
        let (database, mark) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                tracing::warn!(engine = D::NAME, dir = %dir.display(), why, "not readable; it is made anew");
                return Ok(None);
            }
        };
        let runs = names(set);
        let mark = mark.and_then(|mark| Mark::decode(&mark));
        let Some((mark, missing)) = mark.and_then(|mark| {
            let missing = mark.missing(&runs)?;
            Some((mark, missing))
        }) else {
            return Ok(None);
        };
        let is_whole = mark.holds == runs && mark.toward == runs;
        let table = Table {
            database,
            dir: dir.to_owned(),
            holds: parking_lot::Mutex::new(mark.holds),
            brought_in: AtomicU64::new(0),
        };
        if !is_whole {
            let mut rows = merged(&set.runs()[..missing], true)?;
            table.bring_in(&mut rows, set)?;
        }
        Ok(Some(table))
    }

    /// A new table in an empty directory, with all rows of the set.
    pub fn make(dir: &Path, cache_bytes: usize, set: &RunSet) -> Result<Table<D>, EngineError> {
        let database = D::open(dir, cache_bytes).map_err(failed::<D>("make", dir))?;
        let table = Table {
            database,
            dir: dir.to_owned(),
            holds: parking_lot::Mutex::default(),
            brought_in: AtomicU64::new(0),
        };
        table.bring_in(&mut merged(set.runs(), false)?, set)?;
        Ok(table)
    }

    /// Brings in all that the set has and the table lacks; afterwards it is the set. Done again after a crash.
    pub fn bring_in(&self, rows: &mut dyn RowSource, set: &RunSet) -> Result<(), EngineError> {
        let mut holds = self.holds.lock();
        let toward = names(set);
        let write = |changes| {
            let written = self.database.write(changes);
            written.map_err(self.failed("write"))
        };
        let mark = |holds: &[RunId]| {
            let mark = Mark {
                holds: holds.to_vec(),
                toward: toward.clone(),
            };
            (MARK.to_vec(), Some(mark.encode()))
        };
        let (mut changes, mut bytes) = (vec![mark(&holds)], 0);
        while rows.advance()? {
            self.brought_in.fetch_add(1, Ordering::Relaxed);
            bytes += rows.key().len() + rows.row().map_or(0, <[u8]>::len);
            changes.push((row_key(rows.key()), rows.row().map(<[u8]>::to_vec)));
            if changes.len() >= ROWS_AT_ONCE || bytes >= BYTES_AT_ONCE {
                write(std::mem::take(&mut changes))?;
                bytes = 0;
            }
        }
        changes.push(mark(&toward));
        write(changes)?;
        self.database.sync().map_err(self.failed("sync"))?;
        *holds = toward;
        Ok(())
    }

    /// The set has the same rows as before in other runs (merged ones): the table is of its story again.
    pub fn follow(&self, set: &RunSet) -> Result<(), EngineError> {
        let mut holds = self.holds.lock();
        let runs = names(set);
        if *holds != runs {
            let mark = Mark {
                holds: runs.clone(),
                toward: runs.clone(),
            };
            let change = (MARK.to_vec(), Some(mark.encode()));
            let written = self.database.write(vec![change]);
            written.map_err(self.failed("write"))?;
            self.database.sync().map_err(self.failed("sync"))?;
            *holds = runs;
        }
        Ok(())
    }

    /// Rows and tombstones that were brought in since it was opened; 0 after a start that found it as it should be.
    pub fn brought_in(&self) -> u64 {
        self.brought_in.load(Ordering::Relaxed)
    }

    /// The row under a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let found = self.database.get(&row_key(key));
        found.map_err(self.failed("read"))
    }

    /// The first rows with `from <= key < to`; an empty `to` is the end.
    pub fn page(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, EngineError> {
        let to = match to {
            [] => AFTER_ROWS.to_vec(),
            to => row_key(to),
        };
        let page = self.database.page(&row_key(from), &to, limit);
        let mut page = page.map_err(self.failed("read"))?;
        for (key, _) in &mut page {
            *key = key.slice(1..);
        }
        Ok(page)
    }
}

fn failed<D: Database>(step: &str, dir: &Path) -> impl FnOnce(String) -> EngineError {
    let file = format!("{} in {}", D::NAME, dir.display());
    let step = step.to_owned();
    move |what| EngineError::Damaged {
        file,
        what: format!(
            "{step}: {what}; stop the server and remove it, it is made anew at the start"
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn runs(numbers: &[u64]) -> Vec<RunId> {
        let run = |number: &u64| RunId {
            number: *number,
            nonce: number * 7,
        };
        numbers.iter().map(run).collect()
    }

    fn mark(holds: &[u64], toward: &[u64]) -> Mark {
        Mark {
            holds: runs(holds),
            toward: runs(toward),
        }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nothing_else_is() {
        for mark in [mark(&[], &[]), mark(&[1], &[1]), mark(&[1], &[3, 2, 1])] {
            let bytes = mark.encode();
            assert_eq!(Mark::decode(&bytes), Some(mark));
            for end in 0..bytes.len() {
                assert_eq!(Mark::decode(&bytes[..end]), None);
            }
            assert_eq!(Mark::decode(&[&bytes[..], &[0]].concat()), None);
            assert_eq!(Mark::decode(&[&[9], &bytes[1..]].concat()), None);
        }
        assert_eq!(Mark::decode(&[1, 255, 255, 255, 255]), None);
    }

    /// What a table lacks is known only while the manifest still has the runs that the table names.
    #[test]
    fn a_table_of_another_story_is_not_believed() {
        let missing = |mark: Mark, set: &[u64]| mark.missing(&runs(set));
        assert_eq!(missing(mark(&[2, 1], &[2, 1]), &[2, 1]), Some(0));
        assert_eq!(missing(mark(&[2, 1], &[2, 1]), &[4, 3, 2, 1]), Some(2));
        assert_eq!(missing(mark(&[2, 1], &[3, 2, 1]), &[4, 3, 2, 1]), Some(2));
        assert_eq!(missing(mark(&[], &[]), &[]), Some(0));
        // Merged meanwhile; rolled back below what was being brought in; empty and full; foreign.
        assert_eq!(missing(mark(&[2, 1], &[2, 1]), &[5]), None);
        assert_eq!(missing(mark(&[2, 1], &[3, 2, 1]), &[2, 1]), None);
        assert_eq!(missing(mark(&[], &[]), &[1]), None);
        assert_eq!(missing(mark(&[9], &[9]), &[2, 1]), None);
    }
}
