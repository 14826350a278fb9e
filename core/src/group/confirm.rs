//! Whether this copy has all bytes that its state names: what a learner says before it counts, and what every member should
//! be able to say.
//!
//! Always true: what is said is true of one applied entry, and of all entries since then as far as the short list does not
//! say otherwise; the list names this node for whatever it did not acknowledge.

use std::collections::BTreeSet;

use minikv_proto::peer;

use super::Group;
use crate::engine::EngineError;
use crate::env::task;
use crate::ids::StageId;
use crate::log::Item;
use crate::state::read::{self, Named};

/// What rows name and has no place here; not what the short list says is missing. It ends early at `most`.
pub(crate) async fn gaps(group: &Group, most: usize) -> Result<Vec<Item>, EngineError> {
    let view = group.replica.view();
    let this = group.replica.node.0;
    let mut known: BTreeSet<(StageId, u32)> = BTreeSet::new();
    for item in read::short_list(&*view) {
        let (stage, first, short) = item?;
        if short.missing.contains(&this) {
            known.extend((first..first + short.count).map(|chunk| (stage, chunk)));
        }
    }
    let store = &group.replica.store;
    let mut gaps = Vec::new();
    for owned in read::vshards(&*view)? {
        let (mut runs, mut payloads) = (Vec::new(), Vec::new());
        read::named_by_vshard(&*view, owned.vshard, &mut |named| match named {
            Named::Chunks(run) => runs.push(run),
            Named::Payload(payload) => payloads.push(payload),
            Named::Stage(..) | Named::Free(_) | Named::FreePayload(_) => {}
        })?;
        for run in runs {
            let missing = store.missing(&run)?.into_iter();
            gaps.extend(missing.filter(|item| match item {
                Item::Frame { chunk, .. } => !known.contains(&(chunk.stage, chunk.ordinal)),
                Item::Payload(_) => true,
            }));
        }
        for payload in payloads.into_iter().map(Item::Payload) {
            if store.places.get(&payload)?.is_none() {
                gaps.push(payload);
            }
        }
        if gaps.len() >= most {
            break;
        }
        task::yield_now().await;
    }
    Ok(gaps)
}

/// What the leader is told.
pub(crate) async fn for_leader(group: &Group) -> Result<peer::Confirmed, String> {
    if group.floor() > 0 {
        return Ok(peer::Confirmed::default());
    }
    // Before the look: what it finds is of this entry or a later one.
    let applied = group.replica.applied();
    if crate::planted!("admit-without-confirmation") {
        return Ok(peer::Confirmed { index: applied });
    }
    let gaps = gaps(group, 1).await.map_err(|error| error.to_string())?;
    if let Some(gap) = gaps.first() {
        tracing::debug!(group = %group.id, %gap, "not everything is here yet");
        group.replica.wants.add_everything();
        return Ok(peer::Confirmed::default());
    }
    Ok(peer::Confirmed { index: applied })
}
