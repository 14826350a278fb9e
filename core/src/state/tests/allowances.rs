//! Limits: nothing is taken that was not given, and what moves between groups moves once.

use minikv_proto::{entry as wire, row};
use prost::Message;

use super::world::*;
use crate::engine::View;
use crate::ids::{BucketId, GroupId};
use crate::kv::{Conditions, Versioning};
use crate::state::answer::{AccountId, Answer, Done, TryAgain};
use crate::state::entry::Body;
use crate::state::{keys, read};

fn limited(w: &mut World, account: Option<wire::AccountName>, epoch: u64) -> row::Usage {
    let set = wire::SetLimited {
        account,
        epoch,
        bytes_limited: true,
        objects_limited: true,
    };
    match w.done(Body::SetLimited(set)) {
        Done::Usage(usage) => usage,
        other => panic!("{other:?}"),
    }
}

fn credit(account: Option<wire::AccountName>, number: u64, bytes: u64, objects: u64) -> Body {
    Body::Credit(wire::Credit {
        account,
        epoch: 1,
        from_group: 0,
        number,
        bytes,
        objects,
    })
}

/// Never exceeded by one byte; and what a delete frees can be used again.
#[test]
fn under_a_limit_nothing_is_taken_that_the_allowance_does_not_hold() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    w.put(b, "old", "12345");
    let account = Some(AccountId::Bucket(b).to_wire());
    let used = limited(&mut w, account, 1);
    assert_eq!((used.bytes, used.versions), (5, 1));
    let body = |w: &World| w.put_body(b, "new", "1234567890", &Conditions::default());
    let needs = Answer::TryAgain(TryAgain::NeedsAllowance(AccountId::Bucket(b)));
    assert_eq!(w.propose(body(&w), b"1234567890"), needs);
    w.done(credit(account, 1, 9, 1));
    w.done(credit(account, 1, 9, 1));
    assert_eq!(
        w.propose(body(&w), b"1234567890"),
        needs,
        "9 bytes: a credit delivered twice arrives once"
    );
    w.done(credit(account, 2, 1, 0));
    assert!(matches!(
        w.propose(body(&w), b"1234567890"),
        Answer::Done(_)
    ));
    w.delete(b, "old");
    let debit = wire::Debit {
        account,
        epoch: 1,
        to_group: 0,
        number: 1,
        bytes: 100,
        objects: 100,
        at_most: true,
    };
    let left = w.done(Body::Debit(debit));
    assert!(matches!(left, Done::Transit(transit) if transit.bytes == 5 && transit.objects == 1));
    assert_eq!(
        w.done(Body::Debit(debit)),
        left,
        "asked again, the same transfer"
    );
    w.done(Body::Arrived(wire::Arrived { account, number: 1 }));
    assert_eq!(w.done(Body::Debit(debit)), Done::Nothing);
    // A new limit makes everything void that was under way.
    limited(&mut w, account, 2);
    w.done(credit(account, 3, 50, 5));
    let more = w.put_body(b, "more", "1", &Conditions::default());
    assert_eq!(w.propose(more, b"1"), needs);
    w.check();
}

/// A delete marker is free, or a full bucket could not be emptied.
#[test]
fn a_full_bucket_can_be_emptied() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Enabled);
    w.put(b, "k", "12345");
    limited(
        &mut w,
        Some(AccountId::Tenant(crate::ids::TenantId(TENANT)).to_wire()),
        1,
    );
    assert!(w.delete(b, "k").marker.is_some());
    w.check();
}

