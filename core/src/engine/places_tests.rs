//! What the table of places promises, on the simulated disk.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;

use super::EngineError;
use super::block_cache::BlockCache;
use super::budget::OverlayBudget;
use super::merge::Merger;
use super::place_ledger::Live;
use super::places::Places;
use super::run_store::{Birth, StoreOptions};
use crate::env::sim::{self, Choice, Fault, OpKind, SimDisk};
use crate::ids::{ChunkId, GroupId, PayloadId, StageId, VShard};
use crate::log::{Complete, Item, Place, Position, Stream};

type Model = BTreeMap<Item, Place>;

fn new_disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.plant_dir("/data").unwrap();
    disk
}

async fn open(disk: &SimDisk, twins: bool) -> Places {
    let options = StoreOptions {
        disk: disk.env().disk,
        dir: PathBuf::from("/data/places"),
        twins,
        birth: Birth::MayCreate,
        cache: Arc::new(BlockCache::new(1 << 20)),
    };
    Places::open(options, OverlayBudget::new(64 << 20), Merger::new(0))
        .await
        .unwrap()
}

fn payload(index: u64) -> Item {
    Item::Payload(PayloadId {
        group: GroupId(1 + (index % 3) as u16),
        index,
        term: 2,
    })
}

fn stage(number: u64) -> (VShard, StageId) {
    (
        VShard(number as u8),
        StageId {
            group: GroupId(1),
            incarnation: 1,
            index: number,
        },
    )
}

fn frame(number: u64, ordinal: u32, frame: u32) -> Item {
    let (vshard, stage) = stage(number);
    Item::Frame {
        chunk: ChunkId {
            vshard,
            stage,
            ordinal,
        },
        frame,
    }
}

fn place(stream: Stream, segment: u32, offset: u32) -> Place {
    Place {
        stream,
        position: Position::new(segment, offset),
        len: offset % 1000,
    }
}

fn complete(meta: u64, blob: u64) -> Complete {
    Complete {
        meta: Position(meta),
        blob: Position(blob),
    }
}

