//! Taking a large body under an open stage.

use std::sync::Arc;

use bytes::Bytes;
use minikv_proto::entry as wire;

use super::objects::unexpected;
use super::plan::Plan;
use super::{Bucket, Conditions, Kv, KvError, Refusal, Staged, UploadId};
use crate::chunk::put::{Extend, Opened, Stager, chunk_size};
use crate::log::WriteKind;
use crate::state::answer::Done;
use crate::state::entry::{self, Body};

/// Reserved for a body whose length nobody declared; more follows as it grows.
const FIRST_RESERVE: u64 = 4 << 20;

impl Kv {
    /// Opens a stage for a large body. `declared`: its length when known. The conditions are looked at as advice
    /// (an early 412); `put` decides. Objects above `inline_limit` need a stage.
    pub async fn open_stage(
        &self,
        bucket: &Bucket,
        key: Bytes,
        declared: Option<u64>,
        conditions: &Conditions,
    ) -> Result<StageWriter, KvError> {
        self.stage(
            bucket,
            key,
            declared,
            entry::conditions(conditions),
            Bytes::new(),
        )
        .await
    }

    /// Opens a stage for a part. A part of up to `inline_limit` bytes may go inline instead.
    pub async fn open_part_stage(
        &self,
        bucket: &Bucket,
        key: Bytes,
        upload: UploadId,
        _number: u32,
        declared: Option<u64>,
    ) -> Result<StageWriter, KvError> {
        let name = upload.open().ok_or(Refusal::NoSuchUpload)?;
        self.stage(bucket, key, declared, None, Bytes::copy_from_slice(&name))
            .await
    }

    /// Content of up to this many bytes may travel inline.
    pub fn inline_limit(&self) -> usize {
        self.inner.inline_bytes
    }

    async fn stage(
        &self,
        bucket: &Bucket,
        key: Bytes,
        declared: Option<u64>,
        conditions: Option<wire::Conditions>,
        upload: Bytes,
    ) -> Result<StageWriter, KvError> {
        let reserve = declared.unwrap_or(FIRST_RESERVE);
        let mut plan = Plan::new(self, bucket, &key)?;
        let opened = plan.run(WriteKind::Ordinary, &[], |target| {
            Body::OpenStage(wire::OpenStage {
                target: Some(target),
                conditions: conditions.clone(),
                principal: Bytes::new(),
                reserve,
                upload: upload.clone(),
            })
        });
        let stage = match opened.await?.done()? {
            Done::Stage(stage) => stage,
            other => return Err(unexpected(&other)),
        };
        let opened = Opened {
            group: plan.route.group.clone(),
            vshard: plan.route.vshard,
            stage,
            chunk_size: chunk_size(self.inner.chunk_bytes, self.inner.store.arriving()),
            reserved: reserve,
        };
        let (kv, bucket) = (self.clone(), Arc::new(plan.bucket));
        let extend: Extend = Box::new(move |total| {
            let (kv, bucket, key) = (kv.clone(), bucket.clone(), key.clone());
            Box::pin(async move {
                let mut plan = Plan::new(&kv, &bucket, &key)?;
                let extended = plan.run(WriteKind::Ordinary, &[], |target| {
                    Body::ExtendStage(wire::ExtendStage {
                        target: Some(target),
                        stage: Some(stage.to_row()),
                        reserve: total,
                    })
                });
                extended.await?.done().map(drop)
            })
        });
        let stager = Stager::new(self.inner.store.clone(), opened, extend).await?;
        Ok(StageWriter { stager })
    }
}

/// Takes the body of a stage in pieces of any size; cuts chunks of up to 4 MiB and frames of up to 1 MiB itself.
///
/// Dropped without `finish`: the stage is abandoned soon.
pub struct StageWriter {
    stager: Stager,
}

impl StageWriter {
    /// Whole frames have so many bytes: given in such pieces, a body is not copied.
    pub fn frame_len(&self) -> usize {
        self.stager.frame_len()
    }

    /// Takes the next bytes. Waits while too much is on its way to the disk (a bounded window).
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), KvError> {
        self.stager.write(bytes).await
    }

    /// A byte came from the client although no whole piece could be written: keeps a slow stage from being abandoned.
    pub fn touch(&self) {
        self.stager.touch();
    }

    /// Bytes taken so far.
    pub fn len(&self) -> u64 {
        self.stager.taken()
    }

    /// Nothing taken so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes came: resolves when every frame is durable on a majority of the group's members.
    pub async fn finish(self) -> Result<Staged, KvError> {
        self.stager.finish().await
    }

    /// The body ended badly: the stage is given up at once.
    pub async fn abandon(self) {
        self.stager.abandon().await;
    }
}
