//! `minikv config`: the example file, and the settings as the server would read them.

use clap::{Args, Subcommand};

use super::exit::Failure;
use super::output::{Output, print};
use super::server::ServerArgs;
use crate::config::settings::settings;
use crate::config::{Environment, example, load};

/// The server's settings.
#[derive(Args, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print a config file with all settings explained
    #[command(after_help = "Examples:\n  minikv config example > minikv.toml")]
    Example,
    /// Print each setting's value and where it came from
    #[command(after_help = "Examples:\n  minikv config show --config minikv.toml")]
    Show(Box<ServerArgs>),
}

/// Prints them.
pub fn run(args: ConfigArgs, output: Output) -> Result<(), Failure> {
    let server = match args.what {
        What::Example => return print(&example::example()),
        What::Show(server) => server,
    };
    let loaded = load(&server.given(), &Environment::of_process())?;
    let table = toml::Table::try_from(&loaded.config).unwrap_or_default();
    let value_of = |path: &str| {
        let value = match path.split_once('.') {
            Some((section, key)) => table.get(section).and_then(|section| section.get(key)),
            None => table.get(path),
        };
        value.map_or_else(|| "-".to_owned(), ToString::to_string)
    };
    let rows: Vec<(&str, String, String)> = settings()
        .iter()
        .map(|s| (s.path, value_of(s.path), loaded.origin(s.path).to_string()))
        .collect();
    output.answer(
        || rows.iter().map(|(path, value, origin)| format!("{path:<40} {value:<24} {origin}\n")).collect(),
        || {
            rows.iter()
                .map(|(path, value, origin)| serde_json::json!({ "key": path, "value": value, "origin": origin }))
                .collect()
        },
    )
}
