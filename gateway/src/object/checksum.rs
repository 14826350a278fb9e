//! Checksums of content: what a client claims, what we computed, and whether they agree.
//!
//! ```text
//!   headers, trailer -> Claims --.
//!                                 >-- Hasher (one pass over the bytes) -- verify --> Digests
//!   body ------------------------'
//! ```
//! Always true:
//! * every version has one checksum: the client's algorithm, or CRC64NVME when it named none (as S3 does);
//! * a claim that was made is verified, or the write is refused: a declared trailer that never came is a refusal;
//! * bytes are hashed once for each algorithm, whatever number of claims use it (a signed payload hash and
//!   `x-amz-checksum-sha256` are the same SHA-256).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

/// S3's five classic algorithms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Algorithm {
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// CRC-32C (iSCSI).
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 5] = [
        Algorithm::Crc32,
        Algorithm::Crc32c,
        Algorithm::Crc64Nvme,
        Algorithm::Sha1,
        Algorithm::Sha256,
    ];

    /// As `x-amz-checksum-algorithm` and XML spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "CRC32",
            Algorithm::Crc32c => "CRC32C",
            Algorithm::Crc64Nvme => "CRC64NVME",
            Algorithm::Sha1 => "SHA1",
            Algorithm::Sha256 => "SHA256",
        }
    }

    /// The header (or trailer) that carries a value of it.
    pub const fn header(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "x-amz-checksum-crc32",
            Algorithm::Crc32c => "x-amz-checksum-crc32c",
            Algorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Algorithm::Sha1 => "x-amz-checksum-sha1",
            Algorithm::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// By name, in any case.
    pub fn by_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL
            .into_iter()
            .find(|a| a.name().eq_ignore_ascii_case(name))
    }

    /// By header name, lower-case.
    pub fn by_header(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|a| a.header() == name)
    }

    /// Bytes of a value.
    pub const fn value_len(self) -> usize {
        match self {
            Algorithm::Crc32 | Algorithm::Crc32c => 4,
            Algorithm::Crc64Nvme => 8,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
        }
    }

    /// What a multipart upload gets when it names the algorithm but not the kind.
    pub const fn default_kind(self) -> Kind {
        match self {
            Algorithm::Crc64Nvme => Kind::FullObject,
            _ => Kind::Composite,
        }
    }

    /// S3's table of what goes with what: only CRCs can be computed for the whole from those of the parts,
    /// and CRC64NVME only so.
    pub const fn allows(self, kind: Kind) -> bool {
        !matches!(
            (self, kind),
            (Algorithm::Crc64Nvme, Kind::Composite)
                | (Algorithm::Sha1 | Algorithm::Sha256, Kind::FullObject)
        )
    }

    const fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 | Algorithm::Sha256 => None,
        }
    }

    /// Of bytes that are at hand.
    pub fn of(self, bytes: &[u8]) -> Vec<u8> {
        let mut running = Running::new(self);
        running.update(bytes);
        running.finish()
    }

    fn decode(self, text: &str) -> Option<Vec<u8>> {
        BASE64
            .decode(text.trim())
            .ok()
            .filter(|value| value.len() == self.value_len())
    }
}

/// Over what a checksum of a multipart object was computed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Over the bytes.
    FullObject,
    /// Over the checksums of the parts; written with `-N`.
    Composite,
}

impl Kind {
    /// As `x-amz-checksum-type` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::FullObject => "FULL_OBJECT",
            Kind::Composite => "COMPOSITE",
        }
    }

    /// By name.
    pub fn by_name(name: &str) -> Option<Kind> {
        [Kind::FullObject, Kind::Composite]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// A value, as stored with a version or part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checksum {
    /// Of which algorithm.
    pub algorithm: Algorithm,
    /// Over what.
    pub kind: Kind,
    /// Its bytes, `algorithm.value_len()` of them.
    pub value: Vec<u8>,
    /// Number of parts of a composite one; 0 otherwise.
    pub parts: u32,
}

impl Checksum {
    /// Over the whole content.
    pub fn full(algorithm: Algorithm, value: Vec<u8>) -> Checksum {
        Checksum {
            algorithm,
            kind: Kind::FullObject,
            value,
            parts: 0,
        }
    }

    /// As headers and XML carry it: base64, and `-N` when composite.
    pub fn text(&self) -> String {
        let mut text = BASE64.encode(&self.value);
        if self.kind == Kind::Composite {
            text.push_str(&format!("-{}", self.parts));
        }
        text
    }
}

