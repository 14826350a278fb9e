//! A simulated disk as data: what the page cache shows, what the device has, and what is on its way between them.
//!
//! ```text
//!   write, create, set_len ...  -> cached   (what every open file shows)
//!                               -> pending  (in the order it happened)
//!   sync_data, sync_dir            pending -> durable
//! ```
//! Always true:
//! * durable + all of pending = cached, except for what a failed or lying sync lost, and for flipped bits;
//! * a copy of the whole state is cheap, and no copy sees another's changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::names::{Change, Node, Place, Tree};
use super::pages::{Content, PAGE, Page, pages, split};

#[derive(Clone)]
pub(super) struct State {
    pub(super) cached: Tree,
    pub(super) durable: Tree,
    pub(super) inodes: BTreeMap<u64, Arc<Inode>>,
    pub(super) pending: Vec<Pending>,
    next_sequence: u64,
    next_node: u64,
    pub(super) capacity: u64,
    /// Files that handles keep, though no name may.
    pub(super) open: BTreeMap<u64, usize>,
    pub(super) locked: BTreeSet<u64>,
}

#[derive(Clone)]
pub(super) struct Inode {
    pub(super) cached: Content,
    pub(super) durable: Content,
    /// The path it was last seen under.
    pub(super) label: Arc<Path>,
}

/// Something that happened and that no sync made durable yet.
#[derive(Clone)]
pub(super) struct Pending {
    pub(super) sequence: u64,
    /// A sync that should have saved it failed; no later one will.
    pub(super) lost: bool,
    pub(super) what: What,
}

#[derive(Clone)]
pub(super) enum What {
    Page {
        file: u64,
        page: u64,
        content: Arc<Page>,
    },
    Length {
        file: u64,
        len: u64,
        reserved: u64,
    },
    Names(Change),
}

impl State {
    pub(super) fn new(capacity: u64) -> State {
        State {
            cached: Tree::default(),
            durable: Tree::default(),
            inodes: BTreeMap::new(),
            pending: Vec::new(),
            next_sequence: 0,
            // 0 is the root directory.
            next_node: 1,
            capacity,
            open: BTreeMap::new(),
            locked: BTreeSet::new(),
        }
    }

    fn note(&mut self, what: What) {
        self.pending.push(Pending {
            sequence: self.next_sequence,
            lost: false,
            what,
        });
        self.next_sequence += 1;
    }

    /// Everything that happened so far lies before this mark.
    pub(super) fn mark(&self) -> u64 {
        self.next_sequence
    }

    pub(super) fn inode(&self, file: u64) -> io::Result<&Arc<Inode>> {
        self.inodes.get(&file).ok_or_else(|| Errno::BADF.into())
    }

    pub(super) fn inode_mut(&mut self, file: u64) -> io::Result<&mut Inode> {
        self.inodes
            .get_mut(&file)
            .map(Arc::make_mut)
            .ok_or_else(|| Errno::BADF.into())
    }

    // Names.

    fn change(&mut self, change: Change) {
        self.cached.apply(&change);
        self.note(What::Names(change));
    }

    pub(super) fn check_create(&self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.cached.resolve_parent(path)?;
        match self.cached.get(dir, name) {
            Some(_) => Err(Errno::EXIST.into()),
            None => Ok(()),
        }
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        self.check_create(path)?;
        let (dir, name) = self.cached.resolve_parent(path)?;
        let file = self.next_node;
        self.next_node += 1;
        let inode = Inode {
            cached: Content::default(),
            durable: Content::default(),
            label: path.into(),
        };
        self.inodes.insert(file, Arc::new(inode));
        let add = Place {
            dir,
            name: name.to_owned(),
            node: Node::File(file),
        };
        self.change(Change {
            remove: None,
            add: Some(add),
            what: format!("create {}", path.display()),
        });
        Ok(file)
    }

