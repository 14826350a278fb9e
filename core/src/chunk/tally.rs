//! Who holds what of a body that is being sent to several members. Pure.
//!
//! ```text
//!   chunk       0      1      2      3
//!   node 1     all    all    all    2 of 3 frames        list: 0..2 on {1, 2, 3}, 2..3 on {1, 3}, 3..4 on {3}
//!   node 2     all    all    -      half in each of two lives
//!   node 3     all    all    all    all
//! ```
//! Always true:
//! * a node is listed for a chunk only if it said of every frame of it that it is durable there, and said so in one and the same
//!   life, with which it is listed;
//! * what is kept grows with the changes of who holds chunks, not with the body.

use std::collections::BTreeMap;

use super::frames::FrameAt;
use crate::state::record::{Copies, Holders};

/// See the file's header.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Chunks of which no answer is outstanding, from 0 on without gaps.
    settled: Vec<Copies>,
    /// The others, by ordinal.
    open: BTreeMap<u32, Open>,
}

#[derive(Debug, Default)]
struct Open {
    frames: u32,
    /// Its last frame was sent.
    is_whole: bool,
    /// Answers that are outstanding.
    outstanding: usize,
    /// How many of its frames a node stored in one of its lives.
    held: BTreeMap<(u64, u64), u32>,
}

impl Open {
    fn holders(&self) -> Holders {
        let holds_all = self.held.iter().filter(|(_, held)| **held == self.frames);
        holds_all.map(|(in_life, _)| *in_life).collect()
    }
}

impl Tally {
    /// The next frame of the body goes to so many nodes.
    pub(crate) fn sent(&mut self, at: FrameAt, nodes: usize) {
        for (_, before) in self.open.range_mut(..at.chunk) {
            before.is_whole = true;
        }
        let chunk = self.open.entry(at.chunk).or_default();
        chunk.frames += 1;
        chunk.outstanding += nodes;
        self.settle();
    }

    /// One of them answered that it is stored, and in which life, or something else, or will not any more.
    pub(crate) fn answered(&mut self, at: FrameAt, node: u64, stored: Option<u64>) {
        if let Some(chunk) = self.open.get_mut(&at.chunk) {
            chunk.outstanding -= 1;
            if let Some(life) = stored {
                *chunk.held.entry((node, life)).or_default() += 1;
            }
        }
        self.settle();
    }

    /// Whether answers are outstanding.
    pub(crate) fn is_waiting(&self) -> bool {
        self.open.values().any(|chunk| chunk.outstanding > 0)
    }

    /// How many are.
    #[cfg(all(test, feature = "interleave"))]
    pub(crate) fn outstanding(&self) -> usize {
        self.open.values().map(|chunk| chunk.outstanding).sum()
    }

    fn settle(&mut self) {
        while let Some(first) = self.open.first_entry() {
            if !first.get().is_whole || first.get().outstanding > 0 {
                return;
            }
            let (chunk, open) = first.remove_entry();
            append(&mut self.settled, chunk, open.holders());
        }
    }

    /// Who holds what, as far as is known.
    pub(crate) fn list(&self) -> Vec<Copies> {
        let mut list = self.settled.clone();
        for (chunk, open) in &self.open {
            append(&mut list, *chunk, open.holders());
        }
        list
    }
}

/// Adds a chunk to a list that ends right before it.
fn append(list: &mut Vec<Copies>, chunk: u32, holders: Holders) {
    match list.last_mut() {
        Some(last) if last.holders == holders => last.count += 1,
        _ => list.push(Copies {
            first: chunk,
            count: 1,
            holders,
        }),
    }
}

/// Neighbours that the same nodes hold become one.
pub(crate) fn join(list: Vec<Copies>) -> Vec<Copies> {
    let mut joined: Vec<Copies> = Vec::with_capacity(list.len());
    for copies in list {
        match joined.last_mut() {
            Some(last) if last.holders == copies.holders => last.count += copies.count,
            _ => joined.push(copies),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(chunk: u32, frame: u32) -> FrameAt {
        FrameAt { chunk, frame }
    }

    const LIFE: u64 = 7;
    const STORED: Option<u64> = Some(LIFE);

    fn copies(first: u32, count: u32, nodes: &[u64]) -> Copies {
        Copies {
            first,
            count,
            holders: nodes.iter().map(|node| (*node, LIFE)).collect(),
        }
    }

    /// A member that lacks one frame of a chunk does not hold the chunk, whenever its answers come.
    #[test]
    fn a_chunk_is_held_by_those_who_hold_all_of_it() {
        let mut tally = Tally::default();
        for chunk in 0..3 {
            for frame in 0..2 {
                tally.sent(at(chunk, frame), 3);
            }
        }
        // Node 1 answers backwards, node 2 loses a frame, node 3 answers nothing of the last chunk.
        for chunk in (0..3).rev() {
            for frame in 0..2 {
                tally.answered(at(chunk, frame), 1, STORED);
                let stored = STORED.filter(|_| (chunk, frame) != (1, 0));
                tally.answered(at(chunk, frame), 2, stored);
                if chunk < 2 {
                    tally.answered(at(chunk, frame), 3, STORED);
                }
            }
        }
        let list = [
            copies(0, 1, &[1, 2, 3]),
            copies(1, 1, &[1, 3]),
            copies(2, 1, &[1, 2]),
        ];
        assert_eq!(tally.list(), list);
        assert!(tally.is_waiting());
        tally.answered(at(2, 0), 3, STORED);
        tally.answered(at(2, 1), 3, STORED);
        assert!(!tally.is_waiting());
        assert_eq!(tally.list()[2], copies(2, 1, &[1, 2, 3]));
    }

    /// A member that left and came again in the middle of a chunk has removed the frames before that; of the chunks after it, it
    /// is listed with its new life.
    #[test]
    fn frames_of_two_lives_are_no_chunk() {
        let mut tally = Tally::default();
        for (chunk, lives) in [(0, [7, 7]), (1, [7, 9]), (2, [9, 9])] {
            for (frame, life) in (0..).zip(lives) {
                tally.sent(at(chunk, frame), 2);
                tally.answered(at(chunk, frame), 1, STORED);
                tally.answered(at(chunk, frame), 2, Some(life));
            }
        }
        let mut last = copies(2, 1, &[1, 2]);
        last.holders.insert(2, 9);
        assert_eq!(
            tally.list(),
            [copies(0, 1, &[1, 2]), copies(1, 1, &[1]), last]
        );
    }

    /// A body of any length on the same members is one line.
    #[test]
    fn a_long_body_takes_no_more_room_than_a_short_one() {
        let mut tally = Tally::default();
        for chunk in 0..10_000 {
            tally.sent(at(chunk, 0), 2);
            tally.answered(at(chunk, 0), 1, STORED);
            tally.answered(at(chunk, 0), 3, STORED);
            assert!(tally.open.len() <= 1 && tally.settled.len() <= 1);
        }
        assert_eq!(tally.list(), [copies(0, 10_000, &[1, 3])]);
    }

    /// Lists that were mended in places are short again.
    #[test]
    fn equal_neighbours_are_joined() {
        let list = vec![
            copies(0, 2, &[1, 2]),
            copies(2, 1, &[1, 2]),
            copies(3, 4, &[1]),
        ];
        assert_eq!(join(list), [copies(0, 3, &[1, 2]), copies(3, 4, &[1])]);
    }
}
