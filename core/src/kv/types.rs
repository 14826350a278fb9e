//! The words of the front door: what a gateway says and what it is told.
//!
//! `KvError` says what its caller can do: a refusal is final, the rest may be tried again
//! (`Unknown`: the write may or may not have happened).

use std::ops::Range;

use bytes::Bytes;
use futures::stream::BoxStream;

use crate::ids::{BucketId, TenantId};
pub use crate::ids::{UploadId, VersionId};

/// A final answer that is not "done". Decided when the agreed entry was applied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// A condition (`If-Match`, `If-None-Match`, …) did not hold.
    #[error("a precondition did not hold")]
    PreconditionFailed,
    /// No such bucket, or it is being deleted.
    #[error("no such bucket")]
    NoSuchBucket,
    /// The name is taken.
    #[error("the bucket name is taken")]
    BucketExists,
    /// Versions or open uploads are left.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// No object under this key (a condition asked for one, or a copy source is gone).
    #[error("no such key")]
    NoSuchKey,
    /// No such version.
    #[error("no such version")]
    NoSuchVersion,
    /// No such upload, or it ended.
    #[error("no such upload")]
    NoSuchUpload,
    /// Complete named a part that is not there (any more) or whose ETag differs.
    #[error("part {0} is missing or differs")]
    InvalidPart(u32),
    /// The stage ended: abandoned, or claimed before.
    #[error("the stage has ended")]
    StageGone,
    /// No room is left in a tenant's or bucket's quota.
    #[error("quota exceeded")]
    QuotaExceeded,
    /// What keeps the version (a retention, a legal hold) forbids it.
    #[error("locked")]
    Locked,
    /// A transaction's check did not hold.
    #[error("check {0} did not hold")]
    CheckFailed(u32),
    /// The transaction was aborted.
    #[error("the transaction was aborted")]
    Aborted,
    /// No such tenant.
    #[error("no such tenant")]
    NoSuchTenant,
    /// The bucket has no object lock.
    #[error("the bucket has no object lock")]
    NoLock,
    /// Object lock needs versioning that is enabled, for ever.
    #[error("object lock needs versioning")]
    LockNeedsVersions,
    /// This build does not do it; says what.
    #[error("not supported: {0}")]
    Unsupported(String),
}

/// Why the core did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KvError {
    /// Final; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Not now (no leader, sick disk, shutting down, overload): nothing was changed. 503.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The disk is too full to take new bytes: nothing was changed. 507.
    #[error("no room: {0}")]
    NoRoom(String),
    /// The copy on this disk is damaged and there is no other. 500, with the object's name.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The write was proposed and its outcome could not be learned. 503; never proposed again.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// What a bucket is, as far as deciding needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// For its whole life.
    pub id: BucketId,
    /// Its name, unique over all tenants.
    pub name: String,
    /// Who pays.
    pub tenant: TenantId,
    /// Access-key-independent owner id (canonical id).
    pub owner: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Versioning state.
    pub versioning: Versioning,
    /// Versions may be locked; once there, it stays.
    pub lock: Option<BucketLock>,
    /// Raised with every change of the facts.
    pub epoch: u64,
    /// Gateway-owned settings (tagging, CORS, …), opaque here.
    pub settings: Bytes,
}

/// Versioning state of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Versioning {
    /// Never enabled: an overwrite replaces.
    #[default]
    Off,
    /// Every write makes a version.
    Enabled,
    /// New writes replace the null version; others stay.
    Suspended,
}

/// What a bucket with object lock has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BucketLock {
    /// The retention of new versions that say none.
    pub default: Option<DefaultRetention>,
}

/// The retention of new versions that say none. It counts from when they are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DefaultRetention {
    /// Its mode.
    pub mode: LockMode,
    /// Its length.
    pub period: Period,
}

/// The length of a default retention, as it was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Period {
    /// 1 to 36,500.
    Days(u32),
    /// 1 to 100, of 365 days.
    Years(u32),
}

