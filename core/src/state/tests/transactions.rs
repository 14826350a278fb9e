//! Transactions: intents, decisions, and DeleteBucket against what races with it.

use bytes::Bytes;
use minikv_proto::entry as wire;

use super::world::*;
use crate::ids::{BucketId, GroupId, TxnId, VShard};
use crate::kv::{Conditions, ListRequest, Refusal, VersionSelector, Versioning};
use crate::state::answer::{Answer, Done, TryAgain};
use crate::state::entry::{self, Body};
use crate::state::intent::{TxnRef, TxnState, txn_name};
use crate::state::read::{self, Decided, Look};

fn txn(sequence: u64) -> TxnRef {
    let id = TxnId {
        coordinator: GROUP,
        session: 2,
        sequence,
    };
    TxnRef {
        id,
        age_ms: sequence,
        participants: vec![GROUP],
    }
}

fn write(w: &World, b: BucketId, key: &str, data: &str, offset: u32) -> wire::Write {
    let inline = wire::Inline {
        offset,
        len: data.len() as u32,
        crc64: entry::crc64(data.as_bytes()),
    };
    let content = Some(wire::NewContent {
        kind: Some(wire::new_content::Kind::Inline(inline)),
    });
    let put = wire::WritePut {
        version: described(data),
        content,
    };
    wire::Write {
        target: w.target(b, key),
        kind: Some(wire::write::Kind::Put(put)),
    }
}

fn erase(w: &World, b: BucketId, key: &str) -> wire::Write {
    wire::Write {
        target: w.target(b, key),
        kind: Some(wire::write::Kind::Delete(wire::WriteDelete {})),
    }
}

fn absent(w: &World, b: BucketId, key: &str) -> wire::Check {
    let conditions = Conditions {
        if_none_match: Some(vec!["*".into()]),
        ..Conditions::default()
    };
    wire::Check {
        target: w.target(b, key),
        conditions: entry::conditions(&conditions),
        seq: None,
    }
}

/// A stage that nobody opened.
fn no_stage() -> crate::ids::StageId {
    crate::ids::StageId {
        group: GROUP,
        incarnation: 1,
        index: 999_999,
    }
}

fn prepare(txn: &TxnRef, checks: Vec<wire::Check>, writes: Vec<wire::Write>) -> Body {
    let part = wire::TxnPart {
        checks,
        writes,
        close_bucket: 0,
    };
    Body::Prepare(wire::Prepare {
        txn: Some(txn.to_row()),
        part: Some(part),
    })
}

fn finish(txn: &TxnRef, committed: bool) -> Body {
    Body::Finish(wire::Finish {
        txn: Some(txn_name(txn.id)),
        committed,
    })
}

#[test]
fn a_transaction_in_one_group_happens_whole_or_not_at_all() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    w.put(b, "old", "x");
    let part = wire::TxnPart {
        checks: vec![absent(&w, b, "a")],
        writes: vec![
            write(&w, b, "a", "AAA", 0),
            write(&w, b, "b", "BB", 3),
            erase(&w, b, "old"),
        ],
        close_bucket: 0,
    };
    let body = Body::Transact(wire::Transact { part: Some(part) });
    let Answer::Done(Done::Transacted(writes)) = w.propose(body.clone(), b"AAABB") else {
        panic!()
    };
    assert_eq!(
        writes.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, true, false]
    );
    w.check();
    assert_eq!(w.get(b, "old"), None);
    let before = w.rows.clone();
    assert_eq!(
        w.propose(body, b"AAABB"),
        Answer::Refused(Refusal::CheckFailed(0))
    );
    assert!(w.rows == before);
    // A refusal of the last write takes the first ones back.
    let claim = wire::WritePut {
        version: sized("e", 10),
        content: chunks(b, "z", no_stage(), 10),
    };
    let part = wire::TxnPart {
        writes: vec![
            write(&w, b, "y", "AAA", 0),
            wire::Write {
                target: w.target(b, "z"),
                kind: Some(wire::write::Kind::Put(claim)),
            },
        ],
        ..wire::TxnPart::default()
    };
    let refused = w.propose(Body::Transact(wire::Transact { part: Some(part) }), b"AAA");
    assert_eq!(refused, Answer::Refused(Refusal::StageGone));
    assert!(w.rows == before);
    // Two contents lie in one payload: it is held until both are gone.
    w.delete(b, "a");
    assert_eq!(w.bytes_held(), (1, 0));
    w.delete(b, "b");
    assert_eq!(w.bytes_held(), (0, 0));
    w.check();
}

