//! Rust's S3 clients against minikv: `minikv-compat aws-sdk-rust|object_store|opendal`.
//!
//! One promise a line: its name is printed with the outcome and kept in `$RESULTS`, as `check.sh` does.

mod aws_sdk;
mod object_store;
mod opendal;

use std::io::Write;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;

/// What `run.sh` says.
pub fn said(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by run.sh"))
}

/// A file of the test data.
pub fn data(name: &str) -> Vec<u8> {
    std::fs::read(std::path::Path::new(&said("DATA")).join(name)).unwrap()
}

/// Files of all the sizes that are stored in another way each.
pub const FILES: [&str; 6] = ["empty", "five", "inline-64k", "over-64k", "5MiB", "100MiB"];

/// What a URL gives, to a client that knows nothing else.
pub fn curl(method: &str, url: &str, body: &[u8]) -> Vec<u8> {
    let mut command = std::process::Command::new("curl");
    command.args(["-sf", "-X", method, url]);
    if method == "PUT" {
        command.args(["--data-binary", "@-"]);
    }
    command.stdin(std::process::Stdio::piped());
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "curl {method} {url}: {output:?}");
    output.stdout
}

/// Keeps one promise, or says that it was broken.
pub async fn promise(name: &str, keep: impl Future<Output = ()>) {
    let kept = AssertUnwindSafe(keep).catch_unwind().await;
    let reason = kept.err().map(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        text.unwrap_or_default().replace(['\n', '\t'], " ")
    });
    let (client, scheme) = (said("CLIENT"), said("SCHEME"));
    let outcome = if reason.is_none() { "ok" } else { "FAIL" };
    let reason: String = reason.unwrap_or_default().chars().take(300).collect();
    println!("  {outcome:<5} {client}/{scheme} {name} {reason}");
    let results = std::fs::OpenOptions::new()
        .append(true)
        .open(said("RESULTS"));
    writeln!(
        results.unwrap(),
        "{client}\t{scheme}\t{name}\t{outcome}\t{reason}"
    )
    .unwrap();
}

/// For clients that make no buckets.
async fn in_a_bucket(run: impl Future<Output = ()>) {
    let s3 = aws_sdk::client().await;
    let bucket = said("BUCKET");
    s3.create_bucket().bucket(&bucket).send().await.unwrap();
    run.await;
    promise("nothing is left in the bucket", async {
        s3.delete_bucket().bucket(&bucket).send().await.unwrap();
    })
    .await;
}

#[tokio::main]
async fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    match std::env::args().nth(1).as_deref() {
        Some("aws-sdk-rust") => aws_sdk::run().await,
        Some("object_store") => in_a_bucket(object_store::run()).await,
        Some("opendal") => in_a_bucket(opendal::run()).await,
        other => {
            eprintln!("no such client: {other:?}");
            std::process::exit(2);
        }
    }
}
