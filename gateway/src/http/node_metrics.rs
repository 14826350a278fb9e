//! What the node counts, as metrics: read from it at each scrape, never kept twice.

use std::fmt;
use std::sync::Arc;

use minikv_core::kv::lifecycle::LifecycleCounts;
use minikv_core::log::{FSYNC_BOUNDS, StreamMetrics};
use minikv_core::node::{GroupStatus, NodeMetrics, NodeStatus, ScrubCounts};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// What a node said last.
#[derive(Clone, Debug)]
pub struct Reading {
    /// `/readyz` says yes.
    pub ready: bool,
    /// States.
    pub status: NodeStatus,
    /// Counters.
    pub metrics: NodeMetrics,
}

/// Gives out the last reading.
#[derive(Clone, Default, Debug)]
pub struct NodeCollector(Arc<Mutex<Option<Reading>>>);

impl NodeCollector {
    /// Takes a new one.
    pub fn read(&self, reading: Reading) {
        *self.0.lock() = Some(reading);
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfStream {
    stream: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfGroup {
    group: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RunWrite {
    table: &'static str,
    by: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Removed {
    what: &'static str,
}

type Encoded = Result<(), fmt::Error>;

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Encoded {
        let Some(reading) = self.0.lock().clone() else {
            return Ok(());
        };
        let (status, metrics) = (&reading.status, &reading.metrics);
        let mut to = Encoder(&mut encoder);

        to.level(
            "minikv_ready",
            "1 when /readyz says so",
            u64::from(reading.ready),
        )?;
        to.level(
            "minikv_damaged_items",
            "Lines of damage in minikv status",
            status.damage.len() as u64,
        )?;
        to.level(
            "minikv_log_bytes",
            "Bytes in log segments",
            metrics.log_bytes,
        )?;
        to.level(
            "minikv_log_live_bytes",
            "Bytes in log segments that are needed",
            metrics.log_live_bytes,
        )?;
        to.level(
            "minikv_overlay_bytes",
            "Rows that no checkpoint holds yet",
            metrics.overlay_bytes,
        )?;
        to.level(
            "minikv_replayed_entries",
            "Entries that the last start replayed",
            status.replayed,
        )?;
        if let Some(disk) = &status.disk {
            to.level(
                "minikv_disk_capacity_bytes",
                "Size of the data file system",
                disk.capacity,
            )?;
            to.level(
                "minikv_disk_free_bytes",
                "Room on the data file system",
                disk.free,
            )?;
        }
        to.count(
            "minikv_checkpoints",
            "Checkpoints made",
            metrics.checkpoints,
        )?;

        to.run_writes(metrics)?;
        to.count(
            "minikv_compaction_moved_bytes",
            "Bytes of objects that compaction moved within the log",
            metrics.compaction_moved,
        )?;

        to.scrubber(&metrics.scrub)?;
        to.lifecycle(&status.lifecycle)?;

        let streams = [("meta", &metrics.meta), ("blob", &metrics.blob)];
        to.streams(
            "minikv_log_batches",
            "Batches written to the log",
            streams,
            |stream| stream.batches,
        )?;
        to.streams(
            "minikv_log_records",
            "Records written to the log",
            streams,
            |stream| stream.records,
        )?;
        to.streams(
            "minikv_log_written_bytes",
            "Bytes written to the log",
            streams,
            |stream| stream.bytes,
        )?;
        to.fsyncs(streams)?;

        let groups = &status.groups;
        to.groups("minikv_raft_term", "Raft term", groups, |group| group.term)?;
        to.groups(
            "minikv_raft_leader",
            "1 where this node leads",
            groups,
            |group| u64::from(group.leads),
        )?;
        to.groups(
            "minikv_raft_applied_index",
            "Last applied index",
            groups,
            |group| group.applied,
        )?;
        to.groups(
            "minikv_raft_checkpoint_index",
            "Index of the checkpoint",
            groups,
            |group| group.checkpoint,
        )?;
        to.groups("minikv_group_objects", "Objects", groups, |group| {
            group.usage.objects
        })?;
        to.groups(
            "minikv_group_bytes",
            "Bytes of all versions and parts",
            groups,
            |group| group.usage.bytes,
        )
    }
}

struct Encoder<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Encoder<'_, '_> {
    fn named(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn level(&mut self, name: &'static str, help: &'static str, value: u64) -> Encoded {
        let metric = ConstGauge::new(value);
        metric.encode(self.named(name, help, MetricType::Gauge)?)
    }

    /// The encoder adds `_total`.
    fn count(&mut self, name: &'static str, help: &'static str, value: u64) -> Encoded {
        let metric = ConstCounter::new(value);
        metric.encode(self.named(name, help, MetricType::Counter)?)
    }

    fn streams(
        &mut self,
        name: &'static str,
        help: &'static str,
        streams: [(&'static str, &StreamMetrics); 2],
        value: impl Fn(&StreamMetrics) -> u64,
    ) -> Encoded {
        let mut family = self.named(name, help, MetricType::Counter)?;
        for (stream, metrics) in streams {
            ConstCounter::new(value(metrics))
                .encode(family.encode_family(&OfStream { stream })?)?;
        }
        Ok(())
    }

    /// What is written beside the log, twins counted.
    fn run_writes(&mut self, metrics: &NodeMetrics) -> Encoded {
        let help = "Bytes of runs and manifests written beside the log";
        let mut family = self.named("minikv_run_written_bytes", help, MetricType::Counter)?;
        for (table, written) in [
            ("rows", metrics.rows_written),
            ("places", metrics.places_written),
        ] {
            for (by, bytes) in [
                ("checkpoint", written.checkpoints),
                ("merge", written.merges),
            ] {
                ConstCounter::new(bytes).encode(family.encode_family(&RunWrite { table, by })?)?;
            }
        }
        Ok(())
    }

    fn scrubber(&mut self, counts: &ScrubCounts) -> Encoded {
        for (name, help, value) in [
            (
                "minikv_scrub_read_bytes",
                "Bytes that the scrubber read; of checkpoints each copy",
                counts.bytes,
            ),
            (
                "minikv_scrub_passes",
                "Passes of the scrubber through everything",
                counts.passes,
            ),
            (
                "minikv_scrub_found",
                "Files, log entries and contents that the scrubber found damaged",
                counts.found,
            ),
            (
                "minikv_scrub_mended",
                "Contents written anew from another member's",
                counts.mended,
            ),
        ] {
            self.count(name, help, value)?;
        }
        self.level(
            "minikv_scrub_last_pass_seconds",
            "When the scrubber had last read everything, since 1970; 0: not yet",
            counts.last_pass_ms / 1000,
        )
    }

    fn lifecycle(&mut self, counts: &LifecycleCounts) -> Encoded {
        for (name, help, value) in [
            (
                "minikv_lifecycle_walks",
                "Walks through a bucket with lifecycle rules, per group",
                counts.walks,
            ),
            (
                "minikv_lifecycle_seen",
                "Versions and uploads that walks looked at",
                counts.seen,
            ),
            (
                "minikv_lifecycle_overtaken",
                "Due when looked at, something else when it was to go",
                counts.overtaken,
            ),
            (
                "minikv_lifecycle_protected",
                "Due, and protected by object lock",
                counts.protected,
            ),
            (
                "minikv_lifecycle_waiting",
                "Due, and held up until the next round",
                counts.waiting,
            ),
        ] {
            self.count(name, help, value)?;
        }
        let help = "What lifecycle rules removed";
        let mut family = self.named("minikv_lifecycle_removed", help, MetricType::Counter)?;
        for (what, value) in [
            ("object", counts.objects),
            ("noncurrent", counts.noncurrent),
            ("marker", counts.markers),
            ("upload", counts.uploads),
        ] {
            ConstCounter::new(value).encode(family.encode_family(&Removed { what })?)?;
        }
        self.level(
            "minikv_lifecycle_last_walk_seconds",
            "When the last walk ended, since 1970; 0: none did",
            counts.last_walk_ms / 1000,
        )?;
        self.level(
            "minikv_lifecycle_unreadable_buckets",
            "Buckets whose lifecycle rules cannot be read",
            counts.trouble.len() as u64,
        )
    }

    fn fsyncs(&mut self, streams: [(&'static str, &StreamMetrics); 2]) -> Encoded {
        let help = "Writes of a batch with its fsync";
        let mut family =
            self.named("minikv_fsync_duration_seconds", help, MetricType::Histogram)?;
        for (stream, metrics) in streams {
            let bounds = FSYNC_BOUNDS.into_iter().chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = bounds.zip(metrics.fsyncs).collect();
            let count = metrics.fsyncs.iter().sum();
            let label = OfStream { stream };
            let mut of_stream = family.encode_family(&label)?;
            of_stream.encode_histogram::<NoLabelSet>(
                metrics.fsync_seconds,
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }

    fn groups(
        &mut self,
        name: &'static str,
        help: &'static str,
        groups: &[GroupStatus],
        value: impl Fn(&GroupStatus) -> u64,
    ) -> Encoded {
        let mut family = self.named(name, help, MetricType::Gauge)?;
        for group in groups {
            let label = OfGroup { group: group.id.0 };
            ConstGauge::new(value(group)).encode(family.encode_family(&label)?)?;
        }
        Ok(())
    }
}
