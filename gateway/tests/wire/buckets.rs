//! Buckets: made, found, listed, deleted.

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_made_found_and_deleted() {
    let world = World::start().await;
    assert_eq!(
        world.head("/probe-bsign-abc").send().await.status,
        404,
        "what mc alias set asks first"
    );
    let made = world.put("/my-bucket").send().await;
    assert_eq!((made.status, made.header("location")), (200, "/my-bucket"));
    let found = world.head("/my-bucket").send().await;
    assert_eq!(
        (found.status, found.header("x-amz-bucket-region")),
        (200, "us-east-1")
    );
    assert_eq!(world.delete("/my-bucket").send().await.status, 204);
    assert_eq!(world.head("/my-bucket").send().await.status, 404);
    world
        .delete("/my-bucket")
        .send()
        .await
        .refused(404, "NoSuchBucket");
    assert_eq!(
        world.put("/my-bucket").send().await.status,
        200,
        "the name is free again"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn making_a_bucket_twice_says_that_it_is_mine() {
    let world = World::with_bucket().await;
    world
        .put("/bucket")
        .send()
        .await
        .refused(409, "BucketAlreadyOwnedByYou");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_and_reserved_names_are_refused() {
    let world = World::start().await;
    for name in [
        "ab",
        "Upper",
        "under_score",
        "192.168.1.1",
        "xn--x",
        "minio",
        "minikv",
        "a..b",
    ] {
        world
            .put(&format!("/{name}"))
            .send()
            .await
            .refused(400, "InvalidBucketName");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_our_region_is_taken_as_a_location() {
    let world = World::start().await;
    let body = |region: &str| {
        format!(
            "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        )
    };
    assert_eq!(
        world
            .put("/here")
            .body(body("us-east-1"))
            .send()
            .await
            .status,
        200
    );
    world
        .put("/there")
        .body(body("eu-west-1"))
        .send()
        .await
        .refused(400, "InvalidLocationConstraint");
    world
        .put("/broken")
        .body("<CreateBucketConfiguration>")
        .send()
        .await
        .refused(400, "MalformedXML");
    let location = world.get("/here?location").send().await;
    assert_eq!(location.status, 200);
    assert!(
        location.text().contains("<LocationConstraint xmlns="),
        "{}",
        location.text()
    );
    world
        .get("/there?location")
        .send()
        .await
        .refused(404, "NoSuchBucket");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_with_anything_in_it_is_not_deleted() {
    let world = World::with_bucket().await;
    world.store("/bucket/a", "x").await;
    world
        .delete("/bucket")
        .send()
        .await
        .refused(409, "BucketNotEmpty");
    assert_eq!(world.delete("/bucket/a").send().await.status, 204);
    let upload = world.post("/bucket/b?uploads").send().await.one("UploadId");
    world
        .delete("/bucket")
        .send()
        .await
        .refused(409, "BucketNotEmpty");
    assert_eq!(
        world
            .delete(&format!("/bucket/b?uploadId={upload}"))
            .send()
            .await
            .status,
        204
    );
    assert_eq!(world.delete("/bucket").send().await.status, 204);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_listed_by_name_and_in_pages() {
    let world = World::start().await;
    for name in ["ccc", "aaa", "bbb", "abc"] {
        world.put(&format!("/{name}")).send().await;
    }
    let all = world.get("/").send().await;
    assert_eq!(
        (all.api, all.all("Name")),
        (
            "ListBuckets",
            vec!["aaa".into(), "abc".into(), "bbb".into(), "ccc".into()]
        )
    );
    assert_eq!(all.one("ID").len(), 64);
    assert_eq!(
        world.get("/?prefix=a").send().await.all("Name"),
        ["aaa", "abc"]
    );
    let first = world.get("/?max-buckets=3").send().await;
    assert_eq!(first.all("Name"), ["aaa", "abc", "bbb"]);
    let token = first.one("ContinuationToken");
    let second = world
        .get(&format!("/?max-buckets=3&continuation-token={token}"))
        .send()
        .await;
    assert_eq!(
        (second.all("Name"), second.one("ContinuationToken")),
        (vec!["ccc".to_owned()], String::new())
    );
    world
        .get("/?continuation-token=bm9uc2Vuc2U")
        .send()
        .await
        .refused(400, "InvalidArgument");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_can_be_named_in_the_host() {
    let world = World::with_bucket().await;
    for host in ["bucket.localhost:9000", "bucket.s3.test"] {
        assert_eq!(
            world
                .put("/key/of")
                .with("host", host)
                .body("hello")
                .send()
                .await
                .status,
            200
        );
        assert_eq!(world.get("/bucket/key/of").send().await.text(), "hello");
        assert_eq!(
            world
                .get("/?list-type=2")
                .with("host", host)
                .send()
                .await
                .all("Key"),
            ["key/of"]
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_expected_owner_must_be_the_owner() {
    let world = World::with_bucket().await;
    world.store("/bucket/a", "x").await;
    let mine = world
        .get("/bucket/a")
        .with("x-amz-expected-bucket-owner", "000000000001")
        .send()
        .await;
    assert_eq!(mine.status, 200);
    let other = world
        .get("/bucket/a")
        .with("x-amz-expected-bucket-owner", "111122223333")
        .send()
        .await;
    other.refused(403, "AccessDenied");
    world.stop().await;
}
