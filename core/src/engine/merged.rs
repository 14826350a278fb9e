//! Several sorted sources read as one: for each key the newest one that knows it speaks.
//!
//! Sources are kept in the order of the keys they stand on; the one that moved is put back in its place. Most rows come
//! from one big run, whose next key is nearly always still the smallest: then a step costs one comparison.
//!
//! Always true:
//! * each key comes once, ascending, with the row of the newest source that has it (a tombstone counts as a row);
//! * after an error nothing more comes.

use std::cmp::Ordering;

use bytes::Bytes;

use super::EngineError;
use super::row::Row;
use super::run_cursor::RunCursor;
use super::run_writer::RowSource;
use super::tree::TreeCursor;

/// One sorted source.
pub enum Source {
    /// An overlay, as it was.
    Tree(TreeCursor),
    /// A run.
    Run(Box<RunCursor>),
}

impl Source {
    fn on_row(&self) -> bool {
        match self {
            Source::Tree(cursor) => cursor.row().is_some(),
            Source::Run(cursor) => cursor.on_row(),
        }
    }

    fn key(&self) -> &[u8] {
        match self {
            Source::Tree(cursor) => cursor.row().map_or(&[], Row::key),
            Source::Run(cursor) => cursor.key(),
        }
    }

    fn row(&self) -> Option<&[u8]> {
        match self {
            Source::Tree(cursor) => cursor.row().and_then(Row::value),
            Source::Run(cursor) => cursor.row(),
        }
    }

    /// A run's row shares its block's memory; a tree's is copied, so that it does not hold the writer's nodes.
    fn owned_row(&self) -> Option<Bytes> {
        match self {
            Source::Tree(cursor) => cursor
                .row()
                .and_then(Row::value)
                .map(Bytes::copy_from_slice),
            Source::Run(cursor) => cursor.shared_row(),
        }
    }

    fn advance(&mut self) -> Result<(), EngineError> {
        match self {
            Source::Tree(cursor) => cursor.advance(),
            Source::Run(cursor) => cursor.advance()?,
        }
        Ok(())
    }

    /// To the first key not below `key`, from a row that is below it.
    fn leap(&mut self, key: &[u8]) -> Result<(), EngineError> {
        match self {
            Source::Tree(cursor) => cursor.leap(key),
            Source::Run(cursor) => cursor.leap(key)?,
        }
        Ok(())
    }
}

/// Rows of several sources, merged.
pub struct Merged {
    /// Newest first.
    sources: Vec<Source>,
    /// Sources that stand on a row, by key and then age.
    order: Vec<usize>,
    /// Where it ends; empty: at the end.
    to: Vec<u8>,
    tombstones: bool,
    state: State,
}

enum State {
    /// Sources stand on their first row, which was not given out yet.
    Fresh,
    OnRow,
    Ended,
}

impl Merged {
    /// Merges sources, newest first, that stand on their first rows. Without `tombstones`, deleted keys are left out.
    pub fn new(sources: Vec<Source>, to: &[u8], tombstones: bool) -> Merged {
        let mut order: Vec<usize> = (0..sources.len())
            .filter(|at| sources[*at].on_row())
            .collect();
        order.sort_by(|a, b| sources[*a].key().cmp(sources[*b].key()).then(a.cmp(b)));
        Merged {
            sources,
            order,
            to: to.to_vec(),
            tombstones,
            state: State::Fresh,
        }
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        self.sources[a]
            .key()
            .cmp(self.sources[b].key())
            .then(a.cmp(&b))
    }

    /// Moves every source off the smallest key.
    fn step(&mut self) -> Result<(), EngineError> {
        let key = self.sources[self.order[0]].key();
        let same = 1 + self.order[1..]
            .iter()
            .take_while(|at| self.sources[**at].key() == key)
            .count();
        for at in (0..same).rev() {
            let moved = self.order[at];
            self.sources[moved].advance()?;
            if !self.sources[moved].on_row() {
                self.order.remove(at);
                continue;
            }
            let mut at = at;
            while at + 1 < self.order.len()
                && self.compare(self.order[at + 1], self.order[at]) == Ordering::Less
            {
                self.order.swap(at, at + 1);
                at += 1;
            }
        }
        Ok(())
    }

    /// Goes on at the first key not below `key`; never back.
    pub fn leap(&mut self, key: &[u8]) -> Result<(), EngineError> {
        if let State::Ended = self.state {
            return Ok(());
        }
        let Merged { sources, order, .. } = self;
        let below = order
            .iter()
            .take_while(|at| sources[**at].key() < key)
            .count();
        if below == 0 {
            return Ok(());
        }
        for &at in &order[..below] {
            if let Err(error) = sources[at].leap(key) {
                self.state = State::Ended;
                return Err(error);
            }
        }
        order.retain(|at| sources[*at].on_row());
        order.sort_by(|a, b| sources[*a].key().cmp(sources[*b].key()).then(a.cmp(b)));
        self.state = State::Fresh;
        Ok(())
    }

    fn current(&self) -> &Source {
        &self.sources[self.order[0]]
    }

    fn next_row(&mut self) -> Result<bool, EngineError> {
        loop {
            match self.state {
                State::Fresh => self.state = State::OnRow,
                State::OnRow => self.step()?,
                State::Ended => return Ok(false),
            }
            if self.order.is_empty() || (!self.to.is_empty() && *self.current().key() >= *self.to) {
                self.state = State::Ended;
                return Ok(false);
            }
            if self.tombstones || self.current().row().is_some() {
                return Ok(true);
            }
        }
    }
}

impl RowSource for Merged {
    fn advance(&mut self) -> Result<bool, EngineError> {
        let next = self.next_row();
        if next.is_err() {
            self.state = State::Ended;
        }
        next
    }

    fn key(&self) -> &[u8] {
        self.current().key()
    }

    fn row(&self) -> Option<&[u8]> {
        self.current().row()
    }
}

impl Iterator for Merged {
    type Item = Result<(Bytes, Bytes), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.advance() {
                Ok(true) => {
                    let source = self.current();
                    if let Some(row) = source.owned_row() {
                        return Some(Ok((Bytes::copy_from_slice(source.key()), row)));
                    }
                }
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