    /// Creates one directory whose parent is there.
    pub(super) fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.cached.resolve_parent(path)?;
        let node = Node::Dir(self.next_node);
        self.next_node += 1;
        let add = Place {
            dir,
            name: name.to_owned(),
            node,
        };
        self.change(Change {
            remove: None,
            add: Some(add),
            what: format!("mkdir {}", path.display()),
        });
        Ok(())
    }

    /// The directories to create so that `path` is one, outermost first.
    pub(super) fn missing_dirs(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut missing = Vec::new();
        for ancestor in path.ancestors() {
            match self.cached.resolve(ancestor) {
                Ok(Node::Dir(_)) => break,
                Ok(Node::File(_)) if missing.is_empty() => return Err(Errno::EXIST.into()),
                Ok(Node::File(_)) => return Err(Errno::NOTDIR.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    missing.push(ancestor.to_owned())
                }
                Err(error) => return Err(error),
            }
        }
        missing.reverse();
        Ok(missing)
    }

    pub(super) fn check_remove(&self, path: &Path) -> io::Result<()> {
        match self.cached.resolve(path)? {
            Node::Dir(dir) if self.cached.entries(dir).next().is_some() => {
                Err(Errno::NOTEMPTY.into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.check_remove(path)?;
        let node = self.cached.resolve(path)?;
        let (dir, name) = self.cached.resolve_parent(path)?;
        let remove = Place {
            dir,
            name: name.to_owned(),
            node,
        };
        self.change(Change {
            remove: Some(remove),
            add: None,
            what: format!("remove {}", path.display()),
        });
        self.collect();
        Ok(())
    }

    pub(super) fn check_rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // Both parents before the names themselves, as Linux does: it decides which error is reported.
        self.cached.resolve_parent(from)?;
        let (dir, name) = self.cached.resolve_parent(to)?;
        let node = self.cached.resolve(from)?;
        if from == to {
            return Ok(());
        }
        if to.starts_with(from) {
            return Err(Errno::INVAL.into());
        }
        if from.starts_with(to) {
            return Err(Errno::NOTEMPTY.into());
        }
        match (node, self.cached.get(dir, name)) {
            (_, None) | (Node::File(_), Some(Node::File(_))) => Ok(()),
            (Node::File(_), Some(Node::Dir(_))) => Err(Errno::ISDIR.into()),
            (Node::Dir(_), Some(Node::File(_))) => Err(Errno::NOTDIR.into()),
            (Node::Dir(_), Some(Node::Dir(old))) if self.cached.entries(old).next().is_none() => {
                Ok(())
            }
            (Node::Dir(_), Some(Node::Dir(_))) => Err(Errno::NOTEMPTY.into()),
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_rename(from, to)?;
        let node = self.cached.resolve(from)?;
        let (from_dir, from_name) = self.cached.resolve_parent(from)?;
        let (dir, name) = self.cached.resolve_parent(to)?;
        if (from_dir, from_name) == (dir, name) {
            return Ok(());
        }
        if let Node::File(file) = node {
            self.inode_mut(file)?.label = to.into();
        }
        let remove = Some(Place {
            dir: from_dir,
            name: from_name.to_owned(),
            node,
        });
        let add = Some(Place {
            dir,
            name: name.to_owned(),
            node,
        });
        let what = format!("rename {} to {}", from.display(), to.display());
        self.change(Change { remove, add, what });
        self.collect();
        Ok(())
    }

    // Bytes.

    /// Pages that take room on this disk.
    pub(super) fn used_pages(&self) -> u64 {
        let named = self.cached.reachable();
        let counts =
            |file: &u64| named.contains(&Node::File(*file)) || self.open.contains_key(file);
        self.inodes
            .iter()
            .filter(|(file, _)| counts(file))
            .map(|(_, inode)| inode.cached.used())
            .sum()
    }

    fn free_pages(&self) -> u64 {
        (self.capacity / PAGE as u64).saturating_sub(self.used_pages())
    }

    /// Writes as much as there is room for; at most `most_pages` pages of it.
    pub(super) fn write(
        &mut self,
        file: u64,
        parts: &[bytes::Bytes],
        at: u64,
        most_pages: usize,
    ) -> io::Result<()> {
        let content = &self.inode(file)?.cached;
        let touched = split(parts, at);
        let needed = touched
            .iter()
            .filter(|(page, ..)| content.needs_room(*page))
            .count() as u64;
        let mut room = if needed == 0 { 0 } else { self.free_pages() };
        for (number, within, bytes) in touched.into_iter().take(most_pages) {
            let inode = self.inode_mut(file)?;
            if inode.cached.needs_room(number) {
                room = room.checked_sub(1).ok_or(Errno::NOSPC)?;
            }
            let mut page = inode.cached.page_bytes(number);
            page[within..within + bytes.len()].copy_from_slice(&bytes);
            let content = Page::new(page);
            let end = number * PAGE as u64 + (within + bytes.len()) as u64;
            let grows = end > inode.cached.len();
            if grows {
                inode.cached.set_len(end);
            }
            inode.cached.put(number, content.clone());
            let reserved = inode.cached.reserved();
            if grows {
                self.note(What::Length {
                    file,
                    len: end,
                    reserved,
                });
            }
            self.note(What::Page {
                file,
                page: number,
                content,
            });
        }
        Ok(())
    }

    pub(super) fn allocate(&mut self, file: u64, len: u64) -> io::Result<()> {
        let content = &self.inode(file)?.cached;
        let wanted = pages(len).max(content.reserved());
        let mut after = content.clone();
        after.set_len(len.max(content.len()));
        after.set_reserved(wanted);
        if after.used().saturating_sub(content.used()) > self.free_pages() {
            return Err(Errno::NOSPC.into());
        }
        self.set_length(file, after)
    }

    pub(super) fn set_len(&mut self, file: u64, len: u64) -> io::Result<()> {
        let mut after = self.inode(file)?.cached.clone();
        after.set_len(len);
        self.set_length(file, after)
    }

    fn set_length(&mut self, file: u64, after: Content) -> io::Result<()> {
        let before = &mut self.inode_mut(file)?.cached;
        let (len, reserved) = (after.len(), after.reserved());
        let changed = (before.len(), before.reserved()) != (len, reserved);
        *before = after;
        if changed {
            self.note(What::Length {
                file,
                len,
                reserved,
            });
        }
        Ok(())
    }

    /// Changes a byte in every version of its page there is.
    pub(super) fn damage(&mut self, file: u64, at: u64, change: &dyn Fn(&mut u8)) {
        let (number, within) = (at / PAGE as u64, (at % PAGE as u64) as usize);
        let changed = |mut page: [u8; PAGE]| {
            change(&mut page[within]);
            Page::new(page)
        };
        for pending in &mut self.pending {
            if let What::Page {
                file: of,
                page,
                content,
            } = &mut pending.what
                && (*of, *page) == (file, number)
            {
                *content = changed(content.bytes);
            }
        }
        if let Ok(inode) = self.inode_mut(file) {
            for content in [&mut inode.cached, &mut inode.durable] {
                if number < pages(content.len()) {
                    let page = changed(content.page_bytes(number));
                    content.put(number, page);
                }
            }
        }
    }
}

impl What {
    /// The file whose bytes or length this is about.
    pub(super) fn file(&self) -> Option<u64> {
        match self {
            What::Page { file, .. } | What::Length { file, .. } => Some(*file),
            What::Names(_) => None,
        }
    }

    pub(super) fn page(&self) -> Option<u64> {
        match self {
            What::Page { page, .. } => Some(*page),
            _ => None,
        }
    }

    /// Arrives on the device.
    pub(super) fn reach(&self, durable: &mut Content) {
        match self {
            What::Page { page, content, .. } => durable.put(*page, content.clone()),
            What::Length { len, reserved, .. } => {
                durable.set_len(*len);
                durable.set_reserved(*reserved);
            }
            What::Names(_) => {}
        }
    }
}
