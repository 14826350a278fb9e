//! Access keys: who a key belongs to, and its secret.
//!
//! Filled from group 0 when the gateway starts and whenever keys change; a request is proven against what is here.
//!
//! Always true: a secret does not print, and leaves this file only as a signing key.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use secrecy::{ExposeSecret, SecretString};

use super::principal::Principal;
use super::signature_v4::{Scope, SigningKey};

/// A key, its owner, and the last signing key derived from it.
pub struct AccessKey {
    principal: Arc<Principal>,
    secret: SecretString,
    /// Derived keys change once a day; deriving takes four HMACs, a tenth of what a small request costs.
    derived: Mutex<Option<(Scope, SigningKey)>>,
}

impl AccessKey {
    /// Whose it is.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// The key that signs in a scope.
    pub fn signing_key(&self, scope: &Scope) -> SigningKey {
        let mut derived = self.derived.lock();
        match &*derived {
            Some((for_scope, key)) if for_scope == scope => key.clone(),
            _ => {
                let key = SigningKey::derive(self.secret.expose_secret(), scope);
                *derived = Some((scope.clone(), key.clone()));
                key
            }
        }
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

/// All keys this gateway knows.
#[derive(Default, Debug)]
pub struct KeyStore {
    keys: RwLock<HashMap<String, Arc<AccessKey>>>,
    /// Display names by canonical id.
    names: RwLock<HashMap<String, String>>,
}

impl KeyStore {
    /// Knows nobody yet.
    pub fn new() -> KeyStore {
        KeyStore::default()
    }

    /// Adds a key, or replaces its secret and owner.
    pub fn put(&self, access_key: &str, secret_key: &str, principal: Principal) {
        let key = AccessKey {
            principal: Arc::new(principal),
            secret: SecretString::from(secret_key),
            derived: Mutex::new(None),
        };
        self.keys
            .write()
            .insert(access_key.to_owned(), Arc::new(key));
    }

    /// What the owner of this canonical id is called.
    pub fn name_of(&self, canonical_id: &str) -> Option<String> {
        self.names.read().get(canonical_id).cloned()
    }

    /// From now on it is called so.
    pub fn name(&self, canonical_id: &str, display_name: &str) {
        self.names
            .write()
            .insert(canonical_id.to_owned(), display_name.to_owned());
    }

    /// Forgets a key; requests that were let in go on.
    pub fn remove(&self, access_key: &str) {
        self.keys.write().remove(access_key);
    }

    /// Looks one up.
    pub fn get(&self, access_key: &str) -> Option<Arc<AccessKey>> {
        self.keys.read().get(access_key).cloned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// T35: nothing that is logged holds a secret.
    #[test]
    fn secrets_do_not_print() {
        let store = KeyStore::new();
        store.put("AK", "canary-secret", Principal::root("AK"));
        let printed = format!("{store:?} {:?}", store.get("AK").unwrap());
        assert!(!printed.contains("canary"), "{printed}");
    }

    #[test]
    fn a_new_secret_takes_effect_at_once() {
        let store = KeyStore::new();
        let scope = |date: &str| Scope {
            date: date.into(),
            region: "r".into(),
            service: "s3".into(),
        };
        let sign = |secret: &str, date: &str| {
            let signature =
                SigningKey::derive(secret, &scope(date)).sign_request("d", &scope(date), &[0; 32]);
            signature.as_str().to_owned()
        };
        for (secret, date) in [("one", "1"), ("one", "2"), ("two", "2"), ("two", "1")] {
            store.put("AK", secret, Principal::root("AK"));
            for _ in 0..2 {
                let signature = store
                    .get("AK")
                    .unwrap()
                    .signing_key(&scope(date))
                    .sign_request("d", &scope(date), &[0; 32]);
                assert_eq!(signature.as_str(), sign(secret, date));
            }
        }
        store.remove("AK");
        assert!(store.get("AK").is_none());
    }
}
