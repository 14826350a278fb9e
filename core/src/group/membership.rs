//! How a group's members change: decided anew from what there is at every step, so that any leader goes on where the last
//! one stopped.
//!
//! ```text
//!   state      Learner(D) ─────────────────────── Admit(D, retire A) ─────────────────────── Retired(A)
//!   openraft                add D as a learner                          {..A} ─ joint ─ {..D}
//!   D                       gets log or state, fetches chunks, confirms that it has everything
//! ```
//! Always true:
//! * openraft's membership follows the state's: it changes after the `Admit`, and the change is called over when a majority
//!   of the new members has agreed on it;
//! * what a leader saw of openraft's membership goes into the entry with its term, and counts in that term only: the entry
//!   may have been on its way while another leader went on;
//! * a group of one node is joined by both others at once: it never rests at two;
//! * a leader that is to leave hands over before.
//!
//! Elsewhere: who should be a member (`shard::planner`), what the entries do (`state::placement`), who carries this out
//! (`membership_driver`).

use std::collections::{BTreeMap, BTreeSet};

use minikv_proto::row::{self, MemberRole};

/// What a leader sees.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub this: u64,
    /// As the state has them.
    pub members: Vec<row::Member>,
    /// openraft's voters; two sets while they change.
    pub voters: Vec<BTreeSet<u64>>,
    /// openraft's learners.
    pub learners: BTreeSet<u64>,
    /// Whether that membership is agreed on.
    pub is_agreed: bool,
    /// Who should be a member; `None`: nobody said.
    pub wanted: Option<BTreeSet<u64>>,
    /// Learners that said so, and up to which entry they have everything.
    pub confirmed: BTreeMap<u64, u64>,
    /// When each of them was turned to last, whatever came of it; 0 or nothing: never.
    pub turns: BTreeMap<u64, u64>,
}

impl Sight {
    /// Of these, the one to turn to first: one that is dead, or far behind, holds up no other.
    fn first<'a>(&self, nodes: impl Iterator<Item = &'a u64>) -> Option<u64> {
        let turn = |node: &u64| self.turns.get(node).copied().unwrap_or_default();
        nodes.copied().min_by_key(|node| (turn(node), *node))
    }
}

/// What comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Everything is as it should be, or something is under way.
    Rest,
    /// A node begins to get everything that is claimed.
    Learner(u64),
    /// openraft sends it the log.
    AddLearner(u64),
    /// Does it have everything?
    Confirm(u64),
    /// It counts from now on, and this one (0: nobody) will not any more.
    Admit {
        node: u64,
        retire: u64,
        confirmed: u64,
    },
    /// One of these leads from now on.
    HandOver(BTreeSet<u64>),
    /// openraft's voters become these.
    ChangeVoters(BTreeSet<u64>),
    /// The change is over.
    Retired(u64),
    /// It is not to be a member any more.
    Cancel(u64),
    /// openraft forgets a learner.
    RemoveLearner(u64),
}

/// The next step of a group that this node leads.
pub(crate) fn next(sight: &Sight) -> Step {
    let with = |roles: &[MemberRole]| -> BTreeSet<u64> {
        let has = |member: &&row::Member| roles.iter().any(|role| *role as i32 == member.role);
        let members = sight.members.iter();
        members.filter(has).map(|member| member.node).collect()
    };
    use MemberRole::{Admitted, Learner, Member, Retiring};
    let (before, after) = (with(&[Member, Retiring]), with(&[Member, Admitted]));
    let (coming, leaving, learners) = (with(&[Admitted]), with(&[Retiring]), with(&[Learner]));
    if before.is_empty() {
        // The group is not formed yet.
        return Step::Rest;
    }
    if coming.is_empty() && leaving.is_empty() {
        let settled =
            sight.voters == [after.clone()] || crate::planted!("openraft-before-the-state");
        return match settled {
            true => begin(sight, &after, &learners),
            false => Step::ChangeVoters(after),
        };
    }
    if sight.voters == [before.clone()] && before != after {
        return go_on(sight, &before, &after, &coming, &leaving, &learners);
    }
    if sight.voters != [after.clone()] {
        return Step::ChangeVoters(after);
    }
    match sight.is_agreed {
        true => Step::Retired(leaving.first().copied().unwrap_or(0)),
        false => Step::Rest,
    }
}

