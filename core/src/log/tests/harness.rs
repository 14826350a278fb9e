//! A small log on a simulated disk, and a model of what it should hold.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::sync::oneshot;

use crate::env::sim::{self, SimDisk};
use crate::ids::{ChunkId, GroupId, StageId, VShard};
use crate::log::{
    Ack, Complete, Frame, Hurt, Item, Log, LogEntry, LogError, LogId, LogOptions, Place, Recovered,
    Seen, Want, Written,
};

/// Where the logs of these tests lie.
pub fn dir() -> &'static Path {
    Path::new("/node/log")
}

/// An empty disk with the node's directory on it.
pub fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.plant_dir("/node").unwrap();
    disk
}

/// Segments of 32 KiB, and no timers but those a test waits for.
pub fn small() -> LogOptions {
    LogOptions {
        segment_bytes: Some(32 << 10),
        meta_batch_bytes: 4 << 10,
        blob_batch_bytes: 8 << 10,
        overlay_budget: 0,
        ..LogOptions::default()
    }
}

/// An open log and what opening it told.
pub struct Opened {
    pub log: Arc<Log>,
    pub recovered: Recovered,
    pub seen: Vec<Seen>,
}

pub async fn open_with(
    disk: &SimDisk,
    options: LogOptions,
    complete: Complete,
) -> Result<Opened, LogError> {
    let mut seen = Vec::new();
    let (log, recovered) = Log::open(&disk.env(), dir(), options, complete, &mut |one| {
        seen.push(one)
    })
    .await?;
    Ok(Opened {
        log,
        recovered,
        seen,
    })
}

pub async fn open(disk: &SimDisk) -> Opened {
    open_with(disk, small(), Complete::default()).await.unwrap()
}

/// Opens in a simulation of its own, looks, and lets the process die.
pub fn reopen<T>(disk: &SimDisk, look: impl AsyncFnOnce(Opened) -> T) -> T {
    sim::run(1, async { look(open(disk).await).await })
}

pub const G1: GroupId = GroupId(1);
pub const G2: GroupId = GroupId(2);

pub fn id(term: u64, index: u64) -> LogId {
    LogId {
        term,
        node: 1,
        index,
    }
}

/// An entry whose bytes tell which it is.
pub fn entry(term: u64, index: u64, head: usize, payload: usize) -> LogEntry {
    let mut bytes = vec![term as u8; head + payload];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte ^= (index as usize * 31 + at) as u8;
    }
    LogEntry {
        id: id(term, index),
        bytes: bytes.into(),
        payload_len: payload as u32,
        payload_damaged: false,
    }
}

pub fn chunk(ordinal: u32) -> ChunkId {
    ChunkId {
        vshard: VShard(7),
        stage: StageId {
            group: G1,
            incarnation: 1,
            index: 5,
        },
        ordinal,
    }
}

pub fn frame(ordinal: u32, len: usize) -> Frame {
    Frame {
        chunk: chunk(ordinal),
        frame: 0,
        bytes: vec![(ordinal as u8).wrapping_add(1); len].into(),
    }
}

pub fn frame_item(ordinal: u32) -> Item {
    Item::Frame {
        chunk: chunk(ordinal),
        frame: 0,
    }
}

/// An ack and the way to wait for it.
pub fn ack() -> (Ack, oneshot::Receiver<Result<(), LogError>>) {
    let (sender, receiver) = oneshot::channel();
    (Box::new(move |result| drop(sender.send(result))), receiver)
}

