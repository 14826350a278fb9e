//! Objects that come of age, in a simulated world: writes that race with it, kills and power cuts in the midst of it.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::tests::{keys, make_bucket, new, put};
use super::{Limits, Node, NodeOptions};
use crate::env::sim::{Choice, Latency, Scope, SimDisk, run};
use crate::env::{clock, random, task};
use crate::kv::lifecycle::{Aging, Due, Lifecycle, Rank, Rules};
use crate::kv::{
    Bucket, Conditions, CreateBucket, Kv, ListItem, ListRequest, Lock, NewContent, VersionSelector,
    Versioning,
};

const DAY_MS: u64 = 2_000;

/// What lies under `old/` goes when the day after the one it was written on begins.
#[derive(Debug)]
struct OneDay;

impl OneDay {
    fn is_over(now_ms: u64, since_ms: u64) -> bool {
        now_ms / DAY_MS > since_ms / DAY_MS
    }
}

impl Lifecycle for OneDay {
    fn rules(&self, bucket: &Bucket) -> Result<Option<Arc<dyn Rules>>, String> {
        Ok((bucket.settings == "rules").then(|| Arc::new(OneDay) as Arc<dyn Rules>))
    }

    fn day(&self) -> Duration {
        Duration::from_millis(DAY_MS)
    }
}

impl Rules for OneDay {
    fn prefixes(&self) -> Vec<Bytes> {
        vec![Bytes::from_static(b"old/")]
    }

    fn due(&self, now_ms: u64, version: &Aging<'_>) -> Option<Due> {
        let goes = version.rank == Rank::Newest && OneDay::is_over(now_ms, version.modified_ms);
        goes.then_some(Due { newer: 0 })
    }

    fn upload_is_due(&self, now_ms: u64, _: &[u8], created_ms: u64) -> bool {
        OneDay::is_over(now_ms, created_ms)
    }
}

fn options() -> NodeOptions {
    let mut options = NodeOptions::new("/data");
    options.data_groups = 2;
    options.lifecycle = Some(Arc::new(OneDay));
    options.limits = Limits {
        segment_bytes: Some(512 << 10),
        overlay_bytes: 1 << 20,
        checkpoint_entries: 40,
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
        sync: (ms(1), ms(40)),
    });
}

async fn with_rules(kv: &Kv, name: &str, versioning: Versioning) -> Bucket {
    let create = CreateBucket {
        name: name.to_owned(),
        tenant: crate::ids::TenantId(1),
        owner: "owner".to_owned(),
        versioning,
        settings: Bytes::from_static(b"rules"),
        lock: false,
    };
    kv.create_bucket(create).await.unwrap()
}

/// Writes right when the day begins and the old version is about to go: what it wrote is there.
async fn late_writer(kv: Kv, bucket: Bucket, number: u64) {
    for step in 0..12u64 {
        let into_the_day = clock::wall_ms() % DAY_MS;
        let wait = DAY_MS - into_the_day + random::below(400);
        clock::sleep(Duration::from_millis(wait)).await;
        let key = Bytes::from(format!("old/{number}"));
        let etag = format!("{number}-{step}");
        let content = NewContent::Inline(Bytes::from_static(b"young"));
        let written = kv
            .put(
                &bucket,
                key.clone(),
                new(5, &etag),
                content,
                Conditions::default(),
            )
            .await
            .unwrap();
        for _ in 0..3 {
            clock::sleep(Duration::from_millis(random::below(60))).await;
            let now = clock::wall_ms();
            let found = kv
                .head(&bucket, &key, &VersionSelector::Current)
                .await
                .unwrap();
            if !OneDay::is_over(now + 50, written.modified_ms) {
                let found = found.expect("a young object was deleted");
                assert_eq!(found.new.etag, etag, "another version");
            }
        }
    }
}

/// A client overwrites an object at the very moment its old version comes of age: the new one stays.
#[test]
fn a_put_that_races_with_an_expiration_survives() {
    let mut overtaken = 0;
    for seed in 1..=4 {
        overtaken += run(seed, async move {
            let disk = disk(seed);
            let node = Node::start(disk.env(), options()).await.unwrap();
            let kv = node.kv();
            let bucket = with_rules(&kv, "b", Versioning::Off).await;
            let writers: Vec<_> = (0..40)
                .map(|number| task::spawn(late_writer(kv.clone(), bucket.clone(), number)))
                .collect();
            for writer in writers {
                writer.await.unwrap();
            }
            // Nobody writes any more: all of it goes, and the books are right.
            clock::sleep(Duration::from_millis(3 * DAY_MS)).await;
            assert_eq!(keys(&kv, &bucket).await, Vec::<String>::new());
            assert_eq!(kv.usage(&bucket).await.unwrap(), Default::default());
            let counts = node.status().await.lifecycle;
            assert!(counts.objects > 40, "{counts:?}");
            node.shutdown(Duration::from_secs(5)).await;
            counts.overtaken
        });
    }
    assert!(
        overtaken > 0,
        "no put came between look and entry: this proves nothing"
    );
}

