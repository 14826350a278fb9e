//! Formats are final: today's code writes the bytes that these files keep, and reads them back.
//!
//! One file for every kind of row (`golden/rows`: key and row), entry (`golden/entries`: the framed entry) and answer
//! (`golden/answers`), in hex. A new kind gets a new file: `MINIKV_WRITE_GOLDEN=1 cargo test golden` writes those that
//! are missing. A file that is there is never written again.
#![allow(
    clippy::disallowed_methods,
    reason = "golden files lie in the source tree"
)]

use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;
use minikv_proto::{entry as wire, row};
use prost::Message;

use crate::ids::{
    BucketId, GroupId, PayloadId, StageId, TenantId, TxnId, UploadId, VShard, VersionId,
};
use crate::kv::{Bucket, Deleted, Refusal, Versioning, Written};
use crate::state::answer::{AccountId, Answer, Completed, Done, TryAgain};
use crate::state::entry::{self, Body, Entry};
use crate::state::intent::{TxnRef, TxnState};
use crate::state::keys;

pub(super) fn check(folder: &str, name: &str, lines: &[(&str, &[u8])]) {
    let mut text = String::new();
    for (label, bytes) in lines {
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        writeln!(text, "{label} {hex}").unwrap();
    }
    let path: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "src/state/golden",
        folder,
        &format!("{name}.hex"),
    ]
    .iter()
    .collect();
    match std::fs::read_to_string(&path) {
        Ok(kept) => assert_eq!(
            text, kept,
            "the format of {folder}/{name} changed: stores out there hold the old one"
        ),
        Err(_) if std::env::var_os("MINIKV_WRITE_GOLDEN").is_some() => {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        Err(_) => panic!("{folder}/{name}.hex is missing: MINIKV_WRITE_GOLDEN=1 writes it"),
    }
}

pub(super) fn check_row<M: Message + Default + PartialEq + std::fmt::Debug>(
    name: &str,
    key: Bytes,
    row: &M,
) {
    let bytes = row.encode_to_vec();
    assert_eq!(&M::decode(bytes.as_slice()).unwrap(), row);
    check("rows", name, &[("key", &key), ("row", &bytes)]);
}

// ---- samples: every field set, each to something else ----

pub(super) const V: VShard = VShard(0xA7);
pub(super) const B: BucketId = BucketId(0x0102);
pub(super) const KEY: &[u8] = b"a/\x00b";

pub(super) fn stage_id() -> StageId {
    StageId {
        group: GroupId(3),
        incarnation: 2,
        index: 0x1234,
    }
}

fn upload() -> UploadId {
    UploadId::seal(stage_id())
}

pub(super) fn name() -> keys::UploadName {
    upload().open().unwrap()
}

fn txn_id() -> TxnId {
    TxnId {
        coordinator: GroupId(4),
        session: 55,
        sequence: 66,
    }
}

fn txn() -> TxnRef {
    TxnRef {
        id: txn_id(),
        age_ms: 77,
        participants: vec![GroupId(1), GroupId(4)],
    }
}

fn payload_id() -> PayloadId {
    PayloadId {
        group: GroupId(3),
        index: 0x99,
        term: 8,
    }
}

fn of_payload() -> Option<row::Content> {
    let piece = row::Payload {
        group: 3,
        index: 0x99,
        term: 8,
        offset: 5,
        len: 6,
        crc64: 0x1122_3344_5566_7788,
    };
    Some(row::Content {
        kind: Some(row::content::Kind::Payload(piece)),
        shared: true,
    })
}

fn of_chunks() -> Option<row::Content> {
    let run = row::ChunkRun {
        vshard: u32::from(V.0),
        stage: Some(stage_id().to_row()),
        count: 3,
        chunk_size: 4 << 20,
        len: (12 << 20) - 1,
    };
    Some(row::Content {
        kind: Some(row::content::Kind::Chunks(run)),
        shared: false,
    })
}

fn ranges() -> Vec<row::PartRange> {
    vec![
        row::PartRange { first: 1, last: 3 },
        row::PartRange { first: 7, last: 7 },
    ]
}

fn of_upload() -> Option<row::Content> {
    let content = row::UploadContent {
        upload: name().to_vec().into(),
        parts: ranges(),
    };
    Some(row::Content {
        kind: Some(row::content::Kind::Upload(content)),
        shared: false,
    })
}

