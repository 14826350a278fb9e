//! Having a command agreed on although the world moves: facts, map and transactions that it meets.
//!
//! Always true: an answer to try again changed nothing, so the same command may be planned anew and proposed again.

use bytes::Bytes;
use minikv_proto::entry as wire;

use super::{Bucket, Kv, KvError, Refusal};
use crate::env::clock::{self, Instant};
use crate::log::WriteKind;
use crate::shard::router::Route;
use crate::state::answer::{Answer, Done, TryAgain};
use crate::state::entry::Body;
use crate::txn::driver;

use std::time::Duration;

/// How long a command may be planned anew.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a command came to in the end.
pub(super) enum Outcome {
    Done(Done),
    /// A part came after Complete was planned.
    PartsChanged,
    /// The source of a copy is another version by now.
    SourceChanged,
    /// Too few of those who are members now hold the chunks.
    StalePlacement,
}

impl Outcome {
    /// For commands that meet neither parts nor sources.
    pub(super) fn done(self) -> Result<Done, KvError> {
        match self {
            Outcome::Done(done) => Ok(done),
            Outcome::PartsChanged | Outcome::SourceChanged | Outcome::StalePlacement => Err(
                KvError::Unavailable("the state changed meanwhile".to_owned()),
            ),
        }
    }
}

/// A command on one key while it is being planned.
pub(super) struct Plan<'a> {
    kv: &'a Kv,
    pub bucket: Bucket,
    pub key: &'a Bytes,
    pub route: Route,
    deadline: Instant,
}

impl<'a> Plan<'a> {
    pub(super) fn new(kv: &'a Kv, bucket: &Bucket, key: &'a Bytes) -> Result<Plan<'a>, KvError> {
        Ok(Plan {
            kv,
            bucket: bucket.clone(),
            key,
            route: kv.router().route(bucket.id, key)?,
            deadline: clock::now() + PATIENCE,
        })
    }

    pub(super) fn target(&self) -> wire::Target {
        self.route.target(&self.bucket, self.key)
    }

    /// Proposes what `make` makes of the target, until it is answered for good.
    pub(super) async fn run(
        &mut self,
        kind: WriteKind,
        payload: &[u8],
        make: impl Fn(wire::Target) -> Body,
    ) -> Result<Outcome, KvError> {
        loop {
            let body = make(self.target());
            let answer = self.route.group.command(body, payload, kind).await?;
            if let Some(outcome) = self.settle(answer).await? {
                return Ok(outcome);
            }
        }
    }

    /// What an answer came to; `None`: what was in the way is gone, plan anew.
    pub(super) async fn settle(&mut self, answer: Answer) -> Result<Option<Outcome>, KvError> {
        match answer {
            Answer::Done(done) => return Ok(Some(Outcome::Done(done))),
            Answer::Refused(refusal) => return Err(refusal.into()),
            // Boxed: it comes seldom, and needs more room than all the rest.
            Answer::TryAgain(again) => Box::pin(self.again(again)),
        }
        .await
    }

    async fn again(&mut self, again: TryAgain) -> Result<Option<Outcome>, KvError> {
        if clock::now() >= self.deadline {
            return Err(KvError::Unavailable(format!("still in the way: {again:?}")));
        }
        let router = self.kv.router();
        match again {
            TryAgain::StaleEpoch(_) => {
                let fresh = router.bucket_by_id(self.bucket.id).await?;
                self.bucket = fresh.ok_or(Refusal::NoSuchBucket)?;
            }
            TryAgain::FactsBehind(bucket) => router.push_to(bucket, &self.route.group).await?,
            TryAgain::Blocked(txn) => driver::meet(router, &self.route.group, &txn).await?,
            TryAgain::Moved(_) => {
                router.reload().await?;
                self.route = router.route(self.bucket.id, self.key)?;
            }
            TryAgain::NotYet => clock::sleep(Duration::from_millis(5)).await,
            TryAgain::PartsChanged => return Ok(Some(Outcome::PartsChanged)),
            TryAgain::SourceChanged => return Ok(Some(Outcome::SourceChanged)),
            TryAgain::StalePlacement => return Ok(Some(Outcome::StalePlacement)),
            TryAgain::NeedsAllowance(_) | TryAgain::SessionGone => {
                return Err(KvError::Unavailable(format!(
                    "{}: {again:?}",
                    self.route.group.id
                )));
            }
        }
        Ok(None)
    }
}
