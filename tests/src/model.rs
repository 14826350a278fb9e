//! What a key is, in the fewest words: its versions and its open uploads; and what each operation does to it.
//!
//! This is the reference that the store is compared with. It knows no disk, no log, no time, and it is small enough
//! to be checked by reading. Keys do not touch each other, so the state of a store is one `KeyState` per key.
//!
//! Elsewhere: which operations happened (`oracle`), what the bytes are (`content`).

use std::collections::BTreeMap;

use crate::content::{Content, Piece};

/// Bucket and key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name {
    /// The bucket's name.
    pub bucket: String,
    /// The key.
    pub key: String,
}

impl Name {
    /// A key in a bucket.
    pub fn new(bucket: impl Into<String>, key: impl Into<String>) -> Name {
        Name {
            bucket: bucket.into(),
            key: key.into(),
        }
    }
}

/// Everything a client can see of a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct KeyState {
    /// Newest first; `None` is a delete marker. Without versioning there is at most one.
    pub versions: Vec<Option<Content>>,
    /// Open uploads by the label that the test gave them, with their parts.
    pub uploads: BTreeMap<String, BTreeMap<u32, Piece>>,
}

impl KeyState {
    /// What a GET returns.
    pub fn current(&self) -> Option<&Content> {
        self.versions.first().and_then(Option::as_ref)
    }

    /// Nothing is there.
    pub fn is_nothing(&self) -> bool {
        *self == KeyState::default()
    }

    /// Bytes of all versions and parts.
    pub fn bytes(&self) -> u64 {
        let versions: u64 = self.versions.iter().flatten().map(Content::len).sum();
        let parts: u64 = self
            .uploads
            .values()
            .flat_map(|parts| parts.values())
            .map(|piece| piece.size)
            .sum();
        versions + parts
    }
}

/// What a client asks of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Writes the content, whatever is there.
    Put(Content),
    /// Writes the content if there is no object (`If-None-Match: *`).
    PutIfAbsent(Content),
    /// Deletes the current version.
    Delete,
    /// Opens an upload.
    CreateUpload(String),
    /// Adds or replaces a part.
    Part(String, u32, Piece),
    /// Makes the listed parts an object.
    Complete(String, Vec<u32>),
    /// Gives an upload up.
    Abort(String),
    /// Nothing that a client could see: checkpoints, compaction, releases, rolled segments.
    Housekeeping,
}

impl Op {
    /// The key after it, or `None` when it has to be refused and leaves the key as it was.
    /// `versioned`: the bucket keeps old versions.
    pub fn apply(&self, before: &KeyState, versioned: bool) -> Option<KeyState> {
        let mut key = before.clone();
        match self {
            Op::Put(content) => key.write(Some(content.clone()), versioned),
            Op::PutIfAbsent(content) => {
                if key.current().is_some() {
                    return None;
                }
                key.write(Some(content.clone()), versioned);
            }
            Op::Delete => {
                if versioned {
                    key.write(None, versioned);
                } else {
                    key.versions.clear();
                }
            }
            Op::CreateUpload(label) => {
                key.uploads.insert(label.clone(), BTreeMap::new());
            }
            Op::Part(label, number, piece) => {
                key.uploads.get_mut(label)?.insert(*number, *piece);
            }
            Op::Complete(label, numbers) => {
                let parts = key.uploads.remove(label)?;
                let pieces: Option<Vec<Piece>> = numbers
                    .iter()
                    .map(|number| parts.get(number).copied())
                    .collect();
                key.write(Some(Content(pieces?)), versioned);
            }
            Op::Abort(label) => {
                key.uploads.remove(label)?;
            }
            Op::Housekeeping => {}
        }
        Some(key)
    }
}

impl KeyState {
    fn write(&mut self, version: Option<Content>, versioned: bool) {
        if !versioned {
            self.versions.clear();
        }
        self.versions.insert(0, version);
    }
}
