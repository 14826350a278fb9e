//! How a command ends: the exit code scripts can rely on, and words for people.
//!
//! Always true: every failure says what happened; when a command can fix it, that command stands below it.

use std::process::ExitCode;

/// Exit codes (also in `minikv --help`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Something went wrong.
    Failure = 1,
    /// The command line makes no sense (clap's own code).
    Usage = 2,
    /// No such bucket, key or file.
    NotFound = 3,
    /// Wrong or missing credentials.
    Denied = 4,
    /// A condition did not hold.
    Precondition = 5,
    /// Nobody answers, or not now.
    Unavailable = 6,
    /// The configuration is refused (EX_CONFIG of sysexits).
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Exit code.
    pub exit: Exit,
    /// What happened.
    pub what: String,
    /// What to do about it; often a command.
    pub fix: Option<String>,
    /// S3 error code, when the server gave one.
    pub code: Option<String>,
}

impl Failure {
    /// Without a fix.
    pub fn new(exit: Exit, what: impl Into<String>) -> Failure {
        Failure {
            exit,
            what: what.into(),
            fix: None,
            code: None,
        }
    }

    /// Adds what to do about it.
    pub fn fix(mut self, fix: impl Into<String>) -> Failure {
        self.fix = Some(fix.into());
        self
    }

    /// A local file or stream could not be used.
    pub fn io(what: impl Into<String>, cause: &std::io::Error) -> Failure {
        let exit = match cause.kind() {
            std::io::ErrorKind::NotFound => Exit::NotFound,
            std::io::ErrorKind::PermissionDenied => Exit::Denied,
            _ => Exit::Failure,
        };
        Failure::new(exit, format!("{}: {cause}", what.into()))
    }

    /// For standard error.
    pub fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.what);
        if let Some(fix) = &self.fix {
            for (at, line) in fix.lines().enumerate() {
                text.push_str(if at == 0 { "  fix: " } else { "       " });
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }

    /// For standard error under `--json`.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": { "exit": self.exit as u8, "message": self.what, "fix": self.fix, "code": self.code }
        })
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Failure {
        Failure::new(Exit::Config, error.to_string())
    }
}

/// An error and those of its causes that its own words do not tell, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text.push_str(&format!(": {words}"));
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts test for these numbers.
    #[test]
    fn exit_codes_never_change() {
        let all = [
            Exit::Ok,
            Exit::Failure,
            Exit::Usage,
            Exit::NotFound,
            Exit::Denied,
        ];
        assert_eq!(all.map(|e| e as u8), [0, 1, 2, 3, 4]);
        assert_eq!(
            [Exit::Precondition, Exit::Unavailable, Exit::Config].map(|e| e as u8),
            [5, 6, 78]
        );
    }
}
