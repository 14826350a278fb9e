//! `minikv bucket`: lists, makes and deletes buckets, and sets what S3 has no call for.

use clap::{Args, Subcommand};
use http::Method;

use super::client::{Call, Client};
use super::exit::{Exit, Failure};
use super::ls::to_the_second;
use super::output::Output;
use super::target::{Prefer, Target, TargetArgs};
use crate::config::Environment;
use crate::http::buckets::Compression;
use crate::object::compression::Codec;

/// List, make, delete or set up buckets.
#[derive(Args, Debug)]
pub struct BucketArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List all buckets
    #[command(after_help = "Examples:\n  minikv bucket ls")]
    Ls {
        #[command(flatten)]
        target: Box<TargetArgs>,
    },
    /// Make a bucket
    #[command(after_help = "Examples:\n  minikv bucket create photos")]
    Create {
        /// 3 to 63 lower-case letters, digits, dots and hyphens
        name: String,
        #[command(flatten)]
        target: Box<TargetArgs>,
    },
    /// Show or set how new objects of a bucket are compressed
    #[command(
        after_help = "Clients notice nothing: sizes, ETags and ranges are those of the plain bytes. Objects that are there stay as they are.\n\nExamples:\n  minikv bucket compression logs zstd\n  minikv bucket compression logs"
    )]
    Compression {
        /// The bucket
        name: String,
        /// zstd (small), lz4 (fast) or off; shows what it is when left out
        #[arg(value_name = "WORD", value_parser = compression_word)]
        set: Option<String>,
        #[command(flatten)]
        target: Box<TargetArgs>,
    },
    /// Delete an empty bucket
    #[command(after_help = "Examples:\n  minikv bucket delete photos")]
    Delete {
        /// The bucket
        name: String,
        #[command(flatten)]
        target: Box<TargetArgs>,
    },
}

/// Does it.
pub async fn run(args: BucketArgs, output: Output) -> Result<(), Failure> {
    let (method, name, target, done) = match args.what {
        What::Ls { target } => return list(&target, output).await,
        What::Compression { name, set, target } => {
            return compression(&name, set, &target, output).await;
        }
        What::Create { name, target } => (Method::PUT, name, target, "created"),
        What::Delete { name, target } => (Method::DELETE, name, target, "deleted"),
    };
    let client = Client::new(Target::find(
        &target,
        &Environment::of_process(),
        Prefer::Environment,
    )?)?;
    client.send(Call::new(method).bucket(&name)).await?;
    output.answer(
        || format!("{done} {name}"),
        || serde_json::json!({ "bucket": name, "done": done }),
    )
}

async fn list(target: &TargetArgs, output: Output) -> Result<(), Failure> {
    let client = Client::new(Target::find(
        target,
        &Environment::of_process(),
        Prefer::Environment,
    )?)?;
    let answer = client.send_xml(Call::new(Method::GET)).await?;
    for bucket in answer.all("Buckets").flat_map(|list| list.all("Bucket")) {
        let (name, created) = (bucket.text_of("Name"), bucket.text_of("CreationDate"));
        output.answer(
            || format!("{}  {name}", to_the_second(created)),
            || serde_json::json!({ "type": "bucket", "name": name, "created": created }),
        )?;
    }
    Ok(())
}

fn compression_word(text: &str) -> Result<String, String> {
    match text {
        "off" => Ok(text.to_owned()),
        word => word.parse::<Codec>().map(|codec| codec.to_string()),
    }
}

async fn compression(
    name: &str,
    set: Option<String>,
    target: &TargetArgs,
    output: Output,
) -> Result<(), Failure> {
    let target = Target::find(target, &Environment::of_process(), Prefer::Environment)?;
    let client = Client::admin(target)?;
    let path = format!("/admin/v1/buckets/{name}/compression");
    let call = |method| Call::new(method).path(&path).service("minikv");
    let call = match set {
        None => call(Method::GET),
        Some(word) => call(Method::PUT).query("to", &word),
    };
    let (_, answer) = client.send(call).await?;
    let is: Compression = serde_json::from_slice(&answer).map_err(|cause| {
        Failure::new(Exit::Failure, format!("the answer cannot be read: {cause}"))
            .fix("use the minikv of the server's version")
    })?;
    output.answer(
        || is.compression.clone(),
        || serde_json::json!({ "bucket": name, "compression": is.compression }),
    )
}
