//! Versions, conditions, stages and copies, one promise at a time.

use minikv_proto::entry as wire;

use super::world::*;
use crate::ids::BucketId;
use crate::kv::{Conditions, Refusal, VersionSelector, Versioning};
use crate::state::answer::{Answer, Done, TryAgain};
use crate::state::entry::{self, Body};
use crate::state::read;
use crate::state::record::Content;

fn if_none_match_any() -> Conditions {
    Conditions {
        if_none_match: Some(vec!["*".into()]),
        ..Conditions::default()
    }
}

#[test]
fn an_overwrite_replaces_and_its_bytes_are_dropped() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let first = w.put(b, "hello", "one");
    let second = w.put(b, "hello", "two");
    assert_eq!(w.get(b, "hello").unwrap().new.etag, "two");
    assert_eq!(w.find(b, "hello", VersionSelector::Id(first.id)), None);
    assert_eq!(
        w.find(b, "hello", VersionSelector::Null).unwrap().id,
        second.id
    );
    assert_eq!(w.bytes_held(), (1, 0));
    assert!(w.delete(b, "hello").existed);
    assert_eq!(w.get(b, "hello"), None);
    assert!(!w.delete(b, "hello").existed);
    assert_eq!(w.bytes_held(), (0, 0));
    w.check();
}

/// Two writers race for one key; the one that loses leaves no trace a reader can see.
#[test]
fn a_losing_writer_leaves_nothing() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    w.put(b, "lock", "mine");
    let before = w.rows.clone();
    let body = w.put_body(b, "lock", "yours", &if_none_match_any());
    assert_eq!(
        w.propose(body, b"yours"),
        Answer::Refused(Refusal::PreconditionFailed)
    );
    assert!(w.rows == before);
    w.check();
}

#[test]
fn last_modified_never_goes_back_within_a_key() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Enabled);
    let first = w.put(b, "hello", "one");
    w.now_ms -= 5_000;
    let second = w.put(b, "hello", "two");
    assert_eq!(second.modified_ms, first.modified_ms);
    assert_ne!(second.id, first.id);
}

/// AWS: enabling keeps what was there as "null", suspending writes "null" again and keeps the rest.
#[test]
fn null_versions_come_and_go_as_versioning_changes() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    w.put(b, "k", "null-1");
    w.bucket(1, Versioning::Enabled);
    let v2 = w.put(b, "k", "v2");
    assert!(!v2.is_null);
    assert_eq!(
        w.find(b, "k", VersionSelector::Null).unwrap().new.etag,
        "null-1"
    );
    let v3 = w.put(b, "k", "v3");
    w.bucket(1, Versioning::Suspended);
    let null = w.put(b, "k", "null-4");
    assert!(null.is_null);
    let versions = |w: &World| -> Vec<String> {
        let request = crate::kv::ListRequest {
            versions: true,
            max: 100,
            ..Default::default()
        };
        w.list(b, &request)
            .into_iter()
            .map(|item| match item {
                crate::kv::ListItem::Version(v) => {
                    let name = if v.is_null {
                        "null".into()
                    } else {
                        v.new.etag.clone()
                    };
                    format!("{name}{}", if v.is_delete_marker { " marker" } else { "" })
                }
                other => panic!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(versions(&w), ["null", "v3", "v2"]);
    let marker = w.delete(b, "k");
    assert!(marker.marker_is_null && marker.marker.is_some());
    assert_eq!(versions(&w), ["null marker", "v3", "v2"]);
    assert!(w.get(b, "k").unwrap().is_delete_marker);
    // A version is deleted for good; the next older one is the newest again.
    let gone = Body::DeleteVersion(wire::DeleteVersion {
        target: w.target(b, "k"),
        conditions: None,
        version: Some(wire::delete_version::Version::Null(true)),
        bypass_governance: false,
    });
    match w.answer(gone) {
        Answer::Done(Done::Deleted(deleted)) => assert!(deleted.removed_marker && deleted.existed),
        other => panic!("{other:?}"),
    }
    assert_eq!(w.get(b, "k").unwrap().id, v3.id);
    assert!(w.get(b, "k").unwrap().is_latest);
    w.bucket(1, Versioning::Enabled);
    assert!(w.delete(b, "k").marker.is_some());
    assert!(
        w.delete(b, "never was").marker.is_some(),
        "a marker comes even where nothing was"
    );
    w.check();
}

#[test]
fn a_claim_makes_the_stage_an_object_and_ends_it() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let stage = w.open_stage(b, "big", 2500, None);
    assert_eq!(read::bucket_usage(&w.rows, b).unwrap().reserved, 2500);
    assert_eq!(w.get(b, "big"), None, "a stage is invisible");
    w.done(w.claim_body(b, "big", stage, "e", 2500));
    let object = w.get(b, "big").unwrap();
    assert!(matches!(object.content, Content::Chunks(run) if run.count == 3 && run.stage == stage));
    assert_eq!(
        w.answer(w.claim_body(b, "big", stage, "e", 2500)),
        Answer::Refused(Refusal::StageGone)
    );
    w.check();
    // Overwritten, its chunks wait on the free list for their release.
    w.put(b, "big", "small");
    w.check();
    assert_eq!(w.bytes_held(), (1, 1));
    w.release_all();
    assert_eq!(w.bytes_held(), (1, 0));
    w.check();
}

#[test]
fn only_a_final_refusal_of_a_claim_frees_its_stage() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let stage = w.open_stage(b, "big", 10, None);
    // Nobody fsynced it: to be tried again, the stage stays.
    let Body::Put(mut put) = w.claim_body(b, "big", stage, "e", 10) else {
        panic!()
    };
    let Some(wire::new_content::Kind::Staged(staged)) = &mut put.content.as_mut().unwrap().kind
    else {
        panic!()
    };
    staged.copies[0].nodes = vec![99];
    assert_eq!(
        w.answer(Body::Put(put)),
        Answer::TryAgain(TryAgain::StalePlacement)
    );
    assert!(
        read::stage(&w.rows, crate::ids::VShard::of(b, b"big"), stage)
            .unwrap()
            .is_some()
    );
    // The precondition fails: that is final.
    w.put(b, "big", "there");
    let Body::Put(mut put) = w.claim_body(b, "big", stage, "e", 10) else {
        panic!()
    };
    put.conditions = entry::conditions(&if_none_match_any());
    assert_eq!(
        w.answer(Body::Put(put)),
        Answer::Refused(Refusal::PreconditionFailed)
    );
    assert!(
        read::stage(&w.rows, crate::ids::VShard::of(b, b"big"), stage)
            .unwrap()
            .is_none()
    );
    assert_eq!(read::bucket_usage(&w.rows, b).unwrap().reserved, 0);
    w.check();
}

