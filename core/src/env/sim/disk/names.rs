//! Directories of a simulated disk: which name leads to which file.
//!
//! Always true: a change of names (creating, renaming, removing) happens whole or not at all, also across a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

/// What a name leads to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Node {
    Dir(u64),
    File(u64),
}

/// The directory every path starts from.
pub(super) const ROOT: u64 = 0;

/// All directories. Those that no path leads to are allowed: their name may have been lost, or not be durable yet.
#[derive(Clone, Default)]
pub(super) struct Tree {
    dirs: BTreeMap<u64, Arc<BTreeMap<OsString, Node>>>,
}

/// A name in a directory, and what it leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) dir: u64,
    pub(super) name: OsString,
    pub(super) node: Node,
}

/// One change of names.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// This name goes, if it still leads there.
    pub(super) remove: Option<Place>,
    /// This name comes, over whatever is there.
    pub(super) add: Option<Place>,
    /// For people.
    pub(super) what: String,
}

impl Change {
    /// Whether both say something about the same name in the same directory. Changes that do not can be done in any order.
    pub(super) fn meets(&self, other: &Change) -> bool {
        let same = |one: &Place, two: &Place| (one.dir, &one.name) == (two.dir, &two.name);
        self.places()
            .any(|mine| other.places().any(|theirs| same(mine, theirs)))
    }

    /// Whether a name in this directory changes: its fsync makes the change durable, and a change is whole or not at all,
    /// so of two directories one is enough.
    pub(super) fn touches(&self, dir: u64) -> bool {
        self.places().any(|place| place.dir == dir)
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.add.iter().chain(&self.remove)
    }

    /// The directories whose names change.
    pub(super) fn dirs(&self) -> impl Iterator<Item = Node> {
        self.places().map(|place| Node::Dir(place.dir))
    }

    /// The nodes it moves.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> {
        self.places().map(|place| place.node)
    }
}

impl Tree {
    pub(super) fn apply(&mut self, change: &Change) {
        if let Some(place) = &change.remove {
            let entries = Arc::make_mut(self.dirs.entry(place.dir).or_default());
            if entries.get(&place.name) == Some(&place.node) {
                entries.remove(&place.name);
            }
        }
        if let Some(place) = &change.add {
            Arc::make_mut(self.dirs.entry(place.dir).or_default())
                .insert(place.name.clone(), place.node);
        }
    }

    pub(super) fn entries(&self, dir: u64) -> impl Iterator<Item = (&OsString, Node)> {
        self.dirs
            .get(&dir)
            .into_iter()
            .flat_map(|entries| entries.iter().map(|(name, node)| (name, *node)))
    }

    pub(super) fn get(&self, dir: u64, name: &OsStr) -> Option<Node> {
        self.dirs
            .get(&dir)
            .and_then(|entries| entries.get(name))
            .copied()
    }

    /// What a path leads to.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Dir(ROOT);
        for name in names(path)? {
            let Node::Dir(dir) = node else {
                return Err(Errno::NOTDIR.into());
            };
            node = self.get(dir, name).ok_or(Errno::NOENT)?;
        }
        Ok(node)
    }

    pub(super) fn resolve_file(&self, path: &Path) -> io::Result<u64> {
        match self.resolve(path)? {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(Errno::ISDIR.into()),
        }
    }

    pub(super) fn resolve_dir(&self, path: &Path) -> io::Result<u64> {
        match self.resolve(path)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(Errno::NOTDIR.into()),
        }
    }

    /// The directory a path lies in, and its last name.
    pub(super) fn resolve_parent<'p>(&self, path: &'p Path) -> io::Result<(u64, &'p OsStr)> {
        let mut names = names(path)?;
        let last = names.pop().ok_or(Errno::INVAL)?;
        let mut dir = ROOT;
        for name in names {
            dir = match self.get(dir, name).ok_or(Errno::NOENT)? {
                Node::Dir(dir) => dir,
                Node::File(_) => return Err(Errno::NOTDIR.into()),
            };
        }
        Ok((dir, last))
    }

    /// Every file a path leads to.
    pub(super) fn files(&self) -> BTreeMap<PathBuf, u64> {
        let mut found = BTreeMap::new();
        self.walk_all(&mut |path, node| {
            if let Node::File(file) = node {
                found.insert(path.to_owned(), file);
            }
        });
        found
    }

    /// Every file and directory a path leads to.
    pub(super) fn reachable(&self) -> BTreeSet<Node> {
        let mut found = BTreeSet::new();
        self.gather(Node::Dir(ROOT), &mut found);
        found
    }

    /// Visits everything a path leads to, in the order of names.
    pub(super) fn walk_all(&self, visit: &mut dyn FnMut(&Path, Node)) {
        self.walk(ROOT, Path::new("/"), visit);
    }

    fn walk(&self, dir: u64, path: &Path, visit: &mut dyn FnMut(&Path, Node)) {
        for (name, node) in self.entries(dir) {
            let path = path.join(name);
            visit(&path, node);
            if let Node::Dir(dir) = node {
                self.walk(dir, &path, visit);
            }
        }
    }

    /// Adds a node and everything beneath it.
    pub(super) fn gather(&self, node: Node, found: &mut BTreeSet<Node>) {
        found.insert(node);
        if let Node::Dir(dir) = node {
            self.walk(dir, Path::new(""), &mut |_, node| {
                found.insert(node);
            });
        }
    }

    /// Forgets directories that are not among these.
    pub(super) fn keep(&mut self, nodes: &BTreeSet<Node>) {
        self.dirs.retain(|dir, _| nodes.contains(&Node::Dir(*dir)));
    }
}

/// The names a path consists of. The root is the same for absolute and relative paths: a simulated process has no other.
fn names(path: &Path) -> io::Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL.into()),
        }
    }
    Ok(names)
}
