//! Who may see a bucket: access control lists, ownership, public access, policies. There is one answer to all of them:
//! its owner, and nobody else.
//!
//! Always true: what says exactly that is taken; what says anything else is refused by name, and nothing of it is kept.

use s3s::S3Response;
use s3s::dto::*;

use super::call::Call;
use super::error::WireError;
use super::headers;
use super::objects::Reply;
use super::xml::Document;
use crate::auth::permit::Action;
use crate::ops::{self, OpContext};

/// The list of whatever belongs to this owner.
fn answer_full_control(ctx: &OpContext, call: &Call, id: &str) {
    const GRANTEE: &str =
        "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"";
    let mut document = Document::new("AccessControlPolicy");
    document.somebody(ctx, "Owner", id);
    document.inside("AccessControlList", |list| {
        list.inside("Grant", |grant| {
            grant.inside_with("Grantee", GRANTEE, |grantee| grantee.identity(ctx, id));
            grant.element("Permission", Permission::FULL_CONTROL);
        });
    });
    call.answer_with(document);
}

/// Whether a list, in a header or a document, says what is true anyway. Headers that say more were refused before.
fn says_the_truth(
    call: &Call,
    policy: Option<AccessControlPolicy>,
    owner: &str,
) -> Result<(), WireError> {
    let canned = call.header("x-amz-acl").filter(|acl| !acl.is_empty());
    let policy = match (canned, policy) {
        (Some(_), None) => return Ok(()),
        (None, Some(policy)) => policy,
        (Some(_), Some(_)) => {
            let message = "This request does not support content";
            return Err(WireError::bad("UnexpectedContent", message));
        }
        (None, None) => {
            let message = "Your request was missing a required header";
            return Err(WireError::bad("MissingSecurityHeader", message)
                .detail("MissingHeaderName", "x-amz-acl"));
        }
    };
    let grants = policy.grants.unwrap_or_default();
    let of_owner = |grant: &Grant| {
        let grantee = grant.grantee.as_ref();
        let permission = grant.permission.as_ref();
        grantee.is_some_and(|grantee| grantee.id.as_deref() == Some(owner) && grantee.uri.is_none())
            && permission.is_some_and(|granted| granted.as_str() == Permission::FULL_CONTROL)
    };
    let owned = policy.owner.and_then(|owner| owner.id);
    if owned.is_some_and(|id| id != owner) || grants.len() != 1 || !grants.iter().all(of_owner) {
        // S3's answer where ACLs do not count, as everywhere here.
        let message = "The bucket does not allow ACLs: the only one is its owner's FULL_CONTROL";
        return Err(WireError::bad("AccessControlListNotSupported", message));
    }
    Ok(())
}

pub async fn get_bucket_acl(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketAclInput,
) -> Reply<GetBucketAclOutput> {
    let bucket = headers::bucket(call, input.bucket);
    let facts = ops::head_bucket(ctx, &call.principal, Action::GetBucketSettings, &bucket).await?;
    answer_full_control(ctx, call, &facts.owner);
    Ok(S3Response::new(GetBucketAclOutput::default()))
}

pub async fn put_bucket_acl(
    ctx: &OpContext,
    call: &Call,
    input: PutBucketAclInput,
) -> Reply<PutBucketAclOutput> {
    let bucket = headers::bucket(call, input.bucket);
    let facts = ops::head_bucket(ctx, &call.principal, Action::PutBucketAcl, &bucket).await?;
    says_the_truth(call, input.access_control_policy, &facts.owner)?;
    Ok(S3Response::new(PutBucketAclOutput::default()))
}

/// The object is there, and whose it is.
async fn object_owner(
    ctx: &OpContext,
    call: &Call,
    bucket: String,
    key: String,
    version: Option<String>,
) -> Result<String, WireError> {
    let request = ops::GetObject {
        bucket: headers::bucket(call, bucket),
        key,
        version,
        ..Default::default()
    };
    Ok(ops::object_owner(ctx, &call.principal, request).await?)
}

pub async fn get_object_acl(
    ctx: &OpContext,
    call: &Call,
    input: GetObjectAclInput,
) -> Reply<GetObjectAclOutput> {
    let id = object_owner(ctx, call, input.bucket, input.key, input.version_id).await?;
    answer_full_control(ctx, call, &id);
    Ok(S3Response::new(GetObjectAclOutput::default()))
}

pub async fn put_object_acl(
    ctx: &OpContext,
    call: &Call,
    input: PutObjectAclInput,
) -> Reply<PutObjectAclOutput> {
    let bucket = headers::bucket(call, input.bucket.clone());
    ops::head_bucket(ctx, &call.principal, Action::PutObjectAcl, &bucket).await?;
    let owner = object_owner(ctx, call, input.bucket, input.key, input.version_id).await?;
    says_the_truth(call, input.access_control_policy, &owner)?;
    Ok(S3Response::new(PutObjectAclOutput::default()))
}

