//! Chunk members: what a claim counts, and how one member replaces another.

use minikv_proto::{entry as wire, row};

use super::world::*;
use crate::ids::{BucketId, StageId};
use crate::kv::Versioning;
use crate::state::answer::{Answer, TryAgain};
use crate::state::entry::Body;
use crate::state::read;

/// A node, and the life in which it says something.
type InLife = (u64, u64);

/// As the members and learners that these nodes are now; 0: it is none.
fn as_they_are(w: &World, nodes: &[u64]) -> Vec<InLife> {
    let in_life = |node: &u64| (*node, read::life(&w.rows, *node).unwrap());
    nodes.iter().map(in_life).collect()
}

fn claim(w: &mut World, b: BucketId, key: &str, nodes: &[u64]) -> (StageId, Answer) {
    let stage = w.open_stage(b, key, 10, None);
    let holders = as_they_are(w, nodes);
    (stage, claim_of(w, b, key, stage, &holders))
}

fn claim_of(w: &mut World, b: BucketId, key: &str, stage: StageId, holders: &[InLife]) -> Answer {
    let Body::Put(mut put) = w.claim_body(b, key, stage, "e", 10) else {
        panic!()
    };
    let Some(wire::new_content::Kind::Staged(staged)) = &mut put.content.as_mut().unwrap().kind
    else {
        panic!()
    };
    let copies = &mut staged.copies[0];
    (copies.nodes, copies.lives) = holders.iter().copied().unzip();
    w.answer(Body::Put(put))
}

fn learner(w: &mut World, node: u64) -> u64 {
    w.done(Body::Learner(wire::Learner { node }));
    w.index
}

fn admit(w: &mut World, node: u64, retire: u64, confirmed_index: u64) -> Answer {
    w.answer(Body::Admit(wire::Admit {
        node,
        retire,
        confirmed_index,
    }))
}

fn short_items(w: &World) -> Vec<(u64, Vec<u64>)> {
    read::short_list(&w.rows)
        .map(|item| item.unwrap())
        .map(|(id, _, short)| (id.index, short.missing))
        .collect()
}

/// What a member says once its copy is durable.
fn has_its_copy(w: &mut World, stage: StageId, node: u64) {
    let life = read::life(&w.rows, node).unwrap();
    said_by_a_member(w, stage, node, life);
}

fn said_by_a_member(w: &mut World, stage: StageId, node: u64, since_index: u64) {
    w.done(Body::ShortDone(wire::ShortDone {
        stage: Some(stage.to_row()),
        first: 0,
        node,
        gone: false,
        since_index,
    }));
}

/// One node to three: two learners, both admitted, one change of openraft's membership.
fn three_members(w: &mut World) {
    for node in [2, 3] {
        let entered = learner(w, node);
        assert_eq!(
            admit(w, node, 0, entered),
            Answer::Done(crate::state::answer::Done::Nothing)
        );
    }
    w.done(Body::Retired(wire::Retired { node: 0, term: 0 }));
    let roles: Vec<(u64, i32)> = read::members(&w.rows)
        .unwrap()
        .iter()
        .map(|m| (m.node, m.role))
        .collect();
    assert_eq!(roles, [(1, 0), (2, 0), (3, 0)]);
}

#[test]
fn a_claim_needs_a_majority_and_the_rest_goes_on_the_short_list() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    three_members(&mut w);
    let again = Answer::TryAgain(TryAgain::StalePlacement);
    assert_eq!(claim(&mut w, b, "k", &[1]).1, again);
    assert_eq!(
        claim(&mut w, b, "k", &[1, 7, 8]).1,
        again,
        "strangers do not count"
    );
    let (stage, done) = claim(&mut w, b, "k", &[1, 3]);
    assert!(matches!(done, Answer::Done(_)));
    assert_eq!(short_items(&w), [(stage.index, vec![2])]);
    has_its_copy(&mut w, stage, 2);
    assert_eq!(short_items(&w), []);
    // An item lives until its copy is there, or nothing names the chunks.
    let (stage, _) = claim(&mut w, b, "k", &[1, 2]);
    assert_eq!(short_items(&w), [(stage.index, vec![3])]);
    w.delete(b, "k");
    assert_eq!(short_items(&w), []);
    w.check();
}

