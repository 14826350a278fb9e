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

fn new(size: usize, etag: &str) -> NewVersion {
    NewVersion {
        etag: etag.to_owned(),
        size: size as u64,
        meta: Bytes::from_static(b"meta"),
    }
}

async fn make_bucket(kv: &Kv, name: &str) -> Bucket {
    let create = CreateBucket {
        name: name.to_owned(),
        tenant: crate::ids::TenantId(1),
        owner: "owner".to_owned(),
        versioning: Default::default(),
        settings: Bytes::new(),
    };
    kv.create_bucket(create).await.unwrap()
}

async fn put(kv: &Kv, bucket: &Bucket, key: &str, bytes: Bytes) {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let version = new(bytes.len(), "etag");
    if bytes.len() <= kv.inline_limit() {
        let content = NewContent::Inline(bytes);
        kv.put(bucket, key, version, content, Conditions::default()).await.unwrap();
        return;
    }
    let staged = stage(kv, bucket, &key, bytes).await;
    kv.put(bucket, key, version, staged, Conditions::default()).await.unwrap();
}

async fn stage(kv: &Kv, bucket: &Bucket, key: &Bytes, bytes: Bytes) -> NewContent {
    let declared = Some(bytes.len() as u64);
    let conditions = Conditions::default();
    let mut writer = kv.open_stage(bucket, key.clone(), declared, &conditions).await.unwrap();
    for piece in bytes.chunks(100_000) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    NewContent::Staged(writer.finish().await.unwrap())
}

async fn find(kv: &Kv, bucket: &Bucket, key: &str) -> Option<Version> {
    kv.head(bucket, key.as_bytes(), &VersionSelector::Current).await.unwrap()
}

async fn get(kv: &Kv, bucket: &Bucket, key: &str) -> Bytes {
    let version = find(kv, bucket, key).await.unwrap();
    let size = version.new.size;
    read(kv, &version, 0..size).await.unwrap()
}

async fn read(kv: &Kv, version: &Version, range: std::ops::Range<u64>) -> Result<Bytes, KvError> {
    let pieces: Vec<Bytes> = kv.content(version, range).try_collect().await?;
    Ok(pieces.concat().into())
}

fn body(len: usize, seed: u8) -> Bytes {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed).wrapping_add((at >> 11) as u8)).collect()
}

async fn keys(kv: &Kv, bucket: &Bucket) -> Vec<String> {
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
    let deleted = kv.delete(&bucket, gone, VersionSelector::Current, Conditions::default());
    assert!(deleted.await.unwrap().existed);

    let key = Bytes::from_static(b"multi");
    let upload = kv.create_upload(&bucket, key.clone(), Bytes::from_static(b"m")).await.unwrap();
    for (number, part) in [(1, body(5 << 20, 3)), (3, body(70_000, 4)), (7, body(10, 5))] {
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
        kv.put_part(&bucket, key.clone(), upload.id, number, new, content).await.unwrap();
    }
    let parts = kv.parts(&bucket, &key, upload.id, 0, 1000).await.unwrap();
    assert_eq!(parts.parts.iter().map(|part| part.number).collect::<Vec<_>>(), [1, 3, 7]);
    let multi: Bytes = [body(5 << 20, 3), body(70_000, 4), body(10, 5)].concat().into();
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
    assert_eq!(complete().await.unwrap(), completed, "Complete is repeatable");

    for round in 0..2 {
        assert_eq!(get(&kv, &bucket, "a/small").await, small);
        assert_eq!(get(&kv, &bucket, "a/large").await, large);
        assert_eq!(get(&kv, &bucket, "empty").await, Bytes::new());
        assert_eq!(get(&kv, &bucket, "multi").await, multi);
        assert_eq!(find(&kv, &bucket, "gone").await, None);
        assert_eq!(keys(&kv, &bucket).await, ["a/large", "a/small", "empty", "multi"]);
        let version = find(&kv, &bucket, "multi").await.unwrap();
        assert_eq!(kv.part_sizes(&version).await.unwrap().len(), 3);
        let range = (5 << 20) - 10..(5 << 20) + 70_005;
        let part = read(&kv, &version, range.clone()).await.unwrap();
        assert_eq!(part, multi.slice(range.start as usize..range.end as usize));
        assert_eq!(node.status().await.damage, Vec::<String>::new(), "round {round}");
    }
    let refused = kv.delete_bucket("photos").await;
    assert!(matches!(refused, Err(KvError::Refused(Refusal::BucketNotEmpty))), "{refused:?}");
    drop(kv);
    stop(node).await;

    let node = start(&options).await;
    let kv = node.kv();
    assert_eq!(node.status().await.replayed, 0, "a graceful stop leaves nothing to replay");
    let bucket = kv.bucket("photos").await.unwrap().unwrap();
    assert_eq!(get(&kv, &bucket, "a/small").await, small);
    assert_eq!(get(&kv, &bucket, "a/large").await, large);
    assert_eq!(get(&kv, &bucket, "multi").await, multi);
    assert_eq!(keys(&kv, &bucket).await, ["a/large", "a/small", "empty", "multi"]);
    for key in ["a/large", "a/small", "empty", "multi"] {
        let key = Bytes::from_static(key.as_bytes());
        kv.delete(&bucket, key, VersionSelector::Current, Conditions::default()).await.unwrap();
    }
    kv.delete_bucket("photos").await.unwrap();
    assert_eq!(kv.bucket("photos").await.unwrap(), None);
    drop(kv);
    stop(node).await;
}
