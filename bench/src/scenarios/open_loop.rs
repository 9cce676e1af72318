//! Requests at a fixed rate, each measured from when it was due.
//!
//! A client that waits for its answer before it asks again stops asking while the proxy is stuck, and so hides what
//! it came to measure (coordinated omission). Here a request that could not be sent in time has waited already.
//! Each connection has a thread of its own, since the timer of an async runtime ticks in milliseconds, which is
//! more than most latencies here.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use hdrhistogram::Histogram;
use rand::RngExt as _;

use super::{Cell, Name, Scenario, Stage, Whose, Work, trusted};
use crate::client::{Client, source};
use crate::measure::{Meter, Metric, Sample, latencies};

const READ_BYTES: usize = 4 * 1024;

/// Before measuring, at the same rate.
const WARM_UP: Duration = Duration::from_secs(1);

/// All connections have their thread by then.
const HEAD_START: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Requests a second, over all connections.
    rate: u32,
    connections: usize,
}

/// When the requests of one connection are due.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    begin: Instant,
    every: Duration,
    requests: u64,
}

/// What one connection saw, or all of them.
struct Seen {
    /// From when a request was due to the end of its answer.
    latency_us: Histogram<u64>,
    /// From when a request was due to when it was sent, where nothing but ourselves was in the way.
    late_us: Histogram<u64>,
}

pub(super) fn scenario(rates: &[u32], connections: usize) -> Scenario {
    let cell = |&rate: &u32| Cell {
        name: format!("{rate} a second over {connections} connections"),
        needs: trusted(connections),
        whose: Whose::All,
        work: Work::OpenLoop(Load { rate, connections }),
    };
    Scenario {
        name: Name::OpenLoop,
        about: "One short SELECT by primary key, sent at a fixed rate whatever the answers do; latency counts from \
                when a request was due (so coordinated omission is corrected). `late µs` is the load generator's own \
                delay, its 99th percentile: latencies are no more exact than that."
            .into(),
        metrics: &[
            Metric::P99Us,
            Metric::P50Us,
            Metric::P999Us,
            Metric::MaxUs,
            Metric::MeanUs,
            Metric::LateUs,
            Metric::Tps,
            Metric::CpuUs,
            Metric::ForeignPct,
            Metric::StealPct,
        ],
        headline: Metric::P99Us,
        cells: rates.iter().map(cell).collect(),
    }
}

pub(super) fn run(load: &Load, stage: &Stage<'_>) -> Result<Sample> {
    let clients = (0..load.connections)
        .map(|number| Client::open(stage.address, source(number), READ_BYTES))
        .collect::<Result<Vec<Client>>>()?;
    let accounts = stage.site.accounts();
    let (clients, _) = everyone(load, clients, accounts, WARM_UP)?;
    let meter = Meter::start(stage.pid, &stage.site.cores)?;
    let began = Instant::now() + HEAD_START;
    let length = Duration::from_secs(stage.site.args.seconds);
    let (_, seen) = everyone(load, clients, accounts, length)?;
    let seconds = began.elapsed().as_secs_f64();
    let mut sample = Sample::default();
    meter.stop(seen.latency_us.len(), &mut sample)?;
    sample.set_load(seen.latency_us.len(), seconds, &seen.latency_us);
    sample.set(Metric::MaxUs, seen.latency_us.max() as f64);
    sample.set(Metric::LateUs, seen.late_us.value_at_quantile(0.99) as f64);
    Ok(sample)
}

/// All connections at once, their turns spread evenly.
fn everyone(
    load: &Load,
    clients: Vec<Client>,
    accounts: u64,
    length: Duration,
) -> Result<(Vec<Client>, Seen)> {
    let begin = Instant::now() + HEAD_START;
    let threads: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(number, client)| {
            let schedule = load.schedule(number, begin, length);
            std::thread::spawn(move || one(client, schedule, accounts))
        })
        .collect();
    let mut all = Seen::new()?;
    let mut clients = Vec::with_capacity(load.connections);
    for thread in threads {
        let (client, seen) = thread.join().map_err(|_| anyhow!("a client panicked"))??;
        all.latency_us.add(seen.latency_us).context("add latencies")?;
        all.late_us.add(seen.late_us).context("add latencies")?;
        clients.push(client);
    }
    Ok((clients, all))
}

fn one(mut client: Client, schedule: Schedule, accounts: u64) -> Result<(Client, Seen)> {
    // By default the kernel may let a sleeper oversleep by 50 µs (prctl(2), PR_SET_TIMERSLACK).
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).context("set the timer's slack")?;
    let mut seen = Seen::new()?;
    let mut random = rand::rng();
    for turn in 0..schedule.requests {
        let due = schedule.due(turn);
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            std::thread::sleep(early);
            seen.late_us.saturating_record(us(due.elapsed()));
        }
        let aid = random.random_range(1..=accounts);
        client.query(&format!("SELECT abalance FROM pgbench_accounts WHERE aid = {aid}"))?;
        seen.latency_us.saturating_record(us(due.elapsed()));
    }
    Ok((client, seen))
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Seen {
    fn new() -> Result<Seen> {
        Ok(Seen { latency_us: latencies()?, late_us: latencies()? })
    }
}

impl Load {
    fn schedule(&self, number: usize, begin: Instant, length: Duration) -> Schedule {
        let one = 1.0 / f64::from(self.rate);
        let every = Duration::from_secs_f64(one * self.connections as f64);
        let begin = begin + Duration::from_secs_f64(one * number as f64);
        let requests = (length.as_secs_f64() / every.as_secs_f64()).round().max(1.0) as u64;
        Schedule { begin, every, requests }
    }
}

impl Schedule {
    fn due(&self, turn: u64) -> Instant {
        self.begin + Duration::from_secs_f64(self.every.as_secs_f64() * turn as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_spread_evenly_over_connections_and_time() {
        let load = Load { rate: 1_000, connections: 4 };
        let begin = Instant::now();
        let schedules: Vec<_> =
            (0..4).map(|n| load.schedule(n, begin, Duration::from_secs(2))).collect();
        assert_eq!(schedules.iter().map(|s| s.requests).sum::<u64>(), 2_000);
        let mut due: Vec<_> = schedules
            .iter()
            .flat_map(|s| (0..s.requests).map(|turn| us(s.due(turn) - begin)))
            .collect();
        due.sort_unstable();
        for (number, due) in due.into_iter().enumerate() {
            let expect = number as u64 * 1_000;
            assert!(due.abs_diff(expect) <= 1, "request {number} is due after {due} µs");
        }
    }
}
