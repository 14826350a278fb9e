//! Rows of a group that lies elsewhere, as far as they were fetched, and what a look at them finds missing.
//!
//! ```text
//!   scan k..z asked for   k l m n            (the answer was full, or no more were asked for)
//!   the look went past n: wished n+..z  ──>  k l m n | o p q    attached: one scan
//! ```
//! Always true:
//! * all rows here are of one moment; who begins another one begins with nothing;
//! * what a look says while it found rows missing is worth nothing: a row that was not fetched is not a row that is not
//!   there.
//!
//! Elsewhere: whom to ask, and how often (`elsewhere`); what a member answers (`moments`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use minikv_proto::peer;
use parking_lot::Mutex;

use crate::engine::{EngineError, RowIter, View};
use crate::state::keys::just_after;

/// Rows of a scan that are fetched at first; then three times as many as are there already, whenever they are not enough.
const ROWS: u32 = 64;

/// What is to be fetched.
#[derive(Default)]
pub(super) struct Wishes {
    gets: BTreeSet<Bytes>,
    /// By range: how many rows.
    scans: BTreeMap<(Bytes, Bytes), u32>,
}

impl Wishes {
    pub(super) fn is_empty(&self) -> bool {
        self.gets.is_empty() && self.scans.is_empty()
    }

    /// As a question about this moment; 0: about a new one.
    pub(super) fn to_wire(&self, moment: u64) -> peer::Rows {
        let scan = |((from, to), most): (&(Bytes, Bytes), &u32)| peer::Scan {
            from: from.clone(),
            to: to.clone(),
            most: *most,
        };
        peer::Rows {
            gets: self.gets.iter().cloned().collect(),
            scans: self.scans.iter().map(scan).collect(),
            moment,
        }
    }
}

/// What was fetched.
#[derive(Default)]
pub(super) struct Rows {
    gets: BTreeMap<Bytes, Option<Bytes>>,
    /// By where they end.
    scans: BTreeMap<Bytes, Vec<Scan>>,
    bytes: usize,
}

struct Scan {
    from: Bytes,
    rows: Vec<(Bytes, Bytes)>,
    ended: bool,
}

impl Scan {
    /// Whether it tells what lies at `key`, which is before its end.
    fn reaches(&self, key: &[u8]) -> bool {
        let last = self.rows.last().map(|(last, _)| last);
        self.from[..] <= *key && (self.ended || last.is_some_and(|last| key <= &last[..]))
    }

    fn at(&self, key: &[u8]) -> usize {
        self.rows.partition_point(|(other, _)| &other[..] < key)
    }

    /// Where it goes on.
    fn next(&self) -> Bytes {
        let last = self.rows.last();
        last.map_or_else(|| self.from.clone(), |(last, _)| just_after(last))
    }
}

impl Rows {
    /// Bytes that are held here.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What `look` sees, and what it found missing; if something was, what it says is worth nothing.
    pub(super) fn seen_by<T>(&self, look: impl Fn(&dyn View) -> T) -> (T, Wishes) {
        let view = Fetched {
            rows: self,
            wishes: Mutex::default(),
        };
        let seen = look(&view);
        (seen, view.wishes.into_inner())
    }

    /// All that is here and `more`, to be asked for of another moment.
    pub(super) fn and(&self, mut more: Wishes) -> Wishes {
        more.gets.extend(self.gets.keys().cloned());
        for (to, scans) in &self.scans {
            for scan in scans {
                let further = more.scans.remove(&(scan.next(), to.clone()));
                let most = scan.rows.len() as u32 + further.unwrap_or(0);
                let range = (scan.from.clone(), to.clone());
                more.scans.insert(range, most.max(ROWS));
            }
        }
        more
    }

    /// Takes what came of `wishes`: as many of them as fitted into an answer, in their order. `false`: these are not answers
    /// to them, and nothing was taken.
    pub(super) fn take(&mut self, wishes: &Wishes, said: peer::RowsAre) -> bool {
        let (gets, scans) = (said.gets.len(), said.scans.len());
        let is_too_much = gets > wishes.gets.len() || scans > wishes.scans.len();
        if !said.refused.is_empty() || is_too_much || gets + scans == 0 {
            return false;
        }
        for (key, got) in wishes.gets.iter().zip(said.gets) {
            self.bytes += key.len() + got.row.as_ref().map_or(0, Bytes::len);
            self.gets.insert(key.clone(), got.row);
        }
        for ((from, to), said) in wishes.scans.keys().zip(said.scans) {
            let known = self.scans.entry(to.clone()).or_default();
            let going_on = known.iter().position(|scan| scan.next() == *from);
            let at = going_on.unwrap_or(known.len());
            if going_on.is_none() {
                known.push(Scan {
                    from: from.clone(),
                    rows: Vec::new(),
                    ended: false,
                });
            }
            known[at].ended = said.ended;
            for found in said.rows {
                self.bytes += found.key.len() + found.row.len();
                known[at].rows.push((found.key, found.row));
            }
        }
        true
    }
}

