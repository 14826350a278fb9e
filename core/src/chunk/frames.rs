//! How a body becomes chunks and frames, and where in them a range lies. Pure.
//!
//! ```text
//!   body  |<------- chunk 0 ------->|<------- chunk 1 ------->|<- chunk 2 ->|
//!         | frame 0 | ... | frame 3 | frame 0 | ... | frame 3 | 0 | 1       |
//! ```
//! Always true:
//! * all chunks of a run are `chunk_size` long but the last, all frames of a chunk `frame_size` long but its last;
//! * nothing is empty: a run of no bytes has no chunks, a chunk has at least one frame.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// A frame is never longer (CORE 2).
pub(crate) const FRAME: u32 = 1 << 20;

/// Sizes of the pieces. A run tells its chunk size, and the frame size follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    chunk: u32,
    frame: u32,
}

/// Names a frame within a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct FrameAt {
    /// The chunk's ordinal.
    pub chunk: u32,
    /// Number within the chunk.
    pub frame: u32,
}

/// A frame and the part of it that is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub at: FrameAt,
    /// Length of the whole frame.
    pub frame_len: u32,
    /// The wanted bytes within the frame.
    pub wanted: Range<u32>,
}

impl Cut {
    /// The pieces of a run with chunks of this size: whole frames of 1 MiB, or one frame when smaller.
    pub(crate) fn of(chunk_size: u32) -> Option<Cut> {
        let frame = chunk_size.min(FRAME);
        let whole = frame > 0 && chunk_size.is_multiple_of(frame);
        whole.then_some(Cut {
            chunk: chunk_size,
            frame,
        })
    }

    fn frames_per_chunk(self) -> u64 {
        u64::from(self.chunk.div_ceil(self.frame))
    }

    /// Length of chunk `ordinal` in a run of `len` bytes; 0 past its end.
    fn chunk_len(self, len: u64, ordinal: u32) -> u32 {
        let start = u64::from(ordinal) * u64::from(self.chunk);
        len.saturating_sub(start).min(u64::from(self.chunk)) as u32
    }

    /// Chunks of a run of `len` bytes.
    pub(crate) fn chunks(self, len: u64) -> u32 {
        len.div_ceil(u64::from(self.chunk)) as u32
    }

    /// All frames of a run of `len` bytes.
    pub(crate) fn frames(self, len: u64) -> impl Iterator<Item = FrameAt> {
        (0..self.chunks(len)).flat_map(move |chunk| {
            let frames = self.chunk_len(len, chunk).div_ceil(self.frame);
            (0..frames).map(move |frame| FrameAt { chunk, frame })
        })
    }

    /// The whole frames of some chunks of a run of `len` bytes.
    pub(crate) fn pieces_of_chunks(
        self,
        len: u64,
        chunks: Range<u32>,
    ) -> impl Iterator<Item = Piece> + Send {
        let start = |chunk: u32| u64::from(chunk) * u64::from(self.chunk);
        self.pieces(len, start(chunks.start)..start(chunks.end))
    }

    /// The pieces of frames that make up `range` of a run of `len` bytes, in order, computed as they are asked for.
    pub(crate) fn pieces(self, len: u64, range: Range<u64>) -> impl Iterator<Item = Piece> + Send {
        let range = range.start.min(len)..range.end.min(len);
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let chunk = (at / u64::from(self.chunk)) as u32;
            let within = (at % u64::from(self.chunk)) as u32;
            let frame = within / self.frame;
            let frame_start = frame * self.frame;
            let frame_len = (self.chunk_len(len, chunk) - frame_start).min(self.frame);
            let from = within - frame_start;
            let to = u64::from(frame_len).min(u64::from(from) + (range.end - at)) as u32;
            at += u64::from(to - from);
            Some(Piece {
                at: FrameAt { chunk, frame },
                frame_len,
                wanted: from..to,
            })
        })
    }
}

