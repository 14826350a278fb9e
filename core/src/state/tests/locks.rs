//! Object lock: no protected version goes, whatever is asked and however the leaders' clocks stand. Promises one by one;
//! any history against a model is in `locks_model`.

use bytes::Bytes;
use minikv_proto::{entry as wire, row};

use super::world::{World, keys_of_one_vshard, sized};
use crate::ids::{BucketId, UploadId, VShard, VersionId};
use crate::kv::{Refusal, VersionSelector, Versioning};
use crate::state::answer::{Answer, Done};
use crate::state::entry::{self, Body, Entry};

pub(super) const DAY: u64 = 86_400_000;
/// A time at which entries may be days behind and still be after 1970.
pub(super) const NOW: u64 = 100_000 * 1_000_000;

// ---- the words of these tests ----

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Governance,
    Compliance,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Lock {
    pub retention: Option<(Mode, u64)>,
    pub hold: Option<bool>,
}

fn mode_row(mode: Mode) -> i32 {
    (match mode {
        Mode::Governance => row::LockMode::LockGovernance,
        Mode::Compliance => row::LockMode::LockCompliance,
    }) as i32
}

impl Lock {
    pub fn row(self) -> Option<row::Lock> {
        (self != Lock::default()).then(|| row::Lock {
            mode: self.retention.map_or(0, |(mode, _)| mode_row(mode)),
            until_ms: self.retention.map_or(0, |(_, until)| until),
            hold: self.hold,
        })
    }
}

pub(super) fn world(default: Option<(Mode, u32)>) -> (World, BucketId) {
    let mut w = World::new();
    w.now_ms = NOW;
    let b = lock_bucket(&mut w, 1, default);
    (w, b)
}

/// A bucket with object lock.
fn lock_bucket(w: &mut World, id: u64, default: Option<(Mode, u32)>) -> BucketId {
    let b = w.bucket(id, Versioning::Enabled);
    let facts = row::Facts {
        epoch: w.epoch(b) + 1,
        lock: true,
        retention: default.map(|(mode, days)| row::DefaultRetention {
            mode: mode_row(mode),
            days,
            years: 0,
        }),
        ..w.facts[&b]
    };
    w.done(Body::SetFacts(wire::SetFacts { facts: Some(facts) }));
    w.facts.insert(b, facts);
    b
}

fn put_body(w: &World, b: BucketId, key: &str, lock: Lock) -> Body {
    Body::Put(wire::Put {
        target: w.target(b, key),
        conditions: None,
        version: Some(wire::NewVersion {
            lock: lock.row(),
            ..sized("data", 4).unwrap()
        }),
        content: entry::inline(b"data"),
    })
}

pub(super) fn put(w: &mut World, b: BucketId, key: &str, lock: Lock) -> VersionId {
    match w.propose(put_body(w, b, key, lock), b"data") {
        Answer::Done(Done::Written(written)) => written.id,
        other => panic!("{other:?}"),
    }
}

pub(super) fn delete(w: &World, b: BucketId, key: &str, id: VersionId, bypass: bool) -> Body {
    Body::DeleteVersion(wire::DeleteVersion {
        target: w.target(b, key),
        conditions: None,
        version: seq(b, key, id).map(wire::delete_version::Version::Seq),
        bypass_governance: bypass,
    })
}

/// A lifecycle rule says that it is due.
fn expire(w: &World, b: BucketId, key: &str, id: VersionId) -> Body {
    Body::Expire(wire::Expire {
        target: w.target(b, key),
        what: seq(b, key, id).map(wire::expire::What::Noncurrent),
        tags_crc64: entry::crc64(b""),
        newer: 0,
    })
}

pub(super) fn seq(b: BucketId, key: &str, id: VersionId) -> Option<u64> {
    id.open(VShard::of(b, key.as_bytes()))
}

pub(super) fn retain(
    w: &World,
    b: BucketId,
    key: &str,
    id: VersionId,
    retention: Option<(Mode, u64)>,
    bypass: bool,
) -> Body {
    let new = retention.map_or_else(wire::Retention::default, |(mode, until_ms)| {
        wire::Retention {
            mode: mode_row(mode),
            until_ms,
        }
    });
    set_lock(
        w,
        b,
        key,
        id,
        wire::set_lock::Change::Retention(new),
        bypass,
    )
}

