//! What a request says of its own signature: in the `Authorization` header, or in the query of a presigned URL.
//!
//! Nothing here is proven. Always true:
//! * there is one claim, or none, or the request is refused: never a choice between two (T1, T2);
//! * SigV2 in any form is refused by name, so that a client that falls back to it says why it failed.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::signature_v4::{ALGORITHM, MAX_EXPIRES, Scope};
use crate::object::dates;

/// A signature and everything it names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The key.
    pub access_key: String,
    /// Day, region, service.
    pub scope: Scope,
    /// Lower-case, sorted, between semicolons.
    pub signed_headers: String,
    /// Hex; not compared here.
    pub signature: String,
    /// `YYYYMMDDTHHMMSSZ`.
    pub amz_date: String,
    /// The same in seconds since 1970.
    pub signed_at: u64,
    /// Seconds a presigned URL is good for; `None`: signed in the header.
    pub expires: Option<u64>,
}

/// What is wrong with a claim before anything is verified.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClaimError {
    /// Signature Version 2.
    #[error(
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
    )]
    SignatureV2,
    /// In the header and in the query.
    #[error(
        "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified"
    )]
    Both,
    /// The header is not what it should be.
    #[error("The authorization header is malformed; {0}")]
    Header(String),
    /// The query is not what it should be.
    #[error("{0}")]
    Query(String),
    /// No `x-amz-date`, no `Date`.
    #[error("AWS authentication requires a valid Date or x-amz-date header")]
    NoDate,
}

fn header_error(why: impl Into<String>) -> ClaimError {
    ClaimError::Header(why.into())
}

fn query_error(why: impl Into<String>) -> ClaimError {
    ClaimError::Query(why.into())
}

/// Names of query parameters that only authentication has, in any case.
fn is_query_auth(name: &str) -> bool {
    [
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-signature",
        "x-amz-signedheaders",
    ]
    .iter()
    .any(|auth| name.eq_ignore_ascii_case(auth))
}

/// Reads the claim of a request. `None`: it makes none, and is anonymous. `query`: its decoded pairs.
pub fn read(headers: &HeaderMap, query: &[(String, String)]) -> Result<Option<Claim>, ClaimError> {
    let in_query = query.iter().any(|(name, _)| is_query_auth(name));
    let v2_in_query = query
        .iter()
        .any(|(name, _)| name == "AWSAccessKeyId" || name == "Signature");
    let mut in_header = headers.get_all(AUTHORIZATION).iter();
    let authorization = in_header.next();
    if in_header.next().is_some() {
        return Err(header_error("it was sent more than once."));
    }
    match authorization {
        Some(_) if in_query || v2_in_query => Err(ClaimError::Both),
        None if v2_in_query => Err(ClaimError::SignatureV2),
        None if in_query => from_query(query).map(Some),
        None => Ok(None),
        Some(value) => {
            let text = value
                .to_str()
                .map_err(|_| header_error("it is not printable ASCII."))?;
            from_header(text, headers).map(Some)
        }
    }
}

/// `key/date/region/service/aws4_request`; the key may hold slashes.
pub(super) fn parse_credential(text: &str) -> Option<(String, Scope)> {
    let mut parts = text.rsplitn(5, '/');
    let end = parts.next()?;
    let (service, region, date) = (parts.next()?, parts.next()?, parts.next()?);
    let key = parts.next()?;
    if end != "aws4_request"
        || key.is_empty()
        || date.len() != 8
        || !date.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let scope = Scope {
        date: date.to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
    };
    Some((key.to_owned(), scope))
}

/// Lower-case names, sorted, each once, `host` among them.
fn check_signed_headers(names: &str) -> Result<(), &'static str> {
    let list: Vec<&str> = names.split(';').collect();
    let plain = |name: &&str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase())
    };
    if !list.iter().all(plain) {
        return Err("SignedHeaders must be lower-case names between semicolons.");
    }
    if list.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("SignedHeaders must be sorted, each name once.");
    }
    if list.binary_search(&"host").is_err() {
        return Err("the host header must be signed.");
    }
    Ok(())
}

fn check_signature(text: &str) -> Result<(), &'static str> {
    let hex = text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if hex {
        Ok(())
    } else {
        Err("the Signature is not 64 lower-case hex digits.")
    }
}

