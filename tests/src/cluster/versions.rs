//! Clients of a bucket whose versioning is switched on and off while they write: PUT makes versions, DELETE makes markers,
//! both are read and deleted by their ids, copied and listed.
//!
//! Always true:
//! * every version carries a mark that no other one has: of an object the bytes say it, of a marker only its id;
//! * the settings of the bucket carry the mark of the last change, so whoever reads its facts knows which one they saw;
//! * a call is in the history before the store hears of it.
//!
//! Elsewhere: what must hold (`invariants::versioned`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use minikv_core::env::clock;
use minikv_core::kv::{
    Bucket, Conditions, Kv, KvError, ListItem, ListRequest, NewVersion, Refusal, Version,
    VersionId, VersionSelector, Versioning,
};
use parking_lot::Mutex;

use super::clients::{Clients, Ended, PATIENCE, content, not_begun, put_if, read_all};
use super::history::{NEVER, Value};
use super::trace::{now, seconds};
use crate::dice::Dice;
use crate::invariants::order::Found;
use crate::invariants::versioned::{self, Known};

/// The bucket they work in.
pub const BUCKET: &str = "versions";
/// Its keys.
const KEYS: u64 = 3;
/// How many clients there are.
pub const COUNT: u64 = 2;
/// Ids of a key that clients remember to ask for.
const REMEMBERED: usize = 8;

/// Names what a call wrote.
pub type Mark = Value;

/// What was asked of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// A PUT, or a copy of this version of the same key.
    Put {
        /// The version that is copied, if it is a copy that moves no bytes.
        from: Option<Mark>,
    },
    /// A DELETE without an id.
    Delete,
    /// A DELETE of this version.
    Remove(Mark),
    /// GET without an id.
    Look,
    /// HEAD of this version.
    LookAt(Mark),
    /// The key's lines in a list of versions.
    List,
    /// The bucket's versioning changes: asked of every key.
    Switch(Versioning),
}

/// A version as it was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// Which one.
    pub shown: Shown,
    /// It is the null version.
    pub null: bool,
}

/// What names a version that was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// An object, by its mark.
    Object(Mark),
    /// A marker, by its id.
    Marker(VersionId),
}

/// What was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// Nothing, or that nobody knows.
    Nothing,
    /// It was written.
    Put {
        /// As the null version.
        null: bool,
    },
    /// It was deleted.
    Deleted {
        /// A marker was made; as the null version?
        marker: Option<bool>,
    },
    /// The version is gone.
    Removed {
        /// And was there before.
        existed: bool,
    },
    /// The newest version.
    Newest(Option<Line>),
    /// Whether the version is there.
    There(bool),
    /// All versions, newest first.
    All(Vec<Line>),
    /// The facts are changed.
    Changed,
}

/// One call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Which client.
    pub client: u64,
    /// Which key.
    pub key: u64,
    /// What it asked.
    pub asked: Asked,
    /// What the call writes.
    pub mark: Mark,
    /// The change of the facts that it had seen; 0: none.
    pub planned: Mark,
    /// When.
    pub called: u64,
    /// When it was answered; never, for what nobody knows the outcome of.
    pub returned: u64,
    /// What it was told.
    pub told: Told,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let until = match self.returned {
            NEVER => "?".to_owned(),
            at => seconds(at),
        };
        let (client, key, from) = (self.client, self.key, seconds(self.called));
        let (mark, planned) = (self.mark, self.planned);
        write!(
            f,
            "{from:>11} to {until:>11}  client {client}, versions {key}: {:?} {mark} (facts {planned}) -> {:?}",
            self.asked, self.told
        )
    }
}

#[derive(Default)]
struct Shared {
    calls: Vec<Option<Call>>,
    ids: BTreeMap<VersionId, Mark>,
    /// By key: versions that somebody was told of.
    seen: BTreeMap<u64, Vec<(VersionId, Mark)>>,
    epochs: BTreeMap<Mark, u64>,
    /// Whose bytes the version of a mark has, if not its own: it is a copy.
    bytes_of: BTreeMap<Mark, Mark>,
}

/// Clients of versions.
#[derive(Clone)]
pub struct Versions {
    clients: Clients,
    shared: Arc<Mutex<Shared>>,
}

