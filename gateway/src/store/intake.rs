//! A body becomes content: collected when it is small, staged when it is not, hashed in one pass either way.
//!
//! ```text
//!                        .-> collect -> hash here            (at most the inline limit)
//!   payload --- pieces --|
//!                        '-> stage.write, as they come  \
//!                            hash, 1 MiB at a time       >  side by side
//!                            the next pieces             /
//! ```
//! Always true:
//! * content comes out only of a body that ended well, in its declared length, with every claim kept; else the stage is
//!   abandoned and nothing is left;
//! * at most two groups of 1 MiB are held here (one being hashed, one being read), besides the stage's own window;
//! * large bodies are hashed off the socket's task: MD5 alone takes 1.7 ms for a MiB, which every other connection of
//!   that thread would wait for.

use std::future::Future;
use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures::future::{Either, select};
use minikv_core::env::task;
use minikv_core::kv::{KvError, NewContent, StageWriter};

use super::Store;
use super::payload::{Payload, PayloadError};
use crate::object::checksum::{Algorithm, ChecksumError, Digests, Hasher};
use crate::object::put_plan::{MAX_BODY, PutPlan, TooLarge};

/// Bytes hashed in one go.
const GROUP: usize = 1 << 20;

/// Why a body did not become content. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The body.
    #[error(transparent)]
    Payload(PayloadError),
    /// Its checksums.
    #[error(transparent)]
    Checksum(#[from] ChecksumError),
    /// The core.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// Its size.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl From<PayloadError> for IntakeError {
    fn from(error: PayloadError) -> IntakeError {
        match error {
            PayloadError::Source(error) => IntakeError::Kv(error),
            error => IntakeError::Payload(error),
        }
    }
}

/// Which checksums to compute besides the MD5 and what was claimed.
#[derive(Clone, Copy, Debug)]
pub struct Hashing {
    /// Stored when the client named none.
    pub fallback: Algorithm,
    /// Also computed.
    pub also: Option<Algorithm>,
}

impl Default for Hashing {
    fn default() -> Hashing {
        Hashing {
            fallback: Algorithm::Crc64Nvme,
            also: None,
        }
    }
}

impl Store {
    /// Takes a body. `open` opens the stage, with the declared length; called only when one is needed, and before the
    /// body has arrived.
    pub async fn take<O, F>(
        &self,
        mut payload: Payload,
        hashing: Hashing,
        open: O,
    ) -> Result<(NewContent, Digests), IntakeError>
    where
        O: FnOnce(Option<u64>) -> F,
        F: Future<Output = Result<StageWriter, KvError>>,
    {
        let limit = self.kv().inline_limit();
        let plan = PutPlan::new(payload.len, limit)?;
        let hasher = Hasher::new(
            std::mem::take(&mut payload.claims),
            hashing.fallback,
            hashing.also,
        );
        match plan {
            PutPlan::Inline { len } => inline(payload, len as usize, hasher).await,
            PutPlan::Staged { len } => {
                // The opening is agreed while the first bytes come in; refused, it does not wait for them.
                let (stage, first) = match select(
                    pin!(open(Some(len))),
                    pin!(read_group(&mut payload, GROUP)),
                )
                .await
                {
                    Either::Left((stage, reading)) => (stage?, reading.await),
                    Either::Right((first, opening)) => (opening.await?, first),
                };
                Staging {
                    stage,
                    hasher: Some(hasher),
                    job: None,
                    taken: 0,
                }
                .run(payload, first)
                .await
            }
            PutPlan::Undeclared => {
                let first = read_group(&mut payload, limit + 1).await?;
                if first.len <= limit {
                    let bytes = join(first.pieces, first.len);
                    return finish_inline(bytes, payload, hasher);
                }
                Staging {
                    stage: open(None).await?,
                    hasher: Some(hasher),
                    job: None,
                    taken: 0,
                }
                .run(payload, Ok(first))
                .await
            }
        }
    }
}

async fn inline(
    mut payload: Payload,
    len: usize,
    hasher: Hasher,
) -> Result<(NewContent, Digests), IntakeError> {
    let mut bytes = Bytes::new();
    let mut collected = BytesMut::new();
    while let Some(piece) = payload.next().await {
        let piece = piece?;
        // Mostly a small body comes in one piece, and is passed on as it lies.
        if bytes.is_empty() && collected.is_empty() {
            bytes = piece;
        } else {
            if collected.is_empty() {
                collected.reserve(len);
                collected.extend_from_slice(&std::mem::take(&mut bytes));
            }
            collected.extend_from_slice(&piece);
        }
    }
    let bytes = if collected.is_empty() {
        bytes
    } else {
        collected.freeze()
    };
    finish_inline(bytes, payload, hasher)
}

