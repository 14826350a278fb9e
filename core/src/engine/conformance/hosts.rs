//! A database may be found again as it was, one checkpoint late, half filled, of another story or damaged; the rows are
//! always those of the newest checkpoint.

#![allow(
    clippy::disallowed_methods,
    reason = "the databases lie on the real disk"
)]

use std::path::Path;
use std::{fs, io};

use proptest::prelude::*;

use super::*;
use crate::engine::digest;
use crate::env::sim;

async fn open_at<D: Database>(disk: &SimDisk, dir: &Path) -> Hosted<D> {
    open_in(options(disk, false), dir.to_owned()).await.unwrap()
}

fn copy(from: &Path, to: &Path, names: &mut Vec<PathBuf>) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target, names)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
        names.push(entry.path());
    }
    names.sort();
    Ok(())
}

/// What a kill leaves: the files as they are now. Copied again while the database's own threads make or remove some.
fn copied(dir: &Path) -> PathBuf {
    loop {
        let (once, twice) = (new_host(), new_host());
        let (mut names, mut again) = (Vec::new(), Vec::new());
        let copied = copy(dir, &once, &mut names).and_then(|()| copy(dir, &twice, &mut again));
        match copied {
            Ok(()) if names == again => return twice,
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }
}

/// A start after a checkpoint takes the database as it is; no row is read or written.
fn database_that_fits_is_taken_as_it_is<D: Database>() {
    sim::run(1, async {
        let (disk, dir, mut model) = (new_disk(), new_host(), Model::new());
        for round in 0..4 {
            let engine = open_at::<D>(&disk, &dir).await;
            assert_eq!(engine.brought_in(), 0);
            same(&engine, &model);
            fill(&engine, &mut model, round * 300, 500);
            engine.checkpoint(None).await.unwrap();
            assert!(engine.brought_in() > 0);
            same(&engine, &model);
            assert_eq!(
                engine.overlay_bytes(),
                0,
                "it let go of what is in the database"
            );
            put(&engine, "later", "lost without the log");
        }
        let engine = open_at::<D>(&disk, &dir).await;
        same(&engine, &model);
        assert_eq!(engine.digest(), digest::recompute(&engine).unwrap());
    });
}

/// A kill between manifest and database: only the newest run is brought in, deletes included. After a merge of the runs
/// that it knows, all of it is made anew.
fn database_that_is_late_is_brought_up<D: Database>() {
    sim::run(1, async {
        let (disk, dir, mut model) = (new_disk(), new_host(), Model::new());
        let engine = open_at::<D>(&disk, &dir).await;
        fill(&engine, &mut model, 0, 500);
        engine.checkpoint(None).await.unwrap();
        merge(&engine).await;
        let late = copied(&dir);
        fill(&engine, &mut model, 500, 40);
        let gone: Vec<_> = model.keys().step_by(50).cloned().collect();
        for key in &gone {
            engine.write(batch(&[(key, None)], "gone")).unwrap();
            model.remove(key);
        }
        engine.checkpoint(None).await.unwrap();
        let killed = disk.after_kill();
        let reopened = open_at::<D>(&killed, &copied(&late)).await;
        let newest = &reopened.store().set().runs()[0].meta().clone();
        assert_eq!(reopened.brought_in(), newest.rows + newest.tombstones);
        same(&reopened, &model);
        assert_eq!(reopened.digest(), digest::recompute(&reopened).unwrap());
        drop(reopened);

        engine.store().merge_all(0).await.unwrap();
        drop(engine);
        let reopened = open_at::<D>(&disk, &late).await;
        assert_eq!(reopened.brought_in(), model.len() as u64);
        same(&reopened, &model);
    });
}

/// Runs that were merged since the database last said which it holds: the next checkpoint has it say so first.
fn merged_runs_do_not_make_a_database_late<D: Database>() {
    sim::run(1, async {
        let (disk, dir, mut model) = (new_disk(), new_host(), Model::new());
        let engine = open_at::<D>(&disk, &dir).await;
        for round in 0..3 {
            fill(&engine, &mut model, round * 100, 100);
            engine.checkpoint(None).await.unwrap();
        }
        engine.store().merge_all(0).await.unwrap();
        // Somebody reads in the time before the checkpoint: its rows wait, and then the process is killed.
        let view = engine.view();
        fill(&engine, &mut model, 300, 30);
        engine.checkpoint(None).await.unwrap();
        let (killed, host) = (disk.after_kill(), copied(&dir));
        let reopened = open_at::<D>(&killed, &host).await;
        assert_eq!(
            reopened.brought_in(),
            reopened.store().set().runs()[0].meta().rows
        );
        same(&reopened, &model);
        // Who read goes on in that time, and with the last of them the rows go in.
        assert!(engine.overlay_bytes() > 0);
        assert_eq!(range(&*view, b"", b"").len(), 300);
        drop(view);
        put(&engine, "one more", "");
        engine.checkpoint(None).await.unwrap();
        assert_eq!(engine.overlay_bytes(), 0);
        model.insert(b"one more".to_vec(), Vec::new());
        same(&engine, &model);
    });
}

/// A data directory restored from a backup, a database of another store, or of a time that the store has left behind.
fn database_of_another_story_is_made_anew<D: Database>() {
    sim::run(1, async {
        let (disk, dir, mut model) = (new_disk(), new_host(), Model::new());
        let engine = open_at::<D>(&disk, &dir).await;
        fill(&engine, &mut model, 0, 200);
        engine.checkpoint(None).await.unwrap();
        let (backup, then) = (disk.after_kill(), model.clone());
        fill(&engine, &mut model, 200, 200);
        engine.checkpoint(None).await.unwrap();
        drop(engine);

        let restored = open_at::<D>(&backup, &dir).await;
        same(&restored, &then);
        drop(restored);
        let other_disk = new_disk();
        let other = open_at::<D>(&other_disk, &copied(&dir)).await;
        same(&other, &Model::new());
    });
}

/// The database's files are removed, cut, or written over, one after the other: rows, or an error; never other rows.
fn damaged_database_is_made_anew_or_says_so<D: Database>() {
    sim::run(1, async {
        let (disk, dir, mut model) = (new_disk(), new_host(), Model::new());
        let engine = open_at::<D>(&disk, &dir).await;
        fill(&engine, &mut model, 0, 2000);
        engine.checkpoint(None).await.unwrap();
        drop(engine);
        let mut files = Vec::new();
        let mut look = vec![dir.clone()];
        while let Some(inner) = look.pop() {
            for entry in fs::read_dir(&inner).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => look.push(path),
                    false => files.push(path.strip_prefix(&dir).unwrap().to_owned()),
                }
            }
        }
        assert!(!files.is_empty());
        for file in files {
            let whole = fs::read(dir.join(&file)).unwrap();
            let half = whole.len() / 2;
            let mut flipped = whole.clone();
            flipped
                .iter_mut()
                .skip(3)
                .step_by(997)
                .for_each(|byte| *byte ^= 0x41);
            for content in [None, Some(&whole[..half]), Some(b"garbage"), Some(&flipped)] {
                let host = copied(&dir);
                match content {
                    Some(content) => fs::write(host.join(&file), content).unwrap(),
                    None => fs::remove_file(host.join(&file)).unwrap(),
                }
                let story = format!("{file:?} {:?}", content.map(<[u8]>::len));
                let engine = open_at::<D>(&disk, &host).await;
                let damaged = |error: EngineError| assert!(error.is_damage(), "{story}: {error}");
                for (key, row) in &model {
                    match engine.get(key) {
                        Ok(found) => assert_eq!(found.as_deref(), Some(&row[..]), "{story}"),
                        Err(error) => damaged(error),
                    }
                }
                let mut expected = model.iter();
                for row in engine.scan(b"", b"") {
                    match row {
                        Ok((key, row)) => {
                            let (k, v) = expected.next().unwrap();
                            assert_eq!((&key[..], &row[..]), (&k[..], &v[..]), "{story}");
                        }
                        Err(error) => damaged(error),
                    }
                }
            }
        }
    });
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u16, Option<u8>)>),
    Checkpoint,
    Merge,
    /// Keeps a view, or lets go of all.
    View(bool),
    /// Keeps a copy of the database's files.
    Copy,
    /// The process is killed and finds its database, or one of the copies, or none.
    Kill(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0u16..400, proptest::option::weighted(0.8, any::<u8>()));
    let step = prop_oneof![
        8 => proptest::collection::vec(change, 0..120).prop_map(Step::Write),
        4 => Just(Step::Checkpoint),
        1 => Just(Step::Merge),
        2 => any::<bool>().prop_map(Step::View),
        1 => Just(Step::Copy),
        2 => any::<prop::sample::Index>().prop_map(Step::Kill),
    ];
    proptest::collection::vec(step, 0..40)
}

