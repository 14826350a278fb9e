//! Entries as bytes, and the commands in them.
//!
//! ```text
//!   | length | Entry (protobuf), payload_len in it | payload_len raw bytes |
//! ```
//! The payload is raw and last, so that a place in the log can name it and a read takes it from there.
//! Build an entry as `minikv_proto::entry::Entry`; the conversions here make its parts from what `kv` speaks.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use prost::Message;

use minikv_proto::entry as wire;
pub use minikv_proto::entry::{Entry, entry::Body};

use crate::kv::{Conditions, NewVersion, Staged};
use crate::state::record::Malformed;

/// An entry taken apart.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What was agreed on.
    pub entry: Entry,
    /// Where the inline payload lies within the entry's bytes; may be empty.
    pub payload: Range<u32>,
}

/// The bytes of an entry. Sets `payload_len`.
pub fn encode(mut entry: Entry, payload: &[u8]) -> Bytes {
    entry.payload_len = u32::try_from(payload.len()).expect("an entry is at most 1 MiB");
    let len = entry.encoded_len();
    let mut bytes = BytesMut::with_capacity(prost::length_delimiter_len(len) + len + payload.len());
    entry
        .encode_length_delimited(&mut bytes)
        .expect("the buffer grows");
    bytes.extend_from_slice(payload);
    bytes.freeze()
}

/// Takes the bytes of an entry apart.
pub fn decode(bytes: &Bytes) -> Result<Frame, Malformed> {
    let mut rest = bytes.clone();
    let entry = Entry::decode_length_delimited(&mut rest).map_err(|_| Malformed("entry"))?;
    if rest.len() != entry.payload_len as usize {
        return Err(Malformed("payload length of an entry"));
    }
    let end = u32::try_from(bytes.len()).map_err(|_| Malformed("length of an entry"))?;
    Ok(Frame {
        payload: end - entry.payload_len..end,
        entry,
    })
}

/// Conditions for an entry; none for none.
pub fn conditions(conditions: &Conditions) -> Option<wire::Conditions> {
    let etags = |list: &Option<Vec<String>>| list.clone().map(|etags| wire::EtagList { etags });
    (conditions != &Conditions::default()).then(|| wire::Conditions {
        if_match: etags(&conditions.if_match),
        if_none_match: etags(&conditions.if_none_match),
        if_match_size: conditions.if_match_size,
        if_match_modified_ms: conditions.if_match_modified_ms,
    })
}

/// What a gateway says of a new version, for an entry.
pub fn new_version(version: &NewVersion) -> Option<wire::NewVersion> {
    Some(wire::NewVersion {
        etag: version.etag.clone(),
        size: version.size,
        meta: version.meta.clone(),
        tags: version.tags.clone(),
        lock: version.lock.to_row(),
    })
}

/// The content that is the whole payload of the entry; none when it is empty.
pub fn inline(payload: &[u8]) -> Option<wire::NewContent> {
    let len = u32::try_from(payload.len()).expect("an entry is at most 1 MiB");
    let inline = wire::Inline {
        offset: 0,
        len,
        crc64: crc64(payload),
    };
    (len > 0).then_some(wire::NewContent {
        kind: Some(wire::new_content::Kind::Inline(inline)),
    })
}

/// A stage's chunks, and who fsynced them.
pub fn staged(staged: &Staged) -> Option<wire::NewContent> {
    let run = &staged.run;
    let copies = staged.copies.iter().map(|copies| wire::Copies {
        first: copies.first,
        count: copies.count,
        nodes: copies.holders.keys().copied().collect(),
        lives: copies.holders.values().copied().collect(),
    });
    let staged = wire::Staged {
        stage: Some(staged.stage.to_row()),
        count: run.count,
        chunk_size: run.chunk_size,
        len: run.len,
        copies: copies.collect(),
    };
    Some(wire::NewContent {
        kind: Some(wire::new_content::Kind::Staged(staged)),
    })
}

/// The end-to-end checksum of inline content: CRC64NVME.
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}