/// What a call came to.
enum Came {
    Told(Told),
    /// It certainly did not happen.
    NotDone(String),
    Unknown(String),
}

fn name(key: u64) -> Bytes {
    Bytes::from(format!("version-{key}"))
}

/// The mark of the change that facts show.
fn mark_of(bucket: &Bucket) -> Mark {
    let text = std::str::from_utf8(&bucket.settings).unwrap_or_default();
    text.parse().unwrap_or(0)
}

impl Versions {
    /// Clients that ask the same nodes.
    pub fn new(clients: Clients) -> Versions {
        Versions {
            clients,
            shared: Arc::default(),
        }
    }

    /// One client, until told to stop.
    pub async fn client(self, number: u64, mut dice: Dice, stop: Arc<AtomicBool>) {
        let count = self.clients.nodes.count();
        let mut node = 1 + dice.below(count);
        while !stop.load(Ordering::Relaxed) {
            clock::sleep(Duration::from_millis(20 + dice.below(200))).await;
            let fine = self.once(number, node, &mut dice).await;
            if !fine || dice.percent(15) {
                node = 1 + dice.below(count);
            }
        }
    }

    async fn once(&self, client: u64, node: u64, dice: &mut Dice) -> bool {
        let key = dice.below(KEYS);
        let known = {
            let shared = self.shared.lock();
            let seen = shared.seen.get(&key).map_or(&[][..], Vec::as_slice);
            let at = dice.below(seen.len() as u64) as usize;
            seen.get(at).copied()
        };
        match (dice.below(100), known) {
            (0..28, _) => self.put(client, node, key).await,
            (28..38, _) => self.delete(client, node, key).await,
            (38..52, Some(known)) => self.remove(client, node, key, known).await,
            (52..60, Some(known)) => self.look_at(client, node, key, known).await,
            (60..68, Some(known)) => self.copy(client, node, key, known, dice.below(KEYS)).await,
            (68..78, _) => self.list(client, node).await,
            (78..82, _) => {
                let to = match dice.percent(65) {
                    true => Versioning::Enabled,
                    false => Versioning::Suspended,
                };
                self.switch(client, node, to).await
            }
            _ => self.look(client, node, key).await,
        }
    }

    fn begin(&self, client: u64, key: u64, asked: Asked, mark: Mark) -> usize {
        let mut shared = self.shared.lock();
        shared.calls.push(Some(Call {
            client,
            key,
            asked,
            mark,
            planned: 0,
            called: now(),
            returned: NEVER,
            told: Told::Nothing,
        }));
        shared.calls.len() - 1
    }

    /// Writes down what came of a call; says whether it went well.
    fn end(&self, call: usize, planned: Mark, came: Came) -> bool {
        let mut shared = self.shared.lock();
        let Some(open) = &mut shared.calls[call] else {
            return false;
        };
        open.planned = planned;
        let (line, fine) = match came {
            Came::Told(told) => {
                open.told = told;
                open.returned = now();
                (open.to_string(), true)
            }
            Came::NotDone(why) => {
                let line = format!("{open}: not done: {why}");
                shared.calls[call] = None;
                (line, false)
            }
            Came::Unknown(why) => (format!("{open}: unknown: {why}"), false),
        };
        drop(shared);
        self.clients.trace.say(line);
        fine
    }

    fn wrong(&self, what: String) {
        self.clients.wrong.lock().push(what);
    }

    /// Asks one node something with the facts of the bucket as they are now.
    async fn ask<T, F: Future<Output = Result<T, KvError>>>(
        &self,
        node: u64,
        request: impl FnOnce(Kv, Bucket) -> F,
    ) -> (Mark, Ended<T>) {
        let planned = Arc::new(Mutex::new(0));
        let (shared, seen) = (self.shared.clone(), planned.clone());
        let ended = self.clients.ask_of(node, BUCKET, PATIENCE, |kv, bucket| {
            *seen.lock() = mark_of(&bucket);
            shared.lock().epochs.insert(mark_of(&bucket), bucket.epoch);
            request(kv, bucket)
        });
        let ended = ended.await;
        let planned = *planned.lock();
        (planned, ended)
    }

