//! A group that lies on other nodes, as a node without a member of it sees it: commands go to whoever leads it, reads ask
//! for the rows that they need.
//!
//! ```text
//!   look(rows)     which rows does it ask for?  none yet ── fetch all of them, of one moment ── look again
//!                                                            └── until it asks for nothing that was not fetched
//! ```
//! Always true:
//! * an answer rests on rows of one moment, which a majority confirmed after the question: what was fetched before is
//!   fetched again together with what was missing;
//! * what a look says while rows were missing is thrown away: a row that was not fetched is not a row that is not there;
//! * nothing of such a group is kept here, and nobody is told anything about it from here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use minikv_proto::peer::{self, ask, reply};
use parking_lot::Mutex;

use super::Group;
use super::read::unreadable;
use crate::engine::damage::{Damage, Healed};
use crate::engine::export::Export;
use crate::engine::heal::ScrubPosition;
use crate::engine::incoming::Prepared;
use crate::engine::{Batch, BeforeDurable, CheckpointInfo, Engine, EngineError, RowIter, View};
use crate::env::clock;
use crate::group::roster::Roster;
use crate::ids::{GroupId, NodeId};
use crate::kv::KvError;

/// How long a read looks for somebody who answers.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long one question may take: its reader there may wait for a leader.
const ASK: Duration = Duration::from_secs(3);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);
/// A look that asks for more and more is given up after so many rounds.
const ROUNDS: usize = 40;
/// Rows of a scan that are fetched at first; four times as many whenever they are not enough.
const ROWS: u32 = 64;
/// Bytes of one answer, about.
const ANSWER: usize = 1 << 20;

/// The way to a group that lies elsewhere.
pub(crate) struct Elsewhere {
    roster: Arc<Roster>,
    /// Whom to ask as long as nothing is known.
    first: Vec<NodeId>,
    this: NodeId,
    /// Who answered last, or is said to lead; 0: nobody.
    hint: AtomicU64,
    turn: AtomicU64,
}

impl Elsewhere {
    pub(crate) fn new(roster: Arc<Roster>, first: Vec<NodeId>, this: NodeId) -> Elsewhere {
        Elsewhere {
            roster,
            first,
            this,
            hint: AtomicU64::new(0),
            turn: AtomicU64::new(0),
        }
    }

