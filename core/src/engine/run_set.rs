//! The runs of a store at one moment, open, under their manifest. Immutable: a switch makes a new set, and whoever holds
//! the old one goes on reading it (its files may be unlinked; open handles stay readable).

use std::sync::Arc;

use bytes::Bytes;

use super::filter::KeyHash;
use super::manifest::Manifest;
use super::merged::{Merged, Source};
use super::run::Run;
use super::run_cursor::RunCursor;
use super::{CheckpointInfo, EngineError, RowIter, View};

/// Open runs, newest first.
pub struct RunSet {
    pub(super) manifest: Manifest,
    pub(super) runs: Vec<Arc<Run>>,
}

impl RunSet {
    /// The manifest in force.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The runs, newest first.
    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// Bytes of all runs, without twins.
    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.meta().len).sum()
    }

    /// In the words of the trait.
    pub fn info(&self) -> CheckpointInfo {
        CheckpointInfo {
            generation: self.manifest.generation,
            applied: self.manifest.applied.clone(),
            runs: self.runs.len(),
            bytes: self.bytes(),
            digest: self.manifest.digest,
        }
    }

    /// What the runs know of `key`: nothing, a tombstone (`Some(None)`), or a row.
    pub fn find(&self, key: &[u8]) -> Result<Option<Option<Bytes>>, EngineError> {
        if self.runs.is_empty() {
            return Ok(None);
        }
        let hash = KeyHash::of(key);
        for run in &self.runs {
            if let Some(found) = run.get(key, hash)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Adds a cursor at `from` for every run that may hold keys of the range. `keep`: see [`RunCursor::new`].
    pub fn add_sources(
        &self,
        from: &[u8],
        to: &[u8],
        keep: bool,
        sources: &mut Vec<Source>,
    ) -> Result<(), EngineError> {
        for run in &self.runs {
            let meta = run.meta();
            if *meta.max < *from || (!to.is_empty() && *meta.min >= *to) {
                continue;
            }
            let mut cursor = RunCursor::new(run.clone(), keep);
            cursor.seek(from)?;
            sources.push(Source::Run(Box::new(cursor)));
        }
        Ok(())
    }
}

/// Rows that could not even be begun.
pub(super) fn failed(error: EngineError) -> RowIter<'static> {
    Box::new(std::iter::once(Err(error)))
}

impl View for RunSet {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.find(key)?.flatten())
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> RowIter<'a> {
        let mut sources = Vec::with_capacity(self.runs.len());
        match self.add_sources(from, to, true, &mut sources) {
            Ok(()) => Box::new(Merged::new(sources, to, false)),
            Err(error) => failed(error),
        }
    }
}
