//! Averages of the last period, for SHOW STATS: a sample of every database's totals now and then.
//!
//! The average is taken over the time since the sample before last, as PgBouncer does, so that it
//! never rests on a few milliseconds. Until the first sample it covers the time since the start.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::hub::{Hub, PoolSnapshot};
use crate::metrics::stats::Totals;

/// How often a sample is taken where `log.stats_period` is 0.
const PERIOD_DEFAULT: Duration = Duration::from_secs(60);

/// Samples of the totals.
#[derive(Debug, Default)]
pub struct Averages {
    samples: Mutex<VecDeque<Sample>>,
}

#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    totals: BTreeMap<String, Totals>,
}

/// What happened in a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The difference of the totals.
    pub totals: Totals,
    /// How long it took.
    pub elapsed: Duration,
}

impl Averages {
    /// Remembers the totals of `databases` at `at`.
    pub fn sample(&self, at: Instant, databases: BTreeMap<String, Totals>) {
        let mut samples = self.samples.lock();
        samples.push_back(Sample { at, totals: databases });
        while samples.len() > 2 {
            samples.pop_front();
        }
    }

    /// What `database`, whose totals are `now_totals` at `now`, did since the older sample; since
    /// `started` when there is none.
    #[must_use]
    pub fn span(
        &self,
        database: &str,
        now_totals: &Totals,
        now: Instant,
        started: Instant,
    ) -> Span {
        let samples = self.samples.lock();
        let (at, then) = match samples.front() {
            Some(s) => (s.at, s.totals.get(database).copied().unwrap_or_default()),
            None => (started, Totals::default()),
        };
        Span {
            totals: combine(now_totals, &then, u64::saturating_sub),
            elapsed: now.saturating_duration_since(at),
        }
    }
}

impl Span {
    /// `count` of these totals in one second.
    #[must_use]
    pub fn per_second(&self, count: fn(&Totals) -> u64) -> u64 {
        let micros = self.elapsed.as_micros().max(1);
        let rate = u128::from(count(&self.totals)) * 1_000_000 / micros;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// `sum` of these totals for one of `count`; 0 when there was none.
    #[must_use]
    pub fn each(&self, sum: fn(&Totals) -> u64, count: fn(&Totals) -> u64) -> u64 {
        sum(&self.totals).checked_div(count(&self.totals)).unwrap_or(0)
    }
}

/// The totals of each database, summed over its pools.
#[must_use]
pub fn by_database(pools: &[PoolSnapshot]) -> BTreeMap<String, Totals> {
    let mut all: BTreeMap<String, Totals> = BTreeMap::new();
    for pool in pools {
        let sum = all.entry(pool.database.clone()).or_default();
        *sum = combine(sum, &pool.totals, u64::saturating_add);
    }
    all
}

/// The totals of everything.
#[must_use]
pub fn sum<'a>(all: impl IntoIterator<Item = &'a Totals>) -> Totals {
    let add = |a: Totals, b: &Totals| combine(&a, b, u64::saturating_add);
    all.into_iter().fold(Totals::default(), add)
}

fn combine(a: &Totals, b: &Totals, f: fn(u64, u64) -> u64) -> Totals {
    Totals {
        xact_count: f(a.xact_count, b.xact_count),
        query_count: f(a.query_count, b.query_count),
        received: f(a.received, b.received),
        sent: f(a.sent, b.sent),
        xact_time_us: f(a.xact_time_us, b.xact_time_us),
        query_time_us: f(a.query_time_us, b.query_time_us),
        wait_time_us: f(a.wait_time_us, b.wait_time_us),
        server_assignment_count: f(a.server_assignment_count, b.server_assignment_count),
        client_parse_count: f(a.client_parse_count, b.client_parse_count),
        server_parse_count: f(a.server_parse_count, b.server_parse_count),
        bind_count: f(a.bind_count, b.bind_count),
        server_errors: f(a.server_errors, b.server_errors),
    }
}

/// Samples every `log.stats_period` until the process stops, and logs what the period saw when the
/// period is not 0. Cancel safe.
pub async fn run(hub: Arc<Hub>) {
    let mut last = (hub.started, Totals::default());
    loop {
        let period = hub.config.load().log.stats_period;
        let wait = if period.is_zero() { PERIOD_DEFAULT } else { period };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = hub.stopping.cancelled() => return,
        }
        let databases = by_database(&hub.pools.snapshot());
        let now = Instant::now();
        let all = sum(databases.values());
        if !period.is_zero() {
            log(&last.1, &all, now.saturating_duration_since(last.0));
        }
        last = (now, all);
        hub.averages.sample(now, databases);
    }
}

fn log(then: &Totals, now: &Totals, elapsed: Duration) {
    let span = Span { totals: combine(now, then, u64::saturating_sub), elapsed };
    tracing::info!(
        xacts_per_second = span.per_second(|t| t.xact_count),
        queries_per_second = span.per_second(|t| t.query_count),
        bytes_in_per_second = span.per_second(|t| t.received),
        bytes_out_per_second = span.per_second(|t| t.sent),
        xact_us = span.each(|t| t.xact_time_us, |t| t.xact_count),
        query_us = span.each(|t| t.query_time_us, |t| t.query_count),
        wait_us = span.each(|t| t.wait_time_us, |t| t.server_assignment_count),
        "stats"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(xact_count: u64, xact_time_us: u64) -> Totals {
        Totals { xact_count, xact_time_us, ..Totals::default() }
    }

    #[test]
    fn averages_cover_the_time_since_the_sample_before_last() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let averages = Averages::default();
        let check = |now, current: Totals, per_second, each| {
            let span = averages.span("db", &current, at(now), start);
            let found = (
                span.per_second(|t| t.xact_count),
                span.each(|t| t.xact_time_us, |t| t.xact_count),
            );
            assert_eq!(found, (per_second, each), "at {now}");
        };
        check(0, totals(0, 0), 0, 0);
        check(10, totals(100, 5_000), 10, 50);
        for (second, count) in [(10, 100), (20, 300), (30, 400)] {
            averages.sample(at(second), BTreeMap::from([("db".into(), totals(count, count))]));
        }
        check(40, totals(500, 500), 10, 1);
        // Pools that went away took their totals with them.
        check(40, totals(5, 5), 0, 0);
    }
}
