//! Objects: written, found, deleted, copied within a vshard.

use std::borrow::Cow;

use bytes::Bytes;
use minikv_proto::entry as wire;

use super::plan::{Outcome, Plan};
use super::{
    Bucket, Conditions, Deleted, Kv, KvError, LockChange, NewContent, NewVersion, Refusal, Version,
    VersionSelector, Written,
};
use crate::chunk::put::abandon;
use crate::chunk::replicate;
use crate::env::task;
use crate::log::WriteKind;
use crate::state::answer::Done;
use crate::state::entry::{self, Body};
use crate::state::lock;
use crate::state::read::{self, Decided, Look};
use crate::txn::driver;

impl Kv {
    /// Writes a new version. `new.size` must be the content's length.
    pub async fn put(
        &self,
        bucket: &Bucket,
        key: Bytes,
        new: NewVersion,
        content: NewContent,
        conditions: Conditions,
    ) -> Result<Written, KvError> {
        #[cfg(feature = "planted")]
        let conditions = match crate::planted!("conditions-checked-by-the-gateway") {
            true => self.planted_check(bucket, &key, conditions).await?,
            false => conditions,
        };
        let conditions = entry::conditions(&conditions);
        let version = entry::new_version(&new);
        let mut claim = Claim::new(self, content)?;
        let mut plan = Plan::new(self, bucket, &key)?;
        let outcome = claim.run(&mut plan, |target, content| {
            Body::Put(wire::Put {
                target: Some(target),
                conditions: conditions.clone(),
                version: version.clone(),
                content,
            })
        });
        let outcome = outcome.await;
        claim.settle(&plan, &outcome);
        match outcome? {
            Done::Written(written) => Ok(written),
            other => Err(unexpected(&other)),
        }
    }

    /// The planted bug: looks first, then writes without a condition.
    #[cfg(feature = "planted")]
    async fn planted_check(
        &self,
        bucket: &Bucket,
        key: &[u8],
        conditions: Conditions,
    ) -> Result<Conditions, KvError> {
        let there = self.head(bucket, key, &VersionSelector::Current).await?;
        let etag = there.map(|version| version.new.etag);
        let holds = match (&conditions.if_match, &conditions.if_none_match) {
            (Some(wanted), _) => etag.is_some_and(|etag| wanted.contains(&etag)),
            (None, Some(_)) => etag.is_none(),
            (None, None) => true,
        };
        match holds {
            true => Ok(Conditions::default()),
            false => Err(Refusal::PreconditionFailed.into()),
        }
    }

    /// Finds a version (a delete marker too: the gateway says 404 or 405). `None`: there is none, for sure.
    pub async fn head(
        &self,
        bucket: &Bucket,
        key: &[u8],
        which: &VersionSelector,
    ) -> Result<Option<Version>, KvError> {
        let key = Bytes::copy_from_slice(key);
        let group = self.router().route(bucket.id, &key)?.group;
        let mut decided = Decided::new();
        loop {
            let look = group.ask(|view| read::version(view, bucket.id, &key, which, &decided));
            match look.await? {
                Look::At(version) => return Ok(version),
                Look::Ask(txns) => driver::ask(self.router(), &group, &txns, &mut decided).await?,
            }
        }
    }

    /// Deletes: `Current` removes the object or makes a delete marker, as versioning says; `Null`/`Id` removes that
    /// version for good. Deleting what is not there is fine (`existed: false`) unless a condition asks for it.
    /// `Refused(Locked)`: something keeps that version.
    pub async fn delete(
        &self,
        bucket: &Bucket,
        key: Bytes,
        which: VersionSelector,
        conditions: Conditions,
    ) -> Result<Deleted, KvError> {
        self.delete_even(bucket, key, which, conditions, false)
            .await
    }

