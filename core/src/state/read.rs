//! Typed looks at a view: what readers, leaders and sweepers ask of a group's state.
//!
//! Always true:
//! * what cannot be decoded is damage, never "absent";
//! * a key under an undecided intent is not answered: the caller asks the coordinator and looks again.

use std::collections::BTreeMap;

use bytes::Bytes;
use minikv_proto::row;
use prost::Message;

use crate::engine::{EngineError, View};
use crate::ids::{
    BucketId, GroupId, PayloadId, StageId, TenantId, TxnId, UploadId, VShard, VersionId,
};
use crate::kv::{Bucket, NewVersion, Part, Parts, Upload, Version, VersionSelector, Versioning};
use crate::state::answer::{bucket_of_row, versioning_of_row};
use crate::state::intent::{TxnRef, TxnState};
use crate::state::keys::{self, KeyRange};
use crate::state::ledger::{damaged, decode};
use crate::state::record::{ChunkRun, Content, Malformed, payload_of_row};

/// What coordinators said of the transactions that a reader met. "No record" is not in here: then the reader looks at
/// the key again, and if the intent is still there has the abort agreed.
pub type Decided = BTreeMap<TxnId, TxnState>;

/// A look at something that a transaction may be about to change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Look<T> {
    /// This is there.
    At(T),
    /// Ask these transactions' coordinators, then look again with what they said.
    Ask(Vec<TxnRef>),
}

// ---- rows ----

fn row<M: Message + Default>(view: &dyn View, key: &Bytes) -> Result<Option<M>, EngineError> {
    view.get(key)?.map(|row| decode(key, row)).transpose()
}

fn sound<T>(key: &[u8], parsed: Result<T, Malformed>) -> Result<T, EngineError> {
    parsed.map_err(|malformed| damaged(key, malformed.0))
}

/// Rows of a range, read back from key and message.
fn rows<'a, M: Message + Default, T: 'a>(
    view: &'a dyn View,
    range: KeyRange,
    make: impl Fn(&Bytes, M) -> Option<T> + 'a,
) -> impl Iterator<Item = Result<T, EngineError>> + 'a {
    view.scan(&range.from, &range.to).map(move |found| {
        let (key, row) = found?;
        let message = decode(&key, row)?;
        make(&key, message).ok_or_else(|| damaged(&key, "a row that makes no sense"))
    })
}

// ---- objects ----

/// A version as `kv` speaks of it.
pub(super) fn version_of_row(
    vshard: VShard,
    bucket: BucketId,
    key: Bytes,
    version: row::Version,
    is_latest: bool,
) -> Result<Version, Malformed> {
    let content = Content::of_row(version.content.as_ref())?;
    Ok(Version {
        bucket,
        key,
        id: VersionId::seal(vshard, version.seq),
        is_null: version.null,
        is_latest,
        is_delete_marker: version.delete_marker,
        modified_ms: version.modified_ms,
        new: NewVersion {
            etag: version.etag,
            size: version.size,
            meta: version.meta,
        },
        parts: content.part_count(),
        content,
    })
}

/// What a reader sees under a key.
pub(super) struct Visible {
    /// Newest first: the newest version, and the one before it if a committed intent has not been carried out yet.
    pub newest: Vec<row::Version>,
    /// An older version that a committed intent has replaced.
    pub replaced_seq: Option<u64>,
    /// Sequence of the null version among the older ones; 0: it is not.
    pub null_seq: u64,
}

