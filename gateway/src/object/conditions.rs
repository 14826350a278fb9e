//! `If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since`.
//!
//! Reads are decided here; writes are decided by the core when they are applied, this file only reads their headers.
//!
//! Always true: a condition that stands beside a stronger one is not looked at (RFC 9110, section 13.2.2):
//! ETags decide over dates.

/// The ETags of one header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EtagList {
    any: bool,
    tags: Vec<Tag>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Tag {
    value: String,
    weak: bool,
}

impl EtagList {
    /// `*`, or ETags between commas, with or without quotes (SDKs send both). `None`: nothing of the kind.
    pub fn parse(text: &str) -> Option<EtagList> {
        let text = text.trim();
        if text == "*" {
            return Some(EtagList {
                any: true,
                tags: Vec::new(),
            });
        }
        let mut tags = Vec::new();
        let mut rest = text;
        loop {
            rest = rest.trim_start();
            let (weak, after_weak) = match rest.strip_prefix("W/") {
                Some(after) => (true, after),
                None => (false, rest),
            };
            let (value, after) = match after_weak.strip_prefix('"') {
                Some(inner) => inner.split_once('"')?,
                None if weak => return None,
                None => match rest.split_once(',') {
                    Some((value, after)) => {
                        (value.trim_end(), &rest[rest.len() - after.len() - 1..])
                    }
                    None => (rest, ""),
                },
            };
            if value.is_empty() || value.contains('"') {
                return None;
            }
            tags.push(Tag {
                value: value.to_owned(),
                weak,
            });
            rest = after.trim_start();
            if rest.is_empty() {
                return Some(EtagList { any: false, tags });
            }
            rest = rest.strip_prefix(',')?;
        }
    }

    /// For `If-Match`: a weak ETag is equal to nothing.
    fn matches_strongly(&self, etag: &str) -> bool {
        self.any || self.tags.iter().any(|tag| !tag.weak && tag.value == etag)
    }

    /// For `If-None-Match`.
    fn matches_weakly(&self, etag: &str) -> bool {
        self.any || self.tags.iter().any(|tag| tag.value == etag)
    }

    /// For the core, which decides a write's `If-Match`: weak ones left out, `*` as itself.
    pub fn strong_values(self) -> Vec<String> {
        if self.any {
            return vec!["*".to_owned()];
        }
        self.tags
            .into_iter()
            .filter(|tag| !tag.weak)
            .map(|tag| tag.value)
            .collect()
    }

    /// For the core, which decides a write's `If-None-Match`.
    pub fn values(self) -> Vec<String> {
        if self.any {
            return vec!["*".to_owned()];
        }
        self.tags.into_iter().map(|tag| tag.value).collect()
    }
}

/// The conditions of a read, or of a copy on its source.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadConditions {
    /// `If-Match`.
    pub if_match: Option<EtagList>,
    /// `If-None-Match`.
    pub if_none_match: Option<EtagList>,
    /// `If-Modified-Since`, seconds since 1970.
    pub if_modified_since: Option<u64>,
    /// `If-Unmodified-Since`, seconds since 1970.
    pub if_unmodified_since: Option<u64>,
}

/// What the conditions of a read come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Answer as if there were none.
    Proceed,
    /// 304: the client has it.
    NotModified,
    /// 412.
    PreconditionFailed,
}

