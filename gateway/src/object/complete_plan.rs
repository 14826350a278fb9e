//! What a list of parts comes to: the object that Complete makes.
//!
//! ```text
//!   the client's list  --.
//!   the parts' rows    ---+--> checked --> ETag, length, checksum, numbers
//!   the upload's kind  --'
//! ```
//! Always true:
//! * numbers rise; every part but the last has at least 5 MiB; every ETag is that of the part as it is now;
//! * the checksum is computed from the parts' stored ones; what the client claims about any of them must be equal.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::checksum::{self, Algorithm, Checksum, Kind};
use super::etag;
use super::record::PartRecord;

/// Smallest part, the last excepted.
pub const MIN_PART: u64 = 5 << 20;
/// Most parts.
pub const MAX_PARTS: u32 = 10_000;

/// A line of the client's list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedPart {
    /// Its number.
    pub number: u32,
    /// With or without quotes.
    pub etag: String,
    /// Base64, when the client sent one.
    pub checksum: Option<(Algorithm, String)>,
}

/// A part as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredPart {
    /// Its number.
    pub number: u32,
    /// Without quotes.
    pub etag: String,
    /// Bytes, as they are stored.
    pub stored: u64,
    /// Its checksums.
    pub record: PartRecord,
}

impl StoredPart {
    /// Bytes, as clients see them.
    pub fn size(&self) -> u64 {
        self.record.size(self.stored)
    }
}

/// What the client claims about the whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WholeClaims {
    /// `x-amz-checksum-…`, base64, for a composite one with `-N`.
    pub checksum: Option<(Algorithm, String)>,
    /// `x-amz-checksum-type`.
    pub kind: Option<Kind>,
    /// `x-amz-mp-object-size`.
    pub size: Option<u64>,
}

/// Why an upload cannot be completed so.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CompleteError {
    /// No parts.
    #[error("You must specify at least one part")]
    NoParts,
    /// Outside 1..=10000.
    #[error("Part number must be an integer between 1 and {MAX_PARTS}, inclusive")]
    PartNumber,
    /// Numbers do not rise.
    #[error("The list of parts was not in ascending order. Parts must be ordered by part number.")]
    Order,
    /// Not there, or another ETag or checksum.
    #[error(
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
    )]
    InvalidPart {
        /// Its number.
        number: u32,
    },
    /// A part before the last is too small.
    #[error("Your proposed upload is smaller than the minimum allowed size")]
    TooSmall {
        /// Its number.
        number: u32,
        /// Its bytes.
        size: u64,
        /// Its ETag.
        etag: String,
    },
    /// The upload was created with another kind of checksum.
    #[error(
        "The upload was created using the {0} checksum mode. The complete request must use the same checksum mode."
    )]
    KindDiffers(&'static str),
    /// The checksum claimed for the whole is not that of the parts.
    #[error("The {0} you specified did not match the calculated checksum.")]
    Differs(&'static str),
    /// The size claimed for the whole is not that of the parts.
    #[error(
        "The provided 'x-amz-mp-object-size' header does not match what was computed: {0} bytes"
    )]
    SizeDiffers(u64),
}

/// The object to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompletePlan {
    /// With `-N`.
    pub etag: String,
    /// Bytes, as clients see them.
    pub size: u64,
    /// Bytes, as they are stored.
    pub stored: u64,
    /// Of the upload's algorithm and kind; none when a part has none of that algorithm (it was copied by an older version).
    pub checksum: Option<Checksum>,
    /// The parts, in order.
    pub numbers: Vec<u32>,
    /// One of them is compressed.
    pub packed: bool,
}

/// Checks a list before anything is read: numbers and order.
pub fn check_order(listed: &[ListedPart]) -> Result<(), CompleteError> {
    if listed.is_empty() {
        return Err(CompleteError::NoParts);
    }
    if listed
        .iter()
        .any(|part| !(1..=MAX_PARTS).contains(&part.number))
    {
        return Err(CompleteError::PartNumber);
    }
    if listed
        .windows(2)
        .any(|pair| pair[0].number >= pair[1].number)
    {
        return Err(CompleteError::Order);
    }
    Ok(())
}