/// What a reader sees of a `current` row, as far as transactions are decided.
pub(super) fn visible(
    row_key: &[u8],
    current: row::Current,
    decided: &Decided,
) -> Result<Look<Visible>, EngineError> {
    let mut seen = Visible {
        newest: Vec::new(),
        replaced_seq: None,
        null_seq: current.null_seq,
    };
    let mut former = current.version;
    if let Some(intent) = current.intent
        && let Some(write) = intent.write
    {
        let txn = sound(row_key, TxnRef::of_row(&intent.txn.unwrap_or_default()))?;
        match (decided.get(&txn.id), write) {
            (None, _) => return Ok(Look::Ask(vec![txn])),
            (Some(TxnState::Pending | TxnState::Aborted), _) => {}
            (Some(TxnState::Committed), row::intent::Write::Put(version)) => {
                if version.null {
                    former = former.filter(|former| !former.null);
                    seen.replaced_seq = (current.null_seq != 0).then_some(current.null_seq);
                    seen.null_seq = 0;
                }
                seen.newest.push(version);
            }
            (Some(TxnState::Committed), row::intent::Write::Remove(_)) => {
                former = former.filter(|former| !former.null);
                seen.replaced_seq = (current.null_seq != 0).then_some(current.null_seq);
                seen.null_seq = 0;
            }
        }
    }
    seen.newest.extend(former);
    Ok(Look::At(seen))
}

/// One version of a key (a delete marker is one), if it is there.
pub fn version(
    view: &dyn View,
    bucket: BucketId,
    key: &Bytes,
    which: &VersionSelector,
    decided: &Decided,
) -> Result<Look<Option<Version>>, EngineError> {
    let vshard = VShard::of(bucket, key);
    let row_key = keys::current(vshard, bucket, key);
    let current: row::Current = row(view, &row_key)?.unwrap_or_default();
    let seen = match visible(&row_key, current, decided)? {
        Look::Ask(txns) => return Ok(Look::Ask(txns)),
        Look::At(seen) => seen,
    };
    let older = |seq: u64| -> Result<Option<row::Version>, EngineError> {
        if seq == 0 || Some(seq) == seen.replaced_seq {
            return Ok(None);
        }
        row(view, &keys::older(vshard, bucket, key, seq))
    };
    let latest = match seen.newest.first() {
        Some(newest) => Some(newest.clone()),
        // Only a committed removal that is not carried out leaves a key with older versions and no newest.
        None => newest_older(view, vshard, bucket, key, seen.replaced_seq)?,
    };
    let found = match which {
        VersionSelector::Current => latest.clone(),
        VersionSelector::Null => match seen.newest.iter().find(|version| version.null) {
            Some(null) => Some(null.clone()),
            None => older(seen.null_seq)?,
        },
        VersionSelector::Id(id) => match id.open(vshard) {
            None => None,
            Some(seq) => match seen.newest.iter().find(|version| version.seq == seq) {
                Some(version) => Some(version.clone()),
                None => older(seq)?,
            },
        },
    };
    let Some(found) = found else {
        return Ok(Look::At(None));
    };
    let is_latest = latest.is_some_and(|latest| latest.seq == found.seq);
    let version = sound(
        &row_key,
        version_of_row(vshard, bucket, key.clone(), found, is_latest),
    )?;
    Ok(Look::At(Some(version)))
}

