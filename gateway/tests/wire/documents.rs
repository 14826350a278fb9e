//! Every XML answer, as it goes over the wire: S3's element order, its namespace, its way to write dates and ETags.
//!
//! The bodies are in `snapshots/`, an element a line, with what differs from run to run (ids, dates, tokens) named in
//! braces. A client that reads XML by position, or that looks for an element that "is always there", reads these.

use http::Method;

use crate::world::*;

/// What is different each time, by element.
const PASSING: [(&str, &str); 14] = [
    ("CreationDate", "{date}"),
    ("HostId", "{id}"),
    ("Initiated", "{date}"),
    ("LastModified", "{date}"),
    ("RequestId", "{id}"),
    ("UploadId", "{upload}"),
    ("NextUploadIdMarker", "{upload}"),
    ("UploadIdMarker", "{upload}"),
    ("VersionId", "{version}"),
    ("NextVersionIdMarker", "{version}"),
    ("DeleteMarkerVersionId", "{version}"),
    ("ContinuationToken", "{token}"),
    ("NextContinuationToken", "{token}"),
    ("ID", "{owner}"),
];

/// A document, an element a line, without what passes.
fn settled(body: &str) -> String {
    let mut text = String::new();
    let mut last = "";
    for line in body.replace("><", ">\n<").split_inclusive('\n') {
        // An empty element stays on its line.
        let end = line.trim_end().strip_prefix("</");
        if end.is_some_and(|name| last.trim_end() == format!("<{name}")) {
            text.truncate(text.trim_end().len());
        }
        text.push_str(line);
        last = line;
    }
    for (element, instead) in PASSING {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once(&open) {
            let (value, after) = after.split_once(&close).unwrap();
            let date = instead == "{date}";
            assert!(
                !date || (value.len() == 24 && value.ends_with("Z")),
                "{value}"
            );
            let keep = value.is_empty() || value == "null";
            let value = if keep { value } else { instead };
            out.push_str(before);
            out.push_str(&format!("{open}{value}{close}"));
            rest = after;
        }
        out.push_str(rest);
        text = out;
    }
    text
}

/// Answers, one after the other.
#[derive(Default)]
struct Record(String);

impl Record {
    fn add(&mut self, asked: &str, reply: &Reply) {
        self.0.push_str(&format!(
            "== {asked}: {} {}\n{}\n\n",
            reply.status,
            reply.header("content-type"),
            settled(&reply.text())
        ));
    }

    async fn get(&mut self, world: &World, uri: &str) -> Reply {
        let reply = world.get(uri).send().await;
        self.add(&format!("GET {uri}"), &reply);
        reply
    }
}

