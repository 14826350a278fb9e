//! What the nodes of a simulation log, with the world's time and the node's name, for whoever looks for the reason of a failure.
//!
//! It changes nothing: the same seed lives the same world with and without it.

use std::fmt;
use std::sync::Arc;

use minikv_core::env::sim::aside;
use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::trace::{now, seconds};

/// Collected lines.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    written: Arc<Mutex<Vec<u8>>>,
}

struct WithWhoAndWhen;

impl<S, N> FormatEvent<S, N> for WithWhoAndWhen
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        aside(|who| {
            let (level, target) = (event.metadata().level(), event.metadata().target());
            write!(writer, "[{:>11}] {who}: {level} {target}: ", seconds(now()))
        })?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

impl std::io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.written.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Logs {
    /// Collects from now on, in this process. `filter`: as `RUST_LOG` has it, `minikv_core=debug`.
    ///
    /// # Errors
    /// If that says nothing, or if somebody collects already.
    pub fn collect(filter: &str) -> Result<Logs, String> {
        let filter = filter.parse::<EnvFilter>();
        let filter = filter.map_err(|error| error.to_string())?;
        let logs = Logs::default();
        let to = logs.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .event_format(WithWhoAndWhen)
            .with_writer(move || to.clone());
        let collecting = tracing_subscriber::registry().with(filter).with(layer);
        collecting.try_init().map_err(|error| error.to_string())?;
        Ok(logs)
    }

    /// A trace, and between its lines what was logged.
    pub fn merged(&self, trace: &[String]) -> Vec<String> {
        let written = String::from_utf8_lossy(&self.written.lock()).into_owned();
        let mut lines: Vec<String> = trace.to_vec();
        lines.extend(written.lines().map(str::to_owned));
        // Every line begins with its time, as wide as any other's.
        let time = |line: &String| line.get(..13).unwrap_or_default().to_owned();
        lines.sort_by_key(time);
        lines
    }
}