/// What is wrong with a claim, or with the bytes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChecksumError {
    /// `Content-MD5` is not the base64 of 16 bytes.
    #[error("The Content-MD5 you specified is not valid.")]
    BadMd5Text,
    /// A checksum header is not the base64 of the right number of bytes.
    #[error("Value for {0} header is invalid.")]
    BadText(&'static str),
    /// More than one checksum was sent.
    #[error("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")]
    Several,
    /// `x-amz-trailer` names something that is no checksum we know.
    #[error("The value specified in the x-amz-trailer header is not supported")]
    UnknownTrailer,
    /// A trailer came that was not declared, or is malformed.
    #[error(
        "The request contained trailing data that was not well-formed or did not conform to our published schema."
    )]
    BadTrailer,
    /// The declared trailer never came.
    #[error("The trailer {0} was declared in x-amz-trailer but was not sent.")]
    TrailerMissing(&'static str),
    /// The bytes are not those that Content-MD5 was computed over.
    #[error("The Content-MD5 you specified did not match what we received.")]
    Md5Differs,
    /// The bytes are not those that the checksum was computed over.
    #[error("The {0} you specified did not match the calculated checksum.")]
    Differs(&'static str),
    /// The bytes are not those that were signed.
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    PayloadDiffers,
}

/// What a client says about its bytes before it sends them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claims {
    /// `Content-MD5`.
    pub md5: Option<[u8; 16]>,
    /// `x-amz-content-sha256`, when it is a hash.
    pub payload: Option<[u8; 32]>,
    /// One `x-amz-checksum-…` header.
    pub checksum: Option<(Algorithm, Vec<u8>)>,
    /// `x-amz-trailer` announces a value of this algorithm.
    pub trailer: Option<Algorithm>,
}

impl Claims {
    /// Reads the headers. `checksums`: all that are present, by algorithm.
    pub fn parse<'a>(
        content_md5: Option<&str>,
        checksums: impl Iterator<Item = (Algorithm, &'a str)>,
        trailer: Option<&str>,
    ) -> Result<Claims, ChecksumError> {
        let md5 = match content_md5 {
            None => None,
            Some(text) => {
                let bytes = BASE64
                    .decode(text.trim())
                    .map_err(|_| ChecksumError::BadMd5Text)?;
                Some(<[u8; 16]>::try_from(bytes).map_err(|_| ChecksumError::BadMd5Text)?)
            }
        };
        let mut checksum = None;
        for (algorithm, text) in checksums {
            let value = algorithm
                .decode(text)
                .ok_or(ChecksumError::BadText(algorithm.header()))?;
            if checksum.replace((algorithm, value)).is_some() {
                return Err(ChecksumError::Several);
            }
        }
        let trailer = match trailer {
            None => None,
            Some(name) => {
                let name = name.trim().to_ascii_lowercase();
                Some(Algorithm::by_header(&name).ok_or(ChecksumError::UnknownTrailer)?)
            }
        };
        if trailer.is_some() && checksum.is_some() {
            return Err(ChecksumError::Several);
        }
        Ok(Claims {
            md5,
            payload: None,
            checksum,
            trailer,
        })
    }

    /// The algorithm that the client named, in a header or for the trailer.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.checksum
            .as_ref()
            .map(|(algorithm, _)| *algorithm)
            .or(self.trailer)
    }
}

impl Claims {
    /// Whether they are true of bytes that are at hand. Only what is claimed is computed.
    pub fn verify(&self, bytes: &[u8], trailer: &[(String, String)]) -> Result<(), ChecksumError> {
        if self
            .payload
            .is_some_and(|claimed| <[u8; 32]>::from(Sha256::digest(bytes)) != claimed)
        {
            return Err(ChecksumError::PayloadDiffers);
        }
        if self
            .md5
            .is_some_and(|claimed| <[u8; 16]>::from(Md5::digest(bytes)) != claimed)
        {
            return Err(ChecksumError::Md5Differs);
        }
        match self.value(trailer)? {
            Some((algorithm, value)) if algorithm.of(bytes) != value => {
                Err(ChecksumError::Differs(algorithm.name()))
            }
            _ => Ok(()),
        }
    }

    /// The claimed checksum: of the header, or of the trailer that was announced and must have come.
    fn value(
        &self,
        trailer: &[(String, String)],
    ) -> Result<Option<(Algorithm, Vec<u8>)>, ChecksumError> {
        let Some(algorithm) = self.trailer else {
            return if trailer.is_empty() {
                Ok(self.checksum.clone())
            } else {
                Err(ChecksumError::BadTrailer)
            };
        };
        if trailer.iter().any(|(name, _)| name != algorithm.header()) || trailer.len() > 1 {
            return Err(ChecksumError::BadTrailer);
        }
        let (_, text) = trailer
            .first()
            .ok_or(ChecksumError::TrailerMissing(algorithm.header()))?;
        let value = algorithm
            .decode(text)
            .ok_or(ChecksumError::BadText(algorithm.header()))?;
        Ok(Some((algorithm, value)))
    }
}

