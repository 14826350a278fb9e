//! A real process, killed while lifecycle rules are carried out: what has come of age goes once, everything else stays.

#![allow(
    clippy::disallowed_methods,
    reason = "real processes, real files, real time"
)]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::Method;
use minikv_tests::s3::{S3, elements};
use minikv_tests::server::{self, Setup};

/// More than go between two kills.
const OLD: usize = 600;
const KEPT: usize = 100;

const RULES: &str = "<LifecycleConfiguration><Rule><ID>old</ID><Filter><Prefix>old/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>";

fn content(key: &str) -> Bytes {
    Bytes::from(format!("content of {key}"))
}

async fn fill(s3: &S3, bucket: &str) {
    let keys = (0..OLD).map(|n| format!("old/{n:04}"));
    let kept = (0..KEPT).map(|n| format!("kept/{n}"));
    let keys: Vec<String> = keys.chain(kept).collect();
    for some in keys.chunks(64) {
        let puts = some.iter().map(|key| s3.put(bucket, key, content(key)));
        for answer in join_all(puts).await {
            assert!(answer.ok().is_some(), "{}", answer.tell());
        }
    }
}

async fn ask(s3: &S3, method: Method, path: &str, body: &'static str) -> Bytes {
    let answer = s3
        .send(method, path, Bytes::from_static(body.as_bytes()))
        .await;
    match answer.ok() {
        Some(reply) => reply.body.clone(),
        None => panic!("{path}: {}", answer.tell()),
    }
}

async fn old_ones(s3: &S3, bucket: &str) -> usize {
    let keys = s3.list(bucket).await.unwrap();
    keys.iter().filter(|key| key.starts_with("old/")).count()
}

/// Delete markers of a versioned bucket, and versions, below `old/`.
async fn markers_and_versions(s3: &S3, bucket: &str) -> (usize, usize) {
    let (mut markers, mut versions) = (0, 0);
    // A hundred keys at a time: no page is then full.
    for hundred in 0..OLD / 100 {
        let path = format!("/{bucket}?versions&prefix=old/{hundred:02}");
        let page = ask(s3, Method::GET, &path, "").await;
        let text = String::from_utf8_lossy(&page);
        assert_eq!(elements(&page, "IsTruncated"), ["false"]);
        markers += text.matches("<DeleteMarker>").count();
        versions += text.matches("<Version>").count();
    }
    (markers, versions)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_while_objects_expire_deletes_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        binary: server::binary(env!("CARGO_BIN_EXE_minikv")),
        data_dir: dir.path().join("data"),
        settings: vec![("MINIKV_STORE_LIFECYCLE_DAY_SECONDS".into(), "1".into())],
    };
    let mut running = setup.start().await.unwrap();
    let s3 = running.s3();
    for bucket in ["plain", "versioned"] {
        assert!(s3.create_bucket(bucket).await.ok().is_some());
    }
    let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    ask(&s3, Method::PUT, "/versioned?versioning", enabled).await;
    for bucket in ["plain", "versioned"] {
        fill(&s3, bucket).await;
    }
    for bucket in ["plain", "versioned"] {
        ask(&s3, Method::PUT, &format!("/{bucket}?lifecycle"), RULES).await;
    }
    let (mut rounds, mut in_the_midst) = (0, 0);
    loop {
        tokio::time::sleep(Duration::from_millis(250 + 137 * rounds % 400)).await;
        let left =
            old_ones(&running.s3(), "plain").await + old_ones(&running.s3(), "versioned").await;
        running.kill();
        running = setup.start().await.unwrap();
        if left == 0 {
            break;
        }
        in_the_midst += u32::from(left < 2 * OLD);
        rounds += 1;
        assert!(rounds < 100, "{left} objects never go");
    }
    assert!(in_the_midst > 0, "no kill came while objects went");
    println!("{rounds} kills, {in_the_midst} of them while objects went");

    let s3 = running.s3();
    for bucket in ["plain", "versioned"] {
        let keys = s3.list(bucket).await.unwrap();
        assert_eq!(keys.len(), KEPT, "{bucket}");
        for key in keys {
            let answer = s3.get(bucket, &key).await;
            assert_eq!(answer.ok().unwrap().body, content(&key));
        }
    }
    // Each key has one marker over its one version.
    assert_eq!(markers_and_versions(&s3, "versioned").await, (OLD, OLD));
    let status = running.status().unwrap();
    assert_eq!(status["damage"], serde_json::json!([]));
    running.kill();
}
