//! Server-side encryption: SSE-S3, SSE-KMS with the key ring, SSE-C.
#![allow(
    clippy::disallowed_methods,
    reason = "what lies on a real disk is looked at, and a real clock is waited for"
)]

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use minikv::object::encryption::ring::KeyRing;
use minikv::object::etag::multipart_etag;
use minikv::serve::keyring::{self, new_key};

use crate::world::{Call, Reply, World, md5_base64, md5_hex, noise};

const MIN: usize = 5 << 20;

/// How a request asks for encryption.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Plain,
    S3,
    Kms(&'static str),
    /// A key of 32 such bytes.
    Customer(u8),
}

const KINDS: [Kind; 5] = [
    Kind::Plain,
    Kind::S3,
    Kind::Kms(""),
    Kind::Kms("payroll"),
    Kind::Customer(1),
];

const METHOD: &str = "x-amz-server-side-encryption";
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const CUSTOMER_MD5: &str = "x-amz-server-side-encryption-customer-key-md5";

fn key(fill: u8) -> String {
    BASE64.encode([fill; 32])
}

/// With the headers that write so.
pub fn writing(call: Call<'_>, kind: Kind) -> Call<'_> {
    match kind {
        Kind::Plain => call,
        Kind::S3 => call.with(METHOD, "AES256"),
        Kind::Kms("") => call.with(METHOD, "aws:kms"),
        Kind::Kms(name) => call.with(METHOD, "aws:kms").with(KMS_KEY, name),
        Kind::Customer(fill) => reading(call, Kind::Customer(fill)),
    }
}

/// With the headers that read what was written so.
pub fn reading(call: Call<'_>, kind: Kind) -> Call<'_> {
    let Kind::Customer(fill) = kind else {
        return call;
    };
    call.with("x-amz-server-side-encryption-customer-algorithm", "AES256")
        .with("x-amz-server-side-encryption-customer-key", key(fill))
        .with(CUSTOMER_MD5, md5_base64(&[fill; 32]))
}

/// With the headers that copy from what was written so.
fn copying<'a>(call: Call<'a>, source: &str, kind: Kind) -> Call<'a> {
    let call = call.with("x-amz-copy-source", source);
    let Kind::Customer(fill) = kind else {
        return call;
    };
    call.with(
        "x-amz-copy-source-server-side-encryption-customer-algorithm",
        "AES256",
    )
    .with(
        "x-amz-copy-source-server-side-encryption-customer-key",
        key(fill),
    )
    .with(
        "x-amz-copy-source-server-side-encryption-customer-key-md5",
        md5_base64(&[fill; 32]),
    )
}

/// An answer names the encryption.
#[track_caller]
fn names(reply: &Reply, kind: Kind) {
    let shown = (
        reply.header(METHOD),
        reply.header(KMS_KEY),
        reply.header("x-amz-server-side-encryption-customer-algorithm"),
        reply.header(CUSTOMER_MD5),
    );
    let customers = md5_base64(&[1; 32]);
    let expected = match kind {
        Kind::Plain => ("", "", "", ""),
        Kind::S3 => ("AES256", "", "", ""),
        Kind::Kms("") => ("aws:kms", "main", "", ""),
        Kind::Kms(name) => ("aws:kms", name, "", ""),
        Kind::Customer(1) => ("", "", "AES256", customers.as_str()),
        Kind::Customer(_) => return,
    };
    assert_eq!(shown, expected, "{kind:?}");
}

async fn store(world: &World, uri: &str, body: &Bytes, kind: Kind) -> Reply {
    let put = writing(world.put(uri), kind)
        .pieces(body.clone(), 100_000)
        .send()
        .await;
    assert_eq!(put.status, 200, "{uri} {kind:?}: {}", put.text());
    names(&put, kind);
    put
}

async fn expect(world: &World, uri: &str, body: &Bytes, kind: Kind) {
    let got = reading(world.get(uri), kind).send().await;
    assert_eq!(got.status, 200, "{uri} {kind:?}: {}", got.text());
    assert!(!got.broken && got.body == *body, "{uri} {kind:?}");
    names(&got, kind);
    let head = reading(world.head(uri), kind).send().await;
    assert_eq!(head.header("content-length"), body.len().to_string());
    names(&head, kind);
}

