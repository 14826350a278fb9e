//! A participant's part of a transaction over several groups: intents laid, then carried out or taken away.
//!
//! An intent lies under its key (one per key) with everything the commit needs: the finished version with its sequence,
//! its bytes (this entry's payload, or a stage that is held), its room. So a commit cannot fail.
//!
//! Always true:
//! * what an intent lies on is not changed by anybody else until its transaction is decided;
//! * a prepared part is finished exactly once; finishing what is not there changes nothing;
//! * a `prepare` carries a session, so a copy of it that comes after the end changes nothing. (Failure: such a copy
//!   lays its intent anew while the coordinator's record still says committed, and the next one to meet it carries an
//!   old write out a second time, over a newer one.)

use std::collections::BTreeSet;

use bytes::Bytes;
use minikv_proto::{entry as wire, row};

use crate::ids::{BucketId, GroupId, StageId, TxnId, VShard};
use crate::kv::{Refusal, Written};
use crate::state::answer::{Done, TryAgain};
use crate::state::applying::{Applying, Place, Stop, intent_of, unsupported, written};
use crate::state::content::of_row;
use crate::state::intent::{TxnRef, txn_name};
use crate::state::keys;
use crate::state::ledger::{damaged, decode};
use crate::state::placement::stage_room;
use crate::state::put::checked;
use crate::state::record::Malformed;
use crate::state::transact::{check_part, inline_pieces, mark_shared};
use crate::state::usage::Delta;
use crate::state::version::Which;

