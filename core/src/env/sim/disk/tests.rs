#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::executor::block_on;

use super::*;
use crate::env::disk::{File, Open, Space};
use crate::env::{clock, sim};

const P: usize = 4096;

fn disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.plant_dir("/d").unwrap();
    disk
}

fn env(disk: &SimDisk) -> Arc<dyn crate::env::disk::Disk> {
    disk.env().disk
}

fn create(disk: &SimDisk, path: &str) -> Arc<dyn File> {
    env(disk).open(path.as_ref(), Open::CreateNew).unwrap()
}

fn open(disk: &SimDisk, path: &str) -> Arc<dyn File> {
    env(disk).open(path.as_ref(), Open::ReadWrite).unwrap()
}

fn write(file: &Arc<dyn File>, at: u64, bytes: impl Into<Bytes>) -> io::Result<()> {
    block_on(file.write_at(&[bytes.into()], at))
}

fn sync(file: &Arc<dyn File>) -> io::Result<()> {
    block_on(file.sync_data())
}

fn sync_dir(disk: &SimDisk, dir: &str) -> io::Result<()> {
    block_on(env(disk).sync_dir(dir.as_ref()))
}

fn page(fill: u8) -> Vec<u8> {
    vec![fill; P]
}

/// A durable file with one page of `a`s.
fn durable_file(disk: &SimDisk) -> Arc<dyn File> {
    disk.plant("/d/f", &page(b'a')).unwrap();
    open(disk, "/d/f")
}

