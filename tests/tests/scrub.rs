//! Disks that go bad while nobody looks: what rots is found and mended, a full or hanging disk stops nobody but its node, and
//! nothing bad is ever served.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use minikv_core::env::clock;
use minikv_core::env::sim::{Fault, OpKind, Sim, SimDisk};
use minikv_core::kv::KvError;
use minikv_core::node::Limits;
use minikv_tests::client::Ledger;
use minikv_tests::cluster::clients::content;
use minikv_tests::cluster::nodes::usual;
use minikv_tests::cluster::three::{LARGE, SMALL, Three};
use minikv_tests::content::Piece;
use minikv_tests::life;
use minikv_tests::model::{Name, Op};
use minikv_tests::observe;
use minikv_tests::on_disk::{Kind, Record, settled, spots};
use minikv_tests::world::{World, small_options};

/// The scrubber of these worlds reads everything in so long, twice and with time to mend.
const SCRUBBED: Duration = Duration::from_secs(30);

/// Large and small contents rot on one member. Nobody reads them there; soon they are whole again, and `status` says so.
#[test]
fn what_rots_on_one_member_is_mended_without_a_reader() {
    Sim::new(1).run(async {
        let world = Three::start(1).await;
        world.put(1, "large", LARGE).await;
        world.put(1, "small", SMALL).await;
        world.come_to_rest(Duration::from_secs(20)).await;
        assert!(world.rot(2, LARGE) + world.rot(2, SMALL) > 3);
        assert!(!world.bad(2).await.is_empty());
        clock::sleep(SCRUBBED).await;
        assert_eq!(world.bad(2).await, [""; 0]);
        let counts = world.node(2).scrub_counts();
        assert!(counts.found > 3 && counts.mended > 3, "{counts:?}");
        let status = world.node(2).status().await;
        assert_eq!(status.damage, [""; 0]);
        let said = |line: &String| line.ends_with("written again from another member");
        assert!(status.healed.iter().any(said), "{:?}", status.healed);
        world.come_to_rest(Duration::from_secs(20)).await;
    });
}

/// After a restart the mended place is found, not the bad one.
#[test]
fn what_was_mended_stays_so_after_a_power_cut() {
    Sim::new(2).run(async {
        let world = Three::start(2).await;
        world.put(1, "large", LARGE).await;
        world.put(1, "small", SMALL).await;
        world.come_to_rest(Duration::from_secs(20)).await;
        world.rot(2, LARGE);
        world.rot(2, SMALL);
        clock::sleep(SCRUBBED).await;
        let nothing = minikv_core::env::sim::Choice::None;
        world.nodes.crash(2, Some(&nothing));
        world.nodes.start(2);
        let runs = || world.nodes.running(2).is_some();
        world.until("node 2 runs", SCRUBBED, runs).await;
        assert_eq!(world.bad(2).await, [""; 0]);
        world.come_to_rest(Duration::from_secs(20)).await;
    });
}