fn newest_older(
    view: &dyn View,
    vshard: VShard,
    bucket: BucketId,
    key: &[u8],
    but: Option<u64>,
) -> Result<Option<row::Version>, EngineError> {
    let range = keys::olders_of_key(vshard, bucket, key);
    for version in rows(view, range, |_, version: row::Version| Some(version)).take(2) {
        let version = version?;
        if Some(version.seq) != but {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

// ---- uploads ----

/// An upload, open or completed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UploadState {
    /// As listings show it; without metadata once it is completed.
    pub upload: Upload,
    /// Raised by every part.
    pub counter: u64,
    /// It was completed: Complete answers the same again.
    pub is_completed: bool,
}

/// An upload of a key, if it is there and was not aborted.
pub fn upload(
    view: &dyn View,
    bucket: BucketId,
    key: &Bytes,
    id: UploadId,
) -> Result<Option<UploadState>, EngineError> {
    let vshard = VShard::of(bucket, key);
    let Some(name) = id.open() else {
        return Ok(None);
    };
    let Some(found) = row::<row::Upload>(view, &keys::upload(vshard, &name))? else {
        return Ok(None);
    };
    if found.freed || found.bucket != bucket.0 || found.key != *key {
        return Ok(None);
    }
    let is_completed = found.completed.is_some();
    let open_key = keys::open_upload(vshard, bucket, key, &name);
    let open: row::OpenUpload = match row(view, &open_key)? {
        Some(open) => open,
        None if is_completed => row::OpenUpload::default(),
        None => return Err(damaged(&open_key, "an open upload is not listed")),
    };
    let upload = Upload {
        key: key.clone(),
        id,
        created_ms: open.created_ms,
        meta: open.meta,
    };
    Ok(Some(UploadState {
        upload,
        counter: found.counter,
        is_completed,
    }))
}

/// At most `max` parts of an upload with numbers above `after`.
pub fn parts(
    view: &dyn View,
    bucket: BucketId,
    key: &Bytes,
    id: UploadId,
    after: u32,
    max: usize,
) -> Result<Option<Parts>, EngineError> {
    let Some(state) = upload(view, bucket, key, id)? else {
        return Ok(None);
    };
    let vshard = VShard::of(bucket, key);
    let name = id.open().unwrap_or_default();
    let mut found = Parts {
        counter: state.counter,
        ..Parts::default()
    };
    let Ok(from) = u16::try_from(after.saturating_add(1)) else {
        return Ok(Some(found));
    };
    let range = KeyRange {
        from: keys::part(vshard, &name, from),
        to: keys::parts(vshard, &name).to,
    };
    let part = |key: &Bytes, part: row::Part| {
        Some(Part {
            number: u32::from(keys::parse_part(key)?.1),
            etag: part.etag,
            size: part.size,
            modified_ms: part.modified_ms,
            meta: part.meta,
        })
    };
    for part in rows(view, range, part) {
        if found.parts.len() == max {
            found.truncated = true;
            break;
        }
        found.parts.push(part?);
    }
    Ok(Some(found))
}

/// The open uploads of a vshard: name and time of creation.
pub fn open_uploads(
    view: &dyn View,
    vshard: VShard,
) -> Result<Vec<(keys::UploadName, u64)>, EngineError> {
    let range = keys::all_open_uploads(vshard);
    rows(view, range, |key, open: row::OpenUpload| {
        Some((keys::parse_open_upload(key)?.2, open.created_ms))
    })
    .collect()
}

/// The bytes of one part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartContent {
    /// Its number.
    pub number: u32,
    /// Where its bytes begin in the object.
    pub offset: u64,
    /// Its length.
    pub size: u64,
    /// Where they are.
    pub content: Content,
}

/// The parts of a completed upload that hold bytes `range` of its object, in order.
pub fn part_contents(
    view: &dyn View,
    vshard: VShard,
    id: UploadId,
    listed: &[(u32, u32)],
    range: &std::ops::Range<u64>,
) -> Result<Vec<PartContent>, EngineError> {
    let name = id.open().ok_or_else(|| damaged(b"", "id of an upload"))?;
    let mut found = Vec::new();
    let mut offset = 0;
    for &(first, last) in listed {
        let number = |n: u32| u16::try_from(n).map_err(|_| damaged(b"", "number of a part"));
        let rows_of = KeyRange {
            from: keys::part(vshard, &name, number(first)?),
            to: keys::just_after(&keys::part(vshard, &name, number(last)?)),
        };
        let mut expected = first;
        for row in view.scan(&rows_of.from, &rows_of.to) {
            let (key, row) = row?;
            let (_, number) =
                keys::parse_part(&key).ok_or_else(|| damaged(&key, "key of a part"))?;
            if u32::from(number) != expected {
                return Err(damaged(&key, "a part before this one is missing"));
            }
            expected += 1;
            let part: row::Part = decode(&key, row)?;
            let end = offset + part.size;
            if offset < range.end && range.start < end {
                let content = sound(&key, Content::of_row(part.content.as_ref()))?;
                found.push(PartContent {
                    number: u32::from(number),
                    offset,
                    size: part.size,
                    content,
                });
            }
            offset = end;
            if offset >= range.end {
                return Ok(found);
            }
        }
        if expected != last + 1 {
            return Err(damaged(&rows_of.from, "a listed part is missing"));
        }
    }
    Ok(found)
}

// ---- stages, free list, what is named ----

/// An open stage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenStage {
    /// Its vshard.
    pub vshard: VShard,
    /// Its name.
    pub id: StageId,
    /// Who opened it.
    pub principal: Bytes,
    /// Bytes charged.
    pub reserved: u64,
    /// A prepared transaction holds it.
    pub held: bool,
}

