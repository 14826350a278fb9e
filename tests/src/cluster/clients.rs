//! Clients that write, read and list through whichever node they like, and write down what they are told.
//!
//! Always true:
//! * a request runs as work of the node it was sent to: it dies with the node, and then nobody knows what came of it;
//! * a client waits ten seconds for an answer, by its own clock, and then does not know either;
//! * every write carries another value, and the bytes say which.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use minikv_core::env::clock;
use minikv_core::kv::{
    Bucket, Change, Check, Completed, Conditions, Kv, KvError, ListItem, ListRequest, Must,
    NewContent, NewPart, NewVersion, Refusal, StageWriter, TransactWrite, Version, VersionSelector,
    Written,
};
use minikv_core::state::record::Content;

use super::history::{History, Only, Told, Value, What};
use super::nodes::Nodes;
use super::trace::Trace;
use crate::dice::Dice;

/// The bucket they work in.
pub const BUCKET: &str = "bucket";
/// From here on keys come in pairs that are written together.
pub const PAIRS: u64 = 100;
/// How many.
pub const PAIR_COUNT: u64 = 3;
/// How long a client waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What all clients share.
#[derive(Clone)]
pub struct Clients {
    /// The nodes they talk to.
    pub nodes: Nodes,
    /// What they did.
    pub history: History,
    /// In words.
    pub trace: Trace,
    /// How many keys there are.
    pub keys: u64,
    /// What no history can explain: wrong bytes, refusals of what cannot be refused.
    pub wrong: Arc<parking_lot::Mutex<Vec<String>>>,
    next_value: Arc<std::sync::atomic::AtomicU64>,
}

/// Whether a value's object is written in chunks.
pub fn is_large(value: Value) -> bool {
    value.is_multiple_of(5)
}

/// The bytes of a value.
pub fn content(value: Value) -> Bytes {
    let any = value.wrapping_mul(0x9e37_79b9) >> 7;
    let len = match is_large(value) {
        true => (9 << 10) + any % (190 << 10),
        false => 20 + any % 1500,
    };
    let text = format!("{value}.");
    text.bytes().cycle().take(len as usize).collect()
}

/// Writes an object.
pub async fn put_bytes(
    kv: &Kv,
    bucket: &Bucket,
    key: Bytes,
    bytes: Bytes,
    etag: &str,
) -> Result<(), KvError> {
    let conditions = Conditions::default();
    let written = put_if(kv, bucket, key, bytes, etag, conditions).await;
    written.map(drop)
}

/// Writes an object if these hold, in chunks if it is large.
pub(super) async fn put_if(
    kv: &Kv,
    bucket: &Bucket,
    key: Bytes,
    bytes: Bytes,
    etag: &str,
    conditions: Conditions,
) -> Result<Written, KvError> {
    let new = NewVersion {
        etag: etag.to_owned(),
        size: bytes.len() as u64,
        meta: Bytes::new(),
        tags: Bytes::new(),
        lock: Default::default(),
    };
    let content = match bytes.len() <= kv.inline_limit() {
        true => NewContent::Inline(bytes),
        false => {
            let declared = Some(bytes.len() as u64);
            let stage = kv.open_stage(bucket, key.clone(), declared, &conditions);
            // Until its claim nothing of it has happened, whatever became of the stage.
            let stage = stage.await.map_err(not_begun)?;
            fill(stage, bytes).await.map_err(not_begun)?
        }
    };
    kv.put(bucket, key, new, content, conditions).await
}

/// Writes a body under a stage.
pub(super) async fn fill(mut stage: StageWriter, mut bytes: Bytes) -> Result<NewContent, KvError> {
    // In pieces as a socket would give them.
    while !bytes.is_empty() {
        stage.write(bytes.split_to(bytes.len().min(20_000))).await?;
    }
    Ok(NewContent::Staged(stage.finish().await?))
}

