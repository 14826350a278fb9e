//! What is acknowledged is durable, and readable at once. What the disk refuses is never acknowledged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::harness::*;
use crate::env::sim::{self, Choice, Fault, OpKind, SimDisk};
use crate::env::{clock, task};
use crate::log::*;

#[test]
fn what_was_acknowledged_is_there_after_a_power_cut() {
    let disk = disk(1);
    sim::run(1, async {
        let opened = open(&disk).await;
        let log = &opened.log;
        log.voted(G1, b"vote").await.unwrap();
        log.appended(G1, vec![entry(1, 0, 50, 0), entry(1, 1, 50, 2000)])
            .await
            .unwrap();
        log.appended(G2, vec![entry(1, 0, 10, 10)]).await.unwrap();
        log.framed(3, 5000).await.unwrap();
    });
    let disk = disk.after_power_cut(&Choice::None);
    reopen(&disk, async |opened| {
        let log = &opened.log;
        assert_eq!(log.log_state(G1).vote.unwrap(), "vote");
        assert_eq!(
            log.all(G1).await.unwrap(),
            [entry(1, 0, 50, 0), entry(1, 1, 50, 2000)]
        );
        assert_eq!(log.all(G2).await.unwrap(), [entry(1, 0, 10, 10)]);
        let items: Vec<Item> = opened.seen.iter().map(|seen| seen.item).collect();
        assert_eq!(items.len(), 3);
        assert_eq!(items[2], frame_item(3));
        for seen in &opened.seen {
            log.read(seen.place, &seen.item).await.unwrap();
        }
    });
}

/// Hundreds of callers, a handful of fsyncs.
#[test]
fn one_fsync_serves_everybody_who_waits() {
    let disk = disk(1);
    let sync = (Duration::from_millis(1), Duration::from_millis(1));
    disk.set_latency(sim::Latency {
        sync,
        ..sim::Latency::default()
    });
    sim::run(1, async {
        let options = LogOptions {
            meta_batch_bytes: 1 << 20,
            segment_bytes: Some(1 << 20),
            ..small()
        };
        let log = open_with(&disk, options, Complete::default())
            .await
            .unwrap()
            .log;
        let before = log.metrics(Stream::Meta);
        let callers = (0..300_u16).map(|n| {
            let log = Arc::clone(&log);
            task::spawn(async move {
                let group = crate::ids::GroupId(n % 3);
                for round in 0..4 {
                    let index = log.log_state(group).last.map_or(0, |id| id.index + 1);
                    log.appended(group, vec![entry(round, index, 20, 100)])
                        .await
                        .unwrap();
                }
            })
        });
        let callers: Vec<_> = callers.collect();
        for caller in callers {
            caller.await.unwrap();
        }
        let after = log.metrics(Stream::Meta);
        assert_eq!(after.records - before.records, 1200);
        let fsyncs: u64 = after.fsyncs.iter().sum::<u64>() - before.fsyncs.iter().sum::<u64>();
        assert!(fsyncs < 10, "{fsyncs} fsyncs");
    });
}

