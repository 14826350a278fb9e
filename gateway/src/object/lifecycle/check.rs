//! Rules as a document gives them, checked before they are kept: S3's limits, S3's codes, S3's words.
//!
//! A document whose first rule has a `Filter` is of the new kind, and then all of its rules have one; otherwise all of
//! them have the old `Prefix`.
//!
//! Always true: what comes out can be carried out to the letter. Transitions between storage classes cannot, and are
//! refused by name after everything else, so that a document that S3 refuses is answered as S3 does.

use std::collections::BTreeSet;

use super::due::DAY_MS;
use super::{Expiration, Filter, Form, Lifecycle, Noncurrent, Rule};

/// Most rules of a bucket.
const MAX_RULES: usize = 1000;
/// Longest id, in UTF-16 units, as S3 counts.
const MAX_ID: usize = 255;
/// Longest prefix: the longest key.
const MAX_PREFIX: usize = 1024;
/// Most tags of a filter: an object has no more.
const MAX_TAGS: usize = 10;
/// Most noncurrent versions that a rule keeps.
const MAX_KEEP: u32 = 500;
/// Largest size that a filter may name.
const MAX_SIZE: u64 = 1_099_511_627_776_000;

/// A rule as it was read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "named after the elements of the document")]
pub struct Draft {
    pub id: Option<String>,
    pub status: String,
    pub prefix: Option<String>,
    pub filter: Option<DraftFilter>,
    pub expiration: Option<DraftExpiration>,
    pub noncurrent: Option<DraftNoncurrent>,
    pub abort: Option<DraftAbort>,
    pub transitions: bool,
    pub noncurrent_transitions: bool,
}

/// `<Filter>`: one of these, or nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "named after the elements of the document")]
pub struct DraftFilter {
    pub one: Conditions,
    pub and: Option<Conditions>,
}

/// What may stand in `<Filter>`, and together in `<And>`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "named after the elements of the document")]
pub struct Conditions {
    pub prefix: Option<String>,
    pub tags: Vec<(Option<String>, Option<String>)>,
    pub larger_than: Option<i64>,
    pub smaller_than: Option<i64>,
}

/// `<Expiration>`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "named after the elements of the document")]
pub struct DraftExpiration {
    pub days: Option<i32>,
    /// Ms since 1970; may be before.
    pub date_ms: Option<i64>,
    pub marker: Option<bool>,
}

/// `<NoncurrentVersionExpiration>`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "named after the elements of the document")]
pub struct DraftNoncurrent {
    pub days: Option<i32>,
    pub keep: Option<i32>,
}

/// `<AbortIncompleteMultipartUpload>`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "named after the elements of the document")]
pub struct DraftAbort {
    pub days: Option<i32>,
}

/// Why rules are refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LifecycleError {
    /// Not what S3's schema says.
    #[error(
        "The XML you provided was not well-formed or did not validate against our published schema"
    )]
    Malformed,
    /// A value that cannot be.
    #[error("{0}")]
    Argument(String),
    /// Things that do not go together.
    #[error("{0}")]
    Request(String),
    /// S3 has it and we do not.
    #[error("{0}")]
    NotDone(&'static str),
}

type Checked<T> = Result<T, LifecycleError>;

fn argument<T>(what: impl Into<String>) -> Checked<T> {
    Err(LifecycleError::Argument(what.into()))
}

fn request<T>(what: impl Into<String>) -> Checked<T> {
    Err(LifecycleError::Request(what.into()))
}

/// Checks rules. `make_id` makes one for a rule that has none.
pub fn check(
    drafts: Vec<Draft>,
    minimum_varies: bool,
    mut make_id: impl FnMut() -> String,
) -> Checked<Lifecycle> {
    if drafts.is_empty() {
        return request("At least one lifecycle rule must be specified.");
    }
    if drafts.len() > MAX_RULES {
        return request(
            "The number of lifecycle rules must not exceed the allowed limit of 1000 rules.",
        );
    }
    let mut ids = BTreeSet::new();
    for id in drafts.iter().filter_map(given_id) {
        if id.encode_utf16().count() > MAX_ID {
            return argument("ID length should not exceed allowed limit of 255");
        }
        if !ids.insert(id.to_owned()) {
            return argument("Rule ID must be unique. Found same ID for more than one rule");
        }
    }
    let with_filters = drafts.first().is_some_and(|rule| rule.filter.is_some());
    let mut rules = Vec::with_capacity(drafts.len());
    for draft in &drafts {
        rules.push(rule(draft, with_filters)?);
    }
    if !with_filters {
        overlaps(&rules)?;
    }
    if drafts.iter().any(|draft| draft.transitions) {
        return Err(LifecycleError::NotDone("Transition in a lifecycle rule"));
    }
    if drafts.iter().any(|draft| draft.noncurrent_transitions) {
        return Err(LifecycleError::NotDone(
            "NoncurrentVersionTransition in a lifecycle rule",
        ));
    }
    for (rule, draft) in rules.iter_mut().zip(&drafts) {
        rule.id = match given_id(draft) {
            Some(id) => id.to_owned(),
            None => make_id(),
        };
    }
    Ok(Lifecycle {
        rules,
        minimum_varies,
    })
}