impl Applying<'_> {
    pub fn prepare(&mut self, prepare: &wire::Prepare) -> Result<Done, Stop> {
        if self.command.is_none() {
            return Err(unsupported("a prepare without a session"));
        }
        let txn = TxnRef::of_row(prepare.txn.as_ref().ok_or(Malformed("no transaction"))?)?;
        if self.ledger.get(&keys::prepared(txn.id))?.is_some() {
            return Ok(Done::Nothing);
        }
        let part = prepare.part.as_ref().ok_or(Malformed("no part"))?;
        Ok(Done::Transacted(self.prepare_part(&txn, part)?))
    }

    /// Lays the intents of one part. Answers what its writes will be.
    pub fn prepare_part(
        &mut self,
        txn: &TxnRef,
        part: &wire::TxnPart,
    ) -> Result<Vec<Option<Written>>, Stop> {
        check_part(part)?;
        for (number, check) in part.checks.iter().enumerate() {
            self.check(number, check)?;
        }
        let pieces = inline_pieces(part);
        self.share_payload(pieces)?;
        let mut keys_held: BTreeSet<(u64, Bytes)> = BTreeSet::new();
        let mut answers = Vec::with_capacity(part.writes.len());
        for write in &part.writes {
            let place = self.place(write.target.as_ref())?;
            let current = self.current(&place)?;
            let intended = match write.kind.as_ref().ok_or(Malformed("no write"))? {
                wire::write::Kind::Put(put) => {
                    row::intent::Write::Put(self.intended_put(&place, &current, put, txn, pieces)?)
                }
                wire::write::Kind::Delete(_) if place.versioning == row::Versioning::Off => {
                    row::intent::Write::Remove(true)
                }
                wire::write::Kind::Delete(_) => {
                    row::intent::Write::Put(self.delete_marker(&place, &current)?)
                }
            };
            answers.push(match &intended {
                row::intent::Write::Put(version) => Some(written(&place, version)),
                row::intent::Write::Remove(_) => None,
            });
            self.lay_intent(&place, current, txn, Some(intended))?;
            keys_held.insert((place.bucket.0, place.key));
        }
        for check in &part.checks {
            let target = check.target.as_ref().ok_or(Malformed("no target"))?;
            if keys_held.insert((target.bucket, target.key.clone())) {
                let place = self.place(Some(target))?;
                let current = self.current(&place)?;
                self.lay_intent(&place, current, txn, None)?;
            }
        }
        if part.close_bucket != 0 {
            self.prepare_close(BucketId(part.close_bucket), txn)?;
        }
        let prepared = row::Prepared {
            txn: Some(txn.to_row()),
            keys: keys_held
                .into_iter()
                .map(|(bucket, key)| row::KeyName { bucket, key })
                .collect(),
            close_bucket: part.close_bucket,
            prepared_ms: self.now_ms,
        };
        self.ledger.put_row(keys::prepared(txn.id), &prepared)?;
        Ok(answers)
    }

    fn lay_intent(
        &mut self,
        place: &Place,
        mut current: row::Current,
        txn: &TxnRef,
        write: Option<row::intent::Write>,
    ) -> Result<(), Stop> {
        current.intent = Some(row::Intent {
            txn: Some(txn.to_row()),
            write,
        });
        self.put_current(place, &current)?;
        self.bucket_or_new(place.bucket)?.intents += 1;
        Ok(())
    }

    /// The version a commit will install, with its bytes and room held.
    fn intended_put(
        &mut self,
        place: &Place,
        current: &row::Current,
        put: &wire::WritePut,
        txn: &TxnRef,
        pieces: u32,
    ) -> Result<row::Version, Stop> {
        let new = checked(put.version.as_ref())?;
        let mut version = self.next_version(place, current)?;
        self.describe(place, &mut version, new, new.lock)?;
        match put
            .content
            .as_ref()
            .and_then(|content| content.kind.as_ref())
        {
            Some(wire::new_content::Kind::Staged(staged)) => {
                let (id, mut stage) = self.open_stage_of(place, staged, b"")?;
                version.content = Some(self.placed(place, id, staged, new.size)?);
                stage.held_by = Some(txn_name(txn.id));
                if stage.reserved < new.size {
                    self.charge(
                        place.bucket,
                        Delta::reserve((new.size - stage.reserved) as i64, 0),
                    )?;
                    stage.reserved = new.size;
                }
                self.ledger.put_row(keys::stage(place.vshard, id), &stage)?;
            }
            _ => {
                version.content = self.take_content(place, put.content.as_ref(), new.size, b"")?;
                mark_shared(&mut version, pieces);
                self.charge(place.bucket, Delta::reserve(new.size as i64, 1))?;
            }
        }
        Ok(version)
    }

    /// Carries a prepared part out, or takes it away.
    pub fn finish_part(&mut self, id: TxnId, committed: bool) -> Result<(), Stop> {
        let key = keys::prepared(id);
        let Some(prepared) = self.ledger.row::<row::Prepared>(&key)? else {
            return Ok(());
        };
        for held in &prepared.keys {
            let bucket = BucketId(held.bucket);
            let place = Place {
                vshard: VShard::of(bucket, &held.key),
                bucket,
                key: held.key.clone(),
                // The version was made when it was prepared: nothing depends on this now.
                versioning: row::Versioning::Off,
                lock: None,
            };
            let mut current = self.current_row(&place)?;
            if intent_of(&place, &current)?.is_none_or(|txn| txn.id != id) {
                return Err(damaged(&place.current(), "a prepared key without its intent").into());
            }
            let write = current.intent.take().and_then(|intent| intent.write);
            match write {
                Some(row::intent::Write::Put(version)) => {
                    self.finish_put(&place, current, version, committed)?;
                }
                Some(row::intent::Write::Remove(_)) if committed => {
                    match self.find(&place, &current, Which::Null)? {
                        Some(gone) => {
                            self.put_current(&place, &current)?;
                            self.remove(&place, current, gone)?;
                        }
                        None => self.put_current(&place, &current)?,
                    }
                }
                _ => self.put_current(&place, &current)?,
            }
            let row = self.bucket_or_new(bucket)?;
            row.intents = row.intents.saturating_sub(1);
        }
        if prepared.close_bucket != 0 {
            self.finish_close(BucketId(prepared.close_bucket), committed)?;
        }
        Ok(self.ledger.delete(key)?)
    }

    fn finish_put(
        &mut self,
        place: &Place,
        current: row::Current,
        version: row::Version,
        committed: bool,
    ) -> Result<(), Stop> {
        let chunks = match version
            .content
            .as_ref()
            .and_then(|content| content.kind.as_ref())
        {
            Some(row::content::Kind::Chunks(run)) => {
                Some(of_row(StageId::of_row(run.stage.as_ref()))?)
            }
            _ => None,
        };
        if chunks.is_none() && !version.delete_marker {
            self.charge(place.bucket, Delta::reserve(-(version.size as i64), -1))?;
        }
        if !committed {
            self.put_current(place, &current)?;
            return match (chunks, &version.content) {
                (Some(_), Some(content)) => self.unhold_stage(place, content),
                _ => self.let_go(place.vshard, version.content),
            };
        }
        if let Some(id) = chunks {
            let key = keys::stage(place.vshard, id);
            let stage: Option<row::Stage> = self.ledger.row(&key)?;
            let stage = stage.ok_or_else(|| damaged(&key, "a held stage is gone"))?;
            self.charge(place.bucket, stage_room(&stage, -1))?;
            self.ledger.delete(key)?;
        }
        self.install(place, current, version)
    }

    // ---- DeleteBucket ----

    /// The bucket must be empty here; from now on nothing is written to it until the decision.
    fn prepare_close(&mut self, id: BucketId, txn: &TxnRef) -> Result<(), Stop> {
        if self.group.id == GroupId::DIRECTORY {
            return self.prepare_close_name(id, txn);
        }
        let Some(row) = self.bucket(id)?.filter(|row| row.facts.is_some()).cloned() else {
            return Err(TryAgain::FactsBehind(id).into());
        };
        if row.facts.is_some_and(|facts| facts.gone) {
            return Err(Refusal::NoSuchBucket.into());
        }
        if let Some(other) = &row.closing {
            return Err(TryAgain::Blocked(of_row(TxnRef::of_row(other))?).into());
        }
        if row.intents > 0 {
            // A transaction that is not decided may put an object here.
            return Err(match self.holder_of(id)? {
                Some(other) => TryAgain::Blocked(other).into(),
                None => TryAgain::NotYet.into(),
            });
        }
        let usage = row.usage.unwrap_or_default();
        let is_empty = usage.versions + usage.markers + usage.uploads == 0;
        if !is_empty && !crate::planted!("bucket-delete-without-prepare-check") {
            return Err(Refusal::BucketNotEmpty.into());
        }
        self.bucket_or_new(id)?.closing = Some(txn.to_row());
        Ok(())
    }

    fn finish_close(&mut self, id: BucketId, committed: bool) -> Result<(), Stop> {
        if self.group.id == GroupId::DIRECTORY {
            return self.finish_close_name(id, committed);
        }
        let row = self.bucket_or_new(id)?;
        row.closing = None;
        if committed && let Some(facts) = &mut row.facts {
            facts.gone = true;
            facts.epoch += 1;
        }
        Ok(())
    }

    /// Some transaction that holds a key of this bucket.
    fn holder_of(&mut self, bucket: BucketId) -> Result<Option<TxnRef>, Stop> {
        for (key, row) in self.ledger.scan(&keys::prepareds(), 500)? {
            let prepared: row::Prepared = decode(&key, row)?;
            if prepared.keys.iter().any(|held| held.bucket == bucket.0) {
                return Ok(Some(of_row(TxnRef::of_row(
                    &prepared.txn.unwrap_or_default(),
                ))?));
            }
        }
        Ok(None)
    }
}
