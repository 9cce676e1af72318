//! What a sample holds, and how it comes about: counters of the proxy's process before and after a load.
//!
//! CPU time is the process's own, over all its threads; it includes what the kernel does on its behalf in
//! system calls, and not what interrupts do.

pub mod noise;
pub mod pgbench;
pub mod process;
pub mod writes;

use std::collections::BTreeMap;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::machine::Cores;
use noise::Noise;
use process::Counters;

/// Longest latency that a histogram tells apart.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Something that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The proxy's CPU time for each transaction, µs.
    CpuUs,
    /// The part of it inside the kernel, percent.
    SystemPct,
    /// Times that the proxy waited, for each transaction.
    Waits,
    /// Times that the proxy was preempted, for 1,000 transactions.
    Preempted,
    /// Transactions a second.
    Tps,
    /// Latency as clients see it, µs.
    MeanUs,
    /// Its median, µs.
    P50Us,
    /// Its 99th percentile, µs.
    P99Us,
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
    /// Time that others spent on the proxy's core, percent.
    ForeignPct,
    /// Time that the hypervisor gave to others, percent.
    StealPct,
}

/// What one sample measured.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Sample(pub BTreeMap<Metric, f64>);

/// Counters from before a load.
#[derive(Debug)]
pub struct Meter {
    pid: Option<u32>,
    before: Option<Counters>,
    noise: Noise,
}

impl Metric {
    /// The head of its column.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Metric::CpuUs => "CPU µs",
            Metric::SystemPct => "of it system %",
            Metric::Waits => "waits",
            Metric::Preempted => "preempted ‰",
            Metric::Tps => "per second",
            Metric::MeanUs => "mean µs",
            Metric::P50Us => "p50 µs",
            Metric::P99Us => "p99 µs",
            Metric::RssMb => "RSS MB",
            Metric::PeakMb => "peak MB",
            Metric::AboveMb => "above idle MB",
            Metric::ClientKb => "kB a client",
            Metric::WritesServer => "writes to server",
            Metric::WritesClient => "writes to client",
            Metric::MbPerSecond => "MB/s",
            Metric::CpuMsPerGb => "CPU ms/GB",
            Metric::ForeignPct => "foreign %",
            Metric::StealPct => "steal %",
        }
    }

    /// Digits behind the point.
    #[must_use]
    pub fn digits(self) -> usize {
        match self {
            Metric::CpuUs | Metric::Waits | Metric::WritesServer | Metric::WritesClient => 2,
            Metric::Tps | Metric::MeanUs | Metric::P50Us | Metric::P99Us => 0,
            Metric::MbPerSecond | Metric::CpuMsPerGb | Metric::SystemPct => 0,
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
    }
}

impl Meter {
    /// Begins.
    pub fn start(pid: Option<u32>, cores: &Cores) -> Result<Meter> {
        let before = pid.map(Counters::read).transpose()?;
        Ok(Meter { pid, before, noise: Noise::start(cores.proxy())? })
    }

    /// Ends, and adds what `transactions` cost; returns the proxy's CPU time in µs.
    pub fn stop(self, transactions: u64, sample: &mut Sample) -> Result<Option<f64>> {
        let spent = match (self.pid, &self.before) {
            (Some(pid), Some(before)) => Some(Counters::read(pid)?.since(before)),
            _ => None,
        };
        self.noise.stop(spent.as_ref().map_or(0.0, |s| s.cpu_us), sample)?;
        let Some(spent) = spent else { return Ok(None) };
        let each = transactions.max(1) as f64;
        sample.set(Metric::CpuUs, spent.cpu_us / each);
        sample.set(Metric::SystemPct, spent.system_pct);
        sample.set(Metric::Waits, spent.waits as f64 / each);
        sample.set(Metric::Preempted, spent.preempted as f64 * 1000.0 / each);
        if let Some(pid) = self.pid {
            let memory = process::Memory::read(pid)?;
            sample.set(Metric::RssMb, memory.now_mb);
            sample.set(Metric::PeakMb, memory.peak_mb);
        }
        Ok(Some(spent.cpu_us))
    }
}

/// An empty histogram of latencies.
pub fn latencies() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?)
}
