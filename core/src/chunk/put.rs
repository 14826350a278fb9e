//! Staging a body: cut into frames, which are on their way to the members while the client still sends.
//!
//! Always true:
//! * at most `WINDOW` frames of a body are not on a majority yet, and all bodies together stay within the log's own
//!   byte limit: a slow disk slows the client, not the node;
//! * the more bodies arrive side by side, the smaller the frames in which they are gathered: a thousand slow clients must
//!   not hold a thousand MiB;
//! * nothing is visible: frames lie under an open stage, and only a claim makes them an object or a part;
//! * dropped without an end, the stage is given up soon; if that fails, the sweeper gives it up after ten idle minutes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::frames::{Cut, Cutter, FRAME, FrameAt};
use super::replicate::Replicator;
use super::store::{Store, log_failed};
use crate::env::task;
use crate::group::Group;
use crate::ids::{StageId, VShard};
use crate::kv::{KvError, Staged};
use crate::log::Stream;
use crate::state::record::ChunkRun;

/// Frames of one body on their way to a majority.
const WINDOW: usize = 3;
/// The frames that are being gathered, of all bodies together, shall take about so much.
const GATHERED: usize = 16 << 20;
/// Frames are not made smaller than this for it.
const SMALLEST_FRAME: u32 = 64 << 10;

/// How large the chunks of a body are that begins while so many others arrive.
pub(crate) fn chunk_size(usual: u32, others: usize) -> u32 {
    let fair = u32::try_from(GATHERED / (others + 1)).unwrap_or(u32::MAX);
    if fair >= FRAME {
        return usual;
    }
    let frame = 1 << fair.max(SMALLEST_FRAME).ilog2();
    usual.min(frame)
}

/// A body that is arriving; counted until it is dropped.
struct Arriving(Arc<Store>);