fn given_id(draft: &Draft) -> Option<&str> {
    draft.id.as_deref().filter(|id| !id.is_empty())
}

/// A rule, still without its id.
fn rule(draft: &Draft, with_filters: bool) -> Checked<Rule> {
    let enabled = match draft.status.as_str() {
        "Enabled" => true,
        "Disabled" => false,
        _ => return Err(LifecycleError::Malformed),
    };
    let filter = match (&draft.prefix, &draft.filter) {
        (None, None) => return Err(LifecycleError::Malformed),
        (Some(_), _) if with_filters => {
            return request(
                "Base level prefix cannot be used in Lifecycle V2, prefixes are only supported in the Filter.",
            );
        }
        (_, Some(_)) if !with_filters => {
            return request("Filter element can only be used in Lifecycle V2.");
        }
        (Some(prefix), _) => conditions(
            &Conditions {
                prefix: Some(prefix.clone()),
                ..Conditions::default()
            },
            Form::Prefix,
        )?,
        (None, Some(filter)) => of_filter(filter)?,
    };
    let acts = draft.expiration.is_some()
        || draft.noncurrent.is_some()
        || draft.abort.is_some()
        || draft.transitions
        || draft.noncurrent_transitions;
    if !acts {
        return request("At least one action needs to be specified in a rule");
    }
    let expiration = draft.expiration.as_ref().map(expiration).transpose()?;
    let noncurrent = match &draft.noncurrent {
        Some(given) => Some(noncurrent(given, with_filters)?),
        None => None,
    };
    let abort_days = match &draft.abort {
        Some(given) => {
            let action = "'DaysAfterInitiation' for AbortIncompleteMultipartUpload";
            Some(positive(
                given.days.ok_or(LifecycleError::Malformed)?,
                action,
            )?)
        }
        None => None,
    };
    let sized = filter.larger_than.is_some() || filter.smaller_than.is_some();
    for (action, is_there) in [
        (
            "ExpiredObjectDeleteMarker",
            matches!(expiration, Some(Expiration::Marker(_))),
        ),
        ("AbortIncompleteMultipartUpload", abort_days.is_some()),
    ] {
        if is_there && !filter.tags.is_empty() {
            return request(format!("{action} cannot be specified with Tags."));
        }
        if is_there && sized {
            return request(format!("{action} cannot be specified with Object Size."));
        }
    }
    Ok(Rule {
        id: String::new(),
        enabled,
        filter,
        expiration,
        noncurrent,
        abort_days,
    })
}

fn of_filter(filter: &DraftFilter) -> Checked<Filter> {
    let one = &filter.one;
    let alone = usize::from(filter.and.is_some())
        + usize::from(one.prefix.is_some())
        + one.tags.len()
        + usize::from(one.larger_than.is_some())
        + usize::from(one.smaller_than.is_some());
    match &filter.and {
        _ if alone > 1 => Err(LifecycleError::Malformed),
        Some(and) if *and == Conditions::default() => Err(LifecycleError::Malformed),
        Some(and) => conditions(and, Form::And),
        None => conditions(one, Form::One),
    }
}

fn conditions(given: &Conditions, form: Form) -> Checked<Filter> {
    if given
        .prefix
        .as_ref()
        .is_some_and(|prefix| prefix.len() > MAX_PREFIX)
    {
        return argument("The maximum size of a prefix is 1024.");
    }
    if given.tags.len() > MAX_TAGS {
        return argument("A filter names at most 10 tags, as an object has no more.");
    }
    let mut tags: Vec<(String, String)> = Vec::new();
    for (key, value) in &given.tags {
        let key = key.as_ref().filter(|key| !key.is_empty());
        let key = key.ok_or(LifecycleError::Malformed)?;
        if tags.iter().any(|(other, _)| other == key) {
            return request("Duplicate Tag Keys are not allowed.");
        }
        tags.push((key.clone(), value.clone().unwrap_or_default()));
    }
    let larger_than = size(given.larger_than, "ObjectSizeGreaterThan", 0)?;
    let smaller_than = size(given.smaller_than, "ObjectSizeLessThan", 1)?;
    if let (Some(larger), Some(smaller)) = (larger_than, smaller_than)
        && smaller <= larger
    {
        return request(
            "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.",
        );
    }
    Ok(Filter {
        form,
        prefix: given.prefix.clone(),
        tags,
        larger_than,
        smaller_than,
    })
}

