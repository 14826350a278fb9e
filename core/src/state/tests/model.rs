//! Random histories against a reference model: a map from key to versions, newest first.

use std::collections::BTreeMap;

use minikv_proto::entry as wire;

use super::world::*;
use crate::ids::{BucketId, StageId, UploadId, VShard, VersionId};
use crate::kv::{Conditions, ListItem, ListRequest, Refusal, VersionSelector, Versioning};
use crate::state::answer::{Answer, Done};
use crate::state::entry::Body;
use crate::state::read;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Known {
    id: VersionId,
    null: bool,
    marker: bool,
    etag: String,
    size: u64,
}

#[derive(Default)]
struct Model {
    versions: BTreeMap<(BucketId, String), Vec<Known>>,
    versioning: BTreeMap<BucketId, Versioning>,
}

impl Model {
    fn newest(&self, b: BucketId, key: &str) -> Option<&Known> {
        self.versions.get(&(b, key.to_owned()))?.first()
    }

    fn object(&self, b: BucketId, key: &str) -> Option<&Known> {
        self.newest(b, key).filter(|known| !known.marker)
    }

    fn install(&mut self, b: BucketId, key: &str, new: Known) {
        let versions = self.versions.entry((b, key.to_owned())).or_default();
        if new.null {
            versions.retain(|known| !known.null);
        }
        versions.insert(0, new);
    }

    fn null(&self, b: BucketId) -> bool {
        self.versioning[&b] != Versioning::Enabled
    }

    fn put(&mut self, b: BucketId, key: &str, id: VersionId, etag: &str, size: u64) {
        let new = Known {
            id,
            null: self.null(b),
            marker: false,
            etag: etag.to_owned(),
            size,
        };
        self.install(b, key, new);
    }

    fn remove(&mut self, b: BucketId, key: &str, which: impl Fn(&Known) -> bool) -> Option<Known> {
        let versions = self.versions.get_mut(&(b, key.to_owned()))?;
        let at = versions.iter().position(which)?;
        Some(versions.remove(at))
    }

    fn check(&self, w: &World) {
        for &b in self.versioning.keys() {
            let request = ListRequest {
                versions: true,
                max: 37,
                ..ListRequest::default()
            };
            let found: Vec<(String, Known, bool)> = w
                .list(b, &request)
                .into_iter()
                .map(|item| match item {
                    ListItem::Version(v) => (
                        String::from_utf8(v.key.to_vec()).unwrap(),
                        known(&v),
                        v.is_latest,
                    ),
                    other => panic!("{other:?}"),
                })
                .collect();
            let expected: Vec<(String, Known, bool)> = self
                .versions
                .iter()
                .filter(|((bucket, _), _)| *bucket == b)
                .flat_map(|((_, key), versions)| {
                    versions
                        .iter()
                        .enumerate()
                        .map(|(n, known)| (key.clone(), known.clone(), n == 0))
                })
                .collect();
            assert_eq!(found, expected);
            let objects = w
                .list(
                    b,
                    &ListRequest {
                        max: 11,
                        ..ListRequest::default()
                    },
                )
                .len();
            let newest = expected
                .iter()
                .filter(|(_, known, latest)| *latest && !known.marker)
                .count();
            assert_eq!(objects, newest);
        }
        for ((b, key), versions) in &self.versions {
            assert_eq!(
                w.get(*b, key).as_ref().map(known),
                versions.first().cloned()
            );
            let null = versions.iter().find(|known| known.null).cloned();
            assert_eq!(
                w.find(*b, key, VersionSelector::Null).as_ref().map(known),
                null
            );
            for version in versions {
                let found = w.find(*b, key, VersionSelector::Id(version.id));
                assert_eq!(found.as_ref().map(known).as_ref(), Some(version));
            }
        }
        w.check();
    }
}

fn known(version: &crate::kv::Version) -> Known {
    Known {
        id: version.id,
        null: version.is_null,
        marker: version.is_delete_marker,
        etag: version.new.etag.clone(),
        size: version.new.size,
    }
}

#[derive(Default)]
struct Open {
    stages: Vec<(BucketId, String, StageId)>,
    uploads: Vec<(BucketId, String, UploadId)>,
}

