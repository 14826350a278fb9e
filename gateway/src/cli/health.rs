//! `minikv health`: asks `/readyz`; made for `HEALTHCHECK ["/minikv", "health"]`, so it needs no keys.

use std::time::Duration;

use clap::Args;
use http::{Method, StatusCode};

use super::client::{Call, Client};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::target::{Prefer, Target, TargetArgs};
use crate::config::Environment;

/// Whether the server is ready.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  minikv health && echo ready\n  minikv health --http-endpoint http://10.0.0.5:9001"
)]
pub struct HealthArgs {
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    timeout: u64,
    #[command(flatten)]
    target: TargetArgs,
}

/// Exit code 0 when ready, 6 when not.
pub async fn run(args: HealthArgs, output: Output) -> Result<(), Failure> {
    let target = Target::find(
        &args.target,
        &Environment::of_process(),
        Prefer::Environment,
    )?;
    let call = Call::new(Method::GET).path("/readyz").query("verbose", "");
    let client = Client::unsigned(target);
    let asked = client.try_once(&call);
    let (status, text) = tokio::time::timeout(Duration::from_secs(args.timeout), asked)
        .await
        .map_err(|_| {
            Failure::new(
                Exit::Unavailable,
                format!("no answer within {} s", args.timeout),
            )
        })??;
    let text = String::from_utf8_lossy(&text).into_owned();
    if status == StatusCode::OK {
        output.answer(
            || text.clone(),
            || serde_json::json!({ "ready": true, "checks": text }),
        )
    } else {
        Err(Failure::new(
            Exit::Unavailable,
            format!("not ready ({status})\n{text}"),
        ))
    }
}
