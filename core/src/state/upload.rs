//! Multipart uploads: created, filled with parts, and completed, aborted or expired.
//!
//! ```text
//!   open upload row  (bucket, key, upload)   created, metadata      what listings show; never changes
//!   upload row       (upload)                counter, completed     small, changes with every part
//!   part rows        (upload, number)        content, size, ETag    constant size
//! ```
//! Complete does not rewrite parts: the version points at the upload, whose rows never change again.
//!
//! Always true:
//! * every part raises the counter, so Complete, which was planned at counter c, applies only if no part came since;
//! * an upload has one end: completed, or freed; what came too late finds no open upload;
//! * Complete is repeatable as long as its version lives.

use minikv_proto::{entry as wire, row};

use crate::ids::{UploadId, VShard, VersionId};
use crate::kv::{Refusal, Written};
use crate::state::answer::{Completed, Done, TryAgain};
use crate::state::applying::{Applying, Place, Stop, unsupported, written};
use crate::state::conditions;
use crate::state::keys::{self, UploadName};
use crate::state::ledger::damaged;
use crate::state::lock;
use crate::state::put::{MAX_META, checked};
use crate::state::record::{Malformed, upload_name, vshard_of};
use crate::state::usage::Delta;

/// Highest part number.
const MAX_PART: u32 = 10_000;
/// Most uploads that one entry lets expire.
const MAX_EXPIRE: usize = 100;

