//! Bytes that this node lacks, from members that have them.
//!
//! Always true:
//! * who answers has read and verified the bytes from its own disk; who asked verifies them again before anybody sees them;
//! * a node answers for what lies on its disk only: it asks nobody else, so questions never go in circles;
//! * who did not answer lately is asked last: one that is dead costs a reader one wait, not one for every frame.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use minikv_proto::peer::{self, ask, reply};
use minikv_proto::row;
use parking_lot::Mutex;

use super::receive::{name_of, named};
use super::store::ReadFault;
use crate::env::clock::{self, Instant};
use crate::group::Group;
use crate::ids::{ChunkId, NodeId, PayloadId};
use crate::kv::KvError;
use crate::log::Item;
use crate::state::entry::crc64;
use crate::state::read;
use crate::state::record::payload_of_row;

/// How long one member may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// For so long one that did not answer is asked last.
const SILENCE: Duration = Duration::from_secs(10);

/// Who did not answer lately, and when.
#[derive(Debug, Default)]
pub(crate) struct Silent(Mutex<BTreeMap<NodeId, Instant>>);

impl Silent {
    /// Those who did not answer come last, the others in their order.
    fn put_last(&self, nodes: &mut [NodeId]) {
        let mut silent = self.0.lock();
        silent.retain(|_, since| since.elapsed() < SILENCE);
        if !silent.is_empty() {
            nodes.sort_by_key(|node| silent.contains_key(node));
        }
    }

    fn note(&self, node: NodeId, has_answered: bool) {
        let mut silent = self.0.lock();
        match has_answered {
            true => _ = silent.remove(&node),
            false => _ = silent.insert(node, clock::now()),
        }
    }
}

/// The other nodes that may have chunks of this group.
fn others(group: &Group) -> Result<Vec<NodeId>, NotFetched> {
    if let Some(way) = &group.elsewhere {
        return Ok(way.nodes(group.id));
    }
    // Who cannot be read may be somebody who has them.
    let members = read::members(&*group.replica.view()).map_err(|_| NotFetched::NotAnswered)?;
    let nodes = members.into_iter().map(|member| NodeId(member.node));
    Ok(nodes.filter(|node| *node != group.replica.node).collect())
}

/// Why bytes did not come from another member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotFetched {
    /// All others said that they do not have them.
    NobodyHasThem,
    /// Somebody who may have them did not answer.
    NotAnswered,
}

/// Asks one after the other. `first` decides with whom to begin, so that not all ask the same one.
async fn from_any(
    group: &Group,
    first: u64,
    what: ask::What,
    len: Option<usize>,
) -> Result<Bytes, NotFetched> {
    let peers = group.peers.as_ref();
    let peers = peers.ok_or(NotFetched::NobodyHasThem)?;
    let mut nodes = others(group)?;
    let first = first % nodes.len().max(1) as u64;
    nodes.rotate_left(first as usize);
    group.silent.put_last(&mut nodes);
    let mut why = NotFetched::NobodyHasThem;
    for node in nodes {
        let said = peers.ask(node, group.id, what.clone(), PATIENCE).await;
        group.silent.note(node, said.is_ok());
        let Ok(reply::What::Fetched(fetched)) = said else {
            why = NotFetched::NotAnswered;
            continue;
        };
        match fetched.bytes {
            Some(bytes)
                if len.is_none_or(|len| bytes.len() == len) && crc64(&bytes) == fetched.crc64 =>
            {
                return Ok(bytes);
            }
            Some(_) => {
                tracing::error!(group = %group.id, from = node.0, "fetched bytes do not verify");
            }
            None => {}
        }
    }
    Err(why)
}

/// A frame from another member.
pub(crate) async fn frame(
    group: &Group,
    chunk: &ChunkId,
    frame: u32,
    len: usize,
) -> Result<Bytes, NotFetched> {
    let name = name_of(chunk, frame);
    let what = ask::What::FetchFrame(peer::FetchFrame { name: Some(name) });
    let first = chunk.stage.index + u64::from(chunk.ordinal);
    from_any(group, first, what, Some(len)).await
}

