//! Lives and deaths of a node in a simulated world.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::tests::{get, keys, make_bucket, new, put};
use super::{Limits, Node, NodeOptions};

use crate::env::sim::{Choice, Fault, Latency, OpKind, Scope, SimDisk, run};
use crate::env::{clock, random};
use crate::ids::{GroupId, PayloadId};
use crate::kv::{Bucket, Conditions, Kv, NewContent, VersionSelector};

fn options() -> NodeOptions {
    let mut options = NodeOptions::new("/data");
    options.data_groups = 2;
    options.limits = Limits {
        segment_bytes: Some(512 << 10),
        chunk_bytes: 32 << 10,
        inline_bytes: 4 << 10,
        overlay_bytes: 1 << 20,
        checkpoint_entries: 40,
        release_after: Duration::ZERO,
        abandon_after: Duration::ZERO,
        sweep_every: Duration::from_millis(700),
        compact_every: Duration::from_millis(900),
        ..Limits::default()
    };
    options
}

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.plant_dir("/").unwrap();
    slow(&disk);
    disk
}

fn slow(disk: &SimDisk) {
    let ms = Duration::from_millis;
    disk.set_latency(Latency {
        write: (Duration::from_micros(50), ms(1)),
        sync: (ms(1), ms(4)),
    });
}

/// What one writer wrote to one key: what was acknowledged last, and what came after it and may have happened.
#[derive(Clone, Debug, Default)]
struct Known {
    acknowledged: Option<Bytes>,
    maybe: Vec<Option<Bytes>>,
}

type History = Arc<Mutex<BTreeMap<String, Known>>>;

fn value(writer: u64, step: u64, len: usize) -> Bytes {
    let seed = writer * 1000 + step;
    (0..len)
        .map(|at| (seed as u8).wrapping_add((at * 7) as u8))
        .collect()
}

/// Overwrites and deletes its own few keys, small and large, until it is killed.
async fn writer(kv: Kv, bucket: Bucket, number: u64, history: History) {
    for step in 0..u64::MAX {
        let key = format!("key-{number}-{}", step % 3);
        let delete = random::below(5) == 0;
        let len = match random::below(4) {
            0 => 90_000,
            1 => 0,
            _ => 1 + random::below(4096) as usize,
        };
        let bytes = (!delete).then(|| value(number, step, len));
        history
            .lock()
            .entry(key.clone())
            .or_default()
            .maybe
            .push(bytes.clone());
        match &bytes {
            Some(bytes) => put(&kv, &bucket, &key, bytes.clone()).await,
            None => {
                let key = Bytes::copy_from_slice(key.as_bytes());
                let deleted = kv.delete(
                    &bucket,
                    key,
                    VersionSelector::Current,
                    Conditions::default(),
                );
                deleted.await.unwrap();
            }
        }
        let mut history = history.lock();
        let known = history.entry(key).or_default();
        known.acknowledged = bytes;
        known.maybe.clear();
    }
}

/// Every key holds what was acknowledged last, or something that was under way after it.
async fn check(kv: &Kv, bucket: &Bucket, history: &History) {
    let known = history.lock().clone();
    let listed = keys(kv, bucket).await;
    for (key, known) in known {
        let there = listed.contains(&key);
        let found = match there {
            true => Some(get(kv, bucket, &key).await),
            false => None,
        };
        let possible = std::iter::once(&known.acknowledged).chain(&known.maybe);
        let lens = |value: &Option<Bytes>| value.as_ref().map(Bytes::len);
        assert!(
            possible.clone().any(|value| *value == found),
            "{key}: found {:?}, possible {:?}",
            lens(&found),
            possible.map(lens).collect::<Vec<_>>()
        );
        history.lock().insert(
            key,
            Known {
                acknowledged: found,
                maybe: Vec::new(),
            },
        );
    }
}

async fn start(disk: &SimDisk) -> Arc<Node> {
    Node::start(disk.env(), options()).await.unwrap()
}

