//! ListObjects and ListObjectsV2: keys of a bucket, rolled up at a delimiter.

use bytes::Bytes;

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::checksum::{Algorithm, Kind};
use crate::object::listing::PageSize;
use crate::object::token::Listing;
use crate::ops::version_name::listed_record_of;
use crate::ops::{OpContext, OpError};
use crate::store::{ListItem, ListRequest};
use crate::tenancy::bucket::{self, BucketRef};

/// Where a page starts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Start {
    /// At the beginning.
    #[default]
    Beginning,
    /// After this name (`start-after`, `marker`).
    After(String),
    /// Where the page before ended (`continuation-token`).
    Token(String),
}

/// The call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListObjects {
    /// Where.
    pub bucket: BucketRef,
    /// Only keys that start with this.
    pub prefix: String,
    /// Keys are rolled up at the first of these after the prefix; empty: not.
    pub delimiter: String,
    /// Where the page starts.
    pub start: Start,
    /// `max-keys`.
    pub max: Option<i32>,
}

/// A key in the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectLine {
    /// The key.
    pub key: Bytes,
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
pub struct ObjectsReply {
    /// As it was asked for, at most 1000.
    pub max: u32,
    /// Canonical id of the bucket's owner.
    pub owner: String,
    /// In order.
    pub objects: Vec<ObjectLine>,
    /// In order.
    pub prefixes: Vec<Bytes>,
    /// There is more.
    pub truncated: bool,
    /// For the next page of V2.
    pub next_token: Option<String>,
    /// For the next page of V1.
    pub next_marker: Option<String>,
}

/// Names in the store are UTF-8, because keys are checked when they come in.
pub(super) fn text(name: &Bytes) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// The page size of a listing.
pub(super) fn page_size(name: &'static str, asked: Option<i32>) -> Result<PageSize, OpError> {
    let negative = || {
        OpError::argument(
            name,
            format!("Argument {name} must be an integer between 0 and 2147483647"),
        )
    };
    PageSize::new(asked).ok_or_else(negative)
}

/// Lists them.
pub async fn list_objects(
    ctx: &OpContext,
    who: &Principal,
    request: ListObjects,
) -> Result<ObjectsReply, OpError> {
    let bucket = bucket::find(ctx, who, Action::ListBucket, &request.bucket).await?;
    let page = page_size("max-keys", request.max)?;
    let listing = Listing {
        purpose: "objects",
        bucket: bucket.id.0,
        prefix: &request.prefix,
        delimiter: &request.delimiter,
    };
    let after = match request.start {
        Start::Beginning => Bytes::new(),
        Start::After(name) => name.into(),
        Start::Token(token) => ctx
            .tokens()
            .open(listing, &token)
            .ok_or(OpError::Token)?
            .into(),
    };
    let mut reply = ObjectsReply {
        max: page.asked,
        owner: bucket.owner.clone(),
        objects: Vec::new(),
        prefixes: Vec::new(),
        truncated: false,
        next_token: None,
        next_marker: None,
    };
    if page.lines == 0 {
        return Ok(reply);
    }
    let scan = ListRequest {
        prefix: request.prefix.clone().into(),
        delimiter: request.delimiter.clone().into(),
        after,
        max: page.lines,
        ..ListRequest::default()
    };
    let scanned = ctx
        .store()
        .scan(&bucket, scan)
        .await
        .map_err(|error| OpError::kv(error, &bucket.name, ""))?;
    reply.objects.reserve(scanned.items.len());
    for item in scanned.items {
        match item {
            ListItem::Prefix(prefix) => reply.prefixes.push(prefix),
            ListItem::Version(version) => {
                let record = listed_record_of(&bucket, &version)?;
                reply.objects.push(ObjectLine {
                    key: version.key,
                    etag: version.new.etag,
                    size: record.size(version.new.size),
                    modified_ms: version.modified_ms,
                    checksum: record.checksum,
                    owner: record.owner,
                });
            }
        }
    }
    if let Some(next) = scanned.next {
        reply.truncated = true;
        reply.next_token = Some(ctx.tokens().seal(listing, &next.after));
        reply.next_marker = Some(text(&next.after));
    }
    Ok(reply)
}
