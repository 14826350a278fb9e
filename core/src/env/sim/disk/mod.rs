//! A node's disk in memory, with everything that goes wrong with disks.
//!
//! Every operation that changes something has a running number, so a test can say "crash at operation 17" or "fail
//! operation 17 with EIO". Between two operations a disk can be copied as a crash would leave it:
//!
//! ```text
//!   let disk = SimDisk::new(seed);
//!   ... work on disk.env() ...
//!   for cut in disk.power_cuts() {
//!       let after = disk.after_power_cut(&cut);
//!       ... recover on after.env(), and see what is there ...
//!   }
//! ```
//! `record_states(true)` keeps the disk as it was before each operation, so that one run of a workload gives every crash
//! state of it: `state_before(n)`, as after a kill, and from there `after_power_cut`.
//!
//! It needs no running simulation; only delays do.
//!
//! Always true:
//! * an operation past the crash point changes nothing and answers with an error (or never, after `hang_after_crash`);
//! * copies share nothing that can be written; what is done on one is not seen on another;
//! * the same seed and the same calls give the same answers.
//!
//! Elsewhere: the operations themselves (`ops`), their effect (`state`), what is durable (`sync`), what a crash keeps
//! (`crash`), which faults there are (`fault`).

mod crash;
mod digest;
mod fault;
mod names;
mod ops;
mod pages;
#[cfg(test)]
mod same_as_real;
mod state;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustix::io::Errno;
use tokio::sync::Notify;

pub use crash::{Choice, Fate, Unsynced};
pub use fault::{Fault, Latency, Op, OpKind};

use crate::env::Env;
use fault::Plan;
use state::State;

/// Room of a new disk: more than any test writes.
const CAPACITY: u64 = 1 << 40;

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
    hook: Mutex<Option<Hook>>,
    /// Something changed for those who wait: a crash, or hangs released.
    changed: Notify,
}

/// Called before each numbered operation.
type Hook = Box<dyn FnMut(&SimDisk, &Op) + Send>;

struct Inner {
    seed: u64,
    rng: SmallRng,
    state: State,
    plan: Plan,
    count: u64,
    count_reads: bool,
    history: Vec<Op>,
    /// The state before each operation, if recorded.
    recorded: Option<BTreeMap<u64, State>>,
    /// The operation that does not happen any more, and how many pages of it still do if it is a write.
    crash_at: Option<(u64, usize)>,
    crashed: bool,
    hang_after_crash: bool,
    cold: bool,
    /// How often hanging operations were released.
    releases: u64,
}

/// The simulated machine has crashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the simulated disk crashed")]
pub struct Crashed;

impl From<Crashed> for io::Error {
    fn from(crashed: Crashed) -> io::Error {
        io::Error::other(crashed)
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.shared.inner.lock();
        let mut shown = f.debug_struct("SimDisk");
        shown
            .field("seed", &inner.seed)
            .field("ops", &inner.count)
            .field("crashed", &inner.crashed);
        shown
            .field("unsynced", &inner.state.pending.len())
            .finish_non_exhaustive()
    }
}

/// Setting up.
impl SimDisk {
    /// An empty disk. The seed decides delays and faults that come by rate.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::from_state(seed, State::new(CAPACITY))
    }

    fn from_state(seed: u64, state: State) -> SimDisk {
        let inner = Inner {
            seed,
            rng: SmallRng::seed_from_u64(seed),
            state,
            plan: Plan::default(),
            count: 0,
            count_reads: false,
            history: Vec::new(),
            recorded: None,
            crash_at: None,
            crashed: false,
            hang_after_crash: false,
            cold: false,
            releases: 0,
        };
        SimDisk {
            shared: Arc::new(Shared {
                inner: Mutex::new(inner),
                hook: Mutex::new(None),
                changed: Notify::new(),
            }),
        }
    }

    /// The environment of a node that has this disk and no peers.
    pub fn env(&self) -> Env {
        Env::alone(Arc::new(self.clone()))
    }

    /// Sets its size in bytes.
    pub fn set_capacity(&self, capacity: u64) {
        self.shared.inner.lock().state.capacity = capacity;
    }

    /// Sets how long writes and syncs take in a simulation. None by default; a long simulation needs some, because the
    /// executor takes 100,000 polls without time passing for a busy loop.
    pub fn set_latency(&self, latency: Latency) {
        self.shared.inner.lock().plan.latency = latency;
    }

    /// Whether reads get numbers too.
    pub fn count_reads(&self, count: bool) {
        self.shared.inner.lock().count_reads = count;
    }

    /// Whether nothing is in the page cache for `try_read_at`, which then always answers `None`.
    pub fn set_cold(&self, cold: bool) {
        self.shared.inner.lock().cold = cold;
    }

    /// A durable directory and its parents, as an operator would have made it. No operation.
    pub fn plant_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut inner = self.shared.inner.lock();
        inner.plant_dir(path.as_ref())
    }

    /// A durable file with these bytes, and its directories. No operation.
    pub fn plant(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let path = path.as_ref();
        let mut inner = self.shared.inner.lock();
        if let Some(parent) = path.parent() {
            inner.plant_dir(parent)?;
        }
        let state = &mut inner.state;
        let file = state.create(path)?;
        state.write(file, &[Bytes::copy_from_slice(bytes)], 0, usize::MAX)?;
        let (dir, _) = state.cached.resolve_parent(path)?;
        let mark = state.mark();
        state.sync(file, mark);
        state.sync_names(dir, mark);
        Ok(())
    }
}