    /// As `delete`, and with `bypass_governance` even if a retention of mode GOVERNANCE keeps the version.
    pub async fn delete_even(
        &self,
        bucket: &Bucket,
        key: Bytes,
        which: VersionSelector,
        conditions: Conditions,
        bypass_governance: bool,
    ) -> Result<Deleted, KvError> {
        let conditions = entry::conditions(&conditions);
        let mut plan = Plan::new(self, bucket, &key)?;
        let version = match &which {
            VersionSelector::Current => None,
            VersionSelector::Null => Some(wire::delete_version::Version::Null(true)),
            VersionSelector::Id(id) => match id.open(plan.route.vshard) {
                Some(seq) => Some(wire::delete_version::Version::Seq(seq)),
                // Nobody gave this id out.
                None if conditions.is_some() => return Err(Refusal::NoSuchVersion.into()),
                None => return Ok(Deleted::default()),
            },
        };
        let outcome = plan.run(WriteKind::Releasing, &[], |target| match &version {
            None => Body::Delete(wire::Delete {
                target: Some(target),
                conditions: conditions.clone(),
            }),
            Some(version) => Body::DeleteVersion(wire::DeleteVersion {
                target: Some(target),
                conditions: conditions.clone(),
                version: Some(*version),
                bypass_governance,
            }),
        });
        match outcome.await?.done()? {
            Done::Deleted(deleted) => Ok(deleted),
            other => Err(unexpected(&other)),
        }
    }

    /// Replaces the tags of a version; it stays the same version. `Refused(NoSuchKey | NoSuchVersion)`: it is not there,
    /// or it is a delete marker.
    pub async fn set_tags(
        &self,
        bucket: &Bucket,
        key: Bytes,
        which: VersionSelector,
        tags: Bytes,
    ) -> Result<Written, KvError> {
        let mut plan = Plan::new(self, bucket, &key)?;
        let version = match &which {
            VersionSelector::Current => None,
            VersionSelector::Null => Some(wire::set_tags::Version::Null(true)),
            VersionSelector::Id(id) => {
                // An id that opens to nothing was given out by nobody.
                let seq = id.open(plan.route.vshard).ok_or(Refusal::NoSuchVersion)?;
                Some(wire::set_tags::Version::Seq(seq))
            }
        };
        // Taking tags away makes room.
        let kind = if tags.is_empty() {
            WriteKind::Releasing
        } else {
            WriteKind::Ordinary
        };
        let outcome = plan.run(kind, &[], |target| {
            Body::SetTags(wire::SetTags {
                target: Some(target),
                version,
                tags: tags.clone(),
            })
        });
        match outcome.await?.done()? {
            Done::Written(written) => Ok(written),
            other => Err(unexpected(&other)),
        }
    }

    /// Changes what keeps a version; it stays the same version. `Refused(Locked)`: what keeps it now does not allow that;
    /// `NoLock`: the bucket has no object lock; `NoSuchKey | NoSuchVersion` as with `set_tags`.
    pub async fn set_lock(
        &self,
        bucket: &Bucket,
        key: Bytes,
        which: VersionSelector,
        change: LockChange,
        bypass_governance: bool,
    ) -> Result<Written, KvError> {
        let mut plan = Plan::new(self, bucket, &key)?;
        let version = match &which {
            VersionSelector::Current => None,
            VersionSelector::Null => Some(wire::set_lock::Version::Null(true)),
            VersionSelector::Id(id) => {
                let seq = id.open(plan.route.vshard).ok_or(Refusal::NoSuchVersion)?;
                Some(wire::set_lock::Version::Seq(seq))
            }
        };
        let change = match change {
            LockChange::Hold(on) => wire::set_lock::Change::Hold(on),
            LockChange::Retention(new) => wire::set_lock::Change::Retention(lock::retention(new)),
        };
        // Whoever has to clear a full disk may have to lift a lock first.
        let outcome = plan.run(WriteKind::Releasing, &[], |target| {
            Body::SetLock(wire::SetLock {
                target: Some(target),
                version,
                change: Some(change),
                bypass_governance,
            })
        });
        match outcome.await?.done()? {
            Done::Written(written) => Ok(written),
            other => Err(unexpected(&other)),
        }
    }

