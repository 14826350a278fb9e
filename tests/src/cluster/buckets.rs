//! Clients that make buckets, change them, delete them when they are empty, and meanwhile write into those of each other.
//!
//! Always true: the settings of a bucket say which life of its name it is and which change was the last, so whoever reads its
//! facts knows which ones they saw.
//!
//! Elsewhere: what must hold (`invariants::bucket_life`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use minikv_core::env::clock;
use minikv_core::kv::{
    Bucket, Conditions, CreateBucket, CreateBucketError, KvError, Refusal, VersionSelector,
    Versioning,
};
use parking_lot::Mutex;

use super::clients::{Clients, Ended, PATIENCE, content, put_if, read_all};
use super::history::{NEVER, Value};
use super::trace::{now, seconds};
use crate::client::TENANT;
use crate::dice::Dice;
use crate::invariants::bucket_life;
use crate::invariants::order::Found;

/// Names that they fight for.
const NAMES: u64 = 2;
/// Keys in each: in more than one group.
pub const KEYS: u64 = 3;
/// How many clients there are.
pub const COUNT: u64 = 2;

/// Names one life of a bucket: what its creation wrote into its settings.
pub type Life = Value;

/// What was asked of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Asked {
    Create,
    Drop,
    Change,
    Find,
    Put(u64),
    Delete(u64),
    Read(u64),
}

/// What was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// Nothing, or that nobody knows.
    Nothing,
    /// It happened.
    Done,
    /// There is no such bucket.
    NoBucket,
    /// It is not empty.
    NotEmpty,
    /// There is one already, in this life.
    Exists(Life),
    /// Its life, and the last change of its settings.
    Facts(Life, Value),
    /// What lies under the key.
    Found(Option<Value>),
}

/// One call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// Which client.
    pub client: u64,
    /// Which name.
    pub name: u64,
    /// What it asked.
    pub asked: Asked,
    /// What the call writes.
    pub mark: Value,
    /// The life of the bucket that it had looked up.
    pub life: Option<Life>,
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
        let (client, name, from) = (self.client, self.name, seconds(self.called));
        write!(
            f,
            "{from:>11} to {until:>11}  client {client}, bucket {name}: {:?} {} (life {:?}) -> {:?}",
            self.asked, self.mark, self.life, self.told
        )
    }
}

/// Clients of buckets.
#[derive(Clone)]
pub struct Buckets {
    clients: Clients,
    calls: Arc<Mutex<Vec<Option<Call>>>>,
}

fn name_of(name: u64) -> String {
    format!("bucket-{name}")
}

fn key_of(key: u64) -> Bytes {
    Bytes::from(format!("key-{key}"))
}

/// Life and last change, as the settings of a bucket say.
fn facts(bucket: &Bucket) -> (Life, Value) {
    let text = std::str::from_utf8(&bucket.settings).unwrap_or_default();
    let (life, change) = text.split_once('.').unwrap_or_default();
    (life.parse().unwrap_or(0), change.parse().unwrap_or(0))
}

impl Buckets {
    /// Clients that ask the same nodes.
    pub fn new(clients: Clients) -> Buckets {
        Buckets {
            clients,
            calls: Arc::default(),
        }
    }

    /// One client, until told to stop.
    pub async fn client(self, number: u64, mut dice: Dice, stop: Arc<AtomicBool>) {
        let count = self.clients.nodes.count();
        let mut node = 1 + dice.below(count);
        while !stop.load(Ordering::Relaxed) {
            clock::sleep(Duration::from_millis(20 + dice.below(250))).await;
            let (name, key) = (dice.below(NAMES), dice.below(KEYS));
            let asked = match dice.below(100) {
                0..16 => Asked::Create,
                16..34 => Asked::Drop,
                34..40 => Asked::Change,
                40..46 => Asked::Find,
                46..64 => Asked::Put(key),
                64..86 => Asked::Delete(key),
                _ => Asked::Read(key),
            };
            let fine = self.call(number, node, name, asked).await;
            if !fine || dice.percent(15) {
                node = 1 + dice.below(count);
            }
        }
    }

