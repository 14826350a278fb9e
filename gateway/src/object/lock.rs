//! Object lock as clients say it: the headers of a write, a bucket's default.
//!
//! Always true: a retention has a mode and a date that lies ahead, or there is none. Whether a version may go is decided
//! in the core, when that is applied.

use super::dates;
use crate::store::{DefaultRetention, Lock, LockMode, Period, Retention};

/// Why something about locks is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LockError {
    /// The bucket has no object lock.
    #[error("Bucket is missing Object Lock Configuration")]
    NoLock,
    /// The bucket has no object lock that could be told.
    #[error("Object Lock configuration does not exist for this bucket")]
    NotConfigured,
    /// Nobody ever said anything about this version's retention, or hold.
    #[error("The specified object does not have a ObjectLock configuration")]
    NoneOfObject,
    /// Neither GOVERNANCE nor COMPLIANCE.
    #[error("Unknown wormMode directive.")]
    Mode,
    /// No ISO 8601.
    #[error("The retain until date must be provided in ISO 8601 format")]
    Date,
    /// It has passed.
    #[error("The retain until date must be in the future!")]
    Past,
    /// One without the other.
    #[error("x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied")]
    Half,
    /// Neither ON nor OFF.
    #[error("Legal Hold must be either of 'ON' or 'OFF'")]
    Hold,
    /// A write that is to be kept says nothing by which it could be seen to be whole.
    #[error(
        "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
    )]
    NoChecksum,
    /// Neither true nor false.
    #[error("x-amz-bypass-governance-retention must be true or false")]
    Bypass,
    /// There is nothing to bypass.
    #[error("x-amz-bypass-governance-retention is only applicable to Object Lock enabled buckets.")]
    NothingToBypass,
    /// A default retention of no days, or of too many.
    #[error(
        "Default retention period must be a positive integer value of at most 36500 days or 100 years"
    )]
    Length,
    /// Object lock is wanted where versions are not kept.
    #[error("Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")]
    VersionsNeeded,
    /// Versioning cannot be suspended any more.
    #[error(
        "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
    )]
    VersionsLocked,
}

/// A mode by its name.
pub fn parse_mode(text: &str) -> Option<LockMode> {
    match text {
        "GOVERNANCE" => Some(LockMode::Governance),
        "COMPLIANCE" => Some(LockMode::Compliance),
        _ => None,
    }
}

/// The name of a mode.
pub fn mode_name(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    }
}

/// A legal hold by its name.
pub fn parse_hold(text: &str) -> Option<bool> {
    match text {
        "ON" => Some(true),
        "OFF" => Some(false),
        _ => None,
    }
}

/// The name of a legal hold.
pub fn hold_name(on: bool) -> &'static str {
    if on { "ON" } else { "OFF" }
}

/// A retention that may be set at `now_ms`.
pub fn retention(mode: LockMode, until_ms: u64, now_ms: u64) -> Result<Retention, LockError> {
    if until_ms <= now_ms {
        return Err(LockError::Past);
    }
    Ok(Retention { mode, until_ms })
}

/// `x-amz-object-lock-mode`, `-retain-until-date` and `-legal-hold` of a write.
pub fn parse(
    mode: Option<&str>,
    until: Option<&str>,
    hold: Option<&str>,
    now_ms: u64,
) -> Result<Lock, LockError> {
    let retention = match (mode, until) {
        (None, None) => None,
        (Some(mode), Some(until)) => {
            let mode = parse_mode(mode).ok_or(LockError::Mode)?;
            let until_ms = dates::parse_rfc3339(until).ok_or(LockError::Date)?;
            Some(retention(mode, until_ms, now_ms)?)
        }
        _ => return Err(LockError::Half),
    };
    let hold = hold.map(|text| parse_hold(text).ok_or(LockError::Hold));
    Ok(Lock {
        retention,
        hold: hold.transpose()?,
    })
}

/// A default retention of so many days or years.
pub fn default_retention(
    mode: LockMode,
    days: Option<i32>,
    years: Option<i32>,
) -> Result<Option<DefaultRetention>, LockError> {
    let within = |number: i32, most: u32| {
        let number = u32::try_from(number).ok();
        number
            .filter(|number| (1..=most).contains(number))
            .ok_or(LockError::Length)
    };
    let period = match (days, years) {
        (Some(days), None) => Period::Days(within(days, 36_500)?),
        (None, Some(years)) => Period::Years(within(years, 100)?),
        _ => return Ok(None),
    };
    Ok(Some(DefaultRetention { mode, period }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: u64 = 1_445_412_480_000;

    #[test]
    fn a_retention_is_whole_and_ahead_or_refused() {
        let parse = |mode, until| parse(mode, until, None, NOW).map(|lock| lock.retention);
        let ahead = Some("2015-10-21T07:28:00.001Z");
        assert_eq!(parse(None, None), Ok(None));
        assert_eq!(
            parse(Some("COMPLIANCE"), ahead),
            Ok(Some(Retention {
                mode: LockMode::Compliance,
                until_ms: NOW + 1
            }))
        );
        assert_eq!(parse(Some("governance"), ahead), Err(LockError::Mode));
        assert_eq!(parse(Some("GOVERNANCE"), None), Err(LockError::Half));
        assert_eq!(parse(None, ahead), Err(LockError::Half));
        assert_eq!(
            parse(Some("GOVERNANCE"), Some("2015-10-21T07:28:00Z")),
            Err(LockError::Past)
        );
        assert_eq!(
            parse(Some("GOVERNANCE"), Some("tomorrow")),
            Err(LockError::Date)
        );
    }

    #[test]
    fn a_hold_is_on_or_off() {
        let hold = |text| parse(None, None, Some(text), NOW).map(|lock| lock.hold);
        assert_eq!(hold("ON"), Ok(Some(true)));
        assert_eq!(hold("OFF"), Ok(Some(false)));
        assert_eq!(hold("on"), Err(LockError::Hold));
    }

    #[test]
    fn a_default_has_one_length_within_s3s_limits() {
        let default = |days, years| default_retention(LockMode::Governance, days, years);
        let period = |days, years| default(days, years).map(|d| d.map(|d| d.period));
        assert_eq!(period(Some(36_500), None), Ok(Some(Period::Days(36_500))));
        assert_eq!(period(None, Some(100)), Ok(Some(Period::Years(100))));
        for (days, years) in [
            (Some(0), None),
            (Some(-1), None),
            (Some(36_501), None),
            (None, Some(101)),
        ] {
            assert_eq!(period(days, years), Err(LockError::Length));
        }
        assert_eq!(period(Some(1), Some(1)), Ok(None));
        assert_eq!(period(None, None), Ok(None));
    }
}
