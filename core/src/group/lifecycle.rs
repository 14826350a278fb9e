//! Walking through the buckets that have lifecycle rules, for what has come of age: by the leader of each group.
//!
//! ```text
//!   tick ── buckets with rules (group 0) ── not walked today, or changed since? ── pages of versions and uploads
//!                                                                                        │ due
//!                                               next page, after a pause <── one entry each, some together
//! ```
//! Things come of age when a day begins, never within one: a bucket is walked once a day, and again when it changed.
//!
//! Always true:
//! * nothing is decided here: an entry names what was seen, and apply leaves alone what is something else by then;
//! * every entry is idempotent by state, so a walk that was cut short, or done twice, by a crash or a new leader is whole;
//! * a walk takes a small share of one core: it pauses in proportion to what it did;
//! * what is refused is not tried again before the next day; what is only held up is tried in the next round;
//! * while rows of the group are lost to damage, it gives nothing up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use minikv_proto::entry::{self as wire, expire::What};
use parking_lot::Mutex;

use super::Group;
use super::read::unreadable;
use crate::env::clock;
use crate::ids::{BucketId, GroupId, VShard};
use crate::kv::lifecycle::{Lifecycle, LifecycleCounts, Rank, Rules};
use crate::kv::{Bucket, KvError, Refusal};
use crate::shard::router::Router;
use crate::state::answer::{Answer, Done, TryAgain};
use crate::state::entry::{Body, crc64};
use crate::state::keys::UploadName;
use crate::state::read::{self, OwnedVshard};

/// Rows that are looked at together.
const PAGE: usize = 500;
/// Entries that are agreed on together: one fsync for all.
const BATCH: usize = 32;
/// A walk rests so many times as long as it works: a tenth of a core at most.
const REST: u32 = 9;
/// It rests when it has worked for so long.
const STINT: Duration = Duration::from_millis(2);
/// What a page costs besides the time it takes to read.
const PAGE_COST: Duration = Duration::from_micros(20);
/// What an entry costs. (Most of the time until its answer is waiting for the disk.)
const ENTRY_COST: Duration = Duration::from_micros(100);
/// Rounds come so often in a day, within these bounds.
const ROUNDS_A_DAY: u32 = 8;
const SHORTEST_TICK: Duration = Duration::from_millis(100);
const LONGEST_TICK: Duration = Duration::from_secs(60);

/// See the file's header.
pub(crate) struct Walker {
    lifecycle: Arc<dyn Lifecycle>,
    walked: Mutex<BTreeMap<(GroupId, BucketId), Walked>>,
    counts: Mutex<LifecycleCounts>,
}

/// A walk that was finished: on which day it began, and with which facts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Walked {
    day: u64,
    epoch: u64,
}

/// How a walk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    /// All that is due is gone.
    Whole,
    /// Something was held up.
    Waiting,
    /// The bucket changed, or the group's facts of it are older: nothing that was planned applies.
    Stale,
}

impl Ended {
    fn and(self, other: Ended) -> Ended {
        match (self, other) {
            (Ended::Stale, _) | (_, Ended::Stale) => Ended::Stale,
            (Ended::Waiting, _) | (_, Ended::Waiting) => Ended::Waiting,
            _ => Ended::Whole,
        }
    }
}

/// One bucket in one group, under way.
struct Walk<'a> {
    group: &'a Group,
    bucket: &'a Bucket,
    rules: &'a dyn Rules,
    now_ms: u64,
    pace: Pace,
}

