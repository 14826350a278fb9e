//! Random histories of locked versions against the reference: S3's rules, on a map of versions.

use std::collections::BTreeMap;

use minikv_proto::entry as wire;

use super::locks::{DAY, Lock, Mode, NOW, delete, hold, put, retain, seq, world};
use super::world::{Dice, World, keys_of_one_vshard, sized};
use crate::ids::{BucketId, VShard, VersionId};
use crate::kv::{Refusal, VersionSelector};
use crate::state::answer::{Answer, Done};
use crate::state::entry::Body;
use crate::state::read;

/// What the model knows of a version.
#[derive(Clone, Debug)]
struct Known {
    marker: bool,
    lock: Lock,
}

/// The reference: versions by key and id, and the rules as S3 tells them.
struct Model {
    default: Option<(Mode, u32)>,
    versions: BTreeMap<(String, VersionId), Known>,
    /// The latest time of an entry that made a version.
    latest: u64,
}

impl Model {
    fn made(&mut self, key: &str, id: VersionId, asked: Lock, now: u64) {
        self.latest = self.latest.max(now);
        let of_bucket = |(mode, days)| (mode, self.latest + u64::from(days) * DAY);
        let lock = Lock {
            retention: asked.retention.or(self.default.map(of_bucket)),
            hold: asked.hold,
        };
        let known = Known {
            marker: false,
            lock,
        };
        self.versions.insert((key.to_owned(), id), known);
    }

    fn is_kept(lock: &Lock, now: u64, bypass: bool) -> bool {
        let retained = match lock.retention {
            Some((Mode::Compliance, until)) => now < until,
            Some((Mode::Governance, until)) => now < until && !bypass,
            None => false,
        };
        retained || lock.hold == Some(true)
    }

    fn may_retain(lock: &Lock, new: Option<(Mode, u64)>, now: u64, bypass: bool) -> bool {
        match lock.retention {
            Some((old, until)) if now < until => match (old, new) {
                (Mode::Governance, _) if bypass => true,
                (old, Some((mode, later))) => old == mode && until <= later,
                (_, None) => false,
            },
            _ => true,
        }
    }

    /// Every version that the model knows is there with its lock, and no other is.
    fn check(&self, w: &World, b: BucketId, keys: &[String]) {
        let mut found = 0;
        for ((key, id), known) in &self.versions {
            let version = w.find(b, key, VersionSelector::Id(*id));
            let version = version.unwrap_or_else(|| panic!("{key} {id} is gone: {known:?}"));
            assert_eq!(version.is_delete_marker, known.marker);
            assert_eq!(version.new.lock.to_row(), known.lock.row());
            found += 1;
        }
        let usage = read::bucket_usage(&w.rows, b).unwrap();
        assert_eq!(usage.versions + usage.markers, found, "of {keys:?}");
    }
}

/// Puts, copies, uploads, deletes, retentions and holds in any order, with and without bypass, while the clock of the
/// leader runs, jumps ahead with true time, and falls behind it: what is protected never disappears.
#[test]
fn no_history_takes_a_protected_version() {
    for seed in 0..24 {
        let mut dice = Dice::new(seed);
        let default = match dice.below(3) {
            0 => None,
            1 => Some((Mode::Governance, 2)),
            _ => Some((Mode::Compliance, 2)),
        };
        let (mut w, b) = world(default);
        w.twice = seed < 4;
        let mut keys = keys_of_one_vshard(b, 3);
        keys.push("elsewhere".into());
        let mut model = Model {
            default,
            versions: BTreeMap::new(),
            latest: 0,
        };
        let mut true_ms = NOW;
        // Until when, in true time, each version was promised to stay by nobody but time: checked from outside.
        let mut promised: BTreeMap<(String, VersionId), u64> = BTreeMap::new();
        let mut latest_true = NOW;
        for number in 0..400 {
            true_ms += dice.below(DAY / 8);
            let behind = match dice.below(5) {
                0 => dice.below(9 * DAY),
                _ => 0,
            };
            // The world adds 10 to the time of each entry.
            w.now_ms = true_ms - behind - 10;
            let made = step(&mut w, &mut dice, &mut model, b, &keys);
            if let Some((name, said)) = made {
                // An entry whose clock was right says what time it is; from then on the default counts from no earlier.
                if behind == 0 {
                    latest_true = true_ms;
                }
                match (said, default) {
                    (None, Some((Mode::Compliance, days))) => {
                        promised.insert(name, latest_true + u64::from(days) * DAY);
                    }
                    (Some((Mode::Compliance, until)), _) => {
                        promised.insert(name, until);
                    }
                    _ => {}
                }
            }
            for ((key, id), until) in &promised {
                let there = w.find(b, key, VersionSelector::Id(*id)).is_some();
                assert!(there || *until <= true_ms, "{key} {id} went before {until}");
            }
            promised.retain(|_, until| *until > true_ms);
            if number % 10 == 0 {
                model.check(&w, b, &keys);
            }
        }
        model.check(&w, b, &keys);
        w.release_all();
        w.check();
    }
}

