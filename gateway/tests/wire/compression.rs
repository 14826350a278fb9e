//! Compression of a bucket: nobody but the disk notices.

use bytes::Bytes;
use minikv::auth::principal::Principal;
use minikv::object::compression::Codec;
use minikv::object::etag::multipart_etag;
use minikv::ops::{get_bucket_compression, put_bucket_compression};
use minikv::tenancy::bucket::BucketRef;

use crate::encryption::{Kind, reading, writing};
use crate::world::{ACCESS_KEY, Payload, Reply, World, checksum, md5_hex, noise};

const MIN: usize = 5 << 20;
const CODECS: [Codec; 2] = [Codec::Lz4, Codec::Zstd];

async fn set(world: &World, bucket: &str, codec: Option<Codec>) {
    let (who, bucket) = (Principal::root(ACCESS_KEY), BucketRef::named(bucket));
    put_bucket_compression(&world.ops, &who, &bucket, codec)
        .await
        .unwrap();
    let is = get_bucket_compression(&world.ops, &who, &bucket).await;
    assert_eq!(is.unwrap(), codec);
}

fn text(len: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(len + 60);
    let mut line = 0_u64;
    while bytes.len() < len {
        line += 1;
        let words = line.wrapping_mul(2_654_435_761) % 9973;
        bytes.extend_from_slice(format!("{line}: GET /objects/{words} 200 OK\n").as_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

async fn stored(world: &World, uri: &str, body: &Bytes) -> Reply {
    let put = world.put(uri).pieces(body.clone(), 100_000).send().await;
    assert_eq!(put.status, 200, "{uri}: {}", put.text());
    assert_eq!(put.header("etag"), format!("\"{}\"", md5_hex(body)));
    put
}

async fn reads_as(world: &World, uri: &str, body: &Bytes) {
    reads_with(world, uri, body, Kind::Plain).await;
}

/// Whole, by HEAD, and in ranges of all kinds; with the headers that its encryption wants.
async fn reads_with(world: &World, uri: &str, body: &Bytes, kind: Kind) {
    let len = body.len();
    let got = reading(world.get(uri), kind).send().await;
    assert_eq!(got.status, 200, "{uri}: {}", got.text());
    assert!(!got.broken && got.body == *body, "{uri}, {len} bytes");
    let head = reading(world.head(uri), kind).send().await;
    assert_eq!(head.header("content-length"), len.to_string(), "{uri}");
    if len == 0 {
        return;
    }
    let third = len / 3;
    let ranges = [
        (format!("0-{}", len - 1), 0..len),
        ("0-0".to_owned(), 0..1),
        (format!("{}-", len - 1), len - 1..len),
        (format!("-{}", third + 1), len - third - 1..len),
        (format!("{third}-"), third..len),
        (format!("{third}-{}", 2 * third), third..2 * third + 1),
        (format!("{third}-{third}"), third..third + 1),
        (format!("0-{third}"), 0..third + 1),
    ];
    for (range, expected) in ranges {
        let got = reading(world.get(uri), kind).with("range", format!("bytes={range}"));
        let got = got.send().await;
        assert_eq!(got.status, 206, "{uri} {range}: {}", got.text());
        let end = expected.end - 1;
        let shown = format!("bytes {}-{end}/{len}", expected.start);
        assert_eq!(got.header("content-range"), shown);
        assert!(!got.broken && got.body == body[expected], "{uri} {range}");
    }
    let outside = reading(world.get(uri), kind).with("range", format!("bytes={len}-"));
    outside.send().await.refused(416, "InvalidRange");
}

/// Every size around the borders of blocks and of what travels inline.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_compressed_is_read_as_it_was_written() {
    let world = World::with_bucket().await;
    for codec in CODECS {
        set(&world, "bucket", Some(codec)).await;
        for len in [
            0, 1, 255, 256, 4096, 65_536, 131_071, 131_072, 131_073, 1_048_576, 1_048_577,
            3_000_001,
        ] {
            let body = text(len);
            let before = world.bytes().await;
            stored(&world, "/bucket/key", &body).await;
            if len >= 4096 {
                let takes = world.bytes().await.saturating_sub(before) as usize;
                assert!(takes < len / 2, "{codec}: {len} bytes take {takes}");
            }
            reads_as(&world, "/bucket/key", &body).await;
            let listed = world.get("/bucket?list-type=2").send().await;
            assert_eq!(listed.one("Size"), len.to_string());
            let gone = world.delete("/bucket/key").send().await;
            assert_eq!(gone.status, 204);
        }
    }
    world.stop().await;
}

/// Noise is stored as it is: not a byte more.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compressed_is_stored_as_it_is() {
    let world = World::with_bucket().await;
    for codec in CODECS {
        set(&world, "bucket", Some(codec)).await;
        for len in [300, 65_536, 65_537, 2_000_003] {
            let (body, before) = (noise(len), world.bytes().await);
            stored(&world, "/bucket/key", &body).await;
            assert_eq!(world.bytes().await - before, len as u64, "{codec}");
            reads_as(&world, "/bucket/key", &body).await;
            assert_eq!(world.delete("/bucket/key").send().await.status, 204);
        }
        // A beginning that compresses, and then noise: 12 bytes for each block of 128 KiB.
        let body = Bytes::from([text(131_072), noise(2_000_000)].concat());
        let before = world.bytes().await;
        stored(&world, "/bucket/key", &body).await;
        assert!(world.bytes().await - before < body.len() as u64 + 17 * 12);
        reads_as(&world, "/bucket/key", &body).await;
        assert_eq!(world.delete("/bucket/key").send().await.status, 204);
    }
    world.stop().await;
}

/// Checksums are those of the plain bytes, with or without a declared length; a wrong one leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn checksums_of_compressed_objects_are_those_of_the_plain_bytes() {
    let world = World::with_bucket().await;
    set(&world, "bucket", Some(Codec::Zstd)).await;
    let algorithm = minikv::object::checksum::Algorithm::Crc32;
    for len in [10_000, 2_000_003] {
        let body = text(len);
        let put = world
            .put("/bucket/key")
            .payload(Payload::SignedChunksTrailer(algorithm))
            .body(body.clone());
        assert_eq!(put.send().await.status, 200);
        let head = world
            .head("/bucket/key")
            .with("x-amz-checksum-mode", "ENABLED");
        assert_eq!(
            head.send().await.header("x-amz-checksum-crc32"),
            checksum(algorithm, &body)
        );
        let wrong = world
            .put("/bucket/wrong")
            .with("content-md5", crate::world::md5_base64(b"something else"))
            .body(body);
        wrong.send().await.refused(400, "BadDigest");
        world.expect_absent("/bucket/wrong").await;
    }
    world.stop().await;
}