fn size(given: Option<i64>, element: &str, least: u64) -> Checked<Option<u64>> {
    let Some(given) = given else {
        return Ok(None);
    };
    match u64::try_from(given) {
        Ok(size) if (least..=MAX_SIZE).contains(&size) => Ok(Some(size)),
        _ => request(format!(
            "'{element}' should be between {least} and {MAX_SIZE}."
        )),
    }
}

fn expiration(given: &DraftExpiration) -> Checked<Expiration> {
    match (given.days, given.date_ms, given.marker) {
        (Some(days), None, None) => positive(days, "'Days' for Expiration").map(Expiration::Days),
        (None, Some(at), None) => match u64::try_from(at) {
            Ok(at) if at.is_multiple_of(DAY_MS) => Ok(Expiration::Date(at)),
            _ => argument("'Date' must be at midnight GMT"),
        },
        (None, None, Some(goes)) => Ok(Expiration::Marker(goes)),
        _ => Err(LifecycleError::Malformed),
    }
}

fn noncurrent(given: &DraftNoncurrent, with_filters: bool) -> Checked<Noncurrent> {
    let days = given.days.ok_or(LifecycleError::Malformed)?;
    let days = positive(days, "'NoncurrentDays' for NoncurrentVersionExpiration")?;
    let keep = match given.keep {
        None => 0,
        Some(_) if !with_filters => {
            return request("NewerNoncurrentVersions element can only be used in Lifecycle V2.");
        }
        Some(keep) => match u32::try_from(keep) {
            Ok(keep @ 1..=MAX_KEEP) => keep,
            Ok(0) | Err(_) => {
                return argument("'NewerNoncurrentVersions' must be a positive integer");
            }
            Ok(_) => return argument("'NewerNoncurrentVersions' must be at most 500"),
        },
    };
    Ok(Noncurrent { days, keep })
}

fn positive(days: i32, action: &str) -> Checked<u32> {
    match u32::try_from(days) {
        Ok(days) if days > 0 => Ok(days),
        _ => argument(format!("{action} action must be a positive integer")),
    }
}