fn from_header(text: &str, headers: &HeaderMap) -> Result<Claim, ClaimError> {
    if text.starts_with("AWS ") {
        return Err(ClaimError::SignatureV2);
    }
    let Some(fields) = text
        .strip_prefix(ALGORITHM)
        .filter(|rest| rest.starts_with([' ', '\t']))
    else {
        return Err(header_error(format!("the only algorithm is {ALGORITHM}.")));
    };
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for field in fields.split(',') {
        let (name, value) = field
            .trim()
            .split_once('=')
            .ok_or_else(|| header_error("a field has no value."))?;
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => return Err(header_error("it has a field that does not belong there.")),
        };
        if slot.replace(value).is_some() {
            return Err(header_error(format!("{name} is there twice.")));
        }
    }
    let missing = |name: &str| header_error(format!("{name} is missing."));
    let credential = credential.ok_or_else(|| missing("Credential"))?;
    let signed_headers = signed_headers.ok_or_else(|| missing("SignedHeaders"))?;
    let signature = signature.ok_or_else(|| missing("Signature"))?;
    let (access_key, scope) = parse_credential(credential).ok_or_else(|| {
        header_error("the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".")
    })?;
    check_signed_headers(signed_headers).map_err(header_error)?;
    check_signature(signature).map_err(header_error)?;
    let (amz_date, signed_at) = date_of(headers)?;
    if amz_date[..8] != scope.date {
        return Err(header_error(format!(
            "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
            scope.date,
            &amz_date[..8]
        )));
    }
    Ok(Claim {
        access_key,
        scope,
        signed_headers: signed_headers.to_owned(),
        signature: signature.to_owned(),
        amz_date,
        signed_at,
        expires: None,
    })
}

/// `x-amz-date`, or else `Date`.
fn date_of(headers: &HeaderMap) -> Result<(String, u64), ClaimError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("x-amz-date") {
        Some(date) => {
            let seconds = dates::parse_amz_date(date).ok_or(ClaimError::NoDate)?;
            Ok((date.to_owned(), seconds))
        }
        None => {
            let seconds = text("date")
                .and_then(dates::parse_http_date)
                .ok_or(ClaimError::NoDate)?;
            Ok((dates::amz_date(seconds), seconds))
        }
    }
}

