//! Keys, and how one is wrapped by another.
//!
//! ```text
//!   wrapped = salt (32) | AES-256-GCM(data key) (32 + 16)
//!             key: HKDF-SHA256(guard key, salt, "minikv wrap 1"), nonce 0, bound to the object
//! ```
//! Always true:
//! * a guard key seals nothing itself: each wrapping has a key derived with a salt of its own, so that no number of
//!   objects wears a master or client's key out (random 96-bit nonces would, after 2^32);
//! * keys are wiped when they are dropped, and never printed. (What the cipher expands from one while it works is not
//!   wiped: `ring` does not do it.)

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::object::etag::hex;

/// Random bytes that a key is derived with.
pub type KeySalt = [u8; 32];

const WRAPPED: usize = 32 + 32 + 16;

/// A key does not open what it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the key does not open it")]
pub struct KeyError;

/// 256 bits of a key.
#[derive(Clone)]
struct Secret(Zeroizing<[u8; 32]>);

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.0.ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    fn of_slice(bytes: &[u8]) -> Option<Secret> {
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return None;
        }
        key.copy_from_slice(bytes);
        Some(Secret(key))
    }

    fn derive(&self, salt: &KeySalt, purpose: &[&[u8]]) -> LessSafeKey {
        let root = Salt::new(HKDF_SHA256, salt).extract(self.0.as_slice());
        let derived = root.expand(purpose, &AES_256_GCM);
        LessSafeKey::new(UnboundKey::from(
            derived.expect("HKDF-SHA256 gives up to 8160 bytes, and 32 are asked for"),
        ))
    }
}

/// What seals the bytes of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataKey(Secret);

impl DataKey {
    /// From random bytes.
    pub fn of_random(bytes: Zeroizing<[u8; 32]>) -> DataKey {
        DataKey(Secret(bytes))
    }

    /// For content that was written in one piece. A data key seals one content only.
    pub fn of_object(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_256_GCM, self.0.0.as_slice());
        LessSafeKey::new(key.expect("a data key has the 32 bytes that AES-256 wants"))
    }

    /// For one attempt to upload a part: another salt, another key.
    pub fn of_part(&self, number: u32, salt: &KeySalt) -> LessSafeKey {
        self.0
            .derive(salt, &[b"minikv part 1", &number.to_be_bytes()])
    }
}

/// Names a master key: the first bytes of a hash of it, so that a key has one id wherever it stands, and another key
/// never the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MasterKeyId(pub [u8; 8]);

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A key of the ring.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    secret: Secret,
    id: MasterKeyId,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

impl MasterKey {
    /// From random bytes.
    pub fn of_random(bytes: Zeroizing<[u8; 32]>) -> MasterKey {
        let mut hash = Sha256::new();
        hash.update(b"minikv master key id 1");
        hash.update(bytes.as_slice());
        let mut id = [0; 8];
        id.copy_from_slice(&hash.finalize()[..8]);
        MasterKey {
            secret: Secret(bytes),
            id: MasterKeyId(id),
        }
    }

    /// From the base64 of 32 bytes.
    pub fn parse(text: &str) -> Option<MasterKey> {
        let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
        Some(MasterKey::of_random(Secret::of_slice(&bytes)?.0))
    }

    /// As the ring's file has it.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.secret.0.as_slice()))
    }

    /// Its name in records.
    pub fn id(&self) -> MasterKeyId {
        self.id
    }
}

/// A client's key of SSE-C. It lives as long as its request.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomerKey {
    secret: Secret,
    md5: [u8; 16],
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(***)")
    }
}

/// What is wrong with the headers of a client's key. Messages are S3's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CustomerKeyError {
    /// No algorithm.
    #[error(
        "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm."
    )]
    NoAlgorithm,
    /// Not AES256.
    #[error("The encryption request you specified is not valid. The valid value is AES256.")]
    Algorithm,
    /// No key.
    #[error(
        "Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate secret key."
    )]
    NoKey,
    /// Not the base64 of 32 bytes.
    #[error("The secret key was invalid for the specified algorithm.")]
    Key,
    /// No MD5.
    #[error(
        "Requests specifying Server Side Encryption with Customer provided keys must provide the client calculated MD5 of the secret key."
    )]
    NoMd5,
    /// Another key's MD5.
    #[error("The calculated MD5 hash of the key did not match the hash that was provided.")]
    Md5,
}

