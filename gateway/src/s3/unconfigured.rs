//! Settings that nobody configured, because nobody can yet: what S3 answers then, with its exact codes.
//!
//! Terraform, mc and backup tools ask for all of them about every bucket; the codes they tolerate are exact.

use http::StatusCode;
use s3s::S3Response;
use s3s::dto::*;

use super::call::Call;
use super::error::WireError;
use super::headers;
use super::objects::Reply;
use super::xml::Document;
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

fn answer_full_control(ctx: &OpContext, call: &Call, id: &str) {
    const GRANTEE: &str =
        "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"";
    let mut document = Document::new("AccessControlPolicy");
    document.somebody(ctx, "Owner", id);
    document.inside("AccessControlList", |list| {
        list.inside("Grant", |grant| {
            grant.inside_with("Grantee", GRANTEE, |grantee| grantee.identity(ctx, id));
            grant.element("Permission", "FULL_CONTROL");
        });
    });
    call.answer_with(document);
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
    get_bucket_lifecycle_configuration: GetBucketLifecycleConfigurationInput -> GetBucketLifecycleConfigurationOutput =
        "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist";
    get_bucket_replication: GetBucketReplicationInput -> GetBucketReplicationOutput =
        "ReplicationConfigurationNotFoundError", "The replication configuration was not found";
    get_object_lock_configuration: GetObjectLockConfigurationInput -> GetObjectLockConfigurationOutput =
        "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket";
}

macro_rules! empty {
    ($($method:ident: $input:ident -> $output:ident = $root:literal;)*) => {
        $(
            pub async fn $method(ctx: &OpContext, call: &Call, input: $input) -> Reply<$output> {
                facts(ctx, call, input.bucket).await?;
                call.answer_with(Document::new($root));
                Ok(S3Response::new($output::default()))
            }
        )*
    };
}

empty! {
    get_bucket_accelerate_configuration: GetBucketAccelerateConfigurationInput -> GetBucketAccelerateConfigurationOutput =
        "AccelerateConfiguration";
    get_bucket_logging: GetBucketLoggingInput -> GetBucketLoggingOutput = "BucketLoggingStatus";
    get_bucket_notification_configuration: GetBucketNotificationConfigurationInput -> GetBucketNotificationConfigurationOutput =
        "NotificationConfiguration";
}

pub async fn get_bucket_request_payment(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketRequestPaymentInput,
) -> Reply<GetBucketRequestPaymentOutput> {
    facts(ctx, call, input.bucket).await?;
    let mut document = Document::new("RequestPaymentConfiguration");
    document.element("Payer", "BucketOwner");
    call.answer_with(document);
    Ok(S3Response::new(GetBucketRequestPaymentOutput::default()))
}

/// What is true here, and what S3 gives new buckets: the bucket's owner owns everything, ACLs do not count.
pub async fn get_bucket_ownership_controls(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketOwnershipControlsInput,
) -> Reply<GetBucketOwnershipControlsOutput> {
    facts(ctx, call, input.bucket).await?;
    let mut document = Document::new("OwnershipControls");
    document.inside("Rule", |rule| {
        rule.element("ObjectOwnership", ObjectOwnership::BUCKET_OWNER_ENFORCED);
    });
    call.answer_with(document);
    Ok(S3Response::new(GetBucketOwnershipControlsOutput::default()))
}

pub async fn get_bucket_acl(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketAclInput,
) -> Reply<GetBucketAclOutput> {
    let facts = facts(ctx, call, input.bucket).await?;
    answer_full_control(ctx, call, &facts.owner);
    Ok(S3Response::new(GetBucketAclOutput::default()))
}

pub async fn get_object_acl(
    ctx: &OpContext,
    call: &Call,
    input: GetObjectAclInput,
) -> Reply<GetObjectAclOutput> {
    let id = object(ctx, call, input.bucket, input.key, input.version_id).await?;
    answer_full_control(ctx, call, &id);
    Ok(S3Response::new(GetObjectAclOutput::default()))
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
