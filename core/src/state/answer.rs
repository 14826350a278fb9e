//! What applying an entry answered.
//!
//! Always true:
//! * `Done` and `Refused` are final: a session keeps them and a second delivery gets the same;
//! * `TryAgain` changed nothing at all: it freed no stage and no session keeps it.

use minikv_proto::entry::{self as wire, done::What, refused, try_again};
use minikv_proto::row;

use crate::ids::{BucketId, StageId, TenantId, UploadId, VersionId};
use crate::kv::{Bucket, BucketLock, Deleted, Refusal, Versioning, Written};
use crate::state::intent::{TxnRef, TxnState};
use crate::state::lock;
use crate::state::record::{Malformed, upload_name};

/// The answer of apply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It happened.
    Done(Done),
    /// It did not, and that is final.
    Refused(Refusal),
    /// It did not; the reason says what must come first.
    TryAgain(TryAgain),
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    /// All there is to say.
    Nothing,
    /// A version was written.
    Written(Written),
    /// A key or version was deleted.
    Deleted(Deleted),
    /// This stage was opened.
    Stage(StageId),
    /// This upload was created.
    Upload(UploadId),
    /// A part was claimed; the upload's counter now.
    PartCounter(u64),
    /// An upload was completed, now or before.
    Completed(Completed),
    /// This session was opened.
    Session(u64),
    /// The bucket as it is now.
    Bucket(Bucket),
    /// A step of bulk work was done; whether more is left.
    More(bool),
    /// What became of a transaction.
    Txn(TxnState),
    /// One for each write, in order; a delete that made no marker has none.
    Transacted(Vec<Option<Written>>),
    /// What an account uses.
    Usage(row::Usage),
    /// A transfer that left.
    Transit(row::Transit),
    /// A new number or revision.
    Number(u64),
}

/// A completed upload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completed {
    /// The version it became.
    pub written: Written,
    /// Its ETag.
    pub etag: String,
    /// Its size.
    pub size: u64,
}

/// Why it must be tried again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TryAgain {
    /// Too few current members hold the chunks: send the missing copies, claim again.
    StalePlacement,
    /// Planned with older facts of the bucket than these: plan anew.
    StaleEpoch(u64),
    /// Planned with newer facts than the group has: bring it these first.
    FactsBehind(BucketId),
    /// The group's allowance is used up: refill it.
    NeedsAllowance(AccountId),
    /// A transaction holds the key.
    Blocked(TxnRef),
    /// Another group owns the vshard, or another epoch does; what this group knows, 0 if nothing.
    Moved(u64),
    /// The session is unknown, or the sequence closed: an earlier delivery may have been applied.
    SessionGone,
    /// A part came after Complete was planned.
    PartsChanged,
    /// A copy's source is another version by now.
    SourceChanged,
    /// Its time has not come.
    NotYet,
}

/// Whose room.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AccountId {
    /// A tenant's.
    Tenant(TenantId),
    /// A bucket's.
    Bucket(BucketId),
}

impl AccountId {
    /// As a message says it.
    pub fn of_wire(name: Option<&wire::AccountName>) -> Result<AccountId, Malformed> {
        match name.and_then(|name| name.owner.as_ref()) {
            Some(wire::account_name::Owner::Tenant(id)) => Ok(AccountId::Tenant(TenantId(*id))),
            Some(wire::account_name::Owner::Bucket(id)) => Ok(AccountId::Bucket(BucketId(*id))),
            None => Err(Malformed("no account")),
        }
    }

    /// For a message.
    pub fn to_wire(self) -> wire::AccountName {
        let owner = match self {
            AccountId::Tenant(id) => wire::account_name::Owner::Tenant(id.0),
            AccountId::Bucket(id) => wire::account_name::Owner::Bucket(id.0),
        };
        wire::AccountName { owner: Some(owner) }
    }
}

