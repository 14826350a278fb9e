//! A body becomes content: collected when it is small, staged when it is not, hashed in one pass either way.
//!
//! ```text
//!                        .-> collect -> hash here            (at most the inline limit)
//!   payload --- pieces --|
//!                        '-> stage.write, as they come  \
//!                            hash, 1 MiB at a time       >  side by side
//!                            the next pieces             /
//! ```
//! A body that is compressed or encrypted is packed and sealed where it is hashed, and what is written is what comes out,
//! a group behind.
//!
//! Always true:
//! * content comes out only of a body that ended well, in its declared length, with every claim kept; else the stage is
//!   abandoned and nothing is left;
//! * at most two groups of 1 MiB are held here (one being hashed, one being read), besides the stage's own window; of an
//!   encrypted or compressed body a third one, of what comes out;
//! * digests and declared lengths are those of the plain bytes;
//! * large bodies are hashed and sealed off the socket's task: MD5 alone takes 1.7 ms for a MiB, which every other connection of
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
use crate::object::compression::{Codec, Compression, Packer, is_worth_it};
use crate::object::encryption::pieces::{Sealer, plain_len, sealed_len};
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

/// What is done with the bytes before they are stored.
#[derive(Default)]
pub struct Coding {
    /// They are encrypted.
    pub sealer: Option<Sealer>,
    /// They are compressed first, if that pays.
    pub codec: Option<Codec>,
}

/// A body that was taken.
pub struct Taken {
    /// To be committed.
    pub content: NewContent,
    /// Of the plain bytes.
    pub digests: Digests,
    /// What was compressed.
    pub packed: Option<Packed>,
}

/// A body that was compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packed {
    /// For its record.
    pub compression: Compression,
    /// Bytes that came out, before they were encrypted.
    pub len: u64,
}

/// A shorter body is not worth the trouble.
const SHORTEST: u64 = 256;
/// Longer ones are compressed off the socket's task.
const AT_ONCE: usize = 16 << 10;

impl Store {
    /// Takes a body, packed and sealed as `coding` says. `open` opens the stage, with the declared length as it will be stored;
    /// called only when one is needed, and before the body has arrived.
    pub async fn take<O, F>(
        &self,
        mut payload: Payload,
        hashing: Hashing,
        coding: Coding,
        open: O,
    ) -> Result<Taken, IntakeError>
    where
        O: FnOnce(Option<u64>) -> F,
        F: Future<Output = Result<StageWriter, KvError>>,
    {
        let Coding { sealer, codec } = coding;
        if let Some(codec) = codec.filter(|_| payload.len.is_none_or(|len| len >= SHORTEST)) {
            // On the heap, so that other writes do not carry the room for it.
            return Box::pin(self.take_packed(payload, hashing, codec, sealer, open)).await;
        }
        let limit = self.inline_limit(sealer.is_some());
        let plan = PutPlan::new(payload.len, limit)?;
        let hasher = Hasher::new(
            std::mem::take(&mut payload.claims),
            hashing.fallback,
            hashing.also,
        );
        let worker = Worker {
            hasher,
            packer: None,
            sealer,
        };
        match plan {
            PutPlan::Inline { len } => inline(payload, len as usize, worker).await,
            PutPlan::Staged { len } => {
                let len = match worker.sealer {
                    None => len,
                    Some(_) => sealed_len(len),
                };
                // Boxed, as the next one: a small PUT, of which there are many more, need not carry the room for it.
                Box::pin(staged(payload, worker, open(Some(len)))).await
            }
            PutPlan::Undeclared => Box::pin(undeclared(payload, worker, limit, open)).await,
        }
    }

    /// Plain bytes that fit inline.
    fn inline_limit(&self, sealed: bool) -> usize {
        match sealed {
            false => self.kv().inline_limit(),
            true => plain_len(self.kv().inline_limit() as u64) as usize,
        }
    }

