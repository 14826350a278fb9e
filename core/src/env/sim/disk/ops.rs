//! The operations of a simulated disk: numbered, made to fail or wait, then done to the state.
//!
//! Always true:
//! * an operation is numbered when it begins (a future when first polled) and takes effect when it ends;
//! * a sync covers what happened before it began, however long it takes;
//! * an operation that is refused by itself (no such file, name taken) has no number: nothing would have changed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::io::Errno;

use super::fault::{Fault, Op, OpKind, first_bytes, flipped};
use super::names::Node;
use super::pages::{Content, PAGE};
use super::state::State;
use super::{Crashed, Inner, SimDisk};
use crate::env::disk::{DirEntry, DirLock, Disk, File, Open, Space};
use crate::env::{clock, sim};

/// What `begin` decided about an operation.
struct Begun {
    fault: Option<Fault>,
    delay: Duration,
    /// The crash comes in the middle of this write, after so many pages.
    crash_after: Option<usize>,
    /// What happened before it began.
    mark: u64,
}

impl Inner {
    /// Gives an operation its number, or has the crash come instead. Also says after how many pages of a write it comes.
    fn number(&mut self, mut op: Op) -> Result<(Op, Option<usize>), Crashed> {
        op.number = self.count;
        let mut crash_after = None;
        if op.kind == OpKind::Read && !self.count_reads {
            return if self.crashed {
                Err(Crashed)
            } else {
                Ok((op, None))
            };
        }
        if let Some((at, pages)) = self.crash_at.filter(|(at, _)| op.number >= *at) {
            let in_the_middle = op.number == at && op.kind == OpKind::Write && pages > 0;
            crash_after = in_the_middle.then_some(pages);
            self.crashed |= !in_the_middle;
        }
        if self.crashed {
            return Err(Crashed);
        }
        self.count += 1;
        self.history.push(op.clone());
        if let Some(recorded) = &mut self.recorded {
            recorded.insert(op.number, self.state.clone());
        }
        Ok((op, crash_after))
    }
}

/// The number of reads that are not counted.
const UNNUMBERED: u64 = u64::MAX;

/// An operation without parameters that has no number yet.
fn op(kind: OpKind, path: Arc<Path>) -> Op {
    Op {
        number: UNNUMBERED,
        kind,
        path,
        at: 0,
        len: 0,
    }
}

impl SimDisk {
    /// Begins an operation that is no future; it cannot be delayed.
    fn begin(&self, op: Op) -> io::Result<Begun> {
        let numbered = self.shared.inner.lock().number(op);
        let (op, crash_after) = numbered.inspect_err(|_| self.shared.changed.notify_waiters())?;
        // Out of its lock while it runs: what the hook does to the disk is not hooked again.
        let hook = if op.number == UNNUMBERED {
            None
        } else {
            self.shared.hook.lock().take()
        };
        if let Some(mut hook) = hook {
            hook(self, &op);
            *self.shared.hook.lock() = Some(hook);
        }
        let inner = &mut *self.shared.inner.lock();
        if inner.crashed {
            return Err(Crashed.into());
        }
        Ok(Begun {
            fault: inner.plan.take(&op, &mut inner.rng),
            delay: inner.plan.latency_of(op.kind, &mut inner.rng),
            crash_after,
            mark: inner.state.mark(),
        })
    }

    /// Begins an operation that is a future, and waits as long as it is meant to take.
    async fn begin_and_wait(&self, op: Op) -> io::Result<Begun> {
        let begun = match self.begin(op) {
            Ok(begun) => begun,
            Err(error) => return Err(self.crash_answer(error).await),
        };
        let delay = match begun.fault {
            Some(Fault::Delay(delay)) => delay,
            _ => begun.delay,
        };
        if begun.fault == Some(Fault::Hang) {
            let releases = self.shared.inner.lock().releases;
            self.wait_until(|inner| inner.crashed || inner.releases > releases)
                .await;
        } else if !delay.is_zero() && sim::active() {
            clock::sleep(delay).await;
        }
        if self.crashed() {
            return Err(self.crash_answer(Crashed.into()).await);
        }
        Ok(begun)
    }

    async fn crash_answer(&self, error: io::Error) -> io::Error {
        if self.shared.inner.lock().hang_after_crash {
            return futures::future::pending().await;
        }
        error
    }

    /// Runs a plain operation that only changes names or lengths.
    fn change(&self, op: Op, apply: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let (kind, path) = (op.kind, op.path.clone());
        let begun = self.begin(op)?;
        match begun.fault {
            Some(Fault::Eio) => Err(Errno::IO.into()),
            Some(Fault::Enospc) => Err(Errno::NOSPC.into()),
            Some(Fault::Lost) => Ok(()),
            None => apply(&mut self.shared.inner.lock().state),
            Some(fault) => panic!("{fault:?} does not fit {kind:?} on {}", path.display()),
        }
    }

