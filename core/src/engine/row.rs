//! A row in memory: key and value, or a tombstone, in one allocation.

use std::sync::Arc;

/// What the allocator and the counters of an `Arc` cost per row, beside its bytes.
const ROW_COST: usize = 16 + 8;
/// Bit of the length word that marks a tombstone.
const TOMBSTONE: u32 = 1 << 31;
const WORD: usize = 4;

/// One row or tombstone: key and value in one allocation of their own (a slice of a request's buffer would pin it all).
#[derive(Clone)]
pub struct Row(Arc<[u8]>);

impl Row {
    /// Copies key and value; `None` makes a tombstone. `scratch` is only there to be reused.
    pub fn new(key: &[u8], value: Option<&[u8]>, scratch: &mut Vec<u8>) -> Row {
        assert!(
            key.len() < TOMBSTONE as usize,
            "a key of {} bytes",
            key.len()
        );
        scratch.clear();
        let mark = if value.is_some() { 0 } else { TOMBSTONE };
        scratch.extend_from_slice(&(key.len() as u32 | mark).to_ne_bytes());
        scratch.extend_from_slice(key);
        scratch.extend_from_slice(value.unwrap_or_default());
        Row(Arc::from(&scratch[..]))
    }

    fn word(&self) -> u32 {
        let mut word = [0; WORD];
        word.copy_from_slice(&self.0[..WORD]);
        u32::from_ne_bytes(word)
    }

    /// Its key.
    pub fn key(&self) -> &[u8] {
        &self.0[WORD..WORD + (self.word() & !TOMBSTONE) as usize]
    }

    /// Its value; `None` for a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        let word = self.word();
        (word & TOMBSTONE == 0).then(|| &self.0[WORD + word as usize..])
    }

    /// What it takes in memory.
    pub fn cost(&self) -> usize {
        self.0.len() + ROW_COST
    }
}

/// How many bytes two keys share at their beginning.
pub fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let mut shared = 0;
    for (x, y) in words {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return shared + differ.trailing_zeros() as usize / 8;
        }
        shared += 8;
    }
    let rest = a[shared..].iter().zip(&b[shared..]);
    shared + rest.take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shared_prefix_ends_where_two_keys_differ(
            a in proptest::collection::vec(0u8..2, 0..40), b in proptest::collection::vec(0u8..2, 0..40), cut in 0usize..40,
        ) {
            let b = [&a[..cut.min(a.len())], &b].concat();
            let shared = shared_prefix(&a, &b);
            prop_assert_eq!(&a[..shared], &b[..shared]);
            prop_assert!(a.len() == shared || b.len() == shared || a[shared] != b[shared]);
        }
    }
}
