//! Entries that nobody of ours would propose: any kind, with any of its bytes changed. A group agrees on entries before it
//! looks into them, so what is in one must never end the process, stop a sound group, or change anything by halves.

use minikv_proto::entry as wire;
use proptest::prelude::*;
use prost::Message;

use super::golden::all_entries;
use super::world::*;
use crate::ids::GroupId;
use crate::kv::{Conditions, Versioning};
use crate::state::answer::Answer;
use crate::state::apply::{GroupContext, MAX_OPERATIONS, apply};
use crate::state::entry::Entry;

/// A data group with a little of everything in it.
fn furnished() -> World {
    let mut w = World::new();
    w.open_session();
    for (id, versioning) in [(1, Versioning::Off), (7, Versioning::Enabled)] {
        let b = w.bucket(id, versioning);
        for key in ["a", "key", "photos/cat.jpg"] {
            w.propose(w.put_body(b, key, "data", &Conditions::default()), b"data");
        }
        w.answer(w.delete_body(b, "a"));
        let create = wire::CreateUpload {
            target: w.target(b, "key"),
            ..Default::default()
        };
        w.answer(crate::state::entry::Body::CreateUpload(create));
        let open = wire::OpenStage {
            target: w.target(b, "key"),
            reserve: 100,
            ..Default::default()
        };
        w.answer(crate::state::entry::Body::OpenStage(open));
    }
    w
}

/// The directory of a cluster that was founded.
fn directory() -> World {
    let mut w = World::of(GroupId::DIRECTORY, Vec::new());
    w.open_session();
    for body in all_entries() {
        if matches!(body, crate::state::entry::Body::FoundCluster(_)) {
            w.answer(body);
        }
    }
    w
}

/// An entry of some kind with some of its bytes changed, if it still is one.
fn entry_of(kind: usize, changes: &[(u16, u8)], command: Option<(u64, u64, u64)>) -> Option<Entry> {
    let mut samples = all_entries();
    let body = samples.swap_remove(kind % samples.len());
    let entry = Entry {
        now_ms: 2_000_000,
        command: None,
        payload_len: 5,
        body: Some(body),
    };
    let mut bytes = entry.encode_to_vec();
    for (at, byte) in changes {
        let at = usize::from(*at) % bytes.len();
        bytes[at] = *byte;
    }
    let mut entry = Entry::decode(&bytes[..]).ok()?;
    entry.command = command.map(|(session, sequence, lowest)| wire::Command {
        session,
        sequence,
        lowest,
    });
    entry.body.is_some().then_some(entry)
}

type Shape = (usize, Vec<(u16, u8)>, Option<(u64, u64, u64)>);

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let byte = prop_oneof![any::<u8>(), Just(0), Just(1), Just(0x7f), Just(0xff)];
    let changes = proptest::collection::vec((any::<u16>(), byte), 0..6);
    let number = || prop_oneof![0u64..6, any::<u64>(), Just(u64::MAX)];
    let command = proptest::option::of((number(), number(), number()));
    proptest::collection::vec((any::<usize>(), changes, command), 1..10)
}

fn survive(mut w: World, shapes: &[Shape]) {
    for (kind, changes, command) in shapes {
        let Some(entry) = entry_of(*kind, changes, *command) else {
            continue;
        };
        w.index += 1;
        let context = GroupContext {
            id: w.group,
            index: w.index,
            term: 7,
        };
        let applied = apply(&w.rows, &context, &entry)
            .unwrap_or_else(|error| panic!("it stops the group: {error}: {entry:?}"));
        assert_eq!(apply(&w.rows, &context, &entry).unwrap(), applied);
        assert!(applied.operations <= MAX_OPERATIONS);
        if matches!(applied.answer, Answer::TryAgain(_)) {
            assert!(applied.changes.is_empty() && applied.claimed.is_empty());
        }
        w.digest = w.digest.wrapping_add(applied.digest);
        for (key, row) in applied.changes {
            match row {
                Some(row) => w.rows.0.insert(key, row),
                None => w.rows.0.remove(&key),
            };
        }
        let digest = crate::engine::digest::recompute(&w.rows).unwrap();
        assert_eq!(digest, w.digest, "{entry:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a group agrees on, its members get over it, all in the same way.
    #[test]
    fn no_entry_ends_a_data_group(shapes in shapes()) {
        survive(furnished(), &shapes);
    }

    /// The same of the directory.
    #[test]
    fn no_entry_ends_the_directory(shapes in shapes()) {
        survive(directory(), &shapes);
    }
}

/// Usage is counted by tenant: a bucket that changed hands would move its bytes without anybody paying for them.
#[test]
fn a_bucket_never_changes_its_tenant() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    w.propose(
        w.put_body(b, "key", "data", &Conditions::default()),
        b"data",
    );
    let facts = wire::SetFacts {
        facts: Some(minikv_proto::row::Facts {
            tenant: TENANT + 1,
            epoch: 50,
            ..w.facts[&b]
        }),
    };
    let before = w.rows.clone();
    let answer = w.answer(crate::state::entry::Body::SetFacts(facts));
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    assert!(w.rows == before);
    w.check();
}
