//! What has come of age goes, unless it has become something else; and a walk sees every version once.

use bytes::Bytes;
use minikv_proto::entry::{self as wire, expire::What};

use super::world::{Dice, World, name_of};
use crate::ids::{BucketId, UploadId, VShard, VersionId};
use crate::kv::lifecycle::Rank;
use crate::kv::{ListItem, ListRequest, Versioning};
use crate::state::answer::{Answer, Done, TryAgain};
use crate::state::entry::{Body, crc64};
use crate::state::read::{self, Reached};

fn seq(b: BucketId, key: &str, id: VersionId) -> u64 {
    id.open(VShard::of(b, key.as_bytes())).unwrap()
}

fn body(w: &World, b: BucketId, key: &str, what: What, newer: u32) -> Body {
    Body::Expire(wire::Expire {
        target: w.target(b, key),
        what: Some(what),
        tags_crc64: crc64(b""),
        newer,
    })
}

/// Whether anything went.
fn expire(w: &mut World, b: BucketId, key: &str, what: What, newer: u32) -> bool {
    let body = body(w, b, key, what, newer);
    let went = match w.done(body) {
        Done::Deleted(deleted) => deleted.existed,
        other => panic!("{other:?}"),
    };
    w.check();
    went
}

fn newest(w: &World, b: BucketId, key: &str) -> What {
    What::Newest(seq(b, key, w.get(b, key).unwrap().id))
}

#[test]
fn an_object_that_has_come_of_age_goes_as_if_it_were_deleted() {
    for (versioning, id) in [
        (Versioning::Off, 1),
        (Versioning::Enabled, 2),
        (Versioning::Suspended, 3),
    ] {
        let mut w = World::new();
        let b = w.bucket(id, versioning);
        w.put(b, "k", "v1");
        let what = newest(&w, b, "k");
        let mut deleted = w.clone();
        deleted.delete(b, "k");
        assert!(expire(&mut w, b, "k", what.clone(), 0));
        assert_eq!(w.rows.0, deleted.rows.0, "{versioning:?}");
        // A leader that did not hear the answer proposes it again.
        let before = w.rows.clone();
        assert!(!expire(&mut w, b, "k", what, 0));
        assert!(w.rows == before, "twice is once");
    }
}

/// Whatever comes between the look and the entry wins.
#[test]
fn a_write_that_came_first_wins() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    w.put(b, "k", "v1");
    let old = newest(&w, b, "k");
    w.put(b, "k", "v1");
    assert!(!expire(&mut w, b, "k", old, 0), "overwritten");
    let what = newest(&w, b, "k");
    w.done(Body::SetTags(wire::SetTags {
        target: w.target(b, "k"),
        version: None,
        tags: Bytes::from_static(b"keep"),
    }));
    assert!(!expire(&mut w, b, "k", what.clone(), 0), "tagged");
    let stale = body(&w, b, "k", what, 0);
    w.bucket(1, Versioning::Off);
    let answer = w.answer(stale);
    assert_eq!(
        answer,
        Answer::TryAgain(TryAgain::StaleEpoch(2)),
        "other rules"
    );
    assert_eq!(w.get(b, "k").unwrap().new.etag, "v1");
}

#[test]
fn a_noncurrent_version_goes_and_one_that_rose_stays() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Enabled);
    let ids: Vec<VersionId> = ["1", "2", "3"].map(|data| w.put(b, "k", data).id).into();
    let at = |n: usize| seq(b, "k", ids[n]);
    assert!(
        !expire(&mut w, b, "k", What::Noncurrent(at(2)), 0),
        "it is the newest"
    );
    assert!(expire(&mut w, b, "k", What::Noncurrent(at(0)), 0));
    assert!(
        !expire(&mut w, b, "k", What::Noncurrent(at(0)), 0),
        "twice is once"
    );
    w.done(Body::DeleteVersion(wire::DeleteVersion {
        bypass_governance: false,
        target: w.target(b, "k"),
        conditions: None,
        version: Some(wire::delete_version::Version::Seq(at(2))),
    }));
    assert!(
        !expire(&mut w, b, "k", What::Noncurrent(at(1)), 0),
        "it rose"
    );
    assert!(
        !expire(&mut w, b, "k", What::LoneMarker(at(1)), 0),
        "it is no marker"
    );
    assert_eq!(w.get(b, "k").unwrap().new.etag, "2");
}

/// The versions that a rule keeps are counted when the entry is applied: somebody may have deleted some since.
#[test]
fn so_many_newer_versions_are_kept_as_the_rule_says() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Enabled);
    let first = w.put(b, "k", "1").id;
    let second = w.put(b, "k", "2").id;
    w.delete(b, "k");
    w.put(b, "k", "3");
    let what = What::Noncurrent(seq(b, "k", first));
    assert!(
        !expire(&mut w, b, "k", what.clone(), 2),
        "a marker does not count"
    );
    w.put(b, "k", "4");
    let mut deleted = w.clone();
    deleted.done(Body::DeleteVersion(wire::DeleteVersion {
        bypass_governance: false,
        target: w.target(b, "k"),
        conditions: None,
        version: Some(wire::delete_version::Version::Seq(seq(b, "k", second))),
    }));
    assert!(!expire(&mut deleted, b, "k", what.clone(), 2));
    assert!(expire(&mut w, b, "k", what, 2));
}