impl Answer {
    /// For a result row or the wire.
    pub fn to_wire(&self) -> wire::Answer {
        let outcome = match self {
            Answer::Done(done) => wire::answer::Outcome::Done(done.to_wire()),
            Answer::Refused(refusal) => wire::answer::Outcome::Refused(refusal_to_wire(refusal)),
            Answer::TryAgain(again) => wire::answer::Outcome::TryAgain(again.to_wire()),
        };
        wire::Answer {
            outcome: Some(outcome),
        }
    }

    /// From a result row or the wire.
    pub fn of_wire(answer: wire::Answer) -> Result<Answer, Malformed> {
        Ok(match answer.outcome.ok_or(Malformed("no outcome"))? {
            wire::answer::Outcome::Done(done) => Answer::Done(Done::of_wire(done)?),
            wire::answer::Outcome::Refused(refused) => Answer::Refused(refusal_of_wire(refused)?),
            wire::answer::Outcome::TryAgain(again) => Answer::TryAgain(TryAgain::of_wire(again)?),
        })
    }
}

impl Done {
    fn to_wire(&self) -> wire::Done {
        let what = match self {
            Done::Nothing => What::Nothing(wire::Nothing {}),
            Done::Written(written) => What::Written(written_to_wire(written)),
            Done::Deleted(deleted) => What::Deleted(deleted_to_wire(deleted)),
            Done::Stage(stage) => What::Stage(stage.to_row()),
            Done::Upload(upload) => What::Upload(upload.0.to_be_bytes().to_vec().into()),
            Done::PartCounter(counter) => What::PartCounter(*counter),
            Done::Completed(completed) => What::Completed(wire::Finished {
                written: Some(written_to_wire(&completed.written)),
                etag: completed.etag.clone(),
                size: completed.size,
            }),
            Done::Session(session) => What::Session(*session),
            Done::Bucket(bucket) => What::Bucket(bucket_to_row(bucket)),
            Done::More(more) => What::More(*more),
            Done::Txn(state) => What::Txn(state.to_row() as i32),
            Done::Transacted(writes) => What::Transacted(wire::Transacted {
                written: writes
                    .iter()
                    .map(|w| {
                        w.as_ref()
                            .map_or_else(wire::Written::default, written_to_wire)
                    })
                    .collect(),
            }),
            Done::Usage(usage) => What::Usage(*usage),
            Done::Transit(transit) => What::Transit(*transit),
            Done::Number(number) => What::Number(*number),
        };
        wire::Done { what: Some(what) }
    }

    fn of_wire(done: wire::Done) -> Result<Done, Malformed> {
        Ok(match done.what.ok_or(Malformed("nothing done"))? {
            What::Nothing(_) => Done::Nothing,
            What::Written(written) => Done::Written(written_of_wire(&written)),
            What::Deleted(deleted) => Done::Deleted(deleted_of_wire(&deleted)),
            What::Stage(stage) => Done::Stage(StageId::of_row(Some(&stage))?),
            What::Upload(id) => Done::Upload(UploadId(u128::from_be_bytes(upload_name(&id)?))),
            What::PartCounter(counter) => Done::PartCounter(counter),
            What::Completed(finished) => Done::Completed(Completed {
                written: written_of_wire(&finished.written.ok_or(Malformed("no version"))?),
                etag: finished.etag,
                size: finished.size,
            }),
            What::Session(session) => Done::Session(session),
            What::Bucket(bucket) => Done::Bucket(bucket_of_row(bucket)?),
            What::More(more) => Done::More(more),
            What::Txn(state) => Done::Txn(TxnState::of_row(state)?),
            What::Transacted(writes) => Done::Transacted(
                writes
                    .written
                    .iter()
                    .map(|w| (w.id.len() == 16).then(|| written_of_wire(w)))
                    .collect(),
            ),
            What::Usage(usage) => Done::Usage(usage),
            What::Transit(transit) => Done::Transit(transit),
            What::Number(number) => Done::Number(number),
        })
    }
}

