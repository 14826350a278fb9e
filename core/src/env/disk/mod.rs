//! Files, as far as a store needs them: positioned reads and writes, fsync, and directories that are fsynced too.
//!
//! Writes and fsyncs are futures, so that a simulated disk can delay or hang them. The real ones block inside `poll`:
//! call them from an env thread (`task::spawn_thread`) or inside `task::blocking`, never from a socket's task.
//! Reads are plain calls: a store reads mostly from the page cache; `try_read_at` never blocks.
//!
//! Always true:
//! * bytes written are durable only after `sync_data` returned `Ok`;
//! * a created, renamed or removed name is durable only after `sync_dir` of its directory returned `Ok`;
//! * a file's length is durable with the `sync_data` after it changed;
//! * after a failed `sync_data` nothing is known about any byte written since the last good one (never retry it).

mod real;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

pub use real::RealDisk;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Open {
    /// Must exist; reads only.
    Read,
    /// Must exist; reads and writes.
    ReadWrite,
    /// Must not exist; reads and writes.
    CreateNew,
}

/// Size and room of the file system a disk lies on, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// All of it.
    pub capacity: u64,
    /// What an unprivileged process may still write.
    pub free: u64,
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// Full path.
    pub path: PathBuf,
    /// File length in bytes; 0 for directories.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Keeps a directory for one process; given up when dropped.
pub trait DirLock: Send + Sync {}

/// A node's file system.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;
    /// Creates a directory and its parents; no error if it is there.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Renames, replacing what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or an empty directory. Open handles stay readable.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Lists a directory, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Makes the names in a directory durable.
    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>>;
    /// Size and room.
    fn space(&self, dir: &Path) -> io::Result<Space>;
    /// Locks a file for this process (created if absent). `WouldBlock` when another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// An open file. All offsets and lengths in bytes.
#[allow(
    clippy::len_without_is_empty,
    reason = "a file is not a collection, and asking for its length can fail"
)]
pub trait File: Send + Sync + 'static {
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file. May block on the device.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// As `read_at`, but `None` instead of waiting for the device.
    fn try_read_at(&self, buf: &mut [u8], at: u64) -> Option<io::Result<usize>>;
    /// Writes all parts one after the other, from `at` on, with vectored writes.
    fn write_at<'a>(&'a self, parts: &'a [Bytes], at: u64) -> BoxFuture<'a, io::Result<()>>;
    /// fdatasync.
    fn sync_data<'a>(&'a self) -> BoxFuture<'a, io::Result<()>>;
    /// Reserves room up to `len` and makes the file that long (posix_fallocate; the new bytes read as zeros).
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts or lengthens the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Its length.
    fn len(&self) -> io::Result<u64>;
    /// Reads will come from anywhere: nothing but what is asked for should be read into memory. A hint.
    fn expect_random_reads(&self) {}
    /// From now on writes follow each other without gaps, and what they write is seldom read soon: it need not pass the
    /// page cache. A hint, but one that allows something: between the end of a write and the end of its block of 4 KiB
    /// there may be zeros afterwards, whatever was there.
    fn expect_appends(&self) {}
    /// The first byte at or after `at` that may be other than a never-written zero; `None` if only such zeros follow.
    /// Looking through the rest of a preallocated segment costs nothing with it. Where a file system does not know, all is data.
    fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        Ok((at < self.len()?).then_some(at))
    }
}
