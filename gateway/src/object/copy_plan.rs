//! What a copy takes from its source and what it is given anew.
//!
//! Always true: a copy of an object onto itself that changes nothing is refused, as S3 does; so every copy that is
//! done has an effect.

use std::ops::Range;

use super::put_plan::MAX_BODY;
use super::record::ObjectRecord;

/// `x-amz-metadata-directive`, `x-amz-tagging-directive`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Directive {
    /// Headers and metadata of the source.
    #[default]
    Copy,
    /// Those of the request.
    Replace,
}

impl Directive {
    /// By name; `None` when there is no such directive.
    pub fn parse(text: &str) -> Option<Directive> {
        match text {
            "COPY" => Some(Directive::Copy),
            "REPLACE" => Some(Directive::Replace),
            _ => None,
        }
    }
}

/// Why a copy is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CopyError {
    /// Onto itself, without a change.
    #[error(
        "This copy request is illegal because it is trying to copy an object to itself without changing the object's \
         metadata, storage class, website redirect location or encryption attributes."
    )]
    OntoItself,
    /// Over 5 GiB in one request.
    #[error(
        "The specified copy source is larger than the maximum allowable size for a copy source: {MAX_BODY}"
    )]
    TooLarge,
    /// `x-amz-copy-source-range` is not `bytes=first-last`.
    #[error(
        "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy"
    )]
    RangeText,
    /// It lies outside the source.
    #[error("Range specified is not valid for source object of size: {0}")]
    RangeOutside(u64),
}

/// The record of the new version.
///
/// `same_object`: source and target are the same key and no older version was named. The checksum of the source stays
/// true of the copy, because the bytes are the same. How the copy is encrypted is not decided here; `guarded`: the
/// request says it, which is a change, too.
pub fn record_of_copy(
    source: ObjectRecord,
    source_size: u64,
    directive: Directive,
    asked: ObjectRecord,
    same_object: bool,
    guarded: bool,
) -> Result<ObjectRecord, CopyError> {
    if source_size > MAX_BODY {
        return Err(CopyError::TooLarge);
    }
    if same_object && directive == Directive::Copy && !guarded {
        return Err(CopyError::OntoItself);
    }
    let (checksum, compression) = (source.checksum.clone(), source.compression);
    let from = match directive {
        Directive::Copy => source,
        Directive::Replace => asked.clone(),
    };
    Ok(ObjectRecord {
        headers: from.headers,
        metadata: from.metadata,
        checksum,
        owner: asked.owner,
        encryption: None,
        // As its bytes are, if it shares them.
        compression,
    })
}

/// The bytes of `x-amz-copy-source-range`; stricter than `Range`: both ends, and within the source.
pub fn source_range(text: Option<&str>, size: u64) -> Result<Range<u64>, CopyError> {
    let Some(text) = text else {
        return if size > MAX_BODY {
            Err(CopyError::TooLarge)
        } else {
            Ok(0..size)
        };
    };
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        plain
            .then(|| text.parse::<u64>().ok())
            .flatten()
            .ok_or(CopyError::RangeText)
    };
    let (first, last) = text
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .ok_or(CopyError::RangeText)?;
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(CopyError::RangeText);
    }
    if last >= size {
        return Err(CopyError::RangeOutside(size));
    }
    if last - first >= MAX_BODY {
        return Err(CopyError::TooLarge);
    }
    Ok(first..last + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::object::checksum::{Algorithm, Checksum};
    use crate::object::record::ContentHeaders;

    fn record(content_type: &str) -> ObjectRecord {
        let headers = ContentHeaders {
            content_type: Some(content_type.to_owned()),
            ..Default::default()
        };
        ObjectRecord {
            headers,
            ..Default::default()
        }
    }

    /// rclone sets modification times by copying an object onto itself with REPLACE.
    #[test]
    fn a_copy_onto_itself_needs_a_change() {
        let copy =
            |directive, same| record_of_copy(record("a"), 1, directive, record("b"), same, false);
        assert_eq!(copy(Directive::Copy, true), Err(CopyError::OntoItself));
        assert_eq!(copy(Directive::Replace, true).unwrap(), record("b"));
        assert_eq!(copy(Directive::Copy, false).unwrap(), record("a"));
        assert_eq!(copy(Directive::Replace, false).unwrap(), record("b"));
        let guarded = record_of_copy(record("a"), 1, Directive::Copy, record("b"), true, true);
        assert_eq!(guarded.unwrap(), record("a"), "encrypting is a change");
    }

    #[test]
    fn the_checksum_of_the_bytes_goes_with_the_bytes() {
        let mut source = record("a");
        source.checksum = Some(Checksum::full(Algorithm::Crc32, vec![1, 2, 3, 4]));
        let copied = record_of_copy(
            source.clone(),
            1,
            Directive::Replace,
            record("b"),
            false,
            false,
        )
        .unwrap();
        assert_eq!(copied.checksum, source.checksum);
        assert_eq!(
            record_of_copy(
                source,
                MAX_BODY + 1,
                Directive::Replace,
                record("b"),
                false,
                false
            ),
            Err(CopyError::TooLarge)
        );
    }

    #[test]
    fn a_source_range_names_both_ends_within_the_source() {
        assert_eq!(source_range(None, 10), Ok(0..10));
        assert_eq!(source_range(Some("bytes=0-9"), 10), Ok(0..10));
        assert_eq!(source_range(Some("bytes=3-3"), 10), Ok(3..4));
        assert_eq!(
            source_range(Some("bytes=0-10"), 10),
            Err(CopyError::RangeOutside(10))
        );
        assert_eq!(
            source_range(Some("bytes=0-5368709120"), u64::MAX),
            Err(CopyError::TooLarge)
        );
        for bad in [
            "bytes=-5",
            "bytes=5-",
            "bytes=5-4",
            "0-5",
            "bytes=0-5,7-8",
            "bytes=a-b",
            "bytes=0-99999999999999999999",
        ] {
            assert_eq!(
                source_range(Some(bad), 10),
                Err(CopyError::RangeText),
                "{bad}"
            );
        }
    }
}