fn from_query(query: &[(String, String)]) -> Result<Claim, ClaimError> {
    let one = |wanted: &str| {
        let mut values = query
            .iter()
            .filter(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            (Some(_), Some(_)) => Err(query_error(format!("{wanted} is there twice."))),
            (None, _) => Err(query_error(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, \
                 X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
            )),
        }
    };
    if one("X-Amz-Algorithm")? != ALGORITHM {
        return Err(query_error(format!(
            "X-Amz-Algorithm only supports \"{ALGORITHM}\""
        )));
    }
    let (access_key, scope) = parse_credential(one("X-Amz-Credential")?).ok_or_else(|| {
        query_error("Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".")
    })?;
    let amz_date = one("X-Amz-Date")?;
    let signed_at = dates::parse_amz_date(amz_date).ok_or_else(|| {
        query_error("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    })?;
    if amz_date[..8] != scope.date {
        return Err(query_error(format!(
            "Error parsing the X-Amz-Credential parameter; incorrect date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
            scope.date,
            &amz_date[..8]
        )));
    }
    let expires = one("X-Amz-Expires")?;
    if expires.starts_with('-') {
        return Err(query_error("X-Amz-Expires must be non-negative"));
    }
    if expires.is_empty() || !expires.bytes().all(|b| b.is_ascii_digit()) {
        return Err(query_error("X-Amz-Expires should be a number"));
    }
    let expires = expires.parse().ok().filter(|expires| *expires <= MAX_EXPIRES).ok_or_else(|| {
        query_error(format!(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than {MAX_EXPIRES} seconds"
        ))
    })?;
    let signed_headers = one("X-Amz-SignedHeaders")?;
    check_signed_headers(signed_headers).map_err(query_error)?;
    let signature = one("X-Amz-Signature")?;
    check_signature(signature).map_err(query_error)?;
    Ok(Claim {
        access_key,
        scope,
        signed_headers: signed_headers.to_owned(),
        signature: signature.to_owned(),
        amz_date: amz_date.to_owned(),
        signed_at,
        expires: Some(expires),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::auth::canonical::query_pairs;
    use http::HeaderValue;

    const SIGNATURE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn header(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::try_from(authorization).unwrap());
        headers.insert("x-amz-date", HeaderValue::from_static("20261122T010203Z"));
        headers
    }

    fn good() -> String {
        format!(
            "{ALGORITHM} Credential=AK/20261122/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature={SIGNATURE}"
        )
    }

    fn good_query() -> String {
        format!(
            "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential=AK%2F20261122%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20261122T010203Z&X-Amz-Expires=604800&X-Amz-SignedHeaders=host&X-Amz-Signature={SIGNATURE}"
        )
    }

    fn read_query(query: &str) -> Result<Option<Claim>, ClaimError> {
        read(&HeaderMap::new(), &query_pairs(query).unwrap())
    }

    #[test]
    fn a_good_header_is_read() {
        let claim = read(&header(&good()), &[]).unwrap().unwrap();
        assert_eq!(
            (claim.access_key.as_str(), claim.scope.region.as_str()),
            ("AK", "us-east-1")
        );
        assert_eq!(
            (claim.expires, claim.amz_date.as_str()),
            (None, "20261122T010203Z")
        );
        let compact = good().replace(", ", ",");
        assert_eq!(
            read(&header(&compact), &[]).unwrap().unwrap(),
            claim,
            "minio-go leaves the spaces out or not"
        );
    }

    #[test]
    fn the_date_header_serves_when_there_is_no_amz_date() {
        let mut headers = header(&good());
        headers.remove("x-amz-date");
        assert_eq!(read(&headers, &[]), Err(ClaimError::NoDate));
        headers.insert(
            "date",
            HeaderValue::from_static("Sun, 22 Nov 2026 01:02:03 GMT"),
        );
        assert_eq!(
            read(&headers, &[]).unwrap().unwrap().amz_date,
            "20261122T010203Z"
        );
    }

    #[test]
    fn a_malformed_header_is_refused() {
        for (from, to) in [
            ("AK/", "/"),
            ("/s3/", "/"),
            ("aws4_request", "aws4"),
            ("20261122/", "20261123/"),
            ("20261122/", "2026112/"),
            ("host;x-amz-date", "x-amz-date"),
            ("host;x-amz-date", "x-amz-date;host"),
            ("host;x-amz-date", "host;host"),
            ("host;x-amz-date", "Host;x-amz-date"),
            ("host;x-amz-date", "host;"),
            (SIGNATURE, "abc"),
            ("0123456789abcdef0123", "0123456789ABCDEF0123"),
            ("SignedHeaders", "signedheaders"),
            (", Signature=", ", Signature=x, Signature="),
            ("HMAC", "ECDSA"),
            (", ", " "),
        ] {
            let bad = good().replacen(from, to, 1);
            assert!(
                matches!(read(&header(&bad), &[]), Err(ClaimError::Header(_))),
                "{bad}"
            );
        }
    }

    /// T2: CVE-2026-41145 took the signature from the header and the identity from the query.
    #[test]
    fn credentials_in_two_places_are_refused() {
        for query in [
            good_query().as_str(),
            "x-amz-credential=a",
            "X-AMZ-SIGNATURE=a",
            "Signature=a",
            "AWSAccessKeyId=a",
        ] {
            assert_eq!(
                read(&header(&good()), &query_pairs(query).unwrap()),
                Err(ClaimError::Both),
                "{query}"
            );
        }
        let mut twice = header(&good());
        twice.append(AUTHORIZATION, HeaderValue::try_from(good()).unwrap());
        assert!(matches!(read(&twice, &[]), Err(ClaimError::Header(_))));
    }

    #[test]
    fn signature_version_2_is_refused_by_name() {
        assert_eq!(
            read(&header("AWS AK:c2lnbmF0dXJl"), &[]),
            Err(ClaimError::SignatureV2)
        );
        assert_eq!(
            read_query("AWSAccessKeyId=AK&Expires=1&Signature=x"),
            Err(ClaimError::SignatureV2)
        );
    }

    #[test]
    fn a_presigned_url_lives_at_most_seven_days() {
        assert_eq!(
            read_query(&good_query()).unwrap().unwrap().expires,
            Some(MAX_EXPIRES)
        );
        for expires in ["604801", "-1", "1e3", "", "+5", "99999999999999999999"] {
            let query = good_query().replace("604800", &canonical_encode(expires));
            assert!(
                matches!(read_query(&query), Err(ClaimError::Query(_))),
                "{expires}"
            );
        }
    }

    fn canonical_encode(text: &str) -> String {
        crate::auth::canonical::encode(text, false)
    }

    #[test]
    fn a_presigned_url_with_a_part_missing_or_twice_is_refused() {
        let whole = good_query();
        let pairs: Vec<&str> = whole.split('&').collect();
        for at in 0..pairs.len() {
            let mut without = pairs.clone();
            let gone = without.remove(at);
            assert!(
                matches!(read_query(&without.join("&")), Err(ClaimError::Query(_))),
                "without {gone}"
            );
            let twice = format!("{whole}&{gone}");
            assert!(
                matches!(read_query(&twice), Err(ClaimError::Query(_))),
                "twice {gone}"
            );
        }
        assert!(matches!(
            read_query(&whole.to_lowercase()),
            Err(ClaimError::Query(_))
        ));
    }

    #[test]
    fn a_request_without_any_of_it_is_anonymous() {
        assert_eq!(read_query("list-type=2"), Ok(None));
    }
}
