//! Settings of a bucket: PutBucketVersioning; Get, Put and Delete of its tags, its CORS rules, its default encryption, its
//! ownership controls and its block of public access.
//!
//! Always true: a change is answered after every group knows it, so that no write after the answer goes by the old one.

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::bucket_settings::BucketSettings;
use crate::object::cors::CorsRule;
use crate::object::encryption::{BucketDefault, DefaultMethod};
use crate::object::tags::Tags;
use crate::ops::{Missing, OpContext, OpError};
use crate::store::{Bucket, Versioning};
use crate::tenancy::bucket::{self, BucketRef};

/// Turns versions on, or stops making more of them. There is no way back to a bucket that never had any.
pub async fn put_bucket_versioning(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
    versioning: Versioning,
) -> Result<(), OpError> {
    let bucket = bucket::find(ctx, who, Action::PutBucketVersioning, asked).await?;
    change(ctx, &bucket, |facts| facts.versioning = versioning).await
}

/// The tags of a bucket.
pub async fn get_bucket_tagging(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
) -> Result<Tags, OpError> {
    let bucket = bucket::find(ctx, who, Action::GetBucketTagging, asked).await?;
    Ok(settings_of(&bucket)?.tags)
}

/// Replaces the tags of a bucket; by none: takes them away.
pub async fn put_bucket_tagging(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
    tags: &Tags,
) -> Result<(), OpError> {
    let bucket = bucket::find(ctx, who, Action::PutBucketTagging, asked).await?;
    change_settings(ctx, &bucket, |settings| settings.tags = tags.clone()).await
}

/// The CORS rules of a bucket.
pub async fn get_bucket_cors(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
) -> Result<Vec<CorsRule>, OpError> {
    let bucket = bucket::find(ctx, who, Action::GetBucketCors, asked).await?;
    Ok(settings_of(&bucket)?.cors)
}

/// Replaces the CORS rules of a bucket; by none: takes them away.
pub async fn put_bucket_cors(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
    rules: &[CorsRule],
) -> Result<(), OpError> {
    let bucket = bucket::find(ctx, who, Action::PutBucketCors, asked).await?;
    change_settings(ctx, &bucket, |settings| settings.cors = rules.to_vec()).await
}

/// How writes to a bucket are encrypted that do not say.
pub async fn get_bucket_encryption(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
) -> Result<Option<BucketDefault>, OpError> {
    let bucket = bucket::find(ctx, who, Action::GetEncryptionConfiguration, asked).await?;
    Ok(settings_of(&bucket)?.encryption)
}

/// Sets it, or takes it away. A key that does not exist is refused now and not by every later write.
pub async fn put_bucket_encryption(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
    default: Option<&BucketDefault>,
) -> Result<(), OpError> {
    let bucket = bucket::find(ctx, who, Action::PutEncryptionConfiguration, asked).await?;
    match default.map(|default| &default.method) {
        None => {}
        Some(DefaultMethod::S3) => drop(ctx.ring().current()?),
        Some(DefaultMethod::Kms(key)) => drop(ctx.ring().kms(key.as_deref())?),
    }
    change_settings(ctx, &bucket, |settings| {
        settings.encryption = default.cloned();
    })
    .await
}

/// Refused unless public access to a bucket was blocked.
pub async fn get_public_access_block(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
) -> Result<(), OpError> {
    let bucket = bucket::find(ctx, who, Action::GetBucketSettings, asked).await?;
    if settings_of(&bucket)?.public_access_blocked {
        Ok(())
    } else {
        Err(OpError::NotConfigured(Missing::PublicAccessBlock))
    }
}

/// Says that it is, or no longer. Nothing is public either way.
pub async fn put_public_access_block(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
    blocked: bool,
) -> Result<(), OpError> {
    let bucket = bucket::find(ctx, who, Action::PutBucketPublicAccessBlock, asked).await?;
    change_settings(ctx, &bucket, |settings| {
        settings.public_access_blocked = blocked;
    })
    .await
}

/// Refused when the ownership controls of a bucket were taken away: every bucket has them from the start.
pub async fn get_ownership_controls(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
) -> Result<(), OpError> {
    let bucket = bucket::find(ctx, who, Action::GetBucketSettings, asked).await?;
    if settings_of(&bucket)?.no_ownership_controls {
        Err(OpError::NotConfigured(Missing::OwnershipControls))
    } else {
        Ok(())
    }
}

/// Puts them there (they say that the bucket's owner owns everything in it), or takes them away. He does either way.
pub async fn put_ownership_controls(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
    there: bool,
) -> Result<(), OpError> {
    let bucket = bucket::find(ctx, who, Action::PutBucketOwnershipControls, asked).await?;
    change_settings(ctx, &bucket, |settings| {
        settings.no_ownership_controls = !there;
    })
    .await
}

/// The CORS rules of a bucket, for browsers: they ask without saying who they are, and hear nothing else.
pub async fn cors_rules(ctx: &OpContext, name: &str) -> Result<Vec<CorsRule>, OpError> {
    let found = ctx.store().kv().bucket(name).await;
    let found = found.map_err(|error| OpError::kv(error, name, ""))?;
    let bucket = found.ok_or_else(|| OpError::NoSuchBucket {
        bucket: name.to_owned(),
    })?;
    Ok(settings_of(&bucket)?.cors)
}

pub(super) async fn change_settings(
    ctx: &OpContext,
    bucket: &Bucket,
    how: impl Fn(&mut BucketSettings) + Send,
) -> Result<(), OpError> {
    settings_of(bucket)?;
    change(ctx, bucket, move |facts| {
        // They are read again with each attempt: another setting may have changed meanwhile.
        if let Ok(mut settings) = BucketSettings::decode(&facts.settings) {
            how(&mut settings);
            facts.settings = settings.encode();
        }
    })
    .await
}

pub(super) fn settings_of(bucket: &Bucket) -> Result<BucketSettings, OpError> {
    BucketSettings::decode(&bucket.settings).map_err(|error| OpError::Damaged {
        object: format!("the settings of bucket {}", bucket.name),
        what: error.to_string(),
    })
}

/// Changes this very bucket; one of the same name that was made since is another.
pub(super) async fn change(
    ctx: &OpContext,
    bucket: &Bucket,
    how: impl Fn(&mut Bucket) + Send,
) -> Result<(), OpError> {
    let (id, name) = (bucket.id, &bucket.name);
    let guarded = move |facts: &mut Bucket| {
        if facts.id == id {
            how(facts);
        }
    };
    let changed = ctx.store().kv().change_bucket(name, guarded).await;
    let changed = changed.map_err(|error| OpError::kv(error, name, ""))?;
    if changed.id != id {
        return Err(OpError::NoSuchBucket {
            bucket: name.clone(),
        });
    }
    Ok(())
}