#[test]
fn a_late_claim_of_an_abandoned_stage_dies() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let stage = w.open_stage(b, "big", 10, None);
    let extend = wire::ExtendStage {
        target: w.target(b, "big"),
        stage: Some(stage.to_row()),
        reserve: 500,
    };
    w.done(Body::ExtendStage(extend));
    assert_eq!(read::bucket_usage(&w.rows, b).unwrap().reserved, 500);
    let vshard = u32::from(crate::ids::VShard::of(b, b"big").0);
    let at = wire::StageAt {
        vshard,
        stage: Some(stage.to_row()),
    };
    w.done(Body::Abandon(wire::Abandon { stages: vec![at] }));
    w.done(Body::Abandon(wire::Abandon { stages: vec![at] }));
    assert_eq!(
        w.answer(w.claim_body(b, "big", stage, "e", 10)),
        Answer::Refused(Refusal::StageGone)
    );
    w.check();
}

/// rclone's SetModTime: a copy onto itself.
#[test]
fn a_copy_shares_its_bytes_until_the_last_name_goes() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let keys = keys_of_one_vshard(b, 3);
    let copy = |w: &World, from: &str, to: &str| {
        let source = w.get(b, from).unwrap();
        Body::Copy(wire::Copy {
            target: w.target(b, to),
            conditions: None,
            version: sized("copied", source.new.size),
            source_bucket: b.0,
            source_epoch: w.epoch(b),
            source_key: from.as_bytes().to_vec().into(),
            source_seq: source
                .id
                .open(crate::ids::VShard::of(b, from.as_bytes()))
                .unwrap(),
        })
    };
    let stage = w.open_stage(b, &keys[0], 10, None);
    w.done(w.claim_body(b, &keys[0], stage, "e", 10));
    w.done(copy(&w, &keys[0], &keys[0]));
    w.check();
    w.done(copy(&w, &keys[0], &keys[1]));
    w.done(copy(&w, &keys[1], &keys[2]));
    w.check();
    assert_eq!(
        read::bucket_usage(&w.rows, b).unwrap().bytes,
        30,
        "each version is charged"
    );
    let late = copy(&w, &keys[0], &keys[1]);
    w.delete(b, &keys[0]);
    assert_eq!(w.answer(late), Answer::TryAgain(TryAgain::SourceChanged));
    w.delete(b, &keys[2]);
    w.release_all();
    assert_eq!(w.bytes_held(), (0, 1), "one name is left");
    w.delete(b, &keys[1]);
    w.release_all();
    assert_eq!(w.bytes_held(), (0, 0));
    w.check();
    // The same with inline bytes.
    w.put(b, &keys[0], "inline");
    w.done(copy(&w, &keys[0], &keys[1]));
    w.delete(b, &keys[0]);
    assert_eq!(w.bytes_held(), (1, 0));
    w.put(b, &keys[1], "other");
    assert_eq!(w.bytes_held(), (1, 0));
    w.check();
}

