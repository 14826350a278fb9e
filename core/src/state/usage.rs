//! What is stored, counted per bucket and tenant, and the room that is left for it.
//!
//! Always true:
//! * bytes = sizes of all versions, and of parts that no version names; reserved = what open stages and intents hold;
//! * usage changes in the entry that changes what it counts: a recount of the rows gives the same numbers;
//! * under a limit nothing is taken that the group's allowance does not hold: the entry is tried again after a refill.

use minikv_proto::row;

use crate::ids::{BucketId, TenantId};
use crate::state::answer::{AccountId, TryAgain};
use crate::state::applying::{Applying, Stop};
use crate::state::keys;
use crate::state::ledger::damaged;

/// How an entry changes usage.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Delta {
    pub bytes: i64,
    pub objects: i64,
    pub versions: i64,
    pub markers: i64,
    pub uploads: i64,
    pub reserved: i64,
    pub reserved_versions: i64,
}

impl Delta {
    /// A version that comes (`sign` 1) or goes (-1).
    pub fn version(version: &row::Version, sign: i64) -> Delta {
        let one = |yes: bool| if yes { sign } else { 0 };
        Delta {
            bytes: sign * version.size as i64,
            versions: one(!version.delete_marker),
            markers: one(version.delete_marker),
            ..Delta::default()
        }
    }

    /// A key's newest version changed from `before` to `after`.
    pub fn newest(before: Option<&row::Version>, after: Option<&row::Version>) -> Delta {
        let counts =
            |version: Option<&row::Version>| i64::from(version.is_some_and(|v| !v.delete_marker));
        Delta {
            objects: counts(after) - counts(before),
            ..Delta::default()
        }
    }

    /// Room for `bytes` and `versions` that are to come.
    pub fn reserve(bytes: i64, versions: i64) -> Delta {
        Delta {
            reserved: bytes,
            reserved_versions: versions,
            ..Delta::default()
        }
    }

    fn add(&mut self, other: Delta) {
        self.bytes += other.bytes;
        self.objects += other.objects;
        self.versions += other.versions;
        self.markers += other.markers;
        self.uploads += other.uploads;
        self.reserved += other.reserved;
        self.reserved_versions += other.reserved_versions;
    }

    /// What it takes of an allowance: bytes, and objects. Delete markers are free, or a full bucket could not be emptied.
    fn takes(&self) -> (i64, i64) {
        (
            self.bytes + self.reserved,
            self.versions + self.reserved_versions,
        )
    }
}

impl std::ops::Add for Delta {
    type Output = Delta;

    fn add(mut self, other: Delta) -> Delta {
        Delta::add(&mut self, other);
        self
    }
}

/// The changes of an entry, by bucket and by tenant.
#[derive(Default)]
pub(super) struct Charges {
    buckets: Vec<(BucketId, Delta)>,
    tenants: Vec<(TenantId, Delta)>,
}

impl Charges {
    pub fn clear(&mut self) {
        self.buckets.clear();
        self.tenants.clear();
    }
}

fn add_to<T: PartialEq>(list: &mut Vec<(T, Delta)>, name: T, delta: Delta) {
    match list.iter_mut().find(|(known, _)| *known == name) {
        Some((_, sum)) => sum.add(delta),
        None => list.push((name, delta)),
    }
}

impl Applying<'_> {
    /// Notes a change of usage; `book` books it.
    pub fn charge(&mut self, bucket: BucketId, delta: Delta) -> Result<(), Stop> {
        let row = self.bucket(bucket)?;
        let Some(facts) = row.and_then(|row| row.facts.as_ref()) else {
            return Err(damaged(&keys::bucket(bucket), "usage of a bucket without facts").into());
        };
        let tenant = TenantId(facts.tenant);
        add_to(&mut self.charges.buckets, bucket, delta);
        add_to(&mut self.charges.tenants, tenant, delta);
        Ok(())
    }

    /// Books all changes of usage, if the allowances hold them, and writes the buckets.
    pub fn book(&mut self) -> Result<(), Stop> {
        let charges = std::mem::take(&mut self.charges);
        for (bucket, delta) in charges.buckets {
            if delta == Delta::default() {
                continue;
            }
            let key = keys::bucket(bucket);
            let Some(row) = self.bucket_mut(bucket)? else {
                continue;
            };
            count(row.usage.get_or_insert_default(), &delta)
                .ok_or_else(|| damaged(&key, BELOW_ZERO))?;
            take(row.account.as_mut(), &delta, AccountId::Bucket(bucket))?;
        }
        for (tenant, delta) in charges.tenants {
            if delta == Delta::default() {
                continue;
            }
            let key = keys::tenant(tenant);
            let mut row: row::Tenant = self.ledger.row(&key)?.unwrap_or_default();
            count(row.usage.get_or_insert_default(), &delta)
                .ok_or_else(|| damaged(&key, BELOW_ZERO))?;
            take(row.account.as_mut(), &delta, AccountId::Tenant(tenant))?;
            self.ledger.put_row(key, &row)?;
        }
        Ok(self.write_buckets()?)
    }
}