pub(super) fn version(content: Option<row::Content>) -> row::Version {
    row::Version {
        seq: 0x0FED,
        null: true,
        delete_marker: false,
        modified_ms: 1_700_000_000_123,
        etag: "d41d8cd98f00b204e9800998ecf8427e".into(),
        size: 6,
        meta: Bytes::from_static(b"meta"),
        content,
        tags: Bytes::new(),
        lock: None,
    }
}

fn marker() -> row::Version {
    row::Version {
        seq: 0x0FEE,
        delete_marker: true,
        modified_ms: 9,
        ..row::Version::default()
    }
}

pub(super) fn facts() -> row::Facts {
    let versioning = row::Versioning::Suspended as i32;
    row::Facts {
        bucket: B.0,
        tenant: 5,
        epoch: 6,
        gone: true,
        versioning,
        lock: true,
        retention: None,
    }
}

fn usage() -> row::Usage {
    row::Usage {
        bytes: 1,
        objects: 2,
        versions: 3,
        markers: 4,
        uploads: 5,
        reserved: 6,
        reserved_versions: 7,
    }
}

fn transit() -> row::Transit {
    row::Transit {
        to_group: 1,
        number: 2,
        bytes: 3,
        objects: 4,
        epoch: 5,
    }
}

fn account() -> row::Account {
    row::Account {
        epoch: 1,
        bytes_limited: true,
        objects_limited: true,
        bytes: -4,
        objects: 5,
        debited: 6,
        transit: Some(transit()),
        credited: vec![row::Credited {
            from_group: 7,
            number: 8,
        }],
        limit_bytes: Some(9),
        limit_objects: Some(10),
    }
}

pub(super) fn directory_bucket() -> row::DirectoryBucket {
    row::DirectoryBucket {
        id: B.0,
        name: "photos".into(),
        tenant: 5,
        owner: "owner".into(),
        created_ms: 6,
        versioning: row::Versioning::Enabled as i32,
        lock: true,
        epoch: 7,
        settings: Bytes::from_static(b"settings"),
        closing: Some(txn().to_row()),
        retention: None,
    }
}

fn tenant() -> row::DirectoryTenant {
    let settings = Bytes::from_static(b"settings");
    row::DirectoryTenant {
        id: 5,
        name: "acme".into(),
        created_ms: 6,
        settings,
        revision: 7,
    }
}

fn credential() -> row::Credential {
    let settings = Bytes::from_static(b"settings");
    row::Credential {
        secret: "secret".into(),
        root: true,
        tenant: 5,
        created_ms: 6,
        settings,
    }
}

fn node() -> row::Node {
    row::Node {
        id: 1,
        address: "10.0.0.1:9002".into(),
        zone: "a".into(),
        weight: 2,
        incarnation: 3,
        joined_ms: 4,
        removed: true,
        ..row::Node::default()
    }
}

#[test]
fn golden_rows_of_objects() {
    check_row(
        "current_inline",
        keys::current(V, B, KEY),
        &row::Current {
            version: Some(version(of_payload())),
            null_seq: 0x77,
            intent: None,
        },
    );
    check_row(
        "current_intent_put",
        keys::current(V, B, KEY),
        &row::Current {
            version: None,
            null_seq: 0,
            intent: Some(row::Intent {
                txn: Some(txn().to_row()),
                write: Some(row::intent::Write::Put(version(of_chunks()))),
            }),
        },
    );
    check_row(
        "current_intent_remove",
        keys::current(V, B, KEY),
        &row::Current {
            version: Some(marker()),
            null_seq: 0,
            intent: Some(row::Intent {
                txn: Some(txn().to_row()),
                write: Some(row::intent::Write::Remove(true)),
            }),
        },
    );
    check_row(
        "older_chunks",
        keys::older(V, B, KEY, 0x0FED),
        &version(of_chunks()),
    );
    check_row(
        "older_upload",
        keys::older(V, B, KEY, 0x0FED),
        &version(of_upload()),
    );
    check_row(
        "older_tagged",
        keys::older(V, B, KEY, 0x0FED),
        &row::Version {
            tags: Bytes::from_static(b"tags"),
            ..version(None)
        },
    );
    check_row("older_marker", keys::older(V, B, KEY, 0x0FEE), &marker());
    check_row(
        "stage",
        keys::stage(V, stage_id()),
        &row::Stage {
            bucket: B.0,
            key: Bytes::from_static(KEY),
            principal: Bytes::from_static(b"me"),
            reserved: 4,
            upload: name().to_vec().into(),
            opened_ms: 6,
            held_by: Some(crate::state::intent::txn_name(txn_id())),
        },
    );
    let meta = Bytes::from_static(b"meta");
    check_row(
        "open_upload",
        keys::open_upload(V, B, KEY, &name()),
        &row::OpenUpload {
            created_ms: 1,
            meta,
            lock: None,
        },
    );
    let completed = row::Completed {
        seq: 1,
        null: true,
        modified_ms: 3,
        etag: "e-4".into(),
        size: 5,
        parts: ranges(),
    };
    check_row(
        "upload",
        keys::upload(V, &name()),
        &row::Upload {
            bucket: B.0,
            key: Bytes::from_static(KEY),
            counter: 3,
            parts: 4,
            bytes: 5,
            completed: Some(completed),
            freed: true,
        },
    );
    check_row(
        "part",
        keys::part(V, &name(), 10_000),
        &row::Part {
            content: of_chunks(),
            size: 2,
            etag: "etag".into(),
            modified_ms: 4,
            meta: Bytes::from_static(b"meta"),
        },
    );
    check_row(
        "share_chunks",
        keys::share_of_chunks(V, stage_id()),
        &row::Share { references: 2 },
    );
    check_row(
        "share_upload",
        keys::share_of_upload(V, &name()),
        &row::Share { references: 3 },
    );
}

