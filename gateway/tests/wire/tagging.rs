//! Tags of objects and buckets.

use crate::world::{Reply, World, noise};

fn xml(tags: &[(&str, &str)]) -> String {
    let tags: String = tags
        .iter()
        .map(|(key, value)| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>"))
        .collect();
    format!(
        "<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet>{tags}</TagSet></Tagging>"
    )
}

async fn put(world: &World, uri: &str, tags: &[(&str, &str)]) -> Reply {
    world.put(uri).body(xml(tags)).send().await
}

/// Keys and values, in order.
async fn tags(world: &World, uri: &str) -> Vec<(String, String)> {
    let reply = world.get(uri).send().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply
        .all("Key")
        .into_iter()
        .zip(reply.all("Value"))
        .collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_tagged_and_stays_the_object_it_is() {
    let world = World::with_bucket().await;
    world.store("/bucket/key", "x").await;
    let before = world.head("/bucket/key").send().await;
    assert_eq!(tags(&world, "/bucket/key?tagging").await, []);
    assert_eq!(before.header("x-amz-tagging-count"), "");
    let two = [("größe", "groß &amp; weit"), ("b", "")];
    put(&world, "/bucket/key?tagging", &two)
        .await
        .refused(400, "InvalidTag");
    let two = [("größe", "sehr groß"), ("b", "")];
    let done = put(&world, "/bucket/key?tagging", &two).await;
    assert_eq!((done.status, done.text().as_str()), (200, ""));
    assert_eq!(tags(&world, "/bucket/key?tagging").await, pairs(&two));
    let after = world.get("/bucket/key").send().await;
    assert_eq!(after.header("x-amz-tagging-count"), "2");
    for name in ["etag", "last-modified"] {
        assert_eq!(after.header(name), before.header(name));
    }
    assert_eq!(after.text(), "x");
    assert_eq!(world.delete("/bucket/key?tagging").send().await.status, 204);
    assert_eq!(tags(&world, "/bucket/key?tagging").await, []);
    // An overwrite is another version and has no tags of its predecessor.
    put(&world, "/bucket/key?tagging", &two).await;
    world.store("/bucket/key", "y").await;
    assert_eq!(tags(&world, "/bucket/key?tagging").await, []);
    for missing in ["/bucket/none?tagging", "/nowhere/none?tagging"] {
        let code = if missing.starts_with("/bucket") {
            "NoSuchKey"
        } else {
            "NoSuchBucket"
        };
        put(&world, missing, &two).await.refused(404, code);
        world.get(missing).send().await.refused(404, code);
        world.delete(missing).send().await.refused(404, code);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_come_with_an_object_too() {
    let world = World::with_bucket().await;
    let write = |uri: &'static str| world.put(uri).with("x-amz-tagging", "a=1&b=x%20y&c");
    assert_eq!(write("/bucket/key").body("x").send().await.status, 200);
    let three = pairs(&[("a", "1"), ("b", "x y"), ("c", "")]);
    assert_eq!(tags(&world, "/bucket/key?tagging").await, three);
    assert_eq!(
        write("/bucket/big")
            .body(noise(300_000))
            .send()
            .await
            .status,
        200
    );
    assert_eq!(tags(&world, "/bucket/big?tagging").await, three);

    let copy = |to: &'static str| world.put(to).with("x-amz-copy-source", "bucket/key");
    assert_eq!(copy("/bucket/copy").send().await.status, 200);
    assert_eq!(
        tags(&world, "/bucket/copy?tagging").await,
        three,
        "of the source"
    );
    // COPY is the default: what the header says does not count.
    assert_eq!(
        copy("/bucket/c2")
            .with("x-amz-tagging", "n=1")
            .send()
            .await
            .status,
        200
    );
    assert_eq!(tags(&world, "/bucket/c2?tagging").await, three);
    let replaced = copy("/bucket/c3")
        .with("x-amz-tagging", "n=1")
        .with("x-amz-tagging-directive", "REPLACE");
    assert_eq!(replaced.send().await.status, 200);
    assert_eq!(
        tags(&world, "/bucket/c3?tagging").await,
        pairs(&[("n", "1")])
    );
    let none = copy("/bucket/c4").with("x-amz-tagging-directive", "REPLACE");
    assert_eq!(none.send().await.status, 200);
    assert_eq!(tags(&world, "/bucket/c4?tagging").await, []);
    copy("/bucket/c5")
        .with("x-amz-tagging-directive", "MOVE")
        .send()
        .await
        .refused(400, "InvalidArgument");
    // rclone's way of setting a time keeps them.
    let onto_itself = copy("/bucket/key").with("x-amz-metadata-directive", "REPLACE");
    assert_eq!(onto_itself.send().await.status, 200);
    assert_eq!(tags(&world, "/bucket/key?tagging").await, three);

    let upload = world
        .post("/bucket/multi?uploads")
        .with("x-amz-tagging", "m=1")
        .send()
        .await
        .one("UploadId");
    let uri = format!("/bucket/multi?partNumber=1&uploadId={upload}");
    let part = world.put(&uri).body("x").send().await;
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag")
    );
    let done = world
        .post(&format!("/bucket/multi?uploadId={upload}"))
        .body(list);
    assert_eq!(done.send().await.status, 200);
    assert_eq!(
        tags(&world, "/bucket/multi?tagging").await,
        pairs(&[("m", "1")])
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tags_are_refused_and_change_nothing() {
    let world = World::with_bucket().await;
    world.store("/bucket/key", "x").await;
    let long = "k".repeat(129);
    let longer = "v".repeat(257);
    let names: Vec<String> = (0..51).map(|n| format!("k{n}")).collect();
    let many = |count: usize| -> Vec<(&str, &str)> {
        names[..count]
            .iter()
            .map(|name| (name.as_str(), ""))
            .collect()
    };
    for (list, code) in [
        (vec![(long.as_str(), "")], "InvalidTag"),
        (vec![("k", longer.as_str())], "InvalidTag"),
        (vec![("", "v")], "InvalidTag"),
        (vec![("a", "1"), ("a", "2")], "InvalidTag"),
        (vec![("aws:a", "1")], "InvalidTag"),
        (many(11), "BadRequest"),
    ] {
        put(&world, "/bucket/key?tagging", &list)
            .await
            .refused(400, code);
    }
    assert_eq!(
        put(&world, "/bucket/key?tagging", &many(10)).await.status,
        200
    );
    assert_eq!(tags(&world, "/bucket/key?tagging").await.len(), 10);
    for bad in [
        "<Tagging>",
        "<Tagging></Tagging>",
        "<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>",
        "<Other/>",
        "nonsense",
    ] {
        let reply = world.put("/bucket/key?tagging").body(bad).send().await;
        reply.refused(400, "MalformedXML");
    }
    let header = names[..11].join("=&");
    for (value, code) in [
        ("a=1&a=2", "InvalidArgument"),
        ("a=%ff", "InvalidArgument"),
        ("=1", "InvalidTag"),
        ("a=1,2", "InvalidTag"),
        (header.as_str(), "BadRequest"),
    ] {
        let reply = world
            .put("/bucket/new")
            .with("x-amz-tagging", value)
            .body("x");
        reply.send().await.refused(400, code);
        world.expect_absent("/bucket/new").await;
        let upload = world
            .post("/bucket/new?uploads")
            .with("x-amz-tagging", value);
        upload.send().await.refused(400, code);
    }
    assert_eq!(put(&world, "/bucket?tagging", &many(50)).await.status, 204);
    put(&world, "/bucket?tagging", &many(51))
        .await
        .refused(400, "BadRequest");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_is_tagged_for_itself() {
    let world = World::with_bucket().await;
    world.versioning("Enabled").await;
    let version = |reply: &Reply| reply.header("x-amz-version-id").to_owned();
    let first = version(&world.store("/bucket/key", "1").await);
    let second = version(&world.store("/bucket/key", "2").await);
    let old = format!("/bucket/key?tagging&versionId={first}");
    let done = put(&world, &old, &[("v", "1")]).await;
    assert_eq!((done.status, version(&done)), (200, first.clone()));
    let done = put(&world, "/bucket/key?tagging", &[("v", "2")]).await;
    assert_eq!(version(&done), second);
    assert_eq!(tags(&world, &old).await, pairs(&[("v", "1")]));
    let read = world.get("/bucket/key?tagging").send().await;
    assert_eq!(
        (version(&read), read.one("Value")),
        (second, "2".to_owned())
    );
    let deleted = world.delete(&old).send().await;
    assert_eq!((deleted.status, version(&deleted)), (204, first.clone()));
    assert_eq!(tags(&world, &old).await, []);
    assert_eq!(
        world.get("/bucket?versions").send().await.all("Key").len(),
        2,
        "no new version"
    );

    let marker = version(&world.delete("/bucket/key").send().await);
    let of_marker = format!("/bucket/key?tagging&versionId={marker}");
    for uri in ["/bucket/key?tagging", of_marker.as_str()] {
        put(&world, uri, &[("v", "3")])
            .await
            .refused(405, "MethodNotAllowed");
        let read = world.get(uri).send().await;
        read.refused(405, "MethodNotAllowed");
        assert_eq!(read.header("x-amz-delete-marker"), "true");
    }
    let never = format!("/bucket/key?tagging&versionId={}", "0".repeat(32));
    put(&world, &never, &[("v", "3")])
        .await
        .refused(404, "NoSuchVersion");
    put(&world, "/bucket/key?tagging&versionId=x", &[])
        .await
        .refused(400, "InvalidArgument");
    world.stop().await;
}

/// A tagger and an overwriter race: whatever comes first, a version has its own tags or those that were set when it
/// was the newest.
#[tokio::test(flavor = "multi_thread")]
async fn a_race_with_an_overwrite_tags_no_other_version() {
    let world = World::with_bucket().await;
    world.versioning("Enabled").await;
    world.store("/bucket/key", "0").await;
    let tagger = async {
        let mut tagged = Vec::new();
        for round in 0..40 {
            let value = round.to_string();
            let reply = put(&world, "/bucket/key?tagging", &[("round", &value)]).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            tagged.push((reply.header("x-amz-version-id").to_owned(), value));
        }
        tagged
    };
    let overwriter = async {
        for round in 0..40 {
            world.store("/bucket/key", round.to_string()).await;
        }
    };
    let (tagged, ()) = futures::join!(tagger, overwriter);
    let versions = world.get("/bucket?versions").send().await.all("VersionId");
    assert_eq!(versions.len(), 41);
    for version in versions {
        let last = tagged.iter().rev().find(|(named, _)| *named == version);
        let expected: Vec<_> = last
            .map(|(_, value)| ("round".to_owned(), value.clone()))
            .into_iter()
            .collect();
        let uri = format!("/bucket/key?tagging&versionId={version}");
        assert_eq!(tags(&world, &uri).await, expected);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_tagged() {
    let world = World::with_bucket().await;
    world
        .get("/bucket?tagging")
        .send()
        .await
        .refused(404, "NoSuchTagSet");
    let two = [("team", "storage"), ("cost", "42")];
    assert_eq!(put(&world, "/bucket?tagging", &two).await.status, 204);
    assert_eq!(tags(&world, "/bucket?tagging").await, pairs(&two));
    assert_eq!(put(&world, "/bucket?tagging", &two[..1]).await.status, 204);
    assert_eq!(
        tags(&world, "/bucket?tagging").await,
        pairs(&two[..1]),
        "replaced whole"
    );
    world.store("/bucket/key", "x").await;
    assert_eq!(
        tags(&world, "/bucket/key?tagging").await,
        [],
        "an object has its own"
    );
    assert_eq!(world.delete("/bucket?tagging").send().await.status, 204);
    assert_eq!(world.delete("/bucket?tagging").send().await.status, 204);
    world
        .get("/bucket?tagging")
        .send()
        .await
        .refused(404, "NoSuchTagSet");
    put(&world, "/nowhere?tagging", &two)
        .await
        .refused(404, "NoSuchBucket");
    world.stop().await;
}
