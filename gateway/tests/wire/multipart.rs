//! Multipart uploads.

use crate::world::{Payload, World, checksum, md5_hex, noise};
use bytes::Bytes;
use minikv::object::checksum::{Algorithm, Kind, of_parts};
use minikv::object::etag::multipart_etag;

const MIN: usize = 5 << 20;

fn list(parts: &[(usize, String)]) -> String {
    let parts: String = parts
        .iter()
        .map(|(n, etag)| format!("<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>"))
        .collect();
    format!(
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{parts}</CompleteMultipartUpload>"
    )
}

async fn open(world: &World, key: &str) -> String {
    let opened = world.post(&format!("/bucket/{key}?uploads")).send().await;
    assert_eq!(
        (opened.status, opened.one("Key").as_str()),
        (200, key),
        "{}",
        opened.text()
    );
    opened.one("UploadId")
}

async fn part(world: &World, key: &str, upload: &str, number: usize, body: Bytes) -> String {
    let put = world
        .put(&format!(
            "/bucket/{key}?partNumber={number}&uploadId={upload}"
        ))
        .pieces(body, 300_000)
        .send()
        .await;
    assert_eq!((put.status, put.api), (200, "UploadPart"), "{}", put.text());
    put.header("etag").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_become_one_object() {
    let world = World::with_bucket().await;
    let bodies = [noise(MIN), noise(MIN + 1), noise(3)];
    let opened = world
        .post("/bucket/key?uploads")
        .with("content-type", "text/plain")
        .with("x-amz-meta-a", "b")
        .send()
        .await;
    let upload = opened.one("UploadId");
    let mut etags = Vec::new();
    // Out of order, and one of them twice.
    part(&world, "key", &upload, 7, noise(10)).await;
    for (n, at) in [(3, 1), (7, 2), (1, 0)] {
        etags.push((n, part(&world, "key", &upload, n, bodies[at].clone()).await));
    }
    etags.sort();
    world.expect_absent("/bucket/key").await;

    let done = world
        .post(&format!("/bucket/key?uploadId={upload}"))
        .body(list(&etags))
        .send()
        .await;
    assert_eq!(
        (done.status, done.api),
        (200, "CompleteMultipartUpload"),
        "{}",
        done.text()
    );
    let md5s: Vec<String> = bodies.iter().map(|body| md5_hex(body)).collect();
    let etag = format!(
        "\"{}\"",
        multipart_etag(md5s.iter().map(String::as_str)).unwrap()
    );
    assert_eq!(
        (done.one("ETag"), done.one("Bucket"), done.one("Key")),
        (etag.clone(), "bucket".into(), "key".into())
    );
    assert!(done.one("Location").ends_with("/bucket/key"));

    let whole = bodies.concat();
    let got = world
        .get("/bucket/key")
        .with("x-amz-checksum-mode", "ENABLED")
        .send()
        .await;
    assert!(got.body == whole);
    assert_eq!(
        (
            got.header("etag"),
            got.header("content-type"),
            got.header("x-amz-meta-a")
        ),
        (etag.as_str(), "text/plain", "b")
    );
    assert_eq!(
        got.header("x-amz-checksum-crc64nvme"),
        checksum(Algorithm::Crc64Nvme, &whole)
    );
    let across = world
        .get("/bucket/key")
        .with("range", format!("bytes={}-{}", MIN - 5, MIN + 4))
        .send()
        .await;
    assert!(
        across.body == whole[MIN - 5..MIN + 5],
        "a range over the edge of two parts"
    );
    let second = world.get("/bucket/key?partNumber=3").send().await;
    assert_eq!(
        (second.status, second.header("x-amz-mp-parts-count")),
        (206, "3")
    );
    assert!(second.body == bodies[1]);
    world
        .get("/bucket/key?partNumber=2")
        .send()
        .await
        .refused(416, "InvalidPartNumber");
    for bad in ["0", "10001", "-1"] {
        world
            .get(&format!("/bucket/key?partNumber={bad}"))
            .send()
            .await
            .refused(400, "InvalidArgument");
    }
    world.stop().await;
}

/// A client that did not hear the answer asks again.
#[tokio::test(flavor = "multi_thread")]
async fn complete_may_be_repeated() {
    let world = World::with_bucket().await;
    let upload = open(&world, "key").await;
    let etag = part(&world, "key", &upload, 1, noise(100)).await;
    let complete = || {
        world
            .post(&format!("/bucket/key?uploadId={upload}"))
            .body(list(&[(1, etag.clone())]))
            .send()
    };
    let first = complete().await;
    let again = complete().await;
    assert_eq!((first.status, again.status), (200, 200), "{}", again.text());
    assert_eq!(first.one("ETag"), again.one("ETag"));
    let other = format!("\"{}\"", md5_hex(b"another part"));
    let other = world
        .post(&format!("/bucket/key?uploadId={upload}"))
        .body(list(&[(1, other)]))
        .send()
        .await;
    assert_eq!(other.status, 404, "another list is another question");
    let late = world
        .put(&format!("/bucket/key?partNumber=1&uploadId={upload}"))
        .body("x")
        .send()
        .await;
    late.refused(404, "NoSuchUpload");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_list_is_refused_and_the_upload_stays() {
    let world = World::with_bucket().await;
    let upload = open(&world, "key").await;
    let small = part(&world, "key", &upload, 1, noise(100)).await;
    let last = part(&world, "key", &upload, 2, noise(200)).await;
    let complete = |parts: &[(usize, String)]| {
        world
            .post(&format!("/bucket/key?uploadId={upload}"))
            .body(list(parts))
            .send()
    };
    complete(&[(1, small.clone()), (2, last.clone())])
        .await
        .refused(400, "EntityTooSmall");
    complete(&[(2, last.clone()), (1, small.clone())])
        .await
        .refused(400, "InvalidPartOrder");
    complete(&[(1, last.clone())])
        .await
        .refused(400, "InvalidPart");
    complete(&[(3, last.clone())])
        .await
        .refused(400, "InvalidPart");
    complete(&[]).await.refused(400, "MalformedXML");
    world
        .post(&format!("/bucket/key?uploadId={upload}"))
        .send()
        .await
        .refused(400, "MalformedXML");
    world
        .post(&format!("/bucket/other?uploadId={upload}"))
        .body(list(&[(1, small.clone())]))
        .send()
        .await
        .refused(404, "NoSuchUpload");
    world.expect_absent("/bucket/key").await;
    assert_eq!(
        complete(&[(2, last)]).await.status,
        200,
        "parts may be left out"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn part_numbers_are_1_to_10000() {
    let world = World::with_bucket().await;
    let upload = open(&world, "key").await;
    for number in ["0", "10001", "-1", "2147483648", "x", ""] {
        let put = world
            .put(&format!(
                "/bucket/key?partNumber={number}&uploadId={upload}"
            ))
            .body("x")
            .send()
            .await;
        put.refused(400, "InvalidArgument");
    }
    assert_eq!(
        world
            .put(&format!("/bucket/key?partNumber=10000&uploadId={upload}"))
            .body("x")
            .send()
            .await
            .status,
        200
    );
    world
        .put(&format!("/bucket/key?uploadId={upload}"))
        .body("x")
        .send()
        .await
        .refused(400, "InvalidArgument");
    world
        .put("/bucket/key?partNumber=1&uploadId=nonsense")
        .body("x")
        .send()
        .await
        .refused(404, "NoSuchUpload");
    world.expect_absent("/bucket/key").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_upload_is_over() {
    let world = World::with_bucket().await;
    let upload = open(&world, "key").await;
    let etag = part(&world, "key", &upload, 1, noise(300_000)).await;
    let uri = format!("/bucket/key?uploadId={upload}");
    assert_eq!(world.delete(&uri).send().await.status, 204);
    world.delete(&uri).send().await.refused(404, "NoSuchUpload");
    world.get(&uri).send().await.refused(404, "NoSuchUpload");
    world
        .post(&uri)
        .body(list(&[(1, etag)]))
        .send()
        .await
        .refused(404, "NoSuchUpload");
    world
        .put(&format!("{uri}&partNumber=1"))
        .body("x")
        .send()
        .await
        .refused(404, "NoSuchUpload");
    assert_eq!(
        world
            .get("/bucket?uploads")
            .send()
            .await
            .all("UploadId")
            .len(),
        0
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_and_uploads_are_listed_in_pages() {
    let world = World::with_bucket().await;
    let upload = open(&world, "key").await;
    for number in [1, 3, 10_000] {
        part(&world, "key", &upload, number, noise(number)).await;
    }
    let uri = format!("/bucket/key?uploadId={upload}");
    let all = world.get(&uri).send().await;
    assert_eq!(
        (all.all("PartNumber"), all.all("Size")),
        (
            vec!["1".into(), "3".into(), "10000".into()],
            vec!["1".into(), "3".into(), "10000".into()]
        )
    );
    assert_eq!(all.one("IsTruncated"), "false");
    let first = world.get(&format!("{uri}&max-parts=2")).send().await;
    assert_eq!(
        (
            first.one("IsTruncated").as_str(),
            first.one("NextPartNumberMarker").as_str()
        ),
        ("true", "3")
    );
    let rest = world
        .get(&format!("{uri}&part-number-marker=3"))
        .send()
        .await;
    assert_eq!(rest.all("PartNumber"), ["10000"]);

    let more: Vec<String> = vec![
        open(&world, "a/1").await,
        open(&world, "a/2").await,
        open(&world, "key").await,
    ];
    let uploads = world.get("/bucket?uploads").send().await;
    assert_eq!(uploads.all("Key"), ["a/1", "a/2", "key", "key"]);
    assert_eq!(uploads.one("IsTruncated"), "false");
    assert!(
        uploads.all("UploadId").contains(&more[2]) && uploads.all("UploadId").contains(&upload)
    );
    let rolled = world.get("/bucket?uploads&delimiter=/").send().await;
    assert_eq!(rolled.all("Key"), ["key", "key"]);
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let page = world
            .get(&format!("/bucket?uploads&max-uploads=1{next}"))
            .send()
            .await;
        assert_eq!(page.status, 200, "{}", page.text());
        seen.extend(page.all("UploadId"));
        if page.one("IsTruncated") == "false" {
            break;
        }
        next = format!(
            "&key-marker={}&upload-id-marker={}",
            page.one("NextKeyMarker"),
            page.one("NextUploadIdMarker")
        );
        assert!(seen.len() < 10);
    }
    assert_eq!(seen, uploads.all("UploadId"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_may_be_copied() {
    let world = World::with_bucket().await;
    let source = noise(MIN + 1_000);
    world.store("/bucket/source", source.clone()).await;
    let upload = open(&world, "key").await;
    let copy = |number: usize, range: Option<&str>| {
        let call = world
            .put(&format!(
                "/bucket/key?partNumber={number}&uploadId={upload}"
            ))
            .with("x-amz-copy-source", "/bucket/source");
        match range {
            Some(range) => call.with("x-amz-copy-source-range", range),
            None => call,
        }
        .send()
    };
    let first = copy(1, None).await;
    assert_eq!(
        (first.status, first.api),
        (200, "UploadPartCopy"),
        "{}",
        first.text()
    );
    let second = copy(2, Some("bytes=10-19")).await;
    for bad in ["bytes=0-99999999", "bytes=5-", "bytes=-5", "5-6"] {
        copy(3, Some(bad)).await.refused(400, "InvalidArgument");
    }
    let parts = [(1, first.one("ETag")), (2, second.one("ETag"))];
    let done = world
        .post(&format!("/bucket/key?uploadId={upload}"))
        .body(list(&parts))
        .send()
        .await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(
        world.get("/bucket/key").send().await.body
            == [source.clone(), source.slice(10..20)].concat()
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_of_parts_become_that_of_the_whole() {
    let world = World::with_bucket().await;
    let bodies = [noise(MIN), noise(7)];
    let whole = bodies.concat();
    for (algorithm, kind) in [
        (Algorithm::Crc32, Kind::Composite),
        (Algorithm::Crc32, Kind::FullObject),
        (Algorithm::Crc32c, Kind::FullObject),
        (Algorithm::Crc64Nvme, Kind::FullObject),
        (Algorithm::Sha1, Kind::Composite),
        (Algorithm::Sha256, Kind::Composite),
    ] {
        let opened = world
            .post("/bucket/key?uploads")
            .with("x-amz-checksum-algorithm", algorithm.name())
            .with("x-amz-checksum-type", kind.name())
            .send()
            .await;
        assert_eq!(opened.status, 200, "{}", opened.text());
        assert_eq!(opened.header("x-amz-checksum-algorithm"), algorithm.name());
        let upload = opened.one("UploadId");
        let mut lines = String::new();
        for (at, body) in bodies.iter().enumerate() {
            let uri = format!("/bucket/key?partNumber={}&uploadId={upload}", at + 1);
            let put = world
                .put(&uri)
                .body(body.clone())
                .payload(Payload::UnsignedChunksTrailer(algorithm))
                .send()
                .await;
            assert_eq!(
                (put.status, put.header(algorithm.header())),
                (200, checksum(algorithm, body).as_str()),
                "{}",
                put.text()
            );
            lines.push_str(&format!(
                "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag><Checksum{name}>{}</Checksum{name}></Part>",
                at + 1,
                put.header("etag"),
                checksum(algorithm, body),
                name = algorithm.name(),
            ));
        }
        let sums: Vec<_> = bodies
            .iter()
            .map(|body| (algorithm.of(body), body.len() as u64))
            .collect();
        let sums: Vec<_> = sums
            .iter()
            .map(|(sum, len)| (sum.as_slice(), *len))
            .collect();
        let expected = of_parts(algorithm, kind, &sums).unwrap().text();
        if kind == Kind::FullObject {
            assert_eq!(expected, checksum(algorithm, &whole));
        }
        let complete = |claimed: &str| {
            let body = format!("<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>");
            world
                .post(&format!("/bucket/key?uploadId={upload}"))
                .with(algorithm.header(), claimed)
                .with("x-amz-checksum-type", kind.name())
                .body(body)
                .send()
        };
        complete(&checksum(algorithm, b"wrong"))
            .await
            .refused(400, "BadDigest");
        let done = complete(&expected).await;
        assert_eq!(done.status, 200, "{algorithm:?} {kind:?}: {}", done.text());
        assert_eq!(
            (
                done.one(&format!("Checksum{}", algorithm.name())),
                done.one("ChecksumType").as_str()
            ),
            (expected.clone(), kind.name())
        );
        let head = world
            .head("/bucket/key")
            .with("x-amz-checksum-mode", "ENABLED")
            .send()
            .await;
        assert_eq!(
            (
                head.header(algorithm.header()),
                head.header("x-amz-checksum-type")
            ),
            (expected.as_str(), kind.name())
        );
    }
    for (algorithm, kind) in [("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")] {
        let opened = world
            .post("/bucket/key?uploads")
            .with("x-amz-checksum-algorithm", algorithm)
            .with("x-amz-checksum-type", kind);
        opened.send().await.refused(400, "InvalidRequest");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn complete_may_depend_on_what_is_there() {
    let world = World::with_bucket().await;
    let upload = open(&world, "key").await;
    let etag = part(&world, "key", &upload, 1, noise(100)).await;
    world.store("/bucket/key", "before").await;
    let complete = || {
        world
            .post(&format!("/bucket/key?uploadId={upload}"))
            .body(list(&[(1, etag.clone())]))
    };
    complete()
        .with("if-none-match", "*")
        .send()
        .await
        .refused(412, "PreconditionFailed");
    assert_eq!(world.get("/bucket/key").send().await.text(), "before");
    world.delete("/bucket/key").send().await;
    assert_eq!(
        complete().with("if-none-match", "*").send().await.status,
        200,
        "the upload was still open"
    );
    world.stop().await;
}

/// 10,000 parts do not fit into the 1 MiB that other XML has.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_ten_thousand_parts_is_read() {
    let world = World::with_bucket().await;
    let upload = open(&world, "key").await;
    let etag = "\"0123456789abcdef0123456789abcdef\"".to_owned();
    let parts: Vec<_> = (1..=10_000).map(|n| (n, etag.clone())).collect();
    let body = list(&parts).replace(
        "<ETag>",
        "<ChecksumSHA256>47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=</ChecksumSHA256><ETag>",
    );
    assert!(body.len() > 1 << 20);
    let reply = world
        .post(&format!("/bucket/key?uploadId={upload}"))
        .body(body)
        .send()
        .await;
    reply.refused(400, "InvalidPart");
    world.stop().await;
}