pub(super) fn hold(w: &World, b: BucketId, key: &str, id: VersionId, on: bool) -> Body {
    set_lock(w, b, key, id, wire::set_lock::Change::Hold(on), false)
}

fn set_lock(
    w: &World,
    b: BucketId,
    key: &str,
    id: VersionId,
    change: wire::set_lock::Change,
    bypass: bool,
) -> Body {
    Body::SetLock(wire::SetLock {
        target: w.target(b, key),
        version: seq(b, key, id).map(wire::set_lock::Version::Seq),
        change: Some(change),
        bypass_governance: bypass,
    })
}

fn until(w: &World, b: BucketId, key: &str, id: VersionId) -> Option<u64> {
    let version = w.find(b, key, VersionSelector::Id(id)).unwrap();
    version.new.lock.retention.map(|r| r.until_ms)
}

#[track_caller]
fn locked(w: &mut World, body: Body) {
    let before = w.rows.clone();
    assert_eq!(w.answer(body), Answer::Refused(Refusal::Locked));
    assert!(w.rows == before, "a refusal changed something");
}

// ---- promises, one by one ----

#[test]
fn compliance_is_lifted_by_nobody_and_ends_at_its_date() {
    let (mut w, b) = world(None);
    let kept = Lock {
        retention: Some((Mode::Compliance, NOW + DAY)),
        hold: None,
    };
    let id = put(&mut w, b, "k", kept);
    for bypass in [false, true] {
        let body = delete(&w, b, "k", id, bypass);
        locked(&mut w, body);
        for worse in [
            None,
            Some((Mode::Compliance, NOW + DAY - 1)),
            Some((Mode::Governance, NOW + 9 * DAY)),
        ] {
            let body = retain(&w, b, "k", id, worse, bypass);
            locked(&mut w, body);
        }
    }
    let longer = retain(
        &w,
        b,
        "k",
        id,
        Some((Mode::Compliance, NOW + 2 * DAY)),
        false,
    );
    w.done(longer);
    w.now_ms = NOW + 2 * DAY - 11;
    let body = delete(&w, b, "k", id, true);
    locked(&mut w, body);
    let body = delete(&w, b, "k", id, false);
    w.done(body);
    w.check();
}

#[test]
fn governance_is_lifted_only_by_who_bypasses_it() {
    let (mut w, b) = world(None);
    let kept = Lock {
        retention: Some((Mode::Governance, NOW + DAY)),
        hold: None,
    };
    let id = put(&mut w, b, "k", kept);
    for worse in [
        None,
        Some((Mode::Governance, NOW + DAY - 1)),
        Some((Mode::Compliance, NOW + 9 * DAY)),
    ] {
        let body = retain(&w, b, "k", id, worse, false);
        locked(&mut w, body);
    }
    let body = delete(&w, b, "k", id, false);
    locked(&mut w, body);
    let longer = retain(
        &w,
        b,
        "k",
        id,
        Some((Mode::Governance, NOW + 2 * DAY)),
        false,
    );
    w.done(longer);
    let shorter = retain(&w, b, "k", id, Some((Mode::Governance, NOW + DAY)), true);
    w.done(shorter);
    let body = delete(&w, b, "k", id, true);
    w.done(body);
    assert_eq!(w.find(b, "k", VersionSelector::Id(id)), None);
    w.check();
}

#[test]
fn a_legal_hold_stays_until_it_is_turned_off_and_nobody_bypasses_it() {
    let (mut w, b) = world(None);
    let id = put(&mut w, b, "k", Lock::default());
    let body = hold(&w, b, "k", id, true);
    w.done(body);
    w.now_ms += 1000 * DAY;
    for bypass in [false, true] {
        let body = delete(&w, b, "k", id, bypass);
        locked(&mut w, body);
    }
    // It says nothing about the retention.
    let body = retain(&w, b, "k", id, Some((Mode::Governance, NOW + 1)), false);
    w.done(body);
    let body = hold(&w, b, "k", id, false);
    w.done(body);
    let seen = w.get(b, "k").unwrap().new.lock;
    assert_eq!((seen.hold, seen.retention.is_some()), (Some(false), true));
    let body = delete(&w, b, "k", id, false);
    w.done(body);
    w.check();
}

