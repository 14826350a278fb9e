//! Object lock on the wire: headers of requests and answers, and the documents of buckets and objects.
//!
//! Always true: a header that asks for a lock is obeyed, or its request is refused.

use http::{HeaderMap, HeaderName, StatusCode};
use minikv_core::env::clock;
use s3s::S3Response;
use s3s::dto::*;

use super::call::Call;
use super::error::WireError;
use super::headers;
use super::objects::{Reply, header};
use super::xml::Document;
use crate::object::dates;
use crate::object::lock::{self, LockError};
use crate::ops::{self, OpContext, TaggedObject};
use crate::store::{Lock, Period, Retention};

const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";
const HOLD: &str = "x-amz-object-lock-legal-hold";
const BYPASS: &str = "x-amz-bypass-governance-retention";

/// Headers that `x-amz-object-lock-…` may be.
pub fn is_known(name: &str) -> bool {
    [MODE, UNTIL, HOLD].contains(&name)
}

/// Whether a request says anything of locks. Most do not: one look at the names spares them the others.
fn is_mentioned(headers: &HeaderMap) -> bool {
    let mut names = headers.keys();
    names.any(|name| name.as_str().starts_with("x-amz-object-lock-"))
}

/// One look at the names: nearly every request has none of these.
fn first(headers: &HeaderMap) -> Option<&HeaderName> {
    headers.keys().find(|name| is_known(name.as_str()))
}

/// On a call that makes no object (the parts of an upload, its completion) a lock would be taken and not honoured.
pub fn check_place(operation: &str, headers: &HeaderMap) -> Result<(), WireError> {
    let makes_one = ["PutObject", "CopyObject", "CreateMultipartUpload"].contains(&operation);
    if makes_one || !is_mentioned(headers) {
        return Ok(());
    }
    match first(headers) {
        None => Ok(()),
        Some(name) => {
            let message = format!("{name} header is not supported for this operation.");
            let error = WireError::bad("InvalidArgument", message);
            Err(error.detail("ArgumentName", name.as_str()))
        }
    }
}

impl From<LockError> for WireError {
    fn from(error: LockError) -> WireError {
        let message = error.to_string();
        let argument = |name| {
            WireError::bad("InvalidArgument", error.to_string()).detail("ArgumentName", name)
        };
        let not_found = |code| WireError::new(code, StatusCode::NOT_FOUND, error.to_string());
        match error {
            LockError::NoLock | LockError::NoChecksum => WireError::invalid(message),
            LockError::NotConfigured => not_found("ObjectLockConfigurationNotFoundError"),
            LockError::NoneOfObject => not_found("NoSuchObjectLockConfiguration"),
            LockError::Mode | LockError::Half => argument(MODE),
            LockError::Date | LockError::Past => argument(UNTIL),
            LockError::Hold => argument(HOLD),
            LockError::Bypass | LockError::NothingToBypass => argument(BYPASS),
            LockError::Length => WireError::bad("InvalidRetentionPeriod", message),
            LockError::VersionsNeeded | LockError::VersionsLocked => {
                WireError::new("InvalidBucketState", StatusCode::CONFLICT, message)
            }
        }
    }
}

/// What a write asks to be kept by.
pub fn asked(call: &Call) -> Result<Lock, WireError> {
    if first(&call.headers).is_none() {
        return Ok(Lock::default());
    }
    if !is_mentioned(&call.headers) {
        return Ok(Lock::default());
    }
    let said = |name| call.header(name).filter(|text| !text.is_empty());
    let now_ms = clock::wall_ms();
    Ok(lock::parse(said(MODE), said(UNTIL), said(HOLD), now_ms)?)
}

/// `x-amz-bypass-governance-retention`.
pub fn bypass(call: &Call) -> Result<bool, WireError> {
    match call.header(BYPASS) {
        None | Some("") => Ok(false),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(LockError::Bypass.into()),
    }
}

/// What keeps an object, in the headers of an answer that is about it.
pub fn tell(out: &mut HeaderMap, lock: &Lock) {
    if let Some(retention) = &lock.retention {
        header(out, MODE, lock::mode_name(retention.mode));
        header(out, UNTIL, &dates::rfc3339(retention.until_ms));
    }
    if let Some(on) = lock.hold {
        header(out, HOLD, lock::hold_name(on));
    }
}

fn object(call: &Call, bucket: String, key: String, version: Option<String>) -> TaggedObject {
    TaggedObject {
        bucket: headers::bucket(call, bucket),
        key,
        version,
    }
}

