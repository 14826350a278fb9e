//! What a node does not have it asks for: every node serves everything.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use minikv_core::env::clock;
use minikv_core::env::sim::Sim;
use minikv_core::kv::{
    Bucket, Completed, Conditions, Kv, KvError, ListItem, ListRequest, Lock, NewContent, NewPart,
    NewVersion,
};
use minikv_tests::cluster::clients::content;

use crate::world::{VALUES, World, get, until};

/// With more nodes than copies nobody has everything: what a node does not have it asks for, small and large, read, written and
/// listed.
#[test]
fn a_node_serves_what_lies_elsewhere() {
    Sim::new(9).run(async {
        let world = World::start(9, 3).await;
        world.fill(1).await;
        for node in [4, 5] {
            world.nodes.join();
            world.until_active(node).await;
        }
        clock::sleep(Duration::from_secs(30)).await;
        until("no change is under way", || world.nodes.is_settled()).await;
        let hosted: Vec<usize> = (1..=5)
            .map(|node| world.node(node).members().len())
            .collect();
        assert_eq!(
            hosted.iter().sum::<usize>(),
            9,
            "three copies of each group: {hosted:?}"
        );
        let mut expected: BTreeSet<u64> = VALUES.collect();
        for node in 1..=5 {
            for value in [6_000 + node, 7_000 + 5 * node] {
                let put = world.put(node, value).await;
                put.unwrap_or_else(|error| panic!("node {node}: {error}"));
                expected.insert(value);
            }
        }
        for node in 1..=5 {
            for value in &expected {
                let got = world.get(node, *value).await;
                let got = got.unwrap_or_else(|error| panic!("node {node}, {value}: {error}"));
                assert_eq!(got, content(*value), "value {value} on node {node}");
            }
            let (kv, scope) = world.nodes.door(node).unwrap();
            let bucket = world.bucket.clone();
            let listed = scope.enter(async move {
                let listed = minikv_tests::cluster::clients::list(&kv, &bucket).await?;
                let used = kv.usage(&bucket).await?;
                let deleted = kv.delete_bucket("bucket").await;
                assert!(deleted.is_err(), "it is not empty");
                Ok::<_, KvError>((listed.len(), used.objects))
            });
            let listed = listed.await.unwrap().unwrap();
            assert_eq!(
                listed,
                (expected.len(), expected.len() as u64),
                "node {node}"
            );
        }
        world.come_to_rest(&[1, 2, 3, 4, 5]).await;
    });
}

/// Five nodes and three copies: each has members of some groups only.
async fn spread_out(seed: u64) -> World {
    let world = World::start(seed, 3).await;
    for node in [4, 5] {
        world.nodes.join();
        world.until_active(node).await;
    }
    clock::sleep(Duration::from_secs(30)).await;
    until("no change is under way", || world.nodes.is_settled()).await;
    world
}

/// A page of a listing needs more rows than a message between nodes takes, because they are long: every node tells it.
#[test]
fn a_long_listing_is_told_by_nodes_without_the_rows() {
    const OBJECTS: usize = 1_500;
    Sim::new(21).run(async {
        let world = spread_out(21).await;
        let (kv, scope) = world.nodes.door(1).unwrap();
        let bucket = world.bucket.clone();
        let filled = scope.enter(async move {
            let objects = futures::stream::iter(0..OBJECTS).map(Ok);
            let put = |number: usize| {
                let new = NewVersion {
                    meta: vec![b'm'; 2_000].into(),
                    ..NewVersion::default()
                };
                let key = Bytes::from(format!("long/{number:05}"));
                let content = NewContent::Inline(Bytes::new());
                let put = kv.put(&bucket, key, new, content, Conditions::default());
                async move { put.await.map(drop) }
            };
            objects.try_for_each_concurrent(32, put).await
        });
        filled.await.unwrap().unwrap();
        for node in 1..=5 {
            let (kv, scope) = world.nodes.door(node).unwrap();
            let bucket = world.bucket.clone();
            let listed = scope.enter(async move { list(&kv, &bucket, "long/").await });
            let listed = listed.await.unwrap();
            let listed = listed.unwrap_or_else(|error| panic!("node {node}: {error}"));
            let expected = (0..OBJECTS).map(|number| format!("long/{number:05}"));
            assert!(listed.into_iter().eq(expected), "node {node}");
        }
    });
}

