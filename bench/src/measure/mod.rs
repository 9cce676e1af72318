//! What a sample holds, and how it comes about: counters of the proxy's process before and after a load.
//!
//! CPU time is the process's own, over all its threads; it includes what the kernel does on its behalf in
//! system calls, and not what interrupts do.

pub mod count;
pub mod metric;
pub mod noise;
pub mod pgbench;
pub mod process;
pub mod writes;

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::machine::Cores;
pub use metric::{Metric, Sample};
use noise::Noise;
use process::Counters;

/// Longest latency that a histogram tells apart.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Counters from before a load.
#[derive(Debug)]
pub struct Meter {
    pid: Option<u32>,
    before: Option<Counters>,
    noise: Noise,
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
        let system_us = spent.cpu_us * spent.system / each;
        sample.set(Metric::SystemUs, system_us);
        sample.set(Metric::UserUs, spent.cpu_us / each - system_us);
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
