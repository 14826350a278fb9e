//! What the core asks of us when it walks through buckets: what do these bytes mean, and has this come of age?
//!
//! Always true: what cannot be read has not come of age.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use minikv_core::kv::Bucket;
use minikv_core::kv::lifecycle::{Aging, Due, Lifecycle, Rank, Rules};

use crate::object::bucket_settings::BucketSettings;
use crate::object::lifecycle;
use crate::object::lifecycle::due::Subject;
use crate::object::record::ObjectRecord;
use crate::object::tags::Tags;

/// Reads rules, with days of a given length.
#[derive(Debug)]
pub struct Calendar {
    day: Duration,
}

impl Calendar {
    /// Days of 24 hours, but in tests.
    pub fn new(day: Duration) -> Calendar {
        Calendar { day }
    }
}

impl Lifecycle for Calendar {
    fn rules(&self, bucket: &Bucket) -> Result<Option<Arc<dyn Rules>>, String> {
        let rules = BucketSettings::lifecycle_of(&bucket.settings);
        let rules = rules.map_err(|error| format!("its lifecycle rules: {error}"))?;
        Ok(rules.map(|rules| {
            Arc::new(Judge {
                sizes: rules.looks_at_sizes(),
                rules,
                day_ms: (self.day.as_millis() as u64).max(1),
            }) as Arc<dyn Rules>
        }))
    }

    fn day(&self) -> Duration {
        self.day
    }
}

/// The rules of one bucket.
struct Judge {
    rules: lifecycle::Lifecycle,
    sizes: bool,
    day_ms: u64,
}

impl Judge {
    /// Bytes as clients see them: of an encrypted object its record knows.
    fn size(&self, version: &Aging<'_>) -> Option<u64> {
        if !self.sizes {
            return Some(version.size);
        }
        let record = ObjectRecord::decode(version.meta).ok()?;
        Some(record.size(version.size))
    }
}

impl Rules for Judge {
    fn prefixes(&self) -> Vec<Bytes> {
        let bytes = |prefix: &str| Bytes::copy_from_slice(prefix.as_bytes());
        self.rules.prefixes().into_iter().map(bytes).collect()
    }

    fn due(&self, now_ms: u64, version: &Aging<'_>) -> Option<Due> {
        let (key, day_ms) = (version.key, self.day_ms);
        if version.rank == Rank::LoneMarker {
            let due = self
                .rules
                .marker_is_due(now_ms, key, version.modified_ms, day_ms);
            return due.then_some(Due { newer: 0 });
        }
        let tags = Tags::decode(version.tags).ok()?;
        let subject = Subject {
            key,
            tags: &tags,
            size: self.size(version)?,
        };
        match version.rank {
            Rank::Newest => {
                let (at, _) = self.rules.expiry(&subject, version.modified_ms, day_ms)?;
                (at <= now_ms).then_some(Due { newer: 0 })
            }
            Rank::Noncurrent {
                since_ms,
                newer,
                marker,
            } => {
                let subject = (!marker).then_some(&subject);
                let keep = self
                    .rules
                    .noncurrent_is_due(now_ms, key, subject, since_ms, newer, day_ms)?;
                Some(Due { newer: keep })
            }
            Rank::LoneMarker => None,
        }
    }

    fn upload_is_due(&self, now_ms: u64, key: &[u8], created_ms: u64) -> bool {
        let due = self.rules.abort(key, created_ms, self.day_ms);
        due.is_some_and(|(at, _)| at <= now_ms)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::object::lifecycle::{Expiration, Filter, Rule};
    use minikv_core::ids::{BucketId, TenantId};

    fn bucket(settings: Bytes) -> Bucket {
        Bucket {
            id: BucketId(1),
            name: "b".into(),
            tenant: TenantId(1),
            owner: "o".into(),
            created_ms: 0,
            versioning: Default::default(),
            lock: None,
            epoch: 1,
            settings,
        }
    }

    fn rules(rule: Rule) -> Arc<dyn Rules> {
        let settings = BucketSettings {
            lifecycle: Some(lifecycle::Lifecycle {
                rules: vec![rule],
                minimum_varies: false,
            }),
            ..BucketSettings::default()
        };
        let calendar = Calendar::new(Duration::from_secs(1));
        calendar.rules(&bucket(settings.encode())).unwrap().unwrap()
    }

    #[test]
    fn rules_that_cannot_be_read_let_nothing_go() {
        let calendar = Calendar::new(Duration::from_secs(1));
        assert!(calendar.rules(&bucket(Bytes::new())).unwrap().is_none());
        let damaged = calendar.rules(&bucket(Bytes::from_static(&[0xff, 1, 2])));
        assert!(damaged.err().unwrap().starts_with("its lifecycle rules: "));
    }

    /// Tags or a record that cannot be read are no reason to delete anything.
    #[test]
    fn a_version_that_cannot_be_read_stays() {
        let rule = Rule {
            enabled: true,
            expiration: Some(Expiration::Days(1)),
            ..Rule::default()
        };
        let by_size = Rule {
            filter: Filter {
                larger_than: Some(0),
                ..Filter::default()
            },
            ..rule.clone()
        };
        let (good, bad) = (Bytes::new(), Bytes::from_static(&[0xff]));
        let aging = |meta, tags| Aging {
            key: b"k",
            modified_ms: 0,
            size: 5,
            meta,
            tags,
            rank: Rank::Newest,
        };
        let due = |rule: &Rule, aging| rules(rule.clone()).due(1_000_000, &aging).is_some();
        assert!(due(&rule, aging(&good, &good)));
        assert!(due(&rule, aging(&bad, &good)), "no rule looks at it");
        assert!(due(&by_size, aging(&good, &good)));
        assert!(!due(&by_size, aging(&bad, &good)));
        assert!(!due(&rule, aging(&good, &bad)));
    }
}
