//! What a store found broken on its disk, and what it could mend.
//!
//! A store without twins can only say which file is bad; its group fetches a checkpoint from a peer, or turns read-only.
//! With twins a read is served from the other copy, and `RunStore::heal` writes the bad one anew.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::EngineError;

/// One bad file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Its name within the store's directory.
    pub file: String,
    /// What was found first.
    pub what: String,
    /// Another copy of what is bad could be read: nothing is lost, `heal` rewrites the file.
    pub healable: bool,
}

/// A file that was bad and is whole again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Healed {
    /// Its name within the store's directory.
    pub file: String,
    /// What had been found.
    pub what: String,
}

/// The list that readers add to.
#[derive(Default)]
pub struct DamageBook {
    bad: Mutex<BTreeMap<String, Damage>>,
    healed: Mutex<Vec<Healed>>,
}

impl DamageBook {
    /// Notes a bad file. Lost stays lost: a later healable find does not take it back.
    pub fn note(&self, file: &str, what: &str, healable: bool) {
        let mut book = self.bad.lock();
        match book.get_mut(file) {
            Some(known) => known.healable &= healable,
            None => {
                tracing::warn!(file, what, healable, "damaged file");
                let damage = Damage {
                    file: file.into(),
                    what: what.into(),
                    healable,
                };
                book.insert(file.into(), damage);
            }
        }
    }

    /// Everything known to be bad, by name.
    pub fn all(&self) -> Vec<Damage> {
        self.bad.lock().values().cloned().collect()
    }

    /// Whether this file is bad.
    pub fn knows(&self, file: &str) -> bool {
        self.bad.lock().contains_key(file)
    }

    /// Strikes out a file that is no longer part of the store.
    pub fn strike(&self, file: &str) {
        self.bad.lock().remove(file);
    }

    /// A file was written anew: if it was bad, it is listed as healed.
    pub fn mended(&self, file: &str) {
        let damage = self.bad.lock().remove(file);
        if let Some(Damage { file, what, .. }) = damage {
            tracing::info!(file, what, "healed");
            self.healed.lock().push(Healed { file, what });
        }
    }

    /// What was healed so far.
    pub fn healed(&self) -> Vec<Healed> {
        self.healed.lock().clone()
    }
}

/// A damage error.
pub fn damaged(file: impl Into<String>, what: impl Into<String>) -> EngineError {
    EngineError::Damaged {
        file: file.into(),
        what: what.into(),
    }
}