#[test]
fn golden_rows_of_a_group() {
    check_row("group", keys::the_group(), &row::Group { incarnation: 2 });
    check_row(
        "vshard",
        keys::vshard(V),
        &row::Vshard {
            epoch: 1,
            state: row::VshardState::VshardFrozen as i32,
            seq_base: 3,
            since_index: 4,
        },
    );
    let member = |node, role: row::MemberRole| row::Member {
        node,
        role: role as i32,
        since_index: 10 + node,
    };
    use row::MemberRole::*;
    check_row(
        "members",
        keys::members(),
        &row::Members {
            members: vec![
                member(1, Member),
                member(2, Learner),
                member(3, Admitted),
                member(4, Retiring),
            ],
        },
    );
    let short = row::Short {
        vshard: u32::from(V.0),
        count: 2,
        missing: vec![3, 300],
        have: vec![1, 2],
        run: None,
    };
    check_row("short", keys::short(stage_id(), 5), &short);
    let session = row::Session {
        lowest: 1,
        highest: 2,
        swept: 3,
        ended: true,
        opened_ms: 5,
        gateway: "gw".into(),
    };
    check_row("session", keys::session(0x55), &session);
    let result = Answer::Done(Done::Number(7)).to_wire();
    check_row("result", keys::result(0x55, 0x66), &result);
    check_row(
        "bucket",
        keys::bucket(B),
        &row::Bucket {
            facts: Some(facts()),
            usage: Some(usage()),
            account: Some(account()),
            closing: Some(txn().to_row()),
            intents: 5,
            latest_ms: 0,
        },
    );
    let row = row::Tenant {
        usage: Some(usage()),
        account: Some(account()),
    };
    check_row("tenant", keys::tenant(TenantId(5)), &row);
    check_row(
        "free_chunks",
        keys::free(0x88, 9),
        &row::Free {
            content: of_chunks(),
            freed_ms: 2,
        },
    );
    check_row(
        "free_payload",
        keys::free(0x88, 10),
        &row::Free {
            content: of_payload(),
            freed_ms: 2,
        },
    );
    check_row(
        "free_upload",
        keys::free_upload(0x88, 9),
        &row::FreeUpload {
            vshard: u32::from(V.0),
            upload: name().to_vec().into(),
            unlisted_only: true,
            next_part: 4,
        },
    );
    let state = row::TxnState::Committed as i32;
    check_row(
        "txn",
        keys::txn(txn_id()),
        &row::Txn {
            txn: Some(txn().to_row()),
            state,
            deadline_ms: 3,
        },
    );
    check_row(
        "prepared",
        keys::prepared(txn_id()),
        &row::Prepared {
            txn: Some(txn().to_row()),
            keys: vec![row::KeyName {
                bucket: B.0,
                key: Bytes::from_static(KEY),
            }],
            close_bucket: B.0,
            prepared_ms: 4,
        },
    );
    check_row(
        "share_payload",
        keys::share_of_payload(payload_id()),
        &row::Share { references: 2 },
    );
    check_row(
        "applied_mark",
        Bytes::new(),
        &row::Applied {
            term: 1,
            node: 2,
            index: 3,
            membership: Bytes::from_static(b"membership"),
            digest: Bytes::from_static(&[9; 16]),
        },
    );
}

