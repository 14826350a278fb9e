//! A bucket's name behaves as one thing: it has a bucket or none, and a bucket begins empty, ends empty, and shows only what
//! was written into it in this very life.
//!
//! Always true:
//! * a write that is acknowledged is in the life of the bucket that its client had looked up;
//! * a bucket goes only while nothing is in it; who is told that it is not empty is right at some moment.
//!
//! Elsewhere: the search for an order (`order`), who asks (`cluster::buckets`).

use super::order::{self, Found, Rule};
use crate::cluster::buckets::{Asked, Call, KEYS, Life, Told};
use crate::cluster::history::NEVER;

/// One life of a bucket.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Bucket {
    life: Life,
    /// The last change of its settings.
    change: u64,
    objects: [Option<u64>; KEYS as usize],
}

struct OneName;

impl Rule for OneName {
    type State = Option<Bucket>;
    type Call = Call;

    fn called(call: &Call) -> u64 {
        call.called
    }

    fn returned(call: &Call) -> u64 {
        call.returned
    }

    fn only_looks(call: &Call) -> bool {
        !matches!(call.told, Told::Nothing | Told::Done)
    }

    fn step(&self, state: &Option<Bucket>, call: &Call) -> Option<Option<Bucket>> {
        let known = call.told != Told::Nothing;
        let same_life = |bucket: &&mut Bucket| call.life.is_none_or(|life| life == bucket.life);
        let mut after = state.clone();
        match (call.asked, call.told) {
            (_, Told::NoBucket) => return state.is_none().then_some(after),
            (Asked::Create, Told::Exists(life)) => {
                let there = state.as_ref().is_some_and(|bucket| bucket.life == life);
                return there.then_some(after);
            }
            (Asked::Create, _) if after.is_none() => {
                after = Some(Bucket {
                    life: call.mark,
                    change: 0,
                    objects: [None; KEYS as usize],
                });
                return Some(after);
            }
            (Asked::Drop, told) => {
                let is_empty = state
                    .as_ref()
                    .map(|bucket| bucket.objects.iter().all(Option::is_none));
                return match (told, is_empty) {
                    (Told::NotEmpty, Some(false)) => Some(after),
                    (Told::Done | Told::Nothing, Some(true)) => Some(None),
                    _ => None,
                };
            }
            (Asked::Find, Told::Facts(life, change)) => {
                let is_so = |bucket: &Bucket| (bucket.life, bucket.change) == (life, change);
                return state.as_ref().is_some_and(is_so).then_some(after);
            }
            _ => {}
        }
        let Some(bucket) = after.as_mut().filter(same_life) else {
            // Of what nobody knows, this is one outcome: it found no such bucket.
            return (!known).then(|| state.clone());
        };
        match (call.asked, call.told) {
            (Asked::Change, Told::Done | Told::Nothing) => bucket.change = call.mark,
            (Asked::Put(key), Told::Done | Told::Nothing) => {
                bucket.objects[key as usize] = Some(call.mark);
            }
            (Asked::Delete(key), Told::Done | Told::Nothing) => bucket.objects[key as usize] = None,
            (Asked::Read(key), Told::Found(found)) if bucket.objects[key as usize] == found => {}
            _ => return None,
        }
        Some(after)
    }
}

/// Whether some order explains the calls of one name, which nobody had at first. Sorted by their beginning.
pub fn check(calls: &[Call]) -> Found {
    let says_something = |call: &&Call| {
        let looks = matches!(call.asked, Asked::Read(_) | Asked::Find);
        !(looks && call.returned == NEVER)
    };
    let calls: Vec<Call> = calls.iter().filter(says_something).copied().collect();
    order::search(&OneName, None, &calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(asked: Asked, mark: u64, life: Option<Life>, told: Told, called: u64) -> Call {
        let returned = match told {
            Told::Nothing => NEVER,
            _ => called + 5,
        };
        Call {
            client: 1,
            name: 0,
            asked,
            mark,
            life,
            called,
            returned,
            told,
        }
    }

    fn create(mark: u64, called: u64) -> Call {
        call(Asked::Create, mark, None, Told::Done, called)
    }

    fn drop(told: Told, called: u64) -> Call {
        call(Asked::Drop, 0, None, told, called)
    }

    fn put(mark: u64, life: Life, called: u64) -> Call {
        call(Asked::Put(0), mark, Some(life), Told::Done, called)
    }

    fn read(life: Life, found: Option<u64>, called: u64) -> Call {
        call(Asked::Read(0), 0, Some(life), Told::Found(found), called)
    }

    /// Deleting a bucket under an acknowledged object loses the object.
    #[test]
    fn a_bucket_that_went_with_an_object_in_it_is_noticed() {
        let calls = [create(1, 10), put(2, 1, 20), drop(Told::Done, 30)];
        assert_eq!(check(&calls), Found::NoOrder);
        let calls = [create(1, 10), put(2, 1, 20), drop(Told::NotEmpty, 30)];
        assert_eq!(check(&calls), Found::Order);
        let calls = [create(1, 10), drop(Told::NotEmpty, 30)];
        assert_eq!(check(&calls), Found::NoOrder);
    }

    /// A bucket of the same name begins empty; an older one's contents stay gone.
    #[test]
    fn what_an_older_bucket_held_is_noticed_in_a_newer_one() {
        let gone = call(Asked::Delete(0), 0, Some(1), Told::Done, 30);
        let begun = [
            create(1, 10),
            put(2, 1, 20),
            gone,
            drop(Told::Done, 40),
            create(3, 50),
        ];
        let with = |last: Call| [&begun[..], &[last]].concat();
        assert_eq!(check(&with(read(3, None, 60))), Found::Order);
        assert_eq!(check(&with(read(3, Some(2), 60))), Found::NoOrder);
        let late = put(4, 1, 60);
        assert_eq!(check(&with(late)), Found::NoOrder, "into the older one");
    }

    /// A deletion without an answer happens once or never.
    #[test]
    fn a_name_without_a_bucket_is_explained_by_a_deletion() {
        let none = call(Asked::Find, 0, None, Told::NoBucket, 40);
        assert_eq!(check(&[create(1, 10), none]), Found::NoOrder);
        let unknown = drop(Told::Nothing, 20);
        assert_eq!(check(&[create(1, 10), unknown, none]), Found::Order);
    }
}
