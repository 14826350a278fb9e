//! Object lock: what keeps a version from going, and until when.
//!
//! ```text
//!   legal hold ON                         until it is turned off
//!   COMPLIANCE   until its date           nobody lifts it; it may only get longer
//!   GOVERNANCE   until its date           who is permitted may lift it (the entry says so)
//! ```
//! Every way for a version to go (a delete of it, the overwrite of a null version, whatever a leader proposes on its own)
//! ends in `drop_version`, and that asks here. A delete marker hides a version and takes nothing.
//!
//! Time is what entries carry, and leaders' clocks may go back. Always true:
//! * a version is kept from every entry whose time is before its date: a clock that goes back opens nothing;
//! * a default retention counts from no earlier time than that of any version made before it in this bucket and group, so
//!   one that is given while the clock is behind does not end early either;
//! * what may be locked lies in a bucket whose versioning is enabled for ever: no write replaces a version there.
//!
//! (A clock that runs ahead opens locks early; nothing in here can know. docs/decisions/object-lock.md)

use minikv_proto::row::LockMode;
use minikv_proto::{entry as wire, row};

use crate::kv::{self, BucketLock, Period, Refusal};
use crate::state::answer::Done;
use crate::state::applying::{Applying, Place, Stop, written};
use crate::state::put;
use crate::state::record::Malformed;
use crate::state::version::Which;

const DAY_MS: u64 = 86_400_000;
const DAYS_OF_A_YEAR: u64 = 365;
/// S3's longest default retentions.
const MAX_DAYS: u32 = 36_500;
const MAX_YEARS: u32 = 100;

impl Applying<'_> {
    /// What the gateway says of a new version, and what keeps it: what its client asked for, and the bucket's default
    /// where that was no retention.
    pub fn describe(
        &mut self,
        place: &Place,
        version: &mut row::Version,
        new: &wire::NewVersion,
        asked: Option<row::Lock>,
    ) -> Result<(), Stop> {
        put::describe(version, new);
        let Some(of_bucket) = place.lock else {
            return match asked {
                None => Ok(()),
                Some(_) => Err(Refusal::NoLock.into()),
            };
        };
        let mut lock = asked.map(checked).transpose()?.unwrap_or_default();
        let latest_ms = self.latest_ms(place)?;
        if let Some(default) = of_bucket.retention
            && lock.mode == LockMode::LockNone as i32
        {
            lock.mode = default.mode;
            lock.until_ms = latest_ms.saturating_add(length_ms(&default));
        }
        version.lock = (lock != row::Lock::default()).then_some(lock);
        Ok(())
    }

    /// The time of this entry, or of an earlier one that made a version in this bucket, if that was later.
    fn latest_ms(&mut self, place: &Place) -> Result<u64, Stop> {
        let now_ms = self.now_ms;
        let row = self.bucket_or_new(place.bucket)?;
        row.latest_ms = row.latest_ms.max(now_ms);
        Ok(row.latest_ms)
    }

    /// Whether nothing keeps this version from this entry.
    pub fn may_go(&self, version: &row::Version) -> Result<(), Refusal> {
        if keeps(version.lock.as_ref(), self.now_ms, self.bypass_governance) {
            Err(Refusal::Locked)
        } else {
            Ok(())
        }
    }

    pub fn set_lock(&mut self, set: &wire::SetLock) -> Result<Done, Stop> {
        let place = self.place(set.target.as_ref())?;
        if place.lock.is_none() {
            return Err(Refusal::NoLock.into());
        }
        let current = self.current(&place)?;
        let which = set.version.map(|version| match version {
            wire::set_lock::Version::Null(_) => Which::Null,
            wire::set_lock::Version::Seq(seq) => Which::Seq(seq),
        });
        let mut version = self.object(&place, &current, which)?;
        let mut lock = version.lock.unwrap_or_default();
        match set.change.ok_or(Malformed("no change"))? {
            wire::set_lock::Change::Hold(on) => lock.hold = Some(on),
            wire::set_lock::Change::Retention(new) => {
                if !may_change(&lock, &new, self.now_ms, set.bypass_governance) {
                    return Err(Refusal::Locked.into());
                }
                (lock.mode, lock.until_ms) = (new.mode, new.until_ms);
                lock = checked(lock)?;
            }
        }
        version.lock = (lock != row::Lock::default()).then_some(lock);
        let answer = Done::Written(written(&place, &version));
        self.put_back(&place, current, version)?;
        Ok(answer)
    }
}

/// Whether a version with this lock may not go. A mode that this build does not know keeps like the stricter one.
fn keeps(lock: Option<&row::Lock>, now_ms: u64, bypass_governance: bool) -> bool {
    let Some(lock) = lock else { return false };
    if lock.hold == Some(true) {
        return true;
    }
    let lifted = match LockMode::try_from(lock.mode) {
        Ok(LockMode::LockNone) => true,
        Ok(LockMode::LockGovernance) => bypass_governance,
        Ok(LockMode::LockCompliance) | Err(_) => false,
    };
    !lifted && now_ms < lock.until_ms
}

