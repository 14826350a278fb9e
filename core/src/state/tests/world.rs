//! One group's state under test. Every entry is applied twice (same bytes?), every change is checked against the rules
//! that hold for all entries, and the world keeps its own books of payloads and chunks.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use minikv_proto::entry as wire;
use minikv_proto::row;

use crate::engine::digest;
use crate::engine::{EngineError, RowIter, View};
use crate::ids::{BucketId, GroupId, NodeId, PayloadId, StageId, UploadId, VShard};
use crate::kv::{
    Bucket, Conditions, ListItem, ListPage, ListRequest, Lock, NewVersion, Staged, Version,
    VersionSelector, Versioning, Written,
};
use crate::state::answer::{Answer, Completed, Done, versioning_to_row};
use crate::state::apply::{Applied, Dropped, GroupContext, MAX_OPERATIONS, apply};
use crate::state::entry::{self, Body, Entry};
use crate::state::read::{self, Decided, Look, Named};
use crate::state::record::{ChunkRun, Copies};
use crate::state::{list_versions, usage};

/// Rows in memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Rows(pub BTreeMap<Bytes, Bytes>);

impl View for Rows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> RowIter<'a> {
        let up_to = Bytes::copy_from_slice(to);
        let from_on = self.0.range(Bytes::copy_from_slice(from)..);
        let rows = from_on.take_while(move |(key, _)| up_to.is_empty() || **key < up_to);
        Box::new(rows.map(|(key, row)| Ok((key.clone(), row.clone()))))
    }
}

pub const GROUP: GroupId = GroupId(1);
pub const NODE: NodeId = NodeId(1);
pub const TENANT: u64 = 1;
/// The first entry forms the group: since then its founder is a member.
const FORMED: u64 = 1;

/// A group with all vshards, one member, one session.
#[derive(Clone)]
pub struct World {
    pub rows: Rows,
    pub group: GroupId,
    pub index: u64,
    pub now_ms: u64,
    pub digest: u128,
    /// Bytes that this node holds because of what was applied.
    payloads: BTreeSet<PayloadId>,
    runs: BTreeSet<StageId>,
    pub facts: BTreeMap<BucketId, row::Facts>,
    /// Whether every entry is applied twice.
    pub twice: bool,
}

impl World {
    pub fn new() -> World {
        World::of(GROUP, (0..=255).collect())
    }

    pub fn of(group: GroupId, vshards: Vec<u32>) -> World {
        let mut world = World {
            rows: Rows::default(),
            group,
            index: 0,
            now_ms: 1_000_000,
            digest: 0,
            payloads: BTreeSet::new(),
            runs: BTreeSet::new(),
            facts: BTreeMap::new(),
            twice: true,
        };
        let form = wire::FormGroup {
            members: vec![NODE.0],
            vshards,
            vshard_epoch: 1,
            incarnation: 1,
        };
        world.done(Body::FormGroup(form));
        world
    }

    // ---- applying ----

    pub fn apply(&mut self, entry: &Entry) -> Applied {
        self.index += 1;
        self.apply_at(self.index, entry)
    }

    pub fn apply_at(&mut self, index: u64, entry: &Entry) -> Applied {
        let context = GroupContext {
            id: self.group,
            index,
            term: 7,
        };
        let applied = apply(&self.rows, &context, entry).unwrap();
        if self.twice {
            let again = apply(&self.rows, &context, entry).unwrap();
            assert_eq!(applied, again, "the same entry, another outcome");
        }
        assert!(
            applied.operations <= MAX_OPERATIONS,
            "{} operations: {:?}",
            applied.operations,
            entry.body
        );
        if matches!(applied.answer, Answer::TryAgain(_)) {
            assert!(
                applied.changes.is_empty(),
                "an answer to try again changed something: {:?}",
                applied.answer
            );
            assert!(applied.claimed.is_empty());
        }
        if entry.payload_len > 0 {
            self.payloads.insert(PayloadId {
                group: self.group,
                index,
                term: 7,
            });
        }
        for (key, row) in &applied.changes {
            match row {
                Some(row) => {
                    assert_ne!(
                        self.rows.0.get(key),
                        Some(row),
                        "a change that changes nothing"
                    );
                    self.rows.0.insert(key.clone(), row.clone());
                }
                None => assert!(
                    self.rows.0.remove(key).is_some(),
                    "deleted what was not there"
                ),
            }
        }
        self.digest = self.digest.wrapping_add(applied.digest);
        for run in &applied.claimed {
            self.runs.insert(run.stage);
        }
        for dropped in &applied.dropped {
            match dropped {
                Dropped::Payload(id) => assert!(self.payloads.remove(id), "{id:?} dropped twice"),
                Dropped::Chunks(run) => {
                    assert!(self.runs.remove(&run.stage), "{run:?} dropped twice")
                }
                Dropped::Stage(_, id) => {
                    self.runs.remove(id);
                }
            }
        }
        applied
    }

