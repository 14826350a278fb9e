//! `/metrics`: numbers for Prometheus, in OpenMetrics text.
//!
//! Always true:
//! * names follow Prometheus' rules (a test checks each): own prefix, base units, the unit at the end, `_total` on
//!   counters only;
//! * labels have few values: operations, classes of status codes, groups; never buckets, keys or clients.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::HttpState;
use super::health::is_ready;
use super::node_metrics::{NodeCollector, Reading};
use super::process::Process;

/// As OpenMetrics wants it named.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Call {
    api: &'static str,
    code_class: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Api {
    api: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

type Level = Gauge<u64, AtomicU64>;

/// All numbers.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Call, Counter>,
    durations: Family<Api, Histogram, fn() -> Histogram>,
    received: Counter,
    sent: Counter,
    rejected: Family<Reason, Counter>,
    in_flight: Level,
    node: NodeCollector,
}

fn durations() -> Histogram {
    // From half a millisecond (a GET from the page cache) to a minute (a large body on a slow line).
    Histogram::new([
        0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0,
        60.0,
    ])
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut all = Registry::default();
        all.register_collector(Box::new(Process));
        let node = NodeCollector::default();
        all.register_collector(Box::new(node.clone()));
        let ours = all.sub_registry_with_prefix("minikv");
        ours.register(
            "build",
            "What runs",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );

        // The registry adds `_total` to counters.
        macro_rules! named {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                ours.register($name, $help, metric.clone());
                metric
            }};
        }
        let requests = named!(
            "s3_requests",
            "S3 requests answered",
            Family::<Call, Counter>::default()
        );
        let durations = named!(
            "s3_request_duration_seconds",
            "From a request's head to the end of its answer",
            Family::<Api, Histogram, fn() -> Histogram>::new_with_constructor(durations)
        );
        let received = named!(
            "s3_received_bytes",
            "Bytes of request bodies",
            Counter::default()
        );
        let sent = named!(
            "s3_sent_bytes",
            "Bytes of response bodies",
            Counter::default()
        );
        let rejected = named!(
            "s3_rejected",
            "S3 requests turned away before they began",
            Family::<Reason, Counter>::default()
        );
        let in_flight = named!(
            "s3_inflight_requests",
            "S3 requests that run now",
            Level::default()
        );
        let registry = Mutex::new(all);
        Metrics {
            registry,
            requests,
            durations,
            received,
            sent,
            rejected,
            in_flight,
            node,
        }
    }
}

impl Metrics {
    /// An S3 request was answered.
    pub fn request(
        &self,
        api: &'static str,
        status: u16,
        took: Duration,
        received: u64,
        sent: u64,
    ) {
        let code_class = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&Call { api, code_class }).inc();
        self.durations
            .get_or_create(&Api { api })
            .observe(took.as_secs_f64());
        self.received.inc_by(received);
        self.sent.inc_by(sent);
    }

    /// An S3 request was turned away before anybody looked at it.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&Reason { reason }).inc();
    }

    /// S3 requests that run now.
    pub fn in_flight(&self, requests: usize) {
        self.in_flight.set(requests as u64);
    }

    /// The node was read.
    pub fn node(&self, reading: Reading) {
        self.node.read(reading);
    }

    /// Everything as text.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock())?;
        Ok(text)
    }
}

