//! What has come of age. Pure: rules, a version and the time in; due or not out.
//!
//! ```text
//!   written ----- n days -----|-- rounded up to midnight --> due
//! ```
//! Always true:
//! * nothing is due before its days are over, and everything is when the midnight after them begins;
//! * what is due stays due;
//! * of several rules the earliest counts; a disabled one never does;
//! * a delete marker has neither tags nor size: a filter that asks for either is not about it.
//!
//! The length of a day is given: shorter ones are for tests. What clients are told is always in real days.

use super::{Expiration, Filter, Lifecycle, Rule};
use crate::object::dates;
use crate::object::tags::Tags;

/// A day, in milliseconds.
pub const DAY_MS: u64 = 24 * 3600 * 1000;

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its tags.
    pub tags: &'a Tags,
    /// Bytes, as clients see them.
    pub size: u64,
}

/// When something goes that ages from `from_ms` for so many days: the midnight after they are over.
pub fn due_at(from_ms: u64, days: u32, day_ms: u64) -> u64 {
    let over = from_ms.saturating_add(u64::from(days).saturating_mul(day_ms));
    (over / day_ms).saturating_add(1).saturating_mul(day_ms)
}

impl Filter {
    fn fits_key(&self, key: &[u8]) -> bool {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        key.starts_with(prefix.as_bytes())
    }

    /// It asks for nothing but a prefix.
    pub fn is_prefix(&self) -> bool {
        self.tags.is_empty() && self.larger_than.is_none() && self.smaller_than.is_none()
    }

    fn fits(&self, subject: &Subject<'_>) -> bool {
        let tagged = |(key, value): &(String, String)| {
            subject
                .tags
                .iter()
                .any(|tag| tag == (key.as_str(), value.as_str()))
        };
        self.fits_key(subject.key)
            && self.larger_than.is_none_or(|than| subject.size > than)
            && self.smaller_than.is_none_or(|than| subject.size < than)
            && self.tags.iter().all(tagged)
    }
}

impl Lifecycle {
    fn enabled(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.enabled)
    }

    /// When an object goes, and by which rule; `None`: it stays.
    pub fn expiry(
        &self,
        object: &Subject<'_>,
        modified_ms: u64,
        day_ms: u64,
    ) -> Option<(u64, &Rule)> {
        let goes = self.enabled().filter_map(|rule| {
            let at = match rule.expiration? {
                Expiration::Days(days) => due_at(modified_ms, days, day_ms),
                Expiration::Date(at) => at,
                Expiration::Marker(_) => return None,
            };
            rule.filter.fits(object).then_some((at, rule))
        });
        // The first of the earliest.
        goes.min_by_key(|(at, _)| *at)
    }

    /// Whether a delete marker that hides nothing goes.
    pub fn marker_is_due(&self, now_ms: u64, key: &[u8], modified_ms: u64, day_ms: u64) -> bool {
        self.enabled()
            .filter(|rule| rule.filter.is_prefix() && rule.filter.fits_key(key))
            .any(|rule| match rule.expiration {
                Some(Expiration::Marker(goes)) => goes,
                Some(Expiration::Days(days)) => due_at(modified_ms, days, day_ms) <= now_ms,
                Some(Expiration::Date(_)) | None => false,
            })
    }

    /// Whether a version that was replaced at `since_ms` goes, with so many newer ones of its kind: how many the rule
    /// keeps. Without a subject it is a delete marker.
    pub fn noncurrent_is_due(
        &self,
        now_ms: u64,
        key: &[u8],
        version: Option<&Subject<'_>>,
        since_ms: u64,
        newer: u32,
        day_ms: u64,
    ) -> Option<u32> {
        self.enabled()
            .filter(|rule| match version {
                Some(version) => rule.filter.fits(version),
                None => rule.filter.is_prefix() && rule.filter.fits_key(key),
            })
            .filter_map(|rule| rule.noncurrent)
            .filter(|rule| rule.keep <= newer && due_at(since_ms, rule.days, day_ms) <= now_ms)
            .map(|rule| rule.keep)
            .min()
    }

    /// When an open upload is aborted, and by which rule; `None`: by none.
    pub fn abort(&self, key: &[u8], created_ms: u64, day_ms: u64) -> Option<(u64, &Rule)> {
        self.enabled()
            .filter(|rule| rule.filter.fits_key(key))
            .filter_map(|rule| Some((due_at(created_ms, rule.abort_days?, day_ms), rule)))
            .min_by_key(|(at, _)| *at)
    }

    /// Keys that start with none of these are in no rule; ascending, none a prefix of another.
    pub fn prefixes(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self
            .enabled()
            .map(|rule| rule.filter.prefix.as_deref().unwrap_or_default())
            .collect();
        all.sort_unstable();
        all.dedup_by(|next, kept| next.starts_with(*kept));
        all
    }

    /// Whether any rule looks at sizes.
    pub fn looks_at_sizes(&self) -> bool {
        let looks = |filter: &Filter| filter.larger_than.is_some() || filter.smaller_than.is_some();
        self.enabled().any(|rule| looks(&rule.filter))
    }

    /// `x-amz-expiration` of an object, in real days.
    pub fn expiration_header(&self, object: &Subject<'_>, modified_ms: u64) -> Option<String> {
        let (at, rule) = self.expiry(object, modified_ms, DAY_MS)?;
        let date = dates::http_date(at / 1000);
        let id = in_header(&rule.id);
        Some(format!("expiry-date=\"{date}\", rule-id=\"{id}\""))
    }
}

