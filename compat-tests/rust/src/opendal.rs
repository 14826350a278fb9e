//! OpenDAL's S3 service.

use std::time::Duration;

use futures::TryStreamExt;
use opendal::{ErrorKind, Operator, services};

use crate::{FILES, curl, data, promise, said};

async fn get(store: &Operator, path: &str) -> Vec<u8> {
    store.read(path).await.unwrap().to_vec()
}

pub async fn run() {
    let builder = services::S3::default()
        .bucket(&said("BUCKET"))
        .endpoint(&said("ENDPOINT"))
        .region("us-east-1");
    let store = Operator::new(builder).unwrap();

    promise("files come back as they were", async {
        store.check().await.unwrap();
        for name in FILES {
            let (path, body) = (format!("files/{name}"), data(name));
            store.write(&path, body.clone()).await.unwrap();
            assert!(get(&store, &path).await == body, "{name}");
        }
    })
    .await;
    promise("stat and range", async {
        let meta = store.stat("files/5MiB").await.unwrap();
        assert_eq!(meta.content_length(), 5 << 20);
        let part = store.read_with("files/5MiB").range(100..200).await.unwrap();
        assert!(part.to_vec() == data("5MiB")[100..200]);
    })
    .await;
    promise("an upload in parts", async {
        let body = data("100MiB");
        let mut writer = store
            .writer_with("parts")
            .chunk(8 << 20)
            .concurrent(4)
            .await
            .unwrap();
        for piece in body.chunks(3 << 20) {
            writer.write(piece.to_vec()).await.unwrap();
        }
        writer.close().await.unwrap();
        assert!(get(&store, "parts").await == body);
    })
    .await;
    promise("an upload that is given up leaves nothing", async {
        let mut writer = store.writer_with("given-up").chunk(8 << 20).await.unwrap();
        writer.write(vec![1; 20 << 20]).await.unwrap();
        writer.abort().await.unwrap();
        assert!(!store.exists("given-up").await.unwrap());
    })
    .await;
    promise("listing pages, flat and as directories", async {
        for n in 0..7 {
            store
                .write(&format!("list/sub/ä {n}+%"), "x")
                .await
                .unwrap();
        }
        let lister = store
            .lister_with("list/")
            .recursive(true)
            .limit(3)
            .await
            .unwrap();
        let all: Vec<_> = lister.try_collect().await.unwrap();
        assert_eq!(
            all.iter()
                .filter(|entry| entry.metadata().is_file())
                .count(),
            7
        );
        let top = store.list("list/").await.unwrap();
        assert!(top.iter().any(|entry| entry.path() == "list/sub/"));
    })
    .await;
    promise("copy", async {
        store.copy("files/five", "copy ä").await.unwrap();
        assert_eq!(get(&store, "copy ä").await, data("five"));
    })
    .await;
    promise("metadata comes back", async {
        let metadata = [("colour".to_owned(), "blue".to_owned())];
        let write = store.write_with("meta", "x").user_metadata(metadata);
        write
            .content_type("text/x-test")
            .cache_control("no-cache")
            .await
            .unwrap();
        let meta = store.stat("meta").await.unwrap();
        assert_eq!(meta.content_type(), Some("text/x-test"));
        assert_eq!(meta.user_metadata().unwrap().get("colour"), Some("blue"));
    })
    .await;
    promise("conditional writes decide who writes", async {
        let first = store
            .write_with("once", "1")
            .if_not_exists(true)
            .await
            .unwrap();
        let second = store
            .write_with("once", "2")
            .if_not_exists(true)
            .await
            .unwrap_err();
        assert_eq!(second.kind(), ErrorKind::ConditionNotMatch);
        store
            .write_with("once", "3")
            .if_match(first.etag().unwrap())
            .await
            .unwrap();
        let other = store
            .write_with("once", "4")
            .if_match("\"0\"")
            .await
            .unwrap_err();
        assert_eq!(other.kind(), ErrorKind::ConditionNotMatch);
    })
    .await;
    promise("presigned URLs work", async {
        let minute = Duration::from_secs(60);
        let url = store.presign_write("pre signed", minute).await.unwrap();
        curl("PUT", &url.uri().to_string(), b"by url");
        let url = store.presign_read("pre signed", minute).await.unwrap();
        assert_eq!(curl("GET", &url.uri().to_string(), b""), b"by url");
    })
    .await;
    promise("a path that is not there is NotFound", async {
        assert_eq!(
            store.read("none").await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
    })
    .await;
    promise("delete everything, many at once", async {
        let all = store.lister_with("/").recursive(true).await.unwrap();
        store.delete_try_stream(all).await.unwrap();
        assert!(store.list("/").await.unwrap().is_empty());
    })
    .await;
}
