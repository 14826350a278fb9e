//! Who dies together: the tasks of one simulated node.
//!
//! A scope is ambient: whatever is spawned while one of its tasks is polled belongs to it too, openraft's tasks included.
//! `kill` is a SIGKILL: all futures of the scope are dropped at once, in the order they were spawned, wherever they wait.
//! `pause` is a SIGSTOP: nothing of the scope runs until `resume`, while its timers go by.
//!
//! Always true:
//! * after `kill` returned no task of the scope is polled again (one that called `kill` itself ends with that poll);
//! * the timers of a dropped task are gone with it; whoever joined it sees `Cancelled`;
//! * what is spawned into a dead scope never runs;
//! * the clocks of a scope may drift: `now` runs by its rate, and so do the timers that its tasks set.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use openraft_rt::AsyncRuntime;
use openraft_rt_sim::SimRuntime;
use parking_lot::Mutex;

use super::world;
use crate::env::task;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

/// A group of tasks that can be killed together.
#[derive(Clone, Debug)]
pub struct Scope {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    wall_offset_ms: AtomicI64,
    /// By how many millionths its clocks are too fast.
    drift: AtomicI64,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    killed: bool,
    paused: bool,
    /// Who wanted to run meanwhile, in order.
    held: Vec<Waker>,
    next: u64,
    tasks: BTreeMap<u64, Arc<Slot>>,
    entered: BTreeMap<u64, Waker>,
}

/// The scope was killed before the future in it finished.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the scope was killed")]
pub struct Killed;

impl Scope {
    /// An empty scope; the name is for people.
    pub fn new(name: impl Into<String>) -> Scope {
        let shared = Shared {
            name: name.into(),
            wall_offset_ms: AtomicI64::new(0),
            drift: AtomicI64::new(0),
            members: Mutex::default(),
        };
        Scope {
            shared: Arc::new(shared),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Spawns a task that belongs to this scope.
    pub fn spawn<F>(&self, future: F) -> task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.within(|| task::spawn(future))
    }

    /// Polls `future` as part of this scope, within the caller's task. After a kill it gives `Err(Killed)`; the future
    /// itself is dropped when the caller's task is next polled, which the kill sees to.
    pub fn enter<F: Future>(&self, future: F) -> Entered<F> {
        let id = self.shared.members.lock().next_id();
        Entered {
            future: Some(Box::pin(future)),
            scope: self.shared.clone(),
            id,
        }
    }

    /// Runs a closure as part of this scope: what it spawns belongs here.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _current = Current::set(Some(self.shared.clone()));
        work()
    }

    /// Drops all tasks of this scope at once. Nothing runs in it afterwards.
    pub fn kill(&self) {
        let (tasks, entered, held) = {
            let mut members = self.shared.members.lock();
            members.killed = true;
            (
                std::mem::take(&mut members.tasks),
                std::mem::take(&mut members.entered),
                std::mem::take(&mut members.held),
            )
        };
        for slot in tasks.into_values() {
            slot.drop_future();
        }
        for waker in entered.into_values().chain(held) {
            waker.wake();
        }
    }

    /// Nothing of this scope runs from now on.
    pub fn pause(&self) {
        self.shared.members.lock().paused = true;
    }

    /// It goes on, as if nothing had happened but time.
    pub fn resume(&self) {
        let held = {
            let mut members = self.shared.members.lock();
            members.paused = false;
            std::mem::take(&mut members.held)
        };
        for waker in held {
            waker.wake();
        }
    }

    /// Its clocks run too fast by so many millionths. Before anything runs in it: a clock never goes back.
    pub fn set_drift(&self, millionths: i32) {
        self.shared
            .drift
            .store(millionths.into(), Ordering::Relaxed);
    }

    /// Whether it was killed.
    pub fn killed(&self) -> bool {
        self.shared.members.lock().killed
    }

