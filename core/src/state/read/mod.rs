//! Typed looks at a view: what readers, leaders and sweepers ask of a group's state.
//!
//! Always true:
//! * what cannot be decoded is damage, never "absent";
//! * a key under an undecided intent is not answered: the caller asks the coordinator and looks again.

mod aging;
mod directory;
mod group;
mod named;
mod object;
mod upload;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

pub use aging::*;
pub use directory::*;
pub use group::*;
pub use named::*;
pub use object::version;
pub(in crate::state) use object::{Visible, version_of_row, visible};
pub use upload::*;

use crate::engine::{EngineError, View};
use crate::ids::TxnId;
use crate::state::intent::{TxnRef, TxnState};
use crate::state::keys::KeyRange;
use crate::state::ledger::{damaged, decode};
use crate::state::record::Malformed;

/// What coordinators said of the transactions that a reader met. "No record" is not in here: then the reader looks at
/// the key again, and if the intent is still there has the abort agreed.
pub type Decided = BTreeMap<TxnId, TxnState>;

/// A look at something that a transaction may be about to change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Look<T> {
    /// This is there.
    At(T),
    /// Ask these transactions' coordinators, then look again with what they said.
    Ask(Vec<TxnRef>),
}

fn row<M: Message + Default>(view: &dyn View, key: &Bytes) -> Result<Option<M>, EngineError> {
    view.get(key)?.map(|row| decode(key, row)).transpose()
}

fn sound<T>(key: &[u8], parsed: Result<T, Malformed>) -> Result<T, EngineError> {
    parsed.map_err(|malformed| damaged(key, malformed.0))
}

/// Rows of a range, read back from key and message.
fn rows<'a, M: Message + Default, T: 'a>(
    view: &'a dyn View,
    range: KeyRange,
    make: impl Fn(&Bytes, M) -> Option<T> + 'a,
) -> impl Iterator<Item = Result<T, EngineError>> + 'a {
    view.scan(&range.from, &range.to).map(move |found| {
        let (key, row) = found?;
        let message = decode(&key, row)?;
        make(&key, message).ok_or_else(|| damaged(&key, "a row that makes no sense"))
    })
}