#[test]
fn an_intent_stops_every_other_write_until_it_is_decided() {
    for committed in [true, false] {
        let mut w = World::new();
        let b = w.bucket(1, Versioning::Off);
        let s = w.open_session();
        w.put(b, "a", "old");
        let t = txn(9);
        let body = prepare(
            &t,
            vec![absent(&w, b, "checked")],
            vec![write(&w, b, "a", "new", 0)],
        );
        assert!(matches!(
            w.command(s, 1, 1, body.clone(), b"new"),
            Answer::Done(Done::Transacted(_))
        ));
        w.check();
        let held = w.rows.clone();
        for key in ["a", "checked"] {
            let blocked = Answer::TryAgain(TryAgain::Blocked(t.clone()));
            let put = w.put_body(b, key, "mine", &Conditions::default());
            assert_eq!(w.propose(put, b"mine"), blocked);
            assert_eq!(w.answer(w.delete_body(b, key)), blocked);
        }
        assert!(w.rows == held);
        w.done(finish(&t, committed));
        w.check();
        assert_eq!(
            w.get(b, "a").unwrap().new.etag,
            if committed { "new" } else { "old" }
        );
        // Finishing again, or a late copy of the prepare, changes nothing.
        let after = w.rows.clone();
        w.done(finish(&t, !committed));
        assert!(w.rows == after);
        assert!(matches!(
            w.command(s, 1, 1, body, b"new"),
            Answer::Done(Done::Transacted(_))
        ));
        assert!(w.rows == after);
        w.put(b, "a", "mine");
        w.check();
    }
}

/// A prepare without a session could come again after its end and carry an old write out twice.
#[test]
fn a_prepare_needs_a_session() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let body = prepare(&txn(1), vec![], vec![write(&w, b, "a", "new", 0)]);
    assert!(matches!(
        w.propose(body, b"new"),
        Answer::Refused(Refusal::Unsupported(_))
    ));
}

#[test]
fn readers_take_what_the_coordinator_says() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Enabled);
    let s = w.open_session();
    let old = w.put(b, "a", "old");
    let t = txn(3);
    let body = prepare(
        &t,
        vec![absent(&w, b, "n")],
        vec![write(&w, b, "a", "new", 0), erase(&w, b, "b")],
    );
    let Answer::Done(Done::Transacted(written)) = w.command(s, 1, 1, body, b"new") else {
        panic!()
    };
    let read = |w: &World, key: &'static str, decided: &Decided| {
        read::version(
            &w.rows,
            b,
            &Bytes::from(key),
            &VersionSelector::Current,
            decided,
        )
        .unwrap()
    };
    let list = |w: &World, decided: &Decided| {
        let request = ListRequest {
            versions: true,
            max: 10,
            ..ListRequest::default()
        };
        let vshards: Vec<VShard> = (0..=255).map(VShard).collect();
        match crate::state::list_versions::page(&w.rows, &vshards, b, &request, decided).unwrap() {
            Look::At(page) => Ok(page.items.len()),
            Look::Ask(txns) => Err(txns),
        }
    };
    assert_eq!(read(&w, "a", &Decided::new()), Look::Ask(vec![t.clone()]));
    assert_eq!(list(&w, &Decided::new()), Err(vec![t.clone()]));
    assert_eq!(
        read(&w, "n", &Decided::new()),
        Look::At(None),
        "a key that is only checked stays readable"
    );
    for (state, etag, lines) in [
        (TxnState::Pending, "old", 1),
        (TxnState::Aborted, "old", 1),
        (TxnState::Committed, "new", 3),
    ] {
        let decided = Decided::from([(t.id, state)]);
        let Look::At(Some(version)) = read(&w, "a", &decided) else {
            panic!()
        };
        assert_eq!(version.new.etag, etag);
        assert_eq!(list(&w, &decided), Ok(lines));
    }
    w.done(finish(&t, true));
    // The version ids that readers saw before are the ones that stay.
    assert_eq!(w.get(b, "a").unwrap().id, written[0].as_ref().unwrap().id);
    assert!(w.find(b, "a", VersionSelector::Id(old.id)).is_some());
    assert!(w.get(b, "b").unwrap().is_delete_marker);
    w.check();
}

