//! Applying an agreed entry: a pure function of the state and the entry. This is its table of contents.
//!
//! ```text
//!   known to its session?  -->  the rules of its kind  -->  usage booked  -->  result kept
//! ```
//! Always true:
//! * same state, same entry: same changes, same answer, byte for byte;
//! * an answer to try again comes with no change at all; a refusal changes only its session and the stage it claimed;
//! * at most 1,000 engine operations: bulk work goes on in further entries.
//!
//! Elsewhere: what rules work with (`applying`), what they read and write (`ledger`).

use bytes::Bytes;

use crate::engine::{EngineError, View};
use crate::ids::{GroupId, PayloadId, StageId, VShard};
use crate::state::answer::{Answer, Done};
use crate::state::applying::{Applying, Stop, unsupported};
use crate::state::entry::{Body, Entry};
use crate::state::record::ChunkRun;
use crate::state::session::Admission;

/// Engine operations of one entry at most.
pub const MAX_OPERATIONS: u32 = 1000;

/// Where in which log the entry lies. Its incarnation is a row of the state.
#[derive(Clone, Copy, Debug)]
pub struct GroupContext {
    /// The group.
    pub id: GroupId,
    /// Log index of the entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// What an entry did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// Key and new row, ascending by key; `None` deletes.
    pub changes: Vec<(Bytes, Option<Bytes>)>,
    /// For whoever proposed it.
    pub answer: Answer,
    /// Bytes that no row names any more: this node may let go of them once the changes are in the engine.
    pub dropped: Vec<Dropped>,
    /// Chunks that rows name from now on: this node looks for its copies and fetches what is missing.
    pub claimed: Vec<ChunkRun>,
    /// What to add (mod 2^128) to the state's digest.
    pub digest: u128,
    /// Reads and writes of rows.
    pub operations: u32,
}

/// Bytes that nothing names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// The payload of an entry (often this very entry's, when it was refused).
    Payload(PayloadId),
    /// A released run of chunks.
    Chunks(ChunkRun),
    /// Whatever was written under a stage that ended without a claim.
    Stage(VShard, StageId),
}

/// Why an entry could not be applied: the group stops on this node, it never guesses.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApplyError {
    /// A row could not be read.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The entry is of a kind that this build does not know: it is never skipped.
    #[error("entry {index} is of a kind this build does not know")]
    UnknownEntry {
        /// Its index.
        index: u64,
    },
}

/// Applies one entry.
pub fn apply(view: &dyn View, group: &GroupContext, entry: &Entry) -> Result<Applied, ApplyError> {
    let body = entry
        .body
        .as_ref()
        .ok_or(ApplyError::UnknownEntry { index: group.index })?;
    let mut applying = Applying::new(view, group, entry);
    match decide(&mut applying, entry, body) {
        Ok(answer) => Ok(applying.finish(answer)),
        Err(Stop::TryAgain(again)) => {
            applying.undo();
            Ok(applying.finish(Answer::TryAgain(again)))
        }
        Err(Stop::Engine(error)) => Err(error.into()),
        // `decide` makes answers of refusals; one from here is a refusal of its clean-up.
        Err(Stop::Refused(refusal)) => {
            applying.undo();
            Ok(applying.finish(Answer::Refused(refusal)))
        }
    }
}

fn decide(applying: &mut Applying, entry: &Entry, body: &Body) -> Result<Answer, Stop> {
    let session = match &entry.command {
        None => None,
        Some(command) => match applying.admit_command(command)? {
            Admission::Known(answer) => return Ok(answer),
            Admission::Not(again) => return Err(again.into()),
            Admission::New(session) => Some((command, session)),
        },
    };
    let answer = match follow(applying, body).and_then(|done| applying.book().map(|()| done)) {
        Ok(done) => Answer::Done(done),
        Err(Stop::Refused(refusal)) => {
            applying.undo();
            end_refused_stages(applying, body)?;
            applying.book()?;
            Answer::Refused(refusal)
        }
        Err(stop) => return Err(stop),
    };
    if let Some((command, session)) = session {
        applying.keep_result(command, session, &answer)?;
    }
    Ok(answer)
}

