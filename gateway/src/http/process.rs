//! `process_*`: what the operating system says of this process, read at each scrape (Linux's /proc).

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Unit of times in /proc/self/stat: USER_HZ, which is 100 for every Linux program whatever the kernel uses inside.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads /proc/self.
#[derive(Debug)]
pub struct Process;

/// What is read. Where there is no /proc, nothing is told rather than zeros.
#[derive(Clone, Copy, Debug, Default)]
struct Readings {
    cpu_seconds: Option<f64>,
    resident: Option<u64>,
    virtual_memory: Option<u64>,
    threads: Option<u64>,
    start_time: Option<f64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl Readings {
    fn take() -> Readings {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name in parentheses may hold spaces; fields are counted behind it. Field 3 (state) is number 0 here.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok());
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let memory = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
                .map(|kib| kib * 1024)
        };
        let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = boot
            .lines()
            .find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
        Readings {
            cpu_seconds: field(11)
                .zip(field(12))
                .map(|(user, system)| (user + system) as f64 / TICKS_PER_SECOND),
            threads: field(17),
            start_time: field(19)
                .zip(boot)
                .map(|(after, boot)| boot + after as f64 / TICKS_PER_SECOND),
            virtual_memory: memory("VmSize:"),
            resident: memory("VmRSS:"),
            open_fds: std::fs::read_dir("/proc/self/fd")
                .ok()
                .map(|fds| fds.count() as u64),
            max_fds: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let now = Readings::take();
        let mut gauge = |name: &str, help: &str, value: Option<f64>| match value {
            None => Ok(()),
            Some(value) => {
                let metric = ConstGauge::new(value);
                let into = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
                metric.encode(into)
            }
        };
        let whole = |value: Option<u64>| value.map(|value| value as f64);
        gauge(
            "process_resident_memory_bytes",
            "Resident memory",
            whole(now.resident),
        )?;
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory",
            whole(now.virtual_memory),
        )?;
        gauge(
            "process_start_time_seconds",
            "Start of the process since 1970",
            now.start_time,
        )?;
        gauge("process_threads", "Threads", whole(now.threads))?;
        gauge(
            "process_open_fds",
            "Open file descriptors",
            whole(now.open_fds),
        )?;
        gauge(
            "process_max_fds",
            "Most open file descriptors",
            whole(now.max_fds),
        )?;
        if let Some(seconds) = now.cpu_seconds {
            let metric = ConstCounter::new(seconds);
            let help = "User and system CPU time";
            metric.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                metric.metric_type(),
            )?)?;
        }
        Ok(())
    }
}
