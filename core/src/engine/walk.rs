//! A scan that can leap: for whoever skips over many rows, such as a listing that rolls prefixes up.
//!
//! Sorted sources of rows leap where they stand: most leaps end in the same block, or the next one, and cost no look-up.
//! A view that has none of ours underneath is scanned anew.
//!
//! Always true: what comes after a leap is what a scan from there on gives, without the rows that were given before.

use bytes::Bytes;

use super::merged::Merged;
use super::{EngineError, RowIter, View};

/// Rows with keys in a range, ascending.
pub struct Walk<'a> {
    rows: Rows<'a>,
    /// What a leap came to, if that was bad; told in place of the next row.
    failed: Option<EngineError>,
}

enum Rows<'a> {
    Ended,
    Merged(Box<Merged>),
    Scan {
        view: &'a dyn View,
        rows: RowIter<'a>,
        to: Vec<u8>,
    },
}

impl<'a> Walk<'a> {
    /// Rows with `from <= key < to`; an empty `to` means "to the end".
    pub fn new(view: &'a dyn View, from: &[u8], to: &[u8]) -> Walk<'a> {
        let (rows, failed) = match view.merged(from, to) {
            Some(Ok(merged)) => (Rows::Merged(Box::new(merged)), None),
            Some(Err(error)) => (Rows::Ended, Some(error)),
            None => {
                let (rows, to) = (view.scan(from, to), to.to_vec());
                (Rows::Scan { view, rows, to }, None)
            }
        };
        Walk { rows, failed }
    }

    /// Goes on at the first row not below `key`; never back.
    pub fn leap(&mut self, key: &[u8]) {
        match &mut self.rows {
            Rows::Merged(merged) => self.failed = merged.leap(key).err().or(self.failed.take()),
            Rows::Scan { view, rows, to } => *rows = view.scan(key, to),
            Rows::Ended => {}
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<(Bytes, Bytes), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            self.rows = Rows::Ended;
            return Some(Err(error));
        }
        match &mut self.rows {
            Rows::Merged(merged) => merged.next(),
            Rows::Scan { rows, .. } => rows.next(),
            Rows::Ended => None,
        }
    }
}
