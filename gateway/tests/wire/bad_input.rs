//! Bad input: each gets its answer and leaves nothing behind.

use crate::world::{Payload, World, noise, send};
use bytes::Bytes;
use http::{HeaderValue, Method};
use minikv::object::checksum::Algorithm;

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_sign_gets_nowhere() {
    let world = World::with_bucket().await;
    for (method, uri) in [
        (Method::GET, "/"),
        (Method::GET, "/bucket"),
        (Method::PUT, "/bucket/key"),
        (Method::DELETE, "/bucket"),
        (Method::POST, "/bucket?delete"),
    ] {
        world
            .request(method, uri)
            .payload(Payload::Anonymous)
            .send()
            .await
            .refused(403, "AccessDenied");
    }
    let head = world
        .head("/bucket")
        .payload(Payload::Anonymous)
        .send()
        .await;
    assert_eq!((head.status, head.body.len()), (403, 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_signatures_and_clocks_are_refused() {
    let world = World::with_bucket().await;
    let (mut request, body) = world.put("/bucket/key").body("x").build();
    *request.uri_mut() = "/bucket/other".parse().unwrap();
    send(&world, request, body)
        .await
        .refused(403, "SignatureDoesNotMatch");
    for skew in [-1_000, 1_000] {
        let late = world.put("/bucket/key").body("x").skewed(skew).send().await;
        late.refused(403, "RequestTimeTooSkewed");
        assert_eq!(late.one("MaxAllowedSkewMilliseconds"), "900000");
    }
    assert_eq!(
        world
            .put("/bucket/in-time")
            .body("x")
            .skewed(-800)
            .send()
            .await
            .status,
        200
    );
    let region = world
        .put("/bucket/key")
        .body("x")
        .region("eu-west-1")
        .send()
        .await;
    region.refused(400, "AuthorizationHeaderMalformed");
    assert_eq!(
        region.one("Region"),
        "us-east-1",
        "s3cmd reads it from here"
    );
    assert_eq!(world.head("/bucket").region("").send().await.status, 200);
    world
        .put("/bucket/key")
        .body("x")
        .payload(Payload::Anonymous)
        .with("authorization", "AWS AKTEST:c2ln")
        .send()
        .await
        .refused(400, "InvalidRequest");
    world.expect_absent("/bucket/key").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presigned_urls_end() {
    let world = World::with_bucket().await;
    world.store("/bucket/key", "x").await;
    assert_eq!(
        world
            .get("/bucket/key")
            .payload(Payload::Presigned(604_800))
            .send()
            .await
            .text(),
        "x"
    );
    world
        .get("/bucket/key")
        .payload(Payload::Presigned(604_801))
        .send()
        .await
        .refused(400, "AuthorizationQueryParametersError");
    let expired = world
        .get("/bucket/key")
        .payload(Payload::Presigned(60))
        .skewed(-100)
        .send()
        .await;
    expired.refused(403, "AccessDenied");
    assert!(!expired.one("Expires").is_empty());
    world
        .get("/bucket/key")
        .payload(Payload::Presigned(60))
        .skewed(1_000)
        .send()
        .await
        .refused(403, "AccessDenied");
    world
        .get("/bucket/key?AWSAccessKeyId=a&Signature=b&Expires=9999999999")
        .payload(Payload::Anonymous)
        .send()
        .await
        .refused(400, "InvalidRequest");
    world.stop().await;
}

/// T2.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_in_header_and_query_are_refused_together() {
    let world = World::with_bucket().await;
    let (presigned, _) = world.get("/bucket").payload(Payload::Presigned(60)).build();
    let (mut signed, _) = world.get("/bucket").build();
    *signed.uri_mut() = presigned.uri().clone();
    send(&world, signed, Vec::new())
        .await
        .refused(400, "InvalidArgument");
    world.stop().await;
}

/// T3: an added header must not turn a PUT that somebody signed into a copy that he did not.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed_is_not_obeyed() {
    let world = World::with_bucket().await;
    world.store("/bucket/secret", "secret").await;
    for payload in [Payload::Signed, Payload::Presigned(60)] {
        for (name, value) in [
            ("x-amz-copy-source", "/bucket/secret"),
            ("x-amz-meta-a", "b"),
            ("x-amz-acl", "public-read"),
        ] {
            let reply = world
                .put("/bucket/key")
                .payload(payload)
                .unsigned(name, value)
                .send()
                .await;
            reply.refused(403, "AccessDenied");
            assert_eq!(reply.one("HeadersNotSigned"), name);
            world.expect_absent("/bucket/key").await;
        }
    }
    world.stop().await;
}

/// T7.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_sent_twice_is_refused() {
    let world = World::with_bucket().await;
    for (name, value) in [
        ("x-amz-date", "20261122T000000Z"),
        ("host", "127.0.0.1:9000"),
        ("content-type", "a"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
    ] {
        let call = world
            .put("/bucket/key")
            .with("content-type", "a")
            .body("x")
            .unsigned(name, value);
        call.send().await.refused(400, "InvalidRequest");
    }
    world
        .put("/bucket/key")
        .with("transfer-encoding", "chunked")
        .with("content-length", "1")
        .body("x")
        .send()
        .await
        .refused(400, "InvalidRequest");
    world
        .put("/bucket/key")
        .with("x-pad", "x".repeat(8_192))
        .body("x")
        .send()
        .await
        .refused(400, "RequestHeaderSectionTooLarge");
    world.expect_absent("/bucket/key").await;
    world.stop().await;
}

/// T8: lies about the framing of a body.
#[tokio::test(flavor = "multi_thread")]
async fn bad_framing_stores_nothing() {
    let world = World::with_bucket().await;
    let algorithm = Algorithm::Crc32;
    for size in [11, 300_000] {
        for payload in [
            Payload::SignedChunks,
            Payload::SignedChunksTrailer(algorithm),
            Payload::UnsignedChunksTrailer(algorithm),
        ] {
            let build = |declared: usize| {
                let call = world
                    .put("/bucket/key")
                    .with("x-amz-decoded-content-length", declared.to_string());
                call.body(noise(size)).payload(payload).build()
            };
            for declared in [size - 1, size + 1, 0, 1 << 50] {
                let (request, body) = build(declared);
                let reply = send(&world, request, body).await;
                assert!(
                    matches!(reply.code().as_str(), "IncompleteBody" | "EntityTooLarge"),
                    "{payload:?} {declared}: {}",
                    reply.text()
                );
                world.expect_absent("/bucket/key").await;
            }
            // The last chunk is missing.
            let (request, mut body) = build(size);
            body.truncate(
                body.len()
                    - if payload == Payload::SignedChunks {
                        2
                    } else {
                        3
                    },
            );
            assert!(
                send(&world, request, body).await.status >= 400,
                "{payload:?}"
            );
            world.expect_absent("/bucket/key").await;
            // Something follows the end.
            let (request, mut body) = build(size);
            body.push(Bytes::from_static(b"garbage"));
            assert_eq!(send(&world, request, body).await.status, 400, "{payload:?}");
            world.expect_absent("/bucket/key").await;
            // A size that is none.
            let (request, mut body) = build(size);
            body[0] = [b"+", &body[0][..]].concat().into();
            assert_eq!(send(&world, request, body).await.status, 400, "{payload:?}");
            world.expect_absent("/bucket/key").await;
        }
        // The signature of a chunk in the middle is wrong.
        let (request, mut body) = world
            .put("/bucket/key")
            .body(noise(size))
            .payload(Payload::SignedChunks)
            .build();
        let mut header = body[0].to_vec();
        let digit = header.len() - 3;
        header[digit] = if header[digit] == b'0' { b'1' } else { b'0' };
        body[0] = header.into();
        send(&world, request, body)
            .await
            .refused(403, "SignatureDoesNotMatch");
        world.expect_absent("/bucket/key").await;
        // The trailer that was announced does not come.
        let (request, mut body) = world
            .put("/bucket/key")
            .body(noise(size))
            .payload(Payload::UnsignedChunksTrailer(algorithm))
            .build();
        *body.last_mut().unwrap() = Bytes::from_static(b"0\r\n\r\n");
        send(&world, request, body)
            .await
            .refused(400, "MalformedTrailerError");
        world.expect_absent("/bucket/key").await;
    }
    let (mut request, body) = world
        .put("/bucket/key")
        .body("x")
        .payload(Payload::SignedChunks)
        .build();
    request.headers_mut().remove("x-amz-decoded-content-length");
    assert!(send(&world, request, body).await.status >= 400);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_length_stores_nothing() {
    let world = World::with_bucket().await;
    for size in [11, 300_000_usize] {
        for declared in [size - 1, size + 1] {
            let call = world
                .put("/bucket/key")
                .with("content-length", declared.to_string())
                .payload(Payload::Unsigned);
            call.pieces(noise(size), 50_000)
                .send()
                .await
                .refused(400, "IncompleteBody");
            world.expect_absent("/bucket/key").await;
        }
    }
    let huge = world
        .put("/bucket/key")
        .with("content-length", (5_u64 * (1 << 30) + 1).to_string())
        .payload(Payload::Unsigned);
    huge.body("x").send().await.refused(400, "EntityTooLarge");
    world.stop().await;
}

/// T22.
#[tokio::test(flavor = "multi_thread")]
async fn bad_xml_is_refused() {
    let world = World::with_bucket().await;
    world.store("/bucket/key", "x").await;
    for bad in [
        "",
        "not xml",
        "<Delete>",
        "<Delete><Object><Key>key</Key></Object>",
        "<Other/>",
        "<!DOCTYPE x [<!ENTITY e \"e\">]><Delete><Object><Key>key</Key></Object></Delete>",
        "<Delete><Object><Key>&unknown;</Key></Object></Delete>",
    ] {
        let reply = world.post("/bucket?delete").body(bad).send().await;
        assert_eq!(reply.status, 400, "{bad}: {}", reply.text());
    }
    let long = format!("<Delete>{}</Delete>", " ".repeat(2 << 20));
    world
        .post("/bucket?delete")
        .body(long)
        .send()
        .await
        .refused(400, "MaxMessageLengthExceeded");
    let long = " ".repeat((1 << 20) + 1);
    world
        .put("/new-bucket")
        .body(long)
        .send()
        .await
        .refused(400, "MaxMessageLengthExceeded");
    assert_eq!(world.get("/bucket/key").send().await.text(), "x");
    world.stop().await;
}

/// Every call that takes a document refuses one that is not its own, with S3's code, and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_another_kind_is_refused_everywhere() {
    let world = World::with_bucket().await;
    world.store("/bucket/key", "x").await;
    let upload = world
        .post("/bucket/big?uploads")
        .send()
        .await
        .one("UploadId");
    let complete = format!("/bucket/big?uploadId={upload}");
    for (method, uri, empty) in [
        (Method::POST, "/bucket?delete", "MissingRequestBodyError"),
        (Method::POST, complete.as_str(), "MalformedXML"),
        (Method::PUT, "/bucket?cors", "MissingRequestBodyError"),
        (Method::PUT, "/bucket?encryption", "MissingRequestBodyError"),
        (Method::PUT, "/bucket?tagging", "MissingRequestBodyError"),
        (
            Method::PUT,
            "/bucket/key?tagging",
            "MissingRequestBodyError",
        ),
        (Method::PUT, "/bucket?versioning", "MissingRequestBodyError"),
    ] {
        for bad in [
            "<Other><A>1</A></Other>",
            "<a",
            "{\"json\": true}",
            "\u{0}",
            "<Tagging><TagSet><Tag><Key>k</Key></Tag></TagSet></Tagging",
            "<Delete><Object><Key>key</Key><![CDATA[</Object></Delete>",
            "<Delete><Object><Key>key</Key></Object></Delete><Delete/>",
        ] {
            let reply = world.request(method.clone(), uri).body(bad).send().await;
            reply.refused(400, "MalformedXML");
        }
        let reply = world.request(method, uri).body("").send().await;
        reply.refused(400, empty);
    }
    assert_eq!(world.get("/bucket/key").send().await.text(), "x");
    let list = world.get(&complete).send().await;
    assert_eq!(list.status, 200, "the upload is still open");
    world.stop().await;
}

/// Text says the same in a CDATA section: what is named there is what is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_a_cdata_section_is_the_whole_key() {
    let world = World::with_bucket().await;
    for key in ["a", "ab%26"] {
        world.store(&format!("/bucket/{key}"), "x").await;
    }
    let xml = "<Delete><Object><Key>a<![CDATA[b&]]></Key></Object></Delete>";
    let reply = world.post("/bucket?delete").body(xml).send().await;
    assert_eq!(reply.all("Key"), ["ab&"], "{}", reply.text());
    assert_eq!(world.head("/bucket/a").send().await.status, 200);
    world.expect_absent("/bucket/ab%26").await;
    world.stop().await;
}

/// A method that S3 does not have there is named, with those that it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_does_not_fit_hears_those_that_do() {
    let world = World::with_bucket().await;
    world.store("/bucket/key", "x").await;
    for (method, uri, kind, allow) in [
        (Method::PUT, "/", "SERVICE", "GET"),
        (Method::DELETE, "/", "SERVICE", "GET"),
        (
            Method::PATCH,
            "/bucket",
            "BUCKET",
            "GET, HEAD, PUT, DELETE, POST",
        ),
        (
            Method::PATCH,
            "/bucket/key",
            "OBJECT",
            "GET, HEAD, PUT, DELETE",
        ),
        (
            Method::POST,
            "/bucket/key",
            "OBJECT",
            "GET, HEAD, PUT, DELETE",
        ),
        (Method::DELETE, "/bucket/key?acl", "acl", "GET, PUT"),
        (
            Method::DELETE,
            "/bucket?versioning",
            "versioning",
            "GET, PUT",
        ),
        (Method::PUT, "/bucket?location", "location", "GET"),
        (Method::POST, "/bucket?versions", "versions", "GET"),
        (Method::PUT, "/bucket/key?uploads", "uploads", "POST"),
        (Method::GET, "/bucket/key?versioning", "versioning", ""),
    ] {
        let reply = world.request(method.clone(), uri).send().await;
        reply.refused(405, "MethodNotAllowed");
        assert_eq!(
            (reply.header("allow"), reply.one("ResourceType").as_str()),
            (allow, kind),
            "{method} {uri}"
        );
        assert_eq!(reply.one("Method"), method.as_str());
    }
    let head = world.head("/").send().await;
    assert_eq!((head.status, head.header("allow")), (405, "GET"));
    let post = world.post("/bucket").body("x").send().await;
    post.refused(412, "PreconditionFailed");
    assert_eq!(world.get("/bucket/key").send().await.text(), "x");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_that_are_not_done_are_refused() {
    let world = World::with_bucket().await;
    world
        .request(Method::PATCH, "/bucket/key")
        .send()
        .await
        .refused(405, "MethodNotAllowed");
    world
        .request(Method::OPTIONS, "/bucket/key")
        .payload(Payload::Anonymous)
        .send()
        .await
        .refused(400, "BadRequest");
    world.stop().await;
}

/// A refused upload is heard, not reset: what the client still sends is read away.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upload_is_read_away_so_that_the_refusal_is_heard() {
    let world = World::with_bucket().await;
    let reply = world
        .put("/nowhere/key")
        .pieces(noise(3 << 20), 100_000)
        .send()
        .await;
    reply.refused(404, "NoSuchBucket");
    world.stop().await;
}

