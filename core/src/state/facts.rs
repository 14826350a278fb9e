//! Bucket facts in a group: what apply must know of a bucket, brought by the directory.
//!
//! Always true:
//! * facts come whole, never as differences, and only a higher epoch replaces them;
//! * a bucket stays with its tenant: an id is never given to another one;
//! * object lock, once enabled, stays, and versioning with it;
//! * a deleted bucket's row stays as gone for ever, so that a late copy cannot bring it back.

use minikv_proto::{entry as wire, row};

use crate::ids::BucketId;
use crate::state::answer::{Done, TryAgain};
use crate::state::applying::{Applying, Stop};
use crate::state::content::of_row;
use crate::state::intent::TxnRef;
use crate::state::lock::checked_default;
use crate::state::record::Malformed;

impl Applying<'_> {
    pub fn set_facts(&mut self, set: &wire::SetFacts) -> Result<Done, Stop> {
        let facts = set.facts.ok_or(Malformed("no facts"))?;
        let numbers = facts.bucket != 0 && facts.epoch != 0 && facts.tenant != 0;
        // The epoch rises once more when the bucket goes.
        if !numbers
            || facts.epoch == u64::MAX
            || row::Versioning::try_from(facts.versioning).is_err()
        {
            return Err(Malformed("facts").into());
        }
        let enabled = facts.versioning == row::Versioning::Enabled as i32;
        if (facts.lock && !enabled) || (facts.retention.is_some() && !facts.lock) {
            return Err(Malformed("facts of a bucket with object lock").into());
        }
        if facts.retention.map(checked_default).transpose()? == Some(None) {
            return Err(Malformed("a default retention without a mode").into());
        }
        let bucket = BucketId(facts.bucket);
        if let Some(known) = self.bucket(bucket)? {
            // Gone is gone: a change from before the deletion may still be on its way, with any epoch.
            let keeps = |known: row::Facts| known.gone || known.epoch >= facts.epoch;
            if known.facts.is_some_and(keeps) {
                return Ok(Done::Nothing);
            }
            // Usage is kept by tenant: a bucket that changed hands would take its bytes from one and give them to another.
            if known
                .facts
                .is_some_and(|known| known.tenant != facts.tenant)
            {
                return Err(Malformed("facts of another tenant's bucket").into());
            }
            if known.facts.is_some_and(|known| known.lock && !facts.lock) {
                return Err(Malformed("object lock, once enabled, stays").into());
            }
            if let Some(txn) = &known.closing {
                let txn = of_row(TxnRef::of_row(txn))?;
                return Err(TryAgain::Blocked(txn).into());
            }
        }
        self.bucket_or_new(bucket)?.facts = Some(facts);
        Ok(Done::Nothing)
    }
}