/// Gathers pieces of any size into frames.
#[derive(Debug)]
pub(crate) struct Cutter {
    cut: Cut,
    taken: u64,
    /// Frames handed out so far.
    handed: u64,
    gathered: BytesMut,
}

impl Cutter {
    pub(crate) fn new(cut: Cut) -> Cutter {
        Cutter {
            cut,
            taken: 0,
            handed: 0,
            gathered: BytesMut::new(),
        }
    }

    /// Bytes of a whole frame.
    pub(crate) fn frame_len(&self) -> usize {
        self.cut.frame as usize
    }

    /// Bytes taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes from the front of `bytes` what the frame under way still lacks; a frame when it is full.
    pub(crate) fn take(&mut self, bytes: &mut Bytes) -> Option<(FrameAt, Bytes)> {
        let frame = self.cut.frame as usize;
        // A whole frame that came in one piece is not copied.
        if self.gathered.is_empty() && bytes.len() >= frame {
            self.taken += frame as u64;
            return Some((self.next(), bytes.split_to(frame)));
        }
        if self.gathered.capacity() == 0 && !bytes.is_empty() {
            self.gathered.reserve(frame);
        }
        let part = bytes.split_to(bytes.len().min(frame - self.gathered.len()));
        self.taken += part.len() as u64;
        self.gathered.extend_from_slice(&part);
        (self.gathered.len() == frame).then(|| (self.next(), self.gathered.split().freeze()))
    }

    /// The last frame, if bytes are left.
    pub(crate) fn rest(&mut self) -> Option<(FrameAt, Bytes)> {
        (!self.gathered.is_empty()).then(|| (self.next(), self.gathered.split().freeze()))
    }

    fn next(&mut self) -> FrameAt {
        let number = self.handed;
        self.handed += 1;
        FrameAt {
            chunk: (number / self.cut.frames_per_chunk()) as u32,
            frame: (number % self.cut.frames_per_chunk()) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: Cut = Cut {
        chunk: 12,
        frame: 4,
    };

    fn cut_all(body: &[u8], piece: usize) -> Vec<(FrameAt, Bytes)> {
        let mut cutter = Cutter::new(CUT);
        let mut frames = Vec::new();
        for part in body.chunks(piece) {
            let mut part = Bytes::copy_from_slice(part);
            while !part.is_empty() {
                frames.extend(cutter.take(&mut part));
            }
        }
        frames.extend(cutter.rest());
        assert_eq!(cutter.taken(), body.len() as u64);
        frames
    }

    /// However a client's bytes arrive, the same object lies on the disk.
    #[test]
    fn frames_do_not_depend_on_how_the_body_arrived() {
        for len in 0..40usize {
            let body: Vec<u8> = (0..len as u8).collect();
            let whole = cut_all(&body, 64);
            let names: Vec<FrameAt> = whole.iter().map(|(at, _)| *at).collect();
            assert_eq!(names, CUT.frames(len as u64).collect::<Vec<_>>());
            for piece in 1..9 {
                assert_eq!(cut_all(&body, piece), whole);
            }
        }
    }

    /// Every range of every length comes back as its very bytes.
    #[test]
    fn pieces_of_a_range_are_that_range() {
        for len in 0..40usize {
            let body: Vec<u8> = (0..len as u8).collect();
            let frames = cut_all(&body, 5);
            for from in 0..=len {
                for to in from..=len {
                    let mut read = Vec::new();
                    for piece in CUT.pieces(len as u64, from as u64..to as u64) {
                        let found = frames.iter().find(|(at, _)| *at == piece.at);
                        let bytes = found.map(|(_, bytes)| bytes.clone()).unwrap_or_default();
                        assert_eq!(bytes.len(), piece.frame_len as usize);
                        read.extend_from_slice(
                            &bytes[piece.wanted.start as usize..piece.wanted.end as usize],
                        );
                    }
                    assert_eq!(read, body[from..to]);
                }
            }
        }
    }
}