/// How strict a retention is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// May be lifted before its time by who is permitted to.
    Governance,
    /// Is never lifted before its time.
    Compliance,
}

/// Keeps a version until its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// How strict.
    pub mode: LockMode,
    /// Milliseconds since 1970.
    pub until_ms: u64,
}

/// What keeps a version from going.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lock {
    /// Until its time; one whose time has passed keeps nothing and is still told.
    pub retention: Option<Retention>,
    /// The legal hold: until it is turned off. `None`: nobody ever said.
    pub hold: Option<bool>,
}

/// A change of what keeps a version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockChange {
    /// Another retention; none takes it away.
    Retention(Option<Retention>),
    /// The legal hold is turned on or off.
    Hold(bool),
}

/// Asked by clients, decided at apply, against the current version of the key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Conditions {
    /// `If-Match`: the key must exist with one of these ETags (without quotes; `*` = any). Missing key: `NoSuchKey`.
    pub if_match: Option<Vec<String>>,
    /// `If-None-Match`: the key must not exist with one of these ETags (`*` = any).
    pub if_none_match: Option<Vec<String>>,
    /// `x-amz-if-match-size` (DeleteObject).
    pub if_match_size: Option<u64>,
    /// `x-amz-if-match-last-modified-time` (DeleteObject), milliseconds.
    pub if_match_modified_ms: Option<u64>,
}

/// What a gateway says of a new version; opaque to the core but for ETag and size.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewVersion {
    /// Without quotes; compared by conditions.
    pub etag: String,
    /// Content length in bytes.
    pub size: u64,
    /// Gateway's own encoding of headers, user metadata, checksums, owner. At most 16 KiB.
    pub meta: Bytes,
    /// Gateway's own encoding of what may change without a new version (`Kv::set_tags`). At most 16 KiB.
    pub tags: Bytes,
    /// What keeps it, as its client asked; the bucket's default is added when it is written. Of parts: none.
    pub lock: Lock,
}

/// Which version of a key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum VersionSelector {
    /// The newest one.
    #[default]
    Current,
    /// The null version.
    Null,
    /// The one with this version id (as given out, see `VersionId`).
    Id(VersionId),
}

/// A version as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// Its bucket.
    pub bucket: BucketId,
    /// Its key.
    pub key: Bytes,
    /// Its id (also of null versions; `is_null` says which name clients see).
    pub id: VersionId,
    /// Clients know it as version "null".
    pub is_null: bool,
    /// Whether it is the newest of its key.
    pub is_latest: bool,
    /// A delete marker has no content.
    pub is_delete_marker: bool,
    /// Milliseconds since 1970; never goes back within a key.
    pub modified_ms: u64,
    /// As the gateway gave it.
    pub new: NewVersion,
    /// Number of parts, 0 when it was not a multipart upload.
    pub parts: u32,
    /// Where its bytes are; opaque outside the core.
    pub content: crate::state::record::Content,
}

/// What a write left behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// The new version's id.
    pub id: VersionId,
    /// Whether clients know it as "null" (no version header then, unless versioning is on or suspended).
    pub is_null: bool,
    /// Stamp of the new version.
    pub modified_ms: u64,
}

/// What a delete did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Deleted {
    /// A delete marker was made: its id.
    pub marker: Option<VersionId>,
    /// Clients know that marker as version "null".
    pub marker_is_null: bool,
    /// A version was removed for good, and it was a delete marker.
    pub removed_marker: bool,
    /// Something was there.
    pub existed: bool,
}

/// Where the bytes of a new version come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NewContent {
    /// At most 64 KiB, carried by the entry.
    Inline(Bytes),
    /// Chunks under an open stage.
    Staged(Staged),
}

