//! aws-sdk-s3, with its defaults: CRC32 as a trailer on every write, checksum validation on every read.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, Delete,
    ObjectIdentifier,
};

use crate::{FILES, curl, data, promise, said};

async fn get(s3: &Client, bucket: &str, key: &str) -> Vec<u8> {
    let got = s3
        .get_object()
        .bucket(bucket)
        .key(key)
        .send()
        .await
        .unwrap();
    got.body.collect().await.unwrap().to_vec()
}

async fn put(s3: &Client, bucket: &str, key: &str, body: &[u8]) {
    let body = ByteStream::from(body.to_vec());
    let put = s3.put_object().bucket(bucket).key(key).body(body);
    put.send().await.unwrap();
}

/// As the environment says.
pub async fn client() -> Client {
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    Client::new(&config)
}

pub async fn run() {
    let s3 = client().await;
    let bucket = &said("BUCKET");

    promise("create a bucket", async {
        s3.create_bucket().bucket(bucket).send().await.unwrap();
        let buckets = s3.list_buckets().send().await.unwrap();
        assert!(buckets.buckets().iter().any(|b| b.name() == Some(bucket)));
    })
    .await;
    promise("files come back as they were", async {
        for name in FILES {
            let (key, body) = (format!("files/{name}"), data(name));
            put(&s3, bucket, &key, &body).await;
            assert!(get(&s3, bucket, &key).await == body, "{name}");
        }
    })
    .await;
    promise("every checksum is checked, stored and returned", async {
        use ChecksumAlgorithm as A;
        for algorithm in [A::Crc32, A::Crc32C, A::Crc64Nvme, A::Sha1, A::Sha256] {
            let body = ByteStream::from_static(b"hello");
            let put = s3.put_object().bucket(bucket).key("sum").body(body);
            put.checksum_algorithm(algorithm).send().await.unwrap();
            let head = s3.head_object().bucket(bucket).key("sum");
            let head = head
                .checksum_mode(ChecksumMode::Enabled)
                .send()
                .await
                .unwrap();
            let sums = [
                head.checksum_crc32(),
                head.checksum_crc32_c(),
                head.checksum_crc64_nvme(),
                head.checksum_sha1(),
                head.checksum_sha256(),
            ];
            assert_eq!(sums.iter().flatten().count(), 1);
        }
    })
    .await;
    promise("head and range", async {
        let head = s3
            .head_object()
            .bucket(bucket)
            .key("files/5MiB")
            .send()
            .await
            .unwrap();
        assert_eq!(head.content_length(), Some(5 << 20));
        let part = s3
            .get_object()
            .bucket(bucket)
            .key("files/5MiB")
            .range("bytes=100-199");
        let part = part
            .send()
            .await
            .unwrap()
            .body
            .collect()
            .await
            .unwrap()
            .to_vec();
        assert!(part == data("5MiB")[100..200]);
    })
    .await;
    promise("metadata, and a copy that keeps it", async {
        let put = s3
            .put_object()
            .bucket(bucket)
            .key("meta ä+")
            .metadata("colour", "blue");
        put.body(ByteStream::from_static(b"x"))
            .send()
            .await
            .unwrap();
        let copy = s3.copy_object().bucket(bucket).key("copy");
        copy.copy_source(format!("{bucket}/meta%20%C3%A4%2B"))
            .send()
            .await
            .unwrap();
        let head = s3
            .head_object()
            .bucket(bucket)
            .key("copy")
            .send()
            .await
            .unwrap();
        assert_eq!(head.metadata().unwrap()["colour"], "blue");
    })
    .await;
    promise("an upload in parts", async {
        let body = data("100MiB");
        let begun = s3
            .create_multipart_upload()
            .bucket(bucket)
            .key("parts")
            .send()
            .await
            .unwrap();
        let id = begun.upload_id().unwrap();
        let mut parts = Vec::new();
        for (at, piece) in body.chunks(40 << 20).enumerate() {
            let number = at as i32 + 1;
            let part = s3.upload_part().bucket(bucket).key("parts").upload_id(id);
            let part = part
                .part_number(number)
                .body(ByteStream::from(piece.to_vec()));
            let part = part.send().await.unwrap();
            let listed = CompletedPart::builder()
                .part_number(number)
                .e_tag(part.e_tag().unwrap());
            parts.push(
                listed
                    .set_checksum_crc32(part.checksum_crc32().map(str::to_owned))
                    .build(),
            );
        }
        let listed = s3
            .list_parts()
            .bucket(bucket)
            .key("parts")
            .upload_id(id)
            .send()
            .await
            .unwrap();
        assert_eq!(listed.parts().len(), 3);
        let list = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        let complete = s3
            .complete_multipart_upload()
            .bucket(bucket)
            .key("parts")
            .upload_id(id);
        complete.multipart_upload(list).send().await.unwrap();
        assert!(get(&s3, bucket, "parts").await == body);
    })
    .await;
    promise("an upload that is given up is gone", async {
        let begun = s3
            .create_multipart_upload()
            .bucket(bucket)
            .key("given-up")
            .send()
            .await
            .unwrap();
        let id = begun.upload_id().unwrap();
        let abort = s3
            .abort_multipart_upload()
            .bucket(bucket)
            .key("given-up")
            .upload_id(id);
        abort.send().await.unwrap();
        let open = s3
            .list_multipart_uploads()
            .bucket(bucket)
            .send()
            .await
            .unwrap();
        assert!(open.uploads().is_empty());
    })
    .await;
    promise("listing pages", async {
        for n in 0..7 {
            put(&s3, bucket, &format!("list/ä {n}+"), b"").await;
        }
        let list = s3.list_objects_v2().bucket(bucket).prefix("list/");
        let mut pages = list.into_paginator().page_size(3).send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            keys.extend(
                page.unwrap()
                    .contents()
                    .iter()
                    .map(|o| o.key().unwrap().to_owned()),
            );
        }
        assert_eq!((keys.len(), keys[6].as_str()), (7, "list/ä 6+"));
    })
    .await;
    promise("conditions decide who writes", async {
        let put = || {
            s3.put_object()
                .bucket(bucket)
                .key("once")
                .body(ByteStream::from_static(b"1"))
        };
        let first = put().if_none_match("*").send().await.unwrap();
        let second = put().if_none_match("*").send().await.unwrap_err();
        assert_eq!(second.raw_response().unwrap().status().as_u16(), 412);
        put().if_match(first.e_tag().unwrap()).send().await.unwrap();
        let other = put()
            .if_match("\"00000000000000000000000000000000\"")
            .send()
            .await
            .unwrap_err();
        assert_eq!(other.raw_response().unwrap().status().as_u16(), 412);
    })
    .await;
    promise("presigned URLs work", async {
        let expires = || PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
        let url = s3
            .put_object()
            .bucket(bucket)
            .key("pre signed")
            .presigned(expires())
            .await
            .unwrap();
        curl("PUT", url.uri(), b"by url");
        let url = s3
            .get_object()
            .bucket(bucket)
            .key("pre signed")
            .presigned(expires())
            .await
            .unwrap();
        assert_eq!(curl("GET", url.uri(), b""), b"by url");
    })
    .await;
    promise("a key that is not there is NoSuchKey", async {
        let error = s3
            .get_object()
            .bucket(bucket)
            .key("none")
            .send()
            .await
            .unwrap_err();
        assert!(error.into_service_error().is_no_such_key());
    })
    .await;
    promise("delete everything, many at once, and the bucket", async {
        let mut pages = s3.list_objects_v2().bucket(bucket).into_paginator().send();
        while let Some(page) = pages.next().await {
            let keys = page
                .unwrap()
                .contents()
                .iter()
                .map(|object| {
                    ObjectIdentifier::builder()
                        .key(object.key().unwrap())
                        .build()
                        .unwrap()
                })
                .collect();
            let delete = Delete::builder().set_objects(Some(keys)).build().unwrap();
            let done = s3
                .delete_objects()
                .bucket(bucket)
                .delete(delete)
                .send()
                .await
                .unwrap();
            assert!(done.errors().is_empty());
        }
        s3.delete_bucket().bucket(bucket).send().await.unwrap();
    })
    .await;
}