    /// Asks, and writes down what came of it; says whether it went well.
    async fn call(&self, client: u64, node: u64, name: u64, asked: Asked) -> bool {
        let mark = self.clients.value();
        let call = Call {
            client,
            name,
            asked,
            mark,
            life: None,
            called: now(),
            returned: NEVER,
            told: Told::Nothing,
        };
        let at = {
            let mut calls = self.calls.lock();
            calls.push(Some(call));
            calls.len() - 1
        };
        let (life, ended) = self.ask(node, name, asked, mark).await;
        let mut call = Call { life, ..call };
        let refused = |why: &Refusal| match (asked, why) {
            (Asked::Create | Asked::Find, _) => None,
            (_, Refusal::NoSuchBucket) => Some(Told::NoBucket),
            (Asked::Drop, Refusal::BucketNotEmpty) => Some(Told::NotEmpty),
            _ => None,
        };
        let mut happened = true;
        let said = match ended {
            Ended::Answered(Ok(told)) => {
                call.told = told;
                String::new()
            }
            Ended::Answered(Err(KvError::Refused(Refusal::StageGone))) => {
                happened = false;
                "its stage is gone".to_owned()
            }
            Ended::Answered(Err(KvError::Refused(why))) => {
                match refused(&why) {
                    Some(told) => call.told = told,
                    None => {
                        happened = false;
                        self.wrong(format!("{call}: refused: {why}"));
                    }
                }
                String::new()
            }
            Ended::Answered(Err(KvError::Unavailable(why) | KvError::NoRoom(why))) => {
                happened = false;
                why
            }
            Ended::Answered(Err(KvError::Damaged(why)))
                if matches!(asked, Asked::Read(_) | Asked::Find) =>
            {
                self.wrong(format!("{call}: damaged: {why}"));
                why
            }
            Ended::Answered(Err(error)) => error.to_string(),
            Ended::Nobody(why) => why.to_owned(),
        };
        let fine = call.told != Told::Nothing;
        if fine {
            call.returned = now();
        }
        self.calls.lock()[at] = happened.then_some(call);
        let node = format!("at node {node}");
        self.clients.trace.say(match happened {
            true => format!("{call} {node} {said}"),
            false => format!("{call} {node} not done: {said}"),
        });
        fine
    }

    fn wrong(&self, what: String) {
        self.clients.wrong.lock().push(what);
    }

