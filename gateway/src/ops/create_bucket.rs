//! CreateBucket.

use crate::auth::permit::{Action, permit};
use crate::auth::principal::Principal;
use crate::object::name::check_bucket_name;
use crate::ops::{OpContext, OpError, REGION};
use crate::store::{Bucket, CreateBucket, CreateBucketError, Versioning};

/// The call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CreateBucketCall {
    /// Its name.
    pub name: String,
    /// `<LocationConstraint>`.
    pub location: Option<String>,
    /// Versions may be locked: versioning is enabled from the start, for ever.
    pub lock: bool,
}

/// Makes it, in the caller's tenant. Answered after every group knows it.
pub async fn create_bucket(
    ctx: &OpContext,
    who: &Principal,
    request: CreateBucketCall,
) -> Result<Bucket, OpError> {
    let owner = who.owner_id();
    permit(who, Action::CreateBucket, who.tenant, &owner)?;
    check_bucket_name(&request.name)?;
    if let Some(location) = request
        .location
        .filter(|location| !location.is_empty() && location != REGION)
    {
        return Err(OpError::Location { asked: location });
    }
    let create = CreateBucket {
        name: request.name.clone(),
        tenant: who.tenant,
        owner,
        versioning: match request.lock {
            true => Versioning::Enabled,
            false => Versioning::Off,
        },
        lock: request.lock,
        settings: bytes::Bytes::new(),
    };
    ctx.store()
        .kv()
        .create_bucket(create)
        .await
        .map_err(|error| match error {
            CreateBucketError::Exists(bucket) if who.is_owner(&bucket.owner) => {
                OpError::BucketOwned {
                    bucket: request.name,
                }
            }
            CreateBucketError::Exists(_) => OpError::BucketTaken {
                bucket: request.name,
            },
            CreateBucketError::Kv(error) => OpError::kv(error, &request.name, ""),
        })
}
