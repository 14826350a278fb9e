//! Listing objects, or all versions and delete markers, of the vshards of one group.

use bytes::Bytes;
use minikv_proto::row;

use crate::engine::walk::Walk;
use crate::engine::{EngineError, View};
use crate::ids::{BucketId, VShard};
use crate::kv::{ListItem, ListPage, ListPoint, ListRequest, Version};
use crate::state::keys::{self, KeyRange};
use crate::state::ledger::{damaged, decode};
use crate::state::list::{Halt, Line, RollUp, SOURCE_WORK, Source, Step, merge};
use crate::state::read::{Decided, Look, Visible, version_of_row, visible};

/// One page of a bucket's listing over these vshards of the group. `Ask`: a transaction must be decided first.
pub fn page(
    view: &dyn View,
    vshards: &[VShard],
    bucket: BucketId,
    request: &ListRequest,
    decided: &Decided,
) -> Result<Look<ListPage>, EngineError> {
    let roll_up = RollUp {
        prefix: &request.prefix,
        delimiter: &request.delimiter,
        after: &request.after,
    };
    let mut sources: Vec<Versions> = vshards
        .iter()
        .filter_map(|&vshard| Versions::begin(view, vshard, bucket, request, &roll_up, decided))
        .collect();
    let lines = match merge(&mut sources, &roll_up, request.max.clamp(1, 1000) as usize) {
        Ok(lines) => lines,
        Err(Halt::Engine(error)) => return Err(error),
        Err(Halt::Ask(txn)) => return Ok(Look::Ask(vec![txn])),
    };
    let items: Vec<ListItem> = lines
        .lines
        .into_iter()
        .map(|line| match line {
            Line::Item(version) => ListItem::Version(version),
            Line::Prefix(prefix) => ListItem::Prefix(prefix),
        })
        .collect();
    let resume = lines.truncated.then(|| match (lines.passed, items.last()) {
        (Some(after), _) => ListPoint {
            after,
            after_version: None,
        },
        (None, Some(last)) => point_after(last, request.versions),
        (None, None) => ListPoint {
            after: request.after.clone(),
            after_version: request.after_version,
        },
    });
    Ok(Look::At(ListPage {
        items,
        truncated: resume.is_some(),
        resume,
    }))
}

/// Where a page goes on that ended with `item`.
pub(super) fn point_after(item: &ListItem, versions: bool) -> ListPoint {
    match item {
        ListItem::Version(version) => ListPoint {
            after: version.key.clone(),
            after_version: versions.then_some(version.id),
        },
        ListItem::Prefix(prefix) => ListPoint {
            after: prefix.clone(),
            after_version: None,
        },
    }
}

/// The versions of one vshard's keys: newest first within a key.
struct Versions<'a> {
    vshard: VShard,
    bucket: BucketId,
    all_versions: bool,
    decided: &'a Decided,
    currents: Walk<'a>,
    olders: Olders<'a>,
    /// The key that is being told, and what is left to tell of its newest versions.
    key: Bytes,
    newest: std::vec::IntoIter<row::Version>,
    replaced_seq: Option<u64>,
    told: u32,
    /// Within this key only versions below this sequence.
    begin: Option<(Bytes, u64)>,
}

/// The older versions' rows, one ahead.
struct Olders<'a> {
    rows: Option<Walk<'a>>,
    next: Option<(Bytes, u64, row::Version)>,
}

