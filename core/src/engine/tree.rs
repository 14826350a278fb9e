//! A sorted map in memory whose clones are free: a B+ tree that copies a node only while a clone still shares it.
//!
//! The overlay is read by many and written by one. A view is a clone of the root; the writer then copies the few
//! nodes on its path once and leaves the view's alone. Without views it writes in place.
//!
//! A search touches few cache lines: every node keeps the first eight bytes of each key behind the prefix that all its
//! keys share (`heads`), so that a binary search compares integers and follows a pointer only for the last candidates.
//!
//! Always true:
//! * keys ascend strictly within a leaf and over all leaves;
//! * all keys of a node share its first `skip` bytes, and `heads[i]` is made of key `i` behind them;
//! * an inner node's key `i` is not above any key below child `i`, and is above every key below child `i - 1`.

use std::sync::Arc;

use super::row::{Row, shared_prefix};

/// Most rows of a leaf and children of an inner node.
const FANOUT: usize = 64;
/// A leaf's arrays and header. They are allocated whole, so that the account is exact.
const LEAF_COST: usize = FANOUT * (8 + 16) + 128;
/// An inner node's.
const INNER_COST: usize = FANOUT * (8 + 16 + 8) + 128;

struct Node {
    /// Length of a prefix that all keys of this node share.
    skip: usize,
    heads: Vec<u64>,
    /// Rows of a leaf; lower bounds of an inner node's children.
    rows: Vec<Row>,
    /// Empty in a leaf.
    children: Vec<Arc<Node>>,
}

impl Clone for Node {
    fn clone(&self) -> Self {
        let mut copy = Node::empty(!self.children.is_empty());
        copy.skip = self.skip;
        copy.heads.extend_from_slice(&self.heads);
        copy.rows.extend_from_slice(&self.rows);
        copy.children.extend_from_slice(&self.children);
        copy
    }
}

/// The eight bytes of `key` behind `skip`, as a number that sorts like them (short keys are filled with zeros).
fn head(key: &[u8], skip: usize) -> u64 {
    let rest = &key[skip..];
    match rest.first_chunk::<8>() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => {
            let mut eight = [0; 8];
            eight[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(eight)
        }
    }
}

impl Node {
    fn empty(inner: bool) -> Node {
        Node {
            skip: 0,
            heads: Vec::with_capacity(FANOUT),
            rows: Vec::with_capacity(FANOUT),
            children: if inner {
                Vec::with_capacity(FANOUT)
            } else {
                Vec::new()
            },
        }
    }

    fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }

    /// Where `key` is, or where it would go.
    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let (skip, count) = (self.skip, self.rows.len());
        if count == 0 {
            return Err(0);
        }
        if skip > 0 {
            match key[..skip.min(key.len())].cmp(&self.rows[0].key()[..skip]) {
                std::cmp::Ordering::Less => return Err(0),
                std::cmp::Ordering::Greater => return Err(count),
                std::cmp::Ordering::Equal => {}
            }
        }
        let wanted = head(key, skip);
        let from = self.heads.partition_point(|head| *head < wanted);
        let ties = self.heads[from..]
            .iter()
            .take_while(|head| **head == wanted)
            .count();
        match self.rows[from..from + ties]
            .binary_search_by(|row| row.key()[skip..].cmp(&key[skip..]))
        {
            Ok(at) => Ok(from + at),
            Err(at) => Err(from + at),
        }
    }

    /// The child under which `key` lies or would lie.
    fn child_of(&self, key: &[u8]) -> usize {
        match self.find(key) {
            Ok(at) => at,
            Err(at) => at.saturating_sub(1),
        }
    }

    fn rebuild_heads(&mut self) {
        self.skip = match (self.rows.first(), self.rows.last()) {
            (Some(first), Some(last)) => shared_prefix(first.key(), last.key()),
            _ => 0,
        };
        let skip = self.skip;
        self.heads.clear();
        self.heads
            .extend(self.rows.iter().map(|row| head(row.key(), skip)));
    }

    fn put(&mut self, at: usize, row: Row, child: Option<Arc<Node>>) {
        let edge = at == 0 || at == self.rows.len();
        self.rows.insert(at, row);
        if let Some(child) = child {
            self.children.insert(at, child);
        }
        // Only a new first or last key can shorten the prefix that all share.
        if edge
            && shared_prefix(self.rows[0].key(), self.rows[self.rows.len() - 1].key()) != self.skip
        {
            self.rebuild_heads();
        } else {
            self.heads.insert(at, head(self.rows[at].key(), self.skip));
        }
    }

    fn take(&mut self, at: usize) -> Row {
        self.heads.remove(at);
        if !self.is_leaf() {
            self.children.remove(at);
        }
        self.rows.remove(at)
    }

    /// Moves the upper part into a new node. Keys that arrive in order leave full nodes behind.
    fn split(&mut self, last_put: usize) -> Arc<Node> {
        let at = if last_put + 1 == self.rows.len() {
            last_put
        } else {
            self.rows.len() / 2
        };
        let mut right = Node::empty(!self.is_leaf());
        right.rows.extend(self.rows.drain(at..));
        if !self.is_leaf() {
            right.children.extend(self.children.drain(at..));
        }
        self.rebuild_heads();
        right.rebuild_heads();
        Arc::new(right)
    }
}

