//! Room comes back, and nobody who reads or crashes meanwhile loses anything.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::harness::*;
use crate::env::sim::{self, Choice, OpKind, SimDisk};
use crate::env::{clock, task};
use crate::ids::PayloadId;
use crate::log::*;

/// A table of places in memory, with a durable copy of it.
#[derive(Default)]
pub struct Table {
    now: Mutex<BTreeMap<Item, Place>>,
    durable: Mutex<(BTreeMap<Item, Place>, Complete)>,
}

impl Table {
    fn set(&self, item: Item, place: Place) {
        self.now.lock().insert(item, place);
    }

    fn drop_item(&self, item: &Item) {
        self.now.lock().remove(item);
    }

    fn get(&self, item: &Item) -> Option<Place> {
        self.now.lock().get(item).copied()
    }

    fn checkpoint(&self, complete: Complete) {
        *self.durable.lock() = (self.now.lock().clone(), complete);
    }

    fn durable_names(&self, stream: Stream, segment: u32) -> bool {
        let named = |place: &Place| (place.stream, place.position.segment()) == (stream, segment);
        self.durable.lock().0.values().any(named)
    }

    /// What a restart finds: the durable copy, and what the log has seen since.
    fn restart(&self, seen: &[Seen]) {
        let mut now = self.durable.lock().0.clone();
        now.extend(seen.iter().map(|seen| (seen.item, seen.place)));
        *self.now.lock() = now;
    }
}

