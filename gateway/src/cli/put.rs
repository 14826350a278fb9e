//! `minikv put`: stores a file or standard input.
//!
//! ```text
//!   up to 64 MiB          one PUT
//!   a larger file         parts of 16 MiB and more, four at a time, straight from the file
//!   standard input        parts as they come; one PUT when it ends early
//! ```
//! Always true:
//! * every byte is covered by a CRC64NVME that the server checks before it stores;
//! * what failed leaves nothing: the upload is aborted.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use futures::stream::{self, StreamExt, TryStreamExt};
use http::Method;
use indicatif::ProgressBar;

use super::client::body::{Content, Progress};
use super::client::xml::escaped;
use super::client::{Call, Client};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::target::{Prefer, Target, TargetArgs, object_name};
use crate::config::Environment;

/// Up to here an object goes in one request.
const ONE_REQUEST: u64 = 64 << 20;
/// Smallest part that we send.
const PART: u64 = 16 << 20;
/// S3's limit.
const MOST_PARTS: u64 = 10_000;
/// Parts under way at a time.
const PARALLEL: usize = 4;
/// Unless the user says otherwise.
const CONTENT_TYPE: &str = "application/octet-stream";

/// Store a file or standard input.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  minikv put photos/2026/a.jpg ./a.jpg
  echo hi | minikv put hello                 into bucket kv, which is made when it is missing
  minikv put --no-overwrite kv/lock - <me    exit code 5 when the key exists")]
pub struct PutArgs {
    /// BUCKET/KEY, or a bare KEY in bucket kv
    object: String,
    /// The file; `-` or nothing: standard input
    file: Option<PathBuf>,
    /// Media type of the object
    #[arg(long, value_name = "TYPE", default_value = CONTENT_TYPE)]
    content_type: String,
    /// Only if the key does not exist; otherwise exit with 5
    #[arg(long, conflicts_with = "if_match")]
    no_overwrite: bool,
    /// Only if the object has this ETag; otherwise exit with 5
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
}

/// An object on its way.
struct Put<'a> {
    client: &'a Client,
    bucket: &'a str,
    key: &'a str,
    args: &'a PutArgs,
    bar: ProgressBar,
}

/// Stores it.
pub async fn run(args: PutArgs, output: Output) -> Result<(), Failure> {
    let (bucket, key) = object_name(&args.object)?;
    let client = Client::new(Target::find(
        &args.target,
        &Environment::of_process(),
        Prefer::Environment,
    )?)?;
    let bar = output.progress_bar(0);
    let put = Put {
        client: &client,
        bucket: &bucket,
        key: &key,
        args: &args,
        bar,
    };

    let file = args
        .file
        .as_deref()
        .filter(|path| *path != std::path::Path::new("-"));
    let (size, etag) = match file {
        Some(path) => {
            let cannot = |cause| Failure::io(format!("cannot read {}", path.display()), &cause);
            let file = File::open(path).map_err(cannot)?;
            let meta = file.metadata().map_err(cannot)?;
            if meta.is_dir() {
                return Err(Failure::new(Exit::Usage, format!("{} is a directory", path.display()))
                    .fix("rclone and `aws s3 cp --recursive` copy directories: minikv client-config rclone"));
            }
            if meta.is_file() {
                put.file(Arc::new(file), meta.len()).await?
            } else {
                put.stream(file).await?
            }
        }
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::new(
                Exit::Usage,
                "nothing to store: standard input is a terminal",
            )
            .fix(format!("minikv put {} FILE", args.object)));
        }
        None => put.stream(std::io::stdin()).await?,
    };
    put.bar.finish_and_clear();
    let etag = etag.trim_matches('"').to_owned();
    output.answer(
        || format!("stored {bucket}/{key}, {size} bytes"),
        || serde_json::json!({ "bucket": bucket, "key": key, "size": size, "etag": etag }),
    )
}