fn stage_of_row(vshard: VShard, id: StageId, stage: row::Stage) -> OpenStage {
    OpenStage {
        vshard,
        id,
        principal: stage.principal,
        reserved: stage.reserved,
        held: stage.held_by.is_some(),
    }
}

/// A stage, if it is open.
pub fn stage(
    view: &dyn View,
    vshard: VShard,
    id: StageId,
) -> Result<Option<OpenStage>, EngineError> {
    Ok(row(view, &keys::stage(vshard, id))?.map(|stage| stage_of_row(vshard, id, stage)))
}

/// All open stages of a vshard.
pub fn stages(
    view: &dyn View,
    vshard: VShard,
) -> impl Iterator<Item = Result<OpenStage, EngineError>> + '_ {
    rows(view, keys::stages(vshard), move |key, stage| {
        Some(stage_of_row(vshard, keys::parse_stage(key)?, stage))
    })
}

/// An item of the free list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FreeItem {
    /// Log index of the entry that freed it.
    pub index: u64,
    /// Which of that entry's items.
    pub ordinal: u32,
    /// When, by the leader's clock of then.
    pub freed_ms: u64,
    /// Its bytes.
    pub content: Content,
}

/// The free list, oldest first, from what the entry at `index` freed on.
pub fn free_list(
    view: &dyn View,
    index: u64,
) -> impl Iterator<Item = Result<FreeItem, EngineError>> + '_ {
    rows(view, keys::frees_from(index), |key, free: row::Free| {
        let (index, ordinal) = keys::parse_free(key)?;
        let content = Content::of_row(free.content.as_ref()).ok()?;
        Some(FreeItem {
            index,
            ordinal,
            freed_ms: free.freed_ms,
            content,
        })
    })
}

/// Whether uploads wait to be moved to the free list (`AdvanceFree`).
pub fn has_free_uploads(view: &dyn View) -> Result<bool, EngineError> {
    let range = keys::free_uploads();
    view.scan(&range.from, &range.to)
        .next()
        .transpose()
        .map(|row| row.is_some())
}

/// Bytes that the state names: this node should have them, and nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Named {
    /// Whatever was written under an open stage.
    Stage(VShard, StageId),
    /// Chunks of a version, part or intent.
    Chunks(ChunkRun),
    /// Inline bytes of a version, part or intent.
    Payload(PayloadId),
    /// Chunks on the free list: kept until their release, but not fetched when they are missing.
    Free(ChunkRun),
    /// Inline bytes on the free list.
    FreePayload(PayloadId),
}

/// Tells everything that a vshard's rows name. A payload in several pieces is told more than once.
pub fn named_by_vshard(
    view: &dyn View,
    vshard: VShard,
    tell: &mut dyn FnMut(Named),
) -> Result<(), EngineError> {
    let range = keys::all_of_vshard(vshard);
    for found in view.scan(&range.from, &range.to) {
        let (key, row) = found?;
        if keys::parse_current(&key).is_some() {
            let current: row::Current = decode(&key, row)?;
            let intended = current.intent.and_then(|intent| match intent.write {
                Some(row::intent::Write::Put(version)) => Some(version),
                _ => None,
            });
            for version in current.version.into_iter().chain(intended) {
                tell_content(&key, version.content, tell)?;
            }
        } else if keys::parse_older(&key).is_some() {
            let version: row::Version = decode(&key, row)?;
            tell_content(&key, version.content, tell)?;
        } else if keys::parse_part(&key).is_some() {
            let part: row::Part = decode(&key, row)?;
            tell_content(&key, part.content, tell)?;
        } else if let Some(stage) = keys::parse_stage(&key) {
            tell(Named::Stage(vshard, stage));
        }
    }
    Ok(())
}

