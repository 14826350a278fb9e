//! The ten things that a node does, as steps that can be put in any order, and the store that they are done to.
//!
//! All steps that change a key change the same one, "k", so that any two of them meet. What a client does is written
//! down; what the node does for itself (roll, compaction, checkpoint, release) must be invisible.

use std::path::PathBuf;
use std::time::Duration;

use minikv_core::env::clock;
use minikv_core::env::sim::SimDisk;
use minikv_core::kv::KvError;

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
}

impl Step {
    /// All of them.
    pub const ALL: [Step; 10] = [
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

    /// All sequences of one and of two steps.
    pub fn sequences() -> Vec<Vec<Step>> {
        let one = Step::ALL.iter().map(|first| vec![*first]);
        let two = Step::ALL
            .iter()
            .flat_map(|first| Step::ALL.iter().map(|second| vec![*first, *second]));
        one.chain(two).collect()
    }

    /// Does it, as the step at this place of a sequence.
    pub async fn run(self, world: &World, place: usize) -> Result<(), KvError> {
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
            Step::Abort => client.run(&key("k"), Op::Abort(upload(2 + place))).await,
            Step::Roll => roll(client, &world.disk, seed).await,
            Step::Compaction => world.node.compact_now().await,
            Step::Checkpoint => world.node.checkpoint_now().await,
            Step::Release => world.node.sweep_now().await,
        }
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
pub async fn furnish(world: &World) -> Result<(), KvError> {
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
    for number in 0..4 {
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
