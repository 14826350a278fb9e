//! Server-side encryption: who holds the key of an object, and what its record says of it.
//!
//! ```text
//!   guard key   a master key of the ring (SSE-S3, SSE-KMS), or the client's (SSE-C)
//!      | wraps, bound to the bucket and the object's name              (keys)
//!   data key    random, one per object or upload
//!      | seals the bytes; a part has a key of its own, derived from it
//!   pieces      64 KiB each, numbered, the last one marked              (pieces)
//! ```
//! Always true:
//! * a data key lies on disk only wrapped, a client's key never in any form;
//! * no key seals two different texts under one nonce: data keys, and the salts from which part and wrapping keys are
//!   derived, are drawn anew for each attempt to write;
//! * `plain` is the number of bytes clients see; what the core stores and charges is more (`pieces::sealed_len`).
//!
//! Elsewhere: the file of the ring (`serve/keyring`), headers (`s3/encryption`).

pub mod keys;
pub mod pieces;
pub mod ring;

use super::record::RecordError;
use keys::{CustomerKey, MasterKeyId, Wrapped};

/// Who holds the key that an object's data key is wrapped with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Guard {
    /// SSE-S3: the ring's current key, as it was when the object was written.
    S3 {
        /// Which one it was.
        master: MasterKeyId,
    },
    /// SSE-KMS: a key of the ring that has a name.
    Kms(KmsGuard),
    /// SSE-C: the client.
    Customer,
}

/// SSE-KMS in particular.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KmsGuard {
    /// The key's name, as answers show it.
    pub name: String,
    /// Its version when the object was written.
    pub master: MasterKeyId,
    /// The client's encryption context (JSON): bound to the wrapped key.
    pub context: String,
    /// `x-amz-server-side-encryption-bucket-key-enabled`: shown again; it changes nothing where no KMS is called.
    pub bucket_key: bool,
}

impl Guard {
    /// `x-amz-server-side-encryption`; SSE-C has headers of its own.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Guard::S3 { .. } => Some("AES256"),
            Guard::Kms(_) => Some("aws:kms"),
            Guard::Customer => None,
        }
    }

    /// Whether the ETag is the MD5 of the bytes. Under the other guards S3 promises that it is not.
    pub fn shows_md5(&self) -> bool {
        matches!(self, Guard::S3 { .. })
    }

    /// Whether another object may have the same sealed bytes under this guard: the same holder, whichever version of its
    /// key. (Of client's keys only their use tells.)
    pub fn same_holder(&self, other: &Guard) -> bool {
        match (self, other) {
            (Guard::S3 { .. }, Guard::S3 { .. }) | (Guard::Customer, Guard::Customer) => true,
            (Guard::Kms(a), Guard::Kms(b)) => a.name == b.name,
            _ => false,
        }
    }

    /// What a wrapped key is bound to: it opens for this object and context only. The version is not in it, so that all
    /// versions of a key are alike.
    pub fn binding(&self, bucket: u64, key: &[u8]) -> Vec<u8> {
        let (kind, context): (u8, &[u8]) = match self {
            Guard::S3 { .. } => (1, b""),
            Guard::Kms(kms) => (2, kms.context.as_bytes()),
            Guard::Customer => (3, b""),
        };
        let mut bound = Vec::with_capacity(16 + key.len() + context.len());
        bound.push(kind);
        bound.extend_from_slice(&bucket.to_be_bytes());
        bound.extend_from_slice(&(key.len() as u64).to_be_bytes());
        bound.extend_from_slice(key);
        bound.extend_from_slice(context);
        bound
    }
}

/// What the record of an encrypted version or upload says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encryption {
    /// Who holds the key.
    pub guard: Guard,
    /// The data key.
    pub wrapped: Wrapped,
    /// Bytes as clients see them; 0 for an upload.
    pub plain: u64,
}

/// How a write is to be guarded, as its request says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Asked {
    /// Nothing said: as the bucket is set.
    #[default]
    Nothing,
    /// SSE-S3.
    S3,
    /// SSE-KMS.
    Kms(AskedKms),
    /// SSE-C.
    Customer(CustomerKey),
}

/// SSE-KMS, as a request says it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AskedKms {
    /// Key id; none: the ring's current key.
    pub key: Option<String>,
    /// JSON; empty: none.
    pub context: String,
    /// None: as the bucket is set.
    pub bucket_key: Option<bool>,
}

/// How writes to a bucket are guarded when they do not say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BucketDefault {
    /// SSE-S3 or SSE-KMS.
    pub method: DefaultMethod,
    /// As it was put.
    pub bucket_key: Option<bool>,
}

/// SSE-S3, or SSE-KMS with a key id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DefaultMethod {
    /// SSE-S3.
    S3,
    /// SSE-KMS; none: the ring's current key.
    Kms(Option<String>),
}

impl Asked {
    /// The client's key, for SSE-C.
    pub fn customer(&self) -> Option<&CustomerKey> {
        match self {
            Asked::Customer(key) => Some(key),
            _ => None,
        }
    }

    /// Whether the request says anything.
    pub fn is_said(&self) -> bool {
        *self != Asked::Nothing
    }
}