/// A node is killed or loses power again and again, in the middle of writes, checkpoints, sweeps and compaction; after
/// each time everything acknowledged is there.
#[test]
fn acknowledged_writes_survive_kills_and_power_cuts() {
    for seed in 1..=3 {
        run(seed, async move {
            let mut disk = disk(seed);
            let history = History::default();
            for life in 0..5 {
                let scope = Scope::new(format!("life {life}"));
                let begun = scope.enter({
                    let (disk, history) = (disk.clone(), history.clone());
                    async move {
                        let node = start(&disk).await;
                        let kv = node.kv();
                        let bucket = match kv.bucket("b").await.unwrap() {
                            Some(bucket) => bucket,
                            None => make_bucket(&kv, "b").await,
                        };
                        check(&kv, &bucket, &history).await;
                        assert_eq!(node.status().await.damage, Vec::<String>::new());
                        for number in 0..6 {
                            let (kv, bucket) = (kv.clone(), bucket.clone());
                            crate::env::task::spawn(writer(kv, bucket, number, history.clone()));
                        }
                        node
                    }
                });
                let node = begun.await.unwrap();
                clock::sleep(Duration::from_millis(300 + random::below(2000))).await;
                scope.kill();
                drop(node);
                let choices = disk.power_cuts();
                disk = match random::below(3) {
                    0 => disk.after_kill(),
                    1 => disk.after_power_cut(&Choice::None),
                    _ => {
                        let at = random::below(choices.len() as u64) as usize;
                        disk.after_power_cut(&choices[at])
                    }
                };
                slow(&disk);
            }
        });
    }
}

/// An fsync that does not return: nobody is told "done", and nobody sees what may still be lost.
#[test]
fn neither_answer_nor_engine_is_ahead_of_the_disk() {
    run(3, async {
        let disk = disk(3);
        let node = start(&disk).await;
        let kv = node.kv();
        let bucket = make_bucket(&kv, "b").await;
        for key in ["before", "held", "a", "b", "c", "d"] {
            put(&kv, &bucket, key, Bytes::from_static(b"1")).await;
        }
        clock::sleep(Duration::from_secs(1)).await;
        disk.fail_next_on(OpKind::Sync, "meta", Fault::Hang);
        let content = NewContent::Inline(Bytes::from_static(b"2"));
        let key = Bytes::from_static(b"held");
        let write = kv.put(&bucket, key, new(1, "e"), content, Conditions::default());
        let mut write = std::pin::pin!(write);
        let held = clock::timeout(Duration::from_millis(1500), &mut write).await;
        assert!(held.is_err(), "acknowledged before its fsync: {held:?}");
        let seen = kv
            .head(&bucket, b"held", &VersionSelector::Current)
            .await
            .unwrap();
        assert_eq!(seen.unwrap().new.etag, "etag", "visible before its fsync");
        assert_eq!(get(&kv, &bucket, "before").await, "1");
        // After two seconds the node calls itself sick and says so to who waits.
        let told = clock::timeout(Duration::from_secs(3), &mut write).await;
        use crate::kv::KvError::{Unavailable, Unknown};
        assert!(
            matches!(told, Ok(Err(Unknown(_) | Unavailable(_)))),
            "{told:?}"
        );
        assert!(node.ready().is_err());
        disk.release_hangs();
        clock::sleep(Duration::from_secs(1)).await;
        assert_eq!(node.ready(), Ok(()));
        assert_eq!(get(&kv, &bucket, "held").await, "2");
        node.shutdown(Duration::from_secs(5)).await;
    });
}

/// Objects are overwritten many times; what nobody names any more gives its room back, and a reader sees none of it.
#[test]
fn room_comes_back_when_objects_are_overwritten() {
    run(4, async {
        let disk = disk(4);
        let node = start(&disk).await;
        let kv = node.kv();
        let bucket = make_bucket(&kv, "b").await;
        for round in 0..6u64 {
            for n in 0..40u64 {
                put(&kv, &bucket, &format!("small-{n}"), value(n, round, 4000)).await;
            }
            for n in 0..6u64 {
                put(
                    &kv,
                    &bucket,
                    &format!("large-{n}"),
                    value(n, round, 200_000),
                )
                .await;
            }
        }
        for _ in 0..4 {
            node.sweep_now().await.unwrap();
            clock::sleep(Duration::from_secs(3)).await;
            node.compact_now().await.unwrap();
        }
        for n in 0..40u64 {
            assert_eq!(
                get(&kv, &bucket, &format!("small-{n}")).await,
                value(n, 5, 4000)
            );
        }
        for n in 0..6u64 {
            assert_eq!(
                get(&kv, &bucket, &format!("large-{n}")).await,
                value(n, 5, 200_000)
            );
        }
        let live = 40 * 4000 + 6 * 200_000;
        let status = node.status().await;
        assert_eq!(status.damage, Vec::<String>::new());
        assert_eq!(
            status.log_live_bytes, live,
            "live bytes are those of the objects"
        );
        let bound = live * 3 / 2 + 4 * (512 << 10);
        assert!(
            status.log_bytes <= bound,
            "{} bytes for {live} live",
            status.log_bytes
        );
        node.shutdown(Duration::from_secs(5)).await;

        let node = start(&disk).await;
        let again = node.status().await;
        assert_eq!(again.replayed, 0);
        assert_eq!(
            again.log_live_bytes, live,
            "a restart brings no dropped place back"
        );
    });
}

