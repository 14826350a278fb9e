//! Objects: what goes in comes out.

use crate::world::{Payload, World, md5_hex, noise};
use minikv::object::checksum::Algorithm;

#[tokio::test(flavor = "multi_thread")]
async fn every_size_comes_back_as_it_went_in() {
    let world = World::with_bucket().await;
    for size in [
        0,
        1,
        5,
        4_096,
        65_535,
        65_536,
        65_537,
        1 << 20,
        (1 << 20) + 1,
        (5 << 20) + 3,
    ] {
        let body = noise(size);
        let put = world
            .put("/bucket/key")
            .pieces(body.clone(), 50_000)
            .send()
            .await;
        assert_eq!(
            (put.status, put.header("etag")),
            (200, format!("\"{}\"", md5_hex(&body)).as_str()),
            "{size}"
        );
        let got = world.get("/bucket/key").send().await;
        assert!(!got.broken && got.body == body, "{size}");
        assert_eq!(got.header("content-length"), size.to_string());
        let head = world.head("/bucket/key").send().await;
        assert_eq!(
            (head.status, head.header("content-length"), head.body.len()),
            (200, size.to_string().as_str(), 0)
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_sending_a_body_stores_the_same_object() {
    let world = World::with_bucket().await;
    for size in [0, 11, 200_000, 3 << 20] {
        let body = noise(size);
        for payload in [
            Payload::Signed,
            Payload::Unsigned,
            Payload::SignedChunks,
            Payload::SignedChunksTrailer(Algorithm::Crc32),
            Payload::UnsignedChunksTrailer(Algorithm::Crc64Nvme),
            Payload::Presigned(60),
        ] {
            let put = world
                .put("/bucket/key")
                .pieces(body.clone(), 100_000)
                .payload(payload)
                .send()
                .await;
            assert_eq!(put.status, 200, "{payload:?} {size}: {}", put.text());
            let got = world.get("/bucket/key").send().await;
            assert!(
                got.body == body,
                "{payload:?} {size}: framing must not land in the object"
            );
            assert_eq!(got.header("content-encoding"), "", "{payload:?}");
        }
    }
    world.stop().await;
}

/// curl -T - sends a body of a length that nobody knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_undeclared_length_is_taken() {
    let world = World::with_bucket().await;
    for size in [0, 10, 65_536, 65_537, 2 << 20] {
        let body = noise(size);
        let call = world
            .put("/bucket/key")
            .with("transfer-encoding", "chunked")
            .payload(Payload::Unsigned);
        assert_eq!(call.pieces(body.clone(), 30_000).send().await.status, 200);
        assert!(world.get("/bucket/key").send().await.body == body);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_metadata_are_kept() {
    let world = World::with_bucket().await;
    let put = world
        .put("/bucket/key")
        .with("content-type", "text/plain; charset=utf-8")
        .with("cache-control", "max-age=60")
        .with(
            "content-disposition",
            "attachment; filename=\"ä.txt\"".as_bytes(),
        )
        .with("content-encoding", "gzip")
        .with("content-language", "de")
        .with("expires", "0")
        .with("x-amz-meta-plain", "value")
        .with("x-amz-meta-utf8", "größe".as_bytes())
        .with("x-amz-meta-word", "=?UTF-8?B?w6TDtsO8?=")
        .body("x")
        .send()
        .await;
    assert_eq!(put.status, 200, "{}", put.text());
    for reply in [
        world.get("/bucket/key").send().await,
        world.head("/bucket/key").send().await,
    ] {
        for (name, value) in [
            ("content-type", "text/plain; charset=utf-8"),
            ("cache-control", "max-age=60"),
            ("content-encoding", "gzip"),
            ("content-language", "de"),
            ("expires", "0"),
            ("accept-ranges", "bytes"),
            ("x-amz-meta-plain", "value"),
            ("x-amz-meta-utf8", "=?UTF-8?B?Z3LDtsOfZQ==?="),
            ("x-amz-meta-word", "=?UTF-8?B?w6TDtsO8?="),
        ] {
            assert_eq!(reply.header(name), value, "{name}");
        }
        assert_eq!(
            reply.headers["content-disposition"].as_bytes(),
            "attachment; filename=\"ä.txt\"".as_bytes()
        );
        assert!(reply.header("last-modified").ends_with(" GMT"));
        assert!(
            !reply.headers.contains_key("x-amz-version-id"),
            "the bucket never had versions"
        );
    }
    world.store("/bucket/bare", "x").await;
    assert_eq!(
        world
            .head("/bucket/bare")
            .send()
            .await
            .header("content-type"),
        "binary/octet-stream"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_metadata_ends_at_2_kb() {
    let world = World::with_bucket().await;
    let put = |len: usize| {
        world
            .put("/bucket/key")
            .with("x-amz-meta-name", "v".repeat(len - 4))
            .body("x")
            .send()
    };
    assert_eq!(put(2048).await.status, 200);
    world.delete("/bucket/key").send().await;
    put(2049).await.refused(400, "MetadataTooLarge");
    world.expect_absent("/bucket/key").await;
    world.stop().await;
}

/// T21: what would be a path elsewhere is a name here.
#[tokio::test(flavor = "multi_thread")]
async fn any_utf8_key_up_to_1024_bytes_is_a_key() {
    let world = World::with_bucket().await;
    let long = "k".repeat(1024);
    let keys = [
        "a%20b",
        "a+b",
        "a%252Bb",
        "a%25b",
        "%C3%A4%E2%82%AC%F0%9F%98%80",
        "../../etc/passwd",
        "a//b",
        "/a",
        "a/",
        "a/b",
        "a/b/c",
        ".",
        "%2e%2e",
        "a%00b",
        "a%0D%0Ab",
        "a%3Fb",
        "a%23b",
        "a%26b=c",
        "~!@$'()*,;:",
        long.as_str(),
    ];
    for key in keys {
        let uri = format!("/bucket/{key}");
        world.store(&uri, key.to_owned()).await;
    }
    for key in keys {
        let got = world.get(&format!("/bucket/{key}")).send().await;
        assert_eq!(
            (got.status, got.text()),
            (200, key.to_owned()),
            "{key}: {}",
            got.text()
        );
    }
    let listed = world
        .get("/bucket?list-type=2&encoding-type=url")
        .send()
        .await;
    assert_eq!(listed.all("Key").len(), keys.len());
    world
        .put(&format!("/bucket/{long}k"))
        .body("x")
        .send()
        .await
        .refused(400, "KeyTooLongError");
    let (mut request, body) = world.put("/bucket/a").body("x").build();
    *request.uri_mut() = "/bucket/a%ffb".parse().unwrap();
    crate::world::send(&world, request, body)
        .await
        .refused(400, "InvalidURI");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_answered_as_s3_answers_them() {
    let world = World::with_bucket().await;
    for size in [1_000_usize, 200_000, 5 << 20] {
        let body = noise(size);
        world.store("/bucket/key", body.clone()).await;
        let last = size - 1;
        for (range, from, to) in [
            ("bytes=0-0".to_owned(), 0, 1),
            ("bytes=10-19".to_owned(), 10, 20),
            (format!("bytes={last}-"), last, size),
            ("bytes=-5".to_owned(), size - 5, size),
            (format!("bytes=500-{}", size * 2), 500, size),
            (format!("bytes=-{}", size * 2), 0, size),
        ] {
            let got = world.get("/bucket/key").with("range", &range).send().await;
            assert_eq!(got.status, 206, "{range}");
            assert!(got.body == body[from..to], "{range} of {size}");
            assert_eq!(
                got.header("content-range"),
                format!("bytes {from}-{}/{size}", to - 1)
            );
            let head = world.head("/bucket/key").with("range", &range).send().await;
            assert_eq!(
                (head.status, head.header("content-length")),
                (206, (to - from).to_string().as_str())
            );
        }
        let outside = world
            .get("/bucket/key")
            .with("range", format!("bytes={size}-"))
            .send()
            .await;
        outside.refused(416, "InvalidRange");
        assert_eq!(outside.header("content-range"), format!("bytes */{size}"));
        for whole in ["bytes=0-1,4-5", "bytes=9-5", "lines=1-2", "bytes=x"] {
            let got = world.get("/bucket/key").with("range", whole).send().await;
            assert!(got.status == 200 && got.body == body, "{whole} is no range");
        }
    }
    world.store("/bucket/empty", "").await;
    world
        .get("/bucket/empty")
        .with("range", "bytes=0-")
        .send()
        .await
        .refused(416, "InvalidRange");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_may_ask_whether_it_has_changed() {
    let world = World::with_bucket().await;
    let etag = world
        .store("/bucket/key", "hello")
        .await
        .header("etag")
        .to_owned();
    let modified = world
        .head("/bucket/key")
        .send()
        .await
        .header("last-modified")
        .to_owned();
    let past = "Wed, 21 Oct 2015 07:28:00 GMT";
    for (name, value, status) in [
        ("if-match", etag.as_str(), 200),
        ("if-match", "*", 200),
        ("if-match", "\"other\"", 412),
        ("if-none-match", etag.as_str(), 304),
        ("if-none-match", "\"other\"", 200),
        ("if-none-match", "*", 304),
        ("if-modified-since", modified.as_str(), 304),
        ("if-modified-since", past, 200),
        ("if-unmodified-since", modified.as_str(), 200),
        ("if-unmodified-since", past, 412),
        ("if-modified-since", "yesterday", 200),
    ] {
        for call in [world.get("/bucket/key"), world.head("/bucket/key")] {
            let reply = call.with(name, value).send().await;
            assert_eq!(reply.status, status, "{name}: {value}");
            if status == 304 {
                assert_eq!((reply.header("etag"), reply.body.len()), (etag.as_str(), 0));
            }
        }
    }
    let both = world
        .get("/bucket/key")
        .with("if-match", &etag)
        .with("if-unmodified-since", past)
        .send()
        .await;
    assert_eq!(both.status, 200, "the ETag decides");
    world.stop().await;
}

/// Terraform's lock file is a PUT that must not overwrite.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_may_depend_on_what_is_there() {
    let world = World::with_bucket().await;
    for size in [5, 200_000] {
        let key = format!("/bucket/{size}");
        let put = |name: &'static str, value: &str| {
            world.put(&key).with(name, value).body(noise(size)).send()
        };
        put("if-match", "\"x\"").await.refused(404, "NoSuchKey");
        let first = put("if-none-match", "*").await;
        assert_eq!(first.status, 200);
        put("if-none-match", "*")
            .await
            .refused(412, "PreconditionFailed");
        put("if-match", "\"x\"")
            .await
            .refused(412, "PreconditionFailed");
        assert_eq!(put("if-match", first.header("etag")).await.status, 200);
        assert_eq!(put("if-match", "*").await.status, 200);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_may_say_how_the_answer_is_taken() {
    let world = World::with_bucket().await;
    world
        .put("/bucket/key")
        .with("content-type", "text/html")
        .body("x")
        .send()
        .await;
    let uri = "/bucket/key?response-content-type=text%2Fplain&response-content-disposition=attachment%3B%20filename%3D%22a%20b%22&response-cache-control=no-store&response-expires=Wed%2C%2021%20Oct%202015%2007%3A28%3A00%20GMT";
    for payload in [Payload::Signed, Payload::Presigned(60)] {
        for call in [world.get(uri), world.head(uri)] {
            let got = call.payload(payload).send().await;
            assert_eq!(got.status, 200, "{}", got.text());
            assert_eq!(got.header("content-type"), "text/plain");
            assert_eq!(
                got.header("content-disposition"),
                "attachment; filename=\"a b\""
            );
            assert_eq!(got.header("cache-control"), "no-store");
            assert_eq!(got.header("expires"), "Wed, 21 Oct 2015 07:28:00 GMT");
        }
    }
    // T24: no lines can be added to an answer.
    let injected = world
        .get("/bucket/key?response-content-type=a%0d%0aset-cookie:x")
        .send()
        .await;
    assert!(!injected.headers.contains_key("set-cookie"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_gone_and_deleting_it_again_is_fine() {
    let world = World::with_bucket().await;
    for size in [5, 200_000] {
        world.store("/bucket/key", noise(size)).await;
        for _ in 0..2 {
            let deleted = world.delete("/bucket/key").send().await;
            assert_eq!((deleted.status, deleted.body.len()), (204, 0));
        }
        let gone = world.get("/bucket/key").send().await;
        gone.refused(404, "NoSuchKey");
        assert_eq!(gone.one("Key"), "key");
        let head = world.head("/bucket/key").send().await;
        assert_eq!((head.status, head.body.len()), (404, 0));
    }
    world
        .get("/nowhere/key")
        .send()
        .await
        .refused(404, "NoSuchBucket");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_may_depend_on_what_is_there() {
    let world = World::with_bucket().await;
    let etag = world
        .store("/bucket/key", "hello")
        .await
        .header("etag")
        .to_owned();
    world
        .delete("/bucket/key")
        .with("if-match", "\"x\"")
        .send()
        .await
        .refused(412, "PreconditionFailed");
    world
        .delete("/bucket/key")
        .with("x-amz-if-match-size", "4")
        .send()
        .await
        .refused(412, "PreconditionFailed");
    assert_eq!(
        world
            .delete("/bucket/key")
            .with("if-match", &etag)
            .with("x-amz-if-match-size", "5")
            .send()
            .await
            .status,
        204
    );
    world
        .delete("/bucket/key")
        .with("if-match", &etag)
        .send()
        .await
        .refused(404, "NoSuchKey");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_go_in_one_call() {
    let world = World::with_bucket().await;
    for key in ["a", "b", "c%20d", "e"] {
        world.store(&format!("/bucket/{key}"), "x").await;
    }
    let body = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a</Key></Object><Object><Key>c d</Key></Object><Object><Key>never</Key></Object></Delete>";
    let crc32 = crate::world::checksum(Algorithm::Crc32, body.as_bytes());
    // As SDKs send it today: a CRC32 and no Content-MD5.
    let reply = world
        .post("/bucket?delete")
        .with("x-amz-checksum-crc32", crc32)
        .body(body)
        .send()
        .await;
    assert_eq!(
        (reply.status, reply.all("Key")),
        (200, vec!["a".into(), "c d".into(), "never".into()]),
        "{}",
        reply.text()
    );
    let quiet = "<Delete><Quiet>true</Quiet><Object><Key>b</Key></Object></Delete>";
    let reply = world
        .post("/bucket?delete")
        .with("content-md5", crate::world::md5_base64(quiet.as_bytes()))
        .body(quiet)
        .send()
        .await;
    assert_eq!((reply.status, reply.all("Key").len()), (200, 0));
    assert_eq!(
        world.get("/bucket?list-type=2").send().await.all("Key"),
        ["e"]
    );

    let wrong = world
        .post("/bucket?delete")
        .with("x-amz-checksum-crc32", "AAAAAA==")
        .body(body.replace("never", "e"));
    wrong.send().await.refused(400, "BadDigest");
    assert_eq!(world.head("/bucket/e").send().await.status, 200);
    let errors = "<Delete><Object><Key>e</Key><VersionId>nonsense</VersionId></Object></Delete>";
    let reply = world.post("/bucket?delete").body(errors).send().await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (200, "InvalidArgument"),
        "an error for that key alone"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_of_many_has_1_to_1000_keys() {
    let world = World::with_bucket().await;
    let key = "k".repeat(1020);
    let body = |count: usize| {
        let objects: String = (0..count)
            .map(|n| format!("<Object><Key>{key}{n:04}</Key></Object>"))
            .collect();
        format!("<Delete><Quiet>true</Quiet>{objects}</Delete>")
    };
    assert_eq!(
        world
            .post("/bucket?delete")
            .body(body(1_000))
            .send()
            .await
            .status,
        200,
        "1000 of the longest keys"
    );
    world
        .post("/bucket?delete")
        .body(body(1_001))
        .send()
        .await
        .refused(400, "InvalidRequest");
    assert_eq!(
        world
            .post("/bucket?delete")
            .body("<Delete></Delete>")
            .send()
            .await
            .status,
        400
    );
    world.stop().await;
}

/// A key that is overwritten all the time is there all the time: whoever reads or copies it gets one of its contents.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_overwritten_while_it_is_read_is_never_missing() {
    let world = World::with_bucket().await;
    world.store("/bucket/key", "0").await;
    let overwriter = async {
        for round in 0..150 {
            world.store("/bucket/key", round.to_string()).await;
        }
    };
    let readers = futures::future::join_all((0..4).map(|reader| {
        let world = &world;
        async move {
            for _ in 0..100 {
                let got = world.get("/bucket/key").send().await;
                assert_eq!(got.status, 200, "{}", got.text());
                let copy = world
                    .put(&format!("/bucket/copy{reader}"))
                    .with("x-amz-copy-source", "bucket/key");
                let copy = copy.send().await;
                assert_eq!(copy.status, 200, "{}", copy.text());
            }
        }
    }));
    futures::join!(overwriter, readers);
    world.stop().await;
}