#[test]
fn a_marker_goes_only_while_it_hides_nothing() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Enabled);
    let version = w.put(b, "k", "1").id;
    let marker = w.delete(b, "k").marker.unwrap();
    let what = What::LoneMarker(seq(b, "k", marker));
    assert!(
        !expire(&mut w, b, "k", what.clone(), 0),
        "it hides a version"
    );
    assert!(expire(
        &mut w,
        b,
        "k",
        What::Noncurrent(seq(b, "k", version)),
        0
    ));
    let mut written = w.clone();
    written.put(b, "k", "2");
    assert!(
        !expire(&mut written, b, "k", what.clone(), 0),
        "it was written over"
    );
    assert!(expire(&mut w, b, "k", what, 0));
    assert!(w.get(b, "k").is_none());
}

#[test]
fn an_upload_is_aborted_only_while_it_is_open() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let what = |id: UploadId| What::Upload(name_of(id));
    let open = w.create_upload(b, "k");
    w.part(b, "k", open, 1, "part");
    assert!(!expire(&mut w, b, "other", what(open), 0), "of another key");
    assert!(expire(&mut w, b, "k", what(open), 0));
    assert!(!expire(&mut w, b, "k", what(open), 0), "twice is once");
    let done = w.create_upload(b, "k");
    let counter = w.part(b, "k", done, 1, "part");
    w.complete(b, "k", done, counter, &[(1, 1)], 4);
    assert!(!expire(&mut w, b, "k", what(done), 0), "it is an object");
    assert_eq!(w.get(b, "k").unwrap().new.size, 4);
    w.release_all();
    w.check();
}

/// All that a walk in pages of at most `rows` shows: key, sequence, rank.
fn walk(w: &World, b: BucketId, prefix: &str, rows: usize) -> Vec<(String, u64, Rank)> {
    let mut seen = Vec::new();
    for vshard in (0..=255).map(VShard) {
        let mut reached: Option<Reached> = None;
        loop {
            let mut show = |seq: u64, version: &crate::kv::lifecycle::Aging<'_>| {
                let key = String::from_utf8(version.key.to_vec()).unwrap();
                assert_eq!(VShard::of(b, version.key), vshard);
                seen.push((key, seq, version.rank));
            };
            let page = read::aging(
                &w.rows,
                vshard,
                b,
                prefix.as_bytes(),
                reached.as_ref(),
                rows,
                &mut show,
            );
            reached = page.unwrap().next;
            if reached.is_none() {
                break;
            }
        }
    }
    seen.sort_by(|a, b| (&a.0, std::cmp::Reverse(a.1)).cmp(&(&b.0, std::cmp::Reverse(b.1))));
    seen
}

/// What the listing of versions says of the same.
fn listed(w: &World, b: BucketId, prefix: &str) -> Vec<(String, u64, Rank)> {
    let request = ListRequest {
        prefix: Bytes::copy_from_slice(prefix.as_bytes()),
        versions: true,
        max: 1000,
        ..ListRequest::default()
    };
    let items = w.list(b, &request);
    let versions: Vec<_> = items
        .iter()
        .map(|item| match item {
            ListItem::Version(version) => version,
            ListItem::Prefix(_) => panic!("no delimiter"),
        })
        .collect();
    let mut ranks = Vec::new();
    for (at, version) in versions.iter().enumerate() {
        let older = versions
            .get(at + 1)
            .is_some_and(|next| next.key == version.key);
        let key = String::from_utf8(version.key.to_vec()).unwrap();
        let rank = match (version.is_latest, version.is_delete_marker, older) {
            (true, false, _) => Rank::Newest,
            (true, true, false) => Rank::LoneMarker,
            (true, true, true) => continue,
            (false, marker, _) => {
                let before = versions[..at].iter().rev();
                let newer: Vec<_> = before
                    .take_while(|v| v.key == version.key)
                    .filter(|v| !v.is_delete_marker && !v.is_latest)
                    .collect();
                Rank::Noncurrent {
                    since_ms: versions[at - 1].modified_ms,
                    newer: newer.len() as u32,
                    marker,
                }
            }
        };
        ranks.push((key.clone(), seq(b, &key, version.id), rank));
    }
    ranks
}

/// A page may end anywhere, within a key with many versions too: nothing is left out, nothing comes twice.
#[test]
fn a_walk_in_small_pages_sees_what_a_listing_sees() {
    let mut w = World::new();
    let mut dice = Dice::new(7);
    let other = w.bucket(2, Versioning::Off);
    w.put(other, "a/0", "x");
    for versioning in [
        Versioning::Enabled,
        Versioning::Suspended,
        Versioning::Enabled,
    ] {
        let b = w.bucket(1, versioning);
        for step in 0..400 {
            let key = match dice.below(3) {
                0 => "many".to_owned(),
                1 => format!("a/{}", dice.below(6)),
                _ => format!("b/{}", dice.below(40)),
            };
            match dice.below(4) {
                0 => drop(w.delete(b, &key)),
                _ => drop(w.put(b, &key, &format!("{step}"))),
            }
        }
    }
    let b = BucketId(1);
    for prefix in ["", "a/", "many", "c"] {
        let expected = listed(&w, b, prefix);
        assert_eq!(expected.is_empty(), prefix == "c");
        for rows in [1, 2, 3, 7, 100, 10_000] {
            assert_eq!(walk(&w, b, prefix, rows), expected, "{prefix} by {rows}");
        }
    }
}
