//! Damage: bytes that were durable and do not verify any more, and whom that hurts.
//!
//! Always true:
//! * damage is never taken for the end of the log, and never for "absent";
//! * its scope is the smallest one that is certain.

use std::fmt;

use super::entry::LogState;
use super::place::{Item, Position, Stream};
use crate::ids::GroupId;

/// Whom a damaged spot hurts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Nobody: what it said is known from elsewhere, or does not matter any more.
    Nobody,
    /// This copy of an item.
    Item(Item),
    /// Items of the blob stream that nobody can name: their chunks will be found missing.
    SomeItems,
    /// An entry of a group, with its payload.
    Entry {
        /// The group.
        group: GroupId,
        /// The entry's index.
        index: u64,
        /// Its term, if that is known.
        term: Option<u64>,
    },
    /// A group's vote; harmless if a later one is there.
    Vote(GroupId),
    /// What the group's newest entries are, is not certain here.
    Tail(GroupId),
    /// Every group of this node, as far as nothing later tells what became of it.
    AllGroups,
}

/// A damaged spot that recovery met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Where.
    pub stream: Stream,
    /// Where.
    pub position: Position,
    /// Whom it hurts.
    pub scope: Scope,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.stream, self.position, self.what)
    }
}

/// The torn tail that recovery cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Where the log goes on.
    pub stream: Stream,
    /// Where the log goes on.
    pub position: Position,
    /// How many bytes before it were written again, because they may only have been in the page cache.
    pub rewritten: u64,
    /// Whether anything unreadable or unfinished was there.
    pub torn: bool,
}

/// What recovery found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The groups that have something here, and what.
    pub groups: Vec<(GroupId, LogState)>,
    /// Damaged spots, in the order of the streams. `Log::hurt` tells which still matter to a group.
    pub damage: Vec<Damage>,
    /// How each stream ended.
    pub cuts: Vec<Cut>,
    /// Payloads of entries that a truncation dropped, where they lay. A table that was written before it may still have them:
    /// forgetting comes after the truncation, and a crash between the two takes it.
    pub truncated: Vec<Seen>,
    /// Bytes that were looked through.
    pub scanned: u64,
}

/// An item that recovery met on its way, and its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The item.
    pub item: Item,
    /// Where it lies.
    pub place: super::Place,
}
