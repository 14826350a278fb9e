//! The key ring: master keys by name, each in versions.
//!
//! ```toml
//! current = "minikv"           # guards SSE-S3, and SSE-KMS without a key id
//!
//! [[keys]]
//! name = "minikv"
//! versions = ["base64 of 32 bytes", "base64 of 32 bytes"]      # the last one wraps, all of them open
//! ```
//! Always true:
//! * a ring that was read has a current key, and every key a version;
//! * rotating adds a version and takes none away: what was written before opens as before.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::EncryptionError;
use super::keys::{MasterKey, MasterKeyId};

/// A key by its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedKey {
    /// Letters, digits, `-`, `_`, `.`; at most 64.
    pub name: String,
    /// Oldest first; the last one wraps.
    versions: Vec<MasterKey>,
}

impl NamedKey {
    /// The version that wraps.
    pub fn newest(&self) -> &MasterKey {
        self.versions
            .last()
            .expect("no key is made or read without a version")
    }

    /// Their ids, oldest first.
    pub fn ids(&self) -> impl Iterator<Item = MasterKeyId> + '_ {
        self.versions.iter().map(MasterKey::id)
    }
}

/// All master keys of a server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyRing {
    current: String,
    keys: Vec<NamedKey>,
}

/// Why a ring cannot be used, or cannot be changed so.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RingError {
    /// Not TOML, or other fields.
    #[error("it is no key ring: {0}")]
    Form(String),
    /// A name that no key can have.
    #[error("`{0}` is no name for a key: 1 to 64 letters, digits, `-`, `_` or `.`")]
    Name(String),
    /// Twice the same name.
    #[error("there is a key `{0}` already")]
    Exists(String),
    /// Not there.
    #[error("there is no key `{0}`")]
    Absent(String),
    /// A key without versions, or one that is not 32 bytes in base64.
    #[error("key `{0}` has no version, or one that is not 32 bytes in base64")]
    Versions(String),
    /// The same key twice.
    #[error("the key {0} stands there twice")]
    Twice(MasterKeyId),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    current: String,
    keys: Vec<FileKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    name: String,
    versions: Vec<Zeroized>,
}

/// A key's text, wiped when it is dropped.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Zeroized(String);

impl Drop for Zeroized {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl KeyRing {
    /// With one key.
    pub fn new(name: &str, key: MasterKey) -> Result<KeyRing, RingError> {
        let mut ring = KeyRing {
            current: name.to_owned(),
            keys: Vec::new(),
        };
        ring.add(name, key)?;
        Ok(ring)
    }

    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<KeyRing, RingError> {
        // toml's own words could show the line, and with it a key.
        let file: File = toml::from_str(text)
            .map_err(|cause: toml::de::Error| RingError::Form(cause.message().to_owned()))?;
        let mut ring = KeyRing {
            current: file.current,
            keys: Vec::new(),
        };
        let mut ids = BTreeSet::new();
        for key in &file.keys {
            let mut versions = key.versions.iter().map(|text| MasterKey::parse(&text.0));
            let wrong = || RingError::Versions(key.name.clone());
            ring.add(&key.name, versions.next().flatten().ok_or_else(wrong)?)?;
            for version in versions {
                ring.rotate(&key.name, version.ok_or_else(wrong)?)?;
            }
        }
        for id in ring.keys.iter().flat_map(NamedKey::ids) {
            if !ids.insert(id) {
                return Err(RingError::Twice(id));
            }
        }
        match ring.named(&ring.current) {
            Some(_) => Ok(ring),
            None => Err(RingError::Absent(ring.current)),
        }
    }

    /// As the file has it.
    pub fn text(&self) -> Zeroizing<String> {
        let key = |key: &NamedKey| FileKey {
            name: key.name.clone(),
            versions: key
                .versions
                .iter()
                .map(|version| Zeroized(version.text().to_string()))
                .collect(),
        };
        let file = File {
            current: self.current.clone(),
            keys: self.keys.iter().map(key).collect(),
        };
        Zeroizing::new(toml::to_string(&file).expect("strings and lists of them are TOML"))
    }