/// Faults and crashes.
impl SimDisk {
    /// Has `hook` called before each numbered operation: it may copy the disk, plan a fault or crash it. What it does to
    /// this disk itself is not hooked.
    pub fn on_op(&self, hook: impl FnMut(&SimDisk, &Op) + Send + 'static) {
        *self.shared.hook.lock() = Some(Box::new(hook));
    }

    /// How many operations have begun; also the number of the next one.
    pub fn op_count(&self) -> u64 {
        self.shared.inner.lock().count
    }

    /// All operations so far.
    pub fn history(&self) -> Vec<Op> {
        self.shared.inner.lock().history.clone()
    }

    /// The operation with this number goes wrong.
    pub fn fail_at(&self, op: u64, fault: Fault) {
        self.shared.inner.lock().plan.at(op, fault);
    }

    /// The next operation of this kind goes wrong.
    pub fn fail_next(&self, kind: OpKind, fault: Fault) {
        self.shared.inner.lock().plan.next(kind, None, fault);
    }

    /// The next operation of this kind on a path that contains `part` goes wrong.
    pub fn fail_next_on(&self, kind: OpKind, part: impl Into<String>, fault: Fault) {
        self.shared
            .inner
            .lock()
            .plan
            .next(kind, Some(part.into()), fault);
    }

    /// So many of a million operations of this kind go wrong, by the seed. 1,000,000 is all of them.
    pub fn fail_rate(&self, kind: OpKind, per_million: u32, fault: Fault) {
        self.shared.inner.lock().plan.rate(kind, per_million, fault);
    }

    /// Forgets all faults that have not happened.
    pub fn clear_faults(&self) {
        self.shared.inner.lock().plan.clear();
    }

    /// Lets operations go on that hang.
    pub fn release_hangs(&self) {
        self.shared.inner.lock().releases += 1;
        self.shared.changed.notify_waiters();
    }

    /// The machine crashes instead of doing the operation with this number, or any after it.
    pub fn crash_at(&self, op: u64) {
        self.shared.inner.lock().crash_at = Some((op, 0));
    }

    /// As `crash_at`, but if that operation is a write, its first `pages` pages are written.
    pub fn crash_within(&self, op: u64, pages: usize) {
        self.shared.inner.lock().crash_at = Some((op, pages));
    }

    /// The machine crashes now.
    pub fn crash(&self) {
        self.shared.inner.lock().crashed = true;
        self.shared.changed.notify_waiters();
    }

    /// After a crash, futures of operations wait for ever instead of failing: as a dead process would, but somebody has
    /// to drop them (a scope's `kill`).
    pub fn hang_after_crash(&self) {
        self.shared.inner.lock().hang_after_crash = true;
    }

    /// Whether the crash has come.
    pub fn crashed(&self) -> bool {
        self.shared.inner.lock().crashed
    }

    /// Waits for the crash.
    pub async fn wait_crashed(&self) {
        self.wait_until(|inner| inner.crashed).await;
    }

    /// Runs `future` until it is done or the crash comes.
    pub async fn until_crash<F: Future>(&self, future: F) -> Result<F::Output, Crashed> {
        let (future, crash) = (std::pin::pin!(future), std::pin::pin!(self.wait_crashed()));
        match futures::future::select(future, crash).await {
            futures::future::Either::Left((output, _)) => Ok(output),
            futures::future::Either::Right(_) => Err(Crashed),
        }
    }

    async fn wait_until(&self, done: impl Fn(&Inner) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // Before the look, so that a change right after it is not missed.
            changed.as_mut().enable();
            if done(&self.shared.inner.lock()) {
                return;
            }
            changed.await;
        }
    }
}

