//! Whether the bytes on this disk are those that the state names: for tests, and for whoever wants to be sure.
//!
//! Elsewhere: what brings the two together (`group::repair`, `group::sweep`).

use std::collections::{BTreeMap, BTreeSet};

use minikv_proto::row;

use super::running::Node;
use crate::chunk::frames::Cut;
use crate::chunk::store::items_of;
use crate::engine::{EngineError, digest};
use crate::group::Group;
use crate::group::read::unreadable;
use crate::ids::{GroupId, PayloadId, StageId};
use crate::kv::KvError;
use crate::log::Item;
use crate::state::read::{self, Named};
use crate::state::record::ChunkRun;

/// What the state of a group names.
#[derive(Default)]
struct Names {
    runs: BTreeMap<StageId, ChunkRun>,
    free: BTreeSet<StageId>,
    stages: BTreeSet<StageId>,
    payloads: BTreeSet<PayloadId>,
}

/// And what is unfinished. `gone`: members whose copies nobody waits for.
fn names(group: &Group, gone: &[u64]) -> Result<(Names, Vec<String>), EngineError> {
    let view = group.replica.view();
    let mut names = Names::default();
    let mut tell = |named| match named {
        Named::Chunks(run) => _ = names.runs.insert(run.stage, run),
        Named::Free(run) => _ = names.free.insert(run.stage),
        Named::Stage(_, stage) => _ = names.stages.insert(stage),
        Named::Payload(payload) | Named::FreePayload(payload) => {
            names.payloads.insert(payload);
        }
    };
    for owned in read::vshards(&*view)? {
        read::named_by_vshard(&*view, owned.vshard, &mut tell)?;
    }
    read::named_by_free_list(&*view, &mut tell)?;
    let mut short = 0;
    let mut missed: BTreeMap<u64, u64> = BTreeMap::new();
    for item in read::short_list(&*view) {
        let missing: BTreeSet<u64> = item?.2.missing.into_iter().collect();
        short += usize::from(missing.iter().any(|node| !gone.contains(node)));
        for node in missing {
            *missed.entry(node).or_default() += 1;
        }
    }
    let mut open = Vec::new();
    let counted = read::misses(&*view)?;
    if counted != missed {
        open.push(format!(
            "{}: the short list names nodes {missed:?} times, and {counted:?} is counted",
            group.id
        ));
    }
    for (what, count) in [
        ("open stages", names.stages.len()),
        ("items to be released", read::free_list(&*view, 0).count()),
        ("items on the short list", short),
        (
            "uploads or more to be given up",
            usize::from(read::has_free_uploads(&*view)?),
        ),
    ] {
        if count > 0 {
            open.push(format!("{}: {count} {what}", group.id));
        }
    }
    Ok((names, open))
}

fn gaps_of(group: &Group) -> Result<Vec<Item>, EngineError> {
    let (names, _) = names(group, &[])?;
    let view = group.replica.view();
    // Who does not count yet, or no more, may lack what it likes.
    let counts = |member: &row::Member| {
        member.node == group.replica.node.0 && member.role != row::MemberRole::Learner as i32
    };
    if !read::members(&*view)?.iter().any(counts) {
        return Ok(Vec::new());
    }
    let mut known: BTreeSet<(StageId, u32)> = BTreeSet::new();
    for item in read::short_list(&*view) {
        let (stage, first, short) = item?;
        if short.missing.contains(&group.replica.node.0) {
            known.extend((first..first + short.count).map(|chunk| (stage, chunk)));
        }
    }
    let mut gaps = Vec::new();
    for run in names.runs.values() {
        for item in group.replica.store.missing(run)? {
            let is_known = match &item {
                Item::Frame { chunk, .. } => known.contains(&(chunk.stage, chunk.ordinal)),
                Item::Payload(_) => true,
            };
            if !is_known {
                gaps.push(item);
            }
        }
    }
    Ok(gaps)
}

