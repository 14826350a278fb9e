//! A client of the front door that writes down what it asks and what it is told.
//!
//! Always true: an operation is in the oracle's history before the store hears of it, and its outcome after it was
//! answered; what a killed node never answered stays open there.
//!
//! Elsewhere: reading a whole store back (`observe`), judging it (`oracle`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use minikv_core::ids::TenantId;
use minikv_core::kv::{
    Bucket, Change, Completed, Conditions, CreateBucket, CreateBucketError, Kv, KvError,
    NewContent, NewPart, NewVersion, TransactWrite, UploadId, VersionSelector, Versioning,
};
use parking_lot::Mutex;

use crate::content::{Content, Piece};
use crate::model::{Name, Op};
use crate::oracle::{Broken, Oracle, Outcome};

/// Who owns the buckets of these tests.
pub const TENANT: TenantId = TenantId(1);

/// The history so far, shared between clients, and readable at any moment.
pub type Ledger = Arc<Mutex<Oracle>>;

/// One client.
#[derive(Clone)]
pub struct Client {
    kv: Kv,
    ledger: Ledger,
    /// Which upload is meant by a label.
    uploads: Arc<Mutex<BTreeMap<String, UploadId>>>,
    wrong: Arc<Mutex<Vec<Broken>>>,
}

impl Client {
    /// A client that adds to a history.
    pub fn new(kv: Kv, ledger: Ledger) -> Client {
        Client {
            kv,
            ledger,
            uploads: Arc::default(),
            wrong: Arc::default(),
        }
    }

    /// The store.
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// The history.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Answers that no state explained.
    pub fn wrong_answers(&self) -> Vec<Broken> {
        self.wrong.lock().clone()
    }

    /// Makes a bucket.
    pub async fn create_bucket(&self, name: &str, versioned: bool) -> Result<(), KvError> {
        self.ledger.lock().begin_bucket(name, versioned);
        let create = CreateBucket {
            name: name.to_owned(),
            tenant: TENANT,
            owner: "owner".to_owned(),
            versioning: match versioned {
                true => Versioning::Enabled,
                false => Versioning::Off,
            },
            lock: false,
            settings: Bytes::new(),
        };
        match self.kv.create_bucket(create).await {
            // An earlier attempt without an answer may have made it.
            Ok(_) | Err(CreateBucketError::Exists(_)) => {
                self.ledger.lock().bucket_made(name);
                Ok(())
            }
            Err(CreateBucketError::Kv(error)) => Err(error),
        }
    }

    /// Deletes an empty bucket.
    pub async fn drop_bucket(&self, name: &str) -> Result<(), KvError> {
        self.ledger.lock().begin_drop(name);
        let answer = self.kv.delete_bucket(name).await;
        match &answer {
            Ok(()) => self.ledger.lock().end_drop(name, true),
            Err(KvError::Unknown(_) | KvError::Damaged(_)) => {}
            Err(_) => self.ledger.lock().end_drop(name, false),
        }
        answer
    }

    /// Writes keys in one transaction; the first one in chunks under a stage if it is large.
    pub async fn put_together(&self, bucket: &str, puts: &[(&str, Piece)]) -> Result<(), KvError> {
        let ops: Vec<(Name, Op)> = puts
            .iter()
            .map(|(key, piece)| (Name::new(bucket, *key), Op::Put((*piece).into())))
            .collect();
        // The bodies come first: until the transaction nothing of them is there.
        let bucket = self.bucket(bucket).await?;
        let mut writes = Vec::new();
        for (key, piece) in puts {
            let content = Content::from(*piece);
            let key = Bytes::copy_from_slice(key.as_bytes());
            let staged = self.content_of(&bucket, &key, &content).await?;
            writes.push(TransactWrite {
                bucket: bucket.clone(),
                key,
                change: Change::Put(version_of(&content), staged),
            });
        }
        self.ledger.lock().begin_together(&ops);
        let answer = self.kv.transact(Vec::new(), writes).await.map(drop);
        if let Err(broken) = self.ledger.lock().end_together(outcome(&answer)) {
            let told = format!("{broken}; it said {answer:?}");
            self.wrong.lock().push(Broken::Contradiction(told));
        }
        answer
    }

    /// Does one operation and writes it down. The error is the store's own, for tests that look closer.
    pub async fn run(&self, name: &Name, op: Op) -> Result<(), KvError> {
        self.ledger.lock().begin(name, op.clone());
        let answer = self.send(name, &op).await;
        if let Err(broken) = self.ledger.lock().end(name, outcome(&answer)) {
            let told = format!("{broken}; it said {answer:?}");
            self.wrong.lock().push(Broken::Contradiction(told));
        }
        answer
    }

    async fn send(&self, name: &Name, op: &Op) -> Result<(), KvError> {
        let bucket = self.bucket(&name.bucket).await?;
        let key = Bytes::from(name.key.clone());
        let any = Conditions::default();
        match op {
            Op::Put(content) => self.put(&bucket, key, content, any).await,
            Op::PutIfAbsent(content) => {
                let absent = Conditions {
                    if_none_match: Some(vec!["*".to_owned()]),
                    ..any
                };
                self.put(&bucket, key, content, absent).await
            }
            Op::Delete => {
                let current = VersionSelector::Current;
                self.kv.delete(&bucket, key, current, any).await.map(drop)
            }
            Op::CreateUpload(label) => {
                let meta = Bytes::from(label.clone());
                let upload = self
                    .kv
                    .create_upload(&bucket, key, meta, Default::default())
                    .await?;
                self.uploads.lock().insert(label.clone(), upload.id);
                Ok(())
            }
            Op::Part(label, number, piece) => {
                let id = self.upload_id(&bucket, &key, label).await?;
                self.part(&bucket, key, id, *number, piece).await
            }
            Op::Complete(label, numbers) => {
                let id = self.upload_id(&bucket, &key, label).await?;
                self.complete(&bucket, key, id, numbers).await
            }
            Op::Abort(label) => {
                let id = self.upload_id(&bucket, &key, label).await?;
                self.kv.abort_upload(&bucket, key, id).await
            }
            Op::Housekeeping => Ok(()),
        }
    }

