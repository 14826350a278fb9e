//! The group: its vshards, members, sessions, facts, usage, transactions.

use std::collections::BTreeMap;

use bytes::Bytes;
use minikv_proto::row;

use super::{row, rows, sound};
use crate::engine::{EngineError, View};
use crate::ids::{BucketId, StageId, TenantId, TxnId, VShard};
use crate::kv::Versioning;
use crate::state::answer::versioning_of_row;
use crate::state::intent::{TxnRef, TxnState};
use crate::state::keys::{self};
use crate::state::ledger::damaged;

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

/// Since which entry this node has been a member or a learner without a break, its life; 0: it is neither.
pub fn life(view: &dyn View, node: u64) -> Result<u64, EngineError> {
    let members = members(view)?;
    let member = members.iter().find(|member| member.node == node);
    Ok(member.map_or(0, |member| member.since_index))
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

/// How many items of the short list name each node.
pub fn misses(view: &dyn View) -> Result<BTreeMap<u64, u64>, EngineError> {
    let counted = rows(view, keys::shorts_of_nodes(), |key, row: row::ShortOf| {
        Some((keys::parse_short_of(key)?, row.items))
    });
    counted.collect()
}

/// Whether some member lacks chunks of this stage.
pub fn is_short(view: &dyn View, stage: StageId) -> Result<bool, EngineError> {
    let range = keys::shorts_of(stage);
    let first = view.scan(&range.from, &range.to).next();
    Ok(first.transpose()?.is_some())
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
}

fn txn_of_row(record: row::Txn) -> Option<TxnRecord> {
    Some(TxnRecord {
        txn: TxnRef::of_row(&record.txn?).ok()?,
        state: TxnState::of_row(record.state).ok()?,
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