/// Calls that wait for their ack.
pub trait Waiting {
    async fn appended(&self, group: GroupId, entries: Vec<LogEntry>) -> Result<(), LogError>;
    async fn voted(&self, group: GroupId, vote: &'static [u8]) -> Result<(), LogError>;
    async fn truncated(&self, group: GroupId, after: Option<u64>) -> Result<(), LogError>;
    async fn purged(&self, group: GroupId, id: LogId) -> Result<(), LogError>;
    async fn all(&self, group: GroupId) -> Result<Vec<LogEntry>, LogError>;
    async fn framed(&self, ordinal: u32, len: usize) -> Result<Place, LogError>;
}

impl Waiting for Log {
    async fn appended(&self, group: GroupId, entries: Vec<LogEntry>) -> Result<(), LogError> {
        let (ack, done) = ack();
        self.append(group, entries, ack)?;
        done.await.unwrap()
    }
    async fn voted(&self, group: GroupId, vote: &'static [u8]) -> Result<(), LogError> {
        let (ack, done) = ack();
        self.save_vote(group, Bytes::from_static(vote), ack)?;
        done.await.unwrap()
    }
    async fn truncated(&self, group: GroupId, after: Option<u64>) -> Result<(), LogError> {
        let (ack, done) = ack();
        self.truncate_after(group, after, ack)?;
        done.await.unwrap()
    }
    async fn purged(&self, group: GroupId, id: LogId) -> Result<(), LogError> {
        let (ack, done) = ack();
        self.purge(group, id, ack)?;
        done.await.unwrap()
    }
    async fn all(&self, group: GroupId) -> Result<Vec<LogEntry>, LogError> {
        self.entries(group, 0..u64::MAX, usize::MAX, Want::Whole)
            .await
    }
    async fn framed(&self, ordinal: u32, len: usize) -> Result<Place, LogError> {
        let written: Written = self.append_frames(vec![frame(ordinal, len)]).await?;
        Ok(written.places[0])
    }
}

/// One thing done to a log.
#[derive(Clone, Debug)]
pub enum Step {
    Append(GroupId, Vec<LogEntry>),
    Vote(GroupId, &'static [u8]),
    Truncate(GroupId, Option<u64>),
    Purge(GroupId, LogId),
    Remove(GroupId),
    Frames(Vec<Frame>),
}

/// What a group's log should be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Model {
    pub vote: Option<Bytes>,
    pub purged: Option<LogId>,
    pub entries: BTreeMap<u64, LogEntry>,
}

impl Model {
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Append(_, entries) => {
                self.entries
                    .extend(entries.iter().map(|entry| (entry.id.index, entry.clone())));
            }
            Step::Vote(_, vote) => self.vote = Some(Bytes::from_static(vote)),
            Step::Truncate(_, after) => {
                let from = after.map_or(0, |after| after + 1);
                self.entries.split_off(&from);
            }
            Step::Purge(_, id) => {
                self.entries = self.entries.split_off(&(id.index + 1));
                self.purged = Some(*id);
            }
            Step::Remove(_) => *self = Model::default(),
            Step::Frames(_) => {}
        }
    }

    pub async fn of(log: &Log, group: GroupId) -> Model {
        let state = log.log_state(group);
        let entries = log.all(group).await.unwrap();
        Model {
            vote: state.vote,
            purged: state.purged,
            entries: entries
                .into_iter()
                .map(|entry| (entry.id.index, entry))
                .collect(),
        }
    }
}

impl Step {
    pub fn group(&self) -> Option<GroupId> {
        match self {
            Step::Append(group, _)
            | Step::Vote(group, _)
            | Step::Truncate(group, _)
            | Step::Purge(group, _)
            | Step::Remove(group) => Some(*group),
            Step::Frames(_) => None,
        }
    }
}

/// How far each step of a history has come.
#[derive(Clone, Default)]
pub struct Acked(Arc<Mutex<Vec<bool>>>);

impl Acked {
    pub fn now(&self) -> Vec<bool> {
        self.0.lock().clone()
    }

    fn add(&self) -> usize {
        let mut all = self.0.lock();
        all.push(false);
        all.len() - 1
    }

    fn set(&self, at: usize) {
        self.0.lock()[at] = true;
    }
}

