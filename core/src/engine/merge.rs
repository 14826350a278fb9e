//! Background merging: a few runs of like size become one, so that reads ask few runs and each row is rewritten
//! about log4 of (all bytes / bytes of one checkpoint) times.
//!
//! Only neighbours in age are merged, so that "the newer one speaks" stays true. Tombstones go when the oldest run takes
//! part: nothing older can come back from under them.
//!
//! Always true:
//! * a merge changes no row, no mark and no digest;
//! * a run that cannot be read is never merged: its damage must not be baked into a new one.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::EngineError;
use super::merged::{Merged, Source};
use super::run::{Run, RunMeta};
use super::run_cursor::RunCursor;
use super::run_store::RunStore;
use crate::env::clock::{self, Instant};

/// This many runs of like size are merged.
const WIDTH: usize = 4;
/// At most this many runs in a store, whatever their sizes.
const MOST_RUNS: usize = 8;
/// Runs below this size count as equal: they cost a look-up each and nearly nothing to rewrite.
const SMALL: u64 = 256 << 10;

/// What the choice looks at.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Bytes.
    pub len: u64,
    /// Live rows.
    pub rows: u64,
    /// Tombstones.
    pub tombstones: u64,
}

impl Size {
    fn of(meta: &RunMeta) -> Size {
        Size {
            len: meta.len,
            rows: meta.rows,
            tombstones: meta.tombstones,
        }
    }
}

/// Which neighbours to merge next, newest first; `None`: it is fine as it is.
pub fn choose(runs: &[Size]) -> Option<Range<usize>> {
    let tombstones: u64 = runs.iter().map(|run| run.tombstones).sum();
    let rows: u64 = runs.iter().map(|run| run.rows).sum();
    if runs.len() > 1 && tombstones > 1000 && tombstones > rows / 4 {
        return Some(0..runs.len());
    }
    for from in 0..runs.len() {
        let mut sum = runs[from].len.max(SMALL);
        let mut to = from + 1;
        while to < runs.len() && runs[to].len.max(SMALL) <= sum + sum / 2 {
            sum += runs[to].len.max(SMALL);
            to += 1;
        }
        if to - from >= WIDTH {
            return Some(from..to);
        }
    }
    // Sizes that never match would pile up; take the cheapest neighbours.
    let cost = |from: &usize| runs[*from].len + runs[*from + 1].len;
    let pairs = 0..runs.len().saturating_sub(1);
    if runs.len() > MOST_RUNS {
        pairs.min_by_key(cost).map(|from| from..from + 2)
    } else {
        None
    }
}

/// Keeps a writer at a number of bytes per second.
pub struct Pace {
    bytes_per_second: u64,
    since: Instant,
}

impl Pace {
    /// From now on; 0 means "as fast as it goes".
    pub fn new(bytes_per_second: u64) -> Pace {
        Pace {
            bytes_per_second,
            since: clock::now(),
        }
    }

    /// Waits until this many bytes may have been written.
    pub async fn reached(&mut self, bytes: u64) {
        if self.bytes_per_second == 0 {
            return;
        }
        let due = Duration::from_micros(bytes.saturating_mul(1_000_000) / self.bytes_per_second);
        let passed = self.since.elapsed();
        if due > passed {
            clock::sleep(due - passed).await;
        }
    }
}

/// All rows of these runs as one sorted sequence.
pub fn merged(inputs: &[Arc<Run>], tombstones: bool) -> Result<Merged, EngineError> {
    let mut sources = Vec::with_capacity(inputs.len());
    for run in inputs {
        let mut cursor = RunCursor::new(run.clone(), false);
        cursor.seek(&[])?;
        sources.push(Source::Run(Box::new(cursor)));
    }
    Ok(Merged::new(sources, &[], tombstones))
}

impl RunStore {
    /// Merges once if a merge is due; whether it was.
    pub async fn merge_once(&self, bytes_per_second: u64) -> Result<bool, EngineError> {
        let _alone = self.rewriting.lock().await;
        let set = self.set();
        let sizes: Vec<Size> = set.runs().iter().map(|run| Size::of(run.meta())).collect();
        let Some(range) = choose(&sizes) else {
            return Ok(false);
        };
        self.merge_range(range, bytes_per_second).await?;
        Ok(true)
    }

    /// Merges everything into one run without tombstones.
    pub async fn merge_all(&self, bytes_per_second: u64) -> Result<(), EngineError> {
        let _alone = self.rewriting.lock().await;
        let count = self.set().runs().len();
        self.merge_range(0..count, bytes_per_second).await
    }