impl<'a> Versions<'a> {
    fn begin(
        view: &'a dyn View,
        vshard: VShard,
        bucket: BucketId,
        request: &ListRequest,
        roll_up: &RollUp,
        decided: &'a Decided,
    ) -> Option<Versions<'a>> {
        let KeyRange { mut from, to } = keys::currents(vshard, bucket, &request.prefix);
        let mut olders = keys::olders(vshard, bucket, &request.prefix);
        let mut begin = None;
        let after = &request.after;
        if !after.is_empty() {
            let (past, past_olders) = if let Some(prefix) = roll_up.of(after) {
                (
                    keys::currents(vshard, bucket, prefix).to,
                    keys::olders(vshard, bucket, prefix).to,
                )
            } else if let Some(id) = request.after_version.filter(|_| request.versions) {
                // Of another vshard's key there is nothing to go on within; an id nobody gave out skips the key.
                match (VShard::of(bucket, after) == vshard)
                    .then(|| id.open(vshard))
                    .flatten()
                {
                    Some(seq) => {
                        begin = Some((after.clone(), seq));
                        let older = keys::just_after(&keys::older(vshard, bucket, after, seq));
                        (keys::current(vshard, bucket, after), older)
                    }
                    None => past_key(vshard, bucket, after),
                }
            } else {
                past_key(vshard, bucket, after)
            };
            from = from.max(past);
            olders.from = olders.from.max(past_olders);
        }
        if from >= to {
            return None;
        }
        let rows = (request.versions && olders.from < olders.to)
            .then(|| Walk::new(view, &olders.from, &olders.to));
        Some(Versions {
            vshard,
            bucket,
            all_versions: request.versions,
            decided,
            currents: Walk::new(view, &from, &to),
            olders: Olders { rows, next: None },
            key: Bytes::new(),
            newest: Vec::new().into_iter(),
            replaced_seq: None,
            told: 0,
            begin,
        })
    }

    /// Reads the next key.
    fn next_key(&mut self, work: &mut u32) -> Result<bool, Halt> {
        let Some(found) = self.currents.next() else {
            return Ok(false);
        };
        let (row_key, row) = found?;
        *work += 1;
        let Some((_, key)) = keys::parse_current(&row_key) else {
            return Err(damaged(&row_key, "key of a version").into());
        };
        let seen = match visible(&row_key, decode(&row_key, row)?, self.decided)? {
            Look::At(seen) => seen,
            Look::Ask(mut txns) => match txns.pop() {
                Some(txn) => return Err(Halt::Ask(txn)),
                None => return Err(damaged(&row_key, "intent").into()),
            },
        };
        let Visible {
            mut newest,
            replaced_seq,
            ..
        } = seen;
        self.told = 0;
        if let Some((_, seq)) = self.begin.take_if(|(begin, _)| *begin == key) {
            let before = newest.len();
            newest.retain(|version| version.seq < seq);
            self.told += (before - newest.len()) as u32;
            // What was told before this page was newer still.
            self.told = self.told.max(1);
        }
        self.key = key;
        self.newest = newest.into_iter();
        self.replaced_seq = replaced_seq;
        Ok(true)
    }

    fn tell(&mut self, version: row::Version) -> Result<Step<Box<Version>>, Halt> {
        let is_latest = self.told == 0;
        self.told += 1;
        let key = self.key.clone();
        let version = version_of_row(self.vshard, self.bucket, key.clone(), version, is_latest)
            .map_err(|malformed| damaged(&key, malformed.0))?;
        Ok(Step::Item(key, Box::new(version)))
    }

    /// The next older version of this key.
    fn next_older(&mut self, work: &mut u32) -> Result<Option<row::Version>, Halt> {
        loop {
            if self.olders.next.is_none()
                && let Some(found) = self.olders.rows.as_mut().and_then(Iterator::next)
            {
                let (row_key, row) = found?;
                *work += 1;
                let parsed = keys::parse_older(&row_key);
                let (_, key, seq) = parsed.ok_or_else(|| damaged(&row_key, "key of a version"))?;
                self.olders.next = Some((key, seq, decode(&row_key, row)?));
            }
            let of_this_key = |(key, ..): &mut (Bytes, u64, row::Version)| *key == self.key;
            match self.olders.next.take_if(of_this_key) {
                Some((_, seq, _)) if Some(seq) == self.replaced_seq => {}
                Some((_, _, version)) => return Ok(Some(version)),
                None => return Ok(None),
            }
        }
    }
}

fn past_key(vshard: VShard, bucket: BucketId, key: &[u8]) -> (Bytes, Bytes) {
    (
        keys::just_after(&keys::current(vshard, bucket, key)),
        keys::olders_of_key(vshard, bucket, key).to,
    )
}

impl Source for Versions<'_> {
    // Boxed: an item moves through a heap and two merges before it is told.
    type Item = Box<Version>;

    fn next(&mut self, work: &mut u32) -> Result<Step<Box<Version>>, Halt> {
        let mut passed = 0;
        loop {
            if self.all_versions {
                if let Some(version) = self.newest.next() {
                    return self.tell(version);
                }
                if let Some(version) = self.next_older(work)? {
                    return self.tell(version);
                }
            } else if let Some(newest) = self.newest.next().filter(|newest| !newest.delete_marker) {
                // The rest of this key is older.
                self.newest = Vec::new().into_iter();
                return self.tell(newest);
            }
            if passed >= SOURCE_WORK {
                return Ok(Step::Passed(self.key.clone()));
            }
            if !self.next_key(work)? {
                return Ok(Step::End);
            }
            passed += 1;
        }
    }

    fn skip_past(&mut self, prefix: &[u8]) {
        let past = keys::currents(self.vshard, self.bucket, prefix).to;
        self.currents.leap(&past);
        self.newest = Vec::new().into_iter();
        if let Some(rows) = &mut self.olders.rows {
            rows.leap(&keys::olders(self.vshard, self.bucket, prefix).to);
            self.olders.next = None;
        }
        // `key` stays behind the rows that follow, so no older row is taken for its own.
        self.key = Bytes::new();
    }
}
