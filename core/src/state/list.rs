//! Listing: rows of many vshards merged into one ordered page, with whole prefixes rolled up.
//!
//! ```text
//!   vshard 3   a/1      b/7  c
//!   vshard 9       a/2            d      -->   a/  b/  c  d     (delimiter "/")
//!   vshard 17  a/9  b/2
//! ```
//! A rolled-up prefix is skipped by seeking past it, not by reading it. Work is bounded: a page may end early, in the
//! middle of many delete markers, and says where to go on.
//!
//! Always true:
//! * items come in byte order, each once, all after `after`;
//! * every key of these vshards up to the page's end was looked at.
//!
//! Elsewhere: versions and uploads as sources of items (`list_versions`, `list_uploads`), pages of several groups
//! (`list_merge`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;

use crate::engine::EngineError;
use crate::state::intent::TxnRef;

/// Rows that one page reads at most; then it says where to go on.
pub(super) const PAGE_WORK: u32 = 20_000;
/// Rows that a source passes over silently before it reports where it is.
pub(super) const SOURCE_WORK: u32 = 32;

/// What a source came to.
pub(super) enum Step<T> {
    /// An item under this key.
    Item(Bytes, T),
    /// Nothing to show up to this key; there may be more.
    Passed(Bytes),
    /// Nothing more.
    End,
}

/// Why a page could not be made.
pub(super) enum Halt {
    Engine(EngineError),
    /// A transaction must be decided first.
    Ask(TxnRef),
}

impl From<EngineError> for Halt {
    fn from(error: EngineError) -> Halt {
        Halt::Engine(error)
    }
}

/// The items of one vshard, in key order.
pub(super) trait Source {
    type Item;
    /// The next one. Counts the rows it reads.
    fn next(&mut self, work: &mut u32) -> Result<Step<Self::Item>, Halt>;
    /// Goes past everything that starts with `prefix`.
    fn skip_past(&mut self, prefix: &[u8]);
}

/// How keys are rolled up.
pub(super) struct RollUp<'a> {
    pub prefix: &'a [u8],
    pub delimiter: &'a [u8],
    pub after: &'a [u8],
}

impl RollUp<'_> {
    /// The prefix that stands for `key`, delimiter included, if it is rolled up.
    pub fn of<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let rest = key.strip_prefix(self.prefix)?;
        if self.delimiter.is_empty() {
            return None;
        }
        let at = rest
            .windows(self.delimiter.len())
            .position(|window| window == self.delimiter)?;
        Some(&key[..self.prefix.len() + at + self.delimiter.len()])
    }
}

/// One line: an item or a rolled-up prefix.
pub(super) enum Line<T> {
    Item(T),
    Prefix(Bytes),
}

/// A page in the making.
pub(super) struct Lines<T> {
    pub lines: Vec<Line<T>>,
    /// There is, or may be, more.
    pub truncated: bool,
    /// Everything up to this key was looked at, though the last line lies before it.
    pub passed: Option<Bytes>,
}

/// Merges the sources into at most `max` lines.
pub(super) fn merge<S: Source>(
    sources: &mut [S],
    roll_up: &RollUp,
    max: usize,
) -> Result<Lines<S::Item>, Halt> {
    let mut page = Lines {
        lines: Vec::new(),
        truncated: false,
        passed: None,
    };
    let mut work = 0;
    let mut heads: BinaryHeap<Reverse<(Bytes, usize)>> = BinaryHeap::with_capacity(sources.len());
    let mut items: Vec<Option<S::Item>> = sources.iter().map(|_| None).collect();
    for at in 0..sources.len() {
        pull(sources, at, &mut items, &mut heads, &mut work)?;
    }
    while let Some(Reverse((key, at))) = heads.pop() {
        let Some(item) = items[at].take() else {
            // This source has shown nothing up to `key`, and no other has anything before it.
            if work > PAGE_WORK {
                page.truncated = true;
                page.passed = Some(key);
                return Ok(page);
            }
            pull(sources, at, &mut items, &mut heads, &mut work)?;
            continue;
        };
        if let Some(prefix) = roll_up.of(&key) {
            if prefix > roll_up.after {
                if page.lines.len() == max {
                    page.truncated = true;
                    return Ok(page);
                }
                page.lines.push(Line::Prefix(key.slice_ref(prefix)));
            }
            let prefix = key.slice_ref(prefix);
            leave(sources, at, &prefix, &mut items, &mut heads, &mut work)?;
            while heads
                .peek()
                .is_some_and(|Reverse((next, _))| next.starts_with(&prefix))
            {
                if let Some(Reverse((_, at))) = heads.pop() {
                    items[at] = None;
                    leave(sources, at, &prefix, &mut items, &mut heads, &mut work)?;
                }
            }
            continue;
        }
        if page.lines.len() == max {
            page.truncated = true;
            return Ok(page);
        }
        page.lines.push(Line::Item(item));
        pull(sources, at, &mut items, &mut heads, &mut work)?;
    }
    Ok(page)
}

type Heads = BinaryHeap<Reverse<(Bytes, usize)>>;

/// Takes the next step of a source.
fn pull<S: Source>(
    sources: &mut [S],
    at: usize,
    items: &mut [Option<S::Item>],
    heads: &mut Heads,
    work: &mut u32,
) -> Result<(), Halt> {
    match sources[at].next(work)? {
        Step::Item(key, item) => {
            items[at] = Some(item);
            heads.push(Reverse((key, at)));
        }
        Step::Passed(key) => heads.push(Reverse((key, at))),
        Step::End => {}
    }
    Ok(())
}

/// Leaves a rolled-up prefix.
fn leave<S: Source>(
    sources: &mut [S],
    at: usize,
    prefix: &[u8],
    items: &mut [Option<S::Item>],
    heads: &mut Heads,
    work: &mut u32,
) -> Result<(), Halt> {
    sources[at].skip_past(prefix);
    pull(sources, at, items, heads, work)
}