    pub fn entry(&mut self, body: Body, payload: &[u8]) -> Entry {
        self.now_ms += 10;
        Entry {
            now_ms: self.now_ms,
            command: None,
            payload_len: payload.len() as u32,
            body: Some(body),
        }
    }

    pub fn propose(&mut self, body: Body, payload: &[u8]) -> Answer {
        let entry = self.entry(body, payload);
        self.apply(&entry).answer
    }

    pub fn answer(&mut self, body: Body) -> Answer {
        self.propose(body, b"")
    }

    pub fn done(&mut self, body: Body) -> Done {
        match self.answer(body) {
            Answer::Done(done) => done,
            other => panic!("{other:?}"),
        }
    }

    // ---- rules that hold at any time ----

    /// Digest, usage, and what is held against what is named.
    pub fn check(&self) {
        assert_eq!(
            self.digest,
            digest::recompute(&self.rows).unwrap(),
            "digest"
        );
        let mut counted: BTreeMap<BucketId, row::Usage> =
            read::usages(&self.rows).unwrap().into_iter().collect();
        counted.retain(|_, usage| *usage != row::Usage::default());
        assert_eq!(
            counted,
            usage::recount::by_bucket(&self.rows),
            "usage is not what the rows say"
        );
        let mut of_tenant = row::Usage::default();
        for usage in counted.values() {
            of_tenant.bytes += usage.bytes;
            of_tenant.objects += usage.objects;
            of_tenant.versions += usage.versions;
            of_tenant.markers += usage.markers;
            of_tenant.uploads += usage.uploads;
            of_tenant.reserved += usage.reserved;
            of_tenant.reserved_versions += usage.reserved_versions;
        }
        let tenant = read::tenant_usage(&self.rows, crate::ids::TenantId(TENANT)).unwrap();
        assert_eq!(tenant, of_tenant, "usage of the tenant");

        let mut misses: BTreeMap<u64, u64> = BTreeMap::new();
        for item in read::short_list(&self.rows) {
            for node in item.unwrap().2.missing {
                *misses.entry(node).or_default() += 1;
            }
        }
        assert_eq!(
            read::misses(&self.rows).unwrap(),
            misses,
            "who misses how many"
        );

        let (mut payloads, mut runs) = (BTreeSet::new(), BTreeSet::new());
        let mut tell = |named: Named| match named {
            Named::Payload(id) | Named::FreePayload(id) => {
                payloads.insert(id);
            }
            Named::Chunks(run) | Named::Free(run) => {
                runs.insert(run.stage);
            }
            Named::Stage(..) => {}
        };
        for vshard in 0..=255 {
            read::named_by_vshard(&self.rows, VShard(vshard), &mut tell).unwrap();
        }
        read::named_by_free_list(&self.rows, &mut tell).unwrap();
        assert_eq!(payloads, self.payloads, "payloads named and held");
        assert_eq!(runs, self.runs, "chunks named and held");
    }

    // ---- buckets ----

    pub fn bucket(&mut self, id: u64, versioning: Versioning) -> BucketId {
        let epoch = self
            .facts
            .get(&BucketId(id))
            .map_or(1, |facts| facts.epoch + 1);
        let facts = row::Facts {
            bucket: id,
            tenant: TENANT,
            epoch,
            gone: false,
            versioning: versioning_to_row(versioning) as i32,
            lock: false,
            retention: None,
        };
        self.done(Body::SetFacts(wire::SetFacts { facts: Some(facts) }));
        self.facts.insert(BucketId(id), facts);
        BucketId(id)
    }

    pub fn epoch(&self, bucket: BucketId) -> u64 {
        self.facts.get(&bucket).map_or(0, |facts| facts.epoch)
    }

    pub fn target(&self, bucket: BucketId, key: &str) -> Option<wire::Target> {
        Some(wire::Target {
            bucket: bucket.0,
            key: Bytes::copy_from_slice(key.as_bytes()),
            epoch: self.epoch(bucket),
            vshard_epoch: 1,
        })
    }

    // ---- objects ----

    pub fn put_body(
        &self,
        bucket: BucketId,
        key: &str,
        data: &str,
        conditions: &Conditions,
    ) -> Body {
        Body::Put(wire::Put {
            target: self.target(bucket, key),
            conditions: entry::conditions(conditions),
            version: described(data),
            content: entry::inline(data.as_bytes()),
        })
    }

