//! Rows, entries and answers of object lock, as stores keep them for ever (see `golden`).

use bytes::Bytes;
use minikv_proto::{entry as wire, row};
use prost::Message;

use super::golden::{
    B, KEY, V, check, check_row, described, directory_bucket, facts, name, target, version,
};
use crate::ids::{BucketId, TenantId};
use crate::kv::{Bucket, BucketLock, DefaultRetention, LockMode, Period, Refusal, Versioning};
use crate::state::answer::{Answer, Done};
use crate::state::entry::{self, Body, Entry};
use crate::state::keys;

fn lock(mode: row::LockMode, hold: Option<bool>) -> Option<row::Lock> {
    Some(row::Lock {
        mode: mode as i32,
        until_ms: 1_800_000_000_456,
        hold,
    })
}

fn default_retention(days: u32, years: u32) -> Option<row::DefaultRetention> {
    Some(row::DefaultRetention {
        mode: row::LockMode::LockCompliance as i32,
        days,
        years,
    })
}

fn locked_facts() -> row::Facts {
    row::Facts {
        retention: default_retention(0, 7),
        ..facts()
    }
}

#[test]
fn golden_rows_of_locks() {
    let older = keys::older(V, B, KEY, 0x0FED);
    for (name, lock) in [
        (
            "older_compliance",
            lock(row::LockMode::LockCompliance, Some(true)),
        ),
        (
            "older_governance",
            lock(row::LockMode::LockGovernance, None),
        ),
        (
            "older_hold",
            Some(row::Lock {
                hold: Some(false),
                ..row::Lock::default()
            }),
        ),
    ] {
        let locked = row::Version {
            lock,
            ..version(None)
        };
        check_row(name, older.clone(), &locked);
    }
    check_row(
        "open_upload_locked",
        keys::open_upload(V, B, KEY, &name()),
        &row::OpenUpload {
            created_ms: 1,
            meta: Bytes::from_static(b"meta"),
            lock: lock(row::LockMode::LockGovernance, Some(true)),
        },
    );
    check_row(
        "bucket_locked",
        keys::bucket(B),
        &row::Bucket {
            facts: Some(locked_facts()),
            latest_ms: 6,
            ..row::Bucket::default()
        },
    );
    check_row(
        "directory_bucket_locked",
        keys::directory_bucket("photos"),
        &row::DirectoryBucket {
            retention: default_retention(30, 0),
            ..directory_bucket()
        },
    );
}

#[test]
fn golden_entries_of_locks() {
    let put = wire::NewVersion {
        lock: lock(row::LockMode::LockGovernance, Some(true)),
        ..described().unwrap()
    };
    let entries = [
        (
            "put_locked",
            Body::Put(wire::Put {
                target: target(),
                conditions: None,
                version: Some(put),
                content: None,
            }),
        ),
        (
            "delete_version_bypass",
            Body::DeleteVersion(wire::DeleteVersion {
                target: target(),
                conditions: None,
                version: Some(wire::delete_version::Version::Seq(4)),
                bypass_governance: true,
            }),
        ),
        (
            "set_lock_hold",
            Body::SetLock(wire::SetLock {
                target: target(),
                version: None,
                change: Some(wire::set_lock::Change::Hold(true)),
                bypass_governance: false,
            }),
        ),
        (
            "create_upload_locked",
            Body::CreateUpload(wire::CreateUpload {
                target: target(),
                meta: Bytes::from_static(b"meta"),
                lock: lock(row::LockMode::LockCompliance, None),
            }),
        ),
        (
            "set_facts_locked",
            Body::SetFacts(wire::SetFacts {
                facts: Some(locked_facts()),
            }),
        ),
        (
            "create_bucket_locked",
            Body::CreateBucket(wire::CreateBucket {
                name: "photos".into(),
                lock: true,
                ..wire::CreateBucket::default()
            }),
        ),
        (
            "change_bucket_locked",
            Body::ChangeBucket(wire::ChangeBucket {
                bucket: 1,
                epoch: 2,
                lock: true,
                retention: default_retention(30, 0),
                ..wire::ChangeBucket::default()
            }),
        ),
    ];
    for (name, body) in entries {
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

#[test]
fn golden_answers_of_locks() {
    let default = DefaultRetention {
        mode: LockMode::Governance,
        period: Period::Days(30),
    };
    let bucket = Bucket {
        id: BucketId(7),
        name: "photos".into(),
        tenant: TenantId(5),
        owner: "owner".into(),
        created_ms: 6,
        versioning: Versioning::Enabled,
        lock: Some(BucketLock {
            default: Some(default),
        }),
        epoch: 7,
        settings: Bytes::new(),
    };
    for (name, answer) in [
        ("done_bucket_locked", Answer::Done(Done::Bucket(bucket))),
        ("refused_no_lock", Answer::Refused(Refusal::NoLock)),
        (
            "refused_lock_needs_versions",
            Answer::Refused(Refusal::LockNeedsVersions),
        ),
    ] {
        let bytes = answer.to_wire().encode_to_vec();
        let read = Answer::of_wire(wire::Answer::decode(bytes.as_slice()).unwrap()).unwrap();
        assert_eq!(read, answer);
        check("answers", name, &[("answer", &bytes)]);
    }
}
