//! What callers see: a sorted map with atomic batches, consistent views and checkpoints.

use std::sync::Arc;

use futures::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::engine::incoming::Incoming;
use crate::engine::{block, digest};
use crate::env::sim::{self, Fault, OpKind};

/// A row may lie in the overlay, in a frozen one or in any run; the newest word counts, a delete included.
fn newest_change_wins_wherever_older_ones_lie<S: Subject>() {
    sim::run(1, async {
        let disk = new_disk();
        let engine: S = open(&disk, false).await;
        let keys = ["a", "b", "c", "d"];
        for (round, key) in keys.iter().enumerate() {
            for key in keys {
                put(&engine, key, &format!("{key}{round}"));
            }
            engine.write(batch(&[(key.as_bytes(), None)], "")).unwrap();
            engine.checkpoint(None).await.unwrap();
        }
        let expected: Model = [("a", "a3"), ("b", "b3"), ("c", "c3")]
            .map(|(k, v)| (k.into(), v.into()))
            .into();
        same(&engine, &expected);
        assert_eq!(engine.get(b"d").unwrap(), None);
        engine.store().merge_all(0).await.unwrap();
        same(&engine, &expected);
        assert_eq!(digest::recompute(&engine).unwrap(), engine.digest());
        let set = engine.store().set();
        assert_eq!(
            set.runs()
                .iter()
                .map(|run| run.meta().tombstones)
                .sum::<u64>(),
            0,
            "a full merge drops tombstones"
        );
    });
}

/// Of several changes of one key in one batch the last counts, also for the digest.
fn batch_is_applied_in_order<S: Subject>() {
    sim::run(1, async {
        let engine: S = open(&new_disk(), false).await;
        put(&engine, "k", "before");
        engine
            .write(batch(
                &[
                    (b"k", None),
                    (b"k", Some(b"1")),
                    (b"x", Some(b"1")),
                    (b"k", Some(b"2")),
                    (b"x", None),
                ],
                "7",
            ))
            .unwrap();
        assert_eq!(all(&engine), Model::from([(b"k".to_vec(), b"2".to_vec())]));
        assert_eq!(engine.applied().as_deref(), Some(&b"7"[..]));
        assert_eq!(engine.digest(), digest::row_hash(b"k", b"2"));
        engine.write(Batch::default()).unwrap();
        assert_eq!(
            engine.applied().as_deref(),
            Some(&b"7"[..]),
            "a batch without a mark leaves it"
        );
    });
}