#[test]
fn a_command_planned_with_other_facts_is_planned_anew() {
    let mut w = World::new();
    let b = BucketId(5);
    let unknown = w.put_body(b, "k", "x", &Conditions::default());
    assert_eq!(
        w.propose(unknown, b"x"),
        Answer::TryAgain(TryAgain::FactsBehind(b))
    );
    w.bucket(5, Versioning::Off);
    let old = w.put_body(b, "k", "x", &Conditions::default());
    w.bucket(5, Versioning::Enabled);
    assert_eq!(
        w.propose(old, b"x"),
        Answer::TryAgain(TryAgain::StaleEpoch(2))
    );
    w.facts.get_mut(&b).unwrap().epoch = 9;
    let ahead = w.put_body(b, "k", "x", &Conditions::default());
    assert_eq!(
        w.propose(ahead, b"x"),
        Answer::TryAgain(TryAgain::FactsBehind(b))
    );
    // An older copy of the facts changes nothing.
    let old = minikv_proto::row::Facts {
        bucket: 5,
        tenant: TENANT,
        epoch: 1,
        ..Default::default()
    };
    w.done(Body::SetFacts(wire::SetFacts { facts: Some(old) }));
    assert_eq!(read::facts(&w.rows, b).unwrap().unwrap().epoch, 2);
    w.check();
}

#[test]
fn a_command_for_a_vshard_that_is_elsewhere_changes_nothing() {
    let mut w = World::of(GROUP, vec![77]);
    let b = w.bucket(1, Versioning::Off);
    let here = keys_of_one_vshard(b, 1).remove(0);
    w.put(b, &here, "x");
    let elsewhere = (0..)
        .map(|n| format!("o{n}"))
        .find(|key| crate::ids::VShard::of(b, key.as_bytes()).0 != 77);
    let body = w.put_body(b, &elsewhere.unwrap(), "x", &Conditions::default());
    assert_eq!(w.propose(body, b"x"), Answer::TryAgain(TryAgain::Moved(0)));
    let Body::Put(mut put) = w.put_body(b, &here, "y", &Conditions::default()) else {
        panic!()
    };
    put.target.as_mut().unwrap().vshard_epoch = 2;
    assert_eq!(
        w.propose(Body::Put(put), b"y"),
        Answer::TryAgain(TryAgain::Moved(1))
    );
    w.check();
}

/// A null version that rose to be the newest is replaced like any other.
#[test]
fn a_null_version_that_is_newest_again_is_replaced() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    w.put(b, "k", "null");
    w.bucket(1, Versioning::Enabled);
    let newer = w.put(b, "k", "newer");
    let seq = newer.id.open(crate::ids::VShard::of(b, b"k")).unwrap();
    w.done(Body::DeleteVersion(wire::DeleteVersion {
        target: w.target(b, "k"),
        conditions: None,
        version: Some(wire::delete_version::Version::Seq(seq)),
        bypass_governance: false,
    }));
    w.bucket(1, Versioning::Suspended);
    w.put(b, "k", "null again");
    let versions = w.list(
        b,
        &crate::kv::ListRequest {
            versions: true,
            max: 9,
            ..Default::default()
        },
    );
    assert_eq!(versions.len(), 1);
    w.check();
}

/// Ids are given out once in a vshard, also by entries that write several keys of it.
#[test]
fn version_ids_are_never_given_out_twice() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Enabled);
    let keys = keys_of_one_vshard(b, 5);
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let writes = keys.iter().map(|key| wire::Write {
            target: w.target(b, key),
            kind: Some(wire::write::Kind::Delete(wire::WriteDelete {})),
        });
        let part = wire::TxnPart {
            writes: writes.collect(),
            ..wire::TxnPart::default()
        };
        let Done::Transacted(made) = w.done(Body::Transact(wire::Transact { part: Some(part) }))
        else {
            panic!()
        };
        ids.extend(made.into_iter().map(|made| made.unwrap().id));
        ids.insert(w.put(b, &keys[0], "x").id);
    }
    assert_eq!(ids.len(), 3 * 6);
}

/// The most frequent entry stays cheap: rows it reads and writes, in all.
#[test]
fn a_plain_put_touches_few_rows() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let session = w.open_session();
    for sequence in 1..=20u64 {
        let body = w.put_body(b, "k", "data", &Conditions::default());
        let mut entry = w.entry(body, b"data");
        let lowest = sequence.saturating_sub(3).max(1);
        entry.command = Some(wire::Command {
            session,
            sequence,
            lowest,
        });
        let applied = w.apply(&entry);
        // Session, vshard, bucket, current, tenant; and the result that is closed by now.
        let reads = 6;
        // Session, result, bucket, current, tenant, and that result.
        let writes = 6;
        assert!(
            applied.operations <= reads + writes,
            "{} operations",
            applied.operations
        );
        assert!(applied.changes.len() <= writes as usize);
    }
}
