//! What a pool counts, in shards so that workers don't write the same cache line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Longest latency that histograms tell apart, microseconds; what is longer counts as this.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Totals since the start (PgBouncer's `SHOW STATS` names).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Transactions.
    pub xact_count: u64,
    /// Queries: one for each Sync or simple Query answered.
    pub query_count: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
    /// Time inside transactions, microseconds.
    pub xact_time_us: u64,
    /// Time of queries, microseconds.
    pub query_time_us: u64,
    /// Time that clients waited for a server, microseconds.
    pub wait_time_us: u64,
    /// Servers handed to clients.
    pub server_assignment_count: u64,
    /// Parse messages of clients for named statements.
    pub client_parse_count: u64,
    /// Parse messages that reached servers.
    pub server_parse_count: u64,
    /// Bind messages of clients.
    pub bind_count: u64,
    /// Errors that servers sent.
    pub server_errors: u64,
}

/// One counter for each field of [`Totals`].
#[derive(Debug, Default)]
#[allow(missing_docs)] // named and explained in `Totals`
pub struct Shard {
    pub xact_count: AtomicU64,
    pub query_count: AtomicU64,
    pub received: AtomicU64,
    pub sent: AtomicU64,
    pub xact_time_us: AtomicU64,
    pub query_time_us: AtomicU64,
    pub wait_time_us: AtomicU64,
    pub server_assignment_count: AtomicU64,
    pub client_parse_count: AtomicU64,
    pub server_parse_count: AtomicU64,
    pub bind_count: AtomicU64,
    pub server_errors: AtomicU64,
}

/// What a session did since it was last counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request {
    /// From the request's arrival to its ReadyForQuery, microseconds; none: it goes on.
    pub query_us: Option<u64>,
    /// Length of the transaction that ended with it, microseconds.
    pub transaction_us: Option<u64>,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
}

/// The statistics of one pool.
#[derive(Debug)]
pub struct Stats {
    shards: Box<[Padded]>,
}

/// A shard on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Padded {
    counters: Shard,
    latency: Mutex<Latency>,
}

/// Latency of queries and of waiting, microseconds.
#[derive(Debug, Clone)]
pub struct Latency {
    /// From a query's arrival to its ReadyForQuery.
    pub query_us: Histogram<u64>,
    /// From asking for a server to having one.
    pub wait_us: Histogram<u64>,
}

impl Latency {
    fn new() -> Latency {
        let histogram = || {
            // Bounds 1 to LATENCY_US_MAX with 2 digits are valid by construction.
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 2)
                .unwrap_or_else(|_| unreachable!("constant histogram bounds"))
        };
        Latency { query_us: histogram(), wait_us: histogram() }
    }
}

/// Adds to a counter that is written only under its shard's lock, which a locked addition would pay for again.
#[inline]
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

impl Stats {
    /// With `shards` places to count in: one a worker.
    #[must_use]
    pub fn new(shards: usize) -> Stats {
        let shard = || Padded { counters: Shard::default(), latency: Mutex::new(Latency::new()) };
        Stats { shards: (0..shards.max(1)).map(|_| shard()).collect() }
    }

    /// The counters of this worker.
    #[inline]
    #[must_use]
    pub fn here(&self) -> &Shard {
        &self.padded().counters
    }

    /// Records what a session did. One uncontended lock, whatever there is to count: the shard is this
    /// worker's own, and only a scrape looks into it.
    pub fn record(&self, request: &Request) {
        let padded = self.padded();
        let counters = &padded.counters;
        let mut latency = padded.latency.lock();
        if let Some(us) = request.query_us {
            bump(&counters.query_count, 1);
            bump(&counters.query_time_us, us);
            latency.query_us.saturating_record(us.max(1));
        }
        if let Some(us) = request.transaction_us {
            bump(&counters.xact_count, 1);
            bump(&counters.xact_time_us, us);
        }
        bump(&counters.received, request.received);
        bump(&counters.sent, request.sent);
    }

    /// Records that a client waited `us` microseconds for a server.
    #[inline]
    pub fn record_wait(&self, us: u64) {
        let padded = self.padded();
        let mut latency = padded.latency.lock();
        bump(&padded.counters.wait_time_us, us);
        latency.wait_us.saturating_record(us.max(1));
    }

    fn padded(&self) -> &Padded {
        let worker = crate::runtime::worker();
        // Never empty: `new` makes at least one.
        self.shards.get(worker % self.shards.len()).unwrap_or_else(|| unreachable!())
    }

    /// The sum over all workers.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut t = Totals::default();
        for s in self.shards.iter().map(|p| &p.counters) {
            t.xact_count += s.xact_count.load(Relaxed);
            t.query_count += s.query_count.load(Relaxed);
            t.received += s.received.load(Relaxed);
            t.sent += s.sent.load(Relaxed);
            t.xact_time_us += s.xact_time_us.load(Relaxed);
            t.query_time_us += s.query_time_us.load(Relaxed);
            t.wait_time_us += s.wait_time_us.load(Relaxed);
            t.server_assignment_count += s.server_assignment_count.load(Relaxed);
            t.client_parse_count += s.client_parse_count.load(Relaxed);
            t.server_parse_count += s.server_parse_count.load(Relaxed);
            t.bind_count += s.bind_count.load(Relaxed);
            t.server_errors += s.server_errors.load(Relaxed);
        }
        t
    }

    /// The histograms of all workers, merged.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let mut all = Latency::new();
        for padded in &self.shards {
            let one = padded.latency.lock();
            // Same bounds, so adding can't fail.
            let _ = all.query_us.add(&one.query_us);
            let _ = all.wait_us.add(&one.wait_us);
        }
        all
    }
}
