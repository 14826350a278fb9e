//! Readers that share rounds of confirmation, in every order that shuttle can think of.
//!
//! As `log::interleaved`: the smallest program in which they meet; what fails prints a schedule that replays it.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use shuttle::future::{block_on, yield_now};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use super::read::Rounds;

/// Schedules tried at random, and as many that change their mind at few places.
const SCHEDULES: usize = 3_000;

fn in_every_order(body: fn()) {
    shuttle::check_random(body, SCHEDULES);
    shuttle::check_pct(body, SCHEDULES, 3);
}

/// What was acknowledged before a read arrived is below the index that it gets, whoever began its round; and each read gets
/// one, also when others gave up.
#[test]
fn a_read_gets_an_index_that_was_taken_after_it_arrived() {
    in_every_order(|| {
        let rounds = Arc::new(Rounds::default());
        let acknowledged = Arc::new(AtomicU64::new(0));
        let join = |rounds: &Arc<Rounds>, acknowledged: &Arc<AtomicU64>| {
            let acknowledged = acknowledged.clone();
            rounds.join(move || {
                Box::pin(async move {
                    let index = acknowledged.load(Ordering::SeqCst);
                    // The others confirm it.
                    yield_now().await;
                    Ok(index)
                })
            })
        };
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (rounds, acknowledged) = (rounds.clone(), acknowledged.clone());
                thread::spawn(move || {
                    let arrived = acknowledged.load(Ordering::SeqCst);
                    let index = block_on(join(&rounds, &acknowledged)).unwrap();
                    assert!(index >= arrived, "{index} was taken before {arrived}");
                })
            })
            .collect();
        let gives_up = {
            let (rounds, acknowledged) = (rounds.clone(), acknowledged.clone());
            thread::spawn(move || drop(join(&rounds, &acknowledged)))
        };
        for index in 1..=2 {
            acknowledged.store(index, Ordering::SeqCst);
        }
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
        gives_up.join().unwrap();
    });
}
