//! What a member answers to a node that has none: rows of one moment, in as many answers as they need.
//!
//! ```text
//!   rows? ──────────────> a view of now, confirmed ── all fits ──────> rows
//!   rows? ──────────────> a view of now, confirmed ── full ── held ──> some rows, moment 7
//!   moment 7: rows? ────────────────────── the same view ────────────> more rows, moment 7
//! ```
//! Always true:
//! * an answer is of about `ANSWER` bytes and one row at most: bulk must not stand before a vote on the way to a peer, and a
//!   frame of a chunk is as large;
//! * it holds something that was asked for: whoever goes on asking gets everything;
//! * the number of a moment is drawn, so that one of an earlier run of this node, or of another node, is not known here;
//! * few moments are held, and none longer than `HOLD` after it was last asked about: a view keeps files and rows from going.
//!
//! Elsewhere: who asks (`elsewhere`).

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use minikv_proto::peer;
use parking_lot::Mutex;

use super::Group;
use crate::engine::{EngineError, View};
use crate::env::clock::{self, Instant};
use crate::env::{random, task};

/// Bytes of one answer, about.
pub(super) const ANSWER: usize = 1 << 20;
/// How long a moment is held that nobody asks about: as long as a question may take.
const HOLD: Duration = Duration::from_secs(3);
/// So many are held; then the one that was asked about longest ago goes, and who needs it begins again.
const HELD: usize = 64;

/// Moments that a member of a group holds for others.
#[derive(Default)]
pub(crate) struct Moments(Mutex<BTreeMap<u64, Held>>);

struct Held {
    view: Arc<dyn View>,
    asked: Instant,
}

impl Moments {
    fn hold(self: &Arc<Self>, view: Arc<dyn View>) -> u64 {
        // Never 0, which stands for a new one.
        let moment = random::u64().max(1);
        let asked = clock::now();
        let mut held = self.0.lock();
        let oldest = held.iter().min_by_key(|(_, held)| held.asked);
        let oldest = oldest.map(|(oldest, _)| *oldest);
        let gone = oldest.filter(|_| held.len() >= HELD);
        let gone = gone.and_then(|oldest| held.remove(&oldest));
        held.insert(moment, Held { view, asked });
        // What it kept goes outside the lock.
        drop(held);
        drop(gone);
        task::spawn(let_go_in_time(Arc::downgrade(self), moment));
        moment
    }

    fn find(&self, moment: u64) -> Option<Arc<dyn View>> {
        let mut held = self.0.lock();
        let held = held.get_mut(&moment)?;
        held.asked = clock::now();
        Some(held.view.clone())
    }

    /// How long it may still be held; `None`: it is not, any more.
    fn left(&self, moment: u64) -> Option<Duration> {
        let mut held = self.0.lock();
        let since = clock::now() - held.get(&moment)?.asked;
        let gone = (since >= HOLD).then(|| held.remove(&moment));
        drop(held);
        match gone {
            Some(_) => None,
            None => Some(HOLD - since),
        }
    }
}

async fn let_go_in_time(moments: Weak<Moments>, moment: u64) {
    let left = || moments.upgrade()?.left(moment);
    while let Some(left) = left() {
        clock::sleep(left).await;
    }
}

impl Group {
    /// What a node without a member is told.
    pub(crate) async fn rows_for_peer(&self, asked: peer::Rows) -> peer::RowsAre {
        self.rows_of_moment(asked).await.unwrap_or_else(refused)
    }

    async fn rows_of_moment(&self, asked: peer::Rows) -> Result<peer::RowsAre, String> {
        if asked.moment != 0 {
            let view = self.moments.find(asked.moment);
            let view = view.ok_or("that moment is not held any more")?;
            let answer = rows_of(&*view, &asked).map_err(|error| error.to_string())?;
            return Ok(peer::RowsAre {
                moment: asked.moment,
                ..answer.rows
            });
        }
        let view = self.read().await.map_err(|error| error.to_string())?;
        let Answer { mut rows, is_full } =
            rows_of(&*view, &asked).map_err(|error| error.to_string())?;
        if is_full {
            rows.moment = self.moments.hold(Arc::from(view));
        }
        Ok(rows)
    }
}

fn refused(why: String) -> peer::RowsAre {
    peer::RowsAre {
        refused: why,
        ..peer::RowsAre::default()
    }
}

pub(super) struct Answer {
    pub rows: peer::RowsAre,
    /// More was asked for than fits.
    pub is_full: bool,
}

pub(super) fn rows_of(view: &dyn View, asked: &peer::Rows) -> Result<Answer, EngineError> {
    let mut answer = Answer {
        rows: peer::RowsAre::default(),
        is_full: false,
    };
    let mut bytes = 0;
    for key in &asked.gets {
        if bytes >= ANSWER {
            answer.is_full = true;
            return Ok(answer);
        }
        let row = view.get(key)?;
        bytes += row.as_ref().map_or(0, Bytes::len);
        answer.rows.gets.push(peer::Got { row });
    }
    for (at, scan) in asked.scans.iter().enumerate() {
        if bytes >= ANSWER {
            answer.is_full = true;
            return Ok(answer);
        }
        // Each its share of what is left: a look goes on with all of them, and would wait for the last one.
        let share = bytes + (ANSWER - bytes) / (asked.scans.len() - at);
        let mut scanned = peer::Scanned::default();
        let mut rows = view.scan(&scan.from, &scan.to);
        loop {
            let has_all = scanned.rows.len() as u32 >= scan.most;
            let is_full = bytes >= share && !has_all;
            if (has_all || is_full) && !scanned.rows.is_empty() {
                answer.is_full |= is_full;
                break;
            }
            let Some(found) = rows.next() else {
                scanned.ended = true;
                break;
            };
            let (key, row) = found?;
            bytes += key.len() + row.len();
            scanned.rows.push(peer::Found { key, row });
        }
        answer.rows.scans.push(scanned);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::RowIter;
    use crate::env::sim::run;

    struct Nothing;

    impl View for Nothing {
        fn get(&self, _: &[u8]) -> Result<Option<Bytes>, EngineError> {
            Ok(None)
        }

        fn scan<'a>(&'a self, _: &[u8], _: &[u8]) -> RowIter<'a> {
            Box::new(std::iter::empty())
        }
    }

    /// However long a read takes, its moment is there while it goes on asking, and not for long after that.
    #[test]
    fn a_moment_is_held_until_nobody_asks_any_more() {
        run(1, async {
            let moments = Arc::new(Moments::default());
            let moment = moments.hold(Arc::new(Nothing));
            for _ in 0..10 {
                clock::sleep(HOLD * 9 / 10).await;
                assert!(moments.find(moment).is_some());
            }
            assert!(moments.find(moment + 1).is_none(), "of another run");
            clock::sleep(HOLD * 11 / 10).await;
            assert!(moments.0.lock().is_empty());
        });
    }

    /// However many ask, few moments are held: those that were asked about last.
    #[test]
    fn the_moment_that_nobody_asked_about_for_longest_goes_first() {
        run(2, async {
            let moments = Arc::new(Moments::default());
            let mut held = Vec::new();
            for _ in 0..HELD {
                held.push(moments.hold(Arc::new(Nothing)));
                clock::sleep(Duration::from_millis(1)).await;
            }
            assert!(moments.find(held[0]).is_some());
            moments.hold(Arc::new(Nothing));
            assert_eq!(moments.0.lock().len(), HELD);
            assert!(moments.find(held[0]).is_some());
            assert!(moments.find(held[1]).is_none());
        });
    }
}