/// Two groups and the pool, transfers lost, repeated and late, writes and deletes in between: used + reserved +
/// allowances + pool + in transit = limit, after every single entry.
#[test]
fn room_is_neither_lost_nor_made() {
    const LIMIT: i64 = 1000;
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        let mut pool = World::of(GroupId::DIRECTORY, vec![]);
        let mut groups = [
            World::of(GroupId(1), (0..=255).collect()),
            World::of(GroupId(2), (0..=255).collect()),
        ];
        let b = BucketId(1);
        for group in &mut groups {
            group.bucket(1, Versioning::Off);
        }
        let account = Some(AccountId::Bucket(b).to_wire());
        let mut used = 0;
        for group in &mut groups {
            group.put(b, "before", "12345");
            used += limited(group, account, 1).bytes;
        }
        let limit = wire::SetLimit {
            account,
            epoch: 1,
            bytes: Some(LIMIT as u64),
            objects: None,
            used_bytes: used,
            used_objects: 0,
        };
        pool.done(Body::SetLimit(limit));
        // Objects are not limited in the pool; give the groups plenty.
        for group in &mut groups {
            group.done(Body::Credit(wire::Credit {
                account,
                epoch: 1,
                from_group: 9,
                number: 1,
                bytes: 0,
                objects: 10_000,
            }));
        }
        let mut sent: Vec<(usize, usize, row::Transit)> = Vec::new();
        let mut refused = 0;
        for step in 0..400 {
            let at = dice.below(2) as usize;
            match dice.below(5) {
                0 | 1 => {
                    let data = "x".repeat(dice.below(60) as usize);
                    let body = groups[at].put_body(
                        b,
                        &format!("k{}", dice.below(30)),
                        &data,
                        &Conditions::default(),
                    );
                    refused += u32::from(matches!(
                        groups[at].propose(body, data.as_bytes()),
                        Answer::TryAgain(_)
                    ));
                }
                2 => drop(groups[at].delete(b, &format!("k{}", dice.below(30)))),
                // A debit, here or at the pool, perhaps one that was made before.
                3 => {
                    let from_pool = dice.below(3) != 0;
                    let from = if from_pool {
                        &mut pool
                    } else {
                        &mut groups[at]
                    };
                    let number = account_of(from, b).debited + dice.below(2);
                    let to_group = if from_pool { at as u32 + 1 } else { 0 };
                    let debit = wire::Debit {
                        account,
                        epoch: 1,
                        to_group,
                        number,
                        bytes: 1 + dice.below(200),
                        objects: 0,
                        at_most: true,
                    };
                    if let Answer::Done(Done::Transit(transit)) = from.answer(Body::Debit(debit)) {
                        sent.push((
                            if from_pool { 0 } else { at + 1 },
                            transit.to_group as usize,
                            transit,
                        ));
                    }
                }
                // A credit for something that was sent, perhaps long ago; sometimes its sender hears of it.
                _ if !sent.is_empty() => {
                    let (from, to, transit) = sent[dice.below(sent.len() as u64) as usize];
                    let body = Body::Credit(wire::Credit {
                        account,
                        epoch: transit.epoch,
                        from_group: from as u32,
                        number: transit.number,
                        bytes: transit.bytes,
                        objects: transit.objects,
                    });
                    if to == 0 {
                        pool.done(body)
                    } else {
                        groups[to - 1].done(body)
                    };
                    if dice.below(2) == 0 {
                        let arrived = Body::Arrived(wire::Arrived {
                            account,
                            number: transit.number,
                        });
                        if from == 0 {
                            pool.done(arrived)
                        } else {
                            groups[from - 1].done(arrived)
                        };
                    }
                }
                _ => {}
            }
            let mut sum = account_of(&pool, b).bytes;
            for group in &groups {
                let usage = read::bucket_usage(&group.rows, b).unwrap();
                sum += (usage.bytes + usage.reserved) as i64 + account_of(group, b).bytes;
            }
            // In transit: left, and not arrived according to the receiver.
            for (from, world) in [(0, &pool), (1, &groups[0]), (2, &groups[1])] {
                if let Some(transit) = account_of(world, b).transit {
                    let to = if transit.to_group == 0 {
                        &pool
                    } else {
                        &groups[transit.to_group as usize - 1]
                    };
                    let known = account_of(to, b)
                        .credited
                        .iter()
                        .any(|c| c.from_group == from && c.number >= transit.number);
                    sum += if known { 0 } else { transit.bytes as i64 };
                }
            }
            assert_eq!(sum, LIMIT, "seed {seed}, step {step}");
        }
        assert!(refused > 0);
        groups.iter().for_each(World::check);
    }
}

fn account_of(w: &World, b: BucketId) -> row::Account {
    let row = w.rows.get(&keys::bucket(b)).unwrap().unwrap_or_default();
    row::Bucket::decode(row)
        .unwrap()
        .account
        .unwrap_or_default()
}
