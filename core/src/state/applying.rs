//! One entry while it is being applied: what the rules of all kinds of entries work with.
//!
//! Always true:
//! * a rule that stops has changed nothing: `undo` forgets its changes before anything else happens;
//! * every sequence it gives out is higher than all before it in the vshard.

use bytes::Bytes;
use minikv_proto::entry as wire;
use minikv_proto::row;

use crate::engine::{EngineError, View};
use crate::ids::{BucketId, PayloadId, StageId, UploadId, VShard, VersionId};
use crate::kv::{Refusal, Written};
use crate::state::answer::{Answer, TryAgain};
use crate::state::apply::{Applied, Dropped, GroupContext};
use crate::state::entry::Entry;
use crate::state::intent::TxnRef;
use crate::state::keys;
use crate::state::ledger::{Ledger, damaged};
use crate::state::record::{ChunkRun, Malformed};
use crate::state::usage::Charges;

/// Longest key of an object.
const MAX_KEY: usize = 1024;

/// Why a rule did not come to its end.
#[derive(Debug)]
pub(super) enum Stop {
    Engine(EngineError),
    Refused(Refusal),
    TryAgain(TryAgain),
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Stop {
        Stop::Engine(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl From<TryAgain> for Stop {
    fn from(again: TryAgain) -> Stop {
        Stop::TryAgain(again)
    }
}

/// Of an entry. (A row that makes no sense is damage.)
impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Stop {
        Stop::Refused(Refusal::Unsupported(malformed.to_string()))
    }
}

/// A refusal that says what this build does not do.
pub(super) fn unsupported(what: &str) -> Stop {
    Stop::Refused(Refusal::Unsupported(what.to_owned()))
}

/// A key in a vshard of this group, in a bucket whose facts allow writing.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub vshard: VShard,
    pub bucket: BucketId,
    pub key: Bytes,
    pub versioning: row::Versioning,
    /// Where versions may be locked.
    pub lock: Option<PlaceLock>,
}

/// What a bucket with object lock gives to new versions.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaceLock {
    pub retention: Option<row::DefaultRetention>,
}

impl Place {
    pub fn current(&self) -> Bytes {
        keys::current(self.vshard, self.bucket, &self.key)
    }
}

pub(super) struct Applying<'a> {
    pub ledger: Ledger<'a>,
    pub group: GroupContext,
    pub now_ms: u64,
    pub command: Option<wire::Command>,
    pub dropped: Vec<Dropped>,
    pub claimed: Vec<ChunkRun>,
    pub charges: Charges,
    /// This entry may lift retentions of mode GOVERNANCE.
    pub bypass_governance: bool,
    payload_len: u32,
    pub(super) payload_kept: bool,
    /// Versions made, and items freed, by this entry so far.
    writes: u64,
    frees: u32,
    buckets: Vec<LoadedBucket>,
}

struct LoadedBucket {
    id: BucketId,
    row: Option<row::Bucket>,
    changed: bool,
}