/// The same seed gives the same world.
#[test]
fn a_life_can_be_replayed() {
    let life = |seed| {
        run(seed, async move {
            let disk = disk(seed);
            let node = start(&disk).await;
            let kv = node.kv();
            let bucket = make_bucket(&kv, "b").await;
            let history = History::default();
            for number in 0..3 {
                crate::env::task::spawn(writer(
                    kv.clone(),
                    bucket.clone(),
                    number,
                    history.clone(),
                ));
            }
            clock::sleep(Duration::from_secs(2)).await;
            (disk.digest(), disk.op_count(), node.metrics().applied)
        })
    };
    assert_eq!(life(11), life(11));
}

/// What was written and deleted right before a restart is found again in the log; nothing names it any more, and nothing
/// may hold on to it.
#[test]
fn a_restart_brings_nothing_back_that_was_deleted_just_before() {
    run(5, async {
        let disk = disk(5);
        let node = start(&disk).await;
        let kv = node.kv();
        let bucket = make_bucket(&kv, "b").await;
        for n in 0..10u64 {
            let key = format!("key-{n}");
            let large = if n % 2 == 0 { 3000 } else { 90_000 };
            put(&kv, &bucket, &key, value(n, 0, large)).await;
            let refused = kv.put(
                &bucket,
                Bytes::copy_from_slice(key.as_bytes()),
                new(2000, "refused"),
                NewContent::Inline(value(n, 1, 2000)),
                Conditions {
                    if_none_match: Some(vec!["*".to_owned()]),
                    ..Conditions::default()
                },
            );
            assert!(refused.await.is_err());
            let key = Bytes::copy_from_slice(key.as_bytes());
            let (selector, any) = (VersionSelector::Current, Conditions::default());
            kv.delete(&bucket, key, selector, any).await.unwrap();
        }
        node.sweep_now().await.unwrap();
        node.compact_now().await.unwrap();
        node.checkpoint_now().await.unwrap();
        assert_eq!(node.status().await.log_live_bytes, 0);
        let killed = disk.after_kill();
        node.shutdown(Duration::from_secs(5)).await;
        for disk in [killed, disk] {
            let node = start(&disk).await;
            assert_eq!(
                node.status().await.log_live_bytes,
                0,
                "deleted bytes are called live again"
            );
            node.shutdown(Duration::from_secs(5)).await;
        }
    });
}

/// Seed 252: a start found the payload of an entry that was never agreed on, and the table of places was written out with it.
/// Then a new leader's entries took that one's place, and a crash came before the table was written again.
#[test]
fn the_payload_of_an_entry_that_others_replaced_is_not_kept() {
    use super::start::Storage;
    use crate::log::{Item, LogEntry, LogId};

    let disk = disk(8);
    disk.plant_dir("/data").unwrap();
    let (group, index) = (GroupId(1), 20);
    let payload = |term| PayloadId { group, index, term };
    let of = |term| LogEntry {
        id: LogId {
            term,
            node: 1,
            index,
        },
        bytes: Bytes::from(vec![7; 900]),
        payload_len: 800,
        payload_damaged: false,
    };
    let place = |storage: &Storage, term| storage.store.places.get(&Item::Payload(payload(term)));
    // As often as it takes, with a kill behind each.
    let life = |work: &str| {
        run(8, async {
            let storage = Storage::open(&disk.env(), &options()).await.unwrap();
            let ack = || Box::new(|done: Result<(), _>| done.unwrap());
            match work {
                "append" => storage.log.append(group, vec![of(2)], ack()).unwrap(),
                "write the table" => {
                    assert!(place(&storage, 2).unwrap().is_some());
                    storage.store.checkpoint_places().await.unwrap();
                }
                "replace" => {
                    let dropped = storage.log.truncate_after(group, Some(19), ack()).unwrap();
                    assert_eq!(dropped, [payload(2)]);
                    storage.log.append(group, vec![of(3)], ack()).unwrap();
                }
                "write the table again" => storage.store.checkpoint_places().await.unwrap(),
                _ => {
                    assert_eq!(place(&storage, 2).unwrap(), None);
                    assert!(place(&storage, 3).unwrap().is_some());
                }
            }
            storage.log.sync().await.unwrap();
        });
    };
    for work in [
        "append",
        "write the table",
        "replace",
        "look",
        "write the table again",
        "look",
    ] {
        life(work);
    }
}

