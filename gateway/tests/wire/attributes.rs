//! GetObjectAttributes, and parts of an object that are read one by one.

use minikv::object::checksum::Algorithm;

use crate::world::{Reply, World, checksum, noise};

const ALL: &str = "ETag,Checksum,ObjectParts,StorageClass,ObjectSize";

async fn attributes(world: &World, uri: &str, names: &str) -> Reply {
    world
        .get(uri)
        .with("x-amz-object-attributes", names)
        .send()
        .await
}

/// Uploads parts of 5 MiB, 5 MiB and 7 bytes as numbers 1, 4 and 9.
async fn upload(world: &World, key: &str, algorithm: &str, kind: &str) -> Vec<Vec<u8>> {
    let reply = world
        .post(&format!("/bucket/{key}?uploads"))
        .with("x-amz-checksum-algorithm", algorithm)
        .with("x-amz-checksum-type", kind)
        .send()
        .await;
    let upload = reply.one("UploadId");
    let bodies: Vec<Vec<u8>> = [5 << 20, 5 << 20, 7]
        .iter()
        .map(|len| noise(*len).to_vec())
        .collect();
    let mut list = String::new();
    for (number, body) in [1, 4, 9].iter().zip(&bodies) {
        let uri = format!("/bucket/{key}?partNumber={number}&uploadId={upload}");
        let part = world.put(&uri).body(body.clone()).send().await;
        assert_eq!(part.status, 200, "{}", part.text());
        list += &format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>",
            part.header("etag")
        );
    }
    let done = world
        .post(&format!("/bucket/{key}?uploadId={upload}"))
        .body(format!(
            "<CompleteMultipartUpload>{list}</CompleteMultipartUpload>"
        ))
        .send()
        .await;
    assert_eq!(done.status, 200, "{}", done.text());
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_tells_the_attributes_it_is_asked_for() {
    let world = World::with_bucket().await;
    let etag = world
        .store("/bucket/key", "hello")
        .await
        .header("etag")
        .to_owned();
    let reply = attributes(&world, "/bucket/key?attributes", ALL).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.one("ETag"), etag.trim_matches('"'));
    assert_eq!(reply.one("ObjectSize"), "5");
    assert_eq!(reply.one("StorageClass"), "STANDARD");
    assert_eq!(
        reply.one("ChecksumCRC64NVME"),
        checksum(Algorithm::Crc64Nvme, b"hello")
    );
    assert_eq!(reply.one("ChecksumType"), "FULL_OBJECT");
    assert!(!reply.text().contains("ObjectParts"), "it has none");
    assert!(reply.text().contains(
        "<GetObjectAttributesResponse xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
    ));
    let head = world.head("/bucket/key").send().await;
    assert_eq!(reply.header("last-modified"), head.header("last-modified"));
    let size = attributes(&world, "/bucket/key?attributes", "ObjectSize").await;
    assert_eq!(
        (size.one("ObjectSize"), size.one("ETag")),
        ("5".to_owned(), String::new())
    );

    for (names, code) in [
        ("", "InvalidRequest"),
        ("etag", "InvalidArgument"),
        ("ETag,x", "InvalidArgument"),
    ] {
        attributes(&world, "/bucket/key?attributes", names)
            .await
            .refused(400, code);
    }
    world
        .get("/bucket/key?attributes")
        .send()
        .await
        .refused(400, "InvalidRequest");
    attributes(&world, "/bucket/none?attributes", ALL)
        .await
        .refused(404, "NoSuchKey");
    world
        .get("/bucket/key?attributes")
        .with("x-amz-object-attributes", "ObjectParts")
        .with("x-amz-max-parts", "-1")
        .send()
        .await
        .refused(400, "InvalidArgument");

    world.versioning("Enabled").await;
    let version = world
        .store("/bucket/key", "second")
        .await
        .header("x-amz-version-id")
        .to_owned();
    let newest = attributes(&world, "/bucket/key?attributes", ALL).await;
    assert_eq!(
        (newest.header("x-amz-version-id"), newest.one("ObjectSize")),
        (version.as_str(), "6".to_owned())
    );
    let null = attributes(&world, "/bucket/key?attributes&versionId=null", ALL).await;
    assert_eq!(
        (null.header("x-amz-version-id"), null.one("ObjectSize")),
        ("null", "5".to_owned())
    );
    let marker = world
        .delete("/bucket/key")
        .send()
        .await
        .header("x-amz-version-id")
        .to_owned();
    let hidden = attributes(&world, "/bucket/key?attributes", ALL).await;
    hidden.refused(404, "NoSuchKey");
    assert_eq!(hidden.header("x-amz-delete-marker"), "true");
    attributes(
        &world,
        &format!("/bucket/key?attributes&versionId={marker}"),
        ALL,
    )
    .await
    .refused(405, "MethodNotAllowed");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_of_an_object_are_told_in_pages_with_their_checksums() {
    let world = World::with_bucket().await;
    let bodies = upload(&world, "key", "SHA256", "COMPOSITE").await;
    let sums: Vec<String> = bodies
        .iter()
        .map(|body| checksum(Algorithm::Sha256, body))
        .collect();
    let whole = attributes(&world, "/bucket/key?attributes", ALL).await;
    assert_eq!(whole.one("PartsCount"), "3");
    assert_eq!(whole.one("IsTruncated"), "false");
    assert_eq!(whole.one("MaxParts"), "1000");
    assert_eq!(whole.all("PartNumber"), ["1", "4", "9"]);
    assert_eq!(whole.all("Size"), ["5242880", "5242880", "7"]);
    let told = whole.all("ChecksumSHA256");
    assert!(told[0].ends_with("-3"), "{told:?}");
    assert_eq!(told[1..], sums);
    assert_eq!(whole.one("ChecksumType"), "COMPOSITE");

    let page = world
        .get("/bucket/key?attributes")
        .with("x-amz-object-attributes", "ObjectParts")
        .with("x-amz-max-parts", "1")
        .with("x-amz-part-number-marker", "1")
        .send()
        .await;
    assert_eq!(page.all("PartNumber"), ["4"]);
    assert_eq!(
        (
            page.one("IsTruncated"),
            page.one("NextPartNumberMarker"),
            page.one("PartNumberMarker")
        ),
        ("true".to_owned(), "4".to_owned(), "1".to_owned())
    );
    world.stop().await;
}

