//! What is left after crashes and damage: the old checkpoint or the new one, and a clear word about what is bad.

use super::*;
use crate::engine::digest;
use crate::env::sim::{self, Choice, Fault, OpKind};

/// What the disk may hold from an operation on, when the call before it had returned.
struct Promise {
    from_op: u64,
    states: Vec<(Option<Bytes>, Model)>,
}

/// Several checkpoints with merges in between, each operation of the disk recorded.
async fn workload<S: Subject>(disk: &SimDisk, twins: bool) -> Vec<Promise> {
    disk.record_states(true);
    let mut promises = vec![Promise {
        from_op: 0,
        states: vec![(None, Model::new())],
    }];
    let engine: S = open(disk, twins).await;
    let mut model = Model::new();
    let mut durable = (None, Model::new());
    for round in 0..3u32 {
        for n in 0..5u32 {
            let key = format!("k{}", (round * 3 + n) % 8);
            let row = vec![round as u8; if n == 0 { 5000 } else { 30 }];
            engine
                .write(batch(
                    &[(key.as_bytes(), Some(&row))],
                    &format!("{round}.{n}"),
                ))
                .unwrap();
            model.insert(key.into_bytes(), row);
        }
        let gone = format!("k{round}");
        engine
            .write(batch(&[(gone.as_bytes(), None)], &format!("{round}.9")))
            .unwrap();
        model.remove(gone.as_bytes());
        let next = (engine.applied(), model.clone());
        promises.push(Promise {
            from_op: disk.op_count(),
            states: vec![durable.clone(), next.clone()],
        });
        engine.checkpoint(None).await.unwrap();
        promises.push(Promise {
            from_op: disk.op_count(),
            states: vec![next.clone()],
        });
        durable = next;
    }
    engine.store().merge_all(0).await.unwrap();
    promises
}

/// The engine on what a crash left is at a promised checkpoint exactly, and works on from there.
fn recovered<S: Subject>(disk: &SimDisk, twins: bool, promised: &Promise, story: &str) {
    sim::run(8, async {
        let engine: S = open(disk, twins).await;
        let found = (engine.applied(), all(&engine));
        assert!(
            promised.states.contains(&found),
            "{story}: {:?} is not at a promised checkpoint",
            found.0
        );
        assert_eq!(
            digest::recompute(&engine).unwrap(),
            engine.digest(),
            "{story}"
        );
        assert_eq!(engine.damage(), [], "{story}");
        put(&engine, "after", story);
        engine.checkpoint(None).await.unwrap();
        drop(engine);
        let engine: S = open(disk, twins).await;
        assert_eq!(engine.get(b"after").unwrap().unwrap(), story.as_bytes());
        let files = disk.files().len();
        let copies = 1 + usize::from(twins);
        assert_eq!(
            files,
            (engine.store().set().runs().len() + 2) * copies,
            "{story}: {:?}",
            disk.files()
        );
    });
}

/// Power fails, or the process dies, at every single operation of opening, checkpoints and a merge; of what was not
/// synced any part may be kept.
fn crash_anywhere_leaves_the_old_checkpoint_or_the_new_one<S: Subject>() {
    for twins in [false, true] {
        let disk = new_disk();
        let promises = sim::run(7, workload::<S>(&disk, twins));
        let mut seen = std::collections::BTreeSet::new();
        for op in 0..disk.op_count() {
            let promised = promises
                .iter()
                .rfind(|promise| promise.from_op <= op)
                .unwrap();
            let killed = disk.state_before(op).unwrap();
            let cuts: Vec<Choice> = killed
                .power_cuts()
                .into_iter()
                .chain((0..8).map(Choice::Random))
                .collect();
            for cut in &cuts {
                let after = killed.after_power_cut(cut);
                if seen.insert((promised.from_op, after.digest())) {
                    recovered::<S>(
                        &after,
                        twins,
                        promised,
                        &format!("twins {twins}, op {op}, {cut:?}"),
                    );
                }
            }
            recovered::<S>(
                &killed,
                twins,
                promised,
                &format!("twins {twins}, op {op}, killed"),
            );
        }
        assert!(
            seen.len() > 100,
            "{} different crashes are too few to mean anything",
            seen.len()
        );
    }
}