/// Tells everything that the free list names.
pub fn named_by_free_list(view: &dyn View, tell: &mut dyn FnMut(Named)) -> Result<(), EngineError> {
    for item in free_list(view, 0) {
        match item?.content {
            Content::Chunks(run) => tell(Named::Free(run)),
            Content::Inline { payload, .. } => tell(Named::FreePayload(payload)),
            Content::Empty | Content::Upload { .. } => {}
        }
    }
    Ok(())
}

fn tell_content(
    key: &[u8],
    content: Option<row::Content>,
    tell: &mut dyn FnMut(Named),
) -> Result<(), EngineError> {
    match content.and_then(|content| content.kind) {
        Some(row::content::Kind::Chunks(run)) => {
            tell(Named::Chunks(sound(key, ChunkRun::of_row(&run))?))
        }
        Some(row::content::Kind::Payload(piece)) => {
            tell(Named::Payload(sound(key, payload_of_row(&piece))?))
        }
        // Its part rows tell.
        Some(row::content::Kind::Upload(_)) | None => {}
    }
    Ok(())
}

// ---- the group ----

/// The group's incarnation; `None` before it was formed.
pub fn incarnation(view: &dyn View) -> Result<Option<u32>, EngineError> {
    Ok(row::<row::Group>(view, &keys::the_group())?.map(|group| group.incarnation))
}

/// A vshard that the group owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnedVshard {
    /// Which.
    pub vshard: VShard,
    /// Its epoch in the map.
    pub epoch: u64,
    /// It is about to move: no command applies.
    pub frozen: bool,
}

/// The vshards that the group owns, ascending.
pub fn vshards(view: &dyn View) -> Result<Vec<OwnedVshard>, EngineError> {
    let owned = |key: &Bytes, row: row::Vshard| {
        let frozen = row.state != row::VshardState::VshardOwned as i32;
        Some(OwnedVshard {
            vshard: keys::parse_vshard(key)?,
            epoch: row.epoch,
            frozen,
        })
    };
    rows(view, keys::vshards(), owned).collect()
}

/// One vshard, if the group owns it.
pub fn vshard(view: &dyn View, vshard: VShard) -> Result<Option<OwnedVshard>, EngineError> {
    let row: Option<row::Vshard> = row(view, &keys::vshard(vshard))?;
    Ok(row.map(|row| OwnedVshard {
        vshard,
        epoch: row.epoch,
        frozen: row.state != row::VshardState::VshardOwned as i32,
    }))
}

/// Who keeps the group's chunks.
pub fn members(view: &dyn View) -> Result<Vec<row::Member>, EngineError> {
    Ok(row::<row::Members>(view, &keys::members())?
        .unwrap_or_default()
        .members)
}

/// The short list: chunks from a first one on, of which members lack copies.
pub fn short_list(
    view: &dyn View,
) -> impl Iterator<Item = Result<(StageId, u32, row::Short), EngineError>> + '_ {
    rows(view, keys::shorts(), |key, short: row::Short| {
        let (stage, first) = keys::parse_short(key)?;
        Some((stage, first, short))
    })
}

/// A session. One that ended counts as unknown; its results are still being deleted.
pub fn session(view: &dyn View, id: u64) -> Result<Option<row::Session>, EngineError> {
    row(view, &keys::session(id))
}

/// All sessions.
pub fn sessions(view: &dyn View) -> Result<Vec<(u64, row::Session)>, EngineError> {
    rows(view, keys::sessions(), |key, session| {
        Some((keys::parse_session(key)?, session))
    })
    .collect()
}

/// What apply knows of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The bucket.
    pub bucket: BucketId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Raised by every change.
    pub epoch: u64,
    /// It was deleted.
    pub gone: bool,
    /// Versioning.
    pub versioning: Versioning,
}

/// A bucket's facts in this group, if it has any.
pub fn facts(view: &dyn View, bucket: BucketId) -> Result<Option<Facts>, EngineError> {
    let key = keys::bucket(bucket);
    let Some(facts) = row::<row::Bucket>(view, &key)?.and_then(|row| row.facts) else {
        return Ok(None);
    };
    Ok(Some(Facts {
        bucket,
        tenant: TenantId(facts.tenant),
        epoch: facts.epoch,
        gone: facts.gone,
        versioning: sound(&key, versioning_of_row(facts.versioning))?,
    }))
}