type Name = (String, VersionId);

/// One step, which the model foresees. Answers a version that was made, and the retention it was made with.
fn step(
    w: &mut World,
    dice: &mut Dice,
    model: &mut Model,
    b: BucketId,
    keys: &[String],
) -> Option<(Name, Option<(Mode, u64)>)> {
    let key = dice.pick(keys).clone();
    let names: Vec<Name> = model.versions.keys().cloned().collect();
    let now = w.now_ms + 10;
    let retention = |dice: &mut Dice| {
        let mode = *dice.pick(&[Mode::Governance, Mode::Compliance]);
        let at = now + dice.below(4 * DAY);
        (dice.below(3) > 0).then_some((mode, at.saturating_sub(DAY / 2)))
    };
    match dice.below(11) {
        10 => copy(w, dice, model, b, &key, &names, now),
        0..=2 => {
            let asked = Lock {
                retention: retention(dice),
                hold: (dice.below(8) == 0).then(|| dice.below(2) == 0),
            };
            let id = put(w, b, &key, asked);
            model.made(&key, id, asked, now);
            Some(((key, id), asked.retention))
        }
        3 => {
            let marker = w.delete(b, &key).marker.unwrap();
            let known = Known {
                marker: true,
                lock: Lock::default(),
            };
            model.versions.insert((key, marker), known);
            None
        }
        4 => {
            let upload = w.create_upload(b, &key);
            let part = w.part_body(b, &key, upload, 1, "part");
            w.propose(part, b"part");
            w.now_ms -= 20;
            let id = w.complete(b, &key, upload, 1, &[(1, 1)], 4).written.id;
            model.made(&key, id, Lock::default(), now);
            Some(((key, id), None))
        }
        _ if names.is_empty() => None,
        5 | 6 => {
            let (key, id) = dice.pick(&names).clone();
            let bypass = dice.below(2) == 0;
            let kept = Model::is_kept(&model.versions[&(key.clone(), id)].lock, now, bypass);
            let body = delete(w, b, &key, id, bypass);
            match w.answer(body) {
                Answer::Done(Done::Deleted(deleted)) => {
                    assert!(deleted.existed && !kept, "{key} {id} was deleted");
                    model.versions.remove(&(key, id));
                }
                Answer::Refused(Refusal::Locked) => assert!(kept, "{key} {id} was not deleted"),
                other => panic!("{other:?}"),
            }
            None
        }
        7 | 8 => {
            let name = dice.pick(&names).clone();
            let (new, bypass) = (retention(dice), dice.below(3) == 0);
            let body = retain(w, b, &name.0, name.1, new, bypass);
            let known = model.versions.get_mut(&name).unwrap();
            let allowed = Model::may_retain(&known.lock, new, now, bypass);
            match w.answer(body) {
                Answer::Done(Done::Written(_)) => {
                    assert!(allowed && !known.marker);
                    known.lock.retention = new;
                }
                Answer::Refused(Refusal::Locked) => assert!(!allowed),
                Answer::Refused(Refusal::NoSuchVersion) => assert!(known.marker),
                other => panic!("{other:?}"),
            }
            None
        }
        _ => {
            let name = dice.pick(&names).clone();
            let on = dice.below(3) == 0;
            let body = hold(w, b, &name.0, name.1, on);
            let known = model.versions.get_mut(&name).unwrap();
            match w.answer(body) {
                Answer::Done(Done::Written(_)) => {
                    assert!(!known.marker);
                    known.lock.hold = Some(on);
                }
                Answer::Refused(Refusal::NoSuchVersion) => assert!(known.marker),
                other => panic!("{other:?}"),
            }
            None
        }
    }
}

/// A copy shares its source's bytes, and nothing of what keeps it.
fn copy(
    w: &mut World,
    dice: &mut Dice,
    model: &mut Model,
    b: BucketId,
    to: &str,
    names: &[Name],
    now: u64,
) -> Option<(Name, Option<(Mode, u64)>)> {
    let same = |name: &&Name| VShard::of(b, name.0.as_bytes()) == VShard::of(b, to.as_bytes());
    let sources: Vec<&Name> = names.iter().filter(same).collect();
    if sources.is_empty() {
        return None;
    }
    let (key, id) = *dice.pick(&sources);
    let copy = wire::Copy {
        target: w.target(b, to),
        conditions: None,
        version: sized("copy", 4),
        source_bucket: b.0,
        source_epoch: w.epoch(b),
        source_key: key.clone().into(),
        source_seq: seq(b, key, *id).unwrap(),
    };
    match w.answer(Body::Copy(copy)) {
        Answer::Done(Done::Written(written)) => {
            model.made(to, written.id, Lock::default(), now);
            Some(((to.to_owned(), written.id), None))
        }
        Answer::Refused(Refusal::NoSuchKey) => {
            assert!(model.versions[&(key.clone(), *id)].marker);
            None
        }
        other => panic!("{other:?}"),
    }
}
