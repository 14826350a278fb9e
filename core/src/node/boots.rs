//! Which run of each node is its newest, and who may act on that: the rule, without disk or network.
//!
//! A disk that is put back to an earlier copy of itself, or an empty one under an old name, has forgotten what it promised:
//! it would vote twice, and count as a holder of entries that it lost. It cannot know; its peers can. They remember the
//! highest boot number of every node with its nonce, and a node takes part only when enough of them say that it is new.
//!
//! Always true:
//! * what is known of a node only rises; of two runs with one number the first that was heard of stays;
//! * another run than the known one is taken only if it came after it: its number is higher, and its node names the known
//!   one as one of its own earlier starts. A number alone proves nothing, for a refused disk counts on with every start;
//! * enough are floor(voters / 2) *other* voters, of both sets while joint: with the node itself that is a majority, so a
//!   restart needs no more nodes than agreeing does.
//!
//! What it cannot see: a copy that was taken and put back within one run comes with a new number. And with as many peers
//! silent as a group survives, those who answer may be those who never heard of the newer run: that is one failure more
//! than the group is made for.

use std::collections::{BTreeMap, BTreeSet};

use super::boot_number::Boot;
use crate::ids::NodeId;

/// The newest known run of every node that was ever heard of.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Boots(BTreeMap<NodeId, Boot>);

/// What is known says of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is the newest, or came after the known one.
    Fine,
    /// This one is known, and it was not said that the other came after it.
    Instead(Boot),
}

impl Boots {
    /// `after`: what the node says it ran as before.
    pub(super) fn judge(&self, node: NodeId, boot: Boot, after: Option<Boot>) -> Verdict {
        let Some(known) = self.0.get(&node).copied() else {
            return Verdict::Fine;
        };
        let follows = known.number < boot.number
            && (after == Some(known) || crate::planted!("boot-lineage-ignored"));
        match known == boot || follows || crate::planted!("boot-number-ignored") {
            true => Verdict::Fine,
            false => Verdict::Instead(known),
        }
    }

    /// Remembers a run if it is newer than the known one.
    pub(super) fn learn(&mut self, node: NodeId, boot: Boot) {
        let known = self.0.entry(node).or_insert(boot);
        if known.number < boot.number {
            *known = boot;
        }
    }

    /// Whether a message of this run was overtaken by a newer run of its sender.
    pub(super) fn is_outdated(&self, node: NodeId, number: u64) -> bool {
        let known = self.0.get(&node);
        known.is_some_and(|known| number < known.number) && !crate::planted!("boot-number-ignored")
    }

    /// Whether this is the newest run of a node that is known.
    pub(super) fn is_newest(&self, node: NodeId, number: u64) -> bool {
        let known = self.0.get(&node);
        known.is_some_and(|known| known.number == number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, Boot)> + '_ {
        self.0.iter().map(|(node, boot)| (*node, *boot))
    }
}

impl FromIterator<(NodeId, Boot)> for Boots {
    fn from_iter<I: IntoIterator<Item = (NodeId, Boot)>>(boots: I) -> Boots {
        let mut all = Boots::default();
        for (node, boot) in boots {
            all.learn(node, boot);
        }
        all
    }
}

/// Whether those who confirmed this node's boot are enough for it to take part among these voters (two sets while joint): with
/// itself a majority of each set. It counts where it is a voter only: a learner may be one by the time it acknowledges.
pub(super) fn enough(
    voters: &[BTreeSet<NodeId>],
    this: NodeId,
    confirmed: &BTreeSet<NodeId>,
) -> bool {
    voters.iter().all(|set| {
        let others = set.iter().filter(|node| **node != this);
        others.filter(|node| confirmed.contains(node)).count() >= needed(set, this)
    })
}

fn needed(set: &BTreeSet<NodeId>, this: NodeId) -> usize {
    set.len() / 2 + usize::from(!set.contains(&this))
}