/// What every bucket has, unless its owner took it away: ACLs do not count. They do not then, either.
pub async fn get_bucket_ownership_controls(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketOwnershipControlsInput,
) -> Reply<GetBucketOwnershipControlsOutput> {
    let bucket = headers::bucket(call, input.bucket);
    ops::get_ownership_controls(ctx, &call.principal, &bucket).await?;
    let mut document = Document::new("OwnershipControls");
    document.inside("Rule", |rule| {
        rule.element("ObjectOwnership", ObjectOwnership::BUCKET_OWNER_ENFORCED);
    });
    call.answer_with(document);
    Ok(S3Response::new(GetBucketOwnershipControlsOutput::default()))
}

pub async fn put_bucket_ownership_controls(
    ctx: &OpContext,
    call: &Call,
    input: PutBucketOwnershipControlsInput,
) -> Reply<PutBucketOwnershipControlsOutput> {
    let [rule] = input.ownership_controls.rules.as_slice() else {
        return Err(WireError::malformed_xml());
    };
    match rule.object_ownership.as_str() {
        ObjectOwnership::BUCKET_OWNER_ENFORCED => {}
        other @ (ObjectOwnership::BUCKET_OWNER_PREFERRED | ObjectOwnership::OBJECT_WRITER) => {
            let what = format!("PutBucketOwnershipControls with {other}");
            return Err(WireError::not_implemented(&what));
        }
        _ => return Err(WireError::malformed_xml()),
    }
    let bucket = headers::bucket(call, input.bucket);
    ops::put_ownership_controls(ctx, &call.principal, &bucket, true).await?;
    Ok(S3Response::new(PutBucketOwnershipControlsOutput::default()))
}

pub async fn delete_bucket_ownership_controls(
    ctx: &OpContext,
    call: &Call,
    input: DeleteBucketOwnershipControlsInput,
) -> Reply<DeleteBucketOwnershipControlsOutput> {
    let bucket = headers::bucket(call, input.bucket);
    ops::put_ownership_controls(ctx, &call.principal, &bucket, false).await?;
    Ok(S3Response::new(
        DeleteBucketOwnershipControlsOutput::default(),
    ))
}

pub async fn get_public_access_block(
    ctx: &OpContext,
    call: &Call,
    input: GetPublicAccessBlockInput,
) -> Reply<GetPublicAccessBlockOutput> {
    let bucket = headers::bucket(call, input.bucket);
    ops::get_public_access_block(ctx, &call.principal, &bucket).await?;
    let mut document = Document::new("PublicAccessBlockConfiguration");
    for name in [
        "BlockPublicAcls",
        "IgnorePublicAcls",
        "BlockPublicPolicy",
        "RestrictPublicBuckets",
    ] {
        document.flag(name, true);
    }
    call.answer_with(document);
    Ok(S3Response::new(GetPublicAccessBlockOutput::default()))
}

/// Nothing here is ever public, so everything may be blocked, and nothing may be let through.
pub async fn put_public_access_block(
    ctx: &OpContext,
    call: &Call,
    input: PutPublicAccessBlockInput,
) -> Reply<PutPublicAccessBlockOutput> {
    let asked = input.public_access_block_configuration;
    for (name, blocked) in [
        ("BlockPublicAcls", asked.block_public_acls),
        ("IgnorePublicAcls", asked.ignore_public_acls),
        ("BlockPublicPolicy", asked.block_public_policy),
        ("RestrictPublicBuckets", asked.restrict_public_buckets),
    ] {
        if blocked != Some(true) {
            let what = format!("PutPublicAccessBlock without {name}");
            return Err(WireError::not_implemented(&what));
        }
    }
    let bucket = headers::bucket(call, input.bucket);
    ops::put_public_access_block(ctx, &call.principal, &bucket, true).await?;
    Ok(S3Response::new(PutPublicAccessBlockOutput::default()))
}

pub async fn delete_public_access_block(
    ctx: &OpContext,
    call: &Call,
    input: DeletePublicAccessBlockInput,
) -> Reply<DeletePublicAccessBlockOutput> {
    let bucket = headers::bucket(call, input.bucket);
    ops::put_public_access_block(ctx, &call.principal, &bucket, false).await?;
    Ok(S3Response::new(DeletePublicAccessBlockOutput::default()))
}

/// There is none to delete, and S3 finds nothing wrong with that.
pub async fn delete_bucket_policy(
    ctx: &OpContext,
    call: &Call,
    input: DeleteBucketPolicyInput,
) -> Reply<DeleteBucketPolicyOutput> {
    let bucket = headers::bucket(call, input.bucket);
    ops::head_bucket(ctx, &call.principal, Action::DeleteBucketPolicy, &bucket).await?;
    Ok(S3Response::new(DeleteBucketPolicyOutput::default()))
}
