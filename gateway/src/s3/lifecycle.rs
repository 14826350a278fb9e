//! Lifecycle rules of a bucket, as documents.

use http::{HeaderMap, StatusCode};
use s3s::S3Response;
use s3s::dto::*;

use super::call::Call;
use super::error::WireError;
use super::headers;
use super::objects::{Reply, header};
use super::xml::Document;
use crate::object::etag::hex;
use crate::object::lifecycle::check::{
    Conditions, Draft, DraftAbort, DraftExpiration, DraftFilter, DraftNoncurrent, LifecycleError,
    check,
};
use crate::object::lifecycle::{self, Filter, Form, Lifecycle, Rule};
use crate::ops::{self, OpContext};

const MINIMUM: &str = "x-amz-transition-default-minimum-object-size";
const ALL_CLASSES: &str = "all_storage_classes_128K";
const BY_CLASS: &str = "varies_by_storage_class";

impl From<LifecycleError> for WireError {
    fn from(error: LifecycleError) -> WireError {
        match error {
            LifecycleError::Malformed => WireError::malformed_xml(),
            LifecycleError::Argument(what) => WireError::bad("InvalidArgument", what),
            LifecycleError::Request(what) => WireError::invalid(what),
            LifecycleError::NotDone(what) => WireError::not_implemented(what),
        }
    }
}

fn minimum(varies: bool) -> &'static str {
    if varies { BY_CLASS } else { ALL_CLASSES }
}

pub async fn put_bucket_lifecycle_configuration(
    ctx: &OpContext,
    call: &Call,
    input: PutBucketLifecycleConfigurationInput,
) -> Reply<PutBucketLifecycleConfigurationOutput> {
    let varies = match call.header(MINIMUM) {
        None | Some(ALL_CLASSES) => false,
        Some(BY_CLASS) => true,
        Some(_) => {
            let message = "Invalid TransitionDefaultMinimumObjectSize found";
            return Err(WireError::invalid(message));
        }
    };
    let document = input.lifecycle_configuration;
    let document = document.ok_or_else(WireError::malformed_xml)?;
    let drafts = document.rules.into_iter().map(draft).collect();
    let make_id = || hex(&ops::random_key()[..18]);
    let rules = check(drafts, varies, make_id)?;
    let bucket = headers::bucket(call, input.bucket);
    ops::put_bucket_lifecycle(ctx, &call.principal, &bucket, Some(&rules)).await?;
    let mut out = HeaderMap::with_capacity(1);
    header(&mut out, MINIMUM, minimum(varies));
    Ok(S3Response::with_headers(
        PutBucketLifecycleConfigurationOutput::default(),
        out,
    ))
}

pub async fn get_bucket_lifecycle_configuration(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketLifecycleConfigurationInput,
) -> Reply<GetBucketLifecycleConfigurationOutput> {
    let bucket = headers::bucket(call, input.bucket);
    let found = ops::get_bucket_lifecycle(ctx, &call.principal, &bucket).await?;
    let Some(Lifecycle {
        rules,
        minimum_varies,
    }) = found
    else {
        let code = "NoSuchLifecycleConfiguration";
        let message = "The lifecycle configuration does not exist";
        let error = WireError::new(code, StatusCode::NOT_FOUND, message);
        return Err(error.detail("BucketName", bucket.name));
    };
    let mut out = HeaderMap::with_capacity(1);
    header(&mut out, MINIMUM, minimum(minimum_varies));
    let mut document = Document::new("LifecycleConfiguration");
    for rule in &rules {
        document.inside("Rule", |inner| show(inner, rule));
    }
    call.answer_with(document);
    let output = GetBucketLifecycleConfigurationOutput::default();
    Ok(S3Response::with_headers(output, out))
}

pub async fn delete_bucket_lifecycle(
    ctx: &OpContext,
    call: &Call,
    input: DeleteBucketLifecycleInput,
) -> Reply<DeleteBucketLifecycleOutput> {
    let bucket = headers::bucket(call, input.bucket);
    ops::put_bucket_lifecycle(ctx, &call.principal, &bucket, None).await?;
    Ok(S3Response::new(DeleteBucketLifecycleOutput::default()))
}

