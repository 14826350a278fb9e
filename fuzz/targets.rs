//! What is fuzzed: one function for each parser that reads what a stranger wrote.
//!
//! Two drivers call them: `cargo fuzz run NAME` (libFuzzer, guided by coverage, needs nightly), and the stable
//! `gateway/tests/fuzz`, which replays every file of `corpus/NAME` and mutates it for a while from a seed.
//!
//! Always true of a target: it takes any bytes, it ends, and a panic in it is a bug: in the parser, or of a property
//! that is asserted here (what is read and written again reads the same; a decoder does not care how its input is
//! cut; nothing that comes out is larger than what was declared).

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use minikv::auth::access_key::KeyStore;
use minikv::auth::authenticate::{Expected, Head, authenticate};
use minikv::auth::post_policy::Policy;
use minikv::auth::principal::Principal;
use minikv::auth::signature_v4::{ChunkSigner, Scope, Signer, SigningKey, UNSIGNED_PAYLOAD};
use minikv::auth::{canonical, claim};
use minikv::object::bucket_settings::BucketSettings;
use minikv::object::checksum::{Algorithm, Claims};
use minikv::object::compression::{BLOCK, Codec, Stretch, Tables};
use minikv::object::conditions::{EtagList, ReadConditions};
use minikv::object::copy_plan::source_range;
use minikv::object::cors::{self, CorsRule};
use minikv::object::get_plan::AskedRange;
use minikv::object::record::{ListedRecord, ObjectRecord, PartRecord, UploadRecord};
use minikv::object::tags::{Tagged, Tags};
use minikv::object::token::{Listing, TokenKey};
use minikv::object::{attributes, dates, metadata};
use minikv::ops::VersionName;
use minikv::s3::aws_chunked::Decoder;
use minikv::s3::copy_source::SourceName;
use minikv::s3::form_body::{Form, boundary};
use minikv::s3::request_body::{Leftover, client_body};
use minikv::s3::{header_rules, host::Hosts, request_xml};
use minikv::store::payload::Source;
use minikv_core::ids::{UploadId, VersionId};
use s3s::dto;
use s3s::xml::{Deserialize, Deserializer, Serialize, Serializer};

/// A target: its name, which is also its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 17] = [
    ("aws_chunked", aws_chunked),
    ("checksums", checksums),
    ("compressed", compressed),
    ("conditions", conditions),
    ("copy_source", copy_source),
    ("cors", cors_rules),
    ("form", form),
    ("metadata", user_metadata),
    ("policy", policy),
    ("range", range),
    ("records", records),
    ("rows", rows),
    ("sigv4_header", sigv4_header),
    ("sigv4_query", sigv4_query),
    ("tags", tags),
    ("tokens", tokens),
    ("xml", xml),
];

/// The input as text, when it is some.
fn text(data: &[u8]) -> &str {
    std::str::from_utf8(data).unwrap_or_default()
}

/// The first byte, to choose by, and the rest.
fn choice(data: &[u8]) -> (u8, &[u8]) {
    data.split_first()
        .map_or((0, data), |(first, rest)| (*first, rest))
}

fn scope() -> Scope {
    Scope {
        date: "20200101".into(),
        region: "us-east-1".into(),
        service: "s3".into(),
    }
}

/// 2020-01-01T00:00:00Z.
const NOW: u64 = 1_577_836_800;
const SIGNER: Signer<'static> = Signer {
    access_key: "AK",
    secret_key: "SK",
    region: "us-east-1",
    service: "s3",
};
const EXPECTED: Expected<'static> = Expected {
    service: "s3",
    region: "us-east-1",
};

fn keys() -> KeyStore {
    let keys = KeyStore::new();
    keys.put("AK", "SK", Principal::root("AK"));
    keys
}