#[test]
fn golden_rows_of_the_directory() {
    let id = Bytes::from_static(&[7; 16]);
    let cluster = row::Cluster {
        id,
        created_ms: 2,
        data_groups: 8,
        region: "us-east-1".into(),
    };
    check_row("directory_cluster", keys::cluster(), &cluster);
    check_row(
        "directory_counters",
        keys::counters(),
        &row::Counters {
            bucket: 1,
            tenant: 2,
            node: 3,
        },
    );
    check_row(
        "directory_bucket",
        keys::directory_bucket("photos"),
        &directory_bucket(),
    );
    check_row(
        "directory_bucket_name",
        keys::bucket_name(B),
        &row::BucketName {
            name: "photos".into(),
        },
    );
    check_row(
        "directory_push",
        keys::push(B),
        &row::Push {
            epoch: 1,
            confirmed: vec![2, 300],
        },
    );
    check_row(
        "directory_tenant",
        keys::directory_tenant(TenantId(5)),
        &tenant(),
    );
    check(
        "rows",
        "directory_tenant_name",
        &[
            ("key", &keys::tenant_name("acme")),
            ("row", &5u64.to_be_bytes()),
        ],
    );
    let opaque = row::Opaque {
        revision: 1,
        value: Bytes::from_static(b"value"),
    };
    check_row("directory_opaque", keys::opaque(2, b"user\x00"), &opaque);
    check_row(
        "directory_credential",
        keys::credential("AKIA"),
        &credential(),
    );
    check_row("directory_node", keys::node(1), &node());
    let placement = row::Placement {
        nodes: vec![1, 300],
        epoch: 2,
    };
    check_row(
        "directory_placement",
        keys::placement(GroupId(3)),
        &placement,
    );
    check_row(
        "directory_vshard_home",
        keys::vshard_home(V),
        &row::VshardHome { group: 1, epoch: 2 },
    );
}

/// The file of each kind of entry. A new kind does not compile without one.
fn file_of(body: &Body) -> &'static str {
    match body {
        Body::FormGroup(_) => "form_group",
        Body::RaiseIncarnation(_) => "raise_incarnation",
        Body::OpenSession(_) => "open_session",
        Body::EndSessions(_) => "end_sessions",
        Body::Put(_) => "put",
        Body::OpenStage(_) => "open_stage",
        Body::ExtendStage(_) => "extend_stage",
        Body::Abandon(_) => "abandon",
        Body::Delete(_) => "delete",
        Body::DeleteVersion(_) => "delete_version",
        Body::SetTags(_) => "set_tags",
        Body::SetLock(_) => "set_lock",
        Body::Copy(_) => "copy",
        Body::CreateUpload(_) => "create_upload",
        Body::ClaimPart(_) => "claim_part",
        Body::CompleteUpload(_) => "complete_upload",
        Body::AbortUpload(_) => "abort_upload",
        Body::ExpireUploads(_) => "expire_uploads",
        Body::Release(_) => "release",
        Body::AdvanceFree(_) => "advance_free",
        Body::Expire(_) => "expire",
        Body::SetFacts(_) => "set_facts",
        Body::Transact(_) => "transact",
        Body::Pending(_) => "pending",
        Body::Prepare(_) => "prepare",
        Body::Commit(_) => "commit",
        Body::Aborted(_) => "aborted",
        Body::Finish(_) => "finish",
        Body::DropTxn(_) => "drop_txn",
        Body::Learner(_) => "learner",
        Body::Admit(_) => "admit",
        Body::Retired(_) => "retired",
        Body::CancelAdmit(_) => "cancel_admit",
        Body::ShortDone(_) => "short_done",
        Body::SetLimited(_) => "set_limited",
        Body::Debit(_) => "debit",
        Body::Credit(_) => "credit",
        Body::Arrived(_) => "arrived",
        Body::SetLimit(_) => "set_limit",
        Body::FreezeVshard(_) => "freeze_vshard",
        Body::AdoptVshard(_) => "adopt_vshard",
        Body::DropVshard(_) => "drop_vshard",
        Body::FoundCluster(_) => "found_cluster",
        Body::CreateBucket(_) => "create_bucket",
        Body::ChangeBucket(_) => "change_bucket",
        Body::FactsConfirmed(_) => "facts_confirmed",
        Body::PutTenant(_) => "put_tenant",
        Body::PutOpaque(_) => "put_opaque",
        Body::PutCredential(_) => "put_credential",
        Body::PutNode(_) => "put_node",
        Body::PutPlacement(_) => "put_placement",
        Body::PutVshardHome(_) => "put_vshard_home",
        Body::JoinNode(_) => "join_node",
        Body::SetNodeState(_) => "set_node_state",
    }
}

