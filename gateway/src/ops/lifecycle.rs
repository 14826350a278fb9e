//! Get and Put of a bucket's lifecycle rules, and what answers tell of them: when an object goes, when an upload does.
//!
//! Always true: a bucket without rules costs a request nothing but a look at bytes that it has anyway; rules that cannot
//! be read hold up no other call.

use std::collections::BTreeMap;
use std::sync::Arc;

use minikv_core::ids::BucketId;
use parking_lot::RwLock;

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::bucket_settings::BucketSettings;
use crate::object::lifecycle::Lifecycle;
use crate::object::lifecycle::due::{DAY_MS, Subject, in_header};
use crate::object::tags::Tags;
use crate::ops::bucket_settings::{change_settings, settings_of};
use crate::ops::{OpContext, OpError};
use crate::store::Bucket;
use crate::tenancy::bucket::{self, BucketRef};

/// Buckets whose rules are kept in memory; more of them begin anew.
const CACHED: usize = 1024;

/// What rules may take up of the 256 KiB that the core keeps with a bucket: it is read with every request.
const MAX_BYTES: usize = 224 << 10;

/// Rules that were read, by bucket and the epoch of its facts.
#[derive(Default)]
pub(super) struct RulesRead(RwLock<BTreeMap<BucketId, (u64, Arc<Lifecycle>)>>);

/// The rules of a bucket.
pub async fn get_bucket_lifecycle(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
) -> Result<Option<Lifecycle>, OpError> {
    let bucket = bucket::find(ctx, who, Action::GetLifecycleConfiguration, asked).await?;
    Ok(settings_of(&bucket)?.lifecycle)
}

/// Replaces the rules of a bucket, or takes them away. After the answer nothing goes by the old ones: entries planned
/// with them name older facts than every group has by then.
pub async fn put_bucket_lifecycle(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
    rules: Option<&Lifecycle>,
) -> Result<(), OpError> {
    let bucket = bucket::find(ctx, who, Action::PutLifecycleConfiguration, asked).await?;
    let alone = BucketSettings {
        lifecycle: rules.cloned(),
        ..BucketSettings::default()
    };
    let bytes = alone.encode().len();
    if bytes > MAX_BYTES {
        return Err(OpError::Request(format!(
            "The rules take up {bytes} bytes, and may take up {MAX_BYTES}: use fewer or shorter ones."
        )));
    }
    change_settings(ctx, &bucket, |settings| {
        settings.lifecycle = rules.cloned();
    })
    .await
}

/// `x-amz-expiration` of the newest version of a key; none: it stays.
pub(super) fn expiration(
    ctx: &OpContext,
    bucket: &Bucket,
    key: &[u8],
    tags: &Tags,
    size: u64,
    modified_ms: u64,
) -> Option<String> {
    let object = Subject { key, tags, size };
    rules(ctx, bucket)?.expiration_header(&object, modified_ms)
}

/// When an upload is aborted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Abort {
    /// Ms since 1970.
    pub at_ms: u64,
    /// As a header carries it.
    pub rule: String,
}

/// `x-amz-abort-date` and `x-amz-abort-rule-id` of an upload.
pub(super) fn abort(
    ctx: &OpContext,
    bucket: &Bucket,
    key: &[u8],
    created_ms: u64,
) -> Option<Abort> {
    let rules = rules(ctx, bucket)?;
    let (at_ms, rule) = rules.abort(key, created_ms, DAY_MS)?;
    Some(Abort {
        at_ms,
        rule: in_header(&rule.id),
    })
}

fn rules(ctx: &OpContext, bucket: &Bucket) -> Option<Arc<Lifecycle>> {
    if !BucketSettings::has_lifecycle(&bucket.settings) {
        return None;
    }
    let cache = &ctx.inner.rules.0;
    let known = cache.read().get(&bucket.id).cloned();
    if let Some((_, rules)) = known.filter(|(epoch, _)| *epoch == bucket.epoch) {
        return Some(rules);
    }
    let rules = BucketSettings::lifecycle_of(&bucket.settings).ok()??;
    let rules = Arc::new(rules);
    let mut cache = cache.write();
    if cache.len() >= CACHED {
        cache.clear();
    }
    cache.insert(bucket.id, (bucket.epoch, rules.clone()));
    Some(rules)
}