    /// A bucket that is there.
    pub async fn bucket(&self, name: &str) -> Result<Bucket, KvError> {
        let found = self.kv.bucket(name).await?;
        found.ok_or(KvError::Refused(minikv_core::kv::Refusal::NoSuchBucket))
    }

    /// By label: known from its creation, or found again in the list of open uploads after a restart.
    async fn upload_id(
        &self,
        bucket: &Bucket,
        key: &Bytes,
        label: &str,
    ) -> Result<UploadId, KvError> {
        if let Some(id) = self.uploads.lock().get(label) {
            return Ok(*id);
        }
        let uploads = crate::observe::uploads(&self.kv, bucket).await?;
        let found = uploads
            .into_iter()
            .find(|upload| upload.key == key && upload.meta == label.as_bytes());
        let upload = found.ok_or(KvError::Refused(minikv_core::kv::Refusal::NoSuchUpload))?;
        self.uploads.lock().insert(label.to_owned(), upload.id);
        Ok(upload.id)
    }

    async fn put(
        &self,
        bucket: &Bucket,
        key: Bytes,
        content: &Content,
        conditions: Conditions,
    ) -> Result<(), KvError> {
        let new = version_of(content);
        let bytes = content.bytes();
        let content = if bytes.len() <= self.kv.inline_limit() {
            NewContent::Inline(bytes)
        } else {
            let declared = Some(bytes.len() as u64);
            let open = self
                .kv
                .open_stage(bucket, key.clone(), declared, &conditions);
            self.fill(open.await?, bytes).await?
        };
        self.kv
            .put(bucket, key, new, content, conditions)
            .await
            .map(drop)
    }

    /// The bytes as a transaction carries them: with it, or under a stage that it claims.
    async fn content_of(
        &self,
        bucket: &Bucket,
        key: &Bytes,
        content: &Content,
    ) -> Result<NewContent, KvError> {
        let bytes = content.bytes();
        if bytes.len() <= self.kv.inline_limit() {
            return Ok(NewContent::Inline(bytes));
        }
        let (any, declared) = (Conditions::default(), Some(bytes.len() as u64));
        let open = self.kv.open_stage(bucket, key.clone(), declared, &any);
        self.fill(open.await?, bytes).await
    }

    async fn fill(
        &self,
        mut stage: minikv_core::kv::StageWriter,
        mut bytes: Bytes,
    ) -> Result<NewContent, KvError> {
        // In pieces as a socket would give them.
        while !bytes.is_empty() {
            stage.write(bytes.split_to(bytes.len().min(60_000))).await?;
        }
        Ok(NewContent::Staged(stage.finish().await?))
    }

    async fn part(
        &self,
        bucket: &Bucket,
        key: Bytes,
        upload: UploadId,
        number: u32,
        piece: &Piece,
    ) -> Result<(), KvError> {
        let new = NewPart {
            etag: piece.etag(),
            size: piece.size,
            meta: Bytes::new(),
        };
        let bytes = piece.bytes();
        let content = if bytes.len() <= self.kv.inline_limit() {
            NewContent::Inline(bytes)
        } else {
            let open =
                self.kv
                    .open_part_stage(bucket, key.clone(), upload, number, Some(piece.size));
            self.fill(open.await?, bytes).await?
        };
        self.kv
            .put_part(bucket, key, upload, number, new, content)
            .await
            .map(drop)
    }

    async fn complete(
        &self,
        bucket: &Bucket,
        key: Bytes,
        upload: UploadId,
        numbers: &[u32],
    ) -> Result<(), KvError> {
        loop {
            let parts = self.kv.parts(bucket, &key, upload, 0, 1000).await?;
            let listed = numbers.iter().filter_map(|number| {
                let part = parts.parts.iter().find(|part| part.number == *number)?;
                Piece::of_etag(&part.etag)
            });
            let content = Content(listed.collect());
            let new = version_of(&content);
            let complete = self.kv.complete_upload(
                bucket,
                key.clone(),
                upload,
                parts.counter,
                numbers,
                new,
                Conditions::default(),
            );
            match complete.await? {
                Completed::Done { .. } => return Ok(()),
                Completed::PartsChanged => continue,
            }
        }
    }
}

fn version_of(content: &Content) -> NewVersion {
    NewVersion {
        etag: content.etag(),
        size: content.len(),
        meta: Bytes::from_static(b"meta"),
        tags: Bytes::new(),
        lock: Default::default(),
    }
}

/// What an answer says of what happened.
fn outcome(answer: &Result<(), KvError>) -> Outcome {
    match answer {
        Ok(()) => Outcome::Done,
        Err(KvError::Refused(_)) => Outcome::Refused,
        Err(KvError::Unavailable(_) | KvError::NoRoom(_)) => Outcome::NotDone,
        Err(KvError::Unknown(_) | KvError::Damaged(_)) => Outcome::Unknown,
    }
}