/// A node is killed, or loses power, while things go: what has come of age goes once, everything else is there.
#[test]
fn kills_in_the_midst_of_it_neither_double_nor_lose_anything() {
    for seed in 1..=3 {
        run(seed, async move {
            let mut disk = disk(seed);
            for life in 0..5 {
                let scope = Scope::new(format!("life {life}"));
                let begun = scope.enter({
                    let disk = disk.clone();
                    async move {
                        let node = Node::start(disk.env(), options()).await.unwrap();
                        let kv = node.kv();
                        if life == 0 {
                            fill(&kv).await;
                        }
                        node
                    }
                });
                let node = begun.await.unwrap();
                clock::sleep(Duration::from_millis(DAY_MS / 2 + random::below(600))).await;
                scope.kill();
                drop(node);
                let choices = disk.power_cuts();
                disk = match random::below(2) {
                    0 => disk.after_kill(),
                    _ => {
                        let at = random::below(choices.len() as u64) as usize;
                        let cut: &Choice = &choices[at];
                        disk.after_power_cut(cut)
                    }
                };
                slow(&disk);
            }
            let node = Node::start(disk.env(), options()).await.unwrap();
            clock::sleep(Duration::from_millis(3 * DAY_MS)).await;
            let kv = node.kv();
            for (name, versioned) in [("plain", false), ("versioned", true)] {
                let bucket = kv.bucket(name).await.unwrap().unwrap();
                let (old, kept) = (
                    versions(&kv, &bucket, "old/").await,
                    keys(&kv, &bucket).await,
                );
                // With versions, each key has its one marker over its one version.
                assert_eq!(old, if versioned { 2 * OLD } else { 0 }, "{name}");
                assert_eq!(kept.len(), KEPT, "{name}");
                assert!(kept.iter().all(|key| key.starts_with("kept/")));
                let usage = kv.usage(&bucket).await.unwrap();
                assert_eq!(usage.objects, KEPT as u64);
                assert_eq!(usage.markers, if versioned { OLD as u64 } else { 0 });
                assert_eq!(usage.uploads, 1, "only the kept one");
            }
            let without = kv.bucket("without").await.unwrap().unwrap();
            assert_eq!(keys(&kv, &without).await.len(), OLD);
            assert_eq!(node.status().await.damage, Vec::<String>::new());
            node.shutdown(Duration::from_secs(5)).await;
        });
    }
}

const OLD: usize = 60;
const KEPT: usize = 20;

async fn fill(kv: &Kv) {
    let plain = with_rules(kv, "plain", Versioning::Off).await;
    let versioned = with_rules(kv, "versioned", Versioning::Enabled).await;
    let without = make_bucket(kv, "without").await;
    let data = || Bytes::from_static(b"data");
    // All within one day: what is written on the next one would go a day later.
    let into_the_day = clock::wall_ms() % DAY_MS;
    clock::sleep(Duration::from_millis(DAY_MS - into_the_day)).await;
    let mut writes = Vec::new();
    for bucket in [&plain, &versioned] {
        for n in 0..KEPT {
            writes.push((bucket, format!("kept/{n}")));
        }
    }
    for bucket in [&plain, &versioned, &without] {
        for n in 0..OLD {
            writes.push((bucket, format!("old/{n}")));
        }
    }
    let puts = writes
        .iter()
        .map(|(bucket, key)| put(kv, bucket, key, data()));
    futures::future::join_all(puts).await;
    for bucket in [&plain, &versioned] {
        for key in ["kept/u", "old/u"] {
            let key = Bytes::from_static(key.as_bytes());
            kv.create_upload(bucket, key, Bytes::new(), Lock::default())
                .await
                .unwrap();
        }
    }
}

async fn versions(kv: &Kv, bucket: &Bucket, prefix: &str) -> usize {
    let request = ListRequest {
        prefix: Bytes::copy_from_slice(prefix.as_bytes()),
        max: 1000,
        versions: true,
        ..ListRequest::default()
    };
    let page = kv.list(bucket, request).await.unwrap();
    let is_version = |item: &&ListItem| matches!(item, ListItem::Version(_));
    page.items.iter().filter(is_version).count()
}