async fn range(world: &World, uri: &str, kind: Kind, range: &str) -> Reply {
    reading(world.get(uri), kind)
        .with("range", format!("bytes={range}"))
        .send()
        .await
}

/// Every kind, every size around the borders of pieces and of what travels inline; ranges; sizes in listings.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_encrypted_is_read_as_it_was_written() {
    let world = World::with_bucket().await;
    for kind in KINDS {
        for len in [
            0, 1, 65_519, 65_520, 65_521, 65_536, 65_537, 131_072, 3_000_001,
        ] {
            let body = noise(len);
            let put = store(&world, "/bucket/key", &body, kind).await;
            let md5 = put.header("etag") == format!("\"{}\"", md5_hex(&body));
            assert_eq!(md5, matches!(kind, Kind::Plain | Kind::S3), "{kind:?}");
            expect(&world, "/bucket/key", &body, kind).await;
            if len < 2 {
                continue;
            }
            for (from, to) in [
                (0, 0),
                (1, len - 1),
                (len / 2, len / 2 + 10),
                (len - 1, len - 1),
            ] {
                let got = range(&world, "/bucket/key", kind, &format!("{from}-{to}")).await;
                let end = (to + 1).min(len);
                assert_eq!(got.status, 206, "{}", got.text());
                assert_eq!(
                    got.header("content-range"),
                    format!("bytes {from}-{}/{len}", end - 1)
                );
                assert!(got.body == body[from..end], "{kind:?} {len} {from}-{to}");
            }
            let listed = world.get("/bucket?list-type=2").send().await;
            assert_eq!(listed.one("Size"), len.to_string(), "{kind:?}");
            let attributes = reading(world.get("/bucket/key?attributes"), kind)
                .with("x-amz-object-attributes", "ObjectSize")
                .send()
                .await;
            assert_eq!(attributes.one("ObjectSize"), len.to_string());
            range(&world, "/bucket/key", kind, &format!("{len}-"))
                .await
                .refused(416, "InvalidRange");
        }
    }
    world.stop().await;
}

/// Without a declared length, and in signed chunks with a trailer: the checksum is that of the plain bytes.
#[tokio::test(flavor = "multi_thread")]
async fn checksums_are_those_of_the_plain_bytes() {
    let world = World::with_bucket().await;
    let body = noise(2_000_003);
    let algorithm = minikv::object::checksum::Algorithm::Crc32;
    let put = writing(world.put("/bucket/key"), Kind::S3)
        .payload(crate::world::Payload::SignedChunksTrailer(algorithm))
        .body(body.clone())
        .send()
        .await;
    assert_eq!(put.status, 200, "{}", put.text());
    let head = world
        .head("/bucket/key")
        .with("x-amz-checksum-mode", "ENABLED")
        .send()
        .await;
    assert_eq!(
        head.header("x-amz-checksum-crc32"),
        crate::world::checksum(algorithm, &body)
    );
    let wrong = writing(world.put("/bucket/wrong"), Kind::S3)
        .with("content-md5", md5_base64(b"something else"))
        .body(body)
        .send()
        .await;
    wrong.refused(400, "BadDigest");
    world.expect_absent("/bucket/wrong").await;
    world.stop().await;
}

/// All files under a directory hold none of these bytes.
fn nowhere(dir: &Path, wanted: &[(&str, &[u8])]) -> usize {
    let mut read = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            read += nowhere(&entry.path(), wanted);
            continue;
        }
        let bytes = std::fs::read(entry.path()).unwrap();
        read += bytes.len();
        for (what, wanted) in wanted {
            let found = memchr(&bytes, wanted);
            assert!(!found, "{what} lies in {}", entry.path().display());
        }
    }
    read
}

fn memchr(hay: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    hay.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == first)
        .any(|(at, _)| hay[at..].starts_with(needle))
}

