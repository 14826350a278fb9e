//! The simulated disk against the real one: the same random operations, the same answers.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{Choice, SimDisk};
use crate::env::disk::{Disk, File, Open, RealDisk};

/// What an operation answered: its value, or the kind of its error.
fn answer<T: Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// One disk and the files opened on it.
struct Side {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    open: BTreeMap<usize, Arc<dyn File>>,
}

impl Side {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Draws an operation and does it; both sides draw the same.
    fn step(&mut self, rng: &mut SmallRng) -> String {
        let mut name =
            || ["a", "b", "dir/a", "dir/b", "dir", "other", "other/deep"][rng.random_range(0..7)];
        let (one, two) = (self.path(name()), self.path(name()));
        let slot = rng.random_range(0..4);
        let at = rng.random_range(0..20_000_u64);
        let bytes = Bytes::from(vec![rng.random(); rng.random_range(0..9000)]);
        let done = match rng.random_range(0..16) {
            0..4 => {
                let how = [
                    Open::CreateNew,
                    Open::CreateNew,
                    Open::ReadWrite,
                    Open::Read,
                ][rng.random_range(0..4)];
                let opened = self.disk.open(&one, how);
                let shown = answer(
                    opened
                        .as_ref()
                        .map(|_| ())
                        .map_err(|error| error.kind().into()),
                );
                self.open.extend(opened.ok().map(|file| (slot, file)));
                shown
            }
            4 => answer(self.disk.create_dir_all(&one)),
            5 => answer(self.disk.rename(&one, &two)),
            6 => answer(self.disk.remove(&one)),
            7 => answer(block_on(self.disk.sync_dir(&one))),
            8 => answer(self.disk.list(&one).map(|list| {
                let shown = |path: &Path| path.strip_prefix(&self.root).map(Path::to_owned).ok();
                list.iter()
                    .map(|entry| (shown(&entry.path), entry.len, entry.is_dir))
                    .collect::<Vec<_>>()
            })),
            other => {
                let Some(file) = self.open.get(&slot) else {
                    return "nothing open".to_owned();
                };
                match other {
                    9 | 10 => answer(block_on(
                        file.write_at(&[bytes.slice(..bytes.len() / 2), bytes], at),
                    )),
                    11 => answer(block_on(file.sync_data())),
                    12 => answer(file.allocate(at + 1)),
                    13 => answer(file.set_len(at)),
                    14 => answer(file.len()),
                    _ => {
                        let mut back = vec![0; 10_000];
                        let read = file.read_at(&mut back, at);
                        answer(read.map(|read| (read, xxhash_rust::xxh3::xxh3_64(&back))))
                    }
                }
            }
        };
        format!("{:?} {slot}: {done}", one.strip_prefix(&self.root).ok())
    }

    /// Every name under a directory, and what is in it.
    fn all(&self, dir: &Path) -> Vec<(PathBuf, u64, u64)> {
        let mut found = Vec::new();
        for entry in self.disk.list(dir).unwrap() {
            let mut content = vec![0; entry.len as usize];
            if entry.is_dir {
                found.extend(self.all(&entry.path));
            } else {
                self.disk
                    .open(&entry.path, Open::Read)
                    .unwrap()
                    .read_at(&mut content, 0)
                    .unwrap();
            }
            let path = entry.path.strip_prefix(&self.root).unwrap().to_owned();
            found.push((path, entry.len, xxhash_rust::xxh3::xxh3_64(&content)));
        }
        found
    }
}

/// A recovery that was only ever tried on a disk that answers otherwise than Linux does has not been tried.
#[test]
fn both_disks_give_the_same_answers() {
    for seed in 0..60 {
        let dir = tempfile::tempdir().unwrap();
        let sim_disk = SimDisk::new(seed);
        sim_disk.plant_dir("/d").unwrap();
        let mut real = Side {
            disk: Arc::new(RealDisk),
            root: dir.path().to_owned(),
            open: BTreeMap::new(),
        };
        let mut sim = Side {
            disk: Arc::new(sim_disk.clone()),
            root: "/d".into(),
            open: BTreeMap::new(),
        };
        let (mut one, mut two) = (SmallRng::seed_from_u64(seed), SmallRng::seed_from_u64(seed));
        for step in 0..150 {
            assert_eq!(
                sim.step(&mut one),
                real.step(&mut two),
                "seed {seed}, step {step}"
            );
        }
        let everything = sim.all(&sim.root);
        assert_eq!(everything, real.all(&real.root), "seed {seed}");

        // Nothing was lost on the way between cache and device: a cut that keeps everything keeps exactly this.
        let after = sim_disk.after_power_cut(&Choice::All);
        let after = Side {
            disk: Arc::new(after),
            root: "/d".into(),
            open: BTreeMap::new(),
        };
        assert_eq!(after.all(&after.root), everything, "seed {seed}");
        let killed = Side {
            disk: Arc::new(sim_disk.after_kill()),
            root: "/d".into(),
            open: BTreeMap::new(),
        };
        assert_eq!(killed.all(&killed.root), everything, "seed {seed}");

        // Once all of it was synced, no cut takes anything.
        let mut dirs = vec![sim.root.clone()];
        for (path, ..) in &everything {
            match sim.disk.open(&sim.root.join(path), Open::Read) {
                Ok(file) => block_on(file.sync_data()).unwrap(),
                Err(_) => dirs.push(sim.root.join(path)),
            }
        }
        for dir in dirs {
            block_on(sim.disk.sync_dir(&dir)).unwrap();
        }
        let after = Side {
            disk: Arc::new(sim_disk.after_power_cut(&Choice::None)),
            root: "/d".into(),
            open: BTreeMap::new(),
        };
        assert_eq!(after.all(&after.root), everything, "seed {seed}");
    }
}
