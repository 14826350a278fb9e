//! Tags of objects and buckets.

use http::StatusCode;
use s3s::S3Response;
use s3s::dto::*;
use s3s::xml::{Deserialize, Deserializer};

use super::call::Call;
use super::error::WireError;
use super::headers;
use super::objects::Reply;
use super::reply_body::ReplyBody;
use super::request_xml;
use super::xml::Document;
use crate::object::tags::{Tagged, Tags};
use crate::ops::{self, OpContext, TaggedObject, VersionName};

fn answer(call: &Call, tags: &Tags) {
    let mut document = Document::new("Tagging");
    document.inside("TagSet", |set| {
        for (key, value) in tags.iter() {
            set.inside("Tag", |tag| {
                tag.element("Key", key);
                tag.element("Value", value);
            });
        }
    });
    call.answer_with(document);
}

fn tags_of(tagged: Tagged, tagging: Tagging) -> Result<Tags, WireError> {
    let pair = |tag: Tag| Some((tag.key?, tag.value?));
    let pairs: Option<Vec<_>> = tagging.tag_set.into_iter().map(pair).collect();
    let pairs = pairs.ok_or_else(WireError::malformed_xml)?;
    Ok(Tags::new(tagged, pairs)?)
}

/// Of a document that came in a form.
pub fn of_xml(tagged: Tagged, xml: &str) -> Result<Tags, WireError> {
    let xml = request_xml::plain(xml.to_owned().into())?;
    let mut reader = Deserializer::new(&xml);
    let tagging = Tagging::deserialize(&mut reader).map_err(|_| WireError::malformed_xml())?;
    reader
        .expect_eof()
        .map_err(|_| WireError::malformed_xml())?;
    tags_of(tagged, tagging)
}

fn object(call: &Call, bucket: String, key: String, version: Option<String>) -> TaggedObject {
    TaggedObject {
        bucket: headers::bucket(call, bucket),
        key,
        version,
    }
}

fn text(version: Option<VersionName>) -> Option<String> {
    version.map(|version| version.to_string())
}

pub async fn get_object_tagging(
    ctx: &OpContext,
    call: &Call,
    input: GetObjectTaggingInput,
) -> Reply<GetObjectTaggingOutput> {
    let asked = object(call, input.bucket, input.key, input.version_id);
    let (tags, version) = ops::get_object_tagging(ctx, &call.principal, asked).await?;
    answer(call, &tags);
    Ok(S3Response::new(GetObjectTaggingOutput {
        version_id: text(version),
        ..Default::default()
    }))
}

pub async fn put_object_tagging(
    ctx: &OpContext,
    call: &Call,
    input: PutObjectTaggingInput,
) -> Reply<PutObjectTaggingOutput> {
    let tags = tags_of(Tagged::Object, input.tagging)?;
    let asked = object(call, input.bucket, input.key, input.version_id);
    let version = ops::put_object_tagging(ctx, &call.principal, asked, &tags).await?;
    Ok(S3Response::new(PutObjectTaggingOutput {
        version_id: text(version),
    }))
}

pub async fn delete_object_tagging(
    ctx: &OpContext,
    call: &Call,
    input: DeleteObjectTaggingInput,
) -> Reply<DeleteObjectTaggingOutput> {
    let asked = object(call, input.bucket, input.key, input.version_id);
    let none = Tags::default();
    let version = ops::put_object_tagging(ctx, &call.principal, asked, &none).await?;
    Ok(S3Response::new(DeleteObjectTaggingOutput {
        version_id: text(version),
    }))
}

pub async fn get_bucket_tagging(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketTaggingInput,
) -> Reply<GetBucketTaggingOutput> {
    let bucket = headers::bucket(call, input.bucket);
    let tags = ops::get_bucket_tagging(ctx, &call.principal, &bucket).await?;
    if tags.is_empty() {
        let message = "The TagSet does not exist";
        let error = WireError::new("NoSuchTagSet", StatusCode::NOT_FOUND, message);
        return Err(error.detail("BucketName", bucket.name));
    }
    answer(call, &tags);
    Ok(S3Response::new(GetBucketTaggingOutput::default()))
}

pub async fn put_bucket_tagging(
    ctx: &OpContext,
    call: &Call,
    input: PutBucketTaggingInput,
) -> Reply<PutBucketTaggingOutput> {
    let tags = tags_of(Tagged::Bucket, input.tagging)?;
    let bucket = headers::bucket(call, input.bucket);
    ops::put_bucket_tagging(ctx, &call.principal, &bucket, &tags).await?;
    call.answer(StatusCode::NO_CONTENT, ReplyBody::empty());
    Ok(S3Response::new(PutBucketTaggingOutput::default()))
}

pub async fn delete_bucket_tagging(
    ctx: &OpContext,
    call: &Call,
    input: DeleteBucketTaggingInput,
) -> Reply<DeleteBucketTaggingOutput> {
    let bucket = headers::bucket(call, input.bucket);
    ops::put_bucket_tagging(ctx, &call.principal, &bucket, &Tags::default()).await?;
    Ok(S3Response::new(DeleteBucketTaggingOutput::default()))
}