#[test]
fn a_replacement_counts_only_after_it_has_everything() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    three_members(&mut w);
    let entered = learner(&mut w, 4);
    // A claim that the learner did not acknowledge: it lacks that one.
    let (stage, _) = claim(&mut w, b, "k", &[1, 2, 3]);
    assert_eq!(short_items(&w), [(stage.index, vec![4])]);
    let not_yet = Answer::TryAgain(TryAgain::NotYet);
    assert_eq!(
        admit(&mut w, 4, 1, entered),
        not_yet,
        "the short list names it"
    );
    has_its_copy(&mut w, stage, 4);
    assert_eq!(
        admit(&mut w, 4, 1, entered - 1),
        not_yet,
        "it confirmed too little"
    );
    // Without 1, this one would be on 3 alone and on 4: still two of {2, 3, 4}.
    let (thin, _) = claim(&mut w, b, "thin", &[1, 3]);
    assert_eq!(short_items(&w), [(thin.index, vec![2, 4])]);
    assert_eq!(admit(&mut w, 4, 1, entered), not_yet);
    has_its_copy(&mut w, thin, 4);
    assert!(matches!(admit(&mut w, 4, 1, entered), Answer::Done(_)));
    // Both memberships count now: {1, 2, 3} and {2, 3, 4}.
    assert_eq!(
        claim(&mut w, b, "x", &[1, 2]).1,
        Answer::TryAgain(TryAgain::StalePlacement)
    );
    let (late, claimed) = claim(&mut w, b, "y", &[2, 3]);
    assert!(matches!(claimed, Answer::Done(_)));
    let mut cancelled = w.clone();
    w.done(Body::Retired(wire::Retired { node: 1, term: 0 }));
    let nodes = |w: &World| {
        read::members(&w.rows)
            .unwrap()
            .iter()
            .map(|m| m.node)
            .collect::<Vec<_>>()
    };
    assert_eq!(nodes(&w), [2, 3, 4]);
    assert_eq!(
        claim(&mut w, b, "z", &[1, 2]).1,
        Answer::TryAgain(TryAgain::StalePlacement),
        "1 is no member"
    );
    cancelled.done(Body::CancelAdmit(wire::CancelAdmit { node: 4, term: 0 }));
    assert_eq!(nodes(&cancelled), [1, 2, 3]);
    let lacks = |(stage, missing): &(u64, Vec<u64>)| *stage == late.index && missing.contains(&1);
    assert!(
        short_items(&cancelled).iter().any(lacks),
        "1 stays, and lacks what was claimed while it was to leave"
    );
    let is_member = |m: &row::Member| m.role == row::MemberRole::Member as i32;
    assert!(
        read::members(&cancelled.rows)
            .unwrap()
            .iter()
            .all(is_member)
    );
    assert!(matches!(
        claim(&mut cancelled, b, "w", &[1, 2]).1,
        Answer::Done(_)
    ));
    w.check();
}

/// A leader that was cut off for long still has a proposal on its way: another leader has changed openraft's membership
/// since, and the members of the state must not go back.
#[test]
fn what_a_leader_saw_counts_in_its_term_only() {
    let mut w = World::new();
    three_members(&mut w);
    let entered = learner(&mut w, 4);
    assert!(matches!(admit(&mut w, 4, 1, entered), Answer::Done(_)));
    let not_yet = Answer::TryAgain(TryAgain::NotYet);
    // Entries of this world are of term 7.
    let (this, other) = (7, 8);
    let cancel = |term| Body::CancelAdmit(wire::CancelAdmit { node: 4, term });
    let retired = |term| Body::Retired(wire::Retired { node: 1, term });
    assert_eq!(w.answer(cancel(other)), not_yet);
    assert_eq!(w.answer(retired(other)), not_yet);
    assert!(matches!(w.answer(retired(this)), Answer::Done(_)));
}

/// Its copies count for nothing, and nobody waits for those that it lacks.
#[test]
fn the_short_list_forgets_a_node_that_left() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    three_members(&mut w);
    let entered = learner(&mut w, 4);
    let (stage, _) = claim(&mut w, b, "k", &[2, 3, 4]);
    assert!(matches!(admit(&mut w, 4, 1, entered), Answer::Done(_)));
    let gone = |node| {
        Body::ShortDone(wire::ShortDone {
            stage: Some(stage.to_row()),
            first: 0,
            node,
            gone: true,
            since_index: 0,
        })
    };
    w.done(Body::Retired(wire::Retired { node: 1, term: 0 }));
    assert_eq!(short_items(&w), [(stage.index, vec![1])]);
    w.done(gone(1));
    assert_eq!(short_items(&w), []);
    // Of a member it says nothing.
    let (other, _) = claim(&mut w, b, "x", &[2, 3]);
    assert_eq!(short_items(&w), [(other.index, vec![4])]);
    w.done(Body::ShortDone(wire::ShortDone {
        stage: Some(other.to_row()),
        first: 0,
        node: 4,
        gone: true,
        since_index: 0,
    }));
    assert_eq!(short_items(&w), [(other.index, vec![4])]);
    w.check();
}

/// A member is lost for good while a copy of its is missing: the others are replaced all the same, one after the other.
#[test]
fn a_copy_that_a_lost_member_lacks_does_not_stop_changes() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    three_members(&mut w);
    let (stage, _) = claim(&mut w, b, "k", &[1, 3]);
    assert_eq!(short_items(&w), [(stage.index, vec![2])]);
    for (node, retire) in [(4, 3), (5, 1)] {
        let entered = learner(&mut w, node);
        assert!(matches!(
            admit(&mut w, node, retire, entered),
            Answer::Done(_)
        ));
        w.done(Body::Retired(wire::Retired {
            node: retire,
            term: 0,
        }));
    }
    w.check();
}

