//! Listings against a plain sorted map: any prefix, delimiter, page size and place to go on.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::world::*;
use crate::ids::{BucketId, VShard};
use crate::kv::{ListItem, ListPoint, ListRequest, Versioning};
use crate::state::list_merge::{Merge, Next, covers_all};
use crate::state::list_versions;
use crate::state::read::{Decided, Look};

/// What a listing must show, computed the slow way.
fn expected(keys: &BTreeSet<String>, prefix: &str, delimiter: &str, after: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for key in keys.iter().filter(|key| key.starts_with(prefix)) {
        let rest = &key[prefix.len()..];
        let line = match (!delimiter.is_empty())
            .then(|| rest.find(delimiter))
            .flatten()
        {
            Some(at) => format!("{}*", &key[..prefix.len() + at + delimiter.len()]),
            None => key.clone(),
        };
        if line.trim_end_matches('*') > after && lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    lines
}

fn shown(items: Vec<ListItem>) -> Vec<String> {
    items
        .into_iter()
        .map(|item| match item {
            ListItem::Version(version) => String::from_utf8(version.key.to_vec()).unwrap(),
            ListItem::Prefix(prefix) => format!("{}*", std::str::from_utf8(&prefix).unwrap()),
        })
        .collect()
}

fn some_keys() -> BTreeSet<String> {
    let mut dice = Dice::new(3);
    let parts = [
        "a", "b", "c", "a/", "b/", "/", "ab", "é", "\u{0}", "\u{1}", "z",
    ];
    let mut keys = BTreeSet::from(["a/b".to_owned(), "a/b/c".to_owned(), "a".to_owned()]);
    while keys.len() < 150 {
        let key: String = (0..1 + dice.below(5)).map(|_| *dice.pick(&parts)).collect();
        keys.insert(key);
    }
    keys
}

fn world_with(keys: &BTreeSet<String>) -> (World, BucketId) {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Enabled);
    let other = w.bucket(2, Versioning::Off);
    for key in keys {
        w.put(b, key, "x");
        w.put(other, key, "not listed");
        w.put(b, &format!("{key}!deleted"), "x");
        w.delete(b, &format!("{key}!deleted"));
    }
    (w, b)
}

#[test]
fn a_listing_shows_what_is_there_and_nothing_else() {
    let keys = some_keys();
    let (w, b) = world_with(&keys);
    for prefix in ["", "a", "a/", "b/a", "zz", "\u{0}"] {
        for delimiter in ["", "/", "b", "/a"] {
            for after in ["", "a", "a/", "a/b", "b", "b/", "c/zz", "\u{10FFFF}"] {
                for max in [1, 2, 7, 1000] {
                    let request = ListRequest {
                        prefix: Bytes::copy_from_slice(prefix.as_bytes()),
                        delimiter: Bytes::copy_from_slice(delimiter.as_bytes()),
                        after: Bytes::copy_from_slice(after.as_bytes()),
                        max,
                        ..ListRequest::default()
                    };
                    let found = shown(w.list(b, &request));
                    let expected = expected(&keys, prefix, delimiter, after);
                    assert_eq!(found, expected, "{prefix:?} {delimiter:?} {after:?} {max}");
                }
            }
        }
    }
}

/// `IsTruncated` is exact within a group: no empty last page.
#[test]
fn a_full_last_page_is_the_last() {
    let keys: BTreeSet<String> = ["a", "b", "c", "d/1", "d/2"].map(str::to_owned).into();
    let (w, b) = world_with(&keys);
    let page = w.page(
        b,
        &ListRequest {
            max: 5,
            ..ListRequest::default()
        },
    );
    assert_eq!((page.items.len(), page.truncated), (5, false));
    let page = w.page(
        b,
        &ListRequest {
            max: 4,
            delimiter: "/".into(),
            ..ListRequest::default()
        },
    );
    assert_eq!((page.items.len(), page.truncated), (4, false));
    let page = w.page(
        b,
        &ListRequest {
            max: 3,
            delimiter: "/".into(),
            ..ListRequest::default()
        },
    );
    assert_eq!((page.items.len(), page.truncated), (3, true));
}

/// A page of many delete markers ends early and says where to go on, instead of reading for ever.
#[test]
fn work_for_one_page_is_bounded() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Enabled);
    for n in 0..30_000 {
        w.delete(b, &format!("gone/{n:06}"));
    }
    w.put(b, "here", "x");
    let page = w.page(
        b,
        &ListRequest {
            max: 10,
            ..ListRequest::default()
        },
    );
    assert!(page.items.is_empty() && page.truncated);
    let at = page.resume.unwrap().after;
    assert!(at > "gone/005000" && at < "gone/025000", "{at:?}");
    assert_eq!(
        shown(w.list(
            b,
            &ListRequest {
                max: 10,
                ..ListRequest::default()
            }
        )),
        ["here"]
    );
}