/// A finished stage: every chunk is durable, nothing is visible. Claimed by a put or a part, or abandoned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Staged {
    /// The stage.
    pub stage: crate::ids::StageId,
    /// Its chunks.
    pub run: crate::state::record::ChunkRun,
    /// Who holds them, in order, without gaps.
    pub copies: Vec<crate::state::record::Copies>,
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Versions (one per key unless versions were asked for) and rolled-up prefixes, in key order.
    pub items: Vec<ListItem>,
    /// There is more.
    pub truncated: bool,
    /// Where the next page begins, when there is more. May lie beyond the last item: work per page is bounded, and
    /// a page may end in the middle of many delete markers, even without items.
    pub resume: Option<ListPoint>,
}

/// A place in a listing: everything up to it was seen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListPoint {
    /// The last key or rolled-up prefix.
    pub after: Bytes,
    /// With `versions`: the last version of that key; `None`: all of them.
    pub after_version: Option<VersionId>,
}

/// One line of a listing.
#[derive(Clone, Debug)]
pub enum ListItem {
    /// A version.
    Version(Box<Version>),
    /// All keys below this prefix (ends with the delimiter).
    Prefix(Bytes),
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// Only keys that start with this.
    pub prefix: Bytes,
    /// Roll up at the first of these after the prefix; empty: no roll-up.
    pub delimiter: Bytes,
    /// Only keys (and rolled-up prefixes) after this one.
    pub after: Bytes,
    /// With `versions`: within key `after`, only versions older than this one.
    pub after_version: Option<VersionId>,
    /// At most this many items, 1 to 1000.
    pub max: u32,
    /// All versions and delete markers instead of current objects.
    pub versions: bool,
}

/// An open multipart upload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upload {
    /// Its key.
    pub key: Bytes,
    /// Opaque id, as clients see it.
    pub id: UploadId,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Gateway's own encoding of what Create said (headers, metadata, checksum kind, owner).
    pub meta: Bytes,
}

/// A part of an upload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// 1 to 10,000.
    pub number: u32,
    /// Hex MD5 without quotes.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970.
    pub modified_ms: u64,
    /// Gateway's own encoding (checksums).
    pub meta: Bytes,
}

/// The parts of an upload at one counter value.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Raised by every UploadPart; Complete names the value it was planned with.
    pub counter: u64,
    /// Ascending by number.
    pub parts: Vec<Part>,
    /// There is more.
    pub truncated: bool,
}

/// What a gateway says of a part; opaque to the core but for ETag and size.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewPart {
    /// Hex MD5 without quotes.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// Gateway's own encoding (checksums). At most 1 KiB.
    pub meta: Bytes,
}

/// What Complete came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Completed {
    /// The upload is an object now (also when an earlier Complete of the same upload had done it).
    Done {
        /// The version it became.
        written: Written,
        /// Its ETag.
        etag: String,
        /// Its size.
        size: u64,
    },
    /// The parts changed since they were read (the counter rose): read them again, then complete again.
    PartsChanged,
}

/// Which open uploads to list.
#[derive(Clone, Debug, Default)]
pub struct UploadsRequest {
    /// Only keys that start with this.
    pub prefix: Bytes,
    /// Roll up at the first of these after the prefix; empty: no roll-up.
    pub delimiter: Bytes,
    /// Only keys (and rolled-up prefixes) after this one; with `after_upload`, also later uploads of this very key.
    pub after: Bytes,
    /// Within key `after`, only uploads after this one.
    pub after_upload: Option<UploadId>,
    /// At most this many items, 1 to 1000.
    pub max: u32,
}

/// One page of open uploads.
#[derive(Clone, Debug, Default)]
pub struct UploadsPage {
    /// Uploads and rolled-up prefixes, in key order; uploads of one key in order of their ids.
    pub items: Vec<UploadsItem>,
    /// There is more after the last item.
    pub truncated: bool,
}

