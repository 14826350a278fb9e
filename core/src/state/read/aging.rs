//! The versions of a bucket in one vshard, a page at a time, each with its rank among those of its key: what a
//! leader looks through for what has come of age.
//!
//! Always true:
//! * a page ends after a bounded number of rows, within a key if it must, and the next one goes on right there;
//! * a key that a transaction holds is passed over: what it will be is not known.

use bytes::Bytes;
use minikv_proto::row;

use crate::engine::{EngineError, View};
use crate::ids::{BucketId, VShard};
use crate::kv::lifecycle::{Aging, Rank};
use crate::state::keys::{self, KeyRange, UploadName};
use crate::state::ledger::{damaged, decode};

/// How far a walk over one prefix has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reached {
    /// All versions of this key.
    Key(Bytes),
    /// Within a key with very many versions.
    Within {
        /// The key.
        key: Bytes,
        /// Sequence of the last version that was seen.
        seq: u64,
        /// When that one was written.
        modified_ms: u64,
        /// Versions with content that were seen, but the newest.
        newer: u32,
    },
}

/// One page.
#[derive(Debug, Default)]
pub struct AgingPage {
    /// Where the next page begins; `None`: that was the last.
    pub next: Option<Reached>,
    /// Versions that were shown.
    pub seen: usize,
    /// Keys that a transaction holds.
    pub held: usize,
}

/// Shows the versions of all keys that start with `prefix`, from where the last page ended: sequence, version.
pub fn aging(
    view: &dyn View,
    vshard: VShard,
    bucket: BucketId,
    prefix: &[u8],
    from: Option<&Reached>,
    max_rows: usize,
    show: &mut dyn FnMut(u64, &Aging<'_>),
) -> Result<AgingPage, EngineError> {
    let mut page = AgingPage::default();
    let all = keys::currents(vshard, bucket, prefix);
    let all_older = keys::olders(vshard, bucket, prefix);
    let (after, within) = match from {
        None => (None, None),
        Some(Reached::Key(key)) => (Some(key), None),
        Some(Reached::Within {
            key,
            seq,
            modified_ms,
            newer,
        }) => {
            let line = Line {
                since_ms: *modified_ms,
                newer: *newer,
            };
            (Some(key), Some((*seq, line)))
        }
    };
    let mut rows = 0;
    if let (Some(key), Some((seq, line))) = (after, within) {
        let range = KeyRange {
            from: keys::just_after(&keys::older(vshard, bucket, key, seq)),
            to: keys::olders_of_key(vshard, bucket, key).to,
        };
        let mut olders = view.scan(&range.from, &range.to).peekable();
        page.next = line.run(key, &mut olders, &mut rows, max_rows, &mut page.seen, show)?;
        if page.next.is_some() {
            return Ok(page);
        }
    }
    let (from_current, from_older) = match after {
        None => (all.from, all_older.from),
        Some(key) => (
            keys::just_after(&keys::current(vshard, bucket, key)),
            keys::olders_of_key(vshard, bucket, key).to,
        ),
    };
    let mut olders = view.scan(&from_older, &all_older.to).peekable();
    let mut last = after.cloned();
    for found in view.scan(&from_current, &all.to) {
        if rows >= max_rows {
            page.next = last.map(Reached::Key);
            return Ok(page);
        }
        rows += 1;
        let (row_key, found) = found?;
        let (_, key) =
            keys::parse_current(&row_key).ok_or_else(|| damaged(&row_key, "key of an object"))?;
        let current: row::Current = decode(&row_key, found)?;
        let own = keys::olders_of_key(vshard, bucket, &key);
        // Whatever lies before has no newest version: a transaction is about to end there.
        while next_key(&mut olders)?.is_some_and(|older| *older < own.from) {
            rows += 1;
            olders.next();
        }
        let alone = next_key(&mut olders)?.is_none_or(|older| *older >= own.to);
        match (current.intent, current.version) {
            (None, Some(newest)) => {
                let rank = match (newest.delete_marker, alone) {
                    (false, _) => Some(Rank::Newest),
                    (true, true) => Some(Rank::LoneMarker),
                    (true, false) => None,
                };
                if let Some(rank) = rank {
                    page.seen += 1;
                    show(newest.seq, &aging_of(&key, &newest, rank));
                }
                let line = Line {
                    since_ms: newest.modified_ms,
                    newer: 0,
                };
                let mut of_key = std::iter::from_fn(|| {
                    olders.next_if(|row| row.as_ref().map_or(true, |(older, _)| *older < own.to))
                })
                .peekable();
                page.next =
                    line.run(&key, &mut of_key, &mut rows, max_rows, &mut page.seen, show)?;
                if page.next.is_some() {
                    return Ok(page);
                }
            }
            _ => page.held += 1,
        }
        last = Some(key);
    }
    Ok(page)
}

/// Where the versions of a key stand, newer ones first.
struct Line {
    since_ms: u64,
    newer: u32,
}

impl Line {
    fn run(
        mut self,
        key: &Bytes,
        olders: &mut std::iter::Peekable<impl Iterator<Item = Result<(Bytes, Bytes), EngineError>>>,
        rows: &mut usize,
        max_rows: usize,
        seen: &mut usize,
        show: &mut dyn FnMut(u64, &Aging<'_>),
    ) -> Result<Option<Reached>, EngineError> {
        while let Some(row) = olders.next() {
            let (row_key, row) = row?;
            let version: row::Version = decode(&row_key, row)?;
            let rank = Rank::Noncurrent {
                since_ms: self.since_ms,
                newer: self.newer,
                marker: version.delete_marker,
            };
            *rows += 1;
            *seen += 1;
            show(version.seq, &aging_of(key, &version, rank));
            self.since_ms = version.modified_ms;
            self.newer += u32::from(!version.delete_marker);
            if *rows >= max_rows && olders.peek().is_some() {
                return Ok(Some(Reached::Within {
                    key: key.clone(),
                    seq: version.seq,
                    modified_ms: self.since_ms,
                    newer: self.newer,
                }));
            }
        }
        Ok(None)
    }
}

fn aging_of<'a>(key: &'a Bytes, version: &'a row::Version, rank: Rank) -> Aging<'a> {
    Aging {
        key,
        modified_ms: version.modified_ms,
        size: version.size,
        meta: &version.meta,
        tags: &version.tags,
        rank,
    }
}

fn next_key(
    rows: &mut std::iter::Peekable<impl Iterator<Item = Result<(Bytes, Bytes), EngineError>>>,
) -> Result<Option<&Bytes>, EngineError> {
    match rows.peek() {
        None => Ok(None),
        Some(Ok((key, _))) => Ok(Some(key)),
        Some(Err(error)) => Err(error.clone()),
    }
}

/// The open uploads of keys that start with `prefix`: key, name, time of creation. At most `max`, after the one named.
pub fn aging_uploads(
    view: &dyn View,
    vshard: VShard,
    bucket: BucketId,
    prefix: &[u8],
    after: Option<&(Bytes, UploadName)>,
    max: usize,
) -> Result<Vec<(Bytes, UploadName, u64)>, EngineError> {
    let mut range = keys::open_uploads(vshard, bucket, prefix);
    if let Some((key, name)) = after {
        range.from = keys::just_after(&keys::open_upload(vshard, bucket, key, name));
    }
    let open = |key: &Bytes, open: row::OpenUpload| {
        let (_, key, name) = keys::parse_open_upload(key)?;
        Some((key, name, open.created_ms))
    };
    super::rows(view, range, open).take(max).collect()
}
