//! How cached things become durable, and how they fail to.
//!
//! Always true:
//! * a sync covers exactly what happened before its mark, of one file or one directory;
//! * what a failed sync lost becomes durable only when it is written again, or when a name change that builds on it does;
//! * files and directories that nothing leads to, now or after any crash, are forgotten.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{Change, Node};
use super::pages::{PAGE, Page};
use super::state::{Pending, State, What};

impl State {
    /// Makes durable what a file was given before `mark`.
    pub(super) fn sync(&mut self, file: u64, mark: u64) {
        let of_file =
            |pending: &Pending| pending.sequence < mark && pending.what.file() == Some(file);
        let (synced, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|pending| of_file(pending) && !pending.lost);
        let written: BTreeSet<u64> = synced
            .iter()
            .filter_map(|pending| pending.what.page())
            .collect();
        self.pending = rest;
        // A page written again is on the device whole, with what an earlier sync had lost.
        let saved = |pending: &Pending| {
            pending
                .what
                .page()
                .is_some_and(|page| written.contains(&page))
        };
        self.pending
            .retain(|pending| !(of_file(pending) && saved(pending)));
        let Ok(inode) = self.inode_mut(file) else {
            return;
        };
        for pending in synced {
            pending.what.reach(&mut inode.durable);
        }
    }

    /// A sync of a file failed: what it should have saved stays readable and is saved by no later one.
    pub(super) fn lose(&mut self, file: u64, mark: u64) {
        for pending in &mut self.pending {
            // Not its length: that is the file system's own business, and it tries again.
            pending.lost |= pending.sequence < mark
                && pending.what.file() == Some(file)
                && pending.what.page().is_some();
        }
    }

    /// Makes durable which names a directory had before `mark`.
    pub(super) fn sync_names(&mut self, dir: u64, mark: u64) {
        let mut kept = Vec::new();
        let mut synced: Vec<Change> = Vec::new();
        // Backwards, because what came before on the same names cannot come after: a rename from another directory
        // takes along how its old name came to be.
        for pending in std::mem::take(&mut self.pending).into_iter().rev() {
            match pending.what {
                What::Names(change)
                    if pending.sequence < mark
                        && (change.touches(dir) && !pending.lost
                            || synced.iter().any(|later| later.meets(&change))) =>
                {
                    synced.push(change);
                }
                what => kept.push(Pending { what, ..pending }),
            }
        }
        kept.reverse();
        self.pending = kept;
        for change in synced.iter().rev() {
            self.durable.apply(change);
        }
        self.collect();
    }

    pub(super) fn lose_names(&mut self, dir: u64, mark: u64) {
        for pending in &mut self.pending {
            pending.lost |= pending.sequence < mark
                && matches!(&pending.what, What::Names(change) if change.touches(dir));
        }
    }

    /// Forgets files and directories that nothing leads to any more, now or after any crash.
    pub(super) fn collect(&mut self) {
        let mut alive = self.cached.reachable();
        alive.extend(self.durable.reachable());
        loop {
            let before = alive.len();
            for pending in &self.pending {
                let What::Names(change) = &pending.what else {
                    continue;
                };
                if change.dirs().any(|dir| alive.contains(&dir)) {
                    for node in change.nodes() {
                        self.cached.gather(node, &mut alive);
                        self.durable.gather(node, &mut alive);
                    }
                }
            }
            if alive.len() == before {
                break;
            }
        }
        let State {
            inodes,
            open,
            pending,
            cached,
            durable,
            ..
        } = self;
        inodes.retain(|file, _| alive.contains(&Node::File(*file)) || open.contains_key(file));
        cached.keep(&alive);
        durable.keep(&alive);
        pending.retain(|pending| match &pending.what {
            What::Names(change) => change.dirs().any(|dir| alive.contains(&dir)),
            what => what.file().is_some_and(|file| inodes.contains_key(&file)),
        });
    }

    /// The page cache forgets what it believes to be on the device.
    pub(super) fn drop_caches(&mut self) {
        let mut clean: BTreeMap<(u64, u64), bool> = BTreeMap::new();
        for pending in &self.pending {
            if let What::Page { file, page, .. } = pending.what {
                clean.insert((file, page), pending.lost);
            }
        }
        for ((file, page), _) in clean.into_iter().filter(|(_, lost)| *lost) {
            if let Ok(inode) = self.inode_mut(file) {
                let old = inode
                    .durable
                    .page(page)
                    .cloned()
                    .unwrap_or_else(|| Page::new([0; PAGE]));
                inode.cached.put(page, old);
            }
        }
    }
}
