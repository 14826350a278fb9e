//! Nodes come, are replaced, drained and removed, while everything goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use minikv_core::env::sim::Sim;
use minikv_core::env::{clock, task};
use minikv_core::node::{ClusterError, MemberRole, Node};
use minikv_tests::cluster::clients::{content, put_bytes};

use crate::world::{SOON, VALUES, World, key_of, until};

/// A single node gets two others, and every object is on all three: chunks that were written before, payloads from the log
/// and from a checkpoint.
#[test]
fn one_node_grows_to_three_and_nothing_is_lost() {
    Sim::new(1).run(async {
        let world = World::start(1, 1).await;
        world.fill(1).await;
        world.nodes.join();
        world.until_active(2).await;
        clock::sleep(Duration::from_secs(5)).await;
        assert!(world.all_lie_on(&[1]), "it does not rest at two");
        world.nodes.join();
        world.until_all_lie_on(&[1, 2, 3]).await;
        world.all_is_there(&[1, 2, 3], VALUES).await;
        // Any one of them may be lost now.
        world.nodes.crash(1, None);
        until("two of them agree without the first", || {
            (0..3).all(|group| world.nodes.leader(group).is_some_and(|leader| leader != 1))
        })
        .await;
        for value in VALUES {
            assert_eq!(world.get(2, value).await.unwrap(), content(value));
        }
        world.put(3, 4_100).await.unwrap();
    });
}

/// A body arrives while its group grows: the new members get what came before them, and it is an object in the end. Also if a
/// member leaves and comes back meanwhile, and so has removed what it took, and another one is down.
#[test]
fn an_upload_goes_on_while_members_change() {
    Sim::new(10).run(async {
        let world = Arc::new(World::start(10, 1).await);
        let (grown, back) = (world.slow_upload(4_000), world.slow_upload(4_005));
        grown.until_begun().await;
        back.until_begun().await;
        for node in [2, 3] {
            world.nodes.join();
            world.until_active(node).await;
        }
        world.until_all_lie_on(&[1, 2, 3]).await;
        grown.end().await.unwrap();
        let left = world.slow_upload(4_010);
        left.until_begun().await;
        world.nodes.join();
        world.until_active(4).await;
        world.drain(1, 3).await.unwrap();
        world.until_all_lie_on(&[1, 2, 4]).await;
        until("its copies are gone", || world.node(3).members().is_empty()).await;
        let swap = |running: Arc<Node>| async move {
            running.undrain(3).await?;
            running.drain(4).await
        };
        world.change(1, swap).await.unwrap();
        world.until_all_lie_on(&[1, 2, 3]).await;
        world.nodes.crash(2, None);
        until("the others agree without it", || {
            (0..3).all(|group| world.nodes.leader(group).is_some_and(|leader| leader != 2))
        })
        .await;
        back.end().await.unwrap();
        left.end().await.unwrap();
        world.nodes.start(2);
        world.until_all_lie_on(&[1, 2, 3]).await;
        world.all_is_there(&[1, 2, 3], [4_000, 4_005, 4_010]).await;
    });
}

/// Node 4 takes the place of node 3 while clients write; what was acknowledged is on the new three.
#[test]
fn a_member_is_replaced_while_clients_write() {
    for seed in [2, 3] {
        Sim::new(seed).run(async move {
            let world = Arc::new(World::start(seed, 3).await);
            world.fill(1).await;
            world.nodes.join();
            world.until_active(4).await;
            let (stop, next) = (
                Arc::new(AtomicBool::new(false)),
                Arc::new(AtomicU64::new(5_000)),
            );
            let writers: Vec<_> = (1..=2)
                .map(|node| {
                    let (world, stop, next) = (world.clone(), stop.clone(), next.clone());
                    task::spawn(async move {
                        let mut written = Vec::new();
                        while !stop.load(Ordering::Relaxed) {
                            let value = next.fetch_add(1, Ordering::Relaxed);
                            if world.put(node, value).await.is_ok() {
                                written.push(value);
                            }
                            clock::sleep(Duration::from_millis(30)).await;
                        }
                        written
                    })
                })
                .collect();
            world.drain(1, 3).await.unwrap();
            world.until_all_lie_on(&[1, 2, 4]).await;
            stop.store(true, Ordering::Relaxed);
            let mut written: BTreeSet<u64> = VALUES.collect();
            for writer in writers {
                let some = writer.await.unwrap();
                assert!(
                    some.len() > 20,
                    "clients were held up: {} writes",
                    some.len()
                );
                written.extend(some);
            }
            world.all_is_there(&[1, 2, 4], written).await;
        });
    }
}

/// What was drained holds nothing: it can be removed, and its data is gone. Before that it cannot.
#[test]
fn a_drained_node_can_be_removed() {
    Sim::new(4).run(async {
        let world = World::start(4, 3).await;
        world.fill(1).await;
        let too_few = world.drain(1, 3).await.unwrap_err();
        assert!(
            matches!(too_few, ClusterError::TooFew { left: 2, needed: 3 }),
            "{too_few}"
        );
        world.nodes.join();
        world.until_active(4).await;
        let holds = world.remove(1, 2, false).await.unwrap_err();
        assert!(
            matches!(holds, ClusterError::StillHolds { node: 2, .. }),
            "{holds}"
        );
        world.drain(1, 2).await.unwrap();
        world.until_all_lie_on(&[1, 3, 4]).await;
        until("its copies are gone", || world.node(2).members().is_empty()).await;
        // Who still reads there has a moment to end.
        until("nothing is left behind", || {
            world.node(2).loose_bytes(&[]).unwrap().is_empty()
        })
        .await;
        world.remove(1, 2, false).await.unwrap();
        until("it heard of it", || world.nodes.is_refused(2)).await;
        world.all_is_there(&[1, 3, 4], VALUES).await;
        let again = world.drain(1, 2).await.unwrap_err();
        assert!(
            matches!(again, ClusterError::Gone(2) | ClusterError::TooFew { .. }),
            "{again}"
        );
    });
}