    /// Copies without moving bytes when source and target share a vshard (a copy onto itself always does);
    /// otherwise `None` and the gateway copies the bytes. `Refused(NoSuchVersion)`: the source went away or was replaced
    /// meanwhile; look at it again.
    pub async fn copy_within(
        &self,
        source: &Version,
        bucket: &Bucket,
        key: Bytes,
        new: NewVersion,
        conditions: Conditions,
    ) -> Result<Option<Written>, KvError> {
        let mut plan = Plan::new(self, bucket, &key)?;
        let from = self.router().route(source.bucket, &source.key)?;
        if from.vshard != plan.route.vshard {
            return Ok(None);
        }
        let seq = source.id.open(from.vshard).ok_or(Refusal::NoSuchVersion)?;
        let conditions = entry::conditions(&conditions);
        let version = entry::new_version(&new);
        loop {
            let source_epoch = match source.bucket == plan.bucket.id {
                true => plan.bucket.epoch,
                false => {
                    let of = self.router().bucket_by_id(source.bucket).await?;
                    of.ok_or(Refusal::NoSuchBucket)?.epoch
                }
            };
            let body = Body::Copy(wire::Copy {
                target: Some(plan.target()),
                conditions: conditions.clone(),
                version: version.clone(),
                source_bucket: source.bucket.0,
                source_epoch,
                source_key: source.key.clone(),
                source_seq: seq,
            });
            let group = plan.route.group.clone();
            let answer = group.command(body, &[], WriteKind::Ordinary).await?;
            match plan.settle(answer).await? {
                Some(Outcome::Done(Done::Written(written))) => return Ok(Some(written)),
                Some(Outcome::SourceChanged) => return Err(Refusal::NoSuchVersion.into()),
                Some(Outcome::Done(other)) => return Err(unexpected(&other)),
                Some(Outcome::PartsChanged | Outcome::StalePlacement) | None => {}
            }
        }
    }
}

/// How often a claim is made when members change meanwhile.
const CLAIMS: usize = 4;

/// The content of a new version or part, as an entry carries it.
pub(super) struct Claim {
    pub payload: Bytes,
    pub content: Option<wire::NewContent>,
    staged: Option<super::Staged>,
}

impl Claim {
    pub(super) fn new(kv: &Kv, content: NewContent) -> Result<Claim, KvError> {
        Ok(match content {
            NewContent::Inline(payload) if payload.len() > kv.inner.inline_bytes => {
                let what = Cow::from("more bytes inline than the limit");
                return Err(Refusal::Unsupported(what.into_owned()).into());
            }
            NewContent::Inline(payload) => Claim {
                content: entry::inline(&payload),
                payload,
                staged: None,
            },
            // Nothing came: the object is empty and its stage is not needed.
            NewContent::Staged(staged) if staged.run.len == 0 => Claim {
                payload: Bytes::new(),
                content: None,
                staged: Some(staged),
            },
            NewContent::Staged(staged) => Claim {
                payload: Bytes::new(),
                content: entry::staged(&staged),
                staged: Some(staged),
            },
        })
    }

    /// Proposes what `make` makes of target and content, until it is answered for good. If others are members by now than
    /// those who took the chunks, they get them, and the claim is made again.
    pub(super) async fn run(
        &mut self,
        plan: &mut Plan<'_>,
        make: impl Fn(wire::Target, Option<wire::NewContent>) -> Body,
    ) -> Result<Done, KvError> {
        for _ in 0..CLAIMS {
            let content = &self.content;
            let outcome = plan.run(WriteKind::Ordinary, &self.payload, |target| {
                make(target, content.clone())
            });
            let outcome = outcome.await?;
            let (Outcome::StalePlacement, Some(staged)) = (&outcome, &mut self.staged) else {
                return outcome.done();
            };
            let group = &plan.route.group;
            // Boxed: it comes seldom. This node's copy must know the members that the state knew.
            if group.elsewhere.is_none() {
                Box::pin(group.confirm_read()).await?;
            }
            let copies = std::mem::take(&mut staged.copies);
            staged.copies = Box::pin(replicate::complete(group, &staged.run, copies)).await?;
            self.content = entry::staged(staged);
        }
        Err(KvError::Unavailable(
            "the members of the group change too fast".to_owned(),
        ))
    }

    /// The command ended: a stage that was not claimed is given up, unless that is not known.
    pub(super) fn settle<T>(self, plan: &Plan<'_>, outcome: &Result<T, KvError>) {
        let Some(staged) = self.staged else {
            return;
        };
        let claimed = self.content.is_some();
        let group = plan.route.group.clone();
        match outcome {
            Ok(_) if claimed => group.memory.forget(staged.stage),
            // A final refusal ended the stage itself; of what is unknown the sweeper learns more.
            Err(KvError::Refused(_)) if claimed => group.memory.forget(staged.stage),
            Err(KvError::Unknown(_)) => {}
            _ => {
                task::spawn(async move {
                    abandon(&group, staged.run.vshard, staged.stage).await;
                });
            }
        }
    }
}

pub(super) fn unexpected(done: &Done) -> KvError {
    KvError::Unknown(format!("an answer of another kind: {done:?}"))
}
