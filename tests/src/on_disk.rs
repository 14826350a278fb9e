//! Finds records, headers, payloads and files on a disk by the documented formats (docs/formats/log.md, runs.md), so that
//! a test can damage exactly one of a kind. It shares no code with the store: what it cannot find, the page tells wrongly.
//!
//! Always true: a spot lies wholly within bytes that were written; flipping any bit of it is damage to that kind alone.

use std::path::{Path, PathBuf};

use minikv_core::env::sim::SimDisk;

/// A run of bytes on the disk with one meaning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spot {
    /// What it is.
    pub kind: Kind,
    /// In which file.
    pub path: PathBuf,
    /// Where.
    pub at: u64,
    /// How long.
    pub len: u64,
    /// For parts of records: the group.
    pub group: u16,
    /// For parts of records: the entry's or stage's log index.
    pub index: u64,
}

/// What bytes mean.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Kind {
    SegmentHeader,
    BatchHeader,
    BatchTable,
    RecordHeader(Record),
    RecordHead(Record),
    RecordPayload(Record),
    Run,
    RunTwin,
    Manifest,
    ManifestTwin,
    Current,
    CurrentTwin,
    Identity,
    IdentityTwin,
    Boot,
    BootTwin,
    Other,
}

/// Kinds of records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Record {
    Entry,
    Vote,
    Truncate,
    Purge,
    Standing,
    Frame,
    MovedPayload,
    MovedFrame,
    Remove,
}

impl Record {
    fn of(kind: u8) -> Option<Record> {
        const ALL: [Record; 9] = [
            Record::Entry,
            Record::Vote,
            Record::Truncate,
            Record::Purge,
            Record::Standing,
            Record::Frame,
            Record::MovedPayload,
            Record::MovedFrame,
            Record::Remove,
        ];
        ALL.get(usize::from(kind).checked_sub(1)?).copied()
    }
}

/// Everything there is.
pub fn spots(disk: &SimDisk) -> Vec<Spot> {
    let mut spots = Vec::new();
    for (path, len) in disk.files() {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.ends_with(".seg") {
            let Ok(bytes) = disk.contents(&path) else {
                continue;
            };
            segment(&path, &bytes, &mut spots);
            continue;
        }
        let (stem, twin) = match name.strip_suffix(".twin") {
            Some(stem) => (stem, true),
            None => (name, false),
        };
        let kind = match stem {
            "identity" if twin => Kind::IdentityTwin,
            "identity" => Kind::Identity,
            "boot" if twin => Kind::BootTwin,
            "boot" => Kind::Boot,
            "CURRENT" if twin => Kind::CurrentTwin,
            "CURRENT" => Kind::Current,
            run if run.ends_with(".run") && twin => Kind::RunTwin,
            run if run.ends_with(".run") => Kind::Run,
            manifest if manifest.starts_with("manifest-") && twin => Kind::ManifestTwin,
            manifest if manifest.starts_with("manifest-") => Kind::Manifest,
            _ => Kind::Other,
        };
        spots.push(Spot {
            kind,
            path,
            at: 0,
            len,
            group: 0,
            index: 0,
        });
    }
    spots
}

/// What was surely durable, and is known to be: not in the last two batches of a stream. (The writer begins a batch when the
/// one before it is fsynced; the header of the last but one then says how far the stream was durable, and even if the last one
/// is lost in a power cut, damage in front of that is told from a torn tail.)
pub fn settled(spots: Vec<Spot>) -> Vec<Spot> {
    let is_log = |spot: &Spot| spot.path.extension().is_some_and(|end| end == "seg");
    let mut ends = std::collections::BTreeMap::new();
    for stream in ["meta", "blob"] {
        let is_of = |spot: &&Spot| is_log(spot) && spot.path.to_string_lossy().contains(stream);
        let mut batches: Vec<(PathBuf, u64)> = spots
            .iter()
            .filter(is_of)
            .filter(|spot| spot.kind == Kind::BatchHeader)
            .map(|spot| (spot.path.clone(), spot.at))
            .collect();
        batches.sort();
        ends.insert(
            stream,
            batches.len().checked_sub(2).map(|at| batches[at].clone()),
        );
    }
    let before = |spot: &Spot| {
        let stream = ends
            .iter()
            .find(|(name, _)| spot.path.to_string_lossy().contains(**name));
        let end = stream.and_then(|(_, end)| end.as_ref());
        end.is_some_and(|(path, at)| (&spot.path, spot.at) < (path, *at))
    };
    spots
        .into_iter()
        .filter(|spot| !is_log(spot) || before(spot))
        .collect()
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    if let Some(found) = bytes.get(at..at + N) {
        out[..N].copy_from_slice(found);
    }
    u64::from_le_bytes(out)
}

const FIRST_BATCH: usize = 4096;
const BATCH_HEADER: usize = 64;
const TABLE_ROW: usize = 32;
const RECORD_HEADER: usize = 72;

/// Whether a batch begins here. Its position guards against bytes of users that look like one.
fn is_batch(bytes: &[u8], at: usize) -> bool {
    bytes.get(at..at + 4) == Some(b"MKLB") && number::<4>(bytes, at + 8) == at as u64
}

fn segment(path: &Path, bytes: &[u8], spots: &mut Vec<Spot>) {
    let mut add = |kind, at: usize, len: usize, group, index| {
        if len > 0 {
            let (at, len) = (at as u64, len as u64);
            spots.push(Spot {
                kind,
                path: path.to_owned(),
                at,
                len,
                group,
                index,
            });
        }
    };
    add(Kind::SegmentHeader, 0, 48, 0, 0);
    let mut at = FIRST_BATCH;
    while is_batch(bytes, at) {
        let count = number::<4>(bytes, at + 44) as usize;
        let end = at + number::<4>(bytes, at + 48) as usize;
        add(Kind::BatchHeader, at, BATCH_HEADER, 0, 0);
        add(Kind::BatchTable, at + BATCH_HEADER, TABLE_ROW * count, 0, 0);
        at += BATCH_HEADER + TABLE_ROW * count;
        // A batch that recovery cut short ends where the next one begins.
        while at < end && !is_batch(bytes, at) {
            let Some(record) = bytes.get(at + 3).and_then(|kind| Record::of(*kind)) else {
                return;
            };
            let group = number::<2>(bytes, at + 4) as u16;
            let index = number::<8>(bytes, at + 24);
            let payload = number::<4>(bytes, at + 48) as usize;
            let head = number::<4>(bytes, at + 56) as usize;
            add(Kind::RecordHeader(record), at, RECORD_HEADER, group, index);
            add(
                Kind::RecordPayload(record),
                at + RECORD_HEADER,
                payload,
                group,
                index,
            );
            add(
                Kind::RecordHead(record),
                at + RECORD_HEADER + payload,
                head,
                group,
                index,
            );
            at += (RECORD_HEADER + payload + head).next_multiple_of(8);
        }
    }
}