    /// What an answer means; `refusable`: refusals that say nothing was done.
    fn came<T>(
        &self,
        what: &str,
        ended: Ended<T>,
        refusable: &[Refusal],
        told: impl FnOnce(T) -> Told,
    ) -> Came {
        match ended {
            Ended::Answered(Ok(answer)) => Came::Told(told(answer)),
            Ended::Answered(Err(KvError::Refused(why))) => {
                if !refusable.contains(&why) {
                    self.wrong(format!("versions: {what} refused: {why}"));
                }
                Came::NotDone(why.to_string())
            }
            Ended::Answered(Err(KvError::Unavailable(why) | KvError::NoRoom(why))) => {
                Came::NotDone(why)
            }
            Ended::Answered(Err(KvError::Unknown(why) | KvError::Damaged(why))) => {
                Came::Unknown(why)
            }
            Ended::Nobody(why) => Came::Unknown(why.to_owned()),
        }
    }

    /// Somebody was told that this id is that version's.
    fn learn(&self, key: u64, id: VersionId, mark: Mark) {
        let mut shared = self.shared.lock();
        let known = *shared.ids.entry(id).or_insert(mark);
        let seen = shared.seen.entry(key).or_default();
        if !seen.contains(&(id, mark)) {
            seen.push((id, mark));
            if seen.len() > REMEMBERED {
                seen.remove(0);
            }
        }
        drop(shared);
        if known != mark {
            self.wrong(format!("version {id} of key {key} is {known} and {mark}"));
        }
    }

    fn line(&self, key: u64, version: &Version) -> Line {
        let shown = match version.is_delete_marker {
            true => Shown::Marker(version.id),
            false => {
                let mark = version.new.etag.parse().unwrap_or(0);
                self.learn(key, version.id, mark);
                Shown::Object(mark)
            }
        };
        Line {
            shown,
            null: version.is_null,
        }
    }

    /// The bytes of a version.
    fn bytes(&self, mark: Mark) -> Bytes {
        let of = self.shared.lock().bytes_of.get(&mark).copied();
        content(of.unwrap_or(mark))
    }

    async fn put(&self, client: u64, node: u64, key: u64) -> bool {
        let mark = self.clients.value();
        self.put_bytes(client, node, key, mark, content(mark)).await
    }

    async fn put_bytes(&self, client: u64, node: u64, key: u64, mark: Mark, bytes: Bytes) -> bool {
        let call = self.begin(client, key, Asked::Put { from: None }, mark);
        let asked = self.ask(node, |kv, bucket| async move {
            let conditions = Conditions::default();
            put_if(
                &kv,
                &bucket,
                name(key),
                bytes,
                &mark.to_string(),
                conditions,
            )
            .await
        });
        let (planned, ended) = asked.await;
        let came = self.came("a PUT", ended, &[Refusal::StageGone], |written| {
            self.learn(key, written.id, mark);
            Told::Put {
                null: written.is_null,
            }
        });
        self.end(call, planned, came)
    }

    async fn delete(&self, client: u64, node: u64, key: u64) -> bool {
        let mark = self.clients.value();
        let call = self.begin(client, key, Asked::Delete, mark);
        let asked = self.ask(node, |kv, bucket| async move {
            let current = VersionSelector::Current;
            kv.delete(&bucket, name(key), current, Conditions::default())
                .await
        });
        let (planned, ended) = asked.await;
        let came = self.came("a DELETE", ended, &[], |deleted| {
            if let Some(id) = deleted.marker {
                self.learn(key, id, mark);
            }
            Told::Deleted {
                marker: deleted.marker.map(|_| deleted.marker_is_null),
            }
        });
        self.end(call, planned, came)
    }

    async fn remove(&self, client: u64, node: u64, key: u64, known: (VersionId, Mark)) -> bool {
        let (id, mark) = known;
        let call = self.begin(client, key, Asked::Remove(mark), 0);
        let asked = self.ask(node, |kv, bucket| async move {
            let which = VersionSelector::Id(id);
            kv.delete(&bucket, name(key), which, Conditions::default())
                .await
        });
        let (planned, ended) = asked.await;
        let came = self.came("a DELETE of a version", ended, &[], |deleted| {
            Told::Removed {
                existed: deleted.existed,
            }
        });
        self.end(call, planned, came)
    }

