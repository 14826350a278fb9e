//! A transaction inside one group: checks and writes, in one entry.
//!
//! Always true: either every check held and every write is there, or nothing changed.

use std::collections::BTreeSet;

use bytes::Bytes;
use minikv_proto::{entry as wire, row};

use crate::kv::Refusal;
use crate::state::answer::Done;
use crate::state::applying::{Applying, Stop, unsupported, written};
use crate::state::conditions;
use crate::state::put::checked;
use crate::state::record::Malformed;

/// Most checks and writes of one group: each may take a dozen engine operations.
pub const MAX_ITEMS: usize = 64;

impl Applying<'_> {
    pub fn transact(&mut self, transact: &wire::Transact) -> Result<Done, Stop> {
        let part = transact.part.as_ref().ok_or(Malformed("no part"))?;
        check_part(part)?;
        if part.close_bucket != 0 {
            return Err(unsupported("deleting a bucket in one group"));
        }
        for (number, check) in part.checks.iter().enumerate() {
            self.check(number, check)?;
        }
        let pieces = inline_pieces(part);
        self.share_payload(pieces)?;
        let mut answers = Vec::with_capacity(part.writes.len());
        for write in &part.writes {
            let place = self.place(write.target.as_ref())?;
            let current = self.current(&place)?;
            let version = match write.kind.as_ref().ok_or(Malformed("no write"))? {
                wire::write::Kind::Put(put) => {
                    let new = checked(put.version.as_ref())?;
                    let mut version = self.next_version(&place, &current)?;
                    version.content =
                        self.take_content(&place, put.content.as_ref(), new.size, b"")?;
                    mark_shared(&mut version, pieces);
                    self.describe(&place, &mut version, new, new.lock)?;
                    self.install(&place, current, version.clone())?;
                    Some(version)
                }
                wire::write::Kind::Delete(_) => self.delete_key(&place, current)?,
            };
            answers.push(version.map(|version| written(&place, &version)));
        }
        Ok(Done::Transacted(answers))
    }

    /// One check of a transaction.
    pub fn check(&mut self, number: usize, check: &wire::Check) -> Result<(), Stop> {
        let place = self.place(check.target.as_ref())?;
        let current = self.current(&place)?;
        let version = current
            .version
            .as_ref()
            .filter(|version| !version.delete_marker);
        let same = check
            .seq
            .is_none_or(|seq| version.is_some_and(|version| version.seq == seq));
        if !same || conditions::check(check.conditions.as_ref(), version).is_err() {
            return Err(Refusal::CheckFailed(number as u32).into());
        }
        Ok(())
    }
}

/// An inline content that is one of several pieces of its entry's payload.
pub(super) fn mark_shared(version: &mut row::Version, pieces: u32) {
    if let Some(content) = &mut version.content {
        content.shared = pieces > 1 && matches!(content.kind, Some(row::content::Kind::Payload(_)));
    }
}

/// How many contents share the entry's payload.
pub(super) fn inline_pieces(part: &wire::TxnPart) -> u32 {
    let inline = |write: &&wire::Write| match &write.kind {
        Some(wire::write::Kind::Put(put)) => {
            matches!(
                put.content.as_ref().and_then(|c| c.kind.as_ref()),
                Some(wire::new_content::Kind::Inline(_))
            )
        }
        _ => false,
    };
    part.writes.iter().filter(inline).count() as u32
}

/// Within its size, and no key written twice: one intent lies on a key.
pub(super) fn check_part(part: &wire::TxnPart) -> Result<(), Stop> {
    if part.checks.len() + part.writes.len() > MAX_ITEMS {
        return Err(unsupported("more than 64 checks and writes in one group"));
    }
    let mut seen: BTreeSet<(u64, &Bytes)> = BTreeSet::new();
    for write in &part.writes {
        let target = write.target.as_ref().ok_or(Malformed("no target"))?;
        if !seen.insert((target.bucket, &target.key)) {
            return Err(unsupported("writing a key twice in one transaction"));
        }
    }
    Ok(())
}
