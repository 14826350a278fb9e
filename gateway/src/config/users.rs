//! `[[users]]`: people and programs beside root, each with keys of its own.
//!
//! ```toml
//! [[users]]
//! access-key = "ALICESKEY"
//! secret-key = "..."
//! canonical-id = "alice"          # as owner in answers; without it one is made from the access key
//! display-name = "Alice"
//! email = "alice@example.org"
//! tenant = "photos"               # without it the user has a tenant of its own
//! ```
//! Always true, of what `check` let through:
//! * no access key stands there twice, and none is root's;
//! * a canonical id is no tenant's, and belongs to one tenant and one name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::value::Secret;
use crate::object::etag::hex;

/// A user of the config file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct User {
    /// Public half of its key.
    #[serde(alias = "access_key")]
    pub access_key: String,
    /// Secret half.
    #[serde(alias = "secret_key")]
    pub secret_key: Secret,
    /// Its id as an owner.
    #[serde(
        default,
        alias = "canonical_id",
        skip_serializing_if = "Option::is_none"
    )]
    pub canonical_id: Option<String>,
    /// What it is called.
    #[serde(
        default,
        alias = "display_name",
        skip_serializing_if = "Option::is_none"
    )]
    pub display_name: Option<String>,
    /// For people; nothing is sent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whose quota it counts towards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

impl User {
    /// Its id as an owner: given, or made from the access key.
    pub fn owner_id(&self) -> String {
        match &self.canonical_id {
            Some(id) => id.clone(),
            None => hex(&Sha256::digest(format!("minikv user {}", self.access_key))),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        self.display_name.as_deref().unwrap_or(&self.access_key)
    }

    /// The tenant that it belongs to.
    pub fn tenant_name(&self) -> String {
        self.tenant.clone().unwrap_or_else(|| self.owner_id())
    }
}

/// What is wrong with a list of users: which one, by number from 1, and why. Never with a secret in it.
pub fn check(users: &[User], root: Option<&str>) -> Result<(), (usize, String)> {
    let mut keys: BTreeMap<&str, usize> = BTreeMap::new();
    let mut owners: BTreeMap<String, (String, &str)> = BTreeMap::new();
    for (at, user) in (1..).zip(users) {
        let refuse = |what: String| Err((at, what));
        if !is_access_key(&user.access_key) {
            return refuse(
                "its access-key must be 3 to 128 letters, digits or any of `-_.@+`".into(),
            );
        }
        if root == Some(user.access_key.as_str()) {
            return refuse(format!("its access-key {} is root's", user.access_key));
        }
        if let Some(first) = keys.insert(&user.access_key, at) {
            return refuse(format!(
                "its access-key {} is that of user {first} already",
                user.access_key
            ));
        }
        if user.secret_key.expose().len() < 8 {
            return refuse("its secret-key has fewer than 8 characters".into());
        }
        let id = user.owner_id();
        if !is_word(&id) {
            return refuse(
                "its canonical-id must be 1 to 128 letters, digits or any of `-_.@+`".into(),
            );
        }
        // Owners of buckets that were made without users are called so.
        if id.len() == 64 && id.starts_with(&"0".repeat(48)) {
            return refuse(format!("its canonical-id {id} is that of a tenant"));
        }
        let tenant = user.tenant_name();
        if !is_word(&tenant) || tenant == crate::http::demo::DEMO {
            return refuse(format!(
                "`{tenant}` cannot be its tenant: write 1 to 128 letters, digits or any of `-_.@+`, and not `{}`",
                crate::http::demo::DEMO
            ));
        }
        let same = (tenant, user.name());
        if user.canonical_id.is_some()
            && let Some(other) = owners.insert(id.clone(), same.clone())
            && other != same
        {
            return refuse(format!(
                "canonical-id {id} stands there twice, with another tenant or display-name"
            ));
        }
    }
    Ok(())
}

/// Whether a key can stand in a signature's scope.
pub fn is_access_key(text: &str) -> bool {
    text.len() >= 3 && is_word(text)
}

fn is_word(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
    (1..=128).contains(&text.len()) && text.chars().all(fits)
}
