//! The memory that all overlays of a node may hold together.
//!
//! Nobody is refused here: a group whose turn it is makes a checkpoint, which lets its overlay go. Until it is durable
//! the frozen rows still count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// One account for a node.
pub struct OverlayBudget {
    limit: usize,
    used: AtomicUsize,
    over: Notify,
}

impl OverlayBudget {
    /// At most about `limit` bytes.
    pub fn new(limit: usize) -> Arc<OverlayBudget> {
        Arc::new(OverlayBudget {
            limit,
            used: AtomicUsize::new(0),
            over: Notify::new(),
        })
    }

    /// Bytes held by all overlays.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes they may hold.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether somebody should make a checkpoint (best the one with the largest overlay).
    pub fn is_over(&self) -> bool {
        self.used() > self.limit
    }

    /// Waits until it is.
    pub async fn wait_over(&self) {
        loop {
            let over = self.over.notified();
            if self.is_over() {
                return;
            }
            over.await;
        }
    }
}

/// One overlay's part of the account; given back when dropped.
pub struct BudgetShare {
    budget: Arc<OverlayBudget>,
    held: AtomicUsize,
}

impl BudgetShare {
    /// Holds nothing yet.
    pub fn new(budget: Arc<OverlayBudget>) -> BudgetShare {
        BudgetShare {
            budget,
            held: AtomicUsize::new(0),
        }
    }

    /// Says how much is held now. Called under the overlay's write lock, so that calls do not overtake each other.
    pub fn set(&self, bytes: usize) {
        let before = self.held.swap(bytes, Ordering::Relaxed);
        if bytes >= before {
            let used = self
                .budget
                .used
                .fetch_add(bytes - before, Ordering::Relaxed)
                + (bytes - before);
            if used > self.budget.limit {
                self.budget.over.notify_one();
            }
        } else {
            self.budget
                .used
                .fetch_sub(before - bytes, Ordering::Relaxed);
        }
    }

    /// What it holds.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_given_back() {
        let budget = OverlayBudget::new(100);
        let (a, b) = (
            BudgetShare::new(budget.clone()),
            BudgetShare::new(budget.clone()),
        );
        a.set(60);
        b.set(50);
        assert!(budget.is_over());
        futures::executor::block_on(budget.wait_over());
        a.set(10);
        assert_eq!((budget.used(), budget.is_over()), (60, false));
        drop(b);
        assert_eq!(budget.used(), 10);
    }
}