    /// How many tasks live in it.
    pub fn tasks(&self) -> usize {
        self.shared.members.lock().tasks.len()
    }

    /// Moves the wall clock as the tasks of this scope see it.
    pub fn set_wall_offset_ms(&self, offset: i64) {
        self.shared.wall_offset_ms.store(offset, Ordering::Relaxed);
    }
}

impl Shared {
    /// Whether it is paused; then the waker is kept for when it goes on.
    fn hold(&self, waker: &Waker) -> bool {
        let mut members = self.members.lock();
        let hold = members.paused && !members.killed;
        if hold {
            members.held.push(waker.clone());
        }
        hold
    }
}

/// Runs a closure outside any scope, by the clocks of the world. It learns the name of the scope that is being polled; empty:
/// the world itself.
pub fn aside<T>(work: impl FnOnce(&str) -> T) -> T {
    let scope = CURRENT.with_borrow(Clone::clone);
    let _current = Current::set(None);
    work(scope.as_ref().map_or("", |scope| &scope.name))
}

const MILLION: u128 = 1_000_000;

/// How much time has passed on the clocks of the scope that is being polled, when so much has in the world.
pub(in crate::env) fn local_time(world: Duration) -> Duration {
    scaled(world, |nanos, rate| nanos * rate / MILLION)
}

/// How much passes in the world while so much does on the clocks of the scope that is being polled.
pub(in crate::env) fn world_time(local: Duration) -> Duration {
    // Rounded up: a sleep never ends early.
    scaled(local, |nanos, rate| (nanos * MILLION).div_ceil(rate))
}

