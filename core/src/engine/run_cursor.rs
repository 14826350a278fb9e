//! Walks over a run in order of keys, block by block.
//!
//! Always true: a row it stands on comes from a checked block; after an error it stands nowhere.

use std::sync::Arc;

use bytes::Bytes;

use super::EngineError;
use super::block::BlockKind;
use super::rows::RowsCursor;
use super::run::Run;

/// Walks over a run in order of keys.
pub struct RunCursor {
    run: Arc<Run>,
    part: usize,
    index: RowsCursor,
    data: RowsCursor,
    keep: bool,
}

impl RunCursor {
    /// A cursor that stands nowhere yet. `keep`: blocks it reads stay in the cache (a merge's would push out all others).
    pub fn new(run: Arc<Run>, keep: bool) -> RunCursor {
        RunCursor {
            run,
            part: 0,
            index: RowsCursor::empty(),
            data: RowsCursor::empty(),
            keep,
        }
    }

    /// To the first key not below `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<(), EngineError> {
        self.data.enter_nothing();
        if *key > *self.run.meta().max {
            return Ok(());
        }
        let run = self.run.clone();
        self.part = run.root()?.find(key);
        if !self.enter_part()? {
            return Ok(());
        }
        let below = self.index.seek(key).map_err(|bad| run.bad(bad))?;
        if below && self.enter_data()? && !self.data.seek(key).map_err(|bad| run.bad(bad))? {
            // The separator may lie above the block's last key, and `key` between them.
            return self.next_block();
        }
        Ok(())
    }

    /// To the first key not below `key`, from a row that is below it: mostly in the same block, or by the same index.
    pub fn leap(&mut self, key: &[u8]) -> Result<(), EngineError> {
        let run = self.run.clone();
        // An index entry's key is not below any key of its block, and below every key of the next.
        if !self.index.on_row() || *key > *self.index.key() {
            if run.root()?.find(key) != self.part {
                return self.seek(key);
            }
            if !self.index.seek(key).map_err(|bad| run.bad(bad))? {
                self.data.enter_nothing();
                return Ok(());
            }
            self.enter_data()?;
        }
        match self.data.seek(key).map_err(|bad| run.bad(bad))? {
            true => Ok(()),
            false => self.next_block(),
        }
    }

    /// One row on.
    pub fn advance(&mut self) -> Result<(), EngineError> {
        if !self.data.advance().map_err(|bad| self.run.bad(bad))? {
            return self.next_block();
        }
        Ok(())
    }

    fn enter_part(&mut self) -> Result<bool, EngineError> {
        let run = &self.run;
        let Some(part) = run.root()?.parts.get(self.part) else {
            return Ok(false);
        };
        self.index.enter(run.index(part, self.keep)?);
        Ok(true)
    }

    fn enter_data(&mut self) -> Result<bool, EngineError> {
        let Some(place) = self.index.row() else {
            return Ok(false);
        };
        let (at, len) = self.run.place(place)?;
        self.data
            .enter(self.run.rows(BlockKind::Data, at, len, self.keep)?);
        Ok(true)
    }

    fn next_block(&mut self) -> Result<(), EngineError> {
        self.data.enter_nothing();
        let run = self.run.clone();
        loop {
            if self.index.advance().map_err(|bad| run.bad(bad))? {
                self.enter_data()?;
                if self.data.advance().map_err(|bad| run.bad(bad))? {
                    return Ok(());
                }
                continue;
            }
            self.part += 1;
            if !self.enter_part()? {
                return Ok(());
            }
        }
    }

    /// Whether it stands on a row.
    pub fn on_row(&self) -> bool {
        self.data.on_row()
    }

    /// The key it stands on.
    pub fn key(&self) -> &[u8] {
        self.data.key()
    }

    /// The row it stands on; `None` for a tombstone.
    pub fn row(&self) -> Option<&[u8]> {
        self.data.row()
    }

    /// The row it stands on, sharing the block's memory.
    pub fn shared_row(&self) -> Option<Bytes> {
        self.data.shared_row()
    }
}
