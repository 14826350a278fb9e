//! `minikv key`: the master keys of server-side encryption.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::config::{Environment, sources};
use crate::object::encryption::ring::{KeyRing, NamedKey, RingError};
use crate::serve::keyring::{self, FIRST_KEY, KeyringError, new_key};

/// Master keys of server-side encryption.
#[derive(Args, Debug)]
pub struct KeyArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the keys by name, and which version of each wraps now; never the keys themselves
    #[command(
        after_help = "Examples:\n  minikv key list\n  minikv key list --data-dir /var/lib/minikv --json"
    )]
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Add a key, for SSE-KMS with this key id; the first one of a new ring guards SSE-S3, too
    #[command(
        after_help = "Examples:\n  minikv key add payroll\n  minikv key add main --keyring /etc/minikv/keyring.toml"
    )]
    Add {
        /// Its name: letters, digits, `-`, `_`, `.`
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Add a new version of a key: it guards what is written from now on, the older ones still open what they guard
    #[command(
        after_help = "Examples:\n  minikv key rotate\n  minikv key rotate payroll\n\nA running server takes the change over within two seconds. An object goes over to the new version\nwhen it is copied onto itself: aws s3 cp s3://b/k s3://b/k --sse AES256 (no byte of it moves)."
    )]
    Rotate {
        /// Which key; without a name the one that guards SSE-S3
        name: Option<String>,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
struct Place {
    /// The server's data directory [env: MINIKV_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The key ring, where it does not lie in the data directory [env: MINIKV_KEYRING]
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
}

impl Place {
    fn path(&self) -> Result<PathBuf, Failure> {
        let environment = Environment::of_process();
        if let Some(named) = &self.keyring {
            return Ok(named.clone());
        }
        if let Some(named) = environment.get("MINIKV_KEYRING") {
            return Ok(named.into());
        }
        let data_dir = sources::data_dir(self.data_dir.as_deref(), &environment)?;
        Ok(keyring::path(&data_dir, None))
    }
}

/// Shows or changes the ring.
pub fn run(args: &KeyArgs, output: Output) -> Result<(), Failure> {
    let ring = match &args.what {
        What::List { place } => {
            let path = place.path()?;
            keyring::read(&path).map_err(failed)?.ok_or_else(|| {
                Failure::new(Exit::NotFound, format!("no key ring {}", path.display()))
                    .fix("start a server there first, or name another one: --data-dir DIR, --keyring FILE")
            })?
        }
        What::Add { name, place } => keyring::change(&place.path()?, |ring| match ring {
            None => KeyRing::new(name, new_key()),
            Some(mut ring) => ring.add(name, new_key()).map(|()| ring),
        })
        .map_err(failed)?,
        What::Rotate { name, place } => keyring::change(&place.path()?, |ring| {
            let absent = || RingError::Absent(name.clone().unwrap_or(FIRST_KEY.to_owned()));
            let mut ring = ring.ok_or_else(absent)?;
            let name = name.clone().unwrap_or(ring.current_name().to_owned());
            ring.rotate(&name, new_key()).map(|()| ring)
        })
        .map_err(failed)?,
    };
    output.answer(|| text(&ring), || json(&ring))
}

fn text(ring: &KeyRing) -> String {
    let line = |key: &NamedKey| {
        let current = if key.name == ring.current_name() {
            "  (guards SSE-S3)"
        } else {
            ""
        };
        let versions = key.ids().count();
        format!(
            "{:<24}  version {versions}  {}{current}\n",
            key.name,
            key.newest().id()
        )
    };
    ring.keys().iter().map(line).collect()
}

fn json(ring: &KeyRing) -> serde_json::Value {
    let key = |key: &NamedKey| {
        let versions: Vec<_> = key.ids().map(|id| id.to_string()).collect();
        serde_json::json!({ "name": key.name, "versions": versions })
    };
    let keys: Vec<_> = ring.keys().iter().map(key).collect();
    serde_json::json!({ "current": ring.current_name(), "keys": keys })
}

fn failed(error: KeyringError) -> Failure {
    let exit = match &error {
        KeyringError::Bad {
            cause: RingError::Absent(_),
            ..
        }
        | KeyringError::Missing(_) => Exit::NotFound,
        KeyringError::Bad {
            cause: RingError::Name(_),
            ..
        } => Exit::Usage,
        _ => Exit::Failure,
    };
    Failure::new(exit, error.to_string())
}