async fn named_world() -> World {
    let world = World::with_bucket().await;
    let owner = world.get("/").send().await.one("ID");
    world.keys.name(&owner, "Root & Co");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_objects_are_written_as_s3_writes_them() {
    let world = named_world().await;
    let mut record = Record::default();
    record.get(&world, "/bucket?list-type=2").await;
    record.get(&world, "/bucket").await;
    for key in ["a", "b%20%26%3C", "dir/one", "dir/two", "z"] {
        world.store(&format!("/bucket/{key}"), "hello").await;
    }
    let sealed = world
        .put("/bucket/sealed")
        .with("x-amz-server-side-encryption", "AES256")
        .body("sealed bytes");
    assert_eq!(sealed.send().await.status, 200);
    record.get(&world, "/bucket?list-type=2").await;
    let first = record
        .get(
            &world,
            "/bucket?list-type=2&fetch-owner=true&max-keys=3&delimiter=/&encoding-type=url",
        )
        .await;
    let token = first.one("NextContinuationToken");
    let next = world
        .get(&format!(
            "/bucket?list-type=2&continuation-token={token}&max-keys=3&delimiter=/"
        ))
        .send()
        .await;
    record.add("GET the next page", &next);
    record
        .get(
            &world,
            "/bucket?list-type=2&start-after=dir/one&prefix=dir/",
        )
        .await;
    record.get(&world, "/bucket?list-type=2&max-keys=0").await;
    record
        .get(&world, "/bucket?max-keys=3&delimiter=/&encoding-type=url")
        .await;
    record.get(&world, "/bucket?marker=dir/&max-keys=1").await;
    insta::assert_snapshot!(record.0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_versions_uploads_parts_and_buckets_are_written_as_s3_writes_them() {
    let world = named_world().await;
    let mut record = Record::default();
    record.get(&world, "/").await;
    world.store("/bucket/a", "hello").await;
    record.get(&world, "/bucket?versions").await;
    world.versioning("Enabled").await;
    world.store("/bucket/a", "hello again").await;
    assert_eq!(world.delete("/bucket/a").send().await.status, 204);
    world.store("/bucket/dir/b", "hello").await;
    record
        .get(&world, "/bucket?versions&delimiter=/&max-keys=3")
        .await;
    record.get(&world, "/bucket?uploads").await;
    let begun = world
        .post("/bucket/dir/big?uploads")
        .with("x-amz-checksum-algorithm", "CRC32")
        .send()
        .await;
    record.add("POST /bucket/dir/big?uploads", &begun);
    let upload = begun.one("UploadId");
    for number in [1, 2] {
        let part = world
            .put(&format!(
                "/bucket/dir/big?uploadId={upload}&partNumber={number}"
            ))
            .with(
                "x-amz-checksum-crc32",
                checksum(minikv::object::checksum::Algorithm::Crc32, b"part"),
            )
            .body("part");
        assert_eq!(part.send().await.status, 200);
    }
    let copied = world
        .put(&format!("/bucket/dir/big?uploadId={upload}&partNumber=3"))
        .with("x-amz-copy-source", "/bucket/dir/b")
        .send()
        .await;
    record.add("PUT part by copy", &copied);
    for query in ["uploads", "uploads&delimiter=/", "uploads&max-uploads=0"] {
        record.get(&world, &format!("/bucket?{query}")).await;
    }
    let parts = world
        .get(&format!("/bucket/dir/big?uploadId={upload}&max-parts=2"))
        .send()
        .await;
    record.add("GET parts", &parts);
    let list = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>5a5ed3e5a8f4d1f1c8b2</ETag></Part></CompleteMultipartUpload>"
        .replace("5a5ed3e5a8f4d1f1c8b2", &md5_hex(b"part"));
    let completed = world
        .post(&format!("/bucket/dir/big?uploadId={upload}"))
        .body(list)
        .send()
        .await;
    record.add("POST complete", &completed);
    insta::assert_snapshot!(record.0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_answers_are_written_as_s3_writes_them() {
    let world = named_world().await;
    let mut record = Record::default();
    world.store("/bucket/a", "hello").await;
    let copied = world
        .put("/bucket/copy")
        .with("x-amz-copy-source", "/bucket/a")
        .send()
        .await;
    record.add("PUT copy", &copied);
    let tags = "<Tagging><TagSet><Tag><Key>k+=</Key><Value>v</Value></Tag></TagSet></Tagging>";
    let cors = "<CORSConfiguration><CORSRule><ID>rule</ID><AllowedOrigin>https://page.test</AllowedOrigin><AllowedMethod>GET</AllowedMethod><AllowedHeader>*</AllowedHeader><MaxAgeSeconds>5</MaxAgeSeconds><ExposeHeader>etag</ExposeHeader></CORSRule></CORSConfiguration>";
    let sse = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";
    for (uri, body) in [
        ("/bucket?tagging", tags),
        ("/bucket/a?tagging", tags),
        ("/bucket?cors", cors),
        ("/bucket?encryption", sse),
    ] {
        assert!(world.put(uri).body(body).send().await.status < 300, "{uri}");
        record.get(&world, uri).await;
    }
    for uri in [
        "/bucket?location",
        "/bucket?versioning",
        "/bucket?acl",
        "/bucket/a?acl",
        "/bucket?accelerate",
        "/bucket?requestPayment",
        "/bucket?logging",
        "/bucket?notification",
        "/bucket?ownershipControls",
    ] {
        record.get(&world, uri).await;
    }
    world.versioning("Enabled").await;
    record.get(&world, "/bucket?versioning").await;
    let attributes = world
        .get("/bucket/a?attributes")
        .with(
            "x-amz-object-attributes",
            "ETag,Checksum,ObjectParts,StorageClass,ObjectSize",
        )
        .send()
        .await;
    record.add("GET attributes", &attributes);
    let delete = "<Delete><Object><Key>a</Key></Object><Object><Key>none</Key><VersionId>null</VersionId></Object><Object><Key>copy</Key><ETag>other</ETag></Object></Delete>";
    let deleted = world.post("/bucket?delete").body(delete).send().await;
    record.add("POST delete", &deleted);
    for (method, uri) in [
        (Method::GET, "/bucket/none"),
        (Method::GET, "/nobody"),
        (Method::GET, "/bucket?policy"),
        (Method::PUT, "/bucket?policy"),
        (Method::DELETE, "/bucket/a?acl"),
        (Method::PATCH, "/bucket"),
    ] {
        let reply = world.request(method.clone(), uri).send().await;
        record.add(&format!("{method} {uri}"), &reply);
    }
    insta::assert_snapshot!(record.0);
    world.stop().await;
}