/// Lines `name: value` as headers; what no header can be is left out.
fn headers(lines: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.lines() {
        let (name, value) = line.split_once(':').unwrap_or(("authorization", line));
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(name.trim()),
            HeaderValue::try_from(value.trim()),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

/// A request with these headers.
fn head(headers: &HeaderMap) -> Head<'_> {
    Head {
        method: &Method::GET,
        path: "/b/k",
        query: &[],
        headers,
    }
}

/// A request head whose signature is in its headers: nothing that was made up is let in, everything that was signed is.
pub fn sigv4_header(data: &[u8]) {
    let mut headers = headers(text(data));
    let _ = header_rules::check(&headers);
    let _ = header_rules::check_supported(&headers);
    if let Ok(Some(read)) = claim::read(&headers, &[]) {
        let again = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}",
            read.access_key,
            read.scope.text(),
            read.signed_headers,
            read.signature
        );
        let mut said = headers.clone();
        said.insert("authorization", HeaderValue::try_from(again).unwrap());
        assert_eq!(claim::read(&said, &[]).unwrap(), Some(read));
    }
    assert!(authenticate(head(&headers), &keys(), EXPECTED, NOW).is_err());
    // The same headers, signed by who may.
    for name in ["x-amz-security-token", "x-amz-date", "date"] {
        headers.remove(name);
    }
    headers.insert("host", HeaderValue::from_static("h"));
    let uri = Uri::from_static("/b/k");
    SIGNER
        .sign(&Method::GET, &uri, &mut headers, UNSIGNED_PAYLOAD, NOW)
        .unwrap();
    if headers.iter().all(|(_, value)| value.to_str().is_ok()) {
        let proof = authenticate(head(&headers), &keys(), EXPECTED, NOW);
        assert!(proof.is_ok(), "{:?}", proof.err());
        let changed = Head {
            path: "/b/j",
            ..head(&headers)
        };
        assert!(authenticate(changed, &keys(), EXPECTED, NOW).is_err());
    }
}

/// A path and query, perhaps with a signature in it.
pub fn sigv4_query(data: &[u8]) {
    let (path, query) = text(data).split_once('?').unwrap_or((text(data), ""));
    if let Ok(once) = canonical::path(path) {
        assert_eq!(canonical::path(&once).unwrap(), once);
        assert_eq!(
            canonical::decode(&once, false),
            canonical::decode(path, false)
        );
    }
    let Ok(pairs) = canonical::query_pairs(query) else {
        return;
    };
    // A name that is left out, and that nobody has.
    let nobody = "\0\0".repeat(1 + query.len());
    let once = canonical::query(&pairs, &nobody);
    let mut again = canonical::query_pairs(&once).unwrap();
    assert_eq!(canonical::query(&again, &nobody), once);
    let mut sorted = pairs.clone();
    sorted.sort();
    again.sort();
    if !once.is_empty() {
        assert_eq!(again, sorted);
    }
    let _ = Hosts::new(&["s3.test".to_owned()], false).bucket(path);
    let headers = headers("host: h");
    let _ = claim::read(&headers, &pairs);
    let head = Head {
        query: &pairs,
        ..head(&headers)
    };
    assert!(authenticate(head, &keys(), EXPECTED, NOW).is_err());
    // A URL of any query that can be signed is good for what it was signed for.
    let own = |name: &str| {
        name.to_ascii_lowercase().starts_with("x-amz-")
            || name == "Signature"
            || name == "AWSAccessKeyId"
    };
    let Ok(uri) = format!("/b/k?{query}").parse::<Uri>() else {
        return;
    };
    // Not the same: a URI ends at a `#`.
    let Ok(pairs) = canonical::query_pairs(uri.query().unwrap_or("")) else {
        return;
    };
    if pairs.iter().any(|(name, _)| own(name)) {
        return;
    }
    let url = SIGNER
        .presign(&Method::GET, &uri, &headers, 60, NOW)
        .unwrap();
    let pairs = canonical::query_pairs(url.split_once('?').unwrap().1).unwrap();
    let head = Head {
        query: &pairs,
        ..head
    };
    let proof = authenticate(head, &keys(), EXPECTED, NOW);
    assert!(proof.is_ok_and(|proof| proof.presigned));
    assert!(authenticate(head, &keys(), EXPECTED, NOW + 61).is_err());
}

/// The JSON of a form's policy, and the fields that it judges (the lines behind the first empty one).
pub fn policy(data: &[u8]) {
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD.encode(data);
    let _ = Policy::read(text(data));
    let (json, lines) = text(data).split_once("\n\n").unwrap_or((text(data), ""));
    let fields: Vec<(String, String)> = lines
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let _ = Policy::read(&base64);
    let encoded = base64::engine::general_purpose::STANDARD.encode(json);
    let Ok(policy) = Policy::read(&encoded) else {
        return;
    };
    assert!(
        policy.allow(&fields, u64::MAX).is_err(),
        "every policy ends"
    );
    let allowed = policy.allow(&fields, 0);
    assert_eq!(policy.allow(&fields, 0), allowed);
    if allowed.is_ok() {
        // A field more that no condition names is one too many, but for those that are to be ignored.
        let mut more = fields.clone();
        more.push(("x-ignore-more".to_owned(), "x".to_owned()));
        assert_eq!(policy.allow(&more, 0), allowed);
        more.push((
            "x-amz-meta-\u{1}nobody-names-this".to_owned(),
            "x".to_owned(),
        ));
        assert!(policy.allow(&more, 0).is_err());
    }
}