fn finish_inline(
    bytes: Bytes,
    mut payload: Payload,
    mut hasher: Hasher,
) -> Result<(NewContent, Digests), IntakeError> {
    hasher.update(&bytes);
    let digests = hasher.finish(&payload.take_trailer())?;
    Ok((NewContent::Inline(bytes), digests))
}

fn join(pieces: Vec<Bytes>, len: usize) -> Bytes {
    match <[Bytes; 1]>::try_from(pieces) {
        Ok([piece]) => piece,
        Err(pieces) => pieces
            .into_iter()
            .fold(BytesMut::with_capacity(len), |mut all, piece| {
                all.extend_from_slice(&piece);
                all
            })
            .freeze(),
    }
}

/// Pieces as they came, of `wanted` bytes together or a little more; fewer at the end.
struct Group {
    pieces: Vec<Bytes>,
    len: usize,
    ended: bool,
}

async fn read_group(payload: &mut Payload, wanted: usize) -> Result<Group, PayloadError> {
    let mut group = Group {
        pieces: Vec::new(),
        len: 0,
        ended: false,
    };
    while group.len < wanted {
        match payload.next().await {
            Some(piece) => {
                let piece = piece?;
                group.len += piece.len();
                group.pieces.push(piece);
            }
            None => {
                group.ended = true;
                break;
            }
        }
    }
    Ok(group)
}

/// A large body under way.
struct Staging {
    stage: StageWriter,
    /// Here, or with the job.
    hasher: Option<Hasher>,
    job: Option<task::JoinHandle<Hasher>>,
    taken: u64,
}

impl Staging {
    async fn run(
        mut self,
        mut payload: Payload,
        first: Result<Group, PayloadError>,
    ) -> Result<(NewContent, Digests), IntakeError> {
        let digests = match first {
            Ok(first) => self.pump(&mut payload, first).await,
            Err(error) => Err(error.into()),
        };
        match digests {
            Ok(digests) => Ok((NewContent::Staged(self.stage.finish().await?), digests)),
            Err(error) => {
                self.stage.abandon().await;
                Err(error)
            }
        }
    }

    async fn pump(&mut self, payload: &mut Payload, first: Group) -> Result<Digests, IntakeError> {
        let mut pieces = Vec::new();
        let mut held = first.len;
        for piece in first.pieces {
            self.stage.write(piece.clone()).await?;
            pieces.push(piece);
        }
        self.count(held)?;
        let mut ended = first.ended;
        while !ended {
            if held >= GROUP {
                self.hash(std::mem::take(&mut pieces)).await?;
                held = 0;
            }
            match payload.next().await {
                Some(piece) => {
                    let piece = piece?;
                    held += piece.len();
                    self.count(piece.len())?;
                    self.stage.write(piece.clone()).await?;
                    pieces.push(piece);
                }
                None => ended = true,
            }
        }
        self.hash(pieces).await?;
        let hasher = self.hasher().await?;
        Ok(hasher.finish(&payload.take_trailer())?)
    }

    /// An undeclared length has the same limit as a declared one.
    fn count(&mut self, len: usize) -> Result<(), TooLarge> {
        self.taken += len as u64;
        if self.taken > MAX_BODY {
            Err(TooLarge)
        } else {
            Ok(())
        }
    }

    /// Starts hashing a group, after the one before.
    async fn hash(&mut self, pieces: Vec<Bytes>) -> Result<(), IntakeError> {
        let mut hasher = self.hasher().await?;
        self.job = Some(task::spawn(task::blocking(move || {
            pieces.iter().for_each(|piece| hasher.update(piece));
            hasher
        })));
        Ok(())
    }

    /// The hasher, when the job that has it is done.
    async fn hasher(&mut self) -> Result<Hasher, IntakeError> {
        let lost = || {
            IntakeError::Kv(KvError::Unavailable(
                "the hashing worker went away".to_owned(),
            ))
        };
        match (self.hasher.take(), self.job.take()) {
            (Some(hasher), _) => Ok(hasher),
            (None, Some(job)) => job.await.map_err(|_| lost()),
            (None, None) => Err(lost()),
        }
    }
}
