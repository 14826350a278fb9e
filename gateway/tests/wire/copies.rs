//! Copies.

use crate::world::{World, checksum, md5_hex, noise};
use minikv::object::checksum::Algorithm;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_the_same_object_under_another_name() {
    let world = World::with_bucket().await;
    world.put("/other").send().await;
    for size in [0, 5, 200_000, 9 << 20] {
        let body = noise(size);
        world
            .put("/bucket/a%20b")
            .with("content-type", "text/plain")
            .with("x-amz-meta-k", "v")
            .body(body.clone())
            .send()
            .await;
        for target in ["/bucket/copy", "/other/copy"] {
            let copy = world
                .put(target)
                .with("x-amz-copy-source", "/bucket/a%20b")
                .send()
                .await;
            assert_eq!(
                (copy.status, copy.api),
                (200, "CopyObject"),
                "{}",
                copy.text()
            );
            assert_eq!(copy.one("ETag"), format!("\"{}\"", md5_hex(&body)));
            let got = world.get(target).send().await;
            assert!(got.body == body);
            assert_eq!(
                (got.header("content-type"), got.header("x-amz-meta-k")),
                ("text/plain", "v")
            );
        }
    }
    world.delete("/bucket/a%20b").send().await;
    assert_eq!(
        world.get("/other/copy").send().await.body.len(),
        9 << 20,
        "the copy does not need its source"
    );
    world.stop().await;
}

/// rclone sets modification times so.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_onto_itself_replaces_the_metadata() {
    let world = World::with_bucket().await;
    for size in [5, 5 << 20] {
        let body = noise(size);
        world
            .put("/bucket/key")
            .with("x-amz-meta-mtime", "1")
            .body(body.clone())
            .send()
            .await;
        let onto = || {
            world
                .put("/bucket/key")
                .with("x-amz-copy-source", "bucket/key")
        };
        onto().send().await.refused(400, "InvalidRequest");
        let replaced = onto()
            .with("x-amz-metadata-directive", "REPLACE")
            .with("x-amz-meta-mtime", "2")
            .with("content-type", "text/plain")
            .send()
            .await;
        assert_eq!(replaced.status, 200, "{}", replaced.text());
        let got = world
            .get("/bucket/key")
            .with("x-amz-checksum-mode", "ENABLED")
            .send()
            .await;
        assert!(got.body == body);
        assert_eq!(
            (got.header("x-amz-meta-mtime"), got.header("content-type")),
            ("2", "text/plain")
        );
        assert_eq!(
            got.header("x-amz-checksum-crc64nvme"),
            checksum(Algorithm::Crc64Nvme, &body)
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_may_ask_for_another_checksum() {
    let world = World::with_bucket().await;
    world.store("/bucket/key", "hello").await;
    let copy = world
        .put("/bucket/copy")
        .with("x-amz-copy-source", "bucket/key")
        .with("x-amz-checksum-algorithm", "SHA256");
    let copy = copy.send().await;
    assert_eq!(
        (copy.status, copy.one("ChecksumSHA256")),
        (200, checksum(Algorithm::Sha256, b"hello"))
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_may_depend_on_its_source_and_on_its_target() {
    let world = World::with_bucket().await;
    let etag = world
        .store("/bucket/key", "hello")
        .await
        .header("etag")
        .to_owned();
    let copy = || {
        world
            .put("/bucket/copy")
            .with("x-amz-copy-source", "bucket/key")
    };
    copy()
        .with("x-amz-copy-source-if-match", "\"x\"")
        .send()
        .await
        .refused(412, "PreconditionFailed");
    copy()
        .with("x-amz-copy-source-if-none-match", &etag)
        .send()
        .await
        .refused(412, "PreconditionFailed");
    world.expect_absent("/bucket/copy").await;
    assert_eq!(
        copy()
            .with("x-amz-copy-source-if-match", &etag)
            .with("if-none-match", "*")
            .send()
            .await
            .status,
        200
    );
    copy()
        .with("if-none-match", "*")
        .send()
        .await
        .refused(412, "PreconditionFailed");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_there_is_named() {
    let world = World::with_bucket().await;
    let copy = |source: &str| {
        world
            .put("/bucket/copy")
            .with("x-amz-copy-source", source)
            .send()
    };
    copy("bucket/nothing").await.refused(404, "NoSuchKey");
    copy("nowhere/key").await.refused(404, "NoSuchBucket");
    copy("bucket/a?versionId=nonsense")
        .await
        .refused(400, "InvalidArgument");
    for bad in [
        "bucket",
        "",
        "arn:aws:s3:us-east-1:123456789012:accesspoint/x/object/y",
    ] {
        let status = copy(bad).await.status;
        assert!(
            status == 400 || status == 501 || bad.is_empty(),
            "{bad}: {status}"
        );
    }
    world.expect_absent("/bucket/copy").await;
    world.stop().await;
}

/// The bucket with the short name, of `minikv put KEY`, is a source like any other.
#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_of_bare_keys_can_be_copied_from() {
    let world = World::with_bucket().await;
    assert_eq!(world.put("/kv").send().await.status, 200);
    world.store("/kv/hello", "hi").await;
    let copy = world
        .put("/bucket/copy")
        .with("x-amz-copy-source", "kv/hello")
        .send()
        .await;
    assert_eq!(copy.status, 200, "{}", copy.text());
    assert_eq!(world.get("/bucket/copy").send().await.text(), "hi");
    world.stop().await;
}