/// Every kind of write, in any order: versions, listings, usage, bytes held and the digest agree with the model.
#[test]
fn any_history_leaves_what_the_model_says() {
    for seed in 0..12 {
        let mut w = World::new();
        let mut dice = Dice::new(seed);
        let mut model = Model::default();
        let mut open = Open::default();
        let buckets: Vec<BucketId> = (1..=2).map(|id| w.bucket(id, Versioning::Off)).collect();
        for &b in &buckets {
            model.versioning.insert(b, Versioning::Off);
        }
        for step in 0..700 {
            let b = *dice.pick(&buckets);
            let mut keys = keys_of_one_vshard(b, 4);
            keys.push("elsewhere".into());
            let key = dice.pick(&keys).clone();
            one_step(
                &mut w, &mut dice, &mut model, &mut open, b, &keys, &key, step,
            );
            if step % 23 == 0 {
                model.check(&w);
            }
        }
        w.release_all();
        model.check(&w);
    }
}

#[allow(clippy::too_many_arguments)]
fn one_step(
    w: &mut World,
    dice: &mut Dice,
    model: &mut Model,
    open: &mut Open,
    b: BucketId,
    keys: &[String],
    key: &str,
    step: u64,
) {
    match dice.below(16) {
        0..=3 => put(w, dice, model, b, key, step),
        4 | 5 => {
            let existed = model.object(b, key).is_some();
            let deleted = w.delete(b, key);
            assert_eq!(deleted.existed, existed);
            match deleted.marker {
                Some(id) => {
                    let marker = Known {
                        id,
                        null: model.null(b),
                        marker: true,
                        etag: String::new(),
                        size: 0,
                    };
                    model.install(b, key, marker);
                }
                None => drop(model.remove(b, key, |_| true)),
            }
        }
        6 | 7 => delete_version(w, dice, model, b, key),
        8 => copy(w, dice, model, b, keys, key),
        9 => {
            let stage = w.open_stage(b, key, dice.below(5000), None);
            open.stages.push((b, key.to_owned(), stage));
        }
        10 if !open.stages.is_empty() => {
            let at = dice.below(open.stages.len() as u64) as usize;
            let (b, key, stage) = open.stages.remove(at);
            let size = 1 + dice.below(4000);
            match w.answer(w.claim_body(b, &key, stage, "staged", size)) {
                Answer::Done(Done::Written(written)) => {
                    model.put(b, &key, written.id, "staged", size)
                }
                other => panic!("{other:?}"),
            }
        }
        11 => {
            let upload = w.create_upload(b, key);
            open.uploads.push((b, key.to_owned(), upload));
        }
        12 | 13 if !open.uploads.is_empty() => {
            let (b, key, upload) = dice.pick(&open.uploads).clone();
            let number = 1 + dice.below(4) as u32;
            if dice.below(2) == 0 {
                w.part(b, &key, upload, number, &format!("p{step}"));
            } else {
                w.staged_part(b, &key, upload, number, 1 + dice.below(3000));
            }
        }
        14 if !open.uploads.is_empty() => end_upload(w, dice, model, open),
        15 => match dice.below(3) {
            0 => {
                let to = match model.versioning[&b] {
                    Versioning::Enabled => Versioning::Suspended,
                    _ => Versioning::Enabled,
                };
                w.bucket(b.0, to);
                model.versioning.insert(b, to);
            }
            1 => w.release_all(),
            _ => drop(w.done(Body::AdvanceFree(wire::AdvanceFree {}))),
        },
        _ => {}
    }
}

