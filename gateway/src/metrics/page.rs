//! [`Page`]: all numbers of one moment, as Prometheus reads them.
//!
//! Source: "Exposition formats" of the Prometheus documentation, text format 0.0.4; names and units by "Metric and
//! label naming" of the same.

use std::fmt;

use drivers::Tally;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::effort::Effort;
use super::process::Process;
use super::traffic::{Kind, RequestSum, TrafficSum};
use crate::exports::Export;

/// What the text is, for HTTP.
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// All numbers of one moment.
#[derive(Debug)]
pub(crate) struct Page {
    exports: Vec<OfExport>,
    workers: Vec<OfWorker>,
    process: Process,
}

/// Those of one export.
#[derive(Debug)]
struct OfExport {
    name: String,
    capacity_bytes: u64,
    read_only: bool,
    clients: usize,
    lost_flushes: u64,
    traffic: TrafficSum,
    device: Tally,
}

/// Those of one worker: its number and what it does.
#[derive(Debug)]
struct OfWorker {
    name: String,
    batches: u64,
    wakeups: u64,
    polls: u64,
    polls_in_vain: u64,
    ring_submissions: u64,
    clients: u64,
}

impl Page {
    /// The numbers as they are now.
    pub(crate) fn now<'a>(
        exports: impl IntoIterator<Item = &'a Export>,
        workers: impl IntoIterator<Item = &'a Effort>,
    ) -> Page {
        Page {
            exports: exports.into_iter().map(OfExport::now).collect(),
            workers: (0..).zip(workers).map(|(index, effort)| OfWorker::now(index, effort)).collect(),
            process: Process::now(),
        }
    }

    /// The page as text.
    ///
    /// # Errors
    /// A string cannot be written to, which does not happen.
    pub(crate) fn into_text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl OfExport {
    fn now(export: &Export) -> OfExport {
        let disk = &export.disk;
        let limits = disk.limits();
        OfExport {
            name: export.offer.name.clone(),
            capacity_bytes: limits.capacity_bytes,
            read_only: limits.read_only || export.offer.read_only,
            clients: disk.sessions(),
            lost_flushes: disk.flush_failures(),
            traffic: TrafficSum::of(disk.traffic()),
            device: disk.device().tally(),
        }
    }
}

impl OfWorker {
    fn now(index: usize, effort: &Effort) -> OfWorker {
        OfWorker {
            name: index.to_string(),
            batches: effort.batches.get(),
            wakeups: effort.wakeups.get(),
            polls: effort.polls.get(),
            polls_in_vain: effort.polls_in_vain.get(),
            ring_submissions: effort.ring_submissions.get(),
            clients: effort.sessions.get(),
        }
    }
}

/// Labels of one line.
struct Labels<'a, const N: usize>([(&'static str, &'a str); N]);

impl<const N: usize> EncodeLabelSet for Labels<'_, N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}

/// Writes the lines of one name after the other.
struct Writer<'a, 'b>(&'b mut DescriptorEncoder<'a>);

impl Writer<'_, '_> {
    fn counter<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl Iterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in lines {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
        }
        Ok(())
    }

    fn gauge<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl Iterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in lines {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn single(&mut self, name: &str, help: &str, value: Option<f64>) -> fmt::Result {
        match value {
            Some(value) => {
                self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
            }
            None => Ok(()),
        }
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let version = Labels([("version", env!("CARGO_PKG_VERSION"))]);
        let mut writer = Writer(&mut encoder);
        writer.gauge("gateway_build_info", "The program.", std::iter::once((version, 1)))?;
        self.requests(&mut writer)?;
        self.durations(&mut encoder)?;
        let mut writer = Writer(&mut encoder);
        self.exports(&mut writer)?;
        self.devices(&mut writer)?;
        self.workers(&mut writer)?;
        self.process(&mut writer)
    }
}

impl Page {
    /// A line for each export and kind of request.
    fn by_kind(&self, value: impl Fn(&RequestSum) -> u64) -> impl Iterator<Item = (Labels<'_, 2>, u64)> {
        self.exports.iter().flat_map(|export| Kind::ALL.map(|kind| (export, kind))).map(
            move |(export, kind)| {
                let labels = Labels([("export", &*export.name), ("operation", kind.name())]);
                (labels, value(export.traffic.of_kind(kind)))
            },
        )
    }

    /// A line for each export.
    fn by_export(&self, value: impl Fn(&OfExport) -> u64) -> impl Iterator<Item = (Labels<'_, 1>, u64)> {
        self.exports.iter().map(move |export| (Labels([("export", &*export.name)]), value(export)))
    }

    /// A line for each worker.
    fn by_worker(&self, value: impl Fn(&OfWorker) -> u64) -> impl Iterator<Item = (Labels<'_, 1>, u64)> {
        self.workers.iter().map(move |worker| (Labels([("worker", &*worker.name)]), value(worker)))
    }

