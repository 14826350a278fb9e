//! The core's front door: what a gateway may ask of the store, in one process or (later) over the network.
//!
//! Always true:
//! * every answer is linearizable; a LIST page shows each key as it was at some moment between request and answer;
//! * every `Ok` of a write is durable;
//! * a refusal is final and left nothing behind; `Unavailable`, `NoRoom`: nothing was changed, try again later;
//!   `Unknown`: it may or may not have happened, and is never proposed again by us.
//!
//! A `Bucket` is a copy of the facts a request is planned with. Facts that changed meanwhile are noticed at apply
//! (epochs) and the request is planned anew in here; a gateway need not care.

mod types;

use bytes::Bytes;

pub use types::*;

use crate::ids::TenantId;

/// The store. Cheap to clone; all clones speak for the same node.
#[derive(Clone)]
pub struct Kv {}

#[allow(unused_variables, clippy::todo, missing_docs)]
impl Kv {
    // ---- buckets ----

    /// Makes a bucket. Answered after every group knows it.
    pub async fn create_bucket(&self, create: CreateBucket) -> Result<Bucket, CreateBucketError> {
        todo!()
    }

    /// A bucket's facts: cached when known; that there is none is answered only after a linearizable read of group 0.
    pub async fn bucket(&self, name: &str) -> Result<Option<Bucket>, KvError> {
        todo!()
    }

    /// All buckets of a tenant, by name.
    pub async fn buckets(&self, tenant: TenantId) -> Result<Vec<Bucket>, KvError> {
        todo!()
    }

    /// Deletes an empty bucket. `Refused(NoSuchBucket | BucketNotEmpty)`.
    pub async fn delete_bucket(&self, name: &str) -> Result<(), KvError> {
        todo!()
    }

    /// Changes versioning, owner or settings: `change` is called on the facts as they are (again, when they change meanwhile).
    /// Id, name, tenant, creation time and epoch stay what they are whatever it does to them.
    pub async fn change_bucket(
        &self,
        name: &str,
        change: impl Fn(&mut Bucket) + Send,
    ) -> Result<Bucket, KvError> {
        todo!()
    }

    // ---- objects ----

    /// Writes a new version. `new.size` must be the content's length.
    pub async fn put(
        &self,
        bucket: &Bucket,
        key: Bytes,
        new: NewVersion,
        content: NewContent,
        conditions: Conditions,
    ) -> Result<Written, KvError> {
        todo!()
    }

    /// Opens a stage for a large body. `declared`: its length when known. The conditions are looked at as advice
    /// (an early 412); `put` decides. Objects above `inline_limit` need a stage.
    pub async fn open_stage(
        &self,
        bucket: &Bucket,
        key: Bytes,
        declared: Option<u64>,
        conditions: &Conditions,
    ) -> Result<StageWriter, KvError> {
        todo!()
    }

    /// Content of up to this many bytes may travel inline.
    pub fn inline_limit(&self) -> usize {
        64 << 10
    }

    /// Finds a version (a delete marker too: the gateway says 404 or 405). `None`: there is none, for sure.
    pub async fn head(
        &self,
        bucket: &Bucket,
        key: &[u8],
        which: &VersionSelector,
    ) -> Result<Option<Version>, KvError> {
        todo!()
    }

    /// The bytes `range` of a version (must lie within `0..size`), verified. Memory stays bounded; what it still
    /// has to read is kept from being released while the stream lives.
    pub fn content(&self, version: &Version, range: ByteRange) -> ContentStream {
        todo!()
    }

    /// The whole content of an empty or inline version, verified, without a stream. `None`: it has chunks, use `content`.
    pub async fn small_content(&self, version: &Version) -> Result<Option<Bytes>, KvError> {
        todo!()
    }

    /// Deletes: `Current` removes the object or makes a delete marker, as versioning says; `Null`/`Id` removes that
    /// version for good. Deleting what is not there is fine (`existed: false`) unless a condition asks for it.
    pub async fn delete(
        &self,
        bucket: &Bucket,
        key: Bytes,
        which: VersionSelector,
        conditions: Conditions,
    ) -> Result<Deleted, KvError> {
        todo!()
    }

