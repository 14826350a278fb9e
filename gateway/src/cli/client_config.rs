//! `minikv client-config`: settings of other people's clients, ready to paste. The words are in `client_snippets`.

use clap::{Args, ValueEnum};

use super::client_snippets::{Access, snippet};
use super::exit::Failure;
use super::output::Output;
use super::target::{Prefer, Target, TargetArgs};
use crate::config::Environment;

/// Print the settings of a client.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  minikv client-config rclone >> ~/.config/rclone/rclone.conf\n  minikv client-config mc | sh\n  eval \"$(minikv client-config restic)\" && restic init"
)]
pub struct ClientConfigArgs {
    /// Which client
    #[arg(value_enum)]
    client: Client,
    #[command(flatten)]
    target: TargetArgs,
}

/// Whom we know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Client {
    /// AWS command line: commands that make a profile `minikv`
    Aws,
    /// Python
    Boto3,
    /// A section of rclone.conf
    Rclone,
    /// MinIO client: the command that makes an alias `minikv`
    Mc,
    /// A whole ~/.s3cfg
    S3cmd,
    /// Variables of a shell
    S5cmd,
    /// Variables of a shell, with a repository in bucket `restic`
    Restic,
    /// SQL
    Duckdb,
    /// Python
    Pyarrow,
    /// Lines of spark-defaults.conf (Hadoop S3A)
    Spark,
    /// Python (deltalake)
    Delta,
    /// A provider, and a backend for the state
    Terraform,
    /// litestream.yml
    Litestream,
    /// A part of loki.yaml
    Loki,
    /// The command that installs it
    Velero,
}

/// Prints it.
pub fn run(args: &ClientConfigArgs, output: Output) -> Result<(), Failure> {
    let target = Target::find(
        &args.target,
        &Environment::of_process(),
        Prefer::DataDirectory,
    )?;
    let keys = target.keys()?;
    let text = snippet(
        args.client,
        &Access {
            endpoint: &target.s3,
            access: &keys.access_key,
            secret: keys.secret_key.expose(),
            ca: target.ca_for_clients().as_deref(),
        },
    );
    let name = args
        .client
        .to_possible_value()
        .map(|v| v.get_name().to_owned());
    output.answer(
        || text.clone(),
        || serde_json::json!({ "client": name, "config": text }),
    )
}