/// `/metrics`.
pub async fn scrape(State(state): State<Arc<HttpState>>) -> Response {
    let node = state.probes.node();
    state.metrics.node(Reading {
        ready: is_ready(&state.probes.checks()),
        status: node.status().await,
        metrics: node.metrics(),
    });
    state.metrics.in_flight(state.admission.in_flight());
    match state.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(_) => axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use minikv_core::engine::run_store::Written;
    use minikv_core::env::disk::Space;
    use minikv_core::ids::GroupId;
    use minikv_core::kv::Usage;
    use minikv_core::log::StreamMetrics;
    use minikv_core::node::{GroupStatus, NodeMetrics, NodeStatus, ScrubCounts};

    use super::*;

    fn scraped() -> String {
        let metrics = Metrics::default();
        metrics.request("PutObject", 200, Duration::from_millis(3), 10, 0);
        metrics.request("GetObject", 404, Duration::from_millis(1), 0, 300);
        metrics.rejected("slow_down");
        let stream = StreamMetrics {
            batches: 3,
            fsyncs: [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            fsync_seconds: 2.5,
            ..StreamMetrics::default()
        };
        let group = GroupStatus {
            id: GroupId(1),
            ready: true,
            leads: true,
            term: 2,
            applied: 3,
            checkpoint: 1,
            usage: Usage::default(),
            trouble: None,
        };
        let status = NodeStatus {
            node_id: 1,
            boot: 1,
            groups: vec![group],
            damage: vec![],
            healed: vec![],
            replayed: 0,
            disk: Some(Space {
                capacity: 10,
                free: 5,
            }),
            room: true,
            sick: false,
            log_bytes: 7,
            log_live_bytes: 6,
            lifecycle: Default::default(),
        };
        metrics.node(Reading {
            ready: true,
            status,
            metrics: NodeMetrics {
                meta: stream.clone(),
                blob: StreamMetrics::default(),
                log_bytes: 7,
                log_live_bytes: 6,
                applied: vec![(1, 3)],
                checkpoints: 2,
                overlay_bytes: 9,
                rows_written: Written {
                    checkpoints: 11,
                    merges: 12,
                },
                places_written: Written::default(),
                compaction_moved: 13,
                scrub: ScrubCounts {
                    mended: 14,
                    ..ScrubCounts::default()
                },
            },
        });
        metrics.text().unwrap()
    }

    /// prometheus.io/docs/practices/naming, and dashboards that rely on these names.
    #[test]
    fn every_name_keeps_to_the_rules() {
        let text = scraped();
        let mut names = 0;
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            names += 1;
            assert!(
                name.starts_with("minikv_") || name.starts_with("process_"),
                "{name} has no prefix of ours"
            );
            assert!(
                name.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{name}"
            );
            assert!(
                !name.ends_with("_total"),
                "{name}: the registry adds _total to counters"
            );
            for unit in [
                "_ms",
                "_millis",
                "_milliseconds",
                "_micros",
                "_us",
                "_kb",
                "_mb",
                "_kib",
                "_mib",
                "_count",
            ] {
                assert!(!name.ends_with(unit), "{name}: base units only");
            }
            if kind == "histogram" {
                assert!(
                    name.ends_with("_seconds") || name.ends_with("_bytes"),
                    "{name} has no unit"
                );
            }
            if kind == "counter" {
                assert!(
                    text.contains(&format!("\n{name}_total")),
                    "{name} has no sample"
                );
            }
        }
        assert!(names > 20, "{names} metrics");
        assert!(text.ends_with("# EOF\n"));
    }

    /// The first metrics that dashboards will use.
    #[test]
    fn requests_are_counted_by_operation_and_class() {
        let text = scraped();
        for line in [
            "minikv_s3_requests_total{api=\"PutObject\",code_class=\"2xx\"} 1",
            "minikv_s3_requests_total{api=\"GetObject\",code_class=\"4xx\"} 1",
            "minikv_s3_received_bytes_total 10",
            "minikv_s3_sent_bytes_total 300",
            "minikv_s3_rejected_total{reason=\"slow_down\"} 1",
            "minikv_raft_applied_index{group=\"1\"} 3",
            "minikv_log_batches_total{stream=\"meta\"} 3",
            "minikv_fsync_duration_seconds_bucket{le=\"0.00025\",stream=\"meta\"} 2",
            "minikv_fsync_duration_seconds_count{stream=\"meta\"} 3",
            "minikv_checkpoints_total 2",
            "minikv_run_written_bytes_total{table=\"rows\",by=\"merge\"} 12",
            "minikv_compaction_moved_bytes_total 13",
            "minikv_scrub_mended_total 14",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("minikv_build_info{version="));
        assert!(text.contains("process_resident_memory_bytes "));
    }
}
