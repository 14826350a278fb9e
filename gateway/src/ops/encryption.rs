//! Keys of a call: which one guards what is written, and the one that opens what is read.
//!
//! Always true:
//! * what a request asks for is done or refused by name; what it does not say, the bucket's default decides;
//! * a client's key is asked for where one is needed, and refused where it is not;
//! * randomness is drawn here, for each attempt to write; the rules (`object/encryption`) are plain code.

use std::ops::Range;

use minikv_core::env::random;
use zeroize::Zeroizing;

use crate::object::bucket_settings::BucketSettings;
use crate::object::encryption::keys::{CustomerKey, DataKey, GuardKey, KeySalt, MasterKeyId};
use crate::object::encryption::pieces::{Sealer, Stretch, sealed_len};
use crate::object::encryption::ring::KeyRing;
use crate::object::encryption::{
    Asked, BucketDefault, DefaultMethod, Encryption, EncryptionError, Guard, KmsGuard,
};
use crate::object::etag::hex;
use crate::object::name::ObjectKey;
use crate::object::record::{ObjectRecord, PartRecord};
use crate::ops::{OpContext, OpError, compression};
use crate::store::{Bucket, Content, Packed, Version};

/// 32 random bytes that are a key.
pub fn random_key() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    random::fill(bytes.as_mut_slice());
    bytes
}

/// What the key of a part is derived with.
pub(super) type Salt = KeySalt;

/// 32 random bytes to derive a key with.
pub(super) fn random_salt() -> KeySalt {
    let mut salt = [0; 32];
    random::fill(&mut salt);
    salt
}

/// What encrypts an object that is being written.
pub(super) struct Guarded {
    /// For its record, but for the size.
    pub encryption: Box<Encryption>,
    /// Of its bytes.
    pub data_key: DataKey,
}

impl Guarded {
    /// For bytes that are written in one piece.
    pub fn sealer(&self) -> Sealer {
        Sealer::new(self.data_key.of_object())
    }

    /// Who holds the key.
    pub fn guard(&self) -> Guard {
        self.encryption.guard.clone()
    }

    /// For the record of an object of so many bytes.
    pub fn of(self, plain: u64) -> Box<Encryption> {
        let mut encryption = self.encryption;
        encryption.plain = plain;
        encryption
    }
}

/// What the request, or else the bucket, wants for a new object. `None`: nothing.
pub(super) fn guard(
    ctx: &OpContext,
    bucket: &Bucket,
    key: &ObjectKey,
    asked: &Asked,
) -> Result<Option<Guarded>, OpError> {
    let Some(guard) = chosen(ctx, bucket, asked)? else {
        return Ok(None);
    };
    let data_key = DataKey::of_random(random_key());
    wrap(ctx, guard, asked.customer(), (bucket, key), data_key).map(Some)
}

/// Who will hold the key.
fn chosen(ctx: &OpContext, bucket: &Bucket, asked: &Asked) -> Result<Option<Guard>, OpError> {
    let default = || {
        let default = BucketSettings::encryption_of(&bucket.settings);
        default.map_err(|error| OpError::Damaged {
            object: format!("the settings of bucket {}", bucket.name),
            what: error.to_string(),
        })
    };
    let ring = ctx.ring();
    let s3 = || -> Result<Guard, EncryptionError> {
        let master = ring.current()?.newest().id();
        Ok(Guard::S3 { master })
    };
    let kms = |key: Option<&str>, context: &str, bucket_key: Option<bool>| {
        let named = ring.kms(key)?;
        Ok::<_, EncryptionError>(Guard::Kms(KmsGuard {
            name: named.name.clone(),
            master: named.newest().id(),
            context: context.to_owned(),
            bucket_key: bucket_key.unwrap_or(false),
        }))
    };
    let guard = match asked {
        Asked::Customer(_) => Guard::Customer,
        Asked::S3 => s3()?,
        Asked::Kms(asked) => {
            let bucket_key = match asked.bucket_key {
                None => default()?.and_then(|default| default.bucket_key),
                said => said,
            };
            kms(asked.key.as_deref(), &asked.context, bucket_key)?
        }
        Asked::Nothing => match default()? {
            None => return Ok(None),
            Some(BucketDefault { method, bucket_key }) => match method {
                DefaultMethod::S3 => s3()?,
                DefaultMethod::Kms(key) => kms(key.as_deref(), "", bucket_key)?,
            },
        },
    };
    Ok(Some(guard))
}

