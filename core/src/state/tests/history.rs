//! Every command of a long history is delivered twice, late and out of order; the state is that of delivering it once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use minikv_proto::entry as wire;

use super::world::*;
use crate::ids::{BucketId, StageId, UploadId};
use crate::kv::{Conditions, Versioning};
use crate::state::answer::{Answer, Done, TryAgain};
use crate::state::entry::{Body, Entry};
use crate::state::read;

const COMMANDS: u64 = 10_000;
/// Commands that a gateway has under way at once.
const UNDER_WAY: usize = 48;

/// A gateway that never hears some of its answers and asks again.
struct Gateway {
    session: u64,
    next: u64,
    /// Open sequences: asked, not answered so far.
    open: BTreeSet<u64>,
}

/// Something on its way to the group.
struct Delivery {
    gateway: usize,
    entry: Entry,
    /// The gateway hears the answer of this delivery.
    heard: bool,
}

#[derive(Default)]
struct Learned {
    stages: Vec<(BucketId, String, StageId)>,
    uploads: Vec<(BucketId, String, UploadId)>,
}

#[test]
fn delivered_twice_late_and_out_of_order_is_delivered_once() {
    let mut w = World::new();
    let mut dice = Dice::new(2026);
    let buckets = [
        w.bucket(1, Versioning::Off),
        w.bucket(2, Versioning::Enabled),
    ];
    let mut gateways: Vec<Gateway> = (0..3)
        .map(|_| Gateway {
            session: w.open_session(),
            next: 1,
            open: BTreeSet::new(),
        })
        .collect();
    let mut once = w.clone();
    let mut on_their_way: Vec<Delivery> = Vec::new();
    let mut learned = Learned::default();
    let mut answers: BTreeMap<(usize, u64), Answer> = BTreeMap::new();
    let (mut asked, mut repeats, mut gone) = (0, 0, 0);

    while asked < COMMANDS || !on_their_way.is_empty() {
        let at = dice.below(3) as usize;
        if asked < COMMANDS && gateways[at].open.len() < UNDER_WAY {
            asked += 1;
            let (body, payload) = any_command(&w, &mut dice, &buckets, &learned, asked);
            let mut entry = w.entry(body, payload.as_bytes());
            let gateway = &mut gateways[at];
            let sequence = gateway.next;
            gateway.next += 1;
            gateway.open.insert(sequence);
            let lowest = *gateway.open.first().unwrap();
            entry.command = Some(wire::Command {
                session: gateway.session,
                sequence,
                lowest,
            });
            let heard = dice.below(2) == 0;
            on_their_way.push(Delivery {
                gateway: at,
                entry: entry.clone(),
                heard,
            });
            on_their_way.push(Delivery {
                gateway: at,
                entry,
                heard: !heard,
            });
            if dice.below(5) != 0 {
                continue;
            }
        }
        if on_their_way.is_empty() {
            continue;
        }
        // Usually something recent comes first, sometimes something that waited long.
        let n = on_their_way.len() as u64;
        let pick = if dice.below(4) == 0 {
            dice.below(n)
        } else {
            n - 1 - dice.below(n.min(40))
        };
        let delivery = on_their_way.remove(pick as usize);
        let command = delivery.entry.command.unwrap();
        let applied = w.apply(&delivery.entry);
        let decided = answers.get(&(delivery.gateway, command.sequence));
        match (&applied.answer, decided) {
            (Answer::TryAgain(TryAgain::SessionGone), _) => {
                gone += 1;
                assert!(applied.changes.is_empty());
            }
            (Answer::TryAgain(_), None) => assert!(applied.changes.is_empty()),
            (answer, Some(decided)) => {
                repeats += 1;
                assert_eq!(answer, decided, "asked again, another answer");
                assert!(
                    applied.changes.is_empty(),
                    "a second delivery changed something"
                );
            }
            (answer, None) => {
                // The first decision: the only one that the other world sees, at the same place in the log.
                once.apply_at(w.index, &delivery.entry);
                learn(&mut learned, &delivery.entry, answer);
                answers.insert((delivery.gateway, command.sequence), answer.clone());
            }
        }
        if delivery.heard {
            gateways[delivery.gateway].open.remove(&command.sequence);
        }
        if w.index.is_multiple_of(4000) {
            w.check();
        }
    }
    assert!(once.rows == w.rows);
    assert_eq!(once.digest, w.digest);
    once.check();
    w.check();
    assert!(
        repeats > 2000 && gone > 50,
        "{repeats} repeats, {gone} for closed sequences"
    );
    assert!(answers.len() > 9_000, "{} decided", answers.len());
}

fn any_command(
    w: &World,
    dice: &mut Dice,
    buckets: &[BucketId],
    learned: &Learned,
    n: u64,
) -> (Body, String) {
    let b = *dice.pick(buckets);
    let key = format!("key{}", dice.below(40));
    let data = format!("data{n}");
    match dice.below(12) {
        0..=3 => (w.put_body(b, &key, &data, &Conditions::default()), data),
        4 => {
            let create = Conditions {
                if_none_match: Some(vec!["*".into()]),
                ..Conditions::default()
            };
            (w.put_body(b, &key, &data, &create), data)
        }
        5 | 6 => (w.delete_body(b, &key), String::new()),
        7 => {
            let open = wire::OpenStage {
                target: w.target(b, &key),
                reserve: dice.below(3000),
                principal: Bytes::from_static(b"me"),
                ..Default::default()
            };
            (Body::OpenStage(open), String::new())
        }
        8 if !learned.stages.is_empty() => {
            let (b, key, stage) = dice.pick(&learned.stages).clone();
            (
                w.claim_body(b, &key, stage, "staged", 1 + dice.below(2500)),
                String::new(),
            )
        }
        9 => {
            let create = wire::CreateUpload {
                target: w.target(b, &key),
                meta: Bytes::new(),
                lock: None,
            };
            (Body::CreateUpload(create), String::new())
        }
        10 if !learned.uploads.is_empty() => {
            let (b, key, upload) = dice.pick(&learned.uploads).clone();
            (
                w.part_body(b, &key, upload, 1 + dice.below(5) as u32, &data),
                data,
            )
        }
        11 if !learned.uploads.is_empty() => {
            let (b, key, upload) = dice.pick(&learned.uploads).clone();
            if dice.below(3) == 0 {
                return (w.abort_body(b, &key, upload), String::new());
            }
            let parts = read::parts(&w.rows, b, &key.clone().into(), upload, 0, 100).unwrap();
            let parts = parts.unwrap_or_default();
            let ranges: Vec<(u32, u32)> = parts
                .parts
                .iter()
                .map(|part| (part.number, part.number))
                .collect();
            let size = parts.parts.iter().map(|part| part.size).sum();
            (
                w.complete_body(b, &key, upload, parts.counter, &ranges, size),
                String::new(),
            )
        }
        _ => (Body::AdvanceFree(wire::AdvanceFree {}), String::new()),
    }
}

fn learn(learned: &mut Learned, entry: &Entry, answer: &Answer) {
    let target = match &entry.body {
        Some(Body::OpenStage(open)) => open.target.as_ref(),
        Some(Body::CreateUpload(create)) => create.target.as_ref(),
        _ => None,
    };
    let Some(target) = target else { return };
    let (bucket, key) = (
        BucketId(target.bucket),
        String::from_utf8(target.key.to_vec()).unwrap(),
    );
    match answer {
        Answer::Done(Done::Stage(stage)) => learned.stages.push((bucket, key, *stage)),
        Answer::Done(Done::Upload(upload)) => learned.uploads.push((bucket, key, *upload)),
        _ => {}
    }
}
