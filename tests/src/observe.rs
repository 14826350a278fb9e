//! Reads a whole store back through its front door, every byte of it, and holds its answers against each other.
//!
//! Always true of what is returned: each content was read and recognised; GET, HEAD, both kinds of lists and the counts
//! agreed with each other. Anything else is `Broken::Contradiction`.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use minikv_core::kv::{
    Bucket, Kv, KvError, ListItem, ListRequest, Upload, UploadsItem, UploadsRequest, Version,
    VersionSelector,
};

use crate::client::TENANT;
use crate::content::{self, Content, Piece};
use crate::model::{KeyState, Name};
use crate::oracle::{Broken, Oracle, Seen};

/// Page size of lists: small, so that paging is exercised too.
const PAGE: u32 = 5;

/// Why a store could not be read back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ObserveError {
    /// It refused to answer.
    #[error("{what}: {cause}")]
    Refused {
        /// The question.
        what: String,
        /// Its answer.
        #[source]
        cause: KvError,
    },
    /// It contradicts itself.
    #[error(transparent)]
    Broken(#[from] Broken),
}

fn refused(what: impl Into<String>) -> impl FnOnce(KvError) -> ObserveError {
    let what = what.into();
    move |cause| ObserveError::Refused { what, cause }
}

fn contradiction(what: String) -> ObserveError {
    ObserveError::Broken(Broken::Contradiction(what))
}

/// Everything a store shows.
pub async fn all(kv: &Kv) -> Result<Seen, ObserveError> {
    let mut seen = Seen::default();
    let buckets = kv.buckets(TENANT).await.map_err(refused("list buckets"))?;
    for bucket in buckets {
        let again = kv
            .bucket(&bucket.name)
            .await
            .map_err(refused("find bucket"))?;
        if again.as_ref().map(|again| again.id) != Some(bucket.id) {
            return Err(contradiction(format!(
                "bucket {} is listed but not found",
                bucket.name
            )));
        }
        let keys = seen.buckets.entry(bucket.name.clone()).or_default();
        let versions = list(kv, &bucket, true).await?;
        for version in &versions {
            let content = match version.is_delete_marker {
                true => None,
                false => Some(content_of(kv, version).await?),
            };
            let key: &mut KeyState = keys.entry(text(&version.key)).or_default();
            if version.is_latest != key.versions.is_empty() {
                return Err(contradiction(format!("{version:?}: is_latest is wrong")));
            }
            key.versions.push(content);
        }
        check_current(kv, &bucket, &versions).await?;
        let open = uploads(kv, &bucket)
            .await
            .map_err(refused("list uploads"))?;
        for upload in open {
            let key: &mut KeyState = keys.entry(text(&upload.key)).or_default();
            let parts = key.uploads.entry(text(&upload.meta)).or_default();
            let what = format!("parts of upload {}", text(&upload.meta));
            let found = kv
                .parts(&bucket, &upload.key, upload.id, 0, 1000)
                .await
                .map_err(refused(what))?;
            for part in found.parts {
                let piece = Piece::of_etag(&part.etag).filter(|piece| piece.size == part.size);
                let Some(piece) = piece else {
                    return Err(contradiction(format!("{part:?} was never written so")));
                };
                parts.insert(part.number, piece);
            }
        }
    }
    Ok(seen)
}

/// One key.
pub async fn key(kv: &Kv, bucket: &Bucket, key: &str) -> Result<Option<Content>, ObserveError> {
    let found = kv
        .head(bucket, key.as_bytes(), &VersionSelector::Current)
        .await;
    match found.map_err(refused(format!("HEAD {key}")))? {
        Some(version) if !version.is_delete_marker => content_of(kv, &version).await.map(Some),
        _ => Ok(None),
    }
}

/// All open uploads of a bucket.
pub async fn uploads(kv: &Kv, bucket: &Bucket) -> Result<Vec<Upload>, KvError> {
    let mut all: Vec<Upload> = Vec::new();
    loop {
        let request = UploadsRequest {
            after: all
                .last()
                .map(|upload| upload.key.clone())
                .unwrap_or_default(),
            after_upload: all.last().map(|upload| upload.id),
            max: PAGE,
            ..UploadsRequest::default()
        };
        let page = kv.uploads(bucket, request).await?;
        for item in page.items {
            if let UploadsItem::Upload(upload) = item {
                all.push(upload);
            }
        }
        if !page.truncated {
            return Ok(all);
        }
    }
}

/// A whole listing, page by page; keys must rise.
async fn list(kv: &Kv, bucket: &Bucket, versions: bool) -> Result<Vec<Version>, ObserveError> {
    let mut all: Vec<Version> = Vec::new();
    loop {
        let last = all.last();
        let request = ListRequest {
            after: last.map(|version| version.key.clone()).unwrap_or_default(),
            after_version: last.filter(|_| versions).map(|version| version.id),
            max: PAGE,
            versions,
            ..ListRequest::default()
        };
        let page = kv
            .list(bucket, request)
            .await
            .map_err(refused(format!("LIST {}", bucket.name)))?;
        for item in page.items {
            let ListItem::Version(version) = item else {
                return Err(contradiction(
                    "a prefix in a list without delimiter".to_owned(),
                ));
            };
            let rises = all.last().is_none_or(|last| match versions {
                true => last.key < version.key || last.key == version.key && last.id != version.id,
                false => last.key < version.key,
            });
            if !rises {
                return Err(contradiction(format!(
                    "{version:?} is out of order in the list"
                )));
            }
            all.push(*version);
        }
        if !page.truncated {
            return Ok(all);
        }
    }
}