/// A transfer between two rows must never be seen half.
fn batch_is_seen_whole_or_not_at_all<S: Subject>() {
    let engine: S = sim::run(1, async { open(&new_disk(), false).await });
    engine
        .write(batch(&[(b"a", Some(&[0])), (b"b", Some(&[0]))], ""))
        .unwrap();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    #[allow(
        clippy::disallowed_methods,
        reason = "threads that really run at once are the point"
    )]
    std::thread::scope(|scope| {
        let (engine, done) = (&engine, &done);
        for _ in 0..2 {
            scope.spawn(move || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let rows: Vec<_> = engine.scan(b"", b"").map(|row| row.unwrap().1).collect();
                    assert_eq!(rows[0], rows[1]);
                    let view = engine.view();
                    assert_eq!(view.get(b"a").unwrap(), view.get(b"b").unwrap());
                }
            });
        }
        for n in 0..20_000u32 {
            let row = n.to_be_bytes();
            engine
                .write(batch(&[(b"a", Some(&row)), (b"b", Some(&row))], ""))
                .unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// A page that is being listed, or a snapshot that is being sent, does not change under its reader.
fn view_stands_still_while_the_engine_goes_on<S: Subject>() {
    sim::run(1, async {
        let (engine, mut model): (S, _) = (open(&new_disk(), false).await, Model::new());
        let mut views: Vec<(Box<dyn View>, Model)> = Vec::new();
        for round in 0..6 {
            fill(&engine, &mut model, round * 200, 300);
            views.push((engine.view(), model.clone()));
            if let Some(key) = model.keys().nth(50).cloned() {
                engine.write(batch(&[(&key, None)], "")).unwrap();
                model.remove(&key);
            }
            engine.checkpoint(None).await.unwrap();
            merge(&engine).await;
            views.push((engine.view(), model.clone()));
        }
        for (view, model) in &views {
            same(&**view, model);
        }
    });
}

/// A run whose index needs several blocks is searched and scanned like a small one.
fn large_run_with_many_index_blocks_is_searched<S: Subject>() {
    sim::run(1, async {
        let (disk, mut model) = (new_disk(), Model::new());
        let engine: S = open(&disk, false).await;
        for n in 0..3000u32 {
            let key = [&[b'k'; 1000][..], &(n * 2).to_be_bytes()].concat();
            let row = vec![n as u8; 600];
            engine.write(batch(&[(&key, Some(&row))], "")).unwrap();
            model.insert(key, row);
        }
        engine.checkpoint(None).await.unwrap();
        let engine: S = open(&disk, false).await;
        same(&engine, &model);
        for n in (0..6001u32).step_by(7) {
            let key = [&[b'k'; 1000][..], &n.to_be_bytes()].concat();
            assert_eq!(
                engine.get(&key).unwrap().is_some(),
                model.contains_key(&key)
            );
            let next = engine
                .scan(&key, b"")
                .next()
                .map(|row| row.unwrap().0.to_vec());
            assert_eq!(next.as_ref(), model.range(key..).next().map(|(key, _)| key));
        }
        let set = engine.store().set();
        let (run, mut at, mut parts) = (&set.runs()[0], 0, 0);
        while at < run.meta().len {
            let block = run.raw_block(at).unwrap();
            at += block.len() as u64;
            parts += u32::from(matches!(
                block::peek(&block),
                Some((block::BlockKind::Index, _))
            ));
        }
        assert!(parts > 2, "{parts} index blocks");
    });
}

/// Bounds are "from" included, "to" excluded, and an empty "to" is the end.
fn scan_keeps_to_its_bounds<S: Subject>() {
    sim::run(1, async {
        let (engine, mut model): (S, _) = (open(&new_disk(), false).await, Model::new());
        fill(&engine, &mut model, 0, 700);
        engine.checkpoint(None).await.unwrap();
        fill(&engine, &mut model, 400, 700);
        for (from, to) in [
            ("", ""),
            ("key/1", "key/5"),
            ("key/500000", ""),
            ("x", ""),
            ("", "a"),
            ("key/2", "key/2"),
            ("key/9", "key/1"),
        ] {
            let (from, to) = (from.as_bytes(), to.as_bytes());
            let inside = |key: &[u8]| key >= from && (to.is_empty() || key < to);
            let expected: Model = model
                .iter()
                .filter(|(key, _)| inside(key))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            assert_eq!(range(&engine, from, to), expected);
        }
    });
}

/// After a restart the engine is at its newest checkpoint: that moment's rows, mark and digest, nothing later.
fn checkpoint_is_what_a_restart_finds<S: Subject>() {
    sim::run(1, async {
        let (disk, mut model) = (new_disk(), Model::new());
        for round in 0..5 {
            let engine: S = open(&disk, false).await;
            same(&engine, &model);
            fill(&engine, &mut model, round * 300, 500);
            let mark = engine.applied();
            let info = engine.checkpoint(None).await.unwrap();
            assert_eq!((&info.applied, info.digest), (&mark, engine.digest()));
            assert_eq!(info, engine.durable());
            put(&engine, "later", "lost without the log");
            drop(engine);
            let engine: S = open(&disk, false).await;
            assert_eq!(engine.applied(), mark);
            assert_eq!(engine.digest(), digest::recompute(&engine).unwrap());
            assert_eq!(engine.durable().digest, engine.digest());
            same(&engine, &model);
        }
    });
}

/// openraft takes a snapshot's mark when it asks for it: what is applied while the checkpoint is written is not in it.
fn moment_of_a_checkpoint_is_its_call<S: Subject>() {
    sim::run(1, async {
        let disk = new_disk();
        let engine: S = open(&disk, false).await;
        put(&engine, "k", "then");
        let (first, then) = (engine.checkpoint(None), engine.digest());
        put(&engine, "k", "now");
        let (second, now) = (engine.checkpoint(None), engine.digest());
        put(&engine, "k", "later");
        // The later moment becomes durable first; the earlier one must not put itself over it.
        assert_eq!(second.await.unwrap().digest, now);
        assert_eq!(first.await.unwrap().digest, now);
        assert_ne!(then, now);
        assert_eq!(engine.get(b"k").unwrap().unwrap(), "later");
        drop(engine);
        let engine: S = open(&disk, false).await;
        assert_eq!(engine.get(b"k").unwrap().unwrap(), "now");
        let info = engine.checkpoint(None).await.unwrap();
        assert_eq!(
            info,
            engine.checkpoint(None).await.unwrap(),
            "nothing changed: no new checkpoint"
        );
    });
}

/// The places must be durable first; when they cannot, there is no checkpoint, and nothing is lost.
fn checkpoint_waits_for_what_must_come_before<S: Subject>() {
    sim::run(1, async {
        let disk = new_disk();
        let engine: S = open(&disk, false).await;
        put(&engine, "k", "1");
        let before = engine.durable();
        let refuse = || async { Err(EngineError::GivenUp("places".into())) }.boxed();
        assert!(engine.checkpoint(Some(Box::new(refuse))).await.is_err());
        assert_eq!(engine.durable(), before);
        put(&engine, "l", "2");
        let asked = Arc::new(parking_lot::Mutex::new(None));
        let (reader, seen) = (engine.clone(), asked.clone());
        let agree = move || {
            async move {
                *seen.lock() = Some(reader.durable());
                Ok(())
            }
            .boxed()
        };
        engine.checkpoint(Some(Box::new(agree))).await.unwrap();
        assert_eq!(
            asked.lock().take(),
            Some(before),
            "it ran before anything was durable"
        );
        drop(engine);
        let engine: S = open(&disk, false).await;
        assert_eq!(all(&engine).len(), 2);
    });
}

/// Disk full, an I/O error, a failed fsync: the checkpoint says so, the engine goes on, and the next one has it all.
fn failed_checkpoint_loses_nothing<S: Subject>() {
    sim::run(1, async {
        for (kind, fault) in [
            (OpKind::Write, Fault::Enospc),
            (OpKind::Write, Fault::Eio),
            (OpKind::Sync, Fault::Eio),
            (OpKind::SyncDir, Fault::Eio),
            (OpKind::Rename, Fault::Eio),
            (OpKind::Create, Fault::Eio),
        ] {
            for nth in 0..4 {
                let (disk, mut model) = (new_disk(), Model::new());
                let engine: S = open(&disk, true).await;
                fill(&engine, &mut model, 0, 100);
                engine.checkpoint(None).await.unwrap();
                fill(&engine, &mut model, 100, 100);
                let mut left = nth;
                disk.on_op(move |disk, op| {
                    if op.kind == kind {
                        if left == 0 {
                            disk.fail_at(op.number, fault);
                        }
                        left -= 1;
                    }
                });
                let result = engine.checkpoint(None).await;
                disk.on_op(|_, _| {});
                assert!(result.is_err() || nth > 1, "{kind:?} {nth}");
                same(&engine, &model);
                fill(&engine, &mut model, 200, 100);
                engine.checkpoint(None).await.unwrap();
                same(&engine, &model);
                drop(engine);
                let engine: S = open(&disk, true).await;
                same(&engine, &model);
                assert_eq!(engine.damage(), []);
                let named = engine.store().set().runs().len() * 2 + 4;
                assert_eq!(disk.files().len(), named, "{:?}", disk.files());
            }
        }
    });
}

/// A follower that lags takes a checkpoint over the wire; cut at any point it has its old state or the new one.
fn installed_checkpoint_replaces_everything<S: Subject>() {
    sim::run(1, async {
        let (source_disk, mut model) = (new_disk(), Model::new());
        let source: S = open(&source_disk, false).await;
        for round in 0..3 {
            fill(&source, &mut model, round * 400, 500);
            source.checkpoint(None).await.unwrap();
        }
        let export = source.export();
        fill(&source, &mut Model::new(), 5000, 50);
        source.checkpoint(None).await.unwrap();
        source.store().merge_all(0).await.unwrap();
        same(&export, &model);

        let disk = new_disk();
        let target: S = open(&disk, true).await;
        let mut own = Model::new();
        fill(&target, &mut own, 9000, 300);
        target.checkpoint(None).await.unwrap();
        put(&target, "overlay", "goes as well");
        let late = target.checkpoint(None);
        let view = target.view();
        install(&export, &disk, &target).await;
        let info = target.durable();
        same(&target, &model);
        assert_eq!(view.get(b"overlay").unwrap().unwrap(), "goes as well");
        assert_eq!(
            late.await.unwrap().digest,
            info.digest,
            "a moment before the install must not come back"
        );
        assert_eq!(target.digest(), digest::recompute(&target).unwrap());
        fill(&target, &mut model, 2000, 100);
        target.checkpoint(None).await.unwrap();
        drop(target);
        let target: S = open(&disk, true).await;
        same(&target, &model);
        assert_eq!(target.damage(), []);
    });
}

/// What arrives damaged is not taken over.
fn damaged_checkpoint_is_not_installed<S: Subject>() {
    sim::run(1, async {
        let disk = new_disk();
        let source: S = open(&disk, false).await;
        fill(&source, &mut Model::new(), 0, 300);
        source.checkpoint(None).await.unwrap();
        let export = source.export();
        for flip in [0, 5000, export.files()[0].len - 1] {
            let incoming = Incoming::begin(disk.env().disk, ARRIVALS.into(), &export.manifest())
                .await
                .unwrap();
            let mut bytes = export.read(0, 0, usize::MAX).unwrap().to_vec();
            bytes[flip as usize] ^= 4;
            incoming.write(0, 0, bytes.into()).await.unwrap();
            assert!(
                incoming
                    .finish(false)
                    .await
                    .is_err_and(|error| error.is_damage())
            );
        }
    });
}

/// A follower whose only copy rotted is whole again after it took the same checkpoint once more.
fn damaged_store_is_whole_after_an_install<S: Subject>() {
    sim::run(1, async {
        let (source, mut model): (S, _) = (open(&new_disk(), false).await, Model::new());
        fill(&source, &mut model, 0, 300);
        source.checkpoint(None).await.unwrap();
        let disk = new_disk();
        let target: S = open(&disk, false).await;
        install(&source.export(), &disk, &target).await;
        let run = PathBuf::from(DIR).join(source.export().files()[0].name.clone());
        drop(target);
        disk.flip_bit(&run, 4000, 1).unwrap();
        // Memory reads everything when it is opened, and says so then.
        let Ok(target) = S::open(options(&disk, false)).await else {
            return;
        };
        assert!(target.scan(b"", b"").any(|row| row.is_err()));
        assert!(!target.damage().is_empty());
        install(&source.export(), &disk, &target).await;
        same(&target, &model);
        assert_eq!(target.damage(), []);
    });
}

/// Ships a checkpoint in pieces and takes it over.
pub async fn install<S: Subject>(
    export: &crate::engine::export::Export,
    disk: &SimDisk,
    target: &S,
) {
    let incoming = Incoming::begin(disk.env().disk, ARRIVALS.into(), &export.manifest())
        .await
        .unwrap();
    for (number, file) in export.files().iter().enumerate() {
        let mut at = 0;
        while at < file.len {
            let piece = export.read(number, at, 20_000).unwrap();
            let len = piece.len() as u64;
            incoming.write(number, at, piece).await.unwrap();
            at += len;
        }
    }
    let twins = target.store().twins;
    let prepared = incoming.finish(twins).await.unwrap();
    assert_eq!(prepared.applied(), export.info().applied.as_ref());
    let info = target.install(prepared).await.unwrap();
    assert_eq!(
        (info.digest, &info.applied),
        (export.info().digest, &export.info().applied)
    );
}

/// Whoever knows the old rows may say how the digest moves; it must be the same as the engine's own reckoning.
fn digest_may_come_with_the_batch<S: Subject>() {
    sim::run(1, async {
        let engine: S = open(&new_disk(), false).await;
        put(&engine, "a", "1");
        put(&engine, "b", "1");
        engine.checkpoint(None).await.unwrap();
        let mut changes = batch(&[(b"a", Some(b"2")), (b"b", None), (b"c", Some(b"3"))], "");
        let moves = [
            (&b"a"[..], Some(&b"1"[..]), Some(&b"2"[..])),
            (b"b", Some(b"1"), None),
            (b"c", None, Some(b"3")),
        ];
        changes.digest_delta = Some(moves.iter().fold(0, |sum: u128, (key, old, new)| {
            sum.wrapping_add(digest::delta(key, *old, *new))
        }));
        engine.write(changes).unwrap();
        assert_eq!(engine.digest(), digest::recompute(&engine).unwrap());
    });
}

/// The same calls give the same files, byte for byte: a simulation that fails once fails again.
fn same_seed_gives_the_same_disk<S: Subject>() {
    let world = |seed| {
        sim::run_traced(seed, async {
            let disk = new_disk();
            let (engine, mut model): (S, _) = (open(&disk, true).await, Model::new());
            for round in 0..6 {
                fill(&engine, &mut model, round * 100, 200);
                engine.checkpoint(None).await.unwrap();
                merge(&engine).await;
            }
            disk.digest()
        })
    };
    assert_eq!(world(5), world(5));
    assert_ne!(world(5).0, world(6).0, "run names are random");
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    Checkpoint,
    Merge,
    Reopen,
    View,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop_oneof![
        proptest::collection::vec(0u8..3, 0..5),
        (0u16..300).prop_map(|n| [&b"prefix"[..], &n.to_be_bytes()].concat()),
    ];
    let row = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0usize..9000).prop_map(|(byte, len)| vec![byte; len]),
    ];
    let write = proptest::collection::vec((key, proptest::option::weighted(0.8, row)), 0..40)
        .prop_map(Step::Write);
    let step = prop_oneof![12 => write, 3 => Just(Step::Checkpoint), 1 => Just(Step::Merge), 1 => Just(Step::Reopen), 2 => Just(Step::View)];
    proptest::collection::vec(step, 0..60)
}