fn kind(result: io::Result<()>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn bytes_come_back_over_page_borders_and_holes_are_zeros() {
    let disk = disk();
    let file = create(&disk, "/d/f");
    let bytes: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
    block_on(file.write_at(
        &[
            bytes[..3].to_vec().into(),
            Bytes::new(),
            bytes[3..].to_vec().into(),
        ],
        5000,
    ))
    .unwrap();
    let mut back = vec![7; 20_000];
    assert_eq!(file.read_at(&mut back, 0).unwrap(), 15_000);
    assert!(back[..5000].iter().all(|byte| *byte == 0));
    assert_eq!(back[5000..15_000], bytes);
    assert_eq!(file.try_read_at(&mut back, 14_999).unwrap().unwrap(), 1);
    assert_eq!(file.read_at(&mut back, 15_000).unwrap(), 0);
    assert_eq!(file.next_data(0).unwrap(), Some(4096));
    assert_eq!(file.next_data(9000).unwrap(), Some(9000));
    assert_eq!(file.next_data(15_000).unwrap(), None);
    disk.set_cold(true);
    assert!(file.try_read_at(&mut back, 0).is_none());
    assert_eq!(disk.files(), [("/d/f".into(), 15_000)]);
}

#[test]
fn a_shortened_file_that_grows_again_shows_zeros() {
    let disk = disk();
    let file = create(&disk, "/d/f");
    write(&file, 0, vec![b'x'; 2 * P]).unwrap();
    file.set_len(100).unwrap();
    file.set_len(9000).unwrap();
    let mut expected = vec![0; 9000];
    expected[..100].fill(b'x');
    assert_eq!(disk.contents("/d/f").unwrap(), expected);
    sync(&file).unwrap();
    sync_dir(&disk, "/d").unwrap();
    assert_eq!(
        disk.after_power_cut(&Choice::None)
            .contents("/d/f")
            .unwrap(),
        expected
    );
}

#[test]
fn names_obey_the_usual_rules() {
    let disk = disk();
    let fs = env(&disk);
    let file = create(&disk, "/d/f");
    write(&file, 0, "old").unwrap();
    assert_eq!(
        fs.open("/d/f".as_ref(), Open::CreateNew)
            .err()
            .unwrap()
            .kind(),
        io::ErrorKind::AlreadyExists
    );
    assert_eq!(
        fs.open("/d/g".as_ref(), Open::Read).err().unwrap().kind(),
        io::ErrorKind::NotFound
    );
    assert_eq!(
        fs.open("/x/g".as_ref(), Open::CreateNew)
            .err()
            .unwrap()
            .kind(),
        io::ErrorKind::NotFound
    );
    assert!(fs.open("/d".as_ref(), Open::Read).is_err());
    fs.create_dir_all("/d/e/e".as_ref()).unwrap();
    fs.create_dir_all("/d/e/e".as_ref()).unwrap();
    assert_eq!(
        kind(fs.remove("/d/e".as_ref())),
        io::ErrorKind::DirectoryNotEmpty
    );
    fs.remove("/d/e/e".as_ref()).unwrap();

    let other = create(&disk, "/d/e/tmp");
    write(&other, 0, "newer").unwrap();
    fs.rename("/d/e/tmp".as_ref(), "/d/f".as_ref()).unwrap();
    assert_eq!(disk.contents("/d/f").unwrap(), b"newer");
    let mut back = [0; 3];
    file.read_at(&mut back, 0).unwrap();
    assert_eq!(&back, b"old", "an open handle keeps what it opened");
    let list = fs.list("/d".as_ref()).unwrap();
    let list: Vec<_> = list
        .iter()
        .map(|entry| (entry.path.to_str().unwrap(), entry.len, entry.is_dir))
        .collect();
    assert_eq!(list, [("/d/e", 0, true), ("/d/f", 5, false)]);
    fs.rename("/d/e".as_ref(), "/d/moved".as_ref()).unwrap();
    fs.remove("/d/f".as_ref()).unwrap();
    fs.remove("/d/moved".as_ref()).unwrap();
    assert!(fs.list("/d".as_ref()).unwrap().is_empty());

    let reader = {
        durable_file(&disk);
        fs.open("/d/f".as_ref(), Open::Read).unwrap()
    };
    assert!(write(&reader, 0, "x").is_err() && reader.set_len(0).is_err());
}

/// A process kill takes nothing that was written, but makes nothing durable either.
#[test]
fn a_kill_keeps_everything_written_and_a_power_cut_may_still_take_it() {
    let disk = disk();
    let file = durable_file(&disk);
    write(&file, 0, page(b'b')).unwrap();
    let killed = disk.after_kill();
    assert_eq!(killed.contents("/d/f").unwrap(), page(b'b'));
    assert_eq!(
        killed
            .after_power_cut(&Choice::None)
            .contents("/d/f")
            .unwrap(),
        page(b'a')
    );
    sync(&open(&killed, "/d/f")).unwrap();
    assert_eq!(
        killed
            .after_power_cut(&Choice::None)
            .contents("/d/f")
            .unwrap(),
        page(b'b')
    );
    assert_eq!(
        disk.after_power_cut(&Choice::None)
            .contents("/d/f")
            .unwrap(),
        page(b'a'),
        "copies share nothing"
    );
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    let disk = disk();
    let file = create(&disk, "/d/f");
    write(&file, 100, vec![b'x'; 3 * P]).unwrap();
    sync(&file).unwrap();
    sync_dir(&disk, "/d").unwrap();
    let expected = disk.contents("/d/f").unwrap();
    assert!(disk.power_cut_choices().is_empty());
    let other = create(&disk, "/d/g");
    write(&other, 0, vec![b'y'; 2 * P]).unwrap();
    let cuts = disk
        .power_cuts()
        .into_iter()
        .chain((0..50).map(Choice::Random));
    for cut in cuts {
        let after = disk.after_power_cut(&cut);
        assert_eq!(after.contents("/d/f").unwrap(), expected, "{cut:?}");
        assert_eq!(
            after.after_power_cut(&Choice::None).digest(),
            after.digest(),
            "nothing is left to lose"
        );
    }
}

/// Any subset of unsynced pages, and parts of them.
#[test]
fn a_power_cut_keeps_exactly_what_it_is_told_to() {
    let disk = disk();
    disk.plant("/d/f", &[page(b'a'), page(b'a'), page(b'a')].concat())
        .unwrap();
    let file = open(&disk, "/d/f");
    write(&file, 0, vec![b'b'; 3 * P]).unwrap();
    let of = |page| Unsynced::Page {
        path: "/d/f".into(),
        page,
    };
    assert_eq!(disk.power_cut_choices(), [of(0), of(1), of(2)]);
    let left = |choice: Choice| {
        let bytes = disk.after_power_cut(&choice).contents("/d/f").unwrap();
        // One letter for each 512 bytes.
        String::from_utf8(bytes.iter().step_by(512).copied().collect()).unwrap()
    };
    assert_eq!(
        left(Choice::None),
        "aaaaaaaa aaaaaaaa aaaaaaaa".replace(' ', "")
    );
    assert_eq!(
        left(Choice::All),
        "bbbbbbbb bbbbbbbb bbbbbbbb".replace(' ', "")
    );
    assert_eq!(
        left(Choice::Prefix(1)),
        "bbbbbbbb aaaaaaaa aaaaaaaa".replace(' ', "")
    );
    assert_eq!(
        left(Choice::AllBut(1)),
        "bbbbbbbb aaaaaaaa bbbbbbbb".replace(' ', "")
    );
    assert_eq!(
        left(Choice::Torn {
            page: 1,
            keep: 1100
        }),
        "bbbbbbbb bbaaaaaa aaaaaaaa".replace(' ', "")
    );
    assert_eq!(
        left(Choice::Torn {
            page: 1,
            keep: 4096
        }),
        left(Choice::Prefix(2))
    );
    let fates = vec![Fate::Dropped, Fate::Sectors(0b1000_0001), Fate::Kept];
    assert_eq!(
        left(Choice::Fates(fates)),
        "aaaaaaaa baaaaaab bbbbbbbb".replace(' ', "")
    );
    assert_eq!(left(Choice::Random(9)), left(Choice::Random(9)));
    let random: std::collections::BTreeSet<_> =
        (0..200).map(|seed| left(Choice::Random(seed))).collect();
    assert!(random.len() > 50, "random cuts differ");
    assert_eq!(disk.power_cuts().len(), 1 + 3 + 2 + 9);
}

/// The device may have taken any version a page ever had since the last sync.
#[test]
fn a_page_written_twice_may_be_left_in_between() {
    let disk = disk();
    let file = durable_file(&disk);
    write(&file, 0, "b").unwrap();
    write(&file, 1, "c").unwrap();
    let start = |choice| disk.after_power_cut(&choice).contents("/d/f").unwrap()[..3].to_vec();
    assert_eq!(start(Choice::None), b"aaa");
    assert_eq!(start(Choice::Prefix(1)), b"baa");
    assert_eq!(start(Choice::All), b"bca");
}

#[test]
fn names_that_were_not_synced_may_vanish_or_stay() {
    let disk = disk();
    disk.plant("/d/old", b"old").unwrap();
    let file = create(&disk, "/d/tmp");
    write(&file, 0, "new").unwrap();
    sync(&file).unwrap();
    env(&disk)
        .rename("/d/tmp".as_ref(), "/d/old".as_ref())
        .unwrap();
    let names = |choice: &Choice| {
        let after = disk.after_power_cut(choice);
        let files: Vec<_> = after
            .files()
            .into_iter()
            .map(|(path, _)| path.to_str().unwrap().to_owned())
            .collect();
        (
            files.join(" "),
            String::from_utf8(after.contents("/d/old").unwrap()).unwrap(),
        )
    };
    assert_eq!(names(&Choice::None), ("/d/old".into(), "old".into()));
    assert_eq!(
        names(&Choice::Prefix(1)),
        ("/d/old /d/tmp".into(), "old".into())
    );
    assert_eq!(names(&Choice::All), ("/d/old".into(), "new".into()));
    // The rename alone: it cannot have happened without the file having been there.
    assert_eq!(names(&Choice::AllBut(0)), ("/d/old".into(), "new".into()));
    sync_dir(&disk, "/d").unwrap();
    assert_eq!(names(&Choice::None), ("/d/old".into(), "new".into()));

    env(&disk).remove("/d/old".as_ref()).unwrap();
    assert_eq!(
        names(&Choice::None).1,
        "new",
        "a removal is not durable by itself either"
    );
    assert!(disk.after_power_cut(&Choice::All).files().is_empty());
}

/// Who creates directories has to sync their parents too.
#[test]
fn a_directory_that_was_not_synced_takes_its_files_with_it() {
    let disk = disk();
    env(&disk).create_dir_all("/d/a/b".as_ref()).unwrap();
    let file = create(&disk, "/d/a/b/f");
    write(&file, 0, "x").unwrap();
    sync(&file).unwrap();
    for dir in ["/d/a/b", "/d/a"] {
        sync_dir(&disk, dir).unwrap();
        assert!(disk.after_power_cut(&Choice::None).files().is_empty());
    }
    sync_dir(&disk, "/d").unwrap();
    assert_eq!(
        disk.after_power_cut(&Choice::None)
            .contents("/d/a/b/f")
            .unwrap(),
        b"x"
    );
}

#[test]
fn a_rename_into_another_directory_never_leaves_two_names() {
    let disk = disk();
    disk.plant_dir("/e").unwrap();
    disk.plant_dir("/g").unwrap();
    durable_file(&disk);
    env(&disk).rename("/d/f".as_ref(), "/e/f".as_ref()).unwrap();
    env(&disk).rename("/e/f".as_ref(), "/g/f".as_ref()).unwrap();
    let other = create(&disk, "/d/f");
    write(&other, 0, "other").unwrap();
    sync_dir(&disk, "/g").unwrap();
    sync_dir(&disk, "/d").unwrap();
    sync_dir(&disk, "/e").unwrap();
    let after = disk.after_power_cut(&Choice::None);
    let files: Vec<_> = after
        .files()
        .into_iter()
        .map(|(path, len)| (path.to_str().unwrap().to_owned(), len))
        .collect();
    assert_eq!(files, [("/d/f".into(), 0), ("/g/f".into(), 4096)]);
}

/// Length is metadata: pages may have arrived without it, and it without them.
#[test]
fn a_grown_length_is_durable_only_with_a_sync() {
    let disk = disk();
    let file = durable_file(&disk);
    write(&file, P as u64, page(b'b')).unwrap();
    let grown = Unsynced::Length {
        path: "/d/f".into(),
        len: 2 * P as u64,
    };
    let written = Unsynced::Page {
        path: "/d/f".into(),
        page: 1,
    };
    assert_eq!(disk.power_cut_choices(), [grown, written]);
    let left = |choice| disk.after_power_cut(&choice).contents("/d/f").unwrap();
    assert_eq!(
        left(Choice::AllBut(0)),
        page(b'a'),
        "the page arrived, the length did not"
    );
    assert_eq!(
        left(Choice::Prefix(1)),
        [page(b'a'), page(0)].concat(),
        "the length arrived, the page did not"
    );
    sync(&file).unwrap();
    assert_eq!(left(Choice::None), [page(b'a'), page(b'b')].concat());
    file.set_len(10).unwrap();
    assert_eq!(left(Choice::None).len(), 2 * P);
    assert_eq!(left(Choice::All).len(), 10);
    sync(&file).unwrap();
    assert_eq!(left(Choice::None).len(), 10);
}

/// Preallocated segments: writing into them changes no metadata, and what was never written costs nothing.
#[test]
fn reserved_room_is_charged_at_once_and_needs_no_more() {
    let disk = disk();
    disk.set_capacity(64 * P as u64);
    let file = create(&disk, "/d/f");
    file.allocate(60 * P as u64).unwrap();
    assert_eq!(
        env(&disk).space("/d".as_ref()).unwrap(),
        Space {
            capacity: 64 * P as u64,
            free: 4 * P as u64
        }
    );
    sync(&file).unwrap();
    sync_dir(&disk, "/d").unwrap();
    write(&file, 0, vec![b'x'; 60 * P]).unwrap();
    assert_eq!(env(&disk).space("/d".as_ref()).unwrap().free, 4 * P as u64);
    assert!(
        disk.power_cut_choices()
            .iter()
            .all(|it| matches!(it, Unsynced::Page { .. }))
    );
    assert_eq!(
        disk.after_power_cut(&Choice::None)
            .contents("/d/f")
            .unwrap(),
        vec![0; 60 * P]
    );

    let other = create(&disk, "/d/g");
    assert_eq!(
        kind(other.allocate(5 * P as u64)),
        io::ErrorKind::StorageFull
    );
    assert_eq!(
        other.len().unwrap(),
        0,
        "a refused allocation changes nothing"
    );
    assert_eq!(
        kind(write(&other, 0, vec![b'y'; 6 * P])),
        io::ErrorKind::StorageFull
    );
    assert_eq!(
        other.len().unwrap(),
        4 * P as u64,
        "what fitted was written"
    );
    env(&disk).remove("/d/f".as_ref()).unwrap();
    assert_eq!(
        kind(write(&other, 4 * P as u64, "z")),
        io::ErrorKind::StorageFull,
        "an open file keeps its room"
    );
    drop(file);
    write(&other, 4 * P as u64, "z").unwrap();
    assert_eq!(env(&disk).space("/d".as_ref()).unwrap().free, 59 * P as u64);
}

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

/// One run of a workload gives all its crash states.
#[test]
fn recorded_states_are_those_a_crash_would_have_left() {
    let workload = |disk: &SimDisk| {
        let file = create(disk, "/d/f");
        for n in 0..5 {
            let _ = write(&file, n * 1000, vec![n as u8; 5000]);
            let _ = sync(&file);
        }
        let _ = sync_dir(disk, "/d");
    };
    let recorded = disk();
    recorded.record_states(true);
    let hooked = Arc::new(Mutex::new(Vec::new()));
    let list = hooked.clone();
    recorded.on_op(move |disk, op| {
        assert_eq!(disk.op_count(), op.number + 1);
        list.lock().push(disk.after_kill().digest());
    });
    workload(&recorded);
    let mut digests = std::collections::BTreeSet::new();
    for op in 1..recorded.op_count() {
        let crashed = disk();
        crashed.crash_at(op);
        workload(&crashed);
        let state = recorded.state_before(op).unwrap();
        assert_eq!(
            state.digest(),
            crashed.after_kill().digest(),
            "before operation {op}"
        );
        assert_eq!(state.digest(), hooked.lock()[op as usize]);
        for seed in 0..5 {
            let choice = Choice::Random(seed);
            assert_eq!(
                state.after_power_cut(&choice).digest(),
                crashed.after_power_cut(&choice).digest()
            );
        }
        digests.insert(state.digest());
    }
    assert_eq!(
        digests.len() as u64,
        recorded.op_count() - 1,
        "every operation changed something"
    );
}

#[test]
fn equal_disks_have_equal_digests_however_they_came_about() {
    let (one, two) = (disk(), disk());
    let file = create(&one, "/d/f");
    write(&file, 0, page(0)).unwrap();
    write(&file, 1, "x").unwrap();
    let other = create(&two, "/d/f");
    write(&other, 0, "?x").unwrap();
    write(&other, 0, "\0").unwrap();
    other.set_len(P as u64).unwrap();
    assert_ne!(one.digest(), two.digest(), "not durable in the same way");
    for (disk, file) in [(&one, &file), (&two, &other)] {
        sync(file).unwrap();
        sync_dir(disk, "/d").unwrap();
    }
    assert_eq!(one.digest(), two.digest());
    one.flip_bit("/d/f", 4000, 3).unwrap();
    assert_ne!(one.digest(), two.digest());
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

#[test]
fn a_lock_is_held_by_one_process_and_dies_with_it() {
    let disk = disk();
    let fs = env(&disk);
    let held = fs.lock("/d/lock".as_ref()).unwrap();
    assert_eq!(
        fs.lock("/d/lock".as_ref()).err().unwrap().kind(),
        io::ErrorKind::WouldBlock
    );
    assert!(env(&disk.after_kill()).lock("/d/lock".as_ref()).is_ok());
    drop(held);
    assert!(fs.lock("/d/lock".as_ref()).is_ok());
}

/// Long simulations create and remove thousands of files.
#[test]
fn removed_files_are_forgotten() {
    let disk = disk();
    let fs = env(&disk);
    for n in 0..100 {
        let dir = format!("/d/{n}");
        fs.create_dir_all(dir.as_ref()).unwrap();
        let path = format!("{dir}/f");
        let file = create(&disk, &path);
        write(&file, 0, page(b'x')).unwrap();
        drop(file);
        fs.remove(path.as_ref()).unwrap();
        fs.remove(dir.as_ref()).unwrap();
        sync_dir(&disk, "/d").unwrap();
    }
    let inner = disk.shared.inner.lock();
    assert_eq!(
        (inner.state.inodes.len(), inner.state.pending.len()),
        (0, 0)
    );
    assert_eq!(inner.state.used_pages(), 0);
}