/// Some steps that fit a group's log as `model` has it.
pub fn random_steps(
    rng: &mut SmallRng,
    base: &Base,
    ordinal: &mut u32,
    lists: usize,
) -> Vec<Vec<Step>> {
    let mut models = base.groups.clone();
    let votes: [&'static [u8]; 3] = [b"left", b"right", b"neither of the two"];
    let mut history = Vec::new();
    for _ in 0..lists {
        let mut together = Vec::new();
        for _ in 0..1 + rng.next_u32() % 4 {
            let group = if rng.next_u32().is_multiple_of(3) {
                G2
            } else {
                G1
            };
            let model = models.entry(group).or_default();
            let first = model.entries.keys().next().copied();
            let last = model
                .entries
                .keys()
                .last()
                .copied()
                .or(model.purged.map(|id| id.index));
            let step = match rng.next_u32() % 12 {
                0..=4 => {
                    let from = last.map_or(0, |last| last + 1);
                    let term = u64::from(rng.next_u32() % 3);
                    // Few sizes: old and new records should often lie at the same places.
                    let len = [0, 8, 1000, 2500][rng.next_u32() as usize % 4];
                    let count = 1 + u64::from(rng.next_u32() % 3);
                    let entries = (from..from + count)
                        .map(|i| entry(term, i, 32, len))
                        .collect();
                    Step::Append(group, entries)
                }
                5 | 6 => Step::Vote(group, votes[rng.next_u32() as usize % 3]),
                7 => match (first, last) {
                    (Some(first), Some(last)) => {
                        let from = first + u64::from(rng.next_u32()) % (last - first + 1);
                        Step::Truncate(group, from.checked_sub(1))
                    }
                    _ => continue,
                },
                8 => match (first, last) {
                    (Some(first), Some(last)) => {
                        let upto = first + u64::from(rng.next_u32()) % (last - first + 1);
                        Step::Purge(group, model.entries[&upto].id)
                    }
                    (None, Some(last)) => Step::Purge(group, id(7, last + 3)),
                    _ => continue,
                },
                9 if rng.next_u32().is_multiple_of(4) => Step::Remove(group),
                _ => {
                    *ordinal += 1;
                    let len = [100, 1000, 6000][rng.next_u32() as usize % 3];
                    Step::Frames(vec![frame(*ordinal, len)])
                }
            };
            if let Some(group) = step.group() {
                models.entry(group).or_default().apply(&step);
            }
            together.push(step);
        }
        history.push(together);
    }
    history
}

/// Does the steps, those of one inner list at once, and waits for each list.
pub async fn perform(log: &Log, history: &[Vec<Step>], acked: &Acked) -> Result<(), LogError> {
    for together in history {
        let mut waits = Vec::new();
        let mut frames = Vec::new();
        for step in together {
            let at = acked.add();
            let note = acked.clone();
            let (ack, done) = ack();
            let ack: Ack = Box::new(move |result| {
                if result.is_ok() {
                    note.set(at);
                }
                ack(result);
            });
            match step.clone() {
                Step::Append(group, entries) => log.append(group, entries, ack)?,
                Step::Vote(group, vote) => log.save_vote(group, Bytes::from_static(vote), ack)?,
                Step::Truncate(group, after) => drop(log.truncate_after(group, after, ack)?),
                Step::Purge(group, id) => log.purge(group, id, ack)?,
                Step::Remove(group) => log.remove_group(group, ack)?,
                Step::Frames(list) => {
                    frames.push((log.append_frames(list), ack));
                }
            }
            waits.push(done);
        }
        for (written, ack) in frames {
            ack(written.await.map(|_| ()));
        }
        for done in waits {
            done.await.unwrap()?;
        }
    }
    Ok(())
}

/// What is known to be durable before a history begins.
#[derive(Clone, Default)]
pub struct Base {
    pub groups: BTreeMap<GroupId, Model>,
    pub frames: Vec<Frame>,
}

/// Checks that a recovered log is the history, from `base`, up to some point, with everything acknowledged in it.
/// Returns what it is.
pub async fn check(opened: &Opened, base: &Base, history: &[Vec<Step>], acked: &[bool]) -> Base {
    let steps: Vec<&Step> = history.iter().flatten().collect();
    assert!(
        opened.recovered.damage.is_empty(),
        "{:?}",
        opened.recovered.damage
    );
    let is_acked = |at: usize| acked.get(at) == Some(&true);
    let mut now = Base::default();
    for group in [G1, G2] {
        assert_eq!(opened.log.hurt(group), Hurt::default());
        let found = Model::of(&opened.log, group).await;
        let mut model = base.groups.get(&group).cloned().unwrap_or_default();
        let mut allowed = vec![model.clone()];
        for (at, step) in steps.iter().enumerate() {
            if step.group() != Some(group) {
                continue;
            }
            if is_acked(at) {
                allowed.clear();
            }
            match step {
                // A torn append may leave some of its entries.
                Step::Append(group, entries) => {
                    for entry in entries {
                        if !is_acked(at) {
                            allowed.push(model.clone());
                        }
                        model.apply(&Step::Append(*group, vec![entry.clone()]));
                    }
                }
                step => model.apply(step),
            }
            allowed.push(model.clone());
        }
        assert!(
            allowed.contains(&found),
            "{group} is {found:#?}\nand may be {allowed:#?}"
        );
        now.groups.insert(group, found);
    }
    // Whatever was seen must be readable: it may be served.
    for seen in &opened.seen {
        opened.log.read(seen.place, &seen.item).await.unwrap();
    }
    let frames = steps
        .iter()
        .enumerate()
        .filter_map(|(at, step)| match step {
            Step::Frames(frames) if is_acked(at) => Some(frames),
            _ => None,
        });
    for frame in frames.flatten().chain(&base.frames) {
        let item = Item::Frame {
            chunk: frame.chunk,
            frame: frame.frame,
        };
        let seen = opened.seen.iter().rfind(|seen| seen.item == item);
        let place = seen.expect("an acknowledged frame was not seen").place;
        assert_eq!(opened.log.read(place, &item).await.unwrap(), frame.bytes);
        now.frames.push(frame.clone());
    }
    now
}
