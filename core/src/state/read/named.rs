//! Stages, the free list, and everything that the state names: a node judges its bytes by this alone.

use bytes::Bytes;
use minikv_proto::row;

use super::{row, rows, sound};
use crate::engine::{EngineError, View};
use crate::ids::{PayloadId, StageId, VShard};
use crate::state::keys::{self};
use crate::state::ledger::decode;
use crate::state::record::{ChunkRun, Content, payload_of_row};

/// An open stage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenStage {
    /// Its vshard.
    pub vshard: VShard,
    /// Its name.
    pub id: StageId,
    /// Who opened it.
    pub principal: Bytes,
    /// Bytes charged.
    pub reserved: u64,
    /// A prepared transaction holds it.
    pub held: bool,
}

fn stage_of_row(vshard: VShard, id: StageId, stage: row::Stage) -> OpenStage {
    OpenStage {
        vshard,
        id,
        principal: stage.principal,
        reserved: stage.reserved,
        held: stage.held_by.is_some(),
    }
}

/// A stage, if it is open.
pub fn stage(
    view: &dyn View,
    vshard: VShard,
    id: StageId,
) -> Result<Option<OpenStage>, EngineError> {
    Ok(row(view, &keys::stage(vshard, id))?.map(|stage| stage_of_row(vshard, id, stage)))
}

/// All open stages of a vshard.
pub fn stages(
    view: &dyn View,
    vshard: VShard,
) -> impl Iterator<Item = Result<OpenStage, EngineError>> + '_ {
    rows(view, keys::stages(vshard), move |key, stage| {
        Some(stage_of_row(vshard, keys::parse_stage(key)?, stage))
    })
}

/// An item of the free list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FreeItem {
    /// Log index of the entry that freed it.
    pub index: u64,
    /// Which of that entry's items.
    pub ordinal: u32,
    /// When, by the wall clock of its leader of then.
    pub freed_ms: u64,
    /// Its bytes.
    pub content: Content,
}

/// The free list, oldest first, from what the entry at `index` freed on.
pub fn free_list(
    view: &dyn View,
    index: u64,
) -> impl Iterator<Item = Result<FreeItem, EngineError>> + '_ {
    rows(view, keys::frees_from(index), |key, free: row::Free| {
        let (index, ordinal) = keys::parse_free(key)?;
        let content = Content::of_row(free.content.as_ref()).ok()?;
        Some(FreeItem {
            index,
            ordinal,
            freed_ms: free.freed_ms,
            content,
        })
    })
}

/// Whether uploads wait to be moved to the free list (`AdvanceFree`).
pub fn has_free_uploads(view: &dyn View) -> Result<bool, EngineError> {
    let range = keys::free_uploads();
    view.scan(&range.from, &range.to)
        .next()
        .transpose()
        .map(|row| row.is_some())
}

/// Bytes that the state names: this node should have them, and nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Named {
    /// Whatever was written under an open stage.
    Stage(VShard, StageId),
    /// Chunks of a version, part or intent.
    Chunks(ChunkRun),
    /// Inline bytes of a version, part or intent.
    Payload(PayloadId),
    /// Chunks on the free list: kept until their release, but not fetched when they are missing.
    Free(ChunkRun),
    /// Inline bytes on the free list.
    FreePayload(PayloadId),
}

/// Tells everything that a vshard's rows name. A payload in several pieces is told more than once.
pub fn named_by_vshard(
    view: &dyn View,
    vshard: VShard,
    tell: &mut dyn FnMut(Named),
) -> Result<(), EngineError> {
    let range = keys::all_of_vshard(vshard);
    for found in view.scan(&range.from, &range.to) {
        let (key, row) = found?;
        if keys::parse_current(&key).is_some() {
            let current: row::Current = decode(&key, row)?;
            let intended = current.intent.and_then(|intent| match intent.write {
                Some(row::intent::Write::Put(version)) => Some(version),
                _ => None,
            });
            for version in current.version.into_iter().chain(intended) {
                tell_content(&key, version.content, tell)?;
            }
        } else if keys::parse_older(&key).is_some() {
            let version: row::Version = decode(&key, row)?;
            tell_content(&key, version.content, tell)?;
        } else if keys::parse_part(&key).is_some() {
            let part: row::Part = decode(&key, row)?;
            tell_content(&key, part.content, tell)?;
        } else if let Some(stage) = keys::parse_stage(&key) {
            tell(Named::Stage(vshard, stage));
        }
    }
    Ok(())
}

/// Tells everything that the free list names.
pub fn named_by_free_list(view: &dyn View, tell: &mut dyn FnMut(Named)) -> Result<(), EngineError> {
    for item in free_list(view, 0) {
        match item?.content {
            Content::Chunks(run) => tell(Named::Free(run)),
            Content::Inline { payload, .. } => tell(Named::FreePayload(payload)),
            Content::Empty | Content::Upload { .. } => {}
        }
    }
    Ok(())
}

fn tell_content(
    key: &[u8],
    content: Option<row::Content>,
    tell: &mut dyn FnMut(Named),
) -> Result<(), EngineError> {
    match content.and_then(|content| content.kind) {
        Some(row::content::Kind::Chunks(run)) => {
            tell(Named::Chunks(sound(key, ChunkRun::of_row(&run))?))
        }
        Some(row::content::Kind::Payload(piece)) => {
            tell(Named::Payload(sound(key, payload_of_row(&piece))?))
        }
        // Its part rows tell.
        Some(row::content::Kind::Upload(_)) | None => {}
    }
    Ok(())
}