/// Parts that compress, parts that do not, and parts of a time when the bucket was set otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn parts_may_each_be_compressed_or_not() {
    let world = World::with_bucket().await;
    for encryption in ["", "AES256"] {
        let opened = match encryption {
            "" => world.post("/bucket/key?uploads"),
            method => world
                .post("/bucket/key?uploads")
                .with("x-amz-server-side-encryption", method),
        };
        let upload = opened.send().await.one("UploadId");
        let parts = [
            (text(MIN + 1), Some(Codec::Zstd)),
            (noise(MIN), Some(Codec::Lz4)),
            (text(MIN), None),
            (text(MIN + 77), Some(Codec::Lz4)),
            (text(100_000), Some(Codec::Zstd)),
        ];
        let (mut xml, mut etags) = (String::new(), Vec::new());
        for (number, (body, codec)) in (1..).zip(&parts) {
            set(&world, "bucket", *codec).await;
            let uri = format!("/bucket/key?partNumber={number}&uploadId={upload}");
            stored(&world, &uri, body).await;
            let etag = md5_hex(body);
            xml += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
            etags.push(etag);
        }
        let listed = world
            .get(&format!("/bucket/key?uploadId={upload}"))
            .send()
            .await;
        for (body, _) in &parts {
            assert!(
                listed
                    .text()
                    .contains(&format!("<Size>{}</Size>", body.len()))
            );
        }
        let xml = format!("<CompleteMultipartUpload>{xml}</CompleteMultipartUpload>");
        let done = world
            .post(&format!("/bucket/key?uploadId={upload}"))
            .body(xml);
        let done = done.send().await;
        assert_eq!(done.status, 200, "{}", done.text());
        let whole: Bytes = parts
            .iter()
            .map(|(body, _)| &body[..])
            .collect::<Vec<_>>()
            .concat()
            .into();
        let head = world.head("/bucket/key").send().await;
        let etag = multipart_etag(etags.iter().map(String::as_str)).unwrap();
        assert_eq!(head.header("etag"), format!("\"{etag}\""));
        reads_as(&world, "/bucket/key", &whole).await;
        let (mut at, last) = (0, parts.len());
        for (number, (body, _)) in (1..).zip(&parts) {
            let got = world
                .get(&format!("/bucket/key?partNumber={number}"))
                .send()
                .await;
            assert_eq!(got.status, 206, "part {number} of {last}: {}", got.text());
            assert!(got.body == *body, "part {number}");
            // Across the end of the part.
            let (from, to) = (at + body.len() - 5, (at + body.len() + 5).min(whole.len()));
            let range = format!("bytes={from}-{}", to - 1);
            let got = world.get("/bucket/key").with("range", range).send().await;
            assert!(got.body == whole[from..to], "across part {number}");
            at += body.len();
        }
    }
    world.stop().await;
}

