//! The operating system's files.
//!
//! Writes, fsyncs and allocation block the calling thread inside `poll`; that is why they belong on env threads.
//!
//! Always true:
//! * a write returns `Ok` only when every byte was taken, over partial writes and IOV_MAX;
//! * fdatasync is called once per `sync_data`: a second try after an error would find the pages marked clean and lie;
//! * descriptors are closed on exec, so a child process never holds our lock.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the one place that touches real files"
)]

mod direct;

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

use self::direct::{Appended, Direct};
use super::{DirEntry, DirLock, Disk, File, Open, Space};

/// More parts than this in one call and Linux refuses it.
const IOV_MAX: usize = 1024;

/// The file system of this machine. Paths mean what they mean to the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

struct RealFile {
    file: fs::File,
    /// The file system knows reads that do not wait. Assumed until it says no.
    nowait: AtomicBool,
    /// Set by `expect_appends`, where the system can.
    direct: Mutex<Option<Direct>>,
}

struct RealLock {
    /// The lock goes when the last copy of this descriptor does.
    _file: fs::File,
}

impl DirLock for RealLock {}

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => {}
            Open::ReadWrite => {
                options.write(true);
            }
            Open::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        let file = options.open(path)?;
        // Opening a directory for reading works on Linux; nothing done with it afterwards would.
        if file.metadata()?.is_dir() {
            return Err(Errno::ISDIR.into());
        }
        Ok(Arc::new(RealFile::new(file)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => fs::remove_dir(path),
            done => done,
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // Removed between the two calls: as if it had been before the first.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            let is_dir = metadata.is_dir();
            entries.push(DirEntry {
                path: entry.path(),
                len: if is_dir { 0 } else { metadata.len() },
                is_dir,
            });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        async move {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::open(dir, flags, Mode::empty())?;
            Ok(rustix::fs::fsync(dir)?)
        }
        .boxed()
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(dir)?;
        // `f_bavail`, not `f_bfree`: the rest is kept back for root.
        Ok(Space {
            capacity: stat.f_blocks * stat.f_frsize,
            free: stat.f_bavail * stat.f_frsize,
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

impl RealFile {
    fn new(file: fs::File) -> RealFile {
        RealFile {
            file,
            nowait: AtomicBool::new(true),
            direct: Mutex::new(None),
        }
    }

    /// Past the page cache if that was asked for and works.
    fn write(&self, parts: &[Bytes], at: u64) -> io::Result<()> {
        let mut direct = self.direct.lock();
        if let Some(file) = direct.as_mut() {
            match file.append(&self.file, parts, at)? {
                Appended::Done => return Ok(()),
                Appended::Unsupported => *direct = None,
            }
        }
        drop(direct);
        self.write_all_at(parts, at)
    }

    fn write_all_at(&self, parts: &[Bytes], mut at: u64) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts
            .iter()
            .filter(|part| !part.is_empty())
            .map(|part| IoSlice::new(part))
            .collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let count = rest.len().min(IOV_MAX);
            match rustix::io::pwritev(&self.file, &rest[..count], at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What glibc does where the file system cannot reserve: room is only ours once something is written there.
    fn write_zeros(&self, from: u64, to: u64) -> io::Result<()> {
        let zeros = vec![0; 1 << 20];
        let mut at = from;
        while at < to {
            let len = (to - at).min(zeros.len() as u64);
            self.file.write_all_at(&zeros[..len as usize], at)?;
            at += len;
        }
        Ok(())
    }
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], at + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn try_read_at(&self, buf: &mut [u8], at: u64) -> Option<io::Result<usize>> {
        if !self.nowait.load(Ordering::Relaxed) {
            return None;
        }
        let mut done = 0;
        while done < buf.len() {
            let mut slices = [IoSliceMut::new(&mut buf[done..])];
            // A short read means either the end of the file or the end of what is cached: only another call tells.
            match rustix::io::preadv2(
                &self.file,
                &mut slices,
                at + done as u64,
                ReadWriteFlags::NOWAIT,
            ) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    self.nowait.store(false, Ordering::Relaxed);
                    return None;
                }
                Err(error) => return Some(Err(error.into())),
            }
        }
        Some(Ok(done))
    }

    fn write_at<'a>(&'a self, parts: &'a [Bytes], at: u64) -> BoxFuture<'a, io::Result<()>> {
        async move { self.write(parts, at) }.boxed()
    }

    fn sync_data<'a>(&'a self) -> BoxFuture<'a, io::Result<()>> {
        async move { Ok(rustix::fs::fdatasync(&self.file)?) }.boxed()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        loop {
            return match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
                Err(Errno::INTR) => continue,
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_zeros(self.len()?, len),
                done => Ok(done?),
            };
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn expect_random_reads(&self) {
        // A file system that does not take the hint reads ahead; nothing depends on it.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::Random);
    }

    fn expect_appends(&self) {
        *self.direct.lock() = Direct::open(&self.file);
    }

    fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        // This moves the descriptor's own position, which nothing here uses.
        match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NXIO) => Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok((at < self.len()?).then_some(at)),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::executor::block_on;

    use super::*;

    fn new_file(dir: &tempfile::TempDir, name: &str) -> Arc<dyn File> {
        RealDisk
            .open(&dir.path().join(name), Open::CreateNew)
            .unwrap()
    }

    /// A batch has many more parts than one system call takes, some of them empty.
    #[test]
    fn a_write_of_many_parts_is_read_back_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, "f");
        let parts: Vec<Bytes> = (0..3000_usize)
            .map(|n| Bytes::from(vec![n as u8; n % 7]))
            .collect();
        let whole: Vec<u8> = parts.iter().flatten().copied().collect();
        block_on(file.write_at(&parts, 5)).unwrap();
        block_on(file.sync_data()).unwrap();
        assert_eq!(file.len().unwrap(), 5 + whole.len() as u64);

        let mut back = vec![1; whole.len() + 100];
        assert_eq!(
            file.read_at(&mut back, 5).unwrap(),
            whole.len(),
            "only the end of the file makes a read short"
        );
        assert_eq!(back[..whole.len()], whole);
        // What was just written is cached; a file system without RWF_NOWAIT says `None`, and that is fine too.
        let mut cached = vec![1; whole.len() + 100];
        if let Some(read) = file.try_read_at(&mut cached, 5) {
            assert_eq!(read.unwrap(), whole.len());
            assert_eq!(cached[..whole.len()], whole);
        }
        assert_eq!(file.read_at(&mut back, 1 << 40).unwrap(), 0);
    }

    /// Bulk goes past the page cache in whole blocks; the bytes must be those that were given, wherever a write begins.
    #[test]
    fn appends_are_read_back_whole_however_long_each_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, "f");
        file.allocate(16 << 20).unwrap();
        block_on(file.write_at(&[Bytes::from(vec![9; 5000])], 0)).unwrap();
        block_on(file.sync_data()).unwrap();
        file.expect_appends();
        let mut whole = vec![9; 5000];
        let lengths = [
            1,
            64,
            4031,
            4096,
            3,
            100_000,
            3 << 20,
            4096 - 64,
            2 << 20,
            1,
        ];
        for (n, len) in lengths.into_iter().enumerate() {
            let piece: Vec<u8> = (0..len).map(|at| (at % 251 + n) as u8).collect();
            let parts: Vec<Bytes> = piece.chunks(70_001).map(|c| c.to_vec().into()).collect();
            block_on(file.write_at(&parts, whole.len() as u64)).unwrap();
            whole.extend_from_slice(&piece);
            let mut back = vec![1; whole.len() + 4096];
            assert_eq!(file.read_at(&mut back, 0).unwrap(), back.len());
            assert!(
                back[..whole.len()] == whole[..],
                "append {n} of {len} bytes"
            );
            assert!(back[whole.len()..].iter().all(|byte| *byte == 0));
        }
        block_on(file.sync_data()).unwrap();
        assert_eq!(
            file.len().unwrap(),
            16 << 20,
            "appends never lengthen a file"
        );
        // Up to the very end there is no whole block left to write: the page cache takes it.
        let rest = vec![7; (16 << 20) - whole.len()];
        block_on(file.write_at(&[rest.clone().into()], whole.len() as u64)).unwrap();
        block_on(file.write_at(&[Bytes::from_static(b"longer")], 16 << 20)).unwrap();
        let mut back = vec![0; 6];
        assert_eq!(file.read_at(&mut back, 16 << 20).unwrap(), 6);
        assert_eq!(&back, b"longer");
    }

    #[test]
    fn allocated_room_reads_as_zeros_and_never_shortens() {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, "f");
        block_on(file.write_at(&[Bytes::from_static(b"abc")], 0)).unwrap();
        file.allocate(1 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        file.allocate(10).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        let mut back = [9; 6];
        assert_eq!(file.read_at(&mut back, 0).unwrap(), 6);
        assert_eq!(&back, b"abc\0\0\0");
        file.set_len(2).unwrap();
        assert_eq!(file.read_at(&mut back, 0).unwrap(), 2);
    }

    /// Where the file system cannot reserve, zeros are written instead.
    #[test]
    fn room_made_by_writing_keeps_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create_new(dir.path().join("f")).unwrap();
        let file = RealFile::new(file);
        block_on(file.write_at(&[Bytes::from_static(b"abc")], 0)).unwrap();
        file.write_zeros(3, (2 << 20) + 7).unwrap();
        assert_eq!(file.len().unwrap(), (2 << 20) + 7);
        assert_eq!(fs::read(dir.path().join("f")).unwrap()[..4], *b"abc\0");
    }

    /// Recovery looks through preallocated segments for what lies behind a tear.
    #[test]
    fn the_next_data_is_found_behind_reserved_room() {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, "f");
        file.allocate(64 << 20).unwrap();
        block_on(file.write_at(&[Bytes::from_static(b"abc")], 40 << 20)).unwrap();
        let found = file.next_data(0).unwrap().unwrap();
        assert!(found <= 40 << 20, "never past data: {found}");
        assert!(file.next_data(64 << 20).unwrap().is_none());
        block_on(file.sync_data()).unwrap();
        assert!(file.next_data(0).unwrap().unwrap() <= 40 << 20);
        assert!(
            file.next_data((40 << 20) + 1).unwrap().is_some(),
            "within the same page"
        );
    }

    #[test]
    fn names_are_created_renamed_listed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        RealDisk.create_dir_all(&deep).unwrap();
        RealDisk.create_dir_all(&deep).unwrap();
        for name in ["z", "m"] {
            let file = RealDisk.open(&deep.join(name), Open::CreateNew).unwrap();
            block_on(file.write_at(&[Bytes::from(name)], 0)).unwrap();
        }
        RealDisk.create_dir_all(&deep.join("d")).unwrap();
        assert_eq!(
            RealDisk
                .open(&deep.join("z"), Open::CreateNew)
                .err()
                .unwrap()
                .kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(
            RealDisk
                .open(&deep.join("none"), Open::Read)
                .err()
                .unwrap()
                .kind(),
            io::ErrorKind::NotFound
        );
        assert!(
            RealDisk.open(&deep, Open::Read).is_err(),
            "a directory is not a file"
        );

        let replaced = RealDisk.open(&deep.join("m"), Open::Read).unwrap();
        RealDisk.rename(&deep.join("z"), &deep.join("m")).unwrap();
        block_on(RealDisk.sync_dir(&deep)).unwrap();
        let names: Vec<_> = RealDisk.list(&deep).unwrap();
        assert_eq!(
            names,
            [
                DirEntry {
                    path: deep.join("d"),
                    len: 0,
                    is_dir: true
                },
                DirEntry {
                    path: deep.join("m"),
                    len: 1,
                    is_dir: false
                }
            ]
        );
        let mut byte = [0];
        replaced.read_at(&mut byte, 0).unwrap();
        assert_eq!(&byte, b"m", "an open handle keeps reading what it opened");
        RealDisk.remove(&deep.join("m")).unwrap();
        RealDisk.remove(&deep.join("d")).unwrap();
        assert!(RealDisk.list(&deep).unwrap().is_empty());
    }

    /// Two servers on one directory would destroy it.
    #[test]
    fn a_lock_is_refused_to_a_second_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = RealDisk.lock(&path).unwrap();
        assert_eq!(
            RealDisk.lock(&path).err().unwrap().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(held);
        RealDisk.lock(&path).unwrap();
    }

    #[test]
    fn space_is_what_the_file_system_says() {
        let dir = tempfile::tempdir().unwrap();
        let space = RealDisk.space(dir.path()).unwrap();
        assert!(
            space.free <= space.capacity && space.capacity > 0,
            "{space:?}"
        );
    }

    /// Readers must not be able to write: a bug there would touch sealed segments.
    #[test]
    fn a_file_opened_for_reading_refuses_writes() {
        let dir = tempfile::tempdir().unwrap();
        drop(new_file(&dir, "f"));
        let file = RealDisk.open(&dir.path().join("f"), Open::Read).unwrap();
        assert!(block_on(file.write_at(&[Bytes::from_static(b"x")], 0)).is_err());
    }
}
