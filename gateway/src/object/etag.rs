//! ETags: what names the content of a version.
//!
//! Always true: an ETag is kept without quotes; a single-part object has the hex MD5 of its bytes, a multipart object
//! the hex MD5 of its parts' MD5s with `-N`. Quotes are put on and taken off at the edge only.

use md5::{Digest, Md5};

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)] as char);
        out.push(DIGITS[usize::from(byte & 15)] as char);
    }
    out
}

/// The bytes of lower- or upper-case hex; `None` for anything else (signs, spaces, odd lengths).
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (at, pair) in text.chunks_exact(2).enumerate() {
        out[at] = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

/// The ETag of a multipart object: MD5 over the binary MD5s of its parts, then their number.
/// `None` when a part's ETag is no MD5.
pub fn multipart_etag<'a>(parts: impl ExactSizeIterator<Item = &'a str>) -> Option<String> {
    let count = parts.len();
    let mut digest = Md5::new();
    for part in parts {
        digest.update(unhex::<16>(part)?);
    }
    Some(format!("{}-{count}", hex(&digest.finalize())))
}

/// With quotes, as headers and XML carry it.
pub fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// Without quotes; clients send ETags of parts either way.
pub fn unquoted(etag: &str) -> &str {
    let etag = etag.trim();
    etag.strip_prefix('"')
        .and_then(|e| e.strip_suffix('"'))
        .unwrap_or(etag)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_multipart_etag_is_the_md5_of_md5s() {
        // Two parts, "a" and "b", checked against `printf '%s' … | xxd -r -p | md5sum`.
        let parts = [
            "0cc175b9c0f1b6a831c399e269772661",
            "92eb5ffee6ae2fec3ad71c777531578f",
        ];
        let mut digest = Md5::new();
        digest.update(Md5::digest(b"a"));
        digest.update(Md5::digest(b"b"));
        let expected = format!("{}-2", hex(&digest.finalize()));
        assert_eq!(multipart_etag(parts.into_iter()).unwrap(), expected);
        assert_eq!(multipart_etag(["nonsense"].into_iter()), None);
    }

    #[test]
    fn hex_is_strict() {
        assert_eq!(unhex::<2>("0aFf"), Some([0x0a, 0xff]));
        for bad in ["0a", "0a0", "0a0g", "+a0a", "0a 0", ""] {
            assert_eq!(unhex::<2>(bad), None, "{bad}");
        }
    }

    #[test]
    fn quotes_come_off_only_in_pairs() {
        assert_eq!(unquoted("\"abc\""), "abc");
        assert_eq!(unquoted("abc"), "abc");
        assert_eq!(unquoted("\"abc"), "\"abc");
    }
}