    async fn look(&self, client: u64, node: u64, key: u64) -> bool {
        let call = self.begin(client, key, Asked::Look, 0);
        let asked = self.ask(node, |kv, bucket| async move {
            let current = VersionSelector::Current;
            let version = kv.head(&bucket, &name(key), &current).await?;
            let bytes = match &version {
                Some(version) if !version.is_delete_marker => read_all(&kv, version, false).await?,
                _ => None,
            };
            Ok((version, bytes))
        });
        let (planned, ended) = asked.await;
        let came = self.came("a GET", ended, &[], |(version, bytes)| {
            let line = version.map(|version| self.line(key, &version));
            if let (Some(Shown::Object(mark)), Some(bytes)) = (line.map(|line| line.shown), bytes)
                && bytes != self.bytes(mark)
            {
                self.wrong(format!("versions, key {key}: wrong bytes under {mark}"));
            }
            Told::Newest(line)
        });
        self.end(call, planned, came)
    }

    async fn look_at(&self, client: u64, node: u64, key: u64, known: (VersionId, Mark)) -> bool {
        let (id, mark) = known;
        let call = self.begin(client, key, Asked::LookAt(mark), 0);
        let asked = self.ask(node, |kv, bucket| async move {
            let which = VersionSelector::Id(id);
            let version = kv.head(&bucket, &name(key), &which).await?;
            let bytes = match &version {
                Some(version) if !version.is_delete_marker => read_all(&kv, version, false).await?,
                _ => None,
            };
            Ok((version, bytes))
        });
        let (planned, ended) = asked.await;
        let came = self.came("a GET of a version", ended, &[], |(version, bytes)| {
            let there = version.is_some();
            if let Some(version) = version {
                let line = self.line(key, &version);
                let is_other = matches!(line.shown, Shown::Object(other) if other != mark);
                if is_other || bytes.is_some_and(|bytes| bytes != self.bytes(mark)) {
                    self.wrong(format!(
                        "versions, key {key}: {line:?} under the id of {mark}"
                    ));
                }
            }
            Told::There(there)
        });
        self.end(call, planned, came)
    }

    /// A copy onto the same key shares the bytes, one to another key moves them.
    async fn copy(
        &self,
        client: u64,
        node: u64,
        key: u64,
        known: (VersionId, Mark),
        to: u64,
    ) -> bool {
        let (id, from) = known;
        let mark = self.clients.value();
        let original = {
            let mut shared = self.shared.lock();
            let original = shared.bytes_of.get(&from).copied().unwrap_or(from);
            shared.bytes_of.insert(mark, original);
            original
        };
        if to != key {
            return self
                .put_bytes(client, node, to, mark, content(original))
                .await;
        }
        let asked = Asked::Put { from: Some(from) };
        let call = self.begin(client, key, asked, mark);
        let asked = self.ask(node, |kv, bucket| async move {
            let which = VersionSelector::Id(id);
            let source = kv.head(&bucket, &name(key), &which).await;
            let source = source.map_err(not_begun)?;
            let source = source.filter(|version| !version.is_delete_marker);
            let source = source.ok_or(Refusal::NoSuchVersion)?;
            let new = NewVersion {
                etag: mark.to_string(),
                ..source.new.clone()
            };
            let copied = kv.copy_within(&source, &bucket, name(key), new, Conditions::default());
            copied
                .await?
                .ok_or_else(|| KvError::Damaged("a key in two vshards".to_owned()))
        });
        let (planned, ended) = asked.await;
        let gone = [Refusal::NoSuchVersion, Refusal::NoSuchKey];
        let came = self.came("a copy", ended, &gone, |written| {
            self.learn(key, written.id, mark);
            Told::Put {
                null: written.is_null,
            }
        });
        self.end(call, planned, came)
    }