/// One line of a listing of uploads.
#[derive(Clone, Debug)]
pub enum UploadsItem {
    /// An upload.
    Upload(Upload),
    /// All keys below this prefix (ends with the delimiter).
    Prefix(Bytes),
}

/// A bucket to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateBucket {
    /// Checked by the gateway against S3's rules; the core takes any name of 1 to 255 bytes.
    pub name: String,
    /// Who pays.
    pub tenant: TenantId,
    /// Canonical id of the owner.
    pub owner: String,
    /// Versioning state at birth.
    pub versioning: Versioning,
    /// Versions may be locked; versioning must be enabled.
    pub lock: bool,
    /// Gateway-owned settings.
    pub settings: Bytes,
}

/// Why a bucket was not made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CreateBucketError {
    /// The name is taken: by this bucket. Whether it is the caller's own decides the gateway.
    #[error("the bucket name is taken")]
    Exists(Box<Bucket>),
    /// Anything else.
    #[error(transparent)]
    Kv(#[from] KvError),
}

/// One condition of a transaction; all must hold at the moment of the commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Bucket of the key.
    pub bucket: Bucket,
    /// The key.
    pub key: Bytes,
    /// What must hold.
    pub must: Must,
}

/// What a check asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Must {
    /// There is a current object (not a delete marker).
    BePresent,
    /// There is none.
    BeAbsent,
    /// The current object has this ETag.
    HaveEtag(String),
    /// The current version has this id.
    HaveVersion(VersionId),
}

/// One write of a transaction.
pub struct TransactWrite {
    /// Bucket of the key.
    pub bucket: Bucket,
    /// The key; each at most once among the writes.
    pub key: Bytes,
    /// What happens to it.
    pub change: Change,
}

/// What a transaction's write does.
pub enum Change {
    /// A new version.
    Put(NewVersion, NewContent),
    /// Deletes the current version (or makes a delete marker, as the bucket's versioning says).
    Delete,
}

/// What a bucket uses, as it is charged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Bytes of all versions, and of parts that no version names.
    pub bytes: u64,
    /// Keys whose newest version is no delete marker.
    pub objects: u64,
    /// All versions that are no delete markers.
    pub versions: u64,
    /// Delete markers.
    pub markers: u64,
    /// Open uploads.
    pub uploads: u64,
    /// Bytes held for open stages and undecided transactions.
    pub reserved: u64,
    /// Versions to come of these.
    pub reserved_versions: u64,
}

/// What an access key stands for.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Secret half; never printed by `Debug`.
    pub secret_key: String,
    /// The tenant it acts for.
    pub tenant: TenantId,
    /// It may do everything.
    pub is_root: bool,
    /// The gateway's own encoding (user, expiry, policy).
    pub settings: Bytes,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("AccessKey");
        fields
            .field("tenant", &self.tenant)
            .field("is_root", &self.is_root)
            .finish_non_exhaustive()
    }
}

impl Usage {
    pub(crate) fn of_row(row: &minikv_proto::row::Usage) -> Usage {
        Usage {
            bytes: row.bytes,
            objects: row.objects,
            versions: row.versions,
            markers: row.markers,
            uploads: row.uploads,
            reserved: row.reserved,
            reserved_versions: row.reserved_versions,
        }
    }

    pub(crate) fn add(&mut self, other: &Usage) {
        self.bytes += other.bytes;
        self.objects += other.objects;
        self.versions += other.versions;
        self.markers += other.markers;
        self.uploads += other.uploads;
        self.reserved += other.reserved;
        self.reserved_versions += other.reserved_versions;
    }
}

/// An access key and its secret, as group 0 holds them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Public half.
    pub access_key: String,
    /// Secret half; never printed by `Debug`.
    pub secret_key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// Verified bytes of a version, in order. An error ends it: the connection must then be reset.
pub type ContentStream = BoxStream<'static, Result<Bytes, KvError>>;

/// A byte range within an object.
pub type ByteRange = Range<u64>;
