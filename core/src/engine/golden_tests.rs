//! Bytes that are fixed for ever: a store written by the first version, as files in `golden/`.
//!
//! Today's writer must write the very same (or raise the format), today's reader must read them. To add a new set after
//! a change of format: `cargo test -p minikv-core write_golden_files -- --ignored`, under a new name.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::block::RunId;
use super::block_cache::BlockCache;
use super::budget::OverlayBudget;
use super::manifest::{Current, Manifest, StoreKind};
use super::merge::Merger;
use super::native::Native;
use super::place_key::PlaceKey;
use super::place_ledger::PlaceLedger;
use super::places::Places;
use super::run_store::{Birth, StoreOptions};
use super::run_writer::RunWriter;
use super::{Engine, View, digest};
use crate::env::disk::Open;
use crate::env::sim::{self, SimDisk};
use crate::ids::{ChunkId, GroupId, PayloadId, StageId, VShard};
use crate::log::{Complete, Item, Place, Position, Stream};

type Rows = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Name of a file and its bytes.
type Files = Vec<(String, Vec<u8>)>;

/// What lies in `golden/`.
const GOLDEN: [(&str, &[u8]); 6] = [
    (
        "0000000000000001-00000000c0ffee01.run",
        include_bytes!("golden/0000000000000001-00000000c0ffee01.run"),
    ),
    (
        "manifest-0000000000000003",
        include_bytes!("golden/manifest-0000000000000003"),
    ),
    ("CURRENT", include_bytes!("golden/CURRENT")),
    (
        "0000000000000002-00000000c0ffee02.run",
        include_bytes!("golden/0000000000000002-00000000c0ffee02.run"),
    ),
    (
        "manifest-0000000000000004",
        include_bytes!("golden/manifest-0000000000000004"),
    ),
    (
        "CURRENT-of-places",
        include_bytes!("golden/CURRENT-of-places"),
    ),
];

/// Several data blocks: shared prefixes, keys that are prefixes of others, an empty row, a long one, tombstones.
fn rows() -> Rows {
    let mut rows: Rows = vec![
        (b"".to_vec(), Some(b"row of the empty key".to_vec())),
        (b"a".to_vec(), Some(Vec::new())),
        (b"a\0".to_vec(), None),
    ];
    for n in 0..120u8 {
        let row = if n % 10 == 9 {
            None
        } else {
            Some(vec![n; if n == 50 { 9000 } else { n as usize }])
        };
        rows.push((format!("bucket/photo-{n:03}").into_bytes(), row));
    }
    rows.push((vec![0xff; 300], Some(b"last".to_vec())));
    rows
}

fn places() -> Vec<(Item, Place)> {
    let payload = |index| {
        Item::Payload(PayloadId {
            group: GroupId(2),
            index,
            term: 7,
        })
    };
    let stage = StageId {
        group: GroupId(2),
        incarnation: 1,
        index: 99,
    };
    let frame = |ordinal, frame| Item::Frame {
        chunk: ChunkId {
            vshard: VShard(31),
            stage,
            ordinal,
        },
        frame,
    };
    let place = |stream, segment, offset, len| Place {
        stream,
        position: Position::new(segment, offset),
        len,
    };
    vec![
        (payload(41), place(Stream::Meta, 1, 4096, 100)),
        (payload(42), place(Stream::Blob, 2, 8192, 65_536)),
        (frame(0, 0), place(Stream::Blob, 2, 65_536, 1 << 20)),
        (frame(1, 3), place(Stream::Blob, 3, 4096, 12)),
    ]
}

fn run(id: RunId, rows: &Rows) -> (super::run::RunMeta, Vec<u8>) {
    let disk = SimDisk::new(1);
    disk.plant_dir("/d").unwrap();
    let file = disk
        .env()
        .disk
        .open("/d/run".as_ref(), Open::CreateNew)
        .unwrap();
    // The length of blocks is the writer's choice, not the format's; these were written when it was 8 KiB.
    let mut writer = RunWriter::new(id, vec![file]).with_blocks_of(8 << 10);
    rows.iter()
        .for_each(|(key, row)| writer.add(key, row.as_deref()));
    let meta = futures::executor::block_on(writer.finish()).unwrap();
    (meta, disk.contents("/d/run").unwrap())
}