/// What is there, and what a crash would leave.
impl SimDisk {
    /// Keeps the state before each operation from now on.
    pub fn record_states(&self, record: bool) {
        let mut inner = self.shared.inner.lock();
        inner.recorded = record.then(|| inner.recorded.take().unwrap_or_default());
    }

    /// The disk as it was right before the operation with this number, if that was recorded; the process is gone, as after
    /// `after_kill`.
    pub fn state_before(&self, op: u64) -> Option<SimDisk> {
        let inner = self.shared.inner.lock();
        let state = inner.recorded.as_ref()?.get(&op)?.after_kill();
        Some(inner.successor(state))
    }

    /// The disk after the process was killed: all that was written is there, but still not durable.
    pub fn after_kill(&self) -> SimDisk {
        let inner = self.shared.inner.lock();
        inner.successor(inner.state.after_kill())
    }

    /// What is written and not durable, in the order it happened.
    pub fn power_cut_choices(&self) -> Vec<Unsynced> {
        self.shared.inner.lock().state.unsynced()
    }

    /// A standard set of power cuts for what is not durable now: nothing kept, every prefix up to everything, all but one,
    /// and every page torn after 512, 2048 and 3584 bytes.
    pub fn power_cuts(&self) -> Vec<Choice> {
        crash::standard_cuts(&self.power_cut_choices())
    }

    /// The disk after a power cut.
    pub fn after_power_cut(&self, choice: &Choice) -> SimDisk {
        let inner = self.shared.inner.lock();
        inner.successor(inner.state.after_power_cut(choice))
    }

    /// The page cache forgets clean pages: what a failed sync lost is now also unreadable.
    pub fn drop_caches(&self) {
        self.shared.inner.lock().state.drop_caches();
    }

    /// A number for all that could ever be read here, now or after any crash: equal disks need to be recovered only once.
    pub fn digest(&self) -> u128 {
        self.shared.inner.lock().state.digest()
    }

    /// All files and their lengths.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let inner = self.shared.inner.lock();
        let len = |file: &u64| {
            inner
                .state
                .inodes
                .get(file)
                .map_or(0, |inode| inode.cached.len())
        };
        inner
            .state
            .cached
            .files()
            .iter()
            .map(|(path, file)| (path.clone(), len(file)))
            .collect()
    }

    /// A file as a reader sees it now.
    pub fn contents(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let inner = self.shared.inner.lock();
        let file = inner.state.cached.resolve_file(path.as_ref())?;
        let content = &inner.state.inode(file)?.cached;
        let mut bytes = vec![0; content.len() as usize];
        content.read(&mut bytes, 0);
        Ok(bytes)
    }

    /// Damages a bit where it lies, in cache and on the device, without anybody noticing.
    pub fn flip_bit(&self, path: impl AsRef<Path>, byte: u64, bit: u8) -> io::Result<()> {
        self.damage(path, byte, |byte| *byte ^= 1 << (bit % 8))
    }

    /// Damages bytes where they lie.
    pub fn overwrite(&self, path: impl AsRef<Path>, at: u64, bytes: &[u8]) -> io::Result<()> {
        let path = path.as_ref();
        bytes
            .iter()
            .zip(at..)
            .try_for_each(|(new, at)| self.damage(path, at, |byte| *byte = *new))
    }

    fn damage(&self, path: impl AsRef<Path>, at: u64, change: impl Fn(&mut u8)) -> io::Result<()> {
        let mut inner = self.shared.inner.lock();
        let file = inner.state.cached.resolve_file(path.as_ref())?;
        if at >= inner.state.inode(file)?.cached.len() {
            return Err(Errno::INVAL.into());
        }
        inner.state.damage(file, at, &change);
        Ok(())
    }
}

impl Inner {
    /// A disk that goes on from `state`: same seed and size, no faults, numbers from 0.
    fn successor(&self, state: State) -> SimDisk {
        let disk = SimDisk::from_state(self.seed, state);
        {
            let mut inner = disk.shared.inner.lock();
            inner.count_reads = self.count_reads;
            inner.plan.latency = self.plan.latency;
        }
        disk
    }

    fn plant_dir(&mut self, path: &Path) -> io::Result<()> {
        for missing in self.state.missing_dirs(path)? {
            self.state.make_dir(&missing)?;
            let (dir, _) = self.state.cached.resolve_parent(&missing)?;
            let mark = self.state.mark();
            self.state.sync_names(dir, mark);
        }
        Ok(())
    }
}
