//! Appending past the page cache.
//!
//! Bulk bytes are written once and read later, if at all. Through the page cache each of them costs a page: found,
//! emptied, filled and written back, which took up to 2.3 s of CPU per GB where it was measured, against 0.2 for a copy
//! into this buffer and a write from there (docs/performance.md).
//!
//! ```text
//!   before:  | block | block | tail..... |            a direct write takes whole blocks only,
//!   write:                   | tail, new bytes | new bytes, zeros |     so the tail is written again, the same bytes
//! ```
//! Always true:
//! * the bytes of the tail that were there before are written again as they were: a torn write cannot change them;
//! * behind the end of a write, up to the end of its block, there are zeros: only who appends may use it;
//! * what the file system does not take this way goes through the page cache, from then on all of it.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the one place that touches real files"
)]

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use bytes::Bytes;
use rustix::fs::OFlags;
use rustix::io::Errno;

/// What direct writes are aligned to, in the file and in memory: no device that we know of wants more.
const BLOCK: usize = 4096;
/// Bytes of one write at most.
const BUFFER: usize = 2 << 20;

/// How an append ended.
pub(super) enum Appended {
    Done,
    /// The system takes no direct writes here; nothing is known to be written.
    Unsupported,
}

/// A file's second descriptor, and the bytes on their way to it.
pub(super) struct Direct {
    file: fs::File,
    /// Length of the file: what lies behind is not ours to lengthen.
    len: u64,
    /// One block longer than `BUFFER`, so that an aligned part of that length is in it. Empty until first used.
    memory: Vec<u8>,
    /// The block of this position begins the buffer, up to the position.
    tail: Option<u64>,
}

impl Direct {
    /// `None` where the system knows no direct writes.
    pub(super) fn open(file: &fs::File) -> Option<Direct> {
        let len = file.metadata().ok()?.len();
        // The same file, whatever its name is by now.
        let again = fs::OpenOptions::new()
            .write(true)
            .custom_flags(OFlags::DIRECT.bits() as i32)
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .ok()?;
        Some(Direct {
            file: again,
            len,
            memory: Vec::new(),
            tail: None,
        })
    }

    /// Writes all parts one after the other, from `at` on. `cached` is the same file, through the page cache.
    pub(super) fn append(
        &mut self,
        cached: &fs::File,
        parts: &[Bytes],
        at: u64,
    ) -> io::Result<Appended> {
        let total: usize = parts.iter().map(Bytes::len).sum();
        let end = at + total as u64;
        if end.next_multiple_of(BLOCK as u64) > self.len {
            return Ok(Appended::Unsupported);
        }
        if self.memory.is_empty() {
            self.memory = vec![0; BUFFER + BLOCK];
        }
        let skip = self.memory.as_ptr().align_offset(BLOCK);
        let Some(buffer) = self.memory.get_mut(skip..skip + BUFFER) else {
            return Ok(Appended::Unsupported);
        };
        let mut filled = (at % BLOCK as u64) as usize;
        let mut to = at - filled as u64;
        // Only after success is the buffer's beginning known again.
        if self.tail.take() != Some(at) {
            cached.read_exact_at(&mut buffer[..filled], to)?;
        }
        for part in parts {
            let mut rest = &part[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(BUFFER - filled));
                buffer[filled..filled + now.len()].copy_from_slice(now);
                filled += now.len();
                rest = later;
                if filled == BUFFER {
                    if let Appended::Unsupported = write(&self.file, buffer, to)? {
                        return Ok(Appended::Unsupported);
                    }
                    to += BUFFER as u64;
                    filled = 0;
                }
            }
        }
        let blocks = filled.next_multiple_of(BLOCK);
        buffer[filled..blocks].fill(0);
        if blocks > 0
            && let Appended::Unsupported = write(&self.file, &buffer[..blocks], to)?
        {
            return Ok(Appended::Unsupported);
        }
        buffer.copy_within(filled - filled % BLOCK..filled, 0);
        self.tail = Some(end);
        Ok(Appended::Done)
    }
}

/// Writes whole blocks.
fn write(file: &fs::File, blocks: &[u8], at: u64) -> io::Result<Appended> {
    let mut done = 0;
    while done < blocks.len() {
        match rustix::io::pwrite(file, &blocks[done..], at + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            // A short write of part of a block: the rest of it once more.
            Ok(written) => done += written - written % BLOCK,
            Err(Errno::INTR) => {}
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Appended::Unsupported),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Appended::Done)
}