/// No change is under way in the state.
fn begin(sight: &Sight, members: &BTreeSet<u64>, learners: &BTreeSet<u64>) -> Step {
    let Some(wanted) = &sight.wanted else {
        return Step::Rest;
    };
    if let Some(unwanted) = learners.difference(wanted).next() {
        return Step::Cancel(*unwanted);
    }
    if let Some(unknown) = sight.learners.difference(learners).next() {
        return Step::RemoveLearner(*unknown);
    }
    let known: BTreeSet<u64> = members.union(learners).copied().collect();
    if let Some(missing) = wanted.difference(&known).next() {
        return Step::Learner(*missing);
    }
    let leaving = members.difference(wanted).next().copied();
    // More come than leave: all of them, or nobody.
    let all = wanted.len() > members.len();
    if crate::planted!("openraft-before-the-state") && sight.voters != [wanted.clone()] {
        return Step::ChangeVoters(wanted.clone());
    }
    admit(sight, learners, all, leaving.unwrap_or(0))
}

/// Somebody was admitted, and openraft's membership is still the one before.
fn go_on(
    sight: &Sight,
    before: &BTreeSet<u64>,
    after: &BTreeSet<u64>,
    coming: &BTreeSet<u64>,
    leaving: &BTreeSet<u64>,
    learners: &BTreeSet<u64>,
) -> Step {
    if let Some(wanted) = &sight.wanted {
        if let Some(unwanted) = coming.difference(wanted).next() {
            return Step::Cancel(*unwanted);
        }
        if let (Some(coming), false) = (coming.first(), leaving.is_disjoint(wanted)) {
            // Who was to leave is to stay after all, and nothing has happened at openraft: from the beginning.
            return Step::Cancel(*coming);
        }
        if after.len() < wanted.len() {
            // Not at two: the others first.
            let known: BTreeSet<u64> = after.union(learners).copied().collect();
            if let Some(unwanted) = learners.difference(wanted).next() {
                return Step::Cancel(*unwanted);
            }
            if let Some(missing) = wanted.difference(&known).next() {
                return Step::Learner(*missing);
            }
            return admit(sight, learners, true, 0);
        }
    }
    if let Some(unheard) = coming.difference(&sight.learners).next() {
        return Step::AddLearner(*unheard);
    }
    let staying: BTreeSet<u64> = before.intersection(after).copied().collect();
    if leaving.contains(&sight.this) && !staying.is_empty() {
        return Step::HandOver(staying);
    }
    Step::ChangeVoters(after.clone())
}