/// SDKs that download in parts check each by its own checksum.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_read_with_its_own_checksum() {
    let world = World::with_bucket().await;
    for (key, name, kind, algorithm) in [
        ("a", "SHA256", "COMPOSITE", Algorithm::Sha256),
        ("b", "CRC32", "FULL_OBJECT", Algorithm::Crc32),
    ] {
        let bodies = upload(&world, key, name, kind).await;
        for (number, body) in [1, 4, 9].iter().zip(&bodies) {
            let uri = format!("/bucket/{key}?partNumber={number}");
            let part = world
                .get(&uri)
                .with("x-amz-checksum-mode", "ENABLED")
                .send()
                .await;
            assert_eq!((part.status, part.body.as_ref()), (206, body.as_slice()));
            assert_eq!(part.header("x-amz-mp-parts-count"), "3");
            assert_eq!(part.header(algorithm.header()), checksum(algorithm, body));
            assert_eq!(part.header("x-amz-checksum-type"), kind);
            let head = world
                .head(&uri)
                .with("x-amz-checksum-mode", "ENABLED")
                .send()
                .await;
            assert_eq!(head.header(algorithm.header()), checksum(algorithm, body));
            let silent = world.get(&uri).send().await;
            assert_eq!(silent.header(algorithm.header()), "", "only when asked for");
        }
        let whole = bodies.concat();
        let all = world
            .get(&format!("/bucket/{key}"))
            .with("x-amz-checksum-mode", "ENABLED")
            .send()
            .await;
        if kind == "FULL_OBJECT" {
            assert_eq!(all.header(algorithm.header()), checksum(algorithm, &whole));
        } else {
            assert!(all.header(algorithm.header()).ends_with("-3"));
        }
        world
            .get(&format!("/bucket/{key}?partNumber=2"))
            .send()
            .await
            .refused(416, "InvalidPartNumber");
    }
    world.stop().await;
}