/// HEAD and the plain list must say the same as the list of versions.
async fn check_current(kv: &Kv, bucket: &Bucket, versions: &[Version]) -> Result<(), ObserveError> {
    let current = list(kv, bucket, false).await?;
    let latest = versions
        .iter()
        .filter(|version| version.is_latest && !version.is_delete_marker);
    let latest: Vec<&Version> = latest.collect();
    if latest != current.iter().collect::<Vec<_>>() {
        return Err(contradiction(format!(
            "the list of objects and the list of versions differ: {current:?} and {latest:?}"
        )));
    }
    for version in versions.iter().filter(|version| version.is_latest) {
        let name = text(&version.key);
        let head = kv
            .head(bucket, &version.key, &VersionSelector::Current)
            .await;
        let head = head.map_err(refused(format!("HEAD {name}")))?;
        if head.as_ref() != Some(version) {
            return Err(contradiction(format!(
                "HEAD {name} says {head:?}, the list {version:?}"
            )));
        }
    }
    Ok(())
}

/// Reads and recognises a version's bytes, in whole and, for larger ones, a range from the middle.
pub async fn content_of(kv: &Kv, version: &Version) -> Result<Content, ObserveError> {
    let name = text(&version.key);
    let size = version.new.size;
    let bytes = read(kv, version, 0..size)
        .await
        .map_err(refused(format!("GET {name}")))?;
    let content =
        content::read(&bytes).map_err(|wrong| contradiction(format!("GET {name}: {wrong}")))?;
    if content.etag() != version.new.etag || content.len() != size {
        return Err(contradiction(format!(
            "GET {name}: {content:?} under ETag {} and size {size}",
            version.new.etag
        )));
    }
    let range = size / 3..size - size / 4;
    if size > 4096 {
        let part = read(kv, version, range.clone())
            .await
            .map_err(refused(format!("GET {name} {range:?}")))?;
        if part != bytes.slice(range.start as usize..range.end as usize) {
            return Err(contradiction(format!(
                "GET {name} {range:?} differs from the whole"
            )));
        }
    }
    Ok(content)
}

async fn read(kv: &Kv, version: &Version, range: std::ops::Range<u64>) -> Result<Bytes, KvError> {
    let mut bytes = BytesMut::new();
    let mut stream = kv.content(version, range);
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes.freeze())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a damaged store still serves: what it answers must be right, and what it cannot answer it must refuse.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Careful {
    /// Questions answered, rightly.
    pub right: u64,
    /// Questions refused, and how.
    pub refused: BTreeMap<String, String>,
}

impl Careful {
    fn note<T>(
        &mut self,
        question: String,
        answer: Result<T, ObserveError>,
    ) -> Result<Option<T>, Broken> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(ObserveError::Broken(broken)) => Err(broken),
            Err(ObserveError::Refused { cause, .. }) => {
                self.refused.insert(question, cause.to_string());
                Ok(None)
            }
        }
    }
}

/// Asks for everything that was ever written, one question at a time. A wrong answer is `Broken`.
pub async fn carefully(kv: &Kv, known: &Oracle) -> Result<Careful, Broken> {
    let mut found = Careful::default();
    let mut buckets: BTreeMap<String, Bucket> = BTreeMap::new();
    for name in known.names() {
        if buckets.contains_key(&name.bucket) {
            continue;
        }
        let asked = kv
            .bucket(&name.bucket)
            .await
            .map_err(refused("find bucket"));
        match found.note(format!("bucket {}", name.bucket), asked)? {
            None => {}
            Some(Some(bucket)) => _ = buckets.insert(name.bucket.clone(), bucket),
            Some(None) => {
                return Err(Broken::Contradiction(format!(
                    "bucket {} is gone",
                    name.bucket
                )));
            }
        }
    }
    for name in known.names() {
        let Some(bucket) = buckets.get(&name.bucket) else {
            continue;
        };
        let got = key(kv, bucket, &name.key).await;
        if let Some(content) = found.note(format!("GET {}", name.key), got)? {
            let possible = known.possible(name);
            if !possible
                .iter()
                .any(|state| state.current() == content.as_ref())
            {
                return Err(Broken::Contradiction(format!(
                    "GET {}: {content:?}, not {possible:?}",
                    name.key
                )));
            }
            found.right += 1;
        }
    }
    for bucket in buckets.values() {
        let listed = list(kv, bucket, false).await;
        if let Some(listed) = found.note(format!("LIST {}", bucket.name), listed)? {
            let listed: Vec<String> = listed.iter().map(|version| text(&version.key)).collect();
            let there = |name: &&Name| {
                known
                    .possible(name)
                    .iter()
                    .any(|state| state.current().is_some())
            };
            let names = known.names().filter(|name| name.bucket == bucket.name);
            let expected: Vec<String> = names.filter(there).map(|name| name.key.clone()).collect();
            if listed != expected {
                return Err(Broken::Contradiction(format!(
                    "LIST: {listed:?}, not {expected:?}"
                )));
            }
            found.right += 1;
        }
        let open = uploads(kv, bucket).await.map_err(refused("list uploads"));
        if let Some(open) = found.note(format!("uploads of {}", bucket.name), open)? {
            let names = known.names().filter(|name| name.bucket == bucket.name);
            let expected: usize = names
                .map(|name| known.possible(name)[0].uploads.len())
                .sum();
            if open.len() != expected {
                return Err(Broken::Contradiction(format!(
                    "{} uploads, not {expected}",
                    open.len()
                )));
            }
            for upload in open {
                let asked = kv.parts(bucket, &upload.key, upload.id, 0, 1000).await;
                let parts = asked.map_err(refused("list parts"));
                found.note(format!("parts of {}", text(&upload.meta)), parts)?;
                found.right += 1;
            }
        }
    }
    Ok(found)
}
