//! The digest of a state: equal states have equal ones, whatever engine holds them.
//!
//! It is the sum mod 2^128 of a hash of every live row. Apply keeps it (it knows each row before and after), a scan
//! computes it anew. Order, tombstones and run boundaries do not enter, so replicas can be compared at an index.

use xxhash_rust::xxh3::Xxh3;

use crate::engine::{EngineError, View};
use crate::state::keys;

/// The share of one row.
pub fn of_row(key: &[u8], row: &[u8]) -> u128 {
    let mut hasher = Xxh3::new();
    // The length keeps (key, row) apart from (longer key, shorter row).
    hasher.update(&(key.len() as u32).to_le_bytes());
    hasher.update(key);
    hasher.update(row);
    hasher.digest128()
}

/// The digest of everything in a view.
pub fn of_view(view: &dyn View) -> Result<u128, EngineError> {
    let all = keys::everything();
    let mut sum = 0u128;
    for row in view.scan(&all.from, &all.to) {
        let (key, row) = row?;
        sum = sum.wrapping_add(of_row(&key, &row));
    }
    Ok(sum)
}
