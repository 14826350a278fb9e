//! Names of buckets and objects, and which of them S3 allows.
//!
//! Always true: an `ObjectKey` has 1 to 1024 bytes of UTF-8 and is opaque: it never becomes part of a path, and
//! `..`, `//`, NUL or a newline in it mean nothing.

use bytes::Bytes;

/// Longest object key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// Bucket names that would collide with paths of ours or of MinIO on the S3 port.
const RESERVED_BUCKETS: [&str; 2] = ["minio", "minikv"];

/// The bucket that bare keys lie in (`minikv put KEY`, and the KV interface). S3 asks for three characters; this one name
/// is shorter, so that no bucket of a user can ever be taken for it.
pub const KV_BUCKET: &str = "kv";

/// Why a name is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// Against S3's rules for bucket names.
    #[error("the bucket name is not valid: {0}")]
    Bucket(&'static str),
    /// An empty key.
    #[error("the object key is empty")]
    EmptyKey,
    /// More than 1024 bytes.
    #[error("the object key is longer than {MAX_KEY_BYTES} bytes")]
    KeyTooLong,
}

/// An object's key as it was asked for: decoded once, never interpreted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Checks the length; every UTF-8 string of 1 to 1024 bytes is a key.
    pub fn new(key: impl Into<String>) -> Result<ObjectKey, NameError> {
        let key = key.into();
        match key.len() {
            0 => Err(NameError::EmptyKey),
            1..=MAX_KEY_BYTES => Ok(ObjectKey(key)),
            _ => Err(NameError::KeyTooLong),
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the core stores it.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.0.as_bytes())
    }
}

/// Whether a new bucket may have this name: S3's rules for general purpose buckets, and our reserved names.
///
/// Names that are only looked up are not checked here: no bucket has a bad name, so the answer is NoSuchBucket.
pub fn check_bucket_name(name: &str) -> Result<(), NameError> {
    let refuse = |why| Err(NameError::Bucket(why));
    if name == KV_BUCKET {
        return Ok(());
    }
    if !(3..=63).contains(&name.len()) {
        return refuse("it must have 3 to 63 characters");
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
    {
        return refuse("only lower-case letters, digits, hyphens and dots are allowed");
    }
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !edge(name.bytes().next()) || !edge(name.bytes().last()) {
        return refuse("it must begin and end with a letter or digit");
    }
    if name.contains("..") {
        return refuse("two dots must not stand side by side");
    }
    if name.parse::<std::net::Ipv4Addr>().is_ok() {
        return refuse("it must not look like an IP address");
    }
    let reserved_edges = name.starts_with("xn--")
        || name.starts_with("sthree-")
        || ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"]
            .iter()
            .any(|end| name.ends_with(end));
    if reserved_edges {
        return refuse("this prefix or suffix is reserved by S3");
    }
    if RESERVED_BUCKETS.contains(&name) {
        return refuse("the name is reserved for the server itself");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bucket_names_follow_the_rules_of_s3() {
        for good in [
            "abc",
            "my-bucket",
            "my.bucket.2",
            "0ab",
            "a".repeat(63).as_str(),
            "metrics",
            "livez",
            "kv",
        ] {
            assert_eq!(check_bucket_name(good), Ok(()), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "ab",
            long.as_str(),
            "Abc",
            "a_b",
            "-ab",
            "ab-",
            ".ab",
            "ab.",
            "a..b",
            "192.168.1.1",
            "xn--abc",
            "abc-s3alias",
            "abc--ol-s3",
            "abc--x-s3",
            "sthree-abc",
            "abc/",
            "ab c",
            "äbc",
            "",
            "minio",
            "minikv",
        ] {
            assert!(check_bucket_name(bad).is_err(), "{bad}");
        }
    }

    /// T27: exactly the limit is taken, one byte more is not, and bytes are counted, not characters.
    #[test]
    fn a_key_has_1_to_1024_bytes() {
        assert_eq!(ObjectKey::new(""), Err(NameError::EmptyKey));
        assert!(ObjectKey::new("k".repeat(1024)).is_ok());
        assert_eq!(ObjectKey::new("k".repeat(1025)), Err(NameError::KeyTooLong));
        assert!(ObjectKey::new("ä".repeat(512)).is_ok());
        assert_eq!(ObjectKey::new("ä".repeat(513)), Err(NameError::KeyTooLong));
    }

    /// T21: what would be dangerous in a path is an ordinary key.
    #[test]
    fn keys_are_opaque() {
        for key in [
            "../../etc/passwd",
            "/",
            "//",
            "a\0b",
            "a\r\nb",
            ".",
            "a/",
            "%2e%2e",
        ] {
            assert_eq!(ObjectKey::new(key).unwrap().as_str(), key);
        }
    }
}