/// Seed 1247: a payload that another member gave was written, and dropped again, because no row named it any more by then. A
/// crash came before the table of places was written, and the next start found the copy in the log. One that a row names stays.
#[test]
fn a_copy_of_a_payload_that_nobody_names_is_not_kept() {
    use crate::log::Item;

    run(9, async {
        let disk = disk(9);
        let node = start(&disk).await;
        let kv = node.kv();
        let bucket = make_bucket(&kv, "b").await;
        let bytes = value(1, 0, 3000);
        put(&kv, &bucket, "key", bytes.clone()).await;
        let places = &node.store.places;
        let all = places.items(None, 100).unwrap();
        let is_of_data =
            |item: &&Item| matches!(item, Item::Payload(id) if id.group != GroupId::DIRECTORY);
        let named = all.iter().find(is_of_data).copied().unwrap();
        let Item::Payload(id) = named else { panic!() };
        // Lost, and given by another member; the other one by mistake.
        let stored = node.store.read_item(named).await.unwrap();
        places.remove(&named).unwrap();
        node.store.checkpoint_places().await.unwrap();
        let unnamed = PayloadId { index: 1, ..id };
        for id in [id, unnamed] {
            let rewritten = node.store.rewrite_payload(id, None, stored.clone());
            rewritten.await.unwrap();
        }
        places.remove(&Item::Payload(unnamed)).unwrap();
        node.log.sync().await.unwrap();

        let killed = disk.after_kill();
        let node = start(&killed).await;
        clock::sleep(Duration::from_secs(5)).await;
        let places = &node.store.places;
        assert_eq!(places.get(&Item::Payload(unnamed)).unwrap(), None);
        assert!(places.get(&named).unwrap().is_some());
        assert_eq!(node.loose_bytes(&[]).unwrap(), Vec::<String>::new());
        node.shutdown(Duration::from_secs(5)).await;
    });
}

/// Somebody else filled the disk to the last byte: the node starts all the same, reads, takes deletes and writes
/// checkpoints out of its ballast, and takes new objects again once there is room.
#[test]
fn a_node_starts_and_deletes_on_a_disk_without_a_free_byte() {
    use crate::env::disk::{Disk, Open};
    run(6, async {
        let disk = disk(6);
        disk.set_capacity(128 << 20);
        let node = start(&disk).await;
        let kv = node.kv();
        let bucket = make_bucket(&kv, "b").await;
        for n in 0..30u64 {
            put(&kv, &bucket, &format!("key-{n}"), value(n, 0, 2000)).await;
        }
        node.shutdown(Duration::from_secs(5)).await;
        let fill = || {
            let free = disk.space(Path::new("/data")).unwrap().free;
            let file = disk.open(Path::new("/filler"), Open::CreateNew).unwrap();
            file.allocate(free).unwrap();
            assert_eq!(disk.space(Path::new("/data")).unwrap().free, 0);
        };
        fill();

        let node = start(&disk).await;
        let kv = node.kv();
        assert!(!node.status().await.room);
        for n in 0..30u64 {
            let key = format!("key-{n}");
            assert_eq!(get(&kv, &bucket, &key).await, value(n, 0, 2000));
            if n % 2 == 0 {
                let key = Bytes::from(key);
                let (selector, any) = (VersionSelector::Current, Conditions::default());
                kv.delete(&bucket, key, selector, any).await.unwrap();
            }
        }
        node.checkpoint_now().await.unwrap();
        let status = node.status().await;
        assert!(status.groups.iter().all(|group| group.checkpoint > 0));
        assert_eq!(status.damage, Vec::<String>::new());
        assert_eq!(node.ready(), Ok(()));

        disk.remove(Path::new("/filler")).unwrap();
        clock::sleep(Duration::from_secs(3)).await;
        assert!(node.status().await.room, "the ballast is whole again");
        put(&kv, &bucket, "again", value(1, 1, 2000)).await;
        node.shutdown(Duration::from_secs(5)).await;
    });
}

/// Objects so small that the records around them are most of what they take: compaction must see that there is nothing to
/// win, and not move them for ever.
#[test]
fn tiny_objects_are_not_moved_again_and_again() {
    run(7, async {
        let disk = disk(7);
        let node = start(&disk).await;
        let kv = node.kv();
        let bucket = make_bucket(&kv, "b").await;
        for n in 0..3000u64 {
            put(&kv, &bucket, &format!("key-{n}"), value(n, 0, 20)).await;
        }
        for _ in 0..20 {
            node.sweep_now().await.unwrap();
            node.compact_now().await.unwrap();
        }
        let before = node.metrics().blob.bytes;
        for _ in 0..5 {
            node.compact_now().await.unwrap();
        }
        let moved = node.metrics().blob.bytes - before;
        assert!(moved < 10_000, "{moved} bytes moved for nothing");
        node.shutdown(Duration::from_secs(5)).await;
    });
}