/// Raft reads what it appended before the disk has it; what waits for the disk waits for that very record.
#[test]
fn entries_are_readable_at_once_and_durable_later() {
    let disk = disk(1);
    sim::run(1, async {
        let log = open(&disk).await.log;
        disk.fail_next(OpKind::Sync, Fault::Hang);
        let (first, mut first_done) = ack();
        log.append(G1, vec![entry(1, 0, 20, 20), entry(1, 1, 20, 20)], first)
            .unwrap();
        assert_eq!(log.all(G1).await.unwrap().len(), 2);
        assert_eq!(log.log_state(G1).last, Some(id(1, 1)));
        let mut waiting = Box::pin(log.wait_durable_entry(G1, 1));
        clock::sleep(Duration::from_millis(1)).await;
        // The entry is replaced before anything is durable.
        assert_eq!(log.truncate_after(G1, Some(0), ack().0).unwrap().len(), 1);
        log.append(G1, vec![entry(2, 1, 20, 20)], ack().0).unwrap();
        let mut replaced = Box::pin(log.wait_durable_entry(G1, 1));
        assert_eq!(
            log.all(G1).await.unwrap(),
            [entry(1, 0, 20, 20), entry(2, 1, 20, 20)]
        );
        clock::sleep(Duration::from_secs(1)).await;
        assert!(first_done.try_recv().is_err());
        assert!(futures::poll!(&mut waiting).is_pending());
        assert!(futures::poll!(&mut replaced).is_pending());
        assert!(!log.is_sick());
        clock::sleep(Duration::from_secs(2)).await;
        assert!(log.is_sick(), "the fsync is older than two seconds");

        disk.fail_next(OpKind::Sync, Fault::Hang);
        disk.release_hangs();
        first_done.await.unwrap().unwrap();
        waiting.await.unwrap();
        assert!(!log.is_sick(), "this fsync has only begun");
        assert!(
            futures::poll!(&mut replaced).is_pending(),
            "its record is in the next batch"
        );
        disk.release_hangs();
        replaced.await.unwrap();
        assert_eq!(log.place_of(payload(1, 1)), None, "that entry is truncated");
        let place = log.place_of(payload(2, 1)).unwrap();
        let item = Item::Payload(payload(2, 1));
        assert_eq!(
            log.read(place, &item).await.unwrap(),
            entry(2, 1, 20, 20).payload()
        );
        assert!(matches!(
            log.wait_durable_entry(G1, 2).await,
            Err(LogError::NoEntry { .. })
        ));
    });
}

fn payload(term: u64, index: u64) -> crate::ids::PayloadId {
    crate::ids::PayloadId {
        group: G1,
        index,
        term,
    }
}

/// fsyncgate: after a failed fsync the pages are clean and the bytes may be gone. Trying again would lie.
#[test]
fn a_failed_write_or_fsync_acknowledges_nothing_ever_again() {
    for (kind, fault) in [
        (OpKind::Sync, Fault::Eio),
        (OpKind::Sync, Fault::Enospc),
        (OpKind::Write, Fault::Eio),
        (OpKind::Write, Fault::Enospc),
        (OpKind::Write, Fault::Partial(100)),
    ] {
        let disk = disk(1);
        sim::run(1, async {
            let log = open(&disk).await.log;
            log.appended(G1, vec![entry(1, 0, 20, 20)]).await.unwrap();
            let failed = task::spawn(log.failed());
            disk.fail_next_on(kind, "meta", fault);
            let waiting = log.append(G1, vec![entry(1, 1, 20, 20)], ack().0);
            waiting.unwrap();
            let durable = log.wait_durable_entry(G1, 1);
            let error = log
                .appended(G1, vec![entry(1, 2, 20, 20)])
                .await
                .unwrap_err();
            assert!(matches!(error, LogError::Dead(_)), "{error}");
            assert_eq!(durable.await.unwrap_err(), error);
            assert_eq!(failed.await.unwrap(), error);
            // Both streams end, and every later call.
            assert_eq!(log.voted(G1, b"v").await.unwrap_err(), error);
            assert_eq!(log.framed(1, 100).await.unwrap_err(), error);
            assert_eq!(log.close().await.unwrap_err(), error);
        });
        let disk = disk.after_power_cut(&Choice::None);
        reopen(&disk, async |opened| {
            let last = opened.log.log_state(G1).last;
            assert_eq!(last, Some(id(1, 0)), "{kind:?} {fault:?}");
        });
    }
}