impl Arriving {
    fn begin(store: &Arc<Store>) -> Arriving {
        store.arriving.fetch_add(1, Ordering::Relaxed);
        Arriving(store.clone())
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.arriving.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an open stage is for.
pub(crate) struct Opened {
    pub group: Arc<Group>,
    pub vshard: VShard,
    pub stage: StageId,
    pub chunk_size: u32,
    /// Bytes reserved for it by its opening.
    pub reserved: u64,
}

/// Has the group reserve more for a stage whose length nobody declared: the stage and its new total.
pub(crate) type Extend = Box<dyn Fn(u64) -> BoxFuture<'static, Result<(), KvError>> + Send + Sync>;

/// Writes a body's frames.
pub(crate) struct Stager {
    store: Arc<Store>,
    opened: Opened,
    extend: Extend,
    cutter: Cutter,
    /// Taken by the end.
    replicator: Option<Replicator>,
    under_way: FuturesUnordered<BoxFuture<'static, Result<(), KvError>>>,
    /// Neither finished nor abandoned yet.
    is_open: bool,
    _arriving: Arriving,
}

impl Stager {
    pub(crate) async fn new(
        store: Arc<Store>,
        opened: Opened,
        extend: Extend,
    ) -> Result<Stager, KvError> {
        let cut = Cut::of(opened.chunk_size)
            .ok_or_else(|| KvError::Unavailable("this chunk size is not possible".to_owned()))?;
        let Opened {
            group,
            vshard,
            stage,
            ..
        } = &opened;
        let replicator = Replicator::new(group.clone(), *vshard, *stage).await;
        let replicator = replicator.inspect_err(|_| {
            let (group, vshard, stage) = (group.clone(), *vshard, *stage);
            task::spawn(async move { abandon(&group, vshard, stage).await });
        })?;
        group.memory.begin_writing(*stage);
        Ok(Stager {
            replicator: Some(replicator),
            _arriving: Arriving::begin(&store),
            store,
            opened,
            extend,
            cutter: Cutter::new(cut),
            under_way: FuturesUnordered::new(),
            is_open: true,
        })
    }

    pub(crate) fn taken(&self) -> u64 {
        self.cutter.taken()
    }

    /// Bytes of a whole frame: given in such pieces, a body is not copied.
    pub(crate) fn frame_len(&self) -> usize {
        self.cutter.frame_len()
    }

    pub(crate) fn touch(&self) {
        self.opened.group.memory.touch(self.opened.stage);
    }

    /// Takes bytes; waits while the window is full.
    pub(crate) async fn write(&mut self, mut bytes: Bytes) -> Result<(), KvError> {
        if self.opened.group.memory.is_given_up(self.opened.stage) {
            return Err(KvError::Unavailable(
                "no bytes came for too long; the upload was given up".to_owned(),
            ));
        }
        self.touch();
        self.reserve(self.taken() + bytes.len() as u64).await?;
        while !bytes.is_empty() {
            if let Some((at, frame)) = self.cutter.take(&mut bytes) {
                self.send(at, frame).await?;
            }
        }
        Ok(())
    }

    async fn reserve(&mut self, len: u64) -> Result<(), KvError> {
        if len <= self.opened.reserved {
            return Ok(());
        }
        // In steps that grow with the body: few entries, and at most double of what is needed.
        let step = self.opened.reserved.max(4 << 20);
        let total = len.max(self.opened.reserved + step);
        (self.extend)(total).await?;
        self.opened.reserved = total;
        Ok(())
    }

    async fn send(&mut self, at: FrameAt, frame: Bytes) -> Result<(), KvError> {
        while self.under_way.len() >= WINDOW {
            self.settle_one().await?;
        }
        let permit = self.store.log.admit(Stream::Blob, frame.len()).await;
        let permit = permit.map_err(log_failed)?;
        if let Some(replicator) = &self.replicator {
            let sent = replicator.send(at, frame, permit).await;
            self.under_way.push(sent);
        }
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<(), KvError> {
        match self.under_way.next().await {
            Some(settled) => settled,
            None => Ok(()),
        }
    }

    /// All bytes came: waits until every frame is durable on a majority, and a little for the others.
    pub(crate) async fn finish(mut self) -> Result<Staged, KvError> {
        if let Some((at, frame)) = self.cutter.rest() {
            self.send(at, frame).await?;
        }
        while !self.under_way.is_empty() {
            self.settle_one().await?;
        }
        self.touch();
        let len = self.taken();
        let cut = Cut::of(self.opened.chunk_size);
        let run = ChunkRun {
            vshard: self.opened.vshard,
            stage: self.opened.stage,
            count: cut.map_or(0, |cut| cut.chunks(len)),
            chunk_size: self.opened.chunk_size,
            len,
        };
        let copies = match self.replicator.take() {
            Some(replicator) if len > 0 => replicator.finish(&run).await?,
            _ => Vec::new(),
        };
        self.is_open = false;
        self.opened.group.memory.end_writing(self.opened.stage);
        Ok(Staged {
            stage: self.opened.stage,
            run,
            copies,
        })
    }

    /// The body ended badly.
    pub(crate) async fn abandon(mut self) {
        self.is_open = false;
        while !self.under_way.is_empty() {
            let _ = self.settle_one().await;
        }
        let Opened {
            group,
            vshard,
            stage,
            ..
        } = &self.opened;
        give_up(group, *vshard, *stage).await;
    }
}

impl Drop for Stager {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let group = self.opened.group.clone();
        let (vshard, stage) = (self.opened.vshard, self.opened.stage);
        let mut under_way = std::mem::take(&mut self.under_way);
        task::spawn(async move {
            while under_way.next().await.is_some() {}
            give_up(&group, vshard, stage).await;
        });
    }
}

/// Ends a stage whose writer is gone.
async fn give_up(group: &Group, vshard: VShard, stage: StageId) {
    if !group.memory.is_given_up(stage) {
        abandon(group, vshard, stage).await;
    }
    group.memory.end_writing(stage);
}

/// Gives a stage up by an entry. Failing is no harm: the sweeper will.
pub(crate) async fn abandon(group: &Group, vshard: VShard, stage: StageId) {
    use minikv_proto::entry::{Abandon, StageAt};
    let body = Abandon {
        stages: vec![StageAt {
            vshard: u32::from(vshard.0),
            stage: Some(stage.to_row()),
        }],
    };
    match group.own(crate::state::entry::Body::Abandon(body)).await {
        Ok(_) => group.memory.forget(stage),
        Err(error) => tracing::debug!(%error, "a stage is left to the sweeper"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few uploads write frames of 1 MiB; of a thousand none holds more than its share.
    #[test]
    fn frames_shrink_with_the_number_of_uploads() {
        let usual = 4 << 20;
        assert_eq!(chunk_size(usual, 0), usual);
        assert_eq!(chunk_size(usual, 15), usual);
        assert_eq!(chunk_size(usual, 16), 512 << 10);
        assert_eq!(chunk_size(usual, 100), 128 << 10);
        assert_eq!(chunk_size(usual, 100_000), 64 << 10);
        assert_eq!(chunk_size(4096, 200), 4096, "never larger than usual");
        let all: u64 = (0..200)
            .map(|others| u64::from(chunk_size(usual, others).min(FRAME)))
            .sum();
        assert!(all <= 48 << 20, "{all} bytes are gathered for 200 uploads");
        for others in 0..2000 {
            assert!(Cut::of(chunk_size(usual, others)).is_some());
        }
    }
}