#[test]
fn a_prepared_stage_is_held_and_comes_back_on_abort() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let s = w.open_session();
    let stage = w.open_stage(b, "big", 5, None);
    let put = |w: &World| {
        let put = wire::WritePut {
            version: sized("e", 10),
            content: chunks(b, "big", stage, 10),
        };
        vec![wire::Write {
            target: w.target(b, "big"),
            kind: Some(wire::write::Kind::Put(put)),
        }]
    };
    let body = prepare(&txn(1), vec![], put(&w));
    assert!(matches!(w.command(s, 1, 1, body, b""), Answer::Done(_)));
    assert_eq!(read::bucket_usage(&w.rows, b).unwrap().reserved, 10);
    let vshard = VShard::of(b, b"big");
    let at = wire::StageAt {
        vshard: u32::from(vshard.0),
        stage: Some(stage.to_row()),
    };
    w.done(Body::Abandon(wire::Abandon { stages: vec![at] }));
    assert!(
        read::stage(&w.rows, vshard, stage).unwrap().unwrap().held,
        "an abandon does not end a held stage"
    );
    w.done(finish(&txn(1), false));
    assert!(!read::stage(&w.rows, vshard, stage).unwrap().unwrap().held);
    let body = prepare(&txn(2), vec![], put(&w));
    assert!(matches!(w.command(s, 2, 1, body, b""), Answer::Done(_)));
    w.done(finish(&txn(2), true));
    assert_eq!(w.get(b, "big").unwrap().new.size, 10);
    w.check();
}

#[test]
fn there_is_one_decision_and_a_late_pending_changes_nothing() {
    let mut w = World::new();
    let s = w.open_session();
    let name = |sequence| TxnRef {
        id: TxnId {
            coordinator: GROUP,
            session: s,
            sequence,
        },
        age_ms: 1,
        participants: vec![GROUP, GroupId(2)],
    };
    let pending = |t: &TxnRef| {
        Body::Pending(wire::Pending {
            txn: Some(t.to_row()),
            deadline_ms: 5,
            own: None,
        })
    };
    let commit = |t: &TxnRef| {
        Body::Commit(wire::Commit {
            txn: Some(txn_name(t.id)),
        })
    };
    let aborted = |t: &TxnRef| {
        Body::Aborted(wire::Aborted {
            txn: Some(t.to_row()),
        })
    };
    let drop = |t: &TxnRef, confirmed: &[u32]| {
        Body::DropTxn(wire::DropTxn {
            txn: Some(txn_name(t.id)),
            confirmed: confirmed.to_vec(),
        })
    };

    let t = name(1);
    assert_eq!(
        w.answer(commit(&t)),
        Answer::Refused(Refusal::Aborted),
        "nothing is pending"
    );
    assert_eq!(
        w.command(s, 1, 1, pending(&t), b""),
        Answer::Done(Done::Txn(TxnState::Pending))
    );
    assert_eq!(w.done(commit(&t)), Done::Txn(TxnState::Committed));
    assert_eq!(
        w.done(aborted(&t)),
        Done::Txn(TxnState::Committed),
        "a commit stands"
    );

    let t = name(2);
    assert_eq!(
        w.done(aborted(&t)),
        Done::Txn(TxnState::Aborted),
        "somebody gave up waiting"
    );
    assert_eq!(
        w.command(s, 2, 1, pending(&t), b""),
        Answer::Refused(Refusal::Aborted)
    );
    assert_eq!(w.answer(commit(&t)), Answer::Refused(Refusal::Aborted));

    let t = name(3);
    w.done(aborted(&t));
    let not_yet = Answer::TryAgain(TryAgain::NotYet);
    assert_eq!(w.answer(drop(&t, &[1])), not_yet, "group 2 did not confirm");
    assert_eq!(
        w.answer(drop(&t, &[1, 2])),
        not_yet,
        "its pending may still come"
    );
    // A later command closes the sequence.
    let other = w.put_body(BucketId(9), "k", "", &Conditions::default());
    assert_eq!(
        w.command(s, 9, 9, other, b""),
        Answer::TryAgain(TryAgain::FactsBehind(BucketId(9)))
    );
    assert_eq!(
        w.answer(drop(&t, &[1, 2])),
        not_yet,
        "what must be tried again closes nothing"
    );
    let open = Body::OpenSession(wire::OpenSession::default());
    assert!(matches!(w.command(s, 9, 9, open, b""), Answer::Done(_)));
    assert_eq!(w.done(drop(&t, &[1, 2])), Done::Nothing);
    assert_eq!(
        w.command(s, 3, 3, pending(&t), b""),
        Answer::TryAgain(TryAgain::SessionGone)
    );
    assert_eq!(read::txn(&w.rows, t.id).unwrap(), None);
    w.check();
}

