//! `minikv ls`: the objects of a bucket, a page at a time. As with `put` and `get`, a name without a slash is a key of
//! bucket `kv`; a bucket is named with one.

use clap::Args;
use http::Method;

use super::client::xml::{Element, url_decoded};
use super::client::{Call, Client};
use super::exit::Failure;
use super::output::{Output, print};
use super::target::{Prefer, Target, TargetArgs};
use crate::config::Environment;

/// List the objects of a bucket.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  minikv ls                      what lies in bucket kv (`minikv bucket ls` lists the buckets)
  minikv ls photos/              what lies right at the top of bucket photos
  minikv ls photos/2026/         what lies right under a prefix
  minikv ls -r photos/ --json    every object, one JSON object a line")]
pub struct LsArgs {
    /// BUCKET/ or BUCKET/PREFIX; without a slash: a prefix in bucket kv
    path: Option<String>,
    /// Also what lies below the next slash
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    target: TargetArgs,
}

/// Lists.
pub async fn run(args: LsArgs, output: Output) -> Result<(), Failure> {
    let client = Client::new(Target::find(
        &args.target,
        &Environment::of_process(),
        Prefer::Environment,
    )?)?;
    let path = args.path.as_deref().unwrap_or_default();
    let path = path.strip_prefix("s3://").unwrap_or(path);
    let (bucket, prefix) = path.split_once('/').unwrap_or(("kv", path));
    let lines = objects(&client, bucket, prefix, args.recursive, output).await?;
    if lines == 0 && !path.is_empty() && !path.contains('/') {
        eprintln!(
            "nothing in bucket kv begins with `{path}`; a bucket is listed by `minikv ls {path}/`"
        );
    }
    Ok(())
}

async fn objects(
    client: &Client,
    bucket: &str,
    prefix: &str,
    recursive: bool,
    output: Output,
) -> Result<u64, Failure> {
    let mut token = String::new();
    let mut count = 0;
    loop {
        let mut call = Call::new(Method::GET)
            .bucket(bucket)
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("prefix", prefix);
        if !recursive {
            call = call.query("delimiter", "/");
        }
        if !token.is_empty() {
            call = call.query("continuation-token", &token);
        }
        let page = match client.send_xml(call).await {
            // Bucket kv is made by the first put; until then it is empty.
            Err(failure) if bucket == "kv" && failure.code.as_deref() == Some("NoSuchBucket") => {
                return Ok(0);
            }
            page => page?,
        };
        let mut lines = String::new();
        for prefix in page.all("CommonPrefixes") {
            let prefix = url_decoded(prefix.text_of("Prefix"));
            lines.push_str(&if output.json {
                serde_json::json!({ "type": "prefix", "prefix": prefix }).to_string()
            } else {
                format!("{:>19}  {:>12}  {prefix}", "", "PRE")
            });
            lines.push('\n');
        }
        for object in page.all("Contents") {
            lines.push_str(&line(object, output));
            lines.push('\n');
        }
        if !lines.is_empty() {
            count += lines.lines().count() as u64;
            print(&lines)?;
        }
        token = page.text_of("NextContinuationToken").to_owned();
        if page.text_of("IsTruncated") != "true" || token.is_empty() {
            return Ok(count);
        }
    }
}

fn line(object: &Element, output: Output) -> String {
    let key = url_decoded(object.text_of("Key"));
    let (size, modified) = (object.text_of("Size"), object.text_of("LastModified"));
    if output.json {
        let size: u64 = size.parse().unwrap_or_default();
        let etag = object.text_of("ETag").trim_matches('"');
        serde_json::json!({ "type": "object", "key": key, "size": size, "modified": modified, "etag": etag })
            .to_string()
    } else {
        format!("{}  {size:>12}  {key}", to_the_second(modified))
    }
}

/// `2026-11-22T01:53:12.000Z` as people read it.
pub(super) fn to_the_second(stamp: &str) -> String {
    stamp
        .chars()
        .take(19)
        .map(|c| if c == 'T' { ' ' } else { c })
        .collect()
}