impl ReadConditions {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == ReadConditions::default()
    }

    /// Looks at a version. Dates on the wire have whole seconds, so the version's is cut to them.
    pub fn check(&self, etag: &str, modified_ms: u64) -> Verdict {
        let modified = modified_ms / 1_000;
        let unchanged = match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) => tags.matches_strongly(etag),
            (None, Some(since)) => modified <= since,
            (None, None) => true,
        };
        if !unchanged {
            return Verdict::PreconditionFailed;
        }
        let changed = match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => !tags.matches_weakly(etag),
            (None, Some(since)) => modified > since,
            (None, None) => true,
        };
        if changed {
            Verdict::Proceed
        } else {
            Verdict::NotModified
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tags(text: &str) -> Option<EtagList> {
        Some(EtagList::parse(text).unwrap())
    }

    #[test]
    fn etags_come_in_all_shapes_clients_send() {
        for (text, values) in [
            ("\"abc\"", vec!["abc"]),
            ("abc", vec!["abc"]),
            ("abc-12", vec!["abc-12"]),
            ("\"a\", \"b\"", vec!["a", "b"]),
            ("a,b", vec!["a", "b"]),
            ("W/\"a\" ,\"b\"", vec!["a", "b"]),
            ("\"a,b\"", vec!["a,b"]),
            ("*", vec!["*"]),
        ] {
            assert_eq!(EtagList::parse(text).unwrap().values(), values, "{text}");
        }
        for bad in [
            "",
            "\"",
            "\"a",
            "a\"b",
            "W/a",
            "\"a\" \"b\"",
            ",",
            "\"a\",",
            "\"\"",
        ] {
            assert_eq!(EtagList::parse(bad), None, "{bad}");
        }
        assert_eq!(
            EtagList::parse("W/\"a\", b").unwrap().strong_values(),
            ["b"]
        );
    }

    /// The table of the S3 user guide, both directions of both pairs.
    #[test]
    fn etags_decide_over_dates() {
        let (etag, modified_ms) = ("e", 1_000_999);
        let same = 1_000;
        for (conditions, verdict) in [
            (ReadConditions::default(), Verdict::Proceed),
            (
                ReadConditions {
                    if_match: tags("e"),
                    ..Default::default()
                },
                Verdict::Proceed,
            ),
            (
                ReadConditions {
                    if_match: tags("x"),
                    ..Default::default()
                },
                Verdict::PreconditionFailed,
            ),
            (
                ReadConditions {
                    if_match: tags("W/\"e\""),
                    ..Default::default()
                },
                Verdict::PreconditionFailed,
            ),
            (
                ReadConditions {
                    if_match: tags("*"),
                    ..Default::default()
                },
                Verdict::Proceed,
            ),
            (
                ReadConditions {
                    if_match: tags("e"),
                    if_unmodified_since: Some(same - 1),
                    ..Default::default()
                },
                Verdict::Proceed,
            ),
            (
                ReadConditions {
                    if_unmodified_since: Some(same),
                    ..Default::default()
                },
                Verdict::Proceed,
            ),
            (
                ReadConditions {
                    if_unmodified_since: Some(same - 1),
                    ..Default::default()
                },
                Verdict::PreconditionFailed,
            ),
            (
                ReadConditions {
                    if_none_match: tags("e"),
                    ..Default::default()
                },
                Verdict::NotModified,
            ),
            (
                ReadConditions {
                    if_none_match: tags("W/\"e\""),
                    ..Default::default()
                },
                Verdict::NotModified,
            ),
            (
                ReadConditions {
                    if_none_match: tags("x"),
                    ..Default::default()
                },
                Verdict::Proceed,
            ),
            (
                ReadConditions {
                    if_none_match: tags("e"),
                    if_modified_since: Some(same - 1),
                    ..Default::default()
                },
                Verdict::NotModified,
            ),
            (
                ReadConditions {
                    if_none_match: tags("x"),
                    if_modified_since: Some(same),
                    ..Default::default()
                },
                Verdict::Proceed,
            ),
            (
                ReadConditions {
                    if_modified_since: Some(same),
                    ..Default::default()
                },
                Verdict::NotModified,
            ),
            (
                ReadConditions {
                    if_modified_since: Some(same - 1),
                    ..Default::default()
                },
                Verdict::Proceed,
            ),
            (
                ReadConditions {
                    if_match: tags("x"),
                    if_none_match: tags("e"),
                    ..Default::default()
                },
                Verdict::PreconditionFailed,
            ),
        ] {
            assert_eq!(
                conditions.check(etag, modified_ms),
                verdict,
                "{conditions:?}"
            );
        }
    }
}