impl CustomerKey {
    /// From the three headers; `None` when none of them is there.
    pub fn parse(
        algorithm: Option<&str>,
        key: Option<&str>,
        md5: Option<&str>,
    ) -> Result<Option<CustomerKey>, CustomerKeyError> {
        if (algorithm, key, md5) == (None, None, None) {
            return Ok(None);
        }
        match algorithm {
            Some("AES256") => {}
            Some(_) => return Err(CustomerKeyError::Algorithm),
            None => return Err(CustomerKeyError::NoAlgorithm),
        }
        let key = key.ok_or(CustomerKeyError::NoKey)?;
        let md5 = md5.ok_or(CustomerKeyError::NoMd5)?;
        let bytes = Zeroizing::new(BASE64.decode(key).map_err(|_| CustomerKeyError::Key)?);
        let secret = Secret::of_slice(&bytes).ok_or(CustomerKeyError::Key)?;
        let computed = <[u8; 16]>::from(Md5::digest(bytes.as_slice()));
        if BASE64.decode(md5).ok().as_deref() != Some(computed.as_slice()) {
            return Err(CustomerKeyError::Md5);
        }
        Ok(Some(CustomerKey {
            secret,
            md5: computed,
        }))
    }

    /// As answers say it.
    pub fn md5_text(&self) -> String {
        BASE64.encode(self.md5)
    }
}

/// A key that wraps data keys.
#[derive(Clone, Copy)]
pub enum GuardKey<'a> {
    /// Of the ring.
    Master(&'a MasterKey),
    /// Of the client.
    Customer(&'a CustomerKey),
}

impl GuardKey<'_> {
    fn secret(&self) -> &Secret {
        match self {
            GuardKey::Master(key) => &key.secret,
            GuardKey::Customer(key) => &key.secret,
        }
    }

    fn wrapping(&self, salt: &KeySalt) -> LessSafeKey {
        self.secret().derive(salt, &[b"minikv wrap 1"])
    }

    /// Wraps a data key. `salt`: random, used once.
    pub fn wrap(&self, data_key: &DataKey, salt: &KeySalt, binding: &[u8]) -> Wrapped {
        let mut wrapped = [0; WRAPPED];
        wrapped[..32].copy_from_slice(salt);
        wrapped[32..64].copy_from_slice(data_key.0.0.as_slice());
        let tag = self.wrapping(salt).seal_in_place_separate_tag(
            zero(),
            Aad::from(binding),
            &mut wrapped[32..64],
        );
        let tag = tag.expect("32 bytes are within AES-GCM's limit");
        wrapped[64..].copy_from_slice(tag.as_ref());
        Wrapped(wrapped)
    }

    /// Opens what was wrapped with this key and binding.
    pub fn unwrap(&self, wrapped: &Wrapped, binding: &[u8]) -> Result<DataKey, KeyError> {
        let mut salt = [0; 32];
        salt.copy_from_slice(&wrapped.0[..32]);
        let mut sealed = [0; WRAPPED - 32];
        sealed.copy_from_slice(&wrapped.0[32..]);
        let opened =
            self.wrapping(&salt)
                .open_in_place(zero(), Aad::from(binding), &mut sealed[..]);
        let key = opened
            .ok()
            .and_then(|bytes| Secret::of_slice(bytes))
            .map(DataKey)
            .ok_or(KeyError);
        sealed.zeroize();
        key
    }
}

