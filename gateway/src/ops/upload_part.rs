//! UploadPart: a body becomes a part, or replaces it.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::checksum::{Algorithm, Checksum, Digests};
use crate::object::complete_plan::MAX_PARTS;
use crate::object::encryption::Guard;
use crate::object::encryption::keys::{CustomerKey, DataKey};
use crate::object::encryption::pieces::Sealer;
use crate::object::name::ObjectKey;
use crate::object::record::{PartRecord, UploadRecord};
use crate::ops::{OpContext, OpError, compression, encryption};
use crate::store::payload::Payload;
use crate::store::{Bucket, Coding, Hashing, NewPart, Part, Taken, UploadId};
use crate::tenancy::bucket::{self, BucketRef};

/// The call.
pub struct UploadPart {
    /// Where.
    pub bucket: BucketRef,
    /// Of the upload.
    pub key: String,
    /// Of the upload.
    pub upload: String,
    /// 1 to 10000.
    pub number: i32,
    /// The key of an upload of SSE-C.
    pub customer_key: Option<CustomerKey>,
    /// The bytes.
    pub payload: Payload,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartReply {
    /// Without quotes.
    pub etag: String,
    /// Ms since 1970.
    pub modified_ms: u64,
    /// Of the algorithm that the client sent, or else of the upload's.
    pub checksum: Checksum,
    /// Who holds its key, if it is encrypted.
    pub guard: Option<Guard>,
}

/// Writes it.
pub async fn upload_part(
    ctx: &OpContext,
    who: &Principal,
    request: UploadPart,
) -> Result<PartReply, OpError> {
    let bucket = bucket::find(ctx, who, Action::PutObject, &request.bucket).await?;
    let name = PartName {
        bucket: &bucket,
        key: &request.key,
        upload: &request.upload,
        number: request.number,
    };
    let target = Target::find(ctx, name, request.customer_key.as_ref()).await?;
    target.write(ctx, request.payload).await
}

/// A part, as a request names it.
pub(super) struct PartName<'a> {
    pub bucket: &'a Bucket,
    pub key: &'a str,
    pub upload: &'a str,
    pub number: i32,
}

/// A part of an open upload, about to be written.
pub(super) struct Target<'a> {
    bucket: &'a Bucket,
    key: ObjectKey,
    upload: UploadId,
    number: u32,
    algorithm: Algorithm,
    /// Of the upload, when it is encrypted.
    guarded: Option<(Guard, DataKey)>,
}

impl<'a> Target<'a> {
    /// Looks the upload up, so that a part of none, or with another key, is refused before its body comes.
    pub(super) async fn find(
        ctx: &OpContext,
        name: PartName<'a>,
        customer_key: Option<&CustomerKey>,
    ) -> Result<Target<'a>, OpError> {
        let PartName {
            bucket,
            key,
            upload,
            number,
        } = name;
        let number = u32::try_from(number)
            .ok()
            .filter(|number| (1..=MAX_PARTS).contains(number))
            .ok_or_else(|| {
                OpError::argument(
                    "partNumber",
                    format!("Part number must be an integer between 1 and {MAX_PARTS}, inclusive"),
                )
            })?;
        let key = ObjectKey::new(key)?;
        let (id, record, _) = find_upload(ctx, bucket, &key, upload).await?;
        let data_key = encryption::of_upload(ctx, bucket, &key, &record.object, customer_key)?;
        let guard = record.object.encryption.map(|encryption| encryption.guard);
        Ok(Target {
            bucket,
            key,
            upload: id,
            number,
            algorithm: record.algorithm,
            guarded: guard.zip(data_key),
        })
    }

    /// Writes a body as the part.
    pub(super) async fn write(
        self,
        ctx: &OpContext,
        payload: Payload,
    ) -> Result<PartReply, OpError> {
        let store = ctx.store();
        let failed = |error| OpError::intake(error, &self.bucket.name, self.key.as_str());
        let open = |declared| {
            store.kv().open_part_stage(
                self.bucket,
                self.key.to_bytes(),
                self.upload,
                self.number,
                declared,
            )
        };
        // The whole's checksum is computed from those of the parts, so each has one of the upload's algorithm.
        let hashing = Hashing {
            fallback: self.algorithm,
            also: Some(self.algorithm),
        };
        // Drawn for this attempt: the same part again has another key, so no nonce is used twice with one.
        let sealed = self
            .guarded
            .map(|(guard, data_key)| (guard, data_key, encryption::random_salt()));
        let sealer = sealed
            .as_ref()
            .map(|(_, data_key, salt)| Sealer::new(data_key.of_part(self.number, salt)));
        let coding = Coding {
            sealer,
            codec: compression::codec(self.bucket)?,
        };
        let taken = store.take(payload, hashing, coding, open).await;
        let Taken {
            content,
            digests,
            packed,
        } = taken.map_err(failed)?;
        let (guard, salt) = sealed.map(|(guard, _, salt)| (guard, salt)).unzip();
        let Digests {
            md5,
            checksum,
            extra,
            len,
        } = digests;
        let record = PartRecord {
            checksums: std::iter::once(checksum.clone()).chain(extra).collect(),
            salt,
            compression: packed.map(|packed| packed.compression),
        };
        let new = NewPart {
            etag: encryption::etag(guard.as_ref(), &md5),
            size: encryption::stored_len(guard.as_ref(), len, packed),
            meta: record.encode(),
        };
        let written = store
            .kv()
            .put_part(
                self.bucket,
                self.key.to_bytes(),
                self.upload,
                self.number,
                new,
                content,
            )
            .await;
        let Part {
            etag, modified_ms, ..
        } = written.map_err(|error| {
            OpError::kv(error, &self.bucket.name, self.key.as_str())
                .of_upload(&self.upload.to_string())
        })?;
        Ok(PartReply {
            etag,
            modified_ms,
            checksum,
            guard,
        })
    }
}

/// An open upload and what Create said of it.
pub(super) async fn find_upload(
    ctx: &OpContext,
    bucket: &Bucket,
    key: &ObjectKey,
    upload: &str,
) -> Result<(UploadId, UploadRecord, u64), OpError> {
    let none = || OpError::NoSuchUpload {
        upload: upload.to_owned(),
    };
    let id = UploadId::parse(upload).ok_or_else(none)?;
    let found = ctx
        .store()
        .kv()
        .upload(bucket, key.as_str().as_bytes(), id)
        .await;
    let found =
        found.map_err(|error| OpError::kv(error, &bucket.name, key.as_str()).of_upload(upload))?;
    let found = found.ok_or_else(none)?;
    let record = UploadRecord::decode(&found.meta);
    let record = record.map_err(|error| OpError::Damaged {
        object: format!("upload {upload} of {}/{}", bucket.name, key.as_str()),
        what: error.to_string(),
    })?;
    Ok((id, record, found.created_ms))
}
