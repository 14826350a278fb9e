//! Content in sealed pieces: a range opens without the bytes before it, and what was cut off or moved does not open.
//!
//! ```text
//!   plain    | 64 KiB        | 64 KiB        | rest  |
//!   sealed   | 64 KiB   | 16 | 64 KiB   | 16 | rest | 16 |
//!   nonce      0, more         1, more         2, last            (3 zero bytes, number (u64 BE), 1 for the last)
//! ```
//! Always true:
//! * bytes come out only of pieces whose tag was right;
//! * there is at least one piece, the last one is sealed as such and no other is: a content cut at a piece does not open;
//! * a key seals one content (its owner sees to it), so a number is never used twice with it;
//! * one piece is held while sealing, and one plus what came in while opening.
//!
//! The number and the mark are in the nonce instead of the associated data: that binds them as well, and is the STREAM
//! construction that others have looked at.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use ring::aead::{Aad, LessSafeKey, Nonce};

use super::keys::{DataKey, KeySalt};

/// Plain bytes of a piece. Smaller ones cost a small range less, and all else more.
pub const PIECE: u64 = 64 << 10;
/// What sealing adds to a piece.
pub const TAG: u64 = 16;

/// Pieces of a content of `plain` bytes.
fn pieces(plain: u64) -> u64 {
    plain.div_ceil(PIECE).max(1)
}

/// Bytes on disk of a content of `plain` bytes.
pub fn sealed_len(plain: u64) -> u64 {
    plain.saturating_add(TAG.saturating_mul(pieces(plain)))
}