/// Group 0 holds the name, group 1 objects. Whatever races with DeleteBucket: one of the two happens.
mod delete_bucket {
    use super::*;

    struct Store {
        directory: World,
        data: World,
        session: u64,
        bucket: BucketId,
    }

    fn store() -> Store {
        let mut directory = World::of(GroupId::DIRECTORY, vec![]);
        let root = minikv_proto::row::Credential {
            secret: "s".into(),
            root: true,
            tenant: 1,
            ..Default::default()
        };
        let node = minikv_proto::row::Node {
            id: 1,
            address: "here".into(),
            weight: 1,
            ..Default::default()
        };
        let found = wire::FoundCluster {
            id: Bytes::from_static(&[7; 16]),
            data_groups: 1,
            region: "us-east-1".into(),
            root_access_key: "root".into(),
            root: Some(root),
            first_node: Some(node),
            other_nodes: Vec::new(),
        };
        directory.done(Body::FoundCluster(found.clone()));
        directory.done(Body::FoundCluster(found));
        let session = directory.open_session();
        let Done::Bucket(bucket) = directory.done(create()) else {
            panic!()
        };
        let mut data = World::new();
        let facts = directory_facts(&bucket);
        data.done(Body::SetFacts(wire::SetFacts { facts: Some(facts) }));
        data.facts.insert(bucket.id, facts);
        let confirmed = wire::FactsConfirmed {
            bucket: bucket.id.0,
            epoch: 1,
            group: 1,
        };
        assert_eq!(
            directory.done(Body::FactsConfirmed(confirmed)),
            Done::More(false)
        );
        assert!(read::pushes(&directory.rows).unwrap().is_empty());
        Store {
            directory,
            data,
            session,
            bucket: bucket.id,
        }
    }

    fn create() -> Body {
        let name = "photos".to_owned();
        Body::CreateBucket(wire::CreateBucket {
            name,
            tenant: 1,
            owner: "me".into(),
            ..Default::default()
        })
    }

    impl Store {
        fn txn(&self) -> TxnRef {
            let id = TxnId {
                coordinator: GroupId::DIRECTORY,
                session: self.session,
                sequence: 1,
            };
            TxnRef {
                id,
                age_ms: 1,
                participants: vec![GroupId::DIRECTORY, GROUP],
            }
        }

        fn close(&self) -> Option<wire::TxnPart> {
            Some(wire::TxnPart {
                close_bucket: self.bucket.0,
                ..Default::default()
            })
        }

        fn begin(&mut self) -> Answer {
            let pending = wire::Pending {
                txn: Some(self.txn().to_row()),
                deadline_ms: 0,
                own: self.close(),
            };
            self.directory
                .command(self.session, 1, 1, Body::Pending(pending), b"")
        }