/// Faults at every operation of a history, one at a time: no panic, no false acknowledgement, and the log recovers.
#[test]
fn a_fault_at_any_operation_loses_nothing_acknowledged() {
    let history = vec![
        vec![
            Step::Vote(G1, b"v"),
            Step::Append(G1, vec![entry(1, 0, 20, 3000)]),
        ],
        vec![Step::Append(
            G1,
            (1..8).map(|i| entry(1, i, 20, 3000)).collect(),
        )],
        vec![
            Step::Frames(vec![frame(1, 7000), frame(2, 7000)]),
            Step::Purge(G1, id(1, 3)),
        ],
        vec![
            Step::Frames(vec![frame(3, 7000), frame(4, 7000)]),
            Step::Vote(G2, b"w"),
        ],
        vec![Step::Append(G1, vec![entry(2, 8, 20, 3000)])],
    ];
    let run = |disk: &SimDisk| {
        let acked = Acked::default();
        sim::run(1, async {
            // Hanging is not an end: nobody is told, that is all.
            let _ = clock::timeout(Duration::from_secs(5), async {
                let opened = open_with(disk, small(), Complete::default()).await?;
                perform(&opened.log, &history, &acked).await
            })
            .await;
        });
        acked.now()
    };
    let all = {
        let disk = disk(1);
        assert_eq!(run(&disk).iter().filter(|acked| **acked).count(), 8);
        disk.history()
    };
    assert!(all.len() > 40, "{}", all.len());
    let faults = [Fault::Eio, Fault::Enospc, Fault::Hang, Fault::Partial(700)];
    for op in &all {
        for fault in &faults {
            let fits = match fault {
                Fault::Hang => matches!(op.kind, OpKind::Write | OpKind::Sync | OpKind::SyncDir),
                Fault::Partial(_) => op.kind == OpKind::Write,
                _ => true,
            };
            if !fits {
                continue;
            }
            let disk = disk(1);
            disk.fail_at(op.number, *fault);
            let acked = run(&disk);
            println!("{op:?} {fault:?} {acked:?}");
            for after in [
                disk.after_kill(),
                disk.after_power_cut(&Choice::None),
                disk.after_power_cut(&Choice::Random(op.number)),
            ] {
                reopen(&after, async |opened| {
                    check(&opened, &Base::default(), &history, &acked).await
                });
            }
        }
    }
}

/// Memory keeps the newest entries only; older ones are read from where they lie.
#[test]
fn entries_that_left_memory_are_read_back() {
    let disk = disk(1);
    sim::run(1, async {
        let options = LogOptions {
            cache_bytes: 20_000,
            ..small()
        };
        let log = open_with(&disk, options, Complete::default())
            .await
            .unwrap()
            .log;
        let mut expected = Vec::new();
        for index in 0..60 {
            let entries = vec![entry(1, index, 30, 700 + index as usize)];
            expected.extend(entries.clone());
            log.appended(G1, entries).await.unwrap();
            log.appended(G2, vec![entry(1, index, 30, 100)])
                .await
                .unwrap();
        }
        assert!(log.cached_bytes() <= 20_000, "{}", log.cached_bytes());
        for cold in [false, true] {
            disk.set_cold(cold);
            assert_eq!(log.all(G1).await.unwrap(), expected);
            let some = log.entries(G1, 3..40, 5000, Want::Whole).await.unwrap();
            assert!((2..8).contains(&some.len()));
            assert_eq!(some[..], expected[3..3 + some.len()]);
        }
        assert_eq!(log.entries(G1, 60..70, 100, Want::Whole).await.unwrap(), []);
    });
}

/// An ordinary end leaves nothing to write again, and a covered tail.
#[test]
fn a_graceful_end_leaves_nothing_to_do() {
    for fsync in [FsyncPolicy::Always, FsyncPolicy::Never] {
        let disk = disk(1);
        let end = sim::run(1, async {
            let log = open_with(&disk, LogOptions { fsync, ..small() }, Complete::default());
            let log = log.await.unwrap().log;
            log.append(G1, vec![entry(1, 0, 20, 20)], ack().0).unwrap();
            log.close().await.unwrap();
            let error = log
                .append(G1, vec![entry(1, 1, 20, 20)], ack().0)
                .unwrap_err();
            assert_eq!(error, LogError::Closed);
            log.durable_end(Stream::Meta)
        });
        let disk = disk.after_power_cut(&Choice::None);
        reopen(&disk, async |opened| {
            let cut = opened.recovered.cuts[0];
            assert_eq!((cut.position, cut.torn), (end, false));
            assert_eq!(cut.rewritten, 64, "only the batch that covers the rest");
            assert_eq!(opened.log.log_state(G1).last, Some(id(1, 0)));
        });
    }
}