impl TryAgain {
    fn to_wire(&self) -> wire::TryAgain {
        use try_again::Why;
        let why = match self {
            TryAgain::StalePlacement => Why::StalePlacement(wire::Nothing {}),
            TryAgain::StaleEpoch(epoch) => Why::StaleEpoch(*epoch),
            TryAgain::FactsBehind(bucket) => Why::FactsBehind(bucket.0),
            TryAgain::NeedsAllowance(account) => Why::NeedsAllowance(account.to_wire()),
            TryAgain::Blocked(txn) => Why::Blocked(txn.to_row()),
            TryAgain::Moved(epoch) => Why::Moved(*epoch),
            TryAgain::SessionGone => Why::SessionGone(wire::Nothing {}),
            TryAgain::PartsChanged => Why::PartsChanged(wire::Nothing {}),
            TryAgain::SourceChanged => Why::SourceChanged(wire::Nothing {}),
            TryAgain::NotYet => Why::NotYet(wire::Nothing {}),
        };
        wire::TryAgain { why: Some(why) }
    }

    fn of_wire(again: wire::TryAgain) -> Result<TryAgain, Malformed> {
        use try_again::Why;
        Ok(match again.why.ok_or(Malformed("no reason"))? {
            Why::StalePlacement(_) => TryAgain::StalePlacement,
            Why::StaleEpoch(epoch) => TryAgain::StaleEpoch(epoch),
            Why::FactsBehind(bucket) => TryAgain::FactsBehind(BucketId(bucket)),
            Why::NeedsAllowance(account) => {
                TryAgain::NeedsAllowance(AccountId::of_wire(Some(&account))?)
            }
            Why::Blocked(txn) => TryAgain::Blocked(TxnRef::of_row(&txn)?),
            Why::Moved(epoch) => TryAgain::Moved(epoch),
            Why::SessionGone(_) => TryAgain::SessionGone,
            Why::PartsChanged(_) => TryAgain::PartsChanged,
            Why::SourceChanged(_) => TryAgain::SourceChanged,
            Why::NotYet(_) => TryAgain::NotYet,
        })
    }
}

fn refusal_to_wire(refusal: &Refusal) -> wire::Refused {
    use refused::Why;
    let nothing = wire::Nothing {};
    let why = match refusal {
        Refusal::PreconditionFailed => Why::PreconditionFailed(nothing),
        Refusal::NoSuchBucket => Why::NoSuchBucket(nothing),
        Refusal::BucketExists => Why::BucketExists(nothing),
        Refusal::BucketNotEmpty => Why::BucketNotEmpty(nothing),
        Refusal::NoSuchKey => Why::NoSuchKey(nothing),
        Refusal::NoSuchVersion => Why::NoSuchVersion(nothing),
        Refusal::NoSuchUpload => Why::NoSuchUpload(nothing),
        Refusal::InvalidPart(number) => Why::InvalidPart(*number),
        Refusal::StageGone => Why::StageGone(nothing),
        Refusal::QuotaExceeded => Why::QuotaExceeded(nothing),
        Refusal::Locked => Why::Locked(nothing),
        Refusal::CheckFailed(number) => Why::CheckFailed(*number),
        Refusal::Aborted => Why::Aborted(nothing),
        Refusal::NoSuchTenant => Why::NoSuchTenant(nothing),
        Refusal::NoLock => Why::NoLock(nothing),
        Refusal::LockNeedsVersions => Why::LockNeedsVersions(nothing),
        Refusal::Unsupported(what) => Why::Unsupported(what.clone()),
    };
    wire::Refused { why: Some(why) }
}