    /// Nodes that may have members, likely ones first.
    pub(crate) fn nodes(&self, group: GroupId) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.roster.with(|known| {
            let wanted = known.wanted(group).unwrap_or_default();
            let others = known.present().filter(|node| !wanted.contains(&node.0));
            wanted.iter().copied().map(NodeId).chain(others).collect()
        });
        if nodes.is_empty() {
            nodes = self.first.clone();
        }
        nodes.retain(|node| *node != self.this);
        nodes
    }

    /// Whom to ask next.
    pub(super) fn next(&self, group: GroupId) -> Option<NodeId> {
        match self.hint.load(Ordering::Relaxed) {
            0 => {
                let nodes = self.nodes(group);
                let turn = self.turn.load(Ordering::Relaxed);
                let at = turn % nodes.len().max(1) as u64;
                nodes.get(at as usize).copied()
            }
            node => Some(NodeId(node)),
        }
    }

    /// It did not work there.
    pub(super) fn turn_from(&self, node: NodeId) {
        let was = node.0;
        _ = self
            .hint
            .compare_exchange(was, 0, Ordering::Relaxed, Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// It works there, or should.
    pub(super) fn turn_to(&self, node: u64) {
        if node != self.this.0 {
            self.hint.store(node, Ordering::Relaxed);
        }
    }
}

impl Group {
    /// Looks at the group's rows as they are at some moment after this call, here or elsewhere. `look` may be called several
    /// times.
    pub(crate) async fn ask<T>(
        &self,
        look: impl Fn(&dyn View) -> Result<T, EngineError>,
    ) -> Result<T, KvError> {
        let Some(way) = &self.elsewhere else {
            let view = self.read().await?;
            return look(&*view).map_err(unreadable);
        };
        let mut wishes = Wishes::default();
        let mut rows = Rows::default();
        for _ in 0..ROUNDS {
            let (seen, more) = {
                let view = Fetched {
                    rows: &rows,
                    wishes: Mutex::default(),
                };
                let seen = look(&view);
                (seen, view.wishes.into_inner())
            };
            if more.is_empty() {
                return seen.map_err(unreadable);
            }
            wishes.join(more);
            // Boxed, as what is rare is: every read would carry its state about.
            rows = Box::pin(self.fetch(way, &wishes)).await?;
        }
        let why = format!("{}: too much is asked for from elsewhere", self.id);
        Err(KvError::Unavailable(why))
    }

    /// As `ask`, but of rows as this node has them now, if it has them.
    pub(crate) async fn glance<T>(
        &self,
        look: impl Fn(&dyn View) -> Result<T, EngineError>,
    ) -> Result<T, KvError> {
        match self.elsewhere {
            None => look(&*self.replica.view()).map_err(unreadable),
            Some(_) => Box::pin(self.ask(look)).await,
        }
    }

    async fn fetch(&self, way: &Elsewhere, wishes: &Wishes) -> Result<Rows, KvError> {
        let unavailable = |why: String| KvError::Unavailable(format!("{}: {why}", self.id));
        let peers = self.peers.as_ref();
        let peers = peers.ok_or_else(|| unavailable("this node has no peers".to_owned()))?;
        let deadline = clock::now() + PATIENCE;
        let mut why = "no node is known that has it".to_owned();
        loop {
            if let Some(node) = way.next(self.id) {
                let what = ask::What::Rows(wishes.to_wire());
                match peers.ask(node, self.id, what, ASK).await {
                    Ok(reply::What::Rows(said)) if said.refused.is_empty() => {
                        if let Some(rows) = wishes.answered(said) {
                            way.turn_to(node.0);
                            return Ok(rows);
                        }
                        why = "rows were asked for and others came".to_owned();
                    }
                    Ok(reply::What::Rows(said)) => why = said.refused,
                    Ok(_) => why = "no answer to the question".to_owned(),
                    Err(error) => why = error.to_string(),
                }
                way.turn_from(node);
            }
            if clock::now() >= deadline {
                return Err(unavailable(why));
            }
            clock::sleep(PAUSE).await;
        }
    }

    /// What a node without a member is told.
    pub(crate) async fn rows_for_peer(&self, asked: peer::Rows) -> peer::RowsAre {
        let refused = |why: String| peer::RowsAre {
            refused: why,
            ..peer::RowsAre::default()
        };
        let view = match self.read().await {
            Ok(view) => view,
            Err(error) => return refused(error.to_string()),
        };
        match rows_of(&*view, asked) {
            Ok(rows) => rows,
            Err(error) => refused(error.to_string()),
        }
    }
}

fn rows_of(view: &dyn View, asked: peer::Rows) -> Result<peer::RowsAre, EngineError> {
    let mut answer = peer::RowsAre::default();
    let mut bytes = 0;
    for key in asked.gets {
        let row = view.get(&key)?;
        bytes += row.as_ref().map_or(0, Bytes::len);
        answer.gets.push(peer::Got { row });
    }
    for scan in asked.scans {
        let mut scanned = peer::Scanned::default();
        let mut rows = view.scan(&scan.from, &scan.to);
        loop {
            // At least one, so that whoever asks for more gets more.
            let full = scanned.rows.len() as u32 >= scan.most || bytes >= ANSWER;
            if full && !scanned.rows.is_empty() {
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
        answer.scans.push(scanned);
    }
    Ok(answer)
}

/// What is to be fetched.
#[derive(Default)]
struct Wishes {
    gets: BTreeSet<Bytes>,
    /// By range: how many rows.
    scans: BTreeMap<(Bytes, Bytes), u32>,
}

impl Wishes {
    fn is_empty(&self) -> bool {
        self.gets.is_empty() && self.scans.is_empty()
    }

    fn join(&mut self, more: Wishes) {
        self.gets.extend(more.gets);
        for (range, most) in more.scans {
            let known = self.scans.entry(range).or_insert(0);
            *known = most.max(*known);
        }
    }

    fn to_wire(&self) -> peer::Rows {
        let scan = |((from, to), most): (&(Bytes, Bytes), &u32)| peer::Scan {
            from: from.clone(),
            to: to.clone(),
            most: *most,
        };
        peer::Rows {
            gets: self.gets.iter().cloned().collect(),
            scans: self.scans.iter().map(scan).collect(),
        }
    }

    /// `None`: these are not the answers to the questions.
    fn answered(&self, said: peer::RowsAre) -> Option<Rows> {
        if said.gets.len() != self.gets.len() || said.scans.len() != self.scans.len() {
            return None;
        }
        let gets = self.gets.iter().cloned();
        let scans = self.scans.iter().zip(said.scans);
        Some(Rows {
            gets: gets.zip(said.gets.into_iter().map(|got| got.row)).collect(),
            scans: scans
                .map(|(((from, to), most), scanned)| Scan {
                    from: from.clone(),
                    to: to.clone(),
                    most: *most,
                    rows: scanned
                        .rows
                        .into_iter()
                        .map(|found| (found.key, found.row))
                        .collect(),
                    ended: scanned.ended,
                })
                .collect(),
        })
    }
}

/// What was fetched.
#[derive(Default)]
struct Rows {
    gets: BTreeMap<Bytes, Option<Bytes>>,
    scans: Vec<Scan>,
}

struct Scan {
    from: Bytes,
    to: Bytes,
    most: u32,
    rows: Vec<(Bytes, Bytes)>,
    ended: bool,
}

impl Scan {
    /// Whether it tells what lies at `key`.
    fn reaches(&self, key: &[u8]) -> bool {
        let last = self.rows.last().map(|(last, _)| last);
        let is_inside = &self.from[..] <= key && (self.to.is_empty() || key < &self.to[..]);
        is_inside && (self.ended || last.is_some_and(|last| key <= &last[..]))
    }

    fn at(&self, key: &[u8]) -> usize {
        self.rows.partition_point(|(other, _)| &other[..] < key)
    }
}

struct Fetched<'a> {
    rows: &'a Rows,
    wishes: Mutex<Wishes>,
}

impl View for Fetched<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if let Some(row) = self.rows.gets.get(key) {
            return Ok(row.clone());
        }
        if let Some(scan) = self.rows.scans.iter().find(|scan| scan.reaches(key)) {
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
        let known = self
            .rows
            .scans
            .iter()
            .find(|scan| scan.to == to && (scan.from == from || scan.reaches(from)));
        let Some(known) = known else {
            let range = (Bytes::copy_from_slice(from), Bytes::copy_from_slice(to));
            self.wishes.lock().scans.insert(range, ROWS);
            return Box::new(std::iter::empty());
        };
        let mut at = known.at(from);
        Box::new(std::iter::from_fn(move || {
            let found = known.rows.get(at).cloned();
            at += 1;
            if found.is_none() && !known.ended {
                let range = (known.from.clone(), known.to.clone());
                let most = known.most.saturating_mul(4);
                self.wishes.lock().scans.insert(range, most);
            }
            found.map(Ok)
        }))
    }
}

/// The rows of a group that lies elsewhere: there are none, and nobody is told that there are none.
pub(crate) struct NotHere;

fn not_here() -> EngineError {
    EngineError::GivenUp("the group lies on other nodes".to_owned())
}

impl View for NotHere {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Err(not_here())
    }

    fn scan<'a>(&'a self, _: &[u8], _: &[u8]) -> RowIter<'a> {
        Box::new(std::iter::once(Err(not_here())))
    }
}

