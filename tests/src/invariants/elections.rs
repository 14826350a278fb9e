//! Where nothing happens nobody is elected: the terms after a quiet run are those it began with.

use std::collections::BTreeMap;

/// The terms of the groups, before and after.
pub fn check(before: &BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>) -> Vec<String> {
    let changed = after.iter().filter_map(|(group, term)| {
        let was = before.get(group)?;
        (was != term)
            .then(|| format!("group {group}: elected anew without a reason, term {was} to {term}"))
    });
    changed.collect()
}