/// Whether a version's retention may become `new`. Once its date has passed it may become anything.
fn may_change(
    old: &row::Lock,
    new: &wire::Retention,
    now_ms: u64,
    bypass_governance: bool,
) -> bool {
    let only_retention = row::Lock { hold: None, ..*old };
    !keeps(Some(&only_retention), now_ms, bypass_governance)
        || (new.mode == old.mode && new.until_ms >= old.until_ms)
}

/// A lock that an entry brings.
pub(super) fn checked(lock: row::Lock) -> Result<row::Lock, Malformed> {
    let mode = LockMode::try_from(lock.mode).map_err(|_| Malformed("mode of a lock"))?;
    if (mode == LockMode::LockNone) != (lock.until_ms == 0) {
        return Err(Malformed("a retention has a mode and a date"));
    }
    Ok(lock)
}

fn length_ms(default: &row::DefaultRetention) -> u64 {
    (u64::from(default.days) + u64::from(default.years) * DAYS_OF_A_YEAR) * DAY_MS
}

/// What a change of a bucket says of its default retention: `None` takes it away.
pub(super) fn checked_default(
    default: row::DefaultRetention,
) -> Result<Option<row::DefaultRetention>, Malformed> {
    match LockMode::try_from(default.mode) {
        Ok(LockMode::LockNone) => return Ok(None),
        Ok(LockMode::LockGovernance | LockMode::LockCompliance) => {}
        Err(_) => return Err(Malformed("mode of a default retention")),
    }
    let one = (default.days > 0) != (default.years > 0);
    if !one || default.days > MAX_DAYS || default.years > MAX_YEARS {
        return Err(Malformed("length of a default retention"));
    }
    Ok(Some(default))
}

// ---- between rows and what `kv` speaks ----

impl kv::LockMode {
    fn of_row(mode: i32) -> Result<Option<kv::LockMode>, Malformed> {
        match LockMode::try_from(mode) {
            Ok(LockMode::LockNone) => Ok(None),
            Ok(LockMode::LockGovernance) => Ok(Some(kv::LockMode::Governance)),
            Ok(LockMode::LockCompliance) => Ok(Some(kv::LockMode::Compliance)),
            Err(_) => Err(Malformed("mode of a lock")),
        }
    }

    fn to_row(self) -> i32 {
        let mode = match self {
            kv::LockMode::Governance => LockMode::LockGovernance,
            kv::LockMode::Compliance => LockMode::LockCompliance,
        };
        mode as i32
    }
}

impl kv::Lock {
    /// As a row says it.
    pub(super) fn of_row(lock: Option<&row::Lock>) -> Result<kv::Lock, Malformed> {
        let Some(lock) = lock else {
            return Ok(kv::Lock::default());
        };
        Ok(kv::Lock {
            retention: kv::LockMode::of_row(lock.mode)?.map(|mode| kv::Retention {
                mode,
                until_ms: lock.until_ms,
            }),
            hold: lock.hold,
        })
    }

    /// For an entry or row; none for nothing.
    pub(crate) fn to_row(self) -> Option<row::Lock> {
        let lock = row::Lock {
            mode: self
                .retention
                .map_or(0, |retention| retention.mode.to_row()),
            until_ms: self.retention.map_or(0, |retention| retention.until_ms),
            hold: self.hold,
        };
        (lock != row::Lock::default()).then_some(lock)
    }
}

/// A retention for an entry; none takes it away.
pub(crate) fn retention(retention: Option<kv::Retention>) -> wire::Retention {
    retention.map_or_else(wire::Retention::default, |retention| wire::Retention {
        mode: retention.mode.to_row(),
        until_ms: retention.until_ms,
    })
}

impl BucketLock {
    /// As a row says it.
    pub(super) fn of_row(
        lock: bool,
        default: Option<&row::DefaultRetention>,
    ) -> Result<Option<BucketLock>, Malformed> {
        if !lock {
            return Ok(None);
        }
        let default = match default {
            None => None,
            Some(default) => kv::LockMode::of_row(default.mode)?.map(|mode| kv::DefaultRetention {
                mode,
                period: match default.years {
                    0 => Period::Days(default.days),
                    years => Period::Years(years),
                },
            }),
        };
        Ok(Some(BucketLock { default }))
    }
}

/// A default retention for a row or entry; none takes it away.
pub(crate) fn default_retention(default: Option<kv::DefaultRetention>) -> row::DefaultRetention {
    default.map_or_else(row::DefaultRetention::default, |default| {
        let (days, years) = match default.period {
            Period::Days(days) => (days, 0),
            Period::Years(years) => (0, years),
        };
        row::DefaultRetention {
            mode: default.mode.to_row(),
            days,
            years,
        }
    })
}
