//! Blocks of runs kept in memory: bounded, shared by all stores of a node.
//!
//! Filters and index blocks are asked for by every look-up, so their runs hold them themselves (`pin`), as long as there
//! are not too many of them: about two bytes for each row.
//!
//! Always true:
//! * it never holds more bytes than it was given (a block too large for its shard is not kept), and no more are pinned;
//! * only checked blocks are in it;
//! * which block leaves depends on the order of calls alone: a clock hand goes round, hash tables are only looked up.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::rows::Rows;

const SHARDS: usize = 16;
/// What a slot and its table entry cost beside the block.
const SLOT_COST: usize = 128;

/// A checked block as readers want it.
#[derive(Clone)]
pub enum Cached {
    /// A block of rows (data or index).
    Rows(Rows),
    /// The body of a filter block.
    Filter(Bytes),
}

impl Cached {
    fn bytes(&self) -> usize {
        SLOT_COST
            + match self {
                Cached::Rows(rows) => rows.bytes(),
                Cached::Filter(body) => body.len(),
            }
    }
}

/// An open run within this cache; never reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileId(u64);

type Key = (u64, u64);

/// Mixes two numbers; keys are ours, so nobody can aim at collisions.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u64(u64::from(*byte)));
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

struct Slot {
    key: Key,
    block: Cached,
    used: bool,
}

#[derive(Default)]
struct Shard {
    places: HashMap<Key, usize, BuildHasherDefault<Mix>>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    hand: usize,
    bytes: usize,
}

impl Shard {
    fn drop_slot(&mut self, at: usize) {
        if let Some(slot) = self.slots[at].take() {
            self.bytes -= slot.block.bytes();
            self.places.remove(&slot.key);
            self.free.push(at);
        }
    }

    /// The hand passes a used slot once and takes it the next time round.
    fn make_room(&mut self, wanted: usize, capacity: usize) {
        while self.bytes + wanted > capacity {
            self.hand = if self.hand + 1 < self.slots.len() {
                self.hand + 1
            } else {
                0
            };
            match &mut self.slots[self.hand] {
                Some(slot) if slot.used => slot.used = false,
                Some(_) => self.drop_slot(self.hand),
                None => {}
            }
        }
    }
}

/// Bounded memory for blocks.
pub struct BlockCache {
    shards: Vec<Mutex<Shard>>,
    shard_capacity: usize,
    most_pinned: usize,
    pinned: AtomicUsize,
    next_file: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What a cache did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStats {
    /// Blocks found.
    pub hits: u64,
    /// Blocks that had to be read.
    pub misses: u64,
    /// Bytes held now.
    pub bytes: usize,
}

impl BlockCache {
    /// A cache of at most `capacity` bytes.
    pub fn new(capacity: usize) -> BlockCache {
        BlockCache {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_capacity: capacity / SHARDS,
            most_pinned: capacity,
            pinned: AtomicUsize::new(0),
            next_file: AtomicU64::new(1),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Whether a run may hold so many bytes more for as long as it lives; given back by `unpin`.
    pub fn pin(&self, bytes: usize) -> bool {
        let fits = |pinned: usize| (pinned + bytes <= self.most_pinned).then_some(pinned + bytes);
        self.pinned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok()
    }

    /// They are free again.
    pub fn unpin(&self, bytes: usize) {
        self.pinned.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A name for a run that was just opened.
    pub fn new_file(&self) -> FileId {
        FileId(self.next_file.fetch_add(1, Ordering::Relaxed))
    }

    fn shard(&self, key: Key) -> &Mutex<Shard> {
        let mut mix = Mix::default();
        mix.write_u64(key.1);
        mix.write_u64(key.0);
        &self.shards[(mix.0 >> 60) as usize % SHARDS]
    }

    /// The block at `at`, if it is held.
    pub fn get(&self, file: FileId, at: u64) -> Option<Cached> {
        let key = (file.0, at);
        let mut shard = self.shard(key).lock();
        let place = shard.places.get(&key).copied();
        let found = place
            .and_then(|place| shard.slots[place].as_mut())
            .map(|slot| {
                slot.used = true;
                slot.block.clone()
            });
        drop(shard);
        let count = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps a block, if it fits.
    pub fn put(&self, file: FileId, at: u64, block: Cached) {
        let (key, bytes) = ((file.0, at), block.bytes());
        if bytes > self.shard_capacity {
            return;
        }
        let mut shard = self.shard(key).lock();
        if shard.places.contains_key(&key) {
            return;
        }
        shard.make_room(bytes, self.shard_capacity);
        shard.bytes += bytes;
        let slot = Some(Slot {
            key,
            block,
            used: false,
        });
        let place = match shard.free.pop() {
            Some(place) => {
                shard.slots[place] = slot;
                place
            }
            None => {
                shard.slots.push(slot);
                shard.slots.len() - 1
            }
        };
        shard.places.insert(key, place);
    }

    /// Lets go of a run's blocks.
    pub fn forget(&self, file: FileId) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            for at in 0..shard.slots.len() {
                if shard.slots[at]
                    .as_ref()
                    .is_some_and(|slot| slot.key.0 == file.0)
                {
                    shard.drop_slot(at);
                }
            }
        }
    }

    /// Figures for `/metrics`.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.shards.iter().map(|shard| shard.lock().bytes).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(len: usize) -> Cached {
        Cached::Filter(Bytes::from(vec![0; len]))
    }

    #[test]
    fn cache_stays_within_its_bytes_and_keeps_what_is_used() {
        let cache = BlockCache::new(1 << 20);
        let (hot, cold) = (cache.new_file(), cache.new_file());
        for at in 0..20u64 {
            cache.put(hot, at, block(1000));
        }
        for at in 0..10_000u64 {
            cache.put(cold, at, block(1000));
            assert!(
                cache.get(hot, at % 20).is_some(),
                "a block in use left after {at} others came"
            );
        }
        assert!(cache.stats().bytes <= 1 << 20);
        cache.put(hot, 99, block(1 << 20));
        assert!(cache.get(hot, 99).is_none(), "too large for a shard");
        cache.forget(cold);
        assert_eq!(cache.stats().bytes, 20 * (1000 + SLOT_COST));
    }

    #[test]
    fn no_more_is_pinned_than_the_cache_was_given() {
        let cache = BlockCache::new(1000);
        assert!(cache.pin(600) && cache.pin(400) && !cache.pin(1));
        cache.unpin(600);
        assert!(cache.pin(600));
    }
}