/// The point of it all: who steals the disk reads nothing, neither bytes nor a client's key.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_on_disk_is_ciphertext() {
    let world = World::with_bucket().await;
    let small: &[u8] = b"a small secret that travels inline with its entry";
    let large = noise(300_000);
    let part = noise(200_001);
    for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Plain) {
        let name = format!("/bucket/{kind:?}").replace(['(', ')', '"'], "-");
        store(
            &world,
            &name,
            &Bytes::from_static(b"a small secret that travels inline with its entry"),
            kind,
        )
        .await;
        store(&world, &format!("{name}-large"), &large, kind).await;
        let opened = writing(world.post(&format!("{name}-parts?uploads")), kind)
            .send()
            .await;
        let upload = opened.one("UploadId");
        let uri = format!("{name}-parts?partNumber=1&uploadId={upload}");
        let put = reading(world.put(&uri), kind)
            .body(part.clone())
            .send()
            .await;
        assert_eq!(put.status, 200, "{}", put.text());
    }
    let secrets: [(&str, &[u8]); 4] = [
        ("a small object", small),
        ("a large object", &large[1_000..1_032]),
        ("a part", &part[1_000..1_032]),
        ("a client's key", &[1; 32]),
    ];
    assert!(
        nowhere(world.data_dir(), &secrets) > 500_000,
        "it was all read"
    );
    // The same test finds what is not encrypted.
    store(
        &world,
        "/bucket/plain",
        &Bytes::copy_from_slice(small),
        Kind::Plain,
    )
    .await;
    let dir = world.data_dir().to_owned();
    let found = std::panic::catch_unwind(|| nowhere(&dir, &secrets));
    assert!(found.is_err(), "a plain object is found");
    world.stop().await;
}

/// From each to each, within a key and across keys; the copy is encrypted as it was asked for, not as its source.
#[tokio::test(flavor = "multi_thread")]
async fn copies_between_all_kinds() {
    let world = World::with_bucket().await;
    for len in [5_000, 700_000] {
        let body = noise(len);
        for from in KINDS {
            store(&world, "/bucket/from", &body, from).await;
            for to in KINDS.into_iter().chain([Kind::Customer(2)]) {
                for at in 0..3 {
                    let target = format!("/bucket/to-{at}");
                    let copy = copying(world.put(&target), "/bucket/from", from);
                    let copied = writing(copy, to).send().await;
                    assert_eq!(copied.status, 200, "{from:?} {to:?}: {}", copied.text());
                    names(&copied, to);
                    expect(&world, &target, &body, to).await;
                }
            }
        }
    }
    // Onto itself: encrypting it is a change.
    let body = noise(100_000);
    store(&world, "/bucket/self", &body, Kind::Plain).await;
    let copy = world
        .put("/bucket/self")
        .with("x-amz-copy-source", "/bucket/self");
    copy.send().await.refused(400, "InvalidRequest");
    for to in [Kind::S3, Kind::S3, Kind::Kms("payroll")] {
        let copy = world
            .put("/bucket/self")
            .with("x-amz-copy-source", "/bucket/self");
        assert_eq!(writing(copy, to).send().await.status, 200);
        expect(&world, "/bucket/self", &body, to).await;
    }
    world.stop().await;
}

/// Without its key, or with another one, nobody reads an object of SSE-C.
#[tokio::test(flavor = "multi_thread")]
async fn a_customers_object_needs_the_customers_key() {
    let world = World::with_bucket().await;
    let body = noise(100_000);
    let (right, wrong) = (Kind::Customer(1), Kind::Customer(2));
    store(&world, "/bucket/key", &body, right).await;
    for uri in ["/bucket/key", "/bucket/key?attributes"] {
        let get = || world.get(uri).with("x-amz-object-attributes", "ETag");
        get().send().await.refused(400, "InvalidRequest");
        reading(get(), wrong)
            .send()
            .await
            .refused(403, "AccessDenied");
    }
    assert_eq!(world.head("/bucket/key").send().await.status, 400);
    assert_eq!(
        world.get("/bucket/key?acl").send().await.status,
        200,
        "who owns it is no secret"
    );
    assert_eq!(
        reading(world.head("/bucket/key"), wrong)
            .send()
            .await
            .status,
        403
    );
    copying(world.put("/bucket/copy"), "/bucket/key", Kind::Plain)
        .send()
        .await
        .refused(400, "InvalidRequest");
    copying(world.put("/bucket/copy"), "/bucket/key", wrong)
        .send()
        .await
        .refused(403, "AccessDenied");
    // A key where none is needed.
    for kind in [Kind::Plain, Kind::S3, Kind::Kms("")] {
        store(&world, "/bucket/other", &body, kind).await;
        reading(world.get("/bucket/other"), right)
            .send()
            .await
            .refused(400, "InvalidRequest");
    }
    expect(&world, "/bucket/key", &body, right).await;
    world.stop().await;
}