const KINDS: usize = 54;

pub(super) fn target() -> Option<wire::Target> {
    Some(wire::Target {
        bucket: B.0,
        key: Bytes::from_static(KEY),
        epoch: 3,
        vshard_epoch: 4,
    })
}

fn conditions() -> Option<wire::Conditions> {
    let etags = |etag: &str| {
        Some(wire::EtagList {
            etags: vec![etag.into(), "*".into()],
        })
    };
    Some(wire::Conditions {
        if_match: etags("a"),
        if_none_match: etags("b"),
        if_match_size: Some(3),
        if_match_modified_ms: Some(4),
    })
}

pub(super) fn described() -> Option<wire::NewVersion> {
    Some(wire::NewVersion {
        etag: "etag".into(),
        size: 5,
        meta: Bytes::from_static(b"meta"),
        tags: Bytes::new(),
        lock: None,
    })
}

fn inline() -> Option<wire::NewContent> {
    let inline = wire::Inline {
        offset: 0,
        len: 5,
        crc64: entry::crc64(b"hello"),
    };
    Some(wire::NewContent {
        kind: Some(wire::new_content::Kind::Inline(inline)),
    })
}

fn staged() -> Option<wire::NewContent> {
    let staged = wire::Staged {
        stage: Some(stage_id().to_row()),
        count: 2,
        chunk_size: 3,
        len: 5,
        copies: vec![wire::Copies {
            first: 0,
            count: 2,
            nodes: vec![1, 300],
            lives: Vec::new(),
        }],
    };
    Some(wire::NewContent {
        kind: Some(wire::new_content::Kind::Staged(staged)),
    })
}

fn part_of_txn() -> Option<wire::TxnPart> {
    let put = wire::WritePut {
        version: described(),
        content: inline(),
    };
    Some(wire::TxnPart {
        checks: vec![wire::Check {
            target: target(),
            conditions: conditions(),
            seq: Some(3),
        }],
        writes: vec![
            wire::Write {
                target: target(),
                kind: Some(wire::write::Kind::Put(put)),
            },
            wire::Write {
                target: target(),
                kind: Some(wire::write::Kind::Delete(wire::WriteDelete {})),
            },
        ],
        close_bucket: B.0,
    })
}