#[test]
fn versions_are_listed_newest_first_and_pages_lose_none() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Enabled);
    let mut dice = Dice::new(5);
    let keys = ["a", "a/1", "a/2", "b", "b/1/x", "c"];
    let mut expected: Vec<(String, Vec<(u128, bool)>)> =
        keys.iter().map(|k| (k.to_string(), Vec::new())).collect();
    for _ in 0..80 {
        let (key, versions) = &mut expected[dice.below(6) as usize];
        if dice.below(4) == 0 {
            versions.insert(0, (w.delete(b, key).marker.unwrap().0, true));
        } else {
            versions.insert(0, (w.put(b, key, "x").id.0, false));
        }
    }
    let flat: Vec<(String, u128, bool, bool)> = expected
        .iter()
        .flat_map(|(key, versions)| {
            versions
                .iter()
                .enumerate()
                .map(|(n, (id, marker))| (key.clone(), *id, *marker, n == 0))
        })
        .collect();
    for max in [1, 2, 3, 50, 1000] {
        let request = ListRequest {
            versions: true,
            max,
            ..ListRequest::default()
        };
        let found: Vec<_> = w
            .list(b, &request)
            .into_iter()
            .map(|item| match item {
                ListItem::Version(v) => (
                    String::from_utf8(v.key.to_vec()).unwrap(),
                    v.id.0,
                    v.is_delete_marker,
                    v.is_latest,
                ),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(found, flat, "pages of {max}");
        let rolled = ListRequest {
            versions: true,
            max,
            delimiter: "/".into(),
            ..ListRequest::default()
        };
        let prefixes: Vec<String> = shown(w.list(b, &rolled))
            .into_iter()
            .filter(|line| line.ends_with('*'))
            .collect();
        assert_eq!(prefixes, ["a/*", "b/*"]);
    }
    // Going on after a version that is gone by now.
    let request = ListRequest {
        versions: true,
        max: 1000,
        ..ListRequest::default()
    };
    let after = crate::kv::VersionId(flat[1].1);
    let resumed = ListRequest {
        after: flat[1].0.clone().into(),
        after_version: Some(after),
        ..request
    };
    assert_eq!(w.list(b, &resumed).len(), flat.len() - 2);
}

/// Groups answer for their vshards; together their pages are the page of one.
#[test]
fn pages_of_several_groups_make_one_page() {
    let keys = some_keys();
    let (w, b) = world_with(&keys);
    let groups: Vec<Vec<VShard>> = (0..5u16)
        .map(|g| {
            (0..=255u8)
                .filter(|v| u16::from(*v) % 5 == g)
                .map(VShard)
                .collect()
        })
        .collect();
    assert!(covers_all(&groups));
    assert!(!covers_all(&groups[1..]));
    for delimiter in ["", "/"] {
        for max in [1, 3, 20, 1000] {
            for versions in [false, true] {
                let request = ListRequest {
                    delimiter: Bytes::copy_from_slice(delimiter.as_bytes()),
                    max,
                    versions,
                    ..ListRequest::default()
                };
                let alone = w.list(b, &request);
                let mut together = Vec::new();
                let mut from = ListPoint::default();
                loop {
                    let page = merged_page(&w, b, &groups, &request, from);
                    assert!(page.items.len() <= max as usize);
                    together.extend(page.items);
                    match page.resume {
                        Some(resume) => from = resume,
                        None => break,
                    }
                }
                assert_eq!(format!("{together:?}"), format!("{alone:?}"));
            }
        }
    }
}

fn merged_page(
    w: &World,
    b: BucketId,
    groups: &[Vec<VShard>],
    request: &ListRequest,
    from: ListPoint,
) -> crate::kv::ListPage {
    let mut merge = Merge::new(groups.len(), from, request.max as usize, request.versions);
    loop {
        match merge.step() {
            Next::Page(page) => return page,
            Next::Ask(asks) => {
                for (group, at) in asks {
                    // A group is asked for a share first.
                    let request = ListRequest {
                        max: request.max / 5 + 2,
                        after: at.after,
                        after_version: at.after_version,
                        ..request.clone()
                    };
                    let page =
                        list_versions::page(&w.rows, &groups[group], b, &request, &Decided::new())
                            .unwrap();
                    let Look::At(page) = page else { panic!() };
                    merge.feed(group, page);
                }
            }
        }
    }
}
