//! What goes wrong with the disk of a node in a storm: it rots, fills up, fails now and then, hangs, reads from the wrong place.
//!
//! Which damage a cluster must survive: of every byte that was acknowledged a whole copy must be left on nodes that can meet.
//! Three nodes acknowledge on two, so only one of them may be damaged: the same one for a whole seed, and never while the disk
//! of another one was put back or emptied. It may rot again and again, and anywhere, but in
//! * what was written just now: rot there cannot be told from a torn tail (docs/damage.md);
//! * both copies of a small file, of a manifest, or of a run of the places: then a node does not start, or does not know where
//!   its bytes lie, and is replaced. One copy of each rots, always the same.
//!
//! Disks that are full, fail or hang lose nothing that was acknowledged: that happens to any node, and to several.

use std::path::Path;

use minikv_core::env::sim::SimDisk;

use crate::dice::Dice;
use crate::on_disk::{Kind, Record, Spot, settled, spots};

/// What rots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rot {
    /// Frames of chunks.
    Frames,
    /// Inline contents.
    Payloads,
    /// One copy of a run, manifest or small file.
    OneCopy,
    /// The same byte in both copies of a run of a group.
    BothCopies,
    /// Entries and votes of the log.
    Log,
}

/// All of them.
pub const ROTS: [Rot; 5] = [
    Rot::Frames,
    Rot::Payloads,
    Rot::OneCopy,
    Rot::BothCopies,
    Rot::Log,
];

fn is_of(rot: Rot, kind: Kind, twin: bool) -> bool {
    use Kind::{RecordHead, RecordHeader, RecordPayload};
    match kind {
        RecordHeader(Record::Frame | Record::MovedFrame)
        | RecordPayload(Record::Frame | Record::MovedFrame) => rot == Rot::Frames,
        RecordPayload(Record::Entry | Record::MovedPayload)
        | RecordHeader(Record::MovedPayload) => rot == Rot::Payloads,
        RecordHeader(Record::Entry | Record::Vote | Record::Truncate | Record::Purge)
        | RecordHead(Record::Entry | Record::Vote) => rot == Rot::Log,
        Kind::Run | Kind::Manifest | Kind::Current | Kind::Identity | Kind::Boot => {
            rot == Rot::OneCopy && !twin
        }
        Kind::RunTwin
        | Kind::ManifestTwin
        | Kind::CurrentTwin
        | Kind::IdentityTwin
        | Kind::BootTwin => rot == Rot::OneCopy && twin,
        _ => false,
    }
}

/// Flips some bits of such a kind, if there is any. `twin`: which copy rots where only one may. Says what.
pub fn rot(disk: &SimDisk, rot: Rot, twin: bool, dice: &mut Dice) -> Option<String> {
    let all = settled(spots(disk));
    if rot == Rot::BothCopies {
        return rot_both(disk, &all, dice);
    }
    let fits: Vec<&Spot> = all
        .iter()
        .filter(|spot| spot.len > 0 && is_of(rot, spot.kind, twin))
        .collect();
    let mut said = Vec::new();
    for _ in 0..1 + dice.below(3) {
        let spot = fits.get(dice.below(fits.len() as u64) as usize)?;
        let at = spot.at + dice.below(spot.len);
        disk.flip_bit(&spot.path, at, dice.below(8) as u8).ok()?;
        said.push(format!(
            "{:?} at {at} of {}",
            spot.kind,
            spot.path.display()
        ));
    }
    Some(said.join(", "))
}

fn rot_both(disk: &SimDisk, all: &[Spot], dice: &mut Dice) -> Option<String> {
    let is_run = |spot: &&Spot| {
        spot.kind == Kind::Run && spot.len > 0 && spot.path.to_string_lossy().contains("/groups/")
    };
    let runs: Vec<&Spot> = all.iter().filter(is_run).collect();
    let run = runs.get(dice.below(runs.len() as u64) as usize)?;
    let (at, bit) = (dice.below(run.len), dice.below(8) as u8);
    let twin = format!("{}.twin", run.path.display());
    disk.flip_bit(&run.path, at, bit).ok()?;
    disk.flip_bit(Path::new(&twin), at, bit).ok()?;
    Some(format!("both copies at {at} of {}", run.path.display()))
}

/// How far apart two records of frames of one length lie on this disk: a read that goes so far astray finds a whole record.
pub fn astray(disk: &SimDisk, dice: &mut Dice) -> Option<i64> {
    let all = spots(disk);
    let is_frame = |spot: &&Spot| spot.kind == Kind::RecordPayload(Record::Frame);
    let frames: Vec<&Spot> = all.iter().filter(is_frame).collect();
    let one = frames.get(dice.below(frames.len() as u64) as usize)?;
    let like = |spot: &&&Spot| (&spot.path, spot.len) == (&one.path, one.len) && spot.at != one.at;
    let others: Vec<&&Spot> = frames.iter().filter(like).collect();
    let other = others.get(dice.below(others.len() as u64) as usize)?;
    Some(other.at as i64 - one.at as i64)
}
