//! Old files stay readable, and today's writer still writes them byte for byte.
//!
//! `golden/*.hex` are segments of a small log with every kind of record, without what was never written. They were written
//! once, by this file with `MINIKV_WRITE_GOLDEN=1`. A format that changes gets new files beside these; these stay,
//! and stay readable.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::batch::{self, Chain, lay_out};
use super::checksum::Stamp;
use super::ledger::Standing;
use super::record::{Draft, Subject};
use super::segment::{FIRST_BATCH, Segment, SegmentHeader};
use super::*;
use crate::env::sim::{self, SimDisk};
use crate::ids::{ChunkId, GroupId, PayloadId, StageId, VShard};
use bytes::Bytes;

const LOG_ID: u64 = 0x0123_4567_89AB_CDEF;
const LENGTH: u32 = 32 << 10;

fn id(term: u64, index: u64) -> LogId {
    let node = 3;
    LogId { term, node, index }
}

fn chunk() -> ChunkId {
    let stage = StageId {
        group: GroupId(1),
        incarnation: 2,
        index: 77,
    };
    ChunkId {
        vshard: VShard(0xA5),
        stage,
        ordinal: 4,
    }
}

fn draft(subject: Subject, head: &'static [u8], payload: &'static [u8]) -> Draft {
    Draft::new(
        subject,
        Bytes::from_static(head),
        Bytes::from_static(payload),
    )
}

/// A segment: its header page and these batches, as today's writer writes them.
fn segment(stream: Stream, batches: &[(u16, Vec<Draft>)]) -> Vec<u8> {
    let header = SegmentHeader {
        stream,
        number: 1,
        length: LENGTH,
        log_id: LOG_ID,
    };
    let mut bytes = header.page().to_vec();
    let incarnation = 1;
    let stamp = Stamp::of(LOG_ID, incarnation);
    for (number, (flags, drafts)) in (1..).zip(batches) {
        let chain = Chain {
            stream,
            stamp,
            incarnation,
            number,
        };
        let position = Position::new(1, bytes.len() as u32);
        // Each batch was fsynced before the next.
        let batch = lay_out(&chain, *flags, position, position, drafts.iter());
        bytes.extend(batch.parts.concat());
    }
    bytes
}

fn meta() -> Vec<u8> {
    let (g1, g2, g9) = (GroupId(1), GroupId(2), GroupId(9));
    let entry = |group, id, head, payload| draft(Subject::Entry { group, id }, head, payload);
    let standing = Standing {
        vote: Some(Bytes::from_static(b"a vote of group 2")),
        purged: Some(id(1, 8)),
        last: None,
        first: 0,
        start: Position::ZERO,
        vote_lost: false,
        tail_lost: true,
    };
    let standing = Draft::new(
        Subject::Standing { group: g2 },
        standing.encode(),
        Bytes::new(),
    );
    let truncate = |from, keep| {
        draft(
            Subject::Truncate {
                group: g1,
                from,
                keep,
            },
            b"",
            b"",
        )
    };
    segment(
        Stream::Meta,
        &[
            (batch::OPENING | batch::STANDING, vec![standing]),
            (
                0,
                vec![draft(Subject::Vote { group: g1 }, b"first vote", b"")],
            ),
            (
                0,
                vec![
                    entry(g1, id(5, 0), b"blank", b""),
                    entry(g1, id(5, 1), b"put", b"hello, payload"),
                    entry(g1, id(5, 2), b"put that is truncated", b"x"),
                    entry(g9, id(1, 0), b"of a group that leaves", b""),
                ],
            ),
            (
                0,
                vec![
                    truncate(2, Some(id(5, 1))),
                    entry(g1, id(6, 2), b"delete", b""),
                ],
            ),
            (
                0,
                vec![draft(
                    Subject::Purge {
                        group: g1,
                        id: id(5, 0),
                    },
                    b"",
                    b"",
                )],
            ),
            (0, vec![draft(Subject::Remove { group: g9 }, b"", b"")]),
            (
                0,
                vec![draft(Subject::Vote { group: g1 }, b"second vote", b"")],
            ),
            (0, vec![]),
        ],
    )
}

