//! ListMultipartUploads: the open uploads of a bucket.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::checksum::{Algorithm, Kind};
use crate::object::record::UploadRecord;
use crate::ops::list_objects::{page_size, text};
use crate::ops::{OpContext, OpError};
use crate::store::{UploadId, UploadsItem, UploadsRequest};
use crate::tenancy::bucket::{self, BucketRef};

/// The call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListUploads {
    /// Where.
    pub bucket: BucketRef,
    /// Only keys that start with this.
    pub prefix: String,
    /// Roll-up.
    pub delimiter: String,
    /// `key-marker`.
    pub key_marker: Option<String>,
    /// `upload-id-marker`; counts only beside a key marker.
    pub upload_marker: Option<String>,
    /// `max-uploads`.
    pub max: Option<i32>,
}

/// An upload in the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UploadLine {
    /// Its key.
    pub key: String,
    /// Its id.
    pub upload: String,
    /// Ms since 1970.
    pub created_ms: u64,
    /// Canonical id of who opened it.
    pub owner: String,
    /// When the client named one.
    pub checksum: Option<(Algorithm, Kind)>,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UploadsReply {
    /// As it was asked for, at most 1000.
    pub max: u32,
    /// In order.
    pub uploads: Vec<UploadLine>,
    /// In order.
    pub prefixes: Vec<String>,
    /// There is more; goes on after this key and upload.
    pub next: Option<(String, String)>,
}

/// Lists them.
pub async fn list_multipart_uploads(
    ctx: &OpContext,
    who: &Principal,
    request: ListUploads,
) -> Result<UploadsReply, OpError> {
    let bucket = bucket::find(
        ctx,
        who,
        Action::ListBucketMultipartUploads,
        &request.bucket,
    )
    .await?;
    let page = page_size("max-uploads", request.max)?;
    let mut reply = UploadsReply {
        max: page.asked,
        uploads: Vec::new(),
        prefixes: Vec::new(),
        next: None,
    };
    if page.lines == 0 {
        return Ok(reply);
    }
    let key_marker = request.key_marker.unwrap_or_default();
    let upload_marker = request
        .upload_marker
        .filter(|marker| !marker.is_empty() && !key_marker.is_empty());
    let after_upload = match upload_marker {
        None => None,
        Some(marker) => Some(
            UploadId::parse(&marker)
                .ok_or_else(|| OpError::argument("upload-id-marker", "Invalid uploadId marker"))?,
        ),
    };
    let scan = UploadsRequest {
        prefix: request.prefix.into(),
        delimiter: request.delimiter.into(),
        after: key_marker.into(),
        after_upload,
        max: page.lines,
    };
    let scanned = ctx
        .store()
        .scan_uploads(&bucket, scan)
        .await
        .map_err(|error| OpError::kv(error, &bucket.name, ""))?;
    let mut last = None;
    for item in scanned.items {
        match item {
            UploadsItem::Prefix(prefix) => {
                last = Some((text(&prefix), String::new()));
                reply.prefixes.push(text(&prefix));
            }
            UploadsItem::Upload(upload) => {
                let (key, id) = (text(&upload.key), upload.id.to_string());
                last = Some((key.clone(), id.clone()));
                let record =
                    UploadRecord::decode(&upload.meta).map_err(|error| OpError::Damaged {
                        object: format!("upload {id} of {}/{key}", bucket.name),
                        what: error.to_string(),
                    })?;
                reply.uploads.push(UploadLine {
                    key,
                    upload: id,
                    created_ms: upload.created_ms,
                    owner: record.object.owner.unwrap_or_else(|| bucket.owner.clone()),
                    checksum: record.named.then_some((record.algorithm, record.kind)),
                });
            }
        }
    }
    reply.next = last.filter(|_| scanned.truncated);
    Ok(reply)
}
