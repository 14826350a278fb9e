//! Operations that fail, lie, hang or crash on demand.

use super::*;

/// fsyncgate: the kernel marks the pages clean, and the next fsync says `Ok`.
#[test]
fn what_a_failed_sync_lost_stays_readable_and_no_later_sync_saves_it() {
    let disk = disk();
    let file = durable_file(&disk);
    write(&file, 0, page(b'b')).unwrap();
    disk.fail_next(OpKind::Sync, Fault::Eio);
    assert!(sync(&file).is_err());
    assert_eq!(disk.contents("/d/f").unwrap(), page(b'b'));
    sync(&file).unwrap();
    assert_eq!(
        disk.after_power_cut(&Choice::None)
            .contents("/d/f")
            .unwrap(),
        page(b'a')
    );
    assert_eq!(
        disk.after_power_cut(&Choice::All).contents("/d/f").unwrap(),
        page(b'b'),
        "or it did arrive"
    );
    assert_eq!(disk.after_kill().contents("/d/f").unwrap(), page(b'b'));
    let evicted = disk.after_kill();
    evicted.drop_caches();
    assert_eq!(
        evicted.contents("/d/f").unwrap(),
        page(b'a'),
        "the cache may forget it too"
    );

    write(&file, 0, "c").unwrap();
    sync(&file).unwrap();
    let saved = disk
        .after_power_cut(&Choice::None)
        .contents("/d/f")
        .unwrap();
    assert_eq!(
        &saved[..3],
        b"cbb",
        "written again, the whole page is saved"
    );
    assert!(disk.power_cut_choices().is_empty());
}

#[test]
fn a_failed_sync_of_a_directory_loses_its_names() {
    let disk = disk();
    drop(create(&disk, "/d/f"));
    disk.fail_next(OpKind::SyncDir, Fault::Enospc);
    assert_eq!(kind(sync_dir(&disk, "/d")), io::ErrorKind::StorageFull);
    sync_dir(&disk, "/d").unwrap();
    assert!(disk.after_power_cut(&Choice::None).files().is_empty());
}

#[test]
fn operations_are_numbered_and_fail_where_they_are_told_to() {
    let disk = disk();
    let workload = |disk: &SimDisk| -> Vec<bool> {
        let fs = env(disk);
        let file = fs.open("/d/f".as_ref(), Open::CreateNew);
        let Ok(file) = file else { return vec![false] };
        vec![
            true,
            write(&file, 0, "x").is_ok(),
            sync(&file).is_ok(),
            fs.rename("/d/f".as_ref(), "/d/g".as_ref()).is_ok(),
            sync_dir(disk, "/d").is_ok(),
            file.allocate(100).is_ok(),
            file.set_len(0).is_ok(),
        ]
    };
    assert_eq!(workload(&disk), [true; 7]);
    let kinds: Vec<_> = disk.history().iter().map(|op| op.kind).collect();
    use OpKind::*;
    assert_eq!(
        kinds,
        [Create, Write, Sync, Rename, SyncDir, Allocate, SetLen]
    );
    assert_eq!(disk.op_count(), 7);
    assert_eq!(
        disk.history()[1],
        Op {
            number: 1,
            kind: Write,
            path: Path::new("/d/f").into(),
            at: 0,
            len: 1
        }
    );

    for op in 0..7 {
        let disk = self::disk();
        disk.fail_at(op, Fault::Eio);
        let mut expected = vec![true; 7];
        expected[op as usize] = false;
        if op == 0 {
            expected = vec![false];
        }
        assert_eq!(workload(&disk), expected);
    }
}

#[test]
fn nothing_happens_from_the_crash_on() {
    for op in 0..4 {
        let disk = disk();
        let file = durable_file(&disk);
        disk.crash_at(op);
        let done = (0..6)
            .take_while(|n| {
                if n % 2 == 0 {
                    write(&file, 0, "x")
                } else {
                    sync(&file)
                }
                .is_ok()
            })
            .count();
        assert_eq!(done as u64, op);
        assert!(disk.crashed());
        assert!(
            env(&disk).open("/d/f".as_ref(), Open::Read).is_err()
                && env(&disk).list("/d".as_ref()).is_err()
        );
        assert!(file.read_at(&mut [0], 0).is_err() && file.len().is_err());
        assert_eq!(disk.op_count(), op);
        assert!(block_on(disk.until_crash(std::future::pending::<()>())).is_err());
        // The fresh disk works, from number 0.
        let after = disk.after_kill();
        write(&open(&after, "/d/f"), 0, "y").unwrap();
        assert_eq!(after.op_count(), 1);
    }
}

/// A kill in the middle of a write leaves its first part.
#[test]
fn a_crash_within_a_write_leaves_its_first_pages() {
    let disk = disk();
    let file = create(&disk, "/d/f");
    disk.crash_within(1, 2);
    assert!(write(&file, 0, vec![b'x'; 3 * P]).is_err());
    assert!(disk.crashed());
    assert_eq!(
        disk.after_kill().contents("/d/f").unwrap(),
        vec![b'x'; 2 * P]
    );
}

#[test]
fn damage_is_silent_and_survives_everything() {
    let disk = disk();
    let file = durable_file(&disk);
    disk.flip_bit("/d/f", 10, 0).unwrap();
    disk.overwrite("/d/f", 4090, b"zzzzzz").unwrap();
    assert!(
        disk.overwrite("/d/f", 4095, b"zz").is_err(),
        "only where there is something"
    );
    for disk in [
        &disk,
        &disk.after_power_cut(&Choice::None),
        &disk.after_kill(),
    ] {
        let bytes = disk.contents("/d/f").unwrap();
        assert_eq!(
            (bytes[10], bytes[11], &bytes[4090..]),
            (b'`', b'a', &b"zzzzzz"[..])
        );
    }
    assert!(sync(&file).is_ok());
}

