//! What was written since the last checkpoint, in memory: one tree that is written, over frozen ones that a checkpoint is
//! writing out.
//!
//! Always true:
//! * a frozen layer never changes; it leaves when a durable checkpoint holds it;
//! * mark and digest are those of the newest batch, and change together with its rows;
//! * a moment is a point between two batches, numbered upwards; layers carry the moment that froze them.

use std::sync::Arc;

use bytes::Bytes;

use super::merged::Source;
use super::row::Row;
use super::tree::Tree;

/// Rows that a checkpoint is to write out.
pub struct Layer {
    /// All up to this moment.
    pub moment: u64,
    /// Its rows and tombstones.
    pub tree: Tree,
}

/// The overlay at one time. Clones are cheap and are views.
#[derive(Clone, Default)]
pub struct Overlay {
    /// Written by batches.
    pub newest: Tree,
    /// Newest first.
    pub frozen: Vec<Arc<Layer>>,
    /// Mark of the newest batch that carried one.
    pub applied: Option<Bytes>,
    /// Digest after the newest batch.
    pub digest: u128,
    /// Moments taken so far.
    pub moments: u64,
}

/// The state at one moment, for a checkpoint.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Its number.
    pub number: u64,
    /// The mark then.
    pub applied: Option<Bytes>,
    /// The digest then.
    pub digest: u128,
}

impl Overlay {
    /// What is known of `key` here: nothing, a tombstone (`Some(None)`), or a row.
    pub fn find(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.newest
            .get(key)
            .map(Row::value)
            .or_else(|| self.find_frozen(key))
    }

    /// The same without the newest tree.
    pub fn find_frozen(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.frozen
            .iter()
            .find_map(|layer| layer.tree.get(key))
            .map(Row::value)
    }

    /// Adds a cursor at `from` for every tree that is not empty.
    pub fn add_sources(&self, from: &[u8], sources: &mut Vec<Source>) {
        let trees =
            std::iter::once(&self.newest).chain(self.frozen.iter().map(|layer| &layer.tree));
        sources.extend(
            trees
                .filter(|tree| !tree.is_empty())
                .map(|tree| Source::Tree(tree.seek(from))),
        );
    }

    /// Takes a moment: what was written so far stands still from now on.
    pub fn freeze(&mut self) -> Moment {
        self.moments += 1;
        if !self.newest.is_empty() {
            let tree = std::mem::take(&mut self.newest);
            self.frozen.insert(
                0,
                Arc::new(Layer {
                    moment: self.moments,
                    tree,
                }),
            );
        }
        Moment {
            number: self.moments,
            applied: self.applied.clone(),
            digest: self.digest,
        }
    }

    /// Layers up to a moment, newest first.
    pub fn layers_up_to(&self, moment: u64) -> Vec<Arc<Layer>> {
        self.frozen
            .iter()
            .filter(|layer| layer.moment <= moment)
            .cloned()
            .collect()
    }

    /// Lets go of layers up to a moment; gives them back, so that they are dropped outside any lock.
    pub fn let_go(&mut self, moment: u64) -> Vec<Arc<Layer>> {
        let at = self
            .frozen
            .iter()
            .position(|layer| layer.moment <= moment)
            .unwrap_or(self.frozen.len());
        self.frozen.split_off(at)
    }

    /// Bytes held, nodes included; nothing for an overlay without rows.
    pub fn bytes(&self) -> usize {
        let newest = if self.newest.is_empty() {
            0
        } else {
            self.newest.bytes()
        };
        newest
            + self
                .frozen
                .iter()
                .map(|layer| layer.tree.bytes())
                .sum::<usize>()
    }
}
