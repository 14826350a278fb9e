//! Who comes back to a group with nothing decides nothing before it has everything again.

use std::time::Duration;

use minikv_core::env::clock;
use minikv_core::env::sim::Sim;

use crate::world::{SOON, VALUES, World, until};

/// Node `old` was cut off since before node `back` was replaced, and still counts on its vote. Node `back` comes back to the
/// group with nothing in its log: the two of them must not lead, because what the others had agreed on is on neither.
#[test]
fn a_member_that_comes_back_empty_does_not_elect_an_old_candidate() {
    Sim::new(8).run(async {
        let world = World::start(8, 3).await;
        world.fill(1).await;
        world.nodes.join();
        world.until_active(4).await;
        // One of four nodes keeps no member of each group now.
        clock::sleep(Duration::from_secs(10)).await;
        until("no change is under way", || world.nodes.is_settled()).await;
        let leader = world.nodes.leader(1).unwrap();
        let members = world.node(leader).members().remove(&1).unwrap();
        let members: Vec<u64> = members.into_iter().map(|(node, _)| node).collect();
        let [back, stays, old] = members[..] else {
            panic!("three members: {members:?}")
        };
        let spare = 10 - back - stays - old;
        let cut = |nodes: [u64; 2], others: [u64; 2]| {
            for (one, other) in nodes
                .into_iter()
                .flat_map(|one| others.map(|other| (one, other)))
            {
                world.net.cut(one, other);
                world.net.cut(other, one);
            }
        };
        cut([old, old], [back, stays]);
        cut([old, old], [spare, spare]);
        clock::sleep(Duration::from_secs(3)).await;
        world.drain(stays, back).await.unwrap();
        let has = || world.node(back).members().contains_key(&1);
        let deadline = clock::now() + 2 * SOON;
        while has() {
            let all = world.all_members();
            assert!(
                clock::now() < deadline,
                "node {back} keeps the group: {all:?}"
            );
            clock::sleep(Duration::from_millis(50)).await;
        }
        world
            .change(stays, move |running| async move {
                running.undrain(back).await.unwrap();
                running.drain(spare).await
            })
            .await
            .unwrap();
        until_soon("it is asked back", has).await;
        // It hears of nothing but the old candidate.
        world.net.mend();
        cut([back, old], [stays, spare]);
        clock::sleep(Duration::from_secs(10)).await;
        for node in [back, old] {
            let copies = world.node(node).copies().into_iter();
            let leads = copies.filter(|copy| copy.leads && copy.group.0 == 1);
            assert_eq!(leads.count(), 0, "node {node} leads");
        }
        world.net.mend();
        world.until_all_lie_on(&members).await;
        world.all_is_there(&members, VALUES).await;
    });
}

/// Its log begins with the membership in which it was alone: with a part of that log it would be a majority of its own.
#[test]
fn a_founder_that_comes_back_empty_does_not_lead_alone() {
    Sim::new(9).run(async {
        let world = World::start(9, 1).await;
        world.fill(1).await;
        for value in 1_000..2_200 {
            world.put(1, value).await.unwrap();
        }
        for node in 2..=4 {
            world.nodes.join();
            world.until_active(node).await;
        }
        clock::sleep(Duration::from_secs(10)).await;
        until("no change is under way", || world.nodes.is_settled()).await;
        world.drain(2, 1).await.unwrap();
        let has = || world.node(1).members().contains_key(&1);
        until("node 1 has no member of group 1", || !has()).await;
        world
            .change(2, |running| async move {
                running.undrain(1).await.unwrap();
                running.drain(4).await
            })
            .await
            .unwrap();
        until_soon("it is asked back", has).await;
        let copy = |node: u64| {
            let mut copies = world.node(node).copies().into_iter();
            copies.find(|copy| copy.group.0 == 1).unwrap()
        };
        until_soon("it has some of the log", || copy(1).applied > 0).await;
        assert!(copy(1).applied < copy(2).applied, "it has all of it");
        for other in 2..=4 {
            world.net.cut(1, other);
            world.net.cut(other, 1);
        }
        clock::sleep(Duration::from_secs(5)).await;
        assert!(!copy(1).leads);
        world.net.mend();
        world.until_all_lie_on(&[1, 2, 3]).await;
        world.all_is_there(&[1, 2, 3], VALUES).await;
        world.all_is_there(&[1, 2, 3], 1_000..2_200).await;
    });
}

/// As `until`, and looks at every moment.
async fn until_soon(what: &str, is_so: impl Fn() -> bool) {
    let deadline = clock::now() + SOON;
    while !is_so() {
        assert!(clock::now() < deadline, "not within {SOON:?}: {what}");
        clock::sleep(Duration::from_micros(200)).await;
    }
}

/// Nodes of a cluster know each other by more than who founded it: when all of those are gone, and every other one is started
/// anew, they find each other again.
#[test]
fn a_cluster_outlives_its_founders() {
    Sim::new(10).run(async {
        let world = World::start(10, 3).await;
        world.fill(1).await;
        for node in 4..=6 {
            world.nodes.join();
            world.until_active(node).await;
        }
        for founder in 1..=3 {
            world.drain(4, founder).await.unwrap();
            let has_none = || world.node(founder).members().is_empty();
            until("it has given its groups away", has_none).await;
            world.remove(4, founder, false).await.unwrap();
            world.nodes.crash(founder, None);
        }
        world.until_all_lie_on(&[4, 5, 6]).await;
        (4..=6).for_each(|node| world.nodes.crash(node, None));
        (4..=6).for_each(|node| world.nodes.start(node));
        until("they run", || {
            (4..=6).all(|node| world.nodes.running(node).is_some())
        })
        .await;
        world.until_all_lie_on(&[4, 5, 6]).await;
        world.all_is_there(&[4, 5, 6], VALUES).await;
    });
}
