//! The bytes of a version.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{ByteRange, ContentStream, Kv, KvError, Part, Refusal, Version, VersionSelector};
use crate::chunk::get::{self, Stretch};
use crate::chunk::store::ReadFault;
use crate::engine::View;
use crate::group::Group;
use crate::ids::VShard;
use crate::log::Item;
use crate::state::read;
use crate::state::record::Content;

impl Kv {
    /// The bytes `range` of a version (must lie within `0..size`), verified. Memory stays bounded; what it still
    /// has to read is kept from being released while the stream lives. An error ends it: the connection must be reset.
    pub fn content(&self, version: &Version, range: ByteRange) -> ContentStream {
        let (kv, version) = (self.clone(), Arc::new(version.clone()));
        let begun = async move {
            let group = kv.router().route(version.bucket, &version.key)?.group;
            let stretches = match kv.stretches(&group, &version, range).await {
                Ok(stretches) => stretches,
                // A version deleted since it was looked up takes its parts with it: that is no damage.
                Err(_) if !kv.still_there(&version).await? => {
                    return Err(Refusal::NoSuchVersion.into());
                }
                Err(error) => return Err(error),
            };
            let pieces = get::content(group, stretches);
            let explained = pieces.or_else(move |fault| {
                let (kv, version) = (kv.clone(), version.clone());
                async move { Err(kv.explain(&version, fault).await) }
            });
            Ok::<_, KvError>(explained)
        };
        stream::once(begun).try_flatten().boxed()
    }

    /// The whole content of an empty or inline version, verified, without a stream. `None`: it has chunks, use `content`.
    /// `Refused(NoSuchVersion)`: it was overwritten or deleted since it was looked up; look again.
    pub async fn small_content(&self, version: &Version) -> Result<Option<Bytes>, KvError> {
        match &version.content {
            Content::Empty => Ok(Some(Bytes::new())),
            Content::Inline {
                payload,
                offset,
                len,
                crc64,
            } => {
                let group = self.router().route(version.bucket, &version.key)?.group;
                let mut read = get::inline(&group, *payload, *offset, *len, *crc64).await;
                if matches!(read, Err(ReadFault::Absent(_)))
                    && group.peers.is_some()
                    && self.still_there(version).await?
                {
                    // It came without: its bytes were bad where this member's state came from.
                    read = get::inline_elsewhere(&group, *payload, *offset, *len, *crc64).await;
                }
                match read {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(fault) => Err(self.explain(version, fault).await),
                }
            }
            Content::Chunks(_) | Content::Upload { .. } => Ok(None),
        }
    }

    /// The parts of a completed upload's version, in order; empty for others.
    pub async fn version_parts(&self, version: &Version) -> Result<Vec<Part>, KvError> {
        let Content::Upload { upload, parts } = &version.content else {
            return Ok(Vec::new());
        };
        let route = self.router().route(version.bucket, &version.key)?;
        let vshard = VShard::of(version.bucket, &version.key);
        let look = |view: &dyn View| read::parts_of_version(view, vshard, *upload, parts);
        match route.group.ask(look).await {
            // A version deleted since it was looked up takes its parts with it: that is no damage.
            Err(KvError::Damaged(_)) if !self.still_there(version).await? => {
                Err(Refusal::NoSuchVersion.into())
            }
            found => found,
        }
    }

    /// Where the bytes of a range are.
    async fn stretches(
        &self,
        group: &Group,
        version: &Version,
        range: ByteRange,
    ) -> Result<Vec<Stretch>, KvError> {
        if let Content::Upload { upload, parts } = &version.content {
            let vshard = VShard::of(version.bucket, &version.key);
            let look = |view: &dyn View| read::part_contents(view, vshard, *upload, parts, &range);
            let parts = group.glance(look).await?;
            let stretches = parts.into_iter().filter_map(|part| {
                let from = range.start.max(part.offset) - part.offset;
                let to = range
                    .end
                    .min(part.offset + part.size)
                    .checked_sub(part.offset)?;
                stretch(&part.content, from..to)
            });
            return Ok(stretches.collect());
        }
        Ok(stretch(&version.content, range).into_iter().collect())
    }

    /// Why bytes that a version names could not be read.
    async fn explain(&self, version: &Version, fault: ReadFault) -> KvError {
        let item = match fault {
            ReadFault::Other(error) => return error,
            ReadFault::Absent(item) => item,
        };
        match self.still_there(version).await {
            Ok(false) => Refusal::NoSuchVersion.into(),
            Ok(true) => self.not_here(version, item).await,
            Err(error) => error,
        }
    }

    async fn not_here(&self, version: &Version, item: Item) -> KvError {
        let route = match self.router().route(version.bucket, &version.key) {
            Ok(route) => route,
            Err(error) => return error,
        };
        match item {
            Item::Payload(payload) if route.group.peers.is_some() => {
                match get::payload_elsewhere(&route.group, payload).await {
                    ReadFault::Other(error) => error,
                    ReadFault::Absent(item) => self.lost(version, &item),
                }
            }
            // Others were asked for it.
            item => self.lost(version, &item),
        }
    }

    async fn still_there(&self, version: &Version) -> Result<bool, KvError> {
        let Some(bucket) = self.router().bucket_by_id(version.bucket).await? else {
            return Ok(false);
        };
        let which = VersionSelector::Id(version.id);
        let now = self.head(&bucket, &version.key, &which).await?;
        Ok(now.is_some_and(|now| now.content == version.content))
    }

    fn lost(&self, version: &Version, item: &Item) -> KvError {
        let key = String::from_utf8_lossy(&version.key);
        let what = format!("{key}: {item} is missing on this disk");
        self.inner.store.note_missing(*item, what.clone());
        KvError::Damaged(what)
    }
}

fn stretch(content: &Content, wanted: ByteRange) -> Option<Stretch> {
    if wanted.is_empty() {
        return None;
    }
    match content {
        // An upload's parts are never uploads themselves.
        Content::Empty | Content::Upload { .. } => None,
        Content::Inline {
            payload,
            offset,
            len,
            crc64,
        } => Some(Stretch::Inline {
            payload: *payload,
            offset: *offset,
            len: *len,
            crc64: *crc64,
            wanted,
        }),
        Content::Chunks(run) => Some(Stretch::Chunks {
            run: run.clone(),
            wanted,
        }),
    }
}