/// A node that was lost and removed by force comes back with all it had: nobody hears it, it learns why, and takes no part.
/// Nor does an empty disk under its name.
#[test]
fn a_removed_node_that_comes_back_takes_no_part() {
    Sim::new(5).run(async {
        let world = World::start(5, 3).await;
        world.fill(1).await;
        world.nodes.crash(3, None);
        world.nodes.join();
        world.until_active(4).await;
        world.remove(1, 3, true).await.unwrap();
        world.until_all_lie_on(&[1, 2, 4]).await;
        world.nodes.start(3);
        until("it hears of its removal", || world.nodes.is_refused(3)).await;
        let why = world.node(3).refused().unwrap();
        assert!(why.contains("was removed"), "{why}");
        let (kv, scope) = world.nodes.door(3).unwrap();
        let bucket = world.bucket.clone();
        let put = scope
            .enter(async move { put_bytes(&kv, &bucket, key_of(1), content(4_001), "1").await });
        assert!(put.await.unwrap().is_err());
        world.all_is_there(&[1, 2, 4], VALUES).await;
        world.nodes.crash(3, None);
        world.nodes.wipe(3);
        world.nodes.start(3);
        clock::sleep(Duration::from_secs(20)).await;
        assert!(world.all_lie_on(&[1, 2, 4]));
        world.all_is_there(&[1, 2, 4], VALUES).await;
    });
}

/// The node that was to come dies before it has everything. It is removed, the group is as before, and another one comes.
#[test]
fn a_learner_that_dies_in_the_middle_is_cancelled() {
    Sim::new(6).run(async {
        let world = World::start(6, 3).await;
        world.fill(1).await;
        world.nodes.join();
        world.until_active(4).await;
        // It hears, and cannot be heard: it never says that it has everything.
        world.drain(1, 3).await.unwrap();
        let is_learner = |node: u64, role: MemberRole| {
            let members = world.node(1).members();
            members
                .values()
                .any(|members| members.contains(&(node, role)))
        };
        until("it is a learner", || is_learner(4, MemberRole::Learner)).await;
        world.nodes.crash(4, None);
        clock::sleep(Duration::from_secs(10)).await;
        world.put(1, 4_200).await.unwrap();
        world.remove(1, 4, true).await.unwrap();
        let names_4 = || {
            let members = world.node(1).members();
            members.values().flatten().any(|(node, _)| *node == 4)
        };
        // Groups that it had joined for good keep it until another one takes its place.
        world.nodes.join();
        world.until_active(5).await;
        world.until_all_lie_on(&[1, 2, 5]).await;
        assert!(!names_4());
        world.all_is_there(&[1, 2, 5], VALUES.chain([4_200])).await;
    });
}

/// Whichever step a change of members has come to: its leader dies, another one ends it.
#[test]
fn a_change_of_members_survives_its_leader_at_every_step() {
    for seed in 10..18 {
        Sim::new(seed).run(async move {
            let world = World::start(seed, 3).await;
            world.fill(1).await;
            world.nodes.join();
            world.until_active(4).await;
            world.drain(1, 3).await.unwrap();
            // Each seed at other moments.
            let mut seen = BTreeMap::new();
            let deadline = clock::now() + SOON;
            let mut killed = 0;
            while !world.all_lie_on(&[1, 2, 4]) && clock::now() < deadline {
                clock::sleep(Duration::from_millis(3 + seed % 5)).await;
                let group = 1 + (seed % 2) as u16;
                let Some(leader) = world.nodes.leader(group) else {
                    continue;
                };
                let Some(running) = world.nodes.running(leader) else {
                    continue;
                };
                let members = running.members().remove(&group).unwrap_or_default();
                let step = format!("{members:?}");
                let times = seen.entry(step).or_insert(0);
                *times += 1;
                if *times == 1 + (seed - 10) / 2 * 7 && killed < 4 {
                    killed += 1;
                    world.nodes.crash(leader, None);
                    clock::sleep(Duration::from_millis(1_500)).await;
                    world.nodes.start(leader);
                }
            }
            world.until_all_lie_on(&[1, 2, 4]).await;
            assert!(killed > 0, "no leader died");
            world.all_is_there(&[1, 2, 4], VALUES).await;
        });
    }
}

/// A planned stop costs no election timeout: another node leads before this one is gone.
#[test]
fn a_leader_that_is_stopped_hands_over_first() {
    Sim::new(7).run(async {
        let world = World::start(7, 3).await;
        world.fill(1).await;
        let leader = world.nodes.leader(1).unwrap();
        let began = clock::now();
        world
            .change(leader, |running| async move {
                running.shutdown(Duration::from_secs(5)).await;
            })
            .await;
        let took = clock::now() - began;
        let next = world.nodes.leader(1);
        assert!(
            next.is_some_and(|next| next != leader),
            "{next:?} after {took:?}"
        );
        world.nodes.crash(leader, None);
        let other = (1..=3).find(|node| *node != leader).unwrap();
        let asked = clock::now();
        // A small one: chunks wait a moment for the one that is gone.
        world.put(other, 4_301).await.unwrap();
        let waited = clock::now() - asked;
        assert!(waited < Duration::from_millis(300), "waited {waited:?}");
        drop(world.net.clone());
    });
}