impl Walker {
    pub(crate) fn new(lifecycle: Arc<dyn Lifecycle>) -> Walker {
        Walker {
            lifecycle,
            walked: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// How often a round should come.
    pub(crate) fn tick(&self) -> Duration {
        (self.lifecycle.day() / ROUNDS_A_DAY).clamp(SHORTEST_TICK, LONGEST_TICK)
    }

    pub(crate) fn counts(&self) -> LifecycleCounts {
        self.counts.lock().clone()
    }

    /// Walks through every bucket that was not walked today, in every group that this node leads.
    pub(crate) async fn round(&self, router: &Arc<Router>) -> Result<(), KvError> {
        let buckets = self.buckets(router).await?;
        self.walked
            .lock()
            .retain(|(_, bucket), _| buckets.iter().any(|(known, _)| known.id == *bucket));
        let mut first_error = None;
        for group in router.groups.data() {
            for (bucket, rules) in &buckets {
                let leads = group.leads();
                if !leads || group.lacks_rows() {
                    break;
                }
                if let Err(error) = self.visit(&group, bucket, &**rules).await {
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn visit(
        &self,
        group: &Group,
        bucket: &Bucket,
        rules: &dyn Rules,
    ) -> Result<(), KvError> {
        let now_ms = clock::wall_ms();
        let day_ms = (self.lifecycle.day().as_millis() as u64).max(1);
        let this = Walked {
            day: now_ms / day_ms,
            epoch: bucket.epoch,
        };
        let at = (group.id, bucket.id);
        if self.walked.lock().get(&at) == Some(&this) {
            return Ok(());
        }
        let walk = Walk {
            group,
            bucket,
            rules,
            now_ms,
            pace: Pace::default(),
        };
        let ended = self.walk(walk).await?;
        if ended == Ended::Whole {
            self.walked.lock().insert(at, this);
        }
        let mut counts = self.counts.lock();
        counts.walks += 1;
        counts.last_walk_ms = clock::wall_ms();
        Ok(())
    }

    /// The buckets with rules, as the directory has them now.
    async fn buckets(&self, router: &Router) -> Result<Vec<(Bucket, Arc<dyn Rules>)>, KvError> {
        let view = router.directory()?.read().await?;
        let mut found = Vec::new();
        let mut trouble = Vec::new();
        for bucket in read::buckets(&*view, "") {
            let bucket = bucket.map_err(unreadable)?;
            match self.lifecycle.rules(&bucket) {
                Ok(None) => {}
                Ok(Some(rules)) => found.push((bucket, rules)),
                Err(what) => trouble.push(format!("bucket {}: {what}", bucket.name)),
            }
        }
        self.counts.lock().trouble = trouble;
        Ok(found)
    }

    async fn walk(&self, mut walk: Walk<'_>) -> Result<Ended, KvError> {
        let view = walk.group.read().await?;
        let owned = read::vshards(&*view).map_err(unreadable)?;
        drop(view);
        let prefixes = walk.rules.prefixes();
        let mut ended = Ended::Whole;
        for owned in owned.into_iter().filter(|owned| !owned.frozen) {
            for prefix in &prefixes {
                ended = ended.and(self.versions(&mut walk, owned, prefix).await?);
                if ended != Ended::Stale {
                    ended = ended.and(self.uploads(&mut walk, owned, prefix).await?);
                }
                if ended == Ended::Stale {
                    return Ok(ended);
                }
            }
        }
        Ok(ended)
    }

    async fn versions(
        &self,
        walk: &mut Walk<'_>,
        owned: OwnedVshard,
        prefix: &Bytes,
    ) -> Result<Ended, KvError> {
        let mut ended = Ended::Whole;
        let mut reached = None;
        loop {
            let view = walk.group.read().await?;
            let started = clock::now();
            let mut due = Vec::new();
            let page = read::aging(
                &*view,
                owned.vshard,
                walk.bucket.id,
                prefix,
                reached.as_ref(),
                PAGE,
                &mut |seq, version| {
                    let Some(verdict) = walk.rules.due(walk.now_ms, version) else {
                        return;
                    };
                    let what = match version.rank {
                        Rank::Newest => What::Newest(seq),
                        Rank::LoneMarker => What::LoneMarker(seq),
                        Rank::Noncurrent { .. } => What::Noncurrent(seq),
                    };
                    due.push(wire::Expire {
                        target: Some(walk.target(&owned, version.key)),
                        what: Some(what),
                        tags_crc64: crc64(version.tags),
                        newer: verdict.newer,
                    });
                },
            );
            let page = page.map_err(unreadable)?;
            drop(view);
            if page.held > 0 {
                ended = Ended::Waiting;
            }
            {
                let mut counts = self.counts.lock();
                counts.seen += page.seen as u64;
                counts.waiting += page.held as u64;
            }
            walk.pace.worked(started.elapsed() + PAGE_COST);
            ended = ended.and(self.carry_out(walk, due).await?);
            walk.pace.rest().await;
            reached = page.next;
            if reached.is_none() || ended == Ended::Stale {
                return Ok(ended);
            }
        }
    }

    async fn uploads(
        &self,
        walk: &mut Walk<'_>,
        owned: OwnedVshard,
        prefix: &Bytes,
    ) -> Result<Ended, KvError> {
        let mut ended = Ended::Whole;
        let mut after: Option<(Bytes, UploadName)> = None;
        loop {
            let view = walk.group.read().await?;
            let started = clock::now();
            let (vshard, bucket) = (owned.vshard, walk.bucket.id);
            let page = read::aging_uploads(&*view, vshard, bucket, prefix, after.as_ref(), PAGE);
            let page = page.map_err(unreadable)?;
            drop(view);
            let is_due = |(key, _, created_ms): &&(Bytes, UploadName, u64)| {
                walk.rules.upload_is_due(walk.now_ms, key, *created_ms)
            };
            let due = page
                .iter()
                .filter(is_due)
                .map(|(key, name, _)| wire::Expire {
                    target: Some(walk.target(&owned, key)),
                    what: Some(What::Upload(Bytes::copy_from_slice(name))),
                    ..wire::Expire::default()
                });
            let due = due.collect();
            self.counts.lock().seen += page.len() as u64;
            walk.pace.worked(started.elapsed() + PAGE_COST);
            ended = ended.and(self.carry_out(walk, due).await?);
            walk.pace.rest().await;
            if page.len() < PAGE || ended == Ended::Stale {
                return Ok(ended);
            }
            after = page
                .into_iter()
                .next_back()
                .map(|(key, name, _)| (key, name));
        }
    }

    /// Has the group agree on what is due.
    async fn carry_out(
        &self,
        walk: &mut Walk<'_>,
        due: Vec<wire::Expire>,
    ) -> Result<Ended, KvError> {
        let mut ended = Ended::Whole;
        for some in due.chunks(BATCH) {
            let agreed = some
                .iter()
                .map(|expire| walk.group.own(Body::Expire(expire.clone())));
            for (expire, answer) in some.iter().zip(join_all(agreed).await) {
                ended = ended.and(self.count(expire, answer?));
            }
            walk.pace.worked(ENTRY_COST * some.len() as u32);
            if ended == Ended::Stale {
                break;
            }
            walk.pace.rest().await;
        }
        Ok(ended)
    }

    fn count(&self, expire: &wire::Expire, answer: Answer) -> Ended {
        let mut counts = self.counts.lock();
        match answer {
            Answer::Done(Done::Deleted(deleted)) if deleted.existed => match expire.what {
                Some(What::Newest(_)) => counts.objects += 1,
                Some(What::Noncurrent(_)) => counts.noncurrent += 1,
                Some(What::LoneMarker(_)) => counts.markers += 1,
                Some(What::Upload(_)) => counts.uploads += 1,
                None => {}
            },
            Answer::Done(_) => counts.overtaken += 1,
            Answer::Refused(Refusal::Locked) => counts.protected += 1,
            Answer::Refused(Refusal::NoSuchBucket) => return Ended::Stale,
            Answer::Refused(refusal) => {
                counts.overtaken += 1;
                tracing::warn!(%refusal, "something that has come of age stays");
            }
            Answer::TryAgain(
                TryAgain::StaleEpoch(_) | TryAgain::FactsBehind(_) | TryAgain::Moved(_),
            ) => return Ended::Stale,
            Answer::TryAgain(_) => {
                counts.waiting += 1;
                return Ended::Waiting;
            }
        }
        Ended::Whole
    }
}

impl Walk<'_> {
    fn target(&self, owned: &OwnedVshard, key: &[u8]) -> wire::Target {
        debug_assert_eq!(VShard::of(self.bucket.id, key), owned.vshard);
        wire::Target {
            bucket: self.bucket.id.0,
            key: Bytes::copy_from_slice(key),
            epoch: self.bucket.epoch,
            vshard_epoch: owned.epoch,
        }
    }
}

/// How long to rest for what was done.
#[derive(Default)]
struct Pace {
    worked: Duration,
}

impl Pace {
    fn worked(&mut self, so_long: Duration) {
        self.worked += so_long;
    }

    async fn rest(&mut self) {
        if self.worked >= STINT {
            clock::sleep(self.worked * REST).await;
            self.worked = Duration::ZERO;
        }
    }
}
