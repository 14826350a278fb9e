//! May they?
//!
//! Always true:
//! * an action that nothing allows is denied: `permit` has no arm that says yes because it does not know;
//! * a call of `ops` names its action first thing, and a route that `ops` does not know has none to name, so it cannot
//!   be reached (T12).

use minikv_core::ids::TenantId;

use super::principal::{Principal, Role};

/// What a call does, in the words of S3's policies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(
    missing_docs,
    reason = "each is named like the s3: action it stands for"
)]
pub enum Action {
    ListAllMyBuckets,
    CreateBucket,
    DeleteBucket,
    ListBucket,
    ListBucketVersions,
    ListBucketMultipartUploads,
    GetBucketLocation,
    /// Reading any setting of a bucket.
    GetBucketSettings,
    GetObject,
    GetObjectVersion,
    PutObject,
    DeleteObject,
    DeleteObjectVersion,
    GetObjectAttributes,
    GetObjectVersionAttributes,
    GetObjectTagging,
    GetObjectVersionTagging,
    PutObjectTagging,
    PutObjectVersionTagging,
    DeleteObjectTagging,
    DeleteObjectVersionTagging,
    GetBucketTagging,
    PutBucketTagging,
    PutBucketVersioning,
    GetBucketCors,
    PutBucketCors,
    GetEncryptionConfiguration,
    PutEncryptionConfiguration,
    /// Ours: no call of S3 does it.
    PutBucketCompression,
    PutBucketAcl,
    PutObjectAcl,
    DeleteBucketPolicy,
    PutBucketOwnershipControls,
    PutBucketPublicAccessBlock,
    GetBucketObjectLockConfiguration,
    PutBucketObjectLockConfiguration,
    GetObjectRetention,
    PutObjectRetention,
    GetObjectLegalHold,
    PutObjectLegalHold,
    BypassGovernanceRetention,
    GetLifecycleConfiguration,
    PutLifecycleConfiguration,
    AbortMultipartUpload,
    ListMultipartUploadParts,
}

/// They may not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("Access Denied")]
pub struct Denied;

/// Whether `who` may do `action` to something that belongs to `owner`, a canonical id, in `tenant`.
pub fn permit(
    who: &Principal,
    action: Action,
    tenant: TenantId,
    owner: &str,
) -> Result<(), Denied> {
    let _ = action;
    let allowed = match who.role {
        Role::Root => true,
        Role::TenantAdmin => who.tenant == tenant,
        Role::User => who.tenant == tenant && who.is_owner(owner),
    };
    if allowed { Ok(()) } else { Err(Denied) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_ends_at_its_own_edge() {
        let (a, b) = (TenantId(1), TenantId(2));
        let admin = Principal::tenant_admin("demo", b);
        assert_eq!(permit(&admin, Action::GetObject, b, "x"), Ok(()));
        assert_eq!(permit(&admin, Action::GetObject, a, "x"), Err(Denied));
        assert_eq!(
            permit(&Principal::root("k"), Action::GetObject, b, "x"),
            Ok(())
        );
    }

    /// Two users of one tenant are strangers to each other.
    #[test]
    fn a_user_ends_at_what_is_its_own() {
        let (a, b) = (TenantId(1), TenantId(2));
        let user = Principal::user("k", a, "alice");
        assert_eq!(permit(&user, Action::GetObject, a, "alice"), Ok(()));
        assert_eq!(permit(&user, Action::GetObject, a, "bob"), Err(Denied));
        assert_eq!(permit(&user, Action::GetObject, b, "alice"), Err(Denied));
    }
}
