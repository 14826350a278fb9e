//! A request in the one form that both sides of a SigV4 signature agree on.
//!
//! ```text
//!   PUT
//!   /bucket/a%20key
//!   partNumber=1&uploadId=…                (decoded, encoded again, sorted)
//!   host:localhost:9000                     (signed headers: lower-case, trimmed, sorted)
//!   x-amz-date:20261122T000000Z
//!
//!   host;x-amz-date
//!   UNSIGNED-PAYLOAD                        (or the SHA-256 of the body, or a STREAMING- word)
//! ```
//! Always true: what is signed is what is acted on. Path and query are decoded in the same way here and where they
//! are used, so that no two readings of one request exist (T7, T21).

use http::{HeaderMap, Method};
use sha2::{Digest, Sha256};

/// A path or query that is not UTF-8 under its percent-encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the request URI is not valid UTF-8 under its percent-encoding")]
pub struct BadUri;

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// Percent-encodes as SigV4 wants it; `/` stays when it separates.
pub fn encode_into(out: &mut String, text: &str, keep_slash: bool) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte))
            }
            b'/' if keep_slash => out.push('/'),
            _ => {
                out.push('%');
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
}

/// Percent-encodes as SigV4 wants it.
pub fn encode(text: &str, keep_slash: bool) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    encode_into(&mut out, text, keep_slash);
    out
}

/// Takes percent-encoding away; a `%` without two hex digits stays as it is, as everywhere on the web.
pub fn decode(text: &str, plus_is_space: bool) -> Result<String, BadUri> {
    if !text
        .bytes()
        .any(|b| b == b'%' || (plus_is_space && b == b'+'))
    {
        return Ok(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            (b'+', _, _) if plus_is_space => {
                out.push(b' ');
                at += 1;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).map_err(|_| BadUri)
}

/// Names and values of a query, decoded, in the order they came.
pub fn query_pairs(query: &str) -> Result<Vec<(String, String)>, BadUri> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Ok((decode(name, true)?, decode(value, true)?))
    };
    parts.map(pair).collect()
}

/// The canonical path of a path as it came.
pub fn path(raw: &str) -> Result<String, BadUri> {
    Ok(encode(&decode(raw, false)?, true))
}

/// The canonical query, without the pairs whose name is `without`.
pub fn query(pairs: &[(String, String)], without: &str) -> String {
    let kept = pairs.iter().filter(|(name, _)| name != without);
    let mut encoded: Vec<_> = kept
        .map(|(name, value)| (encode(name, false), encode(value, false)))
        .collect();
    encoded.sort_unstable();
    let mut out = String::with_capacity(encoded.iter().map(|(n, v)| n.len() + v.len() + 2).sum());
    for (name, value) in encoded {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(&name);
        out.push('=');
        out.push_str(&value);
    }
    out
}

/// Everything a signature covers.
pub struct CanonicalRequest<'a> {
    /// The method.
    pub method: &'a Method,
    /// See [`path`].
    pub path: &'a str,
    /// See [`query`].
    pub query: &'a str,
    /// All headers of the request.
    pub headers: &'a HeaderMap,
    /// Names of those that are signed: lower-case, sorted, between semicolons.
    pub signed_headers: &'a str,
    /// The payload's hash or word.
    pub payload: &'a str,
}

impl CanonicalRequest<'_> {
    /// As text. A signed header that the request does not have gives `None`: nobody signed it like this.
    pub fn text(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(512);
        for line in [self.method.as_str(), self.path, self.query] {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        for name in self.signed_headers.split(';') {
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            let mut values = self.headers.get_all(name).iter();
            push_trimmed(&mut out, values.next()?.as_bytes());
            for value in values {
                out.push(b',');
                push_trimmed(&mut out, value.as_bytes());
            }
            out.push(b'\n');
        }
        out.push(b'\n');
        out.extend_from_slice(self.signed_headers.as_bytes());
        out.push(b'\n');
        out.extend_from_slice(self.payload.as_bytes());
        Some(out)
    }

    /// SHA-256 of the text.
    pub fn hash(&self) -> Option<[u8; 32]> {
        Some(Sha256::digest(self.text()?).into())
    }
}

/// White space around a value goes, within it shrinks to one space.
fn push_trimmed(out: &mut Vec<u8>, value: &[u8]) {
    let mut pending = false;
    for byte in value.trim_ascii() {
        if *byte == b' ' || *byte == b'\t' {
            pending = true;
        } else {
            if pending {
                out.push(b' ');
                pending = false;
            }
            out.push(*byte);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_query_is_sorted_and_encoded_anew() {
        let pairs = query_pairs("b=2&a=%7e&a=+x&X-Amz-Signature=s&c&&=v").unwrap();
        assert_eq!(query(&pairs, "X-Amz-Signature"), "=v&a=%20x&a=~&b=2&c=");
    }

    #[test]
    fn paths_are_encoded_once_whatever_the_client_sent() {
        for raw in ["/b/a%20b", "/b/a b"] {
            assert_eq!(path(raw).unwrap(), "/b/a%20b");
        }
        assert_eq!(path("/b/a+b%2Fc//../%").unwrap(), "/b/a%2Bb/c//../%25");
        assert_eq!(path("/b/%ff"), Err(BadUri));
        assert_eq!(
            path("/b/%c0%af"),
            Err(BadUri),
            "overlong encodings are no UTF-8"
        );
    }

    #[test]
    fn header_values_lose_needless_space() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", "  a   b\t c ".parse().unwrap());
        headers.append("x-a", "d".parse().unwrap());
        headers.append("host", "h".parse().unwrap());
        let request = CanonicalRequest {
            method: &Method::GET,
            path: "/",
            query: "",
            headers: &headers,
            signed_headers: "host;x-a",
            payload: "p",
        };
        assert_eq!(
            request.text().unwrap(),
            b"GET\n/\n\nhost:h\nx-a:a b c,d\n\nhost;x-a\np"
        );
        assert_eq!(
            CanonicalRequest {
                signed_headers: "host;x-b",
                ..request
            }
            .text(),
            None
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in any::<String>()) {
            prop_assert_eq!(decode(&encode(&text, false), true).unwrap(), text.clone());
            prop_assert_eq!(decode(&encode(&text, true), false).unwrap(), text);
        }
    }
}
