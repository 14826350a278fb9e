//! Why a call was not done. Each variant is one answer of S3; which call gives which stands in S3's reference.
//!
//! Always true: after any of them nothing of the call is left behind, except after `Unknown`, whose write may or may not
//! have happened.

use std::future::Future;

use crate::auth::permit::Denied;
use crate::object::checksum::ChecksumError;
use crate::object::complete_plan::CompleteError;
use crate::object::copy_plan::CopyError;
use crate::object::encryption::EncryptionError;
use crate::object::get_plan::GetError;
use crate::object::lock::LockError;
use crate::object::metadata::MetadataError;
use crate::object::name::NameError;
use crate::object::put_plan::TooLarge;
use crate::object::tags::TagError;
use crate::ops::VersionName;
use crate::store::payload::PayloadError;
use crate::store::{IntakeError, KvError, Refusal};

/// A delete marker that stands where an object was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marker {
    /// Its name, where the bucket shows names.
    pub version: Option<VersionName>,
    /// When it was made, ms since 1970.
    pub modified_ms: u64,
}

/// A setting that nobody made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Missing {
    /// Of public access.
    #[error("The public access block configuration was not found")]
    PublicAccessBlock,
    /// Of ownership.
    #[error("The bucket ownership controls were not found")]
    OwnershipControls,
}

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "fields are named after what they hold")]
pub enum OpError {
    #[error("Access Denied")]
    Denied,
    #[error("The specified bucket does not exist")]
    NoSuchBucket { bucket: String },
    #[error("The specified key does not exist.")]
    NoSuchKey { key: String, marker: Option<Marker> },
    #[error("The specified version does not exist.")]
    NoSuchVersion { key: String, version: String },
    /// What was found was overwritten or deleted before its bytes were read. Whoever gets this looks again.
    #[error("The object was replaced while it was read. Please try again.")]
    Replaced,
    /// A delete marker was asked for by its own id.
    #[error("The specified method is not allowed against this resource.")]
    MarkerAsked { marker: Marker },
    #[error(
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )]
    NoSuchUpload { upload: String },
    #[error("Your previous request to create the named bucket succeeded and you already own it.")]
    BucketOwned { bucket: String },
    #[error(
        "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again."
    )]
    BucketTaken { bucket: String },
    #[error("The bucket you tried to delete is not empty")]
    BucketNotEmpty { bucket: String },
    #[error("The specified location-constraint is not valid")]
    Location { asked: String },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("At least one of the pre-conditions you specified did not hold")]
    Precondition { condition: &'static str },
    #[error("Not Modified")]
    NotModified {
        etag: String,
        modified_ms: u64,
        version: Option<VersionName>,
    },
    #[error(transparent)]
    Get(#[from] GetError),
    #[error(transparent)]
    Checksum(#[from] ChecksumError),
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Tag(#[from] TagError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Complete(#[from] CompleteError),
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("{message}")]
    Argument { name: &'static str, message: String },
    #[error("{0}")]
    Request(String),
    #[error(transparent)]
    NotConfigured(Missing),
    #[error("The continuation token provided is incorrect")]
    Token,
    #[error("The quota of this bucket or tenant is used up")]
    QuotaExceeded,
    #[error("Access Denied because object protected by object lock.")]
    Locked,
    #[error("The upload made no progress for too long and was given up")]
    StageGone,
    #[error("The disk is too full to take new data: {0}")]
    NoRoom(String),
    #[error("The service cannot answer now, nothing was changed. Please try again: {0}")]
    Unavailable(String),
    #[error(
        "Whether the write happened could not be learned. Please read before you write again: {0}"
    )]
    Unknown(String),
    #[error("{object} is damaged on disk and has no other copy: {what}")]
    Damaged { object: String, what: String },
}

impl From<Denied> for OpError {
    fn from(_: Denied) -> OpError {
        OpError::Denied
    }
}

impl OpError {
    /// An argument that cannot be so.
    pub fn argument(name: &'static str, message: impl Into<String>) -> OpError {
        OpError::Argument {
            name,
            message: message.into(),
        }
    }

    /// What the core said about a key (or, with an empty key, about the bucket).
    pub fn kv(error: KvError, bucket: &str, key: &str) -> OpError {
        match error {
            KvError::Refused(refusal) => OpError::refused(refusal, bucket, key),
            KvError::Unavailable(why) => OpError::Unavailable(why),
            KvError::NoRoom(why) => OpError::NoRoom(why),
            KvError::Unknown(why) => OpError::Unknown(why),
            KvError::Damaged(what) => {
                let object = if key.is_empty() {
                    format!("bucket {bucket}")
                } else {
                    format!("{bucket}/{key}")
                };
                OpError::Damaged { object, what }
            }
        }
    }

    /// What the core said about a version that was found before.
    pub fn reading(error: KvError, bucket: &str, key: &str) -> OpError {
        match error {
            KvError::Refused(Refusal::NoSuchVersion) => OpError::Replaced,
            error => OpError::kv(error, bucket, key),
        }
    }

    fn refused(refusal: Refusal, bucket: &str, key: &str) -> OpError {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        match refusal {
            Refusal::PreconditionFailed => OpError::Precondition {
                condition: "If-Match or If-None-Match",
            },
            Refusal::NoSuchBucket => OpError::NoSuchBucket { bucket },
            Refusal::BucketExists => OpError::BucketTaken { bucket },
            Refusal::BucketNotEmpty => OpError::BucketNotEmpty { bucket },
            Refusal::NoSuchKey => OpError::NoSuchKey { key, marker: None },
            Refusal::NoSuchVersion => OpError::NoSuchVersion {
                key,
                version: String::new(),
            },
            Refusal::NoSuchUpload => OpError::NoSuchUpload {
                upload: String::new(),
            },
            Refusal::InvalidPart(number) => {
                OpError::Complete(CompleteError::InvalidPart { number })
            }
            Refusal::StageGone => OpError::StageGone,
            Refusal::QuotaExceeded => OpError::QuotaExceeded,
            Refusal::Locked => OpError::Locked,
            Refusal::NoLock => LockError::NoLock.into(),
            Refusal::LockNeedsVersions => LockError::VersionsLocked.into(),
            // Refusals of calls that are not made from here.
            other => OpError::Request(other.to_string()),
        }
    }

    /// What a body came to.
    pub fn intake(error: IntakeError, bucket: &str, key: &str) -> OpError {
        match error {
            IntakeError::Payload(error) => OpError::Payload(error),
            IntakeError::Checksum(error) => OpError::Checksum(error),
            IntakeError::Kv(error) => OpError::kv(error, bucket, key),
            IntakeError::TooLarge(error) => OpError::TooLarge(error),
        }
    }

    /// Names the upload in an answer that is about one.
    pub fn of_upload(self, upload: &str) -> OpError {
        match self {
            OpError::NoSuchUpload { .. } => OpError::NoSuchUpload {
                upload: upload.to_owned(),
            },
            other => other,
        }
    }
}

/// How often a read begins anew.
const LOOKS: usize = 32;

/// Does a read anew while what it found is replaced under its hands: a key that is overwritten all the time is there all
/// the time.
pub(super) async fn while_replaced<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, OpError>
where
    F: Future<Output = Result<T, OpError>>,
{
    for _ in 0..LOOKS {
        match attempt().await {
            Err(OpError::Replaced) => {}
            other => return other,
        }
    }
    Err(OpError::Unavailable(
        "the object is replaced faster than it can be read".to_owned(),
    ))
}