impl<'a> Applying<'a> {
    pub fn new(view: &'a dyn View, group: &GroupContext, entry: &Entry) -> Applying<'a> {
        Applying {
            ledger: Ledger::new(view),
            group: *group,
            now_ms: match crate::planted!("apply-by-its-own-clock") {
                true => crate::env::clock::wall_ms(),
                false => entry.now_ms,
            },
            command: entry.command,
            dropped: Vec::new(),
            claimed: Vec::new(),
            charges: Charges::default(),
            bypass_governance: false,
            payload_len: entry.payload_len,
            payload_kept: false,
            writes: 0,
            frees: 0,
            buckets: Vec::new(),
        }
    }

    /// Forgets everything that was changed.
    pub fn undo(&mut self) {
        self.ledger.undo();
        self.dropped.clear();
        self.claimed.clear();
        self.charges.clear();
        self.buckets.clear();
        self.payload_kept = false;
        self.writes = 0;
        self.frees = 0;
    }

    pub fn finish(mut self, answer: Answer) -> Applied {
        if self.payload_len > 0 && !self.payload_kept {
            self.dropped.push(Dropped::Payload(self.payload()));
        }
        let operations = self.ledger.operations();
        let (changes, digest) = self.ledger.finish();
        Applied {
            changes,
            answer,
            dropped: self.dropped,
            claimed: self.claimed,
            digest,
            operations,
        }
    }

    // ---- names that this entry gives ----

    /// This entry's payload.
    pub fn payload(&self) -> PayloadId {
        PayloadId {
            group: self.group.id,
            index: self.group.index,
            term: self.group.term,
        }
    }

    pub fn payload_len(&self) -> u32 {
        self.payload_len
    }

    /// The stage that this entry opens; also what an upload's id is made of.
    pub fn stage_id(&mut self) -> Result<StageId, Stop> {
        let key = keys::the_group();
        let group: row::Group = self
            .ledger
            .row(&key)?
            .ok_or_else(|| damaged(&key, "the group was never formed"))?;
        Ok(StageId {
            group: self.group.id,
            incarnation: group.incarnation,
            index: self.group.index,
        })
    }

    pub fn upload_name(&mut self) -> Result<keys::UploadName, Stop> {
        let id = UploadId::seal(self.stage_id()?);
        Ok(id.open().expect("an id that was just made"))
    }

    /// The next position in the order of writes of a vshard.
    pub fn next_seq(&mut self, vshard: VShard) -> Result<u64, Stop> {
        let key = keys::vshard(vshard);
        let row: row::Vshard = self
            .ledger
            .row(&key)?
            .ok_or_else(|| damaged(&key, "no such vshard here"))?;
        let since = self.group.index.saturating_sub(row.since_index);
        let seq = row.seq_base + (since << SEQ_SHIFT) + self.writes;
        self.writes += 1;
        assert!(
            self.writes < 1 << SEQ_SHIFT,
            "an entry writes fewer versions than its share of the sequence"
        );
        Ok(seq)
    }

    /// The name of the next item that this entry puts on the free list.
    pub fn next_free(&mut self) -> (u64, u32) {
        self.frees += 1;
        (self.group.index, self.frees - 1)
    }

    // ---- where a command goes ----

    /// The vshard of a target, if this group owns it and the command knows it.
    pub fn locate(&mut self, target: &wire::Target) -> Result<VShard, Stop> {
        let vshard = VShard::of(BucketId(target.bucket), &target.key);
        let row: Option<row::Vshard> = self.ledger.row(&keys::vshard(vshard))?;
        let row = row.ok_or(TryAgain::Moved(0))?;
        let frozen = row.state != row::VshardState::VshardOwned as i32;
        if frozen || row.epoch != target.vshard_epoch {
            return Err(TryAgain::Moved(row.epoch).into());
        }
        Ok(vshard)
    }

    /// A target that may be written to.
    pub fn place(&mut self, target: Option<&wire::Target>) -> Result<Place, Stop> {
        let target = target.ok_or(Malformed("no target"))?;
        if target.key.is_empty() || target.key.len() > MAX_KEY {
            return Err(unsupported("a key of 0 or more than 1024 bytes"));
        }
        let vshard = self.locate(target)?;
        let bucket = BucketId(target.bucket);
        let facts = self.facts(bucket, target.epoch)?;
        let versioning = row::Versioning::try_from(facts.versioning)
            .map_err(|_| damaged(&keys::bucket(bucket), "versioning"))?;
        Ok(Place {
            vshard,
            bucket,
            key: target.key.clone(),
            versioning,
            lock: facts.lock.then_some(PlaceLock {
                retention: facts.retention,
            }),
        })
    }

    /// The facts of a bucket, if they are the ones that a command was planned with and nobody is about to end them.
    pub fn facts(&mut self, bucket: BucketId, epoch: u64) -> Result<row::Facts, Stop> {
        let row = self.bucket(bucket)?;
        let Some(facts) = row.and_then(|row| row.facts) else {
            return Err(TryAgain::FactsBehind(bucket).into());
        };
        if facts.gone {
            return Err(Refusal::NoSuchBucket.into());
        }
        if crate::planted!("stale-bucket-epoch") {
            return Ok(facts);
        }
        if epoch < facts.epoch {
            return Err(TryAgain::StaleEpoch(facts.epoch).into());
        }
        if epoch > facts.epoch {
            return Err(TryAgain::FactsBehind(bucket).into());
        }
        if let Some(txn) = row.and_then(|row| row.closing.as_ref()) {
            let txn = TxnRef::of_row(txn).map_err(|m| damaged(&keys::bucket(bucket), m.0))?;
            return Err(TryAgain::Blocked(txn).into());
        }
        Ok(facts)
    }

    // ---- rows that several rules of one entry share ----

    fn loaded(&mut self, id: BucketId) -> Result<&mut LoadedBucket, EngineError> {
        let at = match self.buckets.iter().position(|bucket| bucket.id == id) {
            Some(at) => at,
            None => {
                let row = self.ledger.row(&keys::bucket(id))?;
                self.buckets.push(LoadedBucket {
                    id,
                    row,
                    changed: false,
                });
                self.buckets.len() - 1
            }
        };
        Ok(&mut self.buckets[at])
    }

    pub fn bucket(&mut self, id: BucketId) -> Result<Option<&row::Bucket>, EngineError> {
        Ok(self.loaded(id)?.row.as_ref())
    }

    /// To be changed; `write_buckets` writes it.
    pub fn bucket_mut(&mut self, id: BucketId) -> Result<Option<&mut row::Bucket>, EngineError> {
        let loaded = self.loaded(id)?;
        loaded.changed = true;
        Ok(loaded.row.as_mut())
    }

    /// To be changed, made if it is not there.
    pub fn bucket_or_new(&mut self, id: BucketId) -> Result<&mut row::Bucket, EngineError> {
        let loaded = self.loaded(id)?;
        loaded.changed = true;
        Ok(loaded.row.get_or_insert_default())
    }

    pub fn write_buckets(&mut self) -> Result<(), EngineError> {
        for bucket in std::mem::take(&mut self.buckets) {
            if let (true, Some(row)) = (bucket.changed, &bucket.row) {
                self.ledger.put_row(keys::bucket(bucket.id), row)?;
            }
        }
        Ok(())
    }

    /// What lies under a key; nothing is a row without a version. A transaction's intent stops every write.
    pub fn current(&mut self, place: &Place) -> Result<row::Current, Stop> {
        let current = self.current_row(place)?;
        match intent_of(place, &current)? {
            Some(_) if crate::planted!("written-over-an-intent") => Ok(current),
            Some(txn) => Err(TryAgain::Blocked(txn).into()),
            None => Ok(current),
        }
    }

    /// What lies under a key, an intent or not.
    pub fn current_row(&mut self, place: &Place) -> Result<row::Current, Stop> {
        Ok(self.ledger.row(&place.current())?.unwrap_or_default())
    }

    pub fn put_current(&mut self, place: &Place, current: &row::Current) -> Result<(), Stop> {
        if current.version.is_none() && current.intent.is_none() {
            self.ledger.delete(place.current())?;
        } else {
            self.ledger.put_row(place.current(), current)?;
        }
        Ok(())
    }
}

/// Bits of a sequence that count the versions of one entry.
const SEQ_SHIFT: u32 = 12;

/// The transaction that holds a key.
pub(super) fn intent_of(
    place: &Place,
    current: &row::Current,
) -> Result<Option<TxnRef>, EngineError> {
    let Some(intent) = &current.intent else {
        return Ok(None);
    };
    let txn = intent
        .txn
        .as_ref()
        .ok_or(Malformed("intent"))
        .and_then(TxnRef::of_row);
    txn.map(Some).map_err(|m| damaged(&place.current(), m.0))
}

/// How a version is told to whoever wrote it.
pub(super) fn written(place: &Place, version: &row::Version) -> Written {
    Written {
        id: VersionId::seal(place.vshard, version.seq),
        is_null: version.null,
        modified_ms: version.modified_ms,
    }
}
