//! object_store (of Arrow, DataFusion, delta-rs, Polars), set up from the environment.

use std::ops::Range;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{
    Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
    WriteMultipart,
};

use crate::{FILES, curl, data, promise, said};

async fn get(store: &AmazonS3, path: &Path) -> Vec<u8> {
    store
        .get(path)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap()
        .to_vec()
}

fn store() -> AmazonS3 {
    let builder = AmazonS3Builder::from_env()
        .with_bucket_name(said("BUCKET"))
        .with_endpoint(said("ENDPOINT"));
    let builder = if said("SCHEME") == "https" {
        let ca = std::fs::read(said("CA")).unwrap();
        let ca = object_store::Certificate::from_pem(&ca).unwrap();
        builder.with_client_options(object_store::ClientOptions::new().with_root_certificate(ca))
    } else {
        builder.with_allow_http(true)
    };
    builder.build().unwrap()
}

pub async fn run() {
    let store = store();

    promise("files come back as they were", async {
        for name in FILES {
            let (path, body) = (Path::from(format!("files/{name}")), data(name));
            store
                .put(&path, PutPayload::from(body.clone()))
                .await
                .unwrap();
            assert!(get(&store, &path).await == body, "{name}");
        }
    })
    .await;
    promise("head and ranges", async {
        let path = Path::from("files/5MiB");
        assert_eq!(store.head(&path).await.unwrap().size, 5 << 20);
        let ranges: [Range<u64>; 2] = [100..200, 4_000_000..4_000_010];
        let parts = store.get_ranges(&path, &ranges).await.unwrap();
        assert!(
            parts[0] == data("5MiB")[100..200] && parts[1] == data("5MiB")[4_000_000..4_000_010]
        );
    })
    .await;
    promise("an upload in parts", async {
        let (path, body) = (Path::from("parts"), data("100MiB"));
        let upload = store.put_multipart(&path).await.unwrap();
        let mut writer = WriteMultipart::new(upload);
        body.chunks(1 << 20).for_each(|piece| writer.write(piece));
        writer.finish().await.unwrap();
        assert!(get(&store, &path).await == body);
    })
    .await;
    promise("listing, with delimiter and offset", async {
        for n in 0..7 {
            let path = Path::from(format!("list/ä {n}+%"));
            store.put(&path, PutPayload::default()).await.unwrap();
        }
        let prefix = Path::from("list");
        let all: Vec<_> = store.list(Some(&prefix)).try_collect().await.unwrap();
        assert_eq!(all.len(), 7);
        let after: Vec<_> = store
            .list_with_offset(Some(&prefix), &all[2].location)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(after.len(), 4);
        let top = store.list_with_delimiter(None).await.unwrap();
        assert_eq!(top.common_prefixes, [Path::from("files"), prefix]);
    })
    .await;
    promise("copy and rename", async {
        let (from, to, end) = (
            Path::from("files/five"),
            Path::from("copy ä"),
            Path::from("moved"),
        );
        store.copy(&from, &to).await.unwrap();
        store.rename(&to, &end).await.unwrap();
        assert_eq!(get(&store, &end).await, data("five"));
        assert!(matches!(store.head(&to).await, Err(Error::NotFound { .. })));
    })
    .await;
    promise("conditional puts decide who writes", async {
        let path = Path::from("once");
        let put =
            |mode| store.put_opts(&path, PutPayload::from_static(b"1"), PutOptions::from(mode));
        let first = put(PutMode::Create).await.unwrap();
        assert!(matches!(
            put(PutMode::Create).await,
            Err(Error::AlreadyExists { .. })
        ));
        let version = UpdateVersion::from(first);
        put(PutMode::Update(version)).await.unwrap();
        let old = UpdateVersion {
            e_tag: Some("\"0\"".to_owned()),
            version: None,
        };
        assert!(matches!(
            put(PutMode::Update(old)).await,
            Err(Error::Precondition { .. })
        ));
    })
    .await;
    promise("presigned URLs work", async {
        let path = Path::from("pre signed");
        let minute = Duration::from_secs(60);
        let url = store
            .signed_url("PUT".parse().unwrap(), &path, minute)
            .await
            .unwrap();
        curl("PUT", url.as_str(), b"by url");
        let url = store
            .signed_url("GET".parse().unwrap(), &path, minute)
            .await
            .unwrap();
        assert_eq!(curl("GET", url.as_str(), b""), b"by url");
    })
    .await;
    promise("delete everything, many at once", async {
        let all = store.list(None).map_ok(|meta| meta.location).boxed();
        let gone: Vec<_> = store.delete_stream(all).try_collect().await.unwrap();
        assert!(gone.len() > 15);
        assert_eq!(store.list(None).count().await, 0);
    })
    .await;
}