/// What a bucket uses in this group.
pub fn bucket_usage(view: &dyn View, bucket: BucketId) -> Result<row::Usage, EngineError> {
    let row: Option<row::Bucket> = row(view, &keys::bucket(bucket))?;
    Ok(row.and_then(|row| row.usage).unwrap_or_default())
}

/// What a tenant uses in this group.
pub fn tenant_usage(view: &dyn View, tenant: TenantId) -> Result<row::Usage, EngineError> {
    let row: Option<row::Tenant> = row(view, &keys::tenant(tenant))?;
    Ok(row.and_then(|row| row.usage).unwrap_or_default())
}

/// What all buckets use in this group.
pub fn usages(view: &dyn View) -> Result<Vec<(BucketId, row::Usage)>, EngineError> {
    let usage = |key: &Bytes, row: row::Bucket| {
        Some((keys::parse_bucket(key)?, row.usage.unwrap_or_default()))
    };
    rows(view, keys::buckets(), usage).collect()
}

/// A coordinator's record of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TxnRecord {
    /// The transaction.
    pub txn: TxnRef,
    /// What became of it.
    pub state: TxnState,
    /// Advice for those who meet its intents.
    pub deadline_ms: u64,
}

fn txn_of_row(record: row::Txn) -> Option<TxnRecord> {
    Some(TxnRecord {
        txn: TxnRef::of_row(&record.txn?).ok()?,
        state: TxnState::of_row(record.state).ok()?,
        deadline_ms: record.deadline_ms,
    })
}

/// The record of a transaction, if there is one.
pub fn txn(view: &dyn View, id: TxnId) -> Result<Option<TxnRecord>, EngineError> {
    let key = keys::txn(id);
    let Some(record) = row::<row::Txn>(view, &key)? else {
        return Ok(None);
    };
    txn_of_row(record)
        .map(Some)
        .ok_or_else(|| damaged(&key, "record of a transaction"))
}

/// All records of transactions.
pub fn txns(view: &dyn View) -> Result<Vec<TxnRecord>, EngineError> {
    rows(view, keys::txns(), |_, record| txn_of_row(record)).collect()
}

/// A part of a transaction that was prepared here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreparedPart {
    /// The transaction.
    pub txn: TxnRef,
    /// When it was prepared, by the leader's clock of then.
    pub prepared_ms: u64,
}

fn prepared_of_row(prepared: row::Prepared) -> Option<PreparedPart> {
    Some(PreparedPart {
        txn: TxnRef::of_row(&prepared.txn?).ok()?,
        prepared_ms: prepared.prepared_ms,
    })
}

/// The part of a transaction that is prepared here, if it is.
pub fn prepared(view: &dyn View, id: TxnId) -> Result<Option<PreparedPart>, EngineError> {
    let key = keys::prepared(id);
    let Some(prepared) = row::<row::Prepared>(view, &key)? else {
        return Ok(None);
    };
    prepared_of_row(prepared)
        .map(Some)
        .ok_or_else(|| damaged(&key, "prepared part"))
}

/// All parts of transactions that are prepared here.
pub fn prepareds(view: &dyn View) -> Result<Vec<PreparedPart>, EngineError> {
    rows(view, keys::prepareds(), |_, prepared| {
        prepared_of_row(prepared)
    })
    .collect()
}

// ---- the directory (group 0) ----

/// The cluster; `None` before it was founded.
pub fn cluster(view: &dyn View) -> Result<Option<row::Cluster>, EngineError> {
    row(view, &keys::cluster())
}

/// A bucket by its name.
pub fn bucket_by_name(view: &dyn View, name: &str) -> Result<Option<Bucket>, EngineError> {
    let key = keys::directory_bucket(name);
    let Some(found) = row::<row::DirectoryBucket>(view, &key)? else {
        return Ok(None);
    };
    sound(&key, bucket_of_row(found)).map(Some)
}

