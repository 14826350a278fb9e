//! What the gateway keeps with a version, an upload or a part; opaque to the core.
//!
//! Encoded as protocol buffers: fields are added, never renumbered, and a reader skips what it does not know. Golden
//! bytes in the tests keep old records readable.
//!
//! Always true: a record is at most 16 KiB (headers of a request are at most 8 KiB, checked at the edge).

use bytes::Bytes;
use prost::Message;

use super::checksum::{Algorithm, Checksum, Kind};
use super::compression::{self, Compression};
use super::encryption::keys::KeySalt;
use super::encryption::{self, Encryption, pieces};
use super::metadata::UserMetadata;
use super::tags::{self, Tags};

/// Why a record could not be read: it was written by a newer version, or by nobody of us.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the stored record of this object cannot be read: {0}")]
pub struct RecordError(String);

impl RecordError {
    pub(super) fn new(cause: impl std::fmt::Display) -> RecordError {
        RecordError(cause.to_string())
    }
}

/// The headers that S3 stores and gives back as they came.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ContentHeaders {
    /// `Content-Type`; none: `binary/octet-stream`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Encoding`, without `aws-chunked`, which says how the request travelled.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Expires`: any text, as it came.
    pub expires: Option<String>,
}

/// What a version says besides its bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ObjectRecord {
    /// Content headers.
    pub headers: ContentHeaders,
    /// User metadata.
    pub metadata: UserMetadata,
    /// The checksum of the content.
    pub checksum: Option<Checksum>,
    /// Canonical id of who wrote it; none: the bucket's owner.
    pub owner: Option<String>,
    /// How its bytes are encrypted, if they are.
    pub encryption: Option<Box<Encryption>>,
    /// How they are compressed, before that.
    pub compression: Option<Compression>,
}

impl ObjectRecord {
    /// Bytes as clients see them, of a version that takes `stored` bytes.
    pub fn size(&self, stored: u64) -> u64 {
        match (&self.compression, &self.encryption) {
            (Some(compression), _) => compression.plain,
            (None, Some(encryption)) => encryption.plain,
            (None, None) => stored,
        }
    }

    /// Who holds the key, if it is encrypted.
    pub fn guard(&self) -> Option<&encryption::Guard> {
        self.encryption.as_ref().map(|encryption| &encryption.guard)
    }
}

/// What Create said of an upload; the version made by Complete has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UploadRecord {
    /// Headers, metadata and owner of the version to come.
    pub object: ObjectRecord,
    /// Its tags.
    pub tags: Tags,
    /// The algorithm of its checksum.
    pub algorithm: Algorithm,
    /// Over what it will be computed.
    pub kind: Kind,
    /// Whether the client named the algorithm itself, so that listings show it.
    pub named: bool,
}

/// What a part says besides its bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartRecord {
    /// Of the upload's algorithm, and of the one the client sent when that is another.
    pub checksums: Vec<Checksum>,
    /// With it the key of an encrypted part is derived from its upload's; none: the part is not encrypted.
    pub salt: Option<KeySalt>,
    /// How its bytes are compressed, before they are encrypted.
    pub compression: Option<Compression>,
}

impl PartRecord {
    /// Bytes as clients see them, of a part that takes `stored` bytes.
    pub fn size(&self, stored: u64) -> u64 {
        match self.compression {
            Some(compression) => compression.plain,
            None => self.unsealed(stored),
        }
    }

    /// Bytes before they were encrypted, of a part that takes `stored` bytes.
    pub fn unsealed(&self, stored: u64) -> u64 {
        match self.salt {
            Some(_) => pieces::plain_len(stored),
            None => stored,
        }
    }

    /// Its value of one algorithm.
    pub fn checksum(&self, algorithm: Algorithm) -> Option<&Checksum> {
        self.checksums
            .iter()
            .find(|checksum| checksum.algorithm == algorithm)
    }
}

/// What a line of a listing shows of a version's record. The rest is skipped over unread: a page has a thousand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedRecord {
    /// Algorithm and kind of the checksum.
    pub checksum: Option<(Algorithm, Kind)>,
    /// Canonical id of who wrote it, UTF-8; none: the bucket's owner.
    pub owner: Option<Bytes>,
    /// Bytes as clients see them, of an encrypted or compressed version.
    plain: Option<u64>,
}