fn zero() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// A wrapped data key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Wrapped([u8; WRAPPED]);

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl Wrapped {
    /// Its 80 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// From 80 bytes.
    pub fn of_bytes(bytes: &[u8]) -> Option<Wrapped> {
        bytes.try_into().ok().map(Wrapped)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn master(fill: u8) -> MasterKey {
        MasterKey::of_random(Zeroizing::new([fill; 32]))
    }

    #[test]
    fn a_data_key_opens_for_its_guard_and_its_object_only() {
        let (key, other) = (master(1), master(2));
        let data = DataKey::of_random(Zeroizing::new([3; 32]));
        let wrapped = GuardKey::Master(&key).wrap(&data, &[4; 32], b"object");
        assert_eq!(
            GuardKey::Master(&key).unwrap(&wrapped, b"object"),
            Ok(data.clone())
        );
        assert_eq!(
            GuardKey::Master(&other).unwrap(&wrapped, b"object"),
            Err(KeyError)
        );
        assert_eq!(
            GuardKey::Master(&key).unwrap(&wrapped, b"another"),
            Err(KeyError)
        );
        for at in 0..WRAPPED {
            let mut changed = wrapped;
            changed.0[at] ^= 1;
            assert_eq!(
                GuardKey::Master(&key).unwrap(&changed, b"object"),
                Err(KeyError),
                "byte {at}"
            );
        }
        assert!(
            !wrapped.0.windows(32).any(|window| window == [3; 32]),
            "the data key itself is not in it"
        );
    }

    /// The trap of multipart uploads: the same part uploaded again must not be sealed under the same key and nonces.
    #[test]
    fn every_attempt_at_a_part_has_its_own_key() {
        let data = DataKey::of_random(Zeroizing::new([3; 32]));
        let seal = |key: LessSafeKey| {
            let mut bytes = *b"the same bytes";
            let _ = key
                .seal_in_place_separate_tag(zero(), Aad::empty(), &mut bytes)
                .unwrap();
            bytes
        };
        let all = [
            seal(data.of_object()),
            seal(data.of_part(1, &[0; 32])),
            seal(data.of_part(1, &[1; 32])),
            seal(data.of_part(2, &[0; 32])),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other != one), "{at}");
        }
        assert_eq!(
            seal(data.of_part(1, &[0; 32])),
            all[1],
            "and is derived again"
        );
    }

    #[test]
    fn keys_do_not_print_themselves() {
        let key = master(0x41);
        let customer = CustomerKey {
            secret: key.secret.clone(),
            md5: [0; 16],
        };
        let shown = format!(
            "{key:?} {customer:?} {:?}",
            DataKey::of_random(Zeroizing::new([0x41; 32]))
        );
        assert!(!shown.contains("AAAA") && !shown.contains("65") && !shown.contains("4141"));
        assert_eq!(MasterKey::parse(&key.text()), Some(key));
        assert_eq!(MasterKey::parse("AAAA"), None);
    }

    #[test]
    fn a_customers_key_comes_with_its_hash() {
        let key = BASE64.encode([5; 32]);
        let md5 = BASE64.encode(Md5::digest([5; 32]));
        let parse = |algorithm, key, md5| CustomerKey::parse(algorithm, key, md5);
        assert_eq!(parse(None, None, None), Ok(None));
        let good = parse(Some("AES256"), Some(&key), Some(&md5))
            .unwrap()
            .unwrap();
        assert_eq!(good.md5_text(), md5);
        for (algorithm, key, md5, error) in [
            (
                None,
                Some(&*key),
                Some(&*md5),
                CustomerKeyError::NoAlgorithm,
            ),
            (
                Some("aes256"),
                Some(&key),
                Some(&md5),
                CustomerKeyError::Algorithm,
            ),
            (Some("AES256"), None, Some(&md5), CustomerKeyError::NoKey),
            (Some("AES256"), Some(&key), None, CustomerKeyError::NoMd5),
            (
                Some("AES256"),
                Some("AAAA"),
                Some(&md5),
                CustomerKeyError::Key,
            ),
            (Some("AES256"), Some("?"), Some(&md5), CustomerKeyError::Key),
            (
                Some("AES256"),
                Some(&key),
                Some("AAAA"),
                CustomerKeyError::Md5,
            ),
        ] {
            assert_eq!(parse(algorithm, key, md5), Err(error));
        }
    }
}