/// What a policy other than `always` leaves to chance.
#[test]
fn votes_are_durable_under_every_policy_and_intervals_end() {
    let disk = disk(1);
    sim::run(1, async {
        let fsync = FsyncPolicy::Interval(Duration::from_millis(50));
        let log = open_with(&disk, LogOptions { fsync, ..small() }, Complete::default());
        let log = log.await.unwrap().log;
        let start = log.durable_end(Stream::Meta);
        log.appended(G1, vec![entry(1, 0, 20, 20)]).await.unwrap();
        assert_eq!(log.durable_end(Stream::Meta), start);
        log.voted(G1, b"v").await.unwrap();
        let voted = log.durable_end(Stream::Meta);
        assert!(voted > start);
        log.appended(G1, vec![entry(1, 1, 20, 20)]).await.unwrap();
        assert_eq!(log.durable_end(Stream::Meta), voted);
        clock::sleep(Duration::from_millis(60)).await;
        assert!(log.durable_end(Stream::Meta) > voted);
    });
}

/// Dropping the last handle is like killing the process: another log may be opened there at once.
#[test]
fn a_dropped_log_writes_nothing_more() {
    let disk = disk(1);
    sim::run(1, async {
        let log = open(&disk).await.log;
        log.appended(G1, vec![entry(1, 0, 20, 20)]).await.unwrap();
        let (ack, done) = ack();
        log.append(G1, vec![entry(1, 1, 20, 20)], ack).unwrap();
        let before = disk.op_count();
        drop(log);
        assert_eq!(done.await.unwrap(), Err(LogError::Closed));
        clock::sleep(Duration::from_secs(5)).await;
        assert_eq!(disk.op_count(), before);
    });
}

/// The same seed and the same calls: the same operations on the disk, in the same order, byte for byte.
#[test]
fn the_log_is_the_same_from_the_same_seed() {
    let run = || {
        let disk = disk(3);
        disk.set_latency(sim::Latency {
            write: (Duration::from_micros(10), Duration::from_micros(900)),
            sync: (Duration::from_micros(100), Duration::from_millis(3)),
        });
        let ((), trace) = sim::run_traced(3, async {
            let log = open(&disk).await.log;
            let writers = (0..10_u16).map(|n| {
                let log = Arc::clone(&log);
                task::spawn(async move {
                    let group = crate::ids::GroupId(n);
                    for index in 0..10 {
                        log.appended(group, vec![entry(1, index, 20, 700)])
                            .await
                            .unwrap();
                        log.framed(u32::from(n) * 10 + index as u32, 900)
                            .await
                            .unwrap();
                    }
                })
            });
            for writer in writers.collect::<Vec<_>>() {
                writer.await.unwrap();
            }
        });
        (trace, disk.history(), disk.digest())
    };
    let (first, second) = (run(), run());
    assert_eq!(first.1, second.1);
    assert_eq!(first, second);
}

