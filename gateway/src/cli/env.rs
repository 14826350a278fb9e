//! `minikv env`: the variables that AWS clients read, for `eval "$(minikv env)"`.

use clap::{Args, ValueEnum};

use super::client::REGION;
use super::exit::Failure;
use super::output::Output;
use super::target::{Prefer, Target, TargetArgs};
use crate::config::Environment;

/// Print the environment variables that AWS clients read.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  eval \"$(minikv env)\"\n  minikv env --shell fish | source")]
pub struct EnvArgs {
    /// Shell to write for
    #[arg(long, value_enum, default_value = "bash")]
    shell: Shell,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    /// Also sh and zsh
    Bash,
    Fish,
    Pwsh,
}

/// Prints them.
pub fn run(args: &EnvArgs, output: Output) -> Result<(), Failure> {
    let target = Target::find(
        &args.target,
        &Environment::of_process(),
        Prefer::DataDirectory,
    )?;
    let variables = variables(&target)?;
    output.answer(
        || {
            variables
                .iter()
                .map(|(name, value)| args.shell.line(name, value))
                .collect()
        },
        || {
            variables
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect::<serde_json::Value>()
        },
    )
}

/// Name and value.
pub fn variables(target: &Target) -> Result<Vec<(&'static str, String)>, Failure> {
    let keys = target.keys()?;
    let mut variables = vec![
        ("AWS_ENDPOINT_URL_S3", target.s3.to_string()),
        ("AWS_ACCESS_KEY_ID", keys.access_key.clone()),
        ("AWS_SECRET_ACCESS_KEY", keys.secret_key.expose().to_owned()),
        ("AWS_REGION", REGION.to_owned()),
    ];
    if let Some(ca) = target.ca_for_clients() {
        variables.push(("AWS_CA_BUNDLE", ca));
    }
    Ok(variables)
}

impl Shell {
    fn line(self, name: &str, value: &str) -> String {
        match self {
            Shell::Bash => format!("export {name}={}\n", shell_quoted(value)),
            Shell::Fish => format!(
                "set -gx {name} '{}'\n",
                value.replace('\\', r"\\").replace('\'', r"\'")
            ),
            Shell::Pwsh => format!("$Env:{name} = '{}'\n", value.replace('\'', "''")),
        }
    }
}

/// As one word for sh, bash and zsh; in quotes only where it needs them.
pub fn shell_quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A secret with signs the shell knows comes out as it went in.
    #[test]
    fn values_survive_their_shell() {
        assert_eq!(Shell::Bash.line("A", "plain-1"), "export A=plain-1\n");
        assert_eq!(
            Shell::Bash.line("A", "it's $HOME"),
            "export A='it'\\''s $HOME'\n"
        );
        assert_eq!(Shell::Fish.line("A", "a'b\\c"), "set -gx A 'a\\'b\\\\c'\n");
        assert_eq!(Shell::Pwsh.line("A", "a'b"), "$Env:A = 'a''b'\n");
    }
}
