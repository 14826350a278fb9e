//! One number for everything a disk could ever show.
//!
//! Always true: names, lengths, reserved room, contents, and what is not durable yet all count; which numbers files have
//! inside, who holds them open and what will go wrong do not.

use std::hash::{Hash, Hasher};

use xxhash_rust::xxh3::Xxh3;

use super::names::{Node, Tree};
use super::pages::Content;
use super::state::{State, What};

impl State {
    pub(super) fn digest(&self) -> u128 {
        let mut hasher = Xxh3::new();
        self.capacity.hash(&mut hasher);
        self.hash_tree(&self.cached, false, &mut hasher);
        if !self.pending.is_empty() {
            self.hash_tree(&self.durable, true, &mut hasher);
        }
        for pending in &self.pending {
            pending.lost.hash(&mut hasher);
            pending
                .what
                .file()
                .and_then(|file| self.inodes.get(&file))
                .map(|inode| &inode.label)
                .hash(&mut hasher);
            match &pending.what {
                What::Page { page, content, .. } => (page, content.digest()).hash(&mut hasher),
                What::Length { len, reserved, .. } => (len, reserved).hash(&mut hasher),
                What::Names(change) => change.what.hash(&mut hasher),
            }
        }
        hasher.digest128()
    }

    fn hash_tree(&self, tree: &Tree, durable: bool, hasher: &mut Xxh3) {
        tree.walk_all(&mut |path, node| {
            path.hash(hasher);
            let Node::File(file) = node else { return };
            if let Some(inode) = self.inodes.get(&file) {
                hash_content(
                    if durable {
                        &inode.durable
                    } else {
                        &inode.cached
                    },
                    hasher,
                );
            }
        });
        // So that no path of the next tree can look like one of this.
        hasher.write_u8(0xff);
    }
}

fn hash_content(content: &Content, hasher: &mut Xxh3) {
    (content.len(), content.reserved()).hash(hasher);
    for (number, page) in content.written() {
        match page.digest() {
            // Reads like a page never written.
            0 => {}
            digest => (number, digest).hash(hasher),
        }
    }
}
