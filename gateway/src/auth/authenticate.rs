//! Is the claim true?
//!
//! Order: time and scope (cheap, no secrets), key, signature, and last that nothing unsigned came along. Always true:
//! * an answer other than a `Proof` is a refusal; there is one way to a proof, through the signature;
//! * every `x-amz-*` header is signed, but for a few that change nothing (T3): an added header cannot turn a PUT that
//!   somebody signed into a copy that he did not;
//! * what says how the payload is checked was signed too, and every value it can have is listed here (T1).

use std::sync::Arc;

use http::{HeaderMap, Method};

use super::access_key::KeyStore;
use super::canonical::{self, CanonicalRequest};
use super::claim::{self, Claim, ClaimError};
use super::principal::Principal;
use super::signature_v4::{
    ChunkSigner, STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER, Scope,
    UNSIGNED_PAYLOAD,
};
use crate::object::etag::unhex;

/// How far the client's clock may be off, in seconds.
pub const MAX_SKEW: u64 = 15 * 60;

/// `x-amz-*` headers that may come unsigned, because proxies or browsers add them and nothing here obeys them.
pub const UNSIGNED_ALLOWED: [&str; 4] = [
    "x-amz-cf-id",
    "x-amz-user-agent",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-te",
];

/// The head of a request, as it came.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path, percent-encoded.
    pub path: &'a str,
    /// Query, decoded.
    pub query: &'a [(String, String)],
    /// Headers.
    pub headers: &'a HeaderMap,
}

/// What this port expects of a scope.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// `s3`, or `minikv` on the admin port.
    pub service: &'a str,
    /// `us-east-1`. An empty one in a request is taken too.
    pub region: &'a str,
}

/// How the body must be checked.
#[derive(Clone)]
pub enum Payload {
    /// Not signed.
    Unsigned,
    /// Its SHA-256 was signed.
    Sha256([u8; 32]),
    /// In signed chunks, with a signed trailer or without.
    SignedChunks {
        /// Goes on from the request's signature.
        signer: Box<ChunkSigner>,
        /// Whether a trailer follows.
        trailer: bool,
    },
    /// In chunks that are not signed; a trailer follows.
    UnsignedChunks,
}

/// A request that is what it says.
#[derive(Clone)]
pub struct Proof {
    /// Whose.
    pub principal: Arc<Principal>,
    /// How to check the body.
    pub payload: Payload,
    /// Signed as a URL.
    pub presigned: bool,
}

/// Why a request is not let in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthError {
    /// It claims nothing.
    #[error("Access Denied")]
    Anonymous,
    /// What it claims cannot be read.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Signed for another region.
    #[error("the region '{asked}' is wrong; expecting '{expected}'")]
    WrongRegion {
        /// What it was signed for.
        asked: String,
        /// What it should be.
        expected: String,
        /// In a URL.
        presigned: bool,
    },
    /// Signed for another service.
    #[error("incorrect service \"{asked}\". This endpoint belongs to \"{expected}\".")]
    WrongService {
        /// What it was signed for.
        asked: String,
        /// What it should be.
        expected: String,
        /// In a URL.
        presigned: bool,
    },
    /// Over 15 minutes off.
    #[error("The difference between the request time and the current time is too large.")]
    TimeSkewed {
        /// When it was signed.
        signed: String,
        /// Now.
        now: u64,
    },
    /// A URL that is not good yet.
    #[error("Request is not yet valid")]
    NotYetValid,
    /// A URL that was good once.
    #[error("Request has expired")]
    Expired {
        /// When it ended.
        at: u64,
        /// Now.
        now: u64,
    },
    /// Nobody has this key.
    #[error("The AWS Access Key Id you provided does not exist in our records.")]
    UnknownKey(String),
    /// Temporary credentials, which nobody here gives out.
    #[error("The provided token is malformed or otherwise invalid.")]
    Token,
    /// Another secret, or another request.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your key and signing method."
    )]
    Signature,
    /// Signed, but more came than was signed.
    #[error("There were headers present in the request which were not signed")]
    NotSigned(Vec<String>),
    /// `x-amz-content-sha256` is required in the header.
    #[error("Missing required header for this request: x-amz-content-sha256")]
    NoPayloadHash,
    /// A form with a policy has certain fields.
    #[error("Bucket POST must contain a valid field named '{0}'.")]
    FormField(&'static str),
    /// It is none of what it may be.
    #[error(
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value."
    )]
    PayloadHash,
    /// A way of signing chunks that is not done here, or not in a URL.
    #[error(
        "A header you provided implies functionality that is not implemented: x-amz-content-sha256: {0}"
    )]
    PayloadUnsupported(String),
}

