//! Log lines: to standard error, pretty on a terminal, one JSON object a line otherwise.
//!
//! Always true: no secret, no Authorization header and no presigned query is ever passed to `tracing`; requests are
//! logged by operation, bucket and request id, not by URL.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, LogFormat, Origin};

/// Libraries that say at `info` or `error` what concerns nobody here: openraft each step of its elections,
/// s3s every 404. Whoever names them in the filter gets them.
const QUIET: &str = "openraft=error,s3s=off,hyper=warn";

/// Starts logging for the process.
pub fn start(filter: &str, format: LogFormat, origin: &Origin) -> Result<(), ConfigError> {
    let filter =
        EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|cause| ConfigError::BadValue {
            key: "log".to_owned(),
            value: format!("`{filter}`"),
            origin: origin.clone(),
            what: cause.to_string(),
        })?;
    let terminal = std::io::stderr().is_terminal();
    let pretty = match format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first logger.
    let _ = if pretty {
        lines
            .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none())
            .try_init()
    } else {
        lines.json().flatten_event(true).try_init()
    };
    Ok(())
}