/// A key must not travel where everybody can read it.
#[tokio::test(flavor = "multi_thread")]
async fn customers_keys_are_refused_without_tls() {
    let world = World::start_with(false).await;
    assert_eq!(world.put("/bucket").send().await.status, 200);
    let put = reading(world.put("/bucket/key"), Kind::Customer(1)).body("x");
    let refused = put.send().await;
    refused.refused(400, "InvalidRequest");
    assert!(refused.text().contains("secure connection"));
    world.expect_absent("/bucket/key").await;
    store(&world, "/bucket/key", &noise(10), Kind::S3).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_encryption_are_obeyed_or_refused() {
    let world = World::with_bucket().await;
    let put = || world.put("/bucket/key").body("x");
    let context = BASE64.encode("{\"a\": \"b\"}");
    for (call, status, code) in [
        (put().with(METHOD, "AES512"), 400, "InvalidArgument"),
        (put().with(METHOD, "aws:kms:dsse"), 501, "NotImplemented"),
        (
            put().with(METHOD, "AES256").with(KMS_KEY, "main"),
            400,
            "InvalidArgument",
        ),
        (put().with(KMS_KEY, "main"), 400, "InvalidArgument"),
        (
            put().with(METHOD, "aws:kms").with(KMS_KEY, "nobody"),
            400,
            "KMS.NotFoundException",
        ),
        (
            put()
                .with(METHOD, "aws:kms")
                .with("x-amz-server-side-encryption-context", "e30"),
            400,
            "InvalidArgument",
        ),
        (
            reading(put(), Kind::Customer(1)).with(METHOD, "AES256"),
            400,
            "InvalidArgument",
        ),
        (
            reading(put(), Kind::Customer(1)).with(CUSTOMER_MD5, md5_base64(b"x")),
            400,
            "InvalidArgument",
        ),
        (
            reading(put(), Kind::Customer(1))
                .with("x-amz-server-side-encryption-customer-algorithm", "AES128"),
            400,
            "InvalidEncryptionAlgorithmError",
        ),
        (
            put().with("x-amz-server-side-encryption-customer-key", key(1)),
            400,
            "InvalidArgument",
        ),
        (
            put().with("x-amz-server-side-encryption-novel", "1"),
            501,
            "NotImplemented",
        ),
    ] {
        call.send().await.refused(status, code);
        world.expect_absent("/bucket/key").await;
    }
    let stored = put()
        .with(METHOD, "aws:kms")
        .with(KMS_KEY, "arn:aws:kms:us-east-1:123456789012:alias/payroll")
        .with("x-amz-server-side-encryption-context", &context)
        .with("x-amz-server-side-encryption-bucket-key-enabled", "true")
        .send()
        .await;
    assert_eq!(stored.status, 200, "{}", stored.text());
    assert_eq!(
        stored.header("x-amz-server-side-encryption-context"),
        BASE64.encode("{\"a\":\"b\"}")
    );
    let got = world.get("/bucket/key").send().await;
    assert_eq!((got.text().as_str(), got.header(KMS_KEY)), ("x", "payroll"));
    assert_eq!(
        got.header("x-amz-server-side-encryption-bucket-key-enabled"),
        "true"
    );
    // What only a write can say.
    for call in [
        world.get("/bucket/key"),
        world.put("/bucket/key?partNumber=1&uploadId=x"),
    ] {
        call.with(METHOD, "AES256")
            .send()
            .await
            .refused(400, "InvalidArgument");
    }
    assert_eq!(
        world
            .head("/bucket/key")
            .with(METHOD, "AES256")
            .send()
            .await
            .status,
        400
    );
    world.stop().await;
}

async fn default_encryption(world: &World, inner: &str) -> Reply {
    let xml = format!(
        "<ServerSideEncryptionConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Rule><ApplyServerSideEncryptionByDefault>{inner}</ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
    );
    world.put("/bucket?encryption").body(xml).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buckets_default_encrypts_what_says_nothing() {
    let world = World::with_bucket().await;
    let none = world.get("/bucket?encryption").send().await;
    none.refused(404, "ServerSideEncryptionConfigurationNotFoundError");
    let body = noise(70_000);
    store(&world, "/bucket/before", &body, Kind::Plain).await;

    let set = default_encryption(&world, "<SSEAlgorithm>AES256</SSEAlgorithm>").await;
    assert_eq!(set.status, 200, "{}", set.text());
    let put = world.put("/bucket/key").body(body.clone()).send().await;
    names(&put, Kind::S3);
    expect(&world, "/bucket/key", &body, Kind::S3).await;
    expect(&world, "/bucket/before", &body, Kind::Plain).await;

    let kms = "<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>payroll</KMSMasterKeyID>";
    assert_eq!(default_encryption(&world, kms).await.status, 200);
    let set = world.get("/bucket?encryption").send().await;
    assert_eq!(
        (
            set.one("SSEAlgorithm"),
            set.one("KMSMasterKeyID"),
            set.one("BucketKeyEnabled")
        ),
        (
            "aws:kms".to_owned(),
            "payroll".to_owned(),
            "false".to_owned()
        )
    );
    let put = world.put("/bucket/key").body(body.clone()).send().await;
    names(&put, Kind::Kms("payroll"));
    // A copy that says nothing, and an upload.
    let copied = copying(world.put("/bucket/copy"), "/bucket/before", Kind::Plain)
        .send()
        .await;
    names(&copied, Kind::Kms("payroll"));
    let opened = world.post("/bucket/parts?uploads").send().await;
    names(&opened, Kind::Kms("payroll"));
    // What a request says counts before the default.
    store(&world, "/bucket/key", &body, Kind::Customer(1)).await;
    expect(&world, "/bucket/key", &body, Kind::Customer(1)).await;

    for (inner, status, code) in [
        (
            "<SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>payroll</KMSMasterKeyID>",
            400,
            "InvalidArgument",
        ),
        ("<SSEAlgorithm>ROT13</SSEAlgorithm>", 400, "MalformedXML"),
        (
            "<SSEAlgorithm>aws:kms:dsse</SSEAlgorithm>",
            501,
            "NotImplemented",
        ),
        (
            "<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>x</KMSMasterKeyID>",
            400,
            "KMS.NotFoundException",
        ),
    ] {
        default_encryption(&world, inner)
            .await
            .refused(status, code);
    }
    assert_eq!(world.delete("/bucket?encryption").send().await.status, 204);
    store(&world, "/bucket/key", &body, Kind::Plain).await;
    world
        .get("/bucket?encryption")
        .send()
        .await
        .refused(404, "ServerSideEncryptionConfigurationNotFoundError");
    world.stop().await;
}

/// Parts of every kind; one of them twice under its number; ranges across their borders; sizes in all answers.
#[tokio::test(flavor = "multi_thread")]
async fn parts_are_encrypted_each_with_a_key_of_its_own() {
    let world = World::with_bucket().await;
    for kind in [Kind::S3, Kind::Kms("payroll"), Kind::Customer(1)] {
        let bodies = [noise(MIN), noise(MIN + 70_001), noise(65_537)];
        let whole: Bytes = bodies.concat().into();
        let opened = writing(world.post("/bucket/key?uploads"), kind)
            .send()
            .await;
        names(&opened, kind);
        let upload = opened.one("UploadId");
        let mut list = String::new();
        let mut etags = Vec::new();
        // The second part comes twice: first with other bytes.
        for (number, body) in [
            (2, noise(100_000)),
            (1, bodies[0].clone()),
            (2, bodies[1].clone()),
            (7, bodies[2].clone()),
        ] {
            let uri = format!("/bucket/key?partNumber={number}&uploadId={upload}");
            let put = reading(world.put(&uri), kind)
                .pieces(body.clone(), 300_000)
                .send()
                .await;
            assert_eq!(put.status, 200, "{}", put.text());
            names(&put, kind);
            etags.push(put.header("etag").to_owned());
        }
        let etags = &etags[1..];
        for (number, etag) in [1, 2, 7].iter().zip(etags) {
            list += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        }
        let listed = reading(world.get(&format!("/bucket/key?uploadId={upload}")), kind)
            .send()
            .await;
        assert_eq!(
            listed.all("Size"),
            bodies.each_ref().map(|body| body.len().to_string())
        );
        let done = world
            .post(&format!("/bucket/key?uploadId={upload}"))
            .with("x-amz-mp-object-size", whole.len().to_string())
            .body(format!("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{list}</CompleteMultipartUpload>"))
            .send()
            .await;
        assert_eq!(done.status, 200, "{}", done.text());
        assert_eq!(
            done.header(METHOD),
            if kind == Kind::S3 {
                "AES256"
            } else if kind == Kind::Customer(1) {
                ""
            } else {
                "aws:kms"
            }
        );
        if kind == Kind::S3 {
            let md5s = bodies.each_ref().map(|body| md5_hex(body));
            let etag = multipart_etag(md5s.iter().map(String::as_str)).unwrap();
            assert_eq!(done.one("ETag"), format!("\"{etag}\""));
        }
        expect(&world, "/bucket/key", &whole, kind).await;
        for (from, to) in [
            (MIN - 1, MIN),
            (0, 2 * MIN),
            (MIN, MIN + 70_000),
            (2 * MIN + 70_000, 2 * MIN + 70_001),
            (whole.len() - 1, whole.len() - 1),
        ] {
            let got = range(&world, "/bucket/key", kind, &format!("{from}-{to}")).await;
            assert!(got.body == whole[from..=to], "{kind:?} {from}-{to}");
        }
        let part = reading(world.get("/bucket/key?partNumber=2"), kind)
            .send()
            .await;
        assert!(
            part.status == 206 && part.body == bodies[1],
            "{}",
            part.text()
        );
        // Copies: shared with the parts (onto itself), and in one piece.
        let copy = copying(world.put("/bucket/key"), "/bucket/key", kind)
            .with("x-amz-metadata-directive", "REPLACE");
        assert_eq!(writing(copy, kind).send().await.status, 200);
        expect(&world, "/bucket/key", &whole, kind).await;
        let copy = copying(world.put("/bucket/plain"), "/bucket/key", kind);
        assert_eq!(copy.send().await.status, 200);
        expect(&world, "/bucket/plain", &whole, Kind::Plain).await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_must_have_the_key_of_its_upload() {
    let world = World::with_bucket().await;
    let open = |kind| writing(world.post("/bucket/key?uploads"), kind);
    let upload = open(Kind::Customer(1)).send().await.one("UploadId");
    let uri = format!("/bucket/key?partNumber=1&uploadId={upload}");
    world
        .put(&uri)
        .body("x")
        .send()
        .await
        .refused(400, "InvalidRequest");
    reading(world.put(&uri), Kind::Customer(2))
        .body("x")
        .send()
        .await
        .refused(400, "InvalidRequest");
    let put = reading(world.put(&uri), Kind::Customer(1))
        .body("x")
        .send()
        .await;
    assert_eq!(put.status, 200);

    for kind in [Kind::Plain, Kind::S3] {
        let upload = open(kind).send().await.one("UploadId");
        let uri = format!("/bucket/key?partNumber=1&uploadId={upload}");
        reading(world.put(&uri), Kind::Customer(1))
            .body("x")
            .send()
            .await
            .refused(400, "InvalidRequest");
    }

    // UploadPartCopy: out of one key into another.
    let body = noise(400_000);
    store(&world, "/bucket/source", &body, Kind::Customer(2)).await;
    let upload = open(Kind::Customer(1)).send().await.one("UploadId");
    let uri = format!("/bucket/key?partNumber=1&uploadId={upload}");
    let copy = copying(world.put(&uri), "/bucket/source", Kind::Customer(2))
        .with("x-amz-copy-source-range", "bytes=100000-299999");
    let copied = reading(copy, Kind::Customer(1)).send().await;
    assert_eq!(copied.status, 200, "{}", copied.text());
    let list = format!(
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        copied.one("ETag")
    );
    let done = world
        .post(&format!("/bucket/key?uploadId={upload}"))
        .body(list)
        .send()
        .await;
    assert_eq!(done.status, 200, "{}", done.text());
    expect(
        &world,
        "/bucket/key",
        &body.slice(100_000..300_000),
        Kind::Customer(1),
    )
    .await;
    world.stop().await;
}

fn rotated(ring: &KeyRing, name: &str) -> KeyRing {
    let mut ring = ring.clone();
    ring.rotate(name, new_key()).unwrap();
    ring
}

/// A new master key guards what comes; what was there opens as before, and goes over when it is copied onto itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_still_opens_what_it_guards() {
    let world = World::with_bucket().await;
    let body = noise(200_000);
    let old = world.ops.ring();
    for (uri, kind) in [
        ("/bucket/s3", Kind::S3),
        ("/bucket/kms", Kind::Kms("payroll")),
    ] {
        store(&world, uri, &body, kind).await;
    }
    world
        .ops
        .replace_ring(rotated(&rotated(&old, "main"), "payroll"));
    for (uri, kind) in [
        ("/bucket/s3", Kind::S3),
        ("/bucket/kms", Kind::Kms("payroll")),
    ] {
        expect(&world, uri, &body, kind).await;
    }
    store(&world, "/bucket/new", &body, Kind::S3).await;
    let copy = world
        .put("/bucket/s3")
        .with("x-amz-copy-source", "/bucket/s3");
    assert_eq!(writing(copy, Kind::S3).send().await.status, 200);

    // A ring that never knew the first keys reads what went over, and says which key is missing.
    let now = world.ops.ring();
    let text = now.text();
    let first = old.current().unwrap().newest().text();
    let without = text.replace(&format!("\"{}\", ", first.as_str()), "");
    let without = KeyRing::parse(&without).unwrap();
    assert!(
        without
            .master(old.current().unwrap().newest().id())
            .is_none()
    );
    world.ops.replace_ring(without);
    expect(&world, "/bucket/s3", &body, Kind::S3).await;
    expect(&world, "/bucket/new", &body, Kind::S3).await;

    let mut nobody = KeyRing::new("other", new_key()).unwrap();
    nobody.add("main", new_key()).unwrap();
    world.ops.replace_ring(nobody);
    let id = now.current().unwrap().newest().id().to_string();
    let lost = world.get("/bucket/new").send().await;
    lost.refused(500, "InternalError");
    assert!(lost.text().contains(&id), "{}", lost.text());
    world
        .get("/bucket/kms")
        .send()
        .await
        .refused(400, "KMS.NotFoundException");
    world.stop().await;
}

/// `x-amz-if-match-size` is about the size that clients see.
#[tokio::test(flavor = "multi_thread")]
async fn a_delete_by_size_goes_by_the_plain_size() {
    let world = World::with_bucket().await;
    for kind in KINDS {
        store(&world, "/bucket/key", &noise(1_000), kind).await;
        for wrong in ["1016", "999"] {
            let delete = world
                .delete("/bucket/key")
                .with("x-amz-if-match-size", wrong);
            delete.send().await.refused(412, "PreconditionFailed");
        }
        let delete = world
            .delete("/bucket/key")
            .with("x-amz-if-match-size", "1000");
        assert_eq!(delete.send().await.status, 204, "{kind:?}");
        world.expect_absent("/bucket/key").await;
    }
    world.stop().await;
}

/// What `minikv key rotate` writes reaches a running server by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_ring_is_taken_over_without_a_restart() {
    let world = World::with_bucket().await;
    let dir = tempfile::tempdir().unwrap();
    let file = keyring::path(dir.path(), None);
    let ring = keyring::open(dir.path(), None).unwrap();
    world.ops.replace_ring(ring.clone());
    let watching = tokio::spawn(keyring::watch(file.clone(), world.ops.clone()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let rotated = keyring::change(&file, |ring| {
        Ok(rotated(&ring.unwrap(), keyring::FIRST_KEY))
    });
    let rotated = rotated.unwrap();
    for _ in 0..100 {
        if *world.ops.ring() != ring {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(*world.ops.ring(), rotated);
    // A file that cannot be read changes nothing.
    std::fs::write(&file, "current = ").unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(*world.ops.ring(), rotated);
    watching.abort();
    world.stop().await;
}