fn scaled(time: Duration, scale: impl Fn(u128, u128) -> u128) -> Duration {
    let drift = CURRENT.with_borrow(|scope| {
        scope
            .as_ref()
            .map_or(0, |scope| scope.drift.load(Ordering::Relaxed))
    });
    if drift == 0 {
        return time;
    }
    let rate = (MILLION as i128 + i128::from(drift)).max(1).unsigned_abs();
    let nanos = scale(time.as_nanos(), rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Members {
    fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// The wall clock offset of the scope that is being polled.
pub(super) fn wall_offset_ms() -> i64 {
    CURRENT.with_borrow(|scope| {
        scope
            .as_ref()
            .map_or(0, |scope| scope.wall_offset_ms.load(Ordering::Relaxed))
    })
}

/// Sets the current scope and puts the previous one back when dropped.
struct Current(Option<Arc<Shared>>);

impl Current {
    fn set(scope: Option<Arc<Shared>>) -> Current {
        Current(CURRENT.replace(scope))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        // The scope that leaves may be the last reference to something whose drop asks for the current scope.
        let leaving = CURRENT.replace(self.0.take());
        drop(leaving);
    }
}

/// What [`Scope::enter`] returns.
#[must_use = "does nothing unless awaited"]
#[derive(Debug)]
pub struct Entered<F> {
    future: Option<Pin<Box<F>>>,
    scope: Arc<Shared>,
    id: u64,
}

impl<F: Future> Future for Entered<F> {
    type Output = Result<F::Output, Killed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.scope.hold(context.waker()) {
            return Poll::Pending;
        }
        let killed = {
            let mut members = this.scope.members.lock();
            if !members.killed {
                members.entered.insert(this.id, context.waker().clone());
            }
            members.killed
        };
        if killed {
            this.drop_future();
            return Poll::Ready(Err(Killed));
        }
        let Some(future) = &mut this.future else {
            return Poll::Ready(Err(Killed));
        };
        let polled = {
            let _current = Current::set(Some(this.scope.clone()));
            future.as_mut().poll(context)
        };
        match polled {
            Poll::Ready(output) => {
                this.drop_future();
                Poll::Ready(Ok(output))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<F> Entered<F> {
    fn drop_future(&mut self) {
        self.scope.members.lock().entered.remove(&self.id);
        let future = self.future.take();
        let _current = Current::set(Some(self.scope.clone()));
        drop(future);
    }
}

impl<F> Drop for Entered<F> {
    fn drop(&mut self) {
        self.drop_future();
    }
}

/// A task's future, where it can be dropped from outside.
struct Slot {
    scope: Option<Arc<Shared>>,
    id: u64,
    state: Mutex<State>,
}

enum State {
    Waiting {
        future: BoxFuture<'static, ()>,
        waker: Option<Waker>,
    },
    /// Being polled; `drop_after` once somebody wanted it gone meanwhile.
    Polled {
        drop_after: bool,
    },
    Gone,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Slot {
    fn drop_future(&self) {
        let taken = {
            let mut state = self.state.lock();
            match std::mem::replace(&mut *state, State::Gone) {
                State::Polled { .. } => {
                    *state = State::Polled { drop_after: true };
                    None
                }
                State::Waiting { future, waker } => Some((future, waker)),
                State::Gone => None,
            }
        };
        let Some((future, waker)) = taken else { return };
        self.leave(future);
        if let Some(waker) = waker {
            // So that the executor sees the empty slot and forgets the task.
            waker.wake();
        }
    }

    /// Drops the future inside its scope: what its drops spawn must not outlive the node either.
    fn leave(&self, future: BoxFuture<'static, ()>) {
        if let Some(scope) = &self.scope {
            scope.members.lock().tasks.remove(&self.id);
        }
        let _current = Current::set(self.scope.clone());
        drop(future);
    }
}

/// Reaches a simulated task from outside.
#[derive(Clone, Debug)]
pub(in crate::env) struct TaskRef(Arc<Slot>);

impl TaskRef {
    pub(in crate::env) fn drop_future(&self) {
        self.0.drop_future();
    }
}

/// Spawns into the simulation on this thread, and into the current scope.
#[track_caller]
pub(in crate::env) fn spawn(future: BoxFuture<'static, ()>) -> TaskRef {
    let scope = CURRENT.with_borrow(Option::clone);
    let state = Mutex::new(State::Waiting {
        future,
        waker: None,
    });
    let Some(shared) = scope else {
        let slot = Arc::new(Slot {
            scope: None,
            id: 0,
            state,
        });
        drop(SimRuntime::spawn(Task(slot.clone())));
        return TaskRef(slot);
    };
    let id = shared.members.lock().next_id();
    let slot = Arc::new(Slot {
        scope: Some(shared.clone()),
        id,
        state,
    });
    let dead = {
        let mut members = shared.members.lock();
        if !members.killed {
            members.tasks.insert(id, slot.clone());
        }
        members.killed
    };
    if dead {
        slot.drop_future();
    } else {
        drop(SimRuntime::spawn(Task(slot.clone())));
    }
    TaskRef(slot)
}

/// What the executor polls.
struct Task(Arc<Slot>);

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let slot = &self.0;
        if world::hold_back() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(scope) = &slot.scope
            && scope.hold(context.waker())
        {
            return Poll::Pending;
        }
        let taken = std::mem::replace(&mut *slot.state.lock(), State::Polled { drop_after: false });
        let State::Waiting { mut future, .. } = taken else {
            *slot.state.lock() = State::Gone;
            return Poll::Ready(());
        };
        let polled = {
            let _current = Current::set(slot.scope.clone());
            future.as_mut().poll(context)
        };
        let mut state = slot.state.lock();
        let drop_after = matches!(*state, State::Polled { drop_after: true });
        if polled.is_pending() && !drop_after {
            *state = State::Waiting {
                future,
                waker: Some(context.waker().clone()),
            };
            return Poll::Pending;
        }
        *state = State::Gone;
        drop(state);
        slot.leave(future);
        Poll::Ready(())
    }
}

impl Drop for Task {
    /// The runtime ends: the future goes with it, even while handles keep the slot.
    fn drop(&mut self) {
        self.0.drop_future();
    }
}
