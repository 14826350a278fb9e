//! One narrow way through everything, on a real directory.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;

use super::{Node, NodeOptions};
use crate::env::Env;
use crate::kv::{
    Bucket, Completed, Conditions, CreateBucket, Kv, KvError, ListItem, ListRequest, NewContent,
    NewPart, NewVersion, Refusal, Version, VersionSelector,
};

fn options(dir: &std::path::Path) -> NodeOptions {
    let mut options = NodeOptions::new(dir.join("data"));
    options.limits.segment_bytes = Some(16 << 20);
    options
}

async fn start(options: &NodeOptions) -> Arc<Node> {
    Node::start(Env::real(), options.clone()).await.unwrap()
}

async fn stop(node: Arc<Node>) {
    node.shutdown(Duration::from_secs(20)).await;
}

pub(super) fn new(size: usize, etag: &str) -> NewVersion {
    NewVersion {
        etag: etag.to_owned(),
        size: size as u64,
        meta: Bytes::from_static(b"meta"),
        tags: Bytes::new(),
        lock: Default::default(),
    }
}

pub(super) async fn make_bucket(kv: &Kv, name: &str) -> Bucket {
    let create = CreateBucket {
        name: name.to_owned(),
        tenant: crate::ids::TenantId(1),
        owner: "owner".to_owned(),
        versioning: Default::default(),
        lock: false,
        settings: Bytes::new(),
    };
    kv.create_bucket(create).await.unwrap()
}

pub(super) async fn put(kv: &Kv, bucket: &Bucket, key: &str, bytes: Bytes) {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let version = new(bytes.len(), "etag");
    if bytes.len() <= kv.inline_limit() {
        let content = NewContent::Inline(bytes);
        kv.put(bucket, key, version, content, Conditions::default())
            .await
            .unwrap();
        return;
    }
    let staged = stage(kv, bucket, &key, bytes).await;
    kv.put(bucket, key, version, staged, Conditions::default())
        .await
        .unwrap();
}

async fn stage(kv: &Kv, bucket: &Bucket, key: &Bytes, bytes: Bytes) -> NewContent {
    let declared = Some(bytes.len() as u64);
    let conditions = Conditions::default();
    let mut writer = kv
        .open_stage(bucket, key.clone(), declared, &conditions)
        .await
        .unwrap();
    for piece in bytes.chunks(100_000) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    NewContent::Staged(writer.finish().await.unwrap())
}

async fn find(kv: &Kv, bucket: &Bucket, key: &str) -> Option<Version> {
    kv.head(bucket, key.as_bytes(), &VersionSelector::Current)
        .await
        .unwrap()
}

pub(super) async fn get(kv: &Kv, bucket: &Bucket, key: &str) -> Bytes {
    let version = find(kv, bucket, key).await.unwrap();
    let size = version.new.size;
    read(kv, &version, 0..size).await.unwrap()
}

async fn read(kv: &Kv, version: &Version, range: std::ops::Range<u64>) -> Result<Bytes, KvError> {
    let pieces: Vec<Bytes> = kv.content(version, range).try_collect().await?;
    Ok(pieces.concat().into())
}

fn body(len: usize, seed: u8) -> Bytes {
    (0..len)
        .map(|at| {
            (at as u8)
                .wrapping_mul(31)
                .wrapping_add(seed)
                .wrapping_add((at >> 11) as u8)
        })
        .collect()
}

pub(super) async fn keys(kv: &Kv, bucket: &Bucket) -> Vec<String> {
    let request = ListRequest {
        max: 1000,
        ..ListRequest::default()
    };
    let page = kv.list(bucket, request).await.unwrap();
    let key = |item: &ListItem| match item {
        ListItem::Version(version) => String::from_utf8(version.key.to_vec()).unwrap(),
        ListItem::Prefix(prefix) => String::from_utf8(prefix.to_vec()).unwrap(),
    };
    page.items.iter().map(key).collect()
}