/// Plans the object. `stored` is ascending by number and may hold parts that were not listed.
pub fn complete(
    listed: &[ListedPart],
    stored: &[StoredPart],
    (algorithm, kind): (Algorithm, Kind),
    claims: &WholeClaims,
) -> Result<CompletePlan, CompleteError> {
    check_order(listed)?;
    let mut parts = Vec::with_capacity(listed.len());
    for part in listed {
        let invalid = || CompleteError::InvalidPart {
            number: part.number,
        };
        let at = stored
            .binary_search_by_key(&part.number, |s| s.number)
            .map_err(|_| invalid())?;
        let found = &stored[at];
        if etag::unquoted(&part.etag) != found.etag {
            return Err(invalid());
        }
        // A claim that cannot be checked, because the part was sent without that algorithm, is not let pass.
        if let Some((algorithm, claimed)) = &part.checksum
            && found
                .record
                .checksum(*algorithm)
                .is_none_or(|known| known.text() != *claimed)
        {
            return Err(invalid());
        }
        parts.push(found);
    }
    let small = parts
        .iter()
        .rev()
        .skip(1)
        .rev()
        .find(|part| part.size() < MIN_PART);
    if let Some(part) = small {
        return Err(CompleteError::TooSmall {
            number: part.number,
            size: part.size(),
            etag: part.etag.clone(),
        });
    }
    let size = parts.iter().map(|part| part.size()).sum();
    if claims.size.is_some_and(|claimed| claimed != size) {
        return Err(CompleteError::SizeDiffers(size));
    }
    let etags = parts.iter().map(|part| part.etag.as_str());
    // Parts get their ETags from us: one that is no MD5 cannot have been listed.
    let etag = etag::multipart_etag(etags).ok_or(CompleteError::InvalidPart {
        number: parts[0].number,
    })?;
    let checksum = whole_checksum(&parts, algorithm, kind);
    check_claims(checksum.as_ref(), (algorithm, kind), claims)?;
    Ok(CompletePlan {
        etag,
        size,
        stored: parts.iter().map(|part| part.stored).sum(),
        checksum,
        numbers: parts.iter().map(|part| part.number).collect(),
        packed: parts.iter().any(|part| part.record.compression.is_some()),
    })
}

fn whole_checksum(parts: &[&StoredPart], algorithm: Algorithm, kind: Kind) -> Option<Checksum> {
    let of_part =
        |part: &&StoredPart| Some((part.record.checksum(algorithm)?.value.clone(), part.size()));
    let values: Vec<_> = parts.iter().map(of_part).collect::<Option<_>>()?;
    let values: Vec<_> = values
        .iter()
        .map(|(value, size)| (value.as_slice(), *size))
        .collect();
    checksum::of_parts(algorithm, kind, &values)
}

