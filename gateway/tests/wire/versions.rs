//! Versions and delete markers, on a bucket that has them.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::world::{World, noise};

#[tokio::test(flavor = "multi_thread")]
async fn every_write_makes_a_version_and_a_delete_a_marker() {
    let world = World::with_bucket().await;
    let null = world.store("/bucket/key", "before").await;
    assert_eq!(null.header("x-amz-version-id"), "");
    world.versioning("Enabled").await;
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
    world.versioning("Enabled").await;
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
    world.versioning("Enabled").await;
    let kept = world
        .store("/bucket/key", "kept")
        .await
        .header("x-amz-version-id")
        .to_owned();
    world.versioning("Suspended").await;
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
    world.versioning("Enabled").await;
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

/// boto3's `bucket.object_versions.delete()`: a page is listed and deleted, then the next one is asked for by markers
/// that name what is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_emptied_page_by_page() {
    let world = World::with_bucket().await;
    for key in ["a", "b"] {
        world.store(&format!("/bucket/{key}"), "0").await;
    }
    world.versioning("Enabled").await;
    for _ in 0..3 {
        for key in ["a", "b"] {
            world.store(&format!("/bucket/{key}"), "1").await;
        }
    }
    world.versioning("Suspended").await;
    // The null version is the newest now, so that a page ends with it.
    world.store("/bucket/a", "2").await;
    let mut next = String::new();
    loop {
        let page = world
            .get(&format!("/bucket?versions&max-keys=1{next}"))
            .send()
            .await;
        for (key, version) in page.all("Key").iter().zip(page.all("VersionId")) {
            let gone = world
                .delete(&format!("/bucket/{key}?versionId={version}"))
                .send()
                .await;
            assert_eq!(gone.status, 204);
        }
        if page.one("IsTruncated") == "false" {
            break;
        }
        let (key, version) = (page.one("NextKeyMarker"), page.one("NextVersionIdMarker"));
        next = format!("&key-marker={key}&version-id-marker={version}");
    }
    assert_eq!(world.delete("/bucket").send().await.status, 204);
    world.stop().await;
}