pub(super) fn all_entries() -> Vec<Body> {
    let stage = Some(stage_id().to_row());
    let upload = || Bytes::from(name().to_vec());
    let txn_name = Some(crate::state::intent::txn_name(txn_id()));
    let vshard = u32::from(V.0);
    let of_tenant = Some(AccountId::Tenant(TenantId(5)).to_wire());
    let of_bucket = Some(AccountId::Bucket(B).to_wire());
    vec![
        Body::FormGroup(wire::FormGroup {
            members: vec![1, 300],
            vshards: vec![0, 255],
            vshard_epoch: 3,
            incarnation: 4,
        }),
        Body::RaiseIncarnation(wire::RaiseIncarnation { incarnation: 1 }),
        Body::OpenSession(wire::OpenSession {
            gateway: "gw".into(),
        }),
        Body::EndSessions(wire::EndSessions {
            sessions: vec![1, 300],
        }),
        Body::Put(wire::Put {
            target: target(),
            conditions: conditions(),
            version: described(),
            content: inline(),
        }),
        Body::OpenStage(wire::OpenStage {
            target: target(),
            conditions: conditions(),
            principal: Bytes::from_static(b"me"),
            reserve: 4,
            upload: upload(),
        }),
        Body::ExtendStage(wire::ExtendStage {
            target: target(),
            stage,
            reserve: 3,
        }),
        Body::Abandon(wire::Abandon {
            stages: vec![wire::StageAt { vshard, stage }],
        }),
        Body::Delete(wire::Delete {
            target: target(),
            conditions: conditions(),
        }),
        Body::SetTags(wire::SetTags {
            target: target(),
            version: Some(wire::set_tags::Version::Seq(4)),
            tags: Bytes::from_static(b"tags"),
        }),
        Body::DeleteVersion(wire::DeleteVersion {
            target: target(),
            conditions: conditions(),
            version: Some(wire::delete_version::Version::Seq(4)),
            bypass_governance: false,
        }),
        Body::SetLock(wire::SetLock {
            target: target(),
            version: Some(wire::set_lock::Version::Seq(4)),
            change: Some(wire::set_lock::Change::Retention(wire::Retention {
                mode: row::LockMode::LockCompliance as i32,
                until_ms: 5,
            })),
            bypass_governance: true,
        }),
        Body::Copy(wire::Copy {
            target: target(),
            conditions: conditions(),
            version: described(),
            source_bucket: 4,
            source_epoch: 5,
            source_key: Bytes::from_static(b"source"),
            source_seq: 7,
        }),
        Body::CreateUpload(wire::CreateUpload {
            target: target(),
            meta: Bytes::from_static(b"meta"),
            lock: None,
        }),
        Body::ClaimPart(wire::ClaimPart {
            target: target(),
            upload: upload(),
            number: 3,
            part: described(),
            content: staged(),
        }),
        Body::CompleteUpload(wire::CompleteUpload {
            target: target(),
            conditions: conditions(),
            upload: upload(),
            counter: 4,
            parts: ranges(),
            version: described(),
        }),
        Body::AbortUpload(wire::AbortUpload {
            target: target(),
            upload: upload(),
        }),
        Body::ExpireUploads(wire::ExpireUploads {
            uploads: vec![wire::UploadAt {
                vshard,
                upload: upload(),
            }],
            created_before_ms: 2,
        }),
        Body::Release(wire::Release {
            items: vec![wire::FreeItem {
                index: 1,
                ordinal: 2,
            }],
        }),
        Body::AdvanceFree(wire::AdvanceFree {}),
        Body::Expire(wire::Expire {
            target: target(),
            what: Some(wire::expire::What::Noncurrent(4)),
            tags_crc64: 0x1122_3344_5566_7788,
            newer: 3,
        }),
        Body::SetFacts(wire::SetFacts {
            facts: Some(facts()),
        }),
        Body::Transact(wire::Transact {
            part: part_of_txn(),
        }),
        Body::Pending(wire::Pending {
            txn: Some(txn().to_row()),
            deadline_ms: 2,
            own: part_of_txn(),
        }),
        Body::Prepare(wire::Prepare {
            txn: Some(txn().to_row()),
            part: part_of_txn(),
        }),
        Body::Commit(wire::Commit { txn: txn_name }),
        Body::Aborted(wire::Aborted {
            txn: Some(txn().to_row()),
        }),
        Body::Finish(wire::Finish {
            txn: txn_name,
            committed: true,
        }),
        Body::DropTxn(wire::DropTxn {
            txn: txn_name,
            confirmed: vec![1, 300],
        }),
        Body::Learner(wire::Learner { node: 1 }),
        Body::Admit(wire::Admit {
            node: 1,
            retire: 2,
            confirmed_index: 3,
        }),
        Body::Retired(wire::Retired { node: 1, term: 0 }),
        Body::CancelAdmit(wire::CancelAdmit { node: 1, term: 0 }),
        Body::ShortDone(wire::ShortDone {
            stage,
            first: 2,
            node: 3,
            gone: false,
            since_index: 0,
        }),
        Body::SetLimited(wire::SetLimited {
            account: of_tenant,
            epoch: 2,
            bytes_limited: true,
            objects_limited: true,
        }),
        Body::SetLimit(wire::SetLimit {
            account: of_tenant,
            epoch: 2,
            bytes: Some(3),
            objects: Some(4),
            used_bytes: 5,
            used_objects: 6,
        }),
        Body::Debit(wire::Debit {
            account: of_bucket,
            epoch: 2,
            to_group: 3,
            number: 4,
            bytes: 5,
            objects: 6,
            at_most: true,
        }),
        Body::Credit(wire::Credit {
            account: of_tenant,
            epoch: 2,
            from_group: 3,
            number: 4,
            bytes: 5,
            objects: 6,
        }),
        Body::Arrived(wire::Arrived {
            account: of_bucket,
            number: 2,
        }),
        Body::FreezeVshard(wire::FreezeVshard { vshard, epoch: 2 }),
        Body::AdoptVshard(wire::AdoptVshard {
            vshard,
            epoch: 2,
            seq_base: 3,
        }),
        Body::DropVshard(wire::DropVshard { vshard, epoch: 2 }),
        Body::FoundCluster(wire::FoundCluster {
            id: Bytes::from_static(&[7; 16]),
            data_groups: 8,
            region: "us-east-1".into(),
            root_access_key: "AKIA".into(),
            root: Some(credential()),
            first_node: Some(node()),
            other_nodes: Vec::new(),
        }),
        Body::CreateBucket(wire::CreateBucket {
            name: "photos".into(),
            tenant: 2,
            owner: "owner".into(),
            versioning: row::Versioning::Enabled as i32,
            settings: Bytes::from_static(b"settings"),
            lock: false,
        }),
        Body::ChangeBucket(wire::ChangeBucket {
            bucket: 1,
            epoch: 2,
            versioning: Some(row::Versioning::Suspended as i32),
            settings: Some(Bytes::from_static(b"settings")),
            owner: Some("owner".into()),
            lock: false,
            retention: None,
        }),
        Body::FactsConfirmed(wire::FactsConfirmed {
            bucket: 1,
            epoch: 2,
            group: 3,
        }),
        Body::PutTenant(wire::PutTenant {
            tenant: Some(tenant()),
        }),
        Body::PutOpaque(wire::PutOpaque {
            table: 1,
            key: Bytes::from_static(b"key"),
            value: Some(Bytes::from_static(b"value")),
            revision: 4,
        }),
        Body::PutCredential(wire::PutCredential {
            access_key: "AKIA".into(),
            credential: Some(credential()),
        }),
        Body::PutNode(wire::PutNode { node: Some(node()) }),
        Body::PutPlacement(wire::PutPlacement {
            group: 1,
            placement: Some(row::Placement {
                nodes: vec![1, 300],
                epoch: 2,
            }),
        }),
        Body::PutVshardHome(wire::PutVshardHome {
            vshard,
            home: Some(row::VshardHome { group: 1, epoch: 2 }),
        }),
        Body::JoinNode(wire::JoinNode {
            node: Some(super::golden_cluster::joined()),
        }),
        Body::SetNodeState(wire::SetNodeState {
            node: 4,
            revision: 2,
            state: row::NodeState::Draining as i32,
            forced: true,
        }),
    ]
}

