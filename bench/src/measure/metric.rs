//! What can be measured, how it is called, and what one sample holds of it.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Something that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The proxy's CPU time for each transaction, µs.
    CpuUs,
    /// The part of it in the proxy's own code, µs.
    UserUs,
    /// The part of it inside the kernel, µs.
    SystemUs,
    /// System calls for each transaction, from a pass that is not timed.
    Calls,
    /// Instructions for each transaction, user and kernel, in thousands; from the same pass.
    Instructions,
    /// Times that the proxy waited (voluntary context switches), for each transaction.
    Waits,
    /// Times that the proxy was preempted (involuntary ones), for 1,000 transactions.
    Preempted,
    /// Transactions a second.
    Tps,
    /// Latency as clients see it, µs.
    MeanUs,
    /// Its median, µs.
    P50Us,
    /// Its 99th percentile, µs.
    P99Us,
    /// Its 99.9th percentile, µs.
    P999Us,
    /// The longest, µs.
    MaxUs,
    /// How late the load generator itself was at worst but for one request in a hundred, µs.
    LateUs,
    /// Resident memory at the end, MB.
    RssMb,
    /// The most that it ever was, MB.
    PeakMb,
    /// Resident memory above that of the idle proxy, MB; the most of it, where it varies.
    AboveMb,
    /// The same for each client, kB.
    ClientKb,
    /// Writes to the server for each transaction.
    WritesServer,
    /// Writes to the client for each transaction.
    WritesClient,
    /// Throughput, MB/s.
    MbPerSecond,
    /// The proxy's CPU time for each GB, ms.
    CpuMsPerGb,
    /// pgherd's CPU time for each transaction with one worker, µs.
    OneWorkerUs,
    /// With two workers, µs.
    TwoWorkersUs,
    /// Transactions a second with one worker.
    OneWorkerTps,
    /// With two workers.
    TwoWorkersTps,
    /// Share of one core that one worker used, percent.
    OneWorkerPct,
    /// Share of two cores that two workers used, percent.
    TwoWorkersPct,
    /// Capacity of two cores in units of one core's, from CPU time for each transaction.
    ScalingCpu,
    /// The same as throughput that was seen.
    ScalingTps,
    /// Time that others spent on the proxy's core, percent.
    ForeignPct,
    /// Time that the hypervisor gave to others, percent.
    StealPct,
}

/// What one sample measured.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Sample(pub BTreeMap<Metric, f64>);

impl Metric {
    /// The head of its column.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Metric::CpuUs => "CPU µs",
            Metric::UserUs => "user µs",
            Metric::SystemUs => "system µs",
            Metric::Calls => "system calls",
            Metric::Instructions => "k instructions",
            Metric::Waits => "waits",
            Metric::Preempted => "preempted ‰",
            Metric::Tps => "per second",
            Metric::MeanUs => "mean µs",
            Metric::P50Us => "p50 µs",
            Metric::P99Us => "p99 µs",
            Metric::P999Us => "p99.9 µs",
            Metric::MaxUs => "max µs",
            Metric::LateUs => "late µs",
            Metric::RssMb => "RSS MB",
            Metric::PeakMb => "peak MB",
            Metric::AboveMb => "above idle MB",
            Metric::ClientKb => "kB a client",
            Metric::WritesServer => "writes to server",
            Metric::WritesClient => "writes to client",
            Metric::MbPerSecond => "MB/s",
            Metric::CpuMsPerGb => "CPU ms/GB",
            Metric::OneWorkerUs => "CPU µs, 1 worker",
            Metric::TwoWorkersUs => "CPU µs, 2 workers",
            Metric::OneWorkerTps => "per second, 1 worker",
            Metric::TwoWorkersTps => "per second, 2 workers",
            Metric::OneWorkerPct => "busy %, 1 worker",
            Metric::TwoWorkersPct => "busy %, 2 workers",
            Metric::ScalingCpu => "capacity × 1 core",
            Metric::ScalingTps => "throughput × 1 core",
            Metric::ForeignPct => "foreign %",
            Metric::StealPct => "steal %",
        }
    }

    /// Digits behind the point.
    #[must_use]
    pub fn digits(self) -> usize {
        match self {
            Metric::CpuUs | Metric::UserUs | Metric::SystemUs | Metric::Calls | Metric::Waits => 2,
            Metric::OneWorkerUs | Metric::TwoWorkersUs | Metric::ScalingCpu => 2,
            Metric::WritesServer | Metric::WritesClient | Metric::ScalingTps => 2,
            Metric::Tps | Metric::MeanUs | Metric::P50Us | Metric::P99Us | Metric::P999Us => 0,
            Metric::MaxUs | Metric::LateUs | Metric::OneWorkerTps | Metric::TwoWorkersTps => 0,
            Metric::MbPerSecond | Metric::CpuMsPerGb => 0,
            _ => 1,
        }
    }

    /// Whether a median would hide what it warns of.
    #[must_use]
    pub fn worst_counts(self) -> bool {
        matches!(self, Metric::ForeignPct | Metric::StealPct)
    }
}

impl Sample {
    /// Adds a figure.
    pub fn set(&mut self, metric: Metric, value: f64) {
        self.0.insert(metric, value);
    }

    /// Adds a throughput and its latencies.
    pub fn set_load(&mut self, transactions: u64, seconds: f64, latency_us: &Histogram<u64>) {
        self.set(Metric::Tps, transactions as f64 / seconds.max(1e-9));
        self.set(Metric::MeanUs, latency_us.mean());
        self.set(Metric::P50Us, latency_us.value_at_quantile(0.5) as f64);
        self.set(Metric::P99Us, latency_us.value_at_quantile(0.99) as f64);
        self.set(Metric::P999Us, latency_us.value_at_quantile(0.999) as f64);
    }
}