    /// The same for a body that is compressed if its beginning says that it pays.
    async fn take_packed<O, F>(
        &self,
        mut payload: Payload,
        hashing: Hashing,
        codec: Codec,
        sealer: Option<Sealer>,
        open: O,
    ) -> Result<Taken, IntakeError>
    where
        O: FnOnce(Option<u64>) -> F,
        F: Future<Output = Result<StageWriter, KvError>>,
    {
        let declared = payload.len;
        PutPlan::new(declared, 0)?;
        let claims = std::mem::take(&mut payload.claims);
        let hasher = Hasher::new(claims, hashing.fallback, hashing.also);
        // One byte more than a group: a shorter body is seen to its end.
        let first = read_group(&mut payload, GROUP + 1).await?;
        let (ended, bytes) = (first.ended, join(first.pieces, first.len));
        let sample = bytes.clone();
        let is_worth_it = move || is_worth_it(codec, &sample);
        let packs = match bytes.len() <= AT_ONCE {
            true => is_worth_it(),
            false => task::blocking(is_worth_it).await,
        };
        let sealed = sealer.is_some();
        let worker = Worker {
            hasher,
            packer: packs.then(|| Box::new(Packer::new(codec))),
            sealer,
        };
        if ended && packs {
            return finish_packed(self.kv().inline_limit(), bytes, payload, worker, open).await;
        }
        if ended && bytes.len() <= self.inline_limit(sealed) {
            return finish_inline(bytes, payload, worker);
        }
        let stored = |len| if sealed { sealed_len(len) } else { len };
        // How much comes out is not known; what goes in plain is.
        let stage = open(declared.filter(|_| !packs).map(stored)).await?;
        let first = Group {
            len: bytes.len(),
            pieces: vec![bytes],
            ended,
        };
        Staging::new(stage, worker).run(payload, Ok(first)).await
    }
}

async fn staged(
    mut payload: Payload,
    worker: Worker,
    opening: impl Future<Output = Result<StageWriter, KvError>>,
) -> Result<Taken, IntakeError> {
    // The opening is agreed while the first bytes come in; refused, it does not wait for them.
    let (stage, first) = match select(pin!(opening), pin!(read_group(&mut payload, GROUP))).await {
        Either::Left((stage, reading)) => (stage?, reading.await),
        Either::Right((first, opening)) => (opening.await?, first),
    };
    Staging::new(stage, worker).run(payload, first).await
}

async fn undeclared<F>(
    mut payload: Payload,
    worker: Worker,
    limit: usize,
    open: impl FnOnce(Option<u64>) -> F,
) -> Result<Taken, IntakeError>
where
    F: Future<Output = Result<StageWriter, KvError>>,
{
    let first = read_group(&mut payload, limit + 1).await?;
    if first.len <= limit {
        let bytes = join(first.pieces, first.len);
        return finish_inline(bytes, payload, worker);
    }
    let stage = open(None).await?;
    Staging::new(stage, worker).run(payload, Ok(first)).await
}

/// A body that is at hand in whole, and shrinks.
async fn finish_packed<O, F>(
    limit: usize,
    bytes: Bytes,
    mut payload: Payload,
    mut worker: Worker,
    open: O,
) -> Result<Taken, IntakeError>
where
    O: FnOnce(Option<u64>) -> F,
    F: Future<Output = Result<StageWriter, KvError>>,
{
    let at_once = bytes.len() <= AT_ONCE;
    let work = move || {
        let begun = worker.work(&[bytes]);
        let (hasher, rest, packed) = worker.finish();
        (hasher, [begun, rest], packed)
    };
    let (hasher, out, packed) = match at_once {
        true => work(),
        false => task::blocking(work).await,
    };
    let digests = hasher.finish(&payload.take_trailer())?;
    let len = out.iter().map(Bytes::len).sum();
    let out = join(Vec::from(out), len);
    let content = if len <= limit {
        NewContent::Inline(out)
    } else {
        let mut stage = open(Some(len as u64)).await?;
        match stage.write(out).await {
            Ok(()) => NewContent::Staged(stage.finish().await?),
            Err(error) => {
                stage.abandon().await;
                return Err(error.into());
            }
        }
    };
    Ok(Taken {
        content,
        digests,
        packed,
    })
}

async fn inline(mut payload: Payload, len: usize, worker: Worker) -> Result<Taken, IntakeError> {
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
    finish_inline(bytes, payload, worker)
}