impl Applying<'_> {
    pub fn create_upload(&mut self, create: &wire::CreateUpload) -> Result<Done, Stop> {
        let place = self.place(create.target.as_ref())?;
        if create.meta.len() > MAX_META {
            return Err(Malformed("metadata too large").into());
        }
        let lock = create.lock.map(lock::checked).transpose()?;
        if lock.is_some() && place.lock.is_none() {
            return Err(Refusal::NoLock.into());
        }
        let name = self.upload_name()?;
        let open = row::OpenUpload {
            created_ms: self.now_ms,
            meta: create.meta.clone(),
            lock,
        };
        self.ledger.put_new_row(
            keys::open_upload(place.vshard, place.bucket, &place.key, &name),
            &open,
        )?;
        let upload = row::Upload {
            bucket: place.bucket.0,
            key: place.key.clone(),
            ..row::Upload::default()
        };
        self.ledger
            .put_new_row(keys::upload(place.vshard, &name), &upload)?;
        self.charge(
            place.bucket,
            Delta {
                uploads: 1,
                ..Delta::default()
            },
        )?;
        Ok(Done::Upload(UploadId::of_name(name)))
    }

    /// The upload with this name, if it is this key's and open.
    pub fn open_upload(&mut self, place: &Place, name: &UploadName) -> Result<row::Upload, Stop> {
        let upload = self.upload_of(place, name)?;
        if upload.completed.is_some() {
            Err(Refusal::NoSuchUpload.into())
        } else {
            Ok(upload)
        }
    }

    fn upload_of(&mut self, place: &Place, name: &UploadName) -> Result<row::Upload, Stop> {
        let upload: Option<row::Upload> = self.ledger.row(&keys::upload(place.vshard, name))?;
        let ours = |u: &row::Upload| u.bucket == place.bucket.0 && u.key == place.key && !u.freed;
        Ok(upload.filter(ours).ok_or(Refusal::NoSuchUpload)?)
    }

    pub fn claim_part(&mut self, claim: &wire::ClaimPart) -> Result<Done, Stop> {
        let place = self.place(claim.target.as_ref())?;
        let name = upload_name(&claim.upload)?;
        let mut upload = self.open_upload(&place, &name)?;
        let number = u16::try_from(claim.number)
            .ok()
            .filter(|n| (1..=MAX_PART).contains(&u32::from(*n)));
        let number = number.ok_or(Refusal::InvalidPart(claim.number))?;
        let new = checked(claim.part.as_ref())?;
        let content = self.take_content(&place, claim.content.as_ref(), new.size, &claim.upload)?;

        let key = keys::part(place.vshard, &name, number);
        let replaced: Option<row::Part> = self.ledger.row(&key)?;
        let mut bytes = new.size as i64;
        match replaced {
            Some(replaced) => {
                bytes -= replaced.size as i64;
                self.let_go_of_part(replaced.content)?;
            }
            None => upload.parts += 1,
        }
        let part = row::Part {
            content,
            size: new.size,
            etag: new.etag.clone(),
            modified_ms: self.now_ms,
            meta: new.meta.clone(),
        };
        self.ledger.put_row(key, &part)?;
        self.charge(
            place.bucket,
            Delta {
                bytes,
                ..Delta::default()
            },
        )?;
        upload.bytes = upload.bytes.wrapping_add_signed(bytes);
        upload.counter += 1;
        self.ledger
            .put_row(keys::upload(place.vshard, &name), &upload)?;
        Ok(Done::PartCounter(upload.counter))
    }

    pub fn complete_upload(&mut self, complete: &wire::CompleteUpload) -> Result<Done, Stop> {
        let place = self.place(complete.target.as_ref())?;
        let name = upload_name(&complete.upload)?;
        let mut upload = self.upload_of(&place, &name)?;
        if let Some(completed) = upload.completed {
            return Ok(Done::Completed(told(&place, &completed)));
        }
        if upload.counter != complete.counter {
            return Err(TryAgain::PartsChanged.into());
        }
        let listed = count_parts(&complete.parts)?;
        let new = checked(complete.version.as_ref())?;
        let all_listed = listed == upload.parts;
        if listed > upload.parts
            || new.size > upload.bytes
            || (all_listed && new.size != upload.bytes)
        {
            return Err(Malformed("list of parts").into());
        }
        let current = self.current(&place)?;
        conditions::check(complete.conditions.as_ref(), current.version.as_ref())?;

        let mut version = self.next_version(&place, &current)?;
        let content = row::UploadContent {
            upload: complete.upload.clone(),
            parts: complete.parts.clone(),
        };
        let kind = Some(row::content::Kind::Upload(content));
        version.content = Some(row::Content {
            kind,
            shared: false,
        });
        let open_key = keys::open_upload(place.vshard, place.bucket, &place.key, &name);
        let open: Option<row::OpenUpload> = self.ledger.row(&open_key)?;
        let open = open.ok_or_else(|| damaged(&open_key, "an open upload is not listed"))?;
        self.describe(&place, &mut version, new, open.lock)?;
        let completed = row::Completed {
            seq: version.seq,
            null: version.null,
            modified_ms: version.modified_ms,
            etag: version.etag.clone(),
            size: version.size,
            parts: complete.parts.clone(),
        };
        let answer = Completed {
            written: written(&place, &version),
            etag: version.etag.clone(),
            size: version.size,
        };
        // The listed parts' bytes are the version's from now on.
        self.charge(
            place.bucket,
            Delta {
                bytes: -(version.size as i64),
                uploads: -1,
                ..Delta::default()
            },
        )?;
        self.ledger.delete(open_key)?;
        upload.completed = Some(completed);
        self.ledger
            .put_row(keys::upload(place.vshard, &name), &upload)?;
        if !all_listed {
            self.free_upload(place.vshard, &complete.upload, true)?;
        }
        self.install(&place, current, version)?;
        Ok(Done::Completed(answer))
    }

    pub fn abort_upload(&mut self, abort: &wire::AbortUpload) -> Result<Done, Stop> {
        let place = self.place(abort.target.as_ref())?;
        let name = upload_name(&abort.upload)?;
        let upload = self.open_upload(&place, &name)?;
        self.end_upload(place.vshard, &name, &upload)?;
        Ok(Done::Nothing)
    }

    pub fn expire_uploads(&mut self, expire: &wire::ExpireUploads) -> Result<Done, Stop> {
        if expire.uploads.len() > MAX_EXPIRE {
            return Err(unsupported("more than 100 uploads in one entry"));
        }
        for at in &expire.uploads {
            let (vshard, name) = (vshard_of(at.vshard)?, upload_name(&at.upload)?);
            let Some(upload) = self
                .ledger
                .row::<row::Upload>(&keys::upload(vshard, &name))?
            else {
                continue;
            };
            if upload.completed.is_some() || upload.freed {
                continue;
            }
            let open_key = keys::open_upload(
                vshard,
                crate::ids::BucketId(upload.bucket),
                &upload.key,
                &name,
            );
            let open: Option<row::OpenUpload> = self.ledger.row(&open_key)?;
            let open = open.ok_or_else(|| damaged(&open_key, "an open upload is not listed"))?;
            if open.created_ms < expire.created_before_ms {
                self.end_upload(vshard, &name, &upload)?;
            }
        }
        Ok(Done::Nothing)
    }

    /// An open upload ends without a version. Its parts stay charged until they are moved to the free list.
    pub fn end_upload(
        &mut self,
        vshard: VShard,
        name: &UploadName,
        upload: &row::Upload,
    ) -> Result<(), Stop> {
        let bucket = crate::ids::BucketId(upload.bucket);
        self.ledger
            .delete(keys::open_upload(vshard, bucket, &upload.key, name))?;
        self.charge(
            bucket,
            Delta {
                uploads: -1,
                ..Delta::default()
            },
        )?;
        self.free_upload(vshard, name, false)
    }
}

fn told(place: &Place, completed: &row::Completed) -> Completed {
    Completed {
        written: Written {
            id: VersionId::seal(place.vshard, completed.seq),
            is_null: completed.null,
            modified_ms: completed.modified_ms,
        },
        etag: completed.etag.clone(),
        size: completed.size,
    }
}

/// Ranges must rise and not touch what a part number cannot be.
fn count_parts(ranges: &[row::PartRange]) -> Result<u32, Malformed> {
    let mut next = 1;
    let mut count = 0;
    for range in ranges {
        if range.first < next || range.last < range.first || range.last > MAX_PART {
            return Err(Malformed("ranges of parts"));
        }
        count += range.last - range.first + 1;
        next = range.last + 1;
    }
    if count == 0 {
        Err(Malformed("no parts"))
    } else {
        Ok(count)
    }
}

/// Whether a completed upload's version holds this part.
pub(super) fn is_listed(completed: Option<&row::Completed>, number: u32) -> bool {
    completed.is_some_and(|done| {
        done.parts
            .iter()
            .any(|range| (range.first..=range.last).contains(&number))
    })
}
