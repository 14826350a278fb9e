//! A command as bytes, ready to be proposed.

use bytes::{Bytes, BytesMut};
use minikv_proto::entry as wire;
use prost::Message;

use super::raft_types::Command;
use crate::env::clock;
use crate::kv::KvError;
use crate::state::entry::{Body, Entry};

/// No entry is longer (CORE 2): a vote never waits behind bulk.
const MAX_ENTRY: usize = 1 << 20;

/// An entry that is not bound to a session or a moment yet.
pub(crate) struct Proposal<'a> {
    entry: Entry,
    payload: &'a [u8],
}

impl<'a> Proposal<'a> {
    pub(crate) fn new(body: Body, payload: &'a [u8]) -> Result<Proposal<'a>, KvError> {
        let entry = Entry {
            now_ms: 0,
            command: None,
            payload_len: 0,
            body: Some(body),
        };
        Proposal::of_entry(entry, payload)
    }

    /// An entry that somebody else made.
    pub(crate) fn of_entry(mut entry: Entry, payload: &'a [u8]) -> Result<Proposal<'a>, KvError> {
        let len = entry.encoded_len() + payload.len() + 64;
        if len > MAX_ENTRY {
            return Err(KvError::Refused(crate::kv::Refusal::Unsupported(format!(
                "a command of {len} bytes (at most {MAX_ENTRY})"
            ))));
        }
        entry.payload_len = payload.len() as u32;
        Ok(Proposal { entry, payload })
    }

    /// About how many bytes of log it takes.
    pub(crate) fn len(&self) -> usize {
        self.entry.encoded_len() + self.payload.len() + 128
    }

    /// Stamped with the leader's time (ours: we propose it), bound to a place in a session or to none.
    pub(crate) fn stamp(&mut self, command: Option<wire::Command>) -> Command {
        self.entry.now_ms = clock::wall_ms();
        self.entry.command = command;
        let len = self.entry.encoded_len();
        let room = prost::length_delimiter_len(len) + len + self.payload.len();
        let mut bytes = BytesMut::with_capacity(room);
        // Encoding into a buffer that grows cannot fail.
        let _ = prost::encode_length_delimiter(len, &mut bytes);
        self.entry.encode_raw(&mut bytes);
        bytes.extend_from_slice(self.payload);
        assert_eq!(
            bytes.len(),
            room,
            "an entry was encoded to another length than it said"
        );
        Command {
            bytes: Bytes::from(bytes),
            payload_len: self.entry.payload_len,
        }
    }
}