    /// The ETag of test objects is their data.
    pub fn put(&mut self, bucket: BucketId, key: &str, data: &str) -> Written {
        let body = self.put_body(bucket, key, data, &Conditions::default());
        match self.propose(body, data.as_bytes()) {
            Answer::Done(Done::Written(written)) => written,
            other => panic!("{other:?}"),
        }
    }

    pub fn delete_body(&self, bucket: BucketId, key: &str) -> Body {
        Body::Delete(wire::Delete {
            target: self.target(bucket, key),
            conditions: None,
        })
    }

    pub fn delete(&mut self, bucket: BucketId, key: &str) -> crate::kv::Deleted {
        match self.answer(self.delete_body(bucket, key)) {
            Answer::Done(Done::Deleted(deleted)) => deleted,
            other => panic!("{other:?}"),
        }
    }

    pub fn open_stage(
        &mut self,
        bucket: BucketId,
        key: &str,
        reserve: u64,
        upload: Option<UploadId>,
    ) -> StageId {
        let body = Body::OpenStage(wire::OpenStage {
            target: self.target(bucket, key),
            conditions: None,
            principal: Bytes::from_static(b"me"),
            reserve,
            upload: upload.map(name_of).unwrap_or_default(),
        });
        match self.answer(body) {
            Answer::Done(Done::Stage(stage)) => stage,
            other => panic!("{other:?}"),
        }
    }

    pub fn claim_body(
        &self,
        bucket: BucketId,
        key: &str,
        stage: StageId,
        etag: &str,
        len: u64,
    ) -> Body {
        Body::Put(wire::Put {
            target: self.target(bucket, key),
            conditions: None,
            version: sized(etag, len),
            content: chunks(bucket, key, stage, len),
        })
    }

    pub fn get(&self, bucket: BucketId, key: &str) -> Option<Version> {
        self.find(bucket, key, VersionSelector::Current)
    }

