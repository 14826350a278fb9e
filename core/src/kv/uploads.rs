//! Multipart uploads.

use bytes::Bytes;
use minikv_proto::{entry as wire, row};

use super::objects::{Claim, unexpected};
use super::plan::{Outcome, Plan};
use super::{
    Bucket, Completed, Conditions, Kv, KvError, Lock, NewContent, NewPart, NewVersion, Part, Parts,
    Refusal, Upload, UploadId,
};
use crate::log::WriteKind;
use crate::state::answer::Done;
use crate::state::entry::{self, Body};
use crate::state::read;

fn name(upload: UploadId) -> Result<Bytes, KvError> {
    let name = upload.open().ok_or(Refusal::NoSuchUpload)?;
    Ok(Bytes::copy_from_slice(&name))
}

/// Ascending part numbers as inclusive ranges.
fn ranges(numbers: &[u32]) -> Vec<row::PartRange> {
    let mut ranges: Vec<row::PartRange> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == number => range.last = number,
            _ => ranges.push(row::PartRange {
                first: number,
                last: number,
            }),
        }
    }
    ranges
}

impl Kv {
    /// Opens an upload. `lock`: what will keep the version that Complete makes. `Refused(NoLock)`.
    pub async fn create_upload(
        &self,
        bucket: &Bucket,
        key: Bytes,
        meta: Bytes,
        lock: Lock,
    ) -> Result<Upload, KvError> {
        let mut plan = Plan::new(self, bucket, &key)?;
        let created = plan.run(WriteKind::Ordinary, &[], |target| {
            Body::CreateUpload(wire::CreateUpload {
                target: Some(target),
                meta: meta.clone(),
                lock: lock.to_row(),
            })
        });
        let id = match created.await?.done()? {
            Done::Upload(id) => id,
            other => return Err(unexpected(&other)),
        };
        let upload = self.upload(bucket, &key, id).await?;
        // Somebody who guessed the id may have ended it already.
        upload.ok_or_else(|| Refusal::NoSuchUpload.into())
    }

    /// An open upload (for its meta). Completed and aborted ones are gone.
    pub async fn upload(
        &self,
        bucket: &Bucket,
        key: &[u8],
        id: UploadId,
    ) -> Result<Option<Upload>, KvError> {
        let key = Bytes::copy_from_slice(key);
        let group = self.router().route(bucket.id, &key)?.group;
        let found = group
            .ask(|view| read::upload(view, bucket.id, &key, id))
            .await?;
        Ok(found
            .filter(|found| !found.is_completed)
            .map(|found| found.upload))
    }

    /// Adds or replaces a part (1 to 10,000).
    pub async fn put_part(
        &self,
        bucket: &Bucket,
        key: Bytes,
        upload: UploadId,
        number: u32,
        new: NewPart,
        content: NewContent,
    ) -> Result<Part, KvError> {
        let name = name(upload)?;
        let part = NewVersion {
            etag: new.etag,
            size: new.size,
            meta: new.meta,
            tags: Bytes::new(),
            lock: Lock::default(),
        };
        let mut claim = Claim::new(self, content)?;
        let mut plan = Plan::new(self, bucket, &key)?;
        let outcome = claim.run(&mut plan, |target, content| {
            Body::ClaimPart(wire::ClaimPart {
                target: Some(target),
                upload: name.clone(),
                number,
                part: entry::new_version(&part),
                content,
            })
        });
        let outcome = outcome.await;
        claim.settle(&plan, &outcome);
        match outcome? {
            // What was claimed, not what lies there now: another client may have replaced it since.
            Done::PartCounter(_) => Ok(Part {
                number,
                etag: part.etag,
                size: part.size,
                modified_ms: crate::env::clock::wall_ms(),
                meta: part.meta,
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// Parts with numbers above `after`, at most `max`, and the counter they were read at. `Refused(NoSuchUpload)`.
    pub async fn parts(
        &self,
        bucket: &Bucket,
        key: &[u8],
        upload: UploadId,
        after: u32,
        max: u32,
    ) -> Result<Parts, KvError> {
        let key = Bytes::copy_from_slice(key);
        let group = self.router().route(bucket.id, &key)?.group;
        let max = max.min(10_000) as usize;
        let parts = group.ask(|view| {
            let open = read::upload(view, bucket.id, &key, upload)?;
            if open.is_none_or(|open| open.is_completed) {
                return Ok(None);
            }
            read::parts(view, bucket.id, &key, upload, after, max)
        });
        parts.await?.ok_or_else(|| Refusal::NoSuchUpload.into())
    }

    /// Makes the listed parts an object. `parts` ascending; `counter` is the one of `parts()` that the list was checked
    /// against. Repeatable: an upload completed before answers as it did then, whatever the counter.
    #[allow(clippy::too_many_arguments)]
    pub async fn complete_upload(
        &self,
        bucket: &Bucket,
        key: Bytes,
        upload: UploadId,
        counter: u64,
        parts: &[u32],
        new: NewVersion,
        conditions: Conditions,
    ) -> Result<Completed, KvError> {
        let name = name(upload)?;
        let ranges = ranges(parts);
        let conditions = entry::conditions(&conditions);
        let mut plan = Plan::new(self, bucket, &key)?;
        let outcome = plan.run(WriteKind::Releasing, &[], |target| {
            Body::CompleteUpload(wire::CompleteUpload {
                target: Some(target),
                conditions: conditions.clone(),
                upload: name.clone(),
                counter,
                parts: ranges.clone(),
                version: entry::new_version(&new),
            })
        });
        match outcome.await? {
            Outcome::Done(Done::Completed(completed)) => Ok(Completed::Done {
                written: completed.written,
                etag: completed.etag,
                size: completed.size,
            }),
            Outcome::PartsChanged => Ok(Completed::PartsChanged),
            other => other.done().and_then(|done| Err(unexpected(&done))),
        }
    }

    /// Ends an upload and gives its parts up. `Refused(NoSuchUpload)`.
    pub async fn abort_upload(
        &self,
        bucket: &Bucket,
        key: Bytes,
        upload: UploadId,
    ) -> Result<(), KvError> {
        let name = name(upload)?;
        let mut plan = Plan::new(self, bucket, &key)?;
        let aborted = plan.run(WriteKind::Releasing, &[], |target| {
            Body::AbortUpload(wire::AbortUpload {
                target: Some(target),
                upload: name.clone(),
            })
        });
        aborted.await?.done().map(drop)
    }
}
