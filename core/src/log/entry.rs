//! What a group sees of its log: entries, and the state of the whole.

use bytes::Bytes;

use super::record::LogId;

/// An entry of a group's log, as the group sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    /// Its name.
    pub id: LogId,
    /// The whole entry: first what the group must understand, then the inline payload.
    pub bytes: Bytes,
    /// Length of the inline payload: the last so many of `bytes`.
    pub payload_len: u32,
    /// The payload does not verify. Only given to who asked for `Want::Heads`; must not be sent to anybody.
    pub payload_damaged: bool,
}

/// What a reader of entries needs of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// All of it: to send it to a peer.
    Whole,
    /// The head is enough: to apply it, which does not look at the payload. One object is then damaged, not the group.
    Heads,
}

impl LogEntry {
    /// What the group must understand.
    pub fn head(&self) -> Bytes {
        self.bytes
            .slice(..self.bytes.len() - self.payload_len as usize)
    }

    /// The inline payload.
    pub fn payload(&self) -> Bytes {
        self.bytes
            .slice(self.bytes.len() - self.payload_len as usize..)
    }
}

/// What a group's log holds, for an openraft adapter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogState {
    /// The vote saved last, opaque.
    pub vote: Option<Bytes>,
    /// Entries up to here are gone.
    pub purged: Option<LogId>,
    /// The newest entry; the purge point if there is none.
    pub last: Option<LogId>,
}

/// What damage did to a group, until it is mended. A hurt group must not vote here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hurt {
    /// The newest vote is lost: voting again could be voting twice.
    pub vote_lost: bool,
    /// A truncation, or something unknown, is lost: the newest entries may be others than those acknowledged.
    pub tail_lost: bool,
    /// Unpurged entries of which more than the payload does not verify, ascending.
    pub entries: Vec<u64>,
    /// Unpurged entries of which only the payload does not verify, ascending.
    pub payloads: Vec<u64>,
}

impl Hurt {
    /// Nothing is lost.
    pub fn is_whole(&self) -> bool {
        *self == Hurt::default()
    }
}
