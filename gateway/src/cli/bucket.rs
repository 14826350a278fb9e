//! `minikv bucket`: lists, makes and deletes buckets.

use clap::{Args, Subcommand};
use http::Method;

use super::client::{Call, Client};
use super::exit::Failure;
use super::ls::to_the_second;
use super::output::Output;
use super::target::{Prefer, Target, TargetArgs};
use crate::config::Environment;

/// List, make or delete buckets.
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
