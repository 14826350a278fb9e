//! Versions of a key, as readers see them while transactions come and go.

use bytes::Bytes;
use minikv_proto::row;

use super::{Decided, Look, row, rows, sound};
use crate::engine::{EngineError, View};
use crate::ids::{BucketId, VShard, VersionId};
use crate::kv::{Lock, NewVersion, Version, VersionSelector};
use crate::state::intent::{TxnRef, TxnState};
use crate::state::keys::{self};
use crate::state::record::{Content, Malformed};

/// A version as `kv` speaks of it.
pub(in crate::state) fn version_of_row(
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
            tags: version.tags,
            lock: Lock::of_row(version.lock.as_ref())?,
        },
        parts: content.part_count(),
        content,
    })
}

/// What a reader sees under a key.
pub(in crate::state) struct Visible {
    /// Newest first: the newest version, and the one before it if a committed intent has not been carried out yet.
    pub newest: Vec<row::Version>,
    /// An older version that a committed intent has replaced.
    pub replaced_seq: Option<u64>,
    /// Sequence of the null version among the older ones; 0: it is not.
    pub null_seq: u64,
}

/// What a reader sees of a `current` row, as far as transactions are decided.
pub(in crate::state) fn visible(
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
    let mut seen = match visible(&row_key, current, decided)? {
        Look::Ask(txns) => return Ok(Look::Ask(txns)),
        Look::At(seen) => seen,
    };
    if *which == VersionSelector::Current && !seen.newest.is_empty() {
        let newest = seen.newest.swap_remove(0);
        let version = version_of_row(vshard, bucket, key.clone(), newest, true);
        return Ok(Look::At(Some(sound(&row_key, version)?)));
    }
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
