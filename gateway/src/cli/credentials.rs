//! `minikv credentials show`: the root credentials that a server keeps in its data directory.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::config::{Environment, sources};
use crate::serve::credentials;

/// The root credentials of a data directory.
#[derive(Args, Debug)]
pub struct CredentialsArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print access key and secret key
    #[command(
        after_help = "Examples:\n  minikv credentials show\n  minikv credentials show --data-dir /var/lib/minikv --json"
    )]
    Show {
        /// The server's data directory [env: MINIKV_DATA_DIR]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
}

/// Prints them.
pub fn run(args: &CredentialsArgs, output: Output) -> Result<(), Failure> {
    let What::Show { data_dir } = &args.what;
    let data_dir = sources::data_dir(data_dir.as_deref(), &Environment::of_process())?;
    let path = credentials::path(&data_dir);
    let file = credentials::read(&data_dir)
        .map_err(|cause| Failure::io(format!("cannot read {}", path.display()), &cause))?
        .ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("no {}", path.display()))
                .fix("start a server there first, or name another directory: --data-dir DIR")
        })?;
    output.answer(
        || format!("access key  {}\nsecret key  {}\n", file.access_key, file.secret_key.expose()),
        || serde_json::json!({ "access_key": file.access_key, "secret_key": file.secret_key.expose() }),
    )
}