/// Power fails, or the process dies, at every single operation of taking over a checkpoint from elsewhere: what is there
/// afterwards is the old state or the new one, whole, and the new one once the call has returned.
fn crash_anywhere_in_an_install_leaves_the_old_state_or_the_new_one<S: Subject>() {
    for twins in [false, true] {
        let (disk, source_disk) = (new_disk(), new_disk());
        let (begun, old, new) = sim::run(7, async {
            let (source, mut model): (S, _) = (open(&source_disk, twins).await, Model::new());
            for round in 0..2 {
                fill(&source, &mut model, round * 20, 30);
                source.checkpoint(None).await.unwrap();
            }
            let target: S = open(&disk, twins).await;
            let mut own = Model::new();
            fill(&target, &mut own, 500, 20);
            target.checkpoint(None).await.unwrap();
            let old = (target.applied(), own);
            put(&target, "overlay", "is in the log only");
            disk.record_states(true);
            let begun = disk.op_count();
            super::behaviour::install(&source.export(), &disk, &target).await;
            (begun, old, (source.applied(), model))
        });
        assert_ne!(old.0, new.0);
        let promise = |states: &[&(Option<Bytes>, Model)]| Promise {
            from_op: begun,
            states: states.iter().map(|state| (*state).clone()).collect(),
        };
        let mut seen = std::collections::BTreeSet::new();
        let mut judge = |after: SimDisk, promised: &Promise, story: String| {
            // As a start does: what arrived and was not taken over goes.
            let on = after.env().disk;
            for left in on.list(ARRIVALS.as_ref()).unwrap_or_default() {
                on.remove(&left.path).unwrap();
            }
            if seen.insert((promised.states.len(), after.digest())) {
                recovered::<S>(&after, twins, promised, &story);
            }
        };
        let either = promise(&[&old, &new]);
        for op in begun..disk.op_count() {
            let killed = disk.state_before(op).unwrap();
            let cuts = killed.power_cuts().into_iter();
            for cut in cuts.chain((0..8).map(Choice::Random)) {
                let story = format!("twins {twins}, op {op}, {cut:?}");
                judge(killed.after_power_cut(&cut), &either, story);
            }
            judge(killed, &either, format!("twins {twins}, op {op}, killed"));
        }
        let done = promise(&[&new]);
        for cut in disk.power_cuts() {
            let story = format!("twins {twins}, done, {cut:?}");
            judge(disk.after_power_cut(&cut), &done, story);
        }
        assert!(
            seen.len() > 20,
            "{} different crashes are too few",
            seen.len()
        );
    }
}

/// After a process kill the last renames may be in the page cache only. Power fails at every operation of the open that
/// follows: the store is at a promised checkpoint, and nothing of it was removed or overtaken by a name that came back.
fn a_power_cut_in_the_open_after_a_kill_loses_no_checkpoint<S: Subject>() {
    for twins in [false, true] {
        let disk = new_disk();
        let promises = sim::run(7, workload::<S>(&disk, twins));
        let history = disk.history();
        let mut seen = std::collections::BTreeSet::new();
        // What is renamed becomes durable by the sync that follows.
        let renamed = history.iter().filter(|op| op.kind == OpKind::SyncDir);
        for op in renamed.map(|op| op.number) {
            let promised = promises.iter().rfind(|promise| promise.from_op <= op);
            let promised = promised.unwrap();
            let killed = disk.state_before(op).unwrap();
            let from = killed.op_count();
            killed.record_states(true);
            sim::run(8, async { drop(open::<S>(&killed, twins).await) });
            for later in from..killed.op_count() {
                let state = killed.state_before(later).unwrap();
                for cut in state.power_cuts() {
                    let after = state.after_power_cut(&cut);
                    if seen.insert((promised.from_op, after.digest())) {
                        let story = format!("twins {twins}, op {op}, then {later}, {cut:?}");
                        recovered::<S>(&after, twins, promised, &story);
                    }
                }
            }
        }
        assert!(seen.len() > 10, "{} different crashes", seen.len());
    }
}

/// A store with two runs, closed.
async fn two_runs<S: Subject>(disk: &SimDisk, twins: bool) -> Model {
    let (engine, mut model): (S, _) = (open(disk, twins).await, Model::new());
    fill(&engine, &mut model, 0, 150);
    engine.checkpoint(None).await.unwrap();
    fill(&engine, &mut model, 100, 150);
    engine.checkpoint(None).await.unwrap();
    model
}

fn files(disk: &SimDisk, part: &str) -> Vec<(PathBuf, u64)> {
    disk.files()
        .into_iter()
        .filter(|(path, _)| path.to_string_lossy().contains(part))
        .collect()
}