    /// Copies without moving bytes when source and target share a vshard (a copy onto itself always does);
    /// otherwise `None` and the gateway copies the bytes. `Refused(NoSuchVersion)`: the source went away meanwhile.
    /// Inline content of up to the inline limit is better copied by `put`.
    pub async fn copy_within(
        &self,
        source: &Version,
        bucket: &Bucket,
        key: Bytes,
        new: NewVersion,
        conditions: Conditions,
    ) -> Result<Option<Written>, KvError> {
        todo!()
    }

    /// One page of a bucket's keys or versions, in key order (versions of a key newest first).
    pub async fn list(&self, bucket: &Bucket, request: ListRequest) -> Result<ListPage, KvError> {
        todo!()
    }

    // ---- multipart uploads ----

    /// Opens an upload.
    pub async fn create_upload(
        &self,
        bucket: &Bucket,
        key: Bytes,
        meta: Bytes,
    ) -> Result<Upload, KvError> {
        todo!()
    }

    /// An open upload (for its meta). Completed and aborted ones are gone.
    pub async fn upload(
        &self,
        bucket: &Bucket,
        key: &[u8],
        id: UploadId,
    ) -> Result<Option<Upload>, KvError> {
        todo!()
    }

    /// Opens a stage for a part. A part of up to `inline_limit` bytes may go inline instead.
    pub async fn open_part_stage(
        &self,
        bucket: &Bucket,
        key: Bytes,
        upload: UploadId,
        number: u32,
        declared: Option<u64>,
    ) -> Result<StageWriter, KvError> {
        todo!()
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
        todo!()
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
        todo!()
    }

    /// Open uploads of a bucket.
    pub async fn uploads(
        &self,
        bucket: &Bucket,
        request: UploadsRequest,
    ) -> Result<UploadsPage, KvError> {
        todo!()
    }

    /// Makes the listed parts an object. `counter` is the one of `parts` that the list was checked against.
    /// Repeatable: an upload completed before answers as it did then.
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
        todo!()
    }

    /// Ends an upload and gives its parts up. `Refused(NoSuchUpload)`.
    pub async fn abort_upload(
        &self,
        bucket: &Bucket,
        key: Bytes,
        upload: UploadId,
    ) -> Result<(), KvError> {
        todo!()
    }

    /// Part numbers and sizes of a completed upload's version, in order; empty for others.
    pub async fn part_sizes(&self, version: &Version) -> Result<Vec<(u32, u64)>, KvError> {
        todo!()
    }

    // ---- transactions ----

    /// All writes or none, if all checks hold. Answers in the order of the writes; `None` for deletes.
    pub async fn transact(
        &self,
        checks: Vec<Check>,
        writes: Vec<TransactWrite>,
    ) -> Result<Vec<Option<Written>>, KvError> {
        todo!()
    }

    // ---- identity ----

    /// The root credentials (first entry of group 0).
    pub async fn root_credentials(&self) -> Result<Credentials, KvError> {
        todo!()
    }
}

/// Takes the body of a stage in pieces of any size; cuts chunks of up to 4 MiB and frames of up to 1 MiB itself.
///
/// Dropped without `finish`: the stage is abandoned soon.
pub struct StageWriter {}

#[allow(unused_variables, clippy::todo)]
impl StageWriter {
    /// Takes the next bytes. Waits while too much is on its way to the disk (a bounded window).
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), KvError> {
        todo!()
    }

    /// A byte came from the client although no whole piece could be written: keeps a slow stage from being abandoned.
    pub fn touch(&self) {}

    /// Bytes taken so far.
    pub fn len(&self) -> u64 {
        0
    }

    /// Nothing taken so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes came: resolves when every frame is durable.
    pub async fn finish(self) -> Result<Staged, KvError> {
        todo!()
    }

    /// The body ended badly: the stage is given up at once.
    pub async fn abandon(self) {}
}