/// The parts of an upload are more rows than a message between nodes takes: through every node they are read as they are at one
/// moment, the upload ends, and the object can be read.
#[test]
fn an_upload_of_thousands_of_parts_ends_through_nodes_without_its_rows() {
    const PARTS: u32 = 1_200;
    /// More, while somebody reads.
    const MEANWHILE: u32 = 100;
    Sim::new(22).run(async {
        let world = spread_out(22).await;
        for node in 1..=5 {
            let (kv, scope) = world.nodes.door(node).unwrap();
            let bucket = world.bucket.clone();
            let key = Bytes::from(format!("upload-{node}"));
            let done = scope.enter(async move {
                let upload = kv.create_upload(&bucket, key.clone(), Bytes::new(), Lock::default());
                let id = upload.await?.id;
                let put = |number: u32| {
                    let new = NewPart {
                        etag: number.to_string(),
                        size: 1,
                        meta: vec![b'm'; 1_000].into(),
                    };
                    let content = NewContent::Inline(Bytes::from_static(b"p"));
                    let put = kv.put_part(&bucket, key.clone(), id, number, new, content);
                    async move { put.await.map(drop) }
                };
                let parts = futures::stream::iter(1..=PARTS).map(Ok);
                parts.try_for_each_concurrent(32, put).await?;
                let more = futures::stream::iter(1..=MEANWHILE).map(|more| Ok(PARTS + more));
                let more = more.try_for_each_concurrent(4, put);
                let reads = futures::stream::iter(0..20)
                    .map(Ok)
                    .try_for_each(|_| async {
                        let found = kv.parts(&bucket, &key, id, 0, 10_000).await?;
                        // Each of them has raised it by one.
                        assert_eq!(found.parts.len() as u64, found.counter, "one moment");
                        Ok(())
                    });
                futures::try_join!(more, reads)?;
                let found = kv.parts(&bucket, &key, id, 0, 10_000).await?;
                let numbers: Vec<u32> = found.parts.iter().map(|part| part.number).collect();
                // Every other one is left out: as many ranges as parts.
                let odd: Vec<u32> = numbers.iter().copied().step_by(2).collect();
                let new = NewVersion {
                    size: odd.len() as u64,
                    ..NewVersion::default()
                };
                let (counter, when) = (found.counter, Conditions::default());
                let end = kv.complete_upload(&bucket, key.clone(), id, counter, &odd, new, when);
                let end = end.await?;
                let got = get(&kv, &bucket, &key).await?;
                Ok::<_, KvError>((numbers, end, got.len()))
            });
            let done = done.await.unwrap();
            let (numbers, end, got) = done.unwrap_or_else(|error| panic!("node {node}: {error}"));
            assert!(numbers.into_iter().eq(1..=PARTS + MEANWHILE), "node {node}");
            assert!(
                matches!(end, Completed::Done { .. }),
                "node {node}: {end:?}"
            );
            assert_eq!(got, (PARTS + MEANWHILE) as usize / 2, "node {node}");
        }
    });
}

/// All keys that begin so, in pages.
async fn list(kv: &Kv, bucket: &Bucket, prefix: &'static str) -> Result<Vec<String>, KvError> {
    let mut request = ListRequest {
        prefix: Bytes::from_static(prefix.as_bytes()),
        max: 1_000,
        ..ListRequest::default()
    };
    let mut keys = Vec::new();
    loop {
        let page = kv.list(bucket, request.clone()).await?;
        for item in page.items {
            if let ListItem::Version(version) = item {
                keys.push(String::from_utf8_lossy(&version.key).into_owned());
            }
        }
        let Some(point) = page.resume else {
            return Ok(keys);
        };
        request.after = point.after;
        request.after_version = point.after_version;
    }
}

/// A member is dead. Who reads a large object through a node without a copy waits for it once, not for every piece.
#[test]
fn a_dead_member_costs_a_reader_elsewhere_one_wait() {
    Sim::new(11).run(async {
        let world = World::start(11, 3).await;
        for node in [4, 5] {
            world.nodes.join();
            world.until_active(node).await;
        }
        clock::sleep(Duration::from_secs(30)).await;
        until("no change is under way", || world.nodes.is_settled()).await;
        world.fill(1).await;
        for dead in 1..=5 {
            world.nodes.crash(dead, None);
            // Somebody leads again.
            clock::sleep(Duration::from_secs(15)).await;
            for node in (1..=5).filter(|node| *node != dead) {
                for value in VALUES {
                    let began = clock::now();
                    let got = world.get(node, value).await;
                    let got = got.unwrap_or_else(|error| panic!("node {node}, {value}: {error}"));
                    assert_eq!(got, content(value), "value {value} on node {node}");
                    let took = began.elapsed();
                    assert!(
                        took < Duration::from_secs(6),
                        "value {value} on node {node} without {dead}: {took:?}"
                    );
                }
            }
            world.nodes.start(dead);
            clock::sleep(Duration::from_secs(15)).await;
        }
    });
}
