//! UploadPart: a body becomes a part, or replaces it.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::checksum::{Algorithm, Checksum, Digests};
use crate::object::complete_plan::MAX_PARTS;
use crate::object::etag::hex;
use crate::object::name::ObjectKey;
use crate::object::record::{PartRecord, UploadRecord};
use crate::ops::{OpContext, OpError};
use crate::store::payload::Payload;
use crate::store::{Bucket, Hashing, NewPart, Part, UploadId};
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
}

/// Writes it.
pub async fn upload_part(
    ctx: &OpContext,
    who: &Principal,
    request: UploadPart,
) -> Result<PartReply, OpError> {
    let bucket = bucket::find(ctx, who, Action::PutObject, &request.bucket).await?;
    let target = Target::find(ctx, &bucket, &request.key, &request.upload, request.number).await?;
    target.write(ctx, request.payload).await
}

/// A part of an open upload, about to be written.
pub(super) struct Target<'a> {
    bucket: &'a Bucket,
    key: ObjectKey,
    upload: UploadId,
    number: u32,
    algorithm: Algorithm,
}

impl<'a> Target<'a> {
    /// Looks the upload up, so that a part of none is refused before its body comes.
    pub(super) async fn find(
        ctx: &OpContext,
        bucket: &'a Bucket,
        key: &str,
        upload: &str,
        number: i32,
    ) -> Result<Target<'a>, OpError> {
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
        let (id, record) = find_upload(ctx, bucket, &key, upload).await?;
        Ok(Target {
            bucket,
            key,
            upload: id,
            number,
            algorithm: record.algorithm,
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
        let (content, digests) = store.take(payload, hashing, open).await.map_err(failed)?;
        let Digests {
            md5,
            checksum,
            extra,
            len,
        } = digests;
        let record = PartRecord {
            checksums: std::iter::once(checksum.clone()).chain(extra).collect(),
        };
        let new = NewPart {
            etag: hex(&md5),
            size: len,
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
        })
    }
}

/// An open upload and what Create said of it.
pub(super) async fn find_upload(
    ctx: &OpContext,
    bucket: &Bucket,
    key: &ObjectKey,
    upload: &str,
) -> Result<(UploadId, UploadRecord), OpError> {
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
    let record = UploadRecord::decode(&found.ok_or_else(none)?.meta);
    let record = record.map_err(|error| OpError::Damaged {
        object: format!("upload {upload} of {}/{}", bucket.name, key.as_str()),
        what: error.to_string(),
    })?;
    Ok((id, record))
}
