//! Which bytes a GET or HEAD is about: the whole, a range, or a part.
//!
//! Always true:
//! * a `Range` that S3 does not understand (several ranges, other units, first after last) is no range: the whole comes;
//! * a range that lies outside the object is refused with 416, never answered with nothing;
//! * the bytes asked for lie within the object: no arithmetic here can overflow.

use std::ops::Range;

/// A single range, as the header says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AskedRange {
    /// `bytes=first-last`.
    FromTo(u64, u64),
    /// `bytes=first-`.
    From(u64),
    /// `bytes=-length`.
    Last(u64),
}

impl AskedRange {
    /// Reads the header; `None` when it is not one well-formed range, which then counts as absent.
    pub fn parse(text: &str) -> Option<AskedRange> {
        let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
        match (number(first.trim()), number(last.trim())) {
            _ if first.is_empty() && last.is_empty() => None,
            (None, Some(length)) if first.is_empty() => Some(AskedRange::Last(length)),
            (Some(first), None) if last.is_empty() => Some(AskedRange::From(first)),
            (Some(first), Some(last)) if first <= last => Some(AskedRange::FromTo(first, last)),
            _ => None,
        }
    }

    /// The bytes of an object of `size`; `None` when there are none.
    pub fn within(self, size: u64) -> Option<Range<u64>> {
        match self {
            AskedRange::FromTo(first, last) if first < size => Some(first..last.min(size - 1) + 1),
            AskedRange::From(first) if first < size => Some(first..size),
            AskedRange::Last(length) if length > 0 && size > 0 => {
                Some(size - length.min(size)..size)
            }
            _ => None,
        }
    }
}

/// Digits only; more than fit are as good as the end of every object.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// What a read asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ask {
    /// A `Range` header that counts.
    pub range: Option<AskedRange>,
    /// `?partNumber=`.
    pub part: Option<u32>,
}

/// Why a read cannot be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GetError {
    /// 416.
    #[error("The requested range is not satisfiable")]
    RangeOutside {
        /// The object's size.
        size: u64,
    },
    /// 416.
    #[error("The requested partnumber is not satisfiable")]
    NoSuchPart,
    /// 400.
    #[error("Part number must be an integer between 1 and 10000, inclusive")]
    PartNumber,
    /// 400.
    #[error("Cannot specify both Range header and partNumber query parameter")]
    RangeAndPart,
}

/// Which bytes are answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GetPlan {
    /// The bytes.
    pub range: Range<u64>,
    /// Answered as 206 with `Content-Range`.
    pub partial: bool,
    /// The whole object is answered, so that its checksum can be.
    pub whole: bool,
}

impl GetPlan {
    /// Plans a read of an object of `size`. `parts`: numbers and sizes of a multipart object, empty for others;
    /// looked at only when a part is asked for.
    pub fn new(ask: Ask, size: u64, parts: &[(u32, u64)]) -> Result<GetPlan, GetError> {
        match ask {
            Ask {
                range: Some(_),
                part: Some(_),
            } => Err(GetError::RangeAndPart),
            Ask {
                range: None,
                part: None,
            } => Ok(GetPlan {
                range: 0..size,
                partial: false,
                whole: true,
            }),
            Ask {
                range: Some(range),
                part: None,
            } => {
                let range = range.within(size).ok_or(GetError::RangeOutside { size })?;
                Ok(GetPlan {
                    whole: range == (0..size),
                    range,
                    partial: true,
                })
            }
            Ask {
                range: None,
                part: Some(number),
            } if !(1..=10_000).contains(&number) => Err(GetError::PartNumber),
            // An object that was put in one piece is its own first part.
            Ask {
                range: None,
                part: Some(1),
            } if parts.is_empty() => Ok(GetPlan {
                range: 0..size,
                partial: size > 0,
                whole: true,
            }),
            Ask {
                range: None,
                part: Some(number),
            } => {
                let mut start = 0_u64;
                for (candidate, length) in parts {
                    let end = start.saturating_add(*length);
                    if *candidate == number {
                        let range = start.min(size)..end.min(size);
                        return Ok(GetPlan {
                            whole: range == (0..size),
                            partial: size > 0,
                            range,
                        });
                    }
                    start = end;
                }
                Err(GetError::NoSuchPart)
            }
        }
    }

