//! AWS Signature Version 4: keys, signatures, and the three ways of signing (header, presigned URL, chunks).
//!
//! The server side verifies with it (`authenticate`), our own command line and the tests sign with it.
//!
//! ```text
//!   secret --HMAC date, region, service--> SigningKey --HMAC string to sign--> Signature
//!   seed (request's signature) -> chunk 1 -> chunk 2 -> … -> trailer: each signs the one before
//! ```
//! Always true: a `Signature` is compared in constant time, or not at all: it has no `==` (T6).

use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Uri};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::canonical::{self, BadUri, CanonicalRequest};
use crate::object::{dates, etag::hex};

/// The only algorithm.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Payload word: the body is not signed.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// Payload word: signed chunks.
pub const STREAMING_SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
/// Payload word: signed chunks and a signed trailer.
pub const STREAMING_SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
/// Payload word: chunks that are not signed, and a trailer.
pub const STREAMING_UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
/// SHA-256 of nothing, in hex.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// A presigned URL lives at most so long: 7 days, in seconds.
pub const MAX_EXPIRES: u64 = 7 * 24 * 3600;

fn hmac(key: &[u8], data: &[&[u8]]) -> [u8; 32] {
    #[allow(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    data.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// For what a key was derived: a day, a region, a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scope {
    /// `YYYYMMDD`.
    pub date: String,
    /// `us-east-1`; may be empty.
    pub region: String,
    /// `s3`; `minikv` on the admin port.
    pub service: String,
}

impl Scope {
    /// As it stands in credentials and strings to sign.
    pub fn text(&self) -> String {
        format!(
            "{}/{}/{}/aws4_request",
            self.date, self.region, self.service
        )
    }
}

/// A secret, bound to a scope.
#[derive(Clone)]
pub struct SigningKey([u8; 32]);

impl SigningKey {
    /// From the secret; four HMACs, so worth keeping for the day.
    pub fn derive(secret: &str, scope: &Scope) -> SigningKey {
        let date = hmac(format!("AWS4{secret}").as_bytes(), &[scope.date.as_bytes()]);
        let region = hmac(&date, &[scope.region.as_bytes()]);
        let service = hmac(&region, &[scope.service.as_bytes()]);
        SigningKey(hmac(&service, &[b"aws4_request"]))
    }

    fn sign(&self, lines: &[&str]) -> Signature {
        let mut mac = Vec::with_capacity(2 * lines.len());
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                mac.push(b"\n".as_slice());
            }
            mac.push(line.as_bytes());
        }
        Signature(hex(&hmac(&self.0, &mac)))
    }

    /// Signs the policy of a form: its base64 is the string to sign.
    pub fn sign_policy(&self, base64: &str) -> Signature {
        self.sign(&[base64])
    }

    /// Signs a request by the hash of its canonical form.
    pub fn sign_request(
        &self,
        amz_date: &str,
        scope: &Scope,
        canonical_hash: &[u8; 32],
    ) -> Signature {
        self.sign(&[ALGORITHM, amz_date, &scope.text(), &hex(canonical_hash)])
    }
}

/// 64 hex digits that nobody can compare the wrong way.
#[derive(Clone)]
pub struct Signature(String);

impl Signature {
    /// Whether a claimed one is this; the time taken says nothing about where they differ.
    pub fn matches(&self, claimed: &str) -> bool {
        self.0.as_bytes().ct_eq(claimed.as_bytes()).into()
    }

    /// To be sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Signs, or verifies, the chunks of a body one after the other.
#[derive(Clone)]
pub struct ChunkSigner {
    key: SigningKey,
    amz_date: String,
    scope: String,
    previous: Signature,
}

impl ChunkSigner {
    /// Goes on from the signature of the request.
    pub fn new(key: SigningKey, amz_date: &str, scope: &Scope, seed: Signature) -> ChunkSigner {
        ChunkSigner {
            key,
            amz_date: amz_date.to_owned(),
            scope: scope.text(),
            previous: seed,
        }
    }

    /// The signature of the next chunk; an empty one ends the body.
    pub fn chunk(&mut self, sha256: &[u8; 32]) -> &Signature {
        let previous = self.previous.0.clone();
        let lines = [
            "AWS4-HMAC-SHA256-PAYLOAD",
            &self.amz_date,
            &self.scope,
            &previous,
            EMPTY_SHA256,
            &hex(sha256),
        ];
        self.previous = self.key.sign(&lines);
        &self.previous
    }

