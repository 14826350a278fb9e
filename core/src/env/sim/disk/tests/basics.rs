//! What any file system promises: bytes, names, room, locks.

use super::*;

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
