//! One S3 call per file, each read top to bottom like a table of contents: permit, plan, stage, commit, reply.
//!
//! Calls are typed and know nothing of HTTP or XML; the wire is translated in `s3/`, and a simulated client or another
//! front end calls these functions as they are.

mod abort_multipart_upload;
mod bucket_settings;
mod complete_multipart_upload;
mod compression;
mod copy_object;
mod create_bucket;
mod create_multipart_upload;
mod delete_bucket;
mod delete_object;
mod delete_objects;
mod encryption;
mod error;
mod get_object;
mod get_object_attributes;
mod get_object_tagging;
mod head_bucket;
mod head_object;
mod lifecycle;
mod list_buckets;
mod list_multipart_uploads;
mod list_object_versions;
mod list_objects;
mod list_parts;
mod object_lock;
mod object_retention;
mod put_object;
mod put_object_tagging;
mod upload_part;
mod upload_part_copy;
mod version_name;

use std::sync::Arc;

use parking_lot::RwLock;

use crate::auth::access_key::KeyStore;
use crate::auth::principal::Principal;
use crate::object::encryption::ring::KeyRing;
use crate::object::token::TokenKey;
use crate::store::{Credentials, Store};

pub use abort_multipart_upload::{AbortMultipartUpload, abort_multipart_upload};
pub use bucket_settings::{
    cors_rules, get_bucket_cors, get_bucket_encryption, get_bucket_tagging, get_ownership_controls,
    get_public_access_block, put_bucket_cors, put_bucket_encryption, put_bucket_tagging,
    put_bucket_versioning, put_ownership_controls, put_public_access_block,
};
pub use complete_multipart_upload::{
    CompleteMultipartUpload, CompleteReply, complete_multipart_upload,
};
pub use compression::{get_bucket_compression, put_bucket_compression};
pub use copy_object::{CopyObject, CopyReply, CopySource, copy_object};
pub use create_bucket::{CreateBucketCall, create_bucket};
pub use create_multipart_upload::{
    CreateMultipartUpload, CreateUploadReply, create_multipart_upload,
};
pub use delete_bucket::delete_bucket;
pub use delete_object::{DeleteObject, DeleteReply, delete_object};
pub use delete_objects::{DeleteObjects, DeleteOutcome, DeleteTarget, delete_objects};
pub use encryption::random_key;
pub use error::{Marker, Missing, OpError};
pub use get_object::{GetObject, GetReply, get_object};
pub use get_object_attributes::{GetObjectAttributes, ObjectAttributes, get_object_attributes};
pub use get_object_tagging::{TaggedObject, get_object_tagging};
pub use head_bucket::head_bucket;
pub use head_object::{ObjectHead, head_object, object_owner};
pub use lifecycle::{Abort, get_bucket_lifecycle, put_bucket_lifecycle};
pub use list_buckets::{BucketsPage, ListBuckets, list_buckets};
pub use list_multipart_uploads::{ListUploads, UploadLine, UploadsReply, list_multipart_uploads};
pub use list_object_versions::{ListVersions, VersionLine, VersionsReply, list_object_versions};
pub use list_objects::{ListObjects, ObjectLine, ObjectsReply, Start, list_objects};
pub use list_parts::{ListParts, PartLine, PartsReply, list_parts};
pub use object_lock::{get_object_lock_configuration, put_object_lock_configuration};
pub use object_retention::{
    get_object_legal_hold, get_object_retention, put_object_legal_hold, put_object_retention,
};
pub use put_object::{PutObject, PutReply, put_object};
pub use put_object_tagging::put_object_tagging;
pub use upload_part::{PartReply, UploadPart, upload_part};
pub use upload_part_copy::{PartCopyReply, UploadPartCopy, upload_part_copy};
pub use version_name::VersionName;

/// The one region that this store is.
pub const REGION: &str = "us-east-1";

/// What every call needs. Cheap to clone.
#[derive(Clone)]
pub struct OpContext {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    keys: Arc<KeyStore>,
    tokens: TokenKey,
    ring: RwLock<Arc<KeyRing>>,
    rules: lifecycle::RulesRead,
}

impl OpContext {
    /// On a store whose root key is this, with these master keys.
    pub fn new(store: Store, root: &Credentials, ring: KeyRing) -> OpContext {
        let keys = KeyStore::new();
        keys.put(
            &root.access_key,
            &root.secret_key,
            Principal::root(&root.access_key),
        );
        let tokens = TokenKey::derive(root.secret_key.as_bytes());
        OpContext {
            inner: Arc::new(Inner {
                store,
                keys: Arc::new(keys),
                tokens,
                ring: RwLock::new(Arc::new(ring)),
                rules: lifecycle::RulesRead::default(),
            }),
        }
    }

    /// The core.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// All keys that this gateway knows.
    pub fn keys(&self) -> &Arc<KeyStore> {
        &self.inner.keys
    }

    /// The master keys, as they are now.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.inner.ring.read().clone()
    }

    /// The operator changed the master keys. Calls under way go on with those they began with.
    pub fn replace_ring(&self, ring: KeyRing) {
        *self.inner.ring.write() = Arc::new(ring);
    }

    /// Seals and opens continuation tokens.
    pub fn tokens(&self) -> &TokenKey {
        &self.inner.tokens
    }
}
