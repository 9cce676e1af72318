//! Metrics as OpenMetrics text: one collector over one moment's values.
//!
//! Series are bounded: labels are database, user and node of at most `METRICS_POOLS_MAX` pools,
//! never anything a client can invent beyond its login. What is left out is counted.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, info::Info};
use prometheus_client::registry::Registry;

use super::process::{self, Memory};
use super::tables::{self, Table};
use crate::hub::{Hub, PoolSnapshot};
use crate::limits;

/// The media type of [`text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of latency buckets, microseconds.
const BUCKETS_US: [u64; 17] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 60_000_000,
];

/// One moment's values.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// One entry a pool.
    pub pools: Vec<PoolSnapshot>,
    /// Clients connected now.
    pub clients_now: usize,
    /// Clients ever accepted.
    pub clients_total: u64,
    /// Logins refused or broken.
    pub logins_failed: u64,
    /// New clients are welcome.
    pub ready: bool,
    /// Seconds since the epoch.
    pub started_at_seconds: f64,
    /// Memory of the process.
    pub memory: Memory,
    /// User and system time.
    pub cpu_seconds: f64,
    /// Open file descriptors.
    pub open_fds: usize,
    /// Their limit.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: usize,
    /// What pgherd remembers.
    pub tables: Vec<Table>,
}

impl Metrics {
    /// The values of now.
    #[must_use]
    pub fn gather(hub: &Hub) -> Metrics {
        let since_epoch = hub.started_at.duration_since(std::time::UNIX_EPOCH);
        Metrics {
            pools: hub.pools.snapshot(),
            clients_now: hub.clients_now.load(Relaxed),
            clients_total: hub.clients_total.load(Relaxed),
            logins_failed: hub.logins_failed.load(Relaxed),
            ready: hub.is_ready(),
            started_at_seconds: since_epoch.unwrap_or_default().as_secs_f64(),
            memory: process::memory(),
            cpu_seconds: process::cpu_seconds(),
            open_fds: process::open_fds(),
            max_fds: process::max_fds(),
            threads: process::threads(),
            tables: tables::tables(hub),
        }
    }
}

/// The exposition of `metrics`.
pub fn text(mut metrics: Metrics) -> Result<String, fmt::Error> {
    // The same pools are left out at every scrape.
    let key = |p: &PoolSnapshot| (p.database.clone(), p.user.clone(), p.node.clone());
    metrics.pools.sort_by_cached_key(key);
    let left_out = metrics.pools.len().saturating_sub(limits::METRICS_POOLS_MAX);
    metrics.pools.truncate(limits::METRICS_POOLS_MAX);
    let mut registry = Registry::with_prefix("pgherd");
    let build = vec![("version", env!("CARGO_PKG_VERSION"))];
    registry.register("build", "The running build", Info::new(build));
    registry.register_collector(Box::new(All { metrics, left_out }));
    let mut out = String::new();
    encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct All {
    metrics: Metrics,
    left_out: usize,
}

impl Collector for All {
    fn encode(&self, mut e: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.process(&mut e)?;
        for (name, help, get) in COUNTERS {
            self.each(&mut e, name, help, MetricType::Counter, |pool, m| {
                ConstCounter::new(get(pool)).encode(m)
            })?;
        }
        for (name, help, get) in SECONDS {
            self.each(&mut e, name, help, MetricType::Counter, |pool, m| {
                ConstCounter::new(seconds(get(pool))).encode(m)
            })?;
        }
        for (name, help, get) in GAUGES {
            self.each(&mut e, name, help, MetricType::Gauge, |pool, m| {
                ConstGauge::new(get(pool)).encode(m)
            })?;
        }
        let name = "pool_maxwait_seconds";
        self.each(
            &mut e,
            name,
            "Wait of the oldest waiting client",
            MetricType::Gauge,
            |pool, m| ConstGauge::new(pool.maxwait.as_secs_f64()).encode(m),
        )?;
        let name = "pool_query_seconds";
        self.each(&mut e, name, "Latency of queries", MetricType::Histogram, |pool, mut m| {
            let (count, buckets) = buckets(&pool.latency.query_us);
            let sum = seconds(pool.totals.query_time_us);
            m.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        })?;
        let name = "pool_wait_seconds";
        self.each(&mut e, name, "Wait for a server", MetricType::Histogram, |pool, mut m| {
            let (count, buckets) = buckets(&pool.latency.wait_us);
            let sum = seconds(pool.totals.wait_time_us);
            m.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        })
    }
}

type Count = (&'static str, &'static str, fn(&PoolSnapshot) -> u64);

/// Counters; the encoder appends `_total`.
const COUNTERS: &[Count] = &[
    ("pool_transactions", "Transactions", |p| p.totals.xact_count),
    ("pool_queries", "Queries answered", |p| p.totals.query_count),
    ("pool_received_bytes", "Bytes from clients", |p| p.totals.received),
    ("pool_sent_bytes", "Bytes to clients", |p| p.totals.sent),
    ("pool_server_assignments", "Servers handed to clients", |p| p.totals.server_assignment_count),
    ("pool_client_parses", "Parse messages of clients", |p| p.totals.client_parse_count),
    ("pool_server_parses", "Parse messages sent to servers", |p| p.totals.server_parse_count),
    ("pool_binds", "Bind messages of clients", |p| p.totals.bind_count),
    ("pool_server_errors", "Errors that servers sent", |p| p.totals.server_errors),
    ("pool_connect_errors", "Logins to servers that failed", |p| p.connect_errors),
    ("pool_wait_timeouts", "Clients that waited too long for a server", |p| p.wait_timeouts),
];

/// Counters of time, microseconds here, seconds there.
const SECONDS: &[Count] =
    &[("pool_transaction_seconds", "Time inside transactions", |p| p.totals.xact_time_us)];

const GAUGES: &[Count] = &[
    ("pool_clients_active", "Clients that hold a server or are idle", |p| n(p.cl_active)),
    ("pool_clients_waiting", "Clients that wait for a server", |p| n(p.cl_waiting)),
    ("pool_clients_canceling", "Cancel requests on their way", |p| {
        n(p.cl_active_cancel_req + p.cl_waiting_cancel_req)
    }),
    ("pool_servers_active", "Servers that clients hold", |p| n(p.sv_active)),
    ("pool_servers_idle", "Servers that are free", |p| n(p.sv_idle + p.sv_used)),
    ("pool_servers_cleaning", "Servers being reset or checked", |p| n(p.sv_tested)),
    ("pool_servers_login", "Servers that log in", |p| n(p.sv_login)),
    ("pool_servers_pinned", "Servers that a session must keep", |p| n(p.sv_pinned)),
    ("pool_servers_being_canceled", "Servers whose query is being cancelled", |p| {
        n(p.sv_being_canceled)
    }),
    ("pool_size", "Servers at most", |p| n(p.size)),
    ("pool_size_min", "Servers kept open", |p| n(p.size_min)),
    ("pool_reserve_size", "Servers more under pressure", |p| n(p.reserve_size)),
    ("pool_paused", "1 when paused", |p| p.paused.into()),
    ("pool_disabled", "1 when disabled", |p| p.disabled.into()),
];

fn n(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_precision_loss)] // 2^53 microseconds are 285 years
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

