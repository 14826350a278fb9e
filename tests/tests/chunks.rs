//! Large objects on three simulated nodes: every member gets its copy, whatever kept it away, and a reader is not told of a
//! disk's rot while another member has the bytes.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use minikv_core::env::clock;
use minikv_core::env::sim::Sim;
use minikv_core::kv::VersionSelector;
use minikv_tests::cluster::clients::content;
use minikv_tests::cluster::three::{LARGE, SMALL, Three};

/// A node that was cut off while an object was written is not waited for, and has its copy soon after it is back.
#[test]
fn a_member_that_was_away_gets_what_it_missed() {
    Sim::new(1).run(async {
        let world = Three::start(1).await;
        for node in [1, 2] {
            world.net.cut(node, 3);
            world.net.cut(3, node);
        }
        world.put(1, "key", LARGE).await;
        assert_eq!(world.get(2, "key").await, content(LARGE));
        world.net.mend();
        world.come_to_rest(Duration::from_secs(20)).await;
        for node in 1..=3 {
            assert_eq!(world.bad(node).await, [""; 0]);
        }
    });
}

/// The same for one that was dead, and comes back with an old log.
#[test]
fn a_member_that_was_dead_gets_what_it_missed() {
    Sim::new(2).run(async {
        let world = Three::start(2).await;
        world.put(1, "before", LARGE).await;
        world.nodes.crash(3, None);
        world.put(2, "key", LARGE + 5).await;
        world.nodes.start(3);
        while world.nodes.running(3).is_none() {
            clock::sleep(Duration::from_millis(100)).await;
        }
        world.come_to_rest(Duration::from_secs(30)).await;
        assert_eq!(world.get(3, "key").await, content(LARGE + 5));
        assert_eq!(world.bad(3).await, [""; 0]);
    });
}

/// A large object all of whose chunks rot on one disk is read whole through that node, and is whole there afterwards.
#[test]
fn rotten_chunks_are_read_elsewhere_and_written_anew() {
    Sim::new(3).run(async {
        let world = Three::start(3).await;
        world.put(1, "key", LARGE).await;
        world.come_to_rest(Duration::from_secs(20)).await;
        assert!(world.rot(2, LARGE) > 3);
        assert!(!world.bad(2).await.is_empty());
        assert_eq!(world.get(2, "key").await, content(LARGE));
        clock::sleep(Duration::from_secs(10)).await;
        assert_eq!(world.bad(2).await, [""; 0]);
        world.come_to_rest(Duration::from_secs(20)).await;
    });
}

/// The bytes of a small object lie in the log itself.
#[test]
fn a_rotten_small_object_is_read_elsewhere() {
    Sim::new(4).run(async {
        let world = Three::start(4).await;
        world.put(1, "key", SMALL).await;
        assert_eq!(world.get(2, "key").await, content(SMALL));
        assert!(world.rot(2, SMALL) > 0);
        assert_eq!(world.get(2, "key").await, content(SMALL));
    });
}

/// A wall clock that jumps an hour ahead does not make a chunk that was just freed an hour old.
#[test]
fn a_clock_that_jumps_takes_nothing_from_a_reader() {
    Sim::new(6).run(async {
        let world = Three::start(6).await;
        world.put(1, "key", LARGE).await;
        // Every leader has led for long enough to release something.
        clock::sleep(Duration::from_secs(20)).await;
        let (kv, scope) = world.nodes.door(2).unwrap();
        let bucket = world.bucket.clone();
        let nodes = world.nodes.clone();
        let read = scope.enter(async move {
            let current = VersionSelector::Current;
            let version = kv.head(&bucket, b"key", &current).await.unwrap().unwrap();
            let key = Bytes::from("key");
            let deleted = kv.delete(&bucket, key, current, Default::default());
            deleted.await.unwrap();
            (1..=3).for_each(|node| nodes.set_wall_offset_ms(node, 3_600_000));
            clock::sleep(Duration::from_secs(11)).await;
            let pieces = kv.content(&version, 0..version.new.size);
            pieces.try_collect::<Vec<Bytes>>().await
        });
        let pieces = read.await.unwrap().unwrap();
        assert_eq!(pieces.concat(), content(LARGE));
        world.come_to_rest(Duration::from_secs(60)).await;
    });
}

/// One of three members is enough for nothing: the upload fails, and nothing of it stays.
#[test]
fn a_minority_takes_no_object() {
    Sim::new(5).run(async {
        let world = Three::start(5).await;
        let (kv, scope) = world.nodes.door(1).unwrap();
        let bucket = world.bucket.clone();
        let net = world.net.clone();
        let put = scope.enter(async move {
            let key = Bytes::from("key");
            let bytes = content(LARGE);
            let len = Some(bytes.len() as u64);
            let mut stage = kv
                .open_stage(&bucket, key, len, &Default::default())
                .await?;
            for other in [2, 3] {
                net.cut(1, other);
                net.cut(other, 1);
            }
            stage.write(bytes).await?;
            stage.finish().await
        });
        assert!(put.await.unwrap().is_err());
        world.net.mend();
        world.come_to_rest(Duration::from_secs(120)).await;
    });
}