/// Wraps a data key under a guard that was chosen.
fn wrap(
    ctx: &OpContext,
    guard: Guard,
    customer: Option<&CustomerKey>,
    (bucket, key): (&Bucket, &ObjectKey),
    data_key: DataKey,
) -> Result<Guarded, OpError> {
    let binding = guard.binding(bucket.id.0, key.as_str().as_bytes());
    let ring = ctx.ring();
    let holder = holder(&ring, &guard, customer)?;
    let encryption = Box::new(Encryption {
        wrapped: holder.wrap(&data_key, &random_salt(), &binding),
        guard,
        plain: 0,
    });
    Ok(Guarded {
        encryption,
        data_key,
    })
}

/// The key that a guard names.
fn holder<'a>(
    ring: &'a KeyRing,
    guard: &Guard,
    customer: Option<&'a CustomerKey>,
) -> Result<GuardKey<'a>, EncryptionError> {
    let master = |id: MasterKeyId, name: Option<&String>| {
        let found = ring.master(id).map(GuardKey::Master);
        found.ok_or_else(|| EncryptionError::MasterMissing {
            id,
            name: name.cloned(),
        })
    };
    match (guard, customer) {
        (Guard::Customer, Some(key)) => Ok(GuardKey::Customer(key)),
        (Guard::Customer, None) => Err(EncryptionError::KeyNeeded),
        (_, Some(_)) => Err(EncryptionError::NotApplicable),
        (Guard::S3 { master: id }, None) => master(*id, None),
        (Guard::Kms(kms), None) => master(kms.master, Some(&kms.name)),
    }
}

/// The record's part of a copy that may share its source's sealed bytes: both have the same holder, whose newest key
/// wraps the data key now. `None`: the bytes must be sealed anew.
pub(super) fn rewrap(
    ctx: &OpContext,
    (source, sealed): (&Version, &Encryption),
    source_key: Option<&CustomerKey>,
    target: (&Bucket, &ObjectKey),
    guarded: &Guarded,
    target_key: Option<&CustomerKey>,
) -> Result<Option<Box<Encryption>>, OpError> {
    let guard = &guarded.encryption.guard;
    if source_key != target_key || !sealed.guard.same_holder(guard) {
        return Ok(None);
    }
    let data_key = unwrap(ctx, sealed, source.bucket.0, &source.key, source_key)?;
    let again = wrap(ctx, guard.clone(), target_key, target, data_key)?;
    Ok(Some(again.of(sealed.plain)))
}

/// Whether the key that came (or did not) is right for what is read. Opens the wrapped key only for SSE-C.
pub(super) fn check(
    ctx: &OpContext,
    version: &Version,
    record: &ObjectRecord,
    customer: Option<&CustomerKey>,
) -> Result<(), OpError> {
    match &record.encryption {
        None if customer.is_none() => Ok(()),
        None => Err(EncryptionError::NotApplicable.into()),
        Some(encryption) if encryption.guard == Guard::Customer => {
            unwrap(ctx, encryption, version.bucket.0, &version.key, customer).map(drop)
        }
        Some(_) if customer.is_some() => Err(EncryptionError::NotApplicable.into()),
        Some(_) => Ok(()),
    }
}

/// The data key of a record.
pub(super) fn unwrap(
    ctx: &OpContext,
    encryption: &Encryption,
    bucket: u64,
    key: &[u8],
    customer: Option<&CustomerKey>,
) -> Result<DataKey, OpError> {
    let Encryption { guard, wrapped, .. } = encryption;
    let ring = ctx.ring();
    let opened = holder(&ring, guard, customer)?.unwrap(wrapped, &guard.binding(bucket, key));
    opened.map_err(|_| match guard {
        Guard::Customer => EncryptionError::WrongKey.into(),
        _ => OpError::Damaged {
            object: String::from_utf8_lossy(key).into_owned(),
            what: "its data key does not open under its master key: the record was changed"
                .to_owned(),
        },
    })
}

