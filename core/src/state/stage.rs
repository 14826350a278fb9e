//! Stages: room is reserved and chunks may be written, nothing is visible. Claiming is in `placement`.
//!
//! Always true:
//! * a claim applies only to an open stage, so a late one dies without a tombstone;
//! * only a final refusal of its claim, an abandon, or the claim itself ends a stage.

use minikv_proto::{entry as wire, row};

use crate::ids::StageId;
use crate::kv::Refusal;
use crate::state::answer::Done;
use crate::state::applying::{Applying, Stop, unsupported};
use crate::state::conditions;
use crate::state::keys;
use crate::state::placement::stage_room;
use crate::state::put::MAX_SIZE;
use crate::state::record::{upload_name, vshard_of};
use crate::state::usage::Delta;

/// Most stages that one entry abandons.
const MAX_ABANDON: usize = 100;
/// Longest name of a principal.
const MAX_PRINCIPAL: usize = 1024;

impl Applying<'_> {
    pub fn open_stage(&mut self, open: &wire::OpenStage) -> Result<Done, Stop> {
        let place = self.place(open.target.as_ref())?;
        if open.principal.len() > MAX_PRINCIPAL || open.reserve > MAX_SIZE {
            return Err(unsupported("a stage of this size"));
        }
        if open.upload.is_empty() {
            // Early advice. An intent in the way may be gone when the claim decides.
            let current = self.current_row(&place)?;
            if current.intent.is_none() {
                conditions::check(open.conditions.as_ref(), current.version.as_ref())?;
            }
        } else {
            self.open_upload(&place, &upload_name(&open.upload)?)?;
        }
        let id = self.stage_id()?;
        let stage = row::Stage {
            bucket: place.bucket.0,
            key: place.key.clone(),
            principal: open.principal.clone(),
            reserved: open.reserve,
            upload: open.upload.clone(),
            opened_ms: self.now_ms,
            held_by: None,
        };
        self.charge(place.bucket, stage_room(&stage, 1))?;
        self.ledger
            .put_new_row(keys::stage(place.vshard, id), &stage)?;
        Ok(Done::Stage(id))
    }

    /// Raises the room of a stage whose length nobody declared. Never lowers it.
    pub fn extend_stage(&mut self, extend: &wire::ExtendStage) -> Result<Done, Stop> {
        let place = self.place(extend.target.as_ref())?;
        let id = StageId::of_row(extend.stage.as_ref())?;
        let key = keys::stage(place.vshard, id);
        let stage: Option<row::Stage> = self.ledger.row(&key)?;
        let mut stage = stage.ok_or(Refusal::StageGone)?;
        if stage.bucket != place.bucket.0 || stage.key != place.key || extend.reserve > MAX_SIZE {
            return Err(Refusal::StageGone.into());
        }
        if extend.reserve > stage.reserved {
            self.charge(
                place.bucket,
                Delta::reserve((extend.reserve - stage.reserved) as i64, 0),
            )?;
            stage.reserved = extend.reserve;
            self.ledger.put_row(key, &stage)?;
        }
        Ok(Done::Nothing)
    }

    pub fn abandon(&mut self, abandon: &wire::Abandon) -> Result<Done, Stop> {
        if abandon.stages.len() > MAX_ABANDON {
            return Err(unsupported("more than 100 stages in one entry"));
        }
        for at in &abandon.stages {
            let (vshard, id) = (vshard_of(at.vshard)?, StageId::of_row(at.stage.as_ref())?);
            let stage: Option<row::Stage> = self.ledger.row(&keys::stage(vshard, id))?;
            // A prepared transaction may still claim it: the decision ends it.
            if let Some(stage) = stage.filter(|stage| stage.held_by.is_none()) {
                self.end_stage((vshard, id), &stage)?;
            }
        }
        Ok(Done::Nothing)
    }

    /// A claim was refused for good: its stage ends with it. Somebody else's stage does not.
    pub fn end_refused(
        &mut self,
        target: Option<&wire::Target>,
        content: Option<&wire::NewContent>,
    ) -> Result<(), Stop> {
        use wire::new_content::Kind;
        let (Some(target), Some(Kind::Staged(staged))) =
            (target, content.and_then(|c| c.kind.as_ref()))
        else {
            return Ok(());
        };
        let Ok(id) = StageId::of_row(staged.stage.as_ref()) else {
            return Ok(());
        };
        let vshard = match self.locate(target) {
            Ok(vshard) => vshard,
            Err(Stop::Engine(error)) => return Err(error.into()),
            Err(_) => return Ok(()),
        };
        let stage: Option<row::Stage> = self.ledger.row(&keys::stage(vshard, id))?;
        let ours = |stage: &row::Stage| {
            stage.bucket == target.bucket && stage.key == target.key && stage.held_by.is_none()
        };
        match stage.filter(ours) {
            Some(stage) => self.end_stage((vshard, id), &stage),
            None => Ok(()),
        }
    }
}
