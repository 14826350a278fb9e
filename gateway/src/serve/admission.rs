//! How many S3 requests run at a time. One more is told to come back, at once: a queue would only hide the overload
//! and make every request late.
//!
//! Always true: a place is taken before the handler sees the request, and given back when the answer's last byte was
//! handed to the socket or the answer was given up.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places.
#[derive(Clone, Debug)]
pub struct Admission {
    places: Arc<Semaphore>,
    most: usize,
}

/// A place taken; dropped, it is free again.
#[derive(Debug)]
pub struct Place(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Admission {
    /// For so many requests at a time.
    pub fn new(most: u32) -> Admission {
        let most = most as usize;
        Admission {
            places: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// A place, or `None`: SlowDown.
    pub fn enter(&self) -> Option<Place> {
        self.places.clone().try_acquire_owned().ok().map(Place)
    }

    /// Requests that run now.
    pub fn in_flight(&self) -> usize {
        self.most - self.places.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request above the limit is refused, and admitted once another one ended.
    #[test]
    fn request_above_the_limit_is_told_to_come_back() {
        let admission = Admission::new(2);
        let (first, second) = (admission.enter(), admission.enter());
        assert!(first.is_some() && second.is_some());
        assert!(admission.enter().is_none());
        assert_eq!(admission.in_flight(), 2);
        drop(first);
        assert!(admission.enter().is_some());
    }
}
