//! What goes wrong on a simulated disk, and when.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::SmallRng;
use rustix::io::Errno;

/// The kinds of operations that have a running number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum OpKind {
    /// A file was created.
    Create,
    /// A directory was created; one operation for each.
    MakeDir,
    /// A name was removed.
    Remove,
    /// A name was replaced by another.
    Rename,
    /// Bytes were written.
    Write,
    /// fdatasync.
    Sync,
    /// fsync of a directory.
    SyncDir,
    /// Room was reserved.
    Allocate,
    /// The length was set.
    SetLen,
    /// Bytes were read; numbered only after `count_reads(true)`.
    Read,
}

/// One operation that began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Op {
    /// Its running number, from 0.
    pub number: u64,
    /// What it was.
    pub kind: OpKind,
    /// On what; for a rename the new name.
    pub path: Arc<Path>,
    /// Where in the file, for reads and writes; the new length for `Allocate` and `SetLen`; else 0.
    pub at: u64,
    /// How many bytes, for reads and writes; else 0.
    pub len: u64,
}

/// What goes wrong with one operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails with EIO and does nothing. A sync so failed loses what it was to make durable: those bytes stay
    /// readable, and no later sync saves them unless they are written again.
    Eio,
    /// It fails with ENOSPC and does nothing; a sync as with `Eio`.
    Enospc,
    /// Only the first bytes of a write are taken, the rest fails with ENOSPC.
    Partial(u64),
    /// It says `Ok` and does nothing: a device that lies. Not for reads.
    Lost,
    /// One bit of the bytes read or written is wrong: byte (within the operation's), bit.
    FlipBit(u64, u8),
    /// Bytes are read from or written to another place, this far away.
    Misdirect(i64),
    /// It takes this long. Only in a simulation, and only operations that are futures.
    Delay(Duration),
    /// It does not end before `release_hangs`. Only operations that are futures.
    Hang,
}

/// How long operations take, at least and at most. Counts only in a simulation: elsewhere there is no virtual clock.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Latency {
    /// Of a write.
    pub write: (Duration, Duration),
    /// Of a file's or directory's sync.
    pub sync: (Duration, Duration),
}

/// The faults to come.
#[derive(Clone, Default)]
pub(super) struct Plan {
    numbered: BTreeMap<u64, Fault>,
    next: Vec<(OpKind, Option<String>, Fault)>,
    rates: Vec<(OpKind, u32, Fault)>,
    pub(super) latency: Latency,
}

impl Plan {
    pub(super) fn at(&mut self, number: u64, fault: Fault) {
        self.numbered.insert(number, fault);
    }

    pub(super) fn next(&mut self, kind: OpKind, path: Option<String>, fault: Fault) {
        self.next.push((kind, path, fault));
    }

    pub(super) fn rate(&mut self, kind: OpKind, per_million: u32, fault: Fault) {
        self.rates.push((kind, per_million, fault));
    }

    pub(super) fn clear(&mut self) {
        let latency = self.latency;
        *self = Plan {
            latency,
            ..Plan::default()
        };
    }

    /// The fault of this operation, if any.
    pub(super) fn take(&mut self, op: &Op, rng: &mut SmallRng) -> Option<Fault> {
        if let Some(fault) = self.numbered.remove(&op.number) {
            return Some(fault);
        }
        let kind = op.kind;
        let fits = |wanted: &Option<String>| match wanted {
            Some(part) => op.path.to_string_lossy().contains(part.as_str()),
            None => true,
        };
        let mut next = self.next.iter();
        if let Some(at) = next.position(|(wanted, part, _)| *wanted == kind && fits(part)) {
            return Some(self.next.remove(at).2);
        }
        // Drawn only where a rate is set, so that setting none leaves the stream as it was.
        let hit = |rng: &mut SmallRng, per_million: u32| rng.next_u32() % 1_000_000 < per_million;
        let rates = self.rates.iter().filter(|(wanted, ..)| *wanted == kind);
        rates.fold(None, |fault, (_, rate, this)| {
            if hit(rng, *rate) {
                fault.or(Some(*this))
            } else {
                fault
            }
        })
    }

    /// How long an operation takes without a fault.
    pub(super) fn latency_of(&self, kind: OpKind, rng: &mut SmallRng) -> Duration {
        let (least, most) = match kind {
            OpKind::Write => self.latency.write,
            OpKind::Sync | OpKind::SyncDir => self.latency.sync,
            _ => return Duration::ZERO,
        };
        let span = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap_or(u64::MAX);
        if span == 0 {
            least
        } else {
            least + Duration::from_nanos(rng.next_u64() % span)
        }
    }
}

impl Fault {
    /// The error it shows as.
    pub(super) fn errno(self) -> Errno {
        if self == Fault::Enospc {
            Errno::NOSPC
        } else {
            Errno::IO
        }
    }
}

/// The first bytes of a write.
pub(super) fn first_bytes(parts: &[Bytes], count: u64) -> Vec<Bytes> {
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    let mut taken = Vec::new();
    for part in parts {
        let now = part.slice(..part.len().min(left));
        left -= now.len();
        taken.push(now);
    }
    taken
}

/// A write with one bit wrong.
pub(super) fn flipped(parts: &[Bytes], byte: u64, bit: u8) -> Vec<Bytes> {
    let mut whole = parts.concat();
    if let Some(byte) = usize::try_from(byte)
        .ok()
        .and_then(|byte| whole.get_mut(byte))
    {
        *byte ^= 1 << (bit % 8);
    }
    vec![Bytes::from(whole)]
}