fn check_claims(
    computed: Option<&Checksum>,
    (algorithm, kind): (Algorithm, Kind),
    claims: &WholeClaims,
) -> Result<(), CompleteError> {
    if claims.kind.is_some_and(|claimed| claimed != kind) {
        return Err(CompleteError::KindDiffers(kind.name()));
    }
    let Some((claimed_algorithm, claimed)) = &claims.checksum else {
        return Ok(());
    };
    let differs = CompleteError::Differs(claimed_algorithm.name());
    // A claim of another algorithm cannot be checked from the parts, and is not let pass unchecked.
    let computed = computed
        .filter(|_| *claimed_algorithm == algorithm)
        .ok_or(differs.clone())?;
    // Some SDKs send a composite value without its `-N`.
    if *claimed == computed.text() || *claimed == BASE64.encode(&computed.value) {
        Ok(())
    } else {
        Err(differs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::object::etag::hex;
    use md5::{Digest, Md5};

    const CRC64: (Algorithm, Kind) = (Algorithm::Crc64Nvme, Kind::FullObject);

    fn stored(number: u32, size: u64, fill: u8) -> StoredPart {
        let bytes = vec![fill; size as usize];
        let checksums = Algorithm::ALL
            .map(|a| Checksum::full(a, a.of(&bytes)))
            .to_vec();
        StoredPart {
            number,
            etag: hex(&Md5::digest(&bytes)),
            stored: size,
            record: PartRecord {
                checksums,
                salt: None,
                compression: None,
            },
        }
    }

    fn listed(part: &StoredPart) -> ListedPart {
        ListedPart {
            number: part.number,
            etag: format!("\"{}\"", part.etag),
            checksum: None,
        }
    }

    fn three() -> Vec<StoredPart> {
        vec![
            stored(1, MIN_PART, 1),
            stored(5, MIN_PART + 1, 2),
            stored(9, 3, 3),
        ]
    }

    #[test]
    fn an_upload_becomes_the_object_that_its_parts_are() {
        let parts = three();
        let list: Vec<_> = parts.iter().map(listed).collect();
        let plan = complete(&list, &parts, CRC64, &WholeClaims::default()).unwrap();
        let bytes = [
            vec![1; MIN_PART as usize],
            vec![2; MIN_PART as usize + 1],
            vec![3; 3],
        ]
        .concat();
        assert_eq!(plan.size, bytes.len() as u64);
        assert_eq!(
            plan.checksum.unwrap().value,
            Algorithm::Crc64Nvme.of(&bytes)
        );
        assert!(plan.etag.ends_with("-3"));
        assert_eq!(plan.numbers, [1, 5, 9]);
    }

    #[test]
    fn parts_may_be_left_out() {
        let parts = three();
        let plan = complete(&[listed(&parts[2])], &parts, CRC64, &WholeClaims::default()).unwrap();
        assert_eq!((plan.size, plan.numbers), (3, vec![9]));
    }

    #[test]
    fn a_list_that_is_wrong_is_refused_with_the_code_of_s3() {
        let parts = three();
        let list: Vec<_> = parts.iter().map(listed).collect();
        let go = |list: &[ListedPart]| {
            complete(list, &parts, CRC64, &WholeClaims::default()).unwrap_err()
        };
        assert_eq!(go(&[]), CompleteError::NoParts);
        assert_eq!(
            go(&[list[1].clone(), list[0].clone()]),
            CompleteError::Order
        );
        assert_eq!(
            go(&[list[0].clone(), list[0].clone()]),
            CompleteError::Order
        );
        let other = ListedPart {
            etag: "0".repeat(32),
            ..list[1].clone()
        };
        assert_eq!(
            go(&[list[0].clone(), other]),
            CompleteError::InvalidPart { number: 5 }
        );
        let missing = ListedPart {
            number: 6,
            ..list[1].clone()
        };
        assert_eq!(
            go(&[list[0].clone(), missing]),
            CompleteError::InvalidPart { number: 6 }
        );
        for number in [0, 10_001] {
            assert_eq!(
                go(&[ListedPart {
                    number,
                    ..list[0].clone()
                }]),
                CompleteError::PartNumber
            );
        }
        let checksum = Some((Algorithm::Crc32, "AAAAAA==".to_owned()));
        let wrong = ListedPart {
            checksum,
            ..list[0].clone()
        };
        assert_eq!(go(&[wrong]), CompleteError::InvalidPart { number: 1 });
    }

    #[test]
    fn only_the_last_part_may_be_small() {
        let parts = vec![stored(1, MIN_PART - 1, 1), stored(2, MIN_PART, 2)];
        let list: Vec<_> = parts.iter().map(listed).collect();
        let small = complete(&list, &parts, CRC64, &WholeClaims::default()).unwrap_err();
        let expected = CompleteError::TooSmall {
            number: 1,
            size: MIN_PART - 1,
            etag: parts[0].etag.clone(),
        };
        assert_eq!(small, expected);
        let empty = vec![stored(1, 0, 0)];
        assert!(complete(&[listed(&empty[0])], &empty, CRC64, &WholeClaims::default()).is_ok());
    }

    #[test]
    fn what_is_claimed_of_the_whole_must_hold() {
        let parts = three();
        let list: Vec<_> = parts.iter().map(listed).collect();
        let good = complete(&list, &parts, CRC64, &WholeClaims::default()).unwrap();
        let text = good.checksum.clone().unwrap().text();
        let go = |how, claims: WholeClaims| complete(&list, &parts, how, &claims);
        let claim = |algorithm, text: &str| WholeClaims {
            checksum: Some((algorithm, text.to_owned())),
            ..Default::default()
        };
        assert!(go(CRC64, claim(Algorithm::Crc64Nvme, &text)).is_ok());
        assert_eq!(
            go(CRC64, claim(Algorithm::Crc64Nvme, "AAAAAAAAAAA=")),
            Err(CompleteError::Differs("CRC64NVME"))
        );
        assert_eq!(
            go(CRC64, claim(Algorithm::Crc32, "AAAAAA==")),
            Err(CompleteError::Differs("CRC32"))
        );
        let kind = WholeClaims {
            kind: Some(Kind::Composite),
            ..Default::default()
        };
        assert_eq!(
            go(CRC64, kind),
            Err(CompleteError::KindDiffers("FULL_OBJECT"))
        );
        let size = WholeClaims {
            size: Some(1),
            ..Default::default()
        };
        assert_eq!(go(CRC64, size), Err(CompleteError::SizeDiffers(good.size)));
        let composite = (Algorithm::Sha256, Kind::Composite);
        let text = go(composite, WholeClaims::default())
            .unwrap()
            .checksum
            .unwrap()
            .text();
        assert!(text.ends_with("-3"));
        assert!(go(composite, claim(Algorithm::Sha256, &text)).is_ok());
        assert!(
            go(
                composite,
                claim(Algorithm::Sha256, text.trim_end_matches("-3"))
            )
            .is_ok()
        );
    }
}