/// An id as headers carry it.
pub fn in_header(id: &str) -> String {
    let mut text = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::super::Noncurrent;
    use super::*;
    use crate::object::tags::Tagged;

    fn rule(prefix: &str, expiration: Expiration) -> Rule {
        Rule {
            id: "r".into(),
            enabled: true,
            filter: Filter {
                prefix: Some(prefix.into()),
                ..Filter::default()
            },
            expiration: Some(expiration),
            ..Rule::default()
        }
    }

    fn of(rules: Vec<Rule>) -> Lifecycle {
        Lifecycle {
            rules,
            minimum_varies: false,
        }
    }

    fn subject<'a>(key: &'a str, tags: &'a Tags) -> Subject<'a> {
        Subject {
            key: key.as_bytes(),
            tags,
            size: 100,
        }
    }

    /// S3's own example: written on January 15th at 10:30, three days: gone on the 19th at 0:00.
    #[test]
    fn days_end_at_the_midnight_after_them() {
        let written = dates::parse_http_date("Wed, 15 Jan 2014 10:30:00 GMT").unwrap() * 1000;
        let at = due_at(written, 3, DAY_MS);
        assert_eq!(dates::http_date(at / 1000), "Sun, 19 Jan 2014 00:00:00 GMT");
    }

    #[test]
    fn the_earliest_rule_that_fits_counts() {
        let tags = Tags::new(Tagged::Object, vec![("a".into(), "1".into())]).unwrap();
        let none = Tags::default();
        let with = |filter: Filter, days| Rule {
            filter,
            ..rule("", Expiration::Days(days))
        };
        let mut disabled = rule("", Expiration::Days(1));
        disabled.enabled = false;
        let rules = of(vec![
            disabled,
            rule("", Expiration::Days(9)),
            rule("logs/", Expiration::Days(5)),
            rule("logs/", Expiration::Marker(true)),
            with(
                Filter {
                    tags: vec![("a".into(), "1".into())],
                    ..Filter::default()
                },
                3,
            ),
            with(
                Filter {
                    larger_than: Some(100),
                    ..Filter::default()
                },
                2,
            ),
            with(
                Filter {
                    prefix: Some("s/".into()),
                    larger_than: Some(99),
                    smaller_than: Some(101),
                    ..Filter::default()
                },
                1,
            ),
        ]);
        let days = |key, tags| {
            let found = rules.expiry(&subject(key, tags), 5, DAY_MS);
            found.map(|(at, _)| at / DAY_MS - 1)
        };
        assert_eq!(days("x", &none), Some(9));
        assert_eq!(days("logs/x", &none), Some(5));
        assert_eq!(days("logs/x", &tags), Some(3));
        assert_eq!(days("s/x", &none), Some(1));
        assert_eq!(rules.prefixes(), [""]);
        let date = of(vec![
            rule("d", Expiration::Date(7)),
            rule("", Expiration::Days(1)),
        ]);
        assert_eq!(date.expiry(&subject("d", &none), 5, DAY_MS).unwrap().0, 7);
    }

    #[test]
    fn versions_that_were_replaced_go_by_age_and_number() {
        let kept = |days, keep| Rule {
            expiration: None,
            noncurrent: Some(Noncurrent { days, keep }),
            ..rule("", Expiration::Days(1))
        };
        let rules = of(vec![kept(5, 0), kept(1, 2)]);
        let none = Tags::default();
        let version = subject("k", &none);
        let due = |day: u64, newer| {
            rules.noncurrent_is_due(day * DAY_MS, b"k", Some(&version), 5, newer, DAY_MS)
        };
        assert_eq!(due(1, 9), None, "a day is not over");
        assert_eq!(due(2, 2), Some(2));
        assert_eq!(due(2, 1), None, "two are kept");
        assert_eq!(due(6, 0), Some(0));
        let marker = |now: u64| rules.noncurrent_is_due(now, b"k", None, 5, 0, DAY_MS);
        assert_eq!(marker(6 * DAY_MS), Some(0));
        let mut tagged = kept(1, 0);
        tagged.filter.tags = vec![("a".into(), "b".into())];
        let rules = of(vec![tagged]);
        assert_eq!(
            rules.noncurrent_is_due(9 * DAY_MS, b"k", None, 5, 0, DAY_MS),
            None
        );
    }

    #[test]
    fn markers_that_hide_nothing_go_at_once_or_with_the_days() {
        let due =
            |rule: Rule, day: u64| of(vec![rule]).marker_is_due(day * DAY_MS, b"k", 5, DAY_MS);
        assert!(due(rule("k", Expiration::Marker(true)), 0));
        assert!(!due(rule("k", Expiration::Marker(false)), 9));
        assert!(!due(rule("x", Expiration::Marker(true)), 9));
        assert!(!due(rule("k", Expiration::Days(2)), 2));
        assert!(due(rule("k", Expiration::Days(2)), 3));
        assert!(!due(rule("k", Expiration::Date(0)), 9));
    }

    #[test]
    fn clients_are_told_date_and_rule() {
        let mut named = rule("", Expiration::Days(3));
        named.id = "a rule, \"ä\"".into();
        let told = of(vec![named]).expiration_header(&subject("k", &Tags::default()), 0);
        let expected =
            "expiry-date=\"Mon, 05 Jan 1970 00:00:00 GMT\", rule-id=\"a%20rule%2C%20%22%C3%A4%22\"";
        assert_eq!(told.unwrap(), expected);
    }

    fn any_filter() -> impl Strategy<Value = Filter> {
        let prefix = proptest::option::of(proptest::sample::select(vec!["", "a", "ab", "b/"]));
        let tag = proptest::option::of(proptest::sample::select(vec!["red", "blue"]));
        let bound = || proptest::option::of(0u64..4);
        (prefix, tag, bound(), bound()).prop_map(|(prefix, tag, larger_than, smaller_than)| {
            Filter {
                prefix: prefix.map(str::to_owned),
                tags: tag
                    .map(|value| ("colour".to_owned(), value.to_owned()))
                    .into_iter()
                    .collect(),
                larger_than,
                smaller_than,
                ..Filter::default()
            }
        })
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let expiration = proptest::option::of(prop_oneof![
            (1u32..5).prop_map(Expiration::Days),
            (0u64..80).prop_map(Expiration::Date),
            any::<bool>().prop_map(Expiration::Marker),
        ]);
        let noncurrent = proptest::option::of((1u32..5, 0u32..3));
        let abort = proptest::option::of(1u32..5);
        (any::<bool>(), any_filter(), expiration, noncurrent, abort).prop_map(
            |(enabled, filter, expiration, noncurrent, abort_days)| Rule {
                id: String::new(),
                enabled,
                filter,
                expiration,
                noncurrent: noncurrent.map(|(days, keep)| Noncurrent { days, keep }),
                abort_days,
            },
        )
    }

    proptest! {
        /// What the rules say together is what each of them says alone; a disabled one says nothing; what is due stays
        /// due, is within the walked prefixes, and was old enough.
        #[test]
        fn rules_say_together_what_each_says_alone(
            rules in proptest::collection::vec(any_rule(), 0..5),
            key in proptest::sample::select(vec!["", "a", "abc", "b", "b/x", "c"]),
            colour in proptest::option::of(proptest::sample::select(vec!["red", "blue"])),
            size in 0u64..5, written in 0u64..60, now in 0u64..140, newer in 0u32..4, day in 1u64..12,
        ) {
            let pairs = colour.map(|value| ("colour".to_owned(), value.to_owned()));
            let tags = Tags::new(Tagged::Object, pairs.into_iter().collect()).unwrap();
            let object = Subject { key: key.as_bytes(), tags: &tags, size };
            let together = of(rules.clone());
            let alone: Vec<Lifecycle> = rules.iter().map(|rule| of(vec![rule.clone()])).collect();
            let told = |l: &Lifecycle| l.expiry(&object, written, day).map(|(at, _)| at);
            let noncurrent = |l: &Lifecycle, now, version| {
                l.noncurrent_is_due(now, key.as_bytes(), version, written, newer, day)
            };
            let marker = |l: &Lifecycle, now| l.marker_is_due(now, key.as_bytes(), written, day);
            let abort = |l: &Lifecycle| l.abort(key.as_bytes(), written, day).map(|(at, _)| at);
            prop_assert_eq!(told(&together), alone.iter().filter_map(told).min());
            prop_assert_eq!(abort(&together), alone.iter().filter_map(abort).min());
            prop_assert_eq!(marker(&together, now), alone.iter().any(|l| marker(l, now)));
            for version in [Some(&object), None] {
                let each = alone.iter().filter_map(|l| noncurrent(l, now, version)).min();
                prop_assert_eq!(noncurrent(&together, now, version), each);
                if each.is_some() {
                    prop_assert!(noncurrent(&together, now + 1, version).is_some());
                    prop_assert!(each.unwrap() <= newer && now > written + day);
                }
            }
            if marker(&together, now) {
                prop_assert!(marker(&together, now + 1));
            }
            for (rule, alone) in rules.iter().zip(&alone) {
                let says = told(alone).is_some() || abort(alone).is_some();
                let walked = together.prefixes().iter().any(|prefix| key.starts_with(prefix));
                prop_assert!(!says || (rule.enabled && walked));
                if let (Some(at), Some(Expiration::Days(days))) = (told(alone), rule.expiration) {
                    let over = written + u64::from(days) * day;
                    prop_assert!(at > over && at <= over + day && at.is_multiple_of(day));
                    prop_assert!(rule.filter.larger_than.is_none_or(|than| size > than));
                    prop_assert!(rule.filter.smaller_than.is_none_or(|than| size < than));
                }
            }
        }
    }
}