/// Writes an object as an upload of two parts.
async fn put_in_parts(
    kv: &Kv,
    bucket: &Bucket,
    key: Bytes,
    bytes: Bytes,
    etag: &str,
) -> Result<(), KvError> {
    let size = bytes.len() as u64;
    let created = kv.create_upload(bucket, key.clone(), Bytes::new(), Default::default());
    let upload = created.await.map_err(not_begun)?.id;
    let parts = [
        bytes.slice(..bytes.len() / 3),
        bytes.slice(bytes.len() / 3..),
    ];
    for (number, part) in (1..).zip(parts) {
        let new = NewPart {
            etag: format!("{etag}-{number}"),
            size: part.len() as u64,
            meta: Bytes::new(),
        };
        let content = match part.len() <= kv.inline_limit() {
            true => NewContent::Inline(part),
            false => {
                let declared = Some(part.len() as u64);
                let stage = kv.open_part_stage(bucket, key.clone(), upload, number, declared);
                let stage = stage.await.map_err(not_begun)?;
                fill(stage, part).await.map_err(not_begun)?
            }
        };
        let put = kv.put_part(bucket, key.clone(), upload, number, new, content);
        put.await.map_err(not_begun)?;
    }
    let parts = kv.parts(bucket, &key, upload, 0, 10).await;
    let counter = parts.map_err(not_begun)?.counter;
    let new = NewVersion {
        etag: etag.to_owned(),
        size,
        meta: Bytes::new(),
        tags: Bytes::new(),
        lock: Default::default(),
    };
    let conditions = Conditions::default();
    let completed = kv.complete_upload(bucket, key, upload, counter, &[1, 2], new, conditions);
    match completed.await? {
        Completed::Done { .. } => Ok(()),
        Completed::PartsChanged => Err(KvError::Unavailable("parts changed".to_owned())),
    }
}

/// What is said of a content that ended before its end.
const CUT_OFF: &str = "cut off after ";

/// The whole content of a version. `slowly`: as by a client that takes its time. `None`: it was overwritten since it was
/// looked up, and its bytes need not be there.
pub async fn read_all(kv: &Kv, version: &Version, slowly: bool) -> Result<Option<Bytes>, KvError> {
    match kv.small_content(version).await {
        Err(KvError::Refused(Refusal::NoSuchVersion)) => return Ok(None),
        Ok(Some(bytes)) => return Ok(Some(bytes)),
        other => _ = other?,
    }
    let mut read = BytesMut::new();
    let mut pieces = kv.content(version, 0..version.new.size);
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => read.extend_from_slice(&piece),
            // Its parts went before the first of them was found; chunks that were found stay for a while.
            Err(KvError::Refused(Refusal::NoSuchVersion))
                if read.is_empty() && matches!(version.content, Content::Upload { .. }) =>
            {
                return Ok(None);
            }
            Err(KvError::Refused(why)) => {
                let what = format!("{CUT_OFF}{} bytes: {why}", read.len());
                return Err(KvError::Damaged(what));
            }
            Err(error) => return Err(error),
        }
        if slowly {
            clock::sleep(Duration::from_millis(600)).await;
        }
    }
    Ok(Some(read.freeze()))
}

/// All objects of a bucket, page by page: key, ETag, size.
pub async fn list(kv: &Kv, bucket: &Bucket) -> Result<Vec<(Bytes, String, u64)>, KvError> {
    let mut found = Vec::new();
    let mut after = Bytes::new();
    loop {
        let page = kv.list(
            bucket,
            ListRequest {
                prefix: Bytes::new(),
                delimiter: Bytes::new(),
                after: after.clone(),
                after_version: None,
                max: 5,
                versions: false,
            },
        );
        let page = page.await?;
        for item in page.items {
            if let ListItem::Version(version) = item {
                found.push((version.key, version.new.etag, version.new.size));
            }
        }
        match page.resume {
            Some(point) if page.truncated => after = point.after,
            _ => return Ok(found),
        }
    }
}

/// What a request came to.
pub(super) enum Ended<T> {
    /// It was answered.
    Answered(Result<T, KvError>),
    /// The node died, or time was over.
    Nobody(&'static str),
}

impl Clients {
    /// Clients of these nodes, who have done nothing yet.
    pub fn new(nodes: Nodes, trace: Trace, keys: u64) -> Clients {
        Clients {
            nodes,
            history: History::default(),
            trace,
            keys,
            wrong: Arc::default(),
            next_value: Arc::new(1.into()),
        }
    }

    /// One client, until told to stop.
    pub async fn client(
        self,
        number: u64,
        mut dice: Dice,
        stop: Arc<std::sync::atomic::AtomicBool>,
    ) {
        let mut node = 1 + dice.below(self.nodes.count());
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            clock::sleep(Duration::from_millis(dice.below(120))).await;
            let fine = self.once(number, node, &mut dice).await;
            // To another one when this one fails, and now and then.
            if !fine || dice.percent(10) {
                node = 1 + dice.below(self.nodes.count());
            }
        }
    }