impl Node {
    /// Groups whose digest, kept by apply, is not that of the rows which are here. Reads all rows; while a group applies
    /// entries nothing is said of it.
    pub fn wrong_digests(&self) -> Result<Vec<String>, KvError> {
        let mut wrong = Vec::new();
        for group in self.router.groups.all() {
            let before = group.replica.applied_and_digest();
            let rows = digest::recompute(&*group.replica.view()).map_err(unreadable)?;
            if before == group.replica.applied_and_digest() && rows != before.1 {
                wrong.push(format!(
                    "{} at entry {}: its digest says {:032x}, its rows {rows:032x}",
                    group.id, before.0, before.1
                ));
            }
        }
        Ok(wrong)
    }

    /// What still has to happen before exactly the bytes that rows name lie here: stages that are open, items that wait for
    /// their release or for a copy, bytes that are missing, bytes that nobody names. Looks at places, reads no bytes.
    /// `gone`: nodes that do not come back; that they lack copies is no wonder.
    pub fn loose_bytes(&self, gone: &[u64]) -> Result<Vec<String>, KvError> {
        let segments = self.store.places.segments();
        let numbers = segments
            .iter()
            .map(|(stream, number, _)| (*stream, *number));
        let segments: Vec<_> = numbers.collect();
        let items = self.store.places.items_in(&segments).map_err(unreadable)?;
        let mut here: BTreeMap<GroupId, BTreeSet<Item>> = BTreeMap::new();
        for (item, _) in items.into_values().flatten() {
            here.entry(item.group()).or_default().insert(item);
        }
        let mut loose = Vec::new();
        for group in self.router.groups.data() {
            let (names, open) = names(&group, gone).map_err(unreadable)?;
            loose.extend(open);
            let here = here.remove(&group.id).unwrap_or_default();
            let named = names.runs.values().flat_map(items_of);
            let payloads = names.payloads.iter().map(|payload| Item::Payload(*payload));
            for item in named.chain(payloads) {
                if !here.contains(&item) {
                    loose.push(format!("{}: {item} is missing", group.id));
                }
            }
            for item in here {
                let is_named = match &item {
                    Item::Frame { chunk, .. } => {
                        let run = names.runs.get(&chunk.stage);
                        run.is_some_and(|run| chunk.ordinal < run.count)
                            || names.free.contains(&chunk.stage)
                            || names.stages.contains(&chunk.stage)
                    }
                    Item::Payload(payload) => names.payloads.contains(payload),
                };
                if !is_named {
                    loose.push(format!("{}: {item} is kept and nobody names it", group.id));
                }
            }
        }
        for item in here.into_values().flatten() {
            loose.push(format!("{item} is kept, and its group is not here"));
        }
        Ok(loose)
    }

    /// Frames that rows name, that have no place here, and of which the short list does not say so: there must be none at
    /// any moment. A group whose log goes on behind what is applied is not judged: what was dropped there may be gone. Nor one
    /// that came here again and has not caught up: its rows tell of this node as the member that it was.
    pub fn unknown_gaps(&self) -> Result<Vec<String>, KvError> {
        let mut gaps = Vec::new();
        for group in self.router.groups.data() {
            let last = group.log.log_state(group.id).last;
            let known = last.map_or(0, |at| at.index).max(group.floor());
            if group.replica.applied() < known {
                continue;
            }
            let found = gaps_of(&group).map_err(unreadable)?;
            gaps.extend(
                found
                    .into_iter()
                    .map(|item| format!("{}: {item}", group.id)),
            );
        }
        Ok(gaps)
    }

    /// Reads every chunk and payload that rows name from this disk, and asks nobody else: what does not verify.
    pub async fn bad_chunks(&self) -> Result<Vec<String>, KvError> {
        let mut bad = Vec::new();
        for group in self.router.groups.data() {
            let (names, _) = names(&group, &[]).map_err(unreadable)?;
            for payload in &names.payloads {
                if let Err(fault) = self.store.read_item(Item::Payload(*payload)).await {
                    bad.push(format!("{}: {fault:?}", group.id));
                }
            }
            for run in names.runs.values() {
                let Some(cut) = Cut::of(run.chunk_size) else {
                    bad.push(format!("{}: chunks of {} bytes", group.id, run.chunk_size));
                    continue;
                };
                for piece in cut.pieces_of_chunks(run.len, 0..run.count) {
                    let read = self.store.read_frame(run, piece.at, piece.frame_len);
                    if let Err(fault) = read.await {
                        bad.push(format!("{}: {fault:?}", group.id));
                    }
                }
            }
        }
        Ok(bad)
    }
}
