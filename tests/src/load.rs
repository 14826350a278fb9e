//! Load on a real server that knows what it was promised: many clients, each with keys of its own, one request in flight
//! per key.
//!
//! ```text
//!   begin in the oracle -> request -> answer -> end in the oracle        (killed in between: outcome unknown)
//! ```
//! A finished upload counts as the PUT of its parts. Uploads that were open when the server died are completed after it:
//! their acknowledged parts must still be there.
//!
//! Always true: a 2xx is `Done`, a 507 `NotDone`, any other answer that a retry might change is `Unknown`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use parking_lot::Mutex;

use crate::content::{self, Content, Piece};
use crate::model::{KeyState, Name, Op};
use crate::oracle::{Broken, Oracle, Outcome};
use crate::s3::{Answer, S3};

/// The one bucket.
pub const BUCKET: &str = "load";
/// The smallest part that may be followed by another.
const PART: u64 = 5 << 20;

/// What is known of the server, over all its lives.
#[derive(Clone, Default)]
pub struct Known {
    /// The history.
    pub ledger: Arc<Mutex<Oracle>>,
    /// Uploads with parts acknowledged and no end yet.
    open: Arc<Mutex<Vec<OpenUpload>>>,
    /// Writes acknowledged.
    pub acknowledged: Arc<AtomicU64>,
    seeds: Arc<AtomicU64>,
}

struct OpenUpload {
    key: String,
    id: String,
    parts: Vec<(Piece, String)>,
}