/// The next of these learners that may be admitted, or what it takes that one may. `all`: none before all of them may.
fn admit(sight: &Sight, learners: &BTreeSet<u64>, all: bool, retire: u64) -> Step {
    let (ready, unready): (BTreeSet<u64>, BTreeSet<u64>) = learners
        .iter()
        .partition(|node| sight.learners.contains(node) && sight.confirmed.contains_key(node));
    match (sight.first(ready.iter()), sight.first(unready.iter())) {
        (Some(node), unready) if unready.is_none() || !all => Step::Admit {
            node,
            retire,
            confirmed: sight.confirmed.get(&node).copied().unwrap_or_default(),
        },
        (_, Some(unready)) => match sight.learners.contains(&unready) {
            true => Step::Confirm(unready),
            false => Step::AddLearner(unready),
        },
        _ => Step::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group with its state and its openraft, driven step by step.
    #[derive(Clone)]
    struct Driven {
        sight: Sight,
        index: u64,
    }

    fn set(nodes: &[u64]) -> BTreeSet<u64> {
        nodes.iter().copied().collect()
    }

    impl Driven {
        fn group(members: &[u64], wanted: &[u64]) -> Driven {
            let member = |node: &u64| row::Member {
                node: *node,
                role: MemberRole::Member as i32,
                since_index: 1,
            };
            Driven {
                sight: Sight {
                    this: members[0],
                    members: members.iter().map(member).collect(),
                    voters: vec![set(members)],
                    learners: BTreeSet::new(),
                    is_agreed: true,
                    wanted: Some(set(wanted)),
                    confirmed: BTreeMap::new(),
                    turns: BTreeMap::new(),
                },
                index: 10,
            }
        }

        fn role(&mut self, node: u64) -> Option<&mut row::Member> {
            let members = &mut self.sight.members;
            members.iter_mut().find(|member| member.node == node)
        }

        /// Does a step as the state and openraft do. False: it rests.
        fn step(&mut self) -> bool {
            self.index += 1;
            let step = next(&self.sight);
            match step {
                Step::Rest => return false,
                Step::Learner(node) => {
                    self.sight.members.push(row::Member {
                        node,
                        role: MemberRole::Learner as i32,
                        since_index: self.index,
                    });
                    self.sight.members.sort_by_key(|member| member.node);
                }
                Step::AddLearner(node) => _ = self.sight.learners.insert(node),
                Step::Confirm(node) => {
                    assert!(
                        self.sight.learners.contains(&node),
                        "nobody sends it anything"
                    );
                    self.sight.confirmed.insert(node, self.index);
                }
                Step::Admit { node, retire, .. } => {
                    let member = self.role(node).expect("a learner");
                    assert_eq!(member.role, MemberRole::Learner as i32);
                    member.role = MemberRole::Admitted as i32;
                    if retire != 0 {
                        let leaving = self.role(retire).expect("a member");
                        assert_eq!(leaving.role, MemberRole::Member as i32);
                        leaving.role = MemberRole::Retiring as i32;
                    }
                    self.sight.confirmed.remove(&node);
                }
                Step::HandOver(to) => {
                    assert!(!to.contains(&self.sight.this));
                    self.sight.this = *to.first().expect("somebody");
                }
                Step::ChangeVoters(to) => {
                    assert_ne!(to.len(), 2, "it rests at two");
                    match self.sight.voters.len() {
                        1 => self.sight.voters.push(to),
                        _ => self.sight.voters = vec![to],
                    }
                    let voters: BTreeSet<u64> =
                        self.sight.voters.iter().flatten().copied().collect();
                    self.sight.learners.retain(|node| !voters.contains(node));
                }
                Step::Retired(_) => {
                    let members = &mut self.sight.members;
                    members.retain(|member| member.role != MemberRole::Retiring as i32);
                    for member in members {
                        if member.role == MemberRole::Admitted as i32 {
                            member.role = MemberRole::Member as i32;
                        }
                    }
                }
                Step::Cancel(node) => {
                    let members = &mut self.sight.members;
                    members.retain(|member| member.node != node);
                    let admitted =
                        |member: &row::Member| member.role == MemberRole::Admitted as i32;
                    if !members.iter().any(admitted) {
                        for member in members {
                            if member.role == MemberRole::Retiring as i32 {
                                member.role = MemberRole::Member as i32;
                            }
                        }
                    }
                    self.sight.confirmed.remove(&node);
                }
                Step::RemoveLearner(node) => _ = self.sight.learners.remove(&node),
            }
            true
        }

        fn rest(&mut self) {
            for _ in 0..100 {
                if !self.step() {
                    return;
                }
            }
            panic!("it never rests: {:?}", self.sight);
        }

        fn assert_is(&self, nodes: &[u64]) {
            assert_eq!(self.sight.voters, [set(nodes)]);
            assert!(self.sight.learners.is_empty(), "{:?}", self.sight);
            let members = self.sight.members.iter();
            let members: Vec<(u64, i32)> =
                members.map(|member| (member.node, member.role)).collect();
            let expected: Vec<(u64, i32)> = nodes.iter().map(|node| (*node, 0)).collect();
            assert_eq!(members, expected);
        }
    }

    const CHANGES: [(&[u64], &[u64]); 6] = [
        (&[1], &[1, 2, 3]),
        (&[1], &[2, 3, 4]),
        (&[1, 2, 3], &[1, 2, 4]),
        (&[1, 2, 3], &[2, 3, 4]),
        (&[1, 2, 3], &[4, 5, 6]),
        (&[1, 2, 3, 4, 5], &[1, 2, 3, 6, 7]),
    ];

    #[test]
    fn a_group_gets_the_members_that_are_wanted() {
        for (from, to) in CHANGES {
            let mut group = Driven::group(from, to);
            group.rest();
            group.assert_is(to);
        }
    }

    /// A leader dies after each of the steps; the next one knows nothing of what was confirmed.
    #[test]
    fn a_new_leader_goes_on_where_the_old_one_stopped() {
        for (from, to) in CHANGES {
            for dies_after in 0..40 {
                let mut group = Driven::group(from, to);
                for _ in 0..dies_after {
                    group.step();
                }
                group.sight.confirmed.clear();
                let voters: BTreeSet<u64> = group.sight.voters.iter().flatten().copied().collect();
                group.sight.this = *voters.last().expect("voters");
                group.rest();
                group.assert_is(to);
            }
        }
    }

    /// Whatever becomes of 4 - dead, or never ready, or refused by the state - and whatever fails once with 5: 5 takes a place.
    #[test]
    fn a_learner_that_does_not_get_ready_holds_up_no_other() {
        for dies_after in 0..10 {
            for fails in 0..6 {
                let mut group = Driven::group(&[1, 2, 3], &[1, 4, 5]);
                for _ in 0..dies_after {
                    group.step();
                }
                group.sight.confirmed.remove(&4);
                let mut left = fails;
                for turn in 1..60 {
                    let step = next(&group.sight);
                    let of_4 = matches!(step, Step::AddLearner(4) | Step::Confirm(4));
                    let of_5 = matches!(step, Step::AddLearner(5) | Step::Confirm(5));
                    if let Step::AddLearner(node) | Step::Confirm(node) = step {
                        group.sight.turns.insert(node, turn);
                    }
                    if of_5 && left > 0 {
                        left -= 1;
                    } else if !of_4 {
                        group.step();
                    }
                }
                let is_member = |member: &row::Member| {
                    member.node == 5 && member.role == MemberRole::Member as i32
                };
                let members = &group.sight.members;
                assert!(members.iter().any(is_member), "{:?}", group.sight);
                group.rest();
                group.assert_is(&[1, 4, 5]);
            }
        }
    }

    /// One that the state does not admit, again and again, is asked again after the others.
    #[test]
    fn a_learner_that_is_not_admitted_holds_up_no_other() {
        let mut group = Driven::group(&[1, 2, 3], &[1, 4, 5]);
        for turn in 1..60 {
            let step = next(&group.sight);
            match step {
                Step::AddLearner(node) | Step::Confirm(node) | Step::Admit { node, .. } => {
                    group.sight.turns.insert(node, turn);
                }
                _ => {}
            }
            match step {
                Step::Admit { node: 4, .. } => _ = group.sight.confirmed.remove(&4),
                _ => _ = group.step(),
            }
        }
        let is_member =
            |member: &row::Member| member.node == 5 && member.role == MemberRole::Member as i32;
        let members = &group.sight.members;
        assert!(members.iter().any(is_member), "{:?}", group.sight);
    }

    /// A drain is taken back when others have been admitted in place of the node.
    #[test]
    fn who_was_to_leave_may_stay() {
        for after in 0..20 {
            let mut group = Driven::group(&[1], &[2, 3, 4]);
            for _ in 0..after {
                group.step();
            }
            if group.sight.voters == [set(&[1])] {
                group.sight.wanted = Some(set(&[1, 3, 4]));
                group.rest();
                group.assert_is(&[1, 3, 4]);
            }
        }
    }

    /// What is wanted changes in the middle, to whatever: nobody is left half way.
    #[test]
    fn a_change_that_is_not_wanted_any_more_is_undone() {
        for (from, to) in CHANGES {
            for after in 0..40 {
                let mut group = Driven::group(from, to);
                for _ in 0..after {
                    group.step();
                }
                let members = group.sight.members.clone();
                let settled = group.sight.voters.len() == 1;
                let three: BTreeSet<u64> = match settled && group.sight.voters == [set(from)] {
                    // Nothing has happened at openraft yet: back.
                    true => set(from),
                    false => set(&[3, 8, 9]),
                };
                group.sight.wanted = Some(three.clone());
                group.rest();
                let nodes: Vec<u64> = three.into_iter().collect();
                if nodes.len() >= group.sight.voters[0].len() {
                    group.assert_is(&nodes);
                }
                drop(members);
            }
        }
    }

    /// The learner that everybody waits for is gone, and so is its place in openraft.
    #[test]
    fn a_learner_that_is_gone_is_cancelled() {
        let mut group = Driven::group(&[1, 2, 3], &[1, 2, 4]);
        group.step();
        group.step();
        assert_eq!(next(&group.sight), Step::Confirm(4));
        group.sight.wanted = Some(set(&[1, 2, 3]));
        assert_eq!(next(&group.sight), Step::Cancel(4));
        group.rest();
        group.assert_is(&[1, 2, 3]);
    }

    /// Without the directory a change that was begun at openraft is still ended: two memberships need two majorities.
    #[test]
    fn a_joint_membership_is_left_without_asking_anybody() {
        let mut group = Driven::group(&[1, 2, 3], &[2, 3, 4]);
        while group.sight.voters.len() == 1 {
            assert!(group.step());
        }
        group.sight.wanted = None;
        group.rest();
        group.assert_is(&[2, 3, 4]);
    }

    /// A leader that leaves hands over first, if anybody stays.
    #[test]
    fn a_leader_does_not_retire_itself() {
        let mut group = Driven::group(&[1, 2, 3], &[2, 3, 4]);
        while !matches!(next(&group.sight), Step::HandOver(_)) {
            assert!(group.step(), "it never handed over");
        }
        assert_eq!(next(&group.sight), Step::HandOver(set(&[2, 3])));
    }
}