/// Whatever database a start finds, the rows are those of the newest checkpoint, and views stand still.
fn rows_never_depend_on_the_database_found<D: Database>() {
    let config = ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in steps())| {
        sim::run(1, async {
            let (disk, mut dir) = (new_disk(), new_host());
            let mut engine = open_at::<D>(&disk, &dir).await;
            let (mut model, mut durable) = (Model::new(), Model::new());
            let (mut views, mut copies) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Write(changes) => {
                        for (key, row) in changes {
                            let key = format!("{key:03}").into_bytes();
                            let row = row.map(|byte| vec![byte; usize::from(byte) * 3]);
                            engine.write(batch(&[(&key, row.as_deref())], "mark")).unwrap();
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
                    Step::View(true) => views.push((engine.view(), model.clone())),
                    Step::View(false) => views.clear(),
                    Step::Copy => copies.push(copied(&dir)),
                    Step::Kill(which) => {
                        copies.push(copied(&dir));
                        copies.push(new_host());
                        dir = copied(&copies[which.index(copies.len())]);
                        engine = open_at::<D>(&disk, &dir).await;
                        model = durable.clone();
                    }
                }
                let probe = b"200";
                assert_eq!(engine.get(probe).unwrap().as_deref(), model.get(&probe[..]).map(|row| &row[..]));
            }
            views.push((engine.view(), model));
            for (view, model) in &views {
                same(&**view, model);
                let later: Model = model.range(b"150".to_vec()..b"250".to_vec()).map(|(k, v)| (k.clone(), v.clone())).collect();
                assert_eq!(range(&**view, b"150", b"250"), later);
            }
            assert_eq!(engine.digest(), digest::recompute(&engine).unwrap());
        });
    });
}

