//! Checks and writes on any keys that happen together or not at all.

use std::collections::BTreeMap;

use bytes::Bytes;
use minikv_proto::entry as wire;

use super::{
    Bucket, Change, Check, Kv, KvError, Must, NewContent, Refusal, TransactWrite, Written,
};
use crate::ids::GroupId;
use crate::log::WriteKind;
use crate::state::answer::{Answer, Done};
use crate::state::entry::{self, Body};
use crate::txn::driver::{self, Part, Parts, RunError};

/// Which checks and writes went to which group, by their number in the request.
#[derive(Default)]
struct Spread {
    checks: BTreeMap<GroupId, Vec<usize>>,
    writes: BTreeMap<GroupId, Vec<usize>>,
}

impl Kv {
    /// All writes or none, if all checks hold. Answers in the order of the writes; `None` for deletes that made no
    /// marker. Several groups: two-phase commit.
    pub async fn transact(
        &self,
        checks: Vec<Check>,
        writes: Vec<TransactWrite>,
    ) -> Result<Vec<Option<Written>>, KvError> {
        if checks.is_empty() && writes.is_empty() {
            return Ok(Vec::new());
        }
        let spread = self.spread(&checks, &writes)?;
        let groups: Vec<GroupId> = spread
            .checks
            .keys()
            .chain(spread.writes.keys())
            .copied()
            .collect();
        let coordinator = spread.writes.keys().chain(&groups).next().copied();
        let coordinator = coordinator.unwrap_or(GroupId::DIRECTORY);
        let written = match groups.iter().all(|group| *group == coordinator) {
            true => self.transact_in(coordinator, &checks, &writes).await,
            false => {
                driver::run(self.router(), coordinator, || {
                    self.parts_of(&checks, &writes)
                })
                .await
            }
        };
        let written = written.map_err(|error| match error {
            RunError::Refused(group, Refusal::CheckFailed(number)) => {
                let numbers = spread.checks.get(&group).map_or(&[][..], Vec::as_slice);
                let number = numbers
                    .get(number as usize)
                    .map_or(number, |number| *number as u32);
                Refusal::CheckFailed(number).into()
            }
            RunError::Refused(_, refusal) => refusal.into(),
            RunError::Kv(error) => error,
        })?;
        let mut answers = vec![None; writes.len()];
        for (group, written) in written {
            let numbers = spread.writes.get(&group).into_iter().flatten();
            for (number, written) in numbers.zip(written) {
                answers[*number] = written;
            }
        }
        Ok(answers)
    }

    fn spread(&self, checks: &[Check], writes: &[TransactWrite]) -> Result<Spread, KvError> {
        let mut spread = Spread::default();
        for (number, check) in checks.iter().enumerate() {
            let group = self.router().route(check.bucket.id, &check.key)?.group.id;
            spread.checks.entry(group).or_default().push(number);
        }
        for (number, write) in writes.iter().enumerate() {
            let group = self.router().route(write.bucket.id, &write.key)?.group.id;
            spread.writes.entry(group).or_default().push(number);
        }
        Ok(spread)
    }

    /// Each group's part, with the facts as they are now.
    async fn parts_of(&self, checks: &[Check], writes: &[TransactWrite]) -> Result<Parts, KvError> {
        let mut parts = Parts::new();
        for check in checks {
            let (group, target) = self.target(&check.bucket, &check.key).await?;
            let vshard = self.router().route(check.bucket.id, &check.key)?.vshard;
            let any = || {
                Some(wire::EtagList {
                    etags: vec!["*".to_owned()],
                })
            };
            let mut conditions = wire::Conditions::default();
            let mut seq = None;
            match &check.must {
                Must::BePresent => conditions.if_match = any(),
                Must::BeAbsent => conditions.if_none_match = any(),
                Must::HaveEtag(etag) => {
                    let etags = vec![etag.clone()];
                    conditions.if_match = Some(wire::EtagList { etags });
                }
                // An id nobody gave out is no version's: sequence 0 is never used.
                Must::HaveVersion(id) => seq = Some(id.open(vshard).unwrap_or(0)),
            }
            parts
                .entry(group)
                .or_default()
                .part
                .checks
                .push(wire::Check {
                    target: Some(target),
                    conditions: Some(conditions),
                    seq,
                });
        }
        for write in writes {
            let (group, target) = self.target(&write.bucket, &write.key).await?;
            let part = parts.entry(group).or_default();
            let kind = match &write.change {
                Change::Delete => wire::write::Kind::Delete(wire::WriteDelete {}),
                Change::Put(version, content) => wire::write::Kind::Put(wire::WritePut {
                    version: entry::new_version(version),
                    content: self.content_in(content, part),
                }),
            };
            part.part.writes.push(wire::Write {
                target: Some(target),
                kind: Some(kind),
            });
        }
        Ok(parts)
    }

    /// A content of a write; inline bytes join the part's payload.
    fn content_in(&self, content: &NewContent, part: &mut Part) -> Option<wire::NewContent> {
        match content {
            NewContent::Staged(staged) => entry::staged(staged),
            NewContent::Inline(bytes) => {
                let mut inline = entry::inline(bytes)?;
                if let Some(wire::new_content::Kind::Inline(inline)) = &mut inline.kind {
                    inline.offset = part.payload.len() as u32;
                }
                part.payload.extend_from_slice(bytes);
                Some(inline)
            }
        }
    }

    async fn target(
        &self,
        bucket: &Bucket,
        key: &Bytes,
    ) -> Result<(GroupId, wire::Target), KvError> {
        let fresh = self.router().bucket_by_id(bucket.id).await?;
        let fresh = fresh.ok_or(Refusal::NoSuchBucket)?;
        let route = self.router().route(bucket.id, key)?;
        Ok((route.group.id, route.target(&fresh, key)))
    }

    /// One group: one entry.
    async fn transact_in(
        &self,
        group: GroupId,
        checks: &[Check],
        writes: &[TransactWrite],
    ) -> Result<BTreeMap<GroupId, Vec<Option<Written>>>, RunError> {
        let member = self.router().groups.get(group)?;
        loop {
            let mut parts = self.parts_of(checks, writes).await?;
            let Some(part) = parts.remove(&group).filter(|_| parts.is_empty()) else {
                let moved = "keys moved to another group meanwhile".to_owned();
                return Err(KvError::Unavailable(moved).into());
            };
            let body = Body::Transact(wire::Transact {
                part: Some(part.part),
            });
            match member
                .command(body, &part.payload, WriteKind::Ordinary)
                .await?
            {
                Answer::Done(Done::Transacted(written)) => {
                    return Ok(BTreeMap::from([(group, written)]));
                }
                Answer::Done(other) => return Err(super::objects::unexpected(&other).into()),
                Answer::Refused(refusal) => return Err(RunError::Refused(group, refusal)),
                Answer::TryAgain(again) => {
                    driver::clear_the_way(self.router(), &member, again).await?;
                }
            }
        }
    }
}