/// The leader of a group ships its state to a member that lags, and cannot read one payload itself. The member has no bytes under
/// that name then: they come from the third one, and while that cannot be reached a reader is told to ask again, not that the
/// object is damaged (seed 1120).
#[test]
fn a_payload_that_a_whole_state_came_without_is_read_from_another_member() {
    const KEYS: std::ops::Range<u64> = 4_001..4_005;
    Sim::new(8).run(async {
        let world = Three::start(8).await;
        let key = |value: u64| format!("key-{value}");
        let cut_from_3 = |node| {
            world.net.cut(node, 3);
            world.net.cut(3, node);
        };
        [1, 2].iter().copied().for_each(cut_from_3);
        let leads = || (0..=2).all(|group| world.nodes.leader(group).is_some_and(|node| node < 3));
        world.until("the others lead", SCRUBBED, leads).await;
        for value in KEYS {
            world.put(1, &key(value), value).await;
        }
        for value in 5_000..5_400 {
            world
                .put(
                    1 + value % 2,
                    &format!("other-{}", value % 40),
                    value / 5 * 5 + 1,
                )
                .await;
        }
        let leader = world.nodes.leader(1).unwrap();
        for value in KEYS {
            world.rot(leader, value);
        }
        world.net.mend();
        // Nor does the leader get it from there.
        cut_from_3(3 - leader);
        world.net.cut(1, 2);
        world.net.cut(2, 1);
        let installed = || {
            let copies = world.node(3).copies().into_iter();
            copies
                .filter(|copy| copy.group.0 > 0)
                .any(|copy| copy.installs > 0)
        };
        world
            .until("node 3 took over a state", SCRUBBED, installed)
            .await;
        let damage = world.node(3).status().await.damage;
        assert!(
            damage.iter().any(|line| line.contains("at its leader")),
            "{damage:?}"
        );
        let mut told_to_wait = 0;
        for value in KEYS {
            match world.try_get(3, &key(value)).await {
                Ok(bytes) => assert_eq!(bytes, content(value)),
                Err(KvError::Unavailable(_)) => told_to_wait += 1,
                Err(error) => panic!("{value}: {error}"),
            }
        }
        assert!(told_to_wait > 0);
        world.net.mend();
        for value in KEYS {
            assert_eq!(world.get(3, &key(value)).await, content(value));
        }
        // Nobody remembers it behind a restart but the rows.
        clock::sleep(SCRUBBED).await;
        assert_eq!(world.bad(3).await, [""; 0]);
        world.come_to_rest(SCRUBBED).await;
    });
}

/// A block of rows that neither copy has any more: the member takes over a whole state, and goes on voting meanwhile.
#[test]
fn rows_that_no_copy_has_come_from_another_member() {
    Sim::new(3).run(async {
        let world = Three::start(3).await;
        for number in 0..40 {
            world
                .put(1, &format!("key {number}"), SMALL + 10 * number)
                .await;
        }
        world.node(2).checkpoint_now().await.unwrap();
        let disk = world.nodes.disk(2);
        let mut rotten = 0;
        for spot in spots(&disk).iter().filter(|spot| spot.kind == Kind::Run) {
            if !spot.path.to_string_lossy().contains("/groups/") {
                continue;
            }
            let twin = format!("{}.twin", spot.path.display());
            disk.flip_bit(&spot.path, 40, 1).unwrap();
            disk.flip_bit(Path::new(&twin), 40, 1).unwrap();
            rotten += 1;
        }
        assert!(rotten > 0);
        clock::sleep(SCRUBBED).await;
        let status = world.node(2).status().await;
        assert_eq!(status.damage, [""; 0]);
        assert!(world.node(2).copies().iter().any(|copy| copy.installs > 0));
        for number in [0, 7, 39] {
            let read = world.get(2, &format!("key {number}")).await;
            assert_eq!(read, content(SMALL + 10 * number));
        }
        world.put(2, "after", SMALL).await;
    });
}

/// The same, on a member that cannot apply what it has agreed on without those rows, and whose disk does not let it switch to
/// others for a while: it gets them as soon as it does (seed 3134).
#[test]
fn rows_that_could_not_be_replaced_at_first_are_later() {
    Sim::new(5).run(async {
        let world = Three::start(5).await;
        for number in 0..40 {
            world.put(1, &format!("key {number}"), SMALL).await;
        }
        world.node(2).checkpoint_now().await.unwrap();
        // Behind the checkpoint: a start applies these again.
        for number in 0..6 {
            world.put(1, &format!("key {number}"), SMALL + 10).await;
        }
        clock::sleep(Duration::from_secs(1)).await;
        world.nodes.crash(2, None);
        let disk = world.nodes.disk(2);
        for spot in spots(&disk).iter().filter(|spot| spot.kind == Kind::Run) {
            if spot.path.to_string_lossy().contains("/groups/") && spot.len > 0 {
                let twin = format!("{}.twin", spot.path.display());
                disk.flip_bit(&spot.path, spot.at, 1).unwrap();
                disk.flip_bit(Path::new(&twin), spot.at, 1).unwrap();
            }
        }
        world.nodes.start(2);
        clock::sleep(Duration::from_millis(200)).await;
        let disk = world.nodes.disk(2);
        disk.fail_rate(OpKind::Rename, 1_000_000, Fault::Eio);
        clock::sleep(Duration::from_secs(8)).await;
        disk.clear_faults();
        let is_whole = || {
            let node = world.nodes.running(2);
            node.is_some_and(|node| {
                node.ready().is_ok() && node.copies().iter().any(|copy| copy.installs > 0)
            })
        };
        world.until("node 2 takes part", SCRUBBED, is_whole).await;
        for number in [0, 7, 39] {
            let len = if number < 6 { SMALL + 10 } else { SMALL };
            assert_eq!(world.get(2, &format!("key {number}")).await, content(len));
        }
    });
}