pub async fn get_object_lock_configuration(
    ctx: &OpContext,
    call: &Call,
    input: GetObjectLockConfigurationInput,
) -> Reply<GetObjectLockConfigurationOutput> {
    let bucket = headers::bucket(call, input.bucket);
    let found = ops::get_object_lock_configuration(ctx, &call.principal, &bucket).await?;
    let mut document = Document::new("ObjectLockConfiguration");
    document.element("ObjectLockEnabled", "Enabled");
    if let Some(default) = found.default {
        document.inside("Rule", |rule| {
            rule.inside("DefaultRetention", |retention| {
                retention.element("Mode", lock::mode_name(default.mode));
                match default.period {
                    Period::Days(days) => retention.element("Days", days.to_string()),
                    Period::Years(years) => retention.element("Years", years.to_string()),
                }
            });
        });
    }
    call.answer_with(document);
    Ok(S3Response::new(GetObjectLockConfigurationOutput::default()))
}

pub async fn put_object_lock_configuration(
    ctx: &OpContext,
    call: &Call,
    input: PutObjectLockConfigurationInput,
) -> Reply<PutObjectLockConfigurationOutput> {
    let malformed = WireError::malformed_xml;
    let asked = input.object_lock_configuration.ok_or_else(malformed)?;
    let enabled = asked.object_lock_enabled.ok_or_else(malformed)?;
    if enabled.as_str() != ObjectLockEnabled::ENABLED {
        return Err(malformed());
    }
    let default = match asked.rule {
        None => None,
        Some(rule) => {
            let default = rule.default_retention.ok_or_else(malformed)?;
            let mode = default.mode.ok_or_else(malformed)?;
            let mode = lock::parse_mode(mode.as_str()).ok_or_else(malformed)?;
            let default = lock::default_retention(mode, default.days, default.years)?;
            Some(default.ok_or_else(malformed)?)
        }
    };
    let bucket = headers::bucket(call, input.bucket);
    ops::put_object_lock_configuration(ctx, &call.principal, &bucket, default).await?;
    Ok(S3Response::new(PutObjectLockConfigurationOutput::default()))
}

pub async fn get_object_retention(
    ctx: &OpContext,
    call: &Call,
    input: GetObjectRetentionInput,
) -> Reply<GetObjectRetentionOutput> {
    let asked = object(call, input.bucket, input.key, input.version_id);
    let found = ops::get_object_retention(ctx, &call.principal, asked).await?;
    let mut document = Document::new("Retention");
    document.element("Mode", lock::mode_name(found.mode));
    document.moment("RetainUntilDate", found.until_ms);
    call.answer_with(document);
    Ok(S3Response::new(GetObjectRetentionOutput::default()))
}

pub async fn put_object_retention(
    ctx: &OpContext,
    call: &Call,
    input: PutObjectRetentionInput,
) -> Reply<PutObjectRetentionOutput> {
    let retention = retention(input.retention.ok_or_else(WireError::malformed_xml)?)?;
    let bypass = bypass(call)?;
    let asked = object(call, input.bucket, input.key, input.version_id);
    ops::put_object_retention(ctx, &call.principal, asked, retention, bypass).await?;
    Ok(S3Response::new(PutObjectRetentionOutput::default()))
}

/// An empty `<Retention/>` takes it away.
fn retention(asked: ObjectLockRetention) -> Result<Option<Retention>, WireError> {
    let (mode, until) = match (asked.mode, asked.retain_until_date) {
        (None, None) => return Ok(None),
        (Some(mode), Some(until)) => (mode, until),
        _ => return Err(WireError::malformed_xml()),
    };
    let mode = lock::parse_mode(mode.as_str()).ok_or_else(WireError::malformed_xml)?;
    let mut text = Vec::new();
    let written = until.format(TimestampFormat::DateTime, &mut text).is_ok();
    let text = String::from_utf8(text).unwrap_or_default();
    let until_ms = dates::parse_rfc3339(&text).filter(|_| written);
    let until_ms = until_ms.ok_or(LockError::Date)?;
    Ok(Some(lock::retention(mode, until_ms, clock::wall_ms())?))
}

pub async fn get_object_legal_hold(
    ctx: &OpContext,
    call: &Call,
    input: GetObjectLegalHoldInput,
) -> Reply<GetObjectLegalHoldOutput> {
    let asked = object(call, input.bucket, input.key, input.version_id);
    let on = ops::get_object_legal_hold(ctx, &call.principal, asked).await?;
    let mut document = Document::new("LegalHold");
    document.element("Status", lock::hold_name(on));
    call.answer_with(document);
    Ok(S3Response::new(GetObjectLegalHoldOutput::default()))
}

pub async fn put_object_legal_hold(
    ctx: &OpContext,
    call: &Call,
    input: PutObjectLegalHoldInput,
) -> Reply<PutObjectLegalHoldOutput> {
    let status = input.legal_hold.and_then(|hold| hold.status);
    let on = status.and_then(|status| lock::parse_hold(status.as_str()));
    let on = on.ok_or_else(WireError::malformed_xml)?;
    let asked = object(call, input.bucket, input.key, input.version_id);
    ops::put_object_legal_hold(ctx, &call.principal, asked, on).await?;
    Ok(S3Response::new(PutObjectLegalHoldOutput::default()))
}
