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
    get_bucket_website: GetBucketWebsiteInput -> GetBucketWebsiteOutput =
        "NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration";
    get_bucket_replication: GetBucketReplicationInput -> GetBucketReplicationOutput =
        "ReplicationConfigurationNotFoundError", "The replication configuration was not found";
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