#[test]
fn golden_entries() {
    let entries = all_entries();
    let mut files: Vec<&str> = entries.iter().map(file_of).collect();
    files.sort_unstable();
    files.dedup();
    assert_eq!(files.len(), KINDS, "a kind of entry without a sample");
    for body in entries {
        let name = file_of(&body);
        let command = Some(wire::Command {
            session: 1,
            sequence: 2,
            lowest: 3,
        });
        let entry = Entry {
            now_ms: 1_700_000_000_123,
            command,
            payload_len: 0,
            body: Some(body),
        };
        let payload: &[u8] = if matches!(name, "put" | "transact" | "pending" | "prepare") {
            b"hello"
        } else {
            b""
        };
        let bytes = entry::encode(entry.clone(), payload);
        let frame = entry::decode(&bytes).unwrap();
        assert_eq!(
            &bytes[frame.payload.start as usize..frame.payload.end as usize],
            payload
        );
        assert_eq!(
            frame.entry,
            Entry {
                payload_len: payload.len() as u32,
                ..entry
            }
        );
        check("entries", name, &[("entry", &bytes)]);
    }
}

#[test]
fn golden_answers() {
    let written = Written {
        id: VersionId::seal(V, 42),
        is_null: true,
        modified_ms: 3,
    };
    let deleted = Deleted {
        marker: Some(written.id),
        marker_is_null: true,
        removed_marker: true,
        existed: true,
    };
    let bucket = Bucket {
        id: B,
        name: "photos".into(),
        tenant: TenantId(5),
        owner: "owner".into(),
        created_ms: 6,
        versioning: Versioning::Enabled,
        lock: None,
        epoch: 7,
        settings: Bytes::from_static(b"settings"),
    };
    let completed = Completed {
        written: written.clone(),
        etag: "e-2".into(),
        size: 3,
    };
    let answers = [
        ("done_nothing", Answer::Done(Done::Nothing)),
        ("done_written", Answer::Done(Done::Written(written.clone()))),
        ("done_deleted", Answer::Done(Done::Deleted(deleted))),
        ("done_stage", Answer::Done(Done::Stage(stage_id()))),
        ("done_upload", Answer::Done(Done::Upload(upload()))),
        ("done_part_counter", Answer::Done(Done::PartCounter(6))),
        ("done_completed", Answer::Done(Done::Completed(completed))),
        ("done_session", Answer::Done(Done::Session(8))),
        ("done_bucket", Answer::Done(Done::Bucket(bucket))),
        ("done_more", Answer::Done(Done::More(true))),
        ("done_txn", Answer::Done(Done::Txn(TxnState::Aborted))),
        (
            "done_transacted",
            Answer::Done(Done::Transacted(vec![Some(written), None])),
        ),
        ("done_usage", Answer::Done(Done::Usage(usage()))),
        ("done_transit", Answer::Done(Done::Transit(transit()))),
        ("done_number", Answer::Done(Done::Number(15))),
        (
            "refused_precondition_failed",
            Answer::Refused(Refusal::PreconditionFailed),
        ),
        (
            "refused_no_such_bucket",
            Answer::Refused(Refusal::NoSuchBucket),
        ),
        (
            "refused_bucket_exists",
            Answer::Refused(Refusal::BucketExists),
        ),
        (
            "refused_bucket_not_empty",
            Answer::Refused(Refusal::BucketNotEmpty),
        ),
        ("refused_no_such_key", Answer::Refused(Refusal::NoSuchKey)),
        (
            "refused_no_such_version",
            Answer::Refused(Refusal::NoSuchVersion),
        ),
        (
            "refused_no_such_upload",
            Answer::Refused(Refusal::NoSuchUpload),
        ),
        (
            "refused_invalid_part",
            Answer::Refused(Refusal::InvalidPart(8)),
        ),
        ("refused_stage_gone", Answer::Refused(Refusal::StageGone)),
        (
            "refused_quota_exceeded",
            Answer::Refused(Refusal::QuotaExceeded),
        ),
        ("refused_locked", Answer::Refused(Refusal::Locked)),
        (
            "refused_check_failed",
            Answer::Refused(Refusal::CheckFailed(12)),
        ),
        ("refused_aborted", Answer::Refused(Refusal::Aborted)),
        (
            "refused_unsupported",
            Answer::Refused(Refusal::Unsupported("what".into())),
        ),
        (
            "refused_no_such_tenant",
            Answer::Refused(Refusal::NoSuchTenant),
        ),
        (
            "again_stale_placement",
            Answer::TryAgain(TryAgain::StalePlacement),
        ),
        (
            "again_stale_epoch",
            Answer::TryAgain(TryAgain::StaleEpoch(2)),
        ),
        (
            "again_facts_behind",
            Answer::TryAgain(TryAgain::FactsBehind(B)),
        ),
        (
            "again_needs_allowance",
            Answer::TryAgain(TryAgain::NeedsAllowance(AccountId::Bucket(B))),
        ),
        ("again_blocked", Answer::TryAgain(TryAgain::Blocked(txn()))),
        ("again_moved", Answer::TryAgain(TryAgain::Moved(6))),
        (
            "again_session_gone",
            Answer::TryAgain(TryAgain::SessionGone),
        ),
        (
            "again_parts_changed",
            Answer::TryAgain(TryAgain::PartsChanged),
        ),
        (
            "again_source_changed",
            Answer::TryAgain(TryAgain::SourceChanged),
        ),
        ("again_not_yet", Answer::TryAgain(TryAgain::NotYet)),
    ];
    for (name, answer) in answers {
        let bytes = answer.to_wire().encode_to_vec();
        let read = Answer::of_wire(wire::Answer::decode(bytes.as_slice()).unwrap()).unwrap();
        assert_eq!(read, answer);
        check("answers", name, &[("answer", &bytes)]);
    }
}

