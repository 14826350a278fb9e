//! What a request is called in answers and logs.
//!
//! Always true: ids of one process are distinct for 2^64 requests, and those of two processes begin at random places.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use minikv_core::env::random;

/// `x-amz-request-id`: 16 upper-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestId(u64);

static COUNTER: AtomicU64 = AtomicU64::new(0);
static START: OnceLock<(u64, u64)> = OnceLock::new();

fn start() -> (u64, u64) {
    *START.get_or_init(|| (random::u64(), random::u64()))
}

impl RequestId {
    /// A new one: a counter, mixed so that it does not look like one.
    pub fn next() -> RequestId {
        let number = COUNTER
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(start().0);
        // The finaliser of splitmix64, a bijection: distinct in, distinct out.
        let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        RequestId(mixed ^ (mixed >> 31))
    }

    /// `x-amz-id-2`: names the process too.
    pub fn host_id(self) -> String {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&start().1.to_be_bytes());
        bytes[8..16].copy_from_slice(&start().0.to_be_bytes());
        bytes[16..].copy_from_slice(&self.0.to_be_bytes());
        BASE64.encode(bytes)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_16_upper_case_hex_digits_and_distinct() {
        let ids: std::collections::BTreeSet<String> =
            (0..1_000).map(|_| RequestId::next().to_string()).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| {
            id.len() == 16
                && id
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
        }));
    }
}