/// The map. A clone is a view: it keeps what it sees.
#[derive(Clone)]
pub struct Tree {
    root: Arc<Node>,
    rows: usize,
    bytes: usize,
}

impl Default for Tree {
    fn default() -> Self {
        Tree {
            root: Arc::new(Node::empty(false)),
            rows: 0,
            bytes: LEAF_COST,
        }
    }
}

struct Inserted {
    replaced: Option<Row>,
    split: Option<Arc<Node>>,
    grown: usize,
}

impl Tree {
    /// Rows and tombstones.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// What it holds in memory, nodes included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The row or tombstone under `key`.
    pub fn get(&self, key: &[u8]) -> Option<&Row> {
        let mut node = &self.root;
        while !node.is_leaf() {
            node = &node.children[node.child_of(key)];
        }
        node.find(key).ok().map(|at| &node.rows[at])
    }

    /// Puts a row or tombstone; gives back what it replaced.
    pub fn insert(&mut self, row: Row) -> Option<Row> {
        let cost = row.cost();
        let inserted = Self::insert_below(&mut self.root, row);
        if let Some(right) = inserted.split {
            let mut root = Node::empty(true);
            let left = std::mem::replace(&mut self.root, Arc::new(Node::empty(false)));
            root.rows
                .extend([left.rows[0].clone(), right.rows[0].clone()]);
            root.children.extend([left, right]);
            root.rebuild_heads();
            self.root = Arc::new(root);
            self.bytes += INNER_COST;
        }
        self.bytes += cost + inserted.grown;
        match &inserted.replaced {
            Some(old) => self.bytes -= old.cost(),
            None => self.rows += 1,
        }
        inserted.replaced
    }

    fn insert_below(node: &mut Arc<Node>, row: Row) -> Inserted {
        let node = Arc::make_mut(node);
        let mut result = Inserted {
            replaced: None,
            split: None,
            grown: 0,
        };
        let put = if node.is_leaf() {
            match node.find(row.key()) {
                Ok(at) => {
                    result.replaced = Some(std::mem::replace(&mut node.rows[at], row));
                    return result;
                }
                Err(at) => {
                    node.put(at, row, None);
                    at
                }
            }
        } else {
            let at = node.child_of(row.key());
            if at == 0 && row.key() < node.rows[0].key() {
                // The lower bound follows, else a later split of this child would put keys out of order.
                node.rows[0] = row.clone();
                node.rebuild_heads();
            }
            let below = Self::insert_below(&mut node.children[at], row);
            result.replaced = below.replaced;
            result.grown = below.grown;
            let Some(right) = below.split else {
                return result;
            };
            node.put(at + 1, right.rows[0].clone(), Some(right));
            at + 1
        };
        if node.rows.len() == FANOUT {
            result.grown += if node.is_leaf() {
                LEAF_COST
            } else {
                INNER_COST
            };
            result.split = Some(node.split(put));
        }
        result
    }

    /// Takes a row out (no tombstone stays).
    pub fn remove(&mut self, key: &[u8]) -> Option<Row> {
        self.get(key)?;
        let (row, freed) = Self::remove_below(&mut self.root, key)?;
        self.bytes -= row.cost() + freed;
        self.rows -= 1;
        while self.root.children.len() == 1 {
            let only = self.root.children[0].clone();
            self.root = only;
            self.bytes -= INNER_COST;
        }
        if !self.root.is_leaf() || !self.root.rows.is_empty() {
            return Some(row);
        }
        *self = Tree::default();
        Some(row)
    }

    fn remove_below(node: &mut Arc<Node>, key: &[u8]) -> Option<(Row, usize)> {
        let node = Arc::make_mut(node);
        if node.is_leaf() {
            return node.find(key).ok().map(|at| (node.take(at), 0));
        }
        let at = node.child_of(key);
        // Asked before: an inner node that loses its last child would look like a leaf.
        let cost = if node.children[at].is_leaf() {
            LEAF_COST
        } else {
            INNER_COST
        };
        let (row, mut freed) = Self::remove_below(&mut node.children[at], key)?;
        if node.children[at].rows.is_empty() {
            freed += cost;
            node.take(at);
        }
        Some((row, freed))
    }

