//! Continuation tokens: where a listing goes on.
//!
//! A token is the last name of a page under a keyed hash, so that nobody can make one up and read where a page did not
//! lead, and so that one is good only for the bucket, prefix and delimiter it was given out for.
//!
//! ```text
//!   base64url( 1 | first 16 bytes of HMAC-SHA256(key, purpose, bucket, prefix, delimiter, name) | name )
//! ```
//! Always true: a token that opens was sealed by a gateway of this cluster for this very listing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Seals and opens tokens; the same in every gateway of a cluster.
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

/// What a token belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    /// The kind of listing, so that tokens of one are no use in another.
    pub purpose: &'static str,
    /// Bucket id.
    pub bucket: u64,
    /// `prefix`.
    pub prefix: &'a str,
    /// `delimiter`.
    pub delimiter: &'a str,
}

const VERSION: u8 = 1;
const MAC_BYTES: usize = 16;

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    #[allow(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        // Lengths first: no two lists of parts run together into the same bytes.
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

impl TokenKey {
    /// Derived from a secret that all gateways of the cluster know.
    pub fn derive(secret: &[u8]) -> TokenKey {
        TokenKey(mac(secret, &[b"minikv continuation tokens"]))
    }

    fn tag(&self, listing: Listing<'_>, name: &[u8]) -> [u8; 32] {
        let bucket = listing.bucket.to_le_bytes();
        let parts = [
            listing.purpose.as_bytes(),
            &bucket,
            listing.prefix.as_bytes(),
            listing.delimiter.as_bytes(),
            name,
        ];
        mac(&self.0, &parts)
    }

    /// A token that goes on after `name`.
    pub fn seal(&self, listing: Listing<'_>, name: &[u8]) -> String {
        let mut bytes = Vec::with_capacity(1 + MAC_BYTES + name.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.tag(listing, name)[..MAC_BYTES]);
        bytes.extend_from_slice(name);
        BASE64URL.encode(bytes)
    }

    /// The name that a token of this listing goes on after.
    pub fn open(&self, listing: Listing<'_>, token: &str) -> Option<Vec<u8>> {
        let bytes = BASE64URL.decode(token).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (tag, name) = rest.split_at_checked(MAC_BYTES)?;
        let genuine = tag.ct_eq(&self.tag(listing, name)[..MAC_BYTES]);
        (*version == VERSION && bool::from(genuine)).then(|| name.to_vec())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LISTING: Listing<'static> = Listing {
        purpose: "objects",
        bucket: 7,
        prefix: "a/",
        delimiter: "/",
    };

    #[test]
    fn a_token_opens_only_where_it_was_given_out() {
        let key = TokenKey::derive(b"secret");
        let token = key.seal(LISTING, b"a/name");
        assert_eq!(key.open(LISTING, &token).unwrap(), b"a/name");
        for other in [
            Listing {
                bucket: 8,
                ..LISTING
            },
            Listing {
                prefix: "a",
                ..LISTING
            },
            Listing {
                delimiter: "",
                ..LISTING
            },
            Listing {
                purpose: "buckets",
                ..LISTING
            },
            Listing {
                prefix: "a",
                delimiter: "//",
                ..LISTING
            },
        ] {
            assert_eq!(key.open(other, &token), None, "{other:?}");
        }
        assert_eq!(TokenKey::derive(b"other").open(LISTING, &token), None);
    }

    #[test]
    fn a_token_with_any_bit_changed_is_refused() {
        let key = TokenKey::derive(b"secret");
        let bytes = BASE64URL.decode(key.seal(LISTING, b"name")).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                key.open(LISTING, &BASE64URL.encode(changed)),
                None,
                "bit {bit}"
            );
        }
        for bad in ["", "AQ", "not a token!", "AAAA"] {
            assert_eq!(key.open(LISTING, bad), None);
        }
    }
}