/// A form, whole and in pieces.
pub fn form(data: &[u8]) {
    let (step, data) = choice(data);
    let _ = boundary(text(data));
    let read = |step: usize| {
        let pieces: Vec<_> = data
            .chunks(step.max(1))
            .map(|piece| {
                Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::copy_from_slice(piece)))
            })
            .collect();
        let body = http_body_util::StreamBody::new(futures::stream::iter(pieces));
        let body = client_body(body)?;
        let mut form = Form::new(body, "X", Leftover::default());
        // Everything is there already: nothing ever waits.
        let fields = form.fields().now_or_never().unwrap().ok()?;
        let mut file = Vec::new();
        let poll = |form: &mut Form| {
            let next = std::future::poll_fn(|cx| form.poll_next(cx)).now_or_never();
            next.unwrap()
        };
        let ended = loop {
            match poll(&mut form) {
                None => break true,
                Some(Ok(piece)) => file.extend_from_slice(&piece),
                Some(Err(_)) => break false,
            }
        };
        assert!(file.len() <= data.len());
        Some((fields, ended.then_some(file)))
    };
    assert_eq!(read(data.len()), read(usize::from(step)));
}

fn chunk_signer() -> ChunkSigner {
    let key = SigningKey::derive("SK", &scope());
    let seed = key.sign_request("20200101T000000Z", &scope(), &[0; 32]);
    ChunkSigner::new(key, "20200101T000000Z", &scope(), seed)
}

/// aws-chunked: mode, declared length, size of the pieces, then the body.
pub fn aws_chunked(data: &[u8]) {
    let (mode, data) = choice(data);
    let (declared, data) = choice(data);
    let (step, data) = choice(data);
    let declared = u64::from(declared);
    let decode = |step: usize| {
        let signer = (mode & 1 == 1).then(|| Box::new(chunk_signer()));
        let mut decoder = Decoder::new(signer, mode & 2 == 2, declared);
        let mut out = Vec::new();
        for piece in data.chunks(step.max(1)) {
            let mut piece = Bytes::copy_from_slice(piece);
            while let Some(bytes) = decoder.next(&mut piece).ok()? {
                out.extend_from_slice(&bytes);
                assert!(out.len() as u64 <= declared, "no more than declared");
            }
        }
        let trailer = decoder.finish().ok()?;
        assert_eq!(out.len() as u64, declared);
        assert!(mode & 2 == 2 || trailer.is_empty());
        Some((out, trailer))
    };
    assert_eq!(decode(data.len()), decode(usize::from(step)));
}

/// Checksums as headers carry them.
pub fn checksums(data: &[u8]) {
    let mut lines = text(data).lines();
    let md5 = lines.next().filter(|line| !line.is_empty());
    let trailer = lines.next().filter(|line| !line.is_empty());
    let sums: Vec<_> = Algorithm::ALL.into_iter().zip(lines).collect();
    for (_, value) in &sums {
        let _ = Algorithm::ALL
            .map(|algorithm| Claims::parse(None, [(algorithm, *value)].into_iter(), None));
    }
    let claims = Claims::parse(md5, sums.into_iter(), trailer);
    if let Ok(claims) = claims {
        let (first, second) = (claims.verify(b"body", &[]), claims.verify(b"body", &[]));
        assert_eq!(first.is_ok(), second.is_ok());
    }
}

