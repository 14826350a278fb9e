//! Lists.

use crate::world::World;

async fn filled(keys: &[&str]) -> World {
    let world = World::with_bucket().await;
    for key in keys {
        world.store(&format!("/bucket/{key}"), "x").await;
    }
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_in_order_with_prefixes_rolled_up() {
    let world = filled(&["b", "a/b", "a/b/c", "a", "a/", "ab", "z/1", "z/2"]).await;
    let all = world.get("/bucket?list-type=2").send().await;
    assert_eq!(
        all.all("Key"),
        ["a", "a/", "a/b", "a/b/c", "ab", "b", "z/1", "z/2"]
    );
    assert_eq!(
        (
            all.one("IsTruncated"),
            all.one("KeyCount"),
            all.one("MaxKeys"),
            all.one("Name")
        ),
        ("false".into(), "8".into(), "1000".into(), "bucket".into())
    );
    assert_eq!(all.all("StorageClass")[0], "STANDARD");
    let rolled = world.get("/bucket?list-type=2&delimiter=/").send().await;
    assert_eq!(rolled.all("Key"), ["a", "ab", "b"]);
    assert_eq!(
        rolled.text().matches("<CommonPrefixes>").count(),
        2,
        "{}",
        rolled.text()
    );
    let below = world
        .get("/bucket?list-type=2&delimiter=/&prefix=a/")
        .send()
        .await;
    assert_eq!(below.all("Key"), ["a/", "a/b"]);
    assert!(below.text().contains("<Prefix>a/b/</Prefix>"));
    let after = world.get("/bucket?list-type=2&start-after=ab").send().await;
    assert_eq!(after.all("Key"), ["b", "z/1", "z/2"]);
    let owner = world
        .get("/bucket?list-type=2&fetch-owner=true&max-keys=1")
        .send()
        .await;
    assert_eq!(owner.one("ID").len(), 64);
    world.stop().await;
}

/// Whatever the page size, every key comes exactly once.
#[tokio::test(flavor = "multi_thread")]
async fn paging_misses_nothing_and_repeats_nothing() {
    let keys: Vec<String> = (0..40)
        .map(|n| {
            if n % 3 == 0 {
                format!("dir{}/file{n}", n % 4)
            } else {
                format!("key{n:02}")
            }
        })
        .collect();
    let world = filled(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for query in [
        "list-type=2",
        "list-type=2&delimiter=/",
        "list-type=2&prefix=key",
        "",
    ] {
        let whole = world.get(&format!("/bucket?{query}")).send().await;
        for page in [1, 2, 7, 39, 40, 41] {
            let (mut seen, mut prefixes, mut next) = (Vec::new(), 0, String::new());
            for round in 0.. {
                assert!(round < 100, "paging must end");
                let reply = world
                    .get(&format!("/bucket?{query}&max-keys={page}{next}"))
                    .send()
                    .await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                seen.extend(reply.all("Key"));
                prefixes += reply.text().matches("<CommonPrefixes>").count();
                if reply.one("IsTruncated") == "false" {
                    break;
                }
                next = if query.contains("list-type") {
                    format!("&continuation-token={}", reply.one("NextContinuationToken"))
                } else {
                    format!("&marker={}", reply.all("Key").last().unwrap())
                };
            }
            assert_eq!(seen, whole.all("Key"), "{query} by {page}");
            assert_eq!(prefixes, whole.text().matches("<CommonPrefixes>").count());
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_only_for_its_own_listing() {
    let world = filled(&["a", "b", "c"]).await;
    let token = world
        .get("/bucket?list-type=2&max-keys=1")
        .send()
        .await
        .one("NextContinuationToken");
    assert_eq!(
        world
            .get(&format!("/bucket?list-type=2&continuation-token={token}"))
            .send()
            .await
            .all("Key"),
        ["b", "c"]
    );
    world
        .get(&format!(
            "/bucket?list-type=2&prefix=a&continuation-token={token}"
        ))
        .send()
        .await
        .refused(400, "InvalidArgument");
    world.put("/other").send().await;
    world
        .get(&format!("/other?list-type=2&continuation-token={token}"))
        .send()
        .await
        .refused(400, "InvalidArgument");
    world
        .get("/bucket?list-type=2&continuation-token=")
        .send()
        .await
        .refused(400, "InvalidArgument");
    world.stop().await;
}

/// rclone and the AWS command line ask for encoded names.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_encoded_when_asked_for() {
    let world = filled(&["a%20b%2Bc%26d", "d%C3%A4/e"]).await;
    let plain = world.get("/bucket?list-type=2").send().await;
    assert_eq!(plain.all("Key"), ["a b+c&d", "dä/e"]);
    let encoded = world
        .get("/bucket?list-type=2&encoding-type=url&delimiter=/")
        .send()
        .await;
    assert_eq!(
        (encoded.all("Key"), encoded.one("EncodingType")),
        (vec!["a+b%2Bc%26d".to_owned()], "url".to_owned())
    );
    assert!(
        encoded.text().contains("<Prefix>d%C3%A4/</Prefix>"),
        "{}",
        encoded.text()
    );
    world
        .get("/bucket?list-type=2&encoding-type=base64")
        .send()
        .await
        .refused(400, "InvalidArgument");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page_sizes_are_bounded_and_checked() {
    let world = filled(&["a"]).await;
    let none = world.get("/bucket?list-type=2&max-keys=0").send().await;
    assert_eq!(
        (none.all("Key").len(), none.one("IsTruncated").as_str()),
        (0, "false")
    );
    let huge = world
        .get("/bucket?list-type=2&max-keys=2147483647")
        .send()
        .await;
    assert_eq!((huge.status, huge.one("MaxKeys")), (200, "1000".to_owned()));
    for bad in ["-1", "2147483648", "x", "1.5"] {
        world
            .get(&format!("/bucket?list-type=2&max-keys={bad}"))
            .send()
            .await
            .refused(400, "InvalidArgument");
    }
    world.stop().await;
}

/// Every list refuses an argument that makes no sense, and names it.
#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_make_no_sense_are_refused_by_name() {
    let world = filled(&["a"]).await;
    let upload = world.post("/bucket/up?uploads").send().await;
    let parts = format!("/bucket/up?uploadId={}", upload.one("UploadId"));
    for (uri, name) in [
        ("/bucket?list-type=1".to_owned(), "list-type"),
        ("/bucket?list-type=x".to_owned(), "list-type"),
        ("/bucket?encoding-type=base64".to_owned(), "encoding-type"),
        (
            "/bucket?list-type=2&continuation-token=".to_owned(),
            "continuation-token",
        ),
        (
            "/bucket?list-type=2&continuation-token=x".to_owned(),
            "continuation-token",
        ),
        ("/bucket?versions&max-keys=-1".to_owned(), "max-keys"),
        (
            "/bucket?versions&version-id-marker=null".to_owned(),
            "version-id-marker",
        ),
        (
            "/bucket?versions&key-marker=a&version-id-marker=x".to_owned(),
            "versionId",
        ),
        ("/bucket?uploads&max-uploads=-1".to_owned(), "max-uploads"),
        (
            "/bucket?uploads&key-marker=a&upload-id-marker=x".to_owned(),
            "upload-id-marker",
        ),
        ("/?max-buckets=0".to_owned(), "max-buckets"),
        (format!("{parts}&max-parts=-1"), "max-parts"),
        (
            format!("{parts}&part-number-marker=-1"),
            "part-number-marker",
        ),
    ] {
        let reply = world.get(&uri).send().await;
        reply.refused(400, "InvalidArgument");
        assert_eq!(reply.one("ArgumentName"), name, "{uri}: {}", reply.text());
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn version_one_names_the_next_marker_where_prefixes_are_rolled_up() {
    let world = filled(&["a/1", "b/1", "c"]).await;
    let first = world.get("/bucket?delimiter=/&max-keys=1").send().await;
    assert_eq!(
        (
            first.one("NextMarker").as_str(),
            first.one("IsTruncated").as_str()
        ),
        ("a/", "true")
    );
    let second = world
        .get("/bucket?delimiter=/&max-keys=1&marker=a/")
        .send()
        .await;
    assert!(
        second
            .text()
            .contains("<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"),
        "{}",
        second.text()
    );
    assert_eq!(
        world
            .get("/bucket?max-keys=1")
            .send()
            .await
            .one("NextMarker"),
        ""
    );
    world
        .get("/nowhere")
        .send()
        .await
        .refused(404, "NoSuchBucket");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_versioning_every_object_is_its_own_version_null() {
    let world = filled(&["a", "b", "d/1"]).await;
    world.store("/bucket/a", "again").await;
    let versions = world.get("/bucket?versions&delimiter=/").send().await;
    assert_eq!(versions.all("Key"), ["a", "b"]);
    assert_eq!(versions.all("VersionId"), ["null", "null"]);
    assert_eq!(versions.all("IsLatest"), ["true", "true"]);
    assert_eq!(versions.one("IsTruncated"), "false");
    assert_eq!(versions.text().matches("<CommonPrefixes>").count(), 1);
    let first = world.get("/bucket?versions&max-keys=1").send().await;
    assert_eq!(
        (
            first.one("NextKeyMarker").as_str(),
            first.one("NextVersionIdMarker").as_str()
        ),
        ("a", "null")
    );
    let rest = world
        .get("/bucket?versions&key-marker=a&version-id-marker=null")
        .send()
        .await;
    assert_eq!(rest.all("Key"), ["b", "d/1"]);
    let got = world.get("/bucket/a?versionId=null").send().await;
    assert_eq!((got.status, got.text().as_str()), (200, "again"));
    world
        .get("/bucket/a?versionId=nonsense")
        .send()
        .await
        .refused(400, "InvalidArgument");
    world
        .get("/bucket/a?versionId=00000000000000000000000000000001")
        .send()
        .await
        .refused(404, "NoSuchVersion");
    assert_eq!(
        world.delete("/bucket/a?versionId=null").send().await.status,
        204
    );
    world.expect_absent("/bucket/a").await;
    world.stop().await;
}
