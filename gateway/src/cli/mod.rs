//! The command line: one file per subcommand, all alike in flags, output and exit codes.
//!
//! Always true:
//! * `minikv` alone is `minikv server`;
//! * answers go to standard output, words about failures to standard error;
//! * exit codes are those of `exit::Exit`, the same for every command;
//! * `--json` makes both machine-readable.

pub mod client;
pub mod exit;
pub mod output;
pub mod target;

mod bucket;
mod client_config;
mod client_snippets;
mod config;
mod credentials;
mod delete;
mod env;
mod get;
mod health;
mod key;
mod ls;
mod put;
mod recover;
mod server;
mod status;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use exit::{Exit, Failure};
use output::Output;

const EXAMPLES: &str = "\
Examples:
  minikv                                    start a server on ./minikv-data, for this machine only
  eval \"$(minikv env)\" && aws s3 ls         use it with the AWS command line
  minikv put hello.txt ./hello.txt          put a file into bucket kv
  minikv get photos/2026/a.jpg a.jpg        get an object of bucket photos
  minikv client-config rclone               settings for other people's clients

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 denied, 5 precondition, 6 unavailable, 78 bad config";

/// An S3-compatible object store that is durable on every 200.
#[derive(Debug, Parser)]
#[command(name = "minikv", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    server: server::ServerArgs,
    /// Answers and errors as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a server (what `minikv` alone does)
    Server(server::ServerArgs),
    /// Store a file or standard input under BUCKET/KEY or KEY
    Put(put::PutArgs),
    /// Write an object to a file or standard output
    Get(get::GetArgs),
    /// Delete an object
    Delete(delete::DeleteArgs),
    /// List the objects of a bucket
    Ls(ls::LsArgs),
    /// List, make, delete or set up buckets
    Bucket(bucket::BucketArgs),
    /// What the server says of itself
    Status(status::StatusArgs),
    /// Whether the server is ready (for container health checks)
    Health(health::HealthArgs),
    /// Print the environment variables that AWS clients read
    Env(env::EnvArgs),
    /// Print the settings of a client: aws, boto3, rclone, restic, terraform, …
    ClientConfig(client_config::ClientConfigArgs),
    /// The root credentials of a data directory
    Credentials(credentials::CredentialsArgs),
    /// What a damaged group of a stopped server has lost, and going on without it
    Recover(recover::RecoverArgs),
    /// Master keys of server-side encryption
    Key(key::KeyArgs),
    /// The server's settings
    Config(config::ConfigArgs),
}

/// Reads the command line, does what it says, and ends with the right code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(words) => {
            let code = if words.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
            // A closed pipe under `--help | head` is nobody's problem.
            let _ = words.print();
            return code.into();
        }
    };
    let output = Output { json: cli.json };
    let done = match cli.command {
        None => server::run(cli.server, output),
        Some(Command::Server(args)) => server::run(args, output),
        Some(Command::Put(args)) => on_client_runtime(put::run(args, output)),
        Some(Command::Get(args)) => on_client_runtime(get::run(args, output)),
        Some(Command::Delete(args)) => on_client_runtime(delete::run(args, output)),
        Some(Command::Ls(args)) => on_client_runtime(ls::run(args, output)),
        Some(Command::Bucket(args)) => on_client_runtime(bucket::run(args, output)),
        Some(Command::Status(args)) => on_client_runtime(status::run(args, output)),
        Some(Command::Health(args)) => on_client_runtime(health::run(args, output)),
        Some(Command::Env(args)) => env::run(&args, output),
        Some(Command::ClientConfig(args)) => client_config::run(&args, output),
        Some(Command::Credentials(args)) => credentials::run(&args, output),
        Some(Command::Recover(args)) => recover::run(&args, output),
        Some(Command::Key(args)) => key::run(&args, output),
        Some(Command::Config(args)) => config::run(args, output),
    };
    match done {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            if failure.exit != Exit::Ok {
                if output.json {
                    eprintln!("{}", failure.json());
                } else {
                    eprint!("{}", failure.text());
                }
            }
            failure.exit.into()
        }
    }
}

/// The whole command tree, for tests and documentation.
pub fn command() -> clap::Command {
    Cli::command()
}

/// A client does one thing at a time: one thread is enough, and starts faster.
fn on_client_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::io("cannot start", &cause))?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The help texts are part of what users see; a change shows up in review.
    #[test]
    fn help_reads_as_reviewed() {
        let mut root = command().term_width(100);
        root.build();
        let mut text = root.render_long_help().to_string();
        for name in root
            .get_subcommands()
            .map(|c| c.get_name().to_owned())
            .collect::<Vec<_>>()
        {
            let sub = root.find_subcommand_mut(&name).unwrap();
            text.push_str(&format!("\n======== minikv {name}\n{}", sub.render_help()));
        }
        insta::assert_snapshot!(text.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    }

    /// clap's own checks: no flag twice, no short letter for two things.
    #[test]
    fn command_line_is_consistent() {
        command().debug_assert();
    }

    /// `minikv --data-dir x` and `minikv server --data-dir x` are the same.
    #[test]
    fn no_subcommand_is_server() {
        let alone = Cli::try_parse_from(["minikv", "--data-dir", "/x", "--fsync=never"]).unwrap();
        let named =
            Cli::try_parse_from(["minikv", "server", "--data-dir", "/x", "--fsync", "never"])
                .unwrap();
        let Some(Command::Server(args)) = named.command else {
            panic!("not a server")
        };
        assert_eq!(args.given().flags, alone.server.given().flags);
        assert_eq!(
            args.given().flags,
            vec![("data-dir", "/x".to_owned()), ("fsync", "never".to_owned())]
        );
    }
}
