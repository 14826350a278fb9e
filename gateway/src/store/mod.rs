//! How the gateway reaches the core: the one place that names `minikv_core::kv::Kv`.
//!
//! In this process today; a gateway without a disk will reach it over the network from here, and nothing above will
//! notice. What is more than a call has a file of its own: `intake` (a body becomes content), `fetch` (content becomes
//! a body), `scan` (pages become a listing).

mod fetch;
mod intake;
pub mod lifecycle;
pub mod payload;
mod scan;

use minikv_core::kv::Kv;

pub use fetch::Content;
pub use intake::{Coding, Hashing, IntakeError, Packed, Taken};
pub use minikv_core::ids::{TenantId, UploadId, VersionId};
pub use minikv_core::kv::{
    Bucket, BucketLock, Completed, Conditions, CreateBucket, CreateBucketError, Credentials,
    DefaultRetention, Deleted, KvError, ListItem, ListPoint, ListRequest, Lock, LockChange,
    LockMode, NewContent, NewPart, NewVersion, Part, Period, Refusal, Retention, Upload,
    UploadsItem, UploadsRequest, Version, VersionSelector, Versioning, Written,
};
pub use scan::{Parts, Scanned, ScannedUploads};

/// The core, as the gateway uses it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    kv: Kv,
}

impl Store {
    /// On a core in this process.
    pub fn local(kv: Kv) -> Store {
        Store { kv }
    }

    /// Calls that need nothing added.
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// The root credentials, from group 0.
    pub async fn root_credentials(&self) -> Result<Credentials, KvError> {
        self.kv.root_credentials().await
    }
}