/// A client that waits for 100 Continue must not be made to send what is refused anyway.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_that_waits_is_not_asked_for_its_body() {
    let world = World::with_bucket().await;
    let (request, _) = world
        .put("/nowhere/key")
        .with("expect", "100-continue")
        .body(noise(100))
        .build();
    let body = futures::stream::poll_fn(
        |_| -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
            panic!("the body was asked for")
        },
    );
    let response = world
        .service
        .handle(request.map(|()| http_body_util::StreamBody::new(body)))
        .await;
    assert_eq!(response.status(), 404);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_value_makes_it_fail() {
    let world = World::with_bucket().await;
    for name in [
        "range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "expires",
        "content-type",
        "content-disposition",
        "x-amz-meta-a",
        "content-md5",
        "x-amz-checksum-crc32",
        "x-amz-copy-source",
        "x-amz-metadata-directive",
        "x-amz-if-match-size",
    ] {
        for value in [
            &b"\xff\xfe"[..],
            b"",
            b"\"",
            b"*",
            b"-1",
            b"99999999999999999999999",
            b"=?UTF-8?B?/?=",
            b"%zz",
        ] {
            for call in [
                world.get("/bucket/key"),
                world.put("/bucket/key").body("x"),
                world.delete("/bucket/key"),
            ] {
                let reply = call
                    .with(name, HeaderValue::from_bytes(value).unwrap())
                    .send()
                    .await;
                assert!(
                    reply.status < 500 || reply.status == 501,
                    "{name}: {value:?}: {} {}",
                    reply.status,
                    reply.text()
                );
            }
        }
    }
    world.stop().await;
}
