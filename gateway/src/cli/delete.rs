//! `minikv delete`: removes one object. Removing what is not there is fine, as S3 has it.

use clap::Args;
use http::Method;

use super::client::{Call, Client};
use super::exit::Failure;
use super::output::Output;
use super::target::{Prefer, Target, TargetArgs, object_name};
use crate::config::Environment;

/// Delete an object.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  minikv delete photos/2026/a.jpg\n  minikv delete hello")]
pub struct DeleteArgs {
    /// BUCKET/KEY, or a bare KEY in bucket kv
    object: String,
    /// Only if the object has this ETag; otherwise exit with 5
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
}

/// Deletes it.
pub async fn run(args: DeleteArgs, output: Output) -> Result<(), Failure> {
    let (bucket, key) = object_name(&args.object)?;
    let client = Client::new(Target::find(
        &args.target,
        &Environment::of_process(),
        Prefer::Environment,
    )?)?;
    let call = Call::new(Method::DELETE)
        .bucket(&bucket)
        .key(&key)
        .header_if("if-match", args.if_match.as_deref());
    client.send(call).await?;
    output.answer(
        || format!("deleted {bucket}/{key}"),
        || serde_json::json!({ "bucket": bucket, "key": key, "deleted": true }),
    )
}