impl Put<'_> {
    async fn file(&self, file: Arc<File>, size: u64) -> Result<(u64, String), Failure> {
        self.bar.set_length(size);
        if size <= ONE_REQUEST {
            let content = Content::Range {
                file,
                offset: 0,
                len: size,
            };
            return Ok((size, self.whole(content).await?));
        }
        let part = size.div_ceil(MOST_PARTS).max(PART);
        let parts = (0..size.div_ceil(part)).map(move |at| {
            let offset = at * part;
            Ok(Content::Range {
                file: file.clone(),
                offset,
                len: part.min(size - offset),
            })
        });
        Ok((size, self.in_parts(stream::iter(parts), PARALLEL).await?))
    }

    /// A source of unknown length. Parts grow, so that 10,000 of them suffice for 5 TiB.
    async fn stream(&self, source: impl Read + Send + 'static) -> Result<(u64, String), Failure> {
        let (source, first) = next_part(source, PART).await?;
        if (first.len() as u64) < PART {
            let size = first.len() as u64;
            return Ok((size, self.whole(Content::Bytes(first)).await?));
        }
        let total = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counted = total.clone();
        let rest = stream::try_unfold(
            (Some(source), Some(first), 0u64),
            move |(source, ready, number)| {
                let counted = counted.clone();
                async move {
                    let want = PART << (number / 1000).min(6);
                    let (source, part) = match (ready, source) {
                        (Some(first), source) => (source, first),
                        (None, Some(source)) => {
                            let (source, part) = next_part(source, want).await?;
                            (Some(source), part)
                        }
                        (None, None) => return Ok(None),
                    };
                    if part.is_empty() {
                        return Ok(None);
                    }
                    counted.fetch_add(part.len() as u64, std::sync::atomic::Ordering::Relaxed);
                    let source = if (part.len() as u64) < want {
                        None
                    } else {
                        source
                    };
                    Ok(Some((Content::Bytes(part), (source, None, number + 1))))
                }
            },
        );
        // Parts of a stream are held in memory, so only two at a time.
        let etag = self.in_parts(rest, 2).await?;
        Ok((total.load(std::sync::atomic::Ordering::Relaxed), etag))
    }

    async fn whole(&self, content: Content) -> Result<String, Failure> {
        let call = self
            .call(Method::PUT)
            .header("x-amz-checksum-crc64nvme", checksum(&content).await?)
            .header("content-type", self.args.content_type.as_str())
            .content(content, Some(self.progress()));
        let (headers, _) = self.with_bucket(self.conditions(call)).await?;
        Ok(etag_of(&headers))
    }

    async fn in_parts(
        &self,
        parts: impl stream::Stream<Item = Result<Content, Failure>>,
        parallel: usize,
    ) -> Result<String, Failure> {
        let create = self
            .call(Method::POST)
            .query("uploads", "")
            .header("x-amz-checksum-algorithm", "CRC64NVME")
            .header("content-type", self.args.content_type.as_str());
        let (_, answer) = self.with_bucket(create).await?;
        let answer = std::str::from_utf8(&answer)
            .ok()
            .and_then(super::client::xml::Element::parse);
        let id = answer
            .map(|answer| answer.text_of("UploadId").to_owned())
            .unwrap_or_default();
        if id.is_empty() {
            return Err(Failure::new(Exit::Failure, "the server gave no upload id"));
        }
        let done = self.send_parts(&id, parts, parallel).await;
        if done.is_err() {
            // What failed already has the user's attention; the server gives old uploads up by itself.
            let _ = self
                .client
                .send(self.call(Method::DELETE).query("uploadId", &id))
                .await;
        }
        done
    }

    async fn send_parts(
        &self,
        id: &str,
        parts: impl stream::Stream<Item = Result<Content, Failure>>,
        parallel: usize,
    ) -> Result<String, Failure> {
        let sending = parts.enumerate().map(|(at, content)| async move {
            let (number, content) = (at + 1, content?);
            let sum = checksum(&content).await?;
            let call = self
                .call(Method::PUT)
                .query("partNumber", &number.to_string())
                .query("uploadId", id)
                .header("x-amz-checksum-crc64nvme", sum.clone())
                .content(content, Some(self.progress()));
            let (headers, _) = self.client.send(call).await?;
            Ok::<_, Failure>((number, etag_of(&headers), sum))
        });
        let sent: Vec<_> = sending.buffered(parallel).try_collect().await?;
        let mut list = "<CompleteMultipartUpload>".to_owned();
        for (number, etag, sum) in sent {
            list.push_str(&format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag><ChecksumCRC64NVME>{sum}</ChecksumCRC64NVME></Part>",
                escaped(&etag)
            ));
        }
        list.push_str("</CompleteMultipartUpload>");
        let complete = self
            .call(Method::POST)
            .query("uploadId", id)
            .header("content-type", "application/xml")
            .content(Content::Bytes(Bytes::from(list)), None);
        let answer = self.client.send_xml(self.conditions(complete)).await?;
        // S3 may say 200 first and the error after it.
        match answer.text_of("ETag") {
            "" => Err(Failure::new(
                Exit::Failure,
                format!("the upload failed: {}", answer.text_of("Message")),
            )),
            etag => Ok(etag.to_owned()),
        }
    }

    fn call(&self, method: Method) -> Call {
        Call::new(method).bucket(self.bucket).key(self.key)
    }

    fn conditions(&self, call: Call) -> Call {
        call.header_if("if-none-match", self.args.no_overwrite.then_some("*"))
            .header_if("if-match", self.args.if_match.as_deref())
    }

    fn progress(&self) -> Progress {
        let bar = self.bar.clone();
        Arc::new(move |bytes| bar.inc(bytes))
    }

    /// Sends; when the bucket is missing, makes it if it is the one for bare keys, else says how to make it.
    async fn with_bucket(&self, call: Call) -> Result<(http::HeaderMap, Bytes), Failure> {
        match self.client.send(call.clone()).await {
            Err(failure) if failure.code.as_deref() == Some("NoSuchBucket") => {
                if self.bucket != "kv" {
                    return Err(failure.fix(format!("minikv bucket create {}", self.bucket)));
                }
                match self.client.send(Call::new(Method::PUT).bucket("kv")).await {
                    // Somebody else made it meanwhile: as good.
                    Err(failure) if failure.exit != Exit::Precondition => Err(failure),
                    _ => self.client.send(call).await,
                }
            }
            done => done,
        }
    }
}

/// Reads up to `want` bytes; fewer only at the end.
async fn next_part<R: Read + Send + 'static>(
    mut source: R,
    want: u64,
) -> Result<(R, Bytes), Failure> {
    let read = tokio::task::spawn_blocking(move || {
        let mut part = Vec::new();
        source
            .by_ref()
            .take(want)
            .read_to_end(&mut part)
            .map(|_| (source, Bytes::from(part)))
    });
    match read.await {
        Ok(Ok(part)) => Ok(part),
        Ok(Err(cause)) => Err(Failure::io("cannot read the input", &cause)),
        Err(gone) => Err(Failure::new(
            Exit::Failure,
            format!("cannot read the input: {gone}"),
        )),
    }
}

async fn checksum(content: &Content) -> Result<String, Failure> {
    content
        .crc64nvme()
        .await
        .map_err(|cause| Failure::io("cannot read the input", &cause))
}

fn etag_of(headers: &http::HeaderMap) -> String {
    headers
        .get(http::header::ETAG)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}