        fn prepare(&mut self) -> Answer {
            let session = self.data.open_session();
            let prepare = wire::Prepare {
                txn: Some(self.txn().to_row()),
                part: self.close(),
            };
            self.data
                .command(session, 1, 1, Body::Prepare(prepare), b"")
        }
    }

    #[test]
    fn an_empty_bucket_goes_and_a_late_put_finds_none() {
        let mut s = store();
        assert!(matches!(s.begin(), Answer::Done(_)));
        assert!(matches!(s.prepare(), Answer::Done(_)));
        let blocked = Answer::TryAgain(TryAgain::Blocked(s.txn()));
        let put = s.data.put_body(s.bucket, "k", "x", &Conditions::default());
        assert_eq!(s.data.propose(put.clone(), b"x"), blocked);
        assert_eq!(s.directory.answer(create()), blocked);
        s.directory.done(Body::Commit(wire::Commit {
            txn: Some(txn_name(s.txn().id)),
        }));
        s.data.done(finish(&s.txn(), true));
        assert_eq!(
            s.data.propose(put, b"x"),
            Answer::Refused(Refusal::NoSuchBucket)
        );
        // A late push of old facts does not bring it back, not even of a change that never arrived here.
        let facts = *s.data.facts.get(&s.bucket).unwrap();
        for epoch in [facts.epoch, facts.epoch + 7] {
            let facts = minikv_proto::row::Facts { epoch, ..facts };
            s.data
                .done(Body::SetFacts(wire::SetFacts { facts: Some(facts) }));
        }
        assert!(read::facts(&s.data.rows, s.bucket).unwrap().unwrap().gone);
        let Done::Bucket(again) = s.directory.done(create()) else {
            panic!()
        };
        assert_ne!(again.id, s.bucket, "an id is never used twice");
        s.directory.check();
        s.data.check();
    }

    #[test]
    fn a_bucket_with_something_in_it_stays_as_it_was() {
        for what in ["object", "upload", "marker", "intent"] {
            let mut s = store();
            let b = s.bucket;
            match what {
                "object" => drop(s.data.put(b, "k", "x")),
                "upload" => drop(s.data.create_upload(b, "k")),
                "marker" => {
                    s.data.bucket(b.0, Versioning::Enabled);
                    s.data.delete(b, "k");
                }
                _ => {
                    let session = s.data.open_session();
                    let body = prepare(&txn(77), vec![], vec![write(&s.data, b, "k", "x", 0)]);
                    assert!(matches!(
                        s.data.command(session, 1, 1, body, b"x"),
                        Answer::Done(_)
                    ));
                }
            }
            assert!(matches!(s.begin(), Answer::Done(_)));
            let expected = match what {
                "intent" => Answer::TryAgain(TryAgain::Blocked(txn(77))),
                _ => Answer::Refused(Refusal::BucketNotEmpty),
            };
            assert_eq!(s.prepare(), expected, "{what}");
            s.directory.done(Body::Aborted(wire::Aborted {
                txn: Some(s.txn().to_row()),
            }));
            assert_eq!(read::closing(&s.directory.rows, "photos").unwrap(), None);
            assert!(
                read::bucket_by_name(&s.directory.rows, "photos")
                    .unwrap()
                    .is_some()
            );
            if what == "object" {
                s.data.put(b, "other", "x");
            }
            s.data.check();
            s.directory.check();
        }
    }

    #[test]
    fn an_open_stage_does_not_hold_a_bucket_and_its_claim_fails() {
        let mut s = store();
        let stage = s.data.open_stage(s.bucket, "k", 10, None);
        s.begin();
        assert!(matches!(s.prepare(), Answer::Done(_)));
        let claim = s.data.claim_body(s.bucket, "k", stage, "e", 10);
        assert!(matches!(
            s.data.answer(claim.clone()),
            Answer::TryAgain(TryAgain::Blocked(_))
        ));
        s.data.done(finish(&s.txn(), true));
        assert_eq!(s.data.answer(claim), Answer::Refused(Refusal::NoSuchBucket));
        assert_eq!(
            read::bucket_usage(&s.data.rows, s.bucket).unwrap(),
            Default::default()
        );
        s.data.check();
    }
}