    pub fn find(&self, bucket: BucketId, key: &str, which: VersionSelector) -> Option<Version> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        match read::version(&self.rows, bucket, &key, &which, &Decided::new()).unwrap() {
            Look::At(version) => version,
            Look::Ask(txns) => panic!("held by {txns:?}"),
        }
    }

    pub fn page(&self, bucket: BucketId, request: &ListRequest) -> ListPage {
        let vshards: Vec<VShard> = (0..=255).map(VShard).collect();
        match list_versions::page(&self.rows, &vshards, bucket, request, &Decided::new()).unwrap() {
            Look::At(page) => page,
            Look::Ask(txns) => panic!("held by {txns:?}"),
        }
    }

    /// All pages of a listing.
    pub fn list(&self, bucket: BucketId, request: &ListRequest) -> Vec<ListItem> {
        let mut request = request.clone();
        let mut items = Vec::new();
        loop {
            let page = self.page(bucket, &request);
            assert!(page.items.len() <= request.max as usize);
            items.extend(page.items);
            match page.resume {
                Some(resume) => {
                    (request.after, request.after_version) = (resume.after, resume.after_version)
                }
                None => return items,
            }
        }
    }

    // ---- multipart ----

    pub fn create_upload(&mut self, bucket: BucketId, key: &str) -> UploadId {
        let create = wire::CreateUpload {
            target: self.target(bucket, key),
            meta: Bytes::from_static(b"m"),
            lock: None,
        };
        match self.answer(Body::CreateUpload(create)) {
            Answer::Done(Done::Upload(upload)) => upload,
            other => panic!("{other:?}"),
        }
    }

    pub fn part_body(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        number: u32,
        data: &str,
    ) -> Body {
        Body::ClaimPart(wire::ClaimPart {
            target: self.target(bucket, key),
            upload: name_of(upload),
            number,
            part: described(data),
            content: entry::inline(data.as_bytes()),
        })
    }

    pub fn part(
        &mut self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        number: u32,
        data: &str,
    ) -> u64 {
        match self.propose(
            self.part_body(bucket, key, upload, number, data),
            data.as_bytes(),
        ) {
            Answer::Done(Done::PartCounter(counter)) => counter,
            other => panic!("{other:?}"),
        }
    }

    /// A part of chunks.
    pub fn staged_part(
        &mut self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        number: u32,
        len: u64,
    ) -> u64 {
        let stage = self.open_stage(bucket, key, len, Some(upload));
        let body = Body::ClaimPart(wire::ClaimPart {
            target: self.target(bucket, key),
            upload: name_of(upload),
            number,
            part: sized("part", len),
            content: chunks(bucket, key, stage, len),
        });
        match self.answer(body) {
            Answer::Done(Done::PartCounter(counter)) => counter,
            other => panic!("{other:?}"),
        }
    }

    pub fn complete_body(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        counter: u64,
        parts: &[(u32, u32)],
        size: u64,
    ) -> Body {
        Body::CompleteUpload(wire::CompleteUpload {
            target: self.target(bucket, key),
            conditions: None,
            upload: name_of(upload),
            counter,
            parts: parts
                .iter()
                .map(|&(first, last)| row::PartRange { first, last })
                .collect(),
            version: sized("whole", size),
        })
    }

    pub fn complete(
        &mut self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        counter: u64,
        parts: &[(u32, u32)],
        size: u64,
    ) -> Completed {
        match self.answer(self.complete_body(bucket, key, upload, counter, parts, size)) {
            Answer::Done(Done::Completed(completed)) => completed,
            other => panic!("{other:?}"),
        }
    }

    pub fn abort_body(&self, bucket: BucketId, key: &str, upload: UploadId) -> Body {
        Body::AbortUpload(wire::AbortUpload {
            target: self.target(bucket, key),
            upload: name_of(upload),
        })
    }

    /// Moves and releases everything on the free list.
    pub fn release_all(&mut self) {
        while self.done(Body::AdvanceFree(wire::AdvanceFree {})) == Done::More(true) {}
        loop {
            let items: Vec<wire::FreeItem> = read::free_list(&self.rows, 0)
                .take(450)
                .map(|item| item.unwrap())
                .map(|item| wire::FreeItem {
                    index: item.index,
                    ordinal: item.ordinal,
                })
                .collect();
            if items.is_empty() {
                return;
            }
            self.done(Body::Release(wire::Release { items }));
        }
    }

    pub fn bytes_held(&self) -> (usize, usize) {
        (self.payloads.len(), self.runs.len())
    }

    pub fn open_session(&mut self) -> u64 {
        match self.done(Body::OpenSession(wire::OpenSession::default())) {
            Done::Session(session) => session,
            other => panic!("{other:?}"),
        }
    }

    /// As a command of a session.
    pub fn command(
        &mut self,
        session: u64,
        sequence: u64,
        lowest: u64,
        body: Body,
        payload: &[u8],
    ) -> Answer {
        let mut entry = self.entry(body, payload);
        entry.command = Some(wire::Command {
            session,
            sequence,
            lowest,
        });
        self.apply(&entry).answer
    }
}

pub fn name_of(upload: UploadId) -> Bytes {
    upload.open().unwrap().to_vec().into()
}

pub fn described(data: &str) -> Option<wire::NewVersion> {
    sized(data, data.len() as u64)
}

pub fn sized(etag: &str, size: u64) -> Option<wire::NewVersion> {
    entry::new_version(&NewVersion {
        etag: etag.to_owned(),
        size,
        meta: Bytes::from_static(b"meta"),
        tags: Bytes::new(),
        lock: Lock::default(),
    })
}

pub const CHUNK: u64 = 1000;

pub fn chunks(bucket: BucketId, key: &str, stage: StageId, len: u64) -> Option<wire::NewContent> {
    let run = ChunkRun {
        vshard: VShard::of(bucket, key.as_bytes()),
        stage,
        count: len.div_ceil(CHUNK) as u32,
        chunk_size: CHUNK as u32,
        len,
    };
    let copies = vec![Copies {
        first: 0,
        count: run.count,
        holders: [(NODE.0, FORMED)].into(),
    }];
    entry::staged(&Staged { stage, run, copies })
}

/// Keys of one vshard: copies among them share their bytes.
pub fn keys_of_one_vshard(bucket: BucketId, count: usize) -> Vec<String> {
    let same = |key: &String| VShard::of(bucket, key.as_bytes()) == VShard(77);
    (0..)
        .map(|n| format!("k/{n}"))
        .filter(same)
        .take(count)
        .collect()
}

pub fn directory_facts(bucket: &Bucket) -> row::Facts {
    row::Facts {
        bucket: bucket.id.0,
        tenant: bucket.tenant.0,
        epoch: bucket.epoch,
        gone: false,
        versioning: versioning_to_row(bucket.versioning) as i32,
        lock: bucket.lock.is_some(),
        retention: None,
    }
}

/// A linear congruential generator: the same history in every run, on every machine.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678_9ABC_DEF0)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0 >> 11) * u128::from(n)) >> 53) as u64
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}