/// The other way round. Of a length that no content has: as many bytes as surely fit into it sealed.
pub fn plain_len(sealed: u64) -> u64 {
    sealed.saturating_sub(TAG * sealed.div_ceil(PIECE + TAG).max(1))
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

/// A piece does not open: it was changed, or the key is another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("encrypted piece {number} does not open: it was changed, or its key is another one")]
pub struct Unopened {
    /// Which one, from 0, in the object or part.
    pub number: u64,
}

/// Seals a content, as it comes.
pub struct Sealer {
    /// Half a KiB of round keys: on the heap, because a sealer's place is in every write, sealed or not.
    key: Box<LessSafeKey>,
    number: u64,
    /// Sealed pieces, then the one that is being filled.
    buffer: BytesMut,
    /// Where that one begins.
    open: usize,
}

impl Sealer {
    /// With a key that seals nothing else.
    pub fn new(key: LessSafeKey) -> Sealer {
        Sealer {
            key: Box::new(key),
            number: 0,
            buffer: BytesMut::new(),
            open: 0,
        }
    }

    /// Room for so many bytes that are about to come: made once, so that what is sealed is not moved as it grows.
    pub fn reserve(&mut self, plain: usize) {
        self.buffer.reserve(sealed_len(plain as u64) as usize);
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PIECE as usize - (self.buffer.len() - self.open);
            if room == 0 {
                // Full, and not the last: more has come.
                self.seal(false);
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
    }

    fn seal(&mut self, last: bool) {
        let tag = self.key.seal_in_place_separate_tag(
            nonce(self.number, last),
            Aad::empty(),
            &mut self.buffer[self.open..],
        );
        let tag = tag.expect("a piece is within AES-GCM's limit of 64 GiB");
        self.buffer.extend_from_slice(tag.as_ref());
        self.open = self.buffer.len();
        self.number += 1;
    }

    /// What is sealed and was not taken yet.
    pub fn take(&mut self) -> Bytes {
        let sealed = self.buffer.split_to(self.open);
        self.open = 0;
        sealed.freeze()
    }

    /// That was all: the rest of it.
    pub fn finish(mut self) -> Bytes {
        self.seal(true);
        self.take()
    }

    /// A content that is at hand.
    pub fn seal_all(mut self, bytes: &[u8]) -> Bytes {
        self.reserve(bytes.len());
        self.update(bytes);
        self.finish()
    }
}

/// A stretch of content under one key: an object, or a part of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// Number and salt of a part.
    pub part: Option<(u32, KeySalt)>,
    /// Plain bytes.
    pub plain: u64,
}

impl Stretch {
    fn key(&self, data_key: &DataKey) -> LessSafeKey {
        match &self.part {
            None => data_key.of_object(),
            Some((number, salt)) => data_key.of_part(*number, salt),
        }
    }
}

/// The pieces of one stretch that a range needs.
struct Wanted {
    stretch: Stretch,
    /// Plain bytes within the stretch.
    range: Range<u64>,
}

impl Wanted {
    fn first_piece(&self) -> u64 {
        self.range.start / PIECE
    }

    /// One past the last. There is a piece to open even where there is no byte.
    fn end_piece(&self) -> u64 {
        self.range.end.div_ceil(PIECE).max(self.first_piece() + 1)
    }

    /// Within the stretch.
    fn sealed(&self) -> Range<u64> {
        let end = self.end_piece() * (PIECE + TAG);
        self.first_piece() * (PIECE + TAG)..end.min(sealed_len(self.stretch.plain))
    }
}

/// Opens a range of an object.
pub struct Opener {
    data_key: DataKey,
    wanted: VecDeque<Wanted>,
    current: Option<Current>,
    buffer: BytesMut,
}

struct Current {
    key: LessSafeKey,
    /// Pieces of the whole stretch.
    of: u64,
    number: u64,
    end: u64,
    plain: u64,
    range: Range<u64>,
}

impl Opener {
    /// The plain bytes `range` of an object that consists of these stretches, and the bytes on disk that are needed for
    /// it, to be pushed in order.
    pub fn new(
        data_key: DataKey,
        stretches: impl IntoIterator<Item = Stretch>,
        range: Range<u64>,
    ) -> (Range<u64>, Opener) {
        let mut wanted: VecDeque<Wanted> = VecDeque::new();
        let (mut plain_at, mut sealed_at) = (0_u64, 0_u64);
        let (mut from, mut to) = (None, 0);
        for stretch in stretches {
            let end = plain_at.saturating_add(stretch.plain);
            // Once begun, a stretch without bytes is read over as any other: its piece lies between.
            let touches = plain_at < range.end && (end > range.start || from.is_some());
            let sealed = sealed_len(stretch.plain);
            if touches {
                let within = range.start.max(plain_at) - plain_at..range.end.min(end) - plain_at;
                let next = Wanted {
                    stretch,
                    range: within,
                };
                let on_disk = next.sealed();
                from.get_or_insert(sealed_at + on_disk.start);
                to = sealed_at + on_disk.end;
                wanted.push_back(next);
            }
            (plain_at, sealed_at) = (end, sealed_at.saturating_add(sealed));
        }
        let opener = Opener {
            data_key,
            wanted,
            current: None,
            buffer: BytesMut::new(),
        };
        (from.unwrap_or(0)..to, opener)
    }

    /// The next bytes from disk.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next bytes of the range; `None`: more from disk is needed, or it was all.
    pub fn open_next(&mut self) -> Result<Option<Bytes>, Unopened> {
        loop {
            let Some(piece) = self.piece()? else {
                return Ok(None);
            };
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    fn piece(&mut self) -> Result<Option<Bytes>, Unopened> {
        let current = match &mut self.current {
            Some(current) => current,
            None => {
                let Some(next) = self.wanted.pop_front() else {
                    return Ok(None);
                };
                self.current.insert(Current {
                    key: next.stretch.key(&self.data_key),
                    of: pieces(next.stretch.plain),
                    number: next.first_piece(),
                    end: next.end_piece(),
                    plain: next.stretch.plain,
                    range: next.range,
                })
            }
        };
        let number = current.number;
        let last = number + 1 == current.of;
        let begin = number * PIECE;
        let len = PIECE.min(current.plain - begin);
        if (self.buffer.len() as u64) < len + TAG {
            return Ok(None);
        }
        let mut piece = self.buffer.split_to((len + TAG) as usize);
        let opened = current
            .key
            .open_in_place(nonce(number, last), Aad::empty(), &mut piece);
        if opened.is_err() {
            return Err(Unopened { number });
        }
        let from = current.range.start.max(begin) - begin;
        let to = (current.range.end - begin).min(len);
        current.number += 1;
        if current.number == current.end {
            self.current = None;
        }
        piece.truncate(to as usize);
        piece.advance(from.min(to) as usize);
        Ok(Some(piece.freeze()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    fn data_key() -> DataKey {
        DataKey::of_random(Zeroizing::new([7; 32]))
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 % 251) as u8).collect()
    }

    fn whole(plain: usize) -> Vec<Stretch> {
        vec![Stretch {
            part: None,
            plain: plain as u64,
        }]
    }

    /// Opens a range, fed in pieces of `feed` bytes.
    fn open(
        stretches: Vec<Stretch>,
        sealed: &[u8],
        range: Range<u64>,
        feed: usize,
    ) -> Result<Vec<u8>, Unopened> {
        let (on_disk, mut opener) = Opener::new(data_key(), stretches, range);
        let mut out = Vec::new();
        for bytes in sealed[on_disk.start as usize..on_disk.end as usize].chunks(feed) {
            opener.push(bytes);
            while let Some(plain) = opener.open_next()? {
                out.extend_from_slice(&plain);
            }
        }
        Ok(out)
    }

    fn seal(bytes: &[u8]) -> Vec<u8> {
        Sealer::new(data_key().of_object()).seal_all(bytes).to_vec()
    }

    #[test]
    fn lengths_are_known_from_one_another() {
        let piece = PIECE as usize;
        for len in [
            0,
            1,
            15,
            16,
            17,
            piece - 1,
            piece,
            piece + 1,
            3 * piece,
            3 * piece + 5,
        ] {
            let sealed = seal(&noise(len));
            assert_eq!(sealed.len() as u64, sealed_len(len as u64), "{len}");
            assert_eq!(plain_len(sealed.len() as u64), len as u64, "{len}");
        }
        for limit in [65_536, 65_552, 131_072, 16] {
            let most = plain_len(limit);
            assert!(
                sealed_len(most) <= limit && sealed_len(most + 1) > limit,
                "{limit}"
            );
        }
    }

    /// Every bit counts: whichever piece is changed, cut off, doubled or moved, no wrong byte comes out.
    #[test]
    fn what_was_changed_does_not_open() {
        let plain = noise(2 * PIECE as usize + 100);
        let sealed = seal(&plain);
        let all = 0..plain.len() as u64;
        assert_eq!(
            open(whole(plain.len()), &sealed, all.clone(), 1 << 20).unwrap(),
            plain
        );
        let step = (PIECE + TAG) as usize;
        for (number, at) in [
            (0, 0),
            (0, step - 1),
            (1, step),
            (1, 2 * step - 1),
            (2, 2 * step),
            (2, sealed.len() - 1),
        ] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(
                open(whole(plain.len()), &changed, all.clone(), 1 << 20),
                Err(Unopened { number }),
                "byte {at}"
            );
        }
        // Two pieces change places.
        let mut moved = sealed.clone();
        moved[..2 * step].rotate_left(step);
        assert!(open(whole(plain.len()), &moved, all, 1 << 20).is_err());
        // Cut at a piece, with a record that agrees.
        let cut = 2 * PIECE as usize;
        assert_eq!(
            open(whole(cut), &sealed[..2 * step], 0..cut as u64, 1 << 20),
            Err(Unopened { number: 1 }),
            "the last piece was not sealed as the last"
        );
        // Grown by a piece.
        let more = [&sealed[..], &sealed[..step]].concat();
        assert!(open(whole(3 * PIECE as usize), &more, 0..3 * PIECE, 1 << 20).is_err());
    }

    #[test]
    fn equal_pieces_do_not_look_alike() {
        let sealed = seal(&vec![0; 3 * PIECE as usize]);
        let step = (PIECE + TAG) as usize;
        assert_ne!(sealed[..step], sealed[step..2 * step]);
        assert_ne!(sealed[step..2 * step], sealed[2 * step..]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the sizes of the content, of its parts and of what arrives at a time.
        #[test]
        fn every_range_is_the_plain_bytes(
            sizes in proptest::collection::vec(0_usize..200_000, 1..4),
            parts in any::<bool>(),
            (a, b) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
            feed in 1_usize..200_000,
            written in 1_usize..200_000,
        ) {
            let sizes = if parts { sizes } else { sizes[..1].to_vec() };
            let plain = noise(sizes.iter().sum());
            let mut stretches = Vec::new();
            let (mut sealed, mut at) = (Vec::new(), 0);
            for (number, len) in sizes.iter().enumerate() {
                let part = parts.then_some((number as u32 + 1, [number as u8; 32]));
                let stretch = Stretch { part, plain: *len as u64 };
                let mut sealer = Sealer::new(stretch.key(&data_key()));
                for bytes in plain[at..at + len].chunks(written) {
                    sealer.update(bytes);
                    sealed.extend_from_slice(&sealer.take());
                }
                sealed.extend_from_slice(&sealer.finish());
                stretches.push(stretch);
                at += len;
            }
            let (a, b) = (a.index(plain.len() + 1), b.index(plain.len() + 1));
            let range = a.min(b)..a.max(b);
            prop_assume!(!range.is_empty());
            let opened = open(stretches, &sealed, range.start as u64..range.end as u64, feed);
            prop_assert_eq!(opened.unwrap(), &plain[range]);
        }
    }
}