/// Of old rules no two may do the same to one key.
fn overlaps(rules: &[Rule]) -> Checked<()> {
    type Acts = fn(&Rule) -> bool;
    let actions: [(&str, Acts); 3] = [
        ("Expiration", |rule| rule.expiration.is_some()),
        ("NoncurrentVersionExpiration", |rule| {
            rule.noncurrent.is_some()
        }),
        ("AbortIncompleteMultipartUpload", |rule| {
            rule.abort_days.is_some()
        }),
    ];
    for (action, acts) in actions {
        let prefix = |rule: &Rule| rule.filter.prefix.clone().unwrap_or_default();
        let mut prefixes: Vec<String> =
            rules.iter().filter(|rule| acts(rule)).map(prefix).collect();
        prefixes.sort_unstable();
        // A prefix of another one comes before it, and everything between them starts with it too.
        for pair in prefixes.windows(2) {
            if let [first, second] = pair
                && second.starts_with(first.as_str())
            {
                return request(format!(
                    "Found overlapping prefixes '{first}' and '{second}' for same action type '{action}'"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn draft() -> Draft {
        Draft {
            status: "Enabled".into(),
            filter: Some(DraftFilter::default()),
            expiration: Some(DraftExpiration {
                days: Some(1),
                ..DraftExpiration::default()
            }),
            ..Draft::default()
        }
    }

    fn checked(drafts: Vec<Draft>) -> Checked<Lifecycle> {
        let mut made = 0;
        check(drafts, false, || {
            made += 1;
            format!("made-{made}")
        })
    }

    fn refused(change: impl Fn(&mut Draft)) -> LifecycleError {
        let mut changed = draft();
        change(&mut changed);
        checked(vec![changed]).unwrap_err()
    }

    fn says(error: LifecycleError) -> (&'static str, String) {
        let code = match &error {
            LifecycleError::Malformed => "MalformedXML",
            LifecycleError::Argument(_) => "InvalidArgument",
            LifecycleError::Request(_) => "InvalidRequest",
            LifecycleError::NotDone(_) => "NotImplemented",
        };
        (code, error.to_string())
    }

    #[test]
    fn rules_get_ids_and_keep_theirs() {
        let named = Draft {
            id: Some("mine".into()),
            ..draft()
        };
        let rules = checked(vec![draft(), named.clone(), draft()])
            .unwrap()
            .rules;
        let ids: Vec<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids, ["made-1", "mine", "made-2"]);
        assert_eq!(
            says(checked(vec![named.clone(), named]).unwrap_err()).0,
            "InvalidArgument"
        );
        assert!(checked(vec![draft(); 1000]).is_ok());
        assert_eq!(
            says(checked(vec![draft(); 1001]).unwrap_err()).0,
            "InvalidRequest"
        );
        assert_eq!(says(checked(vec![]).unwrap_err()).0, "InvalidRequest");
        let long = |n| refused(|draft| draft.id = Some("x".repeat(n)));
        assert_eq!(
            long(256),
            LifecycleError::Argument("ID length should not exceed allowed limit of 255".into())
        );
    }

    /// One thing wrong each: the code and, where one was recorded, the words of S3.
    #[test]
    fn what_is_wrong_is_told_as_s3_tells_it() {
        type Change = fn(&mut Draft);
        fn expiration(draft: &mut Draft) -> &mut DraftExpiration {
            draft.expiration.get_or_insert_default()
        }
        fn filter(draft: &mut Draft) -> &mut DraftFilter {
            draft.filter.get_or_insert_default()
        }
        fn tag(draft: &mut Draft) {
            filter(draft).one.tags = vec![(Some("a".into()), Some("b".into()))];
        }
        fn abort(draft: &mut Draft, days: Option<i32>) {
            draft.abort = Some(DraftAbort { days });
        }
        fn marker(draft: &mut Draft) {
            *expiration(draft) = DraftExpiration {
                marker: Some(true),
                ..DraftExpiration::default()
            };
        }
        let cases: [(Change, &str, &str); 31] = [
            (|d| d.status = "enabled".into(), "MalformedXML", ""),
            (|d| d.filter = None, "MalformedXML", ""),
            (
                |d| d.prefix = Some("".into()),
                "InvalidRequest",
                "Base level prefix cannot be used in Lifecycle V2",
            ),
            (
                |d| d.expiration = None,
                "InvalidRequest",
                "At least one action",
            ),
            (
                |d| *expiration(d) = DraftExpiration::default(),
                "MalformedXML",
                "",
            ),
            (|d| expiration(d).marker = Some(true), "MalformedXML", ""),
            (|d| expiration(d).date_ms = Some(0), "MalformedXML", ""),
            (
                |d| expiration(d).days = Some(0),
                "InvalidArgument",
                "'Days' for Expiration action must be a positive integer",
            ),
            (
                |d| expiration(d).days = Some(-1),
                "InvalidArgument",
                "'Days'",
            ),
            (
                |d| {
                    *expiration(d) = DraftExpiration {
                        date_ms: Some(3_600_000),
                        ..Default::default()
                    }
                },
                "InvalidArgument",
                "'Date' must be at midnight GMT",
            ),
            (
                |d| {
                    *expiration(d) = DraftExpiration {
                        date_ms: Some(-86_400_000),
                        ..Default::default()
                    }
                },
                "InvalidArgument",
                "'Date'",
            ),
            (
                |d| {
                    d.noncurrent = Some(DraftNoncurrent {
                        days: Some(0),
                        keep: None,
                    })
                },
                "InvalidArgument",
                "'NoncurrentDays' for NoncurrentVersionExpiration action must be a positive integer",
            ),
            (
                |d| {
                    d.noncurrent = Some(DraftNoncurrent {
                        days: None,
                        keep: Some(1),
                    })
                },
                "MalformedXML",
                "",
            ),
            (
                |d| {
                    d.noncurrent = Some(DraftNoncurrent {
                        days: Some(1),
                        keep: Some(0),
                    })
                },
                "InvalidArgument",
                "'NewerNoncurrentVersions' must be a positive integer",
            ),
            (
                |d| {
                    d.noncurrent = Some(DraftNoncurrent {
                        days: Some(1),
                        keep: Some(501),
                    })
                },
                "InvalidArgument",
                "'NewerNoncurrentVersions' must be at most",
            ),
            (|d| abort(d, None), "MalformedXML", ""),
            (
                |d| abort(d, Some(0)),
                "InvalidArgument",
                "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action must be a positive integer",
            ),
            (
                |d| {
                    abort(d, Some(1));
                    tag(d)
                },
                "InvalidRequest",
                "AbortIncompleteMultipartUpload cannot be specified with Tags.",
            ),
            (
                |d| {
                    abort(d, Some(1));
                    filter(d).one.larger_than = Some(1)
                },
                "InvalidRequest",
                "AbortIncompleteMultipartUpload cannot be specified with Object Size.",
            ),
            (
                |d| {
                    marker(d);
                    tag(d)
                },
                "InvalidRequest",
                "ExpiredObjectDeleteMarker cannot be specified with Tags.",
            ),
            (
                |d| {
                    marker(d);
                    filter(d).one.smaller_than = Some(1)
                },
                "InvalidRequest",
                "ExpiredObjectDeleteMarker cannot be specified with Object Size.",
            ),
            (
                |d| {
                    filter(d).one = Conditions {
                        prefix: Some("".into()),
                        larger_than: Some(1),
                        ..Default::default()
                    }
                },
                "MalformedXML",
                "",
            ),
            (
                |d| filter(d).and = Some(Conditions::default()),
                "MalformedXML",
                "",
            ),
            (
                |d| {
                    tag(d);
                    filter(d).and = Some(Conditions {
                        larger_than: Some(1),
                        ..Default::default()
                    })
                },
                "MalformedXML",
                "",
            ),
            (
                |d| {
                    filter(d).and = Some(Conditions {
                        tags: vec![(Some("a".into()), None), (Some("a".into()), None)],
                        ..Default::default()
                    })
                },
                "InvalidRequest",
                "Duplicate Tag Keys are not allowed.",
            ),
            (
                |d| {
                    filter(d).and = Some(Conditions {
                        tags: vec![(Some("".into()), None)],
                        ..Default::default()
                    })
                },
                "MalformedXML",
                "",
            ),
            (
                |d| filter(d).one.smaller_than = Some(0),
                "InvalidRequest",
                "'ObjectSizeLessThan' should be between 1 and 1099511627776000.",
            ),
            (
                |d| filter(d).one.larger_than = Some(-1),
                "InvalidRequest",
                "'ObjectSizeGreaterThan' should be between 0 and 1099511627776000.",
            ),
            (
                |d| {
                    filter(d).and = Some(Conditions {
                        larger_than: Some(5),
                        smaller_than: Some(5),
                        ..Default::default()
                    })
                },
                "InvalidRequest",
                "'ObjectSizeLessThan' has to be a value greater",
            ),
            (|d| d.transitions = true, "NotImplemented", "Transition"),
            (
                |d| d.noncurrent_transitions = true,
                "NotImplemented",
                "NoncurrentVersionTransition",
            ),
        ];
        for (change, code, words) in cases {
            let (said, message) = says(refused(change));
            assert_eq!(
                (said, message.starts_with(words)),
                (code, true),
                "{message}"
            );
        }
        let long = refused(|draft| filter(draft).one.prefix = Some("p".repeat(1025)));
        assert_eq!(says(long).0, "InvalidArgument");
    }

    #[test]
    fn the_old_form_is_taken_as_it_was() {
        let old = |prefix: &str| Draft {
            filter: None,
            prefix: Some(prefix.into()),
            ..draft()
        };
        let rules = checked(vec![old("a/"), old("b/")]).unwrap().rules;
        assert_eq!(rules[0].filter.form, Form::Prefix);
        assert_eq!(rules[0].filter.prefix.as_deref(), Some("a/"));
        let (code, message) = says(checked(vec![old("a/"), old("b"), old("")]).unwrap_err());
        assert_eq!(code, "InvalidRequest");
        assert_eq!(
            message,
            "Found overlapping prefixes '' and 'a/' for same action type 'Expiration'"
        );
        let mixed = says(checked(vec![old("a/"), draft()]).unwrap_err());
        assert_eq!(mixed.1, "Filter element can only be used in Lifecycle V2.");
        let mut newer = old("a");
        newer.noncurrent = Some(DraftNoncurrent {
            days: Some(1),
            keep: Some(1),
        });
        assert_eq!(
            says(checked(vec![newer]).unwrap_err()).1,
            "NewerNoncurrentVersions element can only be used in Lifecycle V2."
        );
    }
}