/// These voters; or those that the directory names, where too many of a set were removed for good to confirm anybody: a log
/// that was not heard from while the others changed names them for ever.
pub(super) fn still_there(
    voters: Vec<BTreeSet<NodeId>>,
    this: NodeId,
    is_gone: impl Fn(NodeId) -> bool,
    named: &BTreeSet<NodeId>,
) -> Vec<BTreeSet<NodeId>> {
    let able = |set: &BTreeSet<NodeId>| {
        let others = set.iter().filter(|node| **node != this && !is_gone(**node));
        others.count() >= needed(set, this)
    };
    let replace = |set| match able(&set) || named.is_empty() {
        true => set,
        false => named.clone(),
    };
    voters.into_iter().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(7);

    fn boot(number: u64, nonce: u128) -> Boot {
        Boot { number, nonce }
    }

    fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    /// An old copy of a disk starts with a number that was used already: lower, or the same with another nonce.
    #[test]
    fn a_disk_that_was_put_back_is_refused() {
        let mut known = Boots::default();
        known.learn(NODE, boot(5, 50));
        let judge = |number, nonce, after| known.judge(NODE, boot(number, nonce), after);
        assert_eq!(judge(5, 50, None), Verdict::Fine);
        assert_eq!(judge(6, 60, Some(boot(5, 50))), Verdict::Fine);
        let refused = Verdict::Instead(boot(5, 50));
        assert_eq!(judge(5, 51, None), refused);
        assert_eq!(judge(5, 51, Some(boot(5, 50))), refused);
        assert_eq!(judge(4, 40, None), refused);
        assert_eq!(judge(1, 10, None), refused);
        // It was started again and again, and counted on.
        assert_eq!(judge(6, 61, None), refused);
        assert_eq!(judge(7, 71, Some(boot(5, 51))), refused);
        assert_eq!(known.judge(NodeId(8), boot(1, 10), None), Verdict::Fine);
    }

    /// Tables arrive late and in any order: what is known never goes back.
    #[test]
    fn what_is_known_of_a_node_only_rises() {
        let mut known = Boots::default();
        for (number, nonce, then) in [(3, 30, 30), (2, 20, 30), (3, 31, 30), (4, 40, 40)] {
            known.learn(NODE, boot(number, nonce));
            assert_eq!(known.iter().next().map(|(_, boot)| boot.nonce), Some(then));
        }
        assert!(known.is_outdated(NODE, 3));
        assert!(!known.is_outdated(NODE, 4));
        assert!(!known.is_outdated(NodeId(8), 0));
    }

    /// Half of the voters, rounded down, besides the node itself; of both sets while a group changes its members.
    #[test]
    fn a_node_takes_part_when_half_of_the_others_know_it() {
        let this = NodeId(1);
        let with = |sets: &[BTreeSet<NodeId>], by: &[u64]| enough(sets, this, &nodes(by));
        assert!(with(&[nodes(&[1])], &[]));
        assert!(!with(&[nodes(&[1, 2])], &[]));
        assert!(!with(&[nodes(&[1, 2, 3])], &[]));
        assert!(with(&[nodes(&[1, 2, 3])], &[3]));
        assert!(!with(&[nodes(&[1, 2, 3, 4, 5])], &[3]));
        assert!(with(&[nodes(&[1, 2, 3, 4, 5])], &[3, 5]));
        // Its own word, and that of somebody who has no vote, count for nothing.
        assert!(!with(&[nodes(&[1, 2, 3])], &[1, 9]));
        let joint = [nodes(&[1, 2, 3]), nodes(&[3, 4, 5])];
        assert!(!with(&joint, &[2]));
        // Of a set that it does not belong to, more than half.
        assert!(!with(&joint, &[3]));
        assert!(with(&joint, &[3, 5]));
        assert!(!with(&[nodes(&[2])], &[]));
        assert!(with(&[nodes(&[2])], &[2]));
    }

    /// Node 3 was down while 1 and 2 were replaced by 4 and 5, and removed: its log names them, and they are switched off.
    #[test]
    fn voters_that_were_removed_for_good_are_not_waited_for() {
        let (log, now) = (vec![nodes(&[1, 2, 3])], nodes(&[3, 4, 5]));
        let asked =
            |gone: &[u64]| still_there(log.clone(), NodeId(3), |node| gone.contains(&node.0), &now);
        assert_eq!(asked(&[]), log);
        assert_eq!(asked(&[1]), log, "the other one will do");
        assert_eq!(asked(&[1, 2]), std::slice::from_ref(&now));
        let none = still_there(log.clone(), NodeId(3), |_| true, &nodes(&[]));
        assert_eq!(none, log, "nobody says who else");
    }
}
