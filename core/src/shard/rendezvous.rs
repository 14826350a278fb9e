//! Which nodes a group is to lie on: weighted rendezvous hashing (highest random weight), spread over zones.
//!
//! ```text
//!   group, node --xxh3--> h, a number below 1       cost = -log2(h) / weight: the lowest costs win
//!   first the cheapest node of each zone, then again one of each, until there are enough
//! ```
//! Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998; with weights as in Schindelhauer and
//! Schomaker, "Weighted distributed hash tables", 2005: -ln(h) / weight is drawn from an exponential distribution of that
//! rate, so the cheapest of several nodes is each of them in proportion to its weight.
//!
//! Always true:
//! * the choice is a function of the group and of the nodes, in whole numbers: all nodes and versions agree on it;
//! * one node more or less changes one of a group's nodes at most: what moves is what the new one wins, or the old one had;
//! * nodes lie in as many zones as there are, up to their number.
//!
//! Elsewhere: which nodes may be chosen, and when (`planner`).

use std::collections::BTreeMap;

use crate::ids::GroupId;

/// A node that may keep groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Candidate {
    pub node: u64,
    /// Nodes that fail together.
    pub zone: String,
    /// Its share; 0 counts as 1.
    pub weight: u32,
}

/// The nodes for `copies` copies of a group, ascending; fewer if there are fewer.
pub(crate) fn choose(group: GroupId, candidates: &[Candidate], copies: usize) -> Vec<u64> {
    let mut ranked: Vec<&Candidate> = candidates.iter().collect();
    let cost = |one: &Candidate| (cost(group, one.node), u128::from(one.weight.max(1)));
    ranked.sort_by(|one, other| {
        let ((cost_of_one, weight_of_one), (cost_of_other, weight_of_other)) =
            (cost(one), cost(other));
        let by_cost = (cost_of_one * weight_of_other).cmp(&(cost_of_other * weight_of_one));
        by_cost.then(one.node.cmp(&other.node))
    });
    let mut chosen = Vec::new();
    let mut in_zone: BTreeMap<&str, usize> = BTreeMap::new();
    while chosen.len() < copies && !ranked.is_empty() {
        let taken = |one: &&Candidate| in_zone.get(one.zone.as_str()).copied().unwrap_or(0);
        let fewest = ranked.iter().map(taken).min().unwrap_or(0);
        let Some(at) = ranked.iter().position(|one| taken(one) == fewest) else {
            break;
        };
        let one = ranked.remove(at);
        *in_zone.entry(one.zone.as_str()).or_default() += 1;
        chosen.push(one.node);
    }
    chosen.sort_unstable();
    chosen
}

/// -log2(h), where h is the hash as a fraction of 1; in 2^-32.
fn cost(group: GroupId, node: u64) -> u128 {
    let mut name = [0; 10];
    name[..2].copy_from_slice(&group.0.to_be_bytes());
    name[2..].copy_from_slice(&node.to_be_bytes());
    let hash = xxhash_rust::xxh3::xxh3_64(&name);
    (64 << 32) - u128::from(log2(hash.max(1)))
}

/// log2 of a number that is not 0, in 2^-32, at most a few of them too low: bit by bit, by squaring.
fn log2(number: u64) -> u64 {
    let whole = 63 - u64::from(number.leading_zeros());
    // Between 1 and 2, in 2^-63.
    let mut rest = u128::from(number) << (63 - whole);
    let mut bits = whole;
    for _ in 0..32 {
        rest = (rest * rest) >> 63;
        let bit = rest >> 64;
        rest >>= bit;
        bits = bits << 1 | bit as u64;
    }
    bits
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn candidate(node: u64, zone: &str, weight: u32) -> Candidate {
        Candidate {
            node,
            zone: zone.to_owned(),
            weight,
        }
    }

    fn any_nodes() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (0..4u8, 1..5u32);
        prop::collection::vec(one, 1..12).prop_map(|nodes| {
            let nodes = nodes.into_iter().enumerate();
            nodes
                .map(|(at, (zone, weight))| candidate(at as u64 + 1, &format!("{zone}"), weight))
                .collect()
        })
    }

    /// Stored choices must not move because a build computes otherwise.
    #[test]
    fn logarithms_and_choices_are_what_they_always_were() {
        assert_eq!(log2(1), 0);
        assert_eq!(log2(2), 1 << 32);
        assert_eq!(log2(3), 6_807_362_105);
        assert_eq!(log2(u64::MAX), 274877906943);
        let nodes: Vec<_> = (1..=7).map(|node| candidate(node, "", 1)).collect();
        let chosen: Vec<_> = (0..4)
            .map(|group| choose(GroupId(group), &nodes, 3))
            .collect();
        assert_eq!(chosen, CHOSEN);
    }

    const CHOSEN: [[u64; 3]; 4] = [[3, 5, 7], [3, 4, 7], [1, 2, 4], [2, 5, 7]];

    /// A node of twice the weight gets twice the groups, within the noise of the draw.
    #[test]
    fn a_node_gets_groups_by_its_weight() {
        let nodes = [
            candidate(1, "", 1),
            candidate(2, "", 2),
            candidate(3, "", 4),
            candidate(4, "", 1),
        ];
        let mut got = BTreeMap::new();
        for group in 0..20_000 {
            *got.entry(choose(GroupId(group), &nodes, 1)[0]).or_insert(0) += 1;
        }
        for (node, share) in [(1, 2_500), (2, 5_000), (3, 10_000), (4, 2_500)] {
            let off = i64::abs(got[&node] - share);
            assert!(off < 250, "node {node}: {} of {share}", got[&node]);
        }
    }

    proptest! {
        /// The choice of a group has one node per zone as long as there are zones, and never more of one than needed.
        #[test]
        fn copies_lie_in_different_zones_when_there_are_enough(nodes in any_nodes(), group: u16) {
            let chosen = choose(GroupId(group), &nodes, 3);
            prop_assert_eq!(chosen.len(), nodes.len().min(3));
            let zone_of = |node: u64| &nodes[node as usize - 1].zone;
            let zones: BTreeSet<_> = chosen.iter().map(|node| zone_of(*node)).collect();
            let all: BTreeSet<_> = nodes.iter().map(|one| &one.zone).collect();
            prop_assert_eq!(zones.len(), all.len().min(chosen.len()));
        }

        /// The others keep what they have, but for one copy of each group that the new node wins.
        #[test]
        fn a_node_more_moves_only_what_it_wins(
            nodes in any_nodes(), zone in 0..5u8, weight in 1..5u32, group: u16,
        ) {
            let before = choose(GroupId(group), &nodes, 3);
            let mut more = nodes.clone();
            more.push(candidate(99, &format!("{zone}"), weight));
            let after = choose(GroupId(group), &more, 3);
            let came: Vec<_> = after.iter().filter(|node| !before.contains(node)).collect();
            let left = before.iter().filter(|node| !after.contains(node)).count();
            prop_assert!(came.is_empty() && left == 0 || came == [&99] && left <= 1, "{before:?} {after:?}");
        }

        /// In which order nodes are named says nothing.
        #[test]
        fn the_order_of_nodes_does_not_count(nodes in any_nodes(), group: u16) {
            let mut turned = nodes.clone();
            turned.reverse();
            prop_assert_eq!(choose(GroupId(group), &nodes, 3), choose(GroupId(group), &turned, 3));
        }
    }
}
