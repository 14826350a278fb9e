//! Keeping a frame on this node: for a gateway here, and for one that asks from elsewhere.
//!
//! Always true:
//! * a frame is taken only under a stage that this node's own state knows and calls open, and is not recorded if the
//!   stage ended while it was written;
//! * "stored" is said after the fsync, and with the life in which it is said: since which entry this node has been a member,
//!   by its own state. The life is read before the frame is looked for or written, by a copy that has caught up with what was
//!   agreed on before it came: as long as that life lasts, this node removes nothing that its group names;
//! * the same frame twice is kept once; other bytes under the same name are refused.
//!
//! Failures it prevents: a frame that comes late (its gateway gave up, the stage was abandoned) lies there for ever; a frame
//! that this node removed when it left the group counts when it is back.

use std::time::Duration;

use minikv_proto::peer::{self, frame_stored::Outcome};

use super::store::NotKept;
use crate::group::Group;
use crate::group::read::unreadable;
use crate::ids::{ChunkId, StageId};
use crate::kv::KvError;
use crate::log::{Frame, Permit, Stream, WriteKind};
use crate::state::entry::crc64;
use crate::state::read;
use crate::state::record::{Malformed, vshard_of};

/// How long this node's state may take to know the stage.
pub(crate) const APPLY_PATIENCE: Duration = Duration::from_secs(2);

/// Keeps a frame of an open stage; durable and recorded when this returns, in the life that it tells (0: this node is no
/// member). The permit is given back then.
pub(crate) async fn keep(group: &Group, frame: Frame, permit: Permit) -> Result<u64, NotKept> {
    let stage = frame.chunk.stage;
    let replica = &group.replica;
    // Each member judges its own disk: a full one holds nobody up while the others are a majority.
    if !replica.store.log.room().admits(WriteKind::Ordinary) {
        return Err(KvError::NoRoom("the disk is nearly full".to_owned()).into());
    }
    // A copy that has not caught up shows this node as the member that it was.
    let known = stage.index.max(group.floor());
    group.until_applied(known, APPLY_PATIENCE).await?;
    let watched = replica.incoming.watch(stage);
    let view = replica.view();
    let open = read::stage(&*view, frame.chunk.vshard, stage).map_err(unreadable)?;
    let life = read::life(&*view, replica.node.0).map_err(unreadable)?;
    drop(view);
    if open.is_none() && !crate::planted!("frames-of-closed-stages-taken") {
        return Err(NotKept::Closed);
    }
    #[cfg(feature = "planted")]
    if crate::planted!("frame-acknowledged-before-fsync") {
        let store = replica.store.clone();
        crate::env::task::spawn(async move {
            let _ = store.write_frame(frame, &watched).await;
            drop(permit);
        });
        return Ok(life);
    }
    let kept = replica.store.write_frame(frame, &watched).await;
    drop(permit);
    kept.map(|()| life)
}

/// What a gateway elsewhere is told.
pub(crate) async fn keep_for_peer(group: &Group, asked: peer::StoreFrame) -> peer::FrameStored {
    let kept = kept_for_peer(group, asked).await;
    let life = *kept.as_ref().unwrap_or(&0);
    let outcome = match kept {
        Ok(_) => Outcome::Stored,
        Err(NotKept::Closed) => Outcome::Closed,
        Err(NotKept::OtherBytes(what)) => {
            tracing::error!(%what, "a frame came with other bytes");
            Outcome::OtherBytes
        }
        Err(NotKept::Failed(KvError::NoRoom(_))) => Outcome::NoRoom,
        Err(NotKept::Failed(error)) => {
            tracing::debug!(group = %group.id, %error, "a frame was not kept");
            Outcome::Unknown
        }
    };
    peer::FrameStored {
        outcome: outcome as i32,
        life,
    }
}

async fn kept_for_peer(group: &Group, asked: peer::StoreFrame) -> Result<u64, NotKept> {
    let (chunk, frame) = named(asked.name.as_ref()).map_err(malformed)?;
    if chunk.stage.group != group.id || crc64(&asked.bytes) != asked.crc64 {
        return Err(malformed(Malformed("frame")));
    }
    let log = &group.replica.store.log;
    let permit = log.admit(Stream::Blob, asked.bytes.len()).await;
    let permit = permit.map_err(super::store::log_failed)?;
    let frame = Frame {
        chunk,
        frame,
        bytes: asked.bytes,
    };
    keep(group, frame, permit).await
}

fn malformed(what: Malformed) -> NotKept {
    KvError::Unavailable(what.to_string()).into()
}

/// The chunk and the number of the frame in it.
pub(super) fn named(name: Option<&peer::FrameName>) -> Result<(ChunkId, u32), Malformed> {
    let name = name.ok_or(Malformed("no frame"))?;
    let chunk = ChunkId {
        vshard: vshard_of(name.vshard)?,
        stage: StageId::of_row(name.stage.as_ref())?,
        ordinal: name.chunk,
    };
    Ok((chunk, name.frame))
}

/// As messages name it.
pub(super) fn name_of(chunk: &ChunkId, frame: u32) -> peer::FrameName {
    peer::FrameName {
        vshard: u32::from(chunk.vshard.0),
        stage: Some(chunk.stage.to_row()),
        chunk: chunk.ordinal,
        frame,
    }
}