/// What became of a write, by its answer.
pub fn outcome(answer: &Answer) -> Outcome {
    match answer.status() {
        Some(status) if status.is_success() => Outcome::Done,
        Some(StatusCode::INSUFFICIENT_STORAGE) => Outcome::NotDone,
        Some(status) if status.is_client_error() => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}

impl Known {
    /// Makes the bucket.
    pub async fn create_bucket(&self, s3: &S3) -> Result<(), String> {
        self.ledger.lock().begin_bucket(BUCKET, false);
        let answer = s3.create_bucket(BUCKET).await;
        answer.ok().ok_or_else(|| answer.tell())?;
        self.ledger.lock().bucket_made(BUCKET);
        Ok(())
    }

    /// Bytes that were never written before.
    pub fn fresh(&self, size: u64) -> Piece {
        Piece::new(1 + self.seeds.fetch_add(1, Ordering::Relaxed), size)
    }

    /// One PUT.
    pub async fn put(&self, s3: &S3, key: &str, size: u64) -> Result<Answer, Broken> {
        let piece = self.fresh(size);
        self.write(
            key,
            Op::Put(piece.into()),
            s3.put(BUCKET, key, piece.bytes()),
        )
        .await
    }

    /// One DELETE.
    pub async fn delete(&self, s3: &S3, key: &str) -> Result<Answer, Broken> {
        self.write(key, Op::Delete, s3.delete(BUCKET, key)).await
    }

    async fn write(
        &self,
        key: &str,
        op: Op,
        request: impl Future<Output = Answer>,
    ) -> Result<Answer, Broken> {
        let name = Name::new(BUCKET, key);
        self.ledger.lock().begin(&name, op);
        let answer = request.await;
        let outcome = outcome(&answer);
        self.ledger.lock().end(&name, outcome)?;
        if outcome == Outcome::Done {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer)
    }

    /// An upload of two parts, completed.
    async fn upload(&self, s3: &S3, key: &str) -> Result<Answer, Broken> {
        let created = s3.create_upload(BUCKET, key).await;
        let Some(id) = created.ok().and_then(|reply| reply.element("UploadId")) else {
            return Ok(created);
        };
        let mut upload = OpenUpload {
            key: key.to_owned(),
            id,
            parts: Vec::new(),
        };
        for (number, size) in [(1, PART), (2, 70_000)] {
            let piece = self.fresh(size);
            let answer = s3
                .part(BUCKET, key, &upload.id, number, piece.bytes())
                .await;
            let Some(reply) = answer.ok() else {
                self.open.lock().push(upload);
                return Ok(answer);
            };
            upload.parts.push((piece, reply.etag()));
        }
        self.complete(s3, upload).await
    }

    async fn complete(&self, s3: &S3, upload: OpenUpload) -> Result<Answer, Broken> {
        let content = Content(upload.parts.iter().map(|(piece, _)| *piece).collect());
        let etags: Vec<String> = upload.parts.iter().map(|(_, etag)| etag.clone()).collect();
        let request = s3.complete(BUCKET, &upload.key, &upload.id, &etags);
        self.write(&upload.key, Op::Put(content), request).await
    }

    /// Completes the uploads that were open when the server died. Every one must have kept its acknowledged parts.
    pub async fn finish_uploads(&self, s3: &S3) -> Result<(), String> {
        let open = std::mem::take(&mut *self.open.lock());
        for upload in open.into_iter().filter(|upload| !upload.parts.is_empty()) {
            let told = format!("upload {} of {}", upload.id, upload.key);
            let answer = self
                .complete(s3, upload)
                .await
                .map_err(|broken| broken.to_string())?;
            answer
                .ok()
                .ok_or_else(|| format!("{told} lost acknowledged parts: {}", answer.tell()))?;
        }
        Ok(())
    }

    /// Overwrites, deletes and uploads until the server is gone or `until` says so.
    pub async fn work(
        &self,
        s3: &S3,
        workers: u64,
        keys: u64,
        until: &dyn Fn() -> bool,
    ) -> Result<(), Broken> {
        let worker = |worker: u64| async move {
            let mut dice =
                worker.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.seeds.load(Ordering::Relaxed);
            loop {
                if until() {
                    return Ok(());
                }
                dice = dice
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let key = format!("w{worker:02}/k{:03}", (dice >> 40) % keys);
                let answer = match (dice >> 33) % 100 {
                    0..50 => self.put(s3, &key, 16 + (dice >> 20) % 5000).await?,
                    50..70 => self.put(s3, &key, 60_000 + (dice >> 20) % 400_000).await?,
                    70..75 => self.upload(s3, &key).await?,
                    _ => self.delete(s3, &key).await?,
                };
                if let Answer::None(_) = answer {
                    return Ok(());
                }
            }
        };
        let all = futures::future::join_all((0..workers).map(worker)).await;
        all.into_iter().collect()
    }

    /// Reads every key that was ever written, and the list, and judges them; what was seen is settled.
    pub async fn verify(&self, s3: &S3) -> Result<u64, String> {
        let names: Vec<Name> = self.ledger.lock().names().cloned().collect();
        let listed = s3
            .list(BUCKET)
            .await
            .map_err(|answer| format!("LIST: {}", answer.tell()))?;
        if !listed.is_sorted() {
            return Err("the list is not sorted".to_owned());
        }
        let count = names.len() as u64;
        let reads = names.into_iter().map(|name| {
            let listed = listed.binary_search(&name.key).is_ok();
            async move { self.verify_one(s3, &name, listed).await }
        });
        let mut reads = futures::stream::iter(reads).buffer_unordered(8);
        while let Some(read) = reads.next().await {
            read?;
        }
        Ok(count)
    }

    async fn verify_one(&self, s3: &S3, name: &Name, listed: bool) -> Result<(), String> {
        let seen = read(s3, &name.key).await?;
        if seen.is_some() != listed {
            return Err(format!(
                "{name:?}: GET finds {seen:?}, and LIST says {listed}"
            ));
        }
        let versions = seen.map(Some).into_iter().collect();
        let state = KeyState {
            versions,
            ..KeyState::default()
        };
        let mut ledger = self.ledger.lock();
        ledger
            .check_one(name, state.clone())
            .map_err(|broken| broken.to_string())?;
        ledger.settle_one(name, state);
        Ok(())
    }

    /// Bytes of all objects, once `verify` has settled them.
    pub fn live_bytes(&self) -> u64 {
        let ledger = self.ledger.lock();
        let states = ledger.names().flat_map(|name| ledger.possible(name));
        states.map(|state| state.bytes()).sum()
    }
}

/// GET, recognised.
pub async fn read(s3: &S3, key: &str) -> Result<Option<Content>, String> {
    let answer = s3.get(BUCKET, key).await;
    match &answer {
        Answer::Some(reply) if reply.status == StatusCode::NOT_FOUND => Ok(None),
        Answer::Some(reply) if reply.status == StatusCode::OK => {
            let body: &Bytes = &reply.body;
            content::read(body)
                .map(Some)
                .map_err(|wrong| format!("GET {key}: {wrong}"))
        }
        _ => Err(format!("GET {key}: {}", answer.tell())),
    }
}
