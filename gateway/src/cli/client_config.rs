//! `minikv client-config`: settings of other people's clients, ready to paste.
//!
//! Each snippet works as printed. Why it says more than endpoint and keys stands beside the line.

use clap::{Args, ValueEnum};

use super::client::endpoint::Endpoint;
use super::env::shell_quoted;
use super::exit::Failure;
use super::output::Output;
use super::target::{Prefer, Target, TargetArgs};
use crate::config::Environment;

/// Print the settings of a client.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  minikv client-config rclone >> ~/.config/rclone/rclone.conf\n  minikv client-config mc | sh"
)]
pub struct ClientConfigArgs {
    /// Which client
    #[arg(value_enum)]
    client: Client,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Client {
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
}

/// Prints it.
pub fn run(args: &ClientConfigArgs, output: Output) -> Result<(), Failure> {
    let target = Target::find(
        &args.target,
        &Environment::of_process(),
        Prefer::DataDirectory,
    )?;
    let keys = target.keys()?;
    let text = args
        .client
        .snippet(&target.s3, &keys.access_key, keys.secret_key.expose());
    let name = args
        .client
        .to_possible_value()
        .map(|v| v.get_name().to_owned());
    output.answer(
        || text.clone(),
        || serde_json::json!({ "client": name, "config": text }),
    )
}

impl Client {
    fn snippet(self, endpoint: &Endpoint, access: &str, secret: &str) -> String {
        let authority = endpoint.authority();
        let (shell_access, shell_secret) = (shell_quoted(access), shell_quoted(secret));
        // A JSON string is a Python string.
        let python = |text: &str| serde_json::Value::from(text).to_string();
        let https = endpoint.is_https();
        match self {
            // Without it botocore presigns with the retired SigV2 whenever the region is us-east-1.
            Client::Aws => format!(
                "\
aws configure set aws_access_key_id {shell_access} --profile minikv
aws configure set aws_secret_access_key {shell_secret} --profile minikv
aws configure set region us-east-1 --profile minikv
aws configure set endpoint_url {endpoint} --profile minikv
aws configure set s3.signature_version s3v4 --profile minikv
# then: aws --profile minikv s3 ls        (endpoint_url is read by aws 1.29 and 2.13 or newer)
"
            ),
            Client::Boto3 => format!(
                "\
import boto3
from botocore.config import Config

s3 = boto3.client(
    \"s3\",
    endpoint_url=\"{endpoint}\",
    aws_access_key_id={},
    aws_secret_access_key={},
    region_name=\"us-east-1\",
    config=Config(signature_version=\"s3v4\", s3={{\"addressing_style\": \"path\"}}),
)
print([bucket[\"Name\"] for bucket in s3.list_buckets()[\"Buckets\"]])
",
                python(access),
                python(secret),
            ),
            // `Other` makes rclone work around limits that minikv does not have.
            Client::Rclone => format!(
                "\
[minikv]
type = s3
provider = Minio
endpoint = {endpoint}
access_key_id = {access}
secret_access_key = {secret}
region = us-east-1
"
            ),
            Client::Mc => format!(
                "mc alias set minikv {endpoint} {shell_access} {shell_secret} --api S3v4 --path on\n"
            ),
            // host_bucket without %(bucket)s is how s3cmd is told to use path-style requests.
            Client::S3cmd => format!(
                "\
[default]
access_key = {access}
secret_key = {secret}
host_base = {authority}
host_bucket = {authority}
bucket_location = us-east-1
use_https = {}
signature_v2 = False
",
                if https { "True" } else { "False" }
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What people paste; a change shows up in review.
    #[test]
    fn snippets_read_as_reviewed() {
        let endpoint: Endpoint = "http://127.0.0.1:9000".parse().unwrap();
        let mut text = String::new();
        for client in Client::value_variants() {
            text.push_str(&format!("======== {client:?}\n"));
            text.push_str(&client.snippet(&endpoint, "ACCESSKEY", "SECRETKEY"));
        }
        insta::assert_snapshot!(text);
    }
}
