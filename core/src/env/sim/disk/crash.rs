//! What a crash leaves: after a process kill everything written, after a power cut whatever the device happened to have.
//!
//! What no sync made durable is a list, in the order it happened: pages as they were after each write, lengths, and
//! changes of names. A power cut keeps any part of it; a [`Choice`] says which.

use std::path::PathBuf;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::names::Node;
use super::pages::{PAGE, Page, SECTOR};
use super::state::{Inode, State, What};

/// One thing a power cut may keep or drop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unsynced {
    /// A page of 4 KiB. A page written several times is there several times, each time as it then was; the last one kept
    /// wins.
    Page {
        /// The file, under the name it was last seen.
        path: PathBuf,
        /// Which page of it, from 0.
        page: u64,
    },
    /// A length.
    Length {
        /// The file, under the name it was last seen.
        path: PathBuf,
        /// Its new length.
        len: u64,
    },
    /// A change of names, in words.
    Names(String),
}

/// What happens to one thing in a power cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It never reached the device.
    Dropped,
    /// It did.
    Kept,
    /// Of a page, only these sectors of 512 bytes did: bit 0 is the first. Lengths and names are kept if any bit is set.
    Sectors(u8),
}

/// What a power cut keeps of the unsynced things; numbers are places in the list of `power_cut_choices`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// The first so many.
    Prefix(usize),
    /// Everything but this one.
    AllBut(usize),
    /// Everything before this page, the first `keep` bytes of it (rounded down to sectors), nothing after it.
    Torn {
        /// Which one.
        page: usize,
        /// How much of it.
        keep: usize,
    },
    /// The fate of each; those past the end are dropped.
    Fates(Vec<Fate>),
    /// Any subset, and some pages torn.
    Random(u64),
}

impl Choice {
    fn fates(&self, count: usize) -> Vec<Fate> {
        let kept_if = |keep: &dyn Fn(usize) -> bool| {
            (0..count)
                .map(|n| if keep(n) { Fate::Kept } else { Fate::Dropped })
                .collect::<Vec<_>>()
        };
        match self {
            Choice::None => kept_if(&|_| false),
            Choice::All => kept_if(&|_| true),
            Choice::Prefix(first) => kept_if(&|n| n < *first),
            Choice::AllBut(one) => kept_if(&|n| n != *one),
            Choice::Torn { page, keep } => {
                let mut fates = kept_if(&|n| n < *page);
                if let Some(fate) = fates.get_mut(*page) {
                    let sectors = (keep / SECTOR).min(PAGE / SECTOR);
                    *fate = Fate::Sectors(((1_u16 << sectors) - 1) as u8);
                }
                fates
            }
            Choice::Fates(fates) => {
                let mut fates = fates.clone();
                fates.resize(count, Fate::Dropped);
                fates
            }
            Choice::Random(seed) => {
                let mut rng = SmallRng::seed_from_u64(*seed);
                // Some cuts keep nearly all, some nearly nothing: each finds other bugs.
                let (keep, tear) = (rng.next_u32() % 101, rng.next_u32() % 31);
                let mut fate = || {
                    if rng.next_u32() % 100 < tear {
                        Fate::Sectors((rng.next_u32() & 0xff) as u8)
                    } else if rng.next_u32() % 100 < keep {
                        Fate::Kept
                    } else {
                        Fate::Dropped
                    }
                };
                (0..count).map(|_| fate()).collect()
            }
        }
    }
}

/// A standard set of cuts for a list: none, all, every prefix, all but each, and each page torn at three places.
pub(super) fn standard_cuts(unsynced: &[Unsynced]) -> Vec<Choice> {
    let count = unsynced.len();
    let mut cuts = vec![Choice::None];
    cuts.extend((1..=count).map(Choice::Prefix));
    if count > 1 {
        // All but the last is a prefix.
        cuts.extend((0..count - 1).map(Choice::AllBut));
    }
    for (page, _) in unsynced
        .iter()
        .enumerate()
        .filter(|(_, it)| matches!(it, Unsynced::Page { .. }))
    {
        cuts.extend([SECTOR, PAGE / 2, PAGE - SECTOR].map(|keep| Choice::Torn { page, keep }));
    }
    cuts
}

impl State {
    pub(super) fn unsynced(&self) -> Vec<Unsynced> {
        let path = |file: &u64| {
            self.inodes
                .get(file)
                .map(|inode| inode.label.to_path_buf())
                .unwrap_or_default()
        };
        let describe = |what: &What| match what {
            What::Page { file, page, .. } => Unsynced::Page {
                path: path(file),
                page: *page,
            },
            What::Length { file, len, .. } => Unsynced::Length {
                path: path(file),
                len: *len,
            },
            What::Names(change) => Unsynced::Names(change.what.clone()),
        };
        self.pending
            .iter()
            .map(|pending| describe(&pending.what))
            .collect()
    }

    /// The process is gone, the machine runs on: cache and pending work stay, handles and locks do not.
    pub(super) fn after_kill(&self) -> State {
        let mut after = self.clone();
        after.open.clear();
        after.locked.clear();
        after.collect();
        after
    }

    /// The machine is gone: what reached the device is all there is.
    pub(super) fn after_power_cut(&self, choice: &Choice) -> State {
        let mut after = self.clone();
        after.open.clear();
        after.locked.clear();
        let fates = choice.fates(after.pending.len());
        for (pending, fate) in std::mem::take(&mut after.pending).into_iter().zip(fates) {
            let (Fate::Kept | Fate::Sectors(1..)) = fate else {
                continue;
            };
            match &pending.what {
                What::Names(change) => after.durable.apply(change),
                What::Page { file, .. } | What::Length { file, .. } => {
                    let Some(inode) = after.inodes.get_mut(file).map(Arc::make_mut) else {
                        continue;
                    };
                    match (&pending.what, fate) {
                        (What::Page { page, content, .. }, Fate::Sectors(mask)) => {
                            let mut mixed = inode.durable.page_bytes(*page);
                            for sector in
                                (0..PAGE / SECTOR).filter(|sector| mask >> sector & 1 == 1)
                            {
                                let range = sector * SECTOR..(sector + 1) * SECTOR;
                                mixed[range.clone()].copy_from_slice(&content.bytes[range]);
                            }
                            inode.durable.put(*page, Page::new(mixed));
                        }
                        (what, _) => what.reach(&mut inode.durable),
                    }
                }
            }
        }
        let named = after.durable.reachable();
        after.durable.keep(&named);
        after.cached = after.durable.clone();
        after
            .inodes
            .retain(|file, _| named.contains(&Node::File(*file)));
        for inode in after.inodes.values_mut() {
            let inode: &mut Inode = Arc::make_mut(inode);
            // A page may have arrived and the length that covers it not.
            inode.durable.trim();
            inode.cached = inode.durable.clone();
        }
        after
    }
}
