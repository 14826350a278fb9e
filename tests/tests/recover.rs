//! `minikv recover`: a single voter that lost an acknowledged entry says what would go, and serves again once that was
//! accepted; whatever was given up, nothing that comes later is mixed up with it.

#![allow(clippy::unwrap_used)]

use minikv_core::env::sim::{Choice, SimDisk};
use minikv_core::ids::GroupId;
use minikv_core::kv::KvError;
use minikv_core::node::{Recovery, recover};
use minikv_tests::client::Ledger;
use minikv_tests::content::{Content, Piece};
use minikv_tests::damaged::by_kind;
use minikv_tests::life::{self, Furnished};
use minikv_tests::model::{Name, Op};
use minikv_tests::observe;
use minikv_tests::on_disk::{Kind, Record, Spot};
use minikv_tests::world::{World, small_options};

const GROUP: GroupId = GroupId(1);

/// Runs the command on a disk.
fn run(disk: &SimDisk, accept: bool) -> Result<Recovery, String> {
    let mut found = None;
    life::stage(9, async {
        let done = recover(disk.env(), small_options(), GROUP, accept).await;
        found = Some(done.map_err(|error| error.to_string())?);
        Ok(())
    })?;
    found.ok_or("it says nothing".to_owned())
}

/// The entries of the group behind its checkpoint, of which the newest are those of this life.
fn unapplied(disk: &SimDisk) -> Vec<Spot> {
    let kept = run(&disk.after_kill(), false).unwrap();
    assert_eq!(kept.trouble, None, "nothing was damaged yet");
    let kinds = by_kind(disk);
    let of_group = |spot: &&Spot| spot.group == GROUP.0;
    let heads = kinds[&Kind::RecordHead(Record::Entry)].iter();
    let heads: Vec<Spot> = heads.filter(of_group).cloned().collect();
    let checkpoint = checkpoint_of(disk);
    heads
        .into_iter()
        .filter(|spot| spot.index > checkpoint)
        .collect()
}

fn checkpoint_of(disk: &SimDisk) -> u64 {
    let mut index = 0;
    life::stage(8, async {
        let world = World::start(&disk.after_kill(), &small_options(), Ledger::default()).await;
        let status = world.unwrap().node.status().await;
        index = status.groups[usize::from(GROUP.0)].checkpoint;
        Ok(())
    })
    .unwrap();
    index
}

fn flip(disk: &SimDisk, spot: &Spot) {
    let byte = spot.at + spot.len / 2;
    disk.flip_bit(&spot.path, byte, 3).unwrap();
}

/// Reads a key of bucket "b".
async fn get(world: &World, key: &str) -> Result<Option<Content>, observe::ObserveError> {
    let bucket = world.client.kv().bucket("b").await.unwrap().unwrap();
    observe::key(world.client.kv(), &bucket, key).await
}

async fn put(world: &World, key: &str, piece: Piece) {
    let name = Name::new("b", key);
    world
        .client
        .run(&name, Op::Put(piece.into()))
        .await
        .unwrap();
    assert_eq!(get(world, key).await.unwrap(), Some(piece.into()), "{key}");
}

/// The group answers as it did before the damage, for what lies before it; and takes new writes, large ones too.
fn serves(disk: &SimDisk) -> Result<(), String> {
    life::stage(10, async {
        // What clients had been told holds no more: a ledger of its own.
        let world = World::start(disk, &small_options(), Ledger::default()).await;
        let world = world.map_err(|error| error.to_string())?;
        world.client.create_bucket("b", false).await.ok();
        world.node.ready()?;
        assert_eq!(
            get(&world, "kept").await.unwrap(),
            Some(Piece::new(1, 300).into())
        );
        assert_eq!(
            get(&world, "kept-chunked").await.unwrap(),
            Some(Piece::new(2, 90_000).into())
        );
        // More entries than were lost: every index is used again, with other chunks under the same numbers.
        for number in 0..40 {
            put(
                &world,
                &format!("new-{}", number % 5),
                Piece::new(60_000 + number, 70_000),
            )
            .await;
        }
        for number in 35..40 {
            let new = Piece::new(60_000 + number, 70_000);
            assert_eq!(
                get(&world, &format!("new-{}", number % 5)).await.unwrap(),
                Some(new.into())
            );
        }
        world.node.sweep_now().await.unwrap();
        world.node.checkpoint_now().await.unwrap();
        world.node.compact_now().await.unwrap();
        Ok(())
    })
}