fn written() -> Files {
    let rows = rows();
    let (meta, bytes) = run(
        RunId {
            number: 1,
            nonce: 0xc0ffee01,
        },
        &rows,
    );
    let hash = |sum: u128, (key, row): &(Vec<u8>, Option<Vec<u8>>)| {
        sum.wrapping_add(digest::delta(key, None, row.as_deref()))
    };
    let manifest = Manifest {
        generation: 3,
        next_run: 2,
        applied: Some(Bytes::from_static(b"applied mark")),
        digest: rows.iter().fold(0, hash),
        runs: vec![meta.clone()],
        ..Manifest::empty(StoreKind::Rows)
    };
    let mut files = vec![(meta.file_name(false), bytes)];
    files.extend(manifest_files(&manifest, ""));

    let mut ledger = PlaceLedger::default();
    places().iter().for_each(|(_, place)| ledger.came(*place));
    ledger.advance(Complete {
        meta: Position::new(1, 8192),
        blob: Position::new(3, 8192),
    });
    let rows = places()
        .iter()
        .map(|(item, place)| {
            (
                PlaceKey::of(item).bytes().to_vec(),
                Some(place.encode().to_vec()),
            )
        })
        .collect();
    let (meta, bytes) = run(
        RunId {
            number: 2,
            nonce: 0xc0ffee02,
        },
        &rows,
    );
    let manifest = Manifest {
        generation: 4,
        next_run: 3,
        extra: ledger.encode(),
        runs: vec![meta.clone()],
        ..Manifest::empty(StoreKind::Places)
    };
    files.push((meta.file_name(false), bytes));
    files.extend(manifest_files(&manifest, "-of-places"));
    files
}

fn manifest_files(manifest: &Manifest, suffix: &str) -> Files {
    let bytes = manifest.encode();
    let current = Current::of(manifest.generation, &bytes).encode();
    vec![
        (
            Manifest::file_name(manifest.generation, false),
            bytes.to_vec(),
        ),
        (format!("CURRENT{suffix}"), current.to_vec()),
    ]
}

/// A store on disk is read by every later version: no byte may change unnoticed.
#[test]
fn todays_writer_writes_the_golden_bytes() {
    for ((name, bytes), (golden_name, golden)) in written().iter().zip(GOLDEN) {
        assert_eq!(name, golden_name);
        assert!(
            bytes == golden,
            "{name} differs: raise the format, keep the old reader, add a new golden set"
        );
    }
}

fn options(files: &[(&str, &[u8])]) -> StoreOptions {
    let disk = SimDisk::new(1);
    for (name, bytes) in files {
        disk.plant(format!("/d/{}", name.trim_end_matches("-of-places")), bytes)
            .unwrap();
    }
    let (dir, cache) = (PathBuf::from("/d"), Arc::new(BlockCache::new(1 << 20)));
    StoreOptions {
        disk: disk.env().disk,
        dir,
        twins: false,
        birth: Birth::MustExist,
        cache,
    }
}

#[test]
fn todays_reader_reads_the_golden_bytes() {
    sim::run(1, async {
        let (budget, merger) = (OverlayBudget::new(1 << 20), Merger::new(0));
        let engine = Native::open(options(&GOLDEN[..3]), budget.clone(), merger.clone())
            .await
            .unwrap();
        assert_eq!(engine.applied().unwrap(), "applied mark");
        let live: Vec<_> = rows()
            .into_iter()
            .filter_map(|(key, row)| Some((key, row?)))
            .collect();
        let found: Vec<_> = engine
            .scan(b"", b"")
            .map(|row| row.map(|(key, row)| (key.to_vec(), row.to_vec())).unwrap())
            .collect();
        assert_eq!(found, live);
        for (key, row) in rows() {
            assert_eq!(engine.get(&key).unwrap().as_deref(), row.as_deref());
        }
        assert_eq!(digest::recompute(&engine).unwrap(), engine.digest());

        let table = Places::open(options(&GOLDEN[3..]), budget, merger)
            .await
            .unwrap();
        for (item, place) in places() {
            assert_eq!(table.get(&item).unwrap(), Some(place));
        }
        assert_eq!(
            table.complete(),
            Complete {
                meta: Position::new(1, 8192),
                blob: Position::new(3, 8192)
            }
        );
        assert_eq!(table.live(Stream::Blob, 2).bytes, 65_536 + (1 << 20));
    });
}

/// Run by hand when a new format gets its golden set.
#[test]
#[ignore = "writes golden files"]
#[allow(
    clippy::disallowed_methods,
    reason = "a developer's tool, not the store"
)]
fn write_golden_files() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/engine/golden");
    for (name, bytes) in written() {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}