fn refusal_of_wire(refused: wire::Refused) -> Result<Refusal, Malformed> {
    use refused::Why;
    Ok(match refused.why.ok_or(Malformed("no reason"))? {
        Why::PreconditionFailed(_) => Refusal::PreconditionFailed,
        Why::NoSuchBucket(_) => Refusal::NoSuchBucket,
        Why::BucketExists(_) => Refusal::BucketExists,
        Why::BucketNotEmpty(_) => Refusal::BucketNotEmpty,
        Why::NoSuchKey(_) => Refusal::NoSuchKey,
        Why::NoSuchVersion(_) => Refusal::NoSuchVersion,
        Why::NoSuchUpload(_) => Refusal::NoSuchUpload,
        Why::InvalidPart(number) => Refusal::InvalidPart(number),
        Why::StageGone(_) => Refusal::StageGone,
        Why::QuotaExceeded(_) => Refusal::QuotaExceeded,
        Why::Locked(_) => Refusal::Locked,
        Why::CheckFailed(number) => Refusal::CheckFailed(number),
        Why::Aborted(_) => Refusal::Aborted,
        Why::NoSuchTenant(_) => Refusal::NoSuchTenant,
        Why::NoLock(_) => Refusal::NoLock,
        Why::LockNeedsVersions(_) => Refusal::LockNeedsVersions,
        Why::Unsupported(what) => Refusal::Unsupported(what),
    })
}

fn written_to_wire(written: &Written) -> wire::Written {
    wire::Written {
        id: written.id.0.to_be_bytes().to_vec().into(),
        null: written.is_null,
        modified_ms: written.modified_ms,
    }
}

fn written_of_wire(written: &wire::Written) -> Written {
    Written {
        id: id_of_wire(&written.id),
        is_null: written.null,
        modified_ms: written.modified_ms,
    }
}

fn id_of_wire(id: &[u8]) -> VersionId {
    VersionId(id.try_into().map(u128::from_be_bytes).unwrap_or_default())
}

fn deleted_to_wire(deleted: &Deleted) -> wire::Deleted {
    wire::Deleted {
        marker: deleted.marker.map(|id| id.0.to_be_bytes().to_vec().into()),
        marker_null: deleted.marker_is_null,
        removed_marker: deleted.removed_marker,
        existed: deleted.existed,
    }
}

fn deleted_of_wire(deleted: &wire::Deleted) -> Deleted {
    Deleted {
        marker: deleted.marker.as_ref().map(|id| id_of_wire(id)),
        marker_is_null: deleted.marker_null,
        removed_marker: deleted.removed_marker,
        existed: deleted.existed,
    }
}

/// Versioning as rows say it.
pub fn versioning_of_row(versioning: i32) -> Result<Versioning, Malformed> {
    match row::Versioning::try_from(versioning) {
        Ok(row::Versioning::Off) => Ok(Versioning::Off),
        Ok(row::Versioning::Enabled) => Ok(Versioning::Enabled),
        Ok(row::Versioning::Suspended) => Ok(Versioning::Suspended),
        Err(_) => Err(Malformed("versioning")),
    }
}

/// Versioning for rows.
pub fn versioning_to_row(versioning: Versioning) -> row::Versioning {
    match versioning {
        Versioning::Off => row::Versioning::Off,
        Versioning::Enabled => row::Versioning::Enabled,
        Versioning::Suspended => row::Versioning::Suspended,
    }
}

/// A bucket as the directory says it.
pub fn bucket_of_row(row: row::DirectoryBucket) -> Result<Bucket, Malformed> {
    Ok(Bucket {
        id: BucketId(row.id),
        name: row.name,
        tenant: TenantId(row.tenant),
        owner: row.owner,
        created_ms: row.created_ms,
        versioning: versioning_of_row(row.versioning)?,
        lock: BucketLock::of_row(row.lock, row.retention.as_ref())?,
        epoch: row.epoch,
        settings: row.settings,
    })
}

fn bucket_to_row(bucket: &Bucket) -> row::DirectoryBucket {
    row::DirectoryBucket {
        id: bucket.id.0,
        name: bucket.name.clone(),
        tenant: bucket.tenant.0,
        owner: bucket.owner.clone(),
        created_ms: bucket.created_ms,
        versioning: versioning_to_row(bucket.versioning) as i32,
        lock: bucket.lock.is_some(),
        epoch: bucket.epoch,
        settings: bucket.settings.clone(),
        closing: None,
        retention: bucket
            .lock
            .and_then(|lock| lock.default)
            .map(|default| lock::default_retention(Some(default))),
    }
}
