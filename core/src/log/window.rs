//! A look at a segment's bytes, a piece at a time.
//!
//! Always true:
//! * a page the disk cannot read shows as zeros and is remembered: one bad sector does not hide its neighbours;
//! * looking for something skips what was never written without reading it, where the file system can tell. What is read
//!   there comes into the page cache and counts as written from then on, so steps of all searches end at the same places:
//!   one byte further, and a search would follow its own traces through all of the segment's rest, at every start.

use std::io;

use super::place::{Position, Stream};
use super::segment::Segment;

const PAGE: usize = 4096;
const ZEROS: [u8; PAGE] = [0; PAGE];

/// See the file's header.
pub(super) struct Window<'a> {
    segment: &'a Segment,
    /// How much to read ahead.
    ahead: usize,
    start: usize,
    buf: Vec<u8>,
    /// Bytes read so far.
    pub read: u64,
    /// Pages that could not be read.
    pub unreadable: Vec<Position>,
}

impl<'a> Window<'a> {
    pub(super) fn new(segment: &'a Segment, stream: Stream) -> Window<'a> {
        Window {
            segment,
            ahead: match stream {
                // Everything is looked at.
                Stream::Meta => 256 << 10,
                // Headers are, every MiB or so.
                Stream::Blob => PAGE,
            },
            start: 0,
            buf: Vec::new(),
            read: 0,
            unreadable: Vec::new(),
        }
    }

    /// `len` bytes at `at`; `None` if the segment ends before them.
    pub(super) fn get(&mut self, at: u32, len: usize) -> io::Result<Option<&[u8]>> {
        let at = at as usize;
        if at + len > self.segment.length as usize {
            return Ok(None);
        }
        if at < self.start || at + len > self.start + self.buf.len() {
            self.fill(at, len.max(self.ahead))?;
        }
        let from = at - self.start;
        Ok(self.buf.get(from..from + len))
    }

    fn fill(&mut self, at: usize, len: usize) -> io::Result<()> {
        let end = (at + len).min(self.segment.length as usize);
        self.start = at / PAGE * PAGE;
        self.buf.clear();
        self.buf.resize(
            end.next_multiple_of(PAGE).min(self.segment.length as usize) - self.start,
            0,
        );
        self.read += self.buf.len() as u64;
        match self.segment.file.read_at(&mut self.buf, self.start as u64) {
            // A file shorter than its header says reads as zeros: damage, found by whoever looks.
            Ok(_) => Ok(()),
            Err(_) => self.fill_by_pages(),
        }
    }

    fn fill_by_pages(&mut self) -> io::Result<()> {
        let mut bad = 0;
        let mut last = None;
        let pages = self.buf.len().div_ceil(PAGE);
        for (number, page) in self.buf.chunks_mut(PAGE).enumerate() {
            let at = self.start + number * PAGE;
            page.fill(0);
            if let Err(error) = self.segment.file.read_at(page, at as u64) {
                page.fill(0);
                bad += 1;
                last = Some(error);
                let position = Position::new(self.segment.number, at as u32);
                if !self.unreadable.contains(&position) {
                    self.unreadable.push(position);
                }
            }
        }
        match last {
            // Not a bad spot: nothing can be read at all.
            Some(error) if bad == pages && pages > 1 => Err(error),
            _ => Ok(()),
        }
    }

    /// The first multiple of 8 at or behind `from` where `is_it` says yes to the bytes there, which zeros never are.
    pub(super) fn find(&mut self, from: u32, is_it: fn(&[u8]) -> bool) -> io::Result<Option<u32>> {
        const STEP: usize = 256 << 10;
        let mut at = (from as usize).next_multiple_of(8);
        while let Some(data) = self.next_data(at)? {
            at = data.max(at);
            let end = ((at / STEP + 1) * STEP).min(self.segment.length as usize);
            if at + 8 > end {
                return Ok(None);
            }
            let Some(bytes) = self.get(at as u32, end - at)? else {
                return Ok(None);
            };
            let mut start = at;
            for page in bytes.chunks(PAGE) {
                // Most pages behind an end are zeros: they are passed at the speed of a comparison.
                if *page != ZEROS[..page.len()]
                    && let Some(hit) = page.chunks_exact(8).position(is_it)
                {
                    return Ok(Some((start + 8 * hit) as u32));
                }
                start += page.len();
            }
            at += (end - at) / 8 * 8;
        }
        Ok(None)
    }

    /// Whether anything but zeros lies at or behind `from`.
    pub(super) fn has_data(&mut self, from: u32) -> io::Result<bool> {
        let found = self.find(from, |bytes| bytes.iter().any(|byte| *byte != 0))?;
        Ok(found.is_some())
    }

    /// The first multiple of 8 at or behind `at` that may hold something else than what was never written.
    fn next_data(&self, at: usize) -> io::Result<Option<usize>> {
        if at + 8 > self.segment.length as usize {
            return Ok(None);
        }
        let data = self.segment.file.next_data(at as u64)?;
        Ok(data.and_then(|data| usize::try_from(data / 8 * 8).ok()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    #![allow(
        clippy::disallowed_methods,
        reason = "a real file shows what a real file system says of it"
    )]

    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::env::disk::{Disk, Open, RealDisk};

    /// A start looks behind the end of the log. It must not read hundreds of MiB there that were only reserved, neither
    /// the first time nor when its own look is in the page cache.
    #[test]
    fn looking_behind_the_end_does_not_read_what_was_only_reserved() {
        const LENGTH: u32 = 64 << 20;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta-0000000001.seg");
        let file = RealDisk.open(&path, Open::CreateNew).unwrap();
        file.expect_random_reads();
        file.allocate(u64::from(LENGTH)).unwrap();
        let bytes = [Bytes::from(vec![7; 100_000])];
        futures::executor::block_on(file.write_at(&bytes, 0)).unwrap();
        if file.next_data(32 << 20).unwrap().is_some() {
            println!("skipped: this file system does not tell what was never written");
            return;
        }
        let segment = Segment {
            stream: Stream::Meta,
            number: 1,
            length: LENGTH,
            path,
            file: Arc::clone(&file),
        };
        for _ in 0..20 {
            let mut window = Window::new(&segment, Stream::Meta);
            assert!(!window.has_data(100_008).unwrap());
            assert_eq!(window.find(8, |bytes| bytes[0] == 1).unwrap(), None);
            assert!(window.read <= 2 << 20, "{} bytes read", window.read);
        }
    }
}