/// One algorithm under way.
enum Running {
    Crc(crc_fast::Digest, usize),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Running {
    fn new(algorithm: Algorithm) -> Running {
        match (algorithm.crc(), algorithm) {
            (Some(crc), _) => Running::Crc(crc_fast::Digest::new(crc), algorithm.value_len()),
            (None, Algorithm::Sha1) => Running::Sha1(Sha1::new()),
            (None, _) => Running::Sha256(Sha256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Running::Crc(digest, _) => digest.update(bytes),
            Running::Sha1(digest) => digest.update(bytes),
            Running::Sha256(digest) => digest.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Running::Crc(digest, len) => digest.finalize().to_be_bytes()[8 - len..].to_vec(),
            Running::Sha1(digest) => digest.finalize().to_vec(),
            Running::Sha256(digest) => digest.finalize().to_vec(),
        }
    }
}

/// What came of hashing a body that kept all its claims.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Digests {
    /// For the ETag.
    pub md5: [u8; 16],
    /// What is stored and returned.
    pub checksum: Checksum,
    /// Also computed, for the upload a part belongs to.
    pub extra: Option<Checksum>,
    /// Bytes seen.
    pub len: u64,
}

/// Hashes a body once, for all its claims.
pub struct Hasher {
    claims: Claims,
    md5: Md5,
    sha256: Option<Sha256>,
    main: Option<Running>,
    main_algorithm: Algorithm,
    extra: Option<(Algorithm, Running)>,
    len: u64,
}

impl Hasher {
    /// `fallback` is the algorithm to store when the client named none; `also` is computed besides.
    pub fn new(claims: Claims, fallback: Algorithm, also: Option<Algorithm>) -> Hasher {
        let main_algorithm = claims.algorithm().unwrap_or(fallback);
        let needs_sha256 = claims.payload.is_some() || main_algorithm == Algorithm::Sha256;
        Hasher {
            md5: Md5::new(),
            sha256: needs_sha256.then(Sha256::new),
            main: (main_algorithm != Algorithm::Sha256).then(|| Running::new(main_algorithm)),
            main_algorithm,
            extra: also
                .filter(|also| *also != main_algorithm)
                .map(|also| (also, Running::new(also))),
            len: 0,
            claims,
        }
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        // Piece by piece, so that a piece is still in the first-level cache when the next algorithm reads it.
        for piece in bytes.chunks(16 << 10) {
            self.md5.update(piece);
            if let Some(sha256) = &mut self.sha256 {
                sha256.update(piece);
            }
            if let Some(main) = &mut self.main {
                main.update(piece);
            }
            if let Some((_, extra)) = &mut self.extra {
                extra.update(piece);
            }
        }
        self.len += bytes.len() as u64;
    }