fn finish_inline(bytes: Bytes, mut payload: Payload, worker: Worker) -> Result<Taken, IntakeError> {
    let Worker {
        mut hasher, sealer, ..
    } = worker;
    hasher.update(&bytes);
    let digests = hasher.finish(&payload.take_trailer())?;
    let bytes = match sealer {
        None => bytes,
        Some(sealer) => sealer.seal_all(&bytes),
    };
    Ok(Taken {
        content: NewContent::Inline(bytes),
        digests,
        packed: None,
    })
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

/// What is done to the bytes of a body.
struct Worker {
    hasher: Hasher,
    /// On the heap: most bodies have none.
    packer: Option<Box<Packer>>,
    sealer: Option<Sealer>,
}

impl Worker {
    /// Whether the bytes are written as they come.
    fn is_plain(&self) -> bool {
        self.packer.is_none() && self.sealer.is_none()
    }

    /// Hashes, packs and seals; what comes out, empty for a plain body.
    fn work(&mut self, pieces: &[Bytes]) -> Bytes {
        if let Some(packer) = &mut self.packer {
            for piece in pieces {
                self.hasher.update(piece);
                packer.update(piece);
            }
            let packed = packer.take();
            return seal(&mut self.sealer, packed);
        }
        if let Some(sealer) = &mut self.sealer {
            sealer.reserve(pieces.iter().map(Bytes::len).sum());
        }
        for piece in pieces {
            self.hasher.update(piece);
            if let Some(sealer) = &mut self.sealer {
                sealer.update(piece);
            }
        }
        self.sealer.as_mut().map(Sealer::take).unwrap_or_default()
    }

    /// That was all: what is left to write.
    fn finish(self) -> (Hasher, Bytes, Option<Packed>) {
        let Worker {
            hasher,
            packer,
            mut sealer,
        } = self;
        let (mut rest, packed) = match packer {
            None => (Bytes::new(), None),
            Some(packer) => {
                let (codec, plain) = (Some(packer.codec()), packer.plain());
                let (rest, len) = packer.finish();
                let compression = Compression { codec, plain };
                (rest, Some(Packed { compression, len }))
            }
        };
        if let Some(mut sealer) = sealer.take() {
            sealer.update(&rest);
            rest = sealer.finish();
        }
        (hasher, rest, packed)
    }
}

fn seal(sealer: &mut Option<Sealer>, bytes: Bytes) -> Bytes {
    match sealer {
        None => bytes,
        Some(sealer) => {
            sealer.reserve(bytes.len());
            sealer.update(&bytes);
            sealer.take()
        }
    }
}

/// A large body under way.
struct Staging {
    stage: StageWriter,
    /// Here, or with the job.
    worker: Option<Worker>,
    job: Option<task::JoinHandle<(Worker, Bytes)>>,
    /// The bytes are written as they come.
    is_plain: bool,
    taken: u64,
}

impl Staging {
    fn new(stage: StageWriter, worker: Worker) -> Staging {
        Staging {
            stage,
            is_plain: worker.is_plain(),
            worker: Some(worker),
            job: None,
            taken: 0,
        }
    }

    async fn run(
        mut self,
        mut payload: Payload,
        first: Result<Group, PayloadError>,
    ) -> Result<Taken, IntakeError> {
        let pumped = match first {
            Ok(first) => self.pump(&mut payload, first).await,
            Err(error) => Err(error.into()),
        };
        match pumped {
            Ok((digests, packed)) => Ok(Taken {
                content: NewContent::Staged(self.stage.finish().await?),
                digests,
                packed,
            }),
            Err(error) => {
                self.stage.abandon().await;
                Err(error)
            }
        }
    }

    async fn pump(
        &mut self,
        payload: &mut Payload,
        first: Group,
    ) -> Result<(Digests, Option<Packed>), IntakeError> {
        let mut pieces = Vec::new();
        let mut held = first.len;
        for piece in first.pieces {
            self.write(&piece).await?;
            pieces.push(piece);
        }
        self.count(held)?;
        let mut ended = first.ended;
        while !ended {
            if held >= GROUP {
                self.begin(std::mem::take(&mut pieces)).await?;
                held = 0;
            }
            match payload.next().await {
                Some(piece) => {
                    let piece = piece?;
                    held += piece.len();
                    self.count(piece.len())?;
                    self.write(&piece).await?;
                    pieces.push(piece);
                }
                None => ended = true,
            }
        }
        self.begin(pieces).await?;
        let (hasher, rest, packed) = self.done().await?.finish();
        let digests = hasher.finish(&payload.take_trailer())?;
        if !rest.is_empty() {
            self.stage.write(rest).await?;
        }
        Ok((digests, packed))
    }

    /// A plain piece goes to the disk as it comes; of another body what the worker makes of it.
    async fn write(&mut self, piece: &Bytes) -> Result<(), KvError> {
        if !self.is_plain {
            // Nothing may be written for a whole group: a slow client is still one that sends.
            self.stage.touch();
            Ok(())
        } else {
            self.stage.write(piece.clone()).await
        }
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

    /// Starts on a group, after the one before.
    async fn begin(&mut self, pieces: Vec<Bytes>) -> Result<(), IntakeError> {
        let mut worker = self.done().await?;
        self.job = Some(task::spawn(task::blocking(move || {
            let sealed = worker.work(&pieces);
            (worker, sealed)
        })));
        Ok(())
    }

    /// The worker, when the job that has it is done and what it sealed is written.
    async fn done(&mut self) -> Result<Worker, IntakeError> {
        let lost = || {
            IntakeError::Kv(KvError::Unavailable(
                "the hashing worker went away".to_owned(),
            ))
        };
        match (self.worker.take(), self.job.take()) {
            (Some(worker), _) => Ok(worker),
            (None, Some(job)) => {
                let (worker, sealed) = job.await.map_err(|_| lost())?;
                if !sealed.is_empty() {
                    self.stage.write(sealed).await?;
                }
                Ok(worker)
            }
            (None, None) => Err(lost()),
        }
    }
}
