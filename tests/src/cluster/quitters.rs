//! Clients that begin an upload and go away: in the middle of the body, at its end, or for so long that the stage is given up
//! before they come back to claim it.
//!
//! Always true: what was never claimed leaves nothing behind; what was claimed late is there as a whole, or refused.
//!
//! Elsewhere: that nothing is left behind (`invariants::chunks`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use minikv_core::env::clock;
use minikv_core::kv::{Bucket, Conditions, Kv, KvError, NewContent, NewVersion, Refusal};
use minikv_core::kv::{Staged, VersionSelector};

use super::clients::{BUCKET, Clients, Ended, content, fill, read_all};
use super::history::Value;
use crate::dice::Dice;

/// Longer than any of them stays away.
const PATIENCE: Duration = Duration::from_secs(30);
/// For so many milliseconds, or up to twice that: a stage without progress is given up by a sweep after ten seconds.
const AWAY: u64 = 11_000;

/// Clients that go away.
#[derive(Clone)]
pub struct Quitters {
    clients: Clients,
}

/// When it goes away.
#[derive(Clone, Copy, Debug)]
enum Goes {
    /// In the middle of the body, without a word.
    Amid,
    /// In the middle, and says so.
    Saying,
    /// After the body.
    AtItsEnd,
    /// After the body, for so many milliseconds: then it claims.
    ForAWhile(u64),
}

impl Quitters {
    /// Clients that ask the same nodes.
    pub fn new(clients: Clients) -> Quitters {
        Quitters { clients }
    }

    /// One client, until told to stop.
    pub async fn client(self, number: u64, mut dice: Dice, stop: Arc<AtomicBool>) {
        let count = self.clients.nodes.count();
        while !stop.load(Ordering::Relaxed) {
            clock::sleep(Duration::from_millis(100 + dice.below(500))).await;
            let node = 1 + dice.below(count);
            let goes = match dice.below(10) {
                0..5 => Goes::Amid,
                5..7 => Goes::Saying,
                7..8 => Goes::AtItsEnd,
                8..9 => Goes::ForAWhile(dice.below(AWAY)),
                _ => Goes::ForAWhile(AWAY + dice.below(AWAY)),
            };
            let mut value = self.clients.value();
            while !super::clients::is_large(value) {
                value = self.clients.value();
            }
            let ended = self
                .clients
                .ask_of(node, BUCKET, PATIENCE, |kv, bucket| async move {
                    begins(&kv, &bucket, value, goes).await
                });
            let said = match ended.await {
                Ended::Answered(Ok(said)) => said.to_owned(),
                Ended::Answered(Err(KvError::Refused(why))) => {
                    let what = format!("client {number}: an upload was refused: {why}");
                    self.clients.wrong.lock().push(what.clone());
                    what
                }
                Ended::Answered(Err(KvError::Damaged(why))) => {
                    let what = format!("client {number}: a late upload is damaged: {why}");
                    self.clients.wrong.lock().push(what.clone());
                    what
                }
                Ended::Answered(Err(error)) => error.to_string(),
                Ended::Nobody(why) => why.to_owned(),
            };
            self.clients.trace.say(format!(
                "client {number} at node {node}: leaves upload {value} {goes:?}: {said}"
            ));
        }
    }
}

async fn begins(
    kv: &Kv,
    bucket: &Bucket,
    value: Value,
    goes: Goes,
) -> Result<&'static str, KvError> {
    let key = Bytes::from(format!("left-{value}"));
    let bytes = content(value);
    let declared = Some(bytes.len() as u64);
    let any = Conditions::default();
    let mut stage = kv.open_stage(bucket, key.clone(), declared, &any).await?;
    match goes {
        Goes::Amid | Goes::Saying => {
            let half = bytes.slice(..bytes.len() * 3 / 4);
            for piece in half.chunks(20_000) {
                stage.write(Bytes::copy_from_slice(piece)).await?;
            }
            match goes {
                Goes::Saying => stage.abandon().await,
                _ => drop(stage),
            }
            Ok("it never happened")
        }
        Goes::AtItsEnd => {
            fill(stage, bytes).await?;
            Ok("it never happened")
        }
        Goes::ForAWhile(millis) => {
            let NewContent::Staged(staged) = fill(stage, bytes.clone()).await? else {
                return Ok("it was small");
            };
            clock::sleep(Duration::from_millis(millis)).await;
            claims(kv, bucket, key, bytes, staged).await
        }
    }
}

async fn claims(
    kv: &Kv,
    bucket: &Bucket,
    key: Bytes,
    bytes: Bytes,
    staged: Staged,
) -> Result<&'static str, KvError> {
    let new = NewVersion {
        etag: "late".to_owned(),
        size: bytes.len() as u64,
        ..NewVersion::default()
    };
    let content = NewContent::Staged(staged);
    let claimed = kv.put(bucket, key.clone(), new, content, Conditions::default());
    match claimed.await {
        Ok(_) => {}
        Err(KvError::Refused(Refusal::StageGone)) => return Ok("its stage was given up"),
        Err(error) => return Err(error),
    }
    // Nobody else knows the key.
    let version = kv.head(bucket, &key, &VersionSelector::Current).await?;
    let version = version.ok_or_else(|| KvError::Damaged("it is not there".to_owned()))?;
    match read_all(kv, &version, false).await? {
        Some(read) if read == bytes => Ok("it is there"),
        _ => Err(KvError::Damaged("other bytes".to_owned())),
    }
}
