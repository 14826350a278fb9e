//! Checksums: what is claimed is verified, stored, and given back.

use crate::world::{Payload, World, checksum, md5_base64, noise};
use minikv::object::checksum::Algorithm;

#[tokio::test(flavor = "multi_thread")]
async fn a_true_checksum_is_stored_and_given_back() {
    let world = World::with_bucket().await;
    for size in [0, 11, 300_000] {
        let body = noise(size);
        for algorithm in Algorithm::ALL {
            let sum = checksum(algorithm, &body);
            for payload in [
                Payload::Signed,
                Payload::SignedChunksTrailer(algorithm),
                Payload::UnsignedChunksTrailer(algorithm),
            ] {
                let call = world
                    .put("/bucket/key")
                    .pieces(body.clone(), 70_000)
                    .payload(payload);
                let call = if payload == Payload::Signed {
                    call.with(algorithm.header(), &sum)
                } else {
                    call
                };
                let put = call.send().await;
                assert_eq!(
                    (put.status, put.header(algorithm.header())),
                    (200, sum.as_str()),
                    "{}",
                    put.text()
                );
                let got = world
                    .get("/bucket/key")
                    .with("x-amz-checksum-mode", "ENABLED")
                    .send()
                    .await;
                assert_eq!(
                    (
                        got.header(algorithm.header()),
                        got.header("x-amz-checksum-type")
                    ),
                    (sum.as_str(), "FULL_OBJECT")
                );
            }
        }
    }
    let silent = world.get("/bucket/key").send().await;
    assert!(
        !silent
            .headers
            .keys()
            .any(|name| name.as_str().starts_with("x-amz-checksum")),
        "only when asked for"
    );
    let part = world
        .get("/bucket/key")
        .with("x-amz-checksum-mode", "ENABLED")
        .with("range", "bytes=0-5")
        .send()
        .await;
    assert!(
        !part
            .headers
            .keys()
            .any(|name| name.as_str().starts_with("x-amz-checksum")),
        "not for a part of it"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_checksum_crc64nvme_is_kept() {
    let world = World::with_bucket().await;
    world.store("/bucket/key", "hello").await;
    let head = world
        .head("/bucket/key")
        .with("x-amz-checksum-mode", "ENABLED")
        .send()
        .await;
    assert_eq!(
        head.header("x-amz-checksum-crc64nvme"),
        checksum(Algorithm::Crc64Nvme, b"hello")
    );
    world.stop().await;
}

/// A false claim leaves nothing behind, small or large, in header or trailer.
#[tokio::test(flavor = "multi_thread")]
async fn a_false_checksum_stores_nothing() {
    let world = World::with_bucket().await;
    for size in [11, 300_000] {
        let (body, other) = (noise(size), noise(size + 1));
        for algorithm in Algorithm::ALL {
            let wrong = checksum(algorithm, &other);
            let put = world
                .put("/bucket/key")
                .with(algorithm.header(), wrong)
                .pieces(body.clone(), 70_000)
                .send()
                .await;
            put.refused(400, "BadDigest");
            world.expect_absent("/bucket/key").await;
            for payload in [
                Payload::UnsignedChunksTrailer(algorithm),
                Payload::SignedChunksTrailer(algorithm),
            ] {
                let (request, mut frames) = world
                    .put("/bucket/key")
                    .body(body.clone())
                    .payload(payload)
                    .build();
                // A byte of the first chunk is changed behind the trailer's back.
                let data = frames
                    .iter()
                    .position(|frame| *frame == body[..frame.len().min(size)] && frame.len() > 2)
                    .unwrap();
                let mut changed = frames[data].to_vec();
                *changed.last_mut().unwrap() ^= 1;
                frames[data] = changed.into();
                let reply = crate::world::send(&world, request, frames).await;
                let code = if matches!(payload, Payload::UnsignedChunksTrailer(_)) {
                    (400, "BadDigest")
                } else {
                    (403, "SignatureDoesNotMatch")
                };
                reply.refused(code.0, code.1);
                world.expect_absent("/bucket/key").await;
            }
        }
        let put = world
            .put("/bucket/key")
            .with("content-md5", md5_base64(&other))
            .pieces(body.clone(), 70_000)
            .send()
            .await;
        put.refused(400, "BadDigest");
        world.expect_absent("/bucket/key").await;
    }
    assert_eq!(
        world
            .put("/bucket/key")
            .with("content-md5", md5_base64(b"x"))
            .body("x")
            .send()
            .await
            .status,
        200
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_signed_is_the_body_that_is_stored() {
    let world = World::with_bucket().await;
    for size in [11, 300_000] {
        let (request, _) = world.put("/bucket/key").body(noise(size)).build();
        let mut other = noise(size).to_vec();
        other[size / 2] ^= 1;
        let reply = crate::world::send(&world, request, vec![other.into()]).await;
        reply.refused(400, "XAmzContentSHA256Mismatch");
        world.expect_absent("/bucket/key").await;
    }
    let (request, _) = world.put("/new-bucket").body("").build();
    let reply = crate::world::send(&world, request, vec!["<x/>".into()]).await;
    assert_eq!(reply.status, 400);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_cannot_be_read_are_refused() {
    let world = World::with_bucket().await;
    for (name, value, code) in [
        ("content-md5", "nonsense", "InvalidDigest"),
        ("x-amz-checksum-crc32", "nonsense", "InvalidRequest"),
        ("x-amz-checksum-sha256", "AAAAAA==", "InvalidRequest"),
        ("x-amz-checksum-sha512", "AAAAAA==", "NotImplemented"),
        ("x-amz-trailer", "x-amz-checksum-crc32", "InvalidRequest"),
        ("content-encoding", "aws-chunked", "InvalidRequest"),
    ] {
        let reply = world
            .put("/bucket/key")
            .with(name, value)
            .body("x")
            .send()
            .await;
        assert_eq!(reply.code(), code, "{name}: {}", reply.text());
        world.expect_absent("/bucket/key").await;
    }
    let two = world
        .put("/bucket/key")
        .with("x-amz-checksum-crc32", "AAAAAA==")
        .with("x-amz-checksum-crc32c", "AAAAAA==");
    two.body("").send().await.refused(400, "InvalidRequest");
    world.stop().await;
}

/// SDKs that presign an upload put the checksum of the empty body into the URL; S3 ignores it, and so must we.
#[tokio::test(flavor = "multi_thread")]
async fn the_checksum_in_a_presigned_url_is_not_that_of_the_body() {
    let world = World::with_bucket().await;
    let uri = "/bucket/key?x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32&x-id=PutObject";
    let put = world
        .put(uri)
        .payload(Payload::Presigned(60))
        .body("real bytes")
        .send()
        .await;
    assert_eq!(put.status, 200, "{}", put.text());
    world.stop().await;
}