/// Proves a request, or says why not. `now`: seconds since 1970.
pub fn authenticate(
    head: Head<'_>,
    keys: &KeyStore,
    expected: Expected<'_>,
    now: u64,
) -> Result<Proof, AuthError> {
    let claim = claim::read(head.headers, head.query)?.ok_or(AuthError::Anonymous)?;
    check_time(&claim, now)?;
    check_scope(&claim, expected)?;
    if head.headers.contains_key("x-amz-security-token")
        || head
            .query
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("x-amz-security-token"))
    {
        return Err(AuthError::Token);
    }
    let payload_word = payload_word(head, &claim)?;
    let key = keys
        .get(&claim.access_key)
        .ok_or_else(|| AuthError::UnknownKey(claim.access_key.clone()))?;
    let signing_key = key.signing_key(&claim.scope);

    let query = canonical::query(head.query, "X-Amz-Signature");
    let sign = |path: &str| {
        let request = CanonicalRequest {
            method: head.method,
            path,
            query: &query,
            headers: head.headers,
            signed_headers: &claim.signed_headers,
            payload: payload_word,
        };
        Some(signing_key.sign_request(&claim.amz_date, &claim.scope, &request.hash()?))
    };
    let path = canonical::path(head.path).map_err(|_| AuthError::Signature)?;
    let good = |signature: &super::signature_v4::Signature| signature.matches(&claim.signature);
    // Some clients sign the path as they send it: it is the same resource, whichever of the two was signed.
    let signature = sign(&path)
        .filter(good)
        .or_else(|| {
            if path == head.path {
                None
            } else {
                sign(head.path).filter(good)
            }
        })
        .ok_or(AuthError::Signature)?;

    let not_signed = unsigned_headers(head.headers, &claim.signed_headers);
    if !not_signed.is_empty() {
        return Err(AuthError::NotSigned(not_signed));
    }
    let streaming = |trailer| Payload::SignedChunks {
        signer: Box::new(ChunkSigner::new(
            signing_key.clone(),
            &claim.amz_date,
            &claim.scope,
            signature.clone(),
        )),
        trailer,
    };
    let presigned = claim.expires.is_some();
    let payload = match payload_word {
        UNSIGNED_PAYLOAD => Payload::Unsigned,
        word if presigned && word.starts_with("STREAMING-") => {
            return Err(AuthError::PayloadUnsupported(word.to_owned()));
        }
        STREAMING_SIGNED => streaming(false),
        STREAMING_SIGNED_TRAILER => streaming(true),
        STREAMING_UNSIGNED_TRAILER => Payload::UnsignedChunks,
        word if word.starts_with("STREAMING-AWS4-ECDSA-") => {
            return Err(AuthError::PayloadUnsupported(word.to_owned()));
        }
        word => Payload::Sha256(unhex(word).ok_or(AuthError::PayloadHash)?),
    };
    Ok(Proof {
        principal: key.principal().clone(),
        payload,
        presigned,
    })
}

/// Proves who signed the policy of a form. `field` gives a field's value by its lower-case name.
pub fn authenticate_form<'a>(
    field: impl Fn(&str) -> Option<&'a str>,
    keys: &KeyStore,
    expected: Expected<'_>,
) -> Result<Arc<Principal>, AuthError> {
    let Some(policy) = field("policy") else {
        return Err(AuthError::Anonymous);
    };
    if field("awsaccesskeyid").is_some() || field("signature").is_some() {
        return Err(ClaimError::SignatureV2.into());
    }
    let need = |name: &'static str| field(name).ok_or(AuthError::FormField(name));
    if need("x-amz-algorithm")? != super::signature_v4::ALGORITHM {
        return Err(AuthError::FormField("x-amz-algorithm"));
    }
    let credential = need("x-amz-credential")?;
    let (access_key, scope) =
        claim::parse_credential(credential).ok_or(AuthError::FormField("x-amz-credential"))?;
    let date = need("x-amz-date")?;
    if crate::object::dates::parse_amz_date(date).is_none() || !date.starts_with(&scope.date) {
        return Err(AuthError::FormField("x-amz-date"));
    }
    check_scope_of(&scope, expected, true)?;
    if field("x-amz-security-token").is_some() {
        return Err(AuthError::Token);
    }
    let key = keys
        .get(&access_key)
        .ok_or(AuthError::UnknownKey(access_key))?;
    let signature = key.signing_key(&scope).sign_policy(policy);
    if !signature.matches(need("x-amz-signature")?) {
        return Err(AuthError::Signature);
    }
    Ok(key.principal().clone())
}

