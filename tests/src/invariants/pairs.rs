//! A transaction is all or nothing: keys that are only ever written together hold the same.

use std::collections::BTreeMap;

use crate::cluster::clients::PAIRS;
use crate::cluster::history::Value;

/// Looks at what a node shows when nobody writes any more.
pub fn check(node: u64, found: &BTreeMap<u64, Option<Value>>) -> Vec<String> {
    let first = found
        .iter()
        .filter(|(key, _)| **key >= PAIRS && (**key - PAIRS).is_multiple_of(2));
    let torn = first.filter_map(|(key, value)| {
        let other = found.get(&(key + 1))?;
        (value != other).then(|| {
            format!("node {node}: keys {key} and {} were written together and hold {value:?} and {other:?}", key + 1)
        })
    });
    torn.collect()
}