/// Rows, look-ups and figures of segments all agree with the model.
fn same(places: &Places, model: &Model) {
    let mut live: BTreeMap<(Stream, u32), Live> = BTreeMap::new();
    let mut inside: BTreeMap<(Stream, u32), Model> = BTreeMap::new();
    for (item, place) in model {
        assert_eq!(places.get(item).unwrap(), Some(*place));
        let key = (place.stream, place.position.segment());
        let figures = live.entry(key).or_default();
        figures.bytes += u64::from(place.len);
        figures.items += 1;
        inside.entry(key).or_default().insert(*item, *place);
    }
    let expected: Vec<_> = live
        .into_iter()
        .map(|((stream, segment), live)| (stream, segment, live))
        .collect();
    assert_eq!(places.segments(), expected);
    for ((stream, segment), items) in inside {
        assert_eq!(
            Model::from_iter(
                places
                    .items_in(&[(stream, segment)])
                    .unwrap()
                    .into_values()
                    .flatten()
            ),
            items
        );
        assert!(places.names(stream, segment));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Item, Place),
    Remove(Item),
    Move(Item, bool, Place),
    RemoveStage(u64, u32, u32),
    Checkpoint,
    Merge,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let item = || {
        prop_oneof![
            (0u64..40).prop_map(payload),
            (0u64..3, 0u32..6, 0u32..4)
                .prop_map(|(number, ordinal, part)| frame(number, ordinal, part)),
        ]
    };
    let place = || {
        (any::<bool>(), 1u32..4, 0u32..5000).prop_map(|(blob, segment, offset)| {
            place(
                if blob { Stream::Blob } else { Stream::Meta },
                segment,
                offset,
            )
        })
    };
    proptest::collection::vec(
        prop_oneof![
            10 => (item(), place()).prop_map(|(item, place)| Step::Insert(item, place)),
            4 => item().prop_map(Step::Remove),
            4 => (item(), any::<bool>(), place()).prop_map(|(item, right, to)| Step::Move(item, right, to)),
            1 => (0u64..3, 0u32..6, 0u32..6).prop_map(|(number, from, to)| Step::RemoveStage(number, from, to)),
            1 => Just(Step::Checkpoint),
            1 => Just(Step::Merge),
            1 => Just(Step::Reopen),
        ],
        0..120,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn table_is_a_map_whose_figures_follow_every_change(steps in steps()) {
        sim::run(1, async {
            let disk = new_disk();
            let mut places = open(&disk, true).await;
            let (mut model, mut durable) = (Model::new(), Model::new());
            for step in steps {
                match step {
                    Step::Insert(item, place) => assert_eq!(places.insert(&item, place).unwrap(), model.insert(item, place)),
                    Step::Remove(item) => assert_eq!(places.remove(&item).unwrap(), model.remove(&item)),
                    Step::Move(item, right, to) => {
                        let from = if right { model.get(&item).copied() } else { None };
                        let from = from.unwrap_or(place(Stream::Meta, 9, 9));
                        let moves = model.get(&item) == Some(&from);
                        assert_eq!(places.replace_if(&item, from, to).unwrap(), moves);
                        if moves {
                            model.insert(item, to);
                        }
                    }
                    Step::RemoveStage(number, from, to) => {
                        let inside = |item: &Item| matches!(item, Item::Frame { chunk, .. }
                            if chunk.stage == stage(number).1 && (from..to).contains(&chunk.ordinal));
                        let expected: Vec<_> = model.iter().filter(|(item, _)| inside(item)).map(|(i, p)| (*i, *p)).collect();
                        let (vshard, id) = stage(number);
                        assert_eq!(places.stage_frames(vshard, id, from..to).unwrap(), expected);
                        assert_eq!(places.remove_stage(vshard, id, from..to).unwrap(), expected.len() as u64);
                        model.retain(|item, _| !inside(item));
                    }
                    Step::Checkpoint => {
                        places.checkpoint(Complete::default()).await.unwrap();
                        durable = model.clone();
                    }
                    Step::Merge => while places.store().merge_once(0).await.unwrap() {},
                    Step::Reopen => {
                        places = open(&disk, true).await;
                        model = durable.clone();
                    }
                }
            }
            same(&places, &model);
        });
    }
}

/// Recovery tells again what the checkpoint may know already: nothing is counted twice.
#[test]
fn telling_a_place_again_changes_nothing() {
    sim::run(1, async {
        let disk = new_disk();
        let places = open(&disk, false).await;
        let spot = place(Stream::Meta, 1, 700);
        places
            .change((0..100).map(|n| (payload(n), Some(spot))))
            .unwrap();
        places.checkpoint(complete(500, 0)).await.unwrap();
        let places = open(&disk, false).await;
        assert_eq!(places.complete(), complete(500, 0));
        places
            .change((50..150).map(|n| (payload(n), Some(spot))))
            .unwrap();
        assert_eq!(
            places.live(Stream::Meta, 1),
            Live {
                bytes: 150 * 700,
                items: 150
            }
        );
        places
            .change((0..150).chain(0..150).map(|n| (payload(n), None)))
            .unwrap();
        assert_eq!(places.live(Stream::Meta, 1), Live::default());
    });
}

/// A segment may go only when neither the table nor its durable checkpoint names anything in it.
#[test]
fn segment_stays_named_until_a_checkpoint_is_durable() {
    sim::run(1, async {
        let disk = new_disk();
        let places = open(&disk, false).await;
        let (old, new) = (place(Stream::Meta, 1, 700), place(Stream::Blob, 5, 700));
        places.insert(&payload(1), old).unwrap();
        places.checkpoint(Complete::default()).await.unwrap();
        assert!(places.replace_if(&payload(1), old, new).unwrap());
        assert_eq!(places.live(Stream::Meta, 1).items, 0);
        assert!(
            places.names(Stream::Meta, 1),
            "a crash now would look for it there"
        );
        places.checkpoint(Complete::default()).await.unwrap();
        assert!(!places.names(Stream::Meta, 1) && places.names(Stream::Blob, 5));
    });
}

/// Nine groups make checkpoints at the same time: each waits for one that holds its changes, and few are written.
#[test]
fn checkpoints_that_come_together_are_one() {
    sim::run(1, async {
        let disk = new_disk();
        let places = open(&disk, false).await;
        let before = places.store().set().info().generation;
        let calls: Vec<_> = (0..9)
            .map(|n| {
                places
                    .insert(&payload(n), place(Stream::Meta, 1, 8))
                    .unwrap();
                let (places, disk) = (places.clone(), disk.clone());
                let call = places.checkpoint(complete(n, 0));
                crate::env::task::spawn(async move {
                    call.await.unwrap();
                    let after = disk.after_power_cut(&Choice::None);
                    let reopened = open(&after, false).await;
                    assert!(
                        reopened.get(&payload(n)).unwrap().is_some(),
                        "what came before the call is durable"
                    );
                    assert!(reopened.complete().meta >= Position(n));
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        let made = places.store().set().info().generation - before;
        assert!(made <= 2, "{made} checkpoints were written");
        places.checkpoint(complete(3, 0)).await.unwrap();
        assert_eq!(
            places.store().set().info().generation - before,
            made,
            "nothing is new"
        );
    });
}

/// A checkpoint that fails loses nothing; the next one holds what both should have.
#[test]
fn failed_checkpoint_of_the_places_is_made_up_for() {
    sim::run(1, async {
        for kind in [
            OpKind::Create,
            OpKind::Write,
            OpKind::Sync,
            OpKind::SyncDir,
            OpKind::Rename,
        ] {
            let disk = new_disk();
            let places = open(&disk, false).await;
            let mut model = Model::new();
            for round in 0..3u32 {
                for n in 0..50u64 {
                    let spot = place(Stream::Blob, round + 1, n as u32);
                    let item = payload(n * u64::from(round + 1));
                    places.insert(&item, spot).unwrap();
                    model.insert(item, spot);
                }
                if round < 2 {
                    disk.fail_next(kind, Fault::Eio);
                    let failed: Result<(), EngineError> =
                        places.checkpoint(Complete::default()).await;
                    assert!(failed.is_err(), "{kind:?}");
                    same(&places, &model);
                }
            }
            places.checkpoint(Complete::default()).await.unwrap();
            same(&places, &model);
            same(&open(&disk, false).await, &model);
        }
    });
}

/// Power fails at every operation: the table is at the old checkpoint or at the new one, with figures that fit its rows.
#[test]
fn crash_anywhere_leaves_a_table_that_was_there_once() {
    for twins in [false, true] {
        let disk = new_disk();
        let mut promises: Vec<(u64, Vec<(Model, Complete)>)> = vec![(0, vec![Default::default()])];
        sim::run(1, async {
            disk.record_states(true);
            let places = open(&disk, twins).await;
            let (mut model, mut durable) = (Model::new(), (Model::new(), Complete::default()));
            for round in 0..3u64 {
                for n in round * 5..round * 5 + 10 {
                    let spot = place(Stream::Meta, 1 + round as u32, n as u32);
                    places.insert(&payload(n), spot).unwrap();
                    model.insert(payload(n), spot);
                }
                places.remove(&payload(round)).unwrap();
                model.remove(&payload(round));
                let next = (model.clone(), complete(round + 1, 0));
                promises.push((disk.op_count(), vec![durable, next.clone()]));
                places.checkpoint(next.1).await.unwrap();
                promises.push((disk.op_count(), vec![next.clone()]));
                durable = next;
            }
            places.store().merge_all(0).await.unwrap();
        });
        let mut seen = BTreeSet::new();
        for op in 0..disk.op_count() {
            let (from, promised) = promises.iter().rfind(|(from, _)| *from <= op).unwrap();
            let killed = disk.state_before(op).unwrap();
            for cut in killed.power_cuts() {
                let after = killed.after_power_cut(&cut);
                if seen.insert((*from, after.digest())) {
                    sim::run(2, async {
                        let places = open(&after, twins).await;
                        let found = promised.iter().find(|(model, complete)| {
                            places.complete() == *complete
                                && model
                                    .iter()
                                    .all(|(item, place)| places.get(item).unwrap() == Some(*place))
                        });
                        let (model, _) =
                            found.unwrap_or_else(|| panic!("op {op}, {cut:?}: no promised table"));
                        same(&places, model);
                    });
                }
            }
        }
        assert!(seen.len() > 50);
    }
}

/// A table that knew more of the log than the log has: what is written over it must be looked for again after a crash.
#[test]
fn a_table_falls_back_to_where_the_log_ends_and_stays_there() {
    sim::run(1, async {
        let disk = new_disk();
        let places = open(&disk, true).await;
        places
            .insert(&payload(1), place(Stream::Meta, 1, 0))
            .unwrap();
        places.checkpoint(complete(70, 90)).await.unwrap();
        places.fall_back(complete(80, 95)).await.unwrap();
        assert_eq!(places.complete(), complete(70, 90), "the log has all of it");
        places.fall_back(complete(80, 50)).await.unwrap();
        assert_eq!(places.complete(), complete(70, 50));
        let again = open(&disk.after_power_cut(&Choice::None), true).await;
        assert_eq!(again.complete(), complete(70, 50), "not durable");
        again.checkpoint(complete(71, 60)).await.unwrap();
        assert_eq!(again.complete(), complete(71, 60));
        assert_eq!(
            again.get(&payload(1)).unwrap(),
            Some(place(Stream::Meta, 1, 0))
        );
    });
}

/// A place whose record was dropped is void; once the log has lost that record, another one may come to lie exactly there.
#[test]
fn what_comes_to_lie_where_a_lost_record_was_void_is_told_again() {
    sim::run(1, async {
        let disk = new_disk();
        let places = open(&disk, true).await;
        let there = place(Stream::Blob, 1, 100);
        places.insert(&payload(1), there).unwrap();
        places.remove(&payload(1)).unwrap();
        places.checkpoint(complete(70, 50)).await.unwrap();
        let disk = disk.after_kill();
        let again = open(&disk, true).await;
        again.tell_again(&payload(1), there).unwrap();
        assert_eq!(again.get(&payload(1)).unwrap(), None, "it was dropped");
        again
            .fall_back(Complete {
                meta: Position(70),
                blob: there.position,
            })
            .await
            .unwrap();
        let again = open(&disk.after_power_cut(&Choice::None), true).await;
        again.tell_again(&payload(2), there).unwrap();
        assert_eq!(again.get(&payload(2)).unwrap(), Some(there));
    });
}