#[test]
fn what_does_not_follow_or_is_too_long_is_refused() {
    let disk = disk(1);
    sim::run(1, async {
        let log = open(&disk).await.log;
        log.appended(G1, vec![entry(1, 5, 20, 20)]).await.unwrap();
        let refused = log
            .append(G1, vec![entry(1, 7, 20, 20)], ack().0)
            .unwrap_err();
        assert_eq!(
            refused,
            LogError::OutOfOrder {
                group: G1,
                index: 7,
                expected: 6
            }
        );
        let long = log
            .append(G1, vec![entry(1, 6, 20, 20_000)], ack().0)
            .unwrap_err();
        assert!(matches!(long, LogError::TooLarge { .. }));
        let long = log
            .save_vote(G1, Bytes::from(vec![0; 20_000]), ack().0)
            .unwrap_err();
        assert!(matches!(long, LogError::TooLarge { .. }));
        log.appended(G1, vec![entry(1, 6, 20, 20)]).await.unwrap();
        // A checkpoint was installed.
        log.purged(G1, id(4, 100)).await.unwrap();
        assert_eq!(log.log_state(G1).last, Some(id(4, 100)));
        log.appended(G1, vec![entry(4, 101, 20, 20)]).await.unwrap();
    });
    reopen(&disk, async |opened| {
        let state = opened.log.log_state(G1);
        assert_eq!(
            (state.purged, state.last),
            (Some(id(4, 100)), Some(id(4, 101)))
        );
        assert!(opened.log.hurt(G1).is_whole());
    });
}

/// Restart time is bytes looked through.
#[test]
fn recovery_reads_a_meta_stream_once_and_of_a_blob_stream_the_headers() {
    let disk = disk(1);
    let options = || LogOptions {
        segment_bytes: Some(16 << 20),
        meta_batch_bytes: 1 << 20,
        blob_batch_bytes: 8 << 20,
        ..small()
    };
    sim::run(1, async {
        let log = open_with(&disk, options(), Complete::default())
            .await
            .unwrap()
            .log;
        for index in 0..30 {
            let entries = (0..20)
                .map(|n| entry(1, 20 * index + n, 200, 4096))
                .collect();
            log.appended(G1, entries).await.unwrap();
        }
        for ordinal in 0..30 {
            log.framed(ordinal, 1 << 20).await.unwrap();
        }
        let end = |stream| u64::from(log.durable_end(stream).offset());
        assert!(end(Stream::Meta) > 2 << 20);
        let meta = end(Stream::Meta);
        log.close().await.unwrap();
        drop(log);
        let opened = open_with(&disk, options(), Complete::default())
            .await
            .unwrap();
        let scanned = opened.recovered.scanned;
        assert!(scanned < meta * 5 / 4 + (1 << 20), "{scanned} for {meta}");
    });
}

/// Recovery says of which entries a truncation took the payloads: a table of places may have been written before it.
#[test]
fn a_start_tells_which_payloads_were_truncated() {
    let disk = disk(1);
    let place = sim::run(1, async {
        let log = open(&disk).await.log;
        let entries = vec![entry(1, 0, 20, 20), entry(1, 1, 20, 20), entry(1, 2, 20, 0)];
        log.appended(G1, entries).await.unwrap();
        let place = log.place_of(payload(1, 1)).unwrap();
        log.truncated(G1, Some(0)).await.unwrap();
        log.appended(G1, vec![entry(2, 1, 20, 20)]).await.unwrap();
        place
    });
    let disk = disk.after_power_cut(&Choice::None);
    reopen(&disk, async |opened| {
        let item = Item::Payload(payload(1, 1));
        assert_eq!(opened.recovered.truncated, [Seen { item, place }]);
        assert!(opened.seen.iter().all(|seen| seen.item != item));
        assert_eq!(opened.seen.len(), 2);
    });
}

/// Whoever is about to give up an old copy needs the new one on the disk, whatever the policy.
#[test]
fn a_sync_makes_everything_durable_under_every_policy() {
    let disk = disk(1);
    sim::run(1, async {
        let options = LogOptions {
            fsync: FsyncPolicy::Never,
            ..small()
        };
        let log = open_with(&disk, options, Complete::default())
            .await
            .unwrap()
            .log;
        log.appended(G1, vec![entry(1, 0, 20, 20)]).await.unwrap();
        log.framed(1, 500).await.unwrap();
        log.sync().await.unwrap();
        log.sync().await.unwrap();
    });
    let disk = disk.after_power_cut(&Choice::None);
    reopen(&disk, async |opened| {
        assert_eq!(opened.log.log_state(G1).last, Some(id(1, 0)));
        assert_eq!(opened.seen.len(), 2);
    });
}