/// A delete without a version hides the object; the marker itself may go, and the object is there again.
#[test]
fn a_marker_hides_a_protected_version_and_takes_nothing() {
    let (mut w, b) = world(Some((Mode::Compliance, 1)));
    let id = put(&mut w, b, "k", Lock::default());
    let marker = w.delete(b, "k").marker.unwrap();
    assert!(w.get(b, "k").unwrap().is_delete_marker);
    assert!(w.find(b, "k", VersionSelector::Id(id)).is_some());
    let body = retain(
        &w,
        b,
        "k",
        marker,
        Some((Mode::Governance, NOW + DAY)),
        false,
    );
    assert_eq!(w.answer(body), Answer::Refused(Refusal::NoSuchVersion));
    let body = delete(&w, b, "k", marker, false);
    w.done(body);
    assert_eq!(w.get(b, "k").unwrap().id, id);
    w.check();
}

/// Every way to make a version gives it the bucket's default, from the time of its entry.
#[test]
fn every_new_version_has_the_default_of_its_bucket() {
    let (mut w, b) = world(Some((Mode::Governance, 3)));
    let keys = keys_of_one_vshard(b, 3);
    let default = |w: &World| Some(w.now_ms + 3 * DAY);

    let small = put(&mut w, b, &keys[0], Lock::default());
    assert_eq!(until(&w, b, &keys[0], small), default(&w));

    let stage = w.open_stage(b, &keys[0], 2000, None);
    let claim = w.claim_body(b, &keys[0], stage, "large", 2000);
    w.done(claim);
    let large = w.get(b, &keys[0]).unwrap().id;
    assert_eq!(until(&w, b, &keys[0], large), default(&w));

    let copy = Body::Copy(wire::Copy {
        target: w.target(b, &keys[1]),
        conditions: None,
        version: sized("data", 4),
        source_bucket: b.0,
        source_epoch: w.epoch(b),
        source_key: keys[0].clone().into(),
        source_seq: seq(b, &keys[0], small).unwrap(),
    });
    w.done(copy);
    let copied = w.get(b, &keys[1]).unwrap().id;
    assert_eq!(until(&w, b, &keys[1], copied), default(&w));

    let upload = w.create_upload(b, &keys[2]);
    w.part(b, &keys[2], upload, 1, "part");
    let whole = w.complete(b, &keys[2], upload, 1, &[(1, 1)], 4).written.id;
    assert_eq!(until(&w, b, &keys[2], whole), default(&w));

    let said = Lock {
        retention: Some((Mode::Compliance, NOW + 50 * DAY)),
        hold: None,
    };
    let own = put(&mut w, b, &keys[0], said);
    assert_eq!(until(&w, b, &keys[0], own), Some(NOW + 50 * DAY));
    let only_hold = Lock {
        retention: None,
        hold: Some(true),
    };
    let held = put(&mut w, b, &keys[0], only_hold);
    assert_eq!(until(&w, b, &keys[0], held), default(&w));
    w.check();
}

/// Transactions go by the same rules: what they put is kept, what they delete is hidden.
#[test]
fn a_transaction_gets_around_nothing() {
    let (mut w, b) = world(Some((Mode::Compliance, 3)));
    let session = w.open_session();
    let id = put(&mut w, b, "k", Lock::default());
    let write = |w: &World, key: &str, kind| wire::Write {
        target: w.target(b, key),
        kind: Some(kind),
    };
    let put_kind = || {
        wire::write::Kind::Put(wire::WritePut {
            version: sized("data", 4),
            content: entry::inline(b"data"),
        })
    };
    let part = |w: &World, new: &str| wire::TxnPart {
        writes: vec![
            write(w, new, put_kind()),
            write(w, "k", wire::write::Kind::Delete(wire::WriteDelete {})),
        ],
        ..wire::TxnPart::default()
    };
    let one_phase = Body::Transact(wire::Transact {
        part: Some(part(&w, "one")),
    });
    assert!(matches!(w.propose(one_phase, b"data"), Answer::Done(_)));
    let one = w.get(b, "one").unwrap().id;
    assert_eq!(until(&w, b, "one", one), Some(w.now_ms + 3 * DAY));

    let name = row::TxnName {
        coordinator: 2,
        session: 3,
        sequence: 4,
    };
    let txn = row::TxnRef {
        name: Some(name),
        age_ms: 5,
        participants: vec![1, 2],
    };
    let prepare = Body::Prepare(wire::Prepare {
        txn: Some(txn),
        part: Some(part(&w, "two")),
    });
    let prepared = w.command(session, 1, 1, prepare, b"data");
    assert!(matches!(prepared, Answer::Done(_)), "{prepared:?}");
    let prepared_ms = w.now_ms;
    w.done(Body::Finish(wire::Finish {
        txn: Some(name),
        committed: true,
    }));
    let two = w.get(b, "two").unwrap().id;
    assert_eq!(until(&w, b, "two", two), Some(prepared_ms + 3 * DAY));
    assert!(w.get(b, "k").unwrap().is_delete_marker);
    for (key, id) in [("k", id), ("one", one), ("two", two)] {
        let body = delete(&w, b, key, id, true);
        locked(&mut w, body);
    }
    w.check();
}