/// The key of an upload, with which its parts are sealed; `None`: they are not.
pub(super) fn of_upload(
    ctx: &OpContext,
    bucket: &Bucket,
    key: &ObjectKey,
    upload: &ObjectRecord,
    customer: Option<&CustomerKey>,
) -> Result<Option<DataKey>, OpError> {
    let Some(encryption) = &upload.encryption else {
        return match customer {
            None => Ok(None),
            Some(_) => Err(EncryptionError::PartWithOther.into()),
        };
    };
    let name = key.as_str().as_bytes();
    let opened = unwrap(ctx, encryption, bucket.id.0, name, customer);
    opened.map(Some).map_err(|error| match error {
        OpError::Encryption(EncryptionError::KeyNeeded) => EncryptionError::PartWithoutKey.into(),
        OpError::Encryption(EncryptionError::WrongKey | EncryptionError::NotApplicable) => {
            EncryptionError::PartWithOther.into()
        }
        other => other,
    })
}

/// The plain bytes `range` of a version whose key was checked.
pub(super) async fn fetch(
    ctx: &OpContext,
    bucket: &str,
    version: &Version,
    record: &ObjectRecord,
    customer: Option<&CustomerKey>,
    range: Range<u64>,
) -> Result<Content, OpError> {
    if record.compression.is_some() {
        let packed = compression::fetch(ctx, bucket, version, record, customer, range);
        return Box::pin(packed).await;
    }
    let name = String::from_utf8_lossy(&version.key);
    let failed = |error| OpError::reading(error, bucket, &name);
    match &record.encryption {
        None => ctx.store().fetch(version, range).await.map_err(failed),
        // On the heap, so that reads of plain objects do not carry the room for it.
        Some(encryption) => {
            Box::pin(fetch_sealed(
                ctx, bucket, version, encryption, customer, range,
            ))
            .await
        }
    }
}

/// The same of an encrypted one.
async fn fetch_sealed(
    ctx: &OpContext,
    bucket: &str,
    version: &Version,
    encryption: &Encryption,
    customer: Option<&CustomerKey>,
    range: Range<u64>,
) -> Result<Content, OpError> {
    let name = String::from_utf8_lossy(&version.key);
    let failed = |error| OpError::reading(error, bucket, &name);
    let data_key = unwrap(ctx, encryption, version.bucket.0, &version.key, customer)?;
    let stretches = if version.parts == 0 {
        vec![Stretch {
            part: None,
            plain: encryption.plain,
        }]
    } else {
        let parts = ctx.store().kv().version_parts(version).await;
        let parts = parts.map_err(failed)?.into_iter().map(|part| {
            let record = PartRecord::decode(&part.meta).map_err(|error| error.to_string())?;
            let salt = record.salt.ok_or("a part has no salt")?;
            Ok::<_, String>(Stretch {
                part: Some((part.number, salt)),
                plain: record.size(part.size),
            })
        });
        let stretches: Result<Vec<_>, _> = parts.collect();
        stretches.map_err(|what| OpError::Damaged {
            object: name.clone().into_owned(),
            what,
        })?
    };
    let store = ctx.store();
    let content = store
        .fetch_sealed(version, data_key, stretches, range)
        .await;
    content.map_err(failed)
}

/// Bytes on disk of a content that was written in one piece.
pub(super) fn stored_len(guard: Option<&Guard>, plain: u64, packed: Option<Packed>) -> u64 {
    let len = packed.map_or(plain, |packed| packed.len);
    match guard {
        Some(_) => sealed_len(len),
        None => len,
    }
}

/// The ETag of bytes: their MD5, unless their guard hides it.
pub(super) fn etag(guard: Option<&Guard>, md5: &[u8; 16]) -> String {
    match guard {
        Some(guard) if !guard.shows_md5() => {
            let mut random = [0; 16];
            random::fill(&mut random);
            hex(&random)
        }
        _ => hex(md5),
    }
}