    fn label(&self, file: u64) -> io::Result<Arc<Path>> {
        Ok(self.shared.inner.lock().state.inode(file)?.label.clone())
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        if how == Open::CreateNew {
            self.shared.inner.lock().state.check_create(path)?;
            self.change(op(OpKind::Create, path.into()), |state| {
                state.create(path).map(drop)
            })?;
        }
        let mut inner = self.shared.inner.lock();
        if inner.crashed {
            return Err(Crashed.into());
        }
        let file = inner.state.cached.resolve_file(path)?;
        *inner.state.open.entry(file).or_default() += 1;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            file,
            writable: how != Open::Read,
            appends: AtomicBool::new(false),
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let missing = self.shared.inner.lock().state.missing_dirs(path)?;
        missing.iter().try_for_each(|dir| {
            self.change(op(OpKind::MakeDir, dir.as_path().into()), |state| {
                state.make_dir(dir)
            })
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // What is refused anyway is no operation: nothing would change.
        self.shared.inner.lock().state.check_rename(from, to)?;
        self.change(op(OpKind::Rename, to.into()), |state| {
            state.rename(from, to)
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.shared.inner.lock().state.check_remove(path)?;
        self.change(op(OpKind::Remove, path.into()), |state| state.remove(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let inner = self.shared.inner.lock();
        if inner.crashed {
            return Err(Crashed.into());
        }
        let number = inner.state.cached.resolve_dir(dir)?;
        let entry = |name, node| -> io::Result<DirEntry> {
            let path = dir.join::<&std::ffi::OsString>(name);
            Ok(match node {
                Node::Dir(_) => DirEntry {
                    path,
                    len: 0,
                    is_dir: true,
                },
                Node::File(file) => DirEntry {
                    path,
                    len: inner.state.inode(file)?.cached.len(),
                    is_dir: false,
                },
            })
        };
        inner
            .state
            .cached
            .entries(number)
            .map(|(name, node)| entry(name, node))
            .collect()
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        async move {
            let number = self.shared.inner.lock().state.cached.resolve_dir(dir)?;
            let begun = self.begin_and_wait(op(OpKind::SyncDir, dir.into())).await?;
            let state = &mut self.shared.inner.lock().state;
            match begun.fault {
                Some(fault @ (Fault::Eio | Fault::Enospc)) => {
                    state.lose_names(number, begun.mark);
                    Err(fault.errno().into())
                }
                Some(Fault::Lost) => Ok(()),
                None | Some(Fault::Delay(_) | Fault::Hang) => {
                    state.sync_names(number, begun.mark);
                    Ok(())
                }
                Some(fault) => panic!("{fault:?} does not fit a sync of {}", dir.display()),
            }
        }
        .boxed()
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let inner = self.shared.inner.lock();
        if inner.crashed {
            return Err(Crashed.into());
        }
        let used = inner.state.used_pages() * PAGE as u64;
        let capacity = inner.state.capacity;
        Ok(Space {
            capacity,
            free: capacity.saturating_sub(used),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let absent = self.shared.inner.lock().state.check_create(path).is_ok();
        if absent {
            self.change(op(OpKind::Create, path.into()), |state| {
                state.create(path).map(drop)
            })?;
        }
        let mut inner = self.shared.inner.lock();
        let file = inner.state.cached.resolve_file(path)?;
        if !inner.state.locked.insert(file) {
            return Err(Errno::WOULDBLOCK.into());
        }
        Ok(Box::new(SimLock {
            disk: self.clone(),
            file,
        }))
    }
}

struct SimLock {
    disk: SimDisk,
    file: u64,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk
            .shared
            .inner
            .lock()
            .state
            .locked
            .remove(&self.file);
    }
}

struct SimFile {
    disk: SimDisk,
    file: u64,
    writable: bool,
    /// Writes fill their last block with zeros, as those past the page cache do.
    appends: AtomicBool,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut inner = self.disk.shared.inner.lock();
        if let Some(count) = inner.state.open.get_mut(&self.file) {
            *count -= 1;
            if *count == 0 {
                inner.state.open.remove(&self.file);
                inner.state.collect();
            }
        }
    }
}

impl SimFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(Errno::BADF.into())
        }
    }
}

impl SimFile {
    /// What a write of `parts` at `at` really writes.
    fn blocks(&self, parts: &[Bytes], at: u64) -> io::Result<Vec<Bytes>> {
        let mut parts = parts.to_vec();
        if self.appends.load(Ordering::Relaxed) {
            let end = at + parts.iter().map(|part| part.len() as u64).sum::<u64>();
            let block = end.next_multiple_of(PAGE as u64);
            if block <= self.content(Content::len)? {
                parts.push(Bytes::from(vec![0; (block - end) as usize]));
            }
        }
        Ok(parts)
    }

    fn content<T>(&self, ask: impl FnOnce(&Content) -> T) -> io::Result<T> {
        let inner = self.disk.shared.inner.lock();
        if inner.crashed {
            return Err(Crashed.into());
        }
        Ok(ask(&inner.state.inode(self.file)?.cached))
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let path = self.disk.label(self.file)?;
        let begun = self.disk.begin(Op {
            at,
            len: buf.len() as u64,
            ..op(OpKind::Read, path.clone())
        })?;
        let at = match begun.fault {
            Some(fault @ (Fault::Eio | Fault::Enospc)) => return Err(fault.errno().into()),
            Some(Fault::Misdirect(by)) => at.saturating_add_signed(by),
            None | Some(Fault::FlipBit(..)) => at,
            Some(fault) => panic!("{fault:?} does not fit a read of {}", path.display()),
        };
        let read = self
            .disk
            .shared
            .inner
            .lock()
            .state
            .inode(self.file)?
            .cached
            .read(buf, at);
        if let Some(Fault::FlipBit(byte, bit)) = begun.fault
            && let Some(byte) = buf[..read].get_mut(byte as usize)
        {
            *byte ^= 1 << (bit % 8);
        }
        Ok(read)
    }

    fn try_read_at(&self, buf: &mut [u8], at: u64) -> Option<io::Result<usize>> {
        let cold = self.disk.shared.inner.lock().cold;
        (!cold).then(|| self.read_at(buf, at))
    }

    fn write_at<'a>(&'a self, parts: &'a [Bytes], at: u64) -> BoxFuture<'a, io::Result<()>> {
        async move {
            self.check_writable()?;
            let path = self.disk.label(self.file)?;
            let begun = self
                .disk
                .begin_and_wait(Op {
                    at,
                    len: parts.iter().map(|part| part.len() as u64).sum(),
                    ..op(OpKind::Write, path)
                })
                .await?;
            let parts = &self.blocks(parts, at)?;
            if let Some(pages) = begun.crash_after {
                // Whether it fits does not matter to those who are dead.
                let _ = self
                    .disk
                    .shared
                    .inner
                    .lock()
                    .state
                    .write(self.file, parts, at, pages);
                self.disk.crash();
                return Err(self.disk.crash_answer(Crashed.into()).await);
            }
            let state = &mut self.disk.shared.inner.lock().state;
            match begun.fault {
                Some(fault @ (Fault::Eio | Fault::Enospc)) => Err(fault.errno().into()),
                Some(Fault::Lost) => Ok(()),
                Some(Fault::Partial(bytes)) => {
                    state.write(self.file, &first_bytes(parts, bytes), at, usize::MAX)?;
                    Err(Errno::NOSPC.into())
                }
                Some(Fault::FlipBit(byte, bit)) => {
                    state.write(self.file, &flipped(parts, byte, bit), at, usize::MAX)
                }
                Some(Fault::Misdirect(by)) => {
                    state.write(self.file, parts, at.saturating_add_signed(by), usize::MAX)
                }
                None | Some(Fault::Delay(_) | Fault::Hang) => {
                    state.write(self.file, parts, at, usize::MAX)
                }
            }
        }
        .boxed()
    }

    fn sync_data<'a>(&'a self) -> BoxFuture<'a, io::Result<()>> {
        async move {
            let path = self.disk.label(self.file)?;
            let begun = self
                .disk
                .begin_and_wait(op(OpKind::Sync, path.clone()))
                .await?;
            let state = &mut self.disk.shared.inner.lock().state;
            match begun.fault {
                Some(fault @ (Fault::Eio | Fault::Enospc)) => {
                    state.lose(self.file, begun.mark);
                    Err(fault.errno().into())
                }
                Some(Fault::Lost) => Ok(()),
                None | Some(Fault::Delay(_) | Fault::Hang) => {
                    state.sync(self.file, begun.mark);
                    Ok(())
                }
                Some(fault) => panic!("{fault:?} does not fit a sync of {}", path.display()),
            }
        }
        .boxed()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let path = self.disk.label(self.file)?;
        self.disk.change(
            Op {
                at: len,
                ..op(OpKind::Allocate, path)
            },
            |state| state.allocate(self.file, len),
        )
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // As ftruncate says it.
        self.check_writable().map_err(|_| Errno::INVAL)?;
        let path = self.disk.label(self.file)?;
        self.disk.change(
            Op {
                at: len,
                ..op(OpKind::SetLen, path)
            },
            |state| state.set_len(self.file, len),
        )
    }

    fn len(&self) -> io::Result<u64> {
        self.content(Content::len)
    }

    fn expect_appends(&self) {
        self.appends.store(true, Ordering::Relaxed);
    }

    fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        self.content(|content| content.next_data(at))
    }
}