/// In the order of keys and, within a key, from the newest: versions and markers as they followed each other.
#[tokio::test(flavor = "multi_thread")]
async fn versions_are_listed_in_order_with_prefixes_rolled_up() {
    let world = World::with_bucket().await;
    world.versioning("Enabled").await;
    for key in ["a", "d/1", "d/2", "z"] {
        world.store(&format!("/bucket/{key}"), "1").await;
    }
    world.delete("/bucket/a").send().await;
    world.store("/bucket/a", "2").await;
    let page = world
        .get("/bucket?versions&delimiter=/&prefix=")
        .send()
        .await;
    assert_eq!(page.all("Key"), ["a", "a", "a", "z"]);
    assert_eq!(page.all("IsLatest"), ["true", "false", "false", "true"]);
    assert_eq!(page.one("CommonPrefixes"), "<Prefix>d/</Prefix>");
    let text = page.text();
    let place = |what: &str| text.find(what).unwrap();
    assert!(place("<Version>") < place("<DeleteMarker>"));
    assert!(text.rfind("<Version>").unwrap() > place("<DeleteMarker>"));
    let order = [
        "<Key>",
        "<VersionId>",
        "<IsLatest>",
        "<LastModified>",
        "<ETag>",
        "<Size>",
        "<Owner>",
        "<StorageClass>",
    ];
    assert!(
        order.windows(2).all(|pair| place(pair[0]) < place(pair[1])),
        "{text}"
    );
    assert!(
        text.contains("<ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">")
    );
    let below = world.get("/bucket?versions&prefix=d/").send().await;
    assert_eq!(below.all("Key"), ["d/1", "d/2"]);
    world
        .get("/bucket?versions&version-id-marker=null")
        .send()
        .await
        .refused(400, "InvalidArgument");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versioning_is_on_or_suspended_and_nothing_else() {
    let world = World::with_bucket().await;
    let status = || async { world.get("/bucket?versioning").send().await.one("Status") };
    assert_eq!(status().await, "");
    let put = |xml: &str| world.put("/bucket?versioning").body(xml.to_owned()).send();
    for (inner, status, code) in [
        ("", 400, "IllegalVersioningConfigurationException"),
        ("<Status>On</Status>", 400, "MalformedXML"),
        (
            "<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>",
            501,
            "NotImplemented",
        ),
    ] {
        let xml = format!("<VersioningConfiguration>{inner}</VersioningConfiguration>");
        put(&xml).await.refused(status, code);
    }
    put("<VersioningConfiguration>")
        .await
        .refused(400, "MalformedXML");
    put("").await.refused(400, "MissingRequestBodyError");
    assert_eq!(status().await, "", "none of them did anything");
    world.versioning("Enabled").await;
    assert_eq!(status().await, "Enabled");
    world.versioning("Suspended").await;
    assert_eq!(status().await, "Suspended");
    world
        .put("/nowhere?versioning")
        .body("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
        .send()
        .await
        .refused(404, "NoSuchBucket");
    world
        .delete("/bucket/key?versionId=null")
        .with("x-amz-mfa", "20899872 301749")
        .send()
        .await
        .refused(501, "NotImplemented");
    world.stop().await;
}

/// What was answered before versioning was turned on can be overwritten; what was answered with a version id stays, and
/// every write that began after the answer has one.
#[tokio::test(flavor = "multi_thread")]
async fn turning_versioning_on_while_objects_are_written_loses_no_version() {
    let world = World::with_bucket().await;
    let stop = AtomicBool::new(false);
    let write = async |writer: usize| {
        let (mut named, mut round) = (Vec::new(), 0);
        while !stop.load(Ordering::SeqCst) {
            round += 1;
            let (uri, body) = (
                format!("/bucket/{}", round % 5),
                format!("{writer}/{round}"),
            );
            let reply = world.store(&uri, body.clone()).await;
            let version = reply.header("x-amz-version-id").to_owned();
            if !version.is_empty() && version != "null" {
                named.push((uri, version, body));
            }
        }
        named
    };
    let flip = async {
        for status in ["Enabled", "Suspended", "Enabled"] {
            for round in 0..10 {
                world.store("/bucket/other", round.to_string()).await;
            }
            world.versioning(status).await;
            let after = world.store("/bucket/after", status).await;
            let named = after.header("x-amz-version-id");
            assert_eq!(named.len(), if status == "Enabled" { 32 } else { 4 });
        }
        for round in 0..10 {
            world.store("/bucket/other", round.to_string()).await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    let (named, ()) = futures::join!(futures::future::join_all((0..4).map(write)), flip);
    let named = named.concat();
    assert!(!named.is_empty());
    for (uri, version, body) in named {
        let got = world
            .get(&format!("{uri}?versionId={version}"))
            .send()
            .await;
        assert_eq!(got.text(), body);
    }
    world.stop().await;
}

/// A multipart upload and a copy make versions like any other write.
#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_writing_names_its_version() {
    let world = World::with_bucket().await;
    world.versioning("Enabled").await;
    world.store("/bucket/key", "one").await;
    let upload = world
        .post("/bucket/key?uploads")
        .send()
        .await
        .one("UploadId");
    let part = world
        .put(&format!("/bucket/key?partNumber=1&uploadId={upload}"))
        .body("two")
        .send()
        .await;
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag")
    );
    let done = world
        .post(&format!("/bucket/key?uploadId={upload}"))
        .body(list)
        .send()
        .await;
    let copy = world
        .put("/bucket/key")
        .with("x-amz-copy-source", "bucket/key")
        .with("x-amz-metadata-directive", "REPLACE")
        .send()
        .await;
    let source = done.header("x-amz-version-id");
    assert_eq!(source.len(), 32, "{}", done.text());
    assert_eq!(copy.header("x-amz-copy-source-version-id"), source);
    let version = copy.header("x-amz-version-id");
    assert!(version.len() == 32 && version != source);
    assert_eq!(
        world.get("/bucket?versions").send().await.all("Key").len(),
        3
    );
    // An older version onto the same key: that is a change, whatever the directive.
    let back = world
        .put("/bucket/key")
        .with(
            "x-amz-copy-source",
            format!("bucket/key?versionId={source}"),
        )
        .send()
        .await;
    assert_eq!(back.status, 200, "{}", back.text());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_delete_looks_at_what_is_newest() {
    let world = World::with_bucket().await;
    world.versioning("Enabled").await;
    let etag = world
        .store("/bucket/key", "1")
        .await
        .header("etag")
        .to_owned();
    let delete = |etag: &str| world.delete("/bucket/key").with("if-match", etag).send();
    delete("\"other\"").await.refused(412, "PreconditionFailed");
    let gone = delete(&etag).await;
    assert_eq!(
        (gone.status, gone.header("x-amz-delete-marker")),
        (204, "true")
    );
    delete("*").await.refused(412, "PreconditionFailed");
    world
        .delete("/bucket/never")
        .with("if-match", "*")
        .send()
        .await
        .refused(404, "NoSuchKey");
    // A write sees no object behind a marker.
    let put = || world.put("/bucket/key").body("2");
    put()
        .with("if-match", "*")
        .send()
        .await
        .refused(404, "NoSuchKey");
    assert_eq!(put().with("if-none-match", "*").send().await.status, 200);
    // One by one in a call of many.
    let body = format!(
        "<Delete><Object><Key>key</Key><ETag>{etag}</ETag></Object><Object><Key>never</Key><ETag>*</ETag></Object>\
         <Object><Key>key</Key><ETag>*</ETag><Size>1</Size></Object></Delete>"
    );
    let reply = world.post("/bucket?delete").body(body).send().await;
    assert_eq!(
        reply.all("Code"),
        ["PreconditionFailed", "NoSuchKey"],
        "{}",
        reply.text()
    );
    assert_eq!(reply.all("DeleteMarker"), ["true"]);
    world.stop().await;
}