/// A member whose log lost entries and votes takes no part when it starts, is brought back by whoever leads, and the group does
/// without another member afterwards.
#[test]
fn a_member_with_a_damaged_log_is_brought_back_and_counts_again() {
    Sim::new(4).run(async {
        let world = Three::start(4).await;
        for number in 0..30 {
            world
                .put(1, &format!("key {number}"), SMALL + 10 * number)
                .await;
        }
        clock::sleep(Duration::from_secs(1)).await;
        world.nodes.crash(2, None);
        let disk = world.nodes.disk(2);
        let mut rotten = 0;
        for spot in settled(spots(&disk)) {
            let of_log = [
                Kind::RecordHeader(Record::Vote),
                Kind::RecordHead(Record::Vote),
                Kind::RecordHead(Record::Entry),
            ];
            if of_log.contains(&spot.kind) && spot.len > 0 {
                disk.flip_bit(&spot.path, spot.at, 2).unwrap();
                rotten += 1;
            }
        }
        assert!(rotten > 10, "{rotten}");
        world.nodes.start(2);
        let runs = || world.nodes.running(2).is_some();
        world.until("node 2 runs", SCRUBBED, runs).await;
        assert!(world.node(2).ready().is_err(), "it knows what it lost");
        let ready = || world.node(2).ready().is_ok();
        world.until("node 2 takes part", SCRUBBED, ready).await;
        assert!(world.node(2).copies().iter().any(|copy| copy.installs > 0));
        // Now the group needs it.
        world.nodes.crash(3, None);
        clock::sleep(Duration::from_secs(3)).await;
        world.put(2, "after", SMALL).await;
        for number in [0, 13, 29] {
            let read = world.get(2, &format!("key {number}")).await;
            assert_eq!(read, content(SMALL + 10 * number));
        }
        // And what it was given outlives its next start.
        world.nodes.crash(2, None);
        world.nodes.start(2);
        world.until("node 2 runs", SCRUBBED, runs).await;
        world.until("node 2 takes part", SCRUBBED, ready).await;
        assert_eq!(world.get(2, "after").await, content(SMALL));
    });
}

/// Whoever leads runs out of room: clients are refused clearly for a moment at most, and the others go on.
#[test]
fn a_full_member_does_not_stop_the_group() {
    for full in 1..=3 {
        Sim::new(10 + full).run(async {
            let world = Three::start(10 + full).await;
            world.put(1, "before", LARGE).await;
            world.nodes.fill(full, 64 << 10, Duration::from_secs(30));
            clock::sleep(Duration::from_secs(5)).await;
            for (number, node) in (1..=3).enumerate() {
                let (key, value) = (format!("during {number}"), LARGE + 5 * number as u64);
                world.put(node, &key, value).await;
                assert_eq!(world.get(4 - node, &key).await, content(value));
                world.put(node, &format!("small {number}"), SMALL).await;
            }
            clock::sleep(Duration::from_secs(30)).await;
            world.come_to_rest(Duration::from_secs(60)).await;
            assert_eq!(world.bad(full).await, [""; 0]);
        });
    }
}