/// An entry of a later version is never skipped.
#[test]
fn an_unknown_kind_of_entry_stops_the_group() {
    // Field 999 is no kind of ours.
    let unknown = Entry {
        now_ms: 5,
        ..Entry::default()
    };
    let mut bytes = unknown.encode_to_vec();
    bytes.extend_from_slice(&[0xBA, 0x3E, 0x00]);
    let entry = Entry::decode(bytes.as_slice()).unwrap();
    let context = crate::state::apply::GroupContext {
        id: GroupId(1),
        index: 9,
        term: 1,
    };
    let rows = super::world::Rows::default();
    let error = crate::state::apply::apply(&rows, &context, &entry).unwrap_err();
    assert!(matches!(
        error,
        crate::state::apply::ApplyError::UnknownEntry { index: 9 }
    ));
}

/// What is not an entry is refused whole.
#[test]
fn bytes_that_are_no_entry_are_refused() {
    let good = entry::encode(
        Entry {
            now_ms: 5,
            ..Entry::default()
        },
        b"payload",
    );
    assert!(
        entry::decode(&good.slice(..good.len() - 1)).is_err(),
        "a byte of the payload is missing"
    );
    assert!(entry::decode(&Bytes::from_static(&[200, 1, 2])).is_err());
    assert!(entry::decode(&Bytes::new()).is_err());
}
