//! User metadata: the `x-amz-meta-…` headers of an object.
//!
//! Headers are ASCII, metadata is UTF-8: other characters travel as RFC 2047 words (`=?UTF-8?B?…?=`), in both directions,
//! as S3 does it.
//!
//! Always true: names are lower-case, without the prefix, sorted and single; together with the values they have at most
//! 2048 bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// S3's limit on names and values together, in bytes of UTF-8.
pub const MAX_BYTES: usize = 2048;

/// Names and values.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserMetadata(Vec<(String, String)>);

/// Why metadata is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MetadataError {
    /// Over 2 KB.
    #[error("Your metadata headers exceed the maximum allowed metadata size of {MAX_BYTES} bytes")]
    TooLarge,
    /// The same name twice.
    #[error("The header x-amz-meta-{0} was sent more than once")]
    Twice(String),
}

impl UserMetadata {
    /// From decoded names (without prefix) and values, in any order.
    pub fn new(mut entries: Vec<(String, String)>) -> Result<UserMetadata, MetadataError> {
        let bytes: usize = entries
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if bytes > MAX_BYTES {
            return Err(MetadataError::TooLarge);
        }
        entries.sort_unstable();
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(MetadataError::Twice(pair[0].0.clone()));
        }
        Ok(UserMetadata(entries))
    }

    /// What was stored; it was checked when it came in.
    pub fn stored(entries: Vec<(String, String)>) -> UserMetadata {
        UserMetadata(entries)
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A header's text as it is meant: RFC 2047 words decoded, anything else as it is.
pub fn decode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_word = false;
    while let Some(start) = rest.find("=?") {
        let Some((word, after)) = encoded_word(&rest[start..]) else {
            let end = start + 2;
            out.push_str(&rest[..end]);
            (rest, after_word) = (&rest[end..], false);
            continue;
        };
        // White space between two words belongs to neither.
        if !(after_word && rest[..start].bytes().all(|b| b == b' ' || b == b'\t')) {
            out.push_str(&rest[..start]);
        }
        out.push_str(&word);
        (rest, after_word) = (after, true);
    }
    out.push_str(rest);
    out
}

/// The word at the start of `text`, decoded, and what follows.
fn encoded_word(text: &str) -> Option<(String, &str)> {
    let (charset, rest) = text.strip_prefix("=?")?.split_once('?')?;
    let (encoding, rest) = rest.split_once('?')?;
    let (data, after) = rest.split_once("?=")?;
    let bytes = match encoding {
        "B" | "b" => BASE64.decode(data).ok()?,
        "Q" | "q" => unquote(data)?,
        _ => return None,
    };
    let charset = charset.split('*').next().unwrap_or(charset);
    let text = if charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("us-ascii")
    {
        String::from_utf8(bytes).ok()?
    } else if charset.eq_ignore_ascii_case("iso-8859-1") {
        bytes.into_iter().map(char::from).collect()
    } else {
        return None;
    };
    // What would break a header line on its way back is not taken out of its wrapping.
    if text.bytes().any(|b| b == b'\r' || b == b'\n' || b == 0) {
        None
    } else {
        Some((text, after))
    }
}

fn unquote(data: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(data.len());
    let mut bytes = data.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'_' => out.push(b' '),
            b'=' => {
                let digit = |b: u8| char::from(b).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                out.push((high << 4 | low) as u8);
            }
            byte if byte.is_ascii_graphic() => out.push(byte),
            _ => return None,
        }
    }
    Some(out)
}

/// As a header carries it: printable ASCII as it is, anything else in words of at most 75 characters.
pub fn encode(value: &str) -> String {
    if value.bytes().all(|b| (b' '..=b'~').contains(&b)) && !value.contains("=?") {
        return value.to_owned();
    }
    // 45 bytes give 60 characters of base64, with the wrapping 72.
    let mut out = String::new();
    let mut word = String::new();
    let mut flush = |word: &mut String| {
        if !word.is_empty() {
            let space = if out.is_empty() { "" } else { " " };
            out.push_str(&format!(
                "{space}=?UTF-8?B?{}?=",
                BASE64.encode(word.as_bytes())
            ));
            word.clear();
        }
    };
    for character in value.chars() {
        if word.len() + character.len_utf8() > 45 {
            flush(&mut word);
        }
        word.push(character);
    }
    flush(&mut word);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_decoded_and_other_text_is_left_alone() {
        for (text, meant) in [
            ("plain", "plain"),
            ("=?UTF-8?B?w6TDtsO8?=", "äöü"),
            ("=?utf-8?q?=C3=A4_b?=", "ä b"),
            ("=?ISO-8859-1?Q?=E4?=", "ä"),
            ("=?UTF-8?B?w6Q=?= =?UTF-8?B?w7Y=?=", "äö"),
            ("a =?UTF-8?B?w6Q=?= b", "a ä b"),
            ("=?UTF-8?B?!!?=", "=?UTF-8?B?!!?="),
            ("=?KOI8-R?B?w6Q=?=", "=?KOI8-R?B?w6Q=?="),
            ("x=?y", "x=?y"),
            ("=?UTF-8?B?DQo=?=", "=?UTF-8?B?DQo=?="),
            ("roh äöü", "roh äöü"),
        ] {
            assert_eq!(decode(text), meant, "{text}");
        }
    }

    /// T27: the limit itself is taken, one byte more is not.
    #[test]
    fn metadata_has_at_most_2048_bytes() {
        let entry = |bytes: usize| vec![("name".to_owned(), "v".repeat(bytes - 4))];
        assert!(UserMetadata::new(entry(2048)).is_ok());
        assert_eq!(UserMetadata::new(entry(2049)), Err(MetadataError::TooLarge));
        let twice = vec![
            ("a".to_owned(), "1".to_owned()),
            ("a".to_owned(), "2".to_owned()),
        ];
        assert_eq!(
            UserMetadata::new(twice),
            Err(MetadataError::Twice("a".to_owned()))
        );
    }

    proptest! {
        /// T24: whatever a client stores, what we send back is a header line of printable ASCII that means the same.
        #[test]
        fn values_survive_the_way_out_and_in(value in "[^\\r\\n\\x00]{0,200}") {
            let sent = encode(&value);
            prop_assert!(sent.bytes().all(|b| (b' '..=b'~').contains(&b)));
            prop_assert!(sent.split(' ').filter(|w| w.starts_with("=?")).all(|w| w.len() <= 75));
            prop_assert_eq!(decode(&sent), value);
        }
    }
}