    async fn merge_range(
        &self,
        range: Range<usize>,
        bytes_per_second: u64,
    ) -> Result<(), EngineError> {
        let set = self.set();
        let inputs = &set.runs()[range.clone()];
        if inputs.is_empty() {
            return Ok(());
        }
        let oldest_too = range.end == set.runs().len();
        let mut rows = merged(inputs, !oldest_too)?;
        let output = self
            .write_run(&mut rows, Some(&mut Pace::new(bytes_per_second)))
            .await?;
        let gone: Vec<_> = inputs.iter().map(|run| run.meta().id).collect();
        let replace = |manifest: &mut super::manifest::Manifest| {
            // New checkpoints came in front meanwhile; the inputs still stand side by side.
            let at = manifest.runs.iter().position(|run| run.id == gone[0]);
            let at = at
                .expect("only a merge or an install takes runs away, and this one holds the lock");
            manifest.runs.splice(at..at + gone.len(), output);
        };
        self.switch(replace, RunStore::publish).await.map(|_| ())
    }
}

/// Merges the stores of a node one after the other, as they ask for it.
pub struct Merger {
    bytes_per_second: u64,
    asked: Mutex<Vec<Weak<RunStore>>>,
    wake: Notify,
    closed: AtomicBool,
}

impl Merger {
    /// At most this many bytes per second; 0 means "as fast as it goes".
    pub fn new(bytes_per_second: u64) -> Arc<Merger> {
        Arc::new(Merger {
            bytes_per_second,
            asked: Mutex::default(),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
        })
    }

    /// This store has a new run.
    pub fn ask(&self, store: &Arc<RunStore>) {
        let mut asked = self.asked.lock();
        if !asked
            .iter()
            .any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(store)))
        {
            asked.push(Arc::downgrade(store));
        }
        drop(asked);
        self.wake.notify_one();
    }

    /// Ends `run` after the merge under way.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Serves until it is closed. Blocks on a real disk: run it on an env thread.
    pub async fn run(self: Arc<Self>) {
        while !self.closed.load(Ordering::Relaxed) {
            let next = {
                let mut asked = self.asked.lock();
                if asked.is_empty() {
                    None
                } else {
                    Some(asked.remove(0))
                }
            };
            let Some(store) = next else {
                self.wake.notified().await;
                continue;
            };
            let Some(store) = store.upgrade() else {
                continue;
            };
            match store.merge_once(self.bytes_per_second).await {
                Ok(true) => self.ask(&store),
                Ok(false) => {}
                // The next checkpoint asks again; nothing is lost meanwhile, reads only ask more runs.
                Err(error) => tracing::warn!(%error, "merge failed"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sizes(lens: &[u64]) -> Vec<Size> {
        lens.iter()
            .map(|len| Size {
                len: len << 20,
                rows: len * 1000,
                tombstones: 0,
            })
            .collect()
    }

    #[test]
    fn runs_of_like_size_are_merged_and_big_ones_left_alone() {
        assert_eq!(choose(&[]), None);
        assert_eq!(choose(&sizes(&[7, 7, 7])), None);
        assert_eq!(choose(&sizes(&[7, 7, 7, 7, 300])), Some(0..4));
        assert_eq!(choose(&sizes(&[1, 28, 30, 26, 33])), Some(1..5));
        assert_eq!(choose(&sizes(&[1, 4, 16, 64, 256])), None);
        assert_eq!(
            choose(&sizes(&[1, 3, 8, 20, 60, 160, 400, 1000, 2500])),
            Some(0..2)
        );
    }

    #[test]
    fn many_deletes_lead_to_a_full_merge() {
        let mut runs = sizes(&[1, 100]);
        runs[0].tombstones = 50_000;
        assert_eq!(choose(&runs), Some(0..2));
    }

    /// Ten thousand checkpoints of one size: the number of runs stays small and each byte is rewritten a few times.
    #[test]
    fn reads_stay_cheap_and_so_does_merging() {
        let (mut runs, mut rewritten, mut most) = (Vec::new(), 0, 0);
        for _ in 0..10_000 {
            runs.insert(
                0,
                Size {
                    len: 7 << 20,
                    rows: 50_000,
                    tombstones: 0,
                },
            );
            while let Some(range) = choose(&runs) {
                let len: u64 = runs[range.clone()].iter().map(|run| run.len).sum();
                rewritten += len;
                runs.splice(
                    range,
                    [Size {
                        len,
                        rows: len / 150,
                        tombstones: 0,
                    }],
                );
            }
            most = most.max(runs.len());
        }
        assert!(most <= MOST_RUNS + 4, "{most} runs");
        let times = rewritten as f64 / (10_000.0 * (7 << 20) as f64);
        assert!(times < 12.0, "each byte was rewritten {times} times");
    }
}