    /// A cursor at the first key not below `from`.
    pub fn seek(&self, from: &[u8]) -> TreeCursor {
        seek(self.root.clone(), from)
    }
}

fn seek(root: Arc<Node>, from: &[u8]) -> TreeCursor {
    let mut path = Vec::with_capacity(4);
    let mut node = root;
    while !node.is_leaf() {
        let at = node.child_of(from);
        let child = node.children[at].clone();
        path.push((node, at));
        node = child;
    }
    let at = node.find(from).unwrap_or_else(|at| at);
    let mut cursor = TreeCursor {
        path,
        leaf: node,
        at,
    };
    cursor.settle();
    cursor
}

/// Walks a tree as it was when the cursor was made.
pub struct TreeCursor {
    path: Vec<(Arc<Node>, usize)>,
    leaf: Arc<Node>,
    at: usize,
}

impl TreeCursor {
    /// The row it stands on; `None` at the end.
    pub fn row(&self) -> Option<&Row> {
        self.leaf.rows.get(self.at)
    }

    /// One row on.
    pub fn advance(&mut self) {
        self.at += 1;
        self.settle();
    }

    /// To the first key not below `key`, from a row that is below it.
    pub fn leap(&mut self, key: &[u8]) {
        if self.leaf.rows.last().is_some_and(|last| key <= last.key()) {
            self.at = self.leaf.find(key).unwrap_or_else(|at| at);
            return;
        }
        // On a row, the path begins at the root; a tree of one leaf ends here.
        match self.path.first() {
            Some((root, _)) => *self = seek(root.clone(), key),
            None => self.at = self.leaf.rows.len(),
        }
    }

    /// Moves to the next leaf when this one is used up.
    fn settle(&mut self) {
        while self.at >= self.leaf.rows.len() {
            let Some((node, at)) = self.path.last_mut() else {
                return;
            };
            *at += 1;
            let Some(child) = node.children.get(*at) else {
                self.path.pop();
                continue;
            };
            let mut node = child.clone();
            while !node.is_leaf() {
                let child = node.children[0].clone();
                self.path.push((node, 0));
                node = child;
            }
            self.leaf = node;
            self.at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    fn rows(tree: &Tree, from: &[u8]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut cursor = tree.seek(from);
        let mut found = Vec::new();
        while let Some(row) = cursor.row() {
            found.push((row.key().to_vec(), row.value().map(<[u8]>::to_vec)));
            cursor.advance();
        }
        found
    }

    fn put(tree: &mut Tree, key: &[u8], value: Option<&[u8]>) {
        tree.insert(Row::new(key, value, &mut Vec::new()));
    }

    /// Keys share long prefixes, are prefixes of each other and end in zeros: what `heads` could confuse.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(0u8..3, 0..12),
            (0u32..4000).prop_map(|n| [
                b"a rather long common prefix/".as_slice(),
                &n.to_be_bytes()
            ]
            .concat()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn tree_is_a_sorted_map_and_its_clones_stand_still(
            steps in proptest::collection::vec((key(), proptest::option::of(any::<u8>()), 0u8..10), 0..1500),
            from in key(),
        ) {
            let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
            let mut views: Vec<(Tree, Model)> = Vec::new();
            for (key, value, kind) in steps {
                if kind == 0 && views.len() < 8 {
                    views.push((tree.clone(), model.clone()));
                }
                if kind < 3 {
                    prop_assert_eq!(tree.remove(&key).is_some(), model.remove(&key).is_some());
                } else {
                    let value = value.map(|byte| vec![byte; byte as usize]);
                    put(&mut tree, &key, value.as_deref());
                    model.insert(key, value);
                }
            }
            views.push((tree, model));
            for (tree, model) in &views {
                prop_assert_eq!(tree.len(), model.len());
                let expected: Vec<_> = model.clone().into_iter().collect();
                prop_assert_eq!(rows(tree, b""), expected);
                let later: Vec<_> = model.range(from.clone()..).map(|(k, v)| (k.clone(), v.clone())).collect();
                prop_assert_eq!(rows(tree, &from), later);
                for (key, value) in model {
                    prop_assert_eq!(tree.get(key).unwrap().value(), value.as_deref());
                }
            }
        }
    }

    /// The budget is an account: what goes in and out again leaves nothing on it.
    #[test]
    fn account_returns_to_its_start_when_all_rows_are_gone() {
        let mut tree = Tree::default();
        let keys: Vec<Vec<u8>> = (0..20_000u32)
            .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes().to_vec())
            .collect();
        for key in &keys {
            put(&mut tree, key, Some(&[7; 100]));
        }
        assert!(tree.bytes() > 20_000 * 120);
        for key in &keys {
            assert!(tree.remove(key).is_some());
        }
        assert_eq!((tree.len(), tree.bytes()), (0, LEAF_COST));
    }
}