    /// `Content-Range`, when partial.
    pub fn content_range(&self, size: u64) -> Option<String> {
        let last = self.range.end.checked_sub(1).filter(|_| self.partial)?;
        Some(format!("bytes {}-{last}/{size}", self.range.start))
    }

    /// Bytes in the body.
    pub fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// An empty body.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_read_as_s3_reads_them() {
        for (text, range) in [
            ("bytes=0-0", Some(AskedRange::FromTo(0, 0))),
            ("bytes=5-", Some(AskedRange::From(5))),
            ("bytes=-5", Some(AskedRange::Last(5))),
            (
                "bytes=0-99999999999999999999999",
                Some(AskedRange::FromTo(0, u64::MAX)),
            ),
            (
                "bytes=99999999999999999999999-",
                Some(AskedRange::From(u64::MAX)),
            ),
            (
                "bytes=-99999999999999999999999",
                Some(AskedRange::Last(u64::MAX)),
            ),
            ("bytes=0-1,3-4", None),
            ("bytes=5-4", None),
            ("bytes=-", None),
            ("bytes=", None),
            ("bytes=+1-2", None),
            ("bytes=1--2", None),
            ("bytes=0x1-2", None),
            ("items=0-1", None),
            ("0-1", None),
        ] {
            assert_eq!(AskedRange::parse(text), range, "{text}");
        }
    }

    #[test]
    fn a_range_outside_the_object_is_refused() {
        let plan = |text: &str, size| {
            GetPlan::new(
                Ask {
                    range: AskedRange::parse(text),
                    part: None,
                },
                size,
                &[],
            )
            .map(|plan| plan.range)
        };
        assert_eq!(plan("bytes=0-9", 10), Ok(0..10));
        assert_eq!(plan("bytes=0-10", 10), Ok(0..10));
        assert_eq!(plan("bytes=9-9", 10), Ok(9..10));
        assert_eq!(
            plan("bytes=10-", 10),
            Err(GetError::RangeOutside { size: 10 })
        );
        assert_eq!(
            plan("bytes=-0", 10),
            Err(GetError::RangeOutside { size: 10 })
        );
        assert_eq!(plan("bytes=-11", 10), Ok(0..10));
        assert_eq!(plan("bytes=0-", 0), Err(GetError::RangeOutside { size: 0 }));
        assert_eq!(plan("bytes=-1", 0), Err(GetError::RangeOutside { size: 0 }));
        assert_eq!(plan("bytes=3-1", 10), Ok(0..10));
    }

    #[test]
    fn a_part_is_found_by_its_number() {
        let parts = [(1, 5), (3, 7), (9, 1)];
        let plan = |part, size, parts: &[_]| {
            GetPlan::new(
                Ask {
                    range: None,
                    part: Some(part),
                },
                size,
                parts,
            )
        };
        assert_eq!(plan(3, 13, &parts).unwrap().range, 5..12);
        assert_eq!(
            plan(9, 13, &parts).unwrap().content_range(13).unwrap(),
            "bytes 12-12/13"
        );
        assert_eq!(plan(2, 13, &parts), Err(GetError::NoSuchPart));
        assert_eq!(plan(1, 13, &[]).unwrap().range, 0..13);
        assert_eq!(plan(1, 0, &[]).unwrap().content_range(0), None);
        assert_eq!(plan(2, 13, &[]), Err(GetError::NoSuchPart));
        for number in [0, 10_001, u32::MAX] {
            assert_eq!(plan(number, 13, &parts), Err(GetError::PartNumber));
        }
        let both = Ask {
            range: Some(AskedRange::From(0)),
            part: Some(1),
        };
        assert_eq!(GetPlan::new(both, 13, &parts), Err(GetError::RangeAndPart));
    }

    proptest! {
        /// T23: no header takes a plan outside the object.
        #[test]
        fn every_plan_lies_within_the_object(text in "bytes=[0-9]{0,22}-[0-9]{0,22}", size in any::<u64>()) {
            let ask = Ask { range: AskedRange::parse(&text), part: None };
            if let Ok(plan) = GetPlan::new(ask, size, &[]) {
                prop_assert!(plan.range.start <= plan.range.end && plan.range.end <= size);
                prop_assert!(!plan.partial || !plan.is_empty());
            }
        }
    }
}