fn check_time(claim: &Claim, now: u64) -> Result<(), AuthError> {
    match claim.expires {
        None if claim.signed_at.abs_diff(now) > MAX_SKEW => Err(AuthError::TimeSkewed {
            signed: claim.amz_date.clone(),
            now,
        }),
        None => Ok(()),
        Some(_) if claim.signed_at > now + MAX_SKEW => Err(AuthError::NotYetValid),
        Some(expires) if claim.signed_at + expires < now => Err(AuthError::Expired {
            at: claim.signed_at + expires,
            now,
        }),
        Some(_) => Ok(()),
    }
}

fn check_scope(claim: &Claim, expected: Expected<'_>) -> Result<(), AuthError> {
    check_scope_of(&claim.scope, expected, claim.expires.is_some())
}

fn check_scope_of(scope: &Scope, expected: Expected<'_>, presigned: bool) -> Result<(), AuthError> {
    if !scope.region.is_empty() && scope.region != expected.region {
        let (asked, expected) = (scope.region.clone(), expected.region.to_owned());
        return Err(AuthError::WrongRegion {
            asked,
            expected,
            presigned,
        });
    }
    if scope.service != expected.service {
        let (asked, expected) = (scope.service.clone(), expected.service.to_owned());
        return Err(AuthError::WrongService {
            asked,
            expected,
            presigned,
        });
    }
    Ok(())
}

/// The last line of the canonical request: in a header for a header, in the header or query or nowhere for a URL.
fn payload_word<'a>(head: Head<'a>, claim: &Claim) -> Result<&'a str, AuthError> {
    let in_header = match head.headers.get("x-amz-content-sha256") {
        Some(value) => Some(value.to_str().map_err(|_| AuthError::PayloadHash)?),
        None => None,
    };
    if claim.expires.is_none() {
        return in_header.ok_or(AuthError::NoPayloadHash);
    }
    let in_query = head
        .query
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("x-amz-content-sha256"));
    Ok(in_header
        .or(in_query.map(|(_, value)| value.as_str()))
        .unwrap_or(UNSIGNED_PAYLOAD))
}

