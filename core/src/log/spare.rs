//! The next segment of a stream, made ahead: the keeper puts it here, the writer takes it.
//!
//! Always true:
//! * the spare's number is one above that of the segment the writer is in;
//! * no number is made twice: taking the spare and going on to its number is one step. A keeper that saw the spare gone
//!   and the old number still there would make the same segment again, over the one in use.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;

use crate::env::sync::{AtomicU32, Mutex};

/// See the file's header.
pub(super) struct Spare<T> {
    next: Mutex<Option<Arc<T>>>,
    /// Number of the segment the writer is in. Changes under the lock of `next`.
    current: AtomicU32,
    changed: Notify,
}

impl<T> Spare<T> {
    pub(super) fn new(current: u32, next: Option<Arc<T>>) -> Spare<T> {
        Spare {
            next: Mutex::new(next),
            current: AtomicU32::new(current),
            changed: Notify::new(),
        }
    }

    /// Number of the segment the writer is in.
    pub(super) fn current(&self) -> u32 {
        self.current.load(Ordering::Acquire)
    }

    /// Takes the spare, which is the current segment from this moment on.
    pub(super) fn take(&self) -> Option<Arc<T>> {
        let mut next = self.next.lock();
        let taken = next.take()?;
        self.current.fetch_add(1, Ordering::AcqRel);
        Some(taken)
    }

    /// Number of the spare to be made; `None`: it is there.
    pub(super) fn missing(&self) -> Option<u32> {
        let next = self.next.lock();
        match *next {
            Some(_) => None,
            None => Some(self.current() + 1),
        }
    }

    /// The one that was missing.
    pub(super) fn put(&self, made: T) {
        let mut next = self.next.lock();
        assert!(next.is_none(), "a spare was made twice");
        *next = Some(Arc::new(made));
        drop(next);
        self.changed.notify_one();
    }

    /// Looks at it.
    pub(super) fn look<A>(&self, look: impl FnOnce(Option<&T>) -> A) -> A {
        look(self.next.lock().as_deref())
    }

    /// Waits until one was put here, or `wake` was called; also for what happened since the last wait.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whoever waits shall look around: the log ends.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }
}