/// What was asked when the upload began holds for the version that Complete makes.
#[test]
fn an_upload_keeps_its_lock_until_it_is_a_version() {
    let (mut w, b) = world(None);
    let lock = Lock {
        retention: Some((Mode::Compliance, NOW + DAY)),
        hold: Some(true),
    };
    let create = Body::CreateUpload(wire::CreateUpload {
        target: w.target(b, "k"),
        meta: Bytes::new(),
        lock: lock.row(),
    });
    let upload: UploadId = match w.done(create) {
        Done::Upload(upload) => upload,
        other => panic!("{other:?}"),
    };
    w.part(b, "k", upload, 1, "part");
    let id = w.complete(b, "k", upload, 1, &[(1, 1)], 4).written.id;
    let found = w.find(b, "k", VersionSelector::Id(id)).unwrap().new.lock;
    assert_eq!(found.to_row(), lock.row());
    let body = delete(&w, b, "k", id, true);
    locked(&mut w, body);
    w.release_all();
    w.check();
}

/// An upload that was begun before its bucket had object lock can be completed after it.
#[test]
fn without_object_lock_nothing_is_locked_and_nothing_pretends_to_be() {
    let mut w = World::new();
    w.now_ms = NOW;
    let b = w.bucket(1, Versioning::Enabled);
    let lock = Lock {
        retention: None,
        hold: Some(true),
    };
    let no_lock = Answer::Refused(Refusal::NoLock);
    let body = put_body(&w, b, "k", lock);
    assert_eq!(w.propose(body, b"data"), no_lock);
    let body = Body::CreateUpload(wire::CreateUpload {
        target: w.target(b, "k"),
        meta: Bytes::new(),
        lock: lock.row(),
    });
    assert_eq!(w.answer(body), no_lock);
    let id = put(&mut w, b, "k", Lock::default());
    let body = hold(&w, b, "k", id, true);
    assert_eq!(w.answer(body), no_lock);
    let upload = w.create_upload(b, "k");
    w.part(b, "k", upload, 1, "part");
    lock_bucket(&mut w, 1, Some((Mode::Compliance, 1)));
    let whole = w.complete(b, "k", upload, 1, &[(1, 1)], 4).written.id;
    let body = delete(&w, b, "k", whole, true);
    locked(&mut w, body);
    w.check();
}

/// Object lock and its versioning stay, whatever facts come.
#[test]
fn no_facts_take_object_lock_away() {
    let (mut w, b) = world(None);
    for (lock, versioning) in [
        (false, row::Versioning::Enabled),
        (true, row::Versioning::Suspended),
        (true, row::Versioning::Off),
    ] {
        let facts = row::Facts {
            epoch: 99,
            lock,
            versioning: versioning as i32,
            ..w.facts[&b]
        };
        let answer = w.answer(Body::SetFacts(wire::SetFacts { facts: Some(facts) }));
        assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    }
}