fn unsigned_headers(headers: &HeaderMap, signed: &str) -> Vec<String> {
    let names = headers.keys().map(|name| name.as_str());
    let amz = names.filter(|name| name.starts_with("x-amz-") && !UNSIGNED_ALLOWED.contains(name));
    amz.filter(|name| !signed.split(';').any(|s| s == *name))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::auth::canonical::query_pairs;
    use crate::auth::signature_v4::{EMPTY_SHA256, Signer};
    use http::{HeaderValue, Uri};

    const NOW: u64 = 1_795_000_000;
    const SIGNER: Signer<'static> = Signer {
        access_key: "AK",
        secret_key: "SK",
        region: "us-east-1",
        service: "s3",
    };

    fn keys() -> KeyStore {
        let keys = KeyStore::new();
        keys.put("AK", "SK", Principal::root("AK"));
        keys
    }

    struct Request {
        method: Method,
        uri: String,
        headers: HeaderMap,
    }

    impl Request {
        fn new(method: Method, uri: &str) -> Request {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("localhost:9000"));
            Request {
                method,
                uri: uri.to_owned(),
                headers,
            }
        }

        fn with(mut self, name: &'static str, value: &str) -> Request {
            self.headers
                .append(name, HeaderValue::try_from(value).unwrap());
            self
        }

        fn sign_as(mut self, signer: Signer<'_>, payload: &str, at: u64) -> Request {
            let uri: Uri = self.uri.parse().unwrap();
            signer
                .sign(&self.method, &uri, &mut self.headers, payload, at)
                .unwrap();
            self
        }

        fn signed(self) -> Request {
            self.sign_as(SIGNER, EMPTY_SHA256, NOW)
        }

        fn presigned(mut self, expires: u64, at: u64) -> Request {
            let uri: Uri = self.uri.parse().unwrap();
            self.uri = SIGNER
                .presign(&self.method, &uri, &self.headers, expires, at)
                .unwrap();
            self
        }

        fn check_at(&self, now: u64) -> Result<Proof, AuthError> {
            let (path, query) = self.uri.split_once('?').unwrap_or((&self.uri, ""));
            let query = query_pairs(query).unwrap();
            let head = Head {
                method: &self.method,
                path,
                query: &query,
                headers: &self.headers,
            };
            authenticate(
                head,
                &keys(),
                Expected {
                    service: "s3",
                    region: "us-east-1",
                },
                now,
            )
        }

        fn refusal(&self) -> AuthError {
            self.check_at(NOW).err().unwrap()
        }
    }

    fn put() -> Request {
        Request::new(Method::PUT, "/bucket/a%20key?partNumber=1&uploadId=x")
            .with("x-amz-meta-a", "b")
    }

    #[test]
    fn what_was_signed_is_let_in() {
        assert!(put().signed().check_at(NOW).is_ok());
        assert!(
            put()
                .presigned(60, NOW)
                .check_at(NOW + 60)
                .unwrap()
                .presigned
        );
    }

    #[test]
    fn nobody_gets_nowhere() {
        assert_eq!(put().refusal(), AuthError::Anonymous);
    }

    /// T1, T3, T7: any change after signing is noticed: a header added, altered, doubled or taken away, the method, path or query.
    #[test]
    fn any_change_after_signing_is_refused() {
        type Change = fn(&mut Request);
        let changes: [(&str, Change); 12] = [
            ("method", |r| r.method = Method::DELETE),
            ("path", |r| r.uri = r.uri.replace("a%20key", "b")),
            ("case of path", |r| {
                r.uri = r.uri.replace("/bucket", "/Bucket")
            }),
            ("query value", |r| {
                r.uri = r.uri.replace("partNumber=1", "partNumber=2")
            }),
            ("query added", |r| r.uri.push_str("&acl")),
            ("query doubled", |r| r.uri.push_str("&uploadId=x")),
            ("header altered", |r| {
                r.headers
                    .insert("x-amz-meta-a", HeaderValue::from_static("c"));
            }),
            ("header doubled", |r| {
                r.headers
                    .append("x-amz-meta-a", HeaderValue::from_static("b"));
            }),
            ("header gone", |r| {
                r.headers.remove("x-amz-meta-a");
            }),
            ("host", |r| {
                r.headers.insert("host", HeaderValue::from_static("evil"));
            }),
            ("copy source added", |r| {
                r.headers.insert(
                    "x-amz-copy-source",
                    HeaderValue::from_static("/other/secret"),
                );
            }),
            ("acl added", |r| {
                r.headers
                    .insert("x-amz-acl", HeaderValue::from_static("public-read"));
            }),
        ];
        for (what, change) in changes {
            for mut request in [put().signed(), put().presigned(60, NOW)] {
                change(&mut request);
                let refused = request.refusal();
                assert!(
                    matches!(refused, AuthError::Signature | AuthError::NotSigned(_)),
                    "{what}: {refused:?}"
                );
            }
        }
    }

    #[test]
    fn every_digit_of_the_signature_counts() {
        let request = put().signed();
        let authorization = request.headers["authorization"]
            .to_str()
            .unwrap()
            .to_owned();
        let start = authorization.len() - 64;
        for at in start..authorization.len() {
            let mut changed = authorization.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let mut request = put().signed();
            request
                .headers
                .insert("authorization", HeaderValue::from_bytes(&changed).unwrap());
            assert_eq!(request.refusal(), AuthError::Signature);
        }
    }

    /// T5: 15 minutes either way, not a second more.
    #[test]
    fn clocks_may_differ_by_15_minutes() {
        let request = put().signed();
        assert!(request.check_at(NOW + MAX_SKEW).is_ok());
        assert!(request.check_at(NOW - MAX_SKEW).is_ok());
        for now in [NOW + MAX_SKEW + 1, NOW - MAX_SKEW - 1] {
            assert!(matches!(
                request.check_at(now),
                Err(AuthError::TimeSkewed { .. })
            ));
        }
    }

    #[test]
    fn a_url_ends_when_it_says_so() {
        let request = put().presigned(60, NOW);
        assert!(request.check_at(NOW - MAX_SKEW).is_ok());
        assert!(matches!(
            request.check_at(NOW - MAX_SKEW - 1),
            Err(AuthError::NotYetValid)
        ));
        assert!(matches!(
            request.check_at(NOW + 61),
            Err(AuthError::Expired { .. })
        ));
    }

    /// T4: the expiry is part of what was signed.
    #[test]
    fn the_life_of_a_url_cannot_be_lengthened() {
        let mut request = put().presigned(60, NOW);
        request.uri = request.uri.replace("X-Amz-Expires=60", "X-Amz-Expires=600");
        assert_eq!(
            request.check_at(NOW + 61).err().unwrap(),
            AuthError::Signature
        );
    }

    #[test]
    fn the_wrong_region_is_told_the_right_one_and_an_empty_one_is_fine() {
        let sign = |region| put().sign_as(Signer { region, ..SIGNER }, EMPTY_SHA256, NOW);
        assert!(sign("").check_at(NOW).is_ok());
        let wrong = sign("eu-west-1").refusal();
        assert!(
            matches!(wrong, AuthError::WrongRegion { ref expected, .. } if expected == "us-east-1")
        );
        let service = put()
            .sign_as(
                Signer {
                    service: "minikv",
                    ..SIGNER
                },
                EMPTY_SHA256,
                NOW,
            )
            .refusal();
        assert!(
            matches!(service, AuthError::WrongService { .. }),
            "T10: a signature for another port is no good here"
        );
    }

    #[test]
    fn keys_must_be_known_and_secrets_right() {
        let unknown = put().sign_as(
            Signer {
                access_key: "XX",
                ..SIGNER
            },
            EMPTY_SHA256,
            NOW,
        );
        assert_eq!(unknown.refusal(), AuthError::UnknownKey("XX".into()));
        let wrong = put().sign_as(
            Signer {
                secret_key: "XX",
                ..SIGNER
            },
            EMPTY_SHA256,
            NOW,
        );
        assert_eq!(wrong.refusal(), AuthError::Signature);
        assert_eq!(
            put().with("x-amz-security-token", "t").signed().refusal(),
            AuthError::Token
        );
    }

    #[test]
    fn every_way_of_signing_a_payload_is_known_or_refused() {
        let payload = |word: &str| {
            put()
                .sign_as(SIGNER, word, NOW)
                .check_at(NOW)
                .map(|proof| proof.payload)
        };
        assert!(matches!(payload(UNSIGNED_PAYLOAD), Ok(Payload::Unsigned)));
        assert!(matches!(payload(EMPTY_SHA256), Ok(Payload::Sha256(_))));
        assert!(matches!(
            payload(STREAMING_SIGNED),
            Ok(Payload::SignedChunks { trailer: false, .. })
        ));
        assert!(matches!(
            payload(STREAMING_SIGNED_TRAILER),
            Ok(Payload::SignedChunks { trailer: true, .. })
        ));
        assert!(matches!(
            payload(STREAMING_UNSIGNED_TRAILER),
            Ok(Payload::UnsignedChunks)
        ));
        assert!(matches!(
            payload("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"),
            Err(AuthError::PayloadUnsupported(_))
        ));
        for word in [
            "",
            "unsigned-payload",
            "STREAMING-UNSIGNED-PAYLOAD",
            "abc",
            "UNSIGNED-PAYLOAD-TRAILER",
        ] {
            assert!(
                matches!(payload(word), Err(AuthError::PayloadHash)),
                "{word}"
            );
        }
        let mut without = put().signed();
        without.headers.remove("x-amz-content-sha256");
        assert_eq!(without.refusal(), AuthError::NoPayloadHash);
    }

    #[test]
    fn headers_that_change_nothing_may_be_added_on_the_way() {
        for name in UNSIGNED_ALLOWED {
            assert!(
                put().signed().with(name, "x").check_at(NOW).is_ok(),
                "{name}"
            );
        }
        assert!(
            put()
                .signed()
                .with("x-forwarded-for", "x")
                .with("if-match", "\"e\"")
                .check_at(NOW)
                .is_ok()
        );
    }

    /// Clients that sign the path as they send it (`$` or `@` unencoded) are let in, too.
    #[test]
    fn a_path_may_be_signed_as_it_was_sent() {
        let mut request = Request::new(Method::GET, "/bucket/a$b@c").signed();
        assert!(
            request.check_at(NOW).is_ok(),
            "encoded by the canonical rules"
        );
        let key = keys().get("AK").unwrap();
        let claim = claim::read(&request.headers, &[]).unwrap().unwrap();
        let canonical = CanonicalRequest {
            method: &Method::GET,
            path: "/bucket/a$b@c",
            query: "",
            headers: &request.headers,
            signed_headers: &claim.signed_headers,
            payload: EMPTY_SHA256,
        };
        let signing_key = key.signing_key(&claim.scope);
        let signature =
            signing_key.sign_request(&claim.amz_date, &claim.scope, &canonical.hash().unwrap());
        let text = request.headers["authorization"]
            .to_str()
            .unwrap()
            .replace(&claim.signature, signature.as_str());
        request
            .headers
            .insert("authorization", HeaderValue::try_from(text).unwrap());
        assert!(request.check_at(NOW).is_ok());
    }
}
