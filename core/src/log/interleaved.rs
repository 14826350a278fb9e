//! Callers, writer and keeper in every order that shuttle can think of.
//!
//! Each test is the smallest program in which the threads of a stream meet; shuttle decides who goes on at every lock and
//! atomic. A thread that sleeps for ever fails the test as a deadlock. What fails prints a schedule that replays it.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::thread;
use tokio::sync::Notify;

use super::error::LogError;
use super::queue::{Done, Job, Queue, Ready, Watermark};
use super::record::{Draft, Subject};
use super::spare::Spare;
use crate::ids::GroupId;

/// Schedules tried at random, and as many that change their mind at few places.
const SCHEDULES: usize = 3_000;

fn in_every_order(body: fn()) {
    shuttle::check_random(body, SCHEDULES);
    shuttle::check_pct(body, SCHEDULES, 3);
}

/// What callers were told, in the order in which they were.
type Told = Arc<Mutex<Vec<(&'static str, u64, Result<(), LogError>)>>>;

fn job(ticket: u64, name: &'static str, number: u64, told: &Told) -> Job {
    let told = told.clone();
    Job {
        ticket,
        drafts: vec![Draft::new(
            Subject::Standing { group: GroupId(1) },
            Bytes::from_static(&[0; 8]),
            Bytes::new(),
        )],
        sync: false,
        done: Done::Plain(Box::new(move |settled| {
            told.lock().unwrap().push((name, number, settled));
        })),
    }
}

/// As the writer does it, without a disk. After `rounds` the disk fails.
fn write(queue: &Queue, settled: &Watermark, rounds: usize) {
    for _ in 0..rounds {
        if let Ready::Closed = block_on(queue.ready()) {
            settled.fail(&LogError::Closed);
            return;
        }
        let mut jobs = VecDeque::new();
        queue.take(1, &mut jobs);
        let last = jobs.iter().map(|job| job.ticket).max().unwrap_or(0);
        if last > 0 {
            settled.advance(last);
        }
        for job in jobs {
            if let Done::Plain(ack) = job.done {
                ack(Ok(()));
            }
        }
    }
    let error = LogError::Dead("the disk".into());
    queue.close(error.clone());
    let mut rest = VecDeque::new();
    queue.take(usize::MAX, &mut rest);
    rest.into_iter().for_each(|job| job.fail(&error));
    settled.fail(&error);
}

struct Stream {
    queue: Queue,
    settled: Watermark,
    told: Told,
}

/// Three callers, one of which waits for its job by ticket; then the queue closes. What each caller queued.
fn callers_and_writer(rounds: usize) -> (Arc<Stream>, Vec<(&'static str, u64)>) {
    let stream = Arc::new(Stream {
        queue: Queue::default(),
        settled: Watermark::default(),
        told: Told::default(),
    });
    let writer = {
        let stream = stream.clone();
        thread::spawn(move || write(&stream.queue, &stream.settled, rounds))
    };
    let callers = ["a", "b", "waiter"].map(|name| {
        let stream = stream.clone();
        thread::spawn(move || {
            let mut queued = Vec::new();
            for number in 1..=2 {
                let pushed = stream
                    .queue
                    .push(|ticket| job(ticket, name, number, &stream.told));
                let Ok(ticket) = pushed else {
                    continue;
                };
                queued.push((name, number));
                if name == "waiter" {
                    // Returning at all is the point: shuttle calls a sleeper a deadlock.
                    let _ = block_on(stream.settled.wait(ticket));
                }
            }
            queued
        })
    });
    let queued = callers
        .into_iter()
        .flat_map(|caller| caller.join().unwrap())
        .collect();
    stream.queue.close(LogError::Closed);
    writer.join().unwrap();
    (stream, queued)
}

#[test]
fn everybody_is_told_once_and_in_order() {
    in_every_order(|| {
        let (stream, queued) = callers_and_writer(usize::MAX);
        let told = stream.told.lock().unwrap();
        assert_eq!(queued.len(), 6);
        for caller in ["a", "b", "waiter"] {
            let of_caller: Vec<_> = told.iter().filter(|(name, ..)| *name == caller).collect();
            assert_eq!(of_caller.len(), 2, "{told:?}");
            assert!(of_caller.iter().map(|(_, number, _)| *number).eq(1..=2));
            assert!(of_caller.iter().all(|(_, _, settled)| settled.is_ok()));
        }
    });
}

#[test]
fn when_the_disk_fails_everybody_is_told_too() {
    in_every_order(|| {
        let (stream, queued) = callers_and_writer(1);
        let told = stream.told.lock().unwrap();
        let mut names: Vec<_> = told
            .iter()
            .map(|(name, number, _)| (*name, *number))
            .collect();
        names.sort_unstable();
        let mut queued = queued;
        queued.sort_unstable();
        assert_eq!(names, queued, "each that was queued, once; no other");
        let first_failure = told.iter().position(|(_, _, settled)| settled.is_err());
        let after = first_failure.map_or(&[][..], |at| &told[at..]);
        assert!(
            after.iter().all(|(_, _, settled)| settled.is_err()),
            "nothing is settled after a failure: {told:?}"
        );
    });
}

/// A vote may overtake the entries of others. If it overtook its own group's, it would be lost behind a truncation.
#[test]
fn a_vote_stays_behind_what_its_group_queued() {
    in_every_order(|| {
        let stream = Arc::new(Stream {
            queue: Queue::default(),
            settled: Watermark::default(),
            told: Told::default(),
        });
        let writer = {
            let stream = stream.clone();
            thread::spawn(move || write(&stream.queue, &stream.settled, usize::MAX))
        };
        let other = {
            let stream = stream.clone();
            thread::spawn(move || {
                for number in 1..=2 {
                    let pushed = stream
                        .queue
                        .push(|ticket| job(ticket, "other", number, &stream.told));
                    pushed.unwrap();
                }
            })
        };
        let entry = stream
            .queue
            .push(|ticket| job(ticket, "group", 1, &stream.told))
            .unwrap();
        let vote = stream
            .queue
            .push_vote(entry, |ticket| job(ticket, "group", 2, &stream.told))
            .unwrap();
        stream
            .queue
            .push_vote(vote, |ticket| job(ticket, "group", 3, &stream.told))
            .unwrap();
        other.join().unwrap();
        stream.queue.close(LogError::Closed);
        writer.join().unwrap();
        let told = stream.told.lock().unwrap();
        let of_group = told.iter().filter(|(name, ..)| *name == "group");
        assert!(of_group.map(|(_, number, _)| *number).eq(1..=3), "{told:?}");
        assert_eq!(told.len(), 5);
    });
}

#[test]
fn segments_follow_each_other_and_none_is_made_twice() {
    in_every_order(|| {
        const LAST: u32 = 4;
        let spare = Arc::new(Spare::new(1, None));
        let poke = Arc::new(Notify::new());
        let keeper = {
            let (spare, poke) = (spare.clone(), poke.clone());
            thread::spawn(move || {
                let mut made = Vec::new();
                while made.last() != Some(&LAST) {
                    if let Some(number) = spare.missing() {
                        made.push(number);
                        spare.put(number);
                    } else {
                        block_on(poke.notified());
                    }
                }
                made
            })
        };
        let mut taken = Vec::new();
        while spare.current() < LAST {
            match spare.take() {
                Some(number) => {
                    assert_eq!(*number, spare.current());
                    taken.push(*number);
                    poke.notify_one();
                }
                None => {
                    poke.notify_one();
                    block_on(spare.changed());
                }
            }
        }
        assert!(taken.into_iter().eq(2..=LAST));
        assert!(keeper.join().unwrap().into_iter().eq(2..=LAST));
    });
}
