//! A full disk refuses what takes room, goes on with what gives it back, and recovers without a restart.

use std::time::Duration;

use super::harness::*;
use crate::env::clock;
use crate::env::sim::{self, SimDisk};
use crate::log::*;

const SEGMENT: u64 = 32 << 10;

fn options() -> LogOptions {
    LogOptions {
        overlay_budget: 16 << 10,
        room_every: Duration::from_millis(100),
        ..small()
    }
}

async fn settle() {
    clock::sleep(Duration::from_millis(300)).await;
}

/// Fills the disk from outside the log, up to `left` bytes.
fn fill(disk: &SimDisk, left: u64) {
    use crate::env::disk::Disk;
    let free = disk.space(dir()).unwrap().free;
    let file = disk.open(
        std::path::Path::new("/node/filler"),
        crate::env::disk::Open::CreateNew,
    );
    file.unwrap().allocate(free - left).unwrap();
}

fn empty(disk: &SimDisk) {
    use crate::env::disk::Disk;
    disk.remove(std::path::Path::new("/node/filler")).unwrap();
}

fn small_disk() -> SimDisk {
    let disk = disk(1);
    disk.set_capacity(4 << 20);
    disk
}

#[test]
fn a_full_disk_stops_ordinary_writes_and_no_others() {
    let disk = small_disk();
    sim::run(1, async {
        let log = open_with(&disk, options(), Complete::default())
            .await
            .unwrap()
            .log;
        let room = log.room();
        assert!(room.above_soft_mark());
        assert_eq!(room.soft_mark, 2 * SEGMENT + 2 * (16 << 10));
        let admitted = |log: &Log| {
            use WriteKind::{Ordinary, Releasing, Vital};
            [Ordinary, Releasing, Vital].map(|kind| log.room().admits(kind))
        };
        fill(&disk, room.soft_mark - 1);
        settle().await;
        assert_eq!(admitted(&log), [false, true, true]);
        empty(&disk);
        settle().await;
        assert_eq!(admitted(&log), [true, true, true]);

        // Full to the brim: the ballast serves on, and a rest of it is kept for votes.
        fill(&disk, 0);
        settle().await;
        let mut index = 0;
        while log.room().admits(WriteKind::Releasing) {
            log.appended(G1, vec![entry(1, index, 100, 1000)])
                .await
                .unwrap();
            index += 1;
            settle().await;
        }
        assert!(index > 30, "two segments' worth, not {index} entries");
        assert_eq!(admitted(&log), [false, false, true]);
        for _ in 0..5 {
            log.voted(G1, b"votes always find room").await.unwrap();
        }

        // Room comes back: the ballast first, then ordinary writes. No restart.
        empty(&disk);
        settle().await;
        assert_eq!(admitted(&log), [true, true, true]);
        log.appended(G1, vec![entry(1, index, 100, 1000)])
            .await
            .unwrap();
    });
    reopen(&disk, async |opened| {
        assert!(opened.log.hurt(G1).is_whole())
    });
}

/// Admission should not let it come to this; if it does, writers wait, nothing fails, and nothing is lost.
#[test]
fn a_writer_without_a_segment_waits_for_room() {
    let disk = small_disk();
    sim::run(1, async {
        let log = open_with(&disk, options(), Complete::default())
            .await
            .unwrap()
            .log;
        fill(&disk, 0);
        settle().await;
        let mut waiting = Vec::new();
        for index in 0..80 {
            let (ack, done) = ack();
            log.append(G1, vec![entry(1, index, 100, 1000)], ack)
                .unwrap();
            waiting.push(done);
        }
        settle().await;
        assert!(waiting[79].try_recv().is_err());
        assert!(!log.is_sick());
        empty(&disk);
        for done in waiting {
            done.await.unwrap().unwrap();
        }
    });
}

/// A checkpoint on a full disk borrows its room from the ballast.
#[test]
fn the_overlays_part_of_the_ballast_is_lent_and_taken_back() {
    let disk = small_disk();
    let free = |disk: &SimDisk| {
        use crate::env::disk::Disk;
        disk.space(dir()).unwrap().free
    };
    sim::run(1, async {
        let log = open_with(&disk, options(), Complete::default())
            .await
            .unwrap()
            .log;
        assert!(log.room_for_checkpoint().unwrap().is_none());
        fill(&disk, 0);
        assert_eq!(free(&disk), 0);
        let loan = log.room_for_checkpoint().unwrap();
        assert!(loan.is_some());
        assert_eq!(free(&disk), 16 << 10);
        settle().await;
        assert_eq!(free(&disk), 16 << 10, "not taken back while it is lent");
        assert!(!log.room().admits(WriteKind::Ordinary));
        empty(&disk);
        drop(loan);
        settle().await;
        assert!(log.room().ballast_whole && log.room().above_soft_mark());
    });
}

/// On a small disk two budgets must leave room for something else.
#[test]
fn segments_and_budgets_fit_the_disk() {
    let options = LogOptions::default();
    assert_eq!(options.segment_bytes(1 << 40), 256 << 20);
    assert_eq!(options.segment_bytes(2 << 30), 32 << 20);
    assert_eq!(options.segment_bytes(64 << 20), 4 << 20);
    let disk = disk(1);
    disk.set_capacity(1 << 30);
    sim::run(1, async {
        let log = open_with(&disk, options, Complete::default())
            .await
            .unwrap()
            .log;
        assert_eq!(log.overlay_budget(), 16 << 20);
        assert!(log.room().above_soft_mark());
    });
}