    async fn once(&self, client: u64, node: u64, dice: &mut Dice) -> bool {
        let key = dice.below(self.keys);
        match dice.below(100) {
            0..26 => {
                let value = self.value();
                self.put(client, node, key, value, Only::Always).await
            }
            26..30 => {
                let value = self.value();
                self.put_in_parts(client, node, key, value).await
            }
            30..40 => {
                let value = self.value();
                self.put(client, node, key, value, Only::IfAbsent).await
            }
            40..50 => match self.read(client, node, key).await {
                Some(Some(there)) => {
                    let value = self.value();
                    self.put(client, node, key, value, Only::IfMatches(there))
                        .await
                }
                other => other.is_some(),
            },
            50..60 => self.delete(client, node, key).await,
            60..65 => self.list(client, node, dice).await,
            65..72 => {
                let pair = PAIRS + 2 * dice.below(PAIR_COUNT);
                self.write_pair(client, node, pair, dice.percent(60)).await
            }
            72..76 => {
                let key = PAIRS + dice.below(2 * PAIR_COUNT);
                self.read(client, node, key).await.is_some()
            }
            76..80 => self.read_slowly(client, node, key).await.is_some(),
            _ => self.read(client, node, key).await.is_some(),
        }
    }

    /// One that nobody wrote before.
    pub(super) fn value(&self) -> Value {
        let next = &self.next_value;
        next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    pub(super) fn name(key: u64) -> Bytes {
        match key.checked_sub(PAIRS) {
            None => Bytes::from(format!("key-{key}")),
            Some(of_pair) => Bytes::from(format!("pair-{}-{}", of_pair / 2, of_pair % 2)),
        }
    }

    /// Writes both keys of a pair, or none: in one transaction, mostly over two groups. `checked`: only if both are what a
    /// read of the first found.
    async fn write_pair(&self, client: u64, node: u64, pair: u64, checked: bool) -> bool {
        let there = match checked {
            true => match self.read(client, node, pair).await {
                Some(there) => there,
                None => return false,
            },
            false => None,
        };
        let mut value = self.value();
        while is_large(value) {
            // A transaction carries its bytes.
            value = self.value();
        }
        let only = match (checked, there) {
            (false, _) => Only::Always,
            (true, None) => Only::IfAbsent,
            (true, Some(there)) => Only::IfMatches(there),
        };
        let what = What::Put(value, only);
        let opens = [0, 1].map(|of_pair| self.history.begin(client, pair + of_pair, what));
        let ended = self.ask(node, |kv, bucket| async move {
            let names = [0, 1].map(|of_pair| Self::name(pair + of_pair));
            let must = match only {
                Only::Always => None,
                Only::IfAbsent => Some(Must::BeAbsent),
                Only::IfMatches(value) => Some(Must::HaveEtag(value.to_string())),
            };
            let checks = must.into_iter().flat_map(|must| {
                names.clone().map(|key| Check {
                    bucket: bucket.clone(),
                    key,
                    must: must.clone(),
                })
            });
            let bytes = content(value);
            let writes = names.clone().map(|key| TransactWrite {
                bucket: bucket.clone(),
                key,
                change: Change::Put(
                    NewVersion {
                        etag: value.to_string(),
                        size: bytes.len() as u64,
                        meta: Bytes::new(),
                        tags: Bytes::new(),
                        lock: Default::default(),
                    },
                    NewContent::Inline(bytes.clone()),
                ),
            });
            let writes = Vec::from(writes);
            kv.transact(checks.collect(), writes).await.map(drop)
        });
        let (said, fine) = match ended.await {
            Ended::Answered(Ok(())) => {
                opens
                    .into_iter()
                    .for_each(|open| self.history.end(open, Told::Done));
                ("done".to_owned(), true)
            }
            Ended::Answered(Err(KvError::Refused(Refusal::CheckFailed(number)))) if checked => {
                // Of the other one it says nothing.
                for (at, open) in (0..).zip(opens) {
                    match at == number {
                        true => self.history.end(open, Told::Refused),
                        false => self.history.never_happened(open),
                    }
                }
                (format!("check {number} failed"), true)
            }
            Ended::Answered(Err(KvError::Unavailable(why) | KvError::NoRoom(why))) => {
                opens
                    .into_iter()
                    .for_each(|open| self.history.never_happened(open));
                (format!("not done: {why}"), false)
            }
            Ended::Answered(Err(KvError::Refused(why))) => {
                opens
                    .into_iter()
                    .for_each(|open| self.history.never_happened(open));
                let what = format!("client {client} at node {node}: pair {pair} refused: {why}");
                self.wrong.lock().push(what.clone());
                (what, false)
            }
            Ended::Answered(Err(KvError::Unknown(why) | KvError::Damaged(why))) => {
                opens
                    .into_iter()
                    .for_each(|open| self.history.end(open, Told::Nothing));
                (format!("unknown: {why}"), false)
            }
            Ended::Nobody(why) => {
                opens
                    .into_iter()
                    .for_each(|open| self.history.end(open, Told::Nothing));
                (format!("unknown: {why}"), false)
            }
        };
        self.trace.say(format!(
            "client {client} at node {node}: pair {pair} {what:?}: {said}"
        ));
        fine
    }

    /// Every key that clients use.
    pub fn all_keys(&self) -> Vec<u64> {
        (0..self.keys)
            .chain(PAIRS..PAIRS + 2 * PAIR_COUNT)
            .collect()
    }

    pub(super) async fn ask<T, F: Future<Output = Result<T, KvError>>>(
        &self,
        node: u64,
        request: impl FnOnce(Kv, Bucket) -> F,
    ) -> Ended<T> {
        self.ask_of(node, BUCKET, PATIENCE, request).await
    }

    /// Asks something of a bucket, as work of a node, and waits for so long.
    pub(super) async fn ask_of<T, F: Future<Output = Result<T, KvError>>>(
        &self,
        node: u64,
        bucket: &str,
        patience: Duration,
        request: impl FnOnce(Kv, Bucket) -> F,
    ) -> Ended<T> {
        let request = |kv: Kv| async move {
            let bucket = kv.bucket(bucket).await.map_err(not_begun)?;
            let bucket = bucket.ok_or(KvError::Refused(Refusal::NoSuchBucket))?;
            request(kv, bucket).await
        };
        self.ask_node(node, patience, request).await
    }

    /// Asks something of a node, as its work, and waits for so long.
    pub(super) async fn ask_node<T, F: Future<Output = Result<T, KvError>>>(
        &self,
        node: u64,
        patience: Duration,
        request: impl FnOnce(Kv) -> F,
    ) -> Ended<T> {
        let Some((kv, scope)) = self.nodes.door(node) else {
            return Ended::Answered(Err(KvError::Unavailable("not running".to_owned())));
        };
        let work = scope.enter(request(kv));
        match clock::timeout(patience, work).await {
            Ok(Ok(answer)) => Ended::Answered(answer),
            Ok(Err(_)) => Ended::Nobody("the node died"),
            Err(_) => Ended::Nobody("no answer"),
        }
    }

    async fn put(&self, client: u64, node: u64, key: u64, value: Value, only: Only) -> bool {
        let what = What::Put(value, only);
        let open = self.history.begin(client, key, what);
        let conditions = match only {
            Only::Always => Conditions::default(),
            Only::IfAbsent => Conditions {
                if_none_match: Some(vec!["*".to_owned()]),
                ..Conditions::default()
            },
            Only::IfMatches(value) => Conditions {
                if_match: Some(vec![value.to_string()]),
                ..Conditions::default()
            },
        };
        let ended = self.ask(node, |kv, bucket| async move {
            let etag = value.to_string();
            let name = Self::name(key);
            let put = put_if(&kv, &bucket, name, content(value), &etag, conditions);
            put.await.map(drop)
        });
        let ended = ended.await;
        let refusable = only != Only::Always;
        self.written(client, node, key, what, open, ended, refusable)
    }

    async fn put_in_parts(&self, client: u64, node: u64, key: u64, value: Value) -> bool {
        let what = What::Put(value, Only::Always);
        let open = self.history.begin(client, key, what);
        let ended = self.ask(node, |kv, bucket| async move {
            let etag = value.to_string();
            put_in_parts(&kv, &bucket, Self::name(key), content(value), &etag).await
        });
        let ended = ended.await;
        self.written(client, node, key, what, open, ended, false)
    }

    async fn delete(&self, client: u64, node: u64, key: u64) -> bool {
        let open = self.history.begin(client, key, What::Delete);
        let ended = self.ask(node, |kv, bucket| async move {
            let current = VersionSelector::Current;
            kv.delete(&bucket, Self::name(key), current, Conditions::default())
                .await
                .map(drop)
        });
        let ended = ended.await;
        self.written(client, node, key, What::Delete, open, ended, false)
    }

    #[allow(clippy::too_many_arguments, reason = "a call and what came of it")]
    fn written(
        &self,
        client: u64,
        node: u64,
        key: u64,
        what: What,
        open: super::history::Open,
        ended: Ended<()>,
        refusable: bool,
    ) -> bool {
        let (said, fine) = match ended {
            Ended::Answered(Ok(())) => {
                self.history.end(open, Told::Done);
                ("done".to_owned(), true)
            }
            Ended::Answered(Err(KvError::Refused(
                Refusal::PreconditionFailed | Refusal::NoSuchKey,
            ))) if refusable => {
                self.history.end(open, Told::Refused);
                ("refused".to_owned(), true)
            }
            // Its gateway stood still for so long that the stage was given up.
            Ended::Answered(Err(KvError::Refused(Refusal::StageGone))) => {
                self.history.never_happened(open);
                ("not done: its stage is gone".to_owned(), false)
            }
            Ended::Answered(Err(KvError::Refused(why))) => {
                self.history.never_happened(open);
                let what =
                    format!("client {client} at node {node}, key {key}: {what:?} refused: {why}");
                self.wrong.lock().push(what.clone());
                (what, false)
            }
            Ended::Answered(Err(KvError::Unavailable(why) | KvError::NoRoom(why))) => {
                self.history.never_happened(open);
                (format!("not done: {why}"), false)
            }
            Ended::Answered(Err(KvError::Unknown(why) | KvError::Damaged(why))) => {
                self.history.end(open, Told::Nothing);
                (format!("unknown: {why}"), false)
            }
            Ended::Nobody(why) => {
                self.history.end(open, Told::Nothing);
                (format!("unknown: {why}"), false)
            }
        };
        self.trace.say(format!(
            "client {client} at node {node}: key {key} {what:?}: {said}"
        ));
        fine
    }

    /// What was there; `None`: no answer.
    pub async fn read(&self, client: u64, node: u64, key: u64) -> Option<Option<Value>> {
        self.read_at(client, node, key, false).await
    }

    async fn read_slowly(&self, client: u64, node: u64, key: u64) -> Option<Option<Value>> {
        self.read_at(client, node, key, true).await
    }

    async fn read_at(
        &self,
        client: u64,
        node: u64,
        key: u64,
        slowly: bool,
    ) -> Option<Option<Value>> {
        let open = self.history.begin(client, key, What::Read);
        let ended = self.ask(node, |kv, bucket| async move {
            let current = VersionSelector::Current;
            let Some(version) = kv.head(&bucket, &Self::name(key), &current).await? else {
                return Ok(None);
            };
            // Overwritten since it was looked up: what it said of itself stands.
            let bytes = read_all(&kv, &version, slowly).await?;
            Ok(Some((version.new.etag, bytes)))
        });
        let found = match ended.await {
            Ended::Answered(Ok(found)) => found,
            Ended::Answered(Err(KvError::Refused(why))) => {
                let what =
                    format!("client {client} at node {node}, key {key}: a read was refused: {why}");
                self.wrong.lock().push(what);
                return None;
            }
            // The rule for rows that a copy cannot read: an error with their name, until they are brought back.
            Ended::Answered(Err(KvError::Damaged(why))) if self.nodes.is_rotten(node) => {
                self.trace.say(format!(
                    "client {client} at node {node}: key {key} Read: damaged: {why}"
                ));
                return None;
            }
            // Short of room a store gives freed bytes back at once, and a slow reader's connection is reset.
            Ended::Answered(Err(KvError::Damaged(why)))
                if why.starts_with(CUT_OFF) && self.nodes.any_full() =>
            {
                self.trace.say(format!(
                    "client {client} at node {node}: key {key} Read: {why}"
                ));
                return None;
            }
            Ended::Answered(Err(KvError::Damaged(why))) => {
                let what = format!("client {client} at node {node}, key {key}: damaged: {why}");
                self.wrong.lock().push(what);
                return None;
            }
            Ended::Answered(Err(error)) => {
                self.trace.say(format!(
                    "client {client} at node {node}: key {key} Read: {error}"
                ));
                return None;
            }
            Ended::Nobody(why) => {
                self.trace.say(format!(
                    "client {client} at node {node}: key {key} Read: {why}"
                ));
                return None;
            }
        };
        let found = found.map(|(etag, bytes)| {
            let value = etag.parse::<Value>().unwrap_or(0);
            if bytes.is_some_and(|bytes| bytes != content(value)) {
                let what =
                    format!("client {client} at node {node}, key {key}: wrong bytes under {etag}");
                self.wrong.lock().push(what);
            }
            value
        });
        self.history.end(open, Told::Found(found));
        self.trace.say(format!(
            "client {client} at node {node}: key {key} Read: {found:?}"
        ));
        Some(found)
    }
}

/// Nothing of the request itself was done yet.
pub(super) fn not_begun(error: KvError) -> KvError {
    match error {
        KvError::Unknown(why) | KvError::Damaged(why) => KvError::Unavailable(why),
        other => other,
    }
}