#[test]
fn reads_and_writes_can_go_wrong_without_an_error() {
    let disk = disk();
    disk.plant("/d/f", &[page(b'a'), page(b'b')].concat())
        .unwrap();
    let file = open(&disk, "/d/f");
    let read = || {
        let mut buf = [0; 2];
        file.read_at(&mut buf, 0).map(|_| buf)
    };
    disk.fail_next(OpKind::Read, Fault::FlipBit(1, 1));
    assert_eq!(read().unwrap(), *b"ac");
    assert_eq!(read().unwrap(), *b"aa", "the next read is right again");
    disk.fail_next(OpKind::Read, Fault::Misdirect(P as i64));
    assert_eq!(read().unwrap(), *b"bb");
    disk.fail_next_on(OpKind::Read, "other", Fault::Eio);
    disk.fail_next_on(OpKind::Read, "/f", Fault::Eio);
    assert!(read().is_err());
    assert_eq!(disk.op_count(), 0);
    disk.count_reads(true);
    disk.fail_at(0, Fault::Eio);
    assert!(read().is_err());

    disk.clear_faults();
    disk.fail_next(OpKind::Write, Fault::FlipBit(0, 0));
    write(&file, 0, "aa").unwrap();
    assert_eq!(read().unwrap(), *b"`a");
    disk.fail_next(OpKind::Write, Fault::Lost);
    write(&file, 0, "xx").unwrap();
    assert_eq!(read().unwrap(), *b"`a");
    disk.fail_next(OpKind::Write, Fault::Misdirect(P as i64));
    write(&file, 0, "xx").unwrap();
    assert_eq!(disk.contents("/d/f").unwrap()[P..P + 3], *b"xxb");
    disk.fail_next(OpKind::Write, Fault::Partial(1));
    assert_eq!(kind(write(&file, 0, "zz")), io::ErrorKind::StorageFull);
    assert_eq!(read().unwrap(), *b"za");
    write(&file, 0, "yy").unwrap();
    disk.fail_next(OpKind::Sync, Fault::Lost);
    sync(&file).unwrap();
    assert_eq!(
        disk.after_power_cut(&Choice::None)
            .contents("/d/f")
            .unwrap()[0],
        b'a',
        "the device lied"
    );
    disk.fail_rate(OpKind::Write, 1_000_000, Fault::Eio);
    assert!((0..10).all(|_| write(&file, 0, "q").is_err()));
}

#[test]
fn a_hanging_sync_goes_on_when_it_is_released() {
    sim::run(1, async {
        let disk = disk();
        let file = durable_file(&disk);
        file.write_at(&[Bytes::from_static(b"b")], 0).await.unwrap();
        disk.fail_next(OpKind::Sync, Fault::Hang);
        {
            let mut hanging = std::pin::pin!(file.sync_data());
            assert!(
                clock::timeout(Duration::from_secs(60), &mut hanging)
                    .await
                    .is_err()
            );
            // Not covered: written after the sync began.
            file.write_at(&[Bytes::from_static(b"c")], 1).await.unwrap();
            disk.release_hangs();
            hanging.await.unwrap();
        }
        assert_eq!(
            disk.after_power_cut(&Choice::None)
                .contents("/d/f")
                .unwrap()[..3],
            *b"baa"
        );
        disk.fail_next(OpKind::Sync, Fault::Delay(Duration::from_secs(5)));
        let start = clock::now();
        file.sync_data().await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(5));

        disk.fail_next(OpKind::Sync, Fault::Hang);
        let mut hanging = file.sync_data();
        assert!((&mut hanging).now_or_never().is_none());
        disk.crash();
        assert!(hanging.await.is_err(), "a crash ends the wait");
    });
}

#[test]
fn after_a_crash_a_dead_process_can_be_left_waiting() {
    sim::run(1, async {
        let disk = disk();
        let node = sim::Scope::new("node");
        disk.hang_after_crash();
        disk.crash_at(3);
        let file = durable_file(&disk);
        let writer = node.spawn(async move {
            loop {
                file.write_at(&[Bytes::from_static(b"b")], 0).await.unwrap();
                file.sync_data().await.unwrap();
            }
        });
        disk.wait_crashed().await;
        assert_eq!(disk.op_count(), 3);
        let mut writer: crate::env::task::JoinHandle<()> = writer;
        assert!(
            clock::timeout(Duration::from_secs(1), &mut writer)
                .await
                .is_err()
        );
        node.kill();
        assert!(writer.await.is_err());
    });
}

#[test]
fn latency_takes_virtual_time_between_its_bounds() {
    sim::run(3, async {
        let disk = disk();
        let file = durable_file(&disk);
        let ms = Duration::from_millis;
        disk.set_latency(Latency {
            write: (ms(1), ms(1)),
            sync: (ms(2), ms(30)),
        });
        let mut waits = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let start = clock::now();
            file.write_at(&[Bytes::from_static(b"b")], 0).await.unwrap();
            assert_eq!(start.elapsed(), ms(1));
            let start = clock::now();
            file.sync_data().await.unwrap();
            assert!((ms(2)..ms(30)).contains(&start.elapsed()));
            waits.insert(start.elapsed());
        }
        assert!(waits.len() > 40);
    });
}
