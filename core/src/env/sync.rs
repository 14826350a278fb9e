//! The locks and atomics of the few places where threads meet without a queue between them.
//!
//! With the feature `interleave` they are shuttle's, which decides at every one of them which thread goes on, so that a test
//! can try thousands of interleavings, and replay the one that failed. Only tests of such places run then
//! (`cargo test -p minikv-core --features interleave --lib interleaved`). Otherwise they are what their names say.

#[cfg(not(feature = "interleave"))]
pub(crate) use plain::*;
#[cfg(feature = "interleave")]
pub(crate) use shuttled::*;

#[cfg(not(feature = "interleave"))]
mod plain {
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};

    pub(crate) use futures::task::AtomicWaker;
    pub(crate) use parking_lot::Mutex;
    pub(crate) use tokio::sync::Notify;
}

#[cfg(feature = "interleave")]
mod shuttled {
    use std::task::Waker;

    pub(crate) use shuttle::sync::atomic::{AtomicU32, AtomicU64};
    use shuttle::sync::{self, MutexGuard};

    /// parking_lot's lock: not poisoned by a panic, which ends the test anyway.
    #[derive(Default, Debug)]
    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Mutex<T> {
            Mutex(sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    /// tokio's, and another thread may go on right before it is used.
    #[derive(Default, Debug)]
    pub(crate) struct Notify(tokio::sync::Notify);

    impl Notify {
        pub(crate) fn notified(&self) -> tokio::sync::futures::Notified<'_> {
            shuttle::thread::yield_now();
            self.0.notified()
        }

        pub(crate) fn notify_waiters(&self) {
            shuttle::thread::yield_now();
            self.0.notify_waiters();
        }
    }

    /// As simple as it can be: what is tested is its user.
    #[derive(Default, Debug)]
    pub(crate) struct AtomicWaker(Mutex<Option<Waker>>);

    impl AtomicWaker {
        pub(crate) fn register(&self, waker: &Waker) {
            *self.0.lock() = Some(waker.clone());
        }

        pub(crate) fn wake(&self) {
            let waiting = self.0.lock().take();
            if let Some(waker) = waiting {
                waker.wake();
            }
        }
    }
}