/// The setting is of what is written: old objects are read whatever it says now, and copies are written by it.
#[tokio::test(flavor = "multi_thread")]
async fn switching_compression_leaves_old_objects_readable() {
    let world = World::with_bucket().await;
    assert_eq!(world.put("/plain").send().await.status, 200);
    let body = text(700_000);
    let mut names = Vec::new();
    for (number, codec) in [None, Some(Codec::Lz4), Some(Codec::Zstd), None]
        .into_iter()
        .enumerate()
    {
        set(&world, "bucket", codec).await;
        let name = format!("/bucket/{number}");
        stored(&world, &name, &body).await;
        names.push(name);
        for name in &names {
            reads_as(&world, name, &body).await;
        }
    }
    for (from, to) in [("/bucket/2", "/plain/copy"), ("/bucket/1", "/bucket/copy")] {
        let copied = world.put(to).with("x-amz-copy-source", from).send().await;
        assert_eq!(copied.status, 200, "{}", copied.text());
        reads_as(&world, to, &body).await;
    }
    set(&world, "bucket", Some(Codec::Zstd)).await;
    let before = world.bytes().await;
    let copied = world
        .put("/bucket/from-plain")
        .with("x-amz-copy-source", "/plain/copy");
    assert_eq!(copied.send().await.status, 200);
    reads_as(&world, "/bucket/from-plain", &body).await;
    assert!(world.bytes().await - before <= body.len() as u64);
    world.stop().await;
}

/// Compressed, then encrypted: with every kind of key, in every size.
#[tokio::test(flavor = "multi_thread")]
async fn compressed_objects_may_be_encrypted() {
    let world = World::with_bucket().await;
    for codec in CODECS {
        set(&world, "bucket", Some(codec)).await;
        for kind in [Kind::S3, Kind::Kms("payroll"), Kind::Customer(1)] {
            for body in [
                text(300),
                text(65_536),
                text(1_000_001),
                text(3_000_000),
                noise(1_500_000),
            ] {
                let before = world.bytes().await;
                let put = writing(world.put("/bucket/key"), kind).pieces(body.clone(), 77_777);
                let put = put.send().await;
                assert_eq!(put.status, 200, "{}", put.text());
                // With keys of KMS or a customer an ETag is no MD5, as on AWS.
                if kind == Kind::S3 {
                    assert_eq!(put.header("etag"), format!("\"{}\"", md5_hex(&body)));
                }
                let takes = world.bytes().await.saturating_sub(before) as usize;
                if body.len() == 3_000_000 {
                    assert!(takes < body.len() / 2, "{codec}: {takes} bytes");
                }
                reads_with(&world, "/bucket/key", &body, kind).await;
                if kind == Kind::S3 {
                    let copied = world
                        .put("/bucket/copy")
                        .with("x-amz-copy-source", "/bucket/key");
                    assert_eq!(copied.send().await.status, 200);
                    reads_as(&world, "/bucket/copy", &body).await;
                    assert_eq!(world.delete("/bucket/copy").send().await.status, 204);
                }
                assert_eq!(world.delete("/bucket/key").send().await.status, 204);
            }
        }
    }
    world.stop().await;
}