const BELOW_ZERO: &str = "usage would fall below zero";

fn count(usage: &mut row::Usage, delta: &Delta) -> Option<()> {
    usage.bytes = usage.bytes.checked_add_signed(delta.bytes)?;
    usage.objects = usage.objects.checked_add_signed(delta.objects)?;
    usage.versions = usage.versions.checked_add_signed(delta.versions)?;
    usage.markers = usage.markers.checked_add_signed(delta.markers)?;
    usage.uploads = usage.uploads.checked_add_signed(delta.uploads)?;
    usage.reserved = usage.reserved.checked_add_signed(delta.reserved)?;
    usage.reserved_versions = usage
        .reserved_versions
        .checked_add_signed(delta.reserved_versions)?;
    Some(())
}

fn take(account: Option<&mut row::Account>, delta: &Delta, whose: AccountId) -> Result<(), Stop> {
    let Some(account) = account else {
        return Ok(());
    };
    let (bytes, objects) = delta.takes();
    for (limited, left, taken) in [
        (account.bytes_limited, &mut account.bytes, bytes),
        (account.objects_limited, &mut account.objects, objects),
    ] {
        if limited {
            if taken > 0 && *left < taken {
                return Err(TryAgain::NeedsAllowance(whose).into());
            }
            *left -= taken;
        }
    }
    Ok(())
}

/// The numbers that a scan of all rows gives; `book`'s must be the same.
#[cfg(test)]
pub(super) mod recount {
    use std::collections::BTreeMap;

    use prost::Message;

    use super::*;
    use crate::engine::View;

    /// Usage by bucket, counted from the rows.
    pub fn by_bucket(view: &dyn View) -> BTreeMap<BucketId, row::Usage> {
        let mut usage: BTreeMap<BucketId, row::Usage> = BTreeMap::new();
        let mut uploads: BTreeMap<keys::UploadName, row::Upload> = BTreeMap::new();
        let mut parts: Vec<(keys::UploadName, u16, row::Part)> = Vec::new();
        let mut intents = Vec::new();
        let all = keys::everything();
        for found in view.scan(&all.from, &all.to) {
            let (key, row) = found.unwrap();
            if let Some((bucket, _)) = keys::parse_current(&key) {
                let current = row::Current::decode(row).unwrap();
                let usage = usage.entry(bucket).or_default();
                if let Some(version) = &current.version {
                    usage.objects += u64::from(!version.delete_marker);
                    count(usage, version);
                }
                if let Some(row::intent::Write::Put(version)) = current.intent.and_then(|i| i.write)
                {
                    intents.push((bucket, version));
                }
            } else if let Some((bucket, _, _)) = keys::parse_older(&key) {
                count(
                    usage.entry(bucket).or_default(),
                    &row::Version::decode(row).unwrap(),
                );
            } else if keys::parse_stage(&key).is_some() {
                let stage = row::Stage::decode(row).unwrap();
                let usage = usage.entry(BucketId(stage.bucket)).or_default();
                usage.reserved += stage.reserved;
                usage.reserved_versions += u64::from(stage.upload.is_empty());
            } else if let Some((bucket, _, _)) = keys::parse_open_upload(&key) {
                usage.entry(bucket).or_default().uploads += 1;
            } else if let Some((upload, number)) = keys::parse_part(&key) {
                parts.push((upload, number, row::Part::decode(row).unwrap()));
            } else if key.len() == 19 && key[0] == 0 && key[2] == 0x05 {
                uploads.insert(
                    key[3..].try_into().unwrap(),
                    row::Upload::decode(row).unwrap(),
                );
            }
        }
        for (name, number, part) in parts {
            let upload = &uploads[&name];
            let listed = upload.completed.as_ref().is_some_and(|done| {
                done.parts
                    .iter()
                    .any(|range| (range.first..=range.last).contains(&u32::from(number)))
            });
            if !listed {
                usage.entry(BucketId(upload.bucket)).or_default().bytes += part.size;
            }
        }
        for (bucket, version) in intents {
            let usage = usage.entry(bucket).or_default();
            // Chunks are held by their stage.
            let chunks = matches!(
                version.content.as_ref().and_then(|c| c.kind.as_ref()),
                Some(row::content::Kind::Chunks(_))
            );
            if !chunks && !version.delete_marker {
                usage.reserved += version.size;
                usage.reserved_versions += 1;
            }
        }
        usage.retain(|_, usage| *usage != row::Usage::default());
        usage
    }

    fn count(usage: &mut row::Usage, version: &row::Version) {
        usage.bytes += version.size;
        if version.delete_marker {
            usage.markers += 1;
        } else {
            usage.versions += 1;
        }
    }
}