    /// A list of versions shows each key as it was at some moment.
    async fn list(&self, client: u64, node: u64) -> bool {
        let calls: Vec<usize> = (0..KEYS)
            .map(|key| self.begin(client, key, Asked::List, 0))
            .collect();
        let asked = self.ask(node, |kv, bucket| async move {
            let request = ListRequest {
                max: 1000,
                versions: true,
                ..ListRequest::default()
            };
            let page = kv.list(&bucket, request).await?;
            let versions = page.items.into_iter().filter_map(|item| match item {
                ListItem::Version(version) => Some(*version),
                ListItem::Prefix(_) => None,
            });
            let versions: Vec<Version> = versions.collect();
            Ok((versions, page.truncated))
        });
        let (planned, ended) = asked.await;
        let versions = match ended {
            Ended::Answered(Ok((versions, false))) => versions,
            other => {
                let why = match other {
                    Ended::Answered(Err(error)) => error.to_string(),
                    _ => "no answer, or not all of it".to_owned(),
                };
                for call in calls {
                    self.end(call, planned, Came::NotDone(why.clone()));
                }
                return false;
            }
        };
        for (key, call) in (0..KEYS).zip(calls) {
            let of_key: Vec<&Version> = versions
                .iter()
                .filter(|version| version.key == name(key))
                .collect();
            let newest = of_key.iter().position(|version| version.is_latest);
            if newest.unwrap_or(0) != 0 || newest.is_none() != of_key.is_empty() {
                self.wrong(format!("versions, key {key}: the newest is {newest:?}"));
            }
            let lines = of_key.iter().map(|version| self.line(key, version));
            let told = Told::All(lines.collect());
            self.end(call, planned, Came::Told(told));
        }
        true
    }

    async fn switch(&self, client: u64, node: u64, to: Versioning) -> bool {
        let mark = self.clients.value();
        let calls: Vec<usize> = (0..KEYS)
            .map(|key| self.begin(client, key, Asked::Switch(to), mark))
            .collect();
        let asked = self.clients.ask_node(node, PATIENCE, |kv| async move {
            let change = move |bucket: &mut Bucket| {
                bucket.versioning = to;
                bucket.settings = Bytes::from(mark.to_string());
            };
            kv.change_bucket(BUCKET, change).await
        });
        let ended = asked.await;
        let mut fine = true;
        for call in calls {
            let came = match &ended {
                Ended::Answered(Ok(bucket)) => {
                    self.shared.lock().epochs.insert(mark, bucket.epoch);
                    Came::Told(Told::Changed)
                }
                Ended::Answered(Err(KvError::Refused(why))) => {
                    self.wrong(format!("versions: a change of the bucket refused: {why}"));
                    Came::NotDone(why.to_string())
                }
                Ended::Answered(Err(KvError::Unavailable(why) | KvError::NoRoom(why))) => {
                    Came::NotDone(why.clone())
                }
                Ended::Answered(Err(error)) => Came::Unknown(error.to_string()),
                Ended::Nobody(why) => Came::Unknown((*why).to_owned()),
            };
            fine &= self.end(call, 0, came);
        }
        fine
    }

    /// Everything through one node, when nobody works any more.
    pub async fn audit(&self, node: u64) -> Result<(), String> {
        let client = 100 + node;
        for key in 0..KEYS {
            if !self.look(client, node, key).await {
                return Err(format!("node {node} does not read versions in the audit"));
            }
        }
        match self.list(client, node).await {
            true => Ok(()),
            false => Err(format!("node {node} does not list versions in the audit")),
        }
    }

    /// What no order of the calls explains; and how many keys were not decided in time.
    pub fn broken(&self) -> (Vec<String>, usize) {
        let shared = self.shared.lock();
        let known = Known {
            ids: shared.ids.clone(),
            epochs: shared.epochs.clone(),
        };
        let (mut broken, mut undecided) = (Vec::new(), 0);
        for key in 0..KEYS {
            let of_key = shared.calls.iter().flatten();
            let mut calls: Vec<Call> = of_key.filter(|call| call.key == key).cloned().collect();
            calls.sort_by_key(|call| call.called);
            match versioned::check(&known, &calls) {
                Found::Order => {}
                Found::Undecided => undecided += 1,
                Found::NoOrder => {
                    let lines: Vec<String> =
                        calls.iter().map(|call| format!("    {call}")).collect();
                    broken.push(format!(
                        "versions of key {key}: no order of its calls explains what was told\n{}",
                        lines.join("\n")
                    ));
                }
            }
        }
        (broken, undecided)
    }

    /// How many calls, and how many of them nobody knows the outcome of.
    pub fn count(&self) -> (usize, usize) {
        let shared = self.shared.lock();
        let all = shared.calls.iter().flatten();
        let open = all.clone().filter(|call| call.returned == NEVER);
        (all.clone().count(), open.count())
    }
}