/// Each version is read as it was written, whatever the bucket was set to then and is now.
#[tokio::test(flavor = "multi_thread")]
async fn versions_of_a_key_may_each_be_compressed_or_not() {
    let world = World::with_bucket().await;
    world.versioning("Enabled").await;
    let mut versions = Vec::new();
    for (codec, body) in [
        (Some(Codec::Zstd), text(300_000)),
        (None, text(300_001)),
        (Some(Codec::Lz4), text(2_000_000)),
        (Some(Codec::Lz4), noise(100_000)),
    ] {
        set(&world, "bucket", codec).await;
        let put = stored(&world, "/bucket/key", &body).await;
        versions.push((put.header("x-amz-version-id").to_owned(), body));
    }
    assert_eq!(world.delete("/bucket/key").send().await.status, 204);
    for (id, body) in &versions {
        reads_as(&world, &format!("/bucket/key?versionId={id}"), body).await;
    }
    let (first, body) = &versions[0];
    let source = format!("/bucket/key?versionId={first}");
    let restored = world.put("/bucket/key").with("x-amz-copy-source", source);
    assert_eq!(restored.send().await.status, 200);
    reads_as(&world, "/bucket/key", body).await;
    world.stop().await;
}

/// A flipped bit on the disk ends the answer: not a byte of the damaged block is given out.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_block_on_disk_breaks_the_answer() {
    let world = World::with_bucket().await;
    set(&world, "bucket", Some(Codec::Lz4)).await;
    let body = text(3_000_000);
    stored(&world, "/bucket/key", &body).await;
    let whole = text(200_000).slice(100_000..);
    stored(&world, "/bucket/whole", &whole).await;
    // What LZ4 has not seen before it keeps as it is: the first line of the object stands on the disk in plain.
    flip(&world.data_dir().join("log"), &body[..24]);
    let got = world.get("/bucket/key").send().await;
    assert!(
        got.status == 500 || got.broken,
        "{}: {} bytes",
        got.status,
        got.body.len()
    );
    if got.status == 200 {
        assert!(got.body.len() < body.len() && got.body == body[..got.body.len()]);
    }
    reads_as(&world, "/bucket/whole", &whole).await;
    world.stop().await;
}

/// Flips a bit of the first file below `dir` that holds `needle` in its beginning, there.
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a real disk is damaged behind the server's back"
)]
fn flip(dir: &std::path::Path, needle: &[u8]) {
    use std::io::Read;
    use std::os::unix::fs::FileExt;
    let mut paths = vec![dir.to_owned()];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            paths.extend(entries.map(|entry| entry.unwrap().path()));
            continue;
        }
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).open(&path).unwrap();
        let mut bytes = Vec::new();
        // Segments are reserved at full length: what is written lies in front.
        (&file).take(4 << 20).read_to_end(&mut bytes).unwrap();
        let at = bytes.windows(needle.len()).position(|some| some == needle);
        if let Some(at) = at {
            file.write_all_at(&[bytes[at + 3] ^ 1], at as u64 + 3)
                .unwrap();
            return;
        }
    }
    panic!("nothing on the disk begins as the object does");
}
