//! Calls on buckets.

use s3s::S3Response;
use s3s::dto::*;

use super::call::Call;
use super::error::WireError;
use super::headers;
use super::objects::Reply;
use super::xml::Document;
use crate::auth::permit::Action;
use crate::ops::{self, OpContext, REGION};
use crate::store::Versioning;

pub async fn list_buckets(
    ctx: &OpContext,
    call: &Call,
    input: ListBucketsInput,
) -> Reply<ListBucketsOutput> {
    let request = ops::ListBuckets {
        prefix: input.prefix.clone().unwrap_or_default(),
        region: input.bucket_region,
        max: input.max_buckets,
        token: input.continuation_token,
    };
    let page = ops::list_buckets(ctx, &call.principal, request).await?;
    let mut document =
        Document::with_capacity("ListAllMyBucketsResult", 512 + page.buckets.len() * 192);
    document.somebody(ctx, "Owner", &call.principal.owner_id());
    document.inside("Buckets", |list| {
        for bucket in &page.buckets {
            list.inside("Bucket", |line| {
                line.element("Name", &bucket.name);
                line.moment("CreationDate", bucket.created_ms);
                line.element("BucketRegion", REGION);
            });
        }
    });
    document.maybe("ContinuationToken", page.token);
    document.maybe("Prefix", input.prefix);
    call.answer_with(document);
    Ok(S3Response::new(ListBucketsOutput::default()))
}

pub async fn create_bucket(
    ctx: &OpContext,
    call: &Call,
    input: CreateBucketInput,
) -> Reply<CreateBucketOutput> {
    let location = input
        .create_bucket_configuration
        .and_then(|configuration| configuration.location_constraint);
    let request = ops::CreateBucketCall {
        name: input.bucket,
        location: location.map(|location| location.as_str().to_owned()),
        lock: call
            .header("x-amz-bucket-object-lock-enabled")
            .is_some_and(|value| value.eq_ignore_ascii_case("true")),
    };
    let bucket = ops::create_bucket(ctx, &call.principal, request).await?;
    Ok(S3Response::new(CreateBucketOutput {
        location: Some(format!("/{}", bucket.name)),
    }))
}

pub async fn head_bucket(
    ctx: &OpContext,
    call: &Call,
    input: HeadBucketInput,
) -> Reply<HeadBucketOutput> {
    let bucket = headers::bucket(call, input.bucket);
    ops::head_bucket(ctx, &call.principal, Action::ListBucket, &bucket).await?;
    Ok(S3Response::new(HeadBucketOutput {
        bucket_region: Some(REGION.to_owned()),
        ..Default::default()
    }))
}

pub async fn delete_bucket(
    ctx: &OpContext,
    call: &Call,
    input: DeleteBucketInput,
) -> Reply<DeleteBucketOutput> {
    ops::delete_bucket(ctx, &call.principal, &headers::bucket(call, input.bucket)).await?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}

/// S3 says nothing for us-east-1.
pub async fn get_bucket_location(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketLocationInput,
) -> Reply<GetBucketLocationOutput> {
    let bucket = headers::bucket(call, input.bucket);
    ops::head_bucket(ctx, &call.principal, Action::GetBucketLocation, &bucket).await?;
    call.answer_with(Document::new("LocationConstraint"));
    Ok(S3Response::new(GetBucketLocationOutput::default()))
}

pub async fn get_bucket_versioning(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketVersioningInput,
) -> Reply<GetBucketVersioningOutput> {
    let bucket = headers::bucket(call, input.bucket);
    let bucket = ops::head_bucket(ctx, &call.principal, Action::GetBucketSettings, &bucket).await?;
    let status = match bucket.versioning {
        Versioning::Off => None,
        Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
        Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
    };
    let mut document = Document::new("VersioningConfiguration");
    document.maybe("Status", status);
    call.answer_with(document);
    Ok(S3Response::new(GetBucketVersioningOutput::default()))
}

pub async fn put_bucket_versioning(
    ctx: &OpContext,
    call: &Call,
    input: PutBucketVersioningInput,
) -> Reply<PutBucketVersioningOutput> {
    let asked = input.versioning_configuration;
    match asked.mfa_delete.as_ref().map(MFADelete::as_str) {
        None | Some(MFADelete::DISABLED) => {}
        Some(MFADelete::ENABLED) => return Err(WireError::not_implemented("MFA delete")),
        Some(_) => return Err(WireError::malformed_xml()),
    }
    let versioning = match asked.status.as_ref().map(BucketVersioningStatus::as_str) {
        Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
        Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
        Some(_) => return Err(WireError::malformed_xml()),
        None => {
            return Err(WireError::bad(
                "IllegalVersioningConfigurationException",
                "The Versioning element must be specified",
            ));
        }
    };
    let bucket = headers::bucket(call, input.bucket);
    ops::put_bucket_versioning(ctx, &call.principal, &bucket, versioning).await?;
    Ok(S3Response::new(PutBucketVersioningOutput::default()))
}