    /// Another key. It guards what names it.
    pub fn add(&mut self, name: &str, key: MasterKey) -> Result<(), RingError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            return Err(RingError::Name(name.to_owned()));
        }
        if self.named(name).is_some() {
            return Err(RingError::Exists(name.to_owned()));
        }
        self.keys.push(NamedKey {
            name: name.to_owned(),
            versions: vec![key],
        });
        Ok(())
    }

    /// A new version of a key: it wraps from now on.
    pub fn rotate(&mut self, name: &str, key: MasterKey) -> Result<(), RingError> {
        let absent = || RingError::Absent(name.to_owned());
        let found = self.keys.iter_mut().find(|key| key.name == name);
        found.ok_or_else(absent)?.versions.push(key);
        Ok(())
    }

    /// The name of the current key.
    pub fn current_name(&self) -> &str {
        &self.current
    }

    /// All keys, in the file's order.
    pub fn keys(&self) -> &[NamedKey] {
        &self.keys
    }

    fn named(&self, name: &str) -> Option<&NamedKey> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// What guards SSE-S3.
    pub fn current(&self) -> Result<&NamedKey, EncryptionError> {
        self.named(&self.current).ok_or(EncryptionError::NoRing)
    }

    /// The key of an SSE-KMS key id: a name, `alias/NAME`, `key/NAME` or an ARN that ends so. None: the current one.
    pub fn kms(&self, asked: Option<&str>) -> Result<&NamedKey, EncryptionError> {
        let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
            return self.current();
        };
        let resource = match asked.strip_prefix("arn:") {
            Some(arn) => arn.rsplit(':').next().unwrap_or(arn),
            None => asked,
        };
        let name = resource
            .strip_prefix("alias/")
            .or_else(|| resource.strip_prefix("key/"))
            .unwrap_or(resource);
        self.named(name).ok_or_else(|| EncryptionError::NoSuchKey {
            name: asked.to_owned(),
        })
    }

    /// The key that a record names.
    pub fn master(&self, id: MasterKeyId) -> Option<&MasterKey> {
        let mut versions = self.keys.iter().flat_map(|key| &key.versions);
        versions.find(|version| version.id() == id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(fill: u8) -> MasterKey {
        MasterKey::of_random(Zeroizing::new([fill; 32]))
    }

    #[test]
    fn a_ring_is_read_as_it_was_written() {
        let mut ring = KeyRing::new("minikv", key(1)).unwrap();
        ring.add("payroll", key(2)).unwrap();
        ring.rotate("minikv", key(3)).unwrap();
        assert_eq!(KeyRing::parse(&ring.text()).unwrap(), ring);
    }

    #[test]
    fn after_a_rotation_the_old_key_still_opens() {
        let mut ring = KeyRing::new("minikv", key(1)).unwrap();
        let before = ring.current().unwrap().newest().id();
        ring.rotate("minikv", key(2)).unwrap();
        assert_ne!(ring.current().unwrap().newest().id(), before);
        assert_eq!(ring.master(before), Some(&key(1)));
        assert_eq!(ring.master(key(9).id()), None);
    }

    #[test]
    fn a_kms_key_id_is_a_name_an_alias_or_an_arn() {
        let mut ring = KeyRing::new("minikv", key(1)).unwrap();
        ring.add("pay-roll", key(2)).unwrap();
        for (asked, name) in [
            (None, "minikv"),
            (Some(""), "minikv"),
            (Some("pay-roll"), "pay-roll"),
            (Some("alias/pay-roll"), "pay-roll"),
            (Some("arn:aws:kms:us-east-1:1:key/pay-roll"), "pay-roll"),
            (Some("arn:aws:kms:us-east-1:1:alias/minikv"), "minikv"),
        ] {
            assert_eq!(ring.kms(asked).unwrap().name, name, "{asked:?}");
        }
        assert_eq!(
            ring.kms(Some("alias/nobody")),
            Err(EncryptionError::NoSuchKey {
                name: "alias/nobody".into()
            })
        );
        assert_eq!(KeyRing::default().kms(None), Err(EncryptionError::NoRing));
    }

    #[test]
    fn a_ring_that_is_not_whole_is_refused() {
        let good = KeyRing::new("a", key(1)).unwrap();
        let text = key(1).text().to_string();
        for bad in [
            String::new(),
            "current = 1".to_owned(),
            "current = \"a\"\nkeys = []".to_owned(),
            "current = \"a\"\n[[keys]]\nname = \"a\"\nversions = []".to_owned(),
            "current = \"a\"\n[[keys]]\nname = \"a\"\nversions = [\"AAAA\"]".to_owned(),
            format!("current = \"a\"\n[[keys]]\nname = \"a\"\nversions = [\"{text}\", \"{text}\"]"),
            good.text().replace("current = \"a\"", "current = \"b\""),
            format!("{}surprise = 1", good.text().as_str()),
        ] {
            let error = KeyRing::parse(&bad).unwrap_err();
            assert!(!error.to_string().contains(&text), "{error}");
        }
        for name in ["", "a/b", "ä", &"x".repeat(65)] {
            assert!(KeyRing::new(name, key(1)).is_err(), "{name}");
        }
    }
}