/// Why something encrypted is not written or not read. Messages are S3's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncryptionError {
    /// SSE-C, and no key came.
    #[error(
        "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object."
    )]
    KeyNeeded,
    /// A key came, and the object is not SSE-C.
    #[error("The encryption parameters are not applicable to this object.")]
    NotApplicable,
    /// SSE-C, and another key came.
    #[error("Access Denied")]
    WrongKey,
    /// The upload is SSE-C, and no key came with the part.
    #[error(
        "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption parameters."
    )]
    PartWithoutKey,
    /// The part's key is not the upload's, or the upload is not SSE-C.
    #[error("The provided encryption parameters did not match the ones used originally.")]
    PartWithOther,
    /// No such key in the ring.
    #[error("Key '{name}' does not exist")]
    NoSuchKey {
        /// As it was asked for.
        name: String,
    },
    /// The ring does not have the key that an object was wrapped with.
    #[error("the master key {id} that guards this object is not in the key ring")]
    MasterMissing {
        /// Which one, as `minikv key list` shows it.
        id: MasterKeyId,
        /// Its name, for SSE-KMS.
        name: Option<String>,
    },
    /// This server has no ring.
    #[error("this server has no key ring, so it cannot encrypt with keys of its own")]
    NoRing,
}

pub(super) mod wire {
    //! The bytes. Numbers are final.

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Encryption {
        /// 1 SSE-S3, 2 SSE-KMS, 3 SSE-C.
        #[prost(uint32, tag = "1")]
        pub guard: u32,
        /// Salt and sealed data key, 80 bytes.
        #[prost(bytes = "vec", tag = "2")]
        pub wrapped: Vec<u8>,
        #[prost(uint64, tag = "3")]
        pub plain: u64,
        /// Id of the master key, 8 bytes; none for SSE-C.
        #[prost(bytes = "vec", tag = "4")]
        pub master: Vec<u8>,
        #[prost(string, tag = "5")]
        pub kms_name: String,
        #[prost(string, tag = "6")]
        pub kms_context: String,
        #[prost(bool, tag = "7")]
        pub bucket_key: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct BucketDefault {
        /// 1 SSE-S3, 2 SSE-KMS.
        #[prost(uint32, tag = "1")]
        pub method: u32,
        #[prost(string, optional, tag = "2")]
        pub kms_key: Option<String>,
        #[prost(bool, optional, tag = "3")]
        pub bucket_key: Option<bool>,
    }
}

impl Encryption {
    pub(super) fn to_wire(&self) -> wire::Encryption {
        let mut out = wire::Encryption {
            wrapped: self.wrapped.as_bytes().to_vec(),
            plain: self.plain,
            ..wire::Encryption::default()
        };
        match &self.guard {
            Guard::S3 { master } => (out.guard, out.master) = (1, master.0.to_vec()),
            Guard::Kms(kms) => {
                (out.guard, out.master) = (2, kms.master.0.to_vec());
                out.kms_name.clone_from(&kms.name);
                out.kms_context.clone_from(&kms.context);
                out.bucket_key = kms.bucket_key;
            }
            Guard::Customer => out.guard = 3,
        }
        out
    }

    pub(super) fn of_wire(stored: wire::Encryption) -> Result<Encryption, RecordError> {
        let master = || {
            let id = <[u8; 8]>::try_from(stored.master.as_slice());
            id.map(MasterKeyId)
                .map_err(|_| RecordError::new("the id of its master key is not one"))
        };
        let guard = match stored.guard {
            1 => Guard::S3 { master: master()? },
            2 => Guard::Kms(KmsGuard {
                master: master()?,
                name: stored.kms_name,
                context: stored.kms_context,
                bucket_key: stored.bucket_key,
            }),
            3 => Guard::Customer,
            other => {
                return Err(RecordError::new(format!(
                    "its encryption is of the unknown kind {other}"
                )));
            }
        };
        let wrapped = Wrapped::of_bytes(&stored.wrapped)
            .ok_or_else(|| RecordError::new("its wrapped key has another length"))?;
        Ok(Encryption {
            guard,
            wrapped,
            plain: stored.plain,
        })
    }
}

impl BucketDefault {
    pub(super) fn to_wire(&self) -> wire::BucketDefault {
        let (method, kms_key) = match &self.method {
            DefaultMethod::S3 => (1, None),
            DefaultMethod::Kms(key) => (2, key.clone()),
        };
        wire::BucketDefault {
            method,
            kms_key,
            bucket_key: self.bucket_key,
        }
    }

    pub(super) fn of_wire(stored: wire::BucketDefault) -> Result<BucketDefault, RecordError> {
        let method = match stored.method {
            1 => DefaultMethod::S3,
            2 => DefaultMethod::Kms(stored.kms_key),
            other => {
                return Err(RecordError::new(format!(
                    "its default encryption is of the unknown kind {other}"
                )));
            }
        };
        Ok(BucketDefault {
            method,
            bucket_key: stored.bucket_key,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_wrapped_key_is_bound_to_its_object_and_context() {
        let kms = |context: &str| {
            Guard::Kms(KmsGuard {
                name: "a".into(),
                master: MasterKeyId([0; 8]),
                context: context.into(),
                bucket_key: false,
            })
        };
        let s3 = Guard::S3 {
            master: MasterKeyId([0; 8]),
        };
        let all = [
            s3.binding(1, b"k"),
            s3.binding(2, b"k"),
            s3.binding(1, b"kk"),
            kms("").binding(1, b"k"),
            kms("k").binding(1, b""),
            kms("{}").binding(1, b"k"),
            Guard::Customer.binding(1, b"k"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other != one), "{at}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_no_panic() {
        let wrapped = vec![7; 80];
        for bad in [
            wire::Encryption::default(),
            wire::Encryption {
                guard: 1,
                wrapped: wrapped.clone(),
                ..Default::default()
            },
            wire::Encryption {
                guard: 3,
                wrapped: vec![1],
                ..Default::default()
            },
            wire::Encryption {
                guard: 9,
                wrapped,
                master: vec![0; 8],
                ..Default::default()
            },
        ] {
            assert!(Encryption::of_wire(bad).is_err());
        }
        assert!(BucketDefault::of_wire(wire::BucketDefault::default()).is_err());
    }
}
