//! Reading ranges of the table of places: the frames of a stage, the items of a segment.
//!
//! The table goes on meanwhile: a range is read in pages, each as it was at some moment.

use std::collections::btree_map::IntoIter;
use std::iter::Peekable;
use std::ops::{Bound, Range};

use super::EngineError;
use super::merged::Merged;
use super::place_key::PlaceKey;
use super::places::{Inner, Rows, decode};
use crate::ids::{StageId, VShard};
use crate::log::Place;

/// So many rows of the overlay are taken at a time while it is locked.
const PAGE: usize = if cfg!(test) { 7 } else { 4096 };

impl Inner {
    /// Frames of a stage behind `after`, ascending, at most so many.
    pub(super) fn stage_rows(
        &self,
        vshard: VShard,
        stage: StageId,
        ordinals: Range<u32>,
        after: Option<PlaceKey>,
        most: usize,
    ) -> Result<Vec<(PlaceKey, Place)>, EngineError> {
        if ordinals.is_empty() {
            return Ok(Vec::new());
        }
        let first = PlaceKey::frame(vshard, stage, ordinals.start, 0);
        let last = PlaceKey::frame(vshard, stage, ordinals.end - 1, u32::MAX);
        let from = after.map_or(Bound::Included(first), Bound::Excluded);
        self.collect(from, &last.behind(), |_| true, most)
    }

    /// Rows of a range that `wanted` takes, ascending, at most so many.
    pub(super) fn collect(
        &self,
        mut from: Bound<PlaceKey>,
        to: &[u8],
        wanted: impl Fn(&Place) -> bool,
        most: usize,
    ) -> Result<Vec<(PlaceKey, Place)>, EngineError> {
        let mut found = Vec::new();
        loop {
            let (page, last) = self.page(from, to)?;
            for row in page {
                let (key, place) = row?;
                found.extend(place.filter(&wanted).map(|place| (key, place)));
                if found.len() == most {
                    return Ok(found);
                }
            }
            match last {
                Some(last) => from = Bound::Excluded(last),
                None => return Ok(found),
            }
        }
    }

    /// As much of the range as can be taken while the table is locked for a moment only, dropped rows included; and its
    /// last key if there may be more behind it.
    fn page(
        &self,
        from: Bound<PlaceKey>,
        to: &[u8],
    ) -> Result<(Page, Option<PlaceKey>), EngineError> {
        // Overlay before runs, as everywhere: a checkpoint moves rows the other way.
        let (mut newer, mut last) = (Rows::new(), None::<PlaceKey>);
        {
            let table = self.table.read();
            for rows in table
                .frozen
                .iter()
                .rev()
                .map(|rows| &**rows)
                .chain([&table.newest])
            {
                let rows = rows
                    .range((from, Bound::Unbounded))
                    .take_while(|(key, _)| to.is_empty() || key.bytes() < to);
                let taken: Vec<_> = rows.take(PAGE).map(|(key, place)| (*key, *place)).collect();
                if let (PAGE, Some((key, _))) = (taken.len(), taken.last()) {
                    last = Some(last.map_or(*key, |last| last.min(*key)));
                }
                newer.extend(taken);
            }
        }
        if let Some(last) = last {
            newer.retain(|key, _| *key <= last);
        }
        let run_from = match from {
            Bound::Included(key) => key.bytes().to_vec(),
            Bound::Excluded(key) => key.behind(),
            Bound::Unbounded => Vec::new(),
        };
        let run_to = last.map_or(to.to_vec(), |last| last.behind());
        let set = self.store.set();
        let mut sources = Vec::new();
        // A look through the whole table leaves the cache to those who look for single items.
        set.add_sources(&run_from, &run_to, !to.is_empty(), &mut sources)?;
        Ok((
            Page {
                newer: newer.into_iter().peekable(),
                older: Merged::new(sources, &run_to, false).peekable(),
            },
            last,
        ))
    }
}

/// Rows of the overlay over rows of the runs.
struct Page {
    newer: Peekable<IntoIter<PlaceKey, Option<Place>>>,
    older: Peekable<Merged>,
}

impl Iterator for Page {
    type Item = Result<(PlaceKey, Option<Place>), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let older = match self.older.peek() {
            Some(Ok((key, _))) => Some(PlaceKey::read(key)),
            Some(Err(error)) => Some(Err(error.clone())),
            None => None,
        };
        let older = match older.transpose() {
            Ok(older) => older,
            Err(error) => return Some(Err(error)),
        };
        match (self.newer.peek().map(|(key, _)| *key), older) {
            (Some(newer), older) if older.is_none_or(|older| newer <= older) => {
                if older == Some(newer) {
                    self.older.next();
                }
                self.newer.next().map(Ok)
            }
            (_, Some(key)) => {
                let row = self.older.next()?;
                Some(row.and_then(|(_, row)| Ok((key, Some(decode(&row)?)))))
            }
            _ => None,
        }
    }
}