    /// The signature of the trailer: lines of `name:value\n`, sorted.
    pub fn trailer(&mut self, lines: &[u8]) -> &Signature {
        let previous = self.previous.0.clone();
        let hash = hex(&Sha256::digest(lines));
        self.previous = self.key.sign(&[
            "AWS4-HMAC-SHA256-TRAILER",
            &self.amz_date,
            &self.scope,
            &previous,
            &hash,
        ]);
        &self.previous
    }
}

/// Signs requests as a client does.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// The public half of the key.
    pub access_key: &'a str,
    /// The secret half.
    pub secret_key: &'a str,
    /// `us-east-1`.
    pub region: &'a str,
    /// `s3`, or `minikv` for the admin port.
    pub service: &'a str,
}

impl Signer<'_> {
    fn scope(&self, amz_date: &str) -> Scope {
        Scope {
            date: amz_date[..8].to_owned(),
            region: self.region.to_owned(),
            service: self.service.to_owned(),
        }
    }

    /// Adds `x-amz-date`, `x-amz-content-sha256` and `authorization`; all headers that are there are signed.
    /// `host` must be among them. `payload` is the hex SHA-256 of the body, or one of the words.
    ///
    /// What it returns signs the chunks of a streaming body.
    pub fn sign(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &mut HeaderMap,
        payload: &str,
        unix_seconds: u64,
    ) -> Result<ChunkSigner, SignError> {
        if !headers.contains_key(HOST) {
            return Err(SignError::NoHost);
        }
        let amz_date = dates::amz_date(unix_seconds);
        headers.insert("x-amz-date", HeaderValue::try_from(amz_date.as_str())?);
        headers.insert("x-amz-content-sha256", HeaderValue::try_from(payload)?);
        headers.remove(AUTHORIZATION);
        let signed_headers = names(headers);
        let scope = self.scope(&amz_date);
        let canonical = CanonicalRequest {
            method,
            path: &canonical::path(uri.path())?,
            query: &canonical::query(&canonical::query_pairs(uri.query().unwrap_or(""))?, ""),
            headers,
            signed_headers: &signed_headers,
            payload,
        };
        let hash = canonical.hash().ok_or(SignError::NoHost)?;
        let key = SigningKey::derive(self.secret_key, &scope);
        let signature = key.sign_request(&amz_date, &scope, &hash);
        let authorization = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={signed_headers}, Signature={}",
            self.access_key,
            scope.text(),
            signature.as_str()
        );
        let mut authorization = HeaderValue::try_from(authorization)?;
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
        Ok(ChunkSigner::new(key, &amz_date, &scope, signature))
    }

    /// Path and query of a URL that does this request for `expires` seconds. `headers` (with `host`) must be sent as they are.
    pub fn presign(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        expires: u64,
        unix_seconds: u64,
    ) -> Result<String, SignError> {
        let amz_date = dates::amz_date(unix_seconds);
        let scope = self.scope(&amz_date);
        let signed_headers = names(headers);
        let mut pairs = canonical::query_pairs(uri.query().unwrap_or(""))?;
        for (name, value) in [
            ("X-Amz-Algorithm", ALGORITHM.to_owned()),
            (
                "X-Amz-Credential",
                format!("{}/{}", self.access_key, scope.text()),
            ),
            ("X-Amz-Date", amz_date.clone()),
            ("X-Amz-Expires", expires.to_string()),
            ("X-Amz-SignedHeaders", signed_headers.clone()),
        ] {
            pairs.push((name.to_owned(), value));
        }
        let (path, query) = (canonical::path(uri.path())?, canonical::query(&pairs, ""));
        let canonical = CanonicalRequest {
            method,
            path: &path,
            query: &query,
            headers,
            signed_headers: &signed_headers,
            payload: UNSIGNED_PAYLOAD,
        };
        let hash = canonical
            .hash()
            .filter(|_| headers.contains_key(HOST))
            .ok_or(SignError::NoHost)?;
        let signature =
            SigningKey::derive(self.secret_key, &scope).sign_request(&amz_date, &scope, &hash);
        Ok(format!(
            "{path}?{query}&X-Amz-Signature={}",
            signature.as_str()
        ))
    }
}

fn names(headers: &HeaderMap) -> String {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names.join(";")
}

