//! Copies of a group that have applied the same entry hold the same rows, at every moment that anybody looks: by their digests,
//! which the audit compares with the rows themselves.

use std::collections::BTreeMap;

use minikv_core::node::{CopyStatus, Node};

/// Whether the rows of each copy are those that its digest was made of.
pub fn recounted(node: u64, running: &Node) -> Vec<String> {
    let wrong = match running.wrong_digests() {
        Ok(wrong) => wrong,
        Err(error) => vec![format!("a copy cannot be read: {error}")],
    };
    wrong
        .into_iter()
        .map(|what| format!("node {node}: {what}"))
        .collect()
}

/// What was seen of copies.
#[derive(Default)]
pub struct Copies {
    /// By group and index: the digest, and on which node it was seen first.
    seen: BTreeMap<(u16, u64), (u128, u64)>,
    broken: Vec<String>,
}

impl Copies {
    /// Looks at one node's copies.
    pub fn look(&mut self, node: u64, copies: &[CopyStatus]) {
        for copy in copies {
            let at = (copy.group.0, copy.applied);
            let (digest, first) = *self.seen.entry(at).or_insert((copy.digest, node));
            if digest != copy.digest && self.broken.len() < 10 {
                self.broken.push(format!(
                    "group {} at entry {}: node {first} held {digest:032x}, node {node} holds {:032x}",
                    at.0, at.1, copy.digest
                ));
            }
        }
    }

    /// What was wrong.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// Pairs of group and index that were looked at.
    pub fn looked(&self) -> usize {
        self.seen.len()
    }
}
