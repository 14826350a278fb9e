//! What kills and power cuts leave.

use super::*;

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
    let grown_again = disk.after_power_cut(&Choice::AllBut(0));
    open(&grown_again, "/d/f").set_len(2 * P as u64).unwrap();
    assert_eq!(
        grown_again.contents("/d/f").unwrap(),
        [page(b'a'), page(0)].concat(),
        "and it does not come back when the file grows again"
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

/// A name that was renamed away must not come back for good only because the directory it went to was removed since.
#[test]
fn a_name_renamed_into_a_directory_that_is_gone_stays_gone() {
    let disk = disk();
    let fs = env(&disk);
    drop(durable_file(&disk));
    disk.plant_dir("/d/e").unwrap();
    fs.rename("/d/f".as_ref(), "/d/e/f".as_ref()).unwrap();
    fs.remove("/d/e/f".as_ref()).unwrap();
    fs.remove("/d/e".as_ref()).unwrap();
    assert!(disk.after_power_cut(&Choice::All).files().is_empty());
    sync_dir(&disk, "/d").unwrap();
    assert!(disk.after_power_cut(&Choice::None).files().is_empty());
}