/// The longer a member is lost, the more it misses; only its replacement takes its name off the list.
#[test]
fn a_member_that_misses_thousands_of_copies_can_be_replaced() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    three_members(&mut w);
    for n in 0..2_100 {
        claim(&mut w, b, &format!("k{n}"), &[1, 2]);
    }
    assert_eq!(short_items(&w).len(), 2_100);
    let entered = learner(&mut w, 4);
    let admitted = admit(&mut w, 4, 3, entered);
    assert!(matches!(admitted, Answer::Done(_)), "{admitted:?}");
    w.check();
}

/// No node has everything, and still two of the new three have each item.
#[test]
fn members_that_miss_different_items_do_not_stop_a_change() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    three_members(&mut w);
    claim(&mut w, b, "k1", &[1, 3]);
    claim(&mut w, b, "k2", &[2, 3]);
    let entered = learner(&mut w, 4);
    let admitted = admit(&mut w, 4, 3, entered);
    assert!(matches!(admitted, Answer::Done(_)), "{admitted:?}");
    w.check();
}

/// A body may arrive for hours while its group grows: what the new members acknowledged, as the members that they are, counts.
#[test]
fn an_upload_that_began_before_its_group_grew_is_claimed_after_it() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let early = [(); 3].map(|()| w.open_stage(b, "k", 10, None));
    let [whole, thin, alone] = early;
    three_members(&mut w);
    let all = as_they_are(&w, &[1, 2, 3]);
    let stale = Answer::TryAgain(TryAgain::StalePlacement);
    assert_eq!(claim_of(&mut w, b, "k", alone, &all[..1]), stale);
    assert!(matches!(
        claim_of(&mut w, b, "k", whole, &all),
        Answer::Done(_)
    ));
    assert_eq!(short_items(&w), []);
    assert!(matches!(
        claim_of(&mut w, b, "k", thin, &all[..2]),
        Answer::Done(_)
    ));
    assert_eq!(short_items(&w), [(thin.index, vec![3])]);
    w.check();
}

/// Copies of which nobody said when they were acknowledged are no copies.
#[test]
fn who_does_not_say_in_which_life_counts_for_nothing() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    three_members(&mut w);
    let stage = w.open_stage(b, "k", 10, None);
    let stale = Answer::TryAgain(TryAgain::StalePlacement);
    let unknown = [(1, 0), (2, 0), (3, 0)];
    assert_eq!(claim_of(&mut w, b, "k", stage, &unknown), stale);
    let Body::Put(mut put) = w.claim_body(b, "k", stage, "e", 10) else {
        panic!()
    };
    let Some(wire::new_content::Kind::Staged(staged)) = &mut put.content.as_mut().unwrap().kind
    else {
        panic!()
    };
    (staged.copies[0].nodes, staged.copies[0].lives) = (vec![1, 2, 3], vec![]);
    assert_eq!(w.answer(Body::Put(put)), stale);
    w.check();
}

/// A node that left removed everything, and came again: what it acknowledged before, and what it said and that is late, is of
/// bytes that it has no more (`simulate --faults all,membership`, seed 34). What it acknowledges anew counts.
#[test]
fn what_a_node_acknowledged_before_it_left_does_not_count_when_it_is_back() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    three_members(&mut w);
    let (said, _) = claim(&mut w, b, "said", &[1, 2]);
    let (uploaded, also) = (
        w.open_stage(b, "k", 10, None),
        w.open_stage(b, "l", 10, None),
    );
    let before = as_they_are(&w, &[1, 2, 3]);
    let replace = |w: &mut World, node, retire| {
        let entered = learner(w, node);
        for (stage, _) in short_items(w) {
            assert_eq!(stage, said.index);
            has_its_copy(w, said, node);
        }
        assert!(matches!(admit(w, node, retire, entered), Answer::Done(_)));
        w.done(Body::Retired(wire::Retired {
            node: retire,
            term: 0,
        }));
    };
    replace(&mut w, 4, 3);
    learner(&mut w, 3);
    // 3 acknowledged the upload, and so did 1 and 2; 4 came while it was under way.
    assert!(matches!(
        claim_of(&mut w, b, "k", uploaded, &before),
        Answer::Done(_)
    ));
    assert!(short_items(&w).contains(&(uploaded.index, vec![3, 4])));
    assert_eq!(
        claim_of(&mut w, b, "l", also, &[before[0], before[2]]),
        Answer::TryAgain(TryAgain::StalePlacement),
        "one copy is left of what two acknowledged"
    );
    said_by_a_member(&mut w, uploaded, 3, before[2].1);
    assert!(short_items(&w).contains(&(uploaded.index, vec![3, 4])));
    has_its_copy(&mut w, uploaded, 3);
    assert!(short_items(&w).contains(&(uploaded.index, vec![4])));
    // It gets the other upload once more, and is a member again.
    has_its_copy(&mut w, uploaded, 4);
    let entered = read::life(&w.rows, 3).unwrap();
    has_its_copy(&mut w, said, 3);
    assert!(matches!(admit(&mut w, 3, 4, entered), Answer::Done(_)));
    w.done(Body::Retired(wire::Retired { node: 4, term: 0 }));
    let again = as_they_are(&w, &[1, 3]);
    assert!(matches!(
        claim_of(&mut w, b, "l", also, &again),
        Answer::Done(_)
    ));
    w.check();
}
