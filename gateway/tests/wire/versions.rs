//! Versions and delete markers, on a bucket that has them.

use crate::world::{World, noise};
use minikv::store::Versioning;

#[tokio::test(flavor = "multi_thread")]
async fn every_write_makes_a_version_and_a_delete_a_marker() {
    let world = World::with_bucket().await;
    let null = world.store("/bucket/key", "before").await;
    assert_eq!(null.header("x-amz-version-id"), "");
    world.versioning(Versioning::Enabled).await;
    let first = world
        .store("/bucket/key", "one")
        .await
        .header("x-amz-version-id")
        .to_owned();
    let second = world
        .store("/bucket/key", noise(200_000))
        .await
        .header("x-amz-version-id")
        .to_owned();
    assert!(first.len() == 32 && first != second);
    assert_eq!(
        world
            .get(&format!("/bucket/key?versionId={first}"))
            .send()
            .await
            .text(),
        "one"
    );
    assert_eq!(
        world.get("/bucket/key?versionId=null").send().await.text(),
        "before"
    );
    assert_eq!(
        world
            .head("/bucket/key")
            .send()
            .await
            .header("x-amz-version-id"),
        second
    );

    let deleted = world.delete("/bucket/key").send().await;
    let marker = deleted.header("x-amz-version-id").to_owned();
    assert_eq!(
        (deleted.status, deleted.header("x-amz-delete-marker")),
        (204, "true")
    );
    let gone = world.get("/bucket/key").send().await;
    gone.refused(404, "NoSuchKey");
    assert_eq!(
        (
            gone.header("x-amz-delete-marker"),
            gone.header("x-amz-version-id")
        ),
        ("true", marker.as_str())
    );
    let asked = world
        .get(&format!("/bucket/key?versionId={marker}"))
        .send()
        .await;
    asked.refused(405, "MethodNotAllowed");
    assert_eq!(
        (asked.header("allow"), asked.header("x-amz-delete-marker")),
        ("DELETE", "true")
    );

    let versions = world.get("/bucket?versions").send().await;
    let expected = [second.as_str(), first.as_str(), "null"];
    assert_eq!(
        versions.text().matches("<DeleteMarker>").count(),
        1,
        "{}",
        versions.text()
    );
    for version in expected.iter().chain([&marker.as_str()]) {
        assert!(
            versions
                .all("VersionId")
                .iter()
                .any(|listed| listed == version),
            "{version}"
        );
    }
    assert_eq!(
        world
            .get("/bucket?list-type=2")
            .send()
            .await
            .all("Key")
            .len(),
        0
    );

    let undone = world
        .delete(&format!("/bucket/key?versionId={marker}"))
        .send()
        .await;
    assert_eq!(
        (undone.status, undone.header("x-amz-delete-marker")),
        (204, "true")
    );
    assert_eq!(
        world.get("/bucket/key").send().await.body.len(),
        200_000,
        "the marker is gone, the object is back"
    );
    let copy = world
        .put("/bucket/key")
        .with("x-amz-copy-source", format!("bucket/key?versionId={first}"))
        .send()
        .await;
    assert_eq!(copy.header("x-amz-copy-source-version-id"), first);
    assert_eq!(
        world.get("/bucket/key").send().await.text(),
        "one",
        "an older version was brought back"
    );
    world.stop().await;
}

/// Whatever the page size, every version comes exactly once.
#[tokio::test(flavor = "multi_thread")]
async fn paging_through_versions_misses_nothing() {
    let world = World::with_bucket().await;
    for key in ["a", "b", "c"] {
        world.store(&format!("/bucket/{key}"), "0").await;
    }
    world.versioning(Versioning::Enabled).await;
    for round in 1..4 {
        for key in ["a", "b", "c"] {
            world
                .store(&format!("/bucket/{key}"), round.to_string())
                .await;
        }
    }
    world.delete("/bucket/b").send().await;
    let mut whole = world.get("/bucket?versions").send().await.all("VersionId");
    assert_eq!(whole.len(), 13);
    whole.sort();
    for page in 1..15 {
        let (mut seen, mut next) = (Vec::new(), String::new());
        for _ in 0..20 {
            let reply = world
                .get(&format!("/bucket?versions&max-keys={page}{next}"))
                .send()
                .await;
            seen.extend(reply.all("VersionId"));
            if reply.one("IsTruncated") == "false" {
                break;
            }
            let (key, version) = (reply.one("NextKeyMarker"), reply.one("NextVersionIdMarker"));
            next = format!("&key-marker={key}&version-id-marker={version}");
        }
        seen.sort();
        assert_eq!(seen, whole, "by {page}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_versioning_replaces_only_the_null_version() {
    let world = World::with_bucket().await;
    world.versioning(Versioning::Enabled).await;
    let kept = world
        .store("/bucket/key", "kept")
        .await
        .header("x-amz-version-id")
        .to_owned();
    world.versioning(Versioning::Suspended).await;
    for body in ["one", "two"] {
        assert_eq!(
            world
                .store("/bucket/key", body)
                .await
                .header("x-amz-version-id"),
            "null"
        );
    }
    assert_eq!(world.get("/bucket/key").send().await.text(), "two");
    assert_eq!(
        world
            .get(&format!("/bucket/key?versionId={kept}"))
            .send()
            .await
            .text(),
        "kept"
    );
    assert_eq!(
        world
            .get("/bucket?versions")
            .send()
            .await
            .all("VersionId")
            .len(),
        2
    );
    let deleted = world.delete("/bucket/key").send().await;
    assert_eq!(
        (
            deleted.header("x-amz-version-id"),
            deleted.header("x-amz-delete-marker")
        ),
        ("null", "true")
    );
    assert_eq!(
        world
            .get(&format!("/bucket/key?versionId={kept}"))
            .send()
            .await
            .text(),
        "kept"
    );
    assert_eq!(
        world.get("/bucket?versioning").send().await.one("Status"),
        "Suspended"
    );
    world
        .delete("/bucket")
        .send()
        .await
        .refused(409, "BucketNotEmpty");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_deleted_in_one_call_too() {
    let world = World::with_bucket().await;
    world.versioning(Versioning::Enabled).await;
    let first = world
        .store("/bucket/a", "1")
        .await
        .header("x-amz-version-id")
        .to_owned();
    world.store("/bucket/b", "1").await;
    let body = format!(
        "<Delete><Object><Key>a</Key><VersionId>{first}</VersionId></Object><Object><Key>b</Key></Object></Delete>"
    );
    let reply = world.post("/bucket?delete").body(body).send().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.all("VersionId"), [first]);
    assert_eq!(reply.all("DeleteMarker"), ["true"]);
    assert_eq!(reply.all("DeleteMarkerVersionId").len(), 1);
    let left = world.get("/bucket?versions").send().await;
    assert_eq!(left.all("Key"), ["b", "b"]);
    world.stop().await;
}