impl ListedRecord {
    /// As the core gave it back.
    pub fn decode(bytes: Bytes) -> Result<ListedRecord, RecordError> {
        let stored = wire::Listed::decode(bytes).map_err(|error| RecordError(error.to_string()))?;
        let checksum = match stored.checksum {
            None => None,
            Some(found) => Some((algorithm(found.algorithm)?, kind_of(found.composite_of))),
        };
        Ok(ListedRecord {
            checksum,
            owner: stored.owner,
            plain: match (stored.compression, stored.encryption) {
                (Some(compression), _) => Some(compression.plain),
                (None, encryption) => encryption.map(|encryption| encryption.plain),
            },
        })
    }

    /// Bytes as clients see them, of a version that takes `stored` bytes.
    pub fn size(&self, stored: u64) -> u64 {
        self.plain.unwrap_or(stored)
    }
}

mod wire {
    //! The bytes. Numbers are final.

    use bytes::Bytes;

    /// `Object`, as far as a listing reads it.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Listed {
        #[prost(message, optional, tag = "8")]
        pub checksum: Option<ListedChecksum>,
        #[prost(bytes = "bytes", optional, tag = "9")]
        pub owner: Option<Bytes>,
        #[prost(message, optional, tag = "12")]
        pub encryption: Option<ListedEncryption>,
        #[prost(message, optional, tag = "13")]
        pub compression: Option<super::compression::wire::Compression>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ListedChecksum {
        #[prost(uint32, tag = "1")]
        pub algorithm: u32,
        #[prost(uint32, tag = "3")]
        pub composite_of: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ListedEncryption {
        #[prost(uint64, tag = "3")]
        pub plain: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Object {
        #[prost(string, optional, tag = "1")]
        pub content_type: Option<String>,
        #[prost(string, optional, tag = "2")]
        pub cache_control: Option<String>,
        #[prost(string, optional, tag = "3")]
        pub content_disposition: Option<String>,
        #[prost(string, optional, tag = "4")]
        pub content_encoding: Option<String>,
        #[prost(string, optional, tag = "5")]
        pub content_language: Option<String>,
        #[prost(string, optional, tag = "6")]
        pub expires: Option<String>,
        #[prost(message, repeated, tag = "7")]
        pub metadata: Vec<Entry>,
        #[prost(message, optional, tag = "8")]
        pub checksum: Option<Checksum>,
        #[prost(string, optional, tag = "9")]
        pub owner: Option<String>,
        #[prost(message, optional, boxed, tag = "12")]
        pub encryption: Option<Box<super::encryption::wire::Encryption>>,
        #[prost(message, optional, tag = "13")]
        pub compression: Option<super::compression::wire::Compression>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Entry {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Checksum {
        /// 1 CRC32, 2 CRC32C, 3 CRC64NVME, 4 SHA1, 5 SHA256.
        #[prost(uint32, tag = "1")]
        pub algorithm: u32,
        #[prost(bytes = "vec", tag = "2")]
        pub value: Vec<u8>,
        /// Over the parts' checksums of so many parts; 0: over the content.
        #[prost(uint32, tag = "3")]
        pub composite_of: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Upload {
        #[prost(message, optional, tag = "1")]
        pub object: Option<Object>,
        #[prost(uint32, tag = "2")]
        pub algorithm: u32,
        #[prost(bool, tag = "3")]
        pub composite: bool,
        #[prost(bool, tag = "4")]
        pub named: bool,
        #[prost(message, optional, tag = "5")]
        pub tags: Option<super::tags::wire::Tags>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Part {
        #[prost(message, repeated, tag = "1")]
        pub checksums: Vec<Checksum>,
        /// 32 bytes.
        #[prost(bytes = "vec", optional, tag = "4")]
        pub salt: Option<Vec<u8>>,
        #[prost(message, optional, tag = "5")]
        pub compression: Option<super::compression::wire::Compression>,
    }
}

const NUMBERS: [(Algorithm, u32); 5] = [
    (Algorithm::Crc32, 1),
    (Algorithm::Crc32c, 2),
    (Algorithm::Crc64Nvme, 3),
    (Algorithm::Sha1, 4),
    (Algorithm::Sha256, 5),
];

fn number(algorithm: Algorithm) -> u32 {
    NUMBERS
        .iter()
        .find(|(a, _)| *a == algorithm)
        .map_or(0, |(_, number)| *number)
}

fn algorithm(number: u32) -> Result<Algorithm, RecordError> {
    let known = NUMBERS
        .iter()
        .find(|(_, n)| *n == number)
        .map(|(algorithm, _)| *algorithm);
    known.ok_or_else(|| RecordError(format!("checksum algorithm {number} is unknown")))
}

fn checksum_to_wire(checksum: &Checksum) -> wire::Checksum {
    wire::Checksum {
        algorithm: number(checksum.algorithm),
        value: checksum.value.clone(),
        composite_of: if checksum.kind == Kind::Composite {
            checksum.parts
        } else {
            0
        },
    }
}

fn kind_of(composite_of: u32) -> Kind {
    match composite_of {
        0 => Kind::FullObject,
        _ => Kind::Composite,
    }
}

fn checksum_from_wire(stored: wire::Checksum) -> Result<Checksum, RecordError> {
    let kind = kind_of(stored.composite_of);
    let algorithm = algorithm(stored.algorithm)?;
    if stored.value.len() != algorithm.value_len() {
        return Err(RecordError(format!(
            "a {} checksum has {} bytes",
            algorithm.name(),
            stored.value.len()
        )));
    }
    Ok(Checksum {
        algorithm,
        kind,
        value: stored.value,
        parts: stored.composite_of,
    })
}

fn object_to_wire(record: &ObjectRecord) -> wire::Object {
    let ContentHeaders {
        content_type,
        cache_control,
        content_disposition,
        content_encoding,
        content_language,
        expires,
    } = record.headers.clone();
    let entry = |(name, value): (&str, &str)| wire::Entry {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    wire::Object {
        content_type,
        cache_control,
        content_disposition,
        content_encoding,
        content_language,
        expires,
        metadata: record.metadata.iter().map(entry).collect(),
        checksum: record.checksum.as_ref().map(checksum_to_wire),
        owner: record.owner.clone(),
        encryption: record
            .encryption
            .as_ref()
            .map(|encryption| Box::new(encryption.to_wire())),
        compression: record.compression.map(Compression::to_wire),
    }
}

fn object_from_wire(stored: wire::Object) -> Result<ObjectRecord, RecordError> {
    Ok(ObjectRecord {
        headers: ContentHeaders {
            content_type: stored.content_type,
            cache_control: stored.cache_control,
            content_disposition: stored.content_disposition,
            content_encoding: stored.content_encoding,
            content_language: stored.content_language,
            expires: stored.expires,
        },
        metadata: UserMetadata::stored(
            stored
                .metadata
                .into_iter()
                .map(|e| (e.name, e.value))
                .collect(),
        ),
        checksum: stored.checksum.map(checksum_from_wire).transpose()?,
        owner: stored.owner,
        encryption: match stored.encryption {
            None => None,
            Some(encryption) => Some(Box::new(Encryption::of_wire(*encryption)?)),
        },
        compression: stored.compression.map(Compression::of_wire).transpose()?,
    })
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, RecordError> {
    M::decode(bytes).map_err(|error| RecordError(error.to_string()))
}

impl ObjectRecord {
    /// As the core stores it.
    pub fn encode(&self) -> Bytes {
        object_to_wire(self).encode_to_vec().into()
    }

    /// As the core gave it back.
    pub fn decode(bytes: &[u8]) -> Result<ObjectRecord, RecordError> {
        object_from_wire(decode(bytes)?)
    }
}

impl UploadRecord {
    /// As the core stores it.
    pub fn encode(&self) -> Bytes {
        let stored = wire::Upload {
            object: Some(object_to_wire(&self.object)),
            algorithm: number(self.algorithm),
            composite: self.kind == Kind::Composite,
            named: self.named,
            tags: (!self.tags.is_empty()).then(|| self.tags.to_wire()),
        };
        stored.encode_to_vec().into()
    }

    /// As the core gave it back.
    pub fn decode(bytes: &[u8]) -> Result<UploadRecord, RecordError> {
        let stored: wire::Upload = decode(bytes)?;
        Ok(UploadRecord {
            object: object_from_wire(stored.object.unwrap_or_default())?,
            algorithm: algorithm(stored.algorithm)?,
            kind: if stored.composite {
                Kind::Composite
            } else {
                Kind::FullObject
            },
            named: stored.named,
            tags: stored.tags.map(Tags::of_wire).unwrap_or_default(),
        })
    }
}

impl PartRecord {
    /// As the core stores it.
    pub fn encode(&self) -> Bytes {
        wire::Part {
            checksums: self.checksums.iter().map(checksum_to_wire).collect(),
            salt: self.salt.map(|salt| salt.to_vec()),
            compression: self.compression.map(Compression::to_wire),
        }
        .encode_to_vec()
        .into()
    }

    /// As the core gave it back.
    pub fn decode(bytes: &[u8]) -> Result<PartRecord, RecordError> {
        let stored: wire::Part = decode(bytes)?;
        Ok(PartRecord {
            checksums: stored
                .checksums
                .into_iter()
                .map(checksum_from_wire)
                .collect::<Result<_, _>>()?,
            salt: match stored.salt {
                None => None,
                Some(salt) => Some(
                    KeySalt::try_from(salt.as_slice())
                        .map_err(|_| RecordError::new("the salt of a part has another length"))?,
                ),
            },
            compression: stored.compression.map(Compression::of_wire).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::object::encryption::keys::{MasterKeyId, Wrapped};
    use crate::object::encryption::{Guard, KmsGuard};
    use crate::object::etag::hex;

    fn full() -> ObjectRecord {
        ObjectRecord {
            headers: ContentHeaders {
                content_type: Some("text/plain".into()),
                cache_control: Some("no-cache".into()),
                content_disposition: Some("inline".into()),
                content_encoding: Some("gzip".into()),
                content_language: Some("de".into()),
                expires: Some("0".into()),
            },
            metadata: UserMetadata::new(vec![
                ("b".into(), "ä".into()),
                ("a".into(), String::new()),
            ])
            .unwrap(),
            checksum: Some(Checksum {
                algorithm: Algorithm::Crc32,
                kind: Kind::Composite,
                value: vec![1, 2, 3, 4],
                parts: 7,
            }),
            owner: Some("me".into()),
            encryption: None,
            compression: None,
        }
    }

    fn encrypted(guard: Guard) -> ObjectRecord {
        let encryption = Encryption {
            guard,
            wrapped: Wrapped::of_bytes(&[7; 80]).unwrap(),
            plain: 300,
        };
        ObjectRecord {
            encryption: Some(Box::new(encryption)),
            ..ObjectRecord::default()
        }
    }

    fn guards() -> [Guard; 3] {
        let master = MasterKeyId([1, 2, 3, 4, 5, 6, 7, 8]);
        let kms = KmsGuard {
            name: "k".into(),
            master,
            context: "{}".into(),
            bucket_key: true,
        };
        [Guard::S3 { master }, Guard::Kms(kms), Guard::Customer]
    }

    /// The format is final.
    #[test]
    fn the_bytes_of_a_compressed_record_never_change() {
        use crate::object::compression::Codec;
        let compression = |codec| {
            Some(Compression {
                codec,
                plain: 70_000,
            })
        };
        let record = ObjectRecord {
            compression: compression(None),
            ..ObjectRecord::default()
        };
        assert_eq!(hex(&record.encode()), "6a0410f0a204");
        assert_eq!(ObjectRecord::decode(&record.encode()).unwrap(), record);
        assert_eq!(
            ListedRecord::decode(record.encode()).unwrap().size(9),
            70_000
        );
        for (codec, bytes) in [
            (Codec::Lz4, "2a06080110f0a204"),
            (Codec::Zstd, "2a06080210f0a204"),
        ] {
            let part = PartRecord {
                compression: compression(Some(codec)),
                ..PartRecord::default()
            };
            assert_eq!(hex(&part.encode()), bytes);
            assert_eq!(PartRecord::decode(&part.encode()).unwrap(), part);
            assert_eq!((part.size(9), part.unsealed(9)), (70_000, 9));
        }
        let newer = wire::Part {
            compression: Some(compression::wire::Compression { codec: 9, plain: 1 }),
            ..wire::Part::default()
        };
        assert!(PartRecord::decode(&newer.encode_to_vec()).is_err());
    }

    /// The format is final; the wrapped key lies between the kind and the size.
    #[test]
    fn the_bytes_of_an_encrypted_record_never_change() {
        let wrapped = "07".repeat(80);
        let shown = guards().map(|guard| {
            let record = encrypted(guard);
            assert_eq!(ObjectRecord::decode(&record.encode()).unwrap(), record);
            assert_eq!((record.size(9), full().size(9)), (300, 9));
            hex(&record.encode()).replace(&wrapped, "WRAPPED")
        });
        insta::assert_snapshot!(shown.join("\n"), @r"
        626108011250WRAPPED18ac0222080102030405060708
        626a08021250WRAPPED18ac02220801020304050607082a016b32027b7d3801
        625708031250WRAPPED18ac02
        ");
        let part = PartRecord {
            checksums: Vec::new(),
            salt: Some([9; 32]),
            compression: None,
        };
        assert_eq!(hex(&part.encode()), format!("2220{}", "09".repeat(32)));
        assert_eq!(PartRecord::decode(&part.encode()).unwrap(), part);
        assert_eq!(
            (part.size(116), PartRecord::default().size(116)),
            (100, 116)
        );
    }

    /// A listing shows of a record what a HEAD would.
    #[test]
    fn a_listing_reads_the_same_record() {
        let records = guards().map(encrypted);
        for record in records.into_iter().chain([full(), ObjectRecord::default()]) {
            let listed = ListedRecord::decode(record.encode()).unwrap();
            let checksum = record.checksum.as_ref();
            assert_eq!(listed.checksum, checksum.map(|c| (c.algorithm, c.kind)));
            assert_eq!(
                listed.owner.as_deref(),
                record.owner.as_ref().map(|o| o.as_bytes())
            );
            assert_eq!(listed.size(7), record.size(7));
        }
        assert!(ListedRecord::decode(Bytes::from_static(&[0xff, 0xff])).is_err());
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        for record in [full(), ObjectRecord::default()] {
            assert_eq!(ObjectRecord::decode(&record.encode()).unwrap(), record);
            for algorithm in Algorithm::ALL {
                let upload = UploadRecord {
                    object: record.clone(),
                    algorithm,
                    kind: Kind::Composite,
                    named: true,
                    tags: Tags::of_header(vec![("a".into(), "1".into())]).unwrap(),
                };
                assert_eq!(UploadRecord::decode(&upload.encode()).unwrap(), upload);
                let checksums = vec![Checksum::full(algorithm, vec![9; algorithm.value_len()])];
                let part = PartRecord {
                    checksums,
                    salt: None,
                    compression: None,
                };
                assert_eq!(PartRecord::decode(&part.encode()).unwrap(), part);
            }
        }
    }

    /// The format is final: a record written by this version is read by every later one.
    #[test]
    fn the_bytes_of_a_record_never_change() {
        insta::assert_snapshot!(hex(&full().encode()), @"0a0a746578742f706c61696e12086e6f2d63616368651a06696e6c696e652204677a69702a0264653201303a030a01613a070a01621202c3a4420a080112040102030418074a026d65");
        let upload = UploadRecord {
            object: ObjectRecord::default(),
            algorithm: Algorithm::Sha256,
            kind: Kind::Composite,
            named: true,
            tags: Tags::default(),
        };
        insta::assert_snapshot!(hex(&upload.encode()), @"0a00100518012001");
        let part = PartRecord {
            checksums: vec![Checksum::full(Algorithm::Crc32c, vec![1, 2, 3, 4])],
            salt: None,
            compression: None,
        };
        insta::assert_snapshot!(hex(&part.encode()), @"0a080802120401020304");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_no_panic() {
        assert!(ObjectRecord::decode(&[0xff, 0xff]).is_err());
        assert!(
            UploadRecord::decode(&[]).is_err(),
            "an upload without an algorithm is none"
        );
        let short = wire::Object {
            checksum: Some(wire::Checksum {
                algorithm: 5,
                value: vec![1],
                composite_of: 0,
            }),
            ..Default::default()
        };
        assert!(ObjectRecord::decode(&short.encode_to_vec()).is_err());
        let bytes = full().encode();
        for end in 0..bytes.len() {
            let _ = ObjectRecord::decode(&bytes[..end]);
        }
    }
}
