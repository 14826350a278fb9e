//! Rows as they will be once entries that are being applied together have been written.
//!
//! Several entries go into the engine in one write; each must see what those before it changed.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;

use crate::engine::{EngineError, RowIter, View};

/// Changes over a view.
pub(crate) struct Pending<'a> {
    base: &'a dyn View,
    changes: BTreeMap<Bytes, Option<Bytes>>,
}

impl<'a> Pending<'a> {
    pub(crate) fn over(base: &'a dyn View) -> Pending<'a> {
        Pending {
            base,
            changes: BTreeMap::new(),
        }
    }

    pub(crate) fn change(&mut self, changes: Vec<(Bytes, Option<Bytes>)>) {
        self.changes.extend(changes);
    }

    /// All changes, ascending by key.
    pub(crate) fn into_changes(self) -> Vec<(Bytes, Option<Bytes>)> {
        self.changes.into_iter().collect()
    }
}

impl View for Pending<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self.changes.get(key) {
            Some(row) => Ok(row.clone()),
            None => self.base.get(key),
        }
    }

    fn scan<'b>(&'b self, from: &[u8], to: &[u8]) -> RowIter<'b> {
        let base = self.base.scan(from, to);
        let end = match to.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(to),
        };
        if !to.is_empty() && from >= to {
            return base;
        }
        let changes = self.changes.range::<[u8], _>((Bound::Included(from), end));
        Box::new(Merged {
            base: base.peekable(),
            changes: changes.peekable(),
        })
    }
}

struct Merged<'a> {
    base: Peekable<RowIter<'a>>,
    changes: Peekable<btree_map::Range<'a, Bytes, Option<Bytes>>>,
}

impl Iterator for Merged<'_> {
    type Item = Result<(Bytes, Bytes), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let base_key = match self.base.peek() {
                Some(Ok((key, _))) => Some(key),
                Some(Err(_)) => return self.base.next(),
                None => None,
            };
            match (base_key, self.changes.peek()) {
                (_, None) => return self.base.next(),
                (Some(base), Some((changed, _))) if base < *changed => return self.base.next(),
                (base, Some((changed, _))) => {
                    if base == Some(*changed) {
                        self.base.next();
                    }
                    let (key, row) = self.changes.next()?;
                    if let Some(row) = row {
                        return Some(Ok((key.clone(), row.clone())));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Rows(BTreeMap<Bytes, Bytes>);

    impl View for Rows {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
            Ok(self.0.get(key).cloned())
        }

        fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> RowIter<'a> {
            let (from, to) = (from.to_vec(), to.to_vec());
            let rows = self.0.iter();
            Box::new(
                rows.filter(move |(key, _)| {
                    key[..] >= from[..] && (to.is_empty() || key[..] < to[..])
                })
                .map(|(key, row)| Ok((key.clone(), row.clone()))),
            )
        }
    }

    fn row(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    /// The second of two commands that are applied together finds the state as if it had come later.
    #[test]
    fn an_entry_sees_what_those_before_it_changed() {
        let base = Rows(["a", "c", "e"].map(|key| (row(key), row("old"))).into());
        let mut pending = Pending::over(&base);
        pending.change(vec![(row("a"), None), (row("b"), Some(row("new")))]);
        pending.change(vec![(row("e"), Some(row("new"))), (row("f"), None)]);
        let seen = |from: &[u8], to: &[u8]| -> Vec<(Bytes, Bytes)> {
            pending.scan(from, to).map(Result::unwrap).collect()
        };
        assert_eq!(
            seen(b"", b""),
            [("b", "new"), ("c", "old"), ("e", "new")].map(|(key, value)| (row(key), row(value)))
        );
        assert_eq!(seen(b"c", b"e"), [(row("c"), row("old"))]);
        assert_eq!(pending.get(b"a").unwrap(), None);
        assert_eq!(pending.get(b"c").unwrap(), Some(row("old")));
    }
}
