//! The things that a node does, as steps that can be put in any order, and the store that they are done to.
//!
//! All steps that change a key change the same one, "k", so that any two of them meet. What a client does is written
//! down; what the node does for itself (roll, compaction, checkpoint, release) must be invisible.
//!
//! Ten of them concern one group. The others are two-phase commits between groups of one node (pending, prepare, commit,
//! abort, finish and drop, each an entry of its own), and a stage that is given up: they need a store of two data groups.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use minikv_core::env::clock;
use minikv_core::env::sim::SimDisk;
use minikv_core::ids::VShard;
use minikv_core::kv::{
    Change, Check, Conditions, KvError, Must, NewContent, NewVersion, Refusal, TransactWrite,
};

use crate::client::Client;
use crate::content::Piece;
use crate::model::{Name, Op};
use crate::world::{INLINE, SEGMENT, World};

/// One thing a node does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Step {
    PutInline,
    PutChunked,
    Overwrite,
    Delete,
    Complete,
    Abort,
    Roll,
    Compaction,
    Checkpoint,
    Release,
    /// A transaction writes a key of each group.
    Transact,
    /// The same, and one of the two is large: its stage is held by the prepared part, and claimed by the commit.
    TransactChunked,
    /// One group refuses, so what the other one prepared is taken away.
    TransactRefused,
    /// An empty bucket goes: prepared in the directory and in every group.
    DropBucket,
    /// A stage with a body is given up.
    Abandon,
}

/// What a store must be like for the steps that are done to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Data groups.
    pub groups: u16,
    /// Steps of a sequence, at most.
    pub places: usize,
}

impl Shape {
    /// For sequences of one and two steps that concern one group.
    pub const ONE_GROUP: Shape = Shape {
        groups: 1,
        places: 2,
    };
    /// For others of one and two.
    pub const TWO_GROUPS: Shape = Shape {
        groups: 2,
        places: 2,
    };
    /// For all of three.
    pub const THREE_STEPS: Shape = Shape {
        groups: 2,
        places: 3,
    };
}

impl Step {
    /// Those that concern one group.
    pub const OF_ONE_GROUP: [Step; 10] = [
        Step::PutInline,
        Step::PutChunked,
        Step::Overwrite,
        Step::Delete,
        Step::Complete,
        Step::Abort,
        Step::Roll,
        Step::Compaction,
        Step::Checkpoint,
        Step::Release,
    ];

    /// The others.
    pub const OF_TWO_GROUPS: [Step; 5] = [
        Step::Transact,
        Step::TransactChunked,
        Step::TransactRefused,
        Step::DropBucket,
        Step::Abandon,
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Step> + Clone {
        Step::OF_ONE_GROUP.into_iter().chain(Step::OF_TWO_GROUPS)
    }

    /// All sequences of one and of two steps of one group.
    pub fn sequences() -> Vec<Vec<Step>> {
        one_and_two(Step::OF_ONE_GROUP.into_iter()).collect()
    }

    /// All sequences of one and of two steps with one in it that needs two groups.
    pub fn sequences_of_two_groups() -> Vec<Vec<Step>> {
        let needs_two = |step: &Step| Step::OF_TWO_GROUPS.contains(step);
        one_and_two(Step::all())
            .filter(|steps| steps.iter().any(needs_two))
            .collect()
    }

    /// All sequences of three steps.
    pub fn sequences_of_three() -> Vec<Vec<Step>> {
        let two = one_and_two(Step::all()).filter(|steps| steps.len() == 2);
        two.flat_map(|two| Step::all().map(move |third| vec![two[0], two[1], third]))
            .collect()
    }

    /// Does it, as the step at this place of a sequence.
    pub async fn run(self, world: &World, place: usize, shape: Shape) -> Result<(), KvError> {
        let client = &world.client;
        let seed = 1000 + place as u64;
        match self {
            Step::PutInline => client.run(&key("new"), Op::Put(inline(seed).into())).await,
            Step::PutChunked => client.run(&key("k"), Op::Put(chunked(seed).into())).await,
            Step::Overwrite => client.run(&key("k"), Op::Put(inline(seed).into())).await,
            Step::Delete => client.run(&key("k"), Op::Delete).await,
            Step::Complete => {
                client
                    .run(&key("k"), Op::Complete(upload(place), vec![1, 2]))
                    .await
            }
            Step::Abort => {
                let upload = upload(shape.places + place);
                client.run(&key("k"), Op::Abort(upload)).await
            }
            Step::Roll => roll(client, &world.disk, seed).await,
            Step::Compaction => world.node.compact_now().await,
            Step::Checkpoint => world.node.checkpoint_now().await,
            Step::Release => world.node.sweep_now().await,
            Step::Transact => {
                let other = other(client).await?;
                let puts = [("k", inline(seed)), (&other, inline(seed + 500))];
                client.put_together("b", &puts).await
            }
            Step::TransactChunked => {
                let other = other(client).await?;
                let puts = [("k", chunked(seed)), (&other, inline(seed + 500))];
                client.put_together("b", &puts).await
            }
            Step::TransactRefused => refused(client, seed).await,
            Step::DropBucket => client.drop_bucket(&empty_bucket(place)).await,
            Step::Abandon => {
                let bucket = client.bucket("b").await?;
                let bytes = chunked(seed).bytes();
                let (any, declared) = (Conditions::default(), Some(bytes.len() as u64));
                let stage = client.kv().open_stage(&bucket, "k".into(), declared, &any);
                let mut stage = stage.await?;
                // A chunk is on its way, and a little of the next one.
                stage.write(bytes.slice(..70_000)).await?;
                stage.abandon().await;
                Ok(())
            }
        }
    }
}

/// Sequences of one and of two of these.
fn one_and_two(steps: impl Iterator<Item = Step> + Clone) -> impl Iterator<Item = Vec<Step>> {
    let one = steps.clone().map(|first| vec![first]);
    let two = steps
        .clone()
        .flat_map(move |first| steps.clone().map(move |second| vec![first, second]));
    one.chain(two)
}

/// A key of the other group than "k".
async fn other(client: &Client) -> Result<String, KvError> {
    let bucket = client.bucket("b").await?;
    let group = |key: &str| VShard::of(bucket.id, key.as_bytes()).0 % 2;
    let mut names = (0..).map(|number| format!("other-{number}"));
    let other = names.find(|name| group(name) != group("k"));
    Ok(other.unwrap_or_default())
}

/// Each place in a sequence has its own to delete.
fn empty_bucket(place: usize) -> String {
    format!("empty-{place}")
}

/// A transaction that is always refused, after one of its two groups was prepared. Nothing of it may ever be there.
async fn refused(client: &Client, seed: u64) -> Result<(), KvError> {
    let bucket = client.bucket("b").await?;
    let other = other(client).await?;
    let writes = ["k", &other].map(|key| TransactWrite {
        bucket: bucket.clone(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        change: Change::Put(
            NewVersion {
                etag: "refused".to_owned(),
                size: 300,
                ..NewVersion::default()
            },
            NewContent::Inline(inline(seed).bytes()),
        ),
    });
    let check = Check {
        bucket: bucket.clone(),
        key: "kept".into(),
        must: Must::BeAbsent,
    };
    match client.kv().transact(vec![check], Vec::from(writes)).await {
        Err(KvError::Refused(Refusal::CheckFailed(0))) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => panic!("a transaction went past a check that does not hold"),
    }
}

fn key(key: &str) -> Name {
    Name::new("b", key)
}

/// Each place in a sequence has its own to complete, and its own to abort.
fn upload(number: usize) -> String {
    format!("upload-{number}")
}

fn inline(seed: u64) -> Piece {
    Piece::new(seed, 300)
}

/// Two chunks, the second one short.
fn chunked(seed: u64) -> Piece {
    Piece::new(seed, 90_000)
}

/// Writes until the log begins a new segment.
async fn roll(client: &Client, disk: &SimDisk, seed: u64) -> Result<(), KvError> {
    let before = newest_segment(disk);
    for round in 0..4 * u64::from(SEGMENT) / INLINE {
        let filler = Piece::new(seed + 10_000 * (round + 1), INLINE);
        client.run(&key("filler"), Op::Put(filler.into())).await?;
        if newest_segment(disk) > before {
            return Ok(());
        }
    }
    panic!("no segment was rolled by writing four times its size");
}

/// The meta segment that is written to: the newest one is a spare.
fn newest_segment(disk: &SimDisk) -> Option<PathBuf> {
    let files = disk.files().into_iter().map(|(path, _)| path);
    let is_meta = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("meta-"))
    };
    files.filter(is_meta).max()
}