/// A bucket by its id.
pub fn bucket_by_id(view: &dyn View, id: BucketId) -> Result<Option<Bucket>, EngineError> {
    let Some(name) = row::<row::BucketName>(view, &keys::bucket_name(id))? else {
        return Ok(None);
    };
    bucket_by_name(view, &name.name)
}

/// The facts of a bucket as the directory has them, for `SetFacts`.
pub fn facts_to_push(view: &dyn View, id: BucketId) -> Result<Option<row::Facts>, EngineError> {
    let Some(name) = row::<row::BucketName>(view, &keys::bucket_name(id))? else {
        return Ok(None);
    };
    let Some(found) = row::<row::DirectoryBucket>(view, &keys::directory_bucket(&name.name))?
    else {
        return Ok(None);
    };
    Ok(Some(row::Facts {
        bucket: found.id,
        tenant: found.tenant,
        epoch: found.epoch,
        gone: false,
        versioning: found.versioning,
        lock: found.lock,
    }))
}

/// Buckets by name, after `after`.
pub fn buckets<'a>(
    view: &'a dyn View,
    after: &str,
) -> impl Iterator<Item = Result<Bucket, EngineError>> + 'a {
    let from = keys::just_after(&keys::directory_bucket(after));
    let range = KeyRange {
        from,
        to: keys::directory_buckets().to,
    };
    rows(view, range, |_, bucket| bucket_of_row(bucket).ok())
}

/// The transaction that is about to delete a bucket.
pub fn closing(view: &dyn View, name: &str) -> Result<Option<TxnRef>, EngineError> {
    let key = keys::directory_bucket(name);
    let found: Option<row::DirectoryBucket> = row(view, &key)?;
    let txn = found.and_then(|bucket| bucket.closing);
    sound(&key, txn.as_ref().map(TxnRef::of_row).transpose())
}

/// Changes of facts that some groups have not confirmed: bucket, epoch, groups that did.
pub fn pushes(view: &dyn View) -> Result<Vec<(BucketId, u64, Vec<GroupId>)>, EngineError> {
    let push = |key: &Bytes, push: row::Push| {
        let confirmed = push
            .confirmed
            .iter()
            .map(|&group| GroupId(group as u16))
            .collect();
        Some((keys::parse_push(key)?, push.epoch, confirmed))
    };
    rows(view, keys::pushes(), push).collect()
}

/// A credential by its access key.
pub fn credential(
    view: &dyn View,
    access_key: &str,
) -> Result<Option<row::Credential>, EngineError> {
    row(view, &keys::credential(access_key))
}

/// All credentials, with their access keys.
pub fn credentials(view: &dyn View) -> Result<Vec<(String, row::Credential)>, EngineError> {
    rows(view, keys::credentials(), |key, credential| {
        Some((keys::parse_credential(key)?.to_owned(), credential))
    })
    .collect()
}

/// A tenant's record.
pub fn tenant(view: &dyn View, id: TenantId) -> Result<Option<row::DirectoryTenant>, EngineError> {
    row(view, &keys::directory_tenant(id))
}

/// All tenants.
pub fn tenants(view: &dyn View) -> Result<Vec<row::DirectoryTenant>, EngineError> {
    rows(view, keys::directory_tenants(), |_, tenant| Some(tenant)).collect()
}

/// A row of one of the gateway's tables.
pub fn opaque(view: &dyn View, table: u8, key: &[u8]) -> Result<Option<row::Opaque>, EngineError> {
    row(view, &keys::opaque(table, key))
}

/// All nodes.
pub fn nodes(view: &dyn View) -> Result<Vec<row::Node>, EngineError> {
    rows(view, keys::nodes(), |_, node| Some(node)).collect()
}

/// The nodes of a group.
pub fn placement(view: &dyn View, group: GroupId) -> Result<Option<row::Placement>, EngineError> {
    row(view, &keys::placement(group))
}

/// The groups of all vshards, in the order of vshards.
pub fn vshard_homes(view: &dyn View) -> Result<Vec<row::VshardHome>, EngineError> {
    rows(view, keys::vshard_homes(), |_, home| Some(home)).collect()
}
