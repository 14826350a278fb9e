//! What GetObjectAttributes is asked for, and which parts of an object are on a page of its answer.

use super::checksum::Checksum;

/// One of S3's attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named as S3 names them")]
pub enum Attribute {
    ETag,
    Checksum,
    ObjectParts,
    StorageClass,
    ObjectSize,
}

/// Why the header is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AttributesError {
    /// Not there.
    #[error(
        "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty"
    )]
    None,
    /// S3 has no such attribute.
    #[error("Invalid attribute name specified.")]
    Unknown,
}

/// Reads the values of `x-amz-object-attributes`, each a list.
pub fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Result<Vec<Attribute>, AttributesError> {
    let mut found = Vec::new();
    for name in values.flat_map(|value| value.split(',')).map(str::trim) {
        let attribute = match name {
            "" => continue,
            "ETag" => Attribute::ETag,
            "Checksum" => Attribute::Checksum,
            "ObjectParts" => Attribute::ObjectParts,
            "StorageClass" => Attribute::StorageClass,
            "ObjectSize" => Attribute::ObjectSize,
            _ => return Err(AttributesError::Unknown),
        };
        if !found.contains(&attribute) {
            found.push(attribute);
        }
    }
    if found.is_empty() {
        return Err(AttributesError::None);
    }
    Ok(found)
}

/// A part of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectPart {
    /// Its number.
    pub number: u32,
    /// Bytes.
    pub size: u64,
    /// Of the object's algorithm.
    pub checksum: Option<Checksum>,
}

/// A page of an object's parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartsPage {
    /// Of the whole object.
    pub total: u32,
    /// As it was asked for, at most 1000.
    pub max: u32,
    /// Parts up to here were left out.
    pub after: u32,
    /// In order.
    pub parts: Vec<ObjectPart>,
    /// There is more.
    pub truncated: bool,
}

impl PartsPage {
    /// The parts with numbers above `after`, at most `max`.
    pub fn of(all: Vec<ObjectPart>, after: u32, max: u32) -> PartsPage {
        let total = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let mut parts: Vec<_> = all.into_iter().filter(|part| part.number > after).collect();
        let truncated = max > 0 && parts.len() > max as usize;
        parts.truncate(max as usize);
        PartsPage {
            total,
            max,
            after,
            parts,
            truncated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_a_list_of_known_names() {
        assert_eq!(
            parse(["ETag, ObjectSize", "ETag"].into_iter()),
            Ok(vec![Attribute::ETag, Attribute::ObjectSize])
        );
        assert_eq!(parse([].into_iter()), Err(AttributesError::None));
        assert_eq!(parse([" ,"].into_iter()), Err(AttributesError::None));
        assert_eq!(parse(["etag"].into_iter()), Err(AttributesError::Unknown));
    }

    #[test]
    fn pages_of_parts_miss_nothing() {
        let part = |number| ObjectPart {
            number,
            size: 1,
            checksum: None,
        };
        let all = || vec![part(1), part(3), part(7)];
        let (mut after, mut seen) = (0, Vec::new());
        loop {
            let page = PartsPage::of(all(), after, 2);
            assert_eq!(page.total, 3);
            seen.extend(page.parts.iter().map(|part| part.number));
            if !page.truncated {
                break;
            }
            after = seen.last().copied().unwrap_or(0);
        }
        assert_eq!(seen, [1, 3, 7]);
        assert!(!PartsPage::of(all(), 0, 0).truncated, "a page of nothing");
    }
}