/// Whatever is done to it, an engine is a sorted map that falls back to its last checkpoint when it is opened again.
fn engine_is_a_sorted_map_with_checkpoints<S: Subject>() {
    let config = ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in steps(), asked in proptest::collection::vec(0u8..3, 0..5), twins: bool)| {
        sim::run(1, async {
            let disk = new_disk();
            let mut engine: S = open(&disk, twins).await;
            let (mut model, mut durable) = (Model::new(), Model::new());
            let mut views: Vec<(Box<dyn View>, Model)> = Vec::new();
            for step in steps {
                match step {
                    Step::Write(changes) => {
                        let refs: Vec<_> = changes.iter().map(|(key, row)| (&key[..], row.as_deref())).collect();
                        engine.write(batch(&refs, "mark")).unwrap();
                        for (key, row) in changes {
                            match row {
                                Some(row) => model.insert(key, row),
                                None => model.remove(&key),
                            };
                        }
                    }
                    Step::Checkpoint => {
                        engine.checkpoint(None).await.unwrap();
                        durable = model.clone();
                    }
                    Step::Merge => merge(&engine).await,
                    Step::Reopen => {
                        engine = open(&disk, twins).await;
                        model = durable.clone();
                    }
                    Step::View => views.push((engine.view(), model.clone())),
                }
                assert_eq!(engine.get(&asked).unwrap().as_deref(), model.get(&asked).map(|row| &row[..]));
            }
            views.push((engine.view(), model.clone()));
            for (view, model) in &views {
                same(&**view, model);
                let later: Model = model.range(asked.clone()..).map(|(k, v)| (k.clone(), v.clone())).collect();
                assert_eq!(range(&**view, &asked, b""), later);
            }
            assert_eq!(engine.digest(), digest::recompute(&engine).unwrap());
        });
    });
}

on_every_engine![
    newest_change_wins_wherever_older_ones_lie,
    batch_is_applied_in_order,
    batch_is_seen_whole_or_not_at_all,
    view_stands_still_while_the_engine_goes_on,
    large_run_with_many_index_blocks_is_searched,
    scan_keeps_to_its_bounds,
    checkpoint_is_what_a_restart_finds,
    moment_of_a_checkpoint_is_its_call,
    checkpoint_waits_for_what_must_come_before,
    failed_checkpoint_loses_nothing,
    installed_checkpoint_replaces_everything,
    damaged_checkpoint_is_not_installed,
    damaged_store_is_whole_after_an_install,
    digest_may_come_with_the_batch,
    same_seed_gives_the_same_disk,
    engine_is_a_sorted_map_with_checkpoints,
];