impl Liveness for Table {
    fn live_in(&self, stream: Stream, segment: u32) -> (u64, u64) {
        let items = self.live_items(stream, segment).unwrap();
        let bytes = items.iter().map(|(_, place)| u64::from(place.len)).sum();
        (bytes, items.len() as u64)
    }
    fn live_items(&self, stream: Stream, segment: u32) -> Result<Vec<(Item, Place)>, String> {
        let here = |place: &Place| (place.stream, place.position.segment()) == (stream, segment);
        let now = self.now.lock();
        Ok(now
            .iter()
            .map(|(item, place)| (*item, *place))
            .filter(|(_, p)| here(p))
            .collect())
    }
    fn moved(&self, item: &Item, from: Place, to: Place) -> Result<bool, String> {
        let mut now = self.now.lock();
        match now.get_mut(item) {
            Some(place) if *place == from => *place = to,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// One full round: empty what is worth it, checkpoint, unlink.
async fn compact(log: &Log, table: &Table) -> Result<u64, LogError> {
    let mut moved = 0;
    for (victim, _) in log.victims(table, 0.6) {
        let done = log
            .empty_segment(victim.stream, victim.number, table)
            .await?;
        // A disk that dies under it looks like bad sectors; nothing else may.
        if !done.damaged.is_empty() {
            return Err(LogError::Dead(format!("{:?}", done.damaged).into()));
        }
        moved += done.bytes;
    }
    let last = log.log_state(G1).last.map(|id| id.index);
    table.checkpoint(log.complete_up_to(&[(G1, last)]));
    for segment in log.segments() {
        if !table.durable_names(segment.stream, segment.number) {
            log.unlink(segment.stream, segment.number).await?;
        }
    }
    Ok(moved)
}

fn payload_item(index: u64) -> Item {
    Item::Payload(PayloadId {
        group: G1,
        index,
        term: 1,
    })
}

/// Writes an entry with a payload and a frame, and puts them into the table.
async fn write(log: &Log, table: &Table, index: u64) {
    log.appended(G1, vec![entry(1, index, 40, 2000)])
        .await
        .unwrap();
    let id = PayloadId {
        group: G1,
        index,
        term: 1,
    };
    table.set(payload_item(index), log.place_of(id).unwrap());
    let written = log
        .append_frames(vec![frame(index as u32, 3000)])
        .await
        .unwrap();
    table.set(frame_item(index as u32), written.places[0]);
}

async fn expect(log: &Log, table: &Table, index: u64) {
    let item = payload_item(index);
    let bytes = log.read(table.get(&item).unwrap(), &item).await.unwrap();
    assert_eq!(bytes, entry(1, index, 40, 2000).payload());
    let item = frame_item(index as u32);
    let bytes = log.read(table.get(&item).unwrap(), &item).await.unwrap();
    assert_eq!(bytes, frame(index as u32, 3000).bytes);
}

/// Overwrites most of what is there.
async fn fill(log: &Log, table: &Table, indexes: std::ops::Range<u64>) -> Vec<u64> {
    let mut live = Vec::new();
    for index in indexes {
        write(log, table, index).await;
        live.push(index);
        if index % 5 != 0 {
            table.drop_item(&payload_item(index));
            table.drop_item(&frame_item(index as u32));
            live.pop();
        }
    }
    live
}

#[test]
fn dead_segments_go_and_live_items_stay_readable() {
    let disk = disk(1);
    let table = Table::default();
    let live = sim::run(1, async {
        let log = open(&disk).await.log;
        let live = fill(&log, &table, 0..100).await;
        let before = log.segments().len();
        assert!(before > 15, "{before}");
        compact(&log, &table).await.unwrap();
        let kept = log
            .segments()
            .iter()
            .filter(|s| s.stream == Stream::Meta)
            .count();
        assert!(kept > 5, "unpurged entries keep their segments: {kept}");
        log.purged(G1, id(1, 99)).await.unwrap();
        let moved = compact(&log, &table).await.unwrap();
        assert!(moved >= 20 * 2000, "{moved}");
        let bytes: u64 = log.segments().iter().map(|s| u64::from(s.length)).sum();
        let live_bytes = 20 * 5000;
        assert!(
            bytes <= live_bytes * 3 / 2 + 4 * (32 << 10),
            "{bytes} for {live_bytes}"
        );
        for index in &live {
            expect(&log, &table, *index).await;
        }
        live
    });
    let disk = disk.after_power_cut(&Choice::None);
    let complete = table.durable.lock().1;
    assert!(complete.meta > Position::new(2, 0) && complete.blob > Position::new(2, 0));
    sim::run(1, async {
        let opened = open_with(&disk, small(), complete).await.unwrap();
        assert_eq!(opened.recovered.damage, []);
        table.restart(&opened.seen);
        for index in &live {
            expect(&opened.log, &table, *index).await;
        }
        assert_eq!(opened.log.log_state(G1).purged, Some(id(1, 99)));
    });
}

/// Nothing in them is live as far as places know, but a group may still have to send or apply what they hold.
#[test]
fn segments_with_unpurged_entries_never_go() {
    let disk = disk(1);
    sim::run(1, async {
        let log = open(&disk).await.log;
        for index in 0..60 {
            log.appended(G1, vec![entry(1, index, 2000, 0)])
                .await
                .unwrap();
        }
        log.purged(G1, id(1, 29)).await.unwrap();
        let table = Table::default();
        assert!(log.victims(&table, 1.0).len() < log.segments().len() - 3);
        let current = log.durable_end(Stream::Meta).segment();
        let mut kept = Vec::new();
        for number in 1..=current + 1 {
            if !log.unlink(Stream::Meta, number).await.unwrap() {
                kept.push(number);
            }
        }
        assert!(kept.len() > 2 && kept[0] > 1, "{kept:?}");
        assert_eq!(log.all(G1).await.unwrap().len(), 30);
    });
    reopen(&disk, async |opened| {
        assert_eq!(opened.recovered.damage, []);
        assert_eq!(opened.log.all(G1).await.unwrap().len(), 30);
    });
}

/// A reader that found its place before it was moved still reads; one that comes later looks the place up again.
#[test]
fn a_reader_of_an_unlinked_segment_finishes() {
    let disk = disk(1);
    sim::run(1, async {
        let log = open(&disk).await.log;
        let table = Table::default();
        fill(&log, &table, 0..30).await;
        log.purged(G1, id(1, 29)).await.unwrap();
        let old = table.get(&frame_item(0)).unwrap();
        let held = log.shared_segment(Stream::Blob, old.position.segment());
        compact(&log, &table).await.unwrap();
        assert!(table.get(&frame_item(0)).unwrap() != old);
        let late = log.read(old, &frame_item(0)).await;
        assert_eq!(late, Err(ReadError::Gone));
        let mut byte = [0; 1];
        assert_eq!(
            held.file.read_at(&mut byte, 4096).unwrap(),
            1,
            "its bytes are still there"
        );
        expect(&log, &table, 0).await;
    });
}

/// What was dropped or replaced while it was being moved stays so.
#[test]
fn moving_never_brings_back_what_was_dropped_meanwhile() {
    let disk = disk(1);
    sim::run(1, async {
        let log = open(&disk).await.log;
        let table = std::sync::Arc::new(Table::default());
        fill(&log, &table, 0..20).await;
        disk.fail_next_on(OpKind::Sync, "blob", sim::Fault::Hang);
        let (moving, with) = (std::sync::Arc::clone(&log), std::sync::Arc::clone(&table));
        let moving =
            task::spawn(
                async move { moving.empty_segment(Stream::Blob, 1, &*with).await.unwrap() },
            );
        clock::sleep(Duration::from_millis(10)).await;
        table.drop_item(&frame_item(0));
        disk.release_hangs();
        let moved = moving.await.unwrap();
        assert!(moved.items > 0);
        assert_eq!(table.get(&frame_item(0)), None);
    });
}

/// Bad bytes under a good checksum would be wrong bytes served.
#[test]
fn damaged_items_are_not_moved() {
    let disk = disk(1);
    sim::run(1, async {
        let log = open(&disk).await.log;
        let table = Table::default();
        fill(&log, &table, 0..20).await;
        let place = table.get(&frame_item(0)).unwrap();
        let path = dir().join("blob-0000000001.seg");
        disk.flip_bit(path, u64::from(place.position.offset()) + 500, 0)
            .unwrap();
        let moved = log.empty_segment(Stream::Blob, 1, &table).await.unwrap();
        assert_eq!(moved.damaged.len(), 1);
        assert_eq!(moved.damaged[0].0, frame_item(0));
        assert_eq!(table.get(&frame_item(0)), Some(place));
    });
}

/// Until places are recorded, the stream is not complete up to them: a restart must see them again.
#[test]
fn places_are_complete_only_up_to_what_was_recorded() {
    let disk = disk(1);
    sim::run(1, async {
        let log = open(&disk).await.log;
        let before = log.complete_up_to(&[]);
        let mut holds = Vec::new();
        for index in 0..8 {
            log.appended(G1, vec![entry(1, index, 40, 2000)])
                .await
                .unwrap();
            let written = log
                .append_frames(vec![frame(index as u32, 2000)])
                .await
                .unwrap();
            holds.push((written.hold, written.places[0].position));
        }
        let unapplied = log.complete_up_to(&[(G1, None)]);
        assert_eq!(unapplied.blob, before.blob, "nothing is recorded");
        assert!(
            unapplied.meta
                <= log
                    .place_of(PayloadId {
                        group: G1,
                        index: 0,
                        term: 1
                    })
                    .unwrap()
                    .position
        );
        let (hold, _) = holds.pop().unwrap();
        drop(hold);
        assert_eq!(log.complete_up_to(&[]).blob, before.blob);
        let (first, _) = holds.remove(0);
        drop(first);
        let later = log.complete_up_to(&[(G1, Some(6))]);
        assert!(later.blob > before.blob && later.blob <= holds[0].1);
        let seventh = log
            .place_of(PayloadId {
                group: G1,
                index: 7,
                term: 1,
            })
            .unwrap();
        assert!(later.meta > unapplied.meta && later.meta <= seventh.position);
        holds.clear();
        let all = log.complete_up_to(&[(G1, Some(7))]);
        assert!(all.blob > later.blob && all.meta >= later.meta);
    });
}

/// A crash at any operation of compaction: every live item is where the recovered table says.
#[test]
fn a_crash_at_any_moment_of_compaction_loses_nothing() {
    let start = disk(1);
    let table = Table::default();
    let live = sim::run(1, async {
        let log = open(&start).await.log;
        let live = fill(&log, &table, 0..30).await;
        log.purged(G1, id(1, 29)).await.unwrap();
        table.checkpoint(log.complete_up_to(&[(G1, Some(29))]));
        log.close().await.unwrap();
        live
    });
    let durable = table.durable.lock().clone();
    let run = |disk: &SimDisk| {
        *table.durable.lock() = durable.clone();
        sim::run(1, async {
            let opened = disk.until_crash(open_with(disk, small(), durable.1)).await;
            let Ok(Ok(opened)) = opened else { return };
            table.restart(&opened.seen);
            let _ = disk.until_crash(compact(&opened.log, &table)).await;
        });
    };
    let all = {
        let disk = start.after_kill();
        run(&disk);
        disk.op_count()
    };
    assert!(all > 30, "{all}");
    for op in 0..all {
        let disk = start.after_kill();
        disk.hang_after_crash();
        disk.crash_at(op);
        run(&disk);
        for after in [
            disk.after_kill(),
            disk.after_power_cut(&Choice::None),
            disk.after_power_cut(&Choice::Random(op)),
        ] {
            let complete = table.durable.lock().1;
            sim::run(1, async {
                let opened = open_with(&after, small(), complete).await.unwrap();
                assert_eq!(opened.recovered.damage, []);
                table.restart(&opened.seen);
                for index in &live {
                    expect(&opened.log, &table, *index).await;
                }
            });
        }
    }
}
