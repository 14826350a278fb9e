//! Settings that nobody configured, because nobody can yet: what S3 answers then, with its exact codes.
//!
//! Terraform, mc and backup tools ask for all of them about every bucket; the codes they tolerate are exact.

use http::StatusCode;
use s3s::S3Response;
use s3s::dto::*;

use super::buckets::named_owner;
use super::call::Call;
use super::error::WireError;
use super::headers;
use super::objects::Reply;
use crate::auth::permit::Action;
use crate::ops::{self, OpContext};
use crate::store::Bucket as Facts;

async fn facts(ctx: &OpContext, call: &Call, bucket: String) -> Result<Facts, WireError> {
    let bucket = headers::bucket(call, bucket);
    Ok(ops::head_bucket(ctx, &call.principal, Action::GetBucketSettings, &bucket).await?)
}

/// The bucket is there, the setting is not.
async fn none<T>(
    ctx: &OpContext,
    call: &Call,
    bucket: String,
    code: &'static str,
    message: &str,
) -> Reply<T> {
    let facts = facts(ctx, call, bucket).await?;
    Err(WireError::new(code, StatusCode::NOT_FOUND, message).detail("BucketName", facts.name))
}

/// The object is there, and whose it is.
async fn object(
    ctx: &OpContext,
    call: &Call,
    bucket: String,
    key: String,
    version: Option<String>,
) -> Result<String, WireError> {
    let bucket = headers::bucket(call, bucket);
    let request = ops::GetObject {
        bucket,
        key,
        version,
        ..Default::default()
    };
    Ok(ops::object_owner(ctx, &call.principal, request).await?)
}

fn full_control(ctx: &OpContext, id: String) -> Grants {
    let grantee = Grantee {
        display_name: ctx.keys().name_of(&id),
        email_address: None,
        id: Some(id),
        type_: Type::from_static(Type::CANONICAL_USER),
        uri: None,
    };
    vec![Grant {
        grantee: Some(grantee),
        permission: Some(Permission::from_static(Permission::FULL_CONTROL)),
    }]
}

macro_rules! not_found {
    ($($method:ident: $input:ident -> $output:ident = $code:literal, $message:literal;)*) => {
        $(
            pub async fn $method(ctx: &OpContext, call: &Call, input: $input) -> Reply<$output> {
                none(ctx, call, input.bucket, $code, $message).await
            }
        )*
    };
}

not_found! {
    get_bucket_policy: GetBucketPolicyInput -> GetBucketPolicyOutput =
        "NoSuchBucketPolicy", "The bucket policy does not exist";
    get_bucket_policy_status: GetBucketPolicyStatusInput -> GetBucketPolicyStatusOutput =
        "NoSuchBucketPolicy", "The bucket policy does not exist";
    get_public_access_block: GetPublicAccessBlockInput -> GetPublicAccessBlockOutput =
        "NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found";
    get_bucket_website: GetBucketWebsiteInput -> GetBucketWebsiteOutput =
        "NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration";
    get_bucket_replication: GetBucketReplicationInput -> GetBucketReplicationOutput =
        "ReplicationConfigurationNotFoundError", "The replication configuration was not found";
    get_object_lock_configuration: GetObjectLockConfigurationInput -> GetObjectLockConfigurationOutput =
        "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket";
}

pub async fn get_bucket_accelerate_configuration(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketAccelerateConfigurationInput,
) -> Reply<GetBucketAccelerateConfigurationOutput> {
    facts(ctx, call, input.bucket).await?;
    Ok(S3Response::new(
        GetBucketAccelerateConfigurationOutput::default(),
    ))
}

pub async fn get_bucket_request_payment(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketRequestPaymentInput,
) -> Reply<GetBucketRequestPaymentOutput> {
    facts(ctx, call, input.bucket).await?;
    let payer = Some(Payer::from_static(Payer::BUCKET_OWNER));
    Ok(S3Response::new(GetBucketRequestPaymentOutput { payer }))
}

pub async fn get_bucket_logging(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketLoggingInput,
) -> Reply<GetBucketLoggingOutput> {
    facts(ctx, call, input.bucket).await?;
    Ok(S3Response::new(GetBucketLoggingOutput::default()))
}

pub async fn get_bucket_notification_configuration(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketNotificationConfigurationInput,
) -> Reply<GetBucketNotificationConfigurationOutput> {
    facts(ctx, call, input.bucket).await?;
    Ok(S3Response::new(
        GetBucketNotificationConfigurationOutput::default(),
    ))
}

/// What is true here, and what S3 gives new buckets: the bucket's owner owns everything, ACLs do not count.
pub async fn get_bucket_ownership_controls(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketOwnershipControlsInput,
) -> Reply<GetBucketOwnershipControlsOutput> {
    facts(ctx, call, input.bucket).await?;
    let object_ownership = ObjectOwnership::from_static(ObjectOwnership::BUCKET_OWNER_ENFORCED);
    let rules = vec![OwnershipControlsRule { object_ownership }];
    Ok(S3Response::new(GetBucketOwnershipControlsOutput {
        ownership_controls: Some(OwnershipControls { rules }),
    }))
}

pub async fn get_bucket_acl(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketAclInput,
) -> Reply<GetBucketAclOutput> {
    let facts = facts(ctx, call, input.bucket).await?;
    let output = GetBucketAclOutput {
        grants: Some(full_control(ctx, facts.owner.clone())),
        owner: Some(named_owner(ctx, facts.owner)),
    };
    Ok(S3Response::new(output))
}

pub async fn get_object_acl(
    ctx: &OpContext,
    call: &Call,
    input: GetObjectAclInput,
) -> Reply<GetObjectAclOutput> {
    let id = object(ctx, call, input.bucket, input.key, input.version_id).await?;
    Ok(S3Response::new(GetObjectAclOutput {
        grants: Some(full_control(ctx, id.clone())),
        owner: Some(named_owner(ctx, id)),
        ..Default::default()
    }))
}

fn no_lock() -> WireError {
    WireError::invalid("Bucket is missing Object Lock Configuration")
}

pub async fn get_object_retention(
    ctx: &OpContext,
    call: &Call,
    input: GetObjectRetentionInput,
) -> Reply<GetObjectRetentionOutput> {
    object(ctx, call, input.bucket, input.key, input.version_id).await?;
    Err(no_lock())
}

pub async fn get_object_legal_hold(
    ctx: &OpContext,
    call: &Call,
    input: GetObjectLegalHoldInput,
) -> Reply<GetObjectLegalHoldOutput> {
    object(ctx, call, input.bucket, input.key, input.version_id).await?;
    Err(no_lock())
}