/// What a user does on the first day, and again after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_put_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let node = start(&options).await;
    let kv = node.kv();
    let bucket = make_bucket(&kv, "photos").await;
    assert_eq!(kv.bucket("photos").await.unwrap(), Some(bucket.clone()));
    assert_eq!(kv.bucket("videos").await.unwrap(), None);

    let small = body(4096, 1);
    let large = body(5_500_000, 2);
    put(&kv, &bucket, "a/small", small.clone()).await;
    put(&kv, &bucket, "a/large", large.clone()).await;
    put(&kv, &bucket, "empty", Bytes::new()).await;
    put(&kv, &bucket, "gone", small.clone()).await;
    let gone = Bytes::from_static(b"gone");
    let deleted = kv.delete(
        &bucket,
        gone,
        VersionSelector::Current,
        Conditions::default(),
    );
    assert!(deleted.await.unwrap().existed);

    let key = Bytes::from_static(b"multi");
    let upload = kv
        .create_upload(
            &bucket,
            key.clone(),
            Bytes::from_static(b"m"),
            Default::default(),
        )
        .await
        .unwrap();
    for (number, part) in [
        (1, body(5 << 20, 3)),
        (3, body(70_000, 4)),
        (7, body(10, 5)),
    ] {
        let new = NewPart {
            etag: format!("part{number}"),
            size: part.len() as u64,
            meta: Bytes::new(),
        };
        let content = if part.len() <= kv.inline_limit() {
            NewContent::Inline(part)
        } else {
            let opened = kv.open_part_stage(&bucket, key.clone(), upload.id, number, None);
            let mut writer = opened.await.unwrap();
            writer.write(part).await.unwrap();
            NewContent::Staged(writer.finish().await.unwrap())
        };
        kv.put_part(&bucket, key.clone(), upload.id, number, new, content)
            .await
            .unwrap();
    }
    let parts = kv.parts(&bucket, &key, upload.id, 0, 1000).await.unwrap();
    assert_eq!(
        parts
            .parts
            .iter()
            .map(|part| part.number)
            .collect::<Vec<_>>(),
        [1, 3, 7]
    );
    let multi: Bytes = [body(5 << 20, 3), body(70_000, 4), body(10, 5)]
        .concat()
        .into();
    let complete = || {
        kv.complete_upload(
            &bucket,
            key.clone(),
            upload.id,
            parts.counter,
            &[1, 3, 7],
            new(multi.len(), "multi-3"),
            Conditions::default(),
        )
    };
    let completed = complete().await.unwrap();
    assert!(matches!(&completed, Completed::Done { size, .. } if *size == multi.len() as u64));
    assert_eq!(
        complete().await.unwrap(),
        completed,
        "Complete is repeatable"
    );

    for round in 0..2 {
        assert_eq!(get(&kv, &bucket, "a/small").await, small);
        assert_eq!(get(&kv, &bucket, "a/large").await, large);
        assert_eq!(get(&kv, &bucket, "empty").await, Bytes::new());
        assert_eq!(get(&kv, &bucket, "multi").await, multi);
        assert_eq!(find(&kv, &bucket, "gone").await, None);
        assert_eq!(
            keys(&kv, &bucket).await,
            ["a/large", "a/small", "empty", "multi"]
        );
        let version = find(&kv, &bucket, "multi").await.unwrap();
        assert_eq!(kv.version_parts(&version).await.unwrap().len(), 3);
        let range = (5 << 20) - 10..(5 << 20) + 70_005;
        let part = read(&kv, &version, range.clone()).await.unwrap();
        assert_eq!(part, multi.slice(range.start as usize..range.end as usize));
        assert_eq!(
            node.status().await.damage,
            Vec::<String>::new(),
            "round {round}"
        );
    }
    let refused = kv.delete_bucket("photos").await;
    assert!(
        matches!(refused, Err(KvError::Refused(Refusal::BucketNotEmpty))),
        "{refused:?}"
    );
    drop(kv);
    stop(node).await;

    let node = start(&options).await;
    let kv = node.kv();
    assert_eq!(
        node.status().await.replayed,
        0,
        "a graceful stop leaves nothing to replay"
    );
    let bucket = kv.bucket("photos").await.unwrap().unwrap();
    assert_eq!(get(&kv, &bucket, "a/small").await, small);
    assert_eq!(get(&kv, &bucket, "a/large").await, large);
    assert_eq!(get(&kv, &bucket, "multi").await, multi);
    assert_eq!(
        keys(&kv, &bucket).await,
        ["a/large", "a/small", "empty", "multi"]
    );
    for key in ["a/large", "a/small", "empty", "multi"] {
        let key = Bytes::from_static(key.as_bytes());
        kv.delete(
            &bucket,
            key,
            VersionSelector::Current,
            Conditions::default(),
        )
        .await
        .unwrap();
    }
    kv.delete_bucket("photos").await.unwrap();
    assert_eq!(kv.bucket("photos").await.unwrap(), None);
    drop(kv);
    stop(node).await;
}