/// A compressed object as a disk may give it back: codec, plain length, range, then tables and blocks. Nothing longer
/// than a block comes out at a time, and never more than the range.
pub fn compressed(data: &[u8]) {
    let (codec, data) = choice(data);
    let Some((numbers, data)) = data.split_at_checked(12) else {
        return;
    };
    let number = |at: usize| {
        let four = [
            numbers[at],
            numbers[at + 1],
            numbers[at + 2],
            numbers[at + 3],
        ];
        u64::from(u32::from_le_bytes(four)) % (1 << 22)
    };
    let codec = match codec % 3 {
        0 => None,
        1 => Some(Codec::Lz4),
        _ => Some(Codec::Zstd),
    };
    let stretch = Stretch {
        codec,
        plain: number(0),
        packed: data.len() as u64,
    };
    let range = number(4)..number(4) + number(8) + 1;
    let Some(mut tables) = Tables::new([stretch], &range) else {
        return;
    };
    let len = data.len() as u64;
    let slice = |from: u64, to: u64| &data[from.min(len) as usize..to.min(len) as usize];
    for (number, needed) in tables.needed() {
        if tables
            .learn(number, slice(needed.start, needed.end))
            .is_err()
        {
            return;
        }
    }
    let (needed, mut unpacker) = tables.unpacker();
    let mut out = 0;
    for bytes in slice(needed.start.min(needed.end), needed.end).chunks(999) {
        unpacker.push(bytes);
        loop {
            match unpacker.unpack_next() {
                Ok(Some(plain)) => {
                    assert!(plain.len() <= BLOCK);
                    out += plain.len() as u64;
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert!(out <= range.end - range.start);
}

fn read_document<T, F>(xml: &[u8], check: F) -> bool
where
    T: for<'x> Deserialize<'x> + Serialize + PartialEq + std::fmt::Debug,
    F: Fn(&T) -> bool,
{
    let read = |xml: &[u8]| {
        let mut reader = Deserializer::new(xml);
        let read = T::deserialize(&mut reader).ok()?;
        reader.expect_eof().ok()?;
        Some(read)
    };
    let Some(document) = read(xml) else {
        return false;
    };
    if check(&document) {
        let mut written = Vec::new();
        document
            .serialize(&mut Serializer::new(&mut written))
            .unwrap();
        let again = read(&written);
        assert_eq!(
            again.as_ref(),
            Some(&document),
            "{}",
            String::from_utf8_lossy(&written)
        );
    }
    true
}

/// Documents of requests, and the step before s3s parses them.
pub fn xml(data: &[u8]) {
    let (kind, data) = choice(data);
    let Ok(plain) = request_xml::plain(Bytes::copy_from_slice(data)) else {
        return;
    };
    // A second time changes nothing, unless text that was quoted looks like a section now.
    assert!(plain.len() <= data.len() * 5 + 16);
    // What quick-xml normalises or XML cannot hold does not come back as it was.
    let holds =
        |text: &str| !text.contains(|c: char| c < ' ' || c == '\u{fffe}' || c == '\u{ffff}');
    match kind % 6 {
        0 => read_document::<dto::Tagging, _>(&plain, |tagging| {
            tagging.tag_set.iter().all(|tag| {
                let text = |text: &Option<String>| text.as_deref().is_some_and(holds);
                text(&tag.key) && text(&tag.value)
            })
        }),
        1 => read_document::<dto::Delete, _>(&plain, |delete| {
            delete.objects.iter().all(|object| {
                holds(&object.key)
                    && object.version_id.as_deref().is_none_or(holds)
                    && object.e_tag.is_none()
                    && object.last_modified_time.is_none()
            })
        }),
        2 => read_document::<dto::VersioningConfiguration, _>(&plain, |versioning| {
            let status = versioning.status.as_ref().map(|status| status.as_str());
            let mfa = versioning.mfa_delete.as_ref().map(|mfa| mfa.as_str());
            status.is_none_or(holds) && mfa.is_none_or(holds)
        }),
        3 => read_document::<dto::CORSConfiguration, _>(&plain, |_| false),
        4 => read_document::<dto::ServerSideEncryptionConfiguration, _>(&plain, |_| false),
        _ => read_document::<dto::CompletedMultipartUpload, _>(&plain, |_| false),
    };
    let _ = read_document::<dto::CreateBucketConfiguration, _>(&plain, |_| false);
}

/// `Range` and `x-amz-copy-source-range`, with the size they are about.
pub fn range(data: &[u8]) {
    let (size, data) = data.split_at(data.len().min(8));
    let mut bytes = [0; 8];
    bytes[..size.len()].copy_from_slice(size);
    let size = u64::from_le_bytes(bytes);
    for size in [size, size % 1_000, 0, 1, u64::MAX] {
        if let Some(range) = AskedRange::parse(text(data)).and_then(|asked| asked.within(size)) {
            assert!(range.start < range.end && range.end <= size);
            let again = format!("bytes={}-{}", range.start, range.end - 1);
            assert_eq!(AskedRange::parse(&again).unwrap().within(size), Some(range));
        }
        if let Ok(range) = source_range(Some(text(data)), size) {
            assert!(range.start < range.end && range.end <= size);
            let asked = AskedRange::parse(text(data)).unwrap();
            assert_eq!(asked.within(size), Some(range));
        }
    }
}

/// Conditions of reads and writes, and their dates.
pub fn conditions(data: &[u8]) {
    let mut lines = text(data).lines();
    let mut next = || lines.next().unwrap_or_default();
    let (if_match, if_none_match, date) = (next(), next(), next());
    for list in [if_match, if_none_match] {
        let Some(read) = EtagList::parse(list) else {
            continue;
        };
        let values = read.clone().values();
        assert!(values.iter().all(|value| !value.is_empty()));
        let strong = read.clone().strong_values();
        assert!(strong.iter().all(|value| values.contains(value)));
        if values != ["*"] {
            let again = values
                .iter()
                .map(|value| format!("\"{value}\""))
                .collect::<Vec<_>>()
                .join(", ");
            assert_eq!(EtagList::parse(&again).unwrap().values(), values);
        }
    }
    let seconds = dates::parse_http_date(date);
    if let Some(seconds) = seconds {
        assert_eq!(
            dates::parse_http_date(&dates::http_date(seconds)),
            Some(seconds)
        );
    }
    if let Some(seconds) = dates::parse_amz_date(date) {
        assert_eq!(dates::amz_date(seconds), date);
    }
    let conditions = ReadConditions {
        if_match: EtagList::parse(if_match),
        if_none_match: EtagList::parse(if_none_match),
        if_modified_since: seconds,
        if_unmodified_since: seconds,
    };
    for (etag, modified) in [
        ("", 0),
        ("a", u64::MAX),
        ("0123456789abcdef", 1_577_836_800_000),
    ] {
        let _ = conditions.check(etag, modified);
    }
    let _ = attributes::parse([if_match, if_none_match, date].into_iter());
}

/// `x-amz-copy-source`.
pub fn copy_source(data: &[u8]) {
    if let Ok(source) = SourceName::parse(text(data)) {
        assert!(!source.key.is_empty() && !source.bucket.contains('/'));
        assert_eq!(SourceName::parse(&source.text()).unwrap(), source);
    }
}

/// Continuation tokens, version ids, upload ids.
pub fn tokens(data: &[u8]) {
    let key = TokenKey::derive(b"secret");
    let listing = Listing {
        purpose: "objects",
        bucket: 7,
        prefix: "a/",
        delimiter: "/",
    };
    let token = key.seal(listing, data);
    assert_eq!(key.open(listing, &token).unwrap(), data);
    let mut changed = token.into_bytes();
    let at = data.len() % changed.len();
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    assert_eq!(key.open(listing, text(&changed)), None);
    assert_eq!(key.open(listing, text(data)), None, "nobody makes one up");
    if let Some(id) = VersionId::parse(text(data)) {
        assert_eq!(id.to_string(), text(data));
    }
    if let Some(id) = UploadId::parse(text(data)) {
        assert_eq!(id.to_string(), text(data));
    }
    let _ = VersionName::select(Some(text(data)));
}

/// Tags in a header, and as they are kept.
pub fn tags(data: &[u8]) {
    let _ = Tags::decode(data);
    let Ok(pairs) = canonical::query_pairs(text(data)) else {
        return;
    };
    let _ = Tags::new(Tagged::Bucket, pairs.clone());
    let Ok(tags) = Tags::of_header(pairs) else {
        return;
    };
    assert!(tags.len() <= 10);
    assert_eq!(Tags::decode(&tags.encode()).unwrap(), tags);
    let pairs: Vec<(String, String)> = tags
        .iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let again = canonical::query_pairs(&canonical::query(&pairs, "")).unwrap();
    let again = Tags::of_header(again).unwrap();
    assert!(
        again.len() == tags.len() && again.iter().all(|pair| tags.iter().any(|tag| tag == pair))
    );
}

/// CORS rules, a line for each field, and what a browser asks.
pub fn cors_rules(data: &[u8]) {
    let mut lines = text(data).lines();
    let mut next = || lines.next().unwrap_or_default();
    let (origin, method, asked) = (next(), next(), next());
    let list = |line: &str| -> Vec<String> {
        line.split(' ')
            .filter(|w| !w.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let mut rules = Vec::new();
    for _ in 0..3 {
        let id = next();
        let rule = CorsRule {
            id: (!id.is_empty()).then(|| id.to_owned()),
            origins: list(next()),
            methods: list(next()),
            headers: list(next()),
            exposed: list(next()),
            max_age_seconds: next().parse().ok(),
        };
        rules.push(rule);
    }
    rules.retain(|rule| !rule.origins.is_empty());
    if cors::check(&rules).is_err() {
        return;
    }
    let settings = BucketSettings {
        cors: rules.clone(),
        ..BucketSettings::default()
    };
    assert_eq!(
        BucketSettings::decode(&settings.encode()).unwrap(),
        settings
    );
    let headers = cors::asked_headers(asked);
    let actual = cors::actual(&rules, origin, method);
    let preflight = cors::preflight(&rules, origin, method, &headers);
    assert!(
        preflight.is_none() || actual.is_some(),
        "a question is never easier than the request"
    );
    for rule in &rules {
        if !origin.is_empty()
            && rule.origins.iter().any(|o| o == origin)
            && rule.methods.iter().any(|m| m == method)
        {
            assert!(actual.is_some());
        }
    }
}

/// User metadata as headers carry it.
pub fn user_metadata(data: &[u8]) {
    let value = text(data);
    let decoded = metadata::decode(value);
    assert!(decoded.len() <= value.len() * 3);
    let header = metadata::encode(value);
    let breaks = value.contains(['\r', '\n', '\0']);
    assert!(breaks || header.bytes().all(|b| (b' '..=b'~').contains(&b)));
    if !breaks {
        assert_eq!(metadata::decode(&header), value);
    }
}

/// What the gateway keeps with versions, uploads, parts and buckets.
pub fn records(data: &[u8]) {
    let object = ObjectRecord::decode(data);
    let listed = ListedRecord::decode(Bytes::copy_from_slice(data));
    if let Ok(record) = object {
        assert_eq!(ObjectRecord::decode(&record.encode()).unwrap(), record);
        let listed = listed.unwrap();
        let checksum = record.checksum.as_ref();
        assert_eq!(listed.checksum, checksum.map(|c| (c.algorithm, c.kind)));
        assert_eq!(listed.size(5), record.size(5));
    }
    if let Ok(record) = UploadRecord::decode(data) {
        assert_eq!(UploadRecord::decode(&record.encode()).unwrap(), record);
    }
    if let Ok(record) = PartRecord::decode(data) {
        assert_eq!(PartRecord::decode(&record.encode()).unwrap(), record);
    }
    if let Ok(settings) = BucketSettings::decode(data) {
        assert_eq!(
            BucketSettings::decode(&settings.encode()).unwrap(),
            settings
        );
        let encryption = BucketSettings::encryption_of(data);
        assert_eq!(encryption.unwrap(), settings.encryption);
    }
}

/// What the core reads from its disk: entries, manifests, the ledger of places. Their checksums are looked at before,
/// so that damage does not get here; a bug of ours could.
pub fn rows(data: &[u8]) {
    use minikv_core::engine::{manifest, place_ledger};
    use minikv_core::state::entry;
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(frame) = entry::decode(&bytes) {
        let payload = &data[frame.payload.start as usize..frame.payload.end as usize];
        let again = entry::encode(frame.entry.clone(), payload);
        assert_eq!(entry::decode(&again).unwrap().entry, frame.entry);
    }
    if let Ok(read) = manifest::Manifest::decode("m", &bytes) {
        let again = manifest::Manifest::decode("m", &read.encode());
        assert_eq!(again.unwrap().encode(), read.encode());
    }
    if let Ok(read) = manifest::Current::decode("c", data) {
        assert_eq!(
            manifest::Current::decode("c", &read.encode())
                .unwrap()
                .encode(),
            read.encode()
        );
    }
    if let Some(read) = place_ledger::PlaceLedger::decode(data) {
        assert_eq!(
            place_ledger::PlaceLedger::decode(&read.encode())
                .unwrap()
                .encode(),
            read.encode()
        );
    }
}
