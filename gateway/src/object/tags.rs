//! Tags of objects and buckets: S3's rules for them, and how they are kept.
//!
//! ```text
//!   x-amz-tagging: a=1&b=2   --.
//!   <Tag><Key>a</Key>…       ---+--> checked --> bytes that the core keeps beside a version
//! ```
//! Always true: keys are single and within S3's limits; tags that were never set are no bytes at all.

use bytes::Bytes;
use prost::Message;

use super::record::RecordError;

/// Longest key, in UTF-16 units, as S3 counts.
const MAX_KEY: usize = 128;
/// Longest value.
const MAX_VALUE: usize = 256;

/// What is tagged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tagged {
    /// At most 10 tags.
    Object,
    /// At most 50 tags.
    Bucket,
}

impl Tagged {
    fn max(self) -> usize {
        match self {
            Tagged::Object => 10,
            Tagged::Bucket => 50,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Tagged::Object => "Object",
            Tagged::Bucket => "Bucket",
        }
    }
}

/// Why tags are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TagError {
    /// More than there may be.
    #[error("{} tags cannot be greater than {}", .0.name(), .0.max())]
    TooMany(Tagged),
    /// Empty, too long, or with characters that tags cannot have.
    #[error("The TagKey you have provided is invalid")]
    Key,
    /// Too long, or with characters that tags cannot have.
    #[error("The TagValue you have provided is invalid")]
    Value,
    /// The same key twice.
    #[error("Cannot provide multiple Tags with the same key")]
    Twice,
    /// `aws:…` is S3's own.
    #[error("System tags cannot be added/updated by requester")]
    System,
    /// The header is no query string, or has a key twice.
    #[error(
        "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates."
    )]
    Header,
}

/// Keys and values, in the order they came.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tags(Vec<(String, String)>);

impl Tags {
    /// Of pairs, within S3's limits.
    pub fn new(tagged: Tagged, pairs: Vec<(String, String)>) -> Result<Tags, TagError> {
        if pairs.len() > tagged.max() {
            return Err(TagError::TooMany(tagged));
        }
        for (at, (key, value)) in pairs.iter().enumerate() {
            if key.is_empty() || !fits(key, MAX_KEY) {
                return Err(TagError::Key);
            }
            if !fits(value, MAX_VALUE) {
                return Err(TagError::Value);
            }
            if key.starts_with("aws:") {
                return Err(TagError::System);
            }
            if pairs[..at].iter().any(|(other, _)| other == key) {
                return Err(TagError::Twice);
            }
        }
        Ok(Tags(pairs))
    }

    /// Of decoded pairs of the `x-amz-tagging` header.
    pub fn of_header(pairs: Vec<(String, String)>) -> Result<Tags, TagError> {
        Tags::new(Tagged::Object, pairs).map_err(|error| match error {
            TagError::Twice => TagError::Header,
            other => other,
        })
    }

    /// Keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As the core keeps them.
    pub fn encode(&self) -> Bytes {
        if self.is_empty() {
            return Bytes::new();
        }
        self.to_wire().encode_to_vec().into()
    }

    /// As the core gave them back; they were checked when they came in.
    pub fn decode(bytes: &[u8]) -> Result<Tags, RecordError> {
        if bytes.is_empty() {
            return Ok(Tags::default());
        }
        let stored = wire::Tags::decode(bytes).map_err(RecordError::new)?;
        Ok(Tags::of_wire(stored))
    }

    pub(super) fn to_wire(&self) -> wire::Tags {
        let tag = |(key, value): (&str, &str)| wire::Tag {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        wire::Tags {
            tags: self.iter().map(tag).collect(),
        }
    }

    pub(super) fn of_wire(stored: wire::Tags) -> Tags {
        Tags(
            stored
                .tags
                .into_iter()
                .map(|tag| (tag.key, tag.value))
                .collect(),
        )
    }
}

/// Letters, digits and spaces of all scripts, and a few signs; lengths as S3 counts them.
fn fits(text: &str, max: usize) -> bool {
    let plain = |c: char| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c);
    text.encode_utf16().count() <= max
        && text
            .chars()
            .all(|c| plain(c) || (c.is_whitespace() && !c.is_control()))
}

pub(super) mod wire {
    //! The bytes. Numbers are final.

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Tags {
        #[prost(message, repeated, tag = "1")]
        pub tags: Vec<Tag>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Tag {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::object::etag::hex;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn object(list: &[(&str, &str)]) -> Result<Tags, TagError> {
        Tags::new(Tagged::Object, pairs(list))
    }

    #[test]
    fn tags_are_kept_as_they_came() {
        for list in [
            &[][..],
            &[("a", "")],
            &[("größe", "groß"), ("a b", "x/y:z=1+2-3@4_5.6")],
        ] {
            let tags = object(list).unwrap();
            assert_eq!(Tags::decode(&tags.encode()).unwrap(), tags);
            assert_eq!(tags.len(), list.len());
        }
        assert!(Tags::default().encode().is_empty());
        assert!(Tags::decode(&[0xff]).is_err());
    }

    /// The format is final.
    #[test]
    fn the_bytes_of_tags_never_change() {
        insta::assert_snapshot!(hex(&object(&[("a", "1"), ("b", "")]).unwrap().encode()), @"0a060a01611201310a030a0162");
    }

    #[test]
    fn limits_are_those_of_s3() {
        let key = "k".repeat(128);
        let value = "v".repeat(256);
        assert!(object(&[(&key, &value)]).is_ok());
        assert_eq!(object(&[(&format!("{key}k"), "")]), Err(TagError::Key));
        assert_eq!(object(&[("k", &format!("{value}v"))]), Err(TagError::Value));
        assert_eq!(object(&[("", "v")]), Err(TagError::Key));
        for bad in ["a,b", "a\nb", "a<b", "a\u{0}", "a?", "a#"] {
            assert_eq!(object(&[(bad, "")]), Err(TagError::Key), "{bad:?}");
            assert_eq!(object(&[("k", bad)]), Err(TagError::Value), "{bad:?}");
        }
        assert_eq!(object(&[("aws:a", "")]), Err(TagError::System));
        assert_eq!(object(&[("a", "1"), ("a", "2")]), Err(TagError::Twice));
        let many = |count: usize| -> Vec<(String, String)> {
            (0..count).map(|n| (n.to_string(), String::new())).collect()
        };
        for (tagged, max) in [(Tagged::Object, 10), (Tagged::Bucket, 50)] {
            assert!(Tags::new(tagged, many(max)).is_ok());
            assert_eq!(
                Tags::new(tagged, many(max + 1)),
                Err(TagError::TooMany(tagged))
            );
        }
        assert_eq!(
            Tags::of_header(pairs(&[("a", ""), ("a", "")])),
            Err(TagError::Header)
        );
    }
}
