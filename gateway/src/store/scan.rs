//! Pages become a listing.
//!
//! The core bounds the work of a page, so a page may be short, even empty, and still not be the last. Always true: what
//! comes out of here is full, or it is the end.

use minikv_core::kv::{
    Bucket, KvError, ListItem, ListPoint, ListRequest, Part, UploadId, UploadsItem, UploadsRequest,
};

use super::Store;

/// Lines of a listing.
#[derive(Debug, Default)]
pub struct Scanned {
    /// In key order.
    pub items: Vec<ListItem>,
    /// Where to go on; `None`: this was the end.
    pub next: Option<ListPoint>,
}

/// Open uploads of a listing.
#[derive(Debug, Default)]
pub struct ScannedUploads {
    /// In key order.
    pub items: Vec<UploadsItem>,
    /// There is more after the last one.
    pub truncated: bool,
}

/// All parts of an upload at one counter value.
#[derive(Debug, Default)]
pub struct Parts {
    /// Of the upload, while the parts were read.
    pub counter: u64,
    /// Ascending by number.
    pub parts: Vec<Part>,
}

impl Store {
    /// Up to `request.max` lines, 1 to 1000.
    pub async fn scan(
        &self,
        bucket: &Bucket,
        mut request: ListRequest,
    ) -> Result<Scanned, KvError> {
        let max = request.max as usize;
        let mut scanned = Scanned::default();
        loop {
            let page = self.kv().list(bucket, request.clone()).await?;
            let last = page.items.last().map(last_point);
            scanned.items.extend(page.items);
            let next = if page.truncated {
                page.resume.or(last)
            } else {
                None
            };
            match next {
                Some(next) if scanned.items.len() < max => {
                    request.max = (max - scanned.items.len()) as u32;
                    (request.after, request.after_version) = (next.after, next.after_version);
                }
                next => {
                    scanned.next = next;
                    return Ok(scanned);
                }
            }
        }
    }

    /// Up to `request.max` open uploads.
    pub async fn scan_uploads(
        &self,
        bucket: &Bucket,
        request: UploadsRequest,
    ) -> Result<ScannedUploads, KvError> {
        let page = self.kv().uploads(bucket, request).await?;
        Ok(ScannedUploads {
            items: page.items,
            truncated: page.truncated,
        })
    }

    /// All parts of an upload, as they were at one moment: read again when the counter moves between two pages.
    pub async fn all_parts(
        &self,
        bucket: &Bucket,
        key: &[u8],
        upload: UploadId,
    ) -> Result<Parts, KvError> {
        for _ in 0..16 {
            let mut all = Parts::default();
            let mut after = 0;
            loop {
                let page = self.kv().parts(bucket, key, upload, after, 1_000).await?;
                if after > 0 && page.counter != all.counter {
                    break;
                }
                all.counter = page.counter;
                after = page.parts.last().map_or(after, |part| part.number);
                let more = page.truncated && !page.parts.is_empty();
                all.parts.extend(page.parts);
                if !more {
                    return Ok(all);
                }
            }
        }
        Err(KvError::Unavailable(
            "the upload's parts change faster than they can be read".to_owned(),
        ))
    }
}

fn last_point(item: &ListItem) -> ListPoint {
    match item {
        ListItem::Version(version) => ListPoint {
            after: version.key.clone(),
            after_version: Some(version.id),
        },
        ListItem::Prefix(prefix) => ListPoint {
            after: prefix.clone(),
            after_version: None,
        },
    }
}