/// The rules of each kind of entry.
fn follow(applying: &mut Applying, body: &Body) -> Result<Done, Stop> {
    let nothing = |()| Done::Nothing;
    match body {
        Body::FormGroup(form) => applying.form_group(form),
        Body::RaiseIncarnation(raise) => applying.raise_incarnation(raise),
        Body::OpenSession(open) => applying.open_session(open),
        Body::EndSessions(end) => applying.end_sessions(end),

        Body::Put(put) => applying.put(put),
        Body::OpenStage(open) => applying.open_stage(open),
        Body::ExtendStage(extend) => applying.extend_stage(extend),
        Body::Abandon(abandon) => applying.abandon(abandon),
        Body::Delete(delete) => applying.delete(delete),
        Body::DeleteVersion(delete) => applying.delete_version(delete),
        Body::Copy(copy) => applying.copy(copy),
        Body::SetTags(set) => applying.set_tags(set),
        Body::SetLock(set) => applying.set_lock(set),

        Body::CreateUpload(create) => applying.create_upload(create),
        Body::ClaimPart(claim) => applying.claim_part(claim),
        Body::CompleteUpload(complete) => applying.complete_upload(complete),
        Body::AbortUpload(abort) => applying.abort_upload(abort),
        Body::ExpireUploads(expire) => applying.expire_uploads(expire),

        Body::Release(release) => applying.release(release),
        Body::AdvanceFree(_) => applying.advance_free(),
        Body::Expire(expire) => applying.expire(expire),
        Body::SetFacts(set) => applying.set_facts(set),

        Body::Transact(transact) => applying.transact(transact),
        Body::Pending(pending) => applying.pending(pending),
        Body::Prepare(prepare) => applying.prepare(prepare),
        Body::Commit(commit) => applying.commit(commit),
        Body::Aborted(aborted) => applying.aborted(aborted),
        Body::Finish(finish) => applying.finish_txn(finish),
        Body::DropTxn(drop) => applying.drop_txn(drop),

        Body::Learner(learner) => applying.learner(learner).map(nothing),
        Body::Admit(admit) => applying.admit(admit).map(nothing),
        Body::Retired(retired) => applying.retired(retired).map(nothing),
        Body::CancelAdmit(cancel) => applying.cancel_admit(cancel).map(nothing),
        Body::ShortDone(done) => applying.short_done(done).map(nothing),

        Body::SetLimited(set) => applying.set_limited(set),
        Body::Debit(debit) => applying.debit(debit),
        Body::Credit(credit) => applying.credit(credit),
        Body::Arrived(arrived) => applying.arrived(arrived),
        Body::SetLimit(set) => applying.set_limit(set),

        // The checks (epochs, `Moved`) are in every command; the way to move one is not there yet.
        Body::FreezeVshard(_) | Body::AdoptVshard(_) | Body::DropVshard(_) => {
            Err(unsupported("moving a vshard"))
        }

        Body::FoundCluster(found) => applying.found_cluster(found),
        Body::CreateBucket(create) => applying.create_bucket(create),
        Body::ChangeBucket(change) => applying.change_bucket(change),
        Body::FactsConfirmed(confirmed) => applying.facts_confirmed(confirmed),
        Body::PutTenant(put) => applying.put_tenant(put),
        Body::PutOpaque(put) => applying.put_opaque(put),
        Body::PutCredential(put) => applying.put_credential(put),
        Body::PutNode(put) => applying.put_node(put),
        Body::PutPlacement(put) => applying.put_placement(put),
        Body::PutVshardHome(put) => applying.put_vshard_home(put),
        Body::JoinNode(join) => applying.join_node(join),
        Body::SetNodeState(set) => applying.set_node_state(set),
    }
}

/// A final refusal of a claim frees its stage, in the same entry. (Nobody would claim it again.)
fn end_refused_stages(applying: &mut Applying, body: &Body) -> Result<(), Stop> {
    match body {
        Body::Put(put) => applying.end_refused(put.target.as_ref(), put.content.as_ref()),
        Body::ClaimPart(claim) => {
            applying.end_refused(claim.target.as_ref(), claim.content.as_ref())
        }
        Body::Transact(transact) => {
            for write in transact.part.iter().flat_map(|part| &part.writes) {
                if let Some(minikv_proto::entry::write::Kind::Put(put)) = &write.kind {
                    applying.end_refused(write.target.as_ref(), put.content.as_ref())?;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