/// What was fetched, as a look sees it.
struct Fetched<'a> {
    rows: &'a Rows,
    wishes: Mutex<Wishes>,
}

impl View for Fetched<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if let Some(row) = self.rows.gets.get(key) {
            return Ok(row.clone());
        }
        let of_end = self.rows.scans.iter();
        let mut around = of_end.filter(|(to, _)| to.is_empty() || key < &to[..]);
        if let Some(scan) = around.find_map(|(_, scans)| scans.iter().find(|s| s.reaches(key))) {
            let found = scan.rows.get(scan.at(key));
            let found = found.filter(|(other, _)| &other[..] == key);
            return Ok(found.map(|(_, row)| row.clone()));
        }
        self.wishes.lock().gets.insert(Bytes::copy_from_slice(key));
        Ok(None)
    }

    fn scan<'b>(&'b self, from: &[u8], to: &[u8]) -> RowIter<'b> {
        if !to.is_empty() && from >= to {
            return Box::new(std::iter::empty());
        }
        let to = Bytes::copy_from_slice(to);
        let known = self.rows.scans.get(&to);
        let known = known.and_then(|known| {
            let mut known = known.iter();
            known.find(|scan| scan.from == from || scan.reaches(from))
        });
        let Some(known) = known else {
            let range = (Bytes::copy_from_slice(from), to);
            self.wishes.lock().scans.insert(range, ROWS);
            return Box::new(std::iter::empty());
        };
        let mut at = known.at(from);
        Box::new(std::iter::from_fn(move || {
            let found = known.rows.get(at).cloned();
            at += 1;
            if found.is_none() && !known.ended {
                let most = (known.rows.len() as u32).saturating_mul(3).max(ROWS);
                let range = (known.next(), to.clone());
                self.wishes.lock().scans.insert(range, most);
            }
            found.map(Ok)
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use prost::Message;

    use super::*;
    use crate::engine::walk::Walk;
    use crate::group::moments::{ANSWER, rows_of};

    struct Table(BTreeMap<Bytes, Bytes>);

    impl View for Table {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
            Ok(self.0.get(key).cloned())
        }

        fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> RowIter<'a> {
            let (from, to) = (Bytes::copy_from_slice(from), to.to_vec());
            let rows = self.0.range(from..);
            let rows = rows.take_while(move |(key, _)| to.is_empty() || key[..] < to[..]);
            Box::new(rows.map(|(key, row)| Ok((key.clone(), row.clone()))))
        }
    }

    /// What a look from elsewhere cost.
    struct Cost {
        questions: usize,
        bytes: usize,
        largest: usize,
    }

    /// Looks at a table as from elsewhere.
    fn from_elsewhere<T>(table: &Table, look: impl Fn(&dyn View) -> T) -> (T, Cost) {
        let (mut rows, mut moment) = (Rows::default(), 0);
        let mut cost = Cost {
            questions: 0,
            bytes: 0,
            largest: 0,
        };
        loop {
            let (seen, mut more) = rows.seen_by(&look);
            if more.is_empty() {
                return (seen, cost);
            }
            if moment == 0 {
                more = rows.and(more);
                rows = Rows::default();
            }
            let said = rows_of(table, &more.to_wire(moment)).unwrap();
            moment = moment.max(u64::from(said.is_full));
            let bytes = said.rows.encoded_len();
            cost.questions += 1;
            cost.bytes += bytes;
            cost.largest = cost.largest.max(bytes);
            assert!(cost.questions < 200, "it never ends");
            assert!(rows.take(&more, said.rows));
        }
    }

    fn table(rows: u32) -> Table {
        let row = |number: u32| {
            let key = Bytes::from(format!("key-{number:06}"));
            (key.clone(), key)
        };
        Table((0..rows).map(row).collect())
    }

    /// Rows of so many bytes in so many ranges.
    fn ranges(ranges: u32, rows: u32, bytes: usize) -> Table {
        let row = |number: u32| {
            let key = format!("{:03}/{:05}", number % ranges, number / ranges);
            (Bytes::from(key), Bytes::from(vec![b'r'; bytes]))
        };
        Table((0..ranges * rows).map(row).collect())
    }

    /// Whatever is looked at from elsewhere is seen as it is seen there, in few questions.
    #[test]
    fn a_look_from_elsewhere_sees_what_a_look_here_sees() {
        let table = table(3_000);
        let all = |view: &dyn View| -> Vec<Bytes> {
            let rows = view.scan(b"key-", b"key-~");
            rows.map(|row| row.unwrap().0).collect()
        };
        let (seen, cost) = from_elsewhere(&table, all);
        assert_eq!(seen, all(&table));
        assert!(cost.questions <= 4, "{}", cost.questions);
        // One row names the next.
        let chain = |view: &dyn View| -> Option<Bytes> {
            let mut key = Bytes::from_static(b"key-000001");
            for step in 0..4 {
                view.get(&key).unwrap()?;
                key = Bytes::from(format!("key-{:06}", 10 * (step + 1)));
            }
            view.get(&key).unwrap()
        };
        let (seen, cost) = from_elsewhere(&table, chain);
        assert_eq!((seen, cost.questions), (chain(&table), 5));
        let none = |view: &dyn View| view.get(b"other").unwrap();
        let (seen, cost) = from_elsewhere(&table, none);
        assert_eq!((seen, cost.questions), (None, 1));
        // Many ranges at once, and leaps within one.
        let many = |view: &dyn View| -> Vec<Option<Bytes>> {
            let first = |number: u32| {
                let from = format!("key-{number:06}");
                let mut rows = view.scan(from.as_bytes(), b"key-9");
                rows.next().map(|row| row.unwrap().0)
            };
            (0..100).map(|number| first(number * 37)).collect()
        };
        let (seen, cost) = from_elsewhere(&table, many);
        assert_eq!(seen, many(&table));
        assert!(cost.questions <= 3, "{}", cost.questions);
    }

    /// The parts of the largest upload come in messages of about 1 MiB, and nearly nothing comes twice.
    #[test]
    fn ten_thousand_parts_come_in_bounded_messages() {
        const ROW: usize = 1_200;
        let table = ranges(1, 10_000, ROW);
        let all = |view: &dyn View| view.scan(b"000/", b"001").map(Result::unwrap).count();
        let (seen, cost) = from_elsewhere(&table, all);
        assert_eq!(seen, 10_000);
        assert!(cost.largest < ANSWER + 100 * ROW, "{}", cost.largest);
        assert!(cost.bytes < 10_000 * ROW * 6 / 5, "{}", cost.bytes);
        assert!(cost.questions <= 17, "{}", cost.questions);
    }

    /// Thousands of single rows are answered in several messages, too.
    #[test]
    fn gets_that_do_not_fit_come_with_the_next_answer() {
        let table = ranges(1, 3_000, 1_000);
        let each = |view: &dyn View| {
            let keys = table.0.keys();
            keys.filter(|key| view.get(key).unwrap().is_some()).count()
        };
        let (seen, cost) = from_elsewhere(&table, each);
        assert_eq!(seen, 3_000);
        assert!(cost.largest < ANSWER + ANSWER / 10, "{}", cost.largest);
        assert!(cost.questions <= 4, "{}", cost.questions);
    }

    /// A page over all vshards goes on, however long its rows are: none of them has to wait until the others have everything.
    #[test]
    fn a_page_over_many_vshards_gets_rows_of_each() {
        for (row, most) in [(100, 2), (2_000, 12), (33_000, 100)] {
            let table = ranges(256, 100, row);
            // The first thousand of all, as a merge takes them.
            let page = |view: &dyn View| -> Vec<Bytes> {
                let mut scans: Vec<_> = (0..256)
                    .map(|range| {
                        let (from, to) = (format!("{range:03}/"), format!("{:03}", range + 1));
                        view.scan(from.as_bytes(), to.as_bytes())
                    })
                    .collect();
                let at = Cell::new(0);
                let turn = || {
                    at.set(at.get() + 1);
                    scans[(at.get() - 1) % 256].next()
                };
                let rows = std::iter::repeat_with(turn).take(1_000);
                rows.flatten().map(|row| row.unwrap().0).collect()
            };
            let (seen, cost) = from_elsewhere(&table, page);
            assert_eq!(seen, page(&table), "rows of {row}");
            assert!(cost.questions <= most, "{} of {row}", cost.questions);
            assert!(cost.largest < ANSWER + 200_000, "{}", cost.largest);
        }
    }

    /// Prefixes that are leaped over cost a question each at most, not one for each vshard.
    #[test]
    fn leaps_over_large_prefixes_come_to_an_end() {
        let table = ranges(32, 32 * 100, 300);
        let leaps = |view: &dyn View| -> Vec<Bytes> {
            let of_range = |range: u32| {
                let (from, to) = (format!("{range:03}/"), format!("{:03}", range + 1));
                let mut walk = Walk::new(view, from.as_bytes(), to.as_bytes());
                let mut seen = Vec::new();
                for prefix in 1..=32 {
                    seen.extend(walk.next().map(|row| row.unwrap().0));
                    walk.leap(format!("{range:03}/{:05}", prefix * 100).as_bytes());
                }
                seen
            };
            (0..32).flat_map(of_range).collect()
        };
        let (seen, cost) = from_elsewhere(&table, leaps);
        assert_eq!(seen, leaps(&table));
        assert!(cost.questions <= 64, "{}", cost.questions);
    }
}
