//! How many S3 requests are worked on at a time. One more waits a tenth of a second for a place, and is then told to come
//! back: a longer queue would only hide the overload and make every request late, none at all would turn away a burst that
//! is over in a moment.
//!
//! A request that waits for its client works on nothing: it lends its place to others meanwhile. Otherwise a few hundred
//! clients behind slow lines, whose uploads may well take hours, would turn everybody else away.
//!
//! Always true:
//! * a place is taken before the handler sees the request, and given back when the answer's last byte was handed to the
//!   socket or the answer was given up;
//! * nobody waits longer than `PATIENCE` for a place, and no more than `most` wait: who comes then is told at once;
//! * a request that was let in is never turned away for want of a place: one that lent its place goes on without.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use minikv_core::env::clock;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request may wait for a place.
const PATIENCE: Duration = Duration::from_millis(100);

/// The places.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: Arc<Semaphore>,
    most: usize,
    waiting: AtomicUsize,
}

/// A request that was let in; dropped, its place is free again. Clones are the same place.
#[derive(Clone, Debug)]
pub struct Place(Arc<Taken>);

#[derive(Debug)]
struct Taken {
    places: Arc<Semaphore>,
    /// `None`: lent.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Admission {
    /// For so many requests at a time.
    pub fn new(most: u32) -> Admission {
        let most = most as usize;
        Admission(Arc::new(Inner {
            places: Arc::new(Semaphore::new(most)),
            most,
            waiting: AtomicUsize::new(0),
        }))
    }

    /// A place, or `None`: SlowDown.
    pub async fn enter(&self) -> Option<Place> {
        let places = &self.0.places;
        let permit = match places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.queue().await?,
        };
        Some(Place(Arc::new(Taken {
            places: places.clone(),
            permit: Mutex::new(Some(permit)),
        })))
    }

    async fn queue(&self) -> Option<OwnedSemaphorePermit> {
        let _waiting = Waiting::begin(&self.0)?;
        let coming = self.0.places.clone().acquire_owned();
        clock::timeout(PATIENCE, coming).await.ok()?.ok()
    }

    /// Requests that are worked on now.
    pub fn in_flight(&self) -> usize {
        self.0.most - self.0.places.available_permits()
    }
}

/// One that waits for a place.
struct Waiting<'a>(&'a Inner);

impl Waiting<'_> {
    fn begin(inner: &Inner) -> Option<Waiting<'_>> {
        let waiting = Waiting(inner);
        let before = inner.waiting.fetch_add(1, Ordering::Relaxed);
        (before < inner.most).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place {
    /// The request waits for its client.
    pub fn lend(&self) {
        *self.0.permit.lock() = None;
    }

    /// It goes on: with a place, if one is free.
    pub fn resume(&self) {
        let mut permit = self.0.permit.lock();
        if permit.is_none() {
            *permit = self.0.places.clone().try_acquire_owned().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use minikv_core::env::sim;

    use super::*;

    /// A burst finds its places a moment later; in an overload that lasts, the answer comes within a tenth of a second.
    #[test]
    fn overload_is_answered_after_a_tenth_of_a_second_and_a_burst_is_served() {
        sim::run(1, async {
            let admission = Admission::new(2);
            let first = admission.enter().await.unwrap();
            let _second = admission.enter().await.unwrap();

            let asked = clock::now();
            assert!(admission.enter().await.is_none(), "both go on");
            let told = asked.elapsed();
            assert!(told >= PATIENCE && told < 2 * PATIENCE, "{told:?}");

            let asked = clock::now();
            let (third, ()) = tokio::join!(admission.enter(), async {
                clock::sleep(PATIENCE / 2).await;
                drop(first);
            });
            assert!(third.is_some() && asked.elapsed() < PATIENCE);
            assert_eq!(admission.in_flight(), 2);
        });
    }

    /// However many come, no more wait than are worked on: the others are told without any wait.
    #[test]
    fn flood_does_not_queue() {
        sim::run(1, async {
            let admission = Admission::new(2);
            let _places = (
                admission.enter().await.unwrap(),
                admission.enter().await.unwrap(),
            );
            let asked = clock::now();
            let told = futures::future::join_all((0..1000).map(|_| async {
                let place = admission.enter().await;
                assert!(place.is_none());
                asked.elapsed()
            }));
            let told = told.await;
            let at_once = told.iter().filter(|after| after.is_zero()).count();
            assert_eq!(at_once, 998, "two waited for a place in vain");
            assert_eq!(admission.0.waiting.load(Ordering::Relaxed), 0);
        });
    }

    /// A thousand uploads behind slow lines do not turn away those who would be done in a moment.
    #[test]
    fn waiting_for_slow_clients_takes_no_place() {
        sim::run(1, async {
            let admission = Admission::new(2);
            let mut slow = Vec::new();
            for _ in 0..1000 {
                let place = admission.enter().await.unwrap();
                place.lend();
                slow.push(place);
            }
            assert_eq!(admission.in_flight(), 0);
            // Their bytes come, all at once: they go on, with a place or without.
            slow.iter().for_each(Place::resume);
            assert_eq!(admission.in_flight(), 2);
            assert!(admission.enter().await.is_none());
            slow.iter().for_each(Place::lend);
            assert!(admission.enter().await.is_some());
            drop(slow);
            assert_eq!(admission.in_flight(), 0);
        });
    }
}