/// A set of writes over several groups happens whole or not at all, and a failed check says which one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_over_several_groups_happen_together() {
    use crate::kv::{Change, Check, Must, TransactWrite};
    let dir = tempfile::tempdir().unwrap();
    let node = start(&options(dir.path())).await;
    let kv = node.kv();
    let bucket = make_bucket(&kv, "accounts").await;
    let write = |key: &str, value: &'static str| TransactWrite {
        bucket: bucket.clone(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        change: Change::Put(
            new(value.len(), value),
            NewContent::Inline(Bytes::from_static(value.as_bytes())),
        ),
    };
    let keys_of =
        |range: std::ops::Range<u32>| range.map(|n| format!("account-{n}")).collect::<Vec<_>>();
    let all = keys_of(0..20);
    let writes = all.iter().map(|key| write(key, "one")).collect();
    let written = kv.transact(Vec::new(), writes).await.unwrap();
    assert_eq!(written.iter().flatten().count(), 20);
    for key in &all {
        assert_eq!(get(&kv, &bucket, key).await, "one");
    }
    let check = |key: &str, must: Must| Check {
        bucket: bucket.clone(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        must,
    };
    let checks = vec![
        check(&all[0], Must::BePresent),
        check(&all[1], Must::HaveEtag("one".to_owned())),
        check("account-x", Must::BePresent),
        check(&all[2], Must::BePresent),
    ];
    let writes = all.iter().map(|key| write(key, "two")).collect();
    let refused = kv.transact(checks, writes).await;
    assert!(
        matches!(refused, Err(KvError::Refused(Refusal::CheckFailed(2)))),
        "{refused:?}"
    );
    for key in &all {
        assert_eq!(get(&kv, &bucket, key).await, "one");
    }
    let id = find(&kv, &bucket, &all[5]).await.unwrap().id;
    let checks = vec![
        check(&all[5], Must::HaveVersion(id)),
        check("account-x", Must::BeAbsent),
    ];
    let mut writes: Vec<TransactWrite> = all[..10].iter().map(|key| write(key, "three")).collect();
    writes.push(TransactWrite {
        bucket: bucket.clone(),
        key: Bytes::copy_from_slice(all[10].as_bytes()),
        change: Change::Delete,
    });
    kv.transact(checks, writes).await.unwrap();
    assert_eq!(get(&kv, &bucket, &all[9]).await, "three");
    assert_eq!(find(&kv, &bucket, &all[10]).await, None);
    assert_eq!(keys(&kv, &bucket).await.len(), 19);
    // The answer comes with the decision; the groups carry it out right behind it.
    for _ in 0..1000 {
        if kv.usage(&bucket).await.unwrap().reserved == 0 {
            break;
        }
        crate::env::clock::sleep(Duration::from_millis(5)).await;
    }
    let usage = kv.usage(&bucket).await.unwrap();
    assert_eq!((usage.objects, usage.versions, usage.reserved), (19, 19, 0));
    drop(kv);
    stop(node).await;
}

/// While a bucket is being deleted others write to it: either the object is there and so is the bucket, or both are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_bucket_never_loses_an_acknowledged_object() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(&options(dir.path())).await;
    let kv = node.kv();
    let (mut lost_races, mut deleted_buckets) = (0, 0);
    for round in 0..12 {
        let name = format!("bucket-{round}");
        let bucket = make_bucket(&kv, &name).await;
        let writers = (0..6).map(|n| {
            let (kv, bucket) = (kv.clone(), bucket.clone());
            crate::env::task::spawn(async move {
                crate::env::clock::sleep(Duration::from_millis(n * 3 + round)).await;
                let content = NewContent::Inline(Bytes::from_static(b"x"));
                let key = Bytes::from(format!("key-{n}"));
                kv.put(&bucket, key, new(1, "e"), content, Conditions::default())
                    .await
            })
        });
        let writers: Vec<_> = writers.collect();
        let deleted = kv.delete_bucket(&name).await;
        let mut stored = Vec::new();
        for (n, writer) in writers.into_iter().enumerate() {
            match writer.await.unwrap() {
                Ok(_) => stored.push(format!("key-{n}")),
                Err(KvError::Refused(Refusal::NoSuchBucket)) => lost_races += 1,
                Err(error) => panic!("{error}"),
            }
        }
        match deleted {
            Ok(()) => {
                deleted_buckets += 1;
                assert_eq!(
                    stored,
                    Vec::<String>::new(),
                    "acknowledged objects in a deleted bucket"
                );
                assert_eq!(kv.bucket(&name).await.unwrap(), None);
            }
            Err(KvError::Refused(Refusal::BucketNotEmpty)) => {
                assert_eq!(kv.bucket(&name).await.unwrap(), Some(bucket.clone()));
                assert_eq!(keys(&kv, &bucket).await, stored);
            }
            Err(error) => panic!("{error}"),
        }
    }
    println!("{deleted_buckets} deleted, {lost_races} writers told so");
    drop(kv);
    stop(node).await;
}