impl Engine for NotHere {
    fn view(&self) -> Box<dyn View> {
        Box::new(NotHere)
    }

    fn write(&self, _: Batch) -> Result<(), EngineError> {
        Err(not_here())
    }

    fn applied(&self) -> Option<Bytes> {
        None
    }

    fn digest(&self) -> u128 {
        0
    }

    fn overlay_bytes(&self) -> usize {
        0
    }

    fn checkpoint(
        &self,
        _: Option<BeforeDurable>,
    ) -> BoxFuture<'static, Result<CheckpointInfo, EngineError>> {
        Box::pin(std::future::ready(Err(not_here())))
    }

    fn durable(&self) -> CheckpointInfo {
        CheckpointInfo::default()
    }

    fn export(&self) -> Export {
        unreachable!("only openraft ships a state, and it does not run here");
    }

    fn install(&self, _: Prepared) -> BoxFuture<'static, Result<CheckpointInfo, EngineError>> {
        Box::pin(std::future::ready(Err(not_here())))
    }

    fn damage(&self) -> Vec<Damage> {
        Vec::new()
    }

    fn healed(&self) -> Vec<Healed> {
        Vec::new()
    }

    fn heal(&self) -> BoxFuture<'static, Result<Vec<Healed>, EngineError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn scrub_next(&self, _: &mut ScrubPosition) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Table(BTreeMap<Bytes, Bytes>);

    impl View for Table {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
            Ok(self.0.get(key).cloned())
        }

        fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> RowIter<'a> {
            let (from, to) = (from.to_vec(), to.to_vec());
            let rows = self
                .0
                .iter()
                .filter(move |(key, _)| key[..] >= from[..] && (to.is_empty() || key[..] < to[..]));
            Box::new(rows.map(|(key, row)| Ok((key.clone(), row.clone()))))
        }
    }

    /// Looks at a table as from elsewhere; what came of it, and after how many questions.
    fn from_elsewhere<T>(table: &Table, look: impl Fn(&dyn View) -> T) -> (T, usize) {
        let (mut wishes, mut rows) = (Wishes::default(), Rows::default());
        for asked in 0..ROUNDS {
            let view = Fetched {
                rows: &rows,
                wishes: Mutex::default(),
            };
            let seen = look(&view);
            let more = view.wishes.into_inner();
            if more.is_empty() {
                return (seen, asked);
            }
            wishes.join(more);
            let said = rows_of(table, wishes.to_wire()).unwrap();
            rows = wishes.answered(said).unwrap();
        }
        panic!("it never ends");
    }

    fn table(rows: u32) -> Table {
        let row = |number: u32| {
            let key = Bytes::from(format!("key-{number:06}"));
            (key.clone(), key)
        };
        Table((0..rows).map(row).collect())
    }

    /// Whatever is looked at from elsewhere is seen as it is seen there, in few questions.
    #[test]
    fn a_look_from_elsewhere_sees_what_a_look_here_sees() {
        let table = table(3_000);
        let all = |view: &dyn View| -> Vec<Bytes> {
            let rows = view.scan(b"key-", b"key-~");
            rows.map(|row| row.unwrap().0).collect()
        };
        let (seen, asked) = from_elsewhere(&table, all);
        assert_eq!(seen, all(&table));
        assert!(asked <= 4, "{asked}");
        // One row names the next.
        let chain = |view: &dyn View| -> Option<Bytes> {
            let mut key = Bytes::from_static(b"key-000001");
            for step in 0..4 {
                view.get(&key).unwrap()?;
                key = Bytes::from(format!("key-{:06}", 10 * (step + 1)));
            }
            view.get(&key).unwrap()
        };
        assert_eq!(from_elsewhere(&table, chain), (chain(&table), 5));
        let none = |view: &dyn View| view.get(b"other").unwrap();
        assert_eq!(from_elsewhere(&table, none), (None, 1));
        // Many ranges at once, and leaps within one.
        let ranges = |view: &dyn View| -> Vec<Option<Bytes>> {
            let first = |number: u32| {
                let from = format!("key-{number:06}");
                let mut rows = view.scan(from.as_bytes(), b"key-9");
                rows.next().map(|row| row.unwrap().0)
            };
            (0..100).map(|number| first(number * 37)).collect()
        };
        let (seen, asked) = from_elsewhere(&table, ranges);
        assert_eq!(seen, ranges(&table));
        assert!(asked <= 3, "{asked}");
    }
}