/// Reads everything; a wrong row is the one thing that must not happen. `None`: damage was answered somewhere.
async fn read_all<S: Subject>(
    disk: &SimDisk,
    twins: bool,
    model: &Model,
) -> Result<Option<S>, EngineError> {
    let mut options = options(disk, twins);
    options.birth = Birth::MustExist;
    let engine = S::open(options).await?;
    let mut whole = true;
    for (key, row) in model {
        match engine.get(key) {
            Ok(found) => assert_eq!(
                found.as_deref(),
                Some(&row[..]),
                "never absent, never another row"
            ),
            Err(error) => {
                assert!(error.is_damage(), "{error}");
                whole = false;
            }
        }
    }
    let (mut expected, mut scan) = (model.iter(), engine.scan(b"", b""));
    loop {
        match scan.next() {
            Some(Ok((key, row))) => {
                assert_eq!(expected.next(), Some((&key.to_vec(), &row.to_vec())))
            }
            Some(Err(error)) => {
                assert!(error.is_damage(), "{error}");
                whole = false;
                break;
            }
            None => {
                assert!(expected.next().is_none(), "rows are missing without a word");
                break;
            }
        }
    }
    drop(scan);
    Ok(whole.then_some(engine))
}

/// One bit flips somewhere in a store without twins: rows come out right, or damage is answered with the file's name.
fn flipped_bit_without_a_twin_is_an_answer_not_a_row<S: Subject>() {
    sim::run(1, async {
        let disk = new_disk();
        let model = two_runs::<S>(&disk, false).await;
        for (path, len) in disk.files() {
            let name = path.file_name().unwrap().to_str().unwrap();
            let step = if len > 1000 { 331 } else { 5 };
            for byte in (0..len).step_by(step).chain([len - 1]) {
                let bad = disk.after_kill();
                bad.flip_bit(&path, byte, (byte % 8) as u8).unwrap();
                match read_all::<S>(&bad, false, &model).await {
                    Err(error) => {
                        assert!(error.to_string().contains(name), "{name} {byte}: {error}")
                    }
                    Ok(Some(_)) => assert!(name.ends_with(".run"), "{name} {byte}: nobody noticed"),
                    Ok(None) => {
                        // A scrub finds what the reads found.
                        let (engine, mut position) = (
                            S::open(options(&bad, false)).await.unwrap(),
                            Default::default(),
                        );
                        while engine.scrub_next(&mut position).is_some() {}
                        assert!(
                            engine
                                .damage()
                                .iter()
                                .any(|damage| damage.file == name && !damage.healable)
                        );
                    }
                }
            }
        }
    });
}

/// With twins one bad copy costs nothing: everything is served, reported, and whole again after healing.
fn flipped_bit_with_a_twin_is_served_and_healed<S: Subject>() {
    sim::run(1, async {
        let disk = new_disk();
        let model = two_runs::<S>(&disk, true).await;
        for (path, len) in disk.files() {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let step = if len > 1000 { 977 } else { 11 };
            for byte in (0..len).step_by(step).chain([len - 1]) {
                let bad = disk.after_kill();
                bad.flip_bit(&path, byte, 3).unwrap();
                let engine = read_all::<S>(&bad, true, &model)
                    .await
                    .unwrap()
                    .expect("the twin has it");
                let mut position = Default::default();
                while engine.scrub_next(&mut position).is_some() {}
                engine.heal().await.unwrap();
                let healed = engine.store().healed();
                assert!(
                    healed.iter().any(|healed| healed.file == name),
                    "{name} {byte}: {healed:?}"
                );
                assert_eq!(engine.damage(), []);
                drop(engine);
                let again = read_all::<S>(&bad, true, &model)
                    .await
                    .unwrap()
                    .expect("whole again");
                let mut position = Default::default();
                while again.scrub_next(&mut position).is_some() {}
                assert_eq!(again.damage(), [], "{name} {byte}");
            }
        }
    });
}

/// Both copies are bad, in different blocks: each block still has one good copy. In the same block: damage, named.
fn two_bad_twins_heal_each_other_unless_the_same_block_is_hit<S: Subject>() {
    sim::run(1, async {
        let disk = new_disk();
        let model = two_runs::<S>(&disk, true).await;
        let twin = files(&disk, ".run.twin")[0].0.clone();
        let run = twin.with_extension("");
        let bad = disk.after_kill();
        bad.flip_bit(&run, 100, 0).unwrap();
        bad.flip_bit(&twin, 9000, 0).unwrap();
        let engine = read_all::<S>(&bad, true, &model)
            .await
            .unwrap()
            .expect("each block has a good copy");
        let mut position = Default::default();
        while engine.scrub_next(&mut position).is_some() {}
        assert_eq!(engine.heal().await.unwrap().len(), 2);
        assert_eq!(bad.contents(&run).unwrap(), disk.contents(&run).unwrap());
        assert_eq!(bad.contents(&twin).unwrap(), disk.contents(&run).unwrap());

        let bad = disk.after_kill();
        bad.flip_bit(&run, 100, 0).unwrap();
        bad.flip_bit(&twin, 101, 0).unwrap();
        let name = run.file_name().unwrap().to_str().unwrap();
        match read_all::<S>(&bad, true, &model).await {
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
            Ok(engine) => assert!(engine.is_none(), "both copies of a block are bad"),
        }
    });
}