fn draft(rule: LifecycleRule) -> Draft {
    let pair = |tag: Tag| (tag.key, tag.value);
    let filter = |filter: LifecycleRuleFilter| DraftFilter {
        one: Conditions {
            prefix: filter.prefix,
            tags: filter.tag.into_iter().map(pair).collect(),
            larger_than: filter.object_size_greater_than,
            smaller_than: filter.object_size_less_than,
        },
        and: filter.and.map(|and| Conditions {
            prefix: and.prefix,
            tags: and.tags.into_iter().flatten().map(pair).collect(),
            larger_than: and.object_size_greater_than,
            smaller_than: and.object_size_less_than,
        }),
    };
    let expiration = |expiration: LifecycleExpiration| DraftExpiration {
        days: expiration.days,
        date_ms: expiration
            .date
            .map(|date| milliseconds(&date).unwrap_or(-1)),
        marker: expiration.expired_object_delete_marker,
    };
    let noncurrent = |noncurrent: NoncurrentVersionExpiration| DraftNoncurrent {
        days: noncurrent.noncurrent_days,
        keep: noncurrent.newer_noncurrent_versions,
    };
    let abort = |abort: AbortIncompleteMultipartUpload| DraftAbort {
        days: abort.days_after_initiation,
    };
    Draft {
        id: rule.id,
        status: rule.status.as_str().to_owned(),
        prefix: rule.prefix,
        filter: rule.filter.map(filter),
        expiration: rule.expiration.map(expiration),
        noncurrent: rule.noncurrent_version_expiration.map(noncurrent),
        abort: rule.abort_incomplete_multipart_upload.map(abort),
        transitions: rule.transitions.is_some_and(|list| !list.is_empty()),
        noncurrent_transitions: rule
            .noncurrent_version_transitions
            .is_some_and(|list| !list.is_empty()),
    }
}

/// Ms since 1970; a moment with a fraction of a second lies beside every midnight. `None`: a year that nobody lives to see.
fn milliseconds(date: &Timestamp) -> Option<i64> {
    let mut text = Vec::new();
    date.format(TimestampFormat::EpochSeconds, &mut text).ok()?;
    let text = String::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let beside = fraction.bytes().any(|digit| digit != b'0');
    let seconds: i64 = seconds.parse().ok()?;
    seconds.checked_mul(1000)?.checked_add(i64::from(beside))
}

fn show(document: &mut Document, rule: &Rule) {
    document.element("ID", &rule.id);
    match rule.filter.form {
        Form::Prefix => document.maybe("Prefix", rule.filter.prefix.as_ref()),
        Form::One => document.inside("Filter", |inner| show_filter(inner, &rule.filter)),
        Form::And => document.inside("Filter", |inner| {
            inner.inside("And", |and| show_filter(and, &rule.filter));
        }),
    }
    document.element("Status", if rule.enabled { "Enabled" } else { "Disabled" });
    if let Some(expiration) = &rule.expiration {
        document.inside("Expiration", |inner| match expiration {
            lifecycle::Expiration::Days(days) => inner.number("Days", u64::from(*days)),
            lifecycle::Expiration::Date(at_ms) => inner.moment("Date", *at_ms),
            lifecycle::Expiration::Marker(goes) => inner.flag("ExpiredObjectDeleteMarker", *goes),
        });
    }
    if let Some(noncurrent) = &rule.noncurrent {
        document.inside("NoncurrentVersionExpiration", |inner| {
            if noncurrent.keep > 0 {
                inner.number("NewerNoncurrentVersions", noncurrent.keep.into());
            }
            inner.number("NoncurrentDays", noncurrent.days.into());
        });
    }
    if let Some(days) = rule.abort_days {
        document.inside("AbortIncompleteMultipartUpload", |inner| {
            inner.number("DaysAfterInitiation", days.into());
        });
    }
}

fn show_filter(document: &mut Document, filter: &Filter) {
    document.maybe("Prefix", filter.prefix.as_ref());
    for (key, value) in &filter.tags {
        document.inside("Tag", |tag| {
            tag.element("Key", key);
            tag.element("Value", value);
        });
    }
    for (name, size) in [
        ("ObjectSizeGreaterThan", filter.larger_than),
        ("ObjectSizeLessThan", filter.smaller_than),
    ] {
        if let Some(size) = size {
            document.number(name, size);
        }
    }
}
