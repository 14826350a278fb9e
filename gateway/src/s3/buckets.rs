//! Calls on buckets.

use s3s::S3Response;
use s3s::dto::*;

use super::call::Call;
use super::error::WireError;
use super::headers;
use super::objects::{Reply, timestamp};
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
    let bucket = |bucket: crate::store::Bucket| Bucket {
        bucket_region: Some(REGION.to_owned()),
        creation_date: Some(timestamp(bucket.created_ms)),
        name: Some(bucket.name),
    };
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(page.buckets.into_iter().map(bucket).collect()),
        continuation_token: page.token,
        owner: Some(named_owner(ctx, call.principal.owner_id())),
        prefix: input.prefix,
    }))
}

/// An owner as lists of objects name it, once for each.
pub fn owner(id: String) -> Owner {
    Owner {
        display_name: None,
        id: Some(id),
    }
}

/// An owner with what he is called.
pub fn named_owner(ctx: &OpContext, id: String) -> Owner {
    Owner {
        display_name: ctx.keys().name_of(&id),
        id: Some(id),
    }
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
        Versioning::Enabled => Some(BucketVersioningStatus::from_static(
            BucketVersioningStatus::ENABLED,
        )),
        Versioning::Suspended => Some(BucketVersioningStatus::from_static(
            BucketVersioningStatus::SUSPENDED,
        )),
    };
    Ok(S3Response::new(GetBucketVersioningOutput {
        status,
        ..Default::default()
    }))
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