/// Engines take turns on one store, and come back to a database that others have left behind; mark, digest and rows go on.
fn engines_take_turns<D: Database>() {
    async fn turn(engine: impl Engine, model: &mut Model, round: u32) {
        same(&engine, model);
        assert_eq!(engine.digest(), digest::recompute(&engine).unwrap());
        fill(&engine, model, round * 60, 100);
        engine.checkpoint(None).await.unwrap();
        same(&engine, model);
    }
    sim::run(1, async {
        let (disk, dir, mut model) = (new_disk(), new_host(), Model::new());
        for round in 0..4 {
            turn(open::<Native>(&disk, false).await, &mut model, round * 3).await;
            turn(open_at::<D>(&disk, &dir).await, &mut model, round * 3 + 1).await;
            turn(
                open::<Memory>(&disk, false).await,
                &mut model,
                round * 3 + 2,
            )
            .await;
        }
    });
}

macro_rules! on_every_database {
    ($($test:ident),* $(,)?) => {
        mod on_sled {
            $(#[test]
            fn $test() {
                super::$test::<crate::engine::sled_table::Sled>();
            })*
        }
        #[cfg(feature = "rocksdb")]
        mod on_rocksdb {
            $(#[test]
            fn $test() {
                super::$test::<crate::engine::rocksdb_table::RocksDb>();
            })*
        }
    };
}

on_every_database![
    database_that_fits_is_taken_as_it_is,
    database_that_is_late_is_brought_up,
    merged_runs_do_not_make_a_database_late,
    database_of_another_story_is_made_anew,
    damaged_database_is_made_anew_or_says_so,
    engines_take_turns,
    rows_never_depend_on_the_database_found,
];