    fn requests(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        writer.counter("gateway_requests", "Requests taken.", self.by_kind(|sum| sum.asked))?;
        writer.counter(
            "gateway_request_bytes",
            "Bytes of requests that were answered without an error.",
            self.by_kind(|sum| sum.bytes),
        )?;
        writer.counter(
            "gateway_request_errors",
            "Requests that were answered with an error.",
            self.by_kind(|sum| sum.failed),
        )?;
        writer.counter(
            "gateway_requests_abandoned",
            "Requests whose client left before they were answered.",
            self.by_kind(|sum| sum.abandoned),
        )?;
        writer.gauge(
            "gateway_requests_in_flight",
            "Requests that are not answered.",
            self.by_kind(RequestSum::in_flight),
        )?;
        writer.counter(
            "gateway_requests_refused",
            "Requests that were refused unseen: they make no sense, or the export is about to go.",
            self.by_export(|export| export.traffic.refused),
        )
    }

    /// A histogram for each export and kind that was ever asked for: of hundreds of exports the others would be most of
    /// the page.
    fn durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "gateway_request_duration_seconds",
            "From the receive that brought a request to the send that ended its reply.",
            None,
            MetricType::Histogram,
        )?;
        for (export, kind) in self.exports.iter().flat_map(|export| Kind::ALL.map(|kind| (export, kind))) {
            let latency = &export.traffic.of_kind(kind).latency;
            if latency.count() > 0 {
                let labels = Labels([("export", &*export.name), ("operation", kind.name())]);
                let (sum, count) = (latency.sum_seconds(), latency.count());
                let mut family = metric.encode_family(&labels)?;
                family.encode_histogram::<NoLabelSet>(sum, count, &latency.buckets(), None)?;
            }
        }
        Ok(())
    }

    fn exports(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        writer.gauge(
            "gateway_export_capacity_bytes",
            "Size of the disk.",
            self.by_export(|e| e.capacity_bytes),
        )?;
        writer.gauge(
            "gateway_export_read_only",
            "1 if clients may only read.",
            self.by_export(|export| export.read_only.into()),
        )?;
        writer.gauge(
            "gateway_export_clients",
            "Clients that have the export open.",
            self.by_export(|export| export.clients as u64),
        )?;
        writer.counter(
            "gateway_export_sessions",
            "Clients that opened the export.",
            self.by_export(|export| export.traffic.sessions),
        )?;
        writer.counter(
            "gateway_export_lost_flushes",
            "Flushes that failed, and losses of writes that had completed.",
            self.by_export(|export| export.lost_flushes),
        )
    }

    fn devices(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        writer.gauge(
            "gateway_device_queue_depth",
            "Requests that are with the device.",
            self.by_export(|export| export.traffic.depth),
        )?;
        writer.counter(
            "gateway_device_completions",
            "Requests that the device has ended; none where they end at once.",
            self.by_export(|export| export.device.completions),
        )?;
        writer.counter(
            "gateway_device_submissions",
            "How often the device was told of requests: kicks, doorbells, entries into the kernel.",
            self.by_export(|export| export.device.submissions),
        )?;
        writer.counter(
            "gateway_device_notifications",
            "How often the device told of completions: calls, interrupts, signals.",
            self.by_export(|export| export.device.notifications),
        )?;
        writer.counter(
            "gateway_device_reconnects",
            "How often the device came back after it was gone, or was reset.",
            self.by_export(|export| export.device.recoveries),
        )?;
        writer.counter(
            "gateway_device_resubmissions",
            "Requests that were sent again after that.",
            self.by_export(|export| export.device.resubmissions),
        )
    }

    fn workers(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        writer.gauge(
            "gateway_worker_clients",
            "Clients of the worker.",
            self.by_worker(|worker| worker.clients),
        )?;
        writer.counter(
            "gateway_worker_batches",
            "How often requests were taken from a client, one or many at a time.",
            self.by_worker(|worker| worker.batches),
        )?;
        writer.counter(
            "gateway_worker_wakeups",
            "How often the worker slept and was woken.",
            self.by_worker(|worker| worker.wakeups),
        )?;
        writer.counter(
            "gateway_worker_polls",
            "How often the worker polled before it slept.",
            self.by_worker(|worker| worker.polls),
        )?;
        writer.counter(
            "gateway_worker_polls_in_vain",
            "How often nothing came of that.",
            self.by_worker(|worker| worker.polls_in_vain),
        )?;
        writer.counter(
            "gateway_worker_ring_submissions",
            "How often the worker entered the kernel for the ring on which it waits for clients.",
            self.by_worker(|worker| worker.ring_submissions),
        )
    }

    /// Names and texts are those of Prometheus's own libraries.
    #[expect(clippy::cast_precision_loss, reason = "counts of pages and descriptors fit")]
    fn process(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        let Process {
            cpu_seconds,
            open_fds,
            max_fds,
            virtual_memory_bytes,
            resident_memory_bytes,
            threads,
            start_time_seconds,
        } = self.process;
        let number = |count: Option<u64>| count.map(|count| count as f64);
        if let Some(seconds) = cpu_seconds {
            let help = "Total user and system CPU time spent in seconds.";
            let mut metric =
                writer.0.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, f64, f64>(&seconds, None)?;
        }
        writer.single("process_open_fds", "Number of open file descriptors.", number(open_fds))?;
        writer.single("process_max_fds", "Maximum number of open file descriptors.", number(max_fds))?;
        writer.single(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            number(virtual_memory_bytes),
        )?;
        writer.single(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            number(resident_memory_bytes),
        )?;
        writer.single("process_threads", "Number of OS threads in the process.", number(threads))?;
        writer.single(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            start_time_seconds,
        )
    }
}
