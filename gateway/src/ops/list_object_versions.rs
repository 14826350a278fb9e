//! ListObjectVersions: every version and delete marker, newest first within a key. On a bucket without versioning each
//! object is its own version `null`.

use bytes::Bytes;

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::checksum::{Algorithm, Kind};
use crate::ops::list_objects::{page_size, text};
use crate::ops::version_name::listed_record_of;
use crate::ops::{OpContext, OpError, VersionName};
use crate::store::{ListItem, ListRequest, VersionSelector, Versioning};
use crate::tenancy::bucket::{self, BucketRef};

/// The call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListVersions {
    /// Where.
    pub bucket: BucketRef,
    /// Only keys that start with this.
    pub prefix: String,
    /// Roll-up.
    pub delimiter: String,
    /// `key-marker`.
    pub key_marker: Option<String>,
    /// `version-id-marker`.
    pub version_marker: Option<String>,
    /// `max-keys`.
    pub max: Option<i32>,
}

/// A version in the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VersionLine {
    /// Its key.
    pub key: Bytes,
    /// Its name.
    pub version: VersionName,
    /// The newest of its key.
    pub is_latest: bool,
    /// A delete marker: no ETag, no size.
    pub is_marker: bool,
    /// Without quotes.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// Ms since 1970.
    pub modified_ms: u64,
    /// Of the content.
    pub checksum: Option<(Algorithm, Kind)>,
    /// Canonical id; none: the bucket's owner.
    pub owner: Option<Bytes>,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VersionsReply {
    /// As it was asked for, at most 1000.
    pub max: u32,
    /// Canonical id of the bucket's owner.
    pub owner: String,
    /// In order.
    pub versions: Vec<VersionLine>,
    /// In order.
    pub prefixes: Vec<Bytes>,
    /// There is more; goes on after this key and version. Where a key may have several, a null one is named by its id,
    /// too: a client that deletes page by page would otherwise name one that is gone, and miss those behind it.
    pub next: Option<(String, Option<VersionName>)>,
}

/// Lists them.
pub async fn list_object_versions(
    ctx: &OpContext,
    who: &Principal,
    request: ListVersions,
) -> Result<VersionsReply, OpError> {
    let bucket = bucket::find(ctx, who, Action::ListBucketVersions, &request.bucket).await?;
    let page = page_size("max-keys", request.max)?;
    let mut reply = VersionsReply {
        max: page.asked,
        owner: bucket.owner.clone(),
        versions: Vec::new(),
        prefixes: Vec::new(),
        next: None,
    };
    if page.lines == 0 {
        return Ok(reply);
    }
    let key_marker = request.key_marker.unwrap_or_default();
    let version_marker = request
        .version_marker
        .as_deref()
        .filter(|marker| !marker.is_empty());
    if version_marker.is_some() && key_marker.is_empty() {
        return Err(OpError::argument(
            "version-id-marker",
            "A version-id marker cannot be specified without a key marker.",
        ));
    }
    let after_version = match VersionName::select(version_marker)? {
        VersionSelector::Current => None,
        VersionSelector::Id(id) => Some(id),
        // "null" names a version by its role; the core goes on after the id behind the name.
        which @ VersionSelector::Null => {
            let found = ctx
                .store()
                .kv()
                .head(&bucket, key_marker.as_bytes(), &which)
                .await;
            found
                .map_err(|error| OpError::kv(error, &bucket.name, &key_marker))?
                .map(|version| version.id)
        }
    };
    let scan = ListRequest {
        prefix: request.prefix.into(),
        delimiter: request.delimiter.into(),
        after: key_marker.into(),
        after_version,
        max: page.lines,
        versions: true,
    };
    let scanned = ctx
        .store()
        .scan(&bucket, scan)
        .await
        .map_err(|error| OpError::kv(error, &bucket.name, ""))?;
    let mut last = None;
    for item in scanned.items {
        match item {
            ListItem::Prefix(prefix) => {
                last = Some((text(&prefix), None));
                reply.prefixes.push(prefix);
            }
            ListItem::Version(version) => {
                let name = VersionName::of(version.id, version.is_null);
                let record = listed_record_of(&bucket, &version)?;
                let alone = version.is_null && bucket.versioning == Versioning::Off;
                let place = VersionName::of(version.id, alone);
                last = Some((text(&version.key), Some(place)));
                reply.versions.push(VersionLine {
                    key: version.key,
                    version: name,
                    is_latest: version.is_latest,
                    is_marker: version.is_delete_marker,
                    etag: version.new.etag,
                    size: record.size(version.new.size),
                    modified_ms: version.modified_ms,
                    checksum: record.checksum,
                    owner: record.owner,
                });
            }
        }
    }
    reply.next = last.filter(|_| scanned.next.is_some());
    Ok(reply)
}