    /// The life that was looked up, and what came of the request.
    async fn ask(
        &self,
        node: u64,
        name: u64,
        asked: Asked,
        mark: Value,
    ) -> (Option<Life>, Ended<Told>) {
        let life = Arc::new(Mutex::new(None));
        let (looked_up, clients) = (life.clone(), self.clients.clone());
        let ended = match asked {
            Asked::Create => {
                let made = clients.ask_node(node, PATIENCE, |kv| async move {
                    let create = CreateBucket {
                        name: name_of(name),
                        tenant: TENANT,
                        owner: "owner".to_owned(),
                        versioning: Versioning::Off,
                        lock: false,
                        settings: Bytes::from(format!("{mark}.0")),
                    };
                    match kv.create_bucket(create).await {
                        Ok(_) => Ok(Told::Done),
                        Err(CreateBucketError::Exists(bucket)) => {
                            Ok(Told::Exists(facts(&bucket).0))
                        }
                        Err(CreateBucketError::Kv(error)) => Err(error),
                    }
                });
                made.await
            }
            Asked::Drop => {
                let dropped = clients.ask_node(node, PATIENCE, |kv| async move {
                    kv.delete_bucket(&name_of(name)).await.map(|()| Told::Done)
                });
                dropped.await
            }
            Asked::Change => {
                let changed = clients.ask_node(node, PATIENCE, |kv| async move {
                    let change = move |bucket: &mut Bucket| {
                        let life = facts(bucket).0;
                        bucket.settings = Bytes::from(format!("{life}.{mark}"));
                    };
                    let changed = kv.change_bucket(&name_of(name), change).await?;
                    *looked_up.lock() = Some(facts(&changed).0);
                    Ok(Told::Done)
                });
                changed.await
            }
            Asked::Find => {
                let found = clients.ask_node(node, PATIENCE, |kv| async move {
                    let found = kv.bucket(&name_of(name)).await?;
                    Ok(found.map_or(Told::NoBucket, |bucket| {
                        let (life, change) = facts(&bucket);
                        Told::Facts(life, change)
                    }))
                });
                found.await
            }
            Asked::Put(key) => {
                let bucket = name_of(name);
                let put = clients.ask_of(node, &bucket, PATIENCE, |kv, bucket| async move {
                    *looked_up.lock() = Some(facts(&bucket).0);
                    let (any, etag) = (Conditions::default(), mark.to_string());
                    put_if(&kv, &bucket, key_of(key), content(mark), &etag, any).await?;
                    Ok(Told::Done)
                });
                put.await
            }
            Asked::Delete(key) => {
                let bucket = name_of(name);
                let deleted = clients.ask_of(node, &bucket, PATIENCE, |kv, bucket| async move {
                    *looked_up.lock() = Some(facts(&bucket).0);
                    let (any, current) = (Conditions::default(), VersionSelector::Current);
                    kv.delete(&bucket, key_of(key), current, any).await?;
                    Ok(Told::Done)
                });
                deleted.await
            }
            Asked::Read(key) => {
                let bucket = name_of(name);
                let wrong = self.clients.wrong.clone();
                let read = clients.ask_of(node, &bucket, PATIENCE, |kv, bucket| async move {
                    *looked_up.lock() = Some(facts(&bucket).0);
                    let current = VersionSelector::Current;
                    let Some(version) = kv.head(&bucket, &key_of(key), &current).await? else {
                        return Ok(Told::Found(None));
                    };
                    let value = version.new.etag.parse().unwrap_or(0);
                    let bytes = read_all(&kv, &version, false).await?;
                    if bytes.is_some_and(|bytes| bytes != content(value)) {
                        let what = format!("bucket {name}, key {key}: wrong bytes under {value}");
                        wrong.lock().push(what);
                    }
                    Ok(Told::Found(Some(value)))
                });
                read.await
            }
        };
        let life = *life.lock();
        (life, ended)
    }

    /// Everything through one node, when nobody works any more.
    pub async fn audit(&self, node: u64) -> Result<(), String> {
        for name in 0..NAMES {
            let looks = (0..KEYS).map(Asked::Read).chain([Asked::Find]);
            for asked in looks {
                if !self.call(100 + node, node, name, asked).await {
                    return Err(format!(
                        "node {node} does not answer {asked:?} in the audit"
                    ));
                }
            }
        }
        Ok(())
    }

    /// All names that may have a bucket.
    pub fn names(&self) -> Vec<String> {
        (0..NAMES).map(name_of).collect()
    }

    /// What no order of the calls explains; and how many names were not decided in time.
    pub fn broken(&self) -> (Vec<String>, usize) {
        let (mut broken, mut undecided) = (Vec::new(), 0);
        for name in 0..NAMES {
            let calls = self.calls.lock();
            let of_name = calls.iter().flatten().filter(|call| call.name == name);
            let mut of_name: Vec<Call> = of_name.copied().collect();
            drop(calls);
            of_name.sort_by_key(|call| call.called);
            match bucket_life::check(&of_name) {
                Found::Order => {}
                Found::Undecided => undecided += 1,
                Found::NoOrder => {
                    let lines: Vec<String> =
                        of_name.iter().map(|call| format!("    {call}")).collect();
                    broken.push(format!(
                        "bucket {name}: no order of its calls explains what was told\n{}",
                        lines.join("\n")
                    ));
                }
            }
        }
        (broken, undecided)
    }

    /// How many calls, and how many of them nobody knows the outcome of.
    pub fn count(&self) -> (usize, usize) {
        let calls = self.calls.lock();
        let all = calls.iter().flatten();
        let open = all.clone().filter(|call| call.returned == NEVER);
        (all.clone().count(), open.count())
    }
}