    /// All bytes came. `trailer`: the checksum trailers, as they were sent.
    pub fn finish(self, trailer: &[(String, String)]) -> Result<Digests, ChecksumError> {
        let md5: [u8; 16] = self.md5.finalize().into();
        let sha256: Option<[u8; 32]> = self.sha256.map(|digest| digest.finalize().into());
        if let Some(payload) = self.claims.payload
            && sha256 != Some(payload)
        {
            return Err(ChecksumError::PayloadDiffers);
        }
        if self.claims.md5.is_some_and(|claimed| claimed != md5) {
            return Err(ChecksumError::Md5Differs);
        }
        let value = match (self.main, sha256) {
            (Some(main), _) => main.finish(),
            (None, Some(sha256)) => sha256.to_vec(),
            (None, None) => unreachable!("SHA-256 is computed when it is the main algorithm"),
        };
        if self
            .claims
            .value(trailer)?
            .is_some_and(|(_, claimed)| claimed != value)
        {
            return Err(ChecksumError::Differs(self.main_algorithm.name()));
        }
        Ok(Digests {
            md5,
            checksum: Checksum::full(self.main_algorithm, value),
            extra: self
                .extra
                .map(|(algorithm, running)| Checksum::full(algorithm, running.finish())),
            len: self.len,
        })
    }
}

/// The checksum of a whole from those of its parts, each with the part's length.
///
/// `None` when the table of S3 does not allow the pair, or a part has a value of the wrong length.
pub fn of_parts(algorithm: Algorithm, kind: Kind, parts: &[(&[u8], u64)]) -> Option<Checksum> {
    if !algorithm.allows(kind)
        || parts
            .iter()
            .any(|(value, _)| value.len() != algorithm.value_len())
    {
        return None;
    }
    match kind {
        Kind::Composite => {
            let mut running = Running::new(algorithm);
            parts.iter().for_each(|(value, _)| running.update(value));
            Some(Checksum {
                algorithm,
                kind,
                value: running.finish(),
                parts: u32::try_from(parts.len()).ok()?,
            })
        }
        Kind::FullObject => {
            let crc = algorithm.crc()?;
            let number = |value: &[u8]| {
                value
                    .iter()
                    .fold(0_u64, |n, byte| n << 8 | u64::from(*byte))
            };
            let (first, rest) = parts.split_first()?;
            let whole = rest.iter().fold(number(first.0), |so_far, (value, len)| {
                crc_fast::checksum_combine(crc, so_far, number(value), *len)
            });
            Some(Checksum::full(
                algorithm,
                whole.to_be_bytes()[8 - algorithm.value_len()..].to_vec(),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn claims(
        header: &[(Algorithm, &str)],
        md5: Option<&str>,
        trailer: Option<&str>,
    ) -> Result<Claims, ChecksumError> {
        Claims::parse(md5, header.iter().copied(), trailer)
    }

    fn hash(
        claims: Claims,
        body: &[u8],
        trailer: &[(&str, &str)],
    ) -> Result<Digests, ChecksumError> {
        let mut hasher = Hasher::new(claims.clone(), Algorithm::Crc64Nvme, None);
        body.chunks(7).for_each(|piece| hasher.update(piece));
        let trailer: Vec<_> = trailer
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let streamed = hasher.finish(&trailer);
        assert_eq!(
            claims.verify(body, &trailer).err(),
            streamed.as_ref().err().cloned()
        );
        streamed
    }

    /// The catalogue's check values ("123456789") and the published ones of the hashes.
    #[test]
    fn the_five_algorithms_are_the_ones_everybody_means() {
        let check = b"123456789";
        assert_eq!(Algorithm::Crc32.of(check), 0xcbf4_3926_u32.to_be_bytes());
        assert_eq!(Algorithm::Crc32c.of(check), 0xe306_9283_u32.to_be_bytes());
        assert_eq!(
            Algorithm::Crc64Nvme.of(check),
            0xae8b_1486_0a79_9888_u64.to_be_bytes()
        );
        assert_eq!(
            Checksum::full(Algorithm::Sha1, Algorithm::Sha1.of(b"")).text(),
            "2jmj7l5rSw0yVb/vlWAYkK/YBwk="
        );
        assert_eq!(
            Checksum::full(Algorithm::Sha256, Algorithm::Sha256.of(b"")).text(),
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
    }

    #[test]
    fn a_true_claim_in_the_header_is_kept_with_the_object() {
        for algorithm in Algorithm::ALL {
            let text = Checksum::full(algorithm, algorithm.of(b"hello world")).text();
            let digests = hash(
                claims(&[(algorithm, &text)], None, None).unwrap(),
                b"hello world",
                &[],
            )
            .unwrap();
            assert_eq!(
                (digests.checksum.algorithm, digests.checksum.text()),
                (algorithm, text)
            );
            assert_eq!(digests.len, 11);
        }
    }

    #[test]
    fn a_false_claim_is_refused() {
        for algorithm in Algorithm::ALL {
            let text = Checksum::full(algorithm, algorithm.of(b"hello")).text();
            let in_header = hash(
                claims(&[(algorithm, &text)], None, None).unwrap(),
                b"hellO",
                &[],
            );
            assert_eq!(in_header, Err(ChecksumError::Differs(algorithm.name())));
            let declared = claims(&[], None, Some(algorithm.header())).unwrap();
            let in_trailer = hash(declared, b"hellO", &[(algorithm.header(), &text)]);
            assert_eq!(in_trailer, Err(ChecksumError::Differs(algorithm.name())));
        }
        let md5 = BASE64.encode(Md5::digest(b"hello"));
        assert_eq!(
            hash(claims(&[], Some(&md5), None).unwrap(), b"hellO", &[]),
            Err(ChecksumError::Md5Differs)
        );
        let signed = Claims {
            payload: Some(Sha256::digest(b"hello").into()),
            ..Claims::default()
        };
        assert_eq!(
            hash(signed.clone(), b"hellO", &[]),
            Err(ChecksumError::PayloadDiffers)
        );
        assert!(hash(signed, b"hello", &[]).is_ok());
    }

    #[test]
    fn a_declared_trailer_must_come_and_an_undeclared_one_must_not() {
        let declared = claims(&[], None, Some("x-amz-checksum-crc32")).unwrap();
        assert_eq!(
            hash(declared.clone(), b"x", &[]),
            Err(ChecksumError::TrailerMissing("x-amz-checksum-crc32"))
        );
        assert_eq!(
            hash(declared, b"x", &[("x-amz-checksum-sha1", "x")]),
            Err(ChecksumError::BadTrailer)
        );
        assert_eq!(
            hash(
                Claims::default(),
                b"x",
                &[("x-amz-checksum-crc32", "jNpAkg==")]
            ),
            Err(ChecksumError::BadTrailer)
        );
        assert_eq!(
            claims(&[], None, Some("x-amz-meta-a")),
            Err(ChecksumError::UnknownTrailer)
        );
        assert_eq!(
            claims(&[], None, Some("x-amz-checksum-md5")),
            Err(ChecksumError::UnknownTrailer)
        );
    }

    #[test]
    fn claims_are_well_formed_or_refused() {
        for bad in [
            "",
            "AAAA",
            "AAAAAA=",
            "AAAAAAA=",
            "!!!!!!==",
            "AAAAAAAAAAA=",
        ] {
            assert!(
                claims(&[(Algorithm::Crc32, bad)], None, None).is_err(),
                "{bad}"
            );
        }
        for bad in ["", "1234", "not base64", "AAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(
                claims(&[], Some(bad), None),
                Err(ChecksumError::BadMd5Text),
                "{bad}"
            );
        }
        let two = [
            (Algorithm::Crc32, "AAAAAA=="),
            (Algorithm::Crc32c, "AAAAAA=="),
        ];
        assert_eq!(claims(&two, None, None), Err(ChecksumError::Several));
        assert_eq!(
            claims(&two[..1], None, Some("x-amz-checksum-crc32")),
            Err(ChecksumError::Several)
        );
    }

    #[test]
    fn without_a_claim_crc64nvme_is_computed() {
        let digests = hash(Claims::default(), b"hello", &[]).unwrap();
        assert_eq!(
            digests.checksum,
            Checksum::full(Algorithm::Crc64Nvme, Algorithm::Crc64Nvme.of(b"hello"))
        );
        assert_eq!(digests.md5, <[u8; 16]>::from(Md5::digest(b"hello")));
    }

    #[test]
    fn pairs_that_s3_does_not_have_are_not_made() {
        let value = vec![0; 32];
        assert_eq!(
            of_parts(Algorithm::Sha256, Kind::FullObject, &[(&value, 1)]),
            None
        );
        assert_eq!(
            of_parts(Algorithm::Crc64Nvme, Kind::Composite, &[(&value[..8], 1)]),
            None
        );
        assert_eq!(
            of_parts(Algorithm::Crc32, Kind::FullObject, &[(&value[..8], 1)]),
            None
        );
        assert_eq!(of_parts(Algorithm::Crc32, Kind::FullObject, &[]), None);
    }

    proptest! {
        /// The CRC of a multipart object is the CRC of its bytes, however they were cut.
        #[test]
        fn a_full_object_checksum_does_not_depend_on_the_parts(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..6)
        ) {
            for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
                let values: Vec<_> = parts.iter().map(|part| (algorithm.of(part), part.len() as u64)).collect();
                let refs: Vec<_> = values.iter().map(|(value, len)| (value.as_slice(), *len)).collect();
                let whole = of_parts(algorithm, Kind::FullObject, &refs).unwrap();
                prop_assert_eq!(whole.value, algorithm.of(&parts.concat()));
            }
        }

        /// A composite checksum is the checksum of the checksums.
        #[test]
        fn a_composite_checksum_is_that_of_the_checksums(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..6)
        ) {
            for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Sha1, Algorithm::Sha256] {
                let values: Vec<_> = parts.iter().map(|part| (algorithm.of(part), part.len() as u64)).collect();
                let refs: Vec<_> = values.iter().map(|(value, len)| (value.as_slice(), *len)).collect();
                let whole = of_parts(algorithm, Kind::Composite, &refs).unwrap();
                let joined: Vec<u8> = values.iter().flat_map(|(value, _)| value.clone()).collect();
                let suffix = format!("-{}", parts.len());
                prop_assert!(whole.text().ends_with(&suffix));
                prop_assert_eq!(whole.value, algorithm.of(&joined));
            }
        }
    }
}
