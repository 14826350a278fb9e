//! That this node is no part of its cluster, or must not become one: it learns that from others, and stops taking part.

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Whether it is so, and why; once so, always so.
#[derive(Default)]
pub(super) struct Departure {
    why: Mutex<Option<String>>,
    happened: Notify,
}

impl Departure {
    /// It is.
    pub(super) fn is_so(&self, why: String) {
        let mut known = self.why.lock();
        if known.is_none() {
            tracing::error!("{why}");
            *known = Some(why);
            self.happened.notify_one();
        }
    }

    /// Why, if it is.
    pub(super) fn why(&self) -> Option<String> {
        self.why.lock().clone()
    }

    /// Waits until it is; for one who waits.
    pub(super) async fn wait(&self) -> String {
        loop {
            if let Some(why) = self.why() {
                return why;
            }
            self.happened.notified().await;
        }
    }
}
