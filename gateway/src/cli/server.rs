//! `minikv server`: every setting of the config file's first level is a flag here.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::exit::{Exit, Failure, chain};
use super::output::Output;
use crate::config::settings::{Setting, settings};
use crate::config::sources::Given;
use crate::config::{Environment, load};
use crate::serve;

const EXAMPLES: &str = "\
Examples:
  minikv                                            on ./minikv-data, for this machine only
  minikv server --data-dir /srv/minikv --s3-addr :9000
  minikv server --config minikv.toml
  minikv server --tls auto
  MINIKV_ROOT_SECRET_KEY_FILE=/run/secrets/root MINIKV_ROOT_ACCESS_KEY=root minikv server

A flag beats its variable, a variable beats the config file. Every variable may also be given as NAME_FILE.
`minikv config example` explains all settings.";

/// Start a server.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = EXAMPLES)]
pub struct ServerArgs {
    /// Config file (TOML) [env: MINIKV_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingFlags,
}

impl ServerArgs {
    /// What the user typed.
    pub fn given(&self) -> Given {
        Given {
            config: self.config.clone(),
            flags: self.settings.0.clone(),
        }
    }
}

/// Flags made from the settings, so that name, help and default are written once.
#[derive(Clone, Debug, Default)]
struct SettingFlags(Vec<(&'static str, String)>);

fn flags() -> impl Iterator<Item = &'static Setting> {
    settings().iter().filter(|setting| setting.is_flag())
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        flags().fold(command, |command, setting| {
            let default = match &setting.default {
                Some(toml::Value::String(text)) => format!(" [default: {text}]"),
                Some(toml::Value::Array(words)) => {
                    let words: Vec<&str> = words.iter().filter_map(toml::Value::as_str).collect();
                    format!(" [default: {}]", words.join(","))
                }
                Some(value) => format!(" [default: {value}]"),
                None => String::new(),
            };
            let help = format!(
                "{}{default} [env: {}]",
                setting.summary(),
                setting.variables().join(", ")
            );
            let mut arg = Arg::new(setting.path)
                .long(setting.path)
                .help(help)
                .action(ArgAction::Set)
                .value_parser(value_parser!(String));
            // `--demo` alone means yes.
            arg = if matches!(setting.default, Some(toml::Value::Boolean(_))) {
                arg.num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .value_name("true|false")
            } else {
                arg.value_name(value_name(setting.path))
            };
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = flags().filter_map(|setting| {
            let value = matches.get_one::<String>(setting.path)?;
            Some((setting.path, value.clone()))
        });
        Ok(SettingFlags(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn value_name(path: &str) -> &'static str {
    match path {
        "data-dir" => "DIR",
        "keyring" => "FILE",
        path if path.ends_with("-addr") => "ADDR",
        "tls-cert" | "tls-key" => "FILE",
        path if path.ends_with("-key") => "KEY",
        "domains" => "NAME,...",
        path if path.ends_with("-ms") => "MILLISECONDS",
        _ => "WORD",
    }
}

/// Runs until told to stop.
pub fn run(args: ServerArgs, output: Output) -> Result<(), Failure> {
    let loaded = load(&args.given(), &Environment::of_process())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::io("cannot start", &cause))?;
    let served = runtime.block_on(serve::run(loaded, output.json));
    // What still hangs after the drain (a stuck disk) must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    served.map_err(|error| {
        let exit = match &error {
            serve::ServeError::Config(_) | serve::ServeError::Tls(_) => Exit::Config,
            _ => Exit::Failure,
        };
        Failure::new(exit, chain(&error))
    })
}