/// Facts are written by us; still, none that make no sense are taken.
#[test]
fn a_default_retention_has_a_mode_and_one_length_within_its_limits() {
    let (mut w, b) = world(None);
    let compliance = mode_row(Mode::Compliance);
    for (mode, days, years) in [
        (0, 1, 0),
        (7, 1, 0),
        (compliance, 0, 0),
        (compliance, 1, 1),
        (compliance, 36_501, 0),
        (compliance, 0, u32::MAX),
    ] {
        let facts = row::Facts {
            epoch: 99,
            retention: Some(row::DefaultRetention { mode, days, years }),
            ..w.facts[&b]
        };
        let answer = w.answer(Body::SetFacts(wire::SetFacts { facts: Some(facts) }));
        assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    }
    let facts = row::Facts {
        epoch: 99,
        retention: Some(row::DefaultRetention {
            mode: compliance,
            days: 0,
            years: 100,
        }),
        ..w.facts[&b]
    };
    w.done(Body::SetFacts(wire::SetFacts { facts: Some(facts) }));
    w.facts.insert(b, facts);
    let id = put(&mut w, b, "k", Lock::default());
    assert_eq!(until(&w, b, "k", id), Some(w.now_ms + 36_500 * DAY));
    w.check();
}

/// Null versions from before object lock may be locked, and no write replaces them any more.
#[test]
fn a_null_version_can_be_locked_and_is_not_overwritten() {
    let mut w = World::new();
    w.now_ms = NOW;
    let b = w.bucket(1, Versioning::Off);
    w.put(b, "k", "null");
    lock_bucket(&mut w, 1, None);
    let body = Body::SetLock(wire::SetLock {
        target: w.target(b, "k"),
        version: Some(wire::set_lock::Version::Null(true)),
        change: Some(wire::set_lock::Change::Hold(true)),
        bypass_governance: false,
    });
    w.done(body);
    w.put(b, "k", "next");
    let delete = Body::DeleteVersion(wire::DeleteVersion {
        target: w.target(b, "k"),
        conditions: None,
        version: Some(wire::delete_version::Version::Null(true)),
        bypass_governance: true,
    });
    locked(&mut w, delete);
    assert!(w.find(b, "k", VersionSelector::Null).is_some());
    w.check();
}

/// A version that is written while the leader's clock is ten days behind is kept as long as one written before.
#[test]
fn a_clock_that_goes_back_opens_no_lock_early() {
    let (mut w, b) = world(Some((Mode::Compliance, 5)));
    let before = put(&mut w, b, "a", Lock::default());
    let right = w.now_ms;
    w.now_ms = right - 10 * DAY;
    let during = put(&mut w, b, "b", Lock::default());
    assert_eq!(until(&w, b, "b", during), until(&w, b, "a", before));
    let body = delete(&w, b, "a", before, true);
    locked(&mut w, body);
    w.now_ms = right + 5 * DAY - 30;
    for (key, id) in [("a", before), ("b", during)] {
        let body = delete(&w, b, key, id, true);
        locked(&mut w, body);
    }
    w.now_ms = right + 5 * DAY;
    for (key, id) in [("a", before), ("b", during)] {
        let body = delete(&w, b, key, id, false);
        w.done(body);
    }
    w.check();
}

/// An entry of a leader on its own account (lifecycle deletes that way) gets around nothing.
#[test]
fn what_a_leader_proposes_by_itself_is_refused_too() {
    let (mut w, b) = world(Some((Mode::Governance, 1)));
    let id = put(&mut w, b, "k", Lock::default());
    let own = Entry {
        now_ms: w.now_ms + 1,
        command: None,
        payload_len: 0,
        body: Some(delete(&w, b, "k", id, false)),
    };
    assert_eq!(w.apply(&own).answer, Answer::Refused(Refusal::Locked));
    assert!(w.find(b, "k", VersionSelector::Id(id)).is_some());
    w.check();
}

/// Rules of a bucket's lifecycle are no way around a lock: what they say is due waits until nothing keeps it.
#[test]
fn lifecycle_takes_nothing_that_a_lock_keeps() {
    let (mut w, b) = world(None);
    let locks = [
        (Some((Mode::Governance, NOW + DAY)), None),
        (Some((Mode::Compliance, NOW + DAY)), None),
        (None, Some(true)),
    ];
    for (retention, hold) in locks {
        let id = put(&mut w, b, "k", Lock { retention, hold });
        put(&mut w, b, "k", Lock::default());
        let due = expire(&w, b, "k", id);
        assert_eq!(w.answer(due.clone()), Answer::Refused(Refusal::Locked));
        w.now_ms = NOW + DAY;
        let later = w.answer(due);
        match hold {
            Some(_) => assert_eq!(later, Answer::Refused(Refusal::Locked)),
            None => assert!(matches!(later, Answer::Done(Done::Deleted(gone)) if gone.existed)),
        }
        w.now_ms = NOW;
    }
}
