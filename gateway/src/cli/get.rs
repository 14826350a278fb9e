//! `minikv get`: writes an object to a file or standard output.
//!
//! Always true:
//! * a file appears under its name only when every byte came and its checksum was right (written beside, then renamed);
//! * what failed leaves the old file as it was.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use clap::Args;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use indicatif::ProgressBar;

use super::client::{Call, Client};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::target::{Prefer, Target, TargetArgs, object_name};
use crate::config::Environment;

/// Write an object to a file or standard output.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  minikv get hello                         to standard output
  minikv get photos/2026/a.jpg a.jpg       to a file, which changes only when all of it came
  minikv get kv/log - --range 0-99         the first 100 bytes")]
pub struct GetArgs {
    /// BUCKET/KEY, or a bare KEY in bucket kv
    object: String,
    /// The file; `-` or nothing: standard output
    file: Option<PathBuf>,
    /// Only these bytes: FIRST-LAST, FIRST- or -COUNT
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    range: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
}

/// Fetches it.
pub async fn run(args: GetArgs, output: Output) -> Result<(), Failure> {
    let (bucket, key) = object_name(&args.object)?;
    let file = args.file.as_deref().filter(|path| *path != Path::new("-"));
    if output.json && file.is_none() {
        return Err(
            Failure::new(Exit::Usage, "with --json the object needs a file to go to")
                .fix(format!("minikv get --json {} FILE", args.object)),
        );
    }
    let client = Client::new(Target::find(
        &args.target,
        &Environment::of_process(),
        Prefer::Environment,
    )?)?;
    let mut call = Call::new(Method::GET)
        .bucket(&bucket)
        .key(&key)
        .header("x-amz-checksum-mode", "ENABLED");
    if let Some(range) = &args.range {
        call = call.header("range", format!("bytes={range}"));
    }
    let (parts, body) = client.open(call).await?.into_parts();
    let Some(path) = file else {
        copy(
            &client,
            &parts.headers,
            body,
            &mut std::io::stdout(),
            &ProgressBar::hidden(),
            "standard output",
        )
        .await?;
        return Ok(());
    };
    let length = parts.headers.get(http::header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let bar = output.progress_bar(length.unwrap_or_default());
    let size = into_file(&client, &parts.headers, body, path, &bar).await?;
    bar.finish_and_clear();
    output.answer(
        || format!("{bucket}/{key} -> {}, {size} bytes", path.display()),
        || serde_json::json!({ "bucket": bucket, "key": key, "file": path, "size": size }),
    )
}

async fn into_file(
    client: &Client,
    headers: &HeaderMap,
    body: Incoming,
    path: &Path,
    bar: &ProgressBar,
) -> Result<u64, Failure> {
    // A device or pipe is written to, not replaced.
    if path.exists() && !path.is_file() {
        let cannot = |cause| Failure::io(format!("cannot write {}", path.display()), &cause);
        let mut out = File::options().write(true).open(path).map_err(cannot)?;
        return copy(
            client,
            headers,
            body,
            &mut out,
            bar,
            &path.display().to_string(),
        )
        .await;
    }
    let beside = beside(path);
    let cannot = |cause| Failure::io(format!("cannot write {}", beside.display()), &cause);
    let mut out = File::create_new(&beside).map_err(cannot)?;
    let written = copy(
        client,
        headers,
        body,
        &mut out,
        bar,
        &beside.display().to_string(),
    )
    .await;
    let done = written.and_then(|size| {
        std::fs::rename(&beside, path).map_err(cannot)?;
        Ok(size)
    });
    if done.is_err() {
        // The failure itself is reported; a file left over would only be litter.
        let _ = std::fs::remove_file(&beside);
    }
    done
}

/// Copies the body; an error names `to`. Gives the number of bytes.
async fn copy(
    client: &Client,
    headers: &HeaderMap,
    mut body: Incoming,
    out: &mut impl Write,
    bar: &ProgressBar,
    to: &str,
) -> Result<u64, Failure> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| client.broken(&cause))?;
        if let Some(bytes) = frame.data_ref() {
            digest.update(bytes);
            size += bytes.len() as u64;
            bar.inc(bytes.len() as u64);
            out.write_all(bytes).map_err(|cause| {
                if cause.kind() == std::io::ErrorKind::BrokenPipe {
                    return Failure::new(Exit::Ok, "");
                }
                Failure::io(format!("cannot write to {to}"), &cause)
            })?;
        }
    }
    out.flush()
        .map_err(|cause| Failure::io(format!("cannot write to {to}"), &cause))?;
    // A partial answer carries the whole object's checksum; an upload's may be one of checksums.
    if let (Some(expected), None) = (text("x-amz-checksum-crc64nvme"), text("content-range")) {
        let got = base64::engine::general_purpose::STANDARD.encode(digest.finalize().to_be_bytes());
        if text("x-amz-checksum-type") != Some("COMPOSITE") && got != expected {
            return Err(Failure::new(
                Exit::Failure,
                format!("wrong bytes came: CRC64NVME {got}, not {expected}"),
            ));
        }
    }
    Ok(size)
}

/// `.NAME.PID.part` in the same directory, so that the rename stays within one file system.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.part", std::process::id()))
}
