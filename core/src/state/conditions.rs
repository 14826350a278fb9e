//! Conditions of a write, decided against the version that is there when the write is applied.
//!
//! Always true: a delete marker is no object, whatever is asked of it.

use minikv_proto::{entry as wire, row};

use crate::kv::Refusal;

/// Whether the conditions hold for `version` (the current one, or the one that a command names).
pub(super) fn check(
    conditions: Option<&wire::Conditions>,
    version: Option<&row::Version>,
) -> Result<(), Refusal> {
    let Some(conditions) = conditions else {
        return Ok(());
    };
    let object = version.filter(|version| !version.delete_marker);
    let asks_for_one = conditions.if_match.is_some()
        || conditions.if_match_size.is_some()
        || conditions.if_match_modified_ms.is_some();
    let Some(object) = object else {
        // `If-None-Match` holds of nothing.
        return if asks_for_one {
            Err(Refusal::NoSuchKey)
        } else {
            Ok(())
        };
    };
    let one_of = |list: &wire::EtagList| {
        list.etags
            .iter()
            .any(|etag| etag == "*" || *etag == object.etag)
    };
    let holds = conditions.if_match.as_ref().is_none_or(one_of)
        && !conditions.if_none_match.as_ref().is_some_and(one_of)
        && conditions.if_match_size.is_none_or(|size| size == object.size)
        // Clients know the time in whole seconds (HTTP dates).
        && conditions.if_match_modified_ms.is_none_or(|ms| ms / 1000 == object.modified_ms / 1000);
    if holds {
        Ok(())
    } else {
        Err(Refusal::PreconditionFailed)
    }
}

/// The same of a delete of the newest version. S3 tells a key behind a marker (412) from one that never was (404) there.
pub(super) fn check_delete(
    conditions: Option<&wire::Conditions>,
    version: Option<&row::Version>,
) -> Result<(), Refusal> {
    match check(conditions, version) {
        Err(Refusal::NoSuchKey) if version.is_some() => Err(Refusal::PreconditionFailed),
        verdict => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> row::Version {
        row::Version {
            etag: "abc".into(),
            size: 7,
            modified_ms: 5_500,
            ..row::Version::default()
        }
    }

    fn list(etags: &[&str]) -> Option<wire::EtagList> {
        Some(wire::EtagList {
            etags: etags.iter().map(|e| e.to_string()).collect(),
        })
    }

    #[test]
    fn if_match_needs_an_object_with_one_of_the_etags() {
        let ask = |etags| wire::Conditions {
            if_match: list(etags),
            ..wire::Conditions::default()
        };
        assert_eq!(check(Some(&ask(&["x", "abc"])), Some(&object())), Ok(()));
        assert_eq!(check(Some(&ask(&["*"])), Some(&object())), Ok(()));
        assert_eq!(
            check(Some(&ask(&["x"])), Some(&object())),
            Err(Refusal::PreconditionFailed)
        );
        assert_eq!(check(Some(&ask(&["abc"])), None), Err(Refusal::NoSuchKey));
    }

    #[test]
    fn if_none_match_holds_of_nothing_and_of_a_delete_marker() {
        let ask = |etags| wire::Conditions {
            if_none_match: list(etags),
            ..wire::Conditions::default()
        };
        let marker = row::Version {
            delete_marker: true,
            ..object()
        };
        assert_eq!(check(Some(&ask(&["*"])), None), Ok(()));
        assert_eq!(check(Some(&ask(&["*"])), Some(&marker)), Ok(()));
        assert_eq!(
            check(Some(&ask(&["*"])), Some(&object())),
            Err(Refusal::PreconditionFailed)
        );
        assert_eq!(
            check(Some(&ask(&["abc"])), Some(&object())),
            Err(Refusal::PreconditionFailed)
        );
        assert_eq!(check(Some(&ask(&["x"])), Some(&object())), Ok(()));
    }

    #[test]
    fn size_and_time_are_compared_as_clients_know_them() {
        let size = |size| wire::Conditions {
            if_match_size: Some(size),
            ..wire::Conditions::default()
        };
        let time = |ms| wire::Conditions {
            if_match_modified_ms: Some(ms),
            ..wire::Conditions::default()
        };
        assert_eq!(check(Some(&size(7)), Some(&object())), Ok(()));
        assert_eq!(
            check(Some(&size(8)), Some(&object())),
            Err(Refusal::PreconditionFailed)
        );
        assert_eq!(check(Some(&time(5_000)), Some(&object())), Ok(()));
        assert_eq!(
            check(Some(&time(6_000)), Some(&object())),
            Err(Refusal::PreconditionFailed)
        );
        assert_eq!(check(Some(&size(7)), None), Err(Refusal::NoSuchKey));
    }
}
