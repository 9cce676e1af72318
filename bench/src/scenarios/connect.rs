//! Clients that connect, ask once and leave, over and over: what a login costs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use tokio_postgres::{Config, NoTls};

use super::{Access, Cell, Name, Needs, Scenario, Stage, Work};
use crate::client;
use crate::measure::{Meter, Metric, Sample, latencies};
use crate::site::NAME;

/// Connections at once.
const CLIENTS: usize = 4;

/// Connections of each client before measuring.
const WARM_UP_CONNECTIONS: usize = 8;

pub(super) fn scenario() -> Scenario {
    let cell = |name: &str, access| Cell {
        name: name.to_owned(),
        needs: Needs { access, clients: CLIENTS },
        prepares: false,
        proxies_only: false,
        work: Work::Connect { clients: CLIENTS },
    };
    Scenario {
        name: Name::Connect,
        about: format!(
            "Login, one SELECT and disconnect are one transaction, {CLIENTS} at once. \
             The direct connection is always trusted."
        ),
        metrics: &[
            Metric::CpuUs,
            Metric::SystemPct,
            Metric::Tps,
            Metric::MeanUs,
            Metric::P50Us,
            Metric::P99Us,
            Metric::PeakMb,
            Metric::ForeignPct,
            Metric::StealPct,
        ],
        headline: Metric::CpuUs,
        cells: vec![cell("trust", Access::Trust), cell("SCRAM", Access::Scram)],
    }
}

pub(super) fn run(access: Access, clients: usize, stage: &Stage<'_>) -> Result<Sample> {
    let mut config = Config::new();
    config.user(NAME).dbname(NAME);
    if access == Access::Scram {
        config.password(&stage.site.password);
    }
    // Its futures stay on this thread, which is kept away from the proxy's core.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    let warm_up = Until::Count(WARM_UP_CONNECTIONS);
    runtime.block_on(everyone(&config, stage.address, clients, warm_up))?;
    let meter = Meter::start(stage.pid, &stage.site.cores)?;
    let began = Instant::now();
    let end = Until::Time(began + Duration::from_secs(stage.site.args.seconds));
    let latency_us = runtime.block_on(everyone(&config, stage.address, clients, end))?;
    let seconds = began.elapsed().as_secs_f64();
    let mut sample = Sample::default();
    meter.stop(latency_us.len(), &mut sample)?;
    sample.set_load(latency_us.len(), seconds, &latency_us);
    Ok(sample)
}

#[derive(Debug, Clone, Copy)]
enum Until {
    Count(usize),
    Time(Instant),
}

/// `clients` that connect again and again, and how long each connection took. Not cancel safe.
async fn everyone(
    config: &Config,
    to: SocketAddr,
    clients: usize,
    until: Until,
) -> Result<Histogram<u64>> {
    let tasks: Vec<_> = (0..clients)
        .map(|number| tokio::spawn(repeat(config.clone(), to, number, until)))
        .collect();
    let mut all = latencies()?;
    for task in tasks {
        all.add(task.await.context("a client panicked")??).context("add latencies")?;
    }
    Ok(all)
}

/// Not cancel safe.
async fn repeat(
    config: Config,
    to: SocketAddr,
    number: usize,
    until: Until,
) -> Result<Histogram<u64>> {
    let mut histogram = latencies()?;
    let mut turn = 0;
    while match until {
        Until::Count(count) => turn < count,
        Until::Time(end) => Instant::now() < end,
    } {
        let began = Instant::now();
        // Ports of one address would run out: each is blocked for a minute after its connection.
        once(&config, to, number + turn).await?;
        histogram.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        turn += 1;
    }
    Ok(histogram)
}

/// Not cancel safe.
async fn once(config: &Config, to: SocketAddr, turn: usize) -> Result<()> {
    let stream = client::connect(to, client::source(turn))?;
    stream.set_nonblocking(true).context("make a socket non-blocking")?;
    let stream = tokio::net::TcpStream::from_std(stream).context("register a socket")?;
    let (client, connection) = config.connect_raw(stream, NoTls).await.context("log in")?;
    let ask = async {
        let asked = client.simple_query("SELECT 1").await;
        drop(client); // The connection ends with its client.
        asked
    };
    let (asked, ended) = tokio::join!(ask, connection);
    asked.context("SELECT 1")?;
    ended.context("disconnect")
}