/// A missing file is damage, never an empty store; with a twin it is made anew.
fn missing_file_is_damage_or_made_anew<S: Subject>() {
    sim::run(1, async {
        for twins in [false, true] {
            let disk = new_disk();
            let model = two_runs::<S>(&disk, twins).await;
            for (path, _) in disk.files() {
                let bad = disk.after_kill();
                bad.env().disk.remove(&path).unwrap();
                bad.env().disk.sync_dir(DIR.as_ref()).await.unwrap();
                match read_all::<S>(&bad, twins, &model).await {
                    Ok(None) => assert!(!twins),
                    Err(error) => assert!(!twins && error.is_damage(), "{error}"),
                    Ok(Some(engine)) => {
                        assert!(twins, "{path:?} is missing and nobody noticed");
                        engine.heal().await.unwrap();
                        drop(engine);
                        // The store went on to another generation; runs are the same files again.
                        assert_eq!(bad.files().len(), disk.files().len());
                        let again = read_all::<S>(&bad, twins, &model)
                            .await
                            .unwrap()
                            .expect("whole again");
                        assert_eq!(again.damage(), []);
                    }
                }
            }
        }
    });
}

/// All files of a group are gone: only who knows that the store must exist can tell it from a new one, and is told.
fn lost_directory_is_not_a_new_store<S: Subject>() {
    sim::run(1, async {
        let mut options = options(&new_disk(), false);
        options.birth = Birth::MustExist;
        assert!(S::open(options).await.is_err_and(|error| error.is_damage()));
        // Even where a new store is allowed, left-over runs without CURRENT are a lost one.
        let disk = new_disk();
        two_runs::<S>(&disk, true).await;
        for (path, _) in files(&disk, "CURRENT") {
            disk.env().disk.remove(&path).unwrap();
        }
        assert!(
            S::open(super::options(&disk, true))
                .await
                .is_err_and(|error| error.is_damage())
        );
        assert!(!files(&disk, ".run").is_empty(), "nothing was removed");
    });
}

/// A store of one voter becomes one of three, and the other way round: twins go and come.
fn twins_can_be_switched_on_and_off<S: Subject>() {
    sim::run(1, async {
        let disk = new_disk();
        let model = two_runs::<S>(&disk, false).await;
        for twins in [true, false, true] {
            let engine: S = open(&disk, twins).await;
            engine.heal().await.unwrap();
            same(&engine, &model);
            drop(engine);
            assert_eq!(files(&disk, ".twin").is_empty(), !twins);
            let engine: S = open(&disk, twins).await;
            assert_eq!(engine.damage(), []);
        }
    });
}

/// A disk that gives the bytes of another place, or none: the same answers as for bytes that rotted.
fn misdirected_and_failing_reads_are_noticed<S: Subject>() {
    sim::run(1, async {
        for (fault, twins) in [
            (Fault::Misdirect(8192), true),
            (Fault::Eio, true),
            (Fault::FlipBit(77, 1), true),
            (Fault::Eio, false),
        ] {
            let disk = new_disk();
            let model = two_runs::<S>(&disk, twins).await;
            disk.count_reads(true);
            for nth in 0..40 {
                let bad = disk.after_kill();
                bad.count_reads(true);
                let mut left = nth;
                bad.on_op(move |disk, op| {
                    if op.kind == OpKind::Read && !op.path.to_string_lossy().contains("twin") {
                        if left == 0 {
                            disk.fail_at(op.number, fault);
                        }
                        left -= 1;
                    }
                });
                match read_all::<S>(&bad, twins, &model).await {
                    Ok(Some(_)) => {}
                    Ok(None) => assert!(!twins),
                    Err(error) => assert!(!twins, "{error}"),
                }
            }
        }
    });
}

on_every_engine![
    crash_anywhere_leaves_the_old_checkpoint_or_the_new_one,
    crash_anywhere_in_an_install_leaves_the_old_state_or_the_new_one,
    a_power_cut_in_the_open_after_a_kill_loses_no_checkpoint,
    flipped_bit_without_a_twin_is_an_answer_not_a_row,
    flipped_bit_with_a_twin_is_served_and_healed,
    two_bad_twins_heal_each_other_unless_the_same_block_is_hit,
    missing_file_is_damage_or_made_anew,
    lost_directory_is_not_a_new_store,
    twins_can_be_switched_on_and_off,
    misdirected_and_failing_reads_are_noticed,
];