fn put(w: &mut World, dice: &mut Dice, model: &mut Model, b: BucketId, key: &str, step: u64) {
    let data = if dice.below(8) == 0 {
        String::new()
    } else {
        format!("data{step}")
    };
    let there = model.object(b, key).cloned();
    let etag = there
        .as_ref()
        .map_or("none".to_owned(), |known| known.etag.clone());
    let (conditions, refusal) = match dice.below(6) {
        0 => {
            let any = Conditions {
                if_none_match: Some(vec!["*".into()]),
                ..Conditions::default()
            };
            (any, there.is_some().then_some(Refusal::PreconditionFailed))
        }
        1 => {
            let same = Conditions {
                if_match: Some(vec![etag]),
                ..Conditions::default()
            };
            (same, there.is_none().then_some(Refusal::NoSuchKey))
        }
        _ => (Conditions::default(), None),
    };
    let body = w.put_body(b, key, &data, &conditions);
    match (w.propose(body, data.as_bytes()), refusal) {
        (Answer::Done(Done::Written(written)), None) => {
            assert_eq!(written.is_null, model.null(b));
            model.put(b, key, written.id, &data, data.len() as u64);
        }
        (Answer::Refused(found), Some(expected)) => assert_eq!(found, expected),
        other => panic!("{other:?}"),
    }
}

fn delete_version(w: &mut World, dice: &mut Dice, model: &mut Model, b: BucketId, key: &str) {
    let versions = model
        .versions
        .get(&(b, key.to_owned()))
        .cloned()
        .unwrap_or_default();
    let vshard = VShard::of(b, key.as_bytes());
    let (version, id) = match dice.below(3) {
        0 => (wire::delete_version::Version::Null(true), None),
        _ if versions.is_empty() => (
            wire::delete_version::Version::Seq(12_345),
            Some(VersionId(0)),
        ),
        _ => {
            let id = dice.pick(&versions).id;
            (
                wire::delete_version::Version::Seq(id.open(vshard).unwrap()),
                Some(id),
            )
        }
    };
    let body = wire::DeleteVersion {
        target: w.target(b, key),
        conditions: None,
        version: Some(version),
        bypass_governance: false,
    };
    let gone = model.remove(b, key, |known| id.map_or(known.null, |id| known.id == id));
    match w.done(Body::DeleteVersion(body)) {
        Done::Deleted(deleted) => {
            assert_eq!(deleted.existed, gone.is_some());
            assert_eq!(deleted.removed_marker, gone.is_some_and(|gone| gone.marker));
        }
        other => panic!("{other:?}"),
    }
}

fn copy(w: &mut World, dice: &mut Dice, model: &mut Model, b: BucketId, keys: &[String], to: &str) {
    let from = dice.pick(keys).clone();
    let versions = model
        .versions
        .get(&(b, from.clone()))
        .cloned()
        .unwrap_or_default();
    let vshard = VShard::of(b, from.as_bytes());
    if versions.is_empty() || vshard != VShard::of(b, to.as_bytes()) {
        return;
    }
    let source = dice.pick(&versions).clone();
    let copy = wire::Copy {
        target: w.target(b, to),
        conditions: None,
        version: sized("copy", source.size),
        source_bucket: b.0,
        source_epoch: w.epoch(b),
        source_key: from.into_bytes().into(),
        source_seq: source.id.open(vshard).unwrap(),
    };
    match w.answer(Body::Copy(copy)) {
        Answer::Done(Done::Written(written)) => model.put(b, to, written.id, "copy", source.size),
        Answer::Refused(Refusal::NoSuchKey) => assert!(source.marker),
        other => panic!("{other:?}"),
    }
}

fn end_upload(w: &mut World, dice: &mut Dice, model: &mut Model, open: &mut Open) {
    let at = dice.below(open.uploads.len() as u64) as usize;
    let (b, key, id) = open.uploads.remove(at);
    let parts = read::parts(&w.rows, b, &key.clone().into(), id, 0, 100)
        .unwrap()
        .unwrap();
    let mut listed: Vec<&crate::kv::Part> = parts.parts.iter().collect();
    if dice.below(3) == 0 && listed.len() > 1 {
        listed.remove(dice.below(listed.len() as u64) as usize);
    }
    if listed.is_empty() || dice.below(3) == 0 {
        let abort = w.abort_body(b, &key, id);
        w.done(abort);
        return;
    }
    let size = listed.iter().map(|part| part.size).sum();
    let ranges: Vec<(u32, u32)> = listed
        .iter()
        .map(|part| (part.number, part.number))
        .collect();
    let completed = w.complete(b, &key, id, parts.counter, &ranges, size);
    model.put(b, &key, completed.written.id, "whole", size);
}