/// The whole way: an entry that was acknowledged and not checkpointed is damaged; the group answers nothing; the command
/// says what would go and changes nothing; accepted, the group serves what came before, and stage ids do not collide.
#[test]
fn a_lost_entry_is_named_given_up_and_never_mixed_up_with_what_follows() {
    let (disk, ledger) = Furnished::worn().unwrap().copy();
    let entries = unapplied(&disk);
    assert!(entries.len() >= 3, "{} entries", entries.len());
    let bad = &entries[1];
    flip(&disk, bad);

    life::stage(5, async {
        let world = World::start(&disk, &small_options(), ledger.clone())
            .await
            .unwrap();
        let refused = get(&world, "kept").await.unwrap_err();
        let says = refused.to_string();
        assert!(says.contains("neither reads nor writes"), "{says}");
        assert!(says.contains("minikv recover --group 1"), "{says}");
        assert!(world.node.ready().is_err());
        Ok(())
    })
    .unwrap();

    let told = run(&disk, false).unwrap();
    assert!(
        told.trouble
            .as_ref()
            .unwrap()
            .contains(&format!("entry {}", bad.index))
    );
    assert_eq!(told.kept, bad.index - 1);
    assert_eq!((told.accepted, told.incarnation), (false, 1));
    let lost: Vec<u64> = told.lost.iter().map(|entry| entry.index).collect();
    let last = entries.last().unwrap().index;
    assert_eq!(lost, (bad.index..=last).collect::<Vec<_>>());
    assert_eq!(told.lost[0].what, None, "it cannot be read");
    let known = told.lost.iter().filter_map(|entry| entry.what.as_deref());
    let known: Vec<&str> = known.collect();
    assert!(known.contains(&"put b/behind-chunked"), "{known:?}");
    assert_eq!(run(&disk, false).unwrap(), told, "asking changed something");

    let done = run(&disk, true).unwrap();
    assert_eq!((done.accepted, done.incarnation), (true, 2));
    assert_eq!(done.lost, told.lost);
    let after = run(&disk, true).unwrap();
    assert_eq!(
        (after.trouble, after.accepted, after.incarnation),
        (None, false, 2)
    );
    serves(&disk).unwrap();
    // And after a crash of that, with everything it wrote.
    let again = run(&disk.after_power_cut(&Choice::None), false).unwrap();
    assert_eq!((again.trouble, again.incarnation), (None, 2));
}

/// A lost vote costs no entry: the group reads on, agrees on nothing, and the command gives it a vote in a new term.
#[test]
fn a_lost_vote_is_replaced_by_one_that_cannot_have_been_given() {
    let (disk, ledger) = Furnished::worn().unwrap().copy();
    let votes = by_kind(&disk)
        .remove(&Kind::RecordHead(Record::Vote))
        .unwrap();
    let newest = votes.iter().rfind(|spot| spot.group == GROUP.0).unwrap();
    flip(&disk, newest);
    life::stage(5, async {
        let world = World::start(&disk, &small_options(), ledger.clone())
            .await
            .unwrap();
        assert_eq!(
            get(&world, "kept").await.unwrap(),
            Some(Piece::new(1, 300).into())
        );
        let put = Op::Put(Piece::new(9, 90).into());
        let refused = world
            .client
            .run(&Name::new("b", "x"), put)
            .await
            .unwrap_err();
        assert!(
            matches!(&refused, KvError::Damaged(why) if why.contains("its vote is lost")),
            "{refused}"
        );
        Ok(())
    })
    .unwrap();
    let told = run(&disk, false).unwrap();
    assert!(
        told.trouble.is_some() && told.lost.is_empty() && !told.more_may_be_lost,
        "{told:?}"
    );
    assert!(run(&disk, true).unwrap().accepted);
    serves(&disk).unwrap();
}

/// A kill or a power cut at any operation of it leaves a group that the same command finishes, and never one that serves
/// as if nothing had been given up.
#[test]
fn accepting_a_loss_may_be_cut_anywhere_and_done_again() {
    let (disk, _) = Furnished::worn().unwrap().copy();
    let entries = unapplied(&disk);
    flip(&disk, &entries[1]);
    let before = disk.op_count();
    let whole = disk.after_kill();
    whole.record_states(true);
    run(&whole, true).unwrap();
    let operations = whole.op_count();
    let stride = std::env::var("MINIKV_CRASH_STRIDE").map_or(3, |stride| stride.parse().unwrap());
    let mut finished = 0;
    for op in (before.min(operations)..operations).step_by(stride) {
        let Some(state) = whole.state_before(op) else {
            continue;
        };
        for disk in [state.after_kill(), state.after_power_cut(&Choice::None)] {
            let found = run(&disk, false).unwrap_or_else(|what| panic!("op {op}: {what}"));
            match found.trouble {
                // Whole: then the loss was accepted with everything that belongs to it.
                None => assert_eq!(found.incarnation, 2, "op {op}"),
                Some(_) => {
                    let done = run(&disk, true).unwrap_or_else(|what| panic!("op {op}: {what}"));
                    assert!(done.accepted && done.incarnation >= 2, "op {op}: {done:?}");
                }
            }
            finished += 1;
            if op % 9 == 0 {
                serves(&disk).unwrap_or_else(|what| panic!("op {op}: {what}"));
            }
        }
    }
    assert!(finished > 20, "{finished} states");
}

/// A directory that is none, and a group that is not there, are said to be so; nothing is made.
#[test]
fn what_is_not_there_is_not_recovered() {
    let disk = SimDisk::new(1);
    assert!(
        run(&disk, true)
            .unwrap_err()
            .contains("is no minikv data directory")
    );
    assert_eq!(disk.files().len(), 0);
    let (disk, _) = Furnished::new().unwrap().copy();
    life::stage(9, async {
        let done = recover(disk.env(), small_options(), GroupId(7), true).await;
        let says = done.unwrap_err().to_string();
        assert_eq!(
            says,
            "there is no group g7: this directory has groups 0 to 1"
        );
        Ok(())
    })
    .unwrap();
}
