//! The bytes of what came with clusters of several nodes.

use bytes::Bytes;
use minikv_proto::{entry as wire, row};

use super::golden::{V, check, check_row, described, stage_id, target};
use crate::state::entry::{self, Body, Entry};
use crate::state::keys;

#[test]
fn golden_entries_of_several_founders() {
    let node = |id| row::Node {
        id,
        weight: 1,
        incarnation: 1,
        joined_ms: 4,
        ..row::Node::default()
    };
    let entry = Entry {
        now_ms: 1_700_000_000_123,
        command: None,
        payload_len: 0,
        body: Some(Body::FoundCluster(wire::FoundCluster {
            id: Bytes::from_static(&[7; 16]),
            data_groups: 2,
            region: "us-east-1".into(),
            root_access_key: "AKIA".into(),
            root: Some(row::Credential::default()),
            first_node: Some(node(1)),
            other_nodes: vec![node(2), node(3)],
        })),
    };
    let bytes = entry::encode(entry.clone(), b"");
    assert_eq!(entry::decode(&bytes).unwrap().entry, entry);
    check("entries", "found_cluster_of_three", &[("entry", &bytes)]);
}

/// The short list tells the run of its chunks, so that whoever lacks them can ask for them.
#[test]
fn golden_short_list_with_its_run() {
    let short = row::Short {
        vshard: u32::from(V.0),
        count: 2,
        missing: vec![3],
        have: vec![1, 2],
        run: Some(row::ChunkRun {
            vshard: u32::from(V.0),
            stage: Some(stage_id().to_row()),
            count: 7,
            chunk_size: 4 << 20,
            len: (6 << 20) + (20 << 20),
        }),
    };
    check_row("short_with_run", keys::short(stage_id(), 5), &short);
}

#[test]
fn golden_count_of_what_a_node_misses() {
    check_row(
        "short_of",
        keys::short_of(300),
        &row::ShortOf { items: 77_000 },
    );
}

/// A node that joined, with all that this added to its row.
pub(super) fn joined() -> row::Node {
    row::Node {
        id: 4,
        address: "10.0.0.4:9002".into(),
        zone: "b".into(),
        weight: 2,
        incarnation: 1,
        joined_ms: 4,
        removed: false,
        state: row::NodeState::Draining as i32,
        join: Bytes::from_static(b"disk"),
        revision: 3,
    }
}

#[test]
fn golden_row_of_a_node_that_joined() {
    check_row("directory_node_joined", keys::node(4), &joined());
}

/// What a leader says of a change names its term since then; a copy that nobody needs any more is no copy.
#[test]
fn golden_entries_of_a_change_of_members() {
    let bodies = [
        (
            "retired_in_a_term",
            Body::Retired(wire::Retired { node: 1, term: 7 }),
        ),
        (
            "cancel_admit_in_a_term",
            Body::CancelAdmit(wire::CancelAdmit { node: 1, term: 7 }),
        ),
        (
            "short_done_of_a_node_that_is_gone",
            Body::ShortDone(wire::ShortDone {
                stage: Some(stage_id().to_row()),
                first: 1,
                node: 2,
                gone: true,
                since_index: 0,
            }),
        ),
        (
            "short_done_of_a_member",
            Body::ShortDone(wire::ShortDone {
                stage: Some(stage_id().to_row()),
                first: 1,
                node: 2,
                gone: false,
                since_index: 9,
            }),
        ),
        (
            "put_of_copies_in_lives",
            Body::Put(wire::Put {
                target: target(),
                conditions: None,
                version: described(),
                content: Some(wire::NewContent {
                    kind: Some(wire::new_content::Kind::Staged(wire::Staged {
                        stage: Some(stage_id().to_row()),
                        count: 2,
                        chunk_size: 3,
                        len: 5,
                        copies: vec![wire::Copies {
                            first: 0,
                            count: 2,
                            nodes: vec![1, 300],
                            lives: vec![4, 500],
                        }],
                    })),
                }),
            }),
        ),
    ];
    for (name, body) in bodies {
        let entry = Entry {
            now_ms: 1_700_000_000_123,
            command: None,
            payload_len: 0,
            body: Some(body),
        };
        let bytes = entry::encode(entry.clone(), b"");
        assert_eq!(entry::decode(&bytes).unwrap().entry, entry);
        check("entries", name, &[("entry", &bytes)]);
    }
}