/// An inline content from another member, checked end to end.
pub(crate) async fn inline(
    group: &Group,
    payload: PayloadId,
    offset: u32,
    len: u32,
    checksum: u64,
) -> Result<Bytes, NotFetched> {
    let piece = row::Payload {
        group: u32::from(payload.group.0),
        index: payload.index,
        term: payload.term,
        offset,
        len,
        crc64: checksum,
    };
    let what = ask::What::FetchPayload(peer::FetchPayload {
        piece: Some(piece),
        whole: false,
    });
    let bytes = from_any(group, payload.index, what, Some(len as usize)).await?;
    match crc64(&bytes) == checksum {
        true => Ok(bytes),
        false => Err(NotFetched::NobodyHasThem),
    }
}

/// All of a payload (of so many bytes, if that is known) from another member, whoever's contents are in it.
pub(crate) async fn payload(
    group: &Group,
    payload: PayloadId,
    len: Option<usize>,
) -> Result<Bytes, NotFetched> {
    let piece = row::Payload {
        group: u32::from(payload.group.0),
        index: payload.index,
        term: payload.term,
        len: len.unwrap_or_default() as u32,
        ..row::Payload::default()
    };
    let what = ask::What::FetchPayload(peer::FetchPayload {
        piece: Some(piece),
        whole: true,
    });
    from_any(group, payload.index, what, len).await
}

/// What a member that asks for a frame is told.
pub(crate) async fn frame_for_peer(
    group: &Group,
    asked: peer::FetchFrame,
) -> Result<peer::Fetched, String> {
    let Ok((chunk, frame)) = named(asked.name.as_ref()) else {
        return Ok(peer::Fetched::default());
    };
    #[cfg(feature = "planted")]
    if crate::planted!("repaired-bytes-not-verified") {
        let store = &group.replica.store;
        let place = store.places.get(&Item::Frame { chunk, frame });
        if let Ok(Some(place)) = place
            && let Ok(bytes) = store.log.read_unverified(place).await
        {
            return told(group, Item::Frame { chunk, frame }, Ok(bytes));
        }
    }
    let item = Item::Frame { chunk, frame };
    told(group, item, group.replica.store.read_item(item).await)
}

/// What a member that asks for a piece of a payload is told.
pub(crate) async fn payload_for_peer(
    group: &Group,
    asked: peer::FetchPayload,
) -> Result<peer::Fetched, String> {
    let Some(piece) = asked.piece else {
        return Ok(peer::Fetched::default());
    };
    let Ok(payload) = payload_of_row(&piece) else {
        return Ok(peer::Fetched::default());
    };
    let (store, item) = (&group.replica.store, Item::Payload(payload));
    if asked.whole {
        return told(group, item, store.read_item(item).await);
    }
    let read = store.read_inline(payload, piece.offset, piece.len, piece.crc64);
    told(group, item, read.await)
}

/// The bytes; or that they are not here, or bad; or, as an error, that this cannot be said now.
fn told(
    group: &Group,
    item: Item,
    read: Result<Bytes, ReadFault>,
) -> Result<peer::Fetched, String> {
    match read {
        Ok(bytes) => Ok(peer::Fetched {
            crc64: crc64(&bytes),
            bytes: Some(bytes),
        }),
        Err(fault @ (ReadFault::Absent(_) | ReadFault::Other(KvError::Damaged(_)))) => {
            tracing::debug!(?fault, "asked for bytes that are not here");
            if matches!(fault, ReadFault::Other(_)) {
                group.replica.wants.add_bad_item(item);
            }
            Ok(peer::Fetched::default())
        }
        Err(ReadFault::Other(error)) => Err(error.to_string()),
    }
}