/// Why a request could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// `host` must be signed.
    #[error("the request has no host header")]
    NoHost,
    /// Not a URI we could send.
    #[error(transparent)]
    Uri(#[from] BadUri),
    /// A value that no header can carry.
    #[error("a header value is not valid: {0}")]
    Header(#[from] http::header::InvalidHeaderValue),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The examples of the S3 documentation ("Authenticating Requests: Using the Authorization Header").
    const DOCS: Signer<'static> = Signer {
        access_key: "AKIAIOSFODNN7EXAMPLE",
        secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        region: "us-east-1",
        service: "s3",
    };
    const DAY: u64 = 1_369_353_600; // 2013-05-24

    fn signature(headers: &HeaderMap) -> String {
        headers[AUTHORIZATION]
            .to_str()
            .unwrap()
            .rsplit_once("Signature=")
            .unwrap()
            .1
            .to_owned()
    }

    #[test]
    fn a_get_is_signed_as_in_the_documentation() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "host",
            HeaderValue::from_static("examplebucket.s3.amazonaws.com"),
        );
        headers.insert("range", HeaderValue::from_static("bytes=0-9"));
        DOCS.sign(
            &Method::GET,
            &Uri::from_static("/test.txt"),
            &mut headers,
            EMPTY_SHA256,
            DAY,
        )
        .unwrap();
        assert_eq!(
            signature(&headers),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }

    #[test]
    fn a_put_is_signed_as_in_the_documentation() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "host",
            HeaderValue::from_static("examplebucket.s3.amazonaws.com"),
        );
        headers.insert(
            "date",
            HeaderValue::from_static("Fri, 24 May 2013 00:00:00 GMT"),
        );
        headers.insert(
            "x-amz-storage-class",
            HeaderValue::from_static("REDUCED_REDUNDANCY"),
        );
        let payload = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
        DOCS.sign(
            &Method::PUT,
            &Uri::from_static("/test$file.text"),
            &mut headers,
            payload,
            DAY,
        )
        .unwrap();
        assert_eq!(
            signature(&headers),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
    }

    #[test]
    fn queries_are_signed_as_in_the_documentation() {
        for (uri, expected) in [
            (
                "/?lifecycle",
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "/?max-keys=2&prefix=J",
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                "host",
                HeaderValue::from_static("examplebucket.s3.amazonaws.com"),
            );
            DOCS.sign(
                &Method::GET,
                &Uri::from_static(uri),
                &mut headers,
                EMPTY_SHA256,
                DAY,
            )
            .unwrap();
            assert_eq!(signature(&headers), expected);
        }
    }

    #[test]
    fn a_url_is_presigned_as_in_the_documentation() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "host",
            HeaderValue::from_static("examplebucket.s3.amazonaws.com"),
        );
        let url = DOCS
            .presign(
                &Method::GET,
                &Uri::from_static("/test.txt"),
                &headers,
                86_400,
                DAY,
            )
            .unwrap();
        assert!(url.starts_with("/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2F"));
        assert!(url.ends_with(
            "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        ));
    }

    /// "Signature Calculations: Transferring Payload in Multiple Chunks", and the page on trailers.
    #[test]
    fn chunks_and_trailers_are_signed_as_in_the_documentation() {
        let hash = |bytes: &[u8]| -> [u8; 32] { Sha256::digest(bytes).into() };
        let chunks = [vec![b'a'; 65_536], vec![b'a'; 1_024], vec![]];
        let go = |trailer: bool| {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("host", "s3.amazonaws.com"),
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                ("content-encoding", "aws-chunked"),
                ("x-amz-decoded-content-length", "66560"),
            ] {
                headers.insert(name, HeaderValue::from_static(value));
            }
            let payload = if trailer {
                headers.insert(
                    "x-amz-trailer",
                    HeaderValue::from_static("x-amz-checksum-crc32c"),
                );
                STREAMING_SIGNED_TRAILER
            } else {
                headers.insert("content-length", HeaderValue::from_static("66824"));
                STREAMING_SIGNED
            };
            let uri = Uri::from_static("/examplebucket/chunkObject.txt");
            let mut signer = DOCS
                .sign(&Method::PUT, &uri, &mut headers, payload, DAY)
                .unwrap();
            let seed = signature(&headers);
            let chunks: Vec<_> = chunks
                .iter()
                .map(|c| signer.chunk(&hash(c)).as_str().to_owned())
                .collect();
            (
                seed,
                chunks,
                signer
                    .trailer(b"x-amz-checksum-crc32c:sOO8/Q==\n")
                    .as_str()
                    .to_owned(),
            )
        };
        let (seed, signed, _) = go(false);
        assert_eq!(
            seed,
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
        );
        assert_eq!(
            signed,
            [
                "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
                "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
                "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
            ]
        );
        let (seed, signed, trailer) = go(true);
        assert_eq!(
            seed,
            "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
        );
        assert_eq!(
            signed[2],
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"
        );
        assert_eq!(
            trailer,
            "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
        );
    }

    #[test]
    fn signatures_match_only_when_equal() {
        let signature = Signature("ab".repeat(32));
        assert!(signature.matches(&"ab".repeat(32)));
        assert!(!signature.matches(&"AB".repeat(32)));
        assert!(!signature.matches(""));
        assert!(!signature.matches(&"ab".repeat(31)));
    }
}
