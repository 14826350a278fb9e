//! The operations of a simulated disk: numbered, made to fail or wait, then done to the state.
//!
//! Always true:
//! * an operation is numbered when it begins (a future when first polled) and takes effect when it ends;
//! * a sync covers what happened before it began, however long it takes;
//! * an operation that is refused by itself (no such file, name taken) has no number: nothing would have changed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::io::Errno;

use super::fault::{Fault, Op, OpKind, first_bytes, flipped};
use super::names::Node;
use super::pages::PAGE;
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
    /// Numbers an operation and decides what happens to it.
    fn begin(&mut self, kind: OpKind, path: &Arc<Path>) -> Result<Begun, Crashed> {
        if self.crashed {
            return Err(Crashed);
        }
        let numbered = kind != OpKind::Read || self.count_reads;
        let number = numbered.then_some(self.count);
        let mut crash_after = None;
        if let Some(number) = number {
            if let Some((at, pages)) = self.crash_at.filter(|(at, _)| number >= *at) {
                if pages == 0 || number > at || kind != OpKind::Write {
                    self.crashed = true;
                    return Err(Crashed);
                }
                crash_after = Some(pages);
            }
            self.count += 1;
            self.history.push(Op {
                number,
                kind,
                path: path.clone(),
            });
            if let Some(recorded) = &mut self.recorded {
                recorded.insert(number, self.state.clone());
            }
        }
        let fault = self.plan.take(number, kind, path, &mut self.rng);
        let delay = self.plan.latency_of(kind, &mut self.rng);
        Ok(Begun {
            fault,
            delay,
            crash_after,
            mark: self.state.mark(),
        })
    }
}

impl SimDisk {
    /// Begins an operation that is no future; it cannot be delayed.
    fn begin(&self, kind: OpKind, path: &Arc<Path>) -> io::Result<Begun> {
        let begun = self.shared.inner.lock().begin(kind, path);
        if begun.is_err() {
            self.shared.changed.notify_waiters();
        }
        Ok(begun?)
    }

    /// Begins an operation that is a future, and waits as long as it is meant to take.
    async fn begin_and_wait(&self, kind: OpKind, path: &Arc<Path>) -> io::Result<Begun> {
        let begun = match self.begin(kind, path) {
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
    fn change(
        &self,
        kind: OpKind,
        path: &Arc<Path>,
        apply: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> io::Result<()> {
        let begun = self.begin(kind, path)?;
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
            if self.shared.inner.lock().state.cached.resolve(path).is_ok() {
                return Err(Errno::EXIST.into());
            }
            self.change(OpKind::Create, &path.into(), |state| {
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
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let missing = self.shared.inner.lock().state.missing_dirs(path)?;
        missing.iter().try_for_each(|dir| {
            self.change(OpKind::MakeDir, &dir.as_path().into(), |state| {
                state.make_dir(dir)
            })
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // What is refused anyway is no operation: nothing would change.
        self.shared.inner.lock().state.check_rename(from, to)?;
        self.change(OpKind::Rename, &to.into(), |state| state.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.shared.inner.lock().state.check_remove(path)?;
        self.change(OpKind::Remove, &path.into(), |state| state.remove(path))
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
            let begun = self.begin_and_wait(OpKind::SyncDir, &dir.into()).await?;
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
        if self.shared.inner.lock().state.cached.resolve(path).is_err() {
            self.change(OpKind::Create, &path.into(), |state| {
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

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let path = self.disk.label(self.file)?;
        let begun = self.disk.begin(OpKind::Read, &path)?;
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
            let begun = self.disk.begin_and_wait(OpKind::Write, &path).await?;
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
            let begun = self.disk.begin_and_wait(OpKind::Sync, &path).await?;
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
        self.disk.change(OpKind::Allocate, &path, |state| {
            state.allocate(self.file, len)
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let path = self.disk.label(self.file)?;
        self.disk
            .change(OpKind::SetLen, &path, |state| state.set_len(self.file, len))
    }

    fn len(&self) -> io::Result<u64> {
        if self.disk.crashed() {
            return Err(Crashed.into());
        }
        Ok(self
            .disk
            .shared
            .inner
            .lock()
            .state
            .inode(self.file)?
            .cached
            .len())
    }
}