/// Puts something into a new store for every step to work on, and for none.
pub async fn furnish(world: &World, shape: Shape) -> Result<(), KvError> {
    let client = &world.client;
    client.create_bucket("b", false).await?;
    client.run(&key("kept"), Op::Put(inline(1).into())).await?;
    client
        .run(&key("kept-chunked"), Op::Put(chunked(2).into()))
        .await?;
    // Garbage for compaction and release, behind a checkpoint and before it.
    client.run(&key("k"), Op::Put(chunked(3).into())).await?;
    client.run(&key("k"), Op::Put(chunked(4).into())).await?;
    roll(client, &world.disk, 5).await?;
    world.node.checkpoint_now().await?;
    client.run(&key("k"), Op::Put(chunked(6).into())).await?;
    for number in 0..2 * shape.places {
        let label = upload(number);
        let seed = 10 * (number as u64 + 1);
        client
            .run(&key("k"), Op::CreateUpload(label.clone()))
            .await?;
        client
            .run(&key("k"), Op::Part(label.clone(), 1, chunked(seed)))
            .await?;
        client
            .run(&key("k"), Op::Part(label, 2, inline(seed + 1)))
            .await?;
    }
    client.run(&key("k"), Op::Put(chunked(7).into())).await?;
    if shape.groups > 1 {
        let other = key(&other(client).await?);
        client.run(&other, Op::Put(inline(8).into())).await?;
        for place in 0..shape.places {
            client.create_bucket(&empty_bucket(place), false).await?;
        }
    }
    clock::sleep(Duration::from_secs(2)).await;
    Ok(())
}

/// Goes on with a furnished store: overwrites until compaction moves what is left, a checkpoint, and a little behind it.
pub async fn wear(world: &World) -> Result<(), KvError> {
    let client = &world.client;
    for round in 1..5 {
        client
            .run(&key("k"), Op::Put(chunked(50_000 + round).into()))
            .await?;
        roll(client, &world.disk, 50_000 + 100 * round).await?;
    }
    world.node.checkpoint_now().await?;
    world.node.sweep_now().await?;
    world.node.compact_now().await?;
    add_behind(world, 800).await
}

/// A small and a large object that no checkpoint holds yet.
pub async fn add_behind(world: &World, seed: u64) -> Result<(), KvError> {
    let client = &world.client;
    client
        .run(&key("behind"), Op::Put(inline(seed).into()))
        .await?;
    client
        .run(&key("behind-chunked"), Op::Put(chunked(seed + 1).into()))
        .await?;
    clock::sleep(Duration::from_secs(2)).await;
    Ok(())
}
