//! What one entry reads and changes: a view with its own changes on top.
//!
//! Always true:
//! * a read sees what the same entry wrote before;
//! * the changes handed out are exactly the rows that differ at the end from what they were;
//! * every changed row's old value is known, so the digest can be kept.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use crate::engine::digest;
use crate::engine::{EngineError, View};
use crate::state::keys::KeyRange;

pub(super) struct Ledger<'a> {
    view: &'a dyn View,
    rows: BTreeMap<Bytes, Touched>,
    operations: u32,
}

/// A row that was read or written.
struct Touched {
    before: Option<Bytes>,
    now: Option<Bytes>,
}

/// A change: key and new row.
type Change = (Bytes, Option<Bytes>);

impl<'a> Ledger<'a> {
    pub fn new(view: &'a dyn View) -> Ledger<'a> {
        Ledger {
            view,
            rows: BTreeMap::new(),
            operations: 0,
        }
    }

    pub fn operations(&self) -> u32 {
        self.operations
    }

    pub fn get(&mut self, key: &Bytes) -> Result<Option<Bytes>, EngineError> {
        if let Some(touched) = self.rows.get(key) {
            return Ok(touched.now.clone());
        }
        self.operations += 1;
        let row = self.view.get(key)?;
        self.rows.insert(
            key.clone(),
            Touched {
                before: row.clone(),
                now: row.clone(),
            },
        );
        Ok(row)
    }

    pub fn row<M: Message + Default>(&mut self, key: &Bytes) -> Result<Option<M>, EngineError> {
        self.get(key)?.map(|row| decode(key, row)).transpose()
    }

    pub fn put(&mut self, key: Bytes, row: Bytes) -> Result<(), EngineError> {
        self.change(key, Some(row))
    }

    pub fn put_row(&mut self, key: Bytes, row: &impl Message) -> Result<(), EngineError> {
        self.put(key, Bytes::from(row.encode_to_vec()))
    }

    /// Writes a row under a key that cannot be there yet (its name is the index of this entry, say).
    pub fn put_new_row(&mut self, key: Bytes, row: &impl Message) -> Result<(), EngineError> {
        debug_assert!(
            matches!(self.view.get(&key), Ok(None) | Err(_)),
            "there was a row already"
        );
        self.operations += 1;
        let now = Some(Bytes::from(row.encode_to_vec()));
        self.rows
            .entry(key)
            .or_insert(Touched {
                before: None,
                now: None,
            })
            .now = now;
        Ok(())
    }

    pub fn delete(&mut self, key: Bytes) -> Result<(), EngineError> {
        self.change(key, None)
    }

    fn change(&mut self, key: Bytes, now: Option<Bytes>) -> Result<(), EngineError> {
        self.get(&key)?;
        self.operations += 1;
        if let Some(touched) = self.rows.get_mut(&key) {
            touched.now = now;
        }
        Ok(())
    }

    /// At most `limit` live rows of a range, ascending.
    pub fn scan(
        &mut self,
        range: &KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, EngineError> {
        let mut found = Vec::new();
        let mut stored = self.view.scan(&range.from, &range.to).peekable();
        let mut touched = self
            .rows
            .range(range.from.clone()..range.to.clone())
            .peekable();
        while found.len() < limit {
            let stored_key = match stored.peek() {
                Some(Err(error)) => return Err(error.clone()),
                Some(Ok((key, _))) => Some(key),
                None => None,
            };
            let take_touched = match (touched.peek(), stored_key) {
                (None, None) => break,
                (Some((ours, _)), Some(theirs)) => *ours <= theirs,
                (ours, _) => ours.is_some(),
            };
            if take_touched {
                let Some((key, row)) = touched.next() else {
                    break;
                };
                // The stored row under the same key is what it was before this entry.
                if stored
                    .peek()
                    .is_some_and(|row| row.as_ref().is_ok_and(|(stored, _)| stored == key))
                {
                    stored.next();
                }
                if let Some(now) = &row.now {
                    found.push((key.clone(), now.clone()));
                }
            } else if let Some(row) = stored.next() {
                found.push(row?);
            }
            self.operations += 1;
        }
        Ok(found)
    }

    /// Forgets all changes.
    pub fn undo(&mut self) {
        for touched in self.rows.values_mut() {
            touched.now = touched.before.clone();
        }
    }

    /// The changes, ascending by key, and what they add to the digest.
    pub fn finish(self) -> (Vec<Change>, u128) {
        let mut changes = Vec::new();
        let mut sum = 0u128;
        for (key, touched) in self.rows {
            if touched.before == touched.now {
                continue;
            }
            if let Some(before) = &touched.before {
                sum = sum.wrapping_sub(digest::row_hash(&key, before));
            }
            if let Some(now) = &touched.now {
                sum = sum.wrapping_add(digest::row_hash(&key, now));
            }
            changes.push((key, touched.now));
        }
        (changes, sum)
    }
}

/// A row's message. What cannot be decoded is damage, never "absent".
pub(super) fn decode<M: Message + Default>(key: &[u8], row: Bytes) -> Result<M, EngineError> {
    M::decode(row).map_err(|error| damaged(key, &error.to_string()))
}

/// A row that says what cannot be.
pub(super) fn damaged(key: &[u8], what: &str) -> EngineError {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    EngineError::Damaged {
        file: format!("row {hex}"),
        what: what.to_owned(),
    }
}
