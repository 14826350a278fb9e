//! s3s's trait, each method handed to the function that translates it.
//!
//! What is not here answers NotImplemented by its name, in s3s's default; the route table refuses it before.

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use super::call::Call;
use super::{
    acl, attributes, buckets, cors, encryption, lifecycle, listings, lock, objects, tagging,
    unconfigured, uploads,
};
use crate::ops::OpContext;

/// The store behind s3s's trait.
pub struct Wire {
    ctx: OpContext,
}

impl Wire {
    /// On a store.
    pub fn new(ctx: OpContext) -> Wire {
        Wire { ctx }
    }
}

macro_rules! translated {
    ($($method:ident: $input:ident -> $output:ident = $module:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Wire {
            $(
                async fn $method(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    let call = Call::of(&request)?;
                    $module::$method(&self.ctx, &call, request.input).await.map_err(|error| call.fail(error))
                }
            )*

            // By default s3s would do it as PutObject, past the route table's name for it.
            async fn post_object(&self, request: S3Request<PostObjectInput>) -> S3Result<S3Response<PostObjectOutput>> {
                let call = Call::of(&request)?;
                Err(call.fail(super::error::WireError::not_implemented("PostObject")))
            }
        }
    };
}

translated! {
    abort_multipart_upload: AbortMultipartUploadInput -> AbortMultipartUploadOutput = uploads;
    complete_multipart_upload: CompleteMultipartUploadInput -> CompleteMultipartUploadOutput = uploads;
    copy_object: CopyObjectInput -> CopyObjectOutput = objects;
    create_bucket: CreateBucketInput -> CreateBucketOutput = buckets;
    create_multipart_upload: CreateMultipartUploadInput -> CreateMultipartUploadOutput = uploads;
    delete_bucket: DeleteBucketInput -> DeleteBucketOutput = buckets;
    delete_bucket_cors: DeleteBucketCorsInput -> DeleteBucketCorsOutput = cors;
    delete_bucket_encryption: DeleteBucketEncryptionInput -> DeleteBucketEncryptionOutput = encryption;
    delete_bucket_lifecycle: DeleteBucketLifecycleInput -> DeleteBucketLifecycleOutput = lifecycle;
    delete_bucket_ownership_controls: DeleteBucketOwnershipControlsInput -> DeleteBucketOwnershipControlsOutput = acl;
    delete_bucket_policy: DeleteBucketPolicyInput -> DeleteBucketPolicyOutput = acl;
    delete_bucket_tagging: DeleteBucketTaggingInput -> DeleteBucketTaggingOutput = tagging;
    delete_object: DeleteObjectInput -> DeleteObjectOutput = objects;
    delete_object_tagging: DeleteObjectTaggingInput -> DeleteObjectTaggingOutput = tagging;
    delete_objects: DeleteObjectsInput -> DeleteObjectsOutput = objects;
    delete_public_access_block: DeletePublicAccessBlockInput -> DeletePublicAccessBlockOutput = acl;
    get_bucket_accelerate_configuration: GetBucketAccelerateConfigurationInput -> GetBucketAccelerateConfigurationOutput = unconfigured;
    get_bucket_acl: GetBucketAclInput -> GetBucketAclOutput = acl;
    get_bucket_cors: GetBucketCorsInput -> GetBucketCorsOutput = cors;
    get_bucket_encryption: GetBucketEncryptionInput -> GetBucketEncryptionOutput = encryption;
    get_bucket_lifecycle_configuration: GetBucketLifecycleConfigurationInput -> GetBucketLifecycleConfigurationOutput = lifecycle;
    get_bucket_location: GetBucketLocationInput -> GetBucketLocationOutput = buckets;
    get_bucket_logging: GetBucketLoggingInput -> GetBucketLoggingOutput = unconfigured;
    get_bucket_notification_configuration: GetBucketNotificationConfigurationInput -> GetBucketNotificationConfigurationOutput = unconfigured;
    get_bucket_ownership_controls: GetBucketOwnershipControlsInput -> GetBucketOwnershipControlsOutput = acl;
    get_bucket_policy: GetBucketPolicyInput -> GetBucketPolicyOutput = unconfigured;
    get_bucket_policy_status: GetBucketPolicyStatusInput -> GetBucketPolicyStatusOutput = unconfigured;
    get_bucket_replication: GetBucketReplicationInput -> GetBucketReplicationOutput = unconfigured;
    get_bucket_request_payment: GetBucketRequestPaymentInput -> GetBucketRequestPaymentOutput = unconfigured;
    get_bucket_tagging: GetBucketTaggingInput -> GetBucketTaggingOutput = tagging;
    get_bucket_versioning: GetBucketVersioningInput -> GetBucketVersioningOutput = buckets;
    get_bucket_website: GetBucketWebsiteInput -> GetBucketWebsiteOutput = unconfigured;
    get_object: GetObjectInput -> GetObjectOutput = objects;
    get_object_acl: GetObjectAclInput -> GetObjectAclOutput = acl;
    get_object_attributes: GetObjectAttributesInput -> GetObjectAttributesOutput = attributes;
    get_object_legal_hold: GetObjectLegalHoldInput -> GetObjectLegalHoldOutput = lock;
    get_object_lock_configuration: GetObjectLockConfigurationInput -> GetObjectLockConfigurationOutput = lock;
    get_object_retention: GetObjectRetentionInput -> GetObjectRetentionOutput = lock;
    get_object_tagging: GetObjectTaggingInput -> GetObjectTaggingOutput = tagging;
    get_public_access_block: GetPublicAccessBlockInput -> GetPublicAccessBlockOutput = acl;
    head_bucket: HeadBucketInput -> HeadBucketOutput = buckets;
    head_object: HeadObjectInput -> HeadObjectOutput = objects;
    list_buckets: ListBucketsInput -> ListBucketsOutput = buckets;
    list_multipart_uploads: ListMultipartUploadsInput -> ListMultipartUploadsOutput = uploads;
    list_object_versions: ListObjectVersionsInput -> ListObjectVersionsOutput = listings;
    list_objects: ListObjectsInput -> ListObjectsOutput = listings;
    list_objects_v2: ListObjectsV2Input -> ListObjectsV2Output = listings;
    list_parts: ListPartsInput -> ListPartsOutput = uploads;
    put_bucket_acl: PutBucketAclInput -> PutBucketAclOutput = acl;
    put_bucket_cors: PutBucketCorsInput -> PutBucketCorsOutput = cors;
    put_bucket_encryption: PutBucketEncryptionInput -> PutBucketEncryptionOutput = encryption;
    put_bucket_lifecycle_configuration: PutBucketLifecycleConfigurationInput -> PutBucketLifecycleConfigurationOutput = lifecycle;
    put_bucket_ownership_controls: PutBucketOwnershipControlsInput -> PutBucketOwnershipControlsOutput = acl;
    put_bucket_tagging: PutBucketTaggingInput -> PutBucketTaggingOutput = tagging;
    put_bucket_versioning: PutBucketVersioningInput -> PutBucketVersioningOutput = buckets;
    put_object: PutObjectInput -> PutObjectOutput = objects;
    put_object_acl: PutObjectAclInput -> PutObjectAclOutput = acl;
    put_object_legal_hold: PutObjectLegalHoldInput -> PutObjectLegalHoldOutput = lock;
    put_object_lock_configuration: PutObjectLockConfigurationInput -> PutObjectLockConfigurationOutput = lock;
    put_object_retention: PutObjectRetentionInput -> PutObjectRetentionOutput = lock;
    put_object_tagging: PutObjectTaggingInput -> PutObjectTaggingOutput = tagging;
    put_public_access_block: PutPublicAccessBlockInput -> PutPublicAccessBlockOutput = acl;
    upload_part: UploadPartInput -> UploadPartOutput = uploads;
    upload_part_copy: UploadPartCopyInput -> UploadPartCopyOutput = uploads;
}