impl All {
    /// One family with a series for each pool.
    fn each(
        &self,
        e: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        kind: MetricType,
        encode: impl Fn(
            &PoolSnapshot,
            prometheus_client::encoding::MetricEncoder<'_>,
        ) -> Result<(), fmt::Error>,
    ) -> Result<(), fmt::Error> {
        let mut family = e.encode_descriptor(name, help, None, kind)?;
        for pool in &self.metrics.pools {
            let labels = [
                ("database", pool.database.as_str()),
                ("user", pool.user.as_str()),
                ("node", pool.node.as_str()),
            ];
            encode(pool, family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn process(&self, e: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let m = &self.metrics;
        let mut gauge = |name: &str, help: &str, value: f64| {
            let g = ConstGauge::new(value);
            g.encode(e.encode_descriptor(name, help, None, g.metric_type())?)
        };
        #[allow(clippy::cast_precision_loss)] // bytes and counts far below 2^53
        let f = |n: u64| n as f64;
        gauge("ready", "1 when new clients are welcome", f64::from(u8::from(m.ready)))?;
        gauge("clients", "Clients connected", f(n(m.clients_now)))?;
        gauge("pools", "Pools", f(n(m.pools.len() + self.left_out)))?;
        gauge("pools_left_out", "Pools without series of their own", f(n(self.left_out)))?;
        gauge("process_start_time_seconds", "Start, Unix time", m.started_at_seconds)?;
        gauge("process_resident_memory_bytes", "Resident memory", f(m.memory.resident_bytes))?;
        gauge("process_open_fds", "Open file descriptors", f(n(m.open_fds)))?;
        if let Some(max) = m.max_fds {
            gauge("process_max_fds", "File descriptors at most", f(max))?;
        }
        gauge("process_threads", "Threads", f(n(m.threads)))?;
        if let Some(heap) = &m.memory.heap {
            gauge("heap_allocated_bytes", "Bytes in use by the program", f(heap.allocated_bytes))?;
            gauge("heap_active_bytes", "Bytes of pages in use", f(heap.active_bytes))?;
            gauge("heap_resident_bytes", "Bytes held by the allocator", f(heap.resident_bytes))?;
        }
        let help = "Entries of what pgherd remembers";
        let mut family = e.encode_descriptor("table_entries", help, None, MetricType::Gauge)?;
        for table in &m.tables {
            ConstGauge::new(n(table.entries))
                .encode(family.encode_family(&[("table", table.name)])?)?;
        }
        let cpu = ConstCounter::new(m.cpu_seconds);
        cpu.encode(e.encode_descriptor(
            "process_cpu_seconds",
            "CPU time",
            None,
            cpu.metric_type(),
        )?)?;
        for (name, help, value) in [
            ("clients_accepted", "Clients accepted", m.clients_total),
            ("logins_failed", "Logins refused or broken", m.logins_failed),
        ] {
            let c = ConstCounter::new(value);
            c.encode(e.encode_descriptor(name, help, None, c.metric_type())?)?;
        }
        Ok(())
    }
}

/// Count of all, and counts between bounds. Differences of cumulative counts, because neighbouring
/// bounds may fall into one of the histogram's own buckets, which would then count twice.
fn buckets(histogram: &Histogram<u64>) -> (u64, Vec<(f64, u64)>) {
    let mut below = 0;
    let mut buckets = Vec::with_capacity(BUCKETS_US.len() + 1);
    for le in BUCKETS_US {
        let cumulative = histogram.count_between(0, le);
        buckets.push((seconds(le), cumulative.saturating_sub(below)));
        below = cumulative;
    }
    let count = histogram.len();
    buckets.push((f64::INFINITY, count.saturating_sub(below)));
    (count, buckets)
}

#[cfg(test)]
mod tests;