fn blob() -> Vec<u8> {
    let payload = PayloadId {
        group: GroupId(4),
        index: 1 << 33,
        term: 9,
    };
    segment(
        Stream::Blob,
        &[
            (batch::OPENING, vec![]),
            (
                0,
                vec![draft(
                    Subject::Frame {
                        chunk: chunk(),
                        frame: 1,
                    },
                    b"",
                    b"bytes of a frame",
                )],
            ),
            (
                0,
                vec![
                    draft(
                        Subject::MovedPayload { id: payload },
                        b"",
                        b"a moved payload",
                    ),
                    draft(
                        Subject::MovedFrame {
                            chunk: chunk(),
                            frame: 2,
                        },
                        b"",
                        b"a moved frame",
                    ),
                ],
            ),
            (0, vec![]),
        ],
    )
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/log/golden")
        .join(name)
}

/// Lines of 32 bytes in hex, each after its offset; lines of zeros are left out.
fn to_hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (at, line) in bytes.chunks(32).enumerate() {
        if line.iter().any(|byte| *byte != 0) {
            write!(out, "{:06x}:", at * 32).unwrap();
            line.iter()
                .for_each(|byte| write!(out, " {byte:02x}").unwrap());
            out.push('\n');
        }
    }
    out
}

fn of_hex(text: &str) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH as usize];
    for line in text.lines() {
        let (at, line) = line.split_once(':').unwrap();
        let at = usize::from_str_radix(at, 16).unwrap();
        for (offset, byte) in line.split_whitespace().enumerate() {
            bytes[at + offset] = u8::from_str_radix(byte, 16).unwrap();
        }
    }
    bytes
}

#[allow(
    clippy::disallowed_methods,
    reason = "golden files lie in the source tree, not on a node"
)]
fn stored(name: &str, today: &[u8]) -> String {
    let path = golden(name);
    if std::env::var_os("MINIKV_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, to_hex(today)).unwrap();
    }
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn todays_writer_writes_the_golden_bytes() {
    for (name, today) in [("meta_v1.hex", meta()), ("blob_v1.hex", blob())] {
        assert_eq!(to_hex(&today), stored(name, &today), "{name}");
    }
}

#[test]
fn todays_reader_reads_the_golden_files() {
    let disk = SimDisk::new(1);
    disk.plant_dir("/node/log").unwrap();
    for (stream, name, today) in [
        (Stream::Meta, "meta_v1.hex", meta()),
        (Stream::Blob, "blob_v1.hex", blob()),
    ] {
        let path = Path::new("/node/log").join(Segment::name(stream, 1));
        disk.plant(path, &of_hex(&stored(name, &today))).unwrap();
    }
    sim::run(1, async {
        let mut seen = Vec::new();
        let options = LogOptions {
            segment_bytes: Some(LENGTH),
            overlay_budget: 0,
            ..LogOptions::default()
        };
        let env = disk.env();
        let (log, recovered) = Log::open(
            &env,
            Path::new("/node/log"),
            options,
            Complete::default(),
            &mut |one| seen.push(one),
        )
        .await
        .unwrap();
        assert_eq!(recovered.damage, []);

        let first = log.log_state(GroupId(1));
        assert_eq!(first.vote.unwrap(), "second vote");
        assert_eq!((first.purged, first.last), (Some(id(5, 0)), Some(id(6, 2))));
        let entries = log
            .entries(GroupId(1), 0..9, 1000, Want::Whole)
            .await
            .unwrap();
        let parts: Vec<_> = entries
            .iter()
            .map(|entry| (entry.head(), entry.payload()))
            .collect();
        let expected = [("put", "hello, payload"), ("delete", "")];
        assert_eq!(
            parts,
            expected.map(|(head, payload)| (head.into(), payload.into()))
        );

        let second = log.log_state(GroupId(2));
        assert_eq!(second.vote.unwrap(), "a vote of group 2");
        assert_eq!(
            (second.purged, second.last),
            (Some(id(1, 8)), Some(id(1, 8)))
        );
        assert!(log.hurt(GroupId(2)).tail_lost && !log.hurt(GroupId(2)).vote_lost);
        assert_eq!(log.log_state(GroupId(9)), LogState::default());

        let mut read = Vec::new();
        for Seen { item, place } in seen {
            assert!(place.position.offset() > FIRST_BATCH);
            read.push((item, log.read(place, &item).await.unwrap()));
        }
        let frame = |frame| Item::Frame {
            chunk: chunk(),
            frame,
        };
        let payload = |group, index, term| Item::Payload(PayloadId { group, index, term });
        let expected = [
            (payload(GroupId(1), 1, 5), "hello, payload"),
            (frame(1), "bytes of a frame"),
            (payload(GroupId(4), 1 << 33, 9), "a moved payload"),
            (frame(2), "a moved frame"),
        ];
        assert_eq!(read, expected.map(|(item, bytes)| (item, bytes.into())));
    });
}