/// A member's fsyncs hang for half a minute. Whatever it led is led by others within seconds, writes and reads through them go
/// on, its own clients are told at once, and it catches up.
#[test]
fn a_member_that_hangs_for_half_a_minute_stops_nobody_else() {
    for hung in 1..=3 {
        Sim::new(20 + hung).run(async {
            let world = Three::start(20 + hung).await;
            world.put(1, "before", LARGE).await;
            let hangs = [(OpKind::Sync, 1_000_000, Fault::Hang)];
            world.nodes.ail(hung, &hangs, Duration::from_secs(30));
            clock::sleep(Duration::from_secs(6)).await;
            let others: Vec<u64> = (1..=3).filter(|node| *node != hung).collect();
            for (number, node) in others.iter().enumerate() {
                let began = clock::now();
                let (key, value) = (format!("during {number}"), LARGE + 5 * number as u64);
                world.put(*node, &key, value).await;
                assert_eq!(world.get(others[1 - number], &key).await, content(value));
                assert!(clock::now() - began < Duration::from_secs(3));
            }
            let began = clock::now();
            let refused = world.try_put(hung, "refused", SMALL).await.unwrap_err();
            assert!(matches!(refused, KvError::Unavailable(_)), "{refused}");
            let refused = world.try_get(hung, "before").await.unwrap_err();
            assert!(matches!(refused, KvError::Unavailable(_)), "{refused}");
            assert!(clock::now() - began < Duration::from_secs(1));
            assert!(world.node(hung).ready().is_err());
            clock::sleep(Duration::from_secs(35)).await;
            assert!(world.node(hung).ready().is_ok());
            assert_eq!(world.get(hung, "during 1").await, content(LARGE + 5));
            world.come_to_rest(Duration::from_secs(60)).await;
        });
    }
}

/// Alone there is nobody to ask: what rotted is named after a scrub although nobody read it, is never served, and costs nothing else.
#[test]
fn alone_rot_is_reported_and_never_served() {
    let (disk, ledger) = (SimDisk::new(5), Ledger::default());
    disk.set_capacity(1 << 30);
    let mut options = small_options();
    options.limits = Limits {
        scrub_every: Duration::from_secs(10),
        ..options.limits
    };
    life::stage(5, async {
        disk.set_latency(usual());
        let world = World::start(&disk, &options, ledger).await.unwrap();
        world.client.create_bucket("b", false).await.unwrap();
        for (number, key) in ["one", "two"].into_iter().enumerate() {
            let put = Op::Put(Piece::new(number as u64 + 1, 2_000).into());
            world.client.run(&Name::new("b", key), put).await.unwrap();
        }
        // So that the log forgets the entries themselves, and only their contents are left of them.
        world.node.checkpoint_now().await.unwrap();
        clock::sleep(Duration::from_secs(1)).await;
        let payload = |spot: &&minikv_tests::on_disk::Spot| {
            spot.kind == Kind::RecordPayload(Record::Entry) && spot.len >= 2_000
        };
        let all = spots(&disk);
        let spot = all.iter().find(payload).unwrap();
        disk.flip_bit(&spot.path, spot.at + 7, 0).unwrap();
        assert_eq!(world.node.status().await.damage, [""; 0]);
        clock::sleep(Duration::from_secs(20)).await;
        let damage = world.node.status().await.damage;
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert!(damage[0].ends_with("its bytes do not verify"), "{damage:?}");
        assert!(world.node.scrub_counts().found > 0);
        // An answer that is wrong is an error here.
        let known = world.client.ledger().lock().clone();
        let found = observe::carefully(world.client.kv(), &known).await;
        let refused = found.map_err(|broken| broken.to_string())?.refused;
        assert_eq!(refused.len(), 1, "{refused:?}");
        // Whoever writes it again has mended it.
        for (number, key) in ["one", "two"].into_iter().enumerate() {
            let put = Op::Put(Piece::new(number as u64 + 7, 2_000).into());
            world.client.run(&Name::new("b", key), put).await.unwrap();
        }
        clock::sleep(Duration::from_secs(20)).await;
        assert_eq!(world.node.status().await.damage, [""; 0]);
        Ok(())
    })
    .unwrap();
}
