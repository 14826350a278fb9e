//! Where results go: standard output for the answer, as text or JSON; standard error for everything else.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

use super::exit::{Exit, Failure};

/// What the user wants to see.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// `--json`.
    pub json: bool,
}

impl Output {
    /// The answer: `text` for people, `json` (one line) for programs.
    pub fn answer(
        &self,
        text: impl FnOnce() -> String,
        json: impl FnOnce() -> serde_json::Value,
    ) -> Result<(), Failure> {
        let line = if self.json {
            json().to_string()
        } else {
            text()
        };
        print(&line)
    }

    /// A progress bar for so many bytes, hidden unless somebody watches standard error.
    pub fn progress_bar(&self, bytes: u64) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(bytes);
        let words = "{bytes:>10} of {total_bytes} {wide_bar} {bytes_per_sec} {eta}";
        match ProgressStyle::with_template(words) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// Writes a line, or several, to standard output. A reader that went away (`| head`) ends the command quietly.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let newline = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    match write!(out, "{text}{newline}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Ok, String::new()))
        }
        Err(cause) => Err(Failure::io("cannot write to standard output", &cause)),
    }
}
