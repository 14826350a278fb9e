//! Documents of requests, before s3s parses them.
//!
//! Always true: no DTD gets further than this, and text says the same in a CDATA section as anywhere else: s3s would
//! skip it, and `<Key>a<![CDATA[b]]></Key>` would delete `a`.

use bytes::Bytes;

use super::error::WireError;

const CDATA: &[u8] = b"<![CDATA[";
const END: &[u8] = b"]]>";

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The document as s3s may have it.
pub fn plain(bytes: Bytes) -> Result<Bytes, WireError> {
    // No document of S3 has one, and what a DTD can do to a parser is not worth finding out (T22).
    if find(&bytes, b"<!DOCTYPE").is_some() {
        return Err(WireError::malformed_xml());
    }
    if find(&bytes, CDATA).is_none() {
        return Ok(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len() + 64);
    let mut rest = &bytes[..];
    while let Some(at) = find(rest, CDATA) {
        out.extend_from_slice(&rest[..at]);
        let inside = &rest[at + CDATA.len()..];
        let end = find(inside, END).ok_or_else(WireError::malformed_xml)?;
        for byte in &inside[..end] {
            match byte {
                b'&' => out.extend_from_slice(b"&amp;"),
                b'<' => out.extend_from_slice(b"&lt;"),
                b'>' => out.extend_from_slice(b"&gt;"),
                byte => out.push(*byte),
            }
        }
        rest = &inside[end + END.len()..];
    }
    out.extend_from_slice(rest);
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cdata_is_text_like_any_other() {
        for (before, after) in [
            ("<Key>a</Key>", "<Key>a</Key>"),
            (
                "<Key>a<![CDATA[b<&>]]]]></Key>",
                "<Key>ab&lt;&amp;&gt;]]</Key>",
            ),
            ("<![CDATA[]]>x<![CDATA[y]]>", "xy"),
        ] {
            let plain = plain(Bytes::from_static(before.as_bytes())).unwrap();
            assert_eq!(plain, after.as_bytes());
        }
        for bad in ["<![CDATA[a", "<!DOCTYPE x>"] {
            let error = plain(Bytes::from_static(bad.as_bytes())).unwrap_err();
            assert_eq!(error.code, "MalformedXML");
        }
    }
}
